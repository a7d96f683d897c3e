//! Model checks: the races between threads that the tree and a nursery's children live with.
//!
//! They run the production code on the model checker's locks and atomics, on random schedules:
//! `RUSTFLAGS="--cfg trionics_shuttle" cargo test -p trionics-nursery --release --test shuttle`.
#![cfg(trionics_shuttle)]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use trionics_nursery::{
    CancelScope, Clock as _, Nursery, open_nursery, testing::VirtualClock, with_clock,
};

/// How many schedules each model explores.
const SCHEDULES: usize = 20_000;

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

/// Ends once it was opened, from whichever thread.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let gate = Arc::clone(self);
        poll_fn(move |cx| {
            let replaced = gate.waker.lock().unwrap().replace(cx.waker().clone());
            drop(replaced);
            if gate.open.load(Ordering::SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }
}

#[test]
fn a_wake_during_a_poll_is_not_lost() {
    explore(|| {
        let gates = [Gate::new(), Gate::new()];
        let openers = gates.clone().map(|gate| thread::spawn(move || gate.open()));
        let outcome = block_on(open_nursery(async |n: Nursery<'_, ()>| {
            for gate in &gates {
                n.start_soon(async { Ok(gate.wait().await) });
            }
            Ok(())
        }));
        assert!(outcome.is_ok());
        for opener in openers {
            opener.join().unwrap();
        }
    });
}

const SECOND: Duration = Duration::from_secs(1);

/// Runs a scope with a deadline far away, while `meddle` runs on other threads; it has to end.
fn run_timed(meddle: impl FnOnce(CancelScope, VirtualClock) -> Vec<thread::JoinHandle<()>>) {
    let (scope, clock) = (CancelScope::new(), VirtualClock::new());
    scope.set_deadline(clock.now() + 1000 * SECOND);
    let meddlers = meddle(scope.clone(), clock.clone());
    let run = scope.run(std::future::pending::<()>());
    assert!(block_on(with_clock(clock, run)).is_err());
    assert!(scope.is_caught());
    for meddler in meddlers {
        meddler.join().unwrap();
    }
}

#[test]
fn a_deadline_that_is_moved_into_the_past_during_a_poll_is_not_lost() {
    explore(|| {
        run_timed(|scope, clock| {
            let now = clock.now();
            vec![thread::spawn(move || scope.set_deadline(now))]
        });
    });
}

#[test]
fn a_deadline_that_is_moved_nearer_during_a_poll_gets_its_timer() {
    explore(|| {
        run_timed(|scope, clock| {
            vec![thread::spawn(move || {
                scope.set_deadline(clock.now() + SECOND);
                clock.advance(SECOND);
            })]
        });
    });
}

#[test]
fn of_deadlines_that_are_moved_at_once_the_last_one_counts() {
    explore(|| {
        run_timed(|scope, clock| {
            let start = clock.now();
            let movers = [20, 5].map(|seconds| {
                let scope = scope.clone();
                thread::spawn(move || {
                    scope.set_deadline(start + seconds * SECOND);
                    scope.clear_deadline();
                })
            });
            vec![thread::spawn(move || {
                for mover in movers {
                    mover.join().unwrap();
                }
                scope.set_deadline(start + 10 * SECOND);
                clock.advance(10 * SECOND);
            })]
        });
    });
}

#[test]
fn whoever_asks_after_a_deadline_cancels_the_scope_once() {
    explore(|| {
        run_timed(|scope, clock| {
            scope.set_deadline(clock.now() + SECOND);
            let asked = scope.clone();
            vec![
                thread::spawn(move || clock.advance(SECOND)),
                thread::spawn(move || {
                    if asked.is_cancelled() {
                        asked.set_timeout(1000 * SECOND);
                        assert!(asked.is_cancelled());
                    }
                }),
            ]
        });
    });
}
