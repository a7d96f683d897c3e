//! Handles to children: their values, their names, and the cancellation of one child alone.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use trionics_errgroup::assert_failure;
use trionics_nursery::{
    CancelScope, ChildEnded, Failure, FrameKind, Nursery, NurseryOptions, Report, cancel_requested,
    checkpoint, is_cancel_requested, open_nursery, shield, testing::VirtualClock,
};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Reports, Word, ends, errors, lone_cancelled, never, pause,
};

/// N-065: each outcome of a child, in its handle and in the nursery
#[test]
fn a_handle_tells_how_the_child_ended_and_the_nursery_has_the_failure() {
    let (place, failed) = (Drawer::new(), Drawer::new());
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn(async { Ok(7) }));
        failed.put(n.spawn(async {
            pause().await;
            Err::<u8, _>("no".into())
        }));
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["no"]);
    assert_eq!(ends(place.take()), Ok(7));
    assert_eq!(ends(failed.take()), Err(ChildEnded::Failed));

    let place = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn(async {
            pause().await;
            if true {
                panic!("a child");
            }
            Ok(())
        }));
        never().await;
        Ok(())
    }));
    assert_eq!(probe.panics(), "a child");
    let handle = place.take();
    assert!(handle.is_finished());
    assert_eq!(ends(handle), Err(ChildEnded::Panicked));
}

#[test]
fn who_passes_on_that_a_child_has_failed_adds_nothing_to_its_failure() {
    let failing = async |n: Nursery<'_>| {
        let child = n.spawn(async {
            pause().await;
            Err::<u8, _>(Failure::text("no"))
        });
        // A sibling passes it on, too.
        let other = n.spawn(async { Err::<u8, _>(Failure::text("no, neither")) });
        n.start_soon(async move {
            other.await?;
            Ok(())
        });
        Ok(child.await?)
    };
    let failure = ends(NurseryOptions::new().supervise().open(failing)).unwrap_err();
    assert_failure!(failure, [text "no, neither", text "no"]);
    let failure = ends(open_nursery(failing)).unwrap_err();
    assert_failure!(failure, [text "no, neither", text "no"]);
}

#[test]
fn who_is_cancelled_with_the_child_it_waits_for_has_not_failed() {
    let scope = CancelScope::new();
    let waiting = async |n: Nursery<'_>| {
        let first = n.spawn(async {
            never().await;
            Ok(())
        });
        let second = n.spawn(async { Ok(first.await?) });
        Ok(second.await?)
    };
    let mut probe = Probe::new(scope.run(open_nursery(waiting)));
    probe.waits();
    scope.cancel("stop");
    assert!(probe.ends().is_err(), "the scope hears of it");

    let place = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_>| {
        place.put(n.clone());
        waiting(n).await
    }));
    probe.waits();
    place.take().cancel("stop");
    assert_failure!(probe.ends().unwrap_err(), [cancelled]);

    let failure = ends(open_nursery(async |n: Nursery<'_>| {
        n.start_soon(async { Err(Failure::text("no")) });
        waiting(n).await
    }))
    .unwrap_err();
    assert_failure!(failure, [text "no"]);
}

#[test]
fn that_a_child_has_failed_is_kept_where_it_is_all_that_is_known_or_more_is_said() {
    let outer = ends(
        NurseryOptions::new()
            .supervise()
            .open(async |n: Nursery<'_>| {
                let child = n.spawn(async { Err::<u8, _>(Failure::text("no")) });
                let inner = open_nursery(async |_: Nursery<'_>| Ok(child.await?)).await;
                assert_failure!(inner.unwrap_err(), [library]);
                let child = n.spawn(async { Err::<u8, _>(Failure::text("again")) });
                child
                    .await
                    .map_err(|ended| Failure::new(ended).with_note("while counting"))?;
                Ok(())
            }),
    );
    assert_failure!(outer.unwrap_err(), [text "no", text "again", library]);

    // A child that was cancelled is why the nursery fails.
    let failure = ends(open_nursery(async |n: Nursery<'_>| {
        let child = n.spawn(async {
            never().await;
            Ok(())
        });
        child.cancel("not needed");
        Ok(child.await?)
    }))
    .unwrap_err();
    assert!(failure.find::<ChildEnded>().is_some());
}

/// N-065
#[test]
fn cancelling_every_second_of_sixteen_children_leaves_the_others() {
    let gate = &Gate::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let handles: Vec<_> = (0..16)
            .map(|index| {
                n.spawn(async move {
                    gate.wait().await;
                    Ok(index)
                })
            })
            .collect();
        pause().await;
        for handle in handles.iter().step_by(2) {
            assert!(handle.cancel("this one"));
        }
        let mut outcomes = Vec::new();
        for handle in handles {
            outcomes.push(handle.await);
        }
        assert!(!n.cancel_scope().is_cancelled());
        Ok(outcomes)
    }));
    probe.waits();
    gate.open();
    for (index, outcome) in probe.ends().unwrap().into_iter().enumerate() {
        if index % 2 == 0 {
            assert_eq!(outcome, Err(ChildEnded::Cancelled));
        } else {
            assert_eq!(outcome, Ok(index));
        }
    }
}

/// N-065, N-081
#[test]
fn a_child_that_is_cancelled_alone_runs_its_exit_to_the_end() {
    let (exit, end, notes) = (&Gate::new(), &Gate::new(), &Notes::new());
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            end.wait().await;
            notes.add("sibling");
            Ok(())
        });
        place.put(n.spawn(async {
            let _guard = notes.on_drop("dropped");
            shield(async {
                cancel_requested().await;
                notes.add("asked");
                exit.wait().await;
                notes.add("exit");
            })
            .await;
            notes.add("until the next wait");
            pause().await;
            notes.add("not reached");
            Ok(())
        }));
        end.wait().await;
        Ok(n.n_children())
    }));
    nursery.waits();
    let handle = place.take();
    assert!(!handle.is_finished());
    assert!(handle.cancel("stop"));
    assert!(nursery.is_woken());
    nursery.waits();
    assert_eq!(notes.take(), ["asked"]);
    assert!(!handle.is_finished(), "its exit still runs");
    assert!(!handle.cancel("again"), "it was cancelled before");
    let mut handle = Probe::new(handle);
    handle.waits();
    exit.open();
    nursery.waits();
    assert_eq!(notes.take(), ["exit", "until the next wait", "dropped"]);
    assert!(handle.is_woken());
    assert_eq!(handle.ends(), Err(ChildEnded::Cancelled));
    end.open();
    nursery.ends().unwrap();
    assert_eq!(notes.take(), ["sibling"]);
}

/// N-065: a child that was never polled runs to its first wait
#[test]
fn a_child_cancelled_before_its_first_poll_runs_to_its_first_wait() {
    let notes = &Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let waiting = n.spawn(async {
            notes.add("begins");
            assert!(is_cancel_requested());
            pause().await;
            notes.add("not reached");
            Ok(())
        });
        waiting.cancel("at once");
        let ready = n.spawn(async { Ok(3) });
        ready.cancel("at once");
        assert_eq!(waiting.await, Err(ChildEnded::Cancelled));
        assert_eq!(ready.await, Ok(3), "work that finished wins");
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["begins"]);
}

/// N-065
#[test]
fn cancelling_a_child_that_has_ended_leaves_its_value() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let handle = n.spawn(async { Ok(7) });
        n.wait_idle().await;
        assert!(handle.is_finished());
        assert!(!handle.cancel("too late"));
        assert_eq!(handle.await, Ok(7));
        n.start_soon(async {
            pause().await;
            Ok(())
        });
        Ok(())
    }))
    .unwrap();
}

/// N-065, rule 4
#[test]
fn a_child_that_is_ready_when_it_is_cancelled_has_its_value() {
    let gate = &Gate::new();
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn(async {
            gate.wait().await;
            Ok(7)
        }));
        Ok(())
    }));
    nursery.waits();
    let handle = place.take();
    gate.open();
    assert!(handle.cancel("together"));
    nursery.ends().unwrap();
    assert_eq!(ends(handle), Ok(7));
}

/// Rule 6: a failure of the exit is the nursery's
#[test]
fn a_child_that_fails_on_its_way_out_has_failed() {
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn::<(), _>(async {
            shield(async {
                cancel_requested().await;
                Err("in its exit".into())
            })
            .await
        }));
        never().await;
        Ok(())
    }));
    nursery.waits();
    let handle = place.take();
    handle.cancel("stop");
    assert_eq!(errors(&nursery.ends().unwrap_err()), ["in its exit"]);
    assert_eq!(ends(handle), Err(ChildEnded::Failed));
}

/// N-065 with scopes, children and a nursery inside the child
#[test]
fn cancelling_a_child_unwinds_all_that_is_inside_it() {
    let (notes, place) = (&Notes::new(), Drawer::new());
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn(async {
            let _guard = notes.on_drop("child");
            CancelScope::new()
                .run(async {
                    let _guard = notes.on_drop("scope");
                    let inner = open_nursery(async |inner: Nursery<'_, Word>| {
                        inner.start_soon(async {
                            let _guard = notes.on_drop("grandchild");
                            never().await;
                            Ok(())
                        });
                        Ok(())
                    });
                    let _ = inner.await;
                    notes.add("not reached");
                })
                .await
                .unwrap();
            notes.add("not reached");
            Ok(())
        }));
        Ok(())
    }));
    nursery.waits();
    let handle = place.take();
    handle.cancel("stop");
    nursery.ends().unwrap();
    assert_eq!(notes.take(), ["grandchild", "scope", "child"]);
    assert_eq!(ends(handle), Err(ChildEnded::Cancelled));
}

/// N-065: a child in a shielded place is cancelled by its own handle all the same
#[test]
fn a_handle_cancels_a_child_of_a_shielded_nursery() {
    ends(
        NurseryOptions::new()
            .shield()
            .open(async |n: Nursery<'_, Word>| {
                let handle = n.spawn(async {
                    never().await;
                    Ok(())
                });
                pause().await;
                handle.cancel("stop");
                assert_eq!(handle.await, Err(ChildEnded::Cancelled));
                Ok(())
            }),
    )
    .unwrap();
}

/// N-065: a child that queues for room
#[test]
fn a_child_that_queues_can_be_cancelled_and_is_stopped_when_its_turn_comes() {
    let (first, notes) = (&Gate::new(), &Notes::new());
    let mut probe = Probe::new(NurseryOptions::new().limit(1).open(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                first.wait().await;
                Ok(())
            });
            let queued = n.spawn(async {
                notes.add("begins");
                pause().await;
                notes.add("not reached");
                Ok(())
            });
            pause().await;
            assert!(queued.cancel("stop"));
            Ok(queued.await)
        },
    ));
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    first.open();
    assert_eq!(probe.ends().unwrap(), Err(ChildEnded::Cancelled));
    assert_eq!(notes.take(), ["begins"]);
}

/// N-065: from elsewhere
#[test]
fn a_child_can_be_cancelled_from_another_thread() {
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn(async {
            never().await;
            Ok(())
        }));
        Ok(())
    }));
    nursery.waits();
    let handle = place.take();
    let handle = std::thread::spawn(move || {
        handle.cancel("from elsewhere");
        handle
    })
    .join()
    .unwrap();
    assert!(nursery.is_woken());
    nursery.ends().unwrap();
    assert_eq!(ends(handle), Err(ChildEnded::Cancelled));
}

#[test]
fn a_child_whose_handle_is_dropped_runs_on() {
    let (gate, notes, reports) = (&Gate::new(), &Notes::new(), Reports::new());
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            let value = notes.on_drop("value dropped");
            let handle = n.spawn(async move {
                gate.wait().await;
                notes.add("child");
                Ok(value)
            });
            pause().await;
            drop(handle);
            Ok(())
        },
    )));
    probe.waits();
    assert_eq!(notes.take(), [""; 0]);
    gate.open();
    probe.ends().unwrap();
    assert_eq!(notes.take(), ["child", "value dropped"]);
    assert!(reports.take().is_empty());
}

#[test]
fn a_handle_outlives_its_nursery_and_one_of_a_dropped_nursery_is_told() {
    let (kept, running) = (Drawer::new(), Drawer::new());
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        kept.put(n.spawn(async { Ok(1) }));
        running.put(n.spawn(async {
            never().await;
            Ok(2)
        }));
        never().await;
        Ok(())
    }));
    nursery.waits();
    let (kept, running) = (kept.take(), running.take());
    assert!(kept.is_finished() && !running.is_finished());
    nursery.cut();
    assert!(running.is_finished());
    assert!(!running.cancel("too late"));
    assert_eq!(ends(kept), Ok(1));
    assert_eq!(ends(running), Err(ChildEnded::Cancelled));
}

#[test]
fn children_have_the_names_that_they_were_given() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let named = n.named("reader");
        let (reader, twin) = (
            named.spawn(async { Ok(()) }),
            named.clone().spawn(async { Ok(()) }),
        );
        let writer = named.named(Arc::from("writer")).spawn(async { Ok(()) });
        let nameless = n.spawn(async { Ok(()) });
        assert_eq!(reader.name(), Some("reader"));
        assert_eq!(twin.name(), Some("reader"));
        assert_eq!(writer.name(), Some("writer"));
        assert_eq!(nameless.name(), None);
        assert!(format!("{reader:?}").contains("reader"));
        assert_eq!(named.cancel_scope(), n.cancel_scope());
        Ok(())
    }))
    .unwrap();
}

/// N-071: the handle of a child that the nursery's cancellation stopped
#[test]
fn the_nurserys_cancellation_ends_every_handle() {
    let place = Drawer::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        place.put([(); 3].map(|()| {
            n.spawn(async {
                never().await;
                Ok(())
            })
        }));
        pause().await;
        n.cancel("all of them");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    lone_cancelled(&failure);
    for handle in place.take() {
        assert_eq!(ends(handle), Err(ChildEnded::Cancelled));
    }
}

#[test]
fn a_borrowed_handle_keeps_the_value_for_later() {
    let gate = &Gate::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let mut handle = n.spawn(async {
            gate.wait().await;
            Ok(7)
        });
        let scope = CancelScope::new();
        scope.cancel("not now");
        assert!(scope.run(&mut handle).await.is_err());
        assert!((&mut handle).now_or_never().is_none());
        gate.open();
        assert_eq!((&mut handle).await, Ok(7));
        assert!(handle.is_finished());
        let text = common::panic_of(|| handle.now_or_never());
        assert!(text.contains("after it had returned"), "{text}");
        Ok(())
    }))
    .unwrap();
}

// Results

/// N-013: out of order, with further children in between
#[test]
fn results_come_in_the_order_of_their_completion() {
    let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
    let gates = &gates;
    let order = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (sink, mut results) = n.results();
        let start = |index: usize| {
            n.spawn_into(&sink, async move {
                gates[index].wait().await;
                Ok(index)
            });
        };
        start(0);
        start(1);
        start(2);
        assert_eq!((results.n_running(), n.n_children()), (3, 3));
        pause().await;
        let mut order = Vec::new();
        gates[2].open();
        order.push(results.next().await.unwrap().unwrap());
        start(3);
        assert_eq!(results.n_running(), 3);
        gates[0].open();
        order.push(results.next().await.unwrap().unwrap());
        gates[3].open();
        order.push(results.next().await.unwrap().unwrap());
        gates[1].open();
        order.push(results.next().await.unwrap().unwrap());
        assert_eq!(results.next().await, None);
        assert_eq!((results.n_running(), n.n_children()), (0, 0));
        // It goes on when another child is started.
        start(0);
        order.push(results.next().await.unwrap().unwrap());
        assert_eq!(results.next().await, None);
        Ok(order)
    }));
    assert_eq!(order.unwrap(), [2, 0, 3, 1, 0]);
}

#[test]
fn results_tell_of_children_that_gave_no_value() {
    let outcomes = Drawer::new();
    let failure = ends(
        NurseryOptions::new()
            .supervise()
            .open(async |n: Nursery<'_, Word>| {
                let (sink, mut results) = n.results();
                n.spawn_into(&sink, async { Ok(1) });
                n.spawn_into(&sink.clone(), async { Err("no".into()) });
                drop(sink);
                let mut all = Vec::new();
                while let Some(outcome) = results.next().await {
                    all.push(outcome);
                }
                outcomes.put(all);
                Ok(())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["no"]);
    assert_eq!(outcomes.take(), [Ok(1), Err(ChildEnded::Failed)]);
}

#[test]
fn results_that_are_dropped_let_the_children_run_on() {
    let notes = &Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (sink, results) = n.results();
        n.spawn_into(&sink, async {
            checkpoint().await;
            notes.add("child");
            Ok(notes.on_drop("value"))
        });
        drop(results);
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["child", "value"]);
}

#[test]
fn results_of_a_dropped_nursery_end() {
    let place = Drawer::new();
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (sink, results) = n.results::<u8>();
        n.spawn_into(&sink, async {
            never().await;
            Ok(1)
        });
        place.put(results);
        never().await;
        Ok(())
    }));
    nursery.waits();
    let mut results = place.take();
    let mut all = Probe::new(async move {
        let first = results.next().await;
        (first, results.next().await)
    });
    all.waits();
    nursery.cut();
    assert!(all.is_woken());
    assert_eq!(all.ends(), (Some(Err(ChildEnded::Cancelled)), None));
}

/// N-065, rule 9
#[test]
fn a_cancelled_child_does_not_wait_for_what_it_does_not_poll() {
    let (clock, reports, place) = (VirtualClock::new(), Reports::new(), Drawer::new());
    let program = open_nursery(async |n: Nursery<'_, Word>| {
        place.put(n.spawn(async {
            let mut held = Box::pin(shield(never()));
            assert!(common::poll_once(&mut held).await.is_none());
            never().await;
            drop(held);
            Ok(())
        }));
        Ok(())
    });
    let mut nursery = Probe::new(reports.settings().clock(clock.clone()).run(program));
    nursery.waits();
    let handle = place.take();
    handle.cancel("stop");
    nursery.waits();
    assert!(!handle.is_finished());
    clock.advance(Duration::from_millis(100));
    nursery.ends().unwrap();
    assert_eq!(ends(handle), Err(ChildEnded::Cancelled));
    let reports = reports.take();
    assert!(
        matches!(&reports[..], [Report::NotPolled(frame)] if frame.kind() == FrameKind::Shield),
        "{reports:?}"
    );
}

/// N-065: the reason is the handle's, and only the child hears of it
#[test]
fn a_cancelled_child_is_asked_and_its_neighbors_are_not() {
    let notes = &Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let asked = n.spawn(async {
            Ok(shield(async {
                cancel_requested().await;
                is_cancel_requested()
            })
            .await)
        });
        let neighbor = n.spawn(async {
            pause().await;
            pause().await;
            Ok(is_cancel_requested())
        });
        pause().await;
        asked.cancel("this one");
        assert_eq!(asked.await, Ok(true));
        assert_eq!(neighbor.await, Ok(false));
        assert!(!is_cancel_requested());
        notes.add("the body goes on");
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["the body goes on"]);
}
