//! Where in its set-up, and on which task, a context provides: its users are looked after all the same.

mod common;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{Cache, NoteOnDrop, Notes, Resource, Word, now, seconds, served, user};
use futures::{FutureExt as _, future::BoxFuture, join};
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{AsyncContext, Slot, acm, try_race};
use trionics_nursery::{CancelScope, Nursery, Settings, move_on_after, open_nursery, testing};

type Opened = Result<trionics_cache::Lease<Word, usize, Word>, Failure<Word>>;

/// A context that provides inside a nursery, whose exit is noted.
fn nested(notes: Notes) -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
    acm(move |slot: Slot<usize>| async move {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                let _held = NoteOnDrop(Some((notes.clone(), "the inside goes".to_owned())));
                std::future::pending().await
            });
            slot.provide(1).await;
            notes.add("exits");
            seconds(2).await;
            n.cancel("done");
            Ok(())
        })
        .await
        .or(Ok(()))
    })
}

/// The service is cancelled while a context waits in a frame of its own: its users unwind, then its exit runs to the end.
#[test]
fn a_nested_context_outlives_its_users() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let make = {
            let notes = notes.clone();
            move || nested(notes)
        };
        let hold = maybe_open_context(&cache, "a", make, async |_hit, _value| {
            let _held = NoteOnDrop(Some((notes.clone(), "the user is stopped".to_owned())));
            seconds(1000).await;
            Ok(())
        });
        let (_service, held) = join!(common::cancelled_after(10, cache.serve()), hold);
        assert!(held.unwrap_err().is_all_cancelled());
        assert_eq!(now(), 10 + 2);
        let notes = notes.take();
        let place = |note| notes.iter().position(|it| it == note);
        assert!(place("the user is stopped") < place("exits"), "{notes:?}");
        assert!(cache.is_empty());
    });
}

/// A scope inside the set-up, in which the context provides, is cancelled alone: the users are asked to leave, and the
/// context goes on after it.
#[test]
fn a_scope_around_the_use_is_a_time_limit_for_it() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = {
            let notes = notes.clone();
            move || {
                acm(move |slot: Slot<usize>| async move {
                    let _ended = move_on_after(Duration::from_secs(5), slot.provide(1)).await;
                    notes.add("exits");
                    seconds(1).await;
                    Ok(())
                })
            }
        };
        let lease = cache.open("a", make).await.unwrap();
        seconds(7).await;
        assert!(lease.is_detached());
        assert!(notes.take().is_empty());
        lease.close().await.unwrap();
        assert_eq!((now(), notes.take()), (7 + 1, vec!["exits".to_owned()]));
    });
}

/// The value is provided by a task that is no part of the context's own: the opener gets it, and the exit comes after the
/// last user.
#[test]
fn another_task_may_provide() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = {
            let notes = notes.clone();
            move || {
                acm(move |slot: Slot<usize>| async move {
                    let (told, hears) = futures::channel::oneshot::channel();
                    drop(testing::spawn(async move {
                        seconds(3).await;
                        let _ = told.send(slot.provide(1).await);
                    }));
                    let _end = hears.await;
                    notes.add("exits");
                    Ok(())
                })
            }
        };
        let lease = cache.open("a", make).await.unwrap();
        assert_eq!((now(), *lease), (3, 1));
        seconds(2).await;
        assert!(notes.take().is_empty());
        lease.close().await.unwrap();
        assert_eq!(notes.take(), ["exits"]);
    });
}

/// The key's exit did not wait for a lease any longer: who waits gets a resource of its own, and the late lease stays what
/// it was and ends nothing.
#[test]
fn a_lease_that_was_given_up_is_of_the_past() {
    let notes = Notes::new();
    let cache: Cache = ContextCache::options()
        .lease_grace(Duration::from_secs(5))
        .on_unheard_failure(|_| {})
        .build();
    served(&cache, async {
        let make = || {
            acm(async |slot: Slot<usize>| {
                let ended = async {
                    seconds(3).await;
                    Err::<(), _>(Failure::leaf("in the background"))
                };
                let (_, _end) = futures::try_join!(ended, slot.provide(1).map(Ok))?;
                Ok(())
            })
        };
        let old = cache.open("a", make).await.unwrap();
        let number = old.generation();
        let again = async {
            seconds(4).await;
            let resource = Resource::new("a", &notes);
            let new: Opened = cache.open("a", move || resource.context()).await;
            new.unwrap()
        };
        let new = again.await;
        assert_eq!(now(), 3 + 5 + 1);
        assert_eq!((old.generation(), old.is_detached()), (number, true));
        assert!(new.generation() > number && !new.is_detached());
        drop(old);
        seconds(1).await;
        assert_eq!((cache.users(&"a"), notes.take().len()), (1, 1));
        new.close().await.unwrap();
    });
}

/// Polls `future`, which is woken by nobody else, until it is ready.
fn poll_out<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
    panic!("it hangs");
}

/// What a set-up waits for is known in the branches of a race, and under settings of its own.
#[test]
fn a_set_up_that_waits_for_itself_is_told_wherever_it_asks() {
    for way in 0..3 {
        let cache = Cache::new();
        // Not on the test executor, where each child and each branch has a place in the tree.
        poll_out(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            let inner = cache.clone();
            let make = move || {
                acm(move |slot: Slot<usize>| async move {
                    type Opening<'a> = BoxFuture<'a, Result<(), Failure<Word>>>;
                    let never: Opening<'_> = Box::pin(std::future::pending());
                    let opening: Opening<'_> = Box::pin(async {
                        let make = || {
                            acm(|slot: Slot<usize>| async move {
                                slot.provide(1).await;
                                Ok(())
                            })
                        };
                        inner.open("a", make).await.map(drop)
                    });
                    match way {
                        0 => {
                            let raced: Opening<'_> = Box::pin(try_race((opening, never)));
                            raced.await?;
                        }
                        1 => {
                            Settings::new()
                                .patience(Duration::from_secs(1))
                                .run(opening)
                                .await?
                        }
                        _ => {
                            let scope = CancelScope::new();
                            let scoped: Opening<'_> =
                                Box::pin(async { scope.run(opening).await.unwrap() });
                            let raced: Opening<'_> = Box::pin(try_race((scoped, never)));
                            raced.await?;
                        }
                    }
                    slot.provide(1).await;
                    Ok(())
                })
            };
            let failure = cache.open("a", make).await.map(drop).unwrap_err();
            let is_cycle = failure.leaves().any(|leaf| {
                matches!(leaf.as_library(), Some(LibraryFailure::Cycle { path }) if path.len() == 1)
            });
            assert!(is_cycle, "way {way}: {failure:?}");
            cache.close();
            Ok(())
        }))
        .unwrap();
    }
}

/// Users that come and go while others hold the key are counted right (the opener, and those who waited with it).
#[test]
fn all_who_waited_are_users() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let one = |wait, hold| user(&cache, "a", Resource::new("a", &notes), wait, hold);
        let look = async {
            seconds(2).await;
            cache.users(&"a")
        };
        let (a, b, c, n) = join!(one(0, 5), one(0, 6), one(0, 7), look);
        assert_eq!(n, 3);
        let hits = [a, b, c].map(|seen| seen.unwrap().hit);
        assert_eq!(hits, [false, true, true]);
    });
}
