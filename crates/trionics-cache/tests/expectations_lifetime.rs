//! What users of other caches and pools expect of idle times, capacities, giving up and refreshing.

mod common;

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use common::{Cache, Notes, Resource, Word, cancelled_after, errors, now, seconds, served};
use futures::{FutureExt as _, future::join_all, join};
use testkit::{Gate, Probe};
use trionics_cache::{CacheOptions, ContextCache, Lease, LeaseEnd, WhenFull, maybe_open_context};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{BoxSleep, Clock, checkpoint, testing, with_clock};

type Opened = Result<Lease<Word, usize, Word>, Failure<Word>>;

const EVERY_POLICY: [WhenFull; 3] = [WhenFull::Refuse, WhenFull::EvictIdle, WhenFull::Wait];

async fn open(cache: &Cache, key: Word, notes: &Notes) -> Opened {
    open_with(cache, key, Resource::new(key, notes)).await
}

async fn open_with(cache: &Cache, key: Word, resource: Resource) -> Opened {
    cache.open(key, move || resource.context()).await
}

fn options() -> CacheOptions<Word, usize, Word> {
    Cache::options()
}

fn keeping(seconds: u64) -> CacheOptions<Word, usize, Word> {
    options().keep_alive(Duration::from_secs(seconds))
}

fn is_full(outcome: &Opened) -> bool {
    let failure = outcome.as_ref().err();
    let library = failure.and_then(|failure| failure.as_library());
    matches!(library, Some(LibraryFailure::Full { .. }))
}

/// A context without awaits of its own.
fn at_once(value: usize) -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
    acm(move |slot: Slot<usize>| async move {
        slot.provide(value).await;
        Ok(())
    })
}

/// moka, Caffeine: an idle time that no clock can count is for ever, not an overflow.
#[test]
fn an_idle_time_beyond_the_clock_is_for_ever() {
    for period in [
        Duration::from_secs(u64::MAX),
        Duration::MAX - Duration::from_nanos(1),
        Duration::MAX,
    ] {
        let (cache, notes) = (options().keep_alive(period).build(), Notes::new());
        served(&cache, async {
            drop(open(&cache, "a", &notes).await.unwrap());
            checkpoint().await;
            seconds(100_000_000).await;
            assert!(open(&cache, "a", &notes).await.unwrap().cache_hit());
        });
    }
}

/// moka's `contains_key`, `iter`: to ask what is there is no use, and begins no idle time anew; to peek is one.
#[test]
fn to_ask_is_no_use_and_to_peek_is_one() {
    let (cache, notes) = (keeping(10).build(), Notes::new());
    served(&cache, async {
        drop(open(&cache, "a", &notes).await.unwrap());
        checkpoint().await;
        for _ in 0..9 {
            seconds(1).await;
            assert!(cache.has(&"a") && cache.users(&"a") == 0 && cache.try_peek(&"a").is_none());
            assert_eq!((cache.keys(), cache.len()), (vec!["a"], 1));
            assert_eq!(cache.statistics().idle, 1);
        }
        seconds(2).await;
        assert_eq!(notes.take(), ["a sets up", "a exits: Completed"]);
        seconds(1).await;
        drop(open(&cache, "a", &notes).await.unwrap());
        checkpoint().await;
        seconds(9).await;
        drop(cache.peek(&"a").await.unwrap());
        seconds(9).await;
        assert_eq!(cache.statistics().idle, 1);
        seconds(2).await;
        assert_eq!(cache.statistics().idle, 0);
    });
}

/// Effect's `RcMap`: each idle resource has a timer of its own, in whatever order they were left.
#[test]
fn idle_times_end_each_in_its_time() {
    let notes = Notes::new();
    let cache = options()
        .keep_alive_by(|key| Duration::from_secs(key.len() as u64 * 10))
        .build();
    served(&cache, async {
        let opens = ["aaa", "b", "cc"].map(|key| open(&cache, key, &notes));
        drop(join_all(opens).await);
        notes.take();
        for (at, exit) in [(12, "b exits"), (22, "cc exits"), (32, "aaa exits")] {
            seconds(at - now()).await;
            let noted = notes.take();
            assert!(noted.iter().any(|note| note.starts_with(exit)), "{noted:?}");
            assert_eq!(
                noted.iter().filter(|note| note.contains("exits")).count(),
                1
            );
        }
    });
}

/// moka's per-entry expiry: the idle time of a key is asked once in each of its lives, and by no hit.
#[test]
fn the_idle_time_is_asked_once_in_a_life() {
    let (notes, n_calls) = (Notes::new(), Arc::new(AtomicUsize::new(0)));
    let counts = Arc::clone(&n_calls);
    let cache = options()
        .keep_alive_by(move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
            Duration::from_secs(5)
        })
        .build();
    served(&cache, async {
        for life in 1..=3 {
            for _ in 0..4 {
                let all = join_all((0..3).map(|_| open(&cache, "a", &notes))).await;
                drop(all);
                checkpoint().await;
            }
            assert!(cache.touch(&"a"));
            assert_eq!(n_calls.load(Ordering::SeqCst), life);
            seconds(20).await;
            assert!(cache.is_empty());
        }
    });
}

/// A clock whose timers end when they are told to, and do something in that very poll.
#[derive(Clone, Default)]
struct ClockByHand(Arc<Mutex<Vec<TimerByHand>>>);

#[derive(Default)]
struct TimerByHand {
    last_act: Option<Box<dyn FnOnce() + Send>>,
    waker: Option<Waker>,
}

impl ClockByHand {
    fn n_timers(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn go_off(&self, which: usize, last_act: impl FnOnce() + Send + 'static) {
        let waker = {
            let timer = &mut self.0.lock().unwrap()[which];
            timer.last_act = Some(Box::new(last_act));
            timer.waker.take()
        };
        waker.expect("it is polled").wake();
    }
}

impl Clock for ClockByHand {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, _deadline: Instant) -> BoxSleep {
        let timers = Arc::clone(&self.0);
        let which = {
            let mut timers = timers.lock().unwrap();
            timers.push(TimerByHand::default());
            timers.len() - 1
        };
        Box::pin(poll_fn(move |cx| {
            let last_act = {
                let timer = &mut timers.lock().unwrap()[which];
                timer.waker = Some(cx.waker().clone());
                timer.last_act.take()
            };
            match last_act {
                Some(act) => {
                    act();
                    Poll::Ready(())
                }
                None => Poll::Pending,
            }
        }))
    }
}

/// Effect's `touch`: at the very instant at which the idle time ends it still begins it anew, whatever else touches it then.
#[test]
fn a_touch_at_the_last_instant_counts() {
    let (cache, clock) = (keeping(10).build(), ClockByHand::default());
    let mut service = Probe::new(with_clock(clock.clone(), cache.serve()));
    let mut opening = Probe::new(cache.open("a", || at_once(1)));
    opening.waits();
    service.waits();
    drop(opening.ends().unwrap());
    service.waits();
    assert_eq!(clock.n_timers(), 1);
    let touching = cache.clone();
    clock.go_off(0, move || {
        assert!(touching.touch(&"a") && touching.touch(&"a"))
    });
    service.waits();
    assert_eq!((cache.statistics().idle, clock.n_timers()), (1, 2));
    // Given up at that instant, it ends once.
    let giving_up = cache.clone();
    clock.go_off(1, move || {
        assert!(giving_up.invalidate(&"a") && !giving_up.invalidate(&"a"));
        assert!(!giving_up.touch(&"a"));
    });
    service.waits();
    assert_eq!((cache.len(), cache.statistics().teardowns), (0, 1));
    cache.close();
    service.ends().unwrap();
}

/// moka's time to idle: opened at the very instant of expiry it is the old one or a new one, and never one on its way out.
#[test]
fn an_open_at_the_instant_of_expiry_is_whole() {
    let (cache, notes) = (keeping(10).build(), Notes::new());
    served(&cache, async {
        let first = open(&cache, "a", &notes).await.unwrap();
        first.close().await.unwrap();
        checkpoint().await;
        seconds(10).await;
        let again = open(&cache, "a", &notes).await.unwrap();
        seconds(100).await;
        assert!(!again.is_detached());
        let exits = notes
            .take()
            .iter()
            .filter(|it| it.contains("exits"))
            .count();
        assert_eq!((exits, *again), (*again - 1, exits + 1));
    });
}

/// Effect, deadpool: closing tears idle resources down side by side, and a use that is there keeps what it has.
#[test]
fn closing_runs_all_exits_at_once() {
    let notes = Notes::new();
    let cache: ContextCache<usize, usize, Word> =
        ContextCache::options().keep_alive(Duration::MAX).build();
    testing::run(async {
        let (served, ()) = join!(cache.serve(), async {
            let opens = (0..100).map(|key| {
                let resource = Resource::new("it", &notes).exit_takes(10);
                cache.open(key, move || resource.context())
            });
            let leases = join_all(opens).await.into_iter().map(Result::unwrap);
            let mut leases: Vec<_> = leases.collect();
            let held = leases.swap_remove(50);
            drop(leases);
            checkpoint().await;
            cache.close();
            seconds(11).await;
            assert_eq!((cache.len(), cache.statistics().teardowns), (1, 99));
            assert!(!held.is_detached() && *held == 51);
        });
        served.unwrap();
        assert_eq!(now(), 1 + 11 + 10);
    });
}

/// Pools of one: with room for one, the key that is there opens again under each policy, and a failed, cancelled or panicked
/// set-up gives its room back.
#[test]
fn room_for_one_under_each_policy() {
    for policy in EVERY_POLICY {
        let notes = Notes::new();
        let cache = options().capacity(1, policy).build();
        served(&cache, async {
            let first = open(&cache, "a", &notes).await.unwrap();
            let again = open(&cache, "a", &notes).await.unwrap();
            assert!(again.cache_hit());
            drop((first, again));
            // The key that is being torn down waits for itself, and is not refused.
            let anew = open(&cache, "a", &notes).await.unwrap();
            assert_eq!((*anew, anew.cache_hit()), (2, false));
            anew.close().await.unwrap();

            let failing = Resource::new("b", &notes).set_up_fails("e");
            assert_eq!(
                errors(&open_with(&cache, "b", failing).await.unwrap_err()),
                ["e"]
            );
            let panicking = Resource::new("c", &notes).set_up_panics("p");
            let panicked = common::panic_of(open_with(&cache, "c", panicking)).await;
            assert_eq!(panicked.unwrap_err(), "p");
            let slow = Resource::new("d", &notes).set_up_takes(100);
            let dropped = Box::pin(open_with(&cache, "d", slow));
            assert!(common::dropped_after(1, dropped).await.is_none());
            checkpoint().await;
            let last = open(&cache, "e", &notes).await.unwrap();
            assert_eq!(cache.len(), 1);
            drop(last);
        });
    }
}

/// bb8, deadpool: what is being torn down still has its room; refused until its exit is over.
#[test]
fn the_room_is_free_when_the_exit_is_over() {
    let notes = Notes::new();
    let cache = options().capacity(1, WhenFull::Refuse).build();
    served(&cache, async {
        drop(
            open_with(&cache, "a", Resource::new("a", &notes).exit_takes(10))
                .await
                .unwrap(),
        );
        seconds(9).await;
        assert!(is_full(&open(&cache, "b", &notes).await));
        assert!(cache.peek(&"a").await.is_none());
        seconds(2).await;
        assert!(open(&cache, "b", &notes).await.is_ok());
    });
}

/// moka's least-recently-used order: a touch makes a resource the last to be thrown out, and its own key throws out nothing.
#[test]
fn a_touched_resource_is_thrown_out_last() {
    let notes = Notes::new();
    let cache = keeping(1000).capacity(3, WhenFull::EvictIdle).build();
    served(&cache, async {
        for key in ["a", "b", "c"] {
            drop(open(&cache, key, &notes).await.unwrap());
        }
        assert!(cache.touch(&"a"));
        drop(open(&cache, "b", &notes).await.unwrap());
        notes.take();
        // From here on, c, a, b.
        for (key, goes) in [("d", "c"), ("e", "a"), ("f", "b")] {
            let lease = open(&cache, key, &notes).await.unwrap();
            assert_eq!(notes.take()[0], format!("{goes} exits: Completed"));
            drop(lease);
        }
    });
}

/// moka's eviction listener: the failure of what was thrown out is not told to who took its room.
#[test]
fn the_failure_of_what_is_thrown_out_is_nobodys_who_comes() {
    let (notes, heard) = (Notes::new(), Notes::new());
    let hears = heard.clone();
    let cache = keeping(1000)
        .capacity(1, WhenFull::EvictIdle)
        .on_unheard_failure(move |failure| hears.add(errors(&failure).concat()))
        .build();
    served(&cache, async {
        let failing = Resource::new("a", &notes).exit_fails("e");
        drop(open_with(&cache, "a", failing).await.unwrap());
        let b = open(&cache, "b", &notes).await.unwrap();
        assert_eq!((*b, heard.take()), (2, vec!["e".to_owned()]));
    });
}

/// Fair pools: a key that is opened again during its exit stands behind the keys that wait for room longer.
#[test]
fn who_waits_for_room_longer_comes_first() {
    let notes = Notes::new();
    let cache = options().capacity(1, WhenFull::Wait).build();
    served(&cache, async {
        let first = open(&cache, "a", &notes).await.unwrap();
        let hold = async |key| {
            let lease = open(&cache, key, &notes).await.unwrap();
            seconds(1).await;
            lease.close().await.unwrap();
        };
        join!(hold("b"), hold("c"), async {
            checkpoint().await;
            drop(first);
            hold("a").await;
        });
        let set_ups: Vec<_> = notes
            .take()
            .into_iter()
            .filter(|it| it.contains("sets up"))
            .collect();
        assert_eq!(
            set_ups,
            ["a", "b", "c", "a"].map(|key| format!("{key} sets up"))
        );
    });
}

/// bb8's idle connections: while somebody waits for room, what is left is not kept, also where idle ones are never thrown out.
#[test]
fn nothing_is_kept_while_somebody_waits_for_room() {
    let notes = Notes::new();
    let cache = keeping(1000).capacity(1, WhenFull::Wait).build();
    served(&cache, async {
        let a = open(&cache, "a", &notes).await.unwrap();
        let (b, end) = join!(open(&cache, "b", &notes), async {
            checkpoint().await;
            a.close().await.unwrap()
        });
        assert_eq!((*b.unwrap(), end), (2, LeaseEnd::TornDown));
    });
}

/// Effect's `invalidate`: of what is already being torn down, or waits for room, there is nothing to give up, and no second exit.
#[test]
fn giving_up_what_is_going_does_nothing() {
    let notes = Notes::new();
    let cache = options().capacity(1, WhenFull::Wait).build();
    served(&cache, async {
        let slow = Resource::new("a", &notes).exit_takes(10);
        let first = open_with(&cache, "a", slow).await.unwrap();
        let reopen = async |key| {
            checkpoint().await;
            *open(&cache, key, &notes).await.unwrap()
        };
        let (end, mut values, ()) =
            join!(first.close(), join_all([reopen("a"), reopen("b")]), async {
                seconds(5).await;
                assert!(!cache.invalidate(&"a") && !cache.invalidate(&"a"));
                assert!(!cache.invalidate(&"b") && cache.has(&"a") && cache.has(&"b"));
            });
        values.sort_unstable();
        assert_eq!((end.unwrap(), values), (LeaseEnd::TornDown, vec![2, 3]));
    });
}

/// A block that gives up the key it uses, and opens it again inside: a new one beside the old one, and each is left in its turn.
#[test]
fn a_user_may_give_up_what_it_uses() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = |name| {
            let resource = Resource::new(name, &notes);
            move || resource.context()
        };
        let both = maybe_open_context(&cache, "k", make("old"), async |_hit, old| {
            assert!(cache.invalidate(&"k"));
            let inner = maybe_open_context(&cache, "k", make("new"), async |hit, new| {
                assert_eq!((cache.users(&"k"), cache.statistics().users), (1, 2));
                Ok((hit, *new))
            });
            Ok((*old, inner.await?))
        });
        assert_eq!(both.await.unwrap(), (1, (false, 2)));
        let exits: Vec<_> = notes
            .take()
            .into_iter()
            .filter(|it| it.contains("exits"))
            .collect();
        assert_eq!(exits, ["new exits: Completed", "old exits: Completed"]);
    });
}

/// Two refresh one key at once: the one that is done last stays, the other is its own user's only, and both are torn down once.
#[test]
fn of_two_that_refresh_the_last_one_stays() {
    let (cache, notes) = (keeping(1000).build(), Notes::new());
    served(&cache, async {
        drop(open(&cache, "a", &notes).await.unwrap());
        let refresh = |takes| {
            let resource = Resource::new("a", &notes).set_up_takes(takes);
            cache.refresh("a", move || resource.context())
        };
        let (slow, quick) = join!(refresh(5), refresh(2));
        let (slow, quick) = (slow.unwrap(), quick.unwrap());
        assert_eq!(*open(&cache, "a", &notes).await.unwrap(), *slow);
        assert_eq!(quick.close().await.unwrap(), LeaseEnd::TornDown);
        assert_eq!(slow.close().await.unwrap(), LeaseEnd::KeptIdle);
        assert_eq!((cache.len(), cache.statistics().teardowns), (1, 2));
    });
}

/// Caffeine's `refreshAfterWrite`: who waits for a first set-up gets that one, though a refresh is done before.
#[test]
fn a_refresh_overtakes_a_set_up_that_others_wait_for() {
    let (cache, notes) = (keeping(1000).build(), Notes::new());
    served(&cache, async {
        let slow = Resource::new("a", &notes).set_up_takes(10);
        let (first, second, (fresh, hit)) = join!(
            open_with(&cache, "a", slow.clone()),
            open_with(&cache, "a", slow),
            async {
                seconds(2).await;
                let resource = Resource::new("a", &notes);
                let fresh = cache
                    .refresh("a", move || resource.context())
                    .await
                    .unwrap();
                let hit = open(&cache, "a", &notes).await.unwrap();
                (fresh, hit)
            }
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!([*first, *second, *fresh, *hit], [1, 1, 2, 2]);
        assert!(!first.cache_hit() && second.cache_hit() && !fresh.cache_hit() && hit.cache_hit());
        // The old one is not kept.
        drop(first);
        assert_eq!(second.close().await.unwrap(), LeaseEnd::TornDown);
    });
}

/// A refresh without room is refused, and the old one stays; under "wait" it comes when there is room.
#[test]
fn a_refresh_needs_room_of_its_own() {
    for policy in EVERY_POLICY {
        let notes = Notes::new();
        let cache = keeping(1000).capacity(1, policy).build();
        served(&cache, async {
            let old = open(&cache, "a", &notes).await.unwrap();
            let resource = Resource::new("a", &notes);
            let refresh = cache.refresh("a", move || resource.context());
            let (refreshed, ()) = join!(refresh, async {
                seconds(3).await;
                assert!(open(&cache, "a", &notes).await.unwrap().cache_hit());
                drop(old);
            });
            if policy == WhenFull::Refuse {
                assert!(is_full(&refreshed));
                assert_eq!(*open(&cache, "a", &notes).await.unwrap(), 1);
            } else {
                assert_eq!((*refreshed.unwrap(), cache.statistics().teardowns), (2, 1));
                assert_eq!(*open(&cache, "a", &notes).await.unwrap(), 2);
            }
        });
    }
}

/// A context that ends by itself as soon as it has provided.
fn ends_at_once(
    value: usize,
) -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
    acm(move |slot: Slot<usize>| async move {
        let provided = slot.provide(value).now_or_never();
        assert!(provided.is_none());
        Ok(())
    })
}

/// Effect's issue 7515: a refresh whose new resource has ended by itself before it was put in place leads nobody to it: the old
/// one stays, and without one the next open is a fresh miss.
#[test]
fn a_refresh_that_has_ended_already_replaces_nothing() {
    for has_old in [false, true] {
        for grace in [None, Some(Duration::ZERO)] {
            let mut options = options().on_unheard_failure(drop);
            if let Some(grace) = grace {
                options = options.lease_grace(grace);
            }
            let cache = options.build();
            testing::run(async {
                let (served, ()) = join!(cache.serve(), async {
                    let old = match has_old {
                        true => Some(cache.open("a", || at_once(1)).await.unwrap()),
                        false => None,
                    };
                    let mut refreshing = Probe::new(cache.refresh("a", || ends_at_once(2)));
                    refreshing.waits();
                    // Delivered, and not looked at for a while.
                    for _ in 0..5 {
                        checkpoint().await;
                    }
                    let fresh = refreshing.ends().unwrap();
                    assert!(fresh.is_detached());
                    let third = cache.open("a", || at_once(3)).await.unwrap();
                    assert!(!third.is_detached());
                    assert_eq!(
                        (*third, third.cache_hit()),
                        (if has_old { 1 } else { 3 }, has_old)
                    );
                    assert_eq!(*cache.open("a", || at_once(4)).await.unwrap(), *third);
                    drop((fresh, third, old));
                    cache.close();
                });
                served.unwrap();
                assert!(cache.is_empty());
            });
        }
    }
}

/// Who waits for the end of a resource that has failed while others hold it gets the one that a refresh puts in its place.
#[test]
fn a_refresh_frees_those_who_wait_for_a_failed_one() {
    let cache = options().on_unheard_failure(drop).build();
    let gate = Gate::new();
    let mut service = Probe::new(cache.serve());
    let fails = gate.clone();
    let mut first = Probe::new(cache.open("a", move || {
        acm(move |slot: Slot<usize>| async move {
            let mut provided = Box::pin(slot.provide(1));
            futures::future::select(&mut provided, fails.wait()).await;
            Ok(())
        })
    }));
    first.waits();
    service.waits();
    let held = first.ends().unwrap();
    gate.open();
    service.waits();
    assert!(held.is_detached());
    let mut waiting = Probe::new(cache.open("a", || at_once(2)));
    waiting.waits();
    let mut refreshing = Probe::new(cache.refresh("a", || at_once(3)));
    refreshing.waits();
    service.waits();
    let fresh = refreshing.ends().unwrap();
    let shared = waiting.ends().unwrap();
    assert_eq!((*fresh, *shared, shared.cache_hit()), (3, 3, true));
    drop((held, fresh, shared));
    cache.close();
    service.ends().unwrap();
}

/// "No use after exit": a grace for leases is for leases; a block that unwinds is waited for as long as it takes.
#[test]
fn the_grace_for_leases_ends_no_wait_for_a_block() {
    let notes = Notes::new();
    let cache = options().lease_grace(Duration::from_secs(2)).build();
    testing::run(async {
        let user = async {
            let resource = Resource::new("a", &notes);
            let make = move || resource.context();
            maybe_open_context(&cache, "a", make, async |_hit, _value| {
                let unwinds = acm(|slot: Slot<()>| async {
                    slot.provide(()).await;
                    seconds(10).await;
                    notes.add("the user is done");
                    Ok(())
                });
                trionics_gather::with_context(unwinds, async |()| {
                    seconds(1000).await;
                    Ok(())
                })
                .await
            })
            .await
        };
        let held = async {
            seconds(1).await;
            let lease = open(&cache, "a", &notes).await.unwrap();
            seconds(20).await;
            drop(lease);
        };
        let (_service, _user, ()) = join!(cancelled_after(5, cache.serve()), user, held);
        assert_eq!(
            notes.take(),
            [
                "a sets up",
                "the user is done",
                "a exits: Completed",
                "a is gone"
            ]
        );
    });
    // A lease alone is waited for no longer than that.
    let cache = options().lease_grace(Duration::from_secs(2)).build();
    testing::run(async {
        let held = async {
            let lease = open(&cache, "a", &notes).await.unwrap();
            seconds(100).await;
            drop(lease);
        };
        let ended = async {
            cancelled_after(5, cache.serve()).await;
            now()
        };
        assert_eq!(join!(ended, held), (5 + 2 + 1, ()));
    });
}

/// moka: a hundred thousand keys come, are idle, and go; figures, listing and closing take no time that grows with their square.
#[test]
fn a_hundred_thousand_keys() {
    const N: usize = 100_000;
    let cache: ContextCache<usize, usize, Word> = ContextCache::options()
        .keep_alive(Duration::MAX)
        .capacity(N, WhenFull::EvictIdle)
        .build();
    let mut service = Probe::new(cache.serve());
    let mut opens: Vec<_> = (0..N)
        .map(|key| Probe::new(cache.open(key, move || at_once(key))))
        .collect();
    for task in &mut opens {
        task.waits();
    }
    service.waits();
    let leases: Vec<_> = opens.iter_mut().map(|task| task.ends().unwrap()).collect();
    assert!(leases.iter().enumerate().all(|(key, lease)| **lease == key));
    drop((leases, opens));
    assert_eq!((cache.statistics().idle, cache.keys().len()), (N, N));
    service.waits();
    // One more throws out the one that has been idle for longest.
    let mut one_more = Probe::new(cache.open(N, || at_once(N)));
    one_more.waits();
    service.waits();
    drop(one_more.ends().unwrap());
    assert!(!cache.has(&0) && cache.has(&1) && cache.len() == N);
    assert!((1..=N).all(|key| cache.invalidate(&key)));
    service.waits();
    assert!(cache.is_empty());
    cache.close();
    service.ends().unwrap();
    let seen = cache.statistics();
    assert_eq!((seen.opens, seen.teardowns), (N as u64 + 1, N as u64 + 1));
}

/// A cache that is closed knows no key by name any more, though what is in use is counted until it has gone.
#[test]
fn a_closed_cache_knows_no_keys() {
    let (cache, notes) = (keeping(1000).build(), Notes::new());
    testing::run(async {
        let (served, ()) = join!(cache.serve(), async {
            let lease = open(&cache, "a", &notes).await.unwrap();
            cache.close();
            assert!(!cache.has(&"a") && cache.keys().is_empty() && cache.users(&"a") == 0);
            assert!(cache.peek(&"a").await.is_none() && cache.try_peek(&"a").is_none());
            assert!(!cache.touch(&"a") && !cache.invalidate(&"a"));
            assert_eq!(
                (cache.len(), cache.statistics().users, lease.users()),
                (1, 1, 1)
            );
            assert_eq!(lease.close().await.unwrap(), LeaseEnd::TornDown);
        });
        served.unwrap();
    });
}

/// async-lru's `cache_close`, Effect's scope: closing in mid-set-up lets those who wait for it have their value, and refuses who waits
/// for room or for the end of an exit.
#[test]
fn closing_lets_a_set_up_come_to_its_end() {
    let notes = Notes::new();
    let cache = options().capacity(2, WhenFull::Wait).build();
    testing::run(async {
        let slow = Resource::new("slow", &notes).set_up_takes(10);
        let leaves = Resource::new("leaves", &notes).exit_takes(7);
        let (served, one, two, again, room, ()) = join!(
            cache.serve(),
            open_with(&cache, "slow", slow.clone()).map(|opened| opened.unwrap().cache_hit()),
            open_with(&cache, "slow", slow).map(|opened| opened.unwrap().cache_hit()),
            async {
                drop(open_with(&cache, "leaves", leaves).await.unwrap());
                let again = open(&cache, "leaves", &notes).await;
                assert!(now() <= 1 + 7);
                again
            },
            async {
                seconds(2).await;
                let room = open(&cache, "room", &notes).await;
                assert_eq!(now(), 5);
                room
            },
            async {
                seconds(5).await;
                cache.close();
            },
        );
        served.unwrap();
        assert_eq!((one, two, now()), (false, true, 11));
        for refused in [again, room] {
            let failure = refused.unwrap_err();
            assert!(matches!(
                failure.as_library(),
                Some(LibraryFailure::Closed { .. })
            ));
        }
    });
}
