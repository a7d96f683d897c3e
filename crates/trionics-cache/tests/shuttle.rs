//! Model checks: who comes against who leaves, against set-ups that fail, and against the end of the service.
//!
//! They run the production code on the model checker's locks and atomics, on random schedules:
//! `RUSTFLAGS="--cfg trionics_shuttle" cargo test -p trionics-cache --release --test shuttle`.
#![cfg(trionics_shuttle)]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use shuttle::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use trionics_cache::{ContextCache, Lease, LeaseEnd};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{AsyncContext, Slot, acm};

/// How many schedules each model explores, in each of two ways.
const SCHEDULES: usize = 3_000;

/// Explores `model` on random schedules, and on schedules with few preemptions at random places.
fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), SCHEDULES);
    shuttle::check_pct(model, SCHEDULES, 3);
}

/// Wakes a thread that waits in [`block_on`].
struct Unparker(thread::Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls when woken, and only then: a lost wake is a deadlock, which the checker reports.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparker(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

type Cache = ContextCache<u8, Live, &'static str>;

/// What is alive now, and how often something came alive.
#[derive(Default)]
struct Counts {
    alive: AtomicUsize,
    set_ups: AtomicUsize,
    teardowns: AtomicUsize,
}

/// A value that knows whether its resource is open.
struct Live(Arc<Counts>);

impl Live {
    fn check(&self) {
        assert_eq!(
            self.0.alive.load(Ordering::SeqCst),
            1,
            "used after its exit"
        );
    }
}

/// A resource of which no two may be alive at once; its first `n_failures` set-ups fail.
fn resource(counts: &Arc<Counts>, n_failures: usize) -> impl FnOnce() -> Resource + Send + 'static {
    let counts = Arc::clone(counts);
    move || Resource { counts, n_failures }
}

struct Resource {
    counts: Arc<Counts>,
    n_failures: usize,
}

impl AsyncContext for Resource {
    type Value = Live;
    type Error = &'static str;
    type Run = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure<&'static str>>> + Send>>;

    fn run(self, slot: Slot<Live>) -> Self::Run {
        Box::pin(async move {
            let Self { counts, n_failures } = self;
            if counts.set_ups.fetch_add(1, Ordering::SeqCst) < n_failures {
                return Err(Failure::leaf("refused"));
            }
            assert_eq!(
                counts.alive.fetch_add(1, Ordering::SeqCst),
                0,
                "two are alive"
            );
            slot.provide(Live(Arc::clone(&counts))).await;
            assert_eq!(counts.alive.fetch_sub(1, Ordering::SeqCst), 1);
            counts.teardowns.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

type Opened = Result<Lease<u8, Live, &'static str>, Failure<&'static str>>;

fn open(cache: &Cache, counts: &Arc<Counts>, n_failures: usize) -> Opened {
    block_on(cache.open(1, resource(counts, n_failures)))
}

fn is_closed(opened: &Opened) -> bool {
    opened
        .as_ref()
        .is_err_and(|failure| matches!(failure.as_library(), Some(LibraryFailure::Closed { .. })))
}

/// Who comes while the last one leaves has a hit or a fresh miss, and never a value on its way out.
#[test]
fn open_against_last_leave() {
    for closes in [false, true] {
        explore(move || {
            let (cache, counts) = (Cache::new(), Arc::new(Counts::default()));
            let service = thread::spawn({
                let service = cache.serve();
                move || block_on(service)
            });
            let users = [(); 2].map(|()| {
                let (cache, counts) = (cache.clone(), Arc::clone(&counts));
                thread::spawn(move || {
                    let lease = open(&cache, &counts, 0).unwrap();
                    lease.check();
                    if closes {
                        let generation = lease.generation();
                        let end = block_on(lease.close()).unwrap();
                        assert!(generation > 0 && end != LeaseEnd::KeptIdle);
                    }
                })
            });
            for user in users {
                user.join().unwrap();
            }
            cache.close();
            service.join().unwrap().unwrap();
            let n_set_ups = counts.set_ups.load(Ordering::SeqCst);
            assert!(cache.is_empty() && (1..=2).contains(&n_set_ups));
            assert_eq!(counts.teardowns.load(Ordering::SeqCst), n_set_ups);
        });
    }
}

/// A set-up fails while another one comes: one is told, and the other has a set-up of its own.
#[test]
fn open_against_failed_set_up() {
    explore(|| {
        let (cache, counts) = (Cache::new(), Arc::new(Counts::default()));
        let service = thread::spawn({
            let service = cache.serve();
            move || block_on(service)
        });
        let users = [(); 2].map(|()| {
            let (cache, counts) = (cache.clone(), Arc::clone(&counts));
            thread::spawn(move || match open(&cache, &counts, 1) {
                Ok(lease) => {
                    lease.check();
                    0
                }
                Err(failure) => {
                    assert_eq!(failure.to_string(), "refused");
                    1
                }
            })
        });
        let n_failed: usize = users.map(|user| user.join().unwrap()).iter().sum();
        assert_eq!(n_failed, 1);
        cache.close();
        service.join().unwrap().unwrap();
        assert_eq!(counts.set_ups.load(Ordering::SeqCst), 2);
        assert_eq!(counts.teardowns.load(Ordering::SeqCst), 1);
    });
}

/// The cache closes while one comes and goes: it is refused, or served to the end of the exit.
#[test]
fn close_against_the_end_of_the_service() {
    explore(|| {
        let (cache, counts) = (Cache::new(), Arc::new(Counts::default()));
        let service = thread::spawn({
            let service = cache.serve();
            move || block_on(service)
        });
        let user = thread::spawn({
            let (cache, counts) = (cache.clone(), Arc::clone(&counts));
            move || {
                let opened = open(&cache, &counts, 0);
                if is_closed(&opened) {
                    return;
                }
                let lease = opened.unwrap();
                lease.check();
                assert_eq!(block_on(lease.close()).unwrap(), LeaseEnd::TornDown);
                assert_eq!(counts.alive.load(Ordering::SeqCst), 0);
            }
        });
        cache.close();
        user.join().unwrap();
        service.join().unwrap().unwrap();
        let n_set_ups = counts.set_ups.load(Ordering::SeqCst);
        assert_eq!(counts.teardowns.load(Ordering::SeqCst), n_set_ups);
        assert!(cache.is_empty());
    });
}

/// The service is dropped while one comes and goes: nobody is left waiting, nothing is left alive.
#[test]
fn use_against_a_dropped_service() {
    explore(|| {
        let (cache, counts) = (Cache::new(), Arc::new(Counts::default()));
        let mut service = Box::pin(cache.serve());
        let user = thread::spawn({
            let (cache, counts) = (cache.clone(), Arc::clone(&counts));
            move || {
                if let Ok(lease) = open(&cache, &counts, 0) {
                    let _end = block_on(lease.close()).unwrap();
                }
            }
        });
        for _ in 0..2 {
            let _pending = service
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(service);
        user.join().unwrap();
        assert!(cache.is_empty());
    });
}

/// A slot that is used while its key is given up has the old value or a new one, of a live resource.
#[test]
fn a_slot_against_giving_up() {
    explore(|| {
        let cache: ContextCache<u8, Arc<AtomicUsize>, &'static str> = ContextCache::new();
        let make = || {
            || {
                acm(|slot: Slot<Arc<AtomicUsize>>| async move {
                    let alive = Arc::new(AtomicUsize::new(1));
                    slot.provide(Arc::clone(&alive)).await;
                    alive.store(0, Ordering::SeqCst);
                    Ok(())
                })
            }
        };
        let service = thread::spawn({
            let service = cache.serve();
            move || block_on(service)
        });
        let first = block_on(cache.open(1, make())).unwrap();
        let user = thread::spawn({
            let mut slot = cache.slot(1);
            move || {
                for _ in 0..2 {
                    let lease = block_on(slot.open(make())).unwrap();
                    assert_eq!(lease.load(Ordering::SeqCst), 1);
                }
            }
        });
        assert!(cache.invalidate(&1));
        drop(first);
        user.join().unwrap();
        cache.close();
        service.join().unwrap().unwrap();
        assert!(cache.is_empty());
    });
}
