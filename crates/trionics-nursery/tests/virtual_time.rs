//! The virtual clock and the deterministic executor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc, future::ready, join};
use trionics_nursery::{
    CancelScope, Clock as _, Nursery, Settings, now, open_nursery, outside, shield, sleep,
    sleep_until,
    testing::{self, VirtualClock},
    with_clock,
};

mod common;
use common::{Notes, Probe, Word, never, panic_of, pause};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_sleep_ends_when_the_clock_has_reached_its_time_and_not_before() {
    let clock = VirtualClock::new();
    let mut probe = Probe::new(with_clock(clock.clone(), sleep(SECOND)));
    probe.waits();
    clock.advance(SECOND - Duration::from_nanos(1));
    assert!(!probe.is_woken());
    probe.poll().is_ready().then(|| panic!("too early"));
    clock.advance(Duration::from_nanos(1));
    assert!(probe.is_woken());
    probe.ends();
    assert_eq!(clock.elapsed(), SECOND);
}

#[test]
fn a_relative_sleep_counts_from_the_call_where_there_is_a_clock() {
    let clock = VirtualClock::new();
    let mut probe = Probe::new(with_clock(clock.clone(), async {
        let early = sleep(2 * SECOND);
        sleep(SECOND).await;
        early.await;
        now()
    }));
    let start = clock.now();
    probe.waits();
    clock.advance(SECOND);
    probe.waits();
    clock.advance(SECOND);
    assert_eq!(probe.ends() - start, 2 * SECOND);
}

#[test]
fn a_time_in_the_past_is_over_at_once_and_one_too_far_never_comes() {
    let clock = VirtualClock::new();
    let mut probe = Probe::new(with_clock(clock.clone(), async {
        let start = now();
        sleep(SECOND).await;
        sleep_until(start).await;
        sleep(Duration::ZERO).await;
        sleep(Duration::MAX).await;
    }));
    probe.waits();
    clock.advance(SECOND);
    probe.waits();
    clock.advance(Duration::from_secs(60 * 60 * 24 * 365));
    probe.waits();
}

#[test]
fn timers_fire_in_the_order_of_their_times_and_a_dropped_one_is_gone() {
    let (clock, notes) = (VirtualClock::new(), Notes::new());
    let after = async |seconds: u32| {
        sleep(seconds * SECOND).await;
        notes.add(seconds.to_string());
    };
    let mut probe = Probe::new(with_clock(clock.clone(), async {
        drop(sleep(SECOND));
        let mut polled = Box::pin(sleep(SECOND));
        assert!(common::poll_once(&mut polled).await.is_none());
        drop(polled);
        join!(after(4), after(2), after(3));
    }));
    probe.waits();
    let mut steps = 0;
    while clock.advance_to_next() {
        steps += 1;
        let _ = probe.settle();
    }
    assert_eq!(notes.take(), ["2", "3", "4"]);
    assert_eq!((steps, clock.elapsed()), (3, 4 * SECOND));
}

#[test]
fn a_clock_is_inherited_and_can_be_replaced_further_in() {
    let (outer, inner) = (VirtualClock::new(), VirtualClock::new());
    let mut probe = Probe::new(with_clock(outer.clone(), async {
        let inside = with_clock(inner.clone(), async {
            CancelScope::new().run(shield(sleep(SECOND))).await.unwrap();
        });
        let beside = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                Settings::new().run(sleep(SECOND)).await;
                Ok(())
            });
            Ok(())
        });
        let ((), beside) = join!(inside, beside);
        beside.unwrap();
        assert!(panic_of(|| outside(now)).contains("no clock"));
    }));
    probe.waits();
    outer.advance(SECOND);
    probe.waits();
    inner.advance(SECOND);
    probe.ends();
}

#[test]
fn the_executor_jumps_when_everything_waits_and_not_before() {
    let notes = Notes::new();
    let seen = notes.clone();
    testing::run(async move {
        let busy = seen.clone();
        let task = testing::spawn(async move {
            for _ in 0..100 {
                pause().await;
            }
            busy.add(format!("busy until {:?}", testing::elapsed()));
        });
        sleep(SECOND).await;
        seen.add(format!("slept until {:?}", testing::elapsed()));
        task.await;
        let (sender, mut receiver) = mpsc::unbounded();
        for seconds in [3, 1, 2] {
            let sender = sender.clone();
            testing::spawn(async move {
                sleep(seconds * SECOND).await;
                sender.unbounded_send(seconds).unwrap();
            });
        }
        for expected in [1, 2, 3] {
            assert_eq!(receiver.next().await, Some(expected));
        }
        assert_eq!(testing::elapsed(), 4 * SECOND);
    });
    assert_eq!(notes.take(), ["busy until 0ns", "slept until 1s"]);
}

#[test]
fn a_run_takes_the_same_turns_each_time() {
    let run = || {
        let notes = Notes::new();
        let seen = notes.clone();
        testing::run(async move {
            let tasks: Vec<_> = (0..10_u32)
                .map(|i| {
                    let seen = seen.clone();
                    testing::spawn(async move {
                        for round in 0..5 {
                            seen.add(format!("{i}.{round}"));
                            if (i + round) % 3 == 0 {
                                sleep(i * SECOND).await;
                            } else {
                                pause().await;
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
        notes.take()
    };
    let first = run();
    assert_eq!(first.len(), 50);
    for _ in 0..5 {
        assert_eq!(run(), first);
    }
}

#[test]
fn tasks_leave_the_scope_tree_and_are_dropped_with_the_run() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let notes = Notes::new();
    let guard = notes.on_drop("left behind");
    testing::run(async move {
        let scope = CancelScope::new();
        let handle = scope.clone();
        let task = scope
            .run(ready(()).map(|()| {
                testing::spawn(async move {
                    sleep(SECOND).await;
                    count.fetch_add(1, Ordering::SeqCst);
                    7
                })
            }))
            .await
            .unwrap();
        handle.cancel("does not reach the task");
        assert_eq!(task.await, 7);
        drop(testing::spawn(async move {
            let _guard = guard;
            never().await;
        }));
        pause().await;
    });
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    assert_eq!(notes.take(), ["left behind"]);
}

#[test]
fn a_panic_of_a_task_is_resumed_in_the_run() {
    let message = panic_of(|| {
        testing::run(async {
            testing::spawn(async {
                pause().await;
                panic!("in a task");
            })
            .await
        })
    });
    assert_eq!(message, "in a task");
    testing::run(async {});
}
