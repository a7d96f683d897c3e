//! Exit stacks: entering at run time, exits in the reverse order, and moving everything to another stack.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures::FutureExt as _;
use trionics_errgroup::LibraryFailure;
use trionics_gather::{
    AsyncContext, BlockEnd, ExitStack, LocalExitStack, Slot, acm, null_context, nursery_context,
    open_exit_stack, open_local_exit_stack, with_context,
};
use trionics_nursery::{CancelScope, Failure, Nursery, checkpoint, open_nursery, outside, shield};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Reports, Word, ends, errors, never, panic_of, pause, text,
};

/// A context that provides its name, notes what it sees, and takes an await to exit.
fn named<'a>(
    name: Word,
    notes: &'a Notes,
) -> impl AsyncContext<Value = Word, Error = Word, Run: Send> + Send + use<'a> {
    acm(async move |slot: Slot<Word>| {
        pause().await;
        notes.add(format!("{name} enters"));
        let end = slot.provide(name).await;
        notes.add(format!("{name} sees {end:?}"));
        pause().await;
        notes.add(format!("{name} has exited"));
        Ok(())
    })
}

/// What is noted when `names` are left in this order with `end`.
fn left(names: &[Word], end: BlockEnd) -> Vec<String> {
    names
        .iter()
        .flat_map(|name| [format!("{name} sees {end:?}"), format!("{name} has exited")])
        .collect()
}

#[test]
fn exits_run_one_after_another_in_the_reverse_order_however_the_body_ends() {
    for end in [
        BlockEnd::Completed,
        BlockEnd::Failed,
        BlockEnd::Cancelled,
        BlockEnd::Panicked,
    ] {
        let (scope, notes, reports) = (CancelScope::new(), Notes::new(), Reports::new());
        let run = reports.settings().run(scope.run(open_exit_stack(
            async |stack: ExitStack<'_, Word>| {
                assert_eq!(stack.enter(named("a", &notes)).await?, "a");
                assert_eq!(stack.enter(named("b", &notes)).await?, "b");
                stack.push(async |seen| {
                    notes.add(format!("pushed sees {seen:?}"));
                    pause().await;
                    notes.add("pushed has exited");
                    Ok(())
                });
                assert_eq!(stack.enter(named("c", &notes)).await?, "c");
                assert_eq!(stack.len(), 4);
                notes.take();
                match end {
                    BlockEnd::Completed => Ok(7),
                    BlockEnd::Failed => Err("body".into()),
                    BlockEnd::Cancelled => {
                        scope.cancel("stop");
                        never().await;
                        unreachable!()
                    }
                    _ => panic!("the body's"),
                }
            },
        )));
        let outcome = catch_unwind(AssertUnwindSafe(|| ends(run)));
        match (end, outcome) {
            (BlockEnd::Completed, Ok(Ok(Ok(7)))) | (BlockEnd::Cancelled, Ok(Err(_))) => {}
            (BlockEnd::Failed, Ok(Ok(Err(failure)))) => {
                assert_eq!(failure.into_leaf().unwrap(), "body");
            }
            (BlockEnd::Panicked, Err(payload)) => assert_eq!(text(&*payload), "the body's"),
            (end, outcome) => panic!("{end:?}: {outcome:?}"),
        }
        assert_eq!(notes.take(), left(&["c", "pushed", "b", "a"], end));
        assert!(reports.take().is_empty());
    }
}

#[test]
fn a_stack_with_nothing_on_it() {
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        assert!(stack.is_empty());
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
}

#[test]
fn a_failing_set_up_is_the_callers_and_what_was_entered_stays() {
    let notes = Notes::new();
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        let fails = acm(async |_: Slot<()>| {
            pause().await;
            Err("no route".into())
        });
        let failure = stack.enter(fails).await.unwrap_err();
        assert_eq!(failure.into_leaf().unwrap(), "no route");
        let forgets = acm(async |_: Slot<()>| Ok(()));
        let failure = stack.enter(forgets).await.unwrap_err();
        assert_eq!(failure.as_library(), Some(&LibraryFailure::NotProvided));
        pause().await;
        assert_eq!(stack.len(), 1);
        assert_eq!(notes.take(), ["a enters"]);
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), left(&["a"], BlockEnd::Completed));
}

#[test]
fn failing_exits_and_the_body_are_all_heard_and_the_others_exit() {
    let notes = Notes::new();
    let fails = |word: Word| {
        acm(async move |slot: Slot<()>| {
            slot.provide(()).await;
            Err::<(), Failure<Word>>(word.into())
        })
    };
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        stack.enter(fails("first")).await?;
        stack.push(async |_| Err("pushed".into()));
        stack.enter(named("b", &notes)).await?;
        stack.enter(fails("second")).await?;
        notes.take();
        Err::<(), _>("body".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["body", "second", "pushed", "first"]);
    for exit in &failure.children()[1..] {
        assert!(exit.context().is_some(), "{exit:?}");
    }
    assert_eq!(notes.take(), left(&["b", "a"], BlockEnd::Failed));
}

#[test]
fn a_panicking_exit_lets_the_others_exit_and_is_resumed() {
    let notes = Notes::new();
    let mut probe = Probe::new(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        stack.push(async |_| panic!("in the exit"));
        stack.enter(named("b", &notes)).await?;
        notes.take();
        Ok(())
    }));
    assert_eq!(probe.panics(), "in the exit");
    let mut expected = left(&["b"], BlockEnd::Completed);
    expected.extend(left(&["a"], BlockEnd::Panicked));
    assert_eq!(notes.take(), expected);
}

#[test]
fn a_panicking_set_up_goes_through_the_body() {
    let notes = Notes::new();
    let mut probe = Probe::new(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        notes.take();
        let panics = acm(async |slot: Slot<()>| {
            pause().await;
            if stack.len() == 1 {
                panic!("in the set-up");
            }
            slot.provide(()).await;
            Ok(())
        });
        with_context(panics, async |()| Ok(())).await
    }));
    assert_eq!(probe.panics(), "in the set-up");
    assert_eq!(notes.take(), left(&["a"], BlockEnd::Panicked));
    let mut probe = Probe::new(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        notes.take();
        let panics = acm(async |slot: Slot<()>| {
            pause().await;
            assert!(notes.len() > 7, "in the entered set-up");
            slot.provide(()).await;
            Ok(())
        });
        stack.enter(panics).await
    }));
    assert_eq!(probe.panics(), "in the entered set-up");
    assert_eq!(notes.take(), left(&["a"], BlockEnd::Panicked));
}

#[test]
fn a_set_up_obeys_the_scope_of_its_caller_and_unwinds_there() {
    let notes = Notes::new();
    let scopes = [CancelScope::new(), CancelScope::new()];
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        notes.take();
        let slow = acm(async |slot: Slot<()>| {
            scopes[0].cancel("out of time");
            shield(async {
                pause().await;
                notes.add("shield in the set-up");
            })
            .await;
            never().await;
            slot.provide(()).await;
            Ok(())
        });
        assert!(scopes[0].run(stack.enter(slow)).await.is_err());
        notes.add("given up");
        // One that provides in the poll in which it would have been stopped has to be left.
        let late = acm(async |slot: Slot<()>| {
            scopes[1].cancel("out of time");
            let end = slot.provide(()).await;
            notes.add(format!("late sees {end:?}"));
            pause().await;
            notes.add("late has exited");
            Ok(())
        });
        assert!(scopes[1].run(stack.enter(late)).await.is_err());
        assert_eq!(stack.len(), 1);
        notes.add("given up again");
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    let expected = [
        "shield in the set-up",
        "given up",
        "late sees Cancelled",
        "late has exited",
        "given up again",
    ];
    let notes = notes.take();
    assert_eq!(notes[..5], expected);
    assert_eq!(notes[5..], left(&["a"], BlockEnd::Completed));
}

#[test]
fn dropping_enter_drops_the_set_up() {
    let notes = Notes::new();
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        drop(stack.enter(named("unpolled", &notes)));
        let hangs = acm(async |slot: Slot<()>| {
            let _guard = notes.on_drop("set-up dropped");
            never().await;
            slot.provide(()).await;
            Ok(())
        });
        let mut enter = stack.enter(hangs);
        assert!((&mut enter).now_or_never().is_none());
        drop(enter);
        assert!(stack.is_empty());
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), ["set-up dropped"]);
}

#[test]
fn a_context_that_dies_before_its_turn_cancels_the_body_and_the_rest_is_left_in_order() {
    for result in [Err("gave up".into()), Ok(())] {
        let notes = Notes::new();
        let fails = result.is_err();
        let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
            stack.enter(named("a", &notes)).await?;
            let dies = acm(async |slot: Slot<()>| {
                let mut provide = Box::pin(slot.provide(()));
                assert!((&mut provide).now_or_never().is_none());
                for _ in 0..10 {
                    pause().await;
                }
                notes.add("dies");
                result
            });
            stack.enter(dies).await?;
            stack.enter(named("b", &notes)).await?;
            notes.take();
            let _guard = notes.on_drop("body dropped");
            never().await;
            Ok(())
        }))
        .unwrap_err();
        if fails {
            assert_eq!(failure.into_leaf().unwrap(), "gave up");
        } else {
            assert_eq!(failure.as_library(), Some(&LibraryFailure::ContextEnded));
        }
        let mut expected = vec!["dies".to_owned(), "body dropped".to_owned()];
        expected.extend(left(&["b"], BlockEnd::Cancelled));
        // As in nested blocks: what dies inside of `a` has failed there.
        expected.extend(left(&["a"], BlockEnd::Failed));
        assert_eq!(notes.take(), expected);
    }
}

#[test]
fn a_background_task_of_a_context_runs_beside_the_body_and_its_failure_unwinds_from_the_top() {
    let notes = Notes::new();
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        let background: Nursery<'_, Word> = stack.enter(nursery_context()).await?;
        let gate = Gate::new();
        let opener = gate.clone();
        background.start_soon(async move {
            opener.open();
            pause().await;
            Err("background".into())
        });
        gate.wait().await;
        stack.enter(named("b", &notes)).await?;
        notes.take();
        let _guard = notes.on_drop("body dropped");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["background"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
    let mut expected = vec!["body dropped".to_owned()];
    expected.extend(left(&["b"], BlockEnd::Cancelled));
    expected.extend(left(&["a"], BlockEnd::Failed));
    let notes = notes.take();
    assert!(
        notes == expected || notes[..] == expected[1..] || notes.ends_with(&expected[1..]),
        "{notes:?}"
    );
}

#[test]
fn nothing_is_entered_or_pushed_once_the_body_has_ended() {
    let notes = Notes::new();
    let away = Drawer::new();
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        away.put(stack);
        Ok(())
    }))
    .unwrap();
    let stack = away.take();
    let failure = ends(stack.enter(named("late", &notes))).unwrap_err();
    assert!(matches!(
        failure.as_library(),
        Some(LibraryFailure::Closed { .. })
    ));
    // What had been set up by then was left.
    let mut expected = vec!["late enters".to_owned()];
    expected.extend(left(&["late"], BlockEnd::Cancelled));
    assert_eq!(notes.take(), expected);
    let value = Arc::new(());
    let given = Arc::clone(&value);
    let text = panic_of(|| {
        stack.push(async move |_| {
            drop(given);
            Ok(())
        })
    });
    assert!(text.contains("exit stack"), "{text}");
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn an_exit_may_not_push_onto_its_own_stack() {
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        let same = stack.clone();
        stack.push(async move |_| {
            let refused = catch_unwind(AssertUnwindSafe(|| same.push(async |_| Ok(()))));
            assert!(refused.is_err());
            Ok(())
        });
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
}

#[test]
fn exits_are_shielded_and_the_call_parks_under_an_outer_cancellation() {
    let (scope, gate, notes) = (CancelScope::new(), Gate::new(), Notes::new());
    let mut probe = Probe::new(scope.run(async {
        let _ = open_exit_stack(async |stack: ExitStack<'_, Word>| {
            stack.push(async |_| {
                gate.wait().await;
                notes.add("first");
                Ok(())
            });
            stack.push(async |_| {
                gate.wait().await;
                notes.add("second");
                Ok(())
            });
            never().await;
            Ok(())
        })
        .await;
        notes.add("never");
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    scope.cancel("stop again");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["second", "first"]);
}

#[test]
fn a_failing_exit_under_an_outer_cancellation_is_heard() {
    let (scope, reports) = (CancelScope::new(), Reports::new());
    let outcome = ends(reports.settings().run(scope.run(open_exit_stack(
        async |stack: ExitStack<'_, Word>| {
            stack.push(async |_| Err("exit".into()));
            scope.cancel("stop");
            never().await;
            Ok(())
        },
    ))));
    let failure = outcome.unwrap().unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "exit");
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn a_foreign_drop_reports_every_exit_that_had_not_run() {
    let (reports, notes) = (Reports::new(), Notes::new());
    let mut probe = Probe::new(reports.settings().run(open_exit_stack(
        async |stack: ExitStack<'_, Word>| {
            stack.enter(named("a", &notes)).await?;
            stack.push(async |_| Ok(()));
            stack.enter(named("b", &notes)).await?;
            never().await;
            Ok(())
        },
    )));
    probe.waits();
    probe.cut();
    assert_eq!(reports.take().len(), 3);
    // Also of those that have not been polled yet.
    let mut probe = Probe::new(reports.settings().run(open_exit_stack(
        async |stack: ExitStack<'_, Word>| {
            for _ in 0..1000 {
                stack.push(async |_| Ok(()));
            }
            never().await;
            Ok(())
        },
    )));
    assert!(probe.poll().is_pending());
    probe.cut();
    assert_eq!(reports.take().len(), 1000);
}

#[test]
fn many_contexts_are_left_in_order() {
    let (exits, n) = (AtomicUsize::new(0), 20_000);
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        for i in 0..n {
            let exits = &exits;
            let context = acm(async move |slot: Slot<usize>| {
                slot.provide(i).await;
                assert_eq!(exits.fetch_add(1, Ordering::SeqCst), n - 1 - i);
                Ok(())
            });
            assert_eq!(stack.enter(context).await?, i);
        }
        Ok(())
    }));
    assert_eq!(outcome, Ok(()));
    assert_eq!(exits.into_inner(), n);
}

// Moving.

#[test]
fn what_is_moved_stays_entered_after_its_stack_and_is_left_with_the_other() {
    let notes = Notes::new();
    let outcome = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        outer.enter(named("a", &notes)).await?;
        let value = open_exit_stack(async |inner: ExitStack<'_, Word>| {
            inner.enter(named("b", &notes)).await?;
            inner.push(async |seen| {
                notes.add(format!("pushed sees {seen:?}"));
                notes.add("pushed has exited");
                Ok(())
            });
            inner.enter(named("c", &notes)).await?;
            assert_eq!(inner.pop_all(&outer), 3);
            assert!(inner.is_empty());
            inner.enter(named("stays", &notes)).await?;
            notes.take();
            pause().await;
            Ok(7)
        })
        .await?;
        assert_eq!(notes.take(), left(&["stays"], BlockEnd::Completed));
        outer.enter(named("d", &notes)).await?;
        assert_eq!(outer.len(), 5);
        pause().await;
        notes.take();
        Err::<(), _>(if value == 7 { "outer" } else { "no" }.into())
    }))
    .unwrap_err();
    assert_eq!(outcome.into_leaf().unwrap(), "outer");
    assert_eq!(
        notes.take(),
        left(&["d", "c", "pushed", "b", "a"], BlockEnd::Failed)
    );
}

#[test]
fn all_or_none_are_entered_by_moving_them_out_of_a_stack_of_their_own() {
    let notes = Notes::new();
    let outcome = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        outer.enter(named("a", &notes)).await?;
        let failure = open_exit_stack(async |inner: ExitStack<'_, Word>| {
            inner.enter(named("b", &notes)).await?;
            let fails = acm(async |_: Slot<()>| Err("no route".into()));
            inner.enter(fails).await?;
            Ok(inner.pop_all(&outer))
        })
        .await
        .unwrap_err();
        assert_eq!(failure.into_leaf().unwrap(), "no route");
        notes.add("none of them");
        assert_eq!(outer.len(), 1);
        Ok(())
    }));
    assert_eq!(outcome, Ok(()));
    let mut expected = vec!["a enters".to_owned(), "b enters".to_owned()];
    expected.extend(left(&["b"], BlockEnd::Failed));
    expected.push("none of them".to_owned());
    expected.extend(left(&["a"], BlockEnd::Completed));
    assert_eq!(notes.take(), expected);
}

#[test]
fn a_cancellation_of_the_old_stack_does_not_reach_what_has_moved() {
    let (notes, scope) = (Notes::new(), CancelScope::new());
    let outcome = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        let stopped = scope
            .run(open_exit_stack(async |inner: ExitStack<'_, Word>| {
                inner.enter(named("moved", &notes)).await?;
                assert_eq!(inner.pop_all(&outer), 1);
                inner.enter(named("stays", &notes)).await?;
                notes.take();
                scope.cancel("stop");
                never().await;
                Ok(())
            }))
            .await;
        assert!(stopped.is_err());
        assert_eq!(notes.take(), left(&["stays"], BlockEnd::Cancelled));
        for _ in 0..5 {
            pause().await;
        }
        assert_eq!(notes.len(), 0);
        assert_eq!(outer.len(), 1);
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), left(&["moved"], BlockEnd::Completed));
}

#[test]
fn a_cancellation_right_after_the_move_does_not_reach_what_has_moved() {
    let (notes, scope) = (Notes::new(), CancelScope::new());
    let outcome = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        let stopped = scope
            .run(open_exit_stack(async |inner: ExitStack<'_, Word>| {
                inner.enter(named("moved", &notes)).await?;
                pause().await;
                notes.take();
                assert_eq!(inner.pop_all(&outer), 1);
                scope.cancel("stop"); // no await since
                never().await;
                Ok(())
            }))
            .await;
        assert!(stopped.is_err());
        pause().await;
        assert_eq!(notes.len(), 0);
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), left(&["moved"], BlockEnd::Completed));
}

#[test]
fn what_is_cancelled_already_is_not_moved() {
    let (notes, scope) = (Notes::new(), CancelScope::new());
    let outcome = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        let stopped = scope
            .run(open_exit_stack(async |inner: ExitStack<'_, Word>| {
                inner.enter(named("a", &notes)).await?;
                notes.take();
                scope.cancel("stop");
                assert_eq!(inner.pop_all(&outer), 0);
                assert_eq!(inner.len(), 1);
                never().await;
                Ok(())
            }))
            .await;
        assert!(stopped.is_err());
        assert_eq!(notes.take(), left(&["a"], BlockEnd::Cancelled));
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
}

#[test]
fn what_has_moved_obeys_its_new_place() {
    let (notes, scope) = (Notes::new(), CancelScope::new());
    let outcome = ends(
        scope.run(open_exit_stack(async |outer: ExitStack<'_, Word>| {
            open_exit_stack(async |inner: ExitStack<'_, Word>| {
                inner.enter(named("a", &notes)).await?;
                inner.pop_all(&outer);
                notes.take();
                Ok(())
            })
            .await?;
            scope.cancel("stop");
            never().await;
            Ok(())
        })),
    );
    assert!(outcome.is_err());
    assert_eq!(notes.take(), left(&["a"], BlockEnd::Cancelled));
}

#[test]
fn a_moved_context_with_a_nursery_goes_on_working_and_fails_in_its_new_place() {
    let notes = Notes::new();
    let failure = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        let background: Nursery<'_, Word> = open_exit_stack(async |inner: ExitStack<'_, Word>| {
            let background = inner.enter(nursery_context()).await?;
            inner.pop_all(&outer);
            Ok(background)
        })
        .await?;
        background.start_soon(async {
            pause().await;
            notes.add("works");
            Err("background".into())
        });
        let _guard = notes.on_drop("outer body dropped");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["background"]);
    assert_eq!(notes.take(), ["works", "outer body dropped"]);
}

#[test]
fn moving_onto_a_stack_that_has_been_left_or_onto_itself_moves_nothing() {
    let notes = Notes::new();
    let away = Drawer::new();
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        away.put(stack);
        Ok(())
    }))
    .unwrap();
    let gone = away.take();
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(named("a", &notes)).await?;
        stack.enter(named("b", &notes)).await?;
        assert_eq!(stack.pop_all(&gone), 0);
        assert_eq!(stack.pop_all(&stack), 0);
        assert_eq!(stack.len(), 2);
        pause().await;
        notes.take();
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), left(&["b", "a"], BlockEnd::Completed));
    assert_eq!(gone.pop_all(&gone.clone()), 0);
}

#[test]
fn what_is_moved_from_stack_to_stack_in_one_poll_is_left_once() {
    let notes = Notes::new();
    let outcome = ends(open_exit_stack(async |one: ExitStack<'_, Word>| {
        open_exit_stack(async |two: ExitStack<'_, Word>| {
            open_exit_stack(async |three: ExitStack<'_, Word>| {
                three.enter(named("a", &notes)).await?;
                three.enter(named("b", &notes)).await?;
                for _ in 0..3 {
                    assert_eq!(three.pop_all(&two), 2);
                    assert_eq!(two.pop_all(&three), 2);
                }
                assert_eq!(three.pop_all(&two), 2);
                assert_eq!(two.pop_all(&one), 2);
                notes.take();
                Ok(())
            })
            .await?;
            pause().await;
            Ok(())
        })
        .await?;
        assert_eq!(notes.len(), 0);
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), left(&["b", "a"], BlockEnd::Completed));
}

// Elsewhere.

#[test]
fn stacks_that_borrow_are_sent_to_another_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let total = runtime.block_on(async {
        tokio::spawn(async {
            let names = ["one".to_owned(), "three".to_owned()];
            let exits = AtomicUsize::new(0);
            let total: Result<usize, Failure> = open_exit_stack(async |stack: ExitStack<'_>| {
                let mut total = 0;
                for name in &names {
                    let exits = &exits;
                    let context = acm(async move |slot: Slot<&str>| {
                        checkpoint().await;
                        slot.provide(name.as_str()).await;
                        checkpoint().await;
                        exits.fetch_add(name.len(), Ordering::SeqCst);
                        Ok(())
                    });
                    total += stack.enter(context).await?.len();
                }
                let n: Nursery<'_> = stack.enter(nursery_context()).await?;
                let seven = n.spawn(async {
                    checkpoint().await;
                    Ok(7)
                });
                assert_eq!(seven.await?, 7);
                Ok(total)
            })
            .await;
            total.unwrap() + exits.load(Ordering::SeqCst)
        })
        .await
        .unwrap()
    });
    assert_eq!(total, 16);
}

#[test]
fn a_local_stack_takes_contexts_that_cannot_be_sent() {
    let notes = Notes::new();
    let outcome = ends(open_local_exit_stack(
        async |stack: LocalExitStack<'_, Word>| {
            let number = stack.enter(null_context(Rc::new(7))).await?;
            let shared = Rc::clone(&number);
            let seen = notes.clone();
            stack.push(async move |end| {
                pause().await;
                seen.add(format!("{shared} {end:?}"));
                Ok(())
            });
            Ok(*number)
        },
    ));
    assert_eq!(outcome, Ok(7));
    assert_eq!(notes.take(), ["7 Completed"]);
}

#[test]
fn a_stack_in_a_childs_hands_while_the_body_ends_on_another_thread() {
    for round in 0..200 {
        let (entered, exited) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let away = Drawer::new();
        let context = || {
            acm(async |slot: Slot<()>| {
                entered.fetch_add(1, Ordering::SeqCst);
                slot.provide(()).await;
                pause().await;
                exited.fetch_add(1, Ordering::SeqCst);
                Ok::<(), Failure<Word>>(())
            })
        };
        thread::scope(|threads| {
            let gate = Gate::new();
            let opened = gate.clone();
            let mut main = Box::pin(open_exit_stack(async |stack: ExitStack<'_, Word>| {
                away.put(stack);
                gate.wait().await;
                Ok(())
            }));
            assert!((&mut main).now_or_never().is_none());
            let stack = away.take();
            threads.spawn(move || {
                for _ in 0..3 {
                    let outcome = outside(|| futures::executor::block_on(stack.enter(context())));
                    if let Err(failure) = outcome {
                        assert!(failure.as_library().is_some(), "{failure:?}");
                    }
                }
            });
            for _ in 0..round % 5 {
                thread::yield_now();
            }
            opened.open();
            assert_eq!(futures::executor::block_on(main), Ok(()));
        });
        assert_eq!(
            entered.load(Ordering::SeqCst),
            exited.load(Ordering::SeqCst)
        );
    }
}

#[test]
fn a_stack_in_a_child_of_a_nursery() {
    let notes = Notes::new();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(open_exit_stack(async |stack: ExitStack<'_, Word>| {
            stack.enter(named("a", &notes)).await?;
            never().await;
            Ok(())
        }));
        pause().await;
        pause().await;
        Err::<(), _>("body".into())
    }));
    assert_eq!(errors(&outcome.unwrap_err()), ["body"]);
    let mut expected = vec!["a enters".to_owned()];
    expected.extend(left(&["a"], BlockEnd::Cancelled));
    assert_eq!(notes.take(), expected);
}
