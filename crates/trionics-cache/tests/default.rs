//! The cache of the process. One test, because there is one process.

mod common;

use common::{Word, panic_of, seconds};
use futures::join;
use trionics_cache::{close_default, maybe_open_default, maybe_open_default_keyed, serve_default};
use trionics_errgroup::{AnyError, Failure, LibraryFailure};
use trionics_gather::Slot;
use trionics_nursery::{Nursery, open_nursery, testing};

async fn connect(arguments: (Word, u16), slot: Slot<String>) -> Result<(), Failure> {
    let (host, port) = arguments;
    seconds(1).await;
    slot.provide(format!("{host}:{port}")).await;
    seconds(1).await;
    Ok(())
}

async fn number(arguments: (Word, u16), slot: Slot<u16>) -> Result<(), Failure> {
    slot.provide(arguments.1).await;
    Ok(())
}

async fn not_installed() {
    let outcome = maybe_open_default(connect, ("db", 1), async |_hit, _value| Ok(())).await;
    let failure = outcome.unwrap_err();
    let Some(LibraryFailure::Closed { .. }) = failure.as_library() else {
        panic!("{failure:?}");
    };
    assert!(failure.to_string().contains("serve_default"), "{failure}");
}

/// C-003: the arguments are the key, or a key of its own; C-006: other functions have other resources.
/// C-037: without a service the open fails, and the key is free.
#[test]
fn the_cache_of_the_process() {
    testing::run(async {
        not_installed().await;
        open_nursery(async |n: Nursery<'_, AnyError>| {
            n.start_soon(serve_default());
            let again = panic_of(async { drop(serve_default()) }).await;
            assert!(again.unwrap_err().contains("installed already"));
            let open = async |arguments: (Word, u16)| {
                maybe_open_default(connect, arguments, async |hit, value| {
                    seconds(1).await;
                    Ok((hit, value.clone()))
                })
                .await
                .unwrap()
            };
            let (one, same, other) = join!(open(("db", 1)), open(("db", 1)), open(("db", 2)));
            assert_eq!(one, (false, "db:1".to_owned()));
            assert_eq!(same, (true, "db:1".to_owned()));
            assert_eq!(other, (false, "db:2".to_owned()));
            // The same key of two functions, and the first one's arguments.
            let keyed = maybe_open_default_keyed(connect, 7, ("db", 3), async |_hit, value| {
                maybe_open_default_keyed(connect, 7, ("db", 4), async |hit, same| {
                    assert_eq!((hit, &*same), (true, &*value));
                    maybe_open_default_keyed(number, 7, ("db", 5), async |hit, number| {
                        assert_eq!((hit, *number), (false, 5));
                        Ok(())
                    })
                    .await
                })
                .await
            });
            keyed.await.unwrap();
            close_default();
            Ok(())
        })
        .await
        .unwrap();
        not_installed().await;
        // Installed anew, and dropped.
        let service = serve_default();
        drop(service);
        not_installed().await;
    });
}
