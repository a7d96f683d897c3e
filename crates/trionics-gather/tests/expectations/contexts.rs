//! Contexts, one and gathered: as Python's `asynccontextmanager` and tractor's `gather_contexts` have them.

use std::{cell::RefCell, time::Duration};

use futures::{StreamExt as _, channel::mpsc};
use trionics_errgroup::{LibraryFailure, collapse_eg};
use trionics_gather::{
    AsyncContext, BlockEnd, ExitStack, Slot, acm, acm_pair, finally, gather_contexts,
    gather_contexts_in, null_context, nursery_context, open_exit_stack, race, with_context,
};
use trionics_nursery::{
    CancelScope, Failure, Nursery, TaskStatus, fail_after, move_on_after, open_nursery, shield,
    sleep, testing,
};

use crate::common::{Drawer, Gate, Notes, OnDrop, Probe, Word, ends, errors, never, pause};

type Outcome<T = ()> = Result<T, Failure<Word>>;

const SECOND: Duration = Duration::from_secs(1);

/// contextlib: code after the `yield` in a context that is used by `return` in the block, and the value is the block's.
#[test]
fn the_value_of_a_block_is_the_calls_whatever_the_exit_does() {
    let notes = Notes::new();
    let context = acm(async |slot: Slot<u32>| {
        notes.add("set-up");
        let end = slot.provide(42).await;
        notes.add(format!("tear-down {end:?}"));
        Ok::<(), Failure<Word>>(())
    });
    let text = ends(with_context(context, async |number| {
        notes.add("block");
        Ok(format!("{number}"))
    }));
    assert_eq!(text.unwrap(), "42");
    assert_eq!(notes.take(), ["set-up", "block", "tear-down Completed"]);
}

/// contextlib, a generator that does not yield: the call says that nothing was provided, and the block is not run.
#[test]
fn a_context_that_provides_nothing_is_an_error_and_its_own_failure_wins() {
    for fails in [false, true] {
        let context = acm(async move |slot: Slot<()>| {
            drop(slot);
            pause().await;
            if fails { Err("set-up".into()) } else { Ok(()) }
        });
        let failure = ends(with_context(context, async |()| -> Outcome {
            unreachable!("there is no value")
        }))
        .unwrap_err();
        if fails {
            assert_eq!(failure.as_leaf(), Some(&"set-up"));
        } else {
            assert_eq!(failure.as_library(), Some(&LibraryFailure::NotProvided));
        }
    }
}

/// contextlib: a context that catches nothing and fails itself on the way out: both are heard, the block's first.
#[test]
fn an_exit_that_fails_after_a_failing_block_is_in_its_light() {
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        Err::<(), Failure<Word>>("exit".into())
    });
    let failure = ends(with_context(context, async |()| {
        Err::<(), _>("block".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["block", "exit"]);
    let found = failure.children()[1]
        .context()
        .unwrap()
        .find_in(&failure)
        .unwrap();
    assert_eq!(found.as_leaf(), Some(&"block"));
}

/// contextlib: an exit that runs a whole context of its own, and a nursery, in its tear-down, when the block was cancelled.
#[test]
fn a_tear_down_may_use_contexts_and_nurseries_under_a_cancellation() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        with_context(null_context("inner"), async |name: Word| {
            open_nursery(async |n: Nursery<'_, Word>| {
                for _ in 0..2 {
                    n.start_soon(async {
                        pause().await;
                        notes.add(name);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        })
        .await
    });
    let outcome = ends(scope.run(with_context(context, async |()| -> Outcome {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["inner", "inner"]);
}

/// contextlib: a context is used twice by making it twice, and recursively by a function that returns it.
#[test]
fn a_function_that_makes_contexts_can_be_used_recursively() {
    fn level<'a>(
        depth: u32,
        notes: &'a Notes,
    ) -> std::pin::Pin<Box<dyn Future<Output = Outcome<u32>> + 'a>> {
        Box::pin(async move {
            let context = acm(async move |slot: Slot<u32>| {
                slot.provide(depth).await;
                notes.add(format!("{depth}"));
                Ok(())
            });
            with_context(context, async |value| {
                if depth == 0 {
                    Ok(0)
                } else {
                    Ok(value + level(depth - 1, notes).await?)
                }
            })
            .await
        })
    }
    let notes = Notes::new();
    assert_eq!(ends(level(4, &notes)).unwrap(), 10);
    assert_eq!(notes.take(), ["0", "1", "2", "3", "4"]);
}

/// tractor: one set-up fails while others have entered and others are entering: the entered ones exit, the entering ones
/// are stopped with their own exits, and the failure is alone in the group.
#[test]
fn a_failing_set_up_unwinds_what_the_others_had_inside_of_theirs() {
    let notes = Notes::new();
    let entered = acm(async |slot: Slot<()>| {
        let end = slot.provide(()).await;
        notes.add(format!("entered sees {end:?}"));
        Ok(())
    });
    let entering = acm(async |slot: Slot<()>| {
        with_context(null_context(()), async |()| {
            finally(
                async {
                    never().await;
                    slot.provide(()).await;
                    Ok(())
                },
                async |end| {
                    pause().await;
                    notes.add(format!("entering cleans up {end:?}"));
                    Ok(())
                },
            )
            .await
        })
        .await
    });
    let failing = acm(async |_slot: Slot<()>| {
        pause().await;
        Err::<(), Failure<Word>>("set-up".into())
    });
    let failure = ends(gather_contexts(
        (entered, entering, failing),
        async |_| -> Outcome { unreachable!("not all have entered") },
    ))
    .unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["set-up"]);
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(
        notes,
        ["entered sees Cancelled", "entering cleans up Cancelled"]
    );
}

/// tractor: several exits fail after a failing block: all are in one group, the block's first.
#[test]
fn a_failing_block_and_two_failing_exits_are_one_group() {
    let fails = |word: Word, rounds: usize| {
        acm(async move |slot: Slot<()>| {
            slot.provide(()).await;
            for _ in 0..rounds {
                pause().await;
            }
            Err::<(), Failure<Word>>(word.into())
        })
    };
    let failure = ends(gather_contexts(
        [fails("slow", 2), fails("quick", 1)],
        async |_| Err::<(), _>("block".into()),
    ))
    .unwrap_err();
    assert_eq!(errors(&failure), ["block", "quick", "slow"]);
    assert!(failure.children().iter().all(|child| !child.is_group()));
}

/// tractor: gathering inside gathered blocks three deep with one failure in the middle collapses to that failure.
#[test]
fn a_failure_in_nested_gatherings_collapses() {
    let outcome: Outcome = ends(gather_contexts(
        [null_context(1), null_context(2)],
        async |_| {
            gather_contexts([null_context(3)], async |_| {
                gather_contexts((null_context(4), null_context("x")), async |_| {
                    Err("deep".into())
                })
                .await
            })
            .await
        },
    ));
    assert_eq!(collapse_eg(outcome.unwrap_err()).as_leaf(), Some(&"deep"));
}

/// tractor: sets from iterators of none, one and many, made at run time, and the values of many in order.
#[test]
fn sets_of_any_size_give_their_values_in_order() {
    let gather = |n_contexts: usize| {
        let contexts: Vec<_> = (0..n_contexts)
            .map(|number| {
                acm(async move |slot: Slot<usize>| {
                    if number % 3 == 0 {
                        pause().await;
                    }
                    slot.provide(number).await;
                    Ok::<(), Failure<Word>>(())
                })
            })
            .collect();
        ends(gather_contexts(contexts, async |values| Ok(values)))
    };
    assert_eq!(
        gather(0).unwrap_err().as_library(),
        Some(&LibraryFailure::EmptySet)
    );
    assert_eq!(gather(1).unwrap(), [0]);
    assert!(gather(10_000).unwrap().into_iter().eq(0..10_000));
}

/// trio: a limit around a gathering whose exits take longer: it returns after the exits, and says too slow.
#[test]
fn a_limit_around_contexts_waits_for_slow_exits() {
    testing::run(async {
        let slow = |seconds: u32| {
            acm(async move |slot: Slot<()>| {
                slot.provide(()).await;
                sleep(seconds * SECOND).await;
                Ok::<(), Failure<Word>>(())
            })
        };
        let work = gather_contexts([slow(3), slow(5)], async |_| {
            sleep(60 * SECOND).await;
            Ok(())
        });
        assert!(fail_after(SECOND, work).await.is_err());
        assert_eq!(testing::elapsed(), 6 * SECOND, "the exits run side by side");
    });
}

/// trio: a limit inside an exit stops that part of it, and the rest of the exit runs.
#[test]
fn an_exit_may_limit_itself() {
    testing::run(async {
        let (scope, notes) = (CancelScope::new(), Notes::new());
        let context = acm(async |slot: Slot<()>| {
            slot.provide(()).await;
            let said = move_on_after(SECOND, sleep(60 * SECOND)).await;
            notes.add(format!("said goodbye: {}", said.is_some()));
            let loser = async {
                sleep(2 * SECOND).await;
                "slow"
            };
            let winner = async {
                sleep(SECOND).await;
                "quick"
            };
            notes.add(race((loser, winner)).await);
            Ok::<(), Failure<Word>>(())
        });
        let outcome = scope
            .run(with_context(context, async |()| -> Outcome {
                scope.cancel("stop");
                never().await;
                Ok(())
            }))
            .await;
        assert!(outcome.is_err());
        assert_eq!(notes.take(), ["said goodbye: false", "quick"]);
        assert_eq!(testing::elapsed(), 2 * SECOND);
    });
}

/// trio: `finally` in every position: around and inside contexts, in their set-up, their tear-down and each other.
#[test]
fn cleanups_in_every_position_run_from_the_inside_out() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    fn cleanup<'a>(
        notes: &'a Notes,
        name: Word,
    ) -> impl AsyncFnOnce(BlockEnd) -> Outcome + use<'a> {
        async move |end| {
            pause().await;
            notes.add(format!("{name} {end:?}"));
            Ok(())
        }
    }
    async fn clean<T>(
        notes: &Notes,
        name: Word,
        body: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        finally(body, async |end| cleanup(notes, name)(end).await).await
    }
    let context = acm(async |slot: Slot<()>| {
        clean(&notes, "in the set-up", async {
            pause().await;
            Ok(())
        })
        .await?;
        clean(&notes, "around provide", async {
            slot.provide(()).await;
            clean(&notes, "in the tear-down", async {
                pause().await;
                Ok(())
            })
            .await
        })
        .await
    });
    let work = clean(&notes, "around all", async {
        with_context(context, async |()| {
            clean(&notes, "in the block", async {
                clean(&notes, "innermost", async {
                    scope.cancel("stop");
                    never().await;
                    Ok(())
                })
                .await
            })
            .await
        })
        .await
    });
    assert!(ends(scope.run(work)).is_err());
    let expected = [
        "in the set-up Completed",
        "innermost Cancelled",
        "in the block Cancelled",
        "in the tear-down Completed",
        "around provide Completed",
        "around all Cancelled",
    ];
    assert_eq!(notes.take(), expected);
}

/// trio's `start` with a context inside the child: the child reports from the block, and its exit runs when its nursery ends.
#[test]
fn a_started_child_that_serves_from_inside_a_context() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let notes = &notes;
        let address = n
            .start(|status: TaskStatus<u16>| {
                let context = acm(async move |slot: Slot<u16>| {
                    let end = slot.provide(8080).await;
                    pause().await;
                    notes.add(format!("closed {end:?}"));
                    Ok(())
                });
                with_context(context, async move |address| {
                    status.started(address);
                    never().await;
                    Ok(())
                })
            })
            .await?;
        notes.add(format!("{address}"));
        Err::<(), _>("body".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["body"]);
    assert_eq!(notes.take(), ["8080", "closed Cancelled"]);
}

/// contextlib: what the block mutates through the value is what the exit sees.
#[test]
fn the_exit_sees_what_the_block_did_with_a_shared_value() {
    let (log, at_exit) = (RefCell::new(Vec::new()), Drawer::new());
    let context = acm(async |slot: Slot<&RefCell<Vec<u32>>>| {
        slot.provide(&log).await;
        at_exit.put(log.borrow().clone());
        Ok::<(), Failure<Word>>(())
    });
    ends(with_context(context, async |log| {
        for number in 0..3 {
            log.borrow_mut().push(number);
            pause().await;
        }
        Ok(())
    }))
    .unwrap();
    assert_eq!(at_exit.take(), [0, 1, 2]);
}

/// contextlib's `closing`: a pair made of a ready set-up and an exit, whose resource is handed to the exit by value.
#[test]
fn a_pair_hands_its_resource_to_the_exit() {
    let notes = Notes::new();
    let resource = notes.on_drop("resource dropped");
    let context = acm_pair(async { Ok(((), resource)) }, async |resource, end| {
        notes.add(format!("closing {end:?}"));
        drop(resource);
        pause().await;
        notes.add("closed");
        Ok::<(), Failure<Word>>(())
    });
    ends(with_context(context, async |()| Ok(()))).unwrap();
    assert_eq!(
        notes.take(),
        ["closing Completed", "resource dropped", "closed"]
    );
}

/// A value whose `Drop` panics in the block: the exit runs, sees a panic, and the panic comes out.
#[test]
fn a_value_that_panics_when_the_block_drops_it() {
    let notes = Notes::new();
    let context = acm(async |slot: Slot<_>| {
        let end = slot.provide(OnDrop::new(|| panic!("by the value"))).await;
        pause().await;
        notes.add(format!("{end:?}"));
        Ok::<(), Failure<Word>>(())
    });
    let mut task = Probe::new(with_context(context, async |value| {
        drop(value);
        Ok(())
    }));
    assert_eq!(task.panics(), "by the value");
    assert_eq!(notes.take(), ["Panicked"]);
}

/// tractor: a block that keeps a guard of contexts entered in a nursery and drops it early: they exit while it goes on.
#[test]
fn a_guard_that_goes_early_lets_the_contexts_exit_while_the_caller_goes_on() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let context = acm(async |slot: Slot<u32>| {
            let end = slot.provide(7).await;
            notes.add(format!("exits {end:?}"));
            gate.open();
            Ok(())
        });
        let (values, guard) = gather_contexts_in(&n, vec![context]).await?;
        drop(guard);
        gate.wait().await;
        notes.add("goes on");
        Ok(values)
    }));
    assert_eq!(outcome.unwrap(), [7]);
    assert_eq!(notes.take(), ["exits Completed", "goes on"]);
}

/// A context that hands its slot to a child of its own nursery: the child's end lets the context go on, and it exits in order.
#[test]
fn a_context_may_provide_from_a_child_of_its_nursery() {
    let notes = Notes::new();
    let context = acm(async |slot: Slot<Word>| {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                let end = slot.provide("from a child").await;
                notes.add(format!("{end:?}"));
                Ok(())
            });
            n.wait_idle().await;
            notes.add("idle");
            Ok(())
        })
        .await
    });
    assert_eq!(
        ends(with_context(context, async |value| Ok(value))).unwrap(),
        "from a child"
    );
    assert_eq!(notes.take(), ["Completed", "idle"]);
}

/// trio: a nursery context beside a plain one: the block's failure stops the background tasks, and their exits are waited for.
#[test]
fn background_tasks_of_gathered_contexts_unwind_when_the_block_fails() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut task = Probe::new(gather_contexts(
        (nursery_context(), null_context("plain")),
        async |(n, plain): (Nursery<'_, Word>, Word)| {
            n.start_soon(async {
                shield(gate.wait()).await;
                notes.add("unwound");
                never().await;
                Ok(())
            });
            pause().await;
            Err::<(), _>(plain.into())
        },
    ));
    task.waits();
    assert!(notes.take().is_empty());
    gate.open();
    assert_eq!(errors(&task.ends().unwrap_err()), ["plain"]);
    assert_eq!(notes.take(), ["unwound"]);
}

/// Twelve contexts in a tuple of which the last fails on entering and the first on exiting: both are heard.
#[test]
fn a_tuple_of_twelve_loses_no_failure() {
    fn good() -> impl AsyncContext<Value = (), Error = Word> {
        null_context(())
    }
    let fails_late = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        Err::<(), Failure<Word>>("exit".into())
    });
    let fails_early = acm(async |_: Slot<()>| {
        pause().await;
        Err::<(), Failure<Word>>("enter".into())
    });
    let set = (
        fails_late,
        good(),
        good(),
        good(),
        good(),
        good(),
        good(),
        good(),
        good(),
        good(),
        good(),
        fails_early,
    );
    let failure = ends(gather_contexts(set, async |_| -> Outcome {
        unreachable!("not all have entered")
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["enter", "exit"]);
}

/// contextlib: a function that makes a context and panics before there is one: nothing was entered, and the panic is the
/// caller's.
#[test]
fn a_context_that_panics_while_it_is_made_enters_nothing() {
    let notes = Notes::new();
    let good = acm(async |slot: Slot<()>| {
        notes.add("entered");
        slot.provide(()).await;
        Outcome::Ok(())
    });
    let bad = acm(|_: Slot<()>| -> std::future::Ready<Outcome> { panic!("when made") });
    let text = crate::common::panic_of(|| ends(gather_contexts((good, bad), async |_| Ok(()))));
    assert_eq!(text, "when made");
    assert!(notes.take().is_empty());
}

/// trio: a nested pair of contexts whose block is stopped by an inner limit: the inner one exits and the outer one goes on.
#[test]
fn a_limit_between_two_contexts_leaves_the_outer_one_in_use() {
    testing::run(async {
        let notes = Notes::new();
        let noting = |name: Word| {
            let notes = &notes;
            acm(async move |slot: Slot<()>| {
                let end = slot.provide(()).await;
                sleep(SECOND).await;
                notes.add(format!("{name} {end:?}"));
                Outcome::Ok(())
            })
        };
        with_context(noting("outer"), async |()| {
            let limited = move_on_after(
                SECOND,
                with_context(noting("inner"), async |()| {
                    sleep(60 * SECOND).await;
                    Ok(())
                }),
            );
            assert!(limited.await.is_none());
            notes.add("still in use");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(
            notes.take(),
            ["inner Cancelled", "still in use", "outer Completed"]
        );
    });
}

/// tractor: two sets gathered side by side in a join exit each by itself, one because its block failed.
#[test]
fn gatherings_side_by_side_in_a_try_join_unwind_each_by_itself() {
    let (notes, gate) = (Notes::new(), Gate::new());
    let context = |name: Word| {
        let (notes, gate) = (&notes, &gate);
        acm(async move |slot: Slot<()>| {
            let end = slot.provide(()).await;
            gate.wait().await;
            notes.add(format!("{name} {end:?}"));
            Outcome::Ok(())
        })
    };
    let mut task = Probe::new(trionics_gather::try_join((
        gather_contexts([context("a")], async |_| Err::<(), _>("block".into())),
        gather_contexts([context("b")], async |_| {
            never().await;
            Ok(())
        }),
    )));
    task.waits();
    gate.open();
    let failure = task.ends().unwrap_err();
    assert_eq!(errors(&failure), ["block"]);
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["a Failed", "b Cancelled"]);
}

/// A block that hands its values to a thread and takes them back: contexts stay entered meanwhile, and exit afterwards.
#[test]
fn a_blocks_value_may_be_used_on_another_thread() {
    let notes = Notes::new();
    let context = acm(async |slot: Slot<u32>| {
        slot.provide(7).await;
        notes.add("exited");
        Outcome::Ok(())
    });
    let doubled = ends(with_context(context, async |number| {
        let doubled = std::thread::spawn(move || number * 2).join().unwrap();
        notes.add("used");
        Ok(doubled)
    }));
    assert_eq!(doubled.unwrap(), 14);
    assert_eq!(notes.take(), ["used", "exited"]);
}

/// tokio's channels: a block that has returned is dropped with all that it holds before the exits begin, whatever kind of
/// future it is, so that an exit that reads a channel to its end comes to it.
#[test]
fn an_exit_reads_a_channel_to_its_end_that_the_block_has_held() {
    fn holds(sender: mpsc::UnboundedSender<Word>) -> impl Future<Output = Outcome> {
        // Holds the sender to its own end, as an async block would not.
        std::future::poll_fn(move |_| {
            sender.unbounded_send("from the block").unwrap();
            std::task::Poll::Ready(Ok(()))
        })
    }
    async fn drain(receiver: &mut mpsc::UnboundedReceiver<Word>, notes: &Notes) -> Outcome {
        while let Some(word) = receiver.next().await {
            notes.add(word);
        }
        Ok(())
    }
    let notes = Notes::new();
    let channel = || mpsc::unbounded::<Word>();
    let context = |(sender, mut receiver): (_, mpsc::UnboundedReceiver<Word>)| {
        let notes = &notes;
        acm(async move |slot: Slot<mpsc::UnboundedSender<Word>>| {
            slot.provide(sender).await;
            drain(&mut receiver, notes).await
        })
    };
    ends(with_context(context(channel()), holds)).unwrap();
    ends(gather_contexts((context(channel()),), |(sender,)| {
        holds(sender)
    }))
    .unwrap();
    let (sender, mut receiver) = channel();
    ends(finally(holds(sender), async |_| {
        drain(&mut receiver, &notes).await
    }))
    .unwrap();
    ends(open_exit_stack(|stack: ExitStack<'_, Word>| {
        let (sender, mut receiver) = channel();
        let notes = notes.clone();
        stack.push(async move |_| drain(&mut receiver, &notes).await);
        holds(sender)
    }))
    .unwrap();
    assert_eq!(notes.take(), ["from the block"; 4]);
}

/// tractor: a guard tells nobody why it goes: contexts in a nursery of the caller's see a normal end also where the caller is
/// stopped by a limit of its own, unless it says otherwise.
#[test]
fn a_guard_that_goes_with_stopped_code_says_what_it_was_told_to() {
    testing::run(async {
        for is_careful in [false, true] {
            let notes = Notes::new();
            open_nursery(async |n: Nursery<'_, Word>| {
                let notes = &notes;
                let context = acm(async move |slot: Slot<()>| {
                    let end = slot.provide(()).await;
                    notes.add(format!("{end:?}"));
                    Ok(())
                });
                let (_, guard) = gather_contexts_in(&n, (context,)).await?;
                if is_careful {
                    let used = move_on_after(SECOND, sleep(60 * SECOND)).await;
                    guard.leave(if used.is_some() {
                        BlockEnd::Completed
                    } else {
                        BlockEnd::Cancelled
                    });
                } else {
                    let _ = move_on_after(SECOND, async move {
                        let _guard = guard;
                        sleep(60 * SECOND).await;
                    })
                    .await;
                }
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(
                notes.take(),
                [if is_careful { "Cancelled" } else { "Completed" }]
            );
        }
    });
}
