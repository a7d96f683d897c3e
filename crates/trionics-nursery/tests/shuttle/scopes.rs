//! Cancellations from other threads against completions, strikes, parking and the ends of scopes.

use std::future::pending;

use trionics_nursery::{
    CancelScope, Nursery, cancel_requested, checkpoint, is_cancel_requested, open_nursery, shield,
};

use crate::tools::{Count, Gate, Threads, block_on, explore, patiently, poll_once, with_exit};

fn cancel_on(threads: &Threads, scope: &CancelScope) {
    let scope = scope.clone();
    threads.run(move || {
        scope.cancel("on another thread");
    });
}

fn open_on(threads: &Threads, gate: &std::sync::Arc<Gate>) {
    let gate = gate.clone();
    threads.run(move || gate.open());
}

/// The value or the cancellation, and `is_caught` agrees.
#[test]
fn a_cancellation_meets_a_completion() {
    explore(|| {
        let (scope, gate, threads) = (CancelScope::new(), Gate::new(), Threads::new());
        cancel_on(&threads, &scope);
        open_on(&threads, &gate);
        let outcome = block_on(scope.run(gate.wait()));
        assert_eq!(scope.is_caught(), outcome.is_err());
        assert!(outcome.is_ok() || scope.is_cancelled());
        threads.join();
        assert_eq!(scope.is_caught(), outcome.is_err());
        assert!(scope.is_cancelled());
    });
}

/// Nothing but the cancellation can end it.
#[test]
fn a_cancellation_meets_the_first_poll() {
    explore(|| {
        let (scope, threads) = (CancelScope::new(), Threads::new());
        cancel_on(&threads, &scope);
        cancel_on(&threads, &scope);
        let outcome = block_on(scope.run(pending::<()>()));
        assert_eq!(
            outcome.unwrap_err().reason().to_string(),
            "on another thread"
        );
        threads.join();
    });
}

/// Whoever has called `cancel` is stopped at the next await, also if another thread was first and is not through.
#[test]
fn who_cancels_second_is_stopped_at_once() {
    explore(|| {
        let (scope, threads) = (CancelScope::new(), Threads::new());
        let (middle, inner) = (CancelScope::new(), CancelScope::new());
        let went_on = Count::new();
        let outcome = patiently(scope.run(middle.run(inner.run(async {
            checkpoint().await;
            cancel_on(&threads, &scope);
            scope.cancel("here");
            assert!(is_cancel_requested());
            checkpoint().await;
            went_on.add();
        }))));
        assert!(outcome.is_err());
        assert_eq!(went_on.get(), 0);
        threads.join();
    });
}

/// As above, where the other thread cancels the scope around, and has got as far as between the two.
#[test]
fn who_cancels_a_scope_inside_is_stopped_at_once() {
    explore(|| {
        let (outer, scope, threads) = (CancelScope::new(), CancelScope::new(), Threads::new());
        let (middle, inner) = (CancelScope::new(), CancelScope::new());
        let went_on = Count::new();
        let outcome = patiently(outer.run(scope.run(middle.run(inner.run(async {
            checkpoint().await;
            cancel_on(&threads, &outer);
            scope.cancel("here");
            checkpoint().await;
            went_on.add();
        })))));
        assert!(outcome.is_err() || scope.is_caught());
        assert_eq!(went_on.get(), 0);
        threads.join();
    });
}

/// The exit runs whole, whenever the cancellation comes; the last frame inside wakes the scope that waits.
#[test]
fn a_cancellation_meets_the_end_of_a_shield() {
    explore(|| {
        let (scope, gate, threads) = (CancelScope::new(), Gate::new(), Threads::new());
        let exits = Count::new();
        cancel_on(&threads, &scope);
        open_on(&threads, &gate);
        let outcome = patiently(scope.run(with_exit(gate.wait(), exits.clone())));
        assert!(outcome.is_err() && scope.is_caught());
        assert_eq!(exits.get(), 1);
        threads.join();
    });
}

/// Two cancellations at two depths: the code between them hears of the inner one, or is dropped by the outer one.
#[test]
fn a_frame_parks_while_the_scope_around_is_cancelled() {
    explore(|| {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let (gate, threads, exits) = (Gate::new(), Threads::new(), Count::new());
        cancel_on(&threads, &outer);
        cancel_on(&threads, &inner);
        open_on(&threads, &gate);
        let heard = Count::new();
        let outcome = patiently(outer.run(async {
            let ended = inner.run(with_exit(gate.wait(), exits.clone())).await;
            assert!(ended.is_err());
            heard.add();
            pending::<()>().await
        }));
        assert!(outcome.is_err() && outer.is_caught());
        assert_eq!(exits.get(), 1);
        assert_eq!(inner.is_caught(), heard.get() == 1);
        threads.join();
    });
}

/// A value that is there when the nursery is cancelled, and a child that has an exit to run.
#[test]
fn a_cancellation_meets_the_end_of_a_nursery() {
    explore(|| {
        let (gate, threads, exits) = (Gate::new(), Threads::new(), Count::new());
        open_on(&threads, &gate);
        let outcome = patiently(open_nursery(async |n: Nursery<'_, ()>| {
            cancel_on(&threads, &n.cancel_scope());
            n.start_soon(async {
                shield(gate.wait()).await;
                exits.add();
                Ok(())
            });
            gate.wait().await;
            Ok(5)
        }));
        match outcome {
            Ok(value) => assert_eq!(value, 5),
            Err(failure) => assert!(failure.is_all_cancelled()),
        }
        assert_eq!(exits.get(), 1);
        threads.join();
    });
}

/// The handle's `cancel` from another thread, before the child's first frame opens or after.
#[test]
fn a_child_is_cancelled_alone() {
    explore(|| {
        let (gate, threads, exits) = (Gate::new(), Threads::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'_, ()>| {
            let (waits, counted) = (gate.wait(), exits.clone());
            let handle = n.spawn(async {
                with_exit(waits, counted).await;
                Ok(())
            });
            open_on(&threads, &gate);
            let told = Gate::new();
            threads.run({
                let told = told.clone();
                move || {
                    assert!(handle.cancel("not needed"));
                    assert!(block_on(handle).is_err());
                    told.open();
                }
            });
            told.wait().await;
            Ok(())
        }));
        assert!(outcome.is_ok());
        assert_eq!(exits.get(), 1);
        threads.join();
    });
}

/// As above for a child that has opened no frame, which gets its place by the cancellation.
#[test]
fn a_child_without_frames_is_cancelled_alone() {
    explore(|| {
        let threads = Threads::new();
        let outcome = patiently(open_nursery(async |n: Nursery<'_, ()>| {
            let handle = n.spawn(pending::<Result<(), _>>());
            threads.run(move || {
                assert!(handle.cancel("not needed"));
                assert!(block_on(handle).is_err());
            });
            Ok(())
        }));
        assert!(outcome.is_ok());
        threads.join();
    });
}

/// A shielded scope is opened to the cancellation around it on one thread while that one comes on another.
#[test]
fn a_shield_goes_while_the_cancellation_comes() {
    explore(|| {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        inner.set_shielded(true);
        let threads = Threads::new();
        cancel_on(&threads, &outer);
        threads.run({
            let inner = inner.clone();
            move || inner.set_shielded(false)
        });
        let outcome = patiently(outer.run(inner.run(pending::<()>())));
        assert!(outcome.is_err() && !inner.is_caught());
        threads.join();
    });
}

/// `cancel_requested` looks through shields, from whichever thread the request comes.
#[test]
fn a_request_is_heard_through_a_shield() {
    explore(|| {
        let (scope, threads) = (CancelScope::new(), Threads::new());
        cancel_on(&threads, &scope);
        let heard = Count::new();
        let outcome = patiently(scope.run(async {
            shield(async {
                cancel_requested().await;
                heard.add();
            })
            .await;
            pending::<()>().await
        }));
        assert!(outcome.is_err());
        assert_eq!(heard.get(), 1);
        threads.join();
    });
}

/// Code outside the scope waits for its cancellation.
#[test]
fn a_watcher_hears_of_the_cancellation() {
    explore(|| {
        let (outer, scope, threads) = (CancelScope::new(), CancelScope::new(), Threads::new());
        let mut run = Box::pin(outer.run(scope.run(pending::<()>())));
        assert!(poll_once(run.as_mut()).is_pending());
        threads.run({
            let cancelled = scope.wait_cancelled();
            move || drop(block_on(cancelled))
        });
        cancel_on(&threads, &outer);
        threads.join();
        drop(run);
    });
}

/// A callback is called once or not at all, and not begun once its guard has gone; it is dropped in either case.
#[test]
fn a_callback_goes_while_the_cancellation_comes() {
    explore(|| {
        let (scope, threads) = (CancelScope::new(), Threads::new());
        let (called, dropped) = (Count::new(), Count::new());
        let guard = scope.on_cancel({
            let (called, inside) = (called.clone(), crate::tools::CountDrop(dropped.clone()));
            move |_| {
                called.add();
                drop(inside);
            }
        });
        cancel_on(&threads, &scope);
        cancel_on(&threads, &scope);
        drop(guard);
        threads.join();
        assert!(called.get() <= 1);
        assert_eq!(dropped.get(), 1);
    });
}

/// A callback that stays is called, although it is registered in the moment of the cancellation.
#[test]
fn a_callback_comes_while_the_cancellation_comes() {
    explore(|| {
        let (scope, threads) = (CancelScope::new(), Threads::new());
        cancel_on(&threads, &scope);
        let called = Count::new();
        let guard = scope.on_cancel({
            let called = called.clone();
            move |_| called.add()
        });
        threads.join();
        assert_eq!(called.get(), 1);
        drop(guard);
    });
}

/// A foreign signal on one thread, the scope's own cancellation on another, the value on a third.
#[test]
fn a_signal_meets_a_cancellation_and_a_completion() {
    explore(|| {
        let (scope, threads) = (CancelScope::new(), Threads::new());
        let (signal, gate) = (Gate::new(), Gate::new());
        cancel_on(&threads, &scope);
        open_on(&threads, &signal);
        open_on(&threads, &gate);
        let outcome = block_on(scope.run_until(signal.wait(), gate.wait()));
        assert_eq!(scope.is_caught(), outcome.is_err());
        threads.join();
    });
    explore(|| {
        let (scope, threads, signal) = (CancelScope::new(), Threads::new(), Gate::new());
        open_on(&threads, &signal);
        let outcome = block_on(scope.run_until(signal.wait(), pending::<()>()));
        assert!(outcome.is_err() && scope.is_caught());
        threads.join();
    });
}

/// A scope is dropped on one thread while another cancels it and a third opens what it waits for.
#[test]
fn a_drop_meets_a_cancellation() {
    explore(|| {
        let (scope, gate, threads) = (CancelScope::new(), Gate::new(), Threads::new());
        let mut run = Box::pin(scope.run(shield(shield(gate.wait()))));
        assert!(poll_once(run.as_mut()).is_pending());
        cancel_on(&threads, &scope);
        open_on(&threads, &gate);
        drop(run);
        threads.join();
    });
}
