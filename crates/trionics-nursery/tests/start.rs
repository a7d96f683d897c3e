//! Starting a child and waiting for its report: every way in which that can end.

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::Poll,
};

use trionics_errgroup::{LibraryFailure, collapse_eg};
use trionics_nursery::{
    CancelReason, CancelScope, Failure, LocalNursery, Nursery, NurseryOptions, TaskStatus,
    cancel_requested, checkpoint, open_local_nursery, open_nursery, shield,
};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Reports, Word, ends, errors, lone_cancelled, never, text,
};

/// A nursery whose body waits for `end`, and a handle for callers outside of it.
fn opened<'a>(end: &Gate) -> (Probe<'a, Result<(), Failure<Word>>>, Nursery<'a, Word>) {
    let (place, end) = (Drawer::new(), end.wait());
    let inside = place.clone();
    let mut probe = Probe::new(open_nursery(move |n: Nursery<'a, Word>| async move {
        inside.put(n);
        end.await;
        Ok(())
    }));
    probe.waits();
    (probe, place.take())
}

#[track_caller]
fn assert_not_started<E: std::fmt::Debug>(failure: &Failure<E>) {
    assert_eq!(
        failure.as_library(),
        Some(&LibraryFailure::NotStarted),
        "{failure:?}"
    );
}

#[track_caller]
fn assert_closed<E: std::fmt::Debug>(failure: &Failure<E>) {
    assert!(
        matches!(failure.as_library(), Some(LibraryFailure::Closed { .. })),
        "{failure:?}"
    );
}

/// N-095
#[test]
fn start_returns_at_the_report_and_the_nursery_waits_for_the_child() {
    let (notes, bound, done) = (&Notes::new(), &Gate::new(), &Gate::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let port = n
            .start(|status| async move {
                notes.add("polled");
                bound.wait().await;
                status.started(8080);
                notes.add("reported");
                done.wait().await;
                notes.add("done");
                Ok(())
            })
            .await?;
        notes.add("start has returned");
        Ok(port)
    }));
    probe.waits();
    assert_eq!(notes.take(), ["polled"]);
    bound.open();
    probe.waits();
    assert_eq!(notes.take(), ["reported", "start has returned"]);
    done.open();
    assert_eq!(probe.ends().unwrap(), 8080);
    assert_eq!(notes.take(), ["done"]);
}

/// N-096
#[test]
fn the_child_counts_from_its_report_on() {
    let (bound, done, end) = (&Gate::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start(|status| async move {
        bound.wait().await;
        status.started(());
        done.wait().await;
        Ok(())
    }));
    caller.waits();
    nursery.waits();
    assert_eq!(n.n_children(), 0);
    ends(n.wait_idle());
    bound.open();
    caller.ends().unwrap();
    assert_eq!(n.n_children(), 1);
    nursery.waits();
    let mut idle = Probe::new(n.wait_idle());
    idle.waits();
    done.open();
    nursery.waits();
    assert_eq!(n.n_children(), 0);
    idle.ends();
    end.open();
    nursery.ends().unwrap();
}

/// N-097: the report takes the status, which cannot be copied
#[test]
fn there_is_one_report_only() {
    trait AmbiguousIfClone<A> {
        fn check() {}
    }
    impl<T> AmbiguousIfClone<()> for T {}
    impl<T: Clone> AmbiguousIfClone<u8> for T {}
    <TaskStatus<u8> as AmbiguousIfClone<_>>::check();

    let report: fn(TaskStatus<u8>, u8) = TaskStatus::started;
    let first = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start(|status| async move {
            report(status, 1);
            Ok(())
        })
        .await
    }));
    assert_eq!(first.unwrap(), 1);
}

/// N-098
#[test]
fn a_failure_before_the_report_is_the_callers_alone() {
    let (end, work) = (&Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let sibling = n.spawn(async {
        work.wait().await;
        Ok("the sibling goes on")
    });
    let failure = ends(n.start::<(), _, _>(|status| async move {
        let _status = status;
        checkpoint().await;
        Err("the port is taken".into())
    }))
    .unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"the port is taken"));
    nursery.waits();
    assert!(!n.cancel_scope().is_cancelled());
    assert_eq!(n.n_children(), 1);
    work.open();
    end.open();
    nursery.ends().unwrap();
    assert_eq!(ends(sibling), Ok("the sibling goes on"));
}

/// N-098: the failure keeps its cause
#[test]
fn a_failure_before_the_report_keeps_its_cause() {
    let failure = ends(open_nursery(async |n: Nursery<'_>| {
        let outcome = n
            .start::<(), _, _>(|status| async move {
                let _status = status;
                Err(io::Error::other(io::Error::from(io::ErrorKind::AddrInUse)).into())
            })
            .await;
        Ok(outcome.unwrap_err())
    }))
    .unwrap();
    let error = failure.as_leaf().unwrap().downcast_ref::<io::Error>();
    let cause = error.unwrap().get_ref().unwrap();
    assert!(cause.is::<io::Error>(), "{cause}");
    assert!(cause.source().is_none());
}

/// N-099
#[test]
fn an_end_without_a_report_is_a_failed_start_and_the_nursery_stays_usable() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let failure = n
            .start::<u8, _, _>(|status| async move {
                let _status = status;
                checkpoint().await;
                Ok(())
            })
            .await
            .unwrap_err();
        assert_not_started(&failure);
        assert!(failure.to_string().contains("started"), "{failure}");
        checkpoint().await;
        n.start(|status| async {
            status.started(7);
            Ok(())
        })
        .await
    }));
    assert_eq!(outcome.unwrap(), 7);
}

/// N-100
#[test]
fn a_failure_after_the_report_is_the_nurserys_alone() {
    let (end, work) = (&Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let value = ends(n.named("server").start(|status| async move {
        status.started(1);
        work.wait().await;
        Err("later".into())
    }));
    assert_eq!(value.unwrap(), 1);
    nursery.waits();
    work.open();
    let failure = nursery.ends().unwrap_err();
    assert_eq!(errors(&failure), ["later"]);
    let cancelled = n.cancel_scope().cancelled().unwrap();
    assert_eq!(
        cancelled.reason(),
        &CancelReason::ChildFailed {
            child: Some("server".into())
        }
    );
}

/// N-095, N-100: in the very poll of the report
#[test]
fn an_end_in_the_very_poll_of_the_report_is_the_nurserys() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start(|status| async {
        status.started(1);
        Ok(())
    }));
    assert!(matches!(caller.poll(), Poll::Ready(Ok(1))));
    nursery.waits();
    assert_eq!(n.n_children(), 0);

    let mut caller = Probe::new(n.start(|status| async {
        status.started(2);
        Err("at once".into())
    }));
    assert!(matches!(caller.poll(), Poll::Ready(Ok(2))));
    assert!(!n.cancel_scope().is_cancelled());
    assert_eq!(errors(&nursery.ends().unwrap_err()), ["at once"]);
}

/// N-098 for a panic: the caller may catch it, and the nursery does not hear of it
#[test]
fn a_panic_before_the_report_is_the_callers_alone() {
    let (end, reports) = (&Gate::new(), Reports::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(
        reports
            .settings()
            .run(n.start::<(), _, _>(|status| async move {
                checkpoint().await;
                let _status = status;
                panic!("before the report");
            })),
    );
    assert_eq!(caller.panics(), "before the report");
    drop(caller);
    nursery.waits();
    assert!(!n.cancel_scope().is_cancelled());
    end.open();
    nursery.ends().unwrap();
    assert!(reports.take().is_empty());
}

/// N-098 for a panic: nobody catches it in the nursery's own body
#[test]
fn a_panic_before_the_report_unwinds_the_nursery_of_the_caller() {
    let (notes, reports) = (&Notes::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                shield(async {
                    cancel_requested().await;
                    checkpoint().await;
                    notes.add("the sibling's exit");
                })
                .await;
                Ok(())
            });
            n.start::<(), _, _>(|status| async move {
                let _status = status;
                checkpoint().await;
                panic!("before the report")
            })
            .await
        },
    )));
    assert_eq!(probe.panics(), "before the report");
    assert_eq!(notes.take(), ["the sibling's exit"]);
    assert!(reports.take().is_empty());
}

/// N-100 for a panic, in the very poll of the report and after it
#[test]
fn a_panic_from_the_report_on_is_the_nurserys() {
    for pauses in [0, 1, 3] {
        let (end, reports) = (&Gate::new(), Reports::new());
        let (mut nursery, n) = opened(end);
        let mut caller = Probe::new(reports.settings().run(n.start(move |status| async move {
            status.started(1);
            for _ in 0..pauses {
                checkpoint().await;
            }
            panic!("after the report")
        })));
        assert_eq!(caller.ends().unwrap(), 1, "{pauses} pauses");
        assert_eq!(nursery.panics(), "after the report");
        assert!(reports.take().is_empty());
    }
}

/// N-099: a child that gives its status away is stopped, exits included
#[test]
fn a_child_that_drops_its_status_is_stopped_and_was_not_started() {
    let (notes, exit, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start::<(), _, _>(|status| async move {
        let _guard = notes.on_drop("dropped");
        checkpoint().await;
        drop(status);
        shield(async {
            exit.wait().await;
            notes.add("exit");
        })
        .await;
        never().await;
        notes.add("not reached");
        Ok(())
    }));
    caller.waits();
    assert_eq!(notes.take(), [""; 0]);
    exit.open();
    assert_not_started(&caller.ends().unwrap_err());
    assert_eq!(notes.take(), ["exit", "dropped"]);
    end.open();
    nursery.ends().unwrap();
}

/// N-099: also when the status is gone before the first poll, or when the child ends by itself
#[test]
fn a_status_dropped_early_or_late_ends_the_start() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let early = n.start::<(), _, _>(|_| async {
            never().await;
            Ok(())
        });
        assert_not_started(&early.await.unwrap_err());
        let late = n.start::<(), _, _>(|status| async move {
            checkpoint().await;
            drop(status);
            Ok(())
        });
        assert_not_started(&late.await.unwrap_err());
        Ok(())
    }))
    .unwrap();
}

/// N-098: a failure says more than the missing report
#[test]
fn a_child_that_drops_its_status_and_fails_has_failed() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let outcome = n.start::<(), _, _>(|status| async move {
            drop(status);
            shield(checkpoint()).await;
            Err("on the way out".into())
        });
        assert_eq!(
            outcome.await.unwrap_err().as_leaf(),
            Some(&"on the way out")
        );
        Ok(())
    }))
    .unwrap();
}

/// N-101: before the report
#[test]
fn a_cancelled_caller_takes_the_unreported_child_along() {
    let (notes, exit, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    let mut caller = Probe::new(scope.run(n.start::<(), _, _>(|status| async move {
        let _status = status;
        let _guard = notes.on_drop("dropped");
        shield(async {
            exit.wait().await;
            notes.add("exit");
        })
        .await;
        never().await;
        Ok(())
    })));
    caller.waits();
    scope.cancel("the caller");
    caller.waits();
    exit.open();
    let cancelled = caller.ends().unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "the caller");
    assert_eq!(notes.take(), ["exit", "dropped"]);
    assert_eq!(n.n_children(), 0);
    assert!(!n.cancel_scope().is_cancelled());
    end.open();
    nursery.ends().unwrap();
}

/// N-101: the child reports on its way out, and then has to wait
#[test]
fn a_report_under_a_cancelled_caller_is_dropped_with_the_child() {
    let (notes, exit, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    let mut caller = Probe::new(scope.run(n.start(|status| async move {
        let _guard = notes.on_drop("child dropped");
        shield(exit.wait()).await;
        status.started(notes.on_drop("value dropped"));
        notes.add("reported");
        checkpoint().await;
        notes.add("not reached");
        Ok(())
    })));
    caller.waits();
    scope.cancel("the caller");
    caller.waits();
    exit.open();
    assert!(caller.ends().is_err());
    drop(caller);
    let notes = notes.take();
    assert_eq!(notes[0], "reported");
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(!notes.contains(&"not reached".to_owned()));
    assert_eq!(n.n_children(), 0);
    end.open();
    nursery.ends().unwrap();
}

/// N-101: the cancellation and the report come in the same poll
#[test]
fn a_caller_cancelled_in_the_very_poll_of_the_report_keeps_the_child() {
    for cancel_first in [true, false] {
        let (end, notes) = (&Gate::new(), &Notes::new());
        let (mut nursery, n) = opened(end);
        let scope = CancelScope::new();
        let from_inside = scope.clone();
        let mut caller = Probe::new(scope.run(n.start(|status| async move {
            let _guard = notes.on_drop("dropped");
            checkpoint().await;
            if cancel_first {
                from_inside.cancel("the caller");
                status.started(1);
            } else {
                status.started(1);
                from_inside.cancel("the caller");
            }
            never().await;
            Ok(())
        })));
        assert!(caller.ends().is_err());
        assert_eq!(notes.take(), ["dropped"]);
        assert_eq!(n.n_children(), 0);
        end.open();
        nursery.ends().unwrap();
    }
}

/// N-101, rule 4: a child that reports and ends without a further wait has a result that counts
#[test]
fn a_child_that_reports_and_ends_under_a_cancelled_caller_gives_its_value() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    scope.cancel("the caller");
    let outcome = ends(scope.run(n.start(|status| async {
        status.started(1);
        Ok(())
    })));
    assert_eq!(outcome.unwrap().unwrap(), 1);

    let scope = CancelScope::new();
    scope.cancel("the caller");
    let outcome = ends(scope.run(n.start(|status| async {
        status.started(1);
        Err("lost by nobody".into())
    })));
    let told = outcome.unwrap().err().map(|failure| errors(&failure));
    end.open();
    let collected = nursery.ends().err().map(|failure| errors(&failure));
    let everywhere: Vec<_> = told.into_iter().chain(collected).flatten().collect();
    assert_eq!(everywhere, ["lost by nobody"]);
}

/// N-101: the report came from elsewhere, and the cancellation before the caller was polled
#[test]
fn a_report_that_the_caller_has_not_seen_does_not_outlive_its_cancellation() {
    let (end, notes) = (&Gate::new(), &Notes::new());
    let (mut nursery, n) = opened(end);
    let (scope, place) = (CancelScope::new(), Drawer::new());
    let inside = place.clone();
    let mut caller = Probe::new(scope.run(n.start(move |status: TaskStatus<u8>| {
        inside.put(status);
        async {
            let _guard = notes.on_drop("dropped");
            never().await;
            Ok(())
        }
    })));
    caller.waits();
    place.take().started(1);
    assert!(caller.is_woken());
    scope.cancel("the caller");
    assert!(caller.ends().is_err());
    assert_eq!(notes.take(), ["dropped"]);
    assert_eq!(n.n_children(), 0);
    end.open();
    nursery.ends().unwrap();
}

/// N-095: the status may travel
#[test]
fn a_report_from_another_thread_wakes_the_caller() {
    let (done, end) = (&Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let place = Drawer::new();
    let inside = place.clone();
    let mut caller = Probe::new(n.start(move |status: TaskStatus<u8>| {
        inside.put(status);
        async {
            done.wait().await;
            Ok(())
        }
    }));
    caller.waits();
    let status = place.take();
    std::thread::spawn(move || status.started(3))
        .join()
        .unwrap();
    assert_eq!(caller.ends().unwrap(), 3);
    assert_eq!(n.n_children(), 1);
    done.open();
    end.open();
    nursery.ends().unwrap();
}

/// N-104
#[test]
fn after_the_report_the_callers_cancellation_does_not_touch_the_child_and_the_nurserys_does() {
    let (notes, end) = (&Notes::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    let mut caller = Probe::new(scope.run(async {
        let value = n
            .start(|status| async move {
                let _guard = notes.on_drop("dropped");
                status.started(1);
                CancelScope::new().run(never()).await.ok();
                Ok(())
            })
            .await
            .unwrap();
        notes.add(format!("started {value}"));
        never().await;
    }));
    caller.waits();
    nursery.waits();
    scope.cancel("the caller");
    assert!(caller.ends().is_err());
    nursery.waits();
    assert_eq!(notes.take(), ["started 1"]);
    assert_eq!(n.n_children(), 1);
    n.cancel("the nursery");
    lone_cancelled(&nursery.ends().unwrap_err());
    assert_eq!(notes.take(), ["dropped"]);
}

/// N-105
#[test]
fn start_on_a_closed_nursery_fails_at_once_and_polls_nothing() {
    let (notes, end) = (&Notes::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    end.open();
    nursery.ends().unwrap();
    for or_cancel in [false, true] {
        let task = |status: TaskStatus<()>| async move {
            notes.add("polled");
            status.started(());
            Ok(())
        };
        let failure = if or_cancel {
            ends(n.start_or_cancel(task))
        } else {
            ends(n.start(task))
        }
        .unwrap_err();
        assert_closed(&failure);
    }
    assert_eq!(notes.take(), [""; 0]);
}

/// N-095, closing: the body and the children have ended while a start is pending
#[test]
fn a_pending_start_keeps_the_nursery_open() {
    let (bound, done, end) = (&Gate::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start(|status| async move {
        bound.wait().await;
        status.started(1);
        done.wait().await;
        Ok(())
    }));
    caller.waits();
    end.open();
    nursery.waits();
    bound.open();
    assert_eq!(caller.ends().unwrap(), 1);
    nursery.waits();
    done.open();
    nursery.ends().unwrap();
}

/// N-098, N-099, closing: a start that comes to nothing lets the nursery close
#[test]
fn a_start_that_comes_to_nothing_lets_the_nursery_close() {
    let (bound, end) = (&Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut failing = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        bound.wait().await;
        Err("no".into())
    }));
    let mut ending = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        bound.wait().await;
        Ok(())
    }));
    let mut panicking = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        bound.wait().await;
        panic!("no")
    }));
    let mut forgotten = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        never().await;
        Ok(())
    }));
    failing.waits();
    ending.waits();
    panicking.waits();
    forgotten.waits();
    end.open();
    nursery.waits();
    bound.open();
    assert_eq!(failing.ends().unwrap_err().as_leaf(), Some(&"no"));
    nursery.waits();
    assert_not_started(&ending.ends().unwrap_err());
    nursery.waits();
    assert_eq!(panicking.panics(), "no");
    drop(panicking);
    nursery.waits();
    forgotten.cut();
    assert!(nursery.is_woken());
    nursery.ends().unwrap();
}

/// N-095: a start that was not polled promises nothing
#[test]
fn a_start_that_is_not_polled_does_not_keep_the_nursery_open() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let start = n.start::<(), _, _>(|status| async {
        status.started(());
        Ok(())
    });
    end.open();
    nursery.ends().unwrap();
    assert_closed(&ends(start).unwrap_err());
}

/// N-101, dropped from outside
#[test]
fn dropping_a_pending_start_drops_the_child() {
    let (notes, end) = (&Notes::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        let _guard = notes.on_drop("dropped");
        never().await;
        Ok(())
    }));
    caller.waits();
    caller.cut();
    assert_eq!(notes.take(), ["dropped"]);
    end.open();
    nursery.ends().unwrap();
}

/// N-108: the nursery was cancelled before the report
#[test]
fn a_start_into_a_cancelled_nursery_returns_its_value_and_the_child_is_stopped() {
    for or_cancel in [false, true] {
        let (notes, bound, end) = (&Notes::new(), &Gate::new(), &Gate::new());
        let (mut nursery, n) = opened(end);
        let task = |status: TaskStatus<u8>| async move {
            let _guard = notes.on_drop("dropped");
            bound.wait().await;
            status.started(1);
            notes.add("reported");
            never().await;
            Ok(())
        };
        let mut caller: Probe<'_, Result<u8, Failure<Word>>> = if or_cancel {
            Probe::new(n.start_or_cancel(task))
        } else {
            Probe::new(n.start(task))
        };
        caller.waits();
        n.cancel("the nursery");
        nursery.waits();
        bound.open();
        assert_eq!(caller.ends().unwrap(), 1);
        assert_eq!(notes.take(), ["reported"]);
        lone_cancelled(&nursery.ends().unwrap_err());
        assert_eq!(notes.take(), ["dropped"]);
    }
}

/// N-108: the nursery is cancelled after the report, and before it has polled the child
#[test]
fn a_nursery_cancelled_right_after_the_report_stops_the_child() {
    let (notes, end) = (&Notes::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let value = ends(n.start(|status| async move {
        let _guard = notes.on_drop("dropped");
        status.started(1);
        checkpoint().await;
        notes.add("as far as its next await");
        never().await;
        Ok(())
    }));
    assert_eq!(value.unwrap(), 1);
    n.cancel("the nursery");
    lone_cancelled(&nursery.ends().unwrap_err());
    let notes = notes.take();
    assert_eq!(notes.last().unwrap(), "dropped");
}

/// N-108 for a nursery that fails
#[test]
fn a_start_into_a_failing_nursery_returns_its_value_and_the_child_is_stopped() {
    let (notes, bound, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start(|status| async move {
        bound.wait().await;
        status.started(1);
        let _guard = notes.on_drop("dropped");
        never().await;
        Ok(())
    }));
    caller.waits();
    n.start_soon(async { Err("a sibling".into()) });
    nursery.waits();
    bound.open();
    assert_eq!(caller.ends().unwrap(), 1);
    assert_eq!(errors(&nursery.ends().unwrap_err()), ["a sibling"]);
    assert_eq!(notes.take(), ["dropped"]);
}

/// N-101, N-108: the caller is inside the nursery that fails
#[test]
fn a_failing_nursery_stops_the_caller_in_its_body_with_the_unreported_child() {
    let (notes, fail) = (&Notes::new(), &Gate::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            fail.wait().await;
            Err("a sibling".into())
        });
        n.start::<(), _, _>(|status| async move {
            let _status = status;
            shield(async {
                cancel_requested().await;
                checkpoint().await;
                notes.add("exit");
            })
            .await;
            never().await;
            Ok(())
        })
        .await?;
        notes.add("not reached");
        Ok(())
    }));
    probe.waits();
    fail.open();
    assert_eq!(errors(&probe.ends().unwrap_err()), ["a sibling"]);
    assert_eq!(notes.take(), ["exit"]);
}

/// N-105 for a nursery that is dropped while the start is pending
#[test]
fn a_start_into_a_nursery_that_was_dropped_fails_and_drops_the_child() {
    let (notes, bound, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut reporting = Probe::new(n.start(|status| async move {
        let _guard = notes.on_drop("dropped");
        bound.wait().await;
        status.started(notes.on_drop("value dropped"));
        never().await;
        notes.add("not reached");
        Ok(())
    }));
    let mut failing = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        bound.wait().await;
        Err("no".into())
    }));
    let mut ending = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        bound.wait().await;
        Ok(())
    }));
    reporting.waits();
    failing.waits();
    ending.waits();
    nursery.cut();
    bound.open();
    assert_closed(&reporting.ends().err().unwrap());
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["dropped", "value dropped"]);
    assert_eq!(failing.ends().unwrap_err().as_leaf(), Some(&"no"));
    assert_not_started(&ending.ends().unwrap_err());
    assert_eq!(n.n_children(), 0);
}

/// N-110
#[test]
fn a_task_that_takes_a_status_can_be_run_directly() {
    async fn serve(status: TaskStatus<u16>) -> Result<(), Failure<Word>> {
        status.started(8080);
        checkpoint().await;
        Err("as any other future".into())
    }
    let failure = ends(serve(TaskStatus::ignored())).unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"as any other future"));
    drop(TaskStatus::<u16>::ignored());
}

/// N-112
#[test]
fn a_failed_start_into_a_nursery_of_another_child_is_the_callers() {
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let stash = n
            .start(|status| {
                open_nursery(async |inner: Nursery<'_, Word>| {
                    status.started(inner);
                    never().await;
                    Ok(())
                })
            })
            .await?;
        stash
            .start::<(), _, _>(|status| async move {
                let _status = status;
                checkpoint().await;
                Err("before the report".into())
            })
            .await
    }));
    let failure = probe.ends().unwrap_err();
    assert_eq!(errors(&failure), ["before the report"]);
    assert_eq!(collapse_eg(failure).as_leaf(), Some(&"before the report"));
}

/// N-113: the caller is not inside the nursery
#[test]
fn a_start_that_ends_because_of_a_cancellation_is_a_cancellation() {
    let (asked, end) = (&Gate::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start_or_cancel::<(), _, _>(|status| async move {
        let _status = status;
        asked.wait().await;
        Ok(())
    }));
    caller.waits();
    n.start_soon(async { Err("a sibling".into()) });
    nursery.waits();
    asked.open();
    let failure = caller.ends().unwrap_err();
    let cancelled = failure.as_cancelled().expect("a cancellation");
    assert!(matches!(
        cancelled.reason(),
        CancelReason::ChildFailed { .. }
    ));
    assert_eq!(errors(&nursery.ends().unwrap_err()), ["a sibling"]);
}

/// N-113: the caller is the nursery's body, and the call never returns
#[test]
fn a_failed_sibling_is_not_masked_by_the_start_that_it_stops() {
    for or_cancel in [false, true] {
        let (fail, notes) = (&Gate::new(), &Notes::new());
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                fail.wait().await;
                Err("a sibling".into())
            });
            let task = |status: TaskStatus<()>| async move {
                let _status = status;
                shield(cancel_requested()).await;
                Ok(())
            };
            let outcome = if or_cancel {
                n.start_or_cancel(task).await
            } else {
                n.start(task).await
            };
            notes.add("returned");
            outcome
        }));
        probe.waits();
        fail.open();
        let failure = probe.ends().unwrap_err();
        assert_eq!(errors(&failure), ["a sibling"]);
        if or_cancel {
            assert_eq!(failure.leaves().count(), 1, "{failure:?}");
            assert_eq!(notes.take(), [""; 0]);
        } else {
            // What `start_or_cancel` is there for.
            assert_eq!(failure.leaves().count(), 2, "{failure:?}");
            assert_eq!(notes.take(), ["returned"]);
        }
    }
}

/// N-113: a failure is no cancellation
#[test]
fn start_or_cancel_gives_a_failure_and_a_missing_report_where_nothing_is_cancelled() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let failure = ends(n.start_or_cancel::<(), _, _>(|status| async move {
        let _status = status;
        Err("no".into())
    }));
    assert_eq!(failure.unwrap_err().as_leaf(), Some(&"no"));
    let failure = ends(n.start_or_cancel::<(), _, _>(|status| async move {
        drop(status);
        Ok(())
    }));
    assert_not_started(&failure.unwrap_err());
    nursery.waits();
    n.cancel("stop");
    let failure = ends(n.start_or_cancel::<(), _, _>(|status| async move {
        let _status = status;
        Err("no".into())
    }));
    match failure.unwrap_err().as_leaf() {
        Some(&"no") => {}
        other => panic!("{other:?}"),
    }
    lone_cancelled(&nursery.ends().unwrap_err());
}

/// N-117
#[test]
fn start_or_cancel_passes_arguments_name_and_value_through() {
    let (fail, words) = (&Gate::new(), vec!["some", "words"]);
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let words = &words;
        let serve = async move |first: usize, status: TaskStatus<&str>| {
            status.started(words[first]);
            fail.wait().await;
            Err("later".into())
        };
        let started = n
            .named("server")
            .start_or_cancel(|status| serve(1, status))
            .await?;
        assert_eq!(started, "words");
        n.start_soon(async {
            never().await;
            Ok(())
        });
        let scope = n.cancel_scope();
        shield(async {
            fail.open();
            cancel_requested().await;
        })
        .await;
        let reason = scope.cancelled().unwrap().reason().clone();
        assert_eq!(
            reason,
            CancelReason::ChildFailed {
                child: Some("server".into())
            }
        );
        Ok(())
    }));
    assert_eq!(errors(&probe.ends().unwrap_err()), ["later"]);
}

/// N-095 for children that are not `Send`
#[test]
fn a_local_nursery_starts_children_that_stay_on_their_thread() {
    let count = Rc::new(());
    let strong = ends(open_local_nursery(async |n: LocalNursery<'_, Word>| {
        let value = n
            .start(|status| {
                let count = Rc::clone(&count);
                async move {
                    checkpoint().await;
                    status.started(Rc::clone(&count));
                    checkpoint().await;
                    Ok(())
                }
            })
            .await?;
        let strong = Rc::strong_count(&value);
        assert_eq!(n.n_children(), 1);
        let missing = n.start_or_cancel::<(), _, _>(|status| async move {
            drop(status);
            Ok(())
        });
        assert_not_started(&missing.await.unwrap_err());
        n.wait_idle().await;
        Ok(strong)
    }));
    assert_eq!(strong.unwrap(), 3);
    assert_eq!(Rc::strong_count(&count), 1);
}

/// N-095, misuse
#[test]
fn a_start_polled_after_its_end_says_so() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let mut start = Box::pin(n.start(|status| async {
            status.started(1);
            Ok(())
        }));
        assert_eq!(start.as_mut().await?, 1);
        let again = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            start.as_mut().poll(&mut cx).is_ready()
        }));
        Ok(text(&*again.unwrap_err()))
    }));
    let text = outcome.unwrap();
    assert!(
        text.contains("`start`") && text.contains("completed"),
        "{text}"
    );
}

/// N-101: the start is dropped after a report that it has not seen
#[test]
fn dropping_a_start_drops_a_report_that_it_has_not_seen() {
    let (notes, end) = (&Notes::new(), &Gate::new());
    let (mut nursery, n) = opened(end);
    let place = Drawer::new();
    let inside = place.clone();
    let mut caller = Probe::new(n.start(move |status| {
        inside.put(status);
        async {
            let _guard = notes.on_drop("child dropped");
            never().await;
            Ok(())
        }
    }));
    caller.waits();
    let status: TaskStatus<_> = place.take();
    status.started(notes.on_drop("value dropped"));
    caller.cut();
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["child dropped", "value dropped"]);
    assert_eq!(n.n_children(), 0);
    end.open();
    nursery.ends().unwrap();
}

/// N-101, rule 6: what fails on its way out is told to the caller
#[test]
fn an_unreported_child_that_fails_while_its_caller_is_cancelled_has_failed() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    let mut caller = Probe::new(scope.run(n.start::<(), _, _>(|status| async move {
        let _status = status;
        shield(async {
            cancel_requested().await;
            Err("in its exit".into())
        })
        .await
    })));
    caller.waits();
    scope.cancel("the caller");
    let failure = caller.ends().expect("rule 4").unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"in its exit"));
    end.open();
    nursery.ends().unwrap();
}

/// N-101, rule 12
#[test]
fn an_unreported_child_that_panics_while_its_caller_is_cancelled_panics_there() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    let mut caller = Probe::new(scope.run(n.start::<(), _, _>(|status| async move {
        let _status = status;
        shield(cancel_requested()).await;
        panic!("in its exit")
    })));
    caller.waits();
    scope.cancel("the caller");
    assert_eq!(caller.panics(), "in its exit");
    drop(caller);
    end.open();
    nursery.ends().unwrap();
}

/// N-098 in a supervising nursery, which hears of the later failure only
#[test]
fn a_supervising_nursery_hears_of_failures_after_the_report_only() {
    let failure = ends(
        NurseryOptions::new()
            .supervise()
            .open(async |n: Nursery<'_, Word>| {
                let before = n.start::<(), _, _>(|status| async move {
                    let _status = status;
                    Err("before".into())
                });
                assert_eq!(before.await.unwrap_err().as_leaf(), Some(&"before"));
                let after = n.start(|status| async move {
                    status.started(());
                    Err("after".into())
                });
                after.await?;
                n.wait_idle().await;
                assert!(!n.cancel_scope().is_cancelled());
                Ok(())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["after"]);
}

/// N-104: also when the caller is cancelled before the nursery has polled the child
#[test]
fn a_cancellation_of_the_caller_right_after_the_report_does_not_touch_the_child() {
    let (notes, done, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let reports = Reports::new();
    let (mut nursery, n) = opened(end);
    let scope = CancelScope::new();
    let mut caller = Probe::new(reports.settings().run(scope.run(async {
        n.start(|status| async move {
            let _guard = notes.on_drop("dropped");
            status.started(());
            CancelScope::new().run(done.wait()).await.unwrap();
            notes.add("done");
            Ok(())
        })
        .await
        .unwrap();
        scope.cancel("the caller");
        never().await;
    })));
    assert!(caller.ends().is_err(), "the child is the nursery's already");
    nursery.waits();
    assert_eq!(notes.take(), [""; 0]);
    done.open();
    end.open();
    nursery.ends().unwrap();
    assert_eq!(notes.take(), ["done", "dropped"]);
    assert!(reports.take().is_empty());
}

/// N-104: a child that queues for room is the nursery's, too
#[test]
fn a_started_child_that_queues_for_room_is_not_the_callers_any_more() {
    let (notes, first, done) = (&Notes::new(), &Gate::new(), &Gate::new());
    let reports = Reports::new();
    let place = Drawer::new();
    let mut nursery = Probe::new(NurseryOptions::new().limit(1).open(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                first.wait().await;
                Ok(())
            });
            place.put(n);
            Ok(())
        },
    ));
    nursery.waits();
    let n = place.take();
    let scope = CancelScope::new();
    let mut caller = Probe::new(reports.settings().run(scope.run(async {
        n.start(|status| async move {
            let _guard = notes.on_drop("dropped");
            status.started(());
            CancelScope::new().run(done.wait()).await.unwrap();
            notes.add("done");
            Ok(())
        })
        .await
        .unwrap();
        never().await;
    })));
    caller.waits();
    nursery.waits();
    assert_eq!(n.n_children(), 2);
    done.open();
    nursery.waits();
    assert_eq!(notes.take(), [""; 0], "it queues");
    scope.cancel("the caller");
    assert!(caller.ends().is_err());
    assert!(reports.take().is_empty());
    first.open();
    nursery.ends().unwrap();
    assert_eq!(notes.take(), ["done", "dropped"]);
}

/// N-099, N-113: the grace period of the nursery ends the wait for a start, too
#[test]
fn a_cancelled_nursery_that_is_out_of_grace_does_not_wait_for_a_start() {
    let end = &Gate::new();
    let (mut nursery, n) = opened(end);
    let mut caller = Probe::new(n.start::<(), _, _>(|status| async move {
        let _status = status;
        never().await;
        Ok(())
    }));
    caller.waits();
    n.cancel("the first ctrl-c");
    nursery.waits();
    n.cancel_scope().end_exit_grace();
    assert!(nursery.ends().is_err());
}

/// Rule 5: a start that parks beside its nursery lets the nursery end, and both are dropped with the code around them
#[test]
fn a_start_that_is_stopped_beside_its_nursery_does_not_keep_it_open() {
    for reports_first in [false, true] {
        let (scope, gate) = (CancelScope::new(), &Gate::new());
        let place = Drawer::new();
        let mut probe = Probe::new(scope.run(async {
            let inside = place.clone();
            let nursery = open_nursery(async |n: Nursery<'_, Word>| {
                inside.put(n);
                shield(gate.wait()).await;
                never().await;
                Ok(())
            });
            let start = async {
                checkpoint().await;
                let n: Nursery<'_, Word> = place.take();
                n.start(async |status: TaskStatus<()>| {
                    if reports_first {
                        scope.cancel("stop");
                        status.started(());
                        never().await;
                    }
                    never().await;
                    Ok(())
                })
                .await
            };
            futures::join!(nursery, start)
        }));
        if !reports_first {
            probe.waits();
            scope.cancel("stop");
        }
        // The start, which is polled with the nursery, does not wake it each time.
        probe.waits();
        gate.open();
        assert!(probe.ends().is_err());
    }
}
