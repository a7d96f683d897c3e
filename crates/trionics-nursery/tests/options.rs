//! What a nursery does beyond the ordinary: limits, supervision, grace periods, early ends, borrowed
//! nurseries.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures::join;
use trionics_errgroup::LibraryFailure;
use trionics_nursery::{
    CancelReason, CancelScope, Failure, Finish, FrameKind, LocalNursery, Nursery, NurseryOptions,
    NurserySource, Report, cancel_requested, checkpoint, is_cancel_requested, maybe_open_nursery,
    open_local_nursery, open_nursery, shield, testing::VirtualClock,
};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Reports, Word, ends, errors, lone_cancelled, never, panic_of, pause,
};

const SECOND: Duration = Duration::from_secs(1);

/// The names in the `OutOfGrace` failures of a tree.
fn out_of_grace<E>(failure: &Failure<E>) -> Vec<String> {
    failure
        .leaves()
        .filter_map(|leaf| match leaf.as_library() {
            Some(LibraryFailure::OutOfGrace { names }) => Some(names),
            _ => None,
        })
        .flatten()
        .map(ToString::to_string)
        .collect()
}

/// The kinds and names of the frames that were reported as out of grace.
#[track_caller]
fn given_up(reports: &Reports) -> Vec<(FrameKind, Option<String>)> {
    reports
        .take()
        .iter()
        .map(|report| match report {
            Report::OutOfGrace(frame) => (frame.kind(), frame.name().map(ToOwned::to_owned)),
            other => panic!("{other}"),
        })
        .collect()
}

// Names

#[test]
fn a_nurserys_name_is_in_its_failures_and_in_what_a_handle_shows() {
    let shown = Drawer::new();
    let failure = ends(NurseryOptions::new().name("downloads").open(
        async |n: Nursery<'_, Word>| {
            shown.put(format!("{n:?}"));
            Err::<(), _>("no".into())
        },
    ))
    .unwrap_err();
    assert!(format!("{failure:#}").contains("downloads"), "{failure:#}");
    assert!(shown.take().contains("downloads"));
}

// Shields

/// N-075, N-078
#[test]
fn a_shielded_nursery_keeps_an_outer_cancellation_from_body_and_children() {
    let (scope, gate, notes) = (CancelScope::new(), &Gate::new(), &Notes::new());
    let mut probe = Probe::new(scope.run(async {
        let value = NurseryOptions::new()
            .shield()
            .open(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    gate.wait().await;
                    notes.add("early child");
                    Ok(())
                });
                gate.wait().await;
                assert!(is_cancel_requested(), "it looks through");
                let late = n.spawn(async {
                    pause().await;
                    notes.add("late child");
                    Ok(7)
                });
                Ok(late.await.unwrap())
            })
            .await
            .unwrap();
        notes.add(format!("value {value}"));
        pause().await;
        notes.add("not reached");
    }));
    probe.waits();
    scope.cancel("outer");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["early child", "late child", "value 7"]);
}

/// N-076
#[test]
fn lifting_the_shield_of_a_nursery_stops_the_sleepers_at_once() {
    let (outer, place, notes) = (CancelScope::new(), Drawer::new(), &Notes::new());
    let mut probe = Probe::new(outer.run(NurseryOptions::new().shield().open(
        async |n: Nursery<'_, Word>| {
            place.put(n.cancel_scope());
            n.start_soon(async {
                let _guard = notes.on_drop("child");
                never().await;
                Ok(())
            });
            let _guard = notes.on_drop("body");
            never().await;
            Ok(())
        },
    )));
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    let scope = place.take();
    assert!(scope.is_shielded());
    scope.set_shielded(false);
    assert!(probe.is_woken(), "by the lifting alone");
    assert_eq!(probe.ends().unwrap_err().reason().to_string(), "outer");
    assert!(!scope.is_cancelled());
    assert_eq!(notes.take().len(), 2);
}

// Limits

/// N-013 with a limit
#[test]
fn children_beyond_the_limit_queue_in_the_order_of_their_start() {
    let gates: Vec<_> = (0..5).map(|_| Gate::new()).collect();
    let (gates, notes, place) = (&gates, &Notes::new(), Drawer::new());
    let mut probe = Probe::new(NurseryOptions::new().limit(2).open(
        async |n: Nursery<'_, Word>| {
            for (index, gate) in gates.iter().enumerate() {
                n.start_soon(async move {
                    notes.add(format!("begins {index}"));
                    gate.wait().await;
                    Ok(())
                });
            }
            assert_eq!(n.n_children(), 5);
            place.put(n);
            Ok(())
        },
    ));
    probe.waits();
    assert_eq!(notes.take(), ["begins 0", "begins 1"]);
    let n = place.take();
    gates[4].open();
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    gates[1].open();
    probe.waits();
    assert_eq!(notes.take(), ["begins 2"]);
    assert_eq!(n.n_children(), 4);
    gates[0].open();
    gates[2].open();
    probe.waits();
    assert_eq!(notes.take(), ["begins 3", "begins 4"]);
    assert_eq!(n.n_children(), 1);
    gates[3].open();
    probe.ends().unwrap();
    assert_eq!(n.n_children(), 0);
}

#[test]
fn a_child_that_queues_in_a_cancelled_nursery_runs_to_its_first_wait() {
    let (notes, place) = (&Notes::new(), Drawer::new());
    let mut probe = Probe::new(NurseryOptions::new().limit(1).open(
        async |n: Nursery<'_, Word>| {
            for index in 0..3 {
                n.start_soon(async move {
                    notes.add(format!("begins {index}"));
                    never().await;
                    notes.add("not reached");
                    Ok(())
                });
            }
            place.put(n);
            Ok(())
        },
    ));
    probe.waits();
    assert_eq!(notes.take(), ["begins 0"]);
    place.take().cancel("stop");
    assert!(probe.ends().is_ok(), "the body has a value");
    assert_eq!(notes.take(), ["begins 1", "begins 2"]);
}

#[test]
fn a_limit_of_zero_is_refused_with_a_clear_message() {
    let text = panic_of(|| NurseryOptions::new().limit(0));
    assert!(
        text.contains("limit of 0") && text.contains("1 or more"),
        "{text}"
    );
}

/// A nursery with room for one child, which runs until the first gate opens; the body ends at the second.
fn full<'a>(
    first: &'a Gate,
    end: &'a Gate,
) -> (Probe<'a, Result<(), Failure<Word>>>, Nursery<'a, Word>) {
    let place = Drawer::new();
    let inside = place.clone();
    let mut probe = Probe::new(NurseryOptions::new().limit(1).open(
        move |n: Nursery<'a, Word>| async move {
            n.start_soon(async {
                first.wait().await;
                Ok(())
            });
            inside.put(n);
            end.wait().await;
            Ok(())
        },
    ));
    probe.waits();
    (probe, place.take())
}

/// What somebody starts who waits for room.
async fn noting(notes: &Notes, note: Word) -> Result<(), Failure<Word>> {
    notes.add(note);
    Ok(())
}

#[test]
fn those_who_wait_for_room_are_served_in_the_order_of_their_coming() {
    let (notes, first, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = full(first, end);
    let mut one = Probe::new(n.start_soon_when_free(noting(notes, "one")));
    let mut two = Probe::new(n.start_soon_when_free(noting(notes, "two")));
    let mut three = Probe::new(n.start_soon_when_free(noting(notes, "three")));
    one.waits();
    two.waits();
    three.waits();
    assert_eq!(n.n_children(), 1);
    first.open();
    nursery.waits();
    assert!(one.is_woken() && !two.is_woken() && !three.is_woken());
    assert!(two.poll().is_pending(), "it is not its turn");
    one.ends();
    assert!(!two.is_woken(), "no room yet");
    nursery.waits();
    two.ends();
    nursery.waits();
    three.ends();
    nursery.waits();
    assert_eq!(notes.take(), ["one", "two", "three"]);
    end.open();
    nursery.ends().unwrap();
}

#[test]
fn a_newcomer_does_not_overtake_those_who_wait_for_room() {
    let (notes, first, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = full(first, end);
    let mut one = Probe::new(n.start_soon_when_free(noting(notes, "one")));
    one.waits();
    first.open();
    nursery.waits();
    let mut late = Probe::new(n.start_soon_when_free(noting(notes, "late")));
    late.waits();
    one.ends();
    nursery.waits();
    late.ends();
    nursery.waits();
    assert_eq!(notes.take(), ["one", "late"]);
    end.open();
    nursery.ends().unwrap();
}

#[test]
fn room_that_is_given_up_goes_to_the_next() {
    let (notes, first, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = full(first, end);
    let dropped = notes.on_drop("dropped unpolled");
    let mut one = Probe::new(n.start_soon_when_free(async move {
        let _dropped = dropped;
        never().await;
        Ok(())
    }));
    let mut two = Probe::new(n.start_soon_when_free(noting(notes, "two")));
    let mut three = Probe::new(n.start_soon_when_free(noting(notes, "three")));
    one.waits();
    two.waits();
    three.waits();
    two.cut();
    assert!(!one.is_woken() && !three.is_woken());
    first.open();
    nursery.waits();
    assert!(one.is_woken() && !three.is_woken());
    // It was offered the room, and goes without taking it.
    one.cut();
    assert_eq!(notes.take(), ["dropped unpolled"]);
    assert!(three.is_woken());
    three.ends();
    nursery.waits();
    assert_eq!(notes.take(), ["three"]);
    end.open();
    nursery.ends().unwrap();
}

#[test]
fn waiting_for_room_in_a_nursery_that_closes_says_so() {
    let (notes, first, end) = (&Notes::new(), &Gate::new(), &Gate::new());
    let (mut nursery, n) = full(first, end);
    let mut one = Probe::new(n.start_soon_when_free(noting(notes, "one")));
    let mut two = Probe::new(n.start_soon_when_free(noting(notes, "two")));
    one.waits();
    two.waits();
    nursery.cut();
    for waiter in [&mut one, &mut two] {
        assert!(waiter.is_woken());
        let text = waiter.panics();
        assert!(text.contains("has closed"), "{text}");
    }
    assert_eq!(notes.take(), [""; 0]);
}

#[test]
fn without_a_limit_there_is_always_room() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..100 {
            n.start_soon_when_free(async {
                checkpoint().await;
                Ok(())
            })
            .await;
        }
        Ok(n.n_children())
    }));
    assert_eq!(outcome.unwrap(), 100);
}

// Supervision

#[test]
fn a_supervising_nursery_collects_failures_and_goes_on() {
    let (notes, gate) = (&Notes::new(), &Gate::new());
    let mut probe = Probe::new(NurseryOptions::new().supervise().open(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async { Err("first".into()) });
            n.start_soon(async {
                gate.wait().await;
                notes.add("the sibling goes on");
                Err("second".into())
            });
            pause().await;
            assert!(!n.cancel_scope().is_cancelled());
            gate.wait().await;
            notes.add("the body goes on");
            Ok(())
        },
    ));
    probe.waits();
    gate.open();
    assert_eq!(errors(&probe.ends().unwrap_err()), ["first", "second"]);
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["the body goes on", "the sibling goes on"]);
}

#[test]
fn a_failing_body_and_a_panic_cancel_a_supervising_nursery() {
    let notes = &Notes::new();
    let failure = ends(
        NurseryOptions::new()
            .supervise()
            .open(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    let _guard = notes.on_drop("child stopped");
                    never().await;
                    Ok(())
                });
                pause().await;
                Err::<(), _>("the body".into())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["the body"]);
    assert_eq!(notes.take(), ["child stopped"]);

    let reports = Reports::new();
    let mut probe = Probe::new(
        reports
            .settings()
            .run(
                NurseryOptions::new()
                    .supervise()
                    .open(async |n: Nursery<'_, Word>| {
                        n.start_soon(async { Err("before it".into()) });
                        n.start_soon(async { panic!("a child") });
                        let _guard = notes.on_drop("body stopped");
                        never().await;
                        Ok(())
                    }),
            ),
    );
    assert_eq!(probe.panics(), "a child");
    assert_eq!(notes.take(), ["body stopped"]);
    let reports = reports.take();
    assert!(
        matches!(
            &reports[..],
            [Report::FailuresBehindPanic { failures: 1, .. }]
        ),
        "{reports:?}"
    );
}

// Grace periods

/// N-081 up to the limit that the program has set
#[test]
fn exits_within_the_grace_period_run_to_their_end() {
    let (clock, reports, notes) = (VirtualClock::new(), Reports::new(), &Notes::new());
    let (exit, place) = (&Gate::new(), Drawer::new());
    let program =
        NurseryOptions::new()
            .exit_grace(5 * SECOND)
            .open(async |n: Nursery<'_, Word>| {
                place.put(n.cancel_scope());
                n.start_soon(async {
                    shield(async {
                        exit.wait().await;
                        notes.add("exit");
                    })
                    .await;
                    never().await;
                    Ok(())
                });
                never().await;
                Ok(())
            });
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    clock.advance(60 * SECOND);
    probe.waits();
    place.take().cancel("stop");
    probe.waits();
    clock.advance(4 * SECOND);
    probe.waits();
    exit.open();
    lone_cancelled(&probe.ends().unwrap_err());
    assert_eq!(notes.take(), ["exit"]);
    assert!(reports.take().is_empty());
}

#[test]
fn what_still_runs_after_the_grace_period_is_dropped_reported_and_named() {
    let (clock, reports, notes) = (VirtualClock::new(), Reports::new(), &Notes::new());
    let place = Drawer::new();
    let program = NurseryOptions::new()
        .name("pool")
        .exit_grace(5 * SECOND)
        .open(async |n: Nursery<'_, Word>| {
            place.put(n.cancel_scope());
            n.named("slow").start_soon(async {
                let _guard = notes.on_drop("slow dropped");
                shield(never()).await;
                notes.add("not reached");
                Ok(())
            });
            n.named("quick").start_soon(async {
                let _guard = notes.on_drop("quick dropped");
                never().await;
                Ok(())
            });
            Ok(())
        });
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    place.take().cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), ["quick dropped"]);
    clock.advance(5 * SECOND - Duration::from_nanos(1));
    probe.waits();
    assert!(reports.take().is_empty());
    clock.advance(Duration::from_nanos(1));
    assert!(probe.is_woken());
    let failure = probe.ends().unwrap_err();
    assert_eq!(notes.take(), ["slow dropped"]);
    let names = out_of_grace(&failure);
    assert!(names.iter().any(|name| name.contains("slow")), "{names:?}");
    assert!(
        !names.iter().any(|name| name.contains("quick")),
        "{names:?}"
    );
    let reports = given_up(&reports);
    assert!(
        reports.contains(&(FrameKind::Child, Some("slow".to_owned()))),
        "{reports:?}"
    );
    assert_eq!(reports.len(), names.len());
}

#[test]
fn a_grace_period_that_is_used_up_stands_beside_the_failure_that_began_it() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let program = NurseryOptions::new()
        .exit_grace(SECOND)
        .open(async |n: Nursery<'_, Word>| {
            n.start_soon(shield(async {
                never().await;
                Ok(())
            }));
            pause().await;
            Err::<(), _>("the body".into())
        });
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(program));
    probe.waits();
    clock.advance(SECOND);
    let failure = probe.ends().unwrap_err();
    assert_eq!(errors(&failure), ["the body"]);
    assert!(!out_of_grace(&failure).is_empty());
    assert!(!given_up(&reports).is_empty());
}

#[test]
fn a_grace_period_can_be_cut_short_and_needs_no_clock_then() {
    for early in [true, false] {
        let (reports, notes, place) = (Reports::new(), &Notes::new(), Drawer::new());
        let program = NurseryOptions::new().open(async |n: Nursery<'_, Word>| {
            place.put(n.cancel_scope());
            let _guard = notes.on_drop("dropped");
            shield(never()).await;
            Ok(())
        });
        let mut probe = Probe::new(reports.settings().run(program));
        probe.waits();
        let scope = place.take();
        if early {
            scope.end_exit_grace();
            probe.waits();
            assert_eq!(notes.take(), [""; 0], "it is not cancelled yet");
            scope.cancel("stop");
        } else {
            scope.cancel("stop");
            probe.waits();
            assert_eq!(notes.take(), [""; 0]);
            scope.end_exit_grace();
        }
        assert!(probe.is_woken());
        let failure = probe.ends().unwrap_err();
        assert_eq!(notes.take(), ["dropped"]);
        assert!(!out_of_grace(&failure).is_empty());
        assert!(!given_up(&reports).is_empty());
    }
}

#[test]
fn a_running_grace_period_can_be_cut_short() {
    let (clock, reports, notes) = (VirtualClock::new(), Reports::new(), &Notes::new());
    let scope = CancelScope::named("shutdown");
    scope.set_exit_grace(60 * SECOND);
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(scope.run(async {
                let _guard = notes.on_drop("dropped");
                shield(never()).await;
            })),
    );
    probe.waits();
    scope.cancel("the first ctrl-c");
    probe.waits();
    clock.advance(SECOND);
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    scope.end_exit_grace();
    assert!(probe.is_woken());
    let cancelled = probe.ends().unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "the first ctrl-c");
    assert_eq!(notes.take(), ["dropped"]);
    assert_eq!(given_up(&reports), [(FrameKind::Shield, None)]);
    assert_eq!(clock.elapsed(), SECOND);
}

#[test]
fn a_grace_period_counts_from_an_outer_cancellation_too() {
    let (clock, reports, notes) = (VirtualClock::new(), Reports::new(), &Notes::new());
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    inner.set_exit_grace(SECOND);
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(outer.run(async {
                let _outcome = inner
                    .run(async {
                        let _guard = notes.on_drop("dropped");
                        shield(never()).await;
                    })
                    .await;
                notes.add("not reached");
            })),
    );
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    clock.advance(SECOND);
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["dropped"]);
    assert_eq!(given_up(&reports).len(), 1);
}

#[test]
fn a_grace_period_without_a_clock_is_a_mistake_that_is_named_when_it_begins() {
    let reports = Reports::new();
    let scope = CancelScope::new();
    scope.set_exit_grace(SECOND);
    let mut probe = Probe::new(reports.settings().run(scope.run(shield(never()))));
    probe.waits();
    scope.cancel("stop");
    let text = probe.panics();
    assert!(text.contains("clock"), "{text}");

    // Nothing runs any more: the period does not begin.
    let scope = CancelScope::new();
    scope.set_exit_grace(SECOND);
    let mut probe = Probe::new(scope.run(never()));
    probe.waits();
    scope.cancel("stop");
    assert!(probe.ends().is_err());
}

// Early ends

/// N-043
#[test]
fn the_first_value_ends_the_nursery_and_later_ones_are_dropped() {
    let (notes, go) = (&Notes::new(), &Gate::new());
    let mut probe = Probe::new(NurseryOptions::new().open_finishing(
        async |n: Nursery<'_, Word>, finish: Finish<_>| {
            let place = Drawer::new();
            place.put(n.cancel_scope());
            for name in ["first", "second"] {
                let finish = finish.clone();
                n.start_soon(async move {
                    let _guard = notes.on_drop(name);
                    shield(go.wait()).await;
                    finish
                        .finish((name, notes.on_drop(&format!("value of {name}"))))
                        .await;
                    {
                        notes.add("not reached");
                        Ok(())
                    }
                });
            }
            let scope = place.take();
            shield(async {
                cancel_requested().await;
                checkpoint().await;
                let cancelled = scope.cancelled().unwrap();
                assert_eq!(cancelled.reason(), &CancelReason::Finished);
                notes.add("the body's exit");
            })
            .await;
            never().await;
            Err("not reached".into())
        },
    ));
    probe.waits();
    go.open();
    let Ok((name, value)) = probe.ends() else {
        panic!("it has a value");
    };
    assert_eq!(name, "first");
    let before = notes.take();
    assert!(before.contains(&"value of second".to_owned()), "{before:?}");
    assert!(before.contains(&"the body's exit".to_owned()), "{before:?}");
    assert!(!before.contains(&"not reached".to_owned()), "{before:?}");
    assert!(!before.contains(&"value of first".to_owned()), "{before:?}");
    drop(value);
    assert_eq!(notes.take(), ["value of first"]);
}

/// N-043: the body's value is one among them
#[test]
fn a_body_that_returns_first_wins_over_a_child_that_finishes_later() {
    let (go, outcomes) = (&Gate::new(), &Notes::new());
    for body_first in [true, false] {
        let mut probe = Probe::new(NurseryOptions::new().open_finishing(
            async |n: Nursery<'_, Word>, finish: Finish<Word>| {
                n.start_soon(async move {
                    if body_first {
                        go.wait().await;
                    }
                    finish.finish("the child").await;
                    Ok(())
                });
                if !body_first {
                    shield(cancel_requested()).await;
                }
                Ok("the body")
            },
        ));
        if body_first {
            probe.waits();
            go.open();
        }
        outcomes.add(probe.ends().unwrap());
    }
    assert_eq!(outcomes.take(), ["the body", "the child"]);
}

/// N-043: a failure is never lost to a value
#[test]
fn a_failure_of_an_exit_outranks_the_value_that_ended_the_nursery() {
    let failure = ends(NurseryOptions::new().open_finishing(
        async |n: Nursery<'_, Word>, finish: Finish<u8>| {
            n.start_soon(shield(async {
                cancel_requested().await;
                Err("an exit".into())
            }));
            pause().await;
            finish.finish(1).await;
            Ok(2)
        },
    ));
    assert_eq!(errors(&failure.unwrap_err()), ["an exit"]);
}

/// N-043: without a value from anybody
#[test]
fn a_finishing_nursery_that_nobody_finishes_is_as_any_other() {
    let outcome = ends(
        NurseryOptions::new()
            .open_finishing(async |_n: Nursery<'_, Word>, _finish: Finish<u8>| Ok(7)),
    );
    assert_eq!(outcome.unwrap(), 7);
    let outcome = ends(NurseryOptions::new().open_finishing(
        async |n: Nursery<'_, Word>, _finish: Finish<u8>| {
            n.cancel("stop");
            never().await;
            Ok(7)
        },
    ));
    lone_cancelled(&outcome.unwrap_err());
}

// Local nurseries

#[test]
fn a_local_nursery_has_the_same_options_and_methods() {
    let count = Rc::new(Cell::new(0));
    let add = |by: u32| {
        let count = Rc::clone(&count);
        async move {
            checkpoint().await;
            count.set(count.get() + by);
            Ok(())
        }
    };
    let sum = ends(NurseryOptions::new().name("local").limit(2).open_local(
        async |n: LocalNursery<'_, Word>| {
            n.start_soon(add(1));
            n.try_start_soon(add(10)).unwrap();
            n.start_soon_when_free(add(100)).await;
            assert!(n.n_children() <= 2);
            let value = n.spawn({
                let count = Rc::clone(&count);
                async move { Ok(count) }
            });
            n.wait_idle().await;
            Ok(value.await.unwrap().get())
        },
    ));
    assert_eq!(sum.unwrap(), 111);

    let failure = ends(open_local_nursery(async |n: LocalNursery<'_, Word>| {
        n.start_soon(async { Err("no".into()) });
        never().await;
        Ok(())
    }));
    assert_eq!(errors(&failure.unwrap_err()), ["no"]);
}

// Nurseries that may be there already

/// N-118
#[test]
fn a_given_nursery_is_neither_waited_for_nor_closed_nor_cancelled_nor_shielded() {
    let (gate, scope, notes) = (&Gate::new(), CancelScope::new(), &Notes::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let value = maybe_open_nursery(&n, async |same: Nursery<'_, Word>| {
            same.start_soon(async {
                gate.wait().await;
                notes.add("child");
                Ok(())
            });
            assert_eq!(same.cancel_scope(), n.cancel_scope());
            Ok(1)
        })
        .await?;
        assert_eq!(n.n_children(), 1, "it was not waited for");
        let failure = maybe_open_nursery(Some(n.clone()), async |_same: Nursery<'_, Word>| {
            pause().await;
            Err::<(), _>("the body".into())
        })
        .await
        .unwrap_err();
        assert_eq!(failure.as_leaf(), Some(&"the body"), "as it is, ungrouped");
        assert!(!n.cancel_scope().is_cancelled());
        let stopped = scope
            .run(maybe_open_nursery(
                n.clone(),
                async |_same: Nursery<'_, Word>| {
                    scope.cancel("the caller");
                    pause().await;
                    Ok(())
                },
            ))
            .await;
        assert!(stopped.is_err(), "not shielded");
        assert!(!n.cancel_scope().is_cancelled());
        n.start_soon(async { Ok(()) });
        Ok(value)
    }));
    probe.waits();
    gate.open();
    assert_eq!(probe.ends().unwrap(), 1);
    assert_eq!(notes.take(), ["child"]);
}

/// N-118: with none given, one is opened with the options
#[test]
fn with_no_nursery_given_one_is_opened_and_waited_for() {
    async fn body<'env>(
        n: Nursery<'env, Word>,
        gate: &'env Gate,
        notes: &'env Notes,
    ) -> Result<String, Failure<Word>> {
        n.start_soon(async {
            gate.wait().await;
            notes.add("child");
            Ok(())
        });
        Ok(format!("{n:?}"))
    }
    let (gate, notes) = (&Gate::new(), &Notes::new());
    let mut none = Probe::new(maybe_open_nursery(None, |n| body(n, gate, notes)));
    let mut options = Probe::new(maybe_open_nursery(
        NurseryOptions::new().name("own").limit(3),
        |n| body(n, gate, notes),
    ));
    none.waits();
    options.waits();
    gate.open();
    assert!(none.ends().unwrap().contains("limit: None"));
    let shown = options.ends().unwrap();
    assert!(
        shown.contains("own") && shown.contains("limit: Some(3)"),
        "{shown}"
    );
    assert_eq!(notes.take().len(), 2);

    let failure = ends(maybe_open_nursery(None, async |_n: Nursery<'_, Word>| {
        Err::<(), _>("the body".into())
    }));
    let failure = failure.unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["the body"]);
}

/// N-118: what a source is, is in its type
#[test]
fn a_source_is_a_nursery_or_options_and_never_both() {
    let none: NurserySource<'_, Word> = None.into();
    assert!(matches!(none, NurserySource::New(_)));
    let options: NurserySource<'_, Word> = NurseryOptions::new().into();
    assert!(matches!(options, NurserySource::New(_)));
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        assert!(matches!((&n).into(), NurserySource::Existing(_)));
        assert!(matches!(Some(n.clone()).into(), NurserySource::Existing(_)));
        assert!(matches!(n.into(), NurserySource::Existing(_)));
        Ok(())
    }))
    .unwrap();
}

// Waiting for the children

/// N-023, N-025
#[test]
fn an_idle_nursery_wakes_everybody_who_waits_and_can_be_filled_again() {
    let (one, two) = (&Gate::new(), &Gate::new());
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.wait_idle().await;
        for gate in [one, two] {
            n.start_soon(async {
                gate.wait().await;
                Ok(())
            });
            let opener = async {
                pause().await;
                assert_eq!(n.n_children(), 1);
                gate.open();
            };
            join!(n.wait_idle(), n.wait_idle(), n.wait_idle(), opener);
            assert_eq!(n.n_children(), 0);
        }
        n.wait_idle().await;
        Ok(())
    }))
    .unwrap();
}

/// N-025
#[test]
fn being_idle_once_counts_for_those_who_waited_then_and_for_nobody_else() {
    let (one, two, end) = (&Gate::new(), &Gate::new(), &Gate::new());
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            one.wait().await;
            Ok(())
        });
        place.put(n);
        end.wait().await;
        Ok(())
    }));
    nursery.waits();
    let n = place.take();
    let (mut early, mut gone) = (Probe::new(n.wait_idle()), Probe::new(n.wait_idle()));
    early.waits();
    gone.waits();
    gone.cut();
    one.open();
    nursery.waits();
    assert!(early.is_woken());
    n.start_soon(async {
        two.wait().await;
        Ok(())
    });
    let mut late = Probe::new(n.wait_idle());
    late.waits();
    early.ends();
    nursery.waits();
    late.waits();
    two.open();
    end.open();
    nursery.ends().unwrap();
    late.ends();
    ends(n.wait_idle());
}

/// N-025 for a nursery that is dropped
#[test]
fn a_dropped_nursery_is_idle() {
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            never().await;
            Ok(())
        });
        place.put(n);
        never().await;
        Ok(())
    }));
    nursery.waits();
    let n = place.take();
    let mut idle = Probe::new(n.wait_idle());
    idle.waits();
    nursery.cut();
    assert!(idle.is_woken());
    idle.ends();
    assert_eq!(n.n_children(), 0);
}

/// N-043: outside of its nursery
#[test]
fn to_finish_a_nursery_that_is_over_changes_nothing_and_does_not_return() {
    let place = Drawer::new();
    let outcome = ends(NurseryOptions::new().open_finishing(
        async |_n: Nursery<'_, Word>, finish: Finish<u8>| {
            place.put(finish);
            Ok(1)
        },
    ));
    assert_eq!(outcome.unwrap(), 1);
    let finish = place.take();
    let mut late = Probe::new(finish.finish(2));
    assert!(late.poll().is_pending());
    assert!(!late.is_woken());
}

/// N-043: from outside of the nursery, while it runs
#[test]
fn a_nursery_can_be_finished_from_outside() {
    let (place, notes) = (Drawer::new(), &Notes::new());
    let mut nursery = Probe::new(NurseryOptions::new().open_finishing(
        async |n: Nursery<'_, Word>, finish: Finish<u8>| {
            n.start_soon(async {
                let _guard = notes.on_drop("child");
                never().await;
                Ok(())
            });
            place.put(finish);
            never().await;
            Ok(1)
        },
    ));
    nursery.waits();
    let mut outside = Probe::new(place.take().finish(2));
    assert!(outside.poll().is_pending());
    assert_eq!(nursery.ends().unwrap(), 2);
    assert_eq!(notes.take(), ["child"]);
}

/// N-043, rule 5: an outer cancellation that stops something takes the value along
#[test]
fn a_finished_nursery_that_an_outer_cancellation_stops_has_no_value() {
    let (outer, exit, notes) = (CancelScope::new(), &Gate::new(), &Notes::new());
    let mut probe = Probe::new(outer.run(async {
        let outcome = NurseryOptions::new()
            .open_finishing(async |n: Nursery<'_, Word>, finish: Finish<u8>| {
                n.start_soon(async {
                    shield(exit.wait()).await;
                    pause().await;
                    notes.add("not reached");
                    Ok(())
                });
                pause().await;
                finish.finish(1).await;
                Ok(2)
            })
            .await;
        notes.add(format!("returned {}", outcome.is_ok()));
    }));
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), [""; 0]);
}

#[test]
fn a_nurserys_grace_period_without_a_clock_is_named_when_it_begins() {
    let place = Drawer::new();
    let reports = Reports::new();
    let mut probe =
        Probe::new(
            reports
                .settings()
                .run(NurseryOptions::new().exit_grace(SECOND).open(
                    async |n: Nursery<'_, Word>| {
                        place.put(n.cancel_scope());
                        shield(never()).await;
                        Ok(())
                    },
                )),
        );
    probe.waits();
    place.take().cancel("stop");
    let text = probe.panics();
    assert!(text.contains("clock"), "{text}");

    // Without an exit there is nothing to give time to.
    let outcome = ends(NurseryOptions::new().exit_grace(SECOND).open(
        async |n: Nursery<'_, Word>| {
            n.cancel("stop");
            never().await;
            Ok(())
        },
    ));
    lone_cancelled(&outcome.unwrap_err());
}

/// N-075
#[test]
fn a_shielded_nursery_obeys_its_own_scope_and_its_own_failures() {
    let outer = CancelScope::new();
    let outcome = ends(
        outer.run(
            NurseryOptions::new()
                .shield()
                .open(async |n: Nursery<'_, Word>| {
                    outer.cancel("outer");
                    pause().await;
                    n.cancel("its own");
                    never().await;
                    Ok(())
                }),
        ),
    );
    let failure = outcome.unwrap().unwrap_err();
    assert_eq!(lone_cancelled(&failure).reason().to_string(), "its own");

    let failure = ends(
        NurseryOptions::new()
            .shield()
            .open(async |n: Nursery<'_, Word>| {
                n.start_soon(async { Err("no".into()) });
                never().await;
                Ok(())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["no"]);
}
