//! How long resources stay: idle times, capacity, giving up, refreshing, looking.

mod common;

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use common::{Cache, Notes, Resource, Word, errors, now, panic_of, seconds, served};
use futures::{FutureExt as _, join};
use trionics_cache::{CacheOptions, ContextCache, Lease, LeaseEnd, WhenFull};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{Slot, acm};
use trionics_nursery::{BoxSleep, Clock, testing, with_clock};

type Opened = Result<Lease<Word, usize, Word>, Failure<Word>>;

async fn open(cache: &Cache, key: Word, notes: &Notes) -> Opened {
    let resource = Resource::new(key, notes);
    cache.open(key, move || resource.context()).await
}

fn options() -> CacheOptions<Word, usize, Word> {
    Cache::options()
}

fn keeping(seconds: u64) -> Cache {
    options().keep_alive(Duration::from_secs(seconds)).build()
}

#[track_caller]
fn assert_full(outcome: Opened) {
    let failure = outcome.unwrap_err();
    assert!(
        matches!(failure.as_library(), Some(LibraryFailure::Full { .. })),
        "{failure:?}"
    );
}

/// C-040: an idle resource stays for its time; opened again it is a hit, and each leave begins the time anew.
#[test]
fn an_idle_resource_is_kept_for_its_time() {
    let (cache, notes) = (keeping(10), Notes::new());
    served(&cache, async {
        let first = open(&cache, "a", &notes).await.unwrap();
        let generation = first.generation();
        assert_eq!(first.close().await.unwrap(), LeaseEnd::KeptIdle);
        assert_eq!(now(), 1);
        seconds(7).await;
        let second = open(&cache, "a", &notes).await.unwrap();
        assert_eq!(
            (*second, second.cache_hit(), second.generation()),
            (1, true, generation)
        );
        // The clock of the first idle time is stopped: nothing happens under the user.
        seconds(20).await;
        assert_eq!(notes.take(), ["a sets up"]);
        drop(second);
        seconds(9).await;
        assert_eq!((cache.statistics().idle, cache.has(&"a")), (1, true));
        seconds(3).await;
        assert_eq!(notes.take(), ["a exits: Completed", "a is gone"]);
        assert!(!cache.has(&"a"));
        assert!(!open(&cache, "a", &notes).await.unwrap().cache_hit());
    });
}

/// C-040: the time depends on the key, `touch` begins it anew, and zero is no time at all.
#[test]
fn the_idle_time_is_the_keys_and_can_be_begun_anew() {
    let notes = Notes::new();
    let cache: Cache = options()
        .keep_alive_by(|key| Duration::from_secs(if *key == "long" { 100 } else { 0 }))
        .build();
    served(&cache, async {
        assert_eq!(
            open(&cache, "short", &notes)
                .await
                .unwrap()
                .close()
                .await
                .unwrap(),
            LeaseEnd::TornDown
        );
        drop(open(&cache, "long", &notes).await.unwrap());
        notes.take();
        seconds(90).await;
        assert!(cache.touch(&"long") && !cache.touch(&"short"));
        seconds(90).await;
        assert!(notes.take().is_empty());
        seconds(12).await;
        assert_eq!(notes.take(), ["long exits: Completed", "long is gone"]);
    });
}

/// C-040: a timer of an old idle time that goes off when a newer one has begun ends nothing.
#[test]
fn a_timer_of_an_old_idle_time_ends_no_newer_one() {
    let notes = Notes::new();
    let cache: ContextCache<Word, usize> = ContextCache::options()
        .keep_alive(Duration::from_secs(10))
        .build();
    let open = async |cache: ContextCache<Word, usize>, notes: Notes| {
        let make = move || {
            acm(async move |slot: Slot<usize>| {
                slot.provide(1).await;
                notes.add("exit");
                Ok(())
            })
        };
        drop(cache.open("a", make).await.unwrap());
    };
    let clock = ClockByHand::default();
    let timers = Arc::clone(&clock.timers);
    let mut service = Box::pin(with_clock(clock, cache.serve()));
    let mut serve = || (&mut service).now_or_never();

    let mut opening = Box::pin(open(cache.clone(), notes.clone()));
    assert!((&mut opening).now_or_never().is_none());
    assert!(serve().is_none());
    opening.now_or_never().expect("it is open");
    assert!(serve().is_none());
    assert_eq!(timers.lock().unwrap().len(), 1);

    // In the very poll in which the timer ends, a user comes and goes.
    let (same, its_notes) = (cache.clone(), notes.clone());
    let visit = move || open(same, its_notes).now_or_never().expect("it is idle");
    ClockByHand::go_off(&timers, 0, visit);
    assert!(serve().is_none());
    assert!(notes.take().is_empty());
    assert_eq!(cache.statistics().idle, 1);

    ClockByHand::go_off(&timers, 1, || {});
    assert!(serve().is_none());
    assert_eq!(notes.take(), ["exit"]);
    cache.close();
    serve().expect("it is over").unwrap();
}

/// A clock whose timers go off when they are told to, and do something before they end.
#[derive(Default)]
struct ClockByHand {
    timers: Arc<Mutex<Vec<TimerByHand>>>,
}

#[derive(Default)]
struct TimerByHand {
    last_act: Option<Box<dyn FnOnce() + Send>>,
    waker: Option<Waker>,
}

impl ClockByHand {
    fn go_off(
        timers: &Mutex<Vec<TimerByHand>>,
        which: usize,
        last_act: impl FnOnce() + Send + 'static,
    ) {
        let waker = {
            let timer = &mut timers.lock().unwrap()[which];
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
        let timers = Arc::clone(&self.timers);
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
            let Some(act) = last_act else {
                return Poll::Pending;
            };
            act();
            Poll::Ready(())
        }))
    }
}

/// Closing ends idle times; for ever needs no clock.
#[test]
fn closing_tears_idle_resources_down() {
    let notes = Notes::new();
    let cache: Cache = options().keep_alive(Duration::MAX).build();
    served(&cache, async {
        drop(open(&cache, "a", &notes).await.unwrap());
        seconds(1000).await;
        assert_eq!(cache.statistics().idle, 1);
        cache.close();
        seconds(2).await;
        assert!(cache.is_empty());
    });
}

/// A cancelled service tears idle resources down.
#[test]
fn a_cancelled_service_tears_idle_resources_down() {
    let (cache, notes) = (keeping(1000), Notes::new());
    testing::run(async {
        let (_service, ()) = join!(common::cancelled_after(10, cache.serve()), async {
            drop(open(&cache, "a", &notes).await.unwrap());
        });
        assert_eq!((now(), cache.is_empty()), (11, true));
        let notes = notes.take();
        assert_eq!(notes.last().unwrap(), "a is gone");
    });
}

/// C-042: a further key is refused; what is in use or idle stays; there is room after an idle time is over.
#[test]
fn a_full_cache_refuses() {
    let notes = Notes::new();
    let cache: Cache = options()
        .capacity(2, WhenFull::Refuse)
        .keep_alive(Duration::from_secs(10))
        .build();
    served(&cache, async {
        let a = open(&cache, "a", &notes).await.unwrap();
        drop(open(&cache, "b", &notes).await.unwrap());
        assert_full(open(&cache, "c", &notes).await);
        assert!(!cache.has(&"c"));
        assert!(open(&cache, "a", &notes).await.unwrap().cache_hit());
        assert!(open(&cache, "b", &notes).await.unwrap().cache_hit());
        seconds(12).await;
        drop((open(&cache, "c", &notes).await.unwrap(), a));
    });
}

/// A further key takes the room of what has been idle for longest, and waits for its exit.
#[test]
fn a_full_cache_evicts_what_is_idle() {
    let notes = Notes::new();
    let cache: Cache = options()
        .capacity(2, WhenFull::EvictIdle)
        .keep_alive(Duration::MAX)
        .build();
    served(&cache, async {
        drop(open(&cache, "a", &notes).await.unwrap());
        drop(open(&cache, "b", &notes).await.unwrap());
        drop(open(&cache, "a", &notes).await.unwrap());
        notes.take();
        let c = open(&cache, "c", &notes).await.unwrap();
        assert_eq!(
            notes.take(),
            ["b exits: Completed", "b is gone", "c sets up"]
        );
        let a = open(&cache, "a", &notes).await.unwrap();
        // Nothing is idle: it waits, and nothing in use is thrown out.
        let (b, ()) = join!(open(&cache, "b", &notes), async {
            seconds(5).await;
            assert_eq!(cache.statistics().opening, 1);
            drop(a);
        });
        assert_eq!(*b.unwrap(), 4);
        drop(c);
    });
}

/// Keys that wait for room come in order; one that gives up holds nobody up.
#[test]
fn keys_wait_for_room_in_order() {
    let notes = Notes::new();
    let cache: Cache = options().capacity(1, WhenFull::Wait).build();
    served(&cache, async {
        let hold = async |key: Word, gives_up: bool| {
            let opening = Box::pin(open(&cache, key, &notes));
            if gives_up {
                assert!(common::dropped_after(1, opening).await.is_none());
                return;
            }
            let lease = opening.await.unwrap();
            seconds(2).await;
            lease.close().await.unwrap();
        };
        join!(
            hold("a", false),
            hold("b", true),
            hold("c", false),
            hold("d", false)
        );
        let set_ups: Vec<_> = notes
            .take()
            .into_iter()
            .filter(|it| it.ends_with("sets up"))
            .collect();
        assert_eq!(set_ups, ["a sets up", "c sets up", "d sets up"]);
        assert_eq!(now(), 12);
    });
}

/// A capacity of nothing is refused where it is written.
#[test]
fn a_capacity_of_nothing_is_refused() {
    let refused = testing::run(panic_of(async {
        drop(options().capacity(0, WhenFull::Wait));
    }));
    assert!(refused.unwrap_err().contains("room for one"));
}

/// C-039: a resource that is given up stays with its users; the next open makes a new one, and the old users
/// leaving neither releases nor removes that.
#[test]
fn a_resource_that_is_given_up_is_its_users_only() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        assert!(!cache.invalidate(&"a"));
        let old = open(&cache, "a", &notes).await.unwrap();
        assert!(cache.invalidate(&"a") && !cache.has(&"a") && !cache.invalidate(&"a"));
        let new = open(&cache, "a", &notes).await.unwrap();
        assert_eq!((*old, *new, new.cache_hit()), (1, 2, false));
        assert_eq!(old.close().await.unwrap(), LeaseEnd::TornDown);
        let other = open(&cache, "a", &notes).await.unwrap();
        assert_eq!((*other, other.cache_hit(), cache.users(&"a")), (2, true, 2));
    });
}

/// C-039: given up in mid-set-up, it comes to those who wait, and a later open makes another.
#[test]
fn a_set_up_that_is_given_up_comes_to_those_who_wait() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let slow = || {
            let resource = Resource::new("a", &notes).set_up_takes(10);
            cache.open("a", move || resource.context())
        };
        let (one, two, late) = join!(slow(), slow(), async {
            seconds(2).await;
            assert!(cache.invalidate(&"a"));
            open(&cache, "a", &notes).await
        });
        let (one, two, late) = (one.unwrap(), two.unwrap(), late.unwrap());
        assert_eq!((*one, *two, *late), (1, 1, 2));
        assert!(!one.cache_hit() && two.cache_hit() && !late.cache_hit());
    });
}

/// An idle resource that is given up is torn down, and the next open waits for that.
#[test]
fn an_idle_resource_that_is_given_up_is_torn_down() {
    let (cache, notes) = (keeping(1000), Notes::new());
    served(&cache, async {
        drop(open(&cache, "a", &notes).await.unwrap());
        assert!(cache.invalidate(&"a"));
        assert_eq!(*open(&cache, "a", &notes).await.unwrap(), 2);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone", "a sets up"]
        );
    });
}

/// Refreshing opens the new one before the old one is left; who comes meanwhile has the old one.
#[test]
fn refreshing_opens_the_new_before_the_old_is_left() {
    let (cache, notes) = (keeping(1000), Notes::new());
    served(&cache, async {
        let old = open(&cache, "a", &notes).await.unwrap();
        let resource = Resource::new("a", &notes).set_up_takes(10);
        let (new, ()) = join!(cache.refresh("a", move || resource.context()), async {
            seconds(5).await;
            assert_eq!(*open(&cache, "a", &notes).await.unwrap(), 1);
        });
        let new = new.unwrap();
        assert_eq!((*old, *new, new.cache_hit(), now()), (1, 2, false, 11));
        assert_eq!(*open(&cache, "a", &notes).await.unwrap(), 2);
        // The old one is nobody's but its users': no idle time.
        assert_eq!(old.close().await.unwrap(), LeaseEnd::TornDown);
        assert_eq!(new.close().await.unwrap(), LeaseEnd::KeptIdle);
        assert_eq!(cache.len(), 1);
    });
}

/// Refreshing fails: the old one stays. Of a key that is not there it is an open, of an idle one its end.
#[test]
fn refreshing_may_fail_and_needs_no_old_one() {
    let (cache, notes) = (keeping(1000), Notes::new());
    served(&cache, async {
        let make = |resource: Resource| move || resource.context();
        let first = cache.refresh("a", make(Resource::new("a", &notes))).await;
        drop(first.unwrap());
        let failing = Resource::new("a", &notes).set_up_fails("e");
        let failed = cache.refresh("a", make(failing)).await;
        assert_eq!(errors(&failed.unwrap_err()), ["e"]);
        assert_eq!(*open(&cache, "a", &notes).await.unwrap(), 1);
        let second = cache.refresh("a", make(Resource::new("a", &notes))).await;
        seconds(2).await;
        assert_eq!((cache.len(), *second.unwrap()), (1, 3));
    });
}

/// Refreshing that is dropped half-way leaves the old one where it is.
#[test]
fn refreshing_that_is_dropped_changes_nothing() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let old = open(&cache, "a", &notes).await.unwrap();
        let resource = Resource::new("a", &notes).set_up_takes(10);
        let refreshing = Box::pin(cache.refresh("a", move || resource.context()));
        assert!(common::dropped_after(3, refreshing).await.is_none());
        seconds(1).await;
        assert_eq!(notes.take(), ["a sets up", "a sets up", "a unwinds"]);
        assert!(open(&cache, "a", &notes).await.unwrap().cache_hit());
        drop(old);
    });
}

/// C-041: looking opens nothing, waits for what is being set up, holds what it gives, and ends with the cache.
#[test]
fn looking_opens_nothing() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        assert!(cache.peek(&"a").await.is_none());
        assert!(cache.is_empty());
        let resource = Resource::new("a", &notes).set_up_takes(10).exit_takes(5);
        let (opened, (looked, held)) = join!(
            async {
                let lease = cache.open("a", move || resource.context()).await.unwrap();
                assert!(!lease.cache_hit());
                lease.close().await.unwrap()
            },
            async {
                seconds(1).await;
                let looked = cache.peek(&"a").await.unwrap();
                let held = cache.peek(&"a").await.unwrap();
                (looked, held)
            }
        );
        assert!(matches!(opened, LeaseEnd::StillUsed { .. }));
        assert!(looked.cache_hit() && held.cache_hit());
        drop(looked);
        let (end, gone) = join!(held.close(), async {
            seconds(1).await;
            cache.peek(&"a").now_or_never()
        });
        assert_eq!(end.unwrap(), LeaseEnd::TornDown);
        assert!(matches!(gone, Some(None)));
        cache.close();
        assert!(cache.peek(&"a").await.is_none());
    });
}

/// Looking at a set-up that fails, or whose openers go, gives nothing.
#[test]
fn looking_at_what_fails_gives_nothing() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let failing = Resource::new("a", &notes).set_up_takes(5).set_up_fails("e");
        let (opened, looked) = join!(cache.open("a", move || failing.context()), async {
            seconds(1).await;
            cache.peek(&"a").await
        });
        assert_eq!(errors(&opened.unwrap_err()), ["e"]);
        assert!(looked.is_none());
    });
}

/// Keys, statistics.
#[test]
fn a_cache_can_be_looked_into() {
    let (cache, notes) = (keeping(100), Notes::new());
    served(&cache, async {
        let a = open(&cache, "a", &notes).await.unwrap();
        let again = open(&cache, "a", &notes).await.unwrap();
        drop(open(&cache, "b", &notes).await.unwrap());
        let failing = Resource::new("c", &notes).set_up_fails("e");
        drop(cache.open("c", move || failing.context()).await);
        let mut keys = cache.keys();
        keys.sort_unstable();
        assert_eq!((keys, cache.len()), (vec!["a", "b"], 2));
        let seen = cache.statistics();
        assert_eq!((seen.hits, seen.misses, seen.opens), (1, 2, 3));
        assert_eq!((seen.failures, seen.teardowns), (1, 0));
        assert_eq!((seen.users, seen.in_use, seen.idle), (2, 1, 1));
        assert_eq!((seen.waiting, seen.opening, seen.leaving), (0, 0, 0));
        drop((a, again));
        cache.close();
        seconds(2).await;
        assert_eq!(cache.statistics().teardowns, 2);
    });
}
