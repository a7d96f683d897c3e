//! Deadlines that are moved, passed and asked about from other threads while the scope is polled.

use std::time::Duration;

use shuttle::thread;
use trionics_nursery::{CancelScope, Clock as _, testing::VirtualClock, with_clock};

use crate::tools::{block_on, explore};

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
