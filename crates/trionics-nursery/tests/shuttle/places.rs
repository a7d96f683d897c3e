//! Frames that change their place, or are polled elsewhere than where they belong.

use std::{
    future::{Future as _, pending, poll_fn},
    sync::Arc,
    task::Poll,
};

use shuttle::sync::Mutex;
use trionics_nursery::{CancelScope, Nursery, anchor, in_current_scope, open_nursery, shield};

use crate::tools::{Count, Gate, Threads, block_on, explore, patiently, poll_once, with_exit};

/// The host of an anchored frame is cancelled, alone or together with the guest's home: the guest's exit runs.
#[test]
fn a_host_and_the_home_of_its_guest_are_cancelled() {
    explore(|| {
        let (home, host) = (CancelScope::new(), CancelScope::new());
        let (threads, gate, exits) = (Threads::new(), Gate::new(), Count::new());
        for scope in [&home, &host] {
            let scope = scope.clone();
            threads.run(move || {
                scope.cancel("on another thread");
            });
        }
        threads.run({
            let gate = gate.clone();
            move || gate.open()
        });
        let outcome = patiently(home.run(async {
            let mut guest = Box::pin(anchor(with_exit(gate.wait(), exits.clone())));
            let _ = host.run(guest.as_mut()).await;
            guest.await;
        }));
        assert!(outcome.is_err() && home.is_caught());
        assert_eq!(exits.get(), 1);
        threads.join();
    });
}

/// The guest's host is a child on another thread.
#[test]
fn a_guest_on_another_thread_unwinds_before_its_home_ends() {
    explore(|| {
        let (threads, gate, exits) = (Threads::new(), Gate::new(), Count::new());
        let home = CancelScope::new();
        let outcome = patiently(home.run(open_nursery(async |n: Nursery<'static, ()>| {
            let guest = anchor(with_exit(gate.wait(), exits.clone()));
            let host = CancelScope::new();
            threads.run({
                let gate = gate.clone();
                move || gate.open()
            });
            for scope in [home.clone(), host.clone()] {
                threads.run(move || {
                    scope.cancel("on another thread");
                });
            }
            // The guest goes to the child's body, and stays there when the host is cancelled alone.
            n.start_soon_on(&threads, async move {
                let mut guest = Box::pin(guest);
                let _ = host.run(guest.as_mut()).await;
                guest.await;
                Ok(())
            });
            pending::<Result<(), _>>().await
        })));
        assert!(outcome.is_err());
        assert_eq!(exits.get(), 1);
        threads.join();
    });
}

/// A future that carries its scope to a thread is stopped with it, also when the scope has ended by then.
#[test]
fn a_carried_future_stays_cancelled_while_its_scope_ends() {
    explore(|| {
        let (threads, scope) = (Threads::new(), CancelScope::new());
        let outcome = patiently(scope.run(async {
            let carried = in_current_scope(pending::<()>());
            threads.run(move || assert!(block_on(carried).is_err()));
            scope.cancel("enough");
            pending::<()>().await
        }));
        assert!(outcome.is_err());
        threads.join();
    });
}

/// A scope that waits hears that what was inside has moved away.
#[test]
fn a_frame_moves_away_from_a_scope_that_waits() {
    explore(|| {
        let (threads, old, new) = (Threads::new(), CancelScope::new(), CancelScope::new());
        let (gate, polled, exits) = (Gate::new(), Gate::new(), Count::new());
        let work = Arc::new(Mutex::new(Box::pin(shield({
            let (waits, exits) = (gate.wait(), exits.clone());
            async move {
                waits.await;
                exits.add();
            }
        }))));
        for scope in [&old, &new] {
            let scope = scope.clone();
            threads.run(move || {
                scope.cancel("on another thread");
            });
        }
        threads.run({
            let (work, polled) = (Arc::clone(&work), polled.clone());
            move || {
                block_on(polled.wait());
                gate.open();
                let mut is_over = false;
                let _ = patiently(new.run(poll_fn(|cx| {
                    let polled = work.lock().unwrap().as_mut().poll(cx);
                    is_over = polled.is_ready();
                    polled
                })));
                assert!(is_over);
            }
        });
        let outcome = patiently(old.run(async {
            poll_fn(|cx| {
                assert!(work.lock().unwrap().as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            polled.open();
            pending::<()>().await
        }));
        assert!(outcome.is_err());
        threads.join();
        assert_eq!(exits.get(), 1);
    });
}

/// The work is polled in one scope and then on another thread, in another scope, while both are cancelled.
#[test]
fn a_frame_moves_to_another_thread() {
    explore(|| {
        let (threads, old, new) = (Threads::new(), CancelScope::new(), CancelScope::new());
        let (gate, exits) = (Gate::new(), Count::new());
        for scope in [&old, &new] {
            let scope = scope.clone();
            threads.run(move || {
                scope.cancel("on another thread");
            });
        }
        threads.run({
            let gate = gate.clone();
            move || gate.open()
        });
        let outcome = patiently(old.run(async {
            let (waits, counted) = (gate.wait(), exits.clone());
            let mut work = Box::pin(shield(async move {
                waits.await;
                counted.add();
            }));
            let _ = poll_once(work.as_mut());
            if exits.get() == 0 {
                let new = new.clone();
                threads.run(move || drop(patiently(new.run(work))));
            }
            pending::<()>().await
        }));
        assert!(outcome.is_err());
        threads.join();
        assert_eq!(exits.get(), 1);
    });
}

/// A frame parks on one thread while the scope that it belongs to ends on another: nobody waits for it.
#[test]
fn a_guest_parks_while_its_home_ends() {
    explore(|| {
        let (threads, outer) = (Threads::new(), CancelScope::new());
        let parked = Gate::new();
        outer.cancel("from the beginning");
        let outcome = patiently(outer.run(async {
            let home = CancelScope::new();
            let _ = home
                .run(async {
                    let guest = anchor(pending::<()>());
                    let parked = parked.clone();
                    threads.run(move || {
                        let host = CancelScope::new();
                        host.cancel("from the beginning");
                        let mut guest = Box::pin(guest);
                        let mut run = Box::pin(host.run(poll_fn(|cx| {
                            assert!(guest.as_mut().poll(cx).is_pending());
                            // The host goes, and its guest is kept.
                            Poll::Ready(())
                        })));
                        assert!(poll_once(run.as_mut()).is_ready());
                        drop(run);
                        block_on(parked.wait());
                        drop(guest);
                    });
                })
                .await;
            pending::<()>().await
        }));
        assert!(outcome.is_err());
        parked.open();
        threads.join();
    });
}
