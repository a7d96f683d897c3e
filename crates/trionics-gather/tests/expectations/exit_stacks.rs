//! Exit stacks, as Python's `AsyncExitStack` has them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::poll;
use trionics_errgroup::LibraryFailure;
use trionics_gather::{
    AsyncContext, BlockEnd, ExitStack, Slot, acm, acm_pair, null_context, open_exit_stack,
    with_context,
};
use trionics_nursery::{
    CancelScope, Failure, Nursery, checkpoint, fail_after, move_on_after, open_nursery, sleep,
    testing,
};

use crate::common::{
    Drawer, Gate, Notes, OnDrop, Probe, Reports, Word, ends, errors, never, panic_of, pause,
};

type Outcome<T = ()> = Result<T, Failure<Word>>;

/// How each of three exits, noted by its number, saw what was above it end.
fn seen(notes: &Notes) -> Vec<String> {
    notes.take()
}

/// A context without a value that notes what it sees and then ends with `outcome`.
fn noting<'a>(
    name: Word,
    notes: &'a Notes,
    outcome: Outcome,
) -> impl AsyncContext<Value = (), Error = Word, Run: Send> + use<'a> {
    acm(async move |slot: Slot<()>| {
        let end = slot.provide(()).await;
        notes.add(format!("{name} sees {end:?}"));
        pause().await;
        outcome
    })
}

/// contextlib: an exit that fails after a body that returned is what the exits below see, and nobody commits on it.
#[test]
fn an_exit_that_fails_is_seen_by_those_below_it() {
    let notes = Notes::new();
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(noting("first", &notes, Ok(()))).await?;
        stack.push(async |end| {
            notes.add(format!("second sees {end:?}"));
            Ok(())
        });
        stack
            .enter(noting("third", &notes, Err("flush".into())))
            .await?;
        stack.enter(noting("fourth", &notes, Ok(()))).await?;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"flush"));
    let expected = [
        "fourth sees Completed",
        "third sees Completed",
        "second sees Failed",
        "first sees Failed",
    ];
    assert_eq!(seen(&notes), expected);
}

/// contextlib: a stack is what nested blocks are, for every way in which the body and one exit can end.
#[test]
fn a_stack_shows_its_exits_what_nested_blocks_show_theirs() {
    #[derive(Clone, Copy, Debug)]
    enum End {
        Well,
        Fails,
        Waits,
        Panics,
    }
    async fn end(end: End, what: Word) -> Outcome {
        match end {
            End::Well => Ok(()),
            End::Fails => Err(what.into()),
            End::Waits => {
                never().await;
                Ok(())
            }
            End::Panics => panic!("{what}"),
        }
    }
    fn inner<'a>(
        notes: &'a Notes,
        exit: End,
    ) -> impl AsyncContext<Value = (), Error = Word, Run: Send> + use<'a> {
        acm(async move |slot: Slot<()>| {
            notes.add(format!("inner sees {:?}", slot.provide(()).await));
            end(exit, "exit").await
        })
    }
    let run = |is_stack: bool, body_ends: End, exit_ends: End| {
        let (notes, scope) = (Notes::new(), CancelScope::new());
        let mut task: Probe<'_, Result<Outcome, _>> = if is_stack {
            Probe::new(
                scope.run(open_exit_stack(async |stack: ExitStack<'_, Word>| {
                    stack.enter(noting("outer", &notes, Ok(()))).await?;
                    stack.enter(inner(&notes, exit_ends)).await?;
                    end(body_ends, "body").await
                })),
            )
        } else {
            Probe::new(
                scope.run(with_context(noting("outer", &notes, Ok(())), async |()| {
                    with_context(inner(&notes, exit_ends), async |()| {
                        end(body_ends, "body").await
                    })
                    .await
                })),
            )
        };
        let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if task.settle().is_pending() {
                scope.cancel("stop");
                let _ = task.settle();
            }
        }));
        (notes.take(), text.is_err())
    };
    for body_ends in [End::Well, End::Fails, End::Waits, End::Panics] {
        for exit_ends in [End::Well, End::Fails, End::Panics] {
            let (stacked, nested) = (
                run(true, body_ends, exit_ends),
                run(false, body_ends, exit_ends),
            );
            assert_eq!(stacked, nested, "{body_ends:?}, {exit_ends:?}");
            assert_eq!(stacked.0.len(), 2);
        }
    }
}

/// contextlib, exception chaining: the last exit's failure has the one before it as its context, and so on to the body's.
#[test]
fn failing_exits_are_chained_in_the_order_in_which_they_failed() {
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.push(async |_| Err("third".into()));
        stack.push(async |_| Ok(()));
        stack.push(async |_| Err("second".into()));
        stack.push(async |_| Err("first".into()));
        Err::<(), _>("body".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["body", "first", "second", "third"]);
    let children = failure.children();
    let context_of = |index: usize| {
        let context = children[index].context()?;
        context.find_in(&failure)?.as_leaf().copied()
    };
    let chain: Vec<_> = (0..4).map(context_of).collect();
    assert_eq!(chain, [None, Some("body"), Some("first"), Some("second")]);
}

/// contextlib: after a body that returned, the first exit that fails has no context, and the next one has that.
#[test]
fn the_first_failing_exit_of_a_good_body_has_no_context() {
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.push(async |_| Err("second".into()));
        stack.push(async |_| Err("first".into()));
        Ok(())
    }))
    .unwrap_err();
    let [first, second] = failure.children() else {
        panic!("{failure:?}")
    };
    assert!(first.context().is_none());
    let found = second.context().unwrap().find_in(&failure).unwrap();
    assert_eq!(found.as_leaf(), Some(&"first"));
}

/// contextlib: an exit can replace nothing and suppress nothing here: a body's failure comes out although all exits succeed.
#[test]
fn successful_exits_suppress_no_failure() {
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.push(async |_| Ok(()));
        stack.enter(null_context(())).await?;
        Err::<(), _>("body".into())
    }))
    .unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"body"));
    assert!(failure.context().is_none());
}

/// contextlib: what was entered on the same stack by the body of an entered block is left after it, in the reverse order
/// of entering, however deep it was done.
#[test]
fn entering_from_nested_blocks_keeps_the_order_of_entering() {
    let notes = Notes::new();
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(noting("1", &notes, Ok(()))).await?;
        with_context(noting("block", &notes, Ok(())), async |()| {
            stack.enter(noting("2", &notes, Ok(()))).await?;
            Ok(())
        })
        .await?;
        stack.enter(noting("3", &notes, Ok(()))).await?;
        Ok(())
    }))
    .unwrap();
    let expected = [
        "block sees Completed",
        "3 sees Completed",
        "2 sees Completed",
        "1 sees Completed",
    ];
    assert_eq!(seen(&notes), expected);
}

/// contextlib's `aclose`: a part of the exits runs early if it is on a stack of its own.
#[test]
fn a_stack_within_a_stack_is_left_early() {
    let notes = Notes::new();
    ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        outer.enter(noting("outer", &notes, Ok(()))).await?;
        open_exit_stack(async |inner: ExitStack<'_, Word>| {
            inner.enter(noting("early", &notes, Ok(()))).await?;
            inner.enter(noting("late", &notes, Ok(()))).await?;
            Ok(())
        })
        .await?;
        notes.add("body goes on");
        Ok(())
    }))
    .unwrap();
    let expected = [
        "late sees Completed",
        "early sees Completed",
        "body goes on",
        "outer sees Completed",
    ];
    assert_eq!(seen(&notes), expected);
}

/// contextlib's `pop_all` in a failing body: what was moved is spared, and sees how its new stack ends.
#[test]
fn what_was_moved_sees_how_its_new_stack_ends() {
    let notes = Notes::new();
    let failure = ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        let outcome = open_exit_stack(async |inner: ExitStack<'_, Word>| {
            inner
                .enter(noting("moved", &notes, Err("moved exit".into())))
                .await?;
            inner.pop_all(&outer);
            inner.enter(noting("stays", &notes, Ok(()))).await?;
            Err::<(), Failure<Word>>("inner body".into())
        })
        .await;
        assert_eq!(outcome.unwrap_err().as_leaf(), Some(&"inner body"));
        notes.add("outer body");
        Ok(())
    }))
    .unwrap_err();
    // The failure of the inner body is no context of what happens on the outer stack.
    assert_eq!(failure.as_leaf(), Some(&"moved exit"));
    assert!(failure.context().is_none());
    assert_eq!(
        seen(&notes),
        ["stays sees Failed", "outer body", "moved sees Completed"]
    );
}

/// contextlib: excessive nesting; ten thousand exits that all fail run all, in bounded stack, and all failures are there.
#[test]
fn ten_thousand_failing_exits_are_all_heard() {
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        for _ in 0..10_000 {
            stack.push(async |_| {
                checkpoint().await;
                Err("exit".into())
            });
        }
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure).len(), 10_000);
}

/// contextlib's `push_async_callback`: an exit may borrow and change what was declared outside, and what it captured is
/// dropped with it, one after the other.
#[test]
fn pushed_exits_borrow_mutably_and_drop_what_they_hold_in_turn() {
    let notes = Notes::new();
    let mut total = 0;
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        let total = &mut total;
        let (first, second) = (
            notes.on_drop("first dropped"),
            notes.on_drop("second dropped"),
        );
        stack.push(async move |_| {
            let _first = first;
            *total += 1;
            Ok(())
        });
        let notes = &notes;
        stack.push(async move |_| {
            let _second = second;
            pause().await;
            notes.add("second runs");
            Ok(())
        });
        Ok(())
    }))
    .unwrap();
    assert_eq!(total, 1);
    assert_eq!(
        notes.take(),
        ["second runs", "second dropped", "first dropped"]
    );
}

/// contextlib: entering fails in the middle of a loop that passes the error on: those entered before are left and see it.
#[test]
fn a_set_up_that_fails_in_the_middle_lets_the_others_see_a_failure() {
    let notes = Notes::new();
    let names = ["0", "1", "2", "3"];
    let failure = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        for (index, name) in names.into_iter().enumerate() {
            if index == 2 {
                stack
                    .enter(acm_pair(
                        async { Err("no more".into()) },
                        async |(): (), _| Ok(()),
                    ))
                    .await?;
            }
            stack.enter(noting(name, &notes, Ok(()))).await?;
        }
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"no more"));
    assert_eq!(seen(&notes), ["1 sees Failed", "0 sees Failed"]);
}

/// trio: entering under a limit that is too short unwinds the set-up, and the stack goes on.
#[test]
fn an_enter_that_is_too_slow_leaves_the_stack_usable() {
    testing::run(async {
        let notes = Notes::new();
        let second = std::time::Duration::from_secs(1);
        open_exit_stack(async |stack: ExitStack<'_, Word>| {
            let slow = acm(async |slot: Slot<()>| {
                let _guard = notes.on_drop("set-up dropped");
                sleep(5 * second).await;
                slot.provide(()).await;
                Ok(())
            });
            assert!(fail_after(second, stack.enter(slow)).await.is_err());
            assert_eq!(notes.take(), ["set-up dropped"]);
            let entered = move_on_after(second, stack.enter(noting("quick", &notes, Ok(())))).await;
            entered.unwrap()?;
            assert_eq!(stack.len(), 1);
            // The limit is over, and the context stays entered.
            sleep(5 * second).await;
            assert!(notes.take().is_empty());
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(notes.take(), ["quick sees Completed"]);
    });
}

/// tokio: an `enter` polled once, kept, and finished later has entered when it is finished.
#[test]
fn an_enter_can_be_polled_in_parts_and_beside_another() {
    let (gate, notes) = (Gate::new(), Notes::new());
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        let waits = acm(async |slot: Slot<Word>| {
            gate.wait().await;
            slot.provide("late").await;
            notes.add("late left");
            Ok(())
        });
        let mut late = stack.enter(waits);
        assert!(poll!(&mut late).is_pending());
        stack.enter(noting("early", &notes, Ok(()))).await?;
        gate.open();
        assert_eq!(late.await?, "late");
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["late left", "early sees Completed"]);
}

/// An exit whose `Drop` panics after it has run: the others run, and the panic comes out.
#[test]
fn an_exit_whose_drop_panics_lets_the_others_run() {
    let notes = Notes::new();
    let mut task = Probe::new(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(noting("first", &notes, Ok(()))).await?;
        let guard = OnDrop::new(|| panic!("by a drop"));
        stack.push(async move |_| {
            let _guard = guard;
            pause().await;
            Ok(())
        });
        stack.enter(noting("third", &notes, Ok(()))).await?;
        Ok(())
    }));
    assert_eq!(task.panics(), "by a drop");
    assert_eq!(
        seen(&notes),
        ["third sees Completed", "first sees Panicked"]
    );
}

/// A closure given to `push` that panics when it is called, before there is a future, is a panicking exit.
#[test]
fn an_exit_that_panics_when_it_is_called_lets_the_others_run() {
    let notes = Notes::new();
    let mut task = Probe::new(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(noting("first", &notes, Ok(()))).await?;
        stack.push(|_| -> std::future::Ready<Outcome> { panic!("when called") });
        Ok(())
    }));
    assert_eq!(task.panics(), "when called");
    assert_eq!(seen(&notes), ["first sees Panicked"]);
}

/// contextlib: a handle that was kept when the stack was left takes nothing: `enter` fails and the set-up that ran is left.
#[test]
fn a_kept_handle_enters_nothing_and_leaves_what_had_set_up() {
    let (notes, kept) = (Notes::new(), Drawer::new());
    ends(open_exit_stack(async |stack: ExitStack<'static, Word>| {
        kept.put(stack);
        Ok(())
    }))
    .unwrap();
    let stack: ExitStack<'static, Word> = kept.take();
    let for_context = notes.clone();
    let context = acm(async move |slot: Slot<()>| {
        let end = slot.provide(()).await;
        for_context.add(format!("{end:?}"));
        Ok(())
    });
    let failure = ends(stack.enter(context)).unwrap_err();
    assert!(
        matches!(failure.as_library(), Some(LibraryFailure::Closed { .. })),
        "{failure}"
    );
    assert_eq!(notes.take(), ["Cancelled"]);
    assert!(panic_of(|| stack.push(async |_| Ok(()))).contains("push"));
    assert!(stack.is_empty());
}

/// trio: children of a nursery that enter contexts on one stack at the same time are each left once.
#[test]
fn children_enter_contexts_on_a_shared_stack_concurrently() {
    let n_left = Arc::new(AtomicUsize::new(0));
    let outcome = ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        open_nursery(async |n: Nursery<'_, Word>| {
            for number in 0..20_usize {
                let (stack, n_left) = (stack.clone(), Arc::clone(&n_left));
                n.start_soon(async move {
                    let context = acm(async move |slot: Slot<()>| {
                        for _ in 0..number % 4 {
                            pause().await;
                        }
                        let end = slot.provide(()).await;
                        assert_eq!(end, BlockEnd::Completed);
                        n_left.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    });
                    stack.enter(context).await
                });
            }
            Ok(())
        })
        .await?;
        assert_eq!((stack.len(), n_left.load(Ordering::SeqCst)), (20, 0));
        Ok(())
    }));
    outcome.unwrap();
    assert_eq!(n_left.load(Ordering::SeqCst), 20);
}

/// contextlib: a set-up that enters further contexts on the same stack has them below itself, so that they outlive it.
#[test]
fn what_a_set_up_enters_on_the_same_stack_outlives_it() {
    let notes = Notes::new();
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        let again = stack.clone();
        let notes = &notes;
        let outer = acm(async move |slot: Slot<()>| {
            again.enter(noting("needed", notes, Ok(()))).await?;
            let end = slot.provide(()).await;
            notes.add(format!("needs it, {end:?}"));
            Ok(())
        });
        stack.enter(outer).await
    }))
    .unwrap();
    assert_eq!(
        seen(&notes),
        ["needs it, Completed", "needed sees Completed"]
    );
}

/// contextlib: an exit that looks at its stack finds what is below it, and moves nothing any more.
#[test]
fn an_exit_may_look_at_its_stack_and_moves_nothing() {
    let notes = Notes::new();
    ends(open_exit_stack(async |outer: ExitStack<'_, Word>| {
        open_exit_stack(async |stack: ExitStack<'_, Word>| {
            for _ in 0..2 {
                let (own, outer, notes) = (stack.clone(), outer.clone(), &notes);
                stack.push(async move |_| {
                    notes.add(format!(
                        "{} below, {} moved",
                        own.len(),
                        own.pop_all(&outer)
                    ));
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        assert!(outer.is_empty());
        Ok(())
    }))
    .unwrap();
    assert_eq!(seen(&notes), ["1 below, 0 moved", "0 below, 0 moved"]);
}

/// contextlib: two exits fail, one on each side of one that succeeds, in a body that was cancelled: the outermost cancelled
/// scope is told of both failures, and each exit of what was above it.
#[test]
fn failing_exits_of_a_cancelled_body_are_heard_and_seen() {
    let (notes, scope) = (Notes::new(), CancelScope::new());
    let outcome = ends(
        scope.run(open_exit_stack(async |stack: ExitStack<'_, Word>| {
            stack
                .enter(noting("first", &notes, Err("first".into())))
                .await?;
            stack.enter(noting("second", &notes, Ok(()))).await?;
            stack
                .enter(noting("third", &notes, Err("third".into())))
                .await?;
            scope.cancel("stop");
            never().await;
            Ok(())
        })),
    );
    let failure = outcome.unwrap().unwrap_err();
    assert_eq!(errors(&failure), ["third", "first"]);
    let expected = [
        "third sees Cancelled",
        "second sees Failed",
        "first sees Failed",
    ];
    assert_eq!(seen(&notes), expected);
}

/// A context that ends with a failure while the exit above it runs: those below see a failure, and the one above saw none.
#[test]
fn a_context_that_fails_before_its_turn_during_the_exits_is_seen_by_those_below() {
    let (notes, dies, dead) = (Notes::new(), Gate::new(), Gate::new());
    let mut task = Probe::new(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        stack.enter(noting("first", &notes, Ok(()))).await?;
        let second = acm(async |slot: Slot<()>| {
            let provided = std::pin::pin!(slot.provide(()));
            futures::future::select(provided, dies.wait()).await;
            dead.open();
            Err("second".into())
        });
        stack.enter(second).await?;
        stack.push(async |end| {
            notes.add(format!("third sees {end:?}"));
            dies.open();
            dead.wait().await;
            Ok(())
        });
        Ok(())
    }));
    let failure = task.ends().unwrap_err();
    assert_eq!(failure.as_leaf(), Some(&"second"));
    assert_eq!(seen(&notes), ["third sees Completed", "first sees Failed"]);
}

/// contextlib: a stack that is dropped half-way through its exits drops the rest, inner to outer, and reports each.
#[test]
fn a_stack_that_is_dropped_during_an_exit_reports_the_rest() {
    let (notes, reports) = (Notes::new(), Reports::new());
    let mut task = Probe::new(reports.settings().run(open_exit_stack(
        async |stack: ExitStack<'_, Word>| {
            stack.enter(noting("first", &notes, Ok(()))).await?;
            stack.push(async |_| {
                let _guard = notes.on_drop("exit dropped");
                notes.add("exit began");
                never().await;
                Ok(())
            });
            stack.enter(noting("third", &notes, Ok(()))).await?;
            Ok(())
        },
    )));
    task.waits();
    task.cut();
    assert_eq!(
        seen(&notes),
        ["third sees Completed", "exit began", "exit dropped"]
    );
    assert_eq!(reports.take().len(), 2);
}
