//! Scope-aware combinators: the others unwind before a race returns; the branches of a join unwind each by itself.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::FutureExt as _;
use trionics_errgroup::LibraryFailure;
use trionics_gather::{
    BlockEnd, acm_pair, finally, join, race, race_ok, try_join, try_race, with_context,
};
use trionics_nursery::{
    CancelReason, CancelScope, Failure, Nursery, Report, branch, checkpoint, is_cancel_requested,
    open_nursery, shield,
};

mod common;
use common::{
    Drawer, Gate, Notes, OnDrop, Probe, Reports, Word, ends, errors, never, panic_of, pause, text,
};

type Outcome<T> = Result<T, Failure<Word>>;

/// Never ends by itself; its exit waits for `gate` and then notes `name`.
async fn held(name: Word, notes: &Notes, gate: &Gate) -> Outcome<Word> {
    finally(
        async {
            never().await;
            Ok("never")
        },
        async |end| {
            notes.add(format!("{name} sees {end:?}"));
            gate.wait().await;
            notes.add(format!("{name} has unwound"));
            Ok(())
        },
    )
    .await
}

/// Gives `output` after some awaits.
async fn after<T>(rounds: usize, output: T) -> T {
    for _ in 0..rounds {
        pause().await;
    }
    output
}

// Race.

#[test]
fn the_first_to_finish_wins_in_every_kind_of_set() {
    assert_eq!(
        ends(race((after(2, "a"), after(1, "b"), after(3, "c")))),
        "b"
    );
    assert_eq!(
        ends(race([after(2, "a"), after(1, "b"), after(3, "c")])),
        "b"
    );
    assert_eq!(ends(race(vec![after(2, "a"), after(1, "b")])), "b");
    assert_eq!(ends(race((async { 7 },))), 7);
    // Several in one poll: the one that stands first.
    assert_eq!(ends(race((after(1, "a"), after(1, "b")))), "a");
    assert_eq!(ends(race([after(0, "a"), after(0, "b")])), "a");
    let twelve = (
        after(5, 0),
        after(5, 1),
        after(5, 2),
        after(5, 3),
        after(5, 4),
        after(5, 5),
        after(5, 6),
        after(5, 7),
        after(5, 8),
        after(5, 9),
        after(5, 10),
        after(2, 11),
    );
    assert_eq!(ends(race(twelve)), 11);
}

#[test]
fn the_others_unwind_before_the_race_returns() {
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(race((
        held("a", &notes, &gate),
        after(2, Ok("won")),
        held("b", &notes, &gate),
    )));
    probe.waits();
    let mut so_far = notes.take();
    so_far.sort();
    assert_eq!(so_far, ["a sees Cancelled", "b sees Cancelled"]);
    gate.open();
    assert_eq!(probe.ends(), Ok("won"));
    assert_eq!(notes.len(), 2);
}

#[test]
fn a_loser_that_has_no_exit_is_dropped_at_once() {
    let notes = Notes::new();
    let loser = async {
        let _guard = notes.on_drop("dropped");
        never().await;
        7
    };
    let mut probe = Probe::new(race((loser, after(1, 8))));
    assert_eq!(probe.ends(), 8);
    assert_eq!(notes.take(), ["dropped"]);
}

#[test]
fn the_losers_are_told_why() {
    let reason = Drawer::new();
    let loser = async {
        let scope = CancelScope::new();
        let seen = reason.clone();
        let _ = scope
            .run(shield(async {
                trionics_nursery::cancel_requested().await;
                seen.put(7);
            }))
            .await;
        never().await;
        0
    };
    assert_eq!(ends(race((loser, after(1, 1)))), 1);
    assert_eq!(reason.take(), 7);
}

#[test]
fn a_race_in_a_cancelled_scope_unwinds_all_and_does_not_return() {
    let (scope, notes, gate) = (CancelScope::new(), Notes::new(), Gate::new());
    let mut probe = Probe::new(scope.run(async {
        let _ = race((held("a", &notes, &gate), held("b", &notes, &gate))).await;
        notes.add("never");
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take().len(), 4);
}

/// Rule 4
#[test]
fn a_winner_in_the_poll_of_the_cancellation_has_won() {
    for with_exit in [false, true] {
        let (scope, notes, gate) = (CancelScope::new(), Notes::new(), Gate::new());
        gate.open();
        let mut seen = None;
        let outcome = ends(scope.run(async {
            let winner = async {
                pause().await;
                scope.cancel("stop");
                Ok("won")
            };
            let outcome = if with_exit {
                race((held("a", &notes, &gate), winner)).await
            } else {
                race((async { std::future::pending().await }, winner)).await
            };
            seen = Some(outcome);
            pause().await;
            notes.add("never");
        }));
        assert!(outcome.is_err());
        assert_eq!(seen, Some(Ok("won")));
        assert_eq!(notes.len(), if with_exit { 2 } else { 0 });
    }
}

#[test]
fn a_cancellation_while_the_losers_unwind_takes_no_result_away() {
    let (scope, notes, gate) = (CancelScope::new(), Notes::new(), Gate::new());
    let mut seen = None;
    let mut probe = Probe::new(scope.run(async {
        seen = Some(race((held("a", &notes, &gate), after(1, Ok("won")))).await);
        never().await;
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    drop(probe);
    assert_eq!(seen, Some(Ok("won")));
}

#[test]
fn a_panic_in_a_race_lets_the_others_unwind_and_is_resumed() {
    let (notes, gate) = (Notes::new(), Gate::new());
    gate.open();
    let panics = async {
        pause().await;
        panic!("in a branch")
    };
    let mut probe = Probe::new(race((held("a", &notes, &gate), panics)));
    assert_eq!(probe.panics(), "in a branch");
    assert_eq!(notes.take(), ["a sees Cancelled", "a has unwound"]);
    // On the way out, after there was a winner, and under a cancellation.
    for cancelled in [false, true] {
        let scope = CancelScope::new();
        let loser = finally(
            async {
                never().await;
                Ok(1)
            },
            async |_| -> Outcome<()> { panic!("on the way out") },
        );
        let winner = async {
            pause().await;
            if cancelled {
                scope.cancel("stop");
            }
            Ok(2)
        };
        let mut probe = Probe::new(scope.run(race((loser, winner))));
        assert_eq!(probe.panics(), "on the way out");
    }
}

#[test]
fn a_drop_that_panics_in_a_race_is_resumed() {
    let loser = async {
        let _guard = OnDrop::new(|| panic!("in a drop"));
        never().await;
        1
    };
    let mut probe = Probe::new(race((loser, after(1, 2))));
    assert_eq!(probe.panics(), "in a drop");
}

#[test]
fn a_loser_that_starts_after_the_decision_is_told_so_in_its_frames() {
    let mut told = None;
    let late = async {
        shield(async { told = Some(is_cancel_requested()) }).await;
        2
    };
    assert_eq!(ends(race((async { 1 }, late))), 1);
    assert_eq!(told, Some(true));
}

#[test]
fn a_loser_that_the_winner_wakes_is_polled_once_more() {
    let gate = Gate::new();
    let waits = async {
        gate.wait().await;
        Err(Failure::leaf("woken"))
    };
    let opens = async {
        gate.open();
        Ok(1)
    };
    let failure = ends(try_race((waits, opens))).unwrap_err();
    assert_eq!(errors(&failure), ["woken"]);
}

#[test]
fn a_late_output_of_a_loser_is_dropped() {
    let value = Arc::new(());
    let late = {
        let value = Arc::clone(&value);
        async move {
            shield(pause()).await;
            value
        }
    };
    let given = Arc::new(());
    let first = Arc::clone(&given);
    let won = ends(race((late, async move { first })));
    assert!(Arc::ptr_eq(&won, &given));
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_race_of_nothing_is_refused() {
    let none: Vec<std::future::Ready<u32>> = Vec::new();
    assert!(panic_of(|| race(none)).contains("at least one"));
    let none: Vec<std::future::Ready<Outcome<u32>>> = Vec::new();
    let failure = ends(try_race(none)).unwrap_err();
    assert_eq!(failure.as_library(), Some(&LibraryFailure::EmptySet));
    let none: Vec<std::future::Ready<Outcome<u32>>> = Vec::new();
    let failure = ends(race_ok(none)).unwrap_err();
    assert_eq!(failure.as_library(), Some(&LibraryFailure::EmptySet));
}

#[test]
fn only_what_was_woken_is_polled_in_a_race() {
    let (polls, gate) = (AtomicUsize::new(0), Gate::new());
    let counting: Vec<_> = (0..100)
        .map(|_| {
            let mut wait = gate.wait();
            let polls = &polls;
            std::future::poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                Pin::new(&mut wait).poll(cx)
            })
            .boxed()
        })
        .chain([after(50, ()).boxed()])
        .collect();
    ends(race(counting));
    assert_eq!(polls.load(Ordering::SeqCst), 100);
}

#[test]
fn a_borrowed_race_that_was_stopped_says_so() {
    let scope = CancelScope::new();
    let mut borrowed = Box::pin(race((
        std::future::pending::<u32>(),
        std::future::pending(),
    )));
    scope.cancel("stop");
    assert!(ends(scope.run(borrowed.as_mut())).is_err());
    let text = panic_of(|| ends(borrowed));
    assert!(text.contains("stop") && text.contains("race"), "{text}");
    let mut borrowed = Box::pin(try_race([std::future::pending::<Outcome<u32>>()]));
    let scope = CancelScope::new();
    scope.cancel("stop");
    assert!(ends(scope.run(borrowed.as_mut())).is_err());
    assert!(ends(borrowed).unwrap_err().is_cancelled());
}

#[test]
fn a_race_that_is_dropped_drops_and_reports() {
    let (reports, notes, gate) = (Reports::new(), Notes::new(), Gate::new());
    let both = race((held("a", &notes, &gate), held("b", &notes, &gate)));
    let mut probe = Probe::new(reports.settings().run(both));
    probe.waits();
    probe.cut();
    assert_eq!(reports.take().len(), 2);
    assert_eq!(notes.len(), 0);
}

// Races of what can fail.

#[test]
fn try_race_is_decided_by_the_first_to_finish_and_loses_no_failure() {
    assert_eq!(
        ends(try_race((after(5, Err("late".into())), after(1, Ok(7))))),
        Outcome::Ok(7)
    );
    // One that is ready in the poll in which it would have been stopped has failed.
    let failure = ends(try_race((after(2, Err("close".into())), after(1, Ok(7))))).unwrap_err();
    assert_eq!(errors(&failure), ["close"]);
    let failure = ends(try_race((after(1, Err("first".into())), after(2, Ok(7))))).unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["first"]);
    let fails_on_the_way_out = |word: Word| {
        finally(
            async {
                never().await;
                Ok(0)
            },
            async move |_| Err(word.into()),
        )
    };
    let failure = ends(try_race((
        fails_on_the_way_out("exit a"),
        after(1, Ok(7)),
        fails_on_the_way_out("exit b"),
    )))
    .unwrap_err();
    let mut heard = errors(&failure);
    heard.sort_unstable();
    assert_eq!(heard, ["exit a", "exit b"]);
    let failure = ends(try_race((
        fails_on_the_way_out("exit"),
        after(1, Err("first".into())),
    )))
    .unwrap_err();
    assert_eq!(errors(&failure), ["first", "exit"]);
}

#[test]
fn race_ok_waits_for_a_success_and_gathers_the_failures_if_there_is_none() {
    let outcome = ends(race_ok((
        after(1, Err("a".into())),
        after(3, Outcome::Ok(7)),
        after(2, Err("b".into())),
        after(4, Ok(8)),
    )));
    assert_eq!(outcome, Ok(7));
    let failure = ends(race_ok([
        after(2, Outcome::<()>::Err("second".into())),
        after(1, Err("first".into())),
        after(3, Err("third".into())),
    ]))
    .unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["first", "second", "third"]);
    assert_eq!(failure.leaves().count(), 3);
}

#[test]
fn race_ok_lets_the_others_unwind_before_it_returns() {
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(race_ok((
        held("a", &notes, &gate),
        after(1, Err("no".into())),
        after(2, Ok("won")),
    )));
    probe.waits();
    assert_eq!(notes.take(), ["a sees Cancelled"]);
    gate.open();
    assert_eq!(probe.ends(), Ok("won"));
}

#[test]
fn races_that_all_fail_under_a_cancellation_do_not_hang() {
    let scope = CancelScope::new();
    let mut seen = None;
    let outcome = ends(scope.run(async {
        let fails = async {
            scope.cancel("stop");
            Outcome::<()>::Err("only".into())
        };
        seen = Some(race_ok((fails,)).await);
        never().await;
    }));
    assert!(outcome.is_err());
    assert_eq!(errors(&seen.unwrap().unwrap_err()), ["only"]);
}

// Join.

#[test]
fn the_outputs_of_a_join_come_in_order_in_the_same_kind_of_collection() {
    assert_eq!(
        ends(join((after(2, 1), after(0, "two"), after(1, '3')))),
        (1, "two", '3')
    );
    assert_eq!(ends(join([after(2, 1), after(0, 2)])), [1, 2]);
    assert_eq!(ends(join(vec![after(2, 1), after(0, 2)])), vec![1, 2]);
    assert_eq!(
        ends(join(Vec::<std::future::Ready<u32>>::new())),
        Vec::<u32>::new()
    );
    let empty: [std::future::Ready<u32>; 0] = [];
    assert_eq!(ends(join(empty)), [0_u32; 0]);
    assert_eq!(
        ends(try_join((after(1, Outcome::Ok(1)), after(0, Ok("two"))))),
        Ok((1, "two"))
    );
    assert_eq!(ends(try_join([after(1, Outcome::Ok(1))])), Ok([1]));
    assert_eq!(ends(try_join(vec![after(1, Outcome::Ok(1))])), Ok(vec![1]));
    let none: Vec<std::future::Ready<Outcome<()>>> = Vec::new();
    assert_eq!(ends(try_join(none)), Ok(vec![]));
}

/// Rule 3: our own join unwinds each branch for itself
#[test]
fn the_branches_of_a_join_unwind_each_by_itself() {
    let (scope, notes, gate) = (CancelScope::new(), Notes::new(), Gate::new());
    let mut probe = Probe::new(scope.run(join((
        shield(async {
            gate.wait().await;
            notes.add("shield");
        }),
        async {
            let _guard = notes.on_drop("neighbor");
            never().await;
        },
    ))));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), ["neighbor"]);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["shield"]);
}

#[test]
fn a_join_that_is_ready_in_the_poll_of_the_cancellation_has_its_outputs() {
    let scope = CancelScope::new();
    let mut seen = None;
    let outcome = ends(scope.run(async {
        let cancels = async {
            pause().await;
            scope.cancel("stop");
            1
        };
        seen = Some(join((cancels, after(1, 2))).await);
        never().await;
    }));
    assert!(outcome.is_err());
    assert_eq!(seen, Some((1, 2)));
}

#[test]
fn a_failure_cancels_the_rest_of_a_try_join_and_all_failures_are_heard() {
    let (notes, gate) = (Notes::new(), Gate::new());
    gate.open();
    let exit_fails = finally(
        async {
            never().await;
            Ok(())
        },
        async |_| Err("exit".into()),
    );
    let failure = ends(try_join((
        held("a", &notes, &gate),
        after(2, Outcome::<u32>::Err("failed".into())),
        exit_fails,
    )))
    .unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["failed", "exit"]);
    assert_eq!(notes.take(), ["a sees Cancelled", "a has unwound"]);
}

#[test]
fn a_panic_in_a_join_lets_the_others_unwind_and_is_resumed() {
    for fallible in [false, true] {
        let (notes, gate) = (Notes::new(), Gate::new());
        gate.open();
        let panics = async {
            pause().await;
            panic!("in a branch")
        };
        let both = (held("a", &notes, &gate), panics);
        let whole: Pin<Box<dyn Future<Output = ()>>> = if fallible {
            Box::pin(async { drop::<Outcome<(Word, u32)>>(try_join(both).await) })
        } else {
            Box::pin(async { drop::<(Outcome<Word>, Outcome<u32>)>(join(both).await) })
        };
        assert_eq!(Probe::new(whole).panics(), "in a branch");
        assert_eq!(notes.take(), ["a sees Cancelled", "a has unwound"]);
    }
}

#[test]
fn a_borrowed_join_that_was_stopped_says_so() {
    let scope = CancelScope::new();
    scope.cancel("stop");
    let mut borrowed = Box::pin(join((std::future::pending::<u32>(),)));
    assert!(ends(scope.run(borrowed.as_mut())).is_err());
    let text = panic_of(|| ends(borrowed));
    assert!(text.contains("stop") && text.contains("join"), "{text}");
    let scope = CancelScope::new();
    scope.cancel("stop");
    let mut borrowed = Box::pin(try_join((std::future::pending::<Outcome<u32>>(),)));
    assert!(ends(scope.run(borrowed.as_mut())).is_err());
    let failure = ends(borrowed).unwrap_err();
    let cancelled = failure.as_cancelled().unwrap();
    assert_eq!(*cancelled.reason(), CancelReason::Explicit("stop".into()));
}

#[test]
fn ten_thousand_branches() {
    let futures: Vec<_> = (0..10_000).map(|i| after(i % 3, i)).collect();
    assert!(ends(join(futures)).into_iter().eq(0..10_000));
    let futures: Vec<_> = (0..10_000).map(|i| after(10 + i % 3, i)).collect();
    assert_eq!(ends(race(futures)), 0);
}

// Finally.

#[test]
fn cleanup_runs_and_is_told_however_the_body_ended() {
    for end in [
        BlockEnd::Completed,
        BlockEnd::Failed,
        BlockEnd::Cancelled,
        BlockEnd::Panicked,
    ] {
        let (scope, mut seen) = (CancelScope::new(), None);
        let body = async {
            pause().await;
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
        };
        let cleanup = async |end| {
            pause().await;
            seen = Some(end);
            Outcome::Ok(())
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| ends(scope.run(finally(body, cleanup)))));
        match (end, outcome) {
            (BlockEnd::Completed, Ok(Ok(Ok(7)))) | (BlockEnd::Cancelled, Ok(Err(_))) => {}
            (BlockEnd::Failed, Ok(Ok(Err(failure)))) => {
                assert_eq!(failure.into_leaf().unwrap(), "body");
            }
            (BlockEnd::Panicked, Err(payload)) => assert_eq!(text(&*payload), "the body's"),
            (end, outcome) => panic!("{end:?}: {outcome:?}"),
        }
        assert_eq!(seen, Some(end));
    }
}

#[test]
fn a_failing_cleanup_masks_nothing() {
    let failure = ends(finally(async { Err::<(), _>("body".into()) }, async |_| {
        Outcome::Err("cleanup".into())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["body", "cleanup"]);
    assert!(failure.children()[1].context().is_some());
    let failure = ends(finally(async { Ok(7) }, async |_| {
        Outcome::Err("cleanup".into())
    }))
    .unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "cleanup");
}

/// What was acquired in a shield is given back, although the code behind the shield may begin nothing.
#[test]
fn a_cleanup_behind_a_shield_in_cancelled_code_runs_without_its_body() {
    for cleanup_fails in [false, true] {
        let scope = CancelScope::new();
        let (notes, acquired, closing) = (Notes::new(), Gate::new(), Gate::new());
        let reports = Reports::new();
        let work = async {
            loop {
                notes.add("round");
                shield(acquired.wait()).await;
                finally(
                    async {
                        notes.add("body");
                        Ok(())
                    },
                    async |end| {
                        closing.wait().await;
                        notes.add(format!("cleanup: {end:?}"));
                        if cleanup_fails {
                            Err("cleanup")
                        } else {
                            Ok(())
                        }
                        .map_err(Failure::<Word>::from)
                    },
                )
                .await?;
            }
        };
        let mut probe = Probe::new(reports.settings().run(scope.run(async {
            let outcome: Outcome<()> = work.await;
            outcome
        })));
        probe.waits();
        scope.cancel("stop");
        probe.waits();
        acquired.open();
        probe.waits();
        closing.open();
        let outcome = probe.ends();
        assert_eq!(notes.take(), ["round", "cleanup: Cancelled"]);
        match outcome {
            Ok(outcome) => assert_eq!(errors(&outcome.unwrap_err()), ["cleanup"]),
            Err(_) => assert!(!cleanup_fails),
        }
        // A failure goes to the hook as well: the cancelled code that it is returned into may never read it.
        let told = reports.take();
        match &told[..] {
            [] => assert!(!cleanup_fails),
            [Report::FailedUnderCancellation { failures, .. }] => {
                assert!(cleanup_fails && *failures == 1);
            }
            _ => panic!("{told:?}"),
        }
    }
}

#[test]
fn what_was_never_polled_is_not_cleaned_up() {
    let notes = Notes::new();
    drop(finally(async { Outcome::Ok(7) }, async |_| {
        notes.add("cleanup");
        Ok(())
    }));
    assert_eq!(notes.len(), 0);
}

// Together, and elsewhere.

#[test]
fn combinators_nest_and_unwind_from_the_inside_out() {
    let (notes, gate) = (Notes::new(), Gate::new());
    gate.open();
    let inner = with_context(
        acm_pair(async { Ok(((), ())) }, async |(), _| {
            pause().await;
            notes.add("outer exit");
            Ok(())
        }),
        async |()| {
            join((
                held("a", &notes, &gate),
                branch(race((held("b", &notes, &gate), held("c", &notes, &gate)))),
            ))
            .await
            .0
        },
    );
    assert_eq!(ends(race((inner, after(3, Ok("won"))))), Ok("won"));
    let notes = notes.take();
    assert_eq!(notes.len(), 7);
    assert_eq!(notes[6], "outer exit");
}

#[test]
fn combinators_that_borrow_are_sent_to_another_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let total = runtime.block_on(async {
        tokio::spawn(async {
            let words = ["one".to_owned(), "three".to_owned()];
            let len = async |word: &str| {
                checkpoint().await;
                word.len()
            };
            let (a, b) = join((len(&words[0]), len(&words[1]))).await;
            let first = race((len(&words[0]), len(&words[1]))).await;
            let fallible = async |word: &str| {
                checkpoint().await;
                Ok::<_, Failure>(word.len())
            };
            let sum: usize = try_join(vec![fallible(&words[0]), fallible(&words[1])])
                .await?
                .iter()
                .sum();
            let one = race_ok([fallible(&words[0]), fallible(&words[1])]).await?;
            let two = try_race((fallible(&words[0]),)).await?;
            let cleaned = AtomicUsize::new(0);
            let three = finally(fallible(&words[0]), async |_| {
                cleaned.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .await?;
            Ok::<_, Failure>(a + b + first + sum + one + two + three + cleaned.into_inner())
        })
        .await
        .unwrap()
    });
    assert_eq!(total.unwrap(), 8 + 3 + 8 + 3 + 3 + 3 + 1);
}

#[test]
fn combinators_as_children_of_a_nursery() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let raced = n.spawn(race((after(3, Ok(1)), after(2, Ok(2)))));
        let joined = n.spawn(try_join((after(3, Ok(1)), after(2, Ok(2)))));
        Ok((raced.await.unwrap(), joined.await.unwrap()))
    }));
    assert_eq!(outcome, Ok((2, (1, 2))));
}

#[test]
fn combinators_of_what_cannot_be_sent() {
    let shared = Rc::new(7);
    let one = Rc::clone(&shared);
    let (a, b) = ends(join((async move { one }, async { shared })));
    assert_eq!(*a + *b, 14);
}
