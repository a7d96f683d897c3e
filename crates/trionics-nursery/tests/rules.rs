//! The thirteen rules, as far as they can be shown without contexts; `trionics-gather` has the rest.

use std::{
    future::{poll_fn, ready},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures::{StreamExt as _, join, stream::FuturesUnordered};
use trionics_nursery::{
    CancelReason, CancelScope, Cancelled, ChildEnded, FrameKind, Nursery, Report, Settings,
    cancel_requested, in_current_scope, is_cancel_requested, open_nursery, shield, sleep,
    testing::{self, VirtualClock},
};

mod common;
use common::{
    Drawer, Gate, Notes, OnDrop, Probe, Reports, Word, ends, errors, lone_cancelled, never,
    panic_of, pause, poll_once,
};

const PATIENCE: Duration = Duration::from_millis(100);

// Rule 1: a cancelled scope stays cancelled; effective is what is cancelled here, or around up to a shield.

#[test]
fn rule_01_a_cancelled_scope_stays_cancelled() {
    let scope = CancelScope::new();
    assert!(scope.cancel("for good"));
    let mut asked = 0;
    let outcome = ends(scope.run(async {
        shield(async {
            for _ in 0..3 {
                pause().await;
                asked += usize::from(is_cancel_requested());
            }
        })
        .await;
        shield(pause()).await;
        asked += usize::from(is_cancel_requested());
        pause().await;
        asked += 100;
    }));
    assert!(outcome.is_err());
    assert_eq!(asked, 4);
    assert!(!scope.cancel("again"), "it was cancelled before");
    assert!(scope.is_cancelled());
}

#[test]
fn rule_01_each_later_await_is_stopped_anew() {
    let outer = CancelScope::new();
    let notes = Notes::new();
    let outcome = ends(outer.run(async {
        outer.cancel("once");
        join!(
            async {
                pause().await;
                notes.add("first branch");
            },
            async {
                let _ = CancelScope::new().run(pause()).await;
                notes.add("second branch");
            }
        );
        notes.add("after");
    }));
    assert!(outcome.is_err());
    assert_eq!(notes.len(), 0);
}

#[test]
fn rule_01_a_shield_in_between_cuts_an_enclosing_cancellation_off() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let dropped = Notes::new();
    let mut probe = Probe::new(outer.run(shield(inner.run(async {
        let _guard = dropped.on_drop("inner body");
        never().await;
    }))));
    probe.waits();
    outer.cancel("from far out");
    probe
        .poll()
        .is_ready()
        .then(|| panic!("the shield is gone"));
    probe.waits();
    assert_eq!(dropped.len(), 0);
    inner.cancel("from near by");
    let outcome = probe.ends().expect("the shield has returned");
    assert_eq!(outcome.unwrap_err().reason().to_string(), "from near by");
    assert_eq!(dropped.len(), 1);
}

#[test]
fn rule_01_an_enclosing_cancellation_reaches_a_nested_scope() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(outer.run(inner.run(never())));
    probe.waits();
    outer.cancel("from far out");
    assert!(probe.ends().is_err());
    assert!(
        !inner.is_cancelled(),
        "only its surroundings were cancelled"
    );
}

// Rule 2: strikes at await points only.

#[test]
fn rule_02_code_between_two_awaits_is_never_cut() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let outcome = ends(scope.run(async {
        let _guard = notes.on_drop("dropped");
        notes.add("before");
        scope.cancel("here");
        notes.add("after");
        ready(()).await;
        notes.add("after a ready await");
        never().await;
        notes.add("not reached");
    }));
    assert!(outcome.is_err());
    assert_eq!(
        notes.take(),
        ["before", "after", "after a ready await", "dropped"]
    );
}

#[test]
fn rule_02_a_cancellation_from_another_thread_does_not_cut_a_running_poll() {
    let scope = CancelScope::new();
    let canceller = scope.clone();
    let (go, gone) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        gone.recv().unwrap();
        canceller.cancel("from a thread");
        done.send(()).unwrap();
    });
    let steps = Notes::new();
    let mut probe = Probe::new(scope.run(async {
        let _guard = steps.on_drop("dropped");
        go.send(()).unwrap();
        is_done.recv().unwrap();
        steps.add("still here");
        never().await;
    }));
    let polled = probe.poll();
    thread.join().unwrap();
    assert_eq!(steps.take(), ["still here", "dropped"]);
    assert!(
        polled.is_ready(),
        "pending and cancelled: struck in that poll"
    );
}

#[test]
fn rule_02_a_waiting_body_is_woken_and_dropped_in_the_poll_that_follows() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(scope.run(async {
        let _guard = notes.on_drop("dropped");
        never().await;
    }));
    probe.waits();
    scope.cancel("wake up");
    assert_eq!(probe.n_wakes(), 1);
    assert_eq!(notes.len(), 0, "`cancel` itself drops nothing");
    assert!(matches!(probe.poll(), Poll::Ready(Err(_))));
    assert_eq!(notes.take(), ["dropped"]);
}

#[test]
fn rule_02_a_body_that_is_pending_but_not_cancelled_is_left_alone() {
    let (scope, other) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(scope.run(never()));
    probe.waits();
    other.cancel("a stranger");
    assert!(!probe.is_woken());
    assert!(probe.poll().is_pending());
}

// Rule 3: inner to outer.

#[test]
fn rule_03_a_frame_does_not_strike_while_a_frame_inside_is_live() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(outer.run(async {
        let _outer = notes.on_drop("outer");
        let _ = inner
            .run(async {
                let _inner = notes.on_drop("inner");
                shield(async {
                    gate.wait().await;
                    notes.add("exit");
                })
                .await;
                never().await;
            })
            .await;
    }));
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    assert_eq!(notes.len(), 0);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit", "inner", "outer"]);
}

#[test]
fn rule_03_nested_scopes_unwind_from_the_inside_out() {
    fn nest<'a>(
        depth: usize,
        gates: &'a [Gate],
        notes: &'a Notes,
    ) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(async move {
            let Some(gate) = gates.get(depth) else {
                return never().await;
            };
            // Each level has something to finish beside the next level.
            let exit = shield(async {
                cancel_requested().await;
                gate.wait().await;
                notes.add(format!("exit {depth}"));
            });
            let body = async {
                let _guard = notes.on_drop(&format!("dropped {depth}"));
                join!(exit, nest(depth + 1, gates, notes))
            };
            let _ = CancelScope::new().run(body).await;
            notes.add(format!("code after {depth}"));
        })
    }
    let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
    let notes = Notes::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(nest(0, &gates, &notes)));
    probe.waits();
    scope.cancel("stop");
    for (depth, gate) in gates.iter().enumerate() {
        probe.waits();
        gate.open();
        if depth < 3 {
            probe.waits();
            assert_eq!(notes.take(), [format!("exit {depth}")]);
        }
    }
    assert!(probe.ends().is_err());
    let order = ["exit 3", "dropped 3", "dropped 2", "dropped 1", "dropped 0"];
    assert_eq!(notes.take(), order);
}

#[test]
fn rule_03_the_branches_of_a_foreign_join_stand_and_fall_together() {
    let scope = CancelScope::new();
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(scope.run(async {
        join!(
            async {
                shield(gate.wait()).await;
                let _guard = notes.on_drop("shielded branch");
                never().await;
            },
            async {
                let _guard = notes.on_drop("neighbor");
                loop {
                    notes.add("step");
                    pause().await;
                }
            }
        );
    }));
    assert!(probe.poll().is_pending());
    scope.cancel("stop");
    notes.take();
    for _ in 0..3 {
        assert!(probe.poll().is_pending());
        assert_eq!(notes.take(), ["step"], "the neighbor goes on");
    }
    gate.open();
    assert!(probe.ends().is_err());
    let mut notes = notes.take();
    notes[1..].sort();
    assert_eq!(notes, ["step", "neighbor", "shielded branch"]);
}

#[test]
fn rule_03_the_children_of_a_nursery_unwind_each_for_itself() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let scope = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let _guard = notes.on_drop("body");
        scope.put(n.cancel_scope());
        let child_notes = notes.clone();
        let wait = gate.wait();
        n.start_soon(async move {
            let _guard = child_notes.on_drop("shielded child");
            shield(wait).await;
            never().await;
            Ok(())
        });
        let child_notes = notes.clone();
        n.start_soon(async move {
            let _guard = child_notes.on_drop("plain child");
            never().await;
            Ok(())
        });
        let child_notes = notes.clone();
        n.start_soon(async move {
            let _guard = child_notes.on_drop("busy child");
            loop {
                pause().await;
            }
        });
        never().await;
        Ok(())
    }));
    assert!(probe.poll().is_pending());
    let scope = scope.take();
    scope.cancel("stop");
    probe.waits();
    let mut gone = notes.take();
    gone.sort();
    assert_eq!(gone, ["body", "busy child", "plain child"]);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["shielded child"]);
}

// Rule 4: work that finished wins.

#[test]
fn rule_04_a_body_that_cancels_its_scope_and_returns_has_returned() {
    let scope = CancelScope::new();
    let outcome = ends(scope.run(async {
        scope.cancel("too late");
        7
    }));
    assert_eq!(outcome.unwrap(), 7);
    assert!(scope.is_cancelled() && !scope.is_caught());
}

#[test]
fn rule_04_a_body_that_becomes_ready_in_the_poll_of_the_cancellation_has_returned() {
    for cancel_first in [false, true] {
        let scope = CancelScope::new();
        let gate = Gate::new();
        let mut probe = Probe::new(scope.run(async {
            gate.wait().await;
            7
        }));
        probe.waits();
        if cancel_first {
            scope.cancel("a moment before");
            gate.open();
        } else {
            gate.open();
            scope.cancel("a moment after");
        }
        assert_eq!(probe.ends().unwrap(), 7);
        assert!(!scope.is_caught());
    }
}

#[test]
fn rule_04_a_value_beats_the_cancellation_of_the_own_nursery() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            never().await;
            Ok(())
        });
        pause().await;
        n.cancel("the children may go");
        Ok(7)
    }));
    assert_eq!(outcome.unwrap(), 7);
}

#[test]
fn rule_04_a_child_that_becomes_ready_in_the_poll_of_the_cancellation_has_ended() {
    let gate = Gate::new();
    let scope = Drawer::new();
    let handle = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        let wait = gate.wait();
        handle.put(n.spawn(async move {
            wait.await;
            Ok(7)
        }));
        Ok(())
    }));
    probe.waits();
    scope.take().cancel("a moment before");
    gate.open();
    probe.ends().unwrap();
    assert_eq!(ends(handle.take()), Ok(7));
}

// Rule 5: only the outermost cancelled scope hears of it.

#[test]
fn rule_05_the_outermost_cancelled_scope_alone_hears_of_it() {
    for inner_first in [false, true] {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let notes = Notes::new();
        let mut probe = Probe::new(outer.run(async {
            let _ = inner.run(never()).await;
            notes.add("code after the inner scope");
        }));
        probe.waits();
        if inner_first {
            inner.cancel("inner");
            outer.cancel("outer");
        } else {
            outer.cancel("outer");
            inner.cancel("inner");
        }
        assert_eq!(probe.ends().unwrap_err().reason().to_string(), "outer");
        assert_eq!(notes.len(), 0);
        assert!(outer.is_caught() && !inner.is_caught());
    }
}

#[test]
fn rule_05_code_goes_on_after_a_scope_that_was_cancelled_alone() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let outcome = ends(outer.run(async {
        inner.cancel("inner");
        let stopped = inner.run(never()).await.unwrap_err();
        pause().await;
        stopped.reason().to_string()
    }));
    assert_eq!(outcome.unwrap(), "inner");
    assert!(inner.is_caught() && !outer.is_caught() && !outer.is_cancelled());
}

#[test]
fn rule_05_up_to_a_shield_nothing_around_counts() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let outcome = ends(outer.run(async {
        outer.cancel("outer");
        shield(async {
            inner.cancel("inner");
            inner.run(never()).await.unwrap_err().reason().to_string()
        })
        .await
    }));
    assert_eq!(outcome.unwrap(), "inner");
    assert!(inner.is_caught());
}

#[test]
fn rule_05_a_loop_over_scopes_ends() {
    let outer = CancelScope::new();
    let rounds = AtomicUsize::new(0);
    let mut probe = Probe::new(outer.run(async {
        loop {
            rounds.fetch_add(1, Ordering::SeqCst);
            let _ = CancelScope::new().run(never()).await;
        }
    }));
    probe.waits();
    outer.cancel("stop");
    assert!(probe.ends().is_err());
    assert_eq!(rounds.load(Ordering::SeqCst), 1);
}

#[test]
fn rule_05_a_nursery_whose_children_are_stopped_from_outside_parks_and_drops_its_value() {
    let outer = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(outer.run(async {
        let _value = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                never().await;
                Ok(())
            });
            Ok(notes.on_drop("value"))
        })
        .await;
        notes.add("code after");
    }));
    probe.waits();
    assert_eq!(notes.len(), 0);
    outer.cancel("stop");
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["value"]);
}

#[test]
fn rule_05_a_nursery_under_an_outer_cancellation_does_not_return() {
    let outer = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(outer.run(async {
        let _ = open_nursery(async |_: Nursery<'_, Word>| {
            never().await;
            Ok(())
        })
        .await;
        notes.add("code after");
    }));
    probe.waits();
    outer.cancel("stop");
    assert!(probe.ends().is_err());
    assert_eq!(notes.len(), 0);
}

#[test]
fn rule_05_borrowed_work_that_was_stopped_returns_where_nothing_is_cancelled() {
    let (work, limit) = (CancelScope::new(), CancelScope::new());
    let outcome = ends(async {
        let mut borrowed = pin!(work.run(never()));
        limit.cancel("out of time");
        assert!(limit.run(&mut borrowed).await.is_err());
        borrowed.await
    });
    let cancelled = outcome.unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "out of time");
    assert!(!work.is_cancelled() && !work.is_caught() && limit.is_caught());
}

#[test]
fn rule_05_borrowed_work_in_a_foreign_set_is_woken_when_the_scope_around_it_goes() {
    let limit = CancelScope::new();
    let works: Vec<_> = (0..3).map(|_| CancelScope::new()).collect();
    let mut probe = Probe::new(async {
        let mut set: FuturesUnordered<_> = works.iter().map(|work| work.run(never())).collect();
        assert!(limit.run(set.next()).await.is_err());
        let mut reasons = Vec::new();
        while let Some(outcome) = set.next().await {
            reasons.push(outcome.unwrap_err().reason().to_string());
        }
        reasons
    });
    probe.waits();
    limit.cancel("out of time");
    assert_eq!(probe.ends(), ["out of time"; 3]);
}

#[test]
fn rule_05_a_borrowed_nursery_returns_a_lone_cancelled() {
    let limit = CancelScope::new();
    let mut probe = Probe::new(async {
        let mut nursery = Box::pin(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                never().await;
                Ok(())
            });
            Ok(7)
        }));
        assert!(limit.run(&mut nursery).await.is_err());
        nursery.await
    });
    probe.waits();
    limit.cancel("out of time");
    let failure = probe.ends().unwrap_err();
    assert_eq!(lone_cancelled(&failure).reason().to_string(), "out of time");
}

#[test]
fn rule_05_borrowed_work_without_a_way_to_say_so_panics_with_the_reason() {
    let limit = CancelScope::new();
    let mut probe = Probe::new(async {
        let mut work = Box::pin(Settings::new().run(never()));
        assert!(limit.run(&mut work).await.is_err());
        work.await;
    });
    probe.waits();
    limit.cancel("out of time");
    let message = probe.panics();
    assert!(message.contains("out of time"), "{message}");
}

#[test]
fn rule_05_carried_work_in_a_task_of_its_own_returns_cancelled() {
    let scope = CancelScope::new();
    let carried = Drawer::new();
    let mut home = Probe::new(scope.run(async {
        carried.put(in_current_scope(never()));
        never().await;
    }));
    home.waits();
    let mut away = Probe::new(carried.take());
    away.waits();
    scope.cancel("come home");
    assert!(away.is_woken());
    assert_eq!(away.ends().unwrap_err().reason().to_string(), "come home");
    assert!(home.ends().is_err());
}

// Rule 6: an error is never lost to a cancellation.

#[test]
fn rule_06_a_failure_during_the_unwinding_is_returned_under_a_cancelled_scope() {
    let outer = CancelScope::new();
    let (gate, reports, notes) = (Gate::new(), Reports::new(), Notes::new());
    let mut probe = Probe::new(reports.settings().run(outer.run(async {
        let result = open_nursery(async |n: Nursery<'_, Word>| {
            let wait = gate.wait();
            n.start_soon(async move {
                shield(wait).await;
                Err("the flush failed".into())
            });
            never().await;
            Ok(())
        })
        .await;
        notes.add("code after, with the failure");
        result
    })));
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    assert!(reports.take().is_empty());
    gate.open();
    let failure = probe.ends().expect("the body was ready").unwrap_err();
    assert_eq!(errors(&failure), ["the flush failed"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
    assert_eq!(notes.len(), 1);
    assert!(!outer.is_caught());
    let reports = reports.take();
    assert!(
        matches!(
            &reports[..],
            [Report::FailedUnderCancellation { failures: 1, .. }]
        ),
        "{reports:?}"
    );
}

#[test]
fn rule_06_a_failure_from_before_the_cancellation_is_returned() {
    let outer = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(outer.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async { Err("the first".into()) });
        let wait = gate.wait();
        n.start_soon(async move {
            shield(wait).await;
            never().await;
            Ok(())
        });
        never().await;
        Ok(())
    })));
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    gate.open();
    let failure = probe.ends().unwrap().unwrap_err();
    assert_eq!(errors(&failure), ["the first"]);
}

#[test]
fn rule_06_a_foreign_combinator_may_drop_the_failure_but_not_before_it_was_reported() {
    let outer = CancelScope::new();
    let (gate, reports) = (Gate::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(outer.run(async {
        let failing = open_nursery(async |_: Nursery<'_, Word>| {
            shield(gate.wait()).await;
            Err::<(), _>("lost in a join".into())
        });
        // The other branch is pending for ever, so that the join's results are dropped.
        let _ = join!(failing, never());
    })));
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    let reports = reports.take();
    assert_eq!(reports.len(), 1, "{reports:?}");
}

#[test]
fn rule_06_a_failure_where_nothing_is_cancelled_around_is_not_reported() {
    let reports = Reports::new();
    let failure = ends(
        reports
            .settings()
            .run(open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async { Err("plain".into()) });
                never().await;
                Ok(())
            })),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["plain"]);
    assert!(reports.take().is_empty());
}

#[test]
fn rule_06_a_body_that_fails_in_the_poll_of_the_cancellation_has_failed() {
    let outer = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(outer.run(open_nursery(async |_: Nursery<'_, Word>| {
        gate.wait().await;
        Err::<(), _>("at the last moment".into())
    })));
    probe.waits();
    outer.cancel("stop");
    gate.open();
    let failure = probe.ends().unwrap().unwrap_err();
    assert_eq!(errors(&failure), ["at the last moment"]);
}

// Rule 7, as far as a shield shows it: exits are in `trionics-gather`.

#[test]
fn rule_07_a_shield_runs_to_its_end_however_often_it_is_cancelled() {
    let scopes: Vec<_> = (0..3).map(|_| CancelScope::new()).collect();
    let (gate, notes) = (Gate::new(), Notes::new());
    let [a, b, c] = &scopes[..] else {
        unreachable!()
    };
    let mut probe = Probe::new(a.run(b.run(c.run(async {
        shield(async {
            gate.wait().await;
            pause().await;
            notes.add("shielded to the end");
        })
        .await;
        notes.add("up to the next await");
        pause().await;
        notes.add("not reached");
    }))));
    probe.waits();
    for scope in [c, a, b, a] {
        scope.cancel("stop");
        probe.waits();
    }
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(
        notes.take(),
        ["shielded to the end", "up to the next await"]
    );
    assert!(a.is_caught() && !b.is_caught() && !c.is_caught());
}

#[test]
fn rule_07_a_scope_inside_a_shield_can_be_cancelled() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(outer.run(shield(async { inner.run(never()).await.is_err() })));
    probe.waits();
    inner.cancel("inside");
    assert!(probe.ends().unwrap());
}

// Rule 8: poll first, always.

#[test]
fn rule_08_code_in_a_scope_that_is_cancelled_already_runs_to_its_first_pending_await() {
    let scope = CancelScope::new();
    scope.cancel("before the start");
    let notes = Notes::new();
    let outcome = ends(scope.run(async {
        notes.add("began");
        ready(()).await;
        notes.add("passed a ready await");
        pause().await;
        notes.add("not reached");
    }));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["began", "passed a ready await"]);
}

#[test]
fn rule_08_a_ready_future_in_a_cancelled_scope_has_its_value() {
    let scope = CancelScope::new();
    scope.cancel("before the start");
    assert_eq!(ends(scope.run(ready(7))).unwrap(), 7);
}

#[test]
fn rule_08_a_nursery_in_a_cancelled_scope_begins() {
    let scope = CancelScope::new();
    scope.cancel("before the start");
    let notes = Notes::new();
    let outcome = ends(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        notes.add("body");
        let child_notes = notes.clone();
        n.start_soon(async move {
            child_notes.add("child");
            pause().await;
            child_notes.add("not reached");
            Ok(())
        });
        pause().await;
        notes.add("not reached");
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["body", "child"]);
}

/// N-050
#[test]
fn rule_08_a_child_of_a_cancelled_nursery_runs_to_its_first_pending_await() {
    let notes = Notes::new();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel("before the child");
        let child_notes = notes.clone();
        n.start_soon(async move {
            let _guard = child_notes.on_drop("child dropped");
            child_notes.add("child began");
            pause().await;
            child_notes.add("not reached");
            Ok(())
        });
        never().await;
        Ok(())
    }));
    lone_cancelled(&outcome.unwrap_err());
    assert_eq!(notes.take(), ["child began", "child dropped"]);
}

#[test]
fn rule_08_a_shield_that_starts_in_a_cancelled_scope_runs() {
    let scope = CancelScope::new();
    scope.cancel("before the start");
    let outcome = ends(scope.run(async {
        shield(async {
            pause().await;
            pause().await;
            7
        })
        .await
    }));
    assert_eq!(
        outcome.unwrap(),
        7,
        "no await was pending outside the shield"
    );
}

#[test]
fn rule_08_after_it_had_to_wait_a_cancelled_frame_starts_no_frames_but_shields() {
    let scope = CancelScope::new();
    let (exit, go_on) = (Gate::new(), Gate::new());
    let notes = Notes::new();
    let mut probe = Probe::new(scope.run(async {
        let _ = join!(
            shield(async {
                exit.wait().await;
                // Not *directly* in the cancelled scope.
                let inside = CancelScope::new();
                assert_eq!(inside.run(ready(7)).await.unwrap(), 7);
                notes.add("scope inside the shield");
            }),
            async {
                go_on.wait().await;
                shield(async {
                    pause().await;
                    notes.add("shield");
                })
                .await;
                let _ = join!(
                    CancelScope::new().run(async { notes.add("scope") }),
                    Settings::new().run(async { notes.add("settings") }),
                    open_nursery(async |_: Nursery<'_, Word>| {
                        notes.add("nursery");
                        Ok(())
                    })
                );
            }
        );
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    go_on.open();
    probe.waits();
    assert_eq!(notes.take(), ["shield"]);
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["scope inside the shield"]);
}

#[test]
fn rule_08_a_retry_loop_cannot_outrun_its_cancellation() {
    let scope = CancelScope::new();
    let rounds = AtomicUsize::new(0);
    let mut probe = Probe::new(scope.run(async {
        loop {
            rounds.fetch_add(1, Ordering::SeqCst);
            let _ = CancelScope::new()
                .run(shield(async {
                    pause().await;
                    pause().await;
                }))
                .await;
        }
    }));
    assert!(probe.poll().is_pending());
    scope.cancel("stop");
    assert!(probe.ends().is_err());
    assert!(rounds.load(Ordering::SeqCst) <= 3);
}

// Rule 9: a frame that nobody polls cannot hang a cancellation.

/// A frame of `kind` inside `scope` that is polled once and then forgotten for as long as the scope runs.
async fn forgotten<F: Future + Unpin>(mut frame: F) {
    assert!(poll_once(&mut frame).await.is_none());
    never().await;
    drop(frame);
}

#[test]
fn rule_09_a_frame_that_nobody_polls_is_given_up_on_after_the_patience() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let line = line!() + 3;
    let program = scope.run(async {
        // A pinned future outside a `select!` loop that went on to something else.
        let exit = Box::pin(shield(never()));
        forgotten(exit).await;
    });
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    clock.advance(PATIENCE - Duration::from_millis(1));
    probe.waits();
    assert!(reports.take().is_empty());
    clock.advance(Duration::from_millis(1));
    assert!(probe.is_woken(), "by the end of the patience");
    assert!(probe.ends().is_err());
    let reports = reports.take();
    let [Report::NotPolled(frame)] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(frame.kind(), FrameKind::Shield);
    assert_eq!(
        (frame.location().file(), frame.location().line()),
        (file!(), line)
    );
}

#[test]
fn rule_09_the_patience_can_be_set() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let settings = reports
        .settings()
        .clock(clock.clone())
        .patience(Duration::from_secs(5));
    let mut probe = Probe::new(settings.run(scope.run(forgotten(Box::pin(shield(never()))))));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    clock.advance(Duration::from_millis(4_999));
    probe.waits();
    clock.advance(Duration::from_millis(1));
    assert!(probe.ends().is_err());
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn rule_09_each_frame_inside_that_is_given_up_on_is_reported() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(scope.run(forgotten(Box::pin(async {
                // The inner scope is cancelled too and itself waits for the shield.
                let _ = CancelScope::new().run(shield(never())).await;
            })))),
    );
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    clock.advance(PATIENCE);
    assert!(probe.ends().is_err());
    let kinds: Vec<_> = reports
        .take()
        .iter()
        .map(|report| match report {
            Report::NotPolled(frame) => frame.kind(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&FrameKind::Shield) && kinds.contains(&FrameKind::Scope));
}

#[test]
fn rule_09_an_exit_that_waits_for_its_peer_is_kept() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let (gate, notes) = (Gate::new(), Notes::new());
    let program = scope.run(async {
        shield(async {
            gate.wait().await;
            notes.add("the peer has answered");
        })
        .await;
        never().await;
    });
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    scope.cancel("stop");
    for _ in 0..10_000 {
        probe.waits();
        clock.advance(PATIENCE);
    }
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["the peer has answered"]);
    assert!(reports.take().is_empty());
}

#[test]
fn rule_09_an_exit_that_is_polled_only_when_woken_is_woken_once_per_patience_and_kept() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let gate = Gate::new();
    let polls = AtomicUsize::new(0);
    let program = scope.run(async {
        let mut wait = gate.wait();
        let exit = shield(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut wait).poll(cx)
        }));
        let mut set: FuturesUnordered<_> = [exit].into_iter().collect();
        set.next().await;
        never().await;
    });
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    for _ in 0..20 {
        let before = polls.load(Ordering::SeqCst);
        clock.advance(PATIENCE);
        probe.waits();
        let polled = polls.load(Ordering::SeqCst) - before;
        assert!((1..=2).contains(&polled), "{polled} polls in one patience");
    }
    gate.open();
    assert!(probe.ends().is_err());
    assert!(reports.take().is_empty());
}

#[test]
fn rule_09_without_a_clock_a_frame_that_nobody_polls_is_given_up_on() {
    let reports = Reports::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(
        reports
            .settings()
            .run(scope.run(forgotten(Box::pin(shield(never()))))),
    );
    probe.waits();
    scope.cancel("stop");
    assert!(probe.ends().is_err());
    let reports = reports.take();
    assert!(
        matches!(&reports[..], [Report::NotPolled(_)]),
        "{reports:?}"
    );
}

#[test]
fn rule_09_without_a_clock_an_exit_that_waits_for_its_peer_is_kept() {
    let reports = Reports::new();
    let scope = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(reports.settings().run(scope.run(async {
        shield(gate.wait()).await;
        never().await;
    })));
    probe.waits();
    scope.cancel("stop");
    for _ in 0..1_000 {
        assert!(probe.poll().is_pending());
    }
    gate.open();
    assert!(probe.ends().is_err());
    assert!(reports.take().is_empty());
}

#[test]
fn rule_09_without_a_clock_an_exit_in_a_foreign_set_is_kept_beside_a_busy_neighbor() {
    let reports = Reports::new();
    let scope = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(reports.settings().run(scope.run(async {
        let mut set: FuturesUnordered<_> = [shield(gate.wait())].into_iter().collect();
        join!(set.next(), async {
            loop {
                pause().await;
            }
        })
    })));
    assert!(probe.poll().is_pending());
    scope.cancel("stop");
    for _ in 0..1_000 {
        assert!(probe.poll().is_pending());
    }
    gate.open();
    assert!(probe.ends().is_err());
    assert!(reports.take().is_empty());
}

#[test]
fn rule_09_without_a_clock_waiting_for_an_exit_does_not_spin() {
    for in_a_set in [false, true] {
        let scope = CancelScope::new();
        let gate = Gate::new();
        let mut probe = Probe::new(scope.run(async {
            let exit = shield(gate.wait());
            if in_a_set {
                let mut set: FuturesUnordered<_> = [exit].into_iter().collect();
                set.next().await;
            } else {
                exit.await;
            }
            never().await;
        }));
        probe.waits();
        scope.cancel("stop");
        let mut polls = 0;
        while probe.is_woken() {
            polls += 1;
            assert!(polls < 20, "it wakes itself for ever");
            assert!(probe.poll().is_pending());
        }
        gate.open();
        assert!(probe.ends().is_err());
    }
}

#[test]
fn rule_09_without_a_clock_an_exit_deep_inside_is_kept() {
    let reports = Reports::new();
    let scope = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(reports.settings().run(scope.run(async {
        let inner = CancelScope::new();
        let nursery = open_nursery(async |n: Nursery<'_, Word>| {
            let wait = gate.wait();
            n.start_soon(async move {
                CancelScope::new()
                    .run(async {
                        shield(wait).await;
                        never().await;
                    })
                    .await
                    .ok();
                Ok(())
            });
            Ok(())
        });
        let _ = inner.run(nursery).await;
    })));
    probe.waits();
    scope.cancel("stop");
    for _ in 0..1_000 {
        assert!(probe.poll().is_pending());
    }
    gate.open();
    assert!(probe.ends().is_err());
    assert!(reports.take().is_empty());
}

#[test]
fn rule_09_a_frame_that_was_given_up_on_can_be_polled_again() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let gate = Gate::new();
    let program = async {
        let mut exit = Box::pin(shield(async {
            gate.wait().await;
            7
        }));
        let outcome = scope
            .run(async {
                assert!(poll_once(&mut exit).await.is_none());
                never().await;
            })
            .await;
        assert!(outcome.is_err());
        exit.await
    };
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    clock.advance(PATIENCE);
    probe.waits();
    assert_eq!(reports.take().len(), 1);
    gate.open();
    assert_eq!(probe.ends(), 7);
    assert!(reports.take().is_empty(), "and it has not been dropped");
}

#[test]
fn rule_09_a_child_of_a_nursery_that_forgets_a_frame_is_given_up_on() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let program = scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            forgotten(Box::pin(shield(never()))).await;
            Ok(())
        });
        forgotten(Box::pin(shield(never()))).await;
        Ok(())
    }));
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    clock.advance(PATIENCE);
    assert!(probe.ends().is_err());
    assert_eq!(reports.take().len(), 2);
}

#[test]
fn rule_09_the_deterministic_executor_passes_the_patience_by_itself() {
    let elapsed = testing::run(async {
        let scope = CancelScope::new();
        let handle = scope.clone();
        testing::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            handle.cancel("stop");
        });
        let reports = Reports::new();
        reports
            .settings()
            .run(scope.run(forgotten(Box::pin(shield(never())))))
            .await
            .unwrap_err();
        assert_eq!(reports.take().len(), 1);
        testing::elapsed()
    });
    assert_eq!(elapsed, Duration::from_secs(1) + PATIENCE);
}

// Rule 10: a frame moved to another place re-parents.

#[test]
fn rule_10_a_moved_frame_belongs_to_where_it_is_polled() {
    let (first, second, work) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
    let (leave, reports) = (Gate::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(async {
        let mut moving = Box::pin(work.run(never()));
        first
            .run(async {
                futures::select_biased! {
                    _ = futures::FutureExt::fuse(&mut moving) => unreachable!(),
                    () = futures::FutureExt::fuse(leave.wait()) => {}
                }
            })
            .await
            .unwrap();
        let outcome = second.run(&mut moving).await;
        assert!(outcome.is_err());
    }));
    probe.waits();
    leave.open();
    probe.waits();
    first.cancel("it has left");
    assert!(!probe.is_woken());
    assert!(probe.poll().is_pending());
    second.cancel("it is here");
    assert!(probe.is_woken());
    probe.ends();
    assert!(reports.take().is_empty());
}

#[test]
fn rule_10_coming_under_a_cancelled_frame_wakes_everything_inside() {
    let cancelled = CancelScope::new();
    cancelled.cancel("nobody may work here");
    let reports = Reports::new();
    let notes = Notes::new();
    let mut probe = Probe::new(reports.settings().run(async {
        let deep = (0..3).map(|i| {
            let notes = notes.clone();
            async move {
                let _ = CancelScope::new()
                    .run(async move {
                        let _guard = notes.on_drop(&format!("worker {i}"));
                        never().await;
                    })
                    .await;
            }
        });
        let mut set: FuturesUnordered<_> = deep.collect();
        let work = CancelScope::new();
        let mut moving = Box::pin(work.run(set.next()));
        assert!(poll_once(&mut moving).await.is_none());
        // The set polls only what was woken.
        assert!(cancelled.run(&mut moving).await.is_err());
        assert_eq!(notes.len(), 3);
    }));
    probe.ends();
    assert!(reports.take().is_empty());
}

#[test]
fn rule_10_leaving_wakes_an_old_parent_that_waits() {
    for how in ["move", "end", "drop"] {
        let (clock, reports) = (VirtualClock::new(), Reports::new());
        let scope = CancelScope::new();
        let gate = Gate::new();
        let shared = Arc::new(Mutex::new(Some(Box::pin(shield(gate.wait())))));
        let mine = Arc::clone(&shared);
        let program = scope.run(async move {
            poll_fn(|cx| {
                let polled = mine.lock().unwrap().as_mut().unwrap().as_mut().poll(cx);
                assert!(polled.is_pending());
                Poll::Ready(())
            })
            .await;
            never().await;
        });
        let mut old = Probe::new(reports.settings().clock(clock.clone()).run(program));
        old.waits();
        scope.cancel("stop");
        old.waits();
        assert!(!old.is_woken());
        if how == "end" {
            gate.open();
        }
        let frame = shared.lock().unwrap().take().unwrap();
        if how == "drop" {
            drop(frame);
            assert_eq!(reports.take().len(), 1, "a drop from outside");
        } else {
            let mut new = Probe::new(reports.settings().run(frame));
            assert_eq!(new.poll().is_ready(), how == "end");
            assert!(old.is_woken(), "by the {how} of what it waits for");
            assert!(old.ends().is_err());
            continue;
        }
        assert!(old.is_woken(), "by the {how} of what it waits for");
        assert!(old.ends().is_err());
        assert!(reports.take().is_empty());
    }
}

#[test]
fn rule_10_a_parent_cycle_is_refused() {
    type Work = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;
    let scope = CancelScope::new();
    let child = Drawer::new();
    // The scope lies where its own child can poll it.
    let shared: Arc<Mutex<Option<Work>>> = Arc::default();
    let (ancestor, made) = (Arc::clone(&shared), child.clone());
    let poll_ancestor =
        poll_fn(move |cx| ancestor.lock().unwrap().as_mut().unwrap().as_mut().poll(cx));
    *shared.lock().unwrap() = Some(Box::pin(scope.run(async move {
        made.put(in_current_scope(poll_ancestor));
        never().await;
    })));
    let mut first = Probe::new(poll_fn(|cx| {
        shared.lock().unwrap().as_mut().unwrap().as_mut().poll(cx)
    }));
    first.waits();
    let mut second = Probe::new(child.take());
    second.waits();
    scope.cancel("stop");
    assert!(second.ends().is_err(), "nothing waits for itself");
    assert!(matches!(first.poll(), Poll::Ready(Err(_))));
}

// Rule 11: a drop from outside stays a drop.

#[test]
fn rule_11_a_foreign_drop_drops_everything_at_once_and_reports_the_shield() {
    let reports = Reports::new();
    let notes = Notes::new();
    let line = line!() + 6;
    let mut probe = Probe::new(reports.settings().run(async {
        let timeout = Gate::new();
        timeout.open();
        let work = CancelScope::new().run(async {
            let _outer = notes.on_drop("outer");
            shield(async {
                let _inner = notes.on_drop("inner");
                never().await;
            })
            .await;
        });
        futures::future::select(Box::pin(work), timeout.wait()).await;
        notes.add("code after");
    }));
    probe.ends();
    assert_eq!(notes.take(), ["inner", "outer", "code after"]);
    let reports = reports.take();
    let [Report::Dropped(frame)] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(frame.kind(), FrameKind::Shield);
    assert_eq!(
        (frame.location().file(), frame.location().line()),
        (file!(), line)
    );
}

#[test]
fn rule_11_what_owes_no_exit_is_dropped_without_a_report() {
    let reports = Reports::new();
    let mut probe = Probe::new(reports.settings().run(async {
        CancelScope::new()
            .run(open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    never().await;
                    Ok(())
                });
                // A shield that has ended owes nothing, and one that was never polled has not begun.
                shield(pause()).await;
                let _unpolled = shield(never());
                never().await;
                Ok(())
            }))
            .await
    }));
    probe.waits();
    probe.cut();
    assert!(reports.take().is_empty());
}

#[test]
fn rule_11_a_drop_while_cancelled_is_reported_too() {
    let reports = Reports::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(reports.settings().run(scope.run(shield(never()))));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    probe.cut();
    let reports = reports.take();
    assert!(matches!(&reports[..], [Report::Dropped(_)]), "{reports:?}");
}

#[test]
fn rule_11_a_drop_from_outside_reaches_the_children_of_a_nursery() {
    let reports = Reports::new();
    let notes = Notes::new();
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            let _guard = notes.on_drop("body");
            for i in 0..2 {
                let guard = notes.on_drop(&format!("child {i}"));
                n.start_soon(async move {
                    let _guard = guard;
                    shield(never()).await;
                    Ok(())
                });
            }
            never().await;
            Ok(())
        },
    )));
    probe.waits();
    probe.cut();
    assert_eq!(notes.take(), ["body", "child 0", "child 1"]);
    assert_eq!(reports.take().len(), 2);
}

#[test]
fn rule_11_a_panicking_report_hook_harms_nobody() {
    let notes = Notes::new();
    let settings = Settings::new().on_report(|_| panic!("the hook"));
    let mut probe = Probe::new(settings.run(async {
        let _guard = notes.on_drop("around");
        shield(never()).await;
    }));
    probe.waits();
    probe.cut();
    assert_eq!(notes.take(), ["around"]);
}

// Rule 12: panics unwind too.

#[test]
fn rule_12_a_panic_in_a_child_lets_the_siblings_exit_and_is_resumed_in_the_owner() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let _guard = notes.on_drop("body");
        let (child_notes, wait) = (notes.clone(), gate.wait());
        n.start_soon(async move {
            shield(async {
                wait.await;
                child_notes.add("exit");
            })
            .await;
            never().await;
            child_notes.add("not reached");
            Ok(())
        });
        n.start_soon(async {
            pause().await;
            std::panic::panic_any(42_u32);
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    assert_eq!(notes.take(), ["body"], "stopped by the child's panic");
    gate.open();
    let payload =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe.settle().is_ready()))
            .unwrap_err();
    assert_eq!(
        *payload.downcast::<u32>().unwrap(),
        42,
        "the payload itself"
    );
    assert_eq!(notes.take(), ["exit"]);
}

/// N-121
#[test]
fn rule_12_a_panic_in_the_body_lets_the_children_exit() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (child_notes, wait) = (notes.clone(), gate.wait());
        n.start_soon(async move {
            let _guard = child_notes.on_drop("child");
            shield(wait).await;
            child_notes.add("exit");
            never().await;
            Ok(())
        });
        pause().await;
        if n.cancel_scope().is_cancelled() {
            return Ok(());
        }
        panic!("in the body");
    }));
    probe.waits();
    assert_eq!(notes.len(), 0);
    gate.open();
    assert_eq!(probe.panics(), "in the body");
    assert_eq!(notes.take(), ["exit", "child"]);
}

#[test]
fn rule_12_a_panic_in_the_function_of_the_body_is_a_panic_of_the_body() {
    let mut probe = Probe::new(open_nursery(
        |_: Nursery<'_, Word>| -> std::future::Ready<Result<(), _>> { panic!("no future") },
    ));
    assert_eq!(probe.panics(), "no future");
}

#[test]
fn rule_12_a_panic_while_a_cancelled_body_is_dropped_is_resumed() {
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(async {
        let _guard = OnDrop::new(|| panic!("in `drop`"));
        never().await;
    }));
    probe.waits();
    scope.cancel("stop");
    assert_eq!(probe.panics(), "in `drop`");
}

/// N-122
#[test]
fn rule_12_a_panic_while_a_child_is_dropped_cancels_the_others_and_is_resumed() {
    let (gate, notes, reports) = (Gate::new(), Notes::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                let _guard = OnDrop::new(|| panic!("in a child's `drop`"));
                pause().await;
                Ok(())
            });
            let (child_notes, wait) = (notes.clone(), gate.wait());
            n.start_soon(async move {
                shield(wait).await;
                child_notes.add("exit");
                never().await;
                Ok(())
            });
            never().await;
            Ok(())
        },
    )));
    probe.waits();
    assert_eq!(notes.len(), 0);
    gate.open();
    assert_eq!(probe.panics(), "in a child's `drop`");
    assert_eq!(notes.take(), ["exit"]);
    assert!(reports.take().is_empty());
}

#[test]
fn rule_12_the_first_panic_resumes_and_later_ones_go_to_the_hook() {
    let reports = Reports::new();
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            for (rounds, message) in [(1, "first"), (2, "second"), (3, "third")] {
                n.start_soon(async move {
                    shield(async move {
                        for _ in 0..rounds {
                            pause().await;
                        }
                        std::panic::panic_any(message);
                    })
                    .await
                });
            }
            Ok(())
        },
    )));
    assert_eq!(probe.panics(), "first");
    let later: Vec<_> = reports
        .take()
        .into_iter()
        .filter_map(|report| match report {
            Report::LaterPanic { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(later, ["second", "third"]);
}

#[test]
fn rule_12_failures_behind_a_panic_go_to_the_hook() {
    let reports = Reports::new();
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            for message in ["one", "two"] {
                n.start_soon(async move {
                    shield(pause()).await;
                    Err(message.into())
                });
            }
            n.start_soon(async {
                shield(async {
                    pause().await;
                    pause().await;
                    panic!("outranks them")
                })
                .await
            });
            Ok(())
        },
    )));
    assert_eq!(probe.panics(), "outranks them");
    let reports = reports.take();
    assert!(
        matches!(
            &reports[..],
            [Report::FailuresBehindPanic { failures: 2, .. }]
        ),
        "{reports:?}"
    );
}

#[test]
fn rule_12_a_panic_outranks_parking() {
    let outer = CancelScope::new();
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(outer.run(async {
        let _guard = notes.on_drop("code around");
        open_nursery(async |n: Nursery<'_, Word>| {
            let wait = gate.wait();
            n.start_soon(async move {
                shield(wait).await;
                panic!("while it unwinds");
            });
            never().await;
            Ok(())
        })
        .await
    }));
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    gate.open();
    assert_eq!(probe.panics(), "while it unwinds");
    assert_eq!(notes.take(), ["code around"]);
}

#[test]
fn rule_12_a_panic_in_a_scope_or_shield_passes_with_its_payload_and_leaves_no_frame_current() {
    let cancelled = CancelScope::new();
    cancelled.cancel("stop");
    let message = panic_of(|| {
        ends(cancelled.run(async {
            shield(async {
                CancelScope::new()
                    .run(async { panic!("deep inside") })
                    .await
            })
            .await
        }))
    });
    assert_eq!(message, "deep inside");
    assert!(
        !is_cancel_requested(),
        "no frame is left as the current one"
    );
}

#[test]
fn rule_12_a_body_that_panics_and_then_panics_in_its_drop_resumes_the_first() {
    let reports = Reports::new();
    let trap = OnDrop::new(|| panic!("second"));
    let body = poll_fn(move |_| -> Poll<()> {
        let _trap = &trap;
        panic!("first");
    });
    let mut probe = Probe::new(reports.settings().run(CancelScope::new().run(body)));
    assert_eq!(probe.panics(), "first");
    let reports = reports.take();
    let [Report::LaterPanic { frame, message }] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(
        (frame.kind(), message.as_str()),
        (FrameKind::Scope, "second")
    );
}

#[test]
fn rule_12_the_panic_of_a_dropped_nurserys_child_does_not_keep_the_others() {
    let notes = Notes::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            let _guard = OnDrop::new(|| panic!("in `drop`"));
            never().await;
            Ok(())
        });
        let guard = notes.on_drop("other child");
        n.start_soon(async move {
            let _guard = guard;
            never().await;
            Ok(())
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    assert_eq!(panic_of(|| probe.cut()), "in `drop`");
    assert_eq!(notes.take(), ["other child"]);
}

// Rule 13: every cancellation says why.

#[test]
fn rule_13_a_cancellation_carries_its_reason_and_the_callers_location() {
    let scope = CancelScope::new();
    let line = line!() + 1;
    scope.cancel("the disk is full");
    let cancelled = ends(scope.run(never())).unwrap_err();
    assert_eq!(
        *cancelled.reason(),
        CancelReason::Explicit("the disk is full".into())
    );
    assert_eq!(
        (cancelled.location().file(), cancelled.location().line()),
        (file!(), line)
    );
    assert_eq!(scope.cancelled(), Some(cancelled));
}

/// N-064
#[test]
fn rule_13_the_first_reason_stays() {
    let scope = CancelScope::new();
    assert_eq!(scope.cancelled(), None);
    scope.cancel("first");
    scope.cancel("second");
    let handle = scope.clone();
    thread::spawn(move || handle.cancel("third"))
        .join()
        .unwrap();
    let cancelled = ends(scope.run(never())).unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "first");
}

/// N-064
#[test]
fn rule_13_a_nested_scope_tells_the_reason_it_was_stopped_for() {
    let outer = CancelScope::new();
    let mut probe = Probe::new(async {
        let mut borrowed = Box::pin(CancelScope::new().run(CancelScope::new().run(never())));
        let _ = outer.run(&mut borrowed).await;
        borrowed.await
    });
    probe.waits();
    let line = line!() + 1;
    outer.cancel("from the outermost");
    let cancelled = probe.ends().unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "from the outermost");
    assert_eq!(cancelled.location().line(), line);
}

/// N-064
#[test]
fn rule_13_a_nursery_says_why_it_cancelled_itself() {
    type Case = (fn(Nursery<'_, Word>), CancelReason);
    let cases: [Case; 4] = [
        (
            |n| n.start_soon(async { Err("failed".into()) }),
            CancelReason::ChildFailed { child: None },
        ),
        (
            |n| n.start_soon(async { panic!("panicked") }),
            CancelReason::ChildPanicked,
        ),
        (
            |n| {
                n.cancel("asked for");
            },
            CancelReason::Explicit("asked for".into()),
        ),
        (
            |n| {
                n.cancel("the first");
                n.start_soon(async { Err("failed".into()) });
            },
            CancelReason::Explicit("the first".into()),
        ),
    ];
    for (cause, reason) in cases {
        let scope = Drawer::new();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ends(open_nursery(async |n: Nursery<'_, Word>| {
                scope.put(n.cancel_scope());
                cause(n);
                never().await;
                Ok(())
            }))
        }));
        assert!(!matches!(outcome, Ok(Ok(()))));
        let scope = scope.take();
        let cancelled = scope.cancelled().expect("cancelled");
        assert_eq!(*cancelled.reason(), reason);
        assert_eq!(cancelled.location().file(), file!());
    }
}

#[test]
fn rule_13_a_failing_body_is_the_reason_its_children_are_stopped() {
    let scope = Drawer::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        n.start_soon(async {
            never().await;
            Ok(())
        });
        pause().await;
        Err::<(), _>("failed".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["failed"]);
    let cancelled = scope.take().cancelled().unwrap();
    assert_eq!(*cancelled.reason(), CancelReason::BodyFailed);
}

#[test]
fn rule_13_a_nurserys_handle_blames_its_caller() {
    let line = Drawer::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        line.put(line!() + 1);
        n.cancel("asked for");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    let cancelled = lone_cancelled(&failure);
    assert_eq!(cancelled.reason().to_string(), "asked for");
    assert_eq!(cancelled.location().line(), line.take());
}

/// What the imports of this file are for beside the rules: a handle tells how its child ended.
#[test]
fn rule_05_a_handle_outside_the_cancelled_nursery_hears_that_the_child_was_cancelled() {
    let handle = Drawer::new();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        handle.put(n.spawn(async {
            never().await;
            Ok(7)
        }));
        pause().await;
        n.cancel("stop");
        never().await;
        Ok(())
    }));
    assert!(outcome.is_err());
    assert_eq!(ends(handle.take()), Err(ChildEnded::Cancelled));
}

#[test]
fn rule_13_a_frame_that_moves_between_two_cancelled_scopes_is_told_the_reason_of_the_new_one() {
    let (first, second, inner) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
    let gate = Gate::new();
    let mut frame = Box::pin(inner.run(async {
        shield(gate.wait()).await;
        never().await;
    }));
    let mut here = Probe::new(first.run(poll_fn(|cx| frame.as_mut().poll(cx))));
    here.waits();
    first.cancel("first");
    here.poll()
        .is_pending()
        .then_some(())
        .expect("it waits for the shield");
    drop(here);
    second.cancel("second");
    let mut there = Probe::new(second.run(poll_fn(|cx| frame.as_mut().poll(cx))));
    assert!(there.poll().is_pending());
    gate.open();
    assert_eq!(there.ends().unwrap_err().reason().to_string(), "second");
    drop(there);
    // What has parked says, where nothing is cancelled, by what it was stopped.
    assert_eq!(ends(frame).unwrap_err().reason().to_string(), "second");
}
