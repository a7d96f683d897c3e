//! Cancel scopes: who is stopped, who is told, and how often somebody is woken for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    thread,
};

use futures::{FutureExt as _, future::join_all, join};
use trionics_nursery::{
    CancelScope, EffectiveDeadline, Nursery, branch, checkpoint, current_effective_deadline,
    is_cancel_requested, open_nursery, shield,
};

use crate::common::{Gate, Notes, OnDrop, Probe, Word, ends, never, panic_of, pause};

/// tokio-util's tokens: a second `cancel` is none, and a waiter is woken once for both.
#[test]
fn a_second_cancel_wakes_nobody_again() {
    let scope = CancelScope::new();
    let (mut inside, mut outside) = (
        Probe::new(scope.run(never())),
        Probe::new(scope.wait_cancelled()),
    );
    inside.waits();
    outside.waits();
    assert!(scope.cancel("first"));
    assert!(!scope.cancel("second"));
    assert_eq!((inside.n_wakes(), outside.n_wakes()), (1, 1));
    assert_eq!(inside.ends().unwrap_err().reason().to_string(), "first");
    assert_eq!(outside.ends().reason().to_string(), "first");
}

/// tokio-util's tokens: whoever waits for a parent, a child or a grandchild is woken by the parent's request, and the
/// parent's own waiter is not woken by the child's.
#[test]
fn waiters_hear_of_requests_further_out_and_of_none_further_in() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut task = Probe::new(outer.run(async {
        let _ = inner.run(never()).await;
        never().await;
    }));
    task.waits();
    let (mut for_outer, mut for_inner) = (
        Probe::new(outer.wait_cancelled()),
        Probe::new(inner.wait_cancelled()),
    );
    for_outer.waits();
    for_inner.waits();
    inner.cancel("in");
    assert_eq!((for_outer.n_wakes(), for_inner.n_wakes()), (0, 1));
    assert_eq!(for_inner.ends().reason().to_string(), "in");
    task.waits();
    outer.cancel("out");
    assert_eq!(for_outer.n_wakes(), 1);
    assert_eq!(for_outer.ends().reason().to_string(), "out");
    assert!(task.ends().is_err());
}

/// tokio-util's tokens: a child made of a cancelled parent is cancelled from the start, for whoever asks of it or waits.
#[test]
fn a_scope_that_is_entered_in_a_cancelled_one_tells_its_waiters_and_listeners() {
    let (outer, inner, notes) = (CancelScope::new(), CancelScope::new(), Notes::new());
    let for_hook = notes.clone();
    let _listening = inner.on_cancel(move |cancelled| for_hook.add(cancelled.reason().to_string()));
    let mut waiter = Probe::new(inner.wait_cancelled());
    waiter.waits();
    outer.cancel("before");
    let outcome = ends(outer.run(inner.run(never())));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["before"]);
    assert!(waiter.is_woken());
    assert_eq!(waiter.ends().reason().to_string(), "before");
    // The request was the outer scope's.
    assert!(!inner.is_cancelled() && !inner.is_caught() && outer.is_caught());
}

/// tokio-util's tokens: five hundred waiters are all woken, once each, and one that was dropped before is not.
#[test]
fn every_waiter_is_woken_once_and_a_dropped_one_never() {
    let scope = CancelScope::new();
    let mut waiters: Vec<_> = (0..500)
        .map(|_| {
            let mut waiter = Probe::new(scope.wait_cancelled());
            waiter.waits();
            waiter
        })
        .collect();
    waiters.iter_mut().step_by(2).for_each(Probe::cut);
    scope.cancel("all");
    for (index, waiter) in waiters.iter().enumerate() {
        assert_eq!(waiter.n_wakes(), index % 2, "waiter {index}");
    }
}

/// trio: a scope object that was made and not entered may be entered later, also when a first attempt was given up unpolled.
#[test]
fn a_run_that_was_never_polled_has_not_entered_the_scope() {
    let scope = CancelScope::new();
    drop(scope.run(never()));
    assert_eq!(ends(scope.run(async { 5 })).unwrap(), 5);
}

/// trio: to enter a scope that is running is an error, and the run that is under way is not harmed.
#[test]
fn entering_a_scope_inside_itself_is_an_error_and_harms_nobody() {
    let scope = CancelScope::new();
    let outcome = ends(scope.run(async {
        let again = AssertUnwindSafe(scope.run(pause())).catch_unwind().await;
        assert!(again.is_err(), "it is refused");
        pause().await;
        "went on"
    }));
    assert_eq!(outcome.unwrap(), "went on");
    assert!(!scope.is_cancelled());
}

/// trio, `cancelled_caught`: false while the cancelled block is still unwinding, and true once it has been left.
#[test]
fn nothing_is_caught_before_the_exits_are_over() {
    let (scope, gate) = (CancelScope::new(), Gate::new());
    let mut task = Probe::new(scope.run(async {
        shield(gate.wait()).await;
        never().await;
    }));
    task.waits();
    scope.cancel("stop");
    task.waits();
    assert!(scope.is_cancelled() && !scope.is_caught());
    gate.open();
    assert!(task.ends().is_err());
    assert!(scope.is_caught());
}

/// A scope whose future is dropped half-way has caught nothing and is not cancelled; a cancel comes too late for anybody.
#[test]
fn a_scope_that_was_dropped_half_way_has_caught_nothing() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let mut task = Probe::new(scope.run(async {
        let _guard = notes.on_drop("dropped");
        never().await;
    }));
    task.waits();
    task.cut();
    assert_eq!(notes.take(), ["dropped"]);
    assert!(!scope.is_cancelled() && !scope.is_caught());
    scope.cancel("late");
    assert!(scope.is_cancelled() && !scope.is_caught());
}

/// What a model says of three nested scopes, of which some are cancelled, and which nobody polls in between: the
/// outermost cancelled one catches, and the code after it goes on.
#[test]
fn three_nested_scopes_cancelled_in_all_orders_between_two_polls() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        for n_cancelled in 0..=3 {
            let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
            let notes = Notes::new();
            let mut task = Probe::new(async {
                let _ = scopes[0]
                    .run(async {
                        let _ = scopes[1]
                            .run(async {
                                let _ = scopes[2].run(never()).await;
                                notes.add("after 2");
                                never().await;
                            })
                            .await;
                        notes.add("after 1");
                        never().await;
                    })
                    .await;
                notes.add("after 0");
                never().await;
            });
            task.waits();
            let cancelled = &order[..n_cancelled];
            for &scope in cancelled {
                scopes[scope].cancel(format!("{scope}"));
            }
            task.waits();
            let outermost = cancelled.iter().min().copied();
            let expected: Vec<_> = outermost
                .map(|scope| format!("after {scope}"))
                .into_iter()
                .collect();
            assert_eq!(notes.take(), expected, "{cancelled:?}");
            for (index, scope) in scopes.iter().enumerate() {
                assert_eq!(
                    scope.is_cancelled(),
                    cancelled.contains(&index),
                    "{cancelled:?}"
                );
                assert_eq!(scope.is_caught(), Some(index) == outermost, "{cancelled:?}");
            }
        }
    }
}

/// As above, with a poll after each cancel: each scope that is still running when it is cancelled catches its own.
#[test]
fn three_nested_scopes_cancelled_in_all_orders_with_a_poll_after_each() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
        let mut task = Probe::new(async {
            let _ = scopes[0]
                .run(async {
                    let _ = scopes[1]
                        .run(async {
                            let _ = scopes[2].run(never()).await;
                            never().await;
                        })
                        .await;
                    never().await;
                })
                .await;
            never().await;
        });
        task.waits();
        let mut innermost_left = 3;
        for scope in order {
            scopes[scope].cancel("stop");
            task.waits();
            let was_running = scope < innermost_left;
            assert_eq!(scopes[scope].is_caught(), was_running, "{order:?}, {scope}");
            innermost_left = innermost_left.min(scope);
        }
    }
}

/// anyio (its issue 370): of three nested scopes, the outermost cancelled and the middle one shielded, the code in the
/// middle goes on after the innermost was cancelled, and the first await after the middle is stopped.
#[test]
fn a_shielded_middle_goes_on_between_two_cancelled_scopes() {
    let (outer, middle, inner) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
    middle.set_shielded(true);
    let notes = Notes::new();
    let outcome = ends(outer.run(async {
        outer.cancel("out");
        let _ = middle
            .run(async {
                inner.cancel("in");
                let _ = inner.run(never()).await;
                checkpoint().await;
                notes.add("middle");
            })
            .await;
        notes.add("after the middle");
        checkpoint().await;
        notes.add("not reached");
    }));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["middle", "after the middle"]);
    assert!(inner.is_caught() && !middle.is_cancelled() && outer.is_caught());
}

/// trio: code of a cancelled scope that raises a shield before its first await is not stopped, for as long as it is up.
#[test]
fn a_shield_raised_inside_cancelled_code_holds_until_it_is_lowered() {
    let (outer, inner, notes) = (CancelScope::new(), CancelScope::new(), Notes::new());
    outer.cancel("before");
    let outcome = ends(outer.run(async {
        let _guard = notes.on_drop("outer dropped");
        let _ = inner
            .run(async {
                inner.set_shielded(true);
                pause().await;
                notes.add("shielded");
                inner.set_shielded(false);
                inner.set_shielded(true);
                pause().await;
                notes.add("lowered and raised in one poll");
                inner.set_shielded(false);
                pause().await;
                notes.add("not reached");
            })
            .await;
        notes.add("not reached either");
    }));
    assert!(outcome.is_err());
    let expected = [
        "shielded",
        "lowered and raised in one poll",
        "outer dropped",
    ];
    assert_eq!(notes.take(), expected);
}

/// trio: a scope's shield is a property of the scope, so that it can be set before it is entered and by another thread;
/// raised too late, it does not take back the stop.
#[test]
fn a_shield_that_comes_after_the_stop_takes_nothing_back() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut task = Probe::new(outer.run(async {
        let _ = inner.run(never()).await;
        unreachable!("the inner scope does not hear of it");
    }));
    task.waits();
    outer.cancel("stop");
    assert!(task.poll().is_ready(), "stopped in the poll that follows");
    inner.set_shielded(true);
    assert!(outer.is_caught());

    // Between the request and the poll it is in time.
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let gate = Gate::new();
    let mut task = Probe::new(outer.run(async {
        let _ = inner.run(gate.wait()).await;
        "in time"
    }));
    task.waits();
    outer.cancel("stop");
    thread::scope(|threads| {
        threads.spawn(|| inner.set_shielded(true));
    });
    task.waits();
    gate.open();
    assert_eq!(task.ends().unwrap(), "in time");
}

/// anyio: inside a shielded scope the effective deadline is none, and it is past once the scope itself is cancelled.
#[test]
fn the_effective_deadline_in_a_shielded_scope_is_its_own() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    inner.set_shielded(true);
    outer.cancel("out");
    let outcome = ends(outer.run(async {
        assert_eq!(current_effective_deadline(), EffectiveDeadline::Past);
        let _ = inner
            .run(async {
                assert_eq!(current_effective_deadline(), EffectiveDeadline::Never);
                inner.cancel("in");
                assert_eq!(current_effective_deadline(), EffectiveDeadline::Past);
                inner.set_shielded(false);
                assert_eq!(current_effective_deadline(), EffectiveDeadline::Past);
            })
            .await;
    }));
    assert!(outcome.is_ok(), "nothing in it was pending");
}

/// Kotlin and Swift, `isActive`, `Task.isCancelled`: false outside of everything, true in code that was asked to stop, for
/// the scope and what is inside it, and false again after it.
#[test]
fn the_question_whether_one_is_wanted_is_answered_by_place() {
    assert!(!is_cancel_requested());
    let (scope, other) = (CancelScope::new(), CancelScope::new());
    let outcome = ends(async {
        let result = scope
            .run(async {
                assert!(!is_cancel_requested());
                scope.cancel("stop");
                assert!(is_cancel_requested());
                let _ = other.run(async { assert!(is_cancel_requested()) }).await;
                assert!(shield(async { is_cancel_requested() }).await);
            })
            .await;
        assert!(!is_cancel_requested());
        result
    });
    assert!(outcome.is_ok());
}

/// trio and asyncio, a task that is cancelled from another task while it is about to run anyway: one poll, one stop, and
/// the work that had become ready has its value.
#[test]
fn work_that_was_woken_before_the_cancel_has_its_value() {
    let (scope, gate) = (CancelScope::new(), Gate::new());
    let mut task = Probe::new(scope.run(async {
        gate.wait().await;
        "value"
    }));
    task.waits();
    gate.open();
    scope.cancel("too late");
    assert_eq!(task.poll(), std::task::Poll::Ready(Ok("value")));
    assert!(scope.is_cancelled() && !scope.is_caught());
}

/// futures' `abortable`: one request stops each of several futures in one task, and wakes the task for them.
#[test]
fn scopes_side_by_side_are_stopped_each_by_its_own_request() {
    let scopes: Vec<_> = (0..8).map(|_| CancelScope::new()).collect();
    let mut task = Probe::new(join_all(scopes.iter().map(|scope| scope.run(never()))));
    task.waits();
    for scope in &scopes[1..] {
        scope.cancel("stop");
    }
    task.waits();
    assert!(scopes[1..].iter().all(CancelScope::is_caught) && !scopes[0].is_caught());
    scopes[0].cancel("stop");
    assert!(task.ends().into_iter().all(|outcome| outcome.is_err()));
}

/// asyncio, nested timeouts and groups cancelled at once from a thread each: every scope is left, the outermost catches,
/// and nobody hangs.
#[test]
fn threads_that_cancel_nested_scopes_at_the_same_time() {
    for _ in 0..200 {
        let scopes = [CancelScope::new(), CancelScope::new(), CancelScope::new()];
        let mut task = Probe::new(scopes[0].run(async {
            let _ = scopes[1]
                .run(async {
                    let _ = scopes[2].run(never()).await;
                    never().await;
                })
                .await;
            never().await;
        }));
        task.waits();
        thread::scope(|threads| {
            for scope in &scopes {
                threads.spawn(|| scope.cancel("stop"));
            }
        });
        assert!(task.ends().is_err());
        assert!(scopes[0].is_caught() && !scopes[1].is_caught() && !scopes[2].is_caught());
    }
}

/// A `Drop` in a stopped body that panics comes out of the scope that struck, and the scope around goes on with the panic
/// caught there, as a `try` around `async with` would.
#[test]
fn a_panic_of_a_stopped_bodys_drop_can_be_caught_around_its_scope() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let mut task = Probe::new(outer.run(async {
        let stopped = inner.run(async {
            let _guard = OnDrop::new(|| panic!("by a drop"));
            never().await;
        });
        let caught = AssertUnwindSafe(stopped).catch_unwind().await;
        assert!(caught.is_err());
        pause().await;
        "went on"
    }));
    task.waits();
    inner.cancel("stop");
    assert_eq!(task.ends().unwrap(), "went on");
    assert!(!outer.is_cancelled());
}

/// tokio, a future that is polled on after it was ready panics; also a scope's that was stopped, and one dropped by a panic.
#[test]
fn a_stopped_scope_polled_on_panics() {
    let scope = CancelScope::new();
    scope.cancel("stop");
    let mut task = Probe::new(scope.run(never()));
    assert!(task.ends().is_err());
    assert!(panic_of(|| task.poll()).contains("polled"));
}

/// trio, `checkpoint`: in a loop it gives others their turn each time, and once a neighbor has cancelled the loop, it ends at
/// the next one that it comes to; the one that it was waiting in is over, as anything is that has become ready.
#[test]
fn a_busy_loop_is_stopped_by_its_neighbor() {
    let (scope, mut turns) = (CancelScope::new(), 0);
    let (outcome, ()) = ends(async {
        join!(
            scope.run(async {
                loop {
                    turns += 1;
                    checkpoint().await;
                }
            }),
            async {
                for _ in 0..3 {
                    checkpoint().await;
                }
                scope.cancel("enough");
            }
        )
    });
    assert!(Result::<(), _>::is_err(&outcome));
    assert_eq!(turns, 5);
}

/// trio, a task that cancels a scope around its own parent's nursery: everything up to that scope is stopped, and the
/// code that called `cancel` runs to its next await.
#[test]
fn a_grandchild_that_cancels_the_outermost_scope_runs_on_to_its_await() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let outcome = ends(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                pause().await;
                scope.cancel("from below");
                notes.add("went on");
                never().await;
                Ok(())
            });
            never().await;
            Ok(())
        }));
        never().await;
        Ok(())
    })));
    assert_eq!(outcome.unwrap_err().reason().to_string(), "from below");
    assert_eq!(notes.take(), ["went on"]);
    assert!(scope.is_caught());
}

/// Kotlin, `NonCancellable`: what is started in the shielded part and waited for there runs to its end.
#[test]
fn a_nursery_in_a_shield_of_a_cancelled_scope_runs_all_its_children() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    scope.cancel("before");
    let outcome = ends(scope.run(async {
        shield(open_nursery(async |n: Nursery<'_, Word>| {
            for _ in 0..3 {
                n.start_soon(async {
                    pause().await;
                    notes.add("child");
                    Ok(())
                });
            }
            pause().await;
            Ok(())
        }))
        .await
        .unwrap();
        never().await;
    }));
    assert!(outcome.is_err());
    assert_eq!(notes.take(), ["child"; 3]);
}

/// tokio-util, `run_until_cancelled`: of a cancelled branch beside a ready one in a foreign `join!`, the scope stops all,
/// unless the branch is one of its own.
#[test]
fn a_join_in_a_cancelled_scope_loses_the_value_of_the_branch_that_was_ready() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let mut task = Probe::new(scope.run(async {
        join!(
            branch(async {
                let _guard = notes.on_drop("ready branch");
                1
            }),
            branch(async {
                let _guard = notes.on_drop("waiting branch");
                never().await;
                2
            })
        )
    }));
    task.waits();
    assert_eq!(notes.take(), ["ready branch"]);
    scope.cancel("stop");
    assert!(task.ends().is_err());
    assert_eq!(notes.take(), ["waiting branch"]);
}

/// A scope that moves to another thread between two polls is stopped there as here.
#[test]
fn a_scope_is_polled_on_another_thread_and_stopped_from_this_one() {
    let scope = CancelScope::new();
    let mut task = Box::pin(scope.run(shield(pause()).then(|()| never())));
    assert!((&mut task).now_or_never().is_none());
    let mut task = thread::spawn(move || {
        assert!((&mut task).now_or_never().is_none());
        task
    })
    .join()
    .unwrap();
    scope.cancel("stop");
    let outcome = thread::spawn(move || (&mut task).now_or_never())
        .join()
        .unwrap();
    assert!(outcome.unwrap().is_err());
}

/// Swift, `withTaskCancellationHandler`: the handler is called at once in a scope that was cancelled before, once, and not
/// when the guard goes.
#[test]
fn a_listener_in_cancelled_code_is_called_at_once() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let result = ends(scope.run(async {
        scope.cancel("stop");
        let for_hook = notes.clone();
        let listening = scope.on_cancel(move |_| for_hook.add("called"));
        assert_eq!(notes.take(), ["called"]);
        drop(listening);
    }));
    assert!(result.is_ok() && notes.take().is_empty());
}

/// A listener that panics does so in the caller of `cancel`, and the scope is cancelled and stopped all the same.
#[test]
fn a_cancel_whose_listener_panics_has_cancelled() {
    let scope = CancelScope::new();
    let mut task = Probe::new(scope.run(never()));
    task.waits();
    let _listening = scope.on_cancel(|_| panic!("by a listener"));
    let cancelled = catch_unwind(AssertUnwindSafe(|| scope.cancel("stop")));
    assert!(cancelled.is_err());
    assert!(scope.is_cancelled());
    assert_eq!(task.ends().unwrap_err().reason().to_string(), "stop");
}

/// futures' `select!` over borrowed work: a scope around a borrow stops the borrow only, and the work goes on after it.
#[test]
fn stopping_a_borrow_leaves_plain_work_alive() {
    let (scope, gate) = (CancelScope::new(), Gate::new());
    let mut task = Probe::new(async {
        let mut work = pin!(async {
            gate.wait().await;
            "done"
        });
        assert!(scope.run(&mut work).await.is_err());
        work.await
    });
    task.waits();
    scope.cancel("for now");
    task.waits();
    gate.open();
    assert_eq!(task.ends(), "done");
}

/// A listener that raises a shield further in while its scope is being cancelled is in time: what is behind it goes on.
#[test]
fn a_listener_that_raises_a_shield_further_in_is_in_time() {
    let (outer, inner, gate) = (CancelScope::new(), CancelScope::new(), Gate::new());
    let mut task = Probe::new(outer.run(async {
        let value = inner
            .run(async {
                gate.wait().await;
                "went on"
            })
            .await;
        value.unwrap()
    }));
    task.waits();
    let to_shield = inner.clone();
    let _listening = outer.on_cancel(move |_| to_shield.set_shielded(true));
    outer.cancel("stop");
    task.waits();
    gate.open();
    assert_eq!(task.ends().unwrap(), "went on");
}

/// trio: a scope is left before the code that waits in a sibling scope is: the flags of each say so on their own.
#[test]
fn a_scope_handed_to_its_own_body_cancels_only_itself() {
    let outer = CancelScope::new();
    let outcome = ends(outer.run(async {
        for round in 0..3 {
            let own = CancelScope::new();
            let result = own
                .run(async {
                    own.cancel(format!("round {round}"));
                    never().await;
                })
                .await;
            assert_eq!(
                result.unwrap_err().reason().to_string(),
                format!("round {round}")
            );
            assert!(!is_cancel_requested());
        }
        "all rounds"
    }));
    assert_eq!(outcome.unwrap(), "all rounds");
}
