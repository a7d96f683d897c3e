//! What becomes of a cache when the program's own code panics, calls back into it, or comes from other threads.

mod common;

use std::{
    fmt,
    hash::{Hash, Hasher},
    panic::panic_any,
    sync::{
        Arc, Barrier, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    thread,
    time::Duration,
};

use common::{Cache, Notes, Word, errors, seconds};
use futures::{FutureExt as _, executor::block_on, join};
use testkit::{Gate, OnDrop, Probe, pause};
use trionics_cache::{ContextCache, LeaseEnd, WhenFull, maybe_open_context};
use trionics_errgroup::Failure;
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{Nursery, checkpoint, open_nursery, testing};

fn at_once<T: Send + Sync + 'static>(
    value: T,
) -> impl AsyncContext<Value = T, Error = Word, Run: Send + 'static> {
    acm(move |slot: Slot<T>| async move {
        slot.provide(value).await;
        Ok(())
    })
}

/// What a [`Key`] does in one of its functions.
type Act = Arc<dyn Fn() + Send + Sync>;

/// A key whose functions do something, each when it is told to.
struct Key {
    number: u8,
    acts: Arc<Acts>,
}

#[derive(Default)]
struct Acts {
    hash: Mutex<Option<Act>>,
    eq: Mutex<Option<Act>>,
    clone: Mutex<Option<Act>>,
    debug: Mutex<Option<Act>>,
    drop: Mutex<Option<Act>>,
    n_alive: AtomicUsize,
}

impl Acts {
    fn run(act: &Mutex<Option<Act>>) {
        let act = act.lock().unwrap().clone();
        if let Some(act) = act {
            act();
        }
    }

    fn forget(&self) {
        for act in [&self.hash, &self.eq, &self.clone, &self.debug, &self.drop] {
            drop(act.lock().unwrap().take());
        }
    }
}

impl Key {
    fn new(number: u8, acts: &Arc<Acts>) -> Self {
        acts.n_alive.fetch_add(1, Ordering::SeqCst);
        Self {
            number,
            acts: Arc::clone(acts),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Acts::run(&self.acts.hash);
        // All in one bucket, so that `Eq` is asked.
        state.write_u8(0);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Acts::run(&self.acts.eq);
        self.number == other.number
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        Acts::run(&self.acts.clone);
        Self::new(self.number, &self.acts)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Acts::run(&self.acts.debug);
        write!(f, "{}", self.number)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.acts.n_alive.fetch_sub(1, Ordering::SeqCst);
        Acts::run(&self.acts.drop);
    }
}

type KeyCache = ContextCache<Key, usize, Word>;

/// Everything that can be done with a key, each on its own; gives what panicked.
fn do_everything(
    cache: &KeyCache,
    service: &mut Probe<'_, Result<(), Failure<Word>>>,
    acts: &Arc<Acts>,
) {
    let key = |number| Key::new(number, acts);
    let attempt = |act: &mut dyn FnMut()| {
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)));
    };
    for number in [1, 2] {
        for _ in 0..2 {
            attempt(&mut || {
                let mut opening = Probe::new(cache.open(key(number), || at_once(5)));
                if opening.settle().is_pending() {
                    service.waits();
                    drop(opening.ends());
                }
            });
        }
        attempt(&mut || drop(cache.peek(&key(number)).now_or_never()));
        attempt(&mut || drop(cache.try_peek(&key(number))));
        attempt(&mut || drop(cache.keys()));
        attempt(&mut || {
            let _known = cache.has(&key(number));
        });
        attempt(&mut || {
            let _known = cache.users(&key(number));
        });
        attempt(&mut || {
            let _known = cache.touch(&key(number));
        });
        attempt(&mut || {
            let mut slot = cache.slot(key(number));
            drop(slot.try_peek());
            drop(slot.clone());
        });
        attempt(&mut || {
            let mut refreshing = Probe::new(cache.refresh(key(number), || at_once(6)));
            if refreshing.settle().is_pending() {
                service.waits();
                drop(refreshing.ends());
            }
        });
        attempt(&mut || {
            cache.invalidate(&key(number));
        });
    }
}

/// dashmap, moka: a key's `Hash`, `Eq`, `Clone` or `Debug` that panics costs the call in which it does, and leaves nothing locked,
/// counted or alive.
#[test]
fn a_key_that_panics_costs_one_call() {
    for which in 0..4 {
        for keeps in [Duration::ZERO, Duration::MAX] {
            let acts: Arc<Acts> = Arc::default();
            let cache: KeyCache = ContextCache::options().keep_alive(keeps).build();
            let mut service = Probe::new(cache.serve());
            // Idle or in use, there is something to compare with.
            let mut first = Probe::new(cache.open(Key::new(1, &acts), || at_once(1)));
            first.waits();
            service.waits();
            let lease = first.ends().unwrap();
            let n_panics = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&n_panics);
            let act: Act = Arc::new(move || {
                if !thread::panicking() {
                    counts.fetch_add(1, Ordering::SeqCst);
                    panic_any("a key panics");
                }
            });
            let acts_of = [&acts.hash, &acts.eq, &acts.clone, &acts.debug];
            *acts_of[which].lock().unwrap() = Some(act);
            do_everything(&cache, &mut service, &acts);
            // `Debug` is for messages only.
            assert_eq!(n_panics.load(Ordering::SeqCst) > 0, which != 3);
            acts.forget();
            drop((lease, first));
            cache.invalidate(&Key::new(1, &acts));
            cache.invalidate(&Key::new(2, &acts));
            service.waits();
            let mut last = Probe::new(cache.open(Key::new(1, &acts), || at_once(9)));
            last.waits();
            service.waits();
            assert_eq!(*last.ends().unwrap(), 9);
            drop(last);
            cache.close();
            service.ends().unwrap();
            let seen = cache.statistics();
            assert!(cache.is_empty());
            assert_eq!(
                (seen.users, seen.waiting, seen.opens),
                (0, 0, seen.teardowns)
            );
            drop((service, cache));
            assert_eq!(acts.n_alive.load(Ordering::SeqCst), 0, "{which}");
        }
    }
}

/// A key whose drop panics: in a call it is that call's panic; in the service it is the service's, and those who wait are told.
#[test]
fn a_key_whose_drop_panics_strands_nobody() {
    let acts: Arc<Acts> = Arc::default();
    let cache: KeyCache = ContextCache::new();
    let mut service = Probe::new(cache.serve());
    let mut first = Probe::new(cache.open(Key::new(1, &acts), || at_once(1)));
    first.waits();
    service.waits();
    let lease = first.ends().unwrap();
    *acts.drop.lock().unwrap() = Some(Arc::new(|| {
        if !thread::panicking() {
            panic_any("a key panics");
        }
    }));
    // The key of a hit is dropped at the end of its call.
    let mut hit = Probe::new(cache.open(Key::new(1, &acts), || at_once(2)));
    assert_eq!(hit.panics(), "a key panics");
    assert_eq!(lease.users(), 1);
    let mut waiting = Probe::new(cache.open(Key::new(2, &acts), || at_once(2)));
    drop(lease);
    assert_eq!(service.panics(), "a key panics");
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(
        || waiting.ends(),
    )));
    acts.forget();
    drop(service);
    assert!(cache.is_closed() && cache.is_empty());
    drop((first, hit, waiting));
    drop(cache);
    assert_eq!(acts.n_alive.load(Ordering::SeqCst), 0);
}

/// A key's `Hash`, `Clone`, `Debug` and `Drop` may use the cache they are in, as is said; only `Eq` may not.
#[test]
fn a_key_may_use_its_cache() {
    for which in [0, 2, 3, 4] {
        let acts: Arc<Acts> = Arc::default();
        let cache: KeyCache = ContextCache::options().keep_alive(Duration::MAX).build();
        let mut service = Probe::new(cache.serve());
        let is_inside = AtomicBool::new(false);
        let inside = cache.clone();
        let act: Act = Arc::new(move || {
            if !is_inside.swap(true, Ordering::SeqCst) {
                let n_keys = inside.keys().len();
                assert!(inside.len() >= n_keys);
                let _seen = (inside.statistics(), inside.is_closed());
                is_inside.store(false, Ordering::SeqCst);
            }
        });
        let acts_of = [&acts.hash, &acts.eq, &acts.clone, &acts.debug, &acts.drop];
        *acts_of[which].lock().unwrap() = Some(act);
        do_everything(&cache, &mut service, &acts);
        let own = cache.clone();
        let opens_itself = cache.open(Key::new(7, &acts), move || {
            acm(move |_slot: Slot<usize>| async move {
                let key = Key::new(7, &Arc::default());
                drop(own.open(key, || at_once(0)).await?);
                Ok(())
            })
        });
        let mut cycle = Probe::new(opens_itself);
        cycle.waits();
        service.waits();
        assert!(cycle.ends().unwrap_err().to_string().contains('7'));
        drop(cycle);
        cache.close();
        acts.forget();
        service.ends().unwrap();
    }
}

/// "Nothing stays locked": a value whose drop panics in `close`, with an exit that fails: both are heard, and the service ends.
#[test]
fn a_value_whose_drop_panics_hides_no_failure_of_its_exit() {
    struct Touchy;
    impl Drop for Touchy {
        fn drop(&mut self) {
            panic!("touchy");
        }
    }
    let notes = Notes::new();
    let hears = notes.clone();
    let cache: ContextCache<u8, Touchy, Word> = ContextCache::options()
        .on_unheard_failure(move |failure| hears.add(errors(&failure).concat()))
        .build();
    let mut service = Probe::new(cache.serve());
    let mut opening = Probe::new(cache.open(1, || {
        acm(|slot: Slot<Touchy>| async move {
            slot.provide(Touchy).await;
            Err(Failure::leaf("the exit fails"))
        })
    }));
    opening.waits();
    service.waits();
    let mut closing = Probe::new(opening.ends().unwrap().close());
    assert_eq!(closing.panics(), "touchy");
    drop(closing);
    service.waits();
    assert_eq!(notes.take(), ["the exit fails"]);
    cache.close();
    service.ends().unwrap();
    assert!(cache.is_empty());
}

/// Options whose functions panic: the idle time's costs its open, and what `make` or the context captured is dropped; nothing is left.
#[test]
fn an_option_that_panics_leaves_nothing() {
    let panics = Arc::new(AtomicBool::new(true));
    let also = Arc::clone(&panics);
    let cache: Cache = ContextCache::options()
        .keep_alive_by(move |_key| {
            assert!(!also.load(Ordering::SeqCst), "no idle time");
            Duration::ZERO
        })
        .build();
    let mut service = Probe::new(cache.serve());
    let witness = Arc::new(());
    let captured = Arc::clone(&witness);
    let mut opening = Probe::new(cache.open("a", move || at_once(Arc::strong_count(&captured))));
    assert_eq!(opening.panics(), "no idle time");
    drop(opening);
    assert!(cache.is_empty() && Arc::strong_count(&witness) == 1);
    panics.store(false, Ordering::SeqCst);
    let mut opening = Probe::new(cache.open("a", || at_once(3)));
    opening.waits();
    service.waits();
    assert_eq!(*opening.ends().unwrap(), 3);
    drop(opening);
    cache.close();
    service.ends().unwrap();
}

/// A handler may use the cache; one that panics is the service's panic, and those who wait are told.
#[test]
fn a_handler_may_use_the_cache_and_may_panic() {
    for panics in [false, true] {
        let inside: Arc<Mutex<Option<Cache>>> = Arc::default();
        let its = Arc::clone(&inside);
        let cache: Cache = ContextCache::options()
            .on_unheard_failure(move |_failure| {
                let cache = its.lock().unwrap().clone().unwrap();
                drop(cache.open("b", || at_once(1)).now_or_never());
                assert!(!cache.is_closed() && cache.statistics().failures == 1);
                assert!(!panics, "the handler panics");
            })
            .build();
        *inside.lock().unwrap() = Some(cache.clone());
        let mut service = Probe::new(cache.serve());
        let failing = || acm(|_slot: Slot<usize>| async { Err(Failure::leaf("e")) });
        let mut opening = Probe::new(cache.open("a", failing));
        opening.waits();
        service.waits();
        opening.cut();
        let mut other = Probe::new(cache.open("c", || at_once(1)));
        if panics {
            assert_eq!(service.panics(), "the handler panics");
            drop(service);
            assert!(other.ends().is_err());
        } else {
            other.waits();
            service.waits();
            drop(other.ends().unwrap());
            cache.close();
            service.ends().unwrap();
        }
        inside.lock().unwrap().take();
        assert!(cache.is_empty());
    }
}

/// What does something when it is woken.
struct Waking(Box<dyn Fn() + Send + Sync>);

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// tokio's wake-within-poll tests: a waker that uses the cache, polls the open that it is woken for, or panics, harms nobody else.
#[test]
fn a_waker_may_do_anything() {
    let (cache, gate) = (Cache::new(), Gate::new());
    let make = |gate: Gate| {
        move || {
            acm(move |slot: Slot<usize>| async move {
                gate.wait().await;
                slot.provide(1).await;
                Ok(())
            })
        }
    };
    let mut service = Probe::new(cache.serve());
    let opening: Arc<Mutex<Option<_>>> = Arc::default();
    let polled = Arc::downgrade(&opening);
    let owned = cache.clone();
    let (first_make, second_make) = (make(gate.clone()), make(gate.clone()));
    let first = async move { owned.open("a", first_make).await.map(|lease| *lease) };
    *opening.lock().unwrap() = Some(first.boxed());
    let result = Arc::new(Mutex::new(None));
    let (results, looks) = (Arc::clone(&result), cache.clone());
    let polls_inside = Waker::from(Arc::new(Waking(Box::new(move || {
        assert_eq!(looks.len(), 1);
        let opening: Option<Arc<Mutex<Option<futures::future::BoxFuture<'static, _>>>>> =
            Weak::upgrade(&polled);
        if let Some(mut future) = opening.and_then(|it| it.lock().unwrap().take()) {
            *results.lock().unwrap() = (&mut future).now_or_never();
        }
    }))));
    let panics = Waker::from(Arc::new(Waking(Box::new(|| panic!("a waker panics")))));
    {
        let mut slot = opening.lock().unwrap();
        let future = slot.as_mut().unwrap().as_mut();
        let mut context = std::task::Context::from_waker(&polls_inside);
        assert!(future.poll(&mut context).is_pending());
    }
    let mut second = Probe::new(cache.open("a", second_make));
    assert!(second.poll_with(&panics).is_pending());
    let mut third = Probe::new(cache.open("a", || at_once(2)));
    third.waits();
    service.waits();
    gate.open();
    // The panic of a waker is its executor's matter; here it comes out of the service, once its users have left.
    service.waits();
    assert_eq!(result.lock().unwrap().take().unwrap().unwrap(), 1);
    let lease = third.ends().unwrap();
    assert!(lease.is_detached() && cache.is_closed());
    drop((lease, second));
    assert_eq!(service.panics(), "a waker panics");
    drop(service);
    assert!(cache.is_empty());
}

/// Contexts that are dropped, unused or used, may use the cache: no lock is held.
#[test]
fn what_is_dropped_unused_may_use_the_cache() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let notes = Notes::new();
    let make = |value: usize| {
        let (inside, notes) = (cache.clone(), notes.clone());
        let on_drop = OnDrop::new(move || {
            // No handle is left behind that would keep the cache open.
            notes.add(format!("{} {}", inside.len(), inside.users(&"a")));
        });
        move || {
            acm(move |slot: Slot<usize>| async move {
                slot.provide(value).await;
                drop(on_drop);
                Ok(())
            })
        }
    };
    let mut first = Probe::new(cache.open("a", make(1)));
    let mut second = Probe::new(cache.open("a", make(2)));
    first.waits();
    second.waits();
    service.waits();
    let (first, second) = (first.ends().unwrap(), second.ends().unwrap());
    assert_eq!(notes.take(), ["1 2"]);
    let third = Probe::new(cache.open("a", make(3))).ends().unwrap();
    assert_eq!(notes.take(), ["1 3"]);
    drop(Probe::new(cache.open("a", make(4))));
    assert_eq!(notes.take(), ["1 3"]);
    drop((first, second, third));
    service.waits();
    assert_eq!(notes.take(), ["1 0"]);
    cache.close();
    service.ends().unwrap();
}

/// A set-up whose future panics while it is dropped, because nobody waits any more: the panic is the service's, which ends clean.
#[test]
fn a_set_up_that_panics_while_it_unwinds_is_heard() {
    let cache = Cache::new();
    let mut service = Probe::new(cache.serve());
    let mut opening = Probe::new(cache.open("a", || {
        acm(|_slot: Slot<usize>| async {
            let _guard = OnDrop::new(|| panic!("dropped in the set-up"));
            std::future::pending::<()>().await;
            Ok(())
        })
    }));
    let mut other = Probe::new(cache.open("b", || at_once(1)));
    opening.waits();
    other.waits();
    service.waits();
    let lease = other.ends().unwrap();
    opening.cut();
    service.waits();
    assert!(lease.is_detached() && cache.is_closed());
    drop(lease);
    assert_eq!(service.panics(), "dropped in the set-up");
    drop(service);
    assert!(cache.is_empty());
}

/// A value that holds a lease of another key of its cache: the other one outlives it, in whatever order users leave.
#[test]
fn a_value_may_hold_a_lease_of_its_own_cache() {
    struct Upper(#[allow(dead_code, reason = "is held")] Option<Box<dyn Send + Sync>>);
    let cache: ContextCache<u8, Upper, Word> = ContextCache::new();
    let notes = Notes::new();
    let noted = |name: Word, notes: &Notes| {
        let notes = notes.clone();
        move |below: Option<Box<dyn Send + Sync>>| {
            acm(move |slot: Slot<Upper>| async move {
                slot.provide(Upper(below)).await;
                notes.add(name);
                Ok::<_, Failure<Word>>(())
            })
        }
    };
    testing::run(async {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            let make = noted("lower", &notes);
            let lower = cache.open(1, move || make(None)).await?;
            let make = noted("upper", &notes);
            let upper = cache.open(2, move || make(Some(Box::new(lower)))).await?;
            assert_eq!((cache.users(&1), cache.users(&2)), (1, 1));
            assert_eq!(upper.close().await?, LeaseEnd::TornDown);
            cache.close();
            Ok(())
        })
        .await
        .unwrap();
    });
    let mut exits = notes.take();
    exits.sort_unstable();
    assert_eq!(exits, ["lower", "upper"]);
}

/// A set-up that is polled on another thread than its user, and a lease that is dropped on a third one, with the exit's failure.
#[test]
fn leases_may_be_left_on_any_thread() {
    let notes = Notes::new();
    let hears = notes.clone();
    let cache: Cache = ContextCache::options()
        .on_unheard_failure(move |failure| hears.add(errors(&failure).concat()))
        .build();
    let service = cache.serve();
    let serving = thread::spawn(move || block_on(service));
    let (sender, receiver) = std::sync::mpsc::channel();
    let leaving = thread::spawn(move || {
        let mut n_leases = 0;
        for lease in receiver {
            drop(lease);
            n_leases += 1;
        }
        n_leases
    });
    let failing = || {
        acm(|slot: Slot<usize>| async move {
            slot.provide(1).await;
            Err(Failure::leaf("e"))
        })
    };
    for _ in 0..300 {
        sender
            .send(block_on(cache.open("a", failing)).unwrap())
            .unwrap();
    }
    drop(sender);
    assert_eq!(leaving.join().unwrap(), 300);
    cache.close();
    serving.join().unwrap().unwrap();
    let seen = cache.statistics();
    assert_eq!((seen.opens, seen.opens), (seen.misses, seen.teardowns));
    assert_eq!(
        (notes.take().len() as u64, seen.hits + seen.misses),
        (seen.opens, 300)
    );
}

/// What becomes of the values of one cache.
#[derive(Default)]
struct Tally {
    n_set_ups: AtomicUsize,
    n_exits: AtomicUsize,
}

/// A value that knows whether its exit has begun.
struct Life {
    is_over: Arc<AtomicBool>,
}

fn life(tally: Arc<Tally>) -> impl AsyncContext<Value = Life, Error = Word, Run: Send + 'static> {
    acm(move |slot: Slot<Life>| async move {
        let is_over = Arc::new(AtomicBool::new(false));
        checkpoint().await;
        tally.n_set_ups.fetch_add(1, Ordering::SeqCst);
        let value = Life {
            is_over: Arc::clone(&is_over),
        };
        slot.provide(value).await;
        is_over.store(true, Ordering::SeqCst);
        checkpoint().await;
        tally.n_exits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })
}

/// moka's concurrency tests: threads that open, look, give up, refresh, touch and leave at random, under each policy: no value is
/// used after its exit has begun, each is torn down once, and the figures add up.
#[test]
fn everything_at_once_on_threads() {
    const N_THREADS: usize = 3;
    const N_TURNS: usize = 400;
    let options = [
        (Duration::ZERO, usize::MAX, WhenFull::Wait),
        (Duration::MAX, 2, WhenFull::EvictIdle),
        (Duration::MAX, 3, WhenFull::Refuse),
        (Duration::ZERO, 2, WhenFull::Wait),
    ];
    for (keep_alive, capacity, when_full) in options {
        let cache: ContextCache<usize, Life, Word> = ContextCache::options()
            .keep_alive(keep_alive)
            .capacity(capacity, when_full)
            .build();
        let (tally, barrier) = (Arc::<Tally>::default(), Barrier::new(N_THREADS));
        let n_leases = AtomicUsize::new(0);
        thread::scope(|threads| {
            let service = cache.serve();
            threads.spawn(move || block_on(service).unwrap());
            let users: Vec<_> = (0..N_THREADS)
                .map(|seed| {
                    let (cache, tally, barrier) = (&cache, &tally, &barrier);
                    let n_leases = &n_leases;
                    threads.spawn(move || {
                        let mut random = seed * 7919 + 13;
                        let mut slots = [0, 1, 2, 3].map(|key| cache.slot(key));
                        barrier.wait();
                        for _ in 0..N_TURNS {
                            random = random
                                .wrapping_mul(6_364_136_223_846_793_005)
                                .wrapping_add(1);
                            let (what, key) = ((random >> 40) % 10, (random >> 50) % 4);
                            let its = Arc::clone(tally);
                            let make = move || life(its);
                            let lease = match what {
                                0 | 1 => block_on(cache.open(key, make)).ok(),
                                2 => block_on(slots[key].open(make)).ok(),
                                3 => block_on(cache.peek(&key)),
                                4 => cache.try_peek(&key),
                                5 if when_full != WhenFull::Wait => {
                                    block_on(cache.refresh(key, make)).ok()
                                }
                                6 => {
                                    cache.invalidate(&key);
                                    None
                                }
                                7 => {
                                    cache.touch(&key);
                                    None
                                }
                                8 => {
                                    // Given up after a poll or two.
                                    let mut opening = Probe::new(cache.open(key, make));
                                    let _first = opening.poll().is_ready();
                                    None
                                }
                                _ => block_on(maybe_open_context(
                                    cache,
                                    key,
                                    make,
                                    async |_, life| {
                                        pause().await;
                                        assert!(!life.is_over.load(Ordering::SeqCst));
                                        n_leases.fetch_add(1, Ordering::SeqCst);
                                        Ok(())
                                    },
                                ))
                                .ok()
                                .and(None),
                            };
                            if let Some(lease) = lease {
                                n_leases.fetch_add(1, Ordering::SeqCst);
                                assert!(lease.users() >= 1 && *lease.key() == key);
                                thread::yield_now();
                                assert!(!lease.is_over.load(Ordering::SeqCst));
                                if random % 3 == 0 {
                                    block_on(lease.close()).unwrap();
                                }
                            }
                        }
                    })
                })
                .collect();
            for user in users {
                user.join().unwrap();
            }
            cache.close();
        });
        let (n_set_ups, n_exits) = (&tally.n_set_ups, &tally.n_exits);
        assert_eq!(
            n_set_ups.load(Ordering::SeqCst),
            n_exits.load(Ordering::SeqCst)
        );
        let seen = cache.statistics();
        assert_eq!(seen.teardowns as usize, n_exits.load(Ordering::SeqCst));
        assert!((seen.hits + seen.misses) as usize >= n_leases.load(Ordering::SeqCst));
        assert_eq!(
            (seen.failures, seen.users, seen.waiting, cache.len()),
            (0, 0, 0, 0)
        );
    }
}

/// A program that closes the cache from inside: in a set-up, in an exit, in a user's block; each goes on to its end.
#[test]
fn a_cache_may_be_closed_from_inside() {
    for where_ in ["set-up", "block", "exit"] {
        let cache = Cache::new();
        testing::run(async {
            let closes = |now: Word| {
                if now == where_ {
                    cache.close();
                }
            };
            let inside = cache.clone();
            let make = move || {
                acm(move |slot: Slot<usize>| async move {
                    if where_ == "set-up" {
                        inside.close();
                    }
                    seconds(1).await;
                    slot.provide(1).await;
                    if where_ == "exit" {
                        inside.close();
                    }
                    seconds(1).await;
                    Ok(())
                })
            };
            let (served, used) = join!(
                cache.serve(),
                maybe_open_context(&cache, "a", make, async |_hit, value| {
                    closes("block");
                    seconds(1).await;
                    Ok(*value)
                })
            );
            served.unwrap();
            assert_eq!((used.unwrap(), common::now()), (1, 3));
            let refused = cache.open("b", || at_once(2)).await;
            assert!(refused.is_err() && cache.is_empty());
        });
    }
}

/// "Each set-up that succeeded is torn down exactly once": a value whose drop panics when nobody uses it any more, because its idle
/// time is over, it is given up, it makes room, or the cache or its service ends: its exit runs, whoever gets the panic, and no
/// place in a queue is lost.
#[test]
fn an_idle_value_whose_drop_panics_is_torn_down() {
    struct Touchy(bool);
    impl Drop for Touchy {
        fn drop(&mut self) {
            assert!(!self.0 || thread::panicking(), "touchy");
        }
    }
    for way in ["time", "invalidate", "room", "close", "cancel", "refresh"] {
        let notes = Notes::new();
        let idle = if way == "time" { 5 } else { 1_000_000 };
        let cache: ContextCache<u8, Touchy, Word> = ContextCache::options()
            .keep_alive(Duration::from_secs(idle))
            .capacity(if way == "room" { 1 } else { 9 }, WhenFull::EvictIdle)
            .build();
        let make = |touchy| {
            let notes = notes.clone();
            move || {
                acm(move |slot: Slot<Touchy>| async move {
                    slot.provide(Touchy(touchy)).await;
                    checkpoint().await;
                    notes.add("exit");
                    Ok(())
                })
            }
        };
        let ended = testing::run(common::panic_of(async {
            let service = common::cancelled_after(10, cache.serve());
            let (_ended, ()) = join!(service, async {
                drop(cache.open(1, make(true)).await.unwrap());
                seconds(1).await;
                let attempt = async {
                    match way {
                        "invalidate" => drop(cache.invalidate(&1)),
                        "room" => drop(cache.open(2, make(false)).await),
                        "close" => cache.close(),
                        "refresh" => drop(cache.refresh(1, make(false)).await),
                        _ => {}
                    }
                };
                let attempted = common::panic_of(attempt).await;
                let is_callers = matches!(way, "invalidate" | "close" | "refresh");
                assert_eq!(attempted.is_err(), is_callers, "{way}");
                seconds(20).await;
            });
        }));
        let is_services = matches!(way, "time" | "room" | "cancel");
        assert_eq!(ended.is_err(), is_services, "{way}");
        assert!(ended.err().is_none_or(|text| text == "touchy"));
        let n_exits = notes.take().len() as u64;
        let seen = cache.statistics();
        assert_eq!((cache.len(), seen.users, seen.waiting), (0, 0, 0), "{way}");
        assert_eq!((n_exits, n_exits), (seen.misses, seen.teardowns), "{way}");
        assert!(n_exits >= 1, "{way}");
    }
}
