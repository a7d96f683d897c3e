//! Time limits: zero, past, equal, endless, moved, and met in the very last poll.

use std::{pin::pin, task::Poll, time::Duration};

use futures::{FutureExt as _, join};
use trionics_nursery::{
    CancelReason, CancelScope, Clock as _, EffectiveDeadline, Failure, Nursery, NurseryOptions,
    checkpoint, current_effective_deadline, fail_after, fail_at, move_on_after, move_on_at, now,
    open_nursery, shield, sleep, testing, testing::VirtualClock, with_clock,
};

use crate::common::{
    Drawer, Gate, Notes, Probe, Reports, Word, errors, lone_cancelled, never, pause,
};

const SECOND: Duration = Duration::from_secs(1);

/// tokio's `timeout` and Kotlin's `withTimeoutOrNull`: a limit of zero lets what is ready through, and stops what waits in
/// its first poll, without time passing.
#[test]
fn a_limit_of_zero_is_one_poll() {
    testing::run(async {
        let mut n_polls = 0;
        assert_eq!(move_on_after(Duration::ZERO, async { 1 }).await, Some(1));
        assert_eq!(fail_after(Duration::ZERO, async { 2 }).await.unwrap(), 2);
        let counted = std::future::poll_fn(|cx| {
            n_polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(fail_after(Duration::ZERO, counted).await.is_err());
        assert_eq!(n_polls, 1);
        assert_eq!(move_on_after(Duration::ZERO, pause()).await, None);
        assert_eq!(testing::elapsed(), Duration::ZERO);
    });
}

/// trio's `sleep(0)` is a checkpoint, ours is over at once: what is to let others run, or be stopped, is a `checkpoint`.
#[test]
fn a_sleep_of_nothing_is_no_checkpoint() {
    testing::run(async {
        let slept = move_on_after(Duration::ZERO, async {
            sleep(Duration::ZERO).await;
            "slept"
        });
        assert_eq!(slept.await, Some("slept"));
        assert_eq!(move_on_after(Duration::ZERO, checkpoint()).await, None);
    });
}

/// trio and asyncio: of nested limits that end at the same instant, the outermost is the one that is told.
#[test]
fn of_limits_that_end_at_the_same_instant_the_outermost_catches() {
    testing::run(async {
        let notes = Notes::new();
        let outcome = fail_after(SECOND, async {
            let _ = fail_after(SECOND, async {
                let _ = move_on_after(SECOND, never()).await;
                notes.add("in the middle");
                Ok::<(), Failure<Word>>(())
            })
            .await;
            notes.add("in the outer one");
        })
        .await;
        assert!(outcome.is_err());
        assert!(notes.take().is_empty());
        assert_eq!(testing::elapsed(), SECOND);
    });
}

/// Kotlin, nested `withTimeout`: an inner limit that is longer never shows, whatever the depth, and is not blamed.
#[test]
fn the_limit_that_ends_first_is_blamed() {
    testing::run(async {
        let line = line!() + 1;
        let outer = fail_after(
            SECOND,
            fail_after(2 * SECOND, fail_after(3 * SECOND, never())),
        );
        let too_slow = outer.await.unwrap_err();
        assert_eq!(too_slow.location().line(), line);
        assert_eq!(testing::elapsed(), SECOND);
        // And the other way round.
        let inner = fail_after(
            3 * SECOND,
            fail_after(2 * SECOND, fail_after(SECOND, never())),
        );
        assert!(inner.await.unwrap().unwrap().is_err());
        assert_eq!(testing::elapsed(), 2 * SECOND);
    });
}

/// anyio's issue with limits around task groups: the nursery's body and children are stopped, and the limit says so.
#[test]
fn a_limit_around_a_nursery_is_what_fails() {
    testing::run(async {
        let outcome = fail_after(
            SECOND,
            open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(sleep(2 * SECOND).map(Ok));
                sleep(2 * SECOND).await;
                Ok(())
            }),
        )
        .await;
        assert!(outcome.is_err());
        assert_eq!(testing::elapsed(), SECOND);
    });
}

/// anyio: a limit around a nursery whose child fails in the instant of the deadline: the failure is what comes out.
#[test]
fn a_child_that_fails_at_the_instant_of_the_limit_has_failed() {
    testing::run(async {
        let outcome = fail_after(
            SECOND,
            open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    sleep(SECOND).await;
                    Err("child".into())
                });
                never().await;
                Ok(())
            }),
        )
        .await;
        assert_eq!(errors(&outcome.unwrap().unwrap_err()), ["child"]);
    });
}

/// tokio: a future that becomes ready in the poll in which its time is over has its value, however late that poll is.
#[test]
fn ready_at_the_deadline_and_long_after_it_is_ready() {
    let clock = VirtualClock::new();
    let gate = Gate::new();
    let mut task = Probe::new(with_clock(
        clock.clone(),
        fail_after(SECOND, async {
            gate.wait().await;
            "value"
        }),
    ));
    task.waits();
    clock.advance(60 * SECOND);
    assert!(task.is_woken());
    gate.open();
    assert_eq!(task.poll(), Poll::Ready(Ok("value")));
}

/// asyncio's `reschedule` and tokio's `Sleep::reset`: moving a deadline out wakes nobody, moving it in wakes once if it has
/// to, and the time that counts is the last.
#[test]
fn moving_a_deadline_wakes_as_often_as_it_must() {
    let (clock, scope) = (VirtualClock::new(), CancelScope::new());
    scope.set_timeout(10 * SECOND);
    let mut task = Probe::new(with_clock(clock.clone(), scope.run(never())));
    task.waits();
    task.poll().is_ready().then(|| panic!("it waits"));
    for seconds in 11..100 {
        scope.set_timeout(seconds * SECOND);
    }
    assert_eq!(task.n_wakes(), 0, "out");
    scope.set_timeout(5 * SECOND);
    scope.set_timeout(4 * SECOND);
    assert_eq!(task.n_wakes(), 1, "in, twice");
    task.waits();
    clock.advance(4 * SECOND - Duration::from_nanos(1));
    assert!(!task.is_woken());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(task.n_wakes(), 1, "the end");
    assert!(task.ends().is_err());
}

/// trio: a deadline set to the present on a parked scope stops it with no other event, and so does a timeout of zero.
#[test]
fn a_deadline_that_is_set_to_now_stops_what_is_parked() {
    let moves: [fn(&CancelScope, &VirtualClock); 2] = [
        |scope, clock| scope.set_deadline(clock.now()),
        |scope, _| scope.set_timeout(Duration::ZERO),
    ];
    for move_in in moves {
        let (clock, scope) = (VirtualClock::new(), CancelScope::new());
        let mut task = Probe::new(with_clock(clock.clone(), scope.run(never())));
        task.waits();
        move_in(&scope, &clock);
        assert!(task.is_woken());
        assert_eq!(task.ends().unwrap_err().reason(), &CancelReason::Deadline);
        assert!(scope.is_caught());
    }
}

/// trio: an explicit cancel and the deadline in one instant, in both orders: the one that came first is the reason, and the
/// scope catches once.
#[test]
fn a_cancel_at_the_instant_of_the_deadline() {
    for cancel_first in [true, false] {
        let (clock, scope) = (VirtualClock::new(), CancelScope::new());
        scope.set_timeout(SECOND);
        let mut task = Probe::new(with_clock(clock.clone(), scope.run(never())));
        task.waits();
        if cancel_first {
            assert!(scope.cancel("explicit"));
            clock.advance(SECOND);
        } else {
            clock.advance(SECOND);
            assert!(
                !scope.cancel("explicit"),
                "it was cancelled by its deadline"
            );
        }
        let reason = task.ends().unwrap_err().reason().to_string();
        assert_eq!(reason == "explicit", cancel_first, "{reason}");
        assert!(scope.is_caught());
    }
}

/// trio, `move_on_after(inf)`: the longest duration is no limit for scopes, nurseries, moves and questions alike.
#[test]
fn the_longest_duration_is_no_limit() {
    testing::run(async {
        let far = Duration::MAX;
        let work = async { sleep(1_000_000 * SECOND).await };
        assert!(move_on_after(far, work).await.is_some());
        assert!(fail_after(far, sleep(SECOND)).await.is_ok());
        let scope = CancelScope::new();
        scope.set_timeout(SECOND);
        scope
            .run(async {
                scope.set_timeout(far);
                sleep(1_000_000 * SECOND).await;
            })
            .await
            .unwrap();
        let nursery = NurseryOptions::new().timeout(far).exit_grace(far);
        let outcome = nursery.open(async |n: Nursery<'_, Word>| {
            n.start_soon(sleep(SECOND).map(Ok));
            n.wait_idle().await;
            n.cancel("stop");
            shield(sleep(SECOND)).await;
            never().await;
            Ok(())
        });
        lone_cancelled(&outcome.await.unwrap_err());
    });
}

/// trio's `move_on_at` and `fail_at` with a time long past: the same as a limit of zero.
#[test]
fn a_deadline_long_past_is_a_limit_of_zero() {
    testing::run(async {
        let past = now();
        sleep(1000 * SECOND).await;
        assert_eq!(move_on_at(past, async { 1 }).await, Some(1));
        assert_eq!(move_on_at(past, pause()).await, None);
        assert!(fail_at(past, pause()).await.is_err());
        let asked = move_on_at(past, async { current_effective_deadline() });
        assert_eq!(asked.await, Some(EffectiveDeadline::Past));
        assert_eq!(testing::elapsed(), 1000 * SECOND);
    });
}

/// trio: a child belongs to its nursery, not to the scope in which `start_soon` was called: that scope's deadline does not
/// touch it.
#[test]
fn a_child_started_under_a_limit_does_not_inherit_it() {
    testing::run(async {
        let notes = Notes::new();
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            let waited = move_on_after(SECOND, async {
                let notes = &notes;
                n.start_soon(async {
                    assert_eq!(current_effective_deadline(), EffectiveDeadline::Never);
                    sleep(5 * SECOND).await;
                    notes.add("child");
                    Ok(())
                });
                n.wait_idle().await;
            })
            .await;
            assert!(waited.is_none(), "the wait was limited");
            Ok(())
        });
        outcome.await.unwrap();
        assert_eq!(notes.take(), ["child"]);
        assert_eq!(testing::elapsed(), 5 * SECOND);
    });
}

/// tokio's `timeout` on `&mut handle`: the limit on the wait takes nothing from the child or its value.
#[test]
fn a_limited_wait_for_a_handle_can_be_taken_up_again() {
    testing::run(async {
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            let mut handle = n.spawn(async {
                sleep(5 * SECOND).await;
                Ok("value")
            });
            let mut n_waits = 0;
            loop {
                n_waits += 1;
                if let Some(value) = move_on_after(2 * SECOND, &mut handle).await {
                    return Ok((n_waits, value.unwrap()));
                }
            }
        });
        assert_eq!(outcome.await.unwrap(), (3, "value"));
    });
}

/// asyncio, an outer cancel during an inner limit: the limit is not blamed, before its end and at its end.
#[test]
fn a_foreign_cancel_is_no_timeout() {
    for at in [SECOND, 2 * SECOND] {
        testing::run(async {
            let (outer, notes) = (CancelScope::new(), Notes::new());
            let (outcome, ()) = join!(
                outer.run(async {
                    let _ = fail_after(2 * SECOND, never()).await;
                    notes.add("timed out");
                    never().await;
                }),
                async {
                    sleep(at).await;
                    outer.cancel("foreign");
                }
            );
            assert_eq!(outcome.unwrap_err().reason().to_string(), "foreign");
            assert!(outer.is_caught());
            // At the same instant, the limit was over before the neighbor got to run.
            assert_eq!(notes.take().is_empty(), at == SECOND);
        });
    }
}

/// trio: exits that last beyond a second, outer deadline are waited for, and the outer scope catches what it stopped.
#[test]
fn an_outer_limit_that_ends_while_an_inner_one_unwinds_catches_instead() {
    testing::run(async {
        let notes = Notes::new();
        let outcome = move_on_after(3 * SECOND, async {
            let _ = move_on_after(SECOND, shield(sleep(5 * SECOND)).then_never()).await;
            notes.add("the inner one was told");
        })
        .await;
        assert!(outcome.is_none());
        assert!(notes.take().is_empty());
        assert_eq!(testing::elapsed(), 5 * SECOND);
    });
}

trait ThenNever: Future + Sized {
    async fn then_never(self) {
        self.await;
        never().await;
    }
}

impl<F: Future> ThenNever for F {}

/// Go's and Kotlin's budget handed down: a shorter limit inside counts, a longer one does not, and after it the outer is back.
#[test]
fn the_effective_deadline_goes_in_and_out_with_the_scopes() {
    testing::run(async {
        let start = now();
        move_on_after(4 * SECOND, async {
            let at = |seconds: u32| EffectiveDeadline::At(start + seconds * SECOND);
            move_on_after(2 * SECOND, async {
                assert_eq!(current_effective_deadline(), at(2))
            })
            .await;
            move_on_after(8 * SECOND, async {
                assert_eq!(current_effective_deadline(), at(4))
            })
            .await;
            sleep(SECOND).await;
            move_on_after(SECOND, async {
                assert_eq!(current_effective_deadline(), at(2))
            })
            .await;
            assert_eq!(current_effective_deadline(), at(4));
            assert_eq!(current_effective_deadline().time_left(), Some(3 * SECOND));
        })
        .await
        .unwrap();
    });
}

/// A limit whose future is dropped half-way leaves no timer, and one that is never polled needs no clock.
#[test]
fn a_limit_dropped_half_way_leaves_no_timer() {
    let clock = VirtualClock::new();
    drop(fail_after(SECOND, never()));
    let mut task = Probe::new(with_clock(clock.clone(), async {
        {
            let mut limited = pin!(fail_after(SECOND, never()));
            assert!(futures::poll!(&mut limited).is_pending());
        }
        never().await;
    }));
    task.waits();
    assert!(!clock.advance_to_next(), "a timer is left");
}

/// tokio's `timeout_at` in a loop with one deadline: rounds that fit are counted, and the one under way is stopped.
#[test]
fn a_nurserys_limit_moved_by_its_own_child() {
    testing::run(async {
        let scope = Drawer::new();
        let outcome =
            NurseryOptions::new()
                .timeout(2 * SECOND)
                .open(async |n: Nursery<'_, Word>| {
                    scope.put(n.cancel_scope());
                    n.start_soon(async {
                        let own = scope.take();
                        for _ in 0..3 {
                            sleep(SECOND).await;
                            own.set_timeout(2 * SECOND);
                        }
                        Ok(())
                    });
                    never().await;
                    Ok(())
                });
        let failure = outcome.await.unwrap_err();
        assert_eq!(lone_cancelled(&failure).reason(), &CancelReason::Deadline);
        assert_eq!(testing::elapsed(), 5 * SECOND);
    });
}

/// trio, `cancel_called` that is read after the deadline: whoever waits or listens for the scope finds the same answer,
/// although the scope's own task has not been polled since.
#[test]
fn waiters_and_listeners_find_a_deadline_that_has_passed_unnoticed() {
    let (clock, scope, notes) = (VirtualClock::new(), CancelScope::new(), Notes::new());
    scope.set_timeout(SECOND);
    let mut task = Probe::new(with_clock(clock.clone(), scope.run(never())));
    task.waits();
    clock.advance(SECOND);
    let mut waiter = Probe::new(scope.wait_cancelled());
    assert_eq!(waiter.ends().reason(), &CancelReason::Deadline);
    let for_hook = notes.clone();
    let _listening = scope.on_cancel(move |cancelled| for_hook.add(cancelled.to_string()));
    assert_eq!(notes.take().len(), 1);
    assert!(task.ends().is_err());
}

/// As above, for a scope that nobody has entered yet, and that nobody has asked.
#[test]
fn a_waiter_of_a_scope_that_is_entered_too_late_finds_its_deadline() {
    testing::run(async {
        let waits = || {
            let scope = CancelScope::new();
            scope.set_deadline(now() + SECOND);
            scope
        };
        let (waited, listened, notes) = (waits(), waits(), Notes::new());
        sleep(2 * SECOND).await;
        let cancelled = move_on_after(Duration::ZERO, waited.wait_cancelled()).await;
        assert_eq!(cancelled.unwrap().reason(), &CancelReason::Deadline);
        let for_hook = notes.clone();
        let _listening = listened.on_cancel(move |cancelled| for_hook.add(cancelled.to_string()));
        assert_eq!(notes.take().len(), 1);
    });
}

/// Kotlin, `withTimeout` inside `NonCancellable`: a limit in a shield of cancelled code counts.
#[test]
fn a_limit_in_a_shield_of_cancelled_code_counts() {
    testing::run(async {
        let scope = CancelScope::new();
        let notes = Notes::new();
        let outcome = scope
            .run(async {
                scope.cancel("stop");
                let said = shield(fail_after(SECOND, never())).await;
                notes.add(format!("{}", said.is_err()));
                never().await;
            })
            .await;
        assert!(outcome.is_err());
        assert_eq!(notes.take(), ["true"]);
        assert_eq!(testing::elapsed(), SECOND);
    });
}

/// A nursery with no time at all: the body and the children that it starts at once each get their first poll.
#[test]
fn a_nursery_without_time_begins_what_it_is_given_at_once() {
    testing::run(async {
        let notes = Notes::new();
        let options = NurseryOptions::new().timeout(Duration::ZERO);
        let failure = options
            .open(async |n: Nursery<'_, Word>| {
                let notes = &notes;
                for index in 0..2 {
                    n.start_soon(async move {
                        notes.add(format!("child {index}"));
                        never().await;
                        Ok(())
                    });
                }
                notes.add("body");
                never().await;
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(lone_cancelled(&failure).reason(), &CancelReason::Deadline);
        assert_eq!(notes.take(), ["body", "child 0", "child 1"]);
        assert_eq!(testing::elapsed(), Duration::ZERO);
    });
}

/// asyncio: a limit whose block is cancelled from inside by its own child, and that then expires while the exits run, has
/// not expired.
#[test]
fn a_nursery_that_was_cancelled_and_then_runs_out_of_time_keeps_the_first_reason() {
    testing::run(async {
        let failure = NurseryOptions::new()
            .timeout(2 * SECOND)
            .open(async |n: Nursery<'_, Word>| {
                let again = n.clone();
                n.start_soon(async move {
                    sleep(SECOND).await;
                    again.cancel("enough");
                    shield(sleep(5 * SECOND)).await;
                    Ok(())
                });
                never().await;
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(lone_cancelled(&failure).reason().to_string(), "enough");
        assert_eq!(testing::elapsed(), 6 * SECOND);
    });
}

/// Kubernetes' and systemd's stop timeout, decided late: a grace period that is set while the exits run already counts from
/// the cancellation, and is over at once if that is longer ago.
#[test]
fn a_grace_period_set_while_the_exits_run_counts_from_the_cancellation() {
    let changes: &[(&[(u32, u32)], u32)] = &[
        (&[(1, 3)], 3),
        (&[(5, 3)], 5),
        (&[(0, 3), (2, 10)], 10),
        (&[(0, 10), (2, 5)], 5),
        (&[(0, 10), (8, 5)], 8),
    ];
    for &(set, over_after) in changes {
        let (clock, scope, reports) = (VirtualClock::new(), CancelScope::new(), Reports::new());
        let settings = reports.settings().clock(clock.clone());
        let mut task = Probe::new(settings.run(scope.run(shield(never()))));
        task.waits();
        scope.cancel("stop");
        task.waits();
        let mut set = set.iter().copied().peekable();
        loop {
            while let Some((_, period)) = set.next_if(|(at, _)| *at * SECOND <= clock.elapsed()) {
                scope.set_exit_grace(period * SECOND);
            }
            if task.is_woken() && task.settle().is_ready() {
                break;
            }
            assert!(clock.elapsed() < 20 * SECOND, "it ends");
            clock.advance(Duration::from_millis(100));
        }
        assert_eq!(clock.elapsed(), over_after * SECOND);
        assert!(!reports.take().is_empty());
    }
}

/// A scope that a shield has taken out of the cancellation, and that comes under it again, has its whole period again.
#[test]
fn a_grace_period_begins_anew_when_the_scope_is_cancelled_anew() {
    let (clock, outer, inner) = (VirtualClock::new(), CancelScope::new(), CancelScope::new());
    let reports = Reports::new();
    inner.set_exit_grace(3 * SECOND);
    let settings = reports.settings().clock(clock.clone());
    let mut task = Probe::new(settings.run(outer.run(inner.run(shield(never())))));
    task.waits();
    let mut waits = |seconds: u32| {
        for _ in 0..seconds * 10 {
            assert!(task.settle().is_pending(), "at {:?}", clock.elapsed());
            clock.advance(Duration::from_millis(100));
        }
    };
    outer.cancel("stop");
    waits(2);
    inner.set_shielded(true);
    waits(10);
    inner.set_shielded(false);
    waits(3);
    assert!(task.ends().is_err());
}

/// The same, with nobody to wake the task but the call that sets the period.
#[test]
fn a_grace_period_that_is_over_when_it_is_set_ends_what_waits() {
    let (clock, scope, reports) = (VirtualClock::new(), CancelScope::new(), Reports::new());
    let settings = reports
        .settings()
        .clock(clock.clone())
        .patience(1000 * SECOND);
    let mut task = Probe::new(settings.run(scope.run(shield(never()))));
    task.waits();
    scope.cancel("stop");
    task.waits();
    clock.advance(5 * SECOND);
    task.waits();
    scope.set_exit_grace(SECOND);
    assert!(task.is_woken());
    assert!(task.ends().is_err());
}

/// A grace period that the body sets by its nursery's scope counts for the nursery as one of its options does.
#[test]
fn a_grace_period_set_by_the_body_names_what_was_given_up() {
    let reports = Reports::new();
    let failure = testing::run(reports.settings().run(async {
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            n.cancel_scope().set_exit_grace(3 * SECOND);
            n.named("hangs").start_soon(shield(never()).map(Ok));
            n.start_soon(shield(sleep(2 * SECOND)).map(Ok));
            sleep(SECOND).await;
            n.cancel("stop");
            never().await;
            Ok(())
        })
        .await;
        assert_eq!(testing::elapsed(), 4 * SECOND);
        outcome.unwrap_err()
    }));
    assert!(format!("{failure:#}").contains("hangs"), "{failure:#}");
    // The child, and the shield in it.
    assert_eq!(reports.take().len(), 2);
}
