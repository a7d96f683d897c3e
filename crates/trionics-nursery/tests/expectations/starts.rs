//! `start`: whose the child is before and after its report, when things go wrong in the same moment.

use std::{future::ready, thread};

use futures::poll;
use trionics_errgroup::LibraryFailure;
use trionics_nursery::{
    CancelScope, Failure, Nursery, NurseryOptions, TaskStatus, fail_after, move_on_after,
    open_nursery, shield, sleep, testing,
};

use crate::common::{
    Drawer, Gate, Notes, OnDrop, Probe, Word, ends, errors, lone_cancelled, never, panic_of, pause,
};

/// A nursery that waits for `end`, and its handle.
fn opened<'a>(
    options: NurseryOptions,
    end: &Gate,
) -> (Probe<'a, Result<(), Failure<Word>>>, Nursery<'a, Word>) {
    let (handle, end) = (Drawer::new(), end.clone());
    let to = handle.clone();
    let mut nursery = Probe::new(options.open(async move |n: Nursery<'a, Word>| {
        to.put(n);
        end.wait().await;
        Ok(())
    }));
    nursery.waits();
    (nursery, handle.take())
}

/// trio: several starts at once from one body run side by side, and each caller gets its own value.
#[test]
fn several_starts_are_under_way_together() {
    let gates: Vec<_> = (0..3).map(|_| Gate::new()).collect();
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let starts = gates.iter().enumerate().map(|(index, gate)| {
            n.start(move |status: TaskStatus<usize>| async move {
                gate.wait().await;
                status.started(index);
                Ok(())
            })
        });
        futures::future::try_join_all(starts).await
    }));
    task.waits();
    for index in [2, 0, 1] {
        gates[index].open();
        if index != 1 {
            task.waits();
        }
    }
    assert_eq!(task.ends().unwrap(), [0, 1, 2]);
}

/// trio: one of two starts fails; the other goes on, and the nursery is not cancelled by it.
#[test]
fn one_of_two_starts_fails_and_the_other_succeeds() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (failed, started) = futures::join!(
            n.start(|_status: TaskStatus<()>| async {
                pause().await;
                Err("not today".into())
            }),
            n.start(|status| async move {
                pause().await;
                pause().await;
                status.started(5);
                Ok(())
            })
        );
        assert_eq!(failed.unwrap_err().as_leaf(), Some(&"not today"));
        started
    }));
    assert_eq!(outcome.unwrap(), 5);
}

/// trio: `start` under a deadline that passes before the report: the child is stopped, the nursery goes on.
#[test]
fn a_start_under_a_limit_that_is_too_short() {
    testing::run(async {
        let notes = Notes::new();
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            let notes = &notes;
            let serve = |seconds: u64| {
                move |status: TaskStatus<u64>| async move {
                    let _guard = notes.on_drop(&format!("server of {seconds}"));
                    sleep(std::time::Duration::from_secs(seconds)).await;
                    status.started(seconds);
                    pause().await;
                    Ok(())
                }
            };
            let limit = std::time::Duration::from_secs(2);
            assert!(fail_after(limit, n.start(serve(5))).await.is_err());
            assert_eq!(notes.take(), ["server of 5"]);
            Ok(move_on_after(limit, n.start(serve(1)))
                .await
                .unwrap()
                .unwrap())
        });
        assert_eq!(outcome.await.unwrap(), 1);
        assert_eq!(notes.take(), ["server of 1"]);
    });
}

/// trio: a child that reports and fails without an await in between: the caller gets the value, and the nursery the error.
#[test]
fn a_child_that_reports_and_fails_at_once() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let value = n.start(|status| async move {
            status.started(7);
            Err("right after".into())
        });
        notes.add(format!("{:?}", value.await.ok()));
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["right after"]);
    assert_eq!(notes.take(), ["Some(7)"]);
}

/// anyio: a task function that never reports and is in a nursery that is cancelled meanwhile: the caller in that nursery is
/// stopped, and the nursery says cancelled, with no protocol error.
#[test]
fn a_start_that_hangs_is_stopped_with_its_nursery_and_adds_no_error() {
    for or_cancel in [false, true] {
        let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
            let again = n.clone();
            n.start_soon(async move {
                pause().await;
                again.cancel("enough");
                Ok(())
            });
            let hangs = |status: TaskStatus<()>| async move {
                never().await;
                status.started(());
                Ok(())
            };
            if or_cancel {
                n.start_or_cancel(hangs).await
            } else {
                n.start(hangs).await
            }
        }))
        .unwrap_err();
        assert_eq!(lone_cancelled(&failure).reason().to_string(), "enough");
    }
}

/// A report that is made by a thread after the caller has given up is dropped there, and harms nobody.
#[test]
fn a_report_after_the_caller_has_gone_is_dropped() {
    let (notes, status) = (Notes::new(), Drawer::new());
    let to = status.clone();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        {
            let mut start = std::pin::pin!(n.start(|status: TaskStatus<Box<dyn Send>>| async {
                to.put(status);
                never().await;
                Ok(())
            }));
            assert!(poll!(&mut start).is_pending());
        }
        pause().await;
        Ok(())
    }));
    outcome.unwrap();
    let value: Box<dyn Send> = Box::new(notes.on_drop("value"));
    thread::spawn(move || status.take().started(value))
        .join()
        .unwrap();
    assert_eq!(notes.take(), ["value"]);
}

/// A value whose `Drop` panics and that no caller takes: the panic is the one of whoever drops it.
#[test]
fn a_started_value_that_nobody_takes_and_that_panics() {
    let status = Drawer::new();
    let to = status.clone();
    let end = Gate::new();
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let mut start = Probe::new(n.start(|status: TaskStatus<Box<dyn Send>>| async move {
        to.put(status);
        never().await;
        Ok(())
    }));
    start.waits();
    start.cut();
    let value: Box<dyn Send> = Box::new(OnDrop::new(|| panic!("unwanted")));
    assert_eq!(panic_of(|| status.take().started(value)), "unwanted");
    end.open();
    nursery.ends().unwrap();
}

/// trio: the function given to `start` is called by `start`, so that what it does at once is done, awaited or not, and a
/// panic there is the caller's.
#[test]
fn the_function_given_to_start_is_called_there() {
    let notes = Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        drop(n.start(|_status: TaskStatus<()>| {
            notes.add("called");
            ready(Ok(()))
        }));
        assert_eq!(notes.take(), ["called"]);
        let text = panic_of(|| {
            drop(n.start(
                |_status: TaskStatus<()>| -> std::future::Ready<Result<(), Failure<Word>>> {
                    panic!("in the function")
                },
            ));
        });
        assert_eq!(text, "in the function");
        Ok(())
    }))
    .unwrap();
}

/// trio: a child may start another child with `start` and report with that one's value, several levels deep.
#[test]
fn a_chain_of_starts_hands_the_value_up() {
    fn link<'env>(
        n: Nursery<'env, Word>,
        depth: u32,
    ) -> futures::future::BoxFuture<'env, Result<u32, Failure<Word>>> {
        Box::pin(async move {
            if depth == 0 {
                return Ok(0);
            }
            let again = n.clone();
            n.start(move |status: TaskStatus<u32>| async move {
                let below = link(again, depth - 1).await?;
                pause().await;
                status.started(below + 1);
                pause().await;
                Ok(())
            })
            .await
        })
    }
    assert_eq!(
        ends(open_nursery(async |n: Nursery<'_, Word>| link(n, 20).await)).unwrap(),
        20
    );
}

/// trio: the caller of `start` may be in a scope that is cancelled after the report and before it runs: the child lives.
#[test]
fn a_start_whose_caller_is_cancelled_in_the_poll_after_the_report() {
    let (end, notes, report, goes_on) = (Gate::new(), Notes::new(), Gate::new(), Gate::new());
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let caller = CancelScope::new();
    let mut task = Probe::new(caller.run(async {
        let value = n
            .start(|status| async {
                report.wait().await;
                status.started(3);
                goes_on.wait().await;
                notes.add("child went on");
                Ok(())
            })
            .await;
        notes.add(format!("{:?}", value.ok()));
        never().await;
    }));
    task.waits();
    report.open();
    task.waits();
    caller.cancel("the caller only");
    assert!(task.ends().is_err());
    nursery.waits();
    goes_on.open();
    end.open();
    nursery.ends().unwrap();
    assert_eq!(notes.take(), ["Some(3)", "child went on"]);
}

/// trio: the exits of a child whose caller is cancelled before the report run to their end, and the caller is not told until then.
#[test]
fn an_unreported_child_unwinds_before_its_caller_does() {
    let (end, gate, notes) = (Gate::new(), Gate::new(), Notes::new());
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let caller = CancelScope::new();
    let mut task = Probe::new(caller.run(async {
        let _guard = notes.on_drop("caller");
        let _ = n
            .start(|_status: TaskStatus<()>| async {
                let _guard = notes.on_drop("child");
                shield(gate.wait()).await;
                notes.add("exit");
                never().await;
                Ok(())
            })
            .await;
    }));
    task.waits();
    caller.cancel("stop");
    task.waits();
    assert!(notes.take().is_empty());
    gate.open();
    assert!(task.ends().is_err());
    assert_eq!(notes.take(), ["exit", "child", "caller"]);
    end.open();
    nursery.ends().unwrap();
}

/// A limit of one that is used up does not keep a start from its report: the child runs for its caller, and queues afterwards.
#[test]
fn a_start_into_a_full_nursery_reports() {
    let (end, room, notes) = (Gate::new(), Gate::new(), Notes::new());
    let (mut nursery, n) = opened(NurseryOptions::new().limit(1), &end);
    n.start_soon(async {
        room.wait().await;
        Ok(())
    });
    nursery.waits();
    let mut start = Probe::new(n.start(|status| async {
        status.started(1);
        pause().await;
        notes.add("went on");
        Ok(())
    }));
    assert_eq!(start.ends().unwrap(), 1);
    nursery.waits();
    assert!(notes.take().is_empty(), "it queues");
    room.open();
    nursery.waits();
    assert_eq!(notes.take(), ["went on"]);
    end.open();
    nursery.ends().unwrap();
}

/// A start on a handle kept after the nursery has closed fails with `Closed`, by value, and names what to do.
#[test]
fn a_start_on_a_closed_nursery_says_closed() {
    let end = Gate::new();
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    end.open();
    nursery.ends().unwrap();
    for or_cancel in [false, true] {
        let task = |status: TaskStatus<()>| async move {
            status.started(());
            Ok(())
        };
        let outcome = if or_cancel {
            ends(n.start_or_cancel(task))
        } else {
            ends(n.start(task))
        };
        let failure = outcome.unwrap_err();
        let refused = failure.as_library();
        assert!(
            matches!(refused, Some(LibraryFailure::Closed { .. })),
            "{failure}"
        );
    }
}

/// tractor's `start_or_cancel`: a child that swallows its stop and returns early in a nursery that nobody cancelled is a
/// failed start, not a cancellation, also when the caller's own neighbor is cancelled.
#[test]
fn a_cancelled_neighbor_does_not_excuse_a_missing_report() {
    let neighbor = CancelScope::new();
    neighbor.cancel("the neighbor only");
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let _ = neighbor.run(never()).await;
        let failure = n
            .start_or_cancel(|_status: TaskStatus<()>| async {
                pause().await;
                Ok(())
            })
            .await
            .unwrap_err();
        assert!(failure.as_cancelled().is_none());
        assert!(failure.as_library().is_some(), "{failure}");
        Ok(())
    }));
    outcome.unwrap();
}

/// trio: `start` in a shielded part of the body of a cancelled nursery: the child sets up in peace, and is stopped once it
/// has reported and belongs to the nursery.
#[test]
fn a_shielded_start_in_a_cancelled_nursery_sets_up_in_peace() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel("stop");
        let value = shield(n.start(|status| async {
            let _guard = notes.on_drop("child stopped");
            for _ in 0..3 {
                pause().await;
            }
            status.started("set up");
            never().await;
            Ok(())
        }))
        .await?;
        notes.add(value);
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(lone_cancelled(&failure).reason().to_string(), "stop");
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["child stopped", "set up"]);
}
