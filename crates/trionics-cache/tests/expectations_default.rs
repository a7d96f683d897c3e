//! What users of tractor's `maybe_open_context` and of process-wide caches expect of ours. One test, because there is one process.

mod common;

use std::fmt::Debug;

use common::{cancelled_after, panic_of, seconds};
use futures::join;
use trionics_cache::{close_default, maybe_open_default, maybe_open_default_keyed, serve_default};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::Slot;
use trionics_nursery::{Nursery, open_nursery, testing};

/// As many resources as there are types for it.
async fn shown<T: Debug + Send + Sync + 'static>(
    value: T,
    slot: Slot<String>,
) -> Result<(), Failure> {
    slot.provide(format!("{value:?}")).await;
    Ok(())
}

async fn nothing(_arguments: (), slot: Slot<u8>) -> Result<(), Failure> {
    slot.provide(1).await;
    seconds(5).await;
    Ok(())
}

async fn fails(how: u8, slot: Slot<u8>) -> Result<(), Failure> {
    match how {
        0 => return Err(Failure::text("no route")),
        1 => panic!("on purpose"),
        _ => {}
    }
    slot.provide(how).await;
    Ok(())
}

fn is_closed<T>(outcome: Result<T, Failure>) -> bool {
    let failure = outcome.err();
    let library = failure.as_ref().and_then(|failure| failure.as_library());
    matches!(library, Some(LibraryFailure::Closed { .. }))
}

/// tractor: arguments and keys of different types never meet, one function for two types is two, no arguments are a key, a failed or
/// panicked set-up is forgotten, and the cache may be installed anew once the one before has ended, and not sooner.
#[test]
fn the_cache_of_the_process_is_as_others() {
    testing::run(async {
        for round in 0..2 {
            let served = open_nursery(async |n: Nursery<'_>| {
                n.start_soon(serve_default());
                keys_of_all_types().await?;
                failures_are_forgotten().await?;
                ends_with_its_last_user().await
            });
            served.await.unwrap();
            assert!(is_closed(
                maybe_open_default(nothing, (), async |_, _| Ok(())).await
            ));
            assert!(testing::elapsed().as_secs() >= 6 * (round + 1));
        }
        // Cancelled, it takes itself out, too, and its users are cancelled.
        let (service, used) = join!(
            cancelled_after(3, serve_default()),
            maybe_open_default(nothing, (), async |_hit, _value| {
                seconds(100).await;
                Ok(())
            })
        );
        assert!(service.is_none() && used.is_err());
        drop(serve_default());
    });
}

async fn keys_of_all_types() -> Result<(), Failure> {
    maybe_open_default(shown, 7_u8, async |hit, byte| {
        assert_eq!((hit, &**byte), (false, "7"));
        maybe_open_default(shown, 7_u16, async |hit, word| {
            assert_eq!((hit, &**word), (false, "7"));
            let keyed = maybe_open_default_keyed(shown, 7_u8, 8_u8, async |hit, keyed| {
                assert_eq!((hit, &**keyed), (false, "8"), "a key is no argument");
                maybe_open_default_keyed(shown, "", 9_u8, async |hit, empty| {
                    assert_eq!((hit, &**empty), (false, "9"), "an empty key is a key");
                    Ok(())
                })
                .await
            });
            keyed.await?;
            maybe_open_default(shown, 7_u8, async |hit, same| {
                assert!(hit && *same == *byte);
                Ok(())
            })
            .await
        })
        .await
    })
    .await
}

async fn failures_are_forgotten() -> Result<(), Failure> {
    for _ in 0..2 {
        let failed = maybe_open_default(fails, 0, async |_, _| Ok(())).await;
        assert_eq!(failed.unwrap_err().to_string(), "no route");
        let panicked = panic_of(maybe_open_default(fails, 1, async |_, _| Ok(()))).await;
        assert_eq!(panicked.unwrap_err(), "on purpose");
    }
    maybe_open_default(fails, 2, async |hit, value| {
        assert_eq!((hit, *value), (false, 2));
        Ok(())
    })
    .await
}

async fn ends_with_its_last_user() -> Result<(), Failure> {
    maybe_open_default(nothing, (), async |hit, value| {
        assert_eq!((hit, *value), (false, 1));
        close_default();
        close_default();
        assert!(is_closed(
            maybe_open_default(nothing, (), async |_, _| Ok(())).await
        ));
        let again = panic_of(async { drop(serve_default()) }).await;
        assert!(again.unwrap_err().contains("installed already"));
        seconds(1).await;
        Ok(())
    })
    .await
}
