//! Children on threads of their own against everything that can happen to their nursery.

use std::future::pending;

use trionics_nursery::{
    CancelReason, Nursery, NurseryOptions, cancel_requested, checkpoint, is_cancel_requested,
    open_nursery, shield,
};

use crate::tools::{
    Count, CountDrop, Gate, Quitters, Threads, explore, is_lone_cancelled, patiently, poll_once,
    with_exit,
};

/// The value is there before the nursery ends, and the nursery ends.
#[test]
fn a_child_ends_while_the_nursery_waits() {
    explore(|| {
        let threads = Threads::new();
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let one = n.spawn_on(&threads, async {
                checkpoint().await;
                Ok(1)
            });
            let two = n.spawn_on(&threads, async { Ok(2) });
            n.start_soon_on(&threads, async { Err(().into()) });
            Ok(one.await.unwrap_or(0) + two.await.unwrap_or(0))
        }));
        assert_eq!(outcome.unwrap_err().errors().count(), 1);
        threads.join();
    });
}

/// Its exit runs whole before the nursery returns, whenever the cancellation comes.
#[test]
fn a_child_unwinds_on_its_thread() {
    explore(|| {
        let (threads, gate) = (Threads::new(), Gate::new());
        let (exits, dropped) = (Count::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let (waits, exits, inside) = (gate.wait(), exits.clone(), CountDrop(dropped.clone()));
            n.start_soon_on(&threads, async move {
                let _inside = inside;
                with_exit(waits, exits).await;
                Ok(())
            });
            let (gate, scope) = (gate.clone(), n.cancel_scope());
            threads.run(move || gate.open());
            threads.run(move || {
                scope.cancel("on another thread");
            });
            Ok(pending().await)
        }));
        assert!(is_lone_cancelled::<()>(&Result::<(), _>::unwrap_err(
            outcome
        )));
        assert_eq!((exits.get(), dropped.get()), (1, 1));
        threads.join();
    });
}

/// Its handle cancels it, from one thread, while it runs on another and the nursery waits on a third.
#[test]
fn a_child_is_cancelled_by_its_handle() {
    explore(|| {
        let (threads, gate, exits) = (Threads::new(), Gate::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let (waits, counted) = (gate.wait(), exits.clone());
            let handle = n.spawn_on(&threads, async move {
                with_exit(waits, counted).await;
                Ok(())
            });
            let gate = gate.clone();
            threads.run(move || gate.open());
            threads.run(move || {
                assert!(handle.cancel("not needed"));
                assert!(crate::tools::block_on(handle).is_err());
            });
            Ok(3)
        }));
        assert!(matches!(outcome, Ok(3)));
        assert_eq!(exits.get(), 1);
        threads.join();
    });
}

/// A child that says why it goes on hears of the cancellation in its shield.
#[test]
fn a_child_hears_of_the_request() {
    explore(|| {
        let threads = Threads::new();
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let handle = n.spawn_on(&threads, async { Ok(shield(cancel_requested()).await) });
            n.cancel("enough");
            drop(handle);
            Ok(3)
        }));
        assert!(matches!(outcome, Ok(3)));
        threads.join();
    });
}

/// The nursery's future is dropped: the child, which would wait for ever, is dropped at its next poll.
#[test]
fn the_nursery_is_dropped_under_a_child() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let mut nursery = Box::pin(open_nursery(async |n: Nursery<'static, ()>| {
            let inside = CountDrop(dropped.clone());
            n.start_soon_on(&threads, async move {
                let _inside = inside;
                shield(pending::<()>()).await;
                Ok(())
            });
            pending::<Result<(), _>>().await
        }));
        assert!(poll_once(nursery.as_mut()).is_pending());
        drop(nursery);
        threads.join();
        assert_eq!(dropped.get(), 1);
    });
}

/// As above for a child that waits for room.
#[test]
fn the_nursery_is_dropped_under_a_child_that_waits_for_room() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let mut nursery = Box::pin(NurseryOptions::new().limit(1).open(
            async |n: Nursery<'static, ()>| {
                for _ in 0..2 {
                    let inside = CountDrop(dropped.clone());
                    n.start_soon_on(&threads, async move {
                        let _inside = inside;
                        pending().await
                    });
                }
                pending::<Result<(), _>>().await
            },
        ));
        assert!(poll_once(nursery.as_mut()).is_pending());
        drop(nursery);
        threads.join();
        assert_eq!(dropped.get(), 2);
    });
}

/// Children on threads take turns where the nursery has room for one.
#[test]
fn room_for_children_is_heard_of_on_their_threads() {
    explore(|| {
        let (threads, running, ran) = (Threads::new(), Count::new(), Count::new());
        let outcome = patiently(NurseryOptions::new().limit(1).open(
            async |n: Nursery<'static, ()>| {
                for _ in 0..2 {
                    let (running, ran) = (running.clone(), ran.clone());
                    n.start_soon_on(&threads, async move {
                        running.add();
                        checkpoint().await;
                        ran.add();
                        assert_eq!(running.get(), ran.get(), "two run at once");
                        Ok(())
                    });
                }
                Ok(())
            },
        ));
        assert!(outcome.is_ok());
        assert_eq!(ran.get(), 2);
        threads.join();
    });
}

/// The executor drops the child, or the child ends before, or a cancellation stops it.
#[test]
fn the_executor_goes_while_the_cancellation_comes() {
    for n_polls in 0..3 {
        explore(move || {
            let threads = Threads::new();
            let spawner = Quitters {
                threads: threads.clone(),
                n_polls,
            };
            let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
                n.start_soon_on(&spawner, async {
                    checkpoint().await;
                    Ok(())
                });
                let scope = n.cancel_scope();
                threads.run(move || {
                    scope.cancel("on another thread");
                });
                Ok(3)
            }));
            match outcome {
                Ok(value) => assert_eq!(value, 3),
                Err(failure) => {
                    let leaves: Vec<_> = failure.leaves().collect();
                    assert_eq!(leaves.len(), 1);
                    let cancelled = leaves[0].as_cancelled().expect("nothing failed");
                    assert_eq!(cancelled.reason(), &CancelReason::ExecutorShutDown);
                    assert!(n_polls < 2, "it ran to its end, or was stopped");
                }
            }
            threads.join();
        });
    }
}

/// The executor drops children unpolled, or ends them, while the nursery takes them in one after the other.
#[test]
fn the_executor_goes_while_children_wait_for_room() {
    for n_polls in 0..3 {
        explore(move || {
            let threads = Threads::new();
            let spawner = Quitters {
                threads: threads.clone(),
                n_polls,
            };
            let outcome = patiently(NurseryOptions::new().limit(1).supervise().open(
                async |n: Nursery<'static, ()>| {
                    for _ in 0..2 {
                        n.start_soon_on(&spawner, async { Ok(()) });
                    }
                    Ok(())
                },
            ));
            if let Err(failure) = outcome {
                assert!(failure.leaves().count() <= 2, "each is lost once");
                assert!(failure.is_all_cancelled(), "nothing failed");
            }
            threads.join();
        });
    }
}

/// Children are put on threads from a thread, while the nursery is polled, runs out of children, and closes.
#[test]
fn children_are_put_on_threads_from_elsewhere() {
    explore(|| {
        let (threads, ran) = (Threads::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let (elsewhere, counted) = (threads.clone(), ran.clone());
            let first = n.spawn_on(&threads, {
                let n = n.clone();
                async move {
                    let handle = n.spawn_on(&elsewhere, async move {
                        counted.add();
                        Ok(4)
                    });
                    Ok(handle)
                }
            });
            let second = first.await.expect("it gives the handle");
            Ok(second.await.expect("it gives a value"))
        }));
        assert!(matches!(outcome, Ok(4)));
        assert_eq!(ran.get(), 1);
        threads.join();
    });
}

/// A frame opens inside the child, which gets its place then, while the nursery is cancelled and while it is dropped.
#[test]
fn a_frame_opens_while_the_cancellation_comes() {
    for is_dropped in [false, true] {
        explore(move || {
            let (threads, exits) = (Threads::new(), Count::new());
            let dropped = Count::new();
            let mut nursery = Box::pin(open_nursery(async |n: Nursery<'static, ()>| {
                let (exits, inside) = (exits.clone(), CountDrop(dropped.clone()));
                n.start_soon_on(&threads, async move {
                    let _inside = inside;
                    checkpoint().await;
                    with_exit(checkpoint(), exits).await;
                    Ok(())
                });
                let scope = n.cancel_scope();
                threads.run(move || {
                    scope.cancel("on another thread");
                });
                pending::<Result<(), _>>().await
            }));
            if is_dropped {
                // It may have been cancelled by now, and have waited for nobody.
                let _ = poll_once(nursery.as_mut());
                drop(nursery);
            } else {
                assert!(patiently(nursery).is_err());
                assert!(exits.get() <= 1);
                assert_eq!(dropped.get(), 1, "the nursery was left before its child");
            }
            threads.join();
            assert_eq!(dropped.get(), 1);
        });
    }
}

/// A nursery that nobody polls any more is dropped inside a scope that is cancelled: the scope waits for its child.
#[test]
fn a_scope_waits_for_the_child_of_a_nursery_that_was_dropped() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let scope = trionics_nursery::CancelScope::new();
        let outcome = patiently(scope.clone().run(async {
            let mut nursery = Box::pin(open_nursery(async |n: Nursery<'static, ()>| {
                for _ in 0..2 {
                    let inside = CountDrop(dropped.clone());
                    n.start_soon_on(&threads, async move {
                        let _inside = inside;
                        checkpoint().await;
                        pending().await
                    });
                }
                pending::<Result<(), _>>().await
            }));
            assert!(poll_once(nursery.as_mut()).is_pending());
            drop(nursery);
            scope.cancel("from inside");
            pending::<()>().await
        }));
        assert!(outcome.is_err());
        assert_eq!(dropped.get(), 2, "the scope was left before the children");
        threads.join();
    });
}

/// The grace ends while the child is being polled: it is dropped, waited for, and named.
#[test]
fn the_grace_of_a_child_ends() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let inside = CountDrop(dropped.clone());
            n.start_soon_on(&threads, async move {
                let _inside = inside;
                shield(pending::<()>()).await;
                Ok(())
            });
            let scope = n.cancel_scope();
            threads.run(move || {
                scope.cancel("on another thread");
                scope.end_exit_grace();
            });
            Ok(pending().await)
        }));
        let failure = Result::<(), _>::unwrap_err(outcome);
        assert!(!is_lone_cancelled(&failure), "it names the child");
        assert_eq!(dropped.get(), 1);
        threads.join();
    });
}

/// As above where a scope around the nursery gives up.
#[test]
fn the_grace_of_a_scope_around_ends() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let scope = trionics_nursery::CancelScope::new();
        threads.run({
            let scope = scope.clone();
            move || {
                scope.cancel("on another thread");
                scope.end_exit_grace();
            }
        });
        let outcome = patiently(scope.run(open_nursery(async |n: Nursery<'static, ()>| {
            let inside = CountDrop(dropped.clone());
            n.start_soon_on(&threads, async move {
                let _inside = inside;
                shield(pending::<()>()).await;
                Ok(())
            });
            pending::<Result<(), _>>().await
        })));
        assert!(outcome.is_err());
        assert_eq!(dropped.get(), 1, "the nursery was left before its child");
        threads.join();
    });
}

/// Work on a thread begins and is waited for, or does not begin.
#[test]
fn work_that_blocks_meets_a_cancellation() {
    explore(|| {
        let (threads, begun, ended) = (Threads::new(), Count::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            let (started, done) = (begun.clone(), ended.clone());
            let handle = n.spawn_blocking_on(&threads, move || {
                started.add();
                while !is_cancel_requested() {
                    shuttle::thread::yield_now();
                }
                done.add();
                Ok(())
            });
            let scope = n.cancel_scope();
            threads.run(move || {
                scope.cancel("on another thread");
            });
            drop(handle);
            Ok(3)
        }));
        assert!(matches!(outcome, Ok(3)));
        assert_eq!(begun.get(), ended.get());
        threads.join();
        assert_eq!(begun.get(), ended.get());
    });
}
