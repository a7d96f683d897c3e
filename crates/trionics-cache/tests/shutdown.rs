//! The end of the service and of the cache, with users present.

mod common;

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{Cache, Notes, Resource, Word, errors, now, panic_of, seconds, served, user};
use futures::join;
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{Slot, acm, with_context};
use trionics_nursery::{CancelScope, Nursery, open_nursery, shield, testing};

/// Runs the service in a scope that is cancelled after `n` seconds; gives the service's outcome.
async fn serve_for(cache: &Cache, n: u64) -> Option<Result<(), Failure<Word>>> {
    common::cancelled_after(n, cache.serve()).await
}

#[track_caller]
fn assert_closed<T>(outcome: Result<T, Failure<Word>>) {
    let failure = outcome.err().expect("it is refused");
    assert!(
        matches!(failure.as_library(), Some(LibraryFailure::Closed { .. })),
        "{failure:?}"
    );
}

/// The service is cancelled: users are cancelled, the exit waits for them, and they are told why.
#[test]
fn a_cancelled_service_cancels_its_users_and_waits_for_them() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let resource = Resource::new("a", &notes).exit_takes(2);
        let (_service, held) = join!(serve_for(&cache, 10), async {
            let make = move || resource.context();
            let held: Result<(), _> =
                maybe_open_context(&cache, "a", make, async |_hit, _value| {
                    shield(seconds(30)).await;
                    notes.add("the user has said goodbye");
                    seconds(1000).await;
                    notes.add("the user goes on");
                    Ok(())
                })
                .await;
            assert_eq!(now(), 1 + 30 + 2);
            held
        });
        let failure = held.unwrap_err();
        assert!(failure.is_all_cancelled(), "{failure:?}");
        assert!(failure.to_string().contains("closing"), "{failure}");
        assert!(cache.is_empty());
        let notes = notes.take();
        assert_eq!(notes[..2], ["a sets up", "the user has said goodbye"]);
        assert_eq!(notes[3..], ["a is gone"]);
    });
}

/// A nursery with service and users is cancelled: the users unwind, then the exits run.
#[test]
fn a_cancelled_nursery_tears_everything_down_in_order() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let stopped = common::cancelled_after(
            10,
            open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(cache.serve());
                for key in ["a", "b"] {
                    let resource = Resource::new(key, &notes).exit_takes(3);
                    let (cache, notes) = (&cache, &notes);
                    n.start_soon(async move {
                        let make = move || resource.context();
                        maybe_open_context(cache, key, make, async move |_hit, _value| {
                            shield(async {
                                seconds(20).await;
                                notes.add(format!("the user of {key} leaves"));
                            })
                            .await;
                            seconds(1000).await;
                            Ok(())
                        })
                        .await
                    });
                }
                seconds(1000).await;
                Ok(())
            }),
        )
        .await;
        assert!(stopped.is_none());
        assert_eq!(now(), 1 + 20 + 3);
        let notes = notes.take();
        for key in ["a", "b"] {
            let place = |note: String| notes.iter().position(|it| it.starts_with(&note));
            let left = place(format!("the user of {key} leaves")).unwrap();
            let exits = place(format!("{key} exits")).unwrap();
            let gone = place(format!("{key} is gone")).unwrap();
            assert!(left < exits && exits < gone, "{notes:?}");
        }
    });
}

/// A nursery with service and users is cancelled before some of the users have run at all: they are stopped like the rest,
/// and do not fail because the cache is closed by now.
#[test]
fn who_comes_late_to_a_cancelled_nursery_is_stopped_and_not_refused() {
    testing::for_each_seed(20, || async {
        let (cache, notes) = (Cache::new(), Notes::new());
        let scope = CancelScope::new();
        let stopped = scope.run(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            open_nursery(async |users: Nursery<'_, Word>| {
                seconds(1).await;
                // More than a nursery polls at once.
                for _ in 0..600 {
                    let resource = Resource::new("a", &notes);
                    let make = move || resource.context();
                    let body = async |_hit, _value| {
                        seconds(1000).await;
                        Ok(())
                    };
                    users.start_soon(maybe_open_context(&cache, "a", make, body));
                }
                scope.cancel("just now");
                seconds(1000).await;
                Ok(())
            })
            .await
        }));
        assert!(stopped.await.is_err());
        assert!(cache.is_empty());
    });
}

/// An open that is refused and cancelled, and then polled where nothing is cancelled, says that it was refused.
#[test]
fn a_refusal_is_kept_for_whoever_survives_the_cancellation() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        cache.close();
        let resource = Resource::new("a", &notes);
        let mut open = Box::pin(cache.open("a", move || resource.context()));
        let scope = CancelScope::new();
        scope.cancel("before it begins");
        assert!(scope.run(&mut open).await.is_err());
        assert_closed(open.await);
    });
}

/// The service is in a shield: a cancellation around the shield does not reach its users.
#[test]
fn a_shielded_service_keeps_its_users() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let scope = CancelScope::new();
        let outcome = scope
            .run(shield(open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(cache.serve());
                let resource = Resource::new("a", &notes);
                let make = move || resource.context();
                let done = maybe_open_context(&cache, "a", make, async |_hit, _value| {
                    scope.cancel("around the shield");
                    seconds(5).await;
                    Ok("done")
                })
                .await;
                cache.close();
                done
            })))
            .await;
        assert_eq!(outcome.unwrap().unwrap(), "done");
    });
}

/// C-036: what is opened while a cancelled service runs its exits is refused at once.
#[test]
fn opens_are_refused_as_soon_as_the_service_is_cancelled() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let slow = Resource::new("a", &notes).exit_takes(50);
        let (_service, _held, late) = join!(
            serve_for(&cache, 10),
            user(&cache, "a", slow, 0, 1000),
            async {
                let late = user(&cache, "b", Resource::new("b", &notes), 12, 1).await;
                assert_eq!(now(), 12);
                late
            },
        );
        assert_closed(late);
        assert_closed(user(&cache, "a", Resource::new("a", &notes), 0, 1).await);
        assert_eq!(notes.n_set_ups(), 1);
    });
}

/// C-036: an exit that opens a key while the service is on its way out is refused and does not hang.
#[test]
fn an_exit_that_opens_a_key_of_a_cancelled_service_is_refused() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let make = {
            let (cache, notes) = (cache.clone(), notes.clone());
            move || {
                acm(move |slot: Slot<usize>| async move {
                    slot.provide(1).await;
                    let late = user(&cache, "b", Resource::new("b", &notes), 1, 1).await;
                    assert_closed(late);
                    notes.add("refused");
                    Ok(())
                })
            }
        };
        let (_service, _held) = join!(
            serve_for(&cache, 10),
            maybe_open_context(&cache, "a", make, async |_hit, _value| {
                seconds(1000).await;
                Ok(())
            }),
        );
        assert_eq!(notes.take(), ["refused"]);
    });
}

/// The service is cancelled in mid-set-up: the set-up unwinds, and those who wait are told.
#[test]
fn a_set_up_is_stopped_with_the_service() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let slow = Resource::new("a", &notes).set_up_takes(100);
        let (_service, opener, other) = join!(
            serve_for(&cache, 10),
            user(&cache, "a", slow.clone(), 0, 1),
            user(&cache, "a", slow, 1, 1),
        );
        assert_eq!(now(), 10);
        assert_closed(opener);
        assert_closed(other);
        assert_eq!(notes.take(), ["a sets up", "a unwinds"]);
    });
}

/// The exit of a cancelled service fails: the last user is told.
#[test]
fn a_failing_exit_of_a_cancelled_service_is_told() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let resource = Resource::new("a", &notes).exit_fails("x");
        let (service, held) = join!(serve_for(&cache, 10), user(&cache, "a", resource, 0, 1000));
        let failures = [service.and_then(Result::err), held.err()];
        let told: Vec<_> = failures.iter().flatten().flat_map(errors).collect();
        assert_eq!(told, ["x"]);
    });
}

/// C-036: the service is dropped from outside: waiting users are told, holders are cancelled, and a late
/// leaver neither opens nor releases anything.
#[test]
fn a_dropped_service_strands_nobody() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let resource = Resource::new("a", &notes);
        let slow = Resource::new("slow", &notes).set_up_takes(1000);
        let make = move || resource.context();
        let (service, held, waiting, late) = join!(
            common::dropped_after(10, cache.serve()),
            maybe_open_context(&cache, "a", make, async |_hit, _value| {
                shield(seconds(30)).await;
                notes.add("the user leaves");
                seconds(1000).await;
                Ok(())
            }),
            async {
                let waiting = user(&cache, "slow", slow, 1, 1).await;
                assert_eq!(now(), 10);
                waiting
            },
            user(&cache, "a", Resource::new("a", &notes), 20, 1),
        );
        assert!(service.is_none());
        assert!(held.unwrap_err().is_all_cancelled());
        assert_eq!(now(), 31);
        assert_closed(waiting);
        assert_closed(late);
        assert!(cache.is_empty());
        assert_eq!(
            notes.take(),
            [
                "a sets up",
                "slow sets up",
                "slow unwinds",
                "the user leaves"
            ]
        );
    });
}

/// A last user that waits for an exit when the service is dropped goes on.
#[test]
fn a_dropped_service_releases_who_waits_for_an_exit() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let resource = Resource::new("a", &notes).exit_takes(100);
        let (_service, last, queued) = join!(
            common::dropped_after(10, cache.serve()),
            user(&cache, "a", resource.clone(), 0, 1),
            user(&cache, "a", resource, 5, 1),
        );
        assert_eq!(now(), 10);
        assert_eq!(last.unwrap().returned, 10);
        assert_closed(queued);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is cut"]
        );
    });
}

/// A service that is dropped before it was ever polled closes the cache, too.
#[test]
fn a_service_that_never_ran_closes_the_cache() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let resource = Resource::new("a", &notes);
        let service = cache.serve();
        let ((), early) = join!(
            async {
                seconds(3).await;
                drop(service);
            },
            user(&cache, "a", resource.clone(), 1, 1),
        );
        assert_closed(early);
        assert_closed(user(&cache, "a", resource, 0, 1).await);
        assert_eq!(notes.n_set_ups(), 0);
    });
}

/// C-036: a closed cache refuses; who is there stays, and the service ends after the last exit.
#[test]
fn a_closed_cache_refuses_and_lets_its_users_finish() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let resource = Resource::new("a", &notes).exit_takes(4);
        let slow = Resource::new("slow", &notes).set_up_takes(5);
        let (service, held, setting_up, queued, late, again, ()) = join!(
            cache.serve(),
            user(&cache, "a", resource.clone(), 0, 20),
            user(&cache, "slow", slow, 8, 1),
            async {
                // It waits for the exit of another key when the cache is closed.
                let resource = Resource::new("b", &notes).exit_takes(10);
                let (first, queued) = join!(
                    user(&cache, "b", resource.clone(), 0, 1),
                    user(&cache, "b", resource, 5, 1),
                );
                assert!(first.is_ok());
                queued
            },
            user(&cache, "new", Resource::new("new", &notes), 11, 1),
            user(&cache, "a", resource, 11, 1),
            async {
                seconds(10).await;
                cache.close();
                cache.close();
            },
        );
        service.unwrap();
        assert_eq!(now(), 25);
        assert_eq!(held.unwrap().returned, 25);
        assert_eq!(setting_up.unwrap().entered, 13);
        assert_closed(queued);
        assert_closed(late);
        assert_closed(again);
    });
}

/// The service of a closed, unused cache ends at once.
#[test]
fn the_service_of_a_closed_cache_ends() {
    let cache = Cache::new();
    cache.close();
    testing::run(cache.serve()).unwrap();
}

/// When the last handle is dropped the cache closes; an open use is a handle.
#[test]
fn the_service_ends_with_the_last_handle() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let service = cache.serve();
        let (service, last) = join!(
            async {
                let outcome = service.await;
                (outcome, now())
            },
            async {
                let resource = Resource::new("a", &notes);
                let held = cache.context("a", move || resource.context());
                let copy = cache.clone();
                drop(cache);
                assert!(copy.is_empty());
                drop(copy);
                seconds(2).await;
                with_context(held, async |value| {
                    seconds(2).await;
                    Ok(value.cache_hit())
                })
                .await
            },
        );
        assert!(!last.unwrap());
        service.0.unwrap();
        assert_eq!(service.1, 2 + 1 + 2 + 1);
    });
}

/// A cache is served once.
#[test]
fn a_cache_is_served_once() {
    let cache = Cache::new();
    let panicked = testing::run(panic_of(async {
        let _first = cache.serve();
        drop(cache.serve());
    }));
    assert!(panicked.unwrap_err().contains("served already"));
}

/// Opens that came before the service wait for it.
#[test]
fn opens_wait_for_the_service() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let (early, service) = join!(
            async {
                let seen = user(&cache, "a", Resource::new("a", &notes), 0, 1).await;
                cache.close();
                seen
            },
            async {
                seconds(5).await;
                cache.serve().await
            },
        );
        service.unwrap();
        assert_eq!(early.unwrap().entered, 6);
    });
}

/// What a handle shows of itself.
#[test]
fn a_handle_shows_how_many_keys_are_alive() {
    let (cache, notes) = (Cache::default(), Notes::new());
    served(&cache, async {
        let (seen, ()) = join!(user(&cache, "a", Resource::new("a", &notes), 0, 5), async {
            seconds(2).await;
            assert_eq!((cache.len(), cache.is_empty()), (1, false));
            assert_eq!(
                format!("{cache:?}"),
                "ContextCache { n_keys: 1, closed: false }"
            );
        },);
        assert!(seen.is_ok());
    });
    assert_eq!(
        format!("{cache:?}"),
        "ContextCache { n_keys: 0, closed: true }"
    );
}

/// A key whose `Hash` panics when it is switched on.
#[derive(Clone, Debug)]
struct Touchy(Arc<AtomicBool>);

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Touchy {}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, _state: &mut H) {
        assert!(!self.0.load(Ordering::SeqCst), "touched");
    }
}

/// A key's `Hash` and `Eq` are not asked when the exit is over: a panic of theirs strands nobody.
#[test]
fn a_panic_of_a_keys_hash_strands_nobody() {
    let touched = Arc::new(AtomicBool::new(false));
    let cache: ContextCache<Touchy, u8, Word> = ContextCache::new();
    let make = || {
        acm(|slot: Slot<u8>| async move {
            slot.provide(1).await;
            seconds(1).await;
            Ok(())
        })
    };
    testing::run(async {
        let (service, used) = join!(panic_of(cache.serve()), async {
            let key = Touchy(Arc::clone(&touched));
            let used = panic_of(maybe_open_context(
                &cache,
                key,
                make,
                async |_hit, _value| {
                    touched.store(true, Ordering::SeqCst);
                    Ok(())
                },
            ))
            .await;
            cache.close();
            used
        });
        assert!(service.unwrap().is_ok() && used.unwrap().is_ok());
        assert!(cache.is_empty());
    });
}
