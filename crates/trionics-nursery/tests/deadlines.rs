//! Scopes that cancel themselves at a time, on a clock that moves only when told to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt as _, join};
use proptest::prelude::*;
use trionics_nursery::{
    BoxSleep, CancelReason, CancelScope, Clock, EffectiveDeadline, Failure, Nursery,
    NurseryOptions, TooSlow, cancel_requested, checkpoint, current_effective_deadline, fail_after,
    fail_at, is_cancel_requested, move_on_after, move_on_at, now, open_nursery, shield, sleep,
    testing, testing::VirtualClock, with_clock,
};

mod common;
use common::{
    Drawer, Notes, OnDrop, Probe, Word, errors, lone_cancelled, never, panic_of, pause, poll_once,
};

const SECOND: Duration = Duration::from_secs(1);

/// A virtual clock that counts the timers it has made and those that are alive.
#[derive(Clone)]
struct Counting {
    clock: VirtualClock,
    n_made: Arc<AtomicUsize>,
    n_alive: Arc<AtomicUsize>,
}

impl Counting {
    fn new() -> Self {
        Self {
            clock: VirtualClock::new(),
            n_made: Arc::default(),
            n_alive: Arc::default(),
        }
    }

    fn n_made(&self) -> usize {
        self.n_made.load(Ordering::Relaxed)
    }

    fn n_alive(&self) -> usize {
        self.n_alive.load(Ordering::Relaxed)
    }
}

impl Clock for Counting {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxSleep {
        self.n_made.fetch_add(1, Ordering::Relaxed);
        self.n_alive.fetch_add(1, Ordering::Relaxed);
        let n_alive = Arc::clone(&self.n_alive);
        let gone = OnDrop::new(move || {
            n_alive.fetch_sub(1, Ordering::Relaxed);
        });
        let sleep = self.clock.sleep_until(deadline);
        Box::pin(async move {
            let _gone = gone;
            sleep.await;
        })
    }
}

/// N-082
#[test]
fn a_deadline_stops_what_is_parked_and_the_code_after_it_goes_on() {
    testing::run(async {
        let scope = CancelScope::new();
        scope.set_timeout(SECOND);
        let outcome = scope.run(never()).await;
        assert_eq!(*outcome.unwrap_err().reason(), CancelReason::Deadline);
        assert!(scope.is_cancelled() && scope.is_caught());
        assert_eq!(testing::elapsed(), SECOND);
        checkpoint().await;
        sleep(SECOND).await;
        assert_eq!(testing::elapsed(), 2 * SECOND);
    });
}

/// N-082: the timer wakes the task, without any other event.
#[test]
fn the_deadline_alone_wakes_the_task() {
    let clock = VirtualClock::new();
    let mut probe = Probe::new(with_clock(clock.clone(), move_on_after(SECOND, never())));
    probe.waits();
    clock.advance(SECOND - Duration::from_nanos(1));
    assert!(!probe.is_woken());
    clock.advance(Duration::from_nanos(1));
    assert!(probe.is_woken());
    assert_eq!(probe.ends(), None);
}

/// N-083
#[test]
fn a_scope_that_was_left_in_time_is_never_cancelled_and_has_no_timer() {
    let clock = Counting::new();
    let scope = CancelScope::new();
    let inside = scope.clone();
    let mut probe = Probe::new(with_clock(clock.clone(), async move {
        inside.set_timeout(SECOND);
        let mut run = Box::pin(inside.run(pause()));
        (&mut run).await.unwrap();
    }));
    probe.ends();
    assert_eq!(clock.n_made(), 1);
    drop(probe);
    clock.clock.advance(10 * SECOND);
    assert!(!scope.is_cancelled() && !scope.is_caught() && scope.cancelled().is_none());
    assert_eq!(clock.n_alive(), 0);
}

/// N-083: also when the future of the scope is kept, and when the scope was stopped or dropped.
#[test]
fn a_scope_that_is_over_keeps_no_timer() {
    let clock = Counting::new();
    let mut probe = Probe::new(with_clock(clock.clone(), async {
        let mut returned = Box::pin(move_on_after(9 * SECOND, pause()));
        let scope = CancelScope::new();
        scope.set_timeout(9 * SECOND);
        let mut stopped = Box::pin(scope.run(never()));
        let mut dropped = Box::pin(move_on_after(9 * SECOND, never()));
        assert!(poll_once(&mut returned).await.is_none());
        assert!(poll_once(&mut stopped).await.is_none());
        assert!(poll_once(&mut dropped).await.is_none());
        pause().await;
        scope.cancel("enough");
        assert!((&mut stopped).await.is_err());
        assert_eq!((&mut returned).await, Some(()));
        drop(dropped);
        never().await;
        drop((returned, stopped));
    }));
    assert!(probe.poll().is_pending());
    assert_eq!((clock.n_made(), clock.n_alive()), (3, 3));
    probe.waits();
    assert_eq!(clock.n_alive(), 0);
    assert!(!clock.clock.advance_to_next(), "a timer is left");
}

/// N-084
#[test]
fn a_deadline_can_be_moved_into_the_past_and_out_of_the_way() {
    let clock = VirtualClock::new();
    let scope = CancelScope::new();
    let run = scope.clone();
    let mut probe = Probe::new(with_clock(clock.clone(), async move {
        run.set_timeout(SECOND);
        run.run(never()).await
    }));
    probe.waits();
    scope.set_deadline(clock.now() + 5 * SECOND);
    clock.advance(2 * SECOND);
    probe.waits();
    assert!(!scope.is_cancelled());
    scope.set_deadline(clock.now() - SECOND);
    assert!(probe.is_woken());
    assert!(probe.ends().is_err());
    assert!(scope.is_caught());
}

/// N-084: from inside, too.
#[test]
fn code_inside_moves_its_own_deadline() {
    testing::run(async {
        let scope = CancelScope::new();
        scope.set_timeout(SECOND);
        let outcome = scope
            .run(async {
                scope.set_timeout(5 * SECOND);
                sleep(2 * SECOND).await;
                scope.clear_deadline();
                sleep(100 * SECOND).await;
                assert_eq!(scope.deadline(), None);
                scope.set_deadline(now());
                checkpoint().await;
                unreachable!("stopped at the await before");
            })
            .await;
        assert!(outcome.is_err());
        assert_eq!(testing::elapsed(), 102 * SECOND);
    });
}

/// The first deadline of a scope may come from its own first poll, or from elsewhere while it waits.
#[test]
fn a_running_scope_can_get_its_first_deadline() {
    let clock = VirtualClock::new();
    let scope = CancelScope::new();
    let run = scope.clone();
    let mut probe = Probe::new(with_clock(
        clock.clone(),
        async move { run.run(never()).await },
    ));
    probe.waits();
    scope.set_timeout(3 * SECOND);
    assert!(probe.is_woken());
    clock.advance(SECOND);
    probe.waits();
    assert_eq!(scope.deadline(), Some(clock.now() + 2 * SECOND));
    clock.advance(2 * SECOND);
    assert!(probe.ends().is_err());

    testing::run(async {
        let scope = CancelScope::new();
        let outcome = scope.run(async {
            scope.set_timeout(SECOND);
            never().await;
        });
        assert!(outcome.await.is_err());
        assert_eq!(testing::elapsed(), SECOND);
    });
}

/// N-085
#[test]
fn moving_a_deadline_thousands_of_times_makes_no_further_timers() {
    let clock = Counting::new();
    let scope = CancelScope::new();
    let run = scope.clone();
    let mut probe = Probe::new(with_clock(clock.clone(), async move {
        run.set_timeout(10 * SECOND);
        run.run(never()).await
    }));
    probe.waits();
    let start = clock.now();
    // Without a poll in between; the last of them counts.
    for i in 0..5_000 {
        scope.set_deadline(start + if i % 2 == 0 { 20 } else { 10 } * SECOND);
    }
    assert!(!probe.is_woken(), "none of them comes before the timer");
    assert_eq!(clock.n_made(), 1);
    // With a poll after each.
    for i in 0..1_000 {
        scope.set_deadline(start + if i % 2 == 0 { 10 } else { 20 } * SECOND);
        assert!(probe.poll().is_pending());
        assert_eq!(clock.n_alive(), 1, "one timer");
    }
    assert_eq!(clock.n_made(), 1);
    clock.clock.advance(15 * SECOND);
    probe.waits();
    assert!(!scope.is_cancelled());
    clock.clock.advance(5 * SECOND);
    assert!(probe.ends().is_err());
}

/// A deadline that comes nearer replaces the timer.
#[test]
fn a_deadline_that_comes_nearer_wakes_and_counts() {
    let clock = Counting::new();
    let scope = CancelScope::new();
    let run = scope.clone();
    let mut probe = Probe::new(with_clock(clock.clone(), async move {
        run.set_timeout(100 * SECOND);
        run.run(never()).await
    }));
    probe.waits();
    let start = clock.now();
    for seconds in (1..100).rev() {
        scope.set_deadline(start + seconds * SECOND);
        assert!(probe.is_woken());
        probe.waits();
        assert_eq!(clock.n_alive(), 1, "one timer");
    }
    clock.clock.advance(SECOND);
    assert!(probe.ends().is_err());
}

/// N-086
#[test]
fn a_scope_that_is_entered_late_is_stopped_at_its_first_await() {
    testing::run(async {
        let notes = Notes::new();
        let deadline = now();
        sleep(SECOND).await;
        let outcome = move_on_at(deadline, async {
            notes.add("runs to the first await");
            pause().await;
            notes.add("goes on");
        })
        .await;
        assert_eq!(outcome, None);
        assert_eq!(notes.take(), ["runs to the first await"]);
        // What is ready at once has returned.
        assert_eq!(move_on_at(deadline, async { 5 }).await, Some(5));
        assert_eq!(move_on_after(Duration::ZERO, async { 6 }).await, Some(6));
        assert_eq!(move_on_after(Duration::ZERO, pause()).await, None);
    });
}

/// N-087
#[test]
fn a_relative_timeout_counts_from_entry() {
    testing::run(async {
        let scope = CancelScope::new();
        scope.set_timeout(5 * SECOND);
        let early = move_on_after(5 * SECOND, never());
        let early_nursery =
            NurseryOptions::new()
                .timeout(5 * SECOND)
                .open(async |_: Nursery<'_, Word>| {
                    never().await;
                    Ok(())
                });
        assert_eq!(scope.deadline(), None);
        sleep(3 * SECOND).await;
        let ((), stopped, moved_on, failed) = join!(
            async {
                checkpoint().await;
                assert_eq!(scope.deadline(), Some(now() + 5 * SECOND));
            },
            scope.run(never()),
            early,
            early_nursery,
        );
        assert!(stopped.is_err() && moved_on.is_none() && failed.is_err());
        assert_eq!(testing::elapsed(), 8 * SECOND);
    });
}

/// N-088
#[test]
fn the_effective_deadline_is_the_earliest_as_far_as_the_nearest_shield() {
    use EffectiveDeadline::{At, Never, Past};
    assert_eq!(current_effective_deadline(), Never);
    testing::run(async {
        let start = now();
        assert_eq!(current_effective_deadline(), Never);
        let (outer, middle, inner) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
        outer.set_deadline(start + 5 * SECOND);
        middle.set_deadline(start + 9 * SECOND);
        let outcome = outer
            .run(middle.run(inner.run(async {
                assert_eq!(current_effective_deadline(), At(start + 5 * SECOND));
                assert_eq!(current_effective_deadline().time_left(), Some(5 * SECOND));
                inner.set_deadline(start + 3 * SECOND);
                assert_eq!(current_effective_deadline(), At(start + 3 * SECOND));
                inner.clear_deadline();
                outer.clear_deadline();
                assert_eq!(current_effective_deadline(), At(start + 9 * SECOND));
                inner.set_shielded(true);
                assert_eq!(current_effective_deadline(), Never);
                inner.set_deadline(start + 20 * SECOND);
                assert_eq!(current_effective_deadline(), At(start + 20 * SECOND));
                outer.cancel("enough");
                assert_eq!(current_effective_deadline(), At(start + 20 * SECOND));
                inner.set_shielded(false);
                assert_eq!(current_effective_deadline(), Past);
                assert_eq!(
                    current_effective_deadline().time_left(),
                    Some(Duration::ZERO)
                );
            })))
            .await;
        assert!(outcome.unwrap().unwrap().is_ok(), "it had no await");
        // In a nursery's child, with a frame of its own and without.
        let outcome = NurseryOptions::new().deadline(start + 5 * SECOND).open(
            async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    assert_eq!(current_effective_deadline(), At(start + 5 * SECOND));
                    move_on_after(SECOND, async {
                        assert_eq!(current_effective_deadline(), At(start + SECOND));
                    })
                    .await;
                    assert_eq!(current_effective_deadline(), At(start + 5 * SECOND));
                    Ok(())
                });
                Ok(())
            },
        );
        outcome.await.unwrap();
    });
}

/// N-090
#[test]
fn too_slow_is_who_absorbed_the_stop_and_nobody_else() {
    testing::run(async {
        let line = line!() + 1;
        let slow = fail_after(SECOND, sleep(2 * SECOND)).await.unwrap_err();
        assert_eq!(slow.location().line(), line);
        assert_eq!(*slow.cancelled().reason(), CancelReason::Deadline);
        assert!(
            slow.to_string()
                .starts_with("too slow: the deadline passed (set at ")
        );
        // Done in time, and done in the very poll of the deadline.
        assert_eq!(fail_after(SECOND, async { 5 }).await, Ok(5));
        assert_eq!(fail_after(SECOND, sleep(SECOND)).await, Ok(()));
        // The clock is past the inner deadline, but the outer scope is the one that is cancelled.
        let notes = Notes::new();
        let outer = move_on_after(SECOND, async {
            let inner = fail_after(2 * SECOND, shield(sleep(5 * SECOND))).await;
            notes.add(format!("{inner:?}"));
            let inner = fail_after(2 * SECOND, never()).await;
            notes.add(format!("{inner:?}"));
        });
        assert_eq!(outer.await, None);
        assert_eq!(notes.take(), ["Ok(())"]);
        let at = now() + SECOND;
        assert!(fail_at(at, never()).await.is_err());
        assert_eq!(now(), at);
    });
}

/// N-093
#[test]
fn a_real_failure_is_not_replaced_by_too_slow() {
    async fn work() -> Result<(), Failure<Word>> {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                shield(async {
                    sleep(5 * SECOND).await;
                    Err("failed while it unwound".into())
                })
                .await
            });
            never().await;
            Ok(())
        })
        .await
    }
    testing::run(async {
        let outcome: Result<Result<(), Failure<Word>>, TooSlow> = fail_after(SECOND, work()).await;
        assert_eq!(
            errors(&outcome.unwrap().unwrap_err()),
            ["failed while it unwound"]
        );
    });
}

/// N-051
#[test]
fn a_deadline_in_the_past_reads_as_cancelled_although_nothing_was_polled() {
    let clock = VirtualClock::new();
    let active = CancelScope::new();
    let run = active.clone();
    let (drawer, later) = (Drawer::new(), Drawer::new());
    let mut probe = Probe::new(with_clock(clock.clone(), {
        let (drawer, later) = (drawer.clone(), later.clone());
        async move {
            let unentered = CancelScope::new();
            unentered.set_deadline(now() + SECOND);
            drawer.put(unentered);
            let relative = CancelScope::new();
            relative.set_timeout(SECOND);
            later.put(relative);
            run.set_timeout(SECOND);
            run.run(never()).await
        }
    }));
    probe.waits();
    let (unentered, relative): (CancelScope, CancelScope) = (drawer.take(), later.take());
    for scope in [&active, &unentered, &relative] {
        assert!(!scope.is_cancelled());
    }
    clock.advance(SECOND);
    for scope in [&active, &unentered] {
        assert!(scope.is_cancelled());
        scope.set_deadline(clock.now() + 100 * SECOND);
        assert!(scope.is_cancelled(), "moved out, it stays cancelled");
        assert_eq!(*scope.cancelled().unwrap().reason(), CancelReason::Deadline);
    }
    assert!(!relative.is_cancelled(), "it has not begun to count");
    assert!(probe.ends().is_err());
}

/// N-064: deadline, then explicit, and the other way round.
#[test]
fn the_first_reason_stays() {
    let clock = VirtualClock::new();
    let mut probe = Probe::new(with_clock(clock.clone(), async {
        let (first, second) = (CancelScope::new(), CancelScope::new());
        first.set_deadline(now() + SECOND);
        second.set_deadline(now() + SECOND);
        second.cancel("early");
        pause().await;
        assert!(
            !first.cancel("late"),
            "nobody had looked, and yet it came first"
        );
        assert_eq!(*first.cancelled().unwrap().reason(), CancelReason::Deadline);
        assert_eq!(second.cancelled().unwrap().reason().to_string(), "early");
    }));
    assert!(probe.poll().is_pending());
    clock.advance(SECOND);
    probe.ends();
}

/// N-079
#[test]
fn a_deadline_fires_in_a_shield_and_in_a_shielded_scope() {
    testing::run(async {
        let outer = CancelScope::new();
        outer.cancel("stop");
        let shielded = CancelScope::new();
        shielded.set_shielded(true);
        shielded.set_timeout(SECOND);
        let outcome = outer.run(async {
            let moved_on = shield(move_on_after(SECOND, never())).await;
            let failed = shield(fail_after(SECOND, never())).await;
            assert!(moved_on.is_none() && failed.is_err());
            let stopped = shielded.run(never()).await;
            assert!(stopped.is_err());
            let nursery = NurseryOptions::new().shield().timeout(SECOND).open(
                async |_: Nursery<'_, Word>| {
                    never().await;
                    Ok(())
                },
            );
            lone_cancelled(&nursery.await.unwrap_err());
            checkpoint().await;
            unreachable!("the code after the shields is not shielded");
        });
        assert!(outcome.await.is_err());
        assert_eq!(testing::elapsed(), 4 * SECOND);
    });
}

/// A deadline lets the exits inside run to their end.
#[test]
fn exits_run_after_the_deadline_and_count_against_nobody() {
    testing::run(async {
        let notes = Notes::new();
        let outcome = move_on_after(SECOND, async {
            shield(sleep(5 * SECOND)).await;
            notes.add("the shield has ended");
            never().await;
        });
        assert_eq!(outcome.await, None);
        assert_eq!(notes.take(), ["the shield has ended"]);
        assert_eq!(testing::elapsed(), 5 * SECOND);
    });
}

/// N-094
#[test]
fn a_clock_that_jumps_while_the_task_runs_stops_it_at_the_very_next_await() {
    let clock = VirtualClock::new();
    let jump = clock.clone();
    let outcome = common::ends(with_clock(clock.clone(), async {
        let foreign = move_on_after(SECOND, async {
            jump.advance(2 * SECOND);
            pause().await;
            unreachable!("an await of somebody else's");
        })
        .await;
        // Deep inside, where other frames are polled in between.
        let nested = move_on_after(SECOND, async {
            CancelScope::new()
                .run(open_nursery(async |n: Nursery<'_, Word>| {
                    n.start_soon(async {
                        jump.advance(2 * SECOND);
                        checkpoint().await;
                        unreachable!("a checkpoint");
                    });
                    Ok(())
                }))
                .await
        })
        .await;
        let nursery = NurseryOptions::new()
            .timeout(SECOND)
            .open(async |_: Nursery<'_, Word>| {
                jump.advance(2 * SECOND);
                checkpoint().await;
                unreachable!("a checkpoint in a nursery's body");
            })
            .await;
        (
            foreign,
            nested.is_none(),
            nursery.map(|()| "value").is_err(),
        )
    }));
    assert_eq!(outcome, (None, true, true));
}

/// N-094, N-051: no await, and yet it hears of the deadline.
#[test]
fn a_computing_loop_hears_of_the_deadline() {
    let clock = VirtualClock::new();
    let tick = clock.clone();
    let rounds = common::ends(with_clock(clock.clone(), async {
        let looping = async {
            let mut rounds = 0;
            while !is_cancel_requested() {
                tick.advance(SECOND);
                rounds += 1;
            }
            assert!(cancel_requested().now_or_never().is_some());
            rounds
        };
        let scope = CancelScope::new();
        scope.set_timeout(3 * SECOND);
        // Through other scopes and a shield.
        scope
            .run(CancelScope::new().run(shield(looping)))
            .await
            .unwrap()
            .unwrap()
    }));
    assert_eq!(rounds, 3);
}

#[test]
fn of_several_nested_deadlines_each_stops_its_own_part() {
    testing::run(async {
        let notes = Notes::new();
        let note = |word: &str| notes.add(format!("{word} at {:?}", testing::elapsed()));
        let outer = move_on_after(10 * SECOND, async {
            let middle = move_on_after(5 * SECOND, async {
                assert_eq!(move_on_after(2 * SECOND, never()).await, None);
                note("inner");
                // The inner deadline is later than the middle one.
                move_on_after(7 * SECOND, never()).await;
                unreachable!();
            });
            assert_eq!(middle.await, None);
            note("middle");
            never().await;
        });
        assert_eq!(outer.await, None);
        note("outer");
        assert_eq!(
            notes.take(),
            ["inner at 2s", "middle at 5s", "outer at 10s"]
        );
        // All at once: the outermost hears of it.
        let all = move_on_after(SECOND, async {
            move_on_after(SECOND, move_on_after(SECOND, never())).await;
            unreachable!("an outer cancellation does not return to the code inside");
        });
        assert_eq!(all.await, None::<()>);
    });
}

#[test]
fn a_time_too_far_never_comes() {
    testing::run(async {
        let all = async {
            join!(
                move_on_after(Duration::MAX, sleep(1000 * SECOND)),
                fail_after(Duration::MAX, sleep(1000 * SECOND)),
                async {
                    let scope = CancelScope::new();
                    scope.set_timeout(SECOND);
                    let far = scope.clone();
                    scope
                        .run(async move {
                            far.set_timeout(Duration::MAX);
                            sleep(1000 * SECOND).await;
                        })
                        .await
                }
            )
        };
        let (moved_on, failed, stopped) = all.await;
        assert!(moved_on.is_some() && failed.is_ok() && stopped.is_ok());
    });
}

#[test]
fn a_nurserys_deadline_cancels_body_and_children_and_can_be_moved() {
    testing::run(async {
        let notes = Notes::new();
        let outcome = NurseryOptions::new()
            .timeout(2 * SECOND)
            .open(async |n: Nursery<'_, Word>| {
                n.cancel_scope().set_timeout(5 * SECOND);
                n.start_soon(async {
                    shield(sleep(6 * SECOND)).await;
                    notes.add("the child's exit has run");
                    {
                        never().await;
                        Ok(())
                    }
                });
                sleep(4 * SECOND).await;
                notes.add("the body");
                {
                    never().await;
                    Ok(())
                }
            })
            .await;
        let failure = outcome.unwrap_err();
        assert_eq!(*lone_cancelled(&failure).reason(), CancelReason::Deadline);
        assert_eq!(notes.take(), ["the body", "the child's exit has run"]);
        assert_eq!(testing::elapsed(), 6 * SECOND);
    });
}

#[test]
fn a_nurserys_failure_wins_over_its_deadline_and_ends_its_timer() {
    let clock = Counting::new();
    let mut probe = Probe::new(with_clock(clock.clone(), async {
        let mut nursery = Box::pin(NurseryOptions::new().timeout(SECOND).open(
            async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    pause().await;
                    Err("failed".into())
                });
                Ok(())
            },
        ));
        let failure = (&mut nursery).await.unwrap_err();
        assert_eq!(errors(&failure), ["failed"]);
        never().await;
        drop(nursery);
    }));
    probe.waits();
    assert_eq!(clock.n_made(), 1);
    assert!(!clock.clock.advance_to_next(), "a timer is left");
}

#[test]
fn work_that_is_lent_to_a_deadline_goes_on_after_it() {
    testing::run(async {
        let mut work = Box::pin(async {
            sleep(3 * SECOND).await;
            42
        });
        assert_eq!(move_on_after(SECOND, &mut work).await, None);
        assert_eq!(work.await, 42);
        assert_eq!(testing::elapsed(), 3 * SECOND);
    });
}

#[test]
fn without_a_clock_the_panic_says_how_to_set_one_and_where_the_deadline_is() {
    let file = file!();
    for panic in [
        panic_of(|| common::ends(move_on_after(SECOND, pause()))),
        panic_of(|| common::ends(fail_at(Instant::now() + SECOND, pause()))),
        panic_of(|| {
            let scope = CancelScope::new();
            common::ends(scope.run(async {
                scope.set_timeout(SECOND);
                pause().await;
            }))
        }),
        panic_of(|| {
            let nursery = NurseryOptions::new().timeout(SECOND);
            common::ends(nursery.open(async |_: Nursery<'_, Word>| Ok(())))
        }),
    ] {
        assert!(
            panic.contains("with_clock") && panic.contains(file),
            "{panic}"
        );
    }
    // Nothing but the run itself needs a clock.
    let scope = CancelScope::new();
    scope.set_deadline(Instant::now());
    scope.set_timeout(SECOND);
    scope.clear_deadline();
    assert!(!scope.is_cancelled());
    common::ends(scope.run(pause())).unwrap();
}

/// The clock is asked and dropped with no lock of ours held: it may use the scope itself.
#[test]
fn a_clock_may_use_the_scope_whose_time_it_tells() {
    struct Meddling {
        clock: VirtualClock,
        scope: Arc<Mutex<Option<CancelScope>>>,
    }
    impl Meddling {
        fn scope(&self) -> CancelScope {
            self.scope.lock().unwrap().clone().expect("it runs")
        }
    }
    impl Clock for Meddling {
        fn now(&self) -> Instant {
            let _ = self.scope().deadline();
            self.clock.now()
        }
        fn sleep_until(&self, deadline: Instant) -> BoxSleep {
            let _ = self.scope().deadline();
            self.scope().set_shielded(false);
            self.clock.sleep_until(deadline)
        }
    }
    let clock = VirtualClock::new();
    let scope = CancelScope::new();
    let its_scope = Arc::new(Mutex::new(Some(scope.clone())));
    let meddling = Meddling {
        clock: clock.clone(),
        scope: Arc::clone(&its_scope),
    };
    let mut probe = Probe::new(with_clock(meddling, async move {
        scope.set_timeout(SECOND);
        scope.run(never()).await
    }));
    probe.waits();
    clock.advance(SECOND);
    assert!(probe.ends().is_err());
    // The scope has the clock.
    *its_scope.lock().unwrap() = None;
}

/// A nursery in no scope gets its place when its body asks for its scope, in the same poll: else it would wait for ever for a
/// deadline that nobody watches.
#[test]
fn a_nursery_in_no_scope_is_told_at_once_that_its_deadline_needs_a_clock() {
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel_scope().set_timeout(SECOND);
        never().await;
        Ok(())
    }));
    assert!(probe.panics().contains("clock"));
}

/// A timer that ends too early does not: neither does it hang, nor does it stop anything before its time.
#[test]
fn a_clock_whose_timers_end_early_stops_nothing_early() {
    struct Hasty(VirtualClock);
    impl Clock for Hasty {
        fn now(&self) -> Instant {
            self.0.now()
        }
        fn sleep_until(&self, _deadline: Instant) -> BoxSleep {
            Box::pin(std::future::ready(()))
        }
    }
    let clock = VirtualClock::new();
    let mut probe = Probe::new(with_clock(
        Hasty(clock.clone()),
        move_on_after(SECOND, never()),
    ));
    for _ in 0..10 {
        assert!(probe.poll().is_pending());
        assert!(probe.is_woken());
    }
    clock.advance(SECOND);
    assert_eq!(probe.ends(), None);
}

/// Deadlines are moved from other threads while the scope runs; the last word counts.
#[test]
fn deadlines_are_moved_from_other_threads() {
    let clock = VirtualClock::new();
    for round in 0..50 {
        let scope = CancelScope::new();
        let run = scope.clone();
        let mut probe = Probe::new(with_clock(clock.clone(), async move {
            run.set_timeout(1000 * SECOND);
            run.run(never()).await
        }));
        probe.waits();
        let start = clock.now();
        std::thread::scope(|threads| {
            for thread in 1..=3 {
                let scope = &scope;
                threads.spawn(move || {
                    for i in 0..100 {
                        scope.set_deadline(start + (10 + (i * thread + round) % 50) * SECOND);
                    }
                });
            }
            for _ in 0..100 {
                assert!(probe.poll().is_pending());
            }
        });
        scope.set_deadline(start + 5 * SECOND);
        probe.waits();
        clock.advance(4 * SECOND);
        probe.waits();
        assert!(!scope.is_cancelled());
        clock.advance(SECOND);
        assert!(probe.ends().is_err());
    }
}

/// What may happen to two scopes, one inside the other; times are in seconds.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set { inner: bool, to: u32 },
    Timeout { inner: bool, after: u32 },
    Clear { inner: bool },
    Advance(u32),
    Poll,
    Ask { inner: bool },
}

/// A scope as a table of what is true of it.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    deadline: Option<u32>,
    is_left: bool,
    is_cancelled: bool,
}

impl Expected {
    fn pass(&mut self, now: u32) {
        self.is_cancelled |= !self.is_left && self.deadline.is_some_and(|deadline| deadline <= now);
    }
}

fn step() -> impl Strategy<Value = Step> {
    let time = 0..40_u32;
    prop_oneof![
        3 => (any::<bool>(), time.clone()).prop_map(|(inner, to)| Step::Set { inner, to }),
        2 => (any::<bool>(), 1..20_u32).prop_map(|(inner, after)| Step::Timeout { inner, after }),
        1 => any::<bool>().prop_map(|inner| Step::Clear { inner }),
        3 => (0..6_u32).prop_map(Step::Advance),
        3 => Just(Step::Poll),
        2 => any::<bool>().prop_map(|inner| Step::Ask { inner }),
    ]
}

proptest! {
    /// Deadlines that are set, moved, cleared and passed at random do what a table says they do.
    #[test]
    fn two_scopes_do_as_the_table_says(steps in proptest::collection::vec(step(), 1..60)) {
        let clock = Counting::new();
        let start = clock.now();
        let scopes = [CancelScope::new(), CancelScope::new()];
        let [outer, inner] = scopes.clone();
        let mut probe = Probe::new(with_clock(clock.clone(), async move {
            let after = inner.clone();
            outer
                .run(async move {
                    let _ = inner.run(never()).await;
                    assert!(after.is_caught());
                    never().await;
                })
                .await
        }));
        prop_assert!(probe.poll().is_pending());
        let (mut table, mut now) = ([Expected::default(); 2], 0);
        for step in steps {
            let ended = match step {
                Step::Set { inner, to } => {
                    scopes[usize::from(inner)].set_deadline(start + to * SECOND);
                    table[usize::from(inner)].deadline = Some(to);
                    false
                }
                Step::Timeout { inner, after } => {
                    // A scope that has been left has no clock of its own any more.
                    if !table[usize::from(inner)].is_left {
                        scopes[usize::from(inner)].set_timeout(after * SECOND);
                        table[usize::from(inner)].deadline = Some(now + after);
                    }
                    false
                }
                Step::Clear { inner } => {
                    scopes[usize::from(inner)].clear_deadline();
                    table[usize::from(inner)].deadline = None;
                    false
                }
                Step::Advance(seconds) => {
                    clock.clock.advance(seconds * SECOND);
                    now += seconds;
                    false
                }
                Step::Poll => probe.settle().is_ready(),
                Step::Ask { inner } => {
                    let scope = &scopes[usize::from(inner)];
                    let expected = table[usize::from(inner)];
                    prop_assert_eq!(scope.is_cancelled(), expected.is_cancelled);
                    prop_assert_eq!(scope.deadline(), expected.deadline.map(|at| start + at * SECOND));
                    false
                }
            };
            for scope in &mut table {
                scope.pass(now);
            }
            let [outer, inner] = &mut table;
            if matches!(step, Step::Poll) {
                prop_assert_eq!(ended, outer.is_cancelled);
                inner.is_left |= inner.is_cancelled || outer.is_cancelled;
                outer.is_left |= outer.is_cancelled;
            } else if outer.is_cancelled || (inner.is_cancelled && !inner.is_left) {
                prop_assert!(probe.is_woken(), "a scope is past its deadline, and its task sleeps");
            }
            prop_assert!(clock.n_alive() <= 2, "{} timers", clock.n_alive());
            if ended {
                break;
            }
        }
        for (scope, expected) in scopes.iter().zip(table) {
            prop_assert_eq!(scope.is_cancelled(), expected.is_cancelled);
        }
    }
}
