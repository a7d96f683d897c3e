//! Work in flight that survives an inner scope, branches that unwind by themselves, and shields that are
//! lifted.

use std::time::Duration;

use futures::join;
use trionics_nursery::{
    CancelScope, Failure, FrameKind, Nursery, Report, anchor, branch, cancel_requested, checkpoint,
    is_cancel_requested, open_nursery, shield, testing::VirtualClock,
};

mod common;
use common::{Gate, Notes, Probe, Reports, Word, ends, never, panic_of, pause};

// Anchors

/// Rule 10
#[test]
fn an_anchored_future_survives_an_inner_scope() {
    let (gate, notes, reports) = (&Gate::new(), &Notes::new(), Reports::new());
    let inner = CancelScope::new();
    let mut probe = Probe::new(reports.settings().run(async {
        let mut work = Box::pin(anchor(async {
            // Frames inside are kept with it.
            CancelScope::new().run(gate.wait()).await.unwrap();
            notes.add("the work goes on");
            42
        }));
        let stopped = inner.run(&mut work).await;
        assert!(stopped.is_err());
        notes.add("the inner scope is over");
        work.await
    }));
    probe.waits();
    inner.cancel("out of time");
    probe.waits();
    assert_eq!(notes.take(), ["the inner scope is over"]);
    gate.open();
    assert_eq!(probe.ends(), 42);
    assert_eq!(notes.take(), ["the work goes on"]);
    assert!(reports.take().is_empty());
}

/// Rule 10: what is not anchored belongs to whoever polls it
#[test]
fn a_future_that_is_not_anchored_is_stopped_with_the_inner_scope() {
    let (gate, inner, own) = (&Gate::new(), CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(async {
        let mut work = Box::pin(own.run(gate.wait()));
        let stopped = inner.run(&mut work).await;
        assert!(stopped.is_err());
        work.await
    });
    probe.waits();
    inner.cancel("out of time");
    let cancelled = probe.ends().unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "out of time");
}

#[test]
fn an_inner_cancellation_is_not_seen_in_anchored_work() {
    let inner = CancelScope::new();
    ends(async {
        let mut work = Box::pin(anchor(async {
            for _ in 0..3 {
                assert!(!is_cancel_requested());
                checkpoint().await;
            }
            7
        }));
        inner.cancel("out of time");
        let first = inner.run(&mut work).await;
        let value = match first {
            Ok(value) => value,
            Err(_) => work.await,
        };
        assert_eq!(value, 7);
    });
}

/// Rules 3 and 10
#[test]
fn an_anchored_future_obeys_the_scope_in_which_it_was_made_and_its_exits_run() {
    let (exit, notes) = (&Gate::new(), &Notes::new());
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(outer.run(async {
        let work = anchor(async {
            let _guard = notes.on_drop("work dropped");
            shield(async {
                exit.wait().await;
                notes.add("exit");
            })
            .await;
            never().await;
        });
        let _guard = notes.on_drop("caller dropped");
        let mut work = Box::pin(work);
        inner.cancel("out of time");
        assert!(inner.run(&mut work).await.is_err());
        work.await;
        notes.add("not reached");
    }));
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    exit.open();
    assert_eq!(probe.ends().unwrap_err().reason().to_string(), "outer");
    assert_eq!(notes.take(), ["exit", "work dropped", "caller dropped"]);
}

/// Rule 10: it was never polled anywhere else
#[test]
fn an_anchored_future_keeps_its_scope_although_it_is_first_polled_elsewhere() {
    let (outer, other, notes) = (CancelScope::new(), CancelScope::new(), &Notes::new());
    let place = common::Drawer::new();
    let mut maker = Probe::new(outer.run(async {
        place.put(Box::pin(anchor(async {
            let _guard = notes.on_drop("dropped");
            never().await;
        })));
        never().await;
    }));
    maker.waits();
    let work = place.take();
    let mut elsewhere = Probe::new(other.run(work));
    elsewhere.waits();
    outer.cancel("the maker's");
    let text = elsewhere.panics();
    assert!(text.contains("the maker's"), "{text}");
    assert_eq!(notes.take(), ["dropped"], "it was stopped by its own scope");
    assert!(!other.is_cancelled());
    drop(elsewhere);
    assert!(maker.ends().is_err());
}

/// Rule 5: its type cannot say that it was cancelled
#[test]
fn an_anchored_future_or_a_branch_polled_after_its_cancellation_says_so() {
    for anchored in [true, false] {
        let outer = CancelScope::new();
        let text = panic_of(|| {
            ends(async {
                let mut work: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(never());
                let stopped = outer
                    .run(async {
                        work = if anchored {
                            Box::pin(anchor(never()))
                        } else {
                            Box::pin(branch(never()))
                        };
                        outer.cancel("stop");
                        work.as_mut().await;
                    })
                    .await;
                assert!(stopped.is_err());
                work.await;
            });
        });
        assert!(
            text.contains("stopped by a cancellation (") && text.contains("stop"),
            "{text}"
        );
        assert!(text.contains("put a cancel scope inside"), "{text}");
    }
}

/// Rules 9 and 10
#[test]
fn an_anchored_future_that_nobody_polls_is_given_up_on_by_the_scope_it_is_anchored_in() {
    let (clock, reports) = (VirtualClock::new(), Reports::new());
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(outer.run(async {
                let mut work = Box::pin(anchor(shield(never())));
                assert!(inner.run(&mut work).await.is_err());
                never().await;
                drop(work);
            })),
    );
    probe.waits();
    inner.cancel("out of time");
    probe.waits();
    clock.advance(Duration::from_secs(60));
    probe.waits();
    assert!(reports.take().is_empty(), "nothing waits for it");
    outer.cancel("stop");
    probe.waits();
    for _ in 0..4 {
        clock.advance(Duration::from_millis(100));
        if probe.settle().is_ready() {
            let reports = reports.take();
            assert!(!reports.is_empty());
            assert!(
                matches!(&reports[0], Report::NotPolled(frame) if frame.kind() == FrameKind::Anchor),
                "{reports:?}"
            );
            return;
        }
    }
    panic!("it waits for what nobody polls");
}

#[test]
fn an_anchor_outside_of_every_scope_is_stopped_by_none() {
    let gate = &Gate::new();
    let inner = CancelScope::new();
    inner.cancel("out of time");
    let mut work = Box::pin(anchor(gate.wait()));
    assert!(ends(inner.run(&mut work)).is_err());
    gate.open();
    ends(work);
}

/// Rule 12
#[test]
fn a_panic_and_a_value_go_through_anchors_and_branches() {
    assert_eq!(ends(anchor(async { 1 })), 1);
    assert_eq!(ends(branch(async { 2 })), 2);
    assert_eq!(panic_of(|| ends(anchor(async { panic!("a") }))), "a");
    assert_eq!(panic_of(|| ends(branch(async { panic!("b") }))), "b");
}

/// N-104 in its spirit: in-flight work of a child, in an inner scope
#[test]
fn an_anchor_in_a_child_is_the_childs() {
    let (gate, inner) = (&Gate::new(), CancelScope::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let child = n.spawn(async {
            let mut work = Box::pin(anchor(async {
                gate.wait().await;
                5
            }));
            let stopped = inner.run(&mut work).await;
            assert!(stopped.is_err());
            Ok(work.await)
        });
        Ok(child.await.unwrap())
    }));
    probe.waits();
    inner.cancel("out of time");
    probe.waits();
    gate.open();
    assert_eq!(probe.ends().unwrap(), 5);
}

// Branches

/// Rule 3
#[test]
fn a_branch_beside_a_shield_is_stopped_at_once() {
    let (exit, notes) = (&Gate::new(), &Notes::new());
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(async {
        let shielded = shield(async {
            exit.wait().await;
            notes.add("exit");
        });
        let neighbor = async {
            let _guard = notes.on_drop("neighbor");
            never().await;
        };
        join!(branch(shielded), branch(neighbor));
        notes.add("not reached");
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), ["neighbor"]);
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit"]);
}

/// Rule 3: the difference that a branch makes
#[test]
fn without_branches_the_neighbor_of_a_shield_stands_and_falls_with_it() {
    let (exit, notes) = (&Gate::new(), &Notes::new());
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(async {
        let shielded = shield(async {
            exit.wait().await;
            notes.add("exit");
        });
        let neighbor = async {
            let _guard = notes.on_drop("neighbor");
            never().await;
        };
        join!(shielded, neighbor);
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit", "neighbor"]);
}

/// Rules 2 and 4
#[test]
fn a_branch_that_is_ready_has_its_value_and_one_that_waits_does_not_return() {
    let (scope, gate, notes) = (CancelScope::new(), &Gate::new(), &Notes::new());
    let mut probe = Probe::new(scope.run(async {
        let ready = async {
            branch(gate.wait()).await;
            notes.add("ready");
        };
        let stopped = async {
            branch(never()).await;
            notes.add("not reached");
        };
        join!(ready, stopped);
        notes.add("not reached");
    }));
    probe.waits();
    scope.cancel("stop");
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["ready"]);
}

/// Rule 3
#[test]
fn branches_unwind_from_the_inside_out() {
    let (exit, notes) = (&Gate::new(), &Notes::new());
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(branch(async {
        let _guard = notes.on_drop("outer branch");
        branch(async {
            let _guard = notes.on_drop("inner branch");
            shield(exit.wait()).await;
            pause().await;
            notes.add("not reached");
        })
        .await;
    })));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["inner branch", "outer branch"]);
}

// Shields that are lifted

/// N-075
#[test]
fn a_shielded_scope_obeys_its_own_cancellation() {
    let scope = CancelScope::new();
    scope.set_shielded(true);
    assert!(scope.is_shielded());
    let mut probe = Probe::new(scope.run(never()));
    probe.waits();
    scope.cancel("its own");
    assert_eq!(probe.ends().unwrap_err().reason().to_string(), "its own");
}

/// N-074, N-078
#[test]
fn a_shielded_scope_keeps_an_outer_cancellation_out_and_the_code_after_it_is_stopped() {
    let (outer, inner, notes) = (CancelScope::new(), CancelScope::new(), &Notes::new());
    inner.set_shielded(true);
    outer.cancel("outer");
    let outcome = ends(outer.run(async {
        inner
            .run(async {
                pause().await;
                let nursery = open_nursery(async |n: Nursery<'_, Word>| {
                    n.start_soon(async {
                        pause().await;
                        notes.add("child");
                        Ok(())
                    });
                    Ok(())
                });
                nursery.await.unwrap();
                notes.add("shielded");
            })
            .await
            .unwrap();
        notes.add("until the first wait");
        pause().await;
        notes.add("not reached");
    }));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["child", "shielded", "until the first wait"]);
}

/// N-076
#[test]
fn lifting_a_shield_stops_what_sleeps_below_with_no_other_event() {
    let (outer, inner, notes) = (CancelScope::new(), CancelScope::new(), &Notes::new());
    inner.set_shielded(true);
    let mut probe = Probe::new(outer.run(inner.run(async {
        let _guard = notes.on_drop("body");
        let nursery = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                let _guard = notes.on_drop("sleeper");
                never().await;
                Ok(())
            });
            Ok(())
        });
        let _ = nursery.await;
        notes.add("not reached");
    })));
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    inner.set_shielded(false);
    assert!(probe.is_woken());
    assert_eq!(probe.ends().unwrap_err().reason().to_string(), "outer");
    assert_eq!(notes.take(), ["sleeper", "body"]);
}

/// N-076: it can be raised again, and lifting it where nothing is cancelled changes nothing
#[test]
fn a_shield_that_is_lifted_before_the_cancellation_is_none_and_one_raised_again_is_one() {
    let (outer, inner, gate) = (CancelScope::new(), CancelScope::new(), &Gate::new());
    inner.set_shielded(true);
    let mut probe = Probe::new(outer.run(inner.run(gate.wait())));
    probe.waits();
    inner.set_shielded(false);
    probe.waits();
    inner.set_shielded(true);
    outer.cancel("outer");
    probe.waits();
    gate.open();
    assert!(probe.ends().unwrap().is_ok());

    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    inner.set_shielded(true);
    let mut probe = Probe::new(outer.run(inner.run(never())));
    probe.waits();
    inner.set_shielded(false);
    outer.cancel("outer");
    assert!(probe.ends().is_err());
}

/// N-076: a further shield below stays one
#[test]
fn lifting_a_shield_does_not_lift_those_below() {
    let (outer, inner, exit) = (CancelScope::new(), CancelScope::new(), &Gate::new());
    let notes = &Notes::new();
    inner.set_shielded(true);
    let mut probe = Probe::new(outer.run(inner.run(async {
        shield(async {
            exit.wait().await;
            notes.add("exit");
        })
        .await;
        pause().await;
        notes.add("not reached");
    })));
    probe.waits();
    outer.cancel("outer");
    inner.set_shielded(false);
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    exit.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit"]);
}

/// A scope's name is in what is reported of it.
#[test]
fn a_named_scope_is_reported_by_its_name() {
    let (clock, reports, outer) = (VirtualClock::new(), Reports::new(), CancelScope::new());
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(outer.run(async {
                let mut forgotten = Box::pin(CancelScope::named("download").run(shield(never())));
                assert!(common::poll_once(&mut forgotten).await.is_none());
                never().await;
                drop(forgotten);
            })),
    );
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    clock.advance(Duration::from_millis(100));
    assert!(probe.ends().is_err());
    let reports = reports.take();
    assert!(
        reports.iter().any(|report| matches!(
            report,
            Report::NotPolled(frame)
                if frame.kind() == FrameKind::Scope && frame.name() == Some("download")
        )),
        "{reports:?}"
    );
}

/// Rule 10: the scope in which it was made may be over
#[test]
fn an_anchored_future_goes_on_when_its_scope_has_ended() {
    let (gate, scope, reports) = (&Gate::new(), CancelScope::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(async {
        let kept = common::Drawer::new();
        scope
            .run(async {
                let mut work = Box::pin(anchor(async {
                    gate.wait().await;
                    pause().await;
                    9
                }));
                assert!(common::poll_once(&mut work).await.is_none());
                kept.put(work);
            })
            .await
            .unwrap();
        let mut work = kept.take();
        scope.cancel("too late");
        assert!(common::poll_once(&mut work).await.is_none());
        gate.open();
        work.await
    }));
    assert_eq!(probe.ends(), 9);
    assert!(reports.take().is_empty());
}

/// Rule 11
#[test]
fn dropping_an_anchored_future_or_a_branch_from_outside_drops_what_is_inside() {
    let (notes, reports) = (&Notes::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(async {
        let mut work = Box::pin(anchor(branch(async {
            let _guard = notes.on_drop("dropped");
            shield(never()).await;
        })));
        assert!(common::poll_once(&mut work).await.is_none());
        drop(work);
        pause().await;
    }));
    probe.ends();
    assert_eq!(notes.take(), ["dropped"]);
    let reports = reports.take();
    assert!(
        matches!(&reports[..], [Report::Dropped(frame)] if frame.kind() == FrameKind::Shield),
        "{reports:?}"
    );
}

/// N-075: under an outer cancellation the shielded scope is the outermost that hears of it
#[test]
fn a_shielded_scope_catches_its_own_cancellation_beside_an_outer_one() {
    let (outer, inner, notes) = (CancelScope::new(), CancelScope::new(), &Notes::new());
    inner.set_shielded(true);
    let mut probe = Probe::new(outer.run(async {
        let stopped = inner.run(never()).await;
        notes.add(stopped.unwrap_err().reason().to_string());
        pause().await;
        notes.add("not reached");
    }));
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    inner.cancel("inner");
    assert_eq!(probe.ends().unwrap_err().reason().to_string(), "outer");
    assert_eq!(notes.take(), ["inner"]);
    assert!(inner.is_caught() && outer.is_caught());
}

/// An anchored future with an exit, polled inside an inner scope: what `visited` runs as its host.
async fn unwinds(notes: &Notes, gate: &Gate) {
    shield(async {
        cancel_requested().await;
        gate.wait().await;
        notes.add("exit");
    })
    .await;
    never().await;
}

/// Rule 3: the inner scope polls the work, so it waits while the work unwinds where it belongs
#[test]
fn a_host_that_is_cancelled_with_its_guest_waits_for_the_guests_exits() {
    let (gate, notes, reports) = (&Gate::new(), &Notes::new(), Reports::new());
    let (outer, clock) = (CancelScope::new(), VirtualClock::new());
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(outer.run(async {
                let mut work = Box::pin(anchor(unwinds(notes, gate)));
                let inner = CancelScope::new();
                let _ = inner.run(&mut work).await;
                notes.add("not reached");
            })),
    );
    probe.waits();
    outer.cancel("stop");
    // For as long as the guest is polled, whatever the patience.
    for _ in 0..5 {
        probe.waits();
        clock.advance(Duration::from_secs(1));
    }
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit"]);
    assert!(reports.take().is_empty());
}

/// Rule 10: the host's own cancellation is not the guest's
#[test]
fn a_host_that_is_cancelled_alone_leaves_its_guest_to_go_on() {
    let (gate, notes) = (&Gate::new(), &Notes::new());
    let outer = CancelScope::new();
    let mut probe = Probe::new(outer.run(async {
        let mut work = Box::pin(anchor(unwinds(notes, gate)));
        let inner = CancelScope::new();
        futures::join!(inner.run(&mut work), async { inner.cancel("out of time") })
            .0
            .unwrap_err();
        notes.add("inner is over");
        // In its own place, and then with another host.
        assert!(common::poll_once(&mut work).await.is_none());
        let _ = CancelScope::new().run(&mut work).await;
        notes.add("not reached");
    }));
    probe.waits();
    assert_eq!(notes.take(), ["inner is over"]);
    outer.cancel("stop");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit"]);
}

/// Rule 3 for hosts at several depths, among them a nursery's child that has opened no frame
#[test]
fn a_guest_three_frames_deep_is_waited_for_by_all_of_them() {
    let (gate, notes, reports) = (&Gate::new(), &Notes::new(), Reports::new());
    let outer = CancelScope::new();
    let mut probe = Probe::new(reports.settings().run(outer.run(async {
        let work = Box::pin(anchor(unwinds(notes, gate)));
        let _: Result<(), Failure<Word>> = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async move {
                let work = work;
                work.await;
                Ok(())
            });
            Ok(())
        })
        .await;
        notes.add("not reached");
    })));
    probe.waits();
    outer.cancel("stop");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(notes.take(), ["exit"]);
    assert!(reports.take().is_empty());
}

/// Rule 9: a guest that its host does not poll any more is given up on, by the host and by its own scope
#[test]
fn a_guest_that_its_host_does_not_poll_hangs_nobody() {
    let (gate, notes, reports) = (&Gate::new(), &Notes::new(), Reports::new());
    let (outer, clock) = (CancelScope::new(), VirtualClock::new());
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(outer.run(async {
                let mut work = Box::pin(anchor(unwinds(notes, gate)));
                let _ = CancelScope::new()
                    .run(async {
                        assert!(common::poll_once(&mut work).await.is_none());
                        never().await;
                    })
                    .await;
            })),
    );
    probe.waits();
    outer.cancel("stop");
    let has_ended = (0..5).any(|_| {
        clock.advance(Duration::from_secs(1));
        probe.settle().is_ready()
    });
    assert!(has_ended);
    assert!(
        reports
            .take()
            .iter()
            .any(|report| matches!(report, Report::NotPolled(_)))
    );
    assert!(notes.take().is_empty());
}
