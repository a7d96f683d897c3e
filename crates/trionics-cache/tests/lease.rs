//! The guard form, and slots.

mod common;

use std::time::Duration;

use common::{Cache, Notes, Resource, Word, errors, now, panic_of, seconds, served};
use futures::{FutureExt as _, future::join_all, join};
use trionics_cache::{ContextCache, Lease, LeaseEnd};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{Slot, acm};
use trionics_nursery::{CancelScope, Nursery, open_nursery, testing};

type Opened = Result<Lease<Word, usize, Word>, Failure<Word>>;

async fn open(cache: &Cache, resource: Resource) -> Opened {
    cache.open("a", move || resource.context()).await
}

/// C-001, C-016: ten leases of one set-up; each knows who it is, and all but the last leave at once.
#[test]
fn leases_share_and_tell_what_they_are() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes);
        let leases = join_all((0..10).map(|_| open(&cache, resource.clone()))).await;
        let leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
        assert_eq!(leases.iter().filter(|lease| !lease.cache_hit()).count(), 1);
        assert!(!leases[0].cache_hit());
        let generation = leases[0].generation();
        for (n_left, lease) in leases.into_iter().enumerate() {
            assert_eq!(
                (*lease, *lease.key(), lease.generation()),
                (1, "a", generation)
            );
            assert_eq!(
                (lease.users(), cache.users(&"a")),
                (10 - n_left, 10 - n_left)
            );
            assert_eq!(now(), 1);
            let end = lease.close().await.unwrap();
            if n_left == 9 {
                assert_eq!(end, LeaseEnd::TornDown);
                assert_eq!(now(), 2);
            } else {
                assert_eq!(end, LeaseEnd::StillUsed { users: 9 - n_left });
            }
        }
        let next = open(&cache, resource).await.unwrap();
        assert_ne!(next.generation(), generation);
        assert!(!next.cache_hit());
    });
}

/// C-015: closing the last lease waits for the exit and hears of its failure; C-018: the others do not.
#[test]
fn closing_the_last_lease_hears_of_the_exit() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes)
            .exit_takes(7)
            .exit_fails("broken");
        let (one, two) = join!(open(&cache, resource.clone()), open(&cache, resource));
        one.unwrap().close().await.unwrap();
        let failure = two.unwrap().close().await.unwrap_err();
        assert_eq!((errors(&failure), now()), (vec!["broken"], 8));
        assert!(cache.is_empty());
    });
}

/// A cancellation does not cut the wait for the exit short.
#[test]
fn closing_is_shielded() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(7);
        let lease = open(&cache, resource).await.unwrap();
        let scope = CancelScope::new();
        scope.cancel("stop");
        let closed = scope.run(async { lease.close().await }).await;
        assert_eq!(closed.unwrap().unwrap(), LeaseEnd::TornDown);
        assert_eq!(now(), 8);
    });
}

/// C-025: a panic of the exit is resumed in who closes the last lease.
#[test]
fn a_panic_of_the_exit_is_resumed_in_close() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_panics("bang");
        let lease = open(&cache, resource).await.unwrap();
        assert_eq!(panic_of(lease.close()).await.unwrap_err(), "bang");
    });
}

/// A failure that no user hears goes to the handler, once, and the service lives on.
#[test]
fn an_unheard_failure_reaches_the_handler() {
    let notes = Notes::new();
    let heard = notes.clone();
    let cache: Cache = ContextCache::options()
        .on_unheard_failure(move |failure: Failure<Word>| heard.add(format!("heard {failure}")))
        .build();
    served(&cache, async {
        for drops_while_waiting in [false, true] {
            let resource = Resource::new("a", &notes)
                .exit_takes(5)
                .exit_fails("broken");
            let lease = open(&cache, resource).await.unwrap();
            notes.take();
            if drops_while_waiting {
                let closing = Box::pin(lease.close());
                assert!(common::dropped_after(2, closing).await.is_none());
            } else {
                drop(lease);
            }
            seconds(10).await;
            assert_eq!(
                notes.take(),
                ["a exits: Completed", "a is gone", "heard broken"]
            );
        }
    });
}

/// A failure that no user hears, and there is no handler: the service's outcome.
#[test]
fn an_unheard_failure_is_the_services() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let (service, ()) = join!(cache.serve(), async {
            let resource = Resource::new("a", &notes).exit_fails("broken");
            drop(open(&cache, resource).await.unwrap());
        });
        assert_eq!(errors(&service.unwrap_err()), ["broken"]);
    });
}

/// A failure on its way to somebody who is dropped before it looks is not lost.
#[test]
fn a_delivered_failure_of_a_dropped_opener_is_not_lost() {
    let notes = Notes::new();
    let heard = notes.clone();
    let cache: Cache = ContextCache::options()
        .on_unheard_failure(move |failure: Failure<Word>| heard.add(format!("heard {failure}")))
        .build();
    served(&cache, async {
        let resource = Resource::new("a", &notes)
            .set_up_takes(3)
            .set_up_fails("refused");
        let mut opening = Box::pin(open(&cache, resource));
        assert!((&mut opening).now_or_never().is_none());
        seconds(5).await;
        cache.close();
        seconds(5).await;
        drop(opening);
        seconds(1).await;
        assert_eq!(notes.take(), ["a sets up", "heard refused"]);
    });
}

/// The service is cancelled: leases are marked, the exit waits for them, further opens are refused.
#[test]
fn a_cancelled_service_detaches_leases_and_waits_for_them() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let (_service, ()) = join!(common::cancelled_after(10, cache.serve()), async {
            let lease = open(&cache, Resource::new("a", &notes)).await.unwrap();
            assert!(!lease.is_detached());
            seconds(14).await;
            assert!(lease.is_detached());
            let refused = open(&cache, Resource::new("a", &notes)).await.unwrap_err();
            assert!(matches!(
                refused.as_library(),
                Some(LibraryFailure::Closed { .. })
            ));
            assert_eq!(notes.take(), ["a sets up"]);
            assert_eq!(lease.close().await.unwrap(), LeaseEnd::TornDown);
        });
        assert_eq!(now(), 1 + 14 + 1);
        assert!(cache.is_empty());
    });
}

/// With a grace for leases the exit runs when it is over; a late leaver releases nothing twice (C-036).
#[test]
fn the_grace_for_leases_ends_the_wait() {
    let notes = Notes::new();
    let cache: Cache = ContextCache::options()
        .lease_grace(Duration::from_secs(5))
        .build();
    testing::run(async {
        let (_service, lease) = join!(
            async {
                common::cancelled_after(10, cache.serve()).await;
                assert_eq!(now(), 10 + 5 + 1);
            },
            open(&cache, Resource::new("a", &notes)),
        );
        let lease = lease.unwrap();
        assert_eq!((*lease, lease.is_detached()), (1, true));
        assert_eq!(lease.close().await.unwrap(), LeaseEnd::TornDown);
        let ends = notes.take();
        assert_eq!(ends.iter().filter(|note| *note == "a is gone").count(), 1);
    });
}

/// A failed set-up is told to all who waited, where that was asked for.
#[test]
fn failures_can_be_shared() {
    let notes = Notes::new();
    let cache: Cache = ContextCache::options().share_failures().build();
    served(&cache, async {
        let resource = Resource::new("a", &notes).set_up_fails("refused");
        let all = join_all((0..5).map(|_| open(&cache, resource.clone()))).await;
        for outcome in all {
            assert_eq!(errors(&outcome.unwrap_err()), ["refused"]);
        }
        assert_eq!(notes.n_set_ups(), 1);
        assert_eq!(*open(&cache, Resource::new("a", &notes)).await.unwrap(), 2);
    });
}

/// The opener goes in mid-set-up, and the set-up begins anew with the next one's context, if so told.
#[test]
fn a_set_up_can_restart_without_its_opener() {
    let notes = Notes::new();
    let cache: Cache = ContextCache::options().restart_without_opener().build();
    served(&cache, async {
        let slow = Resource::new("a", &notes).set_up_takes(10);
        let (first, second) = join!(
            common::dropped_after(3, Box::pin(open(&cache, slow.clone()))),
            open(&cache, slow),
        );
        let second = second.unwrap();
        assert!(first.is_none());
        assert_eq!((*second, second.cache_hit(), now()), (2, false, 13));
        assert_eq!(notes.take(), ["a sets up", "a unwinds", "a sets up"]);
    });
}

/// The queue is kept in order over failures: each failure is its opener's.
#[test]
fn the_queue_keeps_its_order() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let names = ["one", "two", "three"];
        let opens = names.map(|name| open(&cache, Resource::new("a", &notes).set_up_fails(name)));
        let outcomes = join_all(opens).await;
        for (outcome, name) in outcomes.into_iter().zip(names) {
            assert_eq!(errors(&outcome.unwrap_err()), [name]);
        }
        assert_eq!(now(), 3);
    });
}

/// A value whose drop panics: its exit runs all the same.
#[test]
fn a_value_whose_drop_panics_is_torn_down() {
    struct Touchy;
    impl Drop for Touchy {
        fn drop(&mut self) {
            panic!("touchy");
        }
    }
    let cache: ContextCache<u8, Touchy, Word> = ContextCache::new();
    testing::run(async {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            let make = || {
                acm(|slot: Slot<Touchy>| async move {
                    slot.provide(Touchy).await;
                    Ok(())
                })
            };
            let lease = cache.open(1, make).await?;
            assert_eq!(panic_of(lease.close()).await.unwrap_err(), "touchy");
            cache.close();
            Ok(())
        })
        .await
        .unwrap();
        assert!(cache.is_empty());
    });
}

/// A value's drop may use the cache: no lock is held, whichever way it goes.
#[test]
fn a_values_drop_may_use_the_cache() {
    struct Curious(Option<ContextCache<u8, Curious, Word>>);
    impl Drop for Curious {
        fn drop(&mut self) {
            if let Some(cache) = self.0.take() {
                assert!(cache.has(&1) && cache.len() == 1);
            }
        }
    }
    let ways = [Duration::ZERO, Duration::from_secs(5), Duration::MAX];
    for keep_alive in ways {
        let cache: ContextCache<u8, Curious, Word> =
            ContextCache::options().keep_alive(keep_alive).build();
        testing::run(async {
            open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(cache.serve());
                let inside = cache.clone();
                let make = move || {
                    acm(move |slot: Slot<Curious>| async move {
                        slot.provide(Curious(Some(inside))).await;
                        Ok(())
                    })
                };
                drop(cache.open(1, make).await?);
                seconds(10).await;
                if keep_alive == Duration::MAX {
                    assert!(cache.invalidate(&1));
                }
                seconds(1).await;
                assert!(cache.is_empty());
                cache.close();
                Ok(())
            })
            .await
            .unwrap();
        });
    }
}

/// A value that is taken out of its block is a use, until it is dropped.
#[test]
fn a_value_that_is_taken_out_is_a_use() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes);
        let make = move || resource.context();
        let value = trionics_cache::maybe_open_context(&cache, "a", make, async |_hit, value| {
            assert_eq!(value.lease().users(), 1);
            Ok(value)
        })
        .await
        .unwrap();
        seconds(10).await;
        assert_eq!((*value, cache.users(&"a")), (1, 1));
        assert_eq!(notes.take(), ["a sets up"]);
        drop(value);
        seconds(2).await;
        assert!(cache.is_empty());
    });
}

/// A slot hits what is in use, sees a new generation, and is not fooled by one that was given up (C-039).
#[test]
fn a_slot_follows_its_key() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let mut slot = cache.slot("a");
        assert!(slot.try_peek().is_none());
        let make = || {
            let resource = Resource::new("a", &notes);
            move || resource.context()
        };
        let first = slot.open(make()).await.unwrap();
        let mut twin = slot.clone();
        let again = twin.open(make()).await.unwrap();
        assert_eq!((*first, first.cache_hit()), (1, false));
        assert_eq!((*again, again.cache_hit()), (1, true));
        assert!(cache.invalidate(&"a"));
        let second = slot.open(make()).await.unwrap();
        assert_eq!((*second, second.cache_hit(), *again), (2, false, 1));
        drop((first, again, second));
        seconds(2).await;
        let third = twin.open(make()).await.unwrap();
        assert_eq!(*third, 3);
        let statistics = cache.statistics();
        assert_eq!((statistics.hits, statistics.misses), (1, 3));
        drop((slot, twin));
        assert_eq!(cache.statistics().hits, 1);
    });
    let mut late = cache.slot("a");
    assert!(late.try_peek().is_none());
}
