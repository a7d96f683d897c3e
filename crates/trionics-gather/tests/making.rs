//! Ways to make a context: pairs, plain values, nurseries, changed and boxed ones.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use trionics_errgroup::LibraryFailure;
use trionics_gather::{
    AsyncContext, BlockEnd, BoxContext, LocalBoxContext, NurseryContext, Slot, acm, acm_pair,
    gather_contexts, local_nursery_context, null_context, nursery_context, with_context,
};
use trionics_nursery::{
    AnyError, CancelScope, Failure, LocalNursery, Nursery, NurseryOptions, checkpoint,
    open_nursery, shield,
};

mod common;
use common::{
    Gate, Notes, Probe, Reports, Word, ends, errors, never, pause, poll_once, quick, text,
};

/// The ways in which a block can end.
const ENDS: [BlockEnd; 4] = [
    BlockEnd::Completed,
    BlockEnd::Failed,
    BlockEnd::Cancelled,
    BlockEnd::Panicked,
];

/// Runs a block with `context` and lets it end in the way that is asked for; no report may come.
fn end_as<C>(end: BlockEnd, context: C)
where
    C: AsyncContext<Error = Word>,
{
    let (scope, reports) = (CancelScope::new(), Reports::new());
    let block = async |_value| {
        pause().await;
        match end {
            BlockEnd::Completed => Ok(7),
            BlockEnd::Failed => Err("block".into()),
            BlockEnd::Cancelled => {
                scope.cancel("stop");
                never().await;
                unreachable!()
            }
            _ => panic!("the block's"),
        }
    };
    let run = scope.run(with_context(context, block));
    let outcome = catch_unwind(AssertUnwindSafe(|| ends(reports.settings().run(run))));
    match (end, outcome) {
        (BlockEnd::Completed, Ok(Ok(Ok(7)))) => {}
        (BlockEnd::Cancelled, Ok(Err(_))) => assert!(scope.is_caught()),
        (BlockEnd::Failed, Ok(Ok(Err(failure)))) => assert_eq!(errors(&failure), ["block"]),
        (BlockEnd::Panicked, Err(payload)) => assert_eq!(text(&*payload), "the block's"),
        (end, outcome) => panic!("{end:?}: {outcome:?}"),
    }
    assert!(reports.take().is_empty());
}

// Pairs.

#[test]
fn the_exit_of_a_pair_is_told_how_the_block_ended_and_runs_to_its_end() {
    for end in ENDS {
        let notes = Notes::new();
        let context = acm_pair(
            async {
                pause().await;
                Ok(("value", "kept"))
            },
            async |kept, seen| {
                pause().await;
                notes.add(format!("{kept} {seen:?}"));
                Ok(())
            },
        );
        end_as(end, context);
        assert_eq!(notes.take(), [format!("kept {end:?}")]);
    }
}

#[test]
fn a_pair_whose_set_up_fails_or_is_stopped_is_not_exited() {
    let notes = Notes::new();
    let exit = async |(), _| {
        notes.add("exit");
        Ok(())
    };
    let fails = acm_pair(async { Err::<((), ()), _>("no route".into()) }, exit);
    let failure = ends(with_context(fails, async |()| Ok(()))).unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "no route");
    let scope = CancelScope::new();
    let stopped = acm_pair(
        async {
            let _guard = notes.on_drop("set-up dropped");
            scope.cancel("stop");
            never().await;
            Ok(((), ()))
        },
        exit,
    );
    let outcome = ends(scope.run(with_context(stopped, async |()| Ok::<_, Failure<Word>>(()))));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["set-up dropped"]);
}

#[test]
fn a_failing_or_panicking_exit_of_a_pair_is_heard() {
    let context = acm_pair(async { Ok(((), ())) }, async |(), _| Err("exit".into()));
    let failure = ends(with_context(context, async |()| {
        Err::<(), _>("block".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["block", "exit"]);
    let context = acm_pair(
        async { Ok::<_, Failure<Word>>(((), ())) },
        async |(), _| -> Result<(), Failure<Word>> { panic!("in the exit") },
    );
    let mut probe = Probe::new(with_context(context, async |()| Ok(())));
    assert_eq!(probe.panics(), "in the exit");
}

#[test]
fn pairs_can_share_a_vector() {
    let notes = Notes::new();
    let contexts: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|name| {
            acm_pair(async move { Ok((name, name)) }, async |name: Word, _| {
                notes.add(name);
                Ok::<(), Failure<Word>>(())
            })
        })
        .collect();
    assert_eq!(
        ends(gather_contexts(contexts, async |names| Ok(names))),
        Ok(vec!["a", "b"])
    );
    assert_eq!(notes.take(), ["a", "b"]);
}

// Plain values.

#[test]
fn a_plain_value_is_dropped_by_the_block_before_any_exit() {
    let notes = Notes::new();
    let value = notes.on_drop("value dropped");
    let outcome = ends(gather_contexts(
        (quick("a", &notes), null_context(value)),
        async |(_, value)| {
            pause().await;
            let _ = &value;
            Ok(7)
        },
    ));
    assert_eq!(outcome, Ok(7));
    assert_eq!(
        notes.take(),
        [
            "a enters",
            "value dropped",
            "a sees Completed",
            "a has exited"
        ]
    );
}

#[test]
fn a_plain_value_that_no_block_gets_is_dropped_all_the_same() {
    let value = Arc::new(());
    let fails = acm(async |_: Slot<()>| {
        pause().await;
        Err::<(), Failure<Word>>("no".into())
    });
    let set = (null_context(Arc::clone(&value)), fails);
    ends(gather_contexts(set, async |_| Ok(()))).unwrap_err();
    drop(null_context::<_, Word>(Arc::clone(&value)));
    assert_eq!(Arc::strong_count(&value), 1);
}

// Nurseries.

/// A child that notes that it was stopped, in a shield that awaits.
async fn background(notes: &Notes, name: Word) -> Result<(), Failure<Word>> {
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        pause().await;
        notes.add(format!("{name} has unwound"));
        Ok(())
    });
    with_context(context, async |()| {
        never().await;
        Ok(())
    })
    .await
}

#[test]
fn background_tasks_are_stopped_when_the_block_ends_however_it_ends() {
    for end in ENDS {
        let notes = Notes::new();
        let context = acm(async |slot: Slot<()>| {
            with_context(nursery_context(), async |n: Nursery<'_, Word>| {
                n.start_soon(background(&notes, "one"));
                n.start_soon(background(&notes, "two"));
                checkpoint().await;
                let seen = slot.provide(()).await;
                notes.add(format!("{seen:?}"));
                Ok(())
            })
            .await
        });
        end_as(end, context);
        let mut notes = notes.take();
        notes.sort();
        assert_eq!(
            notes,
            [&*format!("{end:?}"), "one has unwound", "two has unwound"]
        );
        end_as(end, nursery_context::<Word>());
        end_as(end, nursery_context::<Word>().joining());
    }
}

#[test]
fn a_failing_background_task_cancels_the_block_and_is_the_outcome() {
    let notes = Notes::new();
    let failure = ends(with_context(
        nursery_context(),
        async |n: Nursery<'_, Word>| {
            let _guard = notes.on_drop("block dropped");
            n.start_soon(async {
                pause().await;
                Err("background".into())
            });
            never().await;
            Ok(())
        },
    ))
    .unwrap_err();
    assert_eq!(errors(&failure), ["background"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
    assert_eq!(notes.take(), ["block dropped"]);
}

#[test]
fn a_panicking_background_task_cancels_the_block_and_is_resumed() {
    let notes = Notes::new();
    let mut probe = Probe::new(with_context(
        nursery_context(),
        async |n: Nursery<'_, Word>| {
            let _guard = notes.on_drop("block dropped");
            n.start_soon(async {
                pause().await;
                panic!("in the background")
            });
            never().await;
            Ok(())
        },
    ));
    assert_eq!(probe.panics(), "in the background");
    assert_eq!(notes.take(), ["block dropped"]);
}

#[test]
fn a_joining_nursery_waits_for_its_children_after_a_block_that_completed() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(with_context(
        nursery_context().joining(),
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                gate.wait().await;
                notes.add("child");
                Ok(())
            });
            Ok(7)
        },
    ));
    probe.waits();
    gate.open();
    assert_eq!(probe.ends(), Ok(7));
    assert_eq!(notes.take(), ["child"]);
    // After one that failed it does not.
    let failure = ends(with_context(
        nursery_context().joining(),
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                never().await;
                Ok(())
            });
            Err::<(), _>("block".into())
        },
    ))
    .unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "block");
}

#[test]
fn a_nursery_context_takes_options_and_says_why_it_stops_its_children() {
    let context = nursery_context().options(NurseryOptions::new().name("background").supervise());
    let failure = ends(with_context(context, async |n: Nursery<'_>| {
        n.start_soon(async { Err(Failure::text("first")) });
        n.start_soon(async { Err(Failure::text("second")) });
        checkpoint().await;
        checkpoint().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.leaves().count(), 2);
    assert_eq!(failure.origin(), Some("background"));
    let mut scope = None;
    ends(with_context(nursery_context(), async |n: Nursery<'_>| {
        scope = Some(n.cancel_scope());
        Ok(())
    }))
    .unwrap();
    let cancelled = scope.unwrap().cancelled().unwrap();
    assert_eq!(*cancelled.reason(), trionics_nursery::CancelReason::Closed);
    assert!(cancelled.location().file().ends_with("making.rs"));
}

#[test]
fn a_nursery_of_a_context_can_be_cancelled_by_its_user() {
    let outcome = ends(with_context(
        nursery_context(),
        async |n: Nursery<'_, Word>| {
            n.cancel("by the user");
            never().await;
            Ok(())
        },
    ));
    let failure = outcome.unwrap_err();
    let cancelled = failure.as_cancelled().expect("a lone `Cancelled`");
    assert_eq!(cancelled.to_string(), "cancelled: by the user");
}

#[test]
fn a_local_nursery_as_a_context() {
    let count = Rc::new(std::cell::Cell::new(0));
    let outcome = ends(with_context(
        local_nursery_context().joining(),
        async |n: LocalNursery<'_, Word>| {
            let count = Rc::clone(&count);
            n.start_soon(async move {
                pause().await;
                count.set(7);
                Ok(())
            });
            Ok(())
        },
    ));
    assert_eq!(outcome, Ok(()));
    assert_eq!(count.get(), 7);
}

#[test]
fn a_nursery_gathered_beside_others() {
    let notes = Notes::new();
    let outcome = ends(gather_contexts(
        (quick("a", &notes), nursery_context()),
        async |(_, n): (Word, Nursery<'_, Word>)| {
            n.start_soon(background(&notes, "task"));
            checkpoint().await;
            Ok(7)
        },
    ));
    assert_eq!(outcome, Ok(7));
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(
        notes,
        [
            "a enters",
            "a has exited",
            "a sees Completed",
            "task has unwound"
        ]
    );
}

// Changed values.

#[test]
fn a_mapped_context_tells_the_inner_exit_how_the_block_ended() {
    for end in ENDS {
        let notes = Notes::new();
        end_as(end, quick("a", &notes).map(str::len).map(|n| n + 1));
        assert_eq!(
            notes.take(),
            ["a enters", &*format!("a sees {end:?}"), "a has exited"]
        );
    }
}

#[test]
fn a_mapped_value_arrives_changed_and_may_borrow() {
    let table = [10, 20, 30];
    let index = acm(async |slot: Slot<usize>| {
        pause().await;
        slot.provide(1).await;
        Ok::<(), Failure<Word>>(())
    });
    let got: &i32 = ends(with_context(index.map(|i| &table[i]), async |v| Ok(v))).unwrap();
    assert_eq!(*got, 20);
}

#[test]
fn a_mapped_context_fails_as_the_inner_one_does() {
    let notes = Notes::new();
    let fails = acm(async |_: Slot<u32>| {
        pause().await;
        Err("set-up".into())
    });
    let failure = ends(with_context(fails.map(|n| n + 1), async |_| Ok(()))).unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "set-up");
    let forgets = acm(async |_: Slot<u32>| Ok::<(), Failure<Word>>(()));
    let failure = ends(with_context(forgets.map(|n| n + 1), async |_| Ok(()))).unwrap_err();
    assert_eq!(failure.as_library(), Some(&LibraryFailure::NotProvided));
    let fails = acm(async |slot: Slot<u32>| {
        slot.provide(1).await;
        Err("exit".into())
    });
    let failure = ends(with_context(fails.map(|n| n + 1), async |_| {
        Err::<(), _>("block".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["block", "exit"]);
    assert!(failure.children()[1].context().is_some());
    let leaves = acm(async |slot: Slot<u32>| {
        let mut provide = Box::pin(slot.provide(1));
        while poll_once(&mut provide).await.is_none() {
            pause().await;
            if notes.len() > 0 {
                break;
            }
        }
        Err("gave up".into())
    });
    let failure = ends(with_context(leaves.map(|n| n + 1), async |_| {
        let _guard = notes.on_drop("block dropped");
        notes.add("block");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "gave up");
    assert_eq!(notes.take(), ["block", "block dropped"]);
}

#[test]
fn a_panic_in_the_change_leaves_the_context_and_is_resumed() {
    let notes = Notes::new();
    let context = quick("a", &notes).map(|_| -> u32 { panic!("in the change") });
    let mut probe = Probe::new(with_context(context, async |_| {
        notes.add("block");
        Ok(())
    }));
    assert_eq!(probe.panics(), "in the change");
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Panicked", "a has exited"]
    );
}

#[test]
fn a_mapped_context_provides_from_inside_frames_of_its_own() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let context = acm(async |slot: Slot<Word>| {
        let inner = CancelScope::new();
        let _ = inner
            .run(async {
                slot.provide("value").await;
                shield(pause()).await;
                pause().await;
                notes.add("first exit");
            })
            .await;
        pause().await;
        notes.add("second exit");
        Ok::<(), Failure<Word>>(())
    });
    let outcome = ends(scope.run(with_context(context.map(str::len), async |_| {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["first exit", "second exit"]);
}

// Boxed ones.

#[test]
fn different_kinds_share_a_vector_when_boxed() {
    let notes = Notes::new();
    let contexts: Vec<BoxContext<'_, Word, Word>> = vec![
        quick_sent("a", &notes).boxed(),
        null_context("b").boxed(),
        acm_pair(async { Ok(("c", ())) }, async |(), _| Ok(())).boxed(),
        null_context(7).map(|_| "d").boxed(),
    ];
    assert_eq!(
        ends(gather_contexts(contexts, async |names| Ok(names.concat()))),
        Ok("abcd".to_owned())
    );
    assert_eq!(notes.take(), ["a"]);
    let shared = Rc::new("e");
    let contexts: Vec<LocalBoxContext<'_, Rc<Word>, Word>> = vec![
        null_context(Rc::clone(&shared)).boxed_local(),
        acm(async |slot: Slot<_>| {
            slot.provide(shared).await;
            Ok(())
        })
        .boxed_local(),
    ];
    let outcome = ends(gather_contexts(contexts, async |names| Ok(names.len())));
    assert_eq!(outcome, Ok(2));
}

fn quick_sent<'a>(
    name: Word,
    notes: &'a Notes,
) -> impl AsyncContext<Value = Word, Error = Word, Run: Send> + Send + use<'a> {
    acm(async move |slot: Slot<Word>| {
        slot.provide(name).await;
        pause().await;
        notes.add(name);
        Ok(())
    })
}

#[test]
fn all_kinds_are_sent_to_another_thread_with_borrows() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let total = runtime.block_on(async {
        tokio::spawn(async {
            let names = ["one".to_owned(), "three".to_owned()];
            let exits = AtomicUsize::new(0);
            let pairs: Vec<_> = names
                .iter()
                .map(|name| {
                    acm_pair(
                        async move {
                            checkpoint().await;
                            Ok((name, name.len()))
                        },
                        async |n: usize, _| {
                            checkpoint().await;
                            exits.fetch_add(n, Ordering::SeqCst);
                            Ok(())
                        },
                    )
                    .map(|name: &String| name.as_str())
                    .boxed()
                })
                .collect();
            let total = gather_contexts(pairs, async |names: Vec<&str>| {
                let set = (
                    nursery_context(),
                    null_context(&names).map(|names| names.len()).boxed(),
                );
                with_nested(set, &names).await
            })
            .await
            .unwrap();
            total + exits.load(Ordering::SeqCst)
        })
        .await
        .unwrap()
    });
    assert_eq!(total, 2 + 8 + 8);

    async fn with_nested<'a, C>(
        set: (NurseryContext<Nursery<'a>>, C),
        names: &'a [&'a str],
    ) -> Result<usize, Failure>
    where
        C: AsyncContext<Value = usize, Error = AnyError>,
    {
        gather_contexts(set, async |(n, len): (Nursery<'a>, usize)| {
            let letters = n.spawn(async move {
                checkpoint().await;
                Ok(names.iter().map(|name| name.len()).sum::<usize>())
            });
            Ok(len + letters.await?)
        })
        .await
    }
}

#[test]
fn a_nursery_context_in_a_nurserys_child() {
    let outcome = ends(open_nursery(async |outer: Nursery<'_, Word>| {
        let handle = outer.spawn(with_context(
            nursery_context(),
            async |n: Nursery<'_, Word>| Ok(n.spawn(async { Ok(7) }).await.unwrap()),
        ));
        Ok(handle.await.unwrap())
    }));
    assert_eq!(outcome, Ok(7));
}
