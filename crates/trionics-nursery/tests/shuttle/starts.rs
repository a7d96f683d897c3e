//! Children that other threads start, against the end of the nursery.

use std::future::pending;

use shuttle::thread;
use trionics_nursery::{Nursery, TaskStatus, checkpoint, open_nursery};

use crate::tools::{
    Count, CountDrop, Gate, Threads, block_on, block_on_for, explore, patiently, with_exit,
};

/// The child runs and is joined, or its future comes back.
#[test]
fn a_spawn_meets_the_close() {
    explore(|| {
        let (threads, ran, refused) = (Threads::new(), Count::new(), Count::new());
        let outcome = block_on(open_nursery(async |n: Nursery<'static, ()>| {
            for _ in 0..2 {
                let (n, ran, refused) = (n.clone(), ran.clone(), refused.clone());
                threads.run(move || {
                    let child = async move {
                        checkpoint().await;
                        ran.add();
                        Ok(())
                    };
                    if let Err(closed) = n.try_start_soon(child) {
                        refused.add();
                        drop(closed.future);
                    }
                });
            }
            Ok(())
        }));
        assert!(outcome.is_ok());
        let ran_by_then = ran.get();
        threads.join();
        assert_eq!(ran.get(), ran_by_then, "a child has outlived its nursery");
        assert_eq!(ran.get() + refused.get(), 2);
    });
}

/// As above, while the nursery unwinds because a child has failed.
#[test]
fn a_spawn_meets_a_failure() {
    explore(|| {
        let (threads, gate) = (Threads::new(), Gate::new());
        let (taken, dropped) = (Count::new(), Count::new());
        let outcome = block_on(open_nursery(async |n: Nursery<'static, ()>| {
            threads.run({
                let (n, taken, inside) = (n.clone(), taken.clone(), CountDrop(dropped.clone()));
                move || {
                    let child = async move {
                        let _inside = inside;
                        pending().await
                    };
                    if n.try_start_soon(child).is_ok() {
                        taken.add();
                    }
                }
            });
            threads.run({
                let gate = gate.clone();
                move || gate.open()
            });
            gate.wait().await;
            Err::<(), _>(().into())
        }));
        assert_eq!(outcome.unwrap_err().errors().count(), 1);
        threads.join();
        assert_eq!(dropped.get(), 1);
        assert!(taken.get() <= 1);
    });
}

/// The nursery's future is dropped while a thread starts a child: nothing is kept, nothing runs later.
#[test]
fn a_spawn_meets_a_drop() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let mut nursery = Box::pin(open_nursery(async |n: Nursery<'static, ()>| {
            let inside = CountDrop(dropped.clone());
            let n = n.clone();
            threads.run(move || {
                let child = async move {
                    let _inside = inside;
                    pending().await
                };
                drop(n.try_start_soon(child));
            });
            pending::<Result<(), _>>().await
        }));
        assert!(crate::tools::poll_once(nursery.as_mut()).is_pending());
        drop(nursery);
        threads.join();
        assert_eq!(dropped.get(), 1);
    });
}

/// A thread starts a child while the nursery ends: it is refused, or the nursery stays open and joins it.
#[test]
fn a_start_meets_the_close() {
    explore(|| {
        let (threads, gate) = (Threads::new(), Gate::new());
        let (started, ended) = (Count::new(), Count::new());
        let outcome = block_on(open_nursery(async |n: Nursery<'static, ()>| {
            threads.run({
                let gate = gate.clone();
                move || gate.open()
            });
            let (n, waits, started, ended) =
                (n.clone(), gate.wait(), started.clone(), ended.clone());
            threads.run(move || {
                let start = n.start(async move |status: TaskStatus<u8>| {
                    checkpoint().await;
                    status.started(7);
                    waits.await;
                    ended.add();
                    Ok(())
                });
                match block_on(start) {
                    Ok(value) => {
                        assert_eq!(value, 7);
                        started.add();
                    }
                    Err(failure) => assert_eq!(failure.errors().count(), 0, "it was closed"),
                }
            });
            Ok(())
        }));
        assert!(outcome.is_ok());
        let ended_by_then = ended.get();
        threads.join();
        assert_eq!(ended.get(), ended_by_then);
        assert_eq!(started.get(), ended.get());
    });
}

/// A thread starts a child that has an exit to run, and the nursery is cancelled meanwhile.
#[test]
fn a_start_meets_a_cancellation() {
    explore(|| {
        let (threads, gate) = (Threads::new(), Gate::new());
        let (started, exits) = (Count::new(), Count::new());
        let outcome = patiently(open_nursery(async |n: Nursery<'static, ()>| {
            threads.run({
                let gate = gate.clone();
                move || gate.open()
            });
            let scope = n.cancel_scope();
            threads.run(move || {
                scope.cancel("on another thread");
            });
            let (waits, started, exits) = (gate.wait(), started.clone(), exits.clone());
            threads.run(move || {
                let start = n.start(async move |status: TaskStatus<u8>| {
                    status.started(7);
                    with_exit(waits, exits).await;
                    Ok(())
                });
                if block_on(start).is_ok() {
                    started.add();
                }
            });
            pending::<Result<(), _>>().await
        }));
        assert!(outcome.unwrap_err().is_all_cancelled());
        let exited_by_then = exits.get();
        threads.join();
        assert_eq!(exits.get(), exited_by_then);
        assert_eq!(started.get(), exits.get(), "an exit was left out");
    });
}

/// A start is given up between its polls: the nursery that stayed open for it can end.
#[test]
fn a_start_is_given_up_while_the_nursery_waits_for_it() {
    explore(|| {
        let (threads, dropped) = (Threads::new(), Count::new());
        let outcome = block_on(open_nursery(async |n: Nursery<'static, ()>| {
            let inside = CountDrop(dropped.clone());
            threads.run(move || {
                let start = n.start(async move |status: TaskStatus<u8>| {
                    let _inside = (inside, status);
                    pending().await
                });
                assert!(block_on_for(start, 1).is_none_or(|started| started.is_err()));
            });
            Ok(())
        }));
        assert!(outcome.is_ok());
        threads.join();
        assert_eq!(dropped.get(), 1);
    });
}

/// The report comes from a third thread.
#[test]
fn a_report_from_elsewhere_is_heard_of() {
    explore(|| {
        let threads = Threads::new();
        let outcome = block_on(open_nursery(async |n: Nursery<'_, ()>| {
            let value = n
                .start(async |status: TaskStatus<u8>| {
                    threads.run(move || status.started(7));
                    Ok(pending().await)
                })
                .await?;
            n.cancel("enough");
            Ok(value)
        }));
        assert!(matches!(outcome, Ok(7)));
        threads.join();
        let outcome = block_on(open_nursery(async |n: Nursery<'_, ()>| {
            n.start(async |status: TaskStatus<u8>| {
                thread::spawn(move || drop(status));
                Ok(pending().await)
            })
            .await
        }));
        assert!(outcome.is_err());
    });
}
