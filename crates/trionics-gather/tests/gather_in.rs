//! Contexts in a nursery of the caller's, and options: the conformance rows of section D and more.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::FutureExt as _;
use trionics_errgroup::LibraryFailure;
use trionics_gather::{
    BlockEnd, GatherGuard, GatherOptions, Slot, acm, gather_contexts_in, null_context,
};
use trionics_nursery::{
    CancelReason, CancelScope, Failure, LocalNursery, Nursery, NurseryOptions, checkpoint,
    open_local_nursery, open_nursery, shield,
};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Reports, Word, ends, errors, never, panic_of, pause, quick,
    resource,
};

/// A context that may be sent; it provides its name and notes what it sees.
fn sent<'a>(
    name: Word,
    notes: &'a Notes,
    exit: &'a Gate,
) -> impl trionics_gather::AsyncContext<Value = Word, Error = Word, Run: Send> + Send + use<'a> {
    acm(async move |slot: Slot<Word>| {
        notes.add(format!("{name} enters"));
        let end = slot.provide(name).await;
        notes.add(format!("{name} sees {end:?}"));
        exit.wait().await;
        notes.add(format!("{name} has exited"));
        Ok(())
    })
}

/// G-024
#[test]
fn the_nursery_waits_for_the_exits_and_the_call_does_not() {
    let (notes, exit) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let set = [sent("a", &notes, &exit), sent("b", &notes, &exit)];
        let (values, guard) = gather_contexts_in(&n, set).await?;
        assert_eq!(values, ["a", "b"]);
        assert_eq!(n.n_children(), 2);
        notes.add("in use");
        pause().await;
        drop(guard);
        notes.add("the body goes on");
        pause().await;
        notes.add("the body ends");
        Ok(7)
    }));
    probe.waits();
    let so_far = notes.take();
    assert_eq!(so_far[2..4], ["in use", "the body goes on"]);
    assert!(so_far.contains(&"a sees Completed".to_owned()));
    assert!(so_far.contains(&"the body ends".to_owned()));
    exit.open();
    assert_eq!(probe.ends(), Ok(7));
    assert_eq!(notes.take(), ["a has exited", "b has exited"]);
}

/// G-025
#[test]
fn a_failure_of_the_code_around_the_guard_is_its_own_and_cancels_nothing() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let user = async {
            let set = [sent("a", &notes, &exit)];
            let (_values, _guard) = gather_contexts_in(&n, set).await?;
            pause().await;
            Err::<(), Failure<Word>>("user".into())
        };
        let failure = user.await.unwrap_err();
        // Ungrouped, and the nursery goes on.
        assert_eq!(failure.into_leaf().unwrap(), "user");
        assert!(!n.cancel_scope().is_cancelled());
        n.wait_idle().await;
        pause().await;
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Completed", "a has exited"]
    );
}

/// G-026
#[test]
fn a_failing_set_up_is_the_nurserys_and_the_call_does_not_return() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let _guard = notes.on_drop("body dropped");
        let fails = acm(async |_: Slot<()>| {
            pause().await;
            Err("no route".into())
        });
        let outcome = gather_contexts_in(&n, (sent("a", &notes, &exit), fails)).await;
        notes.add("never");
        outcome.map(drop)
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["no route"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(
        notes,
        [
            "a enters",
            "a has exited",
            "a sees Cancelled",
            "body dropped"
        ]
    );
}

/// G-026, where the caller is not cancelled with the nursery
#[test]
fn a_failing_set_up_is_the_nurserys_and_the_call_gives_cancelled_outside_of_it() {
    let (notes, exit, done) = (Notes::new(), Gate::new(), Gate::new());
    let away = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        away.put(n.clone());
        done.wait().await;
        Ok(())
    }));
    nursery.waits();
    let n = away.take();
    let fails = acm(async |_: Slot<()>| {
        pause().await;
        Err("no route".into())
    });
    let mut caller = Probe::new(gather_contexts_in(&n, (sent("a", &notes, &exit), fails)));
    caller.waits();
    nursery.waits();
    let failure = caller.ends().unwrap_err();
    let cancelled = failure.as_cancelled().expect("a `Cancelled`");
    assert_eq!(*cancelled.reason(), CancelReason::ContextEnded);
    exit.open();
    assert_eq!(errors(&nursery.ends().unwrap_err()), ["no route"]);
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Cancelled", "a has exited"]
    );
}

/// G-026, in a nursery that lives on
#[test]
fn in_a_supervising_nursery_a_failing_set_up_leaves_the_rest_of_its_set_alone() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let failure = ends(
        NurseryOptions::new()
            .supervise()
            .open(async |n: Nursery<'_, Word>| {
                let (_other, _kept) =
                    gather_contexts_in(&n, (sent("other", &notes, &exit),)).await?;
                let fails = acm(async |_: Slot<()>| {
                    pause().await;
                    Err("no route".into())
                });
                let entering = acm(async |slot: Slot<()>| {
                    let _guard = notes.on_drop("entering dropped");
                    never().await;
                    slot.provide(()).await;
                    Ok(())
                });
                let set = (sent("a", &notes, &exit), fails, entering);
                let failure = gather_contexts_in(&n, set).await.unwrap_err();
                assert!(failure.is_cancelled());
                while n.n_children() > 1 {
                    pause().await;
                }
                notes.add("the body ends");
                Ok(())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["no route"]);
    assert_eq!(failure.leaves().count(), 1);
    let notes = notes.take();
    let ended = notes
        .iter()
        .position(|note| note == "the body ends")
        .unwrap();
    assert!(
        notes[..ended].contains(&"a has exited".to_owned()),
        "{notes:?}"
    );
    assert!(
        notes[..ended].contains(&"entering dropped".to_owned()),
        "{notes:?}"
    );
    assert_eq!(
        notes[ended + 1..],
        ["other sees Completed", "other has exited"]
    );
}

/// G-007
#[test]
fn an_empty_set_is_refused_here_too() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let mut set = vec![null_context(1)];
        set.clear();
        let failure = gather_contexts_in(&n, set).await.unwrap_err();
        assert_eq!(failure.as_library(), Some(&LibraryFailure::EmptySet));
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
}

#[test]
fn a_closed_nursery_is_refused_and_what_was_to_be_entered_is_dropped() {
    let away = Drawer::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        away.put(n);
        Ok(())
    }))
    .unwrap();
    let value = Arc::new(());
    let set = [
        null_context(Arc::clone(&value)),
        null_context(Arc::clone(&value)),
    ];
    let failure = ends(gather_contexts_in(&away.take(), set)).unwrap_err();
    assert!(matches!(
        failure.as_library(),
        Some(LibraryFailure::Closed { .. })
    ));
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn it_does_nothing_before_it_is_polled_and_panics_after_its_end() {
    let notes = Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let exit = Gate::new();
        drop(gather_contexts_in(&n, [null_context(())]));
        assert_eq!(n.n_children(), 0);
        let mut entering = gather_contexts_in(&n, [null_context(1)]);
        let (values, guard) = (&mut entering).await?;
        assert_eq!(values, [1]);
        assert!(panic_of(|| (&mut entering).now_or_never()).contains("completed"));
        drop((exit, guard));
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.len(), 0);
}

#[test]
fn dropping_the_call_leaves_what_has_entered_and_stops_what_is_entering() {
    let (notes, exit) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let entering = acm(async |slot: Slot<()>| {
            let _guard = notes.on_drop("entering dropped");
            never().await;
            slot.provide(()).await;
            Ok(())
        });
        let set = (sent("a", &notes, &exit), entering);
        let mut call = Box::pin(gather_contexts_in(&n, set));
        assert!((&mut call).now_or_never().is_none());
        pause().await;
        pause().await;
        notes.add("dropping");
        drop(call);
        // In a shield: what follows is awaited although nobody waits for a value.
        n.wait_idle().await;
        Ok(7)
    }));
    probe.waits();
    let mut so_far = notes.take();
    so_far.sort();
    assert_eq!(
        so_far,
        [
            "a enters",
            "a sees Cancelled",
            "dropping",
            "entering dropped"
        ]
    );
    exit.open();
    assert_eq!(probe.ends(), Ok(7));
}

#[test]
fn a_caller_that_is_cancelled_by_itself_stops_its_set_and_not_the_nursery() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let scope = CancelScope::new();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let entering = acm(async |slot: Slot<()>| {
            scope.cancel("out of time");
            never().await;
            slot.provide(()).await;
            Ok(())
        });
        let set = (sent("a", &notes, &exit), entering);
        assert!(scope.run(gather_contexts_in(&n, set)).await.is_err());
        n.wait_idle().await;
        notes.add("idle");
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Cancelled", "a has exited", "idle"]
    );
}

#[test]
fn a_cancelled_nursery_unwinds_the_code_that_holds_the_guard_first() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let scope = CancelScope::new();
    let outcome = ends(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        let (_values, _guard) = gather_contexts_in(&n, [sent("a", &notes, &exit)]).await?;
        scope.cancel("stop");
        shield(async {
            pause().await;
            pause().await;
            notes.add("still in use");
        })
        .await;
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(
        notes.take(),
        [
            "a enters",
            "still in use",
            "a sees Cancelled",
            "a has exited"
        ]
    );
}

#[test]
fn code_outside_the_nursery_is_told_that_its_values_are_needed_back() {
    let (notes, exit, away) = (Notes::new(), Gate::new(), Drawer::new());
    exit.open();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        away.put(n);
        never().await;
        Ok(())
    }));
    nursery.waits();
    let n = away.take();
    let mut user = Probe::new(async {
        let (_values, mut guard) = gather_contexts_in(&n, [sent("a", &notes, &exit)])
            .await
            .unwrap();
        let why = guard.recalled().await;
        notes.add(why.to_string());
    });
    user.waits();
    nursery.waits();
    user.waits();
    n.cancel("shut down");
    // The nursery waits for the guard.
    nursery.waits();
    user.ends();
    assert!(nursery.ends().is_err());
    assert_eq!(
        notes.take(),
        [
            "a enters",
            "cancelled: shut down",
            "a sees Cancelled",
            "a has exited"
        ]
    );
}

#[test]
fn a_guard_can_say_how_the_use_ended() {
    for how in [BlockEnd::Completed, BlockEnd::Failed, BlockEnd::Panicked] {
        let (notes, exit) = (Notes::new(), Gate::new());
        exit.open();
        ends(open_nursery(async |n: Nursery<'_, Word>| {
            let (_, guard) = gather_contexts_in(&n, [sent("a", &notes, &exit)]).await?;
            guard.leave(how);
            Ok(())
        }))
        .unwrap();
        assert_eq!(notes.take()[1], format!("a sees {how:?}"));
    }
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (_, _guard) = gather_contexts_in(&n, [sent("a", &notes, &exit)]).await?;
        if n.n_children() > 0 {
            panic!("in the body");
        }
        Ok(())
    }));
    assert_eq!(probe.panics(), "in the body");
    assert_eq!(notes.take()[1..], ["a sees Panicked", "a has exited"]);
}

#[test]
fn a_context_that_dies_in_use_is_the_nurserys_failure() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let dies = |result: Result<(), Failure<Word>>| {
        acm(async move |slot: Slot<()>| {
            let mut provide = Box::pin(slot.provide(()));
            assert!((&mut provide).now_or_never().is_none());
            pause().await;
            pause().await;
            result
        })
    };
    for result in [Err("gave up".into()), Ok(())] {
        let expects_failure = result.is_err();
        let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
            let set = (dies(result), sent("a", &notes, &exit));
            let (_values, _guard) = gather_contexts_in(&n, set).await?;
            never().await;
            Ok(())
        }))
        .unwrap_err();
        assert_eq!(failure.leaves().count(), 1, "{failure:?}");
        if expects_failure {
            assert_eq!(errors(&failure), ["gave up"]);
        } else {
            let leaf = failure.leaves().next().unwrap();
            assert_eq!(leaf.as_library(), Some(&LibraryFailure::ContextEnded));
        }
        assert_eq!(
            notes.take(),
            ["a enters", "a sees Cancelled", "a has exited"]
        );
    }
}

#[test]
fn a_panic_in_a_set_up_or_an_exit_is_the_nurserys() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    for in_exit in [false, true] {
        let panics = acm(async |slot: Slot<()>| {
            pause().await;
            assert!(in_exit, "in the set-up");
            slot.provide(()).await;
            panic!("in the exit")
        });
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let set = (sent("a", &notes, &exit), panics);
            let (_values, guard) = gather_contexts_in(&n, set).await?;
            drop(guard);
            n.wait_idle().await;
            Ok(())
        }));
        let expected = if in_exit {
            "in the exit"
        } else {
            "in the set-up"
        };
        assert_eq!(probe.panics(), expected);
        assert_eq!(notes.take()[2..], ["a has exited"]);
    }
}

#[test]
fn a_foreign_drop_of_the_nursery_reports_the_exit() {
    let (notes, exit, reports) = (Notes::new(), Gate::new(), Reports::new());
    let kept: Drawer<GatherGuard> = Drawer::new();
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            let (_values, guard) = gather_contexts_in(&n, [sent("a", &notes, &exit)]).await?;
            kept.put(guard);
            never().await;
            Ok(())
        },
    )));
    probe.waits();
    probe.cut();
    assert_eq!(reports.take().len(), 1);
    drop(kept.take());
    assert_eq!(notes.take(), ["a enters"]);
}

#[test]
fn a_local_nursery_takes_contexts_that_cannot_be_sent() {
    let (notes, exit) = (Notes::new(), Gate::new());
    exit.open();
    let outcome = ends(open_local_nursery(async |n: LocalNursery<'_, Word>| {
        let shared = Rc::new(7);
        let set = (null_context(shared), resource("a", &notes, &exit));
        let ((number, _), guard) = gather_contexts_in(&n, set).await?;
        drop(guard);
        Ok(*number)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(
        notes.take(),
        ["a enters", "a sees Completed", "a has exited"]
    );
}

#[test]
fn a_guard_goes_to_another_thread_with_borrows_around() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let exits = runtime.block_on(async {
        tokio::spawn(async {
            let exits = AtomicUsize::new(0);
            open_nursery(async |n: Nursery<'_>| {
                let set: Vec<_> = (0..10)
                    .map(|i| {
                        let exits = &exits;
                        acm(async move |slot: Slot<usize>| {
                            checkpoint().await;
                            slot.provide(i).await;
                            checkpoint().await;
                            exits.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        })
                    })
                    .collect();
                let (values, guard) = gather_contexts_in(&n, set).await?;
                assert!(values.into_iter().eq(0..10));
                tokio::spawn(async move { drop(guard) });
                Ok(())
            })
            .await
            .unwrap();
            exits.into_inner()
        })
        .await
        .unwrap()
    });
    assert_eq!(exits, 10);
}

// The limit.

/// Counts how many set-ups are under way, and how many were at most.
#[derive(Clone, Default)]
struct Under(Arc<(AtomicUsize, AtomicUsize)>);

impl Under {
    fn begin(&self) {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[test]
fn no_more_than_the_limit_set_up_at_once_and_all_are_entered() {
    for limit in [1, 2, 7, 100] {
        let (under, order) = (Under::default(), Notes::new());
        let set: Vec<_> = (0..20)
            .map(|i| {
                let under = &under;
                let order = &order;
                acm(async move |slot: Slot<usize>| {
                    under.begin();
                    order.add(i.to_string());
                    for _ in 0..i % 3 {
                        pause().await;
                    }
                    under.end();
                    slot.provide(i).await;
                    pause().await;
                    Ok::<(), Failure<Word>>(())
                })
            })
            .collect();
        let gathered = GatherOptions::new()
            .limit(limit)
            .gather(set, async |values: Vec<usize>| Ok(values));
        assert_eq!(ends(gathered), Ok((0..20).collect()));
        assert!(under.most() <= limit, "{} > {limit}", under.most());
        assert!(under.most() == limit.min(20) || limit > 7);
        let expected: Vec<_> = (0..20).map(|i| i.to_string()).collect();
        assert_eq!(order.take(), expected, "they set up in their order");
    }
}

#[test]
fn a_set_up_that_fails_under_a_limit_lets_nobody_hang_and_enters_nobody_else() {
    let notes = Notes::new();
    let context = |i: usize| {
        let notes = &notes;
        acm(async move |slot: Slot<usize>| {
            notes.add(format!("{i} begins"));
            pause().await;
            if i == 2 {
                return Err("two".into());
            }
            slot.provide(i).await;
            notes.add(format!("{i} has exited"));
            Ok(())
        })
    };
    let set: Vec<_> = (0..6).map(context).collect();
    let failure = ends(
        GatherOptions::new()
            .limit(1)
            .gather(set, async |_| Ok::<(), Failure<Word>>(())),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["two"]);
    let notes = notes.take();
    assert_eq!(notes[..3], ["0 begins", "1 begins", "2 begins"]);
    for exited in ["0 has exited", "1 has exited"] {
        assert!(notes.contains(&exited.to_owned()), "{notes:?}");
    }
    assert!(!notes.contains(&"3 begins".to_owned()), "{notes:?}");
}

#[test]
fn under_a_limit_a_cancelled_gathering_never_begins_those_that_wait() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let set: Vec<_> = (0..3)
        .map(|i| {
            let (scope, notes) = (&scope, &notes);
            acm(async move |slot: Slot<usize>| {
                notes.add(i.to_string());
                pause().await; // the others wait by now
                scope.cancel("stop");
                never().await;
                slot.provide(i).await;
                Ok::<(), Failure<Word>>(())
            })
        })
        .collect();
    let gathered = GatherOptions::new().limit(1).gather(set, async |_| Ok(()));
    assert!(ends(scope.run(gathered)).is_err());
    assert_eq!(notes.take(), ["0"]);
}

#[test]
fn a_set_up_that_panics_under_a_limit_lets_those_that_have_entered_exit() {
    let notes = Notes::new();
    let set: Vec<_> = (0..3)
        .map(|i| {
            let notes = &notes;
            acm(async move |slot: Slot<usize>| {
                pause().await;
                assert!(i < 1, "in the set-up");
                slot.provide(i).await;
                notes.add("exit");
                Ok::<(), Failure<Word>>(())
            })
        })
        .collect();
    let gathered = GatherOptions::new().limit(1).gather(set, async |_| Ok(()));
    assert_eq!(Probe::new(gathered).panics(), "in the set-up");
    assert_eq!(notes.take(), ["exit"]);
}

#[test]
fn a_limit_in_a_nursery_of_the_callers_passes_the_turn_on_when_the_call_is_dropped() {
    let (under, away) = (Under::default(), Drawer::new());
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let set: Vec<_> = (0..5)
            .map(|i| {
                let under = under.clone();
                acm(async move |slot: Slot<usize>| {
                    under.begin();
                    pause().await;
                    under.end();
                    slot.provide(i).await;
                    Ok(())
                })
            })
            .collect();
        let (values, guard) = GatherOptions::new().limit(2).gather_in(&n, set).await?;
        assert_eq!(values, [0, 1, 2, 3, 4]);
        assert_eq!(under.most(), 2);
        drop(guard);
        let hangs = |_| {
            acm(async |slot: Slot<()>| {
                never().await;
                slot.provide(()).await;
                Ok(())
            })
        };
        let set: Vec<_> = (0..5).map(hangs).collect();
        let mut call = GatherOptions::new().limit(2).gather_in(&n, set);
        assert!((&mut call).now_or_never().is_none());
        pause().await;
        away.put(n.n_children());
        drop(call);
        n.wait_idle().await;
        Ok(7)
    }));
    assert_eq!(outcome, Ok(7));
    assert_eq!(away.take(), 5);
}

#[test]
fn a_limit_of_zero_is_refused() {
    let refused = catch_unwind(AssertUnwindSafe(|| GatherOptions::new().limit(0)));
    let text = common::text(&*refused.unwrap_err());
    assert!(text.contains("limit of 1 or more"), "{text}");
}

#[test]
fn the_defaults_gather_as_the_function_does() {
    let notes = Notes::new();
    let gathered = GatherOptions::new().gather([quick("a", &notes)], async |[a]| Ok(a));
    assert_eq!(ends(gathered), Ok("a"));
}
