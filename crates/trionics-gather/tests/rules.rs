//! The rules that speak of exits, and what the other rules mean for contexts.

use std::{
    cell::RefCell,
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures::{StreamExt as _, join, stream::FuturesUnordered};
use trionics_gather::{BlockEnd, Slot, acm, gather_contexts, with_context};
use trionics_nursery::{
    CancelReason, CancelScope, Failure, FrameKind, Nursery, Report, cancel_requested,
    in_current_scope, is_cancel_requested, open_nursery, shield, testing::VirtualClock,
};

mod common;
use common::{
    Drawer, Gate, Notes, OnDrop, Probe, Reports, Word, ends, errors, lone_cancelled, never, pause,
    poll_once, quick, resource,
};

const PATIENCE: Duration = Duration::from_millis(100);

// Rules 1 and 2.

#[test]
fn rule_01_a_shielded_exit_still_sees_the_cancellation() {
    let scope = CancelScope::new();
    let mut seen = Vec::new();
    let context = acm(async |slot: Slot<()>| {
        seen.push(is_cancel_requested());
        slot.provide(()).await;
        seen.push(is_cancel_requested());
        pause().await;
        seen.push(is_cancel_requested());
        // It may notice the cancellation, as any shielded code.
        cancel_requested().await;
        Ok::<(), Failure<Word>>(())
    });
    let outcome = ends(scope.run(with_context(context, async |()| {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(seen, [false, true, true]);
}

#[test]
fn rule_02_a_block_is_stopped_at_a_pending_await_only() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let outcome = ends(scope.run(with_context(quick("a", &notes), async |_| {
        scope.cancel("stop");
        notes.add("goes on");
        ready(()).await;
        notes.add("passes a ready await");
        pause().await;
        notes.add("not reached");
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(
        notes.take(),
        [
            "a enters",
            "goes on",
            "passes a ready await",
            "a sees Cancelled",
            "a has exited"
        ]
    );
}

// Rule 3: inner to outer.

#[test]
fn rule_03_exits_run_from_the_inside_out_each_before_what_it_depends_on() {
    let scope = CancelScope::new();
    let (notes, gates) = (Notes::new(), [Gate::new(), Gate::new(), Gate::new()]);
    let mut probe = Probe::new(scope.run(async {
        with_context(resource("a", &notes, &gates[0]), async |_| {
            let _a = notes.on_drop("block a");
            with_context(resource("b", &notes, &gates[1]), async |_| {
                let _b = notes.on_drop("block b");
                with_context(resource("c", &notes, &gates[2]), async |_| {
                    let _c = notes.on_drop("block c");
                    never().await;
                    Ok(())
                })
                .await
            })
            .await
        })
        .await
    }));
    probe.waits();
    assert_eq!(notes.take(), ["a enters", "b enters", "c enters"]);
    scope.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), ["block c", "c sees Cancelled"]);
    gates[0].open();
    probe.waits();
    assert_eq!(notes.len(), 0, "a's exit has not begun");
    gates[2].open();
    probe.waits();
    assert_eq!(
        notes.take(),
        ["c has exited", "block b", "b sees Cancelled"]
    );
    gates[1].open();
    assert!(probe.ends().is_err());
    assert_eq!(
        notes.take(),
        [
            "b has exited",
            "block a",
            "a sees Cancelled",
            "a has exited"
        ]
    );
}

#[test]
fn rule_03_an_inner_scope_around_a_context_does_not_strike_before_its_exit_is_over() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(outer.run(async {
        let _outer = notes.on_drop("outer");
        let _ = inner
            .run(async {
                let _inner = notes.on_drop("inner");
                with_context(resource("a", &notes, &gate), async |_| {
                    never().await;
                    Ok(())
                })
                .await
            })
            .await;
    }));
    probe.waits();
    notes.take();
    outer.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), ["a sees Cancelled"]);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["a has exited", "inner", "outer"]);
}

#[test]
fn rule_03_the_contexts_of_a_nurserys_children_exit_each_for_itself() {
    let scope = CancelScope::new();
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        for (name, exit) in [("slow", gate.wait()), ("fast", Gate::new().wait())] {
            let child_notes = notes.clone();
            n.start_soon(async move {
                let context = acm(async |slot: Slot<()>| {
                    slot.provide(()).await;
                    if name == "slow" {
                        exit.await;
                    }
                    child_notes.add(name);
                    Ok(())
                });
                with_context(context, async |()| {
                    never().await;
                    Ok(())
                })
                .await
            });
        }
        Ok(())
    })));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), ["fast"]);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["slow"]);
}

// Rule 4: work that finished wins.

#[test]
fn rule_04_a_block_that_is_ready_in_the_poll_of_the_cancellation_has_its_value() {
    for exit_is_quick in [true, false] {
        let scope = CancelScope::new();
        let (notes, exit, gate) = (Notes::new(), Gate::new(), Gate::new());
        if exit_is_quick {
            exit.open();
        }
        let mut probe = Probe::new(scope.run(with_context(
            resource("a", &notes, &exit),
            async |_| {
                gate.wait().await;
                Ok(7)
            },
        )));
        probe.waits();
        scope.cancel("stop");
        gate.open();
        if !exit_is_quick {
            probe.waits();
            exit.open();
        }
        assert_eq!(probe.ends().expect("nothing was stopped"), Ok(7));
        assert_eq!(
            notes.take(),
            ["a enters", "a sees Completed", "a has exited"]
        );
        assert!(!scope.is_caught());
    }
}

#[test]
fn rule_04_a_cancellation_during_the_exit_takes_no_value_away() {
    let scope = CancelScope::new();
    let (notes, exit) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(scope.run(gather_contexts(
        vec![resource("a", &notes, &exit), resource("b", &notes, &exit)],
        async |_| Ok(7),
    )));
    probe.waits();
    scope.cancel("during the exits");
    probe.waits();
    exit.open();
    assert_eq!(probe.ends().expect("nothing was stopped"), Ok(7));
    assert!(!scope.is_caught());
}

// Rule 5: only the outermost cancelled scope hears of it.

#[test]
fn rule_05_contexts_under_an_outer_cancellation_do_not_return() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(scope.run(async {
        let _ = gather_contexts([quick("a", &notes), quick("b", &notes)], async |_| {
            never().await;
            Ok(())
        })
        .await;
        notes.add("code after");
    }));
    probe.waits();
    notes.take();
    scope.cancel("stop");
    assert!(probe.ends().is_err());
    let mut seen = notes.take();
    seen.sort();
    assert_eq!(
        seen,
        [
            "a has exited",
            "a sees Cancelled",
            "b has exited",
            "b sees Cancelled"
        ]
    );
}

#[test]
fn rule_05_borrowed_contexts_return_cancelled_where_nothing_is_cancelled() {
    let limit = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(async {
        let block = async |_| {
            never().await;
            Ok(())
        };
        let mut one = Box::pin(with_context(quick("one", &notes), block));
        let mut set = Box::pin(gather_contexts([quick("set", &notes)], async |_| {
            never().await;
            Ok(())
        }));
        assert!(
            limit
                .run(async { join!(&mut one, &mut set) })
                .await
                .is_err()
        );
        (one.await.unwrap_err(), set.await.unwrap_err())
    });
    probe.waits();
    limit.cancel("out of time");
    let (one, set) = probe.ends();
    let reason = one.as_cancelled().expect("a leaf").reason().to_string();
    assert_eq!(reason, "out of time");
    assert_eq!(lone_cancelled(&set).reason().to_string(), "out of time");
    assert_eq!(notes.take().len(), 6);
}

#[test]
fn rule_05_borrowed_contexts_in_a_foreign_set_are_woken() {
    let limit = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(async {
        let mut set: FuturesUnordered<_> = ["a", "b"]
            .map(|name| {
                with_context(quick(name, &notes), async |_| {
                    never().await;
                    Ok(())
                })
            })
            .into_iter()
            .collect();
        assert!(limit.run(set.next()).await.is_err());
        let mut cancelled = 0;
        while let Some(outcome) = set.next().await {
            cancelled += usize::from(outcome.unwrap_err().is_cancelled());
        }
        cancelled
    });
    probe.waits();
    limit.cancel("out of time");
    assert_eq!(probe.ends(), 2);
    assert_eq!(notes.take().len(), 6);
}

// Rule 6: an error is never lost to a cancellation.

#[test]
fn rule_06_an_exit_that_fails_under_a_cancellation_is_heard() {
    for gathered in [false, true] {
        let scope = CancelScope::new();
        let (reports, gate, notes) = (Reports::new(), Gate::new(), Notes::new());
        let context = acm(async |slot: Slot<()>| {
            slot.provide(()).await;
            gate.wait().await;
            Err("unsubscribe failed".into())
        });
        let block = async || {
            never().await;
            Ok::<(), Failure<Word>>(())
        };
        let mut probe = Probe::new(reports.settings().run(scope.run(async {
            let result = if gathered {
                gather_contexts([context], async |[()]| block().await).await
            } else {
                with_context(context, async |()| block().await).await
            };
            notes.add("code after");
            result
        })));
        probe.waits();
        scope.cancel("stop");
        probe.waits();
        gate.open();
        let failure = probe.ends().expect("the body was ready").unwrap_err();
        assert_eq!(errors(&failure), ["unsubscribe failed"]);
        assert_eq!(failure.leaves().count(), 1, "{failure:?}");
        assert_eq!(failure.is_group(), gathered);
        assert_eq!(notes.len(), 1);
        let reports = reports.take();
        assert!(
            matches!(&reports[..], [Report::FailedUnderCancellation { .. }]),
            "{reports:?}"
        );
    }
}

#[test]
fn rule_06_a_failing_block_and_a_failing_exit_are_both_heard_in_that_order() {
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        pause().await;
        Err::<(), Failure<Word>>("exit".into())
    });
    let failure = ends(with_context(context, async |()| {
        pause().await;
        Err::<(), _>("block".into())
    }))
    .unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["block", "exit"]);
}

#[test]
fn rule_06_a_block_that_failed_before_the_cancellation_has_failed() {
    let scope = CancelScope::new();
    let (notes, exit) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(
        scope.run(with_context(resource("a", &notes, &exit), async |_| {
            Err::<(), _>("block".into())
        })),
    );
    probe.waits();
    scope.cancel("during the exit");
    probe.waits();
    exit.open();
    assert_eq!(errors(&probe.ends().unwrap().unwrap_err()), ["block"]);
}

// Rule 7: exits are shielded.

#[test]
fn rule_07_an_exit_runs_to_its_end_however_often_it_is_cancelled() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let (notes, gate) = (Notes::new(), Gate::new());
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        for step in 0..3 {
            pause().await;
            notes.add(format!("step {step}"));
        }
        gate.wait().await;
        notes.add("the end");
        Ok::<(), Failure<Word>>(())
    });
    let mut probe = Probe::new(outer.run(inner.run(with_context(context, async |()| {
        never().await;
        Ok(())
    }))));
    probe.waits();
    inner.cancel("once");
    assert!(probe.poll().is_pending());
    outer.cancel("twice");
    probe.waits();
    inner.cancel("three times");
    probe.waits();
    assert_eq!(notes.take(), ["step 0", "step 1", "step 2"]);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["the end"]);
}

/// The scope in which they were made was never cancelled itself: what reaches them depends on where they are.
#[test]
fn rule_07_an_exit_shields_carried_work_whose_scope_has_ended_in_a_cancelled_one() {
    for polled_before in [false, true] {
        let scope = CancelScope::new();
        let gate = Gate::new();
        let place = RefCell::new(None);
        let context = acm(async |slot: Slot<()>| {
            let inner = CancelScope::new();
            let making = inner.run(async {
                let mut carried = Box::pin(in_current_scope(never()));
                if polled_before {
                    assert!(poll_once(&mut carried).await.is_none());
                }
                scope.cancel("stop");
                *place.borrow_mut() = Some(carried);
            });
            making.await.unwrap();
            slot.provide(()).await;
            gate.wait().await;
            Ok::<(), Failure<Word>>(())
        });
        let mut probe = Probe::new(scope.run(with_context(context, async |()| Ok(()))));
        probe.waits();
        let mut carried = Probe::new(place.take().unwrap());
        carried.waits();
        gate.open();
        assert!(probe.ends().is_ok(), "the work had finished");
        assert!(carried.ends().is_err(), "{polled_before}");
    }
}

#[test]
fn rule_07_a_set_up_can_be_cancelled_and_owes_no_exit() {
    let scope = CancelScope::new();
    let (notes, reports) = (Notes::new(), Reports::new());
    let context = acm(async |slot: Slot<()>| {
        let _guard = notes.on_drop("set-up dropped");
        never().await;
        slot.provide(()).await;
        notes.add("exit");
        Ok::<(), Failure<Word>>(())
    });
    let mut probe = Probe::new(reports.settings().run(scope.run(with_context(
        context,
        async |()| {
            notes.add("block");
            Ok(())
        },
    ))));
    probe.waits();
    scope.cancel("stop");
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["set-up dropped"]);
    assert!(reports.take().is_empty());
}

#[test]
fn rule_07_a_failing_background_task_of_the_context_unwinds_the_block_first() {
    let (background, exit, block) = (Gate::new(), Gate::new(), Gate::new());
    let notes = Notes::new();
    let context = acm(async |slot: Slot<()>| {
        let result = open_nursery(async |n: Nursery<'_, Word>| {
            let fails = background.wait();
            n.start_soon(async move {
                fails.await;
                Err("the connection broke".into())
            });
            let end = slot.provide(()).await;
            assert_eq!(end, BlockEnd::Cancelled);
            notes.add("provide has returned");
            exit.wait().await;
            notes.add("exit inside the cancelled nursery");
            Ok(())
        })
        .await;
        pause().await;
        notes.add("exit outside of it");
        result
    });
    let mut probe = Probe::new(with_context(context, async |()| {
        let _guard = notes.on_drop("block");
        shield(block.wait()).await;
        notes.add("the block's own exit");
        never().await;
        Ok(())
    }));
    probe.waits();
    background.open();
    probe.waits();
    assert_eq!(notes.len(), 0, "the block finishes its shield first");
    block.open();
    probe.waits();
    assert_eq!(
        notes.take(),
        ["the block's own exit", "block", "provide has returned"]
    );
    exit.open();
    assert_eq!(errors(&probe.ends().unwrap_err()), ["the connection broke"]);
    assert_eq!(
        notes.take(),
        ["exit inside the cancelled nursery", "exit outside of it"]
    );
}

#[test]
fn rule_07_a_cancelled_context_among_gathered_ones_unwinds_the_block() {
    let (background, notes) = (Gate::new(), Notes::new());
    let fragile = acm(async |slot: Slot<Word>| {
        let result = open_nursery(async |n: Nursery<'_, Word>| {
            let fails = background.wait();
            n.start_soon(async move {
                fails.await;
                Err("broken".into())
            });
            slot.provide("fragile").await;
            pause().await;
            notes.add("fragile has exited");
            Ok(())
        });
        result.await
    });
    let mut probe = Probe::new(gather_contexts(
        (quick("steady", &notes), fragile),
        async |values| {
            assert_eq!(values, ("steady", "fragile"));
            let _guard = notes.on_drop("block");
            never().await;
            Ok(())
        },
    ));
    probe.waits();
    notes.take();
    background.open();
    assert_eq!(errors(&probe.ends().unwrap_err()), ["broken"]);
    let notes = notes.take();
    assert_eq!(notes[0], "block");
    assert!(notes.contains(&"fragile has exited".to_owned()));
    assert!(notes.contains(&"steady sees Cancelled".to_owned()));
    assert!(notes.contains(&"steady has exited".to_owned()));
}

#[test]
fn rule_07_every_frame_from_provide_out_to_the_context_is_a_shield_for_what_follows() {
    let scope = CancelScope::new();
    let (notes, gate) = (Notes::new(), Gate::new());
    let context = acm(async |slot: Slot<()>| {
        let inner = CancelScope::new();
        let handle = inner.clone();
        inner
            .run(async {
                open_nursery(async |_: Nursery<'_, Word>| {
                    slot.provide(()).await;
                    gate.wait().await;
                    notes.add("in the nursery");
                    pause().await;
                    Ok(())
                })
                .await
                .unwrap();
                pause().await;
                notes.add("in the scope");
                handle.cancel("even its own");
                pause().await;
                notes.add("still in the scope");
            })
            .await
            .unwrap();
        pause().await;
        notes.add("in the context");
        Ok::<(), Failure<Word>>(())
    });
    let mut probe = Probe::new(scope.run(async {
        let outcome = with_context(context, async |()| {
            never().await;
            Ok(())
        })
        .await;
        notes.add("not reached");
        outcome
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    scope.cancel("again");
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(
        notes.take(),
        [
            "in the nursery",
            "in the scope",
            "still in the scope",
            "in the context"
        ]
    );
}

#[test]
fn rule_07_a_scope_opened_in_an_exit_can_be_cancelled_by_itself() {
    let scope = CancelScope::new();
    let mut ended = None;
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        let limit = CancelScope::new();
        limit.cancel("the goodbye took too long");
        ended = Some(limit.run(never()).await.unwrap_err());
        pause().await;
        Ok::<(), Failure<Word>>(())
    });
    let outcome = ends(scope.run(with_context(context, async |()| {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(
        ended.unwrap().reason().to_string(),
        "the goodbye took too long"
    );
}

#[test]
fn rule_07_a_nursery_opened_in_an_exit_is_shielded_with_its_children() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        open_nursery(async |n: Nursery<'_, Word>| {
            for _ in 0..3 {
                let child_notes = notes.clone();
                n.start_soon(async move {
                    pause().await;
                    child_notes.add("goodbye");
                    Ok(())
                });
            }
            pause().await;
            Ok(())
        })
        .await
    });
    let outcome = ends(scope.run(with_context(context, async |()| {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(notes.len(), 3);
}

#[test]
fn rule_07_a_background_task_works_until_the_context_ends_it() {
    let notes = Notes::new();
    let context = acm(async |slot: Slot<()>| {
        open_nursery(async |n: Nursery<'_, Word>| {
            let (child_notes, flushed) = (notes.clone(), Gate::new());
            let wait = flushed.wait();
            n.start_soon(async move {
                wait.await;
                child_notes.add("background task");
                Ok(())
            });
            slot.provide(()).await;
            // The exit needs the background task, as a goodbye needs its connection.
            flushed.open();
            pause().await;
            Ok(())
        })
        .await
    });
    ends(with_context(context, async |()| Ok(()))).unwrap();
    assert_eq!(notes.len(), 1);
}

// Rule 8: poll first.

#[test]
fn rule_08_a_context_in_a_cancelled_scope_is_entered_as_far_as_nothing_is_pending() {
    let scope = CancelScope::new();
    scope.cancel("before the start");
    let notes = Notes::new();
    let outcome = ends(scope.run(with_context(quick("a", &notes), async |_| {
        notes.add("block");
        pause().await;
        notes.add("not reached");
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(
        notes.take(),
        ["a enters", "block", "a sees Cancelled", "a has exited"]
    );
}

#[test]
fn rule_08_a_context_and_block_without_a_pending_await_give_their_value() {
    let scope = CancelScope::new();
    scope.cancel("before the start");
    let context = acm(async |slot: Slot<u32>| {
        slot.provide(6).await;
        Ok::<(), Failure<Word>>(())
    });
    let outcome = ends(scope.run(with_context(context, async |value| Ok(value + 1))));
    assert_eq!(outcome.expect("not stopped"), Ok(7));
}

#[test]
fn rule_08_after_it_had_to_wait_a_cancelled_frame_enters_no_context() {
    let scope = CancelScope::new();
    let (exit, go_on, notes) = (Gate::new(), Gate::new(), Notes::new());
    let mut probe = Probe::new(scope.run(async {
        join!(shield(exit.wait()), async {
            go_on.wait().await;
            with_context(quick("late", &notes), async |_| Ok(())).await
        })
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    go_on.open();
    probe.waits();
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.len(), 0);
}

// Rule 9: a frame that nobody polls cannot hang a cancellation.

#[test]
fn rule_09_a_context_that_nobody_polls_is_given_up_on_even_in_its_exit() {
    for exit_has_begun in [false, true] {
        let (clock, reports) = (VirtualClock::new(), Reports::new());
        let scope = CancelScope::new();
        let (notes, gate) = (Notes::new(), Gate::new());
        let program = scope.run(async {
            let mut context = Box::pin(with_context(
                resource("a", &notes, &Gate::new()),
                async |_| {
                    gate.wait().await;
                    Ok(())
                },
            ));
            assert!(poll_once(&mut context).await.is_none());
            if exit_has_begun {
                gate.open();
                assert!(poll_once(&mut context).await.is_none());
                assert_eq!(notes.take(), ["a enters", "a sees Completed"]);
            }
            never().await;
            drop(context);
        });
        let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
        probe.waits();
        scope.cancel("stop");
        probe.waits();
        clock.advance(PATIENCE - Duration::from_millis(1));
        probe.waits();
        assert!(reports.take().is_empty());
        clock.advance(Duration::from_millis(1));
        assert!(probe.ends().is_err());
        let reports = reports.take();
        assert!(!reports.is_empty());
        assert!(
            reports
                .iter()
                .all(|report| matches!(report, Report::NotPolled(_))),
            "{reports:?}"
        );
    }
}

#[test]
fn rule_09_an_exit_that_waits_for_its_peer_is_kept_with_and_without_a_clock() {
    for with_clock in [true, false] {
        let (clock, reports) = (VirtualClock::new(), Reports::new());
        let scope = CancelScope::new();
        let (notes, gate) = (Notes::new(), Gate::new());
        let mut settings = reports.settings();
        if with_clock {
            settings = settings.clock(clock.clone());
        }
        let mut probe = Probe::new(settings.run(scope.run(with_context(
            resource("a", &notes, &gate),
            async |_| {
                never().await;
                Ok(())
            },
        ))));
        probe.waits();
        scope.cancel("stop");
        for _ in 0..1_000 {
            assert!(probe.poll().is_pending());
            clock.advance(PATIENCE);
        }
        gate.open();
        assert!(probe.ends().is_err());
        assert_eq!(notes.take().last().unwrap(), "a has exited");
        assert!(reports.take().is_empty());
    }
}

#[test]
fn rule_09_exits_that_wait_for_their_peers_are_kept_in_a_foreign_set_with_and_without_a_clock() {
    for with_clock in [true, false] {
        let (clock, reports) = (VirtualClock::new(), Reports::new());
        let scope = CancelScope::new();
        let (notes, gate) = (Notes::new(), Gate::new());
        let mut settings = reports.settings();
        if with_clock {
            settings = settings.clock(clock.clone());
        }
        let mut probe = Probe::new(settings.run(scope.run(async {
            let mut set: FuturesUnordered<_> = ["a", "b", "c"]
                .map(|name| {
                    with_context(resource(name, &notes, &gate), async |_| {
                        never().await;
                        Ok(())
                    })
                })
                .into_iter()
                .collect();
            while set.next().await.is_some() {}
        })));
        probe.waits();
        scope.cancel("stop");
        for _ in 0..100 {
            probe.waits();
            clock.advance(PATIENCE);
            if !with_clock {
                assert!(probe.poll().is_pending());
            }
        }
        probe.waits();
        gate.open();
        assert!(probe.ends().is_err());
        let exited = notes
            .take()
            .iter()
            .filter(|note| note.ends_with("exited"))
            .count();
        assert_eq!(exited, 3);
        assert!(reports.take().is_empty());
    }
}

#[test]
fn rule_09_a_block_that_needs_long_to_unwind_does_not_cost_its_context_the_exit() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let scope = CancelScope::new();
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(scope.run(
        with_context(quick("a", &notes), async |_| {
            shield(gate.wait()).await;
            never().await;
            Ok(())
        }),
    )));
    probe.waits();
    scope.cancel("stop");
    for _ in 0..1_000 {
        probe.waits();
        clock.advance(PATIENCE);
    }
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Cancelled", "a has exited"]
    );
    assert!(reports.take().is_empty());
}

// Rule 10: a frame moved to another place re-parents.

#[test]
fn rule_10_a_moved_context_unwinds_with_its_new_place() {
    let (first, second) = (CancelScope::new(), CancelScope::new());
    let (notes, reports, leave) = (Notes::new(), Reports::new(), Gate::new());
    let mut probe = Probe::new(reports.settings().run(async {
        let mut context = Box::pin(gather_contexts(
            [quick("a", &notes), quick("b", &notes)],
            async |_| {
                never().await;
                Ok(())
            },
        ));
        first
            .run(async {
                assert!(poll_once(&mut context).await.is_none());
                leave.wait().await;
            })
            .await
            .unwrap();
        assert!(second.run(context).await.is_err());
    }));
    probe.waits();
    leave.open();
    probe.waits();
    first.cancel("it has left");
    assert!(!probe.is_woken());
    notes.take();
    second.cancel("it is here");
    probe.ends();
    assert_eq!(notes.take().len(), 4);
    assert!(reports.take().is_empty());
}

#[test]
fn rule_10_a_context_that_comes_under_a_cancelled_frame_is_left_in_order() {
    let cancelled = CancelScope::new();
    cancelled.cancel("nobody may work here");
    let (notes, reports) = (Notes::new(), Reports::new());
    ends(reports.settings().run(async {
        let mut set: FuturesUnordered<_> = ["a", "b"]
            .map(|name| {
                with_context(quick(name, &notes), async |_| {
                    never().await;
                    Ok(())
                })
            })
            .into_iter()
            .collect();
        let work = CancelScope::new();
        let mut moving = Box::pin(work.run(async { while set.next().await.is_some() {} }));
        assert!(poll_once(&mut moving).await.is_none());
        assert!(cancelled.run(&mut moving).await.is_err());
    }));
    assert_eq!(notes.take().len(), 6);
    assert!(reports.take().is_empty());
}

// Rule 11: a drop from outside stays a drop.

#[test]
fn rule_11_a_foreign_drop_reports_each_exit_that_had_not_run() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let line = line!() + 2;
    let mut probe = Probe::new(reports.settings().run(async {
        gather_contexts([quick("a", &notes), quick("b", &notes)], async |_| {
            let _guard = notes.on_drop("block");
            never().await;
            Ok(())
        })
        .await
    }));
    probe.waits();
    notes.take();
    probe.cut();
    assert_eq!(notes.take(), ["block"], "dropped, no exit has run");
    let reports = reports.take();
    assert_eq!(reports.len(), 2, "{reports:?}");
    for report in &reports {
        let Report::Dropped(frame) = report else {
            panic!("{report}");
        };
        assert_eq!(frame.kind(), FrameKind::Context);
        assert_eq!(
            (frame.location().file(), frame.location().line()),
            (file!(), line)
        );
    }
}

#[test]
fn rule_11_a_foreign_drop_goes_from_the_inside_out() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let level = |name: Word| {
        let notes = notes.clone();
        acm(async move |slot: Slot<()>| {
            let _guard = notes.on_drop(name);
            slot.provide(()).await;
            Ok::<(), Failure<Word>>(())
        })
    };
    let mut probe = Probe::new(reports.settings().run(async {
        let timeout = Gate::new();
        let work = with_context(level("outer context"), async |()| {
            let _guard = notes.on_drop("outer block");
            with_context(level("inner context"), async |()| {
                let _guard = notes.on_drop("inner block");
                timeout.open();
                never().await;
                Ok(())
            })
            .await
        });
        futures::future::select(Box::pin(work), timeout.wait()).await;
    }));
    probe.ends();
    assert_eq!(
        notes.take(),
        [
            "inner block",
            "inner context",
            "outer block",
            "outer context"
        ]
    );
    assert_eq!(reports.take().len(), 2);
}

#[test]
fn rule_11_an_exit_that_is_cut_off_is_reported() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(with_context(
        resource("a", &notes, &Gate::new()),
        async |_| Ok(()),
    )));
    probe.waits();
    assert_eq!(notes.take(), ["a enters", "a sees Completed"]);
    probe.cut();
    let reports = reports.take();
    assert!(matches!(&reports[..], [Report::Dropped(_)]), "{reports:?}");
}

#[test]
fn rule_11_a_context_that_has_not_provided_or_has_exited_owes_nothing() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let entering = acm(async |slot: Slot<()>| {
        never().await;
        slot.provide(()).await;
        Ok::<(), Failure<Word>>(())
    });
    let mut probe = Probe::new(reports.settings().run(async {
        with_context(quick("exited", &notes), async |_| Ok(()))
            .await
            .unwrap();
        with_context(entering, async |()| Ok(())).await
    }));
    probe.waits();
    probe.cut();
    let unpolled = with_context(quick("unpolled", &notes), async |_| Ok(()));
    drop(unpolled);
    assert!(reports.take().is_empty());
}

// Rule 12: panics unwind too.

#[test]
fn rule_12_a_panic_in_the_block_runs_every_exit_around_and_is_resumed() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let scope = CancelScope::new();
    let mut probe = Probe::new(reports.settings().run(scope.run(async {
        with_context(quick("outer", &notes), async |_| {
            gather_contexts([quick("a", &notes), quick("b", &notes)], async |_| {
                pause().await;
                if notes.len() > 0 {
                    std::panic::panic_any(42_u32);
                }
                Ok(())
            })
            .await
        })
        .await
    })));
    let payload = catch_unwind(AssertUnwindSafe(|| probe.settle().is_ready())).unwrap_err();
    assert_eq!(*payload.downcast::<u32>().unwrap(), 42);
    let notes = notes.take();
    assert_eq!(notes[..3], ["outer enters", "a enters", "b enters"]);
    for name in ["a", "b"] {
        assert!(
            notes.contains(&format!("{name} sees Panicked")),
            "{notes:?}"
        );
        assert!(notes.contains(&format!("{name} has exited")), "{notes:?}");
    }
    assert_eq!(notes[7..], ["outer sees Panicked", "outer has exited"]);
    assert!(reports.take().is_empty());
}

#[test]
fn rule_12_a_panic_in_a_set_up_lets_the_others_exit() {
    let notes = Notes::new();
    let panics = acm(async |_: Slot<Word>| -> Result<(), Failure<Word>> {
        pause().await;
        panic!("in set-up");
    });
    let mut probe = Probe::new(gather_contexts((quick("a", &notes), panics), async |_| {
        Ok(())
    }));
    assert_eq!(probe.panics(), "in set-up");
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Cancelled", "a has exited"]
    );
}

#[test]
fn rule_12_a_panic_in_an_exit_lets_the_others_exit_and_outranks_their_failures() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let panics = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        if notes.len() > 0 {
            panic!("in an exit");
        }
        Ok::<(), Failure<Word>>(())
    });
    let fails = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        pause().await;
        Err("another exit".into())
    });
    let mut probe = Probe::new(
        reports
            .settings()
            .run(with_context(quick("outer", &notes), async |_| {
                gather_contexts((panics, quick("inner", &notes), fails), async |_| Ok(())).await
            })),
    );
    assert_eq!(probe.panics(), "in an exit");
    let notes = notes.take();
    assert!(notes.contains(&"inner has exited".to_owned()), "{notes:?}");
    assert_eq!(notes[4..], ["outer sees Panicked", "outer has exited"]);
    let reports = reports.take();
    assert!(
        matches!(
            &reports[..],
            [Report::FailuresBehindPanic { failures: 1, .. }]
        ),
        "{reports:?}"
    );
}

#[test]
fn rule_12_a_panic_while_a_stopped_block_is_dropped_still_runs_the_exit() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(scope.run(with_context(quick("a", &notes), async |_| {
        let _guard = OnDrop::new(|| panic!("in `drop`"));
        never().await;
        Ok(())
    })));
    probe.waits();
    scope.cancel("stop");
    assert_eq!(probe.panics(), "in `drop`");
    assert_eq!(notes.take()[2..], ["a has exited"]);
}

#[test]
fn rule_12_the_panic_of_the_block_is_resumed_and_that_of_an_exit_goes_to_the_hook() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let panics = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        pause().await;
        if notes.len() == 0 {
            panic!("second");
        }
        Ok::<(), Failure<Word>>(())
    });
    let mut probe = Probe::new(reports.settings().run(with_context(panics, async |()| {
        if notes.len() == 0 {
            panic!("first");
        }
        Ok(())
    })));
    assert_eq!(probe.panics(), "first");
    let reports = reports.take();
    let [Report::LaterPanic { message, .. }] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(message, "second");
}

#[test]
fn rule_12_a_panic_in_a_child_runs_the_exits_of_its_siblings_and_of_the_code_around() {
    let notes = Notes::new();
    let mut probe = Probe::new(with_context(quick("around", &notes), async |_| {
        open_nursery(async |n: Nursery<'_, Word>| {
            let child_notes = notes.clone();
            n.start_soon(async move {
                let context = acm(async |slot: Slot<()>| {
                    slot.provide(()).await;
                    pause().await;
                    child_notes.add("sibling has exited");
                    Ok(())
                });
                with_context(context, async |()| {
                    never().await;
                    Ok(())
                })
                .await
            });
            n.start_soon(async {
                pause().await;
                panic!("in a child");
            });
            never().await;
            Ok(())
        })
        .await
    }));
    assert_eq!(probe.panics(), "in a child");
    assert_eq!(
        notes.take(),
        [
            "around enters",
            "sibling has exited",
            "around sees Panicked",
            "around has exited"
        ]
    );
}

#[test]
fn rule_12_a_panicking_exit_outranks_parking() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let panics = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        pause().await;
        if notes.len() > 0 {
            panic!("in the exit");
        }
        Ok::<(), Failure<Word>>(())
    });
    let mut probe = Probe::new(scope.run(with_context(quick("around", &notes), async |_| {
        with_context(panics, async |()| {
            never().await;
            Ok(())
        })
        .await
    })));
    probe.waits();
    scope.cancel("stop");
    assert_eq!(probe.panics(), "in the exit");
    assert_eq!(
        notes.take()[1..],
        ["around sees Panicked", "around has exited"]
    );
}

// Rule 13: every cancellation says why.

#[test]
fn rule_13_a_block_that_lost_its_context_can_say_so() {
    let reason = Drawer::new();
    let context = acm(async |slot: Slot<()>| {
        // Gives up on the block.
        let mut provide = Box::pin(slot.provide(()));
        assert!(poll_once(&mut provide).await.is_none());
        pause().await;
        drop(provide);
        pause().await;
        Ok::<(), Failure<Word>>(())
    });
    let outcome = ends(with_context(context, async |()| {
        let block = CancelScope::new();
        shield(async {
            let mut watched = Box::pin(block.run(cancel_requested()));
            (&mut watched).await.unwrap();
            reason.put(is_cancel_requested());
        })
        .await;
        never().await;
        Ok(())
    }));
    let failure = outcome.unwrap_err();
    assert!(reason.take());
    let told = failure.to_string();
    assert!(told.contains("context") && told.contains("ended"), "{told}");
}

#[test]
fn rule_13_a_borrowed_gathering_names_the_reason_and_location() {
    let limit = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(async {
        let mut set = Box::pin(gather_contexts([quick("a", &notes)], async |_| {
            never().await;
            Ok(())
        }));
        let _ = limit.run(&mut set).await;
        set.await.unwrap_err()
    });
    probe.waits();
    let line = line!() + 1;
    limit.cancel("out of time");
    let failure = probe.ends();
    let cancelled = lone_cancelled(&failure);
    assert_eq!(
        *cancelled.reason(),
        CancelReason::Explicit("out of time".into())
    );
    assert_eq!(
        (cancelled.location().file(), cancelled.location().line()),
        (file!(), line)
    );
}

/// Rules 5 and 7: a set polls only what was woken
#[test]
fn rule_05_what_parked_beside_provide_in_a_foreign_set_comes_back_when_the_exit_begins() {
    for cancels_the_inner_scope in [false, true] {
        let (scope, inner, gate) = (CancelScope::new(), CancelScope::new(), Gate::new());
        let handle = inner.clone();
        let context = acm(async |slot: Slot<()>| {
            let mut set: FuturesUnordered<_> = [inner.run(never())].into_iter().collect();
            join!(slot.provide(()), set.next());
            Ok::<(), Failure<Word>>(())
        });
        let mut probe = Probe::new(scope.run(with_context(context, async |()| {
            shield(gate.wait()).await;
            never().await;
            Ok(())
        })));
        probe.waits();
        scope.cancel("stop");
        probe.waits();
        if cancels_the_inner_scope {
            handle.cancel("own");
            probe.waits();
        }
        gate.open();
        assert!(probe.ends().is_err());
    }
}

/// Rules 8 and 11: what a cancelled scope that has had to wait was told to finish in a new frame is dropped with that
/// frame, which parks unpolled, and reported. It is no frame inside the new one: for that it would have to be polled there
/// (rule 10). Awaited as it is, or in a shield, which may begin, it comes to its end.
#[test]
fn rule_08_half_run_work_that_is_given_to_a_frame_that_may_not_begin_is_dropped_and_reported() {
    #[derive(Debug, PartialEq)]
    enum Finishes {
        InANewScope,
        InAShield,
        AsItIs,
    }
    for finishes in [Finishes::InANewScope, Finishes::InAShield, Finishes::AsItIs] {
        let (gate, notes, reports) = (&Gate::new(), &Notes::new(), Reports::new());
        let scope = CancelScope::new();
        let mut probe = Probe::new(reports.settings().run(scope.run(async {
            let context = acm(async |slot: Slot<()>| {
                slot.provide(()).await;
                gate.wait().await;
                notes.add("exit");
                Ok::<(), Failure<Word>>(())
            });
            let mut work = Box::pin(with_context(context, async |()| {
                scope.cancel("stop");
                Ok(())
            }));
            assert!(poll_once(&mut work).await.is_none());
            pause().await;
            // The scope has waited for the exit by now.
            let _: Result<_, Failure<Word>> = match finishes {
                Finishes::InANewScope => match CancelScope::new().run(work).await {
                    Ok(outcome) => outcome,
                    Err(cancelled) => Err(Failure::cancelled(cancelled)),
                },
                Finishes::InAShield => shield(work).await,
                Finishes::AsItIs => work.await,
            };
            notes.add("the code goes on to its next await");
            pause().await;
            notes.add("not reached");
        })));
        if finishes == Finishes::InANewScope {
            assert!(probe.ends().is_err());
            let told = reports.take();
            assert!(
                matches!(&told[..], [Report::Dropped(frame)] if frame.kind() == FrameKind::Context),
                "{told:?}"
            );
            assert!(notes.take().is_empty());
        } else {
            probe.waits();
            gate.open();
            assert!(probe.ends().is_err());
            assert!(reports.take().is_empty());
            let noted = ["exit", "the code goes on to its next await"];
            assert_eq!(notes.take(), noted, "{finishes:?}");
        }
    }
}
