//! The conformance rows on cancel requests, on who absorbs them, and on shields, named by their IDs.

use std::{
    collections::HashSet,
    future::ready,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
};

use trionics_nursery::{
    CancelScope, ChildEnded, Nursery, cancel_requested, checkpoint, is_cancel_requested,
    open_nursery, shield,
};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Word, ends, errors, lone_cancelled, never, pause, poll_once,
};

/// N-044
#[test]
fn the_code_after_a_cancelled_scope_runs_uncancelled() {
    let notes = Notes::new();
    ends(async {
        let scope = CancelScope::new();
        scope.cancel("stop");
        let outcome = scope
            .run(async {
                notes.add("inside");
                pause().await;
                notes.add("not reached");
            })
            .await;
        assert!(outcome.is_err());
        assert!(scope.is_cancelled() && scope.is_caught());
        assert!(!is_cancel_requested());
        pause().await;
        CancelScope::new().run(pause()).await.unwrap();
        notes.add("after");
    });
    assert_eq!(notes.take(), ["inside", "after"]);
}

/// N-046
#[test]
fn code_that_ignores_the_request_is_told_again_each_time() {
    let scope = CancelScope::new();
    let told = ends(scope.run(shield(async {
        scope.cancel("stop");
        let mut told = 0;
        for _ in 0..3 {
            cancel_requested().await;
            told += usize::from(is_cancel_requested());
            checkpoint().await;
        }
        told
    })));
    assert_eq!(told.unwrap(), 3);
}

/// N-047
#[test]
fn a_body_without_a_further_await_returns_its_value() {
    let scope = CancelScope::new();
    let outcome = ends(scope.run(async {
        pause().await;
        scope.cancel("too late");
        ready(7).await
    }));
    assert_eq!(outcome.unwrap(), 7);
    assert!(scope.is_cancelled() && !scope.is_caught());
}

/// N-048: poll first, and the same at the first poll and at later ones
#[test]
fn a_ready_future_in_a_cancelled_scope_wins_at_the_first_poll_and_at_later_ones() {
    let scope = CancelScope::new();
    scope.cancel("before");
    assert_eq!(ends(scope.run(ready(7))).unwrap(), 7);

    let (scope, gate) = (CancelScope::new(), Gate::new());
    let mut probe = Probe::new(scope.run(gate.wait()));
    probe.waits();
    scope.cancel("before the poll");
    gate.open();
    probe.ends().unwrap();
}

/// N-049
#[test]
fn a_request_wakes_what_waits() {
    assert_eq!(ends(CancelScope::new().run(ready(7))).unwrap(), 7);
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(never()));
    assert!(probe.poll().is_pending());
    assert!(!probe.is_woken());
    scope.cancel("now");
    assert!(probe.is_woken());
    assert!(matches!(probe.poll(), Poll::Ready(Err(_))));
}

/// N-052
#[test]
fn a_scope_can_be_cancelled_before_it_is_entered_and_while_it_is_parked() {
    let scope = CancelScope::new();
    let handle = scope.clone();
    handle.cancel("before entry");
    assert!(ends(scope.run(never())).is_err());

    let scope = CancelScope::new();
    let handle = scope.clone();
    let run = scope.run(never());
    handle.cancel("between the call and the first poll");
    assert!(ends(run).is_err());

    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(never()));
    probe.waits();
    std::thread::spawn(move || scope.cancel("from elsewhere"))
        .join()
        .unwrap();
    assert!(probe.ends().is_err());
}

/// N-054
#[test]
fn cancelling_a_scope_that_was_left_stops_nobody() {
    ends(async {
        let outer = CancelScope::new();
        let done = outer
            .run(async {
                let scope = CancelScope::new();
                scope.run(pause()).await.unwrap();
                assert!(scope.cancel("too late"));
                pause().await;
                assert!(scope.is_cancelled() && !scope.is_caught());
                assert!(!is_cancel_requested());
                7
            })
            .await;
        assert_eq!(done.unwrap(), 7);
    });
}

/// N-055
#[test]
fn a_request_reaches_all_leaves_in_one_go() {
    let stopped = AtomicUsize::new(0);
    struct Count<'a>(&'a AtomicUsize);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let scope = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        for _ in 0..2 {
            n.start_soon(async {
                open_nursery(async |worker: Nursery<'_, Word>| {
                    for _ in 0..2 {
                        worker.start_soon(async {
                            let _count = Count(&stopped);
                            never().await;
                            Ok(())
                        });
                    }
                    Ok(())
                })
                .await
            });
        }
        Ok(())
    }));
    probe.waits();
    scope.take().cancel("all of you");
    assert!(probe.poll().is_ready() || stopped.load(Ordering::SeqCst) == 4);
    assert_eq!(stopped.load(Ordering::SeqCst), 4);
}

/// N-059
#[test]
fn dropping_handles_cancels_nobody_in_any_order() {
    for inner_first in [true, false] {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let gate = Gate::new();
        let mut probe = Probe::new(outer.run(inner.run(gate.wait())));
        probe.waits();
        if inner_first {
            drop(inner);
            drop(outer);
        } else {
            drop(outer);
            drop(inner);
        }
        assert!(!probe.is_woken());
        gate.open();
        probe.ends().unwrap().unwrap();
    }
}

/// N-063
#[test]
fn a_child_that_cancels_its_own_nursery_runs_on_to_its_next_await() {
    let (notes, scope) = (Notes::new(), Drawer::new());
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        let nursery = n.clone();
        let child_notes = notes.clone();
        n.start_soon(async move {
            let _guard = child_notes.on_drop("child dropped");
            pause().await;
            nursery.cancel("by a child");
            child_notes.add("the child goes on");
            pause().await;
            child_notes.add("not reached");
            Ok(())
        });
        n.start_soon(async {
            let _guard = notes.on_drop("sibling dropped");
            never().await;
            Ok(())
        });
        let _guard = notes.on_drop("body dropped");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(lone_cancelled(&failure).reason().to_string(), "by a child");
    assert!(scope.take().is_caught());
    let notes = notes.take();
    assert_eq!(notes[0], "the child goes on");
    assert_eq!(notes.len(), 4);
    assert!(!notes.contains(&"not reached".to_owned()));
}

/// N-064: reasons of failures name what failed
#[test]
fn a_siblings_failure_is_the_reason() {
    let scope = Drawer::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        n.start_soon(async { Err("failed".into()) });
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["failed"]);
    let cancelled = scope.take().cancelled().unwrap();
    assert!(cancelled.to_string().contains("child"), "{cancelled}");
}

/// N-065, with a scope for each child
#[test]
fn stopping_every_second_child_leaves_the_others() {
    let gate = Gate::new();
    let scopes: Vec<_> = (0..16).map(|_| CancelScope::new()).collect();
    let outcomes = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let handles: Vec<_> = scopes
            .iter()
            .map(|scope| {
                n.spawn(async {
                    let outcome = scope.run(gate.wait()).await;
                    Ok(outcome.is_ok())
                })
            })
            .collect();
        let mut finished = Vec::new();
        for handle in handles {
            finished.push(handle.await.unwrap());
        }
        outcomes.put(finished);
        Ok(())
    }));
    probe.waits();
    for scope in scopes.iter().step_by(2) {
        scope.cancel("this one");
    }
    probe.waits();
    gate.open();
    probe.ends().unwrap();
    let outcomes = outcomes.take();
    for (i, finished) in outcomes.into_iter().enumerate() {
        assert_eq!(finished, i % 2 == 1);
    }
    assert!(scopes[1].cancel("after it has ended"));
}

/// N-065: a value that is there stays
#[test]
fn a_value_that_nobody_has_fetched_survives_a_cancellation() {
    let (ended, stopped) = (Drawer::new(), Drawer::new());
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        ended.put(n.spawn(async { Ok(7) }));
        stopped.put(n.spawn(async {
            never().await;
            Ok(8)
        }));
        pause().await;
        n.cancel("stop");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    lone_cancelled(&failure);
    assert_eq!(ends(ended.take()), Ok(7));
    assert_eq!(ends(stopped.take()), Err(ChildEnded::Cancelled));
}

/// N-066; `Send` and `Sync` are in `auto_traits.rs`
#[test]
#[allow(
    clippy::mutable_key_type,
    reason = "equality and hash are those of the identity"
)]
fn clones_of_a_scope_are_equal_and_hash_alike() {
    let (scope, stranger) = (CancelScope::new(), CancelScope::new());
    assert_eq!(scope, scope.clone());
    assert_ne!(scope, stranger);
    let set = HashSet::from([scope.clone(), stranger, scope.clone()]);
    assert_eq!(set.len(), 2);
    assert!(set.contains(&scope));
    scope.cancel("state does not matter");
    assert!(set.contains(&scope));
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        assert_eq!(n.cancel_scope(), n.clone().cancel_scope());
        assert_ne!(n.cancel_scope(), CancelScope::default());
        Ok(())
    }))
    .unwrap();
}

/// N-067
#[test]
fn the_middle_of_three_scopes_catches_what_it_and_the_innermost_were_asked() {
    let (outer, middle, inner) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
    let notes = Notes::new();
    let mut probe = Probe::new(outer.run(async {
        let stopped = middle
            .run(async {
                let _ = inner.run(never()).await;
                notes.add("after the innermost");
            })
            .await;
        assert!(stopped.is_err());
        pause().await;
        notes.add("after the middle");
    }));
    probe.waits();
    inner.cancel("inner");
    middle.cancel("middle");
    probe.ends().unwrap();
    assert_eq!(notes.take(), ["after the middle"]);
    assert!(middle.is_caught() && !inner.is_caught());
    assert!(!outer.is_cancelled() && !outer.is_caught());
}

/// N-074
#[test]
fn a_shielded_section_completes_and_the_first_await_after_it_is_stopped() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    scope.cancel("stop");
    let outcome = ends(scope.run(async {
        shield(async {
            for i in 0..3 {
                pause().await;
                notes.add(format!("shielded {i}"));
            }
        })
        .await;
        notes.add("the section's end is no stop");
        ready(()).await;
        notes.add("nor is a ready await");
        pause().await;
        notes.add("not reached");
    }));
    assert!(outcome.is_err());
    assert_eq!(
        notes.take(),
        [
            "shielded 0",
            "shielded 1",
            "shielded 2",
            "the section's end is no stop",
            "nor is a ready await"
        ]
    );
}

/// N-075
#[test]
fn a_shield_protects_neither_from_the_own_request_nor_from_scopes_inside() {
    let (own, inside) = (CancelScope::new(), CancelScope::new());
    ends(shield(async {
        own.cancel("own");
        assert!(own.run(never()).await.is_err());
        inside.cancel("inside");
        let outcome = CancelScope::new()
            .run(async { inside.run(never()).await.is_err() })
            .await;
        assert!(outcome.unwrap());
    }));
}

/// N-078
#[test]
fn children_under_a_shielded_nursery_are_shielded_also_later_ones() {
    let scope = CancelScope::new();
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(scope.run(shield(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            gate.wait().await;
            notes.add("early child");
            Ok(())
        });
        gate.wait().await;
        n.start_soon(async {
            pause().await;
            notes.add("late child");
            Ok(())
        });
        Ok(7)
    }))));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    gate.open();
    assert_eq!(probe.ends().expect("the shield has returned"), Ok(7));
    assert_eq!(notes.take(), ["early child", "late child"]);
}

/// N-080: two outer scopes ask; what is under way is delivered
#[test]
fn an_operation_that_refuses_to_be_torn_is_asked_once_and_delivers() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let answer = Gate::new();
    let notes = Notes::new();
    let mut probe = Probe::new(outer.run(inner.run(async {
        let report = shield(async {
            cancel_requested().await;
            notes.add("asked to stop");
            answer.wait().await;
            "the report"
        })
        .await;
        notes.add(report);
        shield(async {
            pause().await;
            notes.add("a later shielded await");
        })
        .await;
        report
    })));
    probe.waits();
    outer.cancel("outer");
    probe.waits();
    inner.cancel("inner");
    probe.waits();
    assert_eq!(notes.take(), ["asked to stop"]);
    answer.open();
    assert_eq!(probe.ends().unwrap().unwrap(), "the report");
    assert_eq!(notes.take(), ["the report", "a later shielded await"]);
}

/// N-081
#[test]
fn async_cleanup_under_a_shield_ends_before_the_nursery_closes() {
    let (gate, notes, scope) = (Gate::new(), Notes::new(), Drawer::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        n.start_soon(async {
            shield(async {
                cancel_requested().await;
                gate.wait().await;
                notes.add("cleaned up");
            })
            .await;
            Ok(())
        });
        Ok(())
    }));
    probe.waits();
    scope.take().cancel("stop");
    probe.waits();
    gate.open();
    probe.ends().unwrap();
    assert_eq!(notes.take(), ["cleaned up"]);
}

#[test]
fn cancel_requested_sees_through_shields_and_hears_of_a_later_request() {
    let (outer, middle) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(outer.run(shield(middle.run(shield(cancel_requested())))));
    probe.waits();
    outer.cancel("far out");
    assert!(probe.is_woken());
    probe.ends().unwrap().unwrap();
    assert!(!middle.is_cancelled());
}

#[test]
fn cancel_requested_outside_any_scope_waits() {
    assert!(!is_cancel_requested());
    let mut probe = Probe::new(cancel_requested());
    probe.waits();
    assert!(!probe.is_woken());
}

#[test]
fn cancel_requested_that_is_moved_hears_of_its_new_place() {
    let (first, second) = (CancelScope::new(), CancelScope::new());
    let mut probe = Probe::new(async {
        let mut asked = Box::pin(cancel_requested());
        first
            .run(async { assert!(poll_once(&mut asked).await.is_none()) })
            .await
            .unwrap();
        second.run(shield(asked)).await.unwrap();
    });
    probe.waits();
    first.cancel("it has left");
    assert!(!probe.is_woken());
    second.cancel("it is here");
    probe.ends();
}

#[test]
fn checkpoint_is_pending_once_and_lets_others_run() {
    let mut probe = Probe::new(checkpoint());
    assert!(probe.poll().is_pending());
    assert_eq!(probe.n_wakes(), 1);
    assert!(probe.poll().is_ready());
}

#[test]
fn a_cancelled_scope_without_a_waiting_future_tells_whether_it_was_first() {
    let scope = CancelScope::new();
    assert!(scope.cancel("first"));
    assert!(!scope.cancel("second"));
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        assert!(n.cancel("first"));
        assert!(!n.cancel("second"));
        Ok(())
    }))
    .unwrap();
}
