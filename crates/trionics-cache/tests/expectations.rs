//! What users of other caches and cells expect of an open that waits, and of failures: polls by hand, wakes counted.

mod common;

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use common::{Cache, Notes, Resource, Word, errors, now, seconds, served};
use futures::{FutureExt as _, join};
use testkit::{Gate, Probe, Wakes, pause};
use trionics_cache::{CacheOptions, ContextCache, Lease, LeaseEnd, WhenFull};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::testing;

type Opened = Result<Lease<Word, usize, Word>, Failure<Word>>;

/// A context whose set-up and exit wait for a gate each, and fail with a word, if there is one.
#[derive(Clone, Default)]
struct Gated {
    value: usize,
    set_up: Gate,
    set_up_fails: Option<Word>,
    exit: Gate,
    exit_fails: Option<Word>,
}

impl Gated {
    fn new(value: usize) -> Self {
        Self {
            value,
            ..Self::default()
        }
    }

    fn with_free_exit(self) -> Self {
        self.exit.open();
        self
    }

    fn with_free_set_up(self) -> Self {
        self.set_up.open();
        self
    }

    fn set_up_fails(self, word: Word) -> Self {
        Self {
            set_up_fails: Some(word),
            ..self
        }
    }

    fn exit_fails(self, word: Word) -> Self {
        Self {
            exit_fails: Some(word),
            ..self
        }
    }

    fn context(self) -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
        acm(move |slot: Slot<usize>| async move {
            self.set_up.wait().await;
            if let Some(word) = self.set_up_fails {
                return Err(Failure::leaf(word));
            }
            slot.provide(self.value).await;
            self.exit.wait().await;
            match self.exit_fails {
                Some(word) => Err(Failure::leaf(word)),
                None => Ok(()),
            }
        })
    }
}

fn open<'a>(cache: &'a Cache, key: Word, gated: &Gated) -> Probe<'a, Opened> {
    let gated = gated.clone();
    Probe::new(cache.open(key, move || gated.context()))
}

fn options() -> CacheOptions<Word, usize, Word> {
    Cache::options()
}

/// Options under which failures that nobody hears of come into the notes.
fn heard_in(notes: &Notes) -> CacheOptions<Word, usize, Word> {
    let notes = notes.clone();
    options().on_unheard_failure(move |failure| notes.add(errors(&failure).join("+")))
}

/// Closes the cache; the service has to come to its end.
#[track_caller]
fn close(cache: &Cache, service: &mut Probe<'_, Result<(), Failure<Word>>>) {
    cache.close();
    service.ends().unwrap();
    assert!(cache.is_empty());
}

/// tokio's `OnceCell`, async-once-cell: all who wait are woken by the value, each once, and none before.
#[test]
fn each_who_waits_is_woken_once() {
    let (cache, gated) = (Cache::new(), Gated::new(7).with_free_exit());
    let mut service = Probe::new(cache.serve());
    let mut waiting: Vec<_> = (0..100).map(|_| open(&cache, "a", &gated)).collect();
    for task in &mut waiting {
        task.waits();
    }
    service.waits();
    assert!(waiting.iter().all(|task| task.n_wakes() == 0));
    gated.set_up.open();
    service.waits();
    assert!(waiting.iter().all(|task| task.n_wakes() == 1));
    let leases: Vec<_> = waiting
        .iter_mut()
        .map(|task| task.ends().unwrap())
        .collect();
    assert_eq!(leases.iter().filter(|lease| !lease.cache_hit()).count(), 1);
    drop(leases);
    service.waits();
    close(&cache, &mut service);
}

/// Any future: the waker of the last poll is woken, and those of earlier polls are not; waiting again is no second wait.
#[test]
fn the_last_waker_counts() {
    let (cache, gated) = (Cache::new(), Gated::new(7).with_free_exit());
    let mut service = Probe::new(cache.serve());
    let mut waiting = open(&cache, "a", &gated);
    let tasks: Vec<_> = (0..1000).map(|_| Wakes::new()).collect();
    for (_, waker) in &tasks {
        assert!(waiting.poll_with(waker).is_pending());
    }
    assert_eq!((cache.statistics().waiting, cache.len()), (1, 1));
    service.waits();
    gated.set_up.open();
    service.waits();
    let n_wakes: Vec<_> = tasks.iter().map(|(wakes, _)| wakes.count()).collect();
    assert_eq!((n_wakes.iter().sum::<usize>(), n_wakes[999]), (1, 1));
    // No waker of a task that has ended is kept.
    drop(waiting);
    service.waits();
    assert!(
        tasks.iter().all(
            |(wakes, waker)| Arc::strong_count(wakes) == 2 && !waker.will_wake(&Wakes::new().1)
        )
    );
    close(&cache, &mut service);
}

/// moka's `get_with`: an init that is ready at its first poll is delivered in one poll of who runs it.
#[test]
fn a_set_up_without_awaits_takes_one_poll() {
    let cache = Cache::new();
    let gated = Gated::new(7).with_free_set_up().with_free_exit();
    let mut service = Probe::new(cache.serve());
    service.waits();
    let mut opening = open(&cache, "a", &gated);
    opening.waits();
    assert!(service.is_woken());
    assert!(service.poll().is_pending());
    let lease = opening.ends().unwrap();
    let mut closing = Probe::new(lease.close());
    closing.waits();
    assert!(service.poll().is_pending());
    assert_eq!(closing.ends().unwrap(), LeaseEnd::TornDown);
    close(&cache, &mut service);
}

/// moka's cancellation tests: an opener that is dropped at any await of its set-up strands nobody, with and without another
/// one who waits, and whether or not the service has been polled since.
#[test]
fn an_opener_may_be_dropped_at_each_await() {
    const N_AWAITS: usize = 4;
    for n_polls in 0..=N_AWAITS + 2 {
        for another_waits in [false, true] {
            for restarts in [false, true] {
                let cache = match restarts {
                    true => options().restart_without_opener().build(),
                    false => Cache::new(),
                };
                let tally = Arc::new([const { AtomicUsize::new(0) }; 3]);
                let context = |value: usize| {
                    let tally = Arc::clone(&tally);
                    move || {
                        acm(move |slot: Slot<usize>| async move {
                            tally[0].fetch_add(1, Ordering::SeqCst);
                            let unwound = testkit::OnDrop::new(|| {
                                tally[1].fetch_add(1, Ordering::SeqCst);
                            });
                            for _ in 0..N_AWAITS {
                                pause().await;
                            }
                            slot.provide(value).await;
                            pause().await;
                            tally[2].fetch_add(1, Ordering::SeqCst);
                            drop(unwound);
                            Ok(())
                        })
                    }
                };
                let mut service = Probe::new(cache.serve());
                let mut opener = Probe::new(cache.open("a", context(1)));
                let mut other = Probe::new(cache.open("a", context(2)));
                opener.waits();
                if another_waits {
                    other.waits();
                }
                for _ in 0..n_polls {
                    assert!(service.poll().is_pending());
                }
                opener.cut();
                let lease = match other.settle() {
                    Poll::Ready(lease) => lease.unwrap(),
                    Poll::Pending => {
                        service.waits();
                        other.ends().unwrap()
                    }
                };
                service.waits();
                let case = format!("{n_polls} polls, {another_waits}, {restarts}: {lease:?}");
                // At most one is alive, and that is the one of the lease.
                let [begun, unwound, _] = &*tally;
                assert_eq!(
                    begun.load(Ordering::SeqCst),
                    unwound.load(Ordering::SeqCst) + 1,
                    "{case}"
                );
                assert_eq!((cache.len(), lease.users()), (1, 1), "{case}");
                drop(lease);
                service.waits();
                let seen = cache.statistics();
                assert_eq!(
                    (seen.waiting, seen.users, seen.failures),
                    (0, 0, 0),
                    "{case}"
                );
                close(&cache, &mut service);
            }
        }
    }
}

/// async-lru, aiocache: who is cancelled between the delivery of its value and its next poll has used it and left.
#[test]
fn a_value_that_nobody_takes_is_left() {
    for keeps in [false, true] {
        let cache = match keeps {
            true => options().keep_alive(std::time::Duration::MAX).build(),
            false => Cache::new(),
        };
        let gated = Gated::new(7).with_free_set_up();
        let mut service = Probe::new(cache.serve());
        let mut opener = open(&cache, "a", &gated);
        opener.waits();
        service.waits();
        assert!(opener.is_woken());
        assert_eq!((cache.users(&"a"), cache.statistics().misses), (1, 1));
        opener.cut();
        let seen = cache.statistics();
        assert_eq!(cache.users(&"a"), 0);
        assert_eq!(
            (seen.idle, seen.leaving),
            (usize::from(keeps), usize::from(!keeps))
        );
        service.waits();
        let mut second = open(&cache, "a", &gated);
        gated.exit.open();
        second.settle().is_ready().then_some(()).map_or_else(
            || {
                service.waits();
                assert!(!second.ends().unwrap().cache_hit());
            },
            |()| assert!(keeps),
        );
        drop(second);
        service.waits();
        close(&cache, &mut service);
    }
}

/// moka's `try_get_with`, tokio's `get_or_try_init`: an error type need not be `Clone`, `Debug`, `Error` or `Sync`.
#[test]
fn an_error_type_needs_nothing() {
    struct Bare(#[allow(dead_code, reason = "makes it not `Sync`")] std::cell::Cell<u8>);
    let cache: ContextCache<u8, u8, Bare> = ContextCache::new();
    let mut service = Probe::new(cache.serve());
    let make = |n: u8| {
        move || {
            acm(move |slot: Slot<u8>| async move {
                if n == 0 {
                    return Err(Failure::leaf(Bare(std::cell::Cell::new(9))));
                }
                slot.provide(n).await;
                Ok(())
            })
        }
    };
    let mut first = Probe::new(cache.open(1, make(0)));
    let mut second = Probe::new(cache.open(1, make(5)));
    first.waits();
    second.waits();
    service.waits();
    let failure = first.ends().map(drop).unwrap_err();
    assert_eq!(failure.into_leaf().ok().unwrap().0.get(), 9);
    assert_eq!(*second.ends().ok().unwrap(), 5);
    cache.close();
    drop(second);
    assert!(service.ends().is_ok());
}

/// Go's singleflight, tokio's `OnceCell`: an error is never remembered; a success after it is.
#[test]
fn a_failure_is_told_once_and_a_success_after_it_stays() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let broken = Gated::new(0).with_free_set_up().set_up_fails("e");
    for _ in 0..3 {
        let mut opening = open(&cache, "a", &broken);
        opening.waits();
        service.waits();
        assert_eq!(errors(&opening.ends().unwrap_err()), ["e"]);
        assert!(cache.is_empty() && !cache.has(&"a"));
    }
    let mut opening = open(
        &cache,
        "a",
        &Gated::new(4).with_free_set_up().with_free_exit(),
    );
    opening.waits();
    service.waits();
    let lease = opening.ends().unwrap();
    // A hit calls nothing, so that it cannot fail.
    assert_eq!(*open(&cache, "a", &broken).ends().unwrap(), 4);
    assert_eq!(cache.statistics().failures, 3);
    drop(lease);
    service.waits();
    close(&cache, &mut service);
}

/// "Never lost": two failures that lose their hearers at the same moment are both told, in the order in which they happened.
#[test]
fn failures_that_lose_their_hearers_together_are_all_told() {
    for has_handler in [false, true] {
        let notes = Notes::new();
        let cache = match has_handler {
            true => heard_in(&notes).build(),
            false => Cache::new(),
        };
        let mut service = Probe::new(cache.serve());
        let keys = ["a", "b", "c"];
        let mut openers: Vec<_> = keys
            .iter()
            .map(|key| {
                let gated = Gated::new(0).with_free_set_up().set_up_fails(key);
                open(&cache, key, &gated)
            })
            .collect();
        for opener in &mut openers {
            opener.waits();
        }
        service.waits();
        drop(openers);
        if has_handler {
            service.waits();
            assert_eq!(notes.take(), keys);
            close(&cache, &mut service);
        } else {
            assert_eq!(errors(&service.ends().unwrap_err()), keys);
        }
        assert!(cache.is_empty());
    }
}

/// "Never lost": a failure that loses its hearer while the service, which ends with another failure, still runs an exit.
#[test]
fn a_failure_that_loses_its_hearer_while_the_service_ends_is_told() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let broken = |word| Gated::new(0).with_free_set_up().set_up_fails(word);
    let slow = Gated::new(1).with_free_set_up();
    let mut holder = open(&cache, "slow", &slow);
    let mut one = open(&cache, "one", &broken("1"));
    let mut two = open(&cache, "two", &broken("2"));
    for task in [&mut holder, &mut one, &mut two] {
        task.waits();
    }
    service.waits();
    one.cut();
    // It ends for the first; the exit of the holder's resource takes its time.
    service.waits();
    drop(holder);
    service.waits();
    two.cut();
    service.waits();
    slow.exit.open();
    assert_eq!(errors(&service.ends().unwrap_err()), ["1", "2"]);
}

/// singleflight crates with shared errors: who only looks is given nothing, and a failure that the opener hears is not told again.
#[test]
fn a_shared_failure_is_not_told_to_who_only_looks() {
    let notes = Notes::new();
    let cache = heard_in(&notes).share_failures().build();
    let mut service = Probe::new(cache.serve());
    let gated = Gated::new(0).set_up_fails("e");
    let mut opener = open(&cache, "a", &gated);
    opener.waits();
    let mut looking = Probe::new(cache.peek(&"a"));
    looking.waits();
    let mut other = open(&cache, "a", &gated);
    other.waits();
    gated.set_up.open();
    service.waits();
    assert_eq!(errors(&opener.ends().unwrap_err()), ["e"]);
    assert!(looking.ends().is_none());
    assert_eq!(errors(&other.ends().unwrap_err()), ["e"]);
    service.settle().is_ready().then(|| panic!("it ends"));
    assert!(notes.take().is_empty());
    drop(looking);
    close(&cache, &mut service);
}

/// Effect's `getOption`: who only looks never becomes the opener, though it is first in the queue: neither of a failure, nor of
/// the value.
#[test]
fn who_only_looks_is_never_the_opener() {
    for fails in [false, true] {
        let notes = Notes::new();
        let cache = heard_in(&notes).build();
        let mut service = Probe::new(cache.serve());
        let gated = match fails {
            true => Gated::new(1).set_up_fails("e"),
            false => Gated::new(1).with_free_exit(),
        };
        let mut opener = open(&cache, "a", &gated);
        opener.waits();
        let mut looking = Probe::new(cache.peek(&"a"));
        looking.waits();
        let mut second = open(&cache, "a", &gated);
        second.waits();
        service.waits();
        opener.cut();
        gated.set_up.open();
        service.waits();
        match (second.ends(), looking.ends()) {
            (Ok(lease), Some(seen)) => {
                assert!(!fails && !lease.cache_hit() && seen.cache_hit());
            }
            (Err(failure), None) => {
                assert!(fails);
                assert_eq!(errors(&failure), ["e"]);
            }
            (second, looking) => panic!("{second:?}, {looking:?}"),
        }
        service.waits();
        assert!(notes.take().is_empty());
        drop((second, looking));
        service.waits();
        close(&cache, &mut service);
    }
}

/// An error's `Clone` that panics costs the one that the copy is for, and nobody else.
#[test]
fn a_failure_that_cannot_be_copied_is_still_told() {
    static N_COPIES: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug)]
    struct Fragile(u8);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(N_COPIES.fetch_add(1, Ordering::SeqCst) != 0, "no copy");
            Self(self.0)
        }
    }
    let cache: ContextCache<u8, u8, Fragile> = ContextCache::options().share_failures().build();
    let mut service = Probe::new(cache.serve());
    let make = || acm(|_slot: Slot<u8>| async { Err(Failure::leaf(Fragile(3))) });
    let mut all: Vec<_> = (0..4).map(|_| Probe::new(cache.open(1, make))).collect();
    for task in &mut all {
        task.waits();
    }
    service.waits();
    let told: Vec<_> = all
        .iter_mut()
        .map(|task| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.ends()))
                .map(|opened| opened.unwrap_err().into_leaf().unwrap().0)
                .ok()
        })
        .collect();
    assert_eq!(told.iter().filter(|it| **it == Some(3)).count(), 3);
    assert_eq!(told[0], Some(3), "the original is the opener's");
    cache.close();
    service.ends().unwrap();
}

/// Shared failures, and one of those who wait goes between the failure and its delivery to the others: the rest is told.
#[test]
fn a_shared_failure_survives_those_who_go() {
    let notes = Notes::new();
    let cache = heard_in(&notes).share_failures().build();
    let mut service = Probe::new(cache.serve());
    let gated = Gated::new(0).set_up_fails("e");
    let mut all: Vec<_> = (0..4).map(|_| open(&cache, "a", &gated)).collect();
    for task in &mut all {
        task.waits();
    }
    service.waits();
    gated.set_up.open();
    all[0].cut();
    service.waits();
    all[2].cut();
    for task in [1, 3] {
        assert_eq!(errors(&all[task].ends().unwrap_err()), ["e"]);
    }
    service.waits();
    // What was dropped unread was a copy: the failure itself has its hearer.
    assert!(notes.take().is_empty());
    drop(all);
    // With the opener gone, too, nobody has heard of it.
    let gated = Gated::new(0).set_up_fails("f");
    let mut all: Vec<_> = (0..2).map(|_| open(&cache, "a", &gated)).collect();
    for task in &mut all {
        task.waits();
    }
    gated.set_up.open();
    service.waits();
    all[1].cut();
    all[0].cut();
    service.waits();
    assert_eq!(notes.take(), ["f"]);
    drop(all);
    close(&cache, &mut service);
}

/// Go's singleflight: a set-up that panics is no result to be shared, also where failures are.
#[test]
fn a_panic_is_not_shared() {
    let cache = options().share_failures().build();
    let notes = Notes::new();
    served(&cache, async {
        let broken = Resource::new("a", &notes).set_up_panics("boom");
        let fine = Resource::new("a", &notes);
        let (first, second) = join!(
            common::panic_of(cache.open("a", move || broken.context())),
            cache.open("a", move || fine.context()),
        );
        assert_eq!(first.unwrap_err(), "boom");
        assert_eq!((*second.unwrap(), cache.statistics().failures), (2, 1));
    });
}

/// Effect's `RcMap`: the failure of the exit of an idle resource is not told to who opens the key next, who waits for it or comes
/// later.
#[test]
fn the_failure_of_an_idle_exit_is_nobodys_who_opens() {
    let notes = Notes::new();
    let cache = heard_in(&notes)
        .keep_alive(std::time::Duration::MAX)
        .build();
    let mut service = Probe::new(cache.serve());
    let broken = Gated::new(1).with_free_set_up().exit_fails("e");
    let mut first = open(&cache, "a", &broken);
    first.waits();
    service.waits();
    assert_eq!(
        Probe::new(first.ends().unwrap().close()).ends().unwrap(),
        LeaseEnd::KeptIdle
    );
    assert!(cache.invalidate(&"a"));
    service.waits();
    let fine = Gated::new(2).with_free_set_up().with_free_exit();
    let mut second = open(&cache, "a", &fine);
    second.waits();
    broken.exit.open();
    service.waits();
    assert_eq!(*second.ends().unwrap(), 2);
    assert_eq!(notes.take(), ["e"]);
    service.waits();
    close(&cache, &mut service);
}

/// bb8, deadpool: who is refused, for want of room or because it is over, is told of which cache and what, and keeps nothing.
#[test]
fn a_refusal_names_the_cache() {
    let cache = options().name("pool").capacity(1, WhenFull::Refuse).build();
    let mut service = Probe::new(cache.serve());
    let gated = Gated::new(1).with_free_set_up().with_free_exit();
    let mut first = open(&cache, "a", &gated);
    first.waits();
    service.waits();
    let lease = first.ends().unwrap();
    let full = open(&cache, "b", &gated).ends().unwrap_err();
    assert!(matches!(
        full.as_library(),
        Some(LibraryFailure::Full { .. })
    ));
    assert!(full.to_string().contains("`pool`"), "{full}");
    cache.close();
    cache.close();
    let closed = open(&cache, "b", &gated).ends().unwrap_err();
    assert!(matches!(
        closed.as_library(),
        Some(LibraryFailure::Closed { .. })
    ));
    assert!(closed.to_string().contains("`pool`"), "{closed}");
    assert_eq!(cache.statistics().opens, 1);
    drop(lease);
    service.ends().unwrap();
}

/// Go's singleflight: the function is called by one of many, and those that were not needed are dropped unused, before they wait
/// or at the latest with the open.
#[test]
fn what_was_not_needed_is_dropped_with_the_open() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let witness = Arc::new(());
    let opens: Vec<_> = (0..10)
        .map(|_| {
            let witness = Arc::clone(&witness);
            let make = move || {
                acm(move |slot: Slot<usize>| async move {
                    slot.provide(Arc::strong_count(&witness)).await;
                    Ok(())
                })
            };
            Probe::new(cache.open("a", make))
        })
        .collect();
    let mut opens = opens;
    for task in &mut opens {
        task.waits();
    }
    service.waits();
    let leases: Vec<_> = opens.iter_mut().map(|task| task.ends().unwrap()).collect();
    assert_eq!(Arc::strong_count(&witness), 2);
    drop((leases, opens));
    service.waits();
    assert_eq!(Arc::strong_count(&witness), 1);
    close(&cache, &mut service);
}

/// tractor's cache under load: each figure after each step in one life of a key.
#[test]
fn the_statistics_tell_each_step() {
    let cache = options()
        .keep_alive(std::time::Duration::MAX)
        .capacity(1, WhenFull::Wait)
        .build();
    let mut service = Probe::new(cache.serve());
    let gated = Gated::new(1);
    // Waiting, opening, in use, users, idle, leaving.
    let now = || {
        let it = cache.statistics();
        [
            it.waiting, it.opening, it.in_use, it.users, it.idle, it.leaving,
        ]
    };
    let counts = || {
        let it = cache.statistics();
        [it.hits, it.misses, it.opens, it.failures, it.teardowns]
    };
    let mut first = open(&cache, "a", &gated);
    let mut second = open(&cache, "a", &gated);
    let mut other = open(&cache, "b", &gated);
    assert_eq!(now(), [0; 6]);
    first.waits();
    second.waits();
    assert_eq!((now(), counts()), ([2, 1, 0, 0, 0, 0], [0; 5]));
    other.waits();
    assert_eq!(now(), [3, 2, 0, 0, 0, 0]);
    service.waits();
    assert_eq!(counts(), [0, 0, 1, 0, 0]);
    gated.set_up.open();
    service.waits();
    assert_eq!((now(), counts()), ([1, 1, 1, 2, 0, 0], [1, 1, 1, 0, 0]));
    let (first, second) = (first.ends().unwrap(), second.ends().unwrap());
    let third = cache.try_peek(&"a").unwrap();
    assert_eq!((now(), counts()), ([1, 1, 1, 3, 0, 0], [2, 1, 1, 0, 0]));
    drop((first, second));
    other.cut();
    assert_eq!(now(), [0, 0, 1, 1, 0, 0]);
    drop(third);
    assert_eq!(now(), [0, 0, 0, 0, 1, 0]);
    assert!(cache.try_peek(&"a").is_none());
    let again = open(&cache, "a", &gated).ends().unwrap();
    assert_eq!((now(), counts()), ([0, 0, 1, 1, 0, 0], [3, 1, 1, 0, 0]));
    assert!(cache.invalidate(&"a"));
    drop(again);
    assert_eq!(now(), [0, 0, 0, 0, 0, 1]);
    service.waits();
    gated.exit.open();
    service.waits();
    assert_eq!((now(), counts()), ([0; 6], [3, 1, 1, 0, 1]));
    close(&cache, &mut service);
}

/// A lease that is leaked is a use for ever: closing waits for it, and only a service that is cancelled with a grace for leases goes
/// on without it.
#[test]
fn a_leaked_lease_is_a_use_for_ever() {
    let cache = options()
        .lease_grace(std::time::Duration::from_secs(5))
        .build();
    let notes = Notes::new();
    testing::run(async {
        let resource = Resource::new("a", &notes);
        let (ended, ()) = join!(common::cancelled_after(1000, cache.serve()), async {
            let lease = cache.open("a", move || resource.context()).await.unwrap();
            mem::forget(lease);
            cache.close();
            seconds(100).await;
            assert_eq!((cache.len(), cache.statistics().users), (1, 1));
        });
        assert!(ended.is_none());
        assert_eq!((now(), cache.len()), (1006, 0));
    });
    assert_eq!(
        notes.take(),
        ["a sets up", "a exits: Completed", "a is gone"]
    );
}

/// async-once-cell: a wait that is leaked takes part, and strands neither the others nor the service's other keys.
#[test]
fn a_leaked_wait_strands_nobody_else() {
    let cache = Cache::new();
    let gated = Gated::new(1).with_free_exit();
    let mut service = Probe::new(cache.serve());
    let make = gated.clone();
    let mut leaked: Pin<Box<dyn Future<Output = Opened>>> =
        Box::pin(cache.open("a", move || make.context()));
    assert!((&mut leaked).now_or_never().is_none());
    mem::forget(leaked);
    let mut second = open(&cache, "a", &gated);
    second.waits();
    gated.set_up.open();
    service.waits();
    let second = second.ends().unwrap();
    assert_eq!((second.cache_hit(), second.users()), (true, 2));
    assert!(matches!(
        Probe::new(second.close()).ends().unwrap(),
        LeaseEnd::StillUsed { users: 1 }
    ));
    let mut other = open(&cache, "b", &gated);
    other.waits();
    service.waits();
    drop(other.ends().unwrap());
    service.waits();
    assert_eq!(cache.keys(), ["a"]);
}

/// tractor's re-entry tests: of ten that come during the exit one is the next opener, and the others share what it sets up.
#[test]
fn all_who_come_during_the_exit_share_the_next_one() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let (old, new) = (
        Gated::new(1).with_free_set_up(),
        Gated::new(2).with_free_set_up().with_free_exit(),
    );
    let mut first = open(&cache, "a", &old);
    first.waits();
    service.waits();
    drop(first.ends().unwrap());
    service.waits();
    let mut waiting: Vec<_> = (0..10).map(|_| open(&cache, "a", &new)).collect();
    for task in &mut waiting {
        task.waits();
    }
    service.waits();
    assert!(waiting.iter().all(|task| !task.is_woken()));
    old.exit.open();
    service.waits();
    let leases: Vec<_> = waiting
        .iter_mut()
        .map(|task| task.ends().unwrap())
        .collect();
    assert!(leases.iter().all(|lease| **lease == 2));
    let hits: Vec<_> = leases.iter().map(Lease::cache_hit).collect();
    assert_eq!(hits, [vec![false], vec![true; 9]].concat());
    assert_eq!(leases[0].users(), 10);
    drop(leases);
    service.waits();
    close(&cache, &mut service);
}

/// tractor's stress: a key that is opened and left a thousand times in a row has as many generations, told apart and each torn down.
#[test]
fn a_key_that_is_opened_and_left_again_and_again() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let gated = Gated::new(1).with_free_set_up().with_free_exit();
    let mut last = 0;
    for _ in 0..1000 {
        let mut opening = open(&cache, "a", &gated);
        opening.waits();
        service.waits();
        let lease = opening.ends().unwrap();
        assert!(!lease.cache_hit() && lease.generation() > last);
        last = lease.generation();
        let mut closing = Probe::new(lease.close());
        closing.waits();
        service.waits();
        assert_eq!(closing.ends().unwrap(), LeaseEnd::TornDown);
        assert!(cache.is_empty());
    }
    let seen = cache.statistics();
    assert_eq!(
        (seen.misses, seen.opens, seen.teardowns),
        (1000, 1000, 1000)
    );
    close(&cache, &mut service);
}

/// Users may leave in any order, the opener first, last or in between: the exit begins with the last one.
#[test]
fn users_leave_in_any_order() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        let cache = Cache::new();
        let mut service = Probe::new(cache.serve());
        let gated = Gated::new(1).with_free_set_up().with_free_exit();
        let mut opens: Vec<_> = (0..4).map(|_| open(&cache, "a", &gated)).collect();
        for task in &mut opens {
            task.waits();
        }
        service.waits();
        let mut leases: Vec<_> = opens
            .iter_mut()
            .map(|task| Some(task.ends().unwrap()))
            .collect();
        for (n_gone, index) in order.into_iter().enumerate() {
            assert_eq!(
                (cache.users(&"a"), cache.statistics().leaving),
                (4 - n_gone, 0)
            );
            leases[index] = None;
        }
        assert_eq!(cache.statistics().leaving, 1);
        service.waits();
        close(&cache, &mut service);
    }
}

/// A `close` that is dropped: unpolled it has left like a dropped lease, polled it lets the service hear of the exit.
#[test]
fn a_close_that_is_dropped_has_left() {
    for is_polled in [false, true] {
        let notes = Notes::new();
        let cache = heard_in(&notes).build();
        let mut service = Probe::new(cache.serve());
        let gated = Gated::new(1).with_free_set_up().exit_fails("e");
        let mut opening = open(&cache, "a", &gated);
        opening.waits();
        service.waits();
        let mut closing = Probe::new(opening.ends().unwrap().close());
        if is_polled {
            closing.waits();
        }
        assert_eq!(cache.statistics().users, usize::from(!is_polled));
        closing.cut();
        assert_eq!(cache.statistics().leaving, 1);
        gated.exit.open();
        service.waits();
        assert_eq!(notes.take(), ["e"]);
        close(&cache, &mut service);
    }
}

/// A slot through one life after the other: it hits what is in use, and nothing that is idle, given up, replaced, going or closed.
#[test]
fn a_slot_is_never_fooled() {
    let cache = options().keep_alive(std::time::Duration::MAX).build();
    let mut service = Probe::new(cache.serve());
    let gated = |value| Gated::new(value).with_free_set_up().with_free_exit();
    let mut slot = cache.slot("a");
    let mut other = slot.clone();
    assert!(slot.try_peek().is_none() && *slot.key() == "a");
    let mut opening = open(&cache, "a", &gated(1));
    opening.waits();
    service.waits();
    let first = opening.ends().unwrap();
    assert_eq!(
        (*slot.try_peek().unwrap(), *other.try_peek().unwrap()),
        (1, 1)
    );
    // Idle, it is no hit for a look, but one for an open.
    drop(first);
    assert!(slot.try_peek().is_none() && other.try_peek().is_none());
    let make = gated(9);
    let again = Probe::new(slot.open(move || make.context()))
        .ends()
        .unwrap();
    assert_eq!((*again, again.cache_hit()), (1, true));
    // Given up, while it is in use.
    assert!(cache.invalidate(&"a"));
    assert!(slot.try_peek().is_none() && other.try_peek().is_none());
    let mut opening = open(&cache, "a", &gated(2));
    opening.waits();
    service.waits();
    let second = opening.ends().unwrap();
    assert_eq!(
        (*slot.try_peek().unwrap(), *other.try_peek().unwrap()),
        (2, 2)
    );
    // Replaced, while it is in use.
    let make = gated(3);
    let mut refreshing = Probe::new(cache.refresh("a", move || make.context()));
    refreshing.waits();
    service.waits();
    assert_eq!(*slot.try_peek().unwrap(), 2);
    let third = refreshing.ends().unwrap();
    assert_eq!(
        (*slot.try_peek().unwrap(), *other.try_peek().unwrap()),
        (3, 3)
    );
    // What was left behind ends with its users.
    drop((again, second));
    service.waits();
    assert_eq!((cache.len(), *slot.try_peek().unwrap()), (1, 3));
    cache.close();
    assert!(slot.try_peek().is_none() && other.clone().try_peek().is_none());
    let make = gated(4);
    assert!(
        Probe::new(other.open(move || make.context()))
            .ends()
            .is_err()
    );
    drop((third, slot, other));
    service.ends().unwrap();
    // Each look that was a hit is counted once the slots are gone.
    let seen = cache.statistics();
    assert_eq!(
        (seen.misses, seen.hits, seen.opens),
        (3, 2 + 1 + 2 + 1 + 2 + 1, 3)
    );
}

/// A look during the unwinding of a set-up that nobody wants gives nothing at once, and hinders nobody.
#[test]
fn a_look_at_what_unwinds_gives_nothing() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let gate = Gate::new();
    let its = gate.clone();
    let mut opener = Probe::new(cache.open("a", move || {
        acm(move |_slot: Slot<usize>| async move {
            let inner = acm(move |slot: Slot<()>| async move {
                slot.provide(()).await;
                its.wait().await;
                Ok(())
            });
            trionics_gather::with_context(inner, async |()| {
                std::future::pending::<()>().await;
                Ok(())
            })
            .await
        })
    }));
    opener.waits();
    service.waits();
    opener.cut();
    service.waits();
    assert!(cache.has(&"a"));
    assert!(Probe::new(cache.peek(&"a")).ends().is_none());
    let mut second = open(
        &cache,
        "a",
        &Gated::new(2).with_free_set_up().with_free_exit(),
    );
    second.waits();
    service.waits();
    assert!(!second.is_woken());
    gate.open();
    service.waits();
    assert!(!second.ends().unwrap().cache_hit());
    service.waits();
    close(&cache, &mut service);
}

/// Under "restart", an opener that goes leaves nothing to who only looks, and the next real one begins anew.
#[test]
fn a_restart_is_not_for_who_only_looks() {
    for another_waits in [false, true] {
        let cache = options().restart_without_opener().build();
        let mut service = Probe::new(cache.serve());
        let gated = Gated::new(1).with_free_exit();
        let mut opener = open(&cache, "a", &gated);
        opener.waits();
        let mut looking = Probe::new(cache.peek(&"a"));
        looking.waits();
        let mut second = open(&cache, "a", &gated);
        if another_waits {
            second.waits();
        }
        service.waits();
        opener.cut();
        gated.set_up.open();
        service.waits();
        if another_waits {
            // The look may wait for the second try, but takes no part in it.
            let lease = second.ends().unwrap();
            assert!(!lease.cache_hit());
            drop(lease);
        }
        drop(looking.ends());
        service.waits();
        assert_eq!(cache.statistics().opens, 1 + u64::from(another_waits));
        assert!(cache.is_empty());
        close(&cache, &mut service);
    }
}

/// dashmap's and hashbrown's borrowed keys: a text finds an owned one, under a hasher of the caller's, and under one that tells no
/// key from another.
#[test]
fn keys_may_be_borrowed_and_hash_alike() {
    #[derive(Clone, Default)]
    struct Alike;
    impl std::hash::Hasher for Alike {
        fn finish(&self) -> u64 {
            7
        }
        fn write(&mut self, _bytes: &[u8]) {}
    }
    let cache = ContextCache::<String, usize, Word>::options()
        .hasher(std::hash::BuildHasherDefault::<Alike>::default())
        .build();
    let mut service = Probe::new(cache.serve());
    let mut opens: Vec<_> = (0..200)
        .map(|n| {
            let gated = Gated::new(n).with_free_set_up().with_free_exit();
            Probe::new(cache.open(n.to_string(), move || gated.context()))
        })
        .collect();
    for task in &mut opens {
        task.waits();
    }
    service.waits();
    let mut leases: Vec<_> = opens
        .iter_mut()
        .map(|task| Some(task.ends().unwrap()))
        .collect();
    for (n, lease) in leases.iter_mut().enumerate() {
        let key = n.to_string();
        let found = cache.try_peek(&*key).unwrap();
        assert_eq!((*found, found.key(), cache.users(&key)), (n, &key, 2));
        if n % 2 == 0 {
            assert!(cache.invalidate(&key) && cache.try_peek(&*key).is_none());
        }
        *lease = None;
    }
    drop(opens);
    service.waits();
    assert!(cache.is_empty());
    cache.close();
    service.ends().unwrap();
}

/// "Never lost": a handler that panics at one failure is still told the others, and its panic is the service's.
#[test]
fn a_handler_that_panics_is_told_the_rest() {
    let notes = Notes::new();
    let hears = notes.clone();
    let cache: Cache = options()
        .on_unheard_failure(move |failure| {
            hears.add(errors(&failure).concat());
            assert_ne!(errors(&failure), ["b"], "the handler panics");
        })
        .build();
    let mut service = Probe::new(cache.serve());
    let mut openers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|key| {
            let gated = Gated::new(0).with_free_set_up().set_up_fails(key);
            open(&cache, key, &gated)
        })
        .collect();
    for opener in &mut openers {
        opener.waits();
    }
    service.waits();
    drop(openers);
    assert!(service.panics().contains("the handler panics"));
    assert_eq!(notes.take(), ["a", "b", "c"]);
}
