//! Children on executors: joined, cancelled with their exits, reported, and never left behind.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use trionics_nursery::{
    BoxTask, CancelReason, CancelScope, ChildEnded, Failure, FrameKind, LocalNursery, Nursery,
    NurseryOptions, Report, Spawner, cancel_requested, is_cancel_requested, open_local_nursery,
    open_nursery, shield, spawn_with, testing::VirtualClock,
};

mod common;
use common::{
    Drawer, Gate, Notes, Probe, Reports, Word, errors, lone_cancelled, never, panic_of, pause, text,
};

/// For children and bodies that have to be stopped.
async fn forever() -> Result<(), Failure<Word>> {
    pending().await
}

/// An executor that is run by hand.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Task>>>);

struct Task {
    future: BoxTask,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Spawner for Shelf {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().unwrap().push(Task {
            future: Box::pin(task),
            woken: Arc::new(Woken(AtomicBool::new(true))),
        });
    }
}

impl Shelf {
    fn new() -> Self {
        Self::default()
    }

    /// Polls each task that was woken, for as long as there is one.
    fn run(&self) {
        loop {
            let woken = {
                let mut tasks = self.0.lock().unwrap();
                let woken = tasks
                    .iter()
                    .position(|task| task.woken.0.load(Ordering::SeqCst));
                woken.map(|index| tasks.remove(index))
            };
            let Some(mut task) = woken else { break };
            task.woken.0.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&task.woken));
            if task
                .future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
            {
                self.0.lock().unwrap().push(task);
            }
        }
    }

    fn n_tasks(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The executor shuts down.
    fn drop_tasks(&self) {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap());
        drop(tasks);
    }
}

#[test]
fn a_child_on_an_executor_runs_there_and_is_waited_for() {
    let shelf = Shelf::new();
    let gate = Gate::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let opened = gate.wait();
        let handle = n.named("adder").spawn_on(&shelf, async move {
            opened.await;
            Ok(42)
        });
        assert_eq!(n.n_children(), 1);
        assert_eq!(handle.name(), Some("adder"));
        Ok(handle)
    }));
    probe.waits();
    shelf.run();
    probe.waits();
    gate.open();
    assert!(!probe.is_woken(), "the executor has yet to poll the child");
    shelf.run();
    assert_eq!(shelf.n_tasks(), 0);
    assert!(probe.is_woken());
    let mut handle = probe.ends().unwrap();
    assert!(handle.is_finished());
    assert_eq!(common::ends(&mut handle), Ok(42));
}

/// It starts where it is put, although nobody polls the nursery.
#[test]
fn a_child_starts_before_its_nursery_is_polled_again() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let noted = notes.clone();
        n.start_soon_on(&shelf, async move {
            noted.add("ran");
            Ok(())
        });
        shelf.run();
        notes.add("went on");
        Ok(())
    }));
    probe.ends().unwrap();
    assert_eq!(notes.take(), ["ran", "went on"]);
}

#[test]
fn a_failure_cancels_the_siblings_wherever_they_run() {
    let shelf = Shelf::new();
    let gate = Gate::new();
    let notes = Notes::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (opened, exited) = (gate.wait(), notes.clone());
        n.start_soon_on(&shelf, async move {
            opened.await;
            Err("it broke".into())
        });
        n.start_soon_on(&shelf, async move {
            shield(async {
                cancel_requested().await;
                pause().await;
                exited.add("exit on the executor");
            })
            .await;
            never().await;
            Ok(())
        });
        n.start_soon(async {
            let _gone = notes.on_drop("local child");
            never().await;
            Ok(())
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    shelf.run();
    gate.open();
    shelf.run();
    probe.waits();
    assert_eq!(
        notes.take(),
        ["local child"],
        "the exit has yet to be polled"
    );
    shelf.run();
    assert_eq!(notes.take(), ["exit on the executor"]);
    assert_eq!(errors(&probe.ends().unwrap_err()), ["it broke"]);
}

#[test]
fn a_panic_on_the_executor_is_resumed_in_the_owner_and_not_there() {
    let shelf = Shelf::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&shelf, async { panic!("on the executor") });
        never().await;
        Ok(())
    }));
    probe.waits();
    shelf.run();
    assert_eq!(probe.panics(), "on the executor");
}

/// Drops of a child's values panic on the executor's thread, too.
#[test]
fn a_panic_while_a_stopped_child_is_dropped_there_is_resumed_in_the_owner() {
    let shelf = Shelf::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&shelf, async {
            let _loud = common::OnDrop::new(|| panic!("dropped loudly"));
            never().await;
            Ok(())
        });
        n.cancel("enough");
        never().await;
        Ok(())
    }));
    probe.waits();
    shelf.run();
    assert_eq!(probe.panics(), "dropped loudly");
}

#[test]
fn an_outer_cancellation_waits_for_the_exits_on_the_executor() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let scope = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        let (noted, opened) = (notes.clone(), gate.wait());
        n.start_soon_on(&shelf, async move {
            let _gone = noted.on_drop("dropped");
            shield(async {
                opened.await;
                noted.add("exit");
            })
            .await;
            never().await;
            Ok(())
        });
        Ok("the body's value")
    })));
    probe.waits();
    shelf.run();
    scope.cancel("shut down");
    probe.waits();
    shelf.run();
    probe.waits();
    assert!(notes.take().is_empty());
    gate.open();
    shelf.run();
    assert_eq!(notes.take(), ["exit", "dropped"]);
    // Rule 5: the body's value is dropped, because an outer cancellation has stopped a child.
    let cancelled = probe.ends().unwrap_err();
    assert_eq!(cancelled.reason().to_string(), "shut down");
    assert!(scope.is_caught());
}

/// Rule 4, across threads: what is ready in the poll in which it would be stopped has returned.
#[test]
fn rule_4_a_child_on_an_executor_that_is_ready_has_returned() {
    let shelf = Shelf::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&shelf, async { Ok(()) });
        Ok("value")
    })));
    probe.waits();
    scope.cancel("too late");
    probe.waits();
    shelf.run();
    assert_eq!(probe.ends().unwrap().unwrap(), "value");
    assert!(!scope.is_caught());
}

/// Rule 8: a child that starts in a cancelled nursery runs to its first pending await.
#[test]
fn rule_8_a_child_put_on_an_executor_by_a_cancelled_nursery_starts() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel("before");
        let noted = notes.clone();
        n.start_soon_on(&shelf, async move {
            noted.add("first step");
            never().await;
            noted.add("never");
            Ok(())
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    shelf.run();
    assert_eq!(
        lone_cancelled(&probe.ends().unwrap_err())
            .reason()
            .to_string(),
        "before"
    );
    assert_eq!(notes.take(), ["first step"]);
}

/// N-065 on an executor.
#[test]
fn one_child_on_an_executor_is_cancelled_alone() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let gate = Gate::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (noted, opened) = (notes.clone(), gate.wait());
        let stopped = n.spawn_on(&shelf, async move {
            shield(async {
                cancel_requested().await;
                noted.add("exit");
            })
            .await;
            never().await;
            Ok(1)
        });
        let left = n.spawn_on(&shelf, async move {
            opened.await;
            Ok(2)
        });
        assert!(stopped.cancel("not needed"));
        assert!(!stopped.cancel("again"));
        let stopped = stopped.await;
        gate.open();
        Ok((stopped, left.await))
    }));
    probe.waits();
    shelf.run();
    probe.waits();
    shelf.run();
    assert_eq!(probe.ends().unwrap(), (Err(ChildEnded::Cancelled), Ok(2)));
    assert_eq!(notes.take(), ["exit"]);
}

/// N-125: its executor has gone, so the child joins as cancelled; its nursery says why.
#[test]
fn a_child_whose_executor_goes_joins_as_cancelled() {
    let shelf = Shelf::new();
    let reports = Reports::new();
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            let lost = n.spawn_on(&shelf, async {
                shield(never()).await;
                Ok(())
            });
            assert_eq!(lost.await, Err(ChildEnded::Cancelled));
            Ok(())
        },
    )));
    probe.waits();
    shelf.run();
    shelf.drop_tasks();
    let failure = probe.ends().unwrap_err();
    let cancelled = lone_cancelled(&failure);
    assert_eq!(cancelled.reason(), &CancelReason::ExecutorShutDown);
    assert!(cancelled.location().file().ends_with("spawn_on.rs"));
    let [Report::Dropped(frame)] = &reports.take()[..] else {
        panic!("the exit that had not run is reported");
    };
    assert_eq!(frame.kind(), FrameKind::Shield);
}

/// N-125: the executor takes nothing any more.
#[test]
fn an_executor_that_refuses_the_child_ends_it() {
    let refuses = spawn_with(drop);
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        Ok(n.spawn_on(&refuses, async { Ok(1) }).await)
    }));
    let failure = probe.ends().unwrap_err();
    assert_eq!(
        lone_cancelled(&failure).reason(),
        &CancelReason::ExecutorShutDown
    );
}

/// N-125: where the child was being cancelled anyway, the executor's end adds nothing.
#[test]
fn an_executor_that_goes_during_a_cancellation_adds_no_failure() {
    let shelf = Shelf::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&shelf, async { forever().await });
        forever().await
    })));
    probe.waits();
    shelf.run();
    scope.cancel("shut down");
    shelf.drop_tasks();
    assert!(probe.ends().is_err());
}

/// A spawner of the user's that panics loses the child, and nothing else.
#[test]
fn a_spawner_that_panics_leaves_the_nursery_usable() {
    let broken = spawn_with(|_task| panic!("no threads left"));
    let mut probe = Probe::new(NurseryOptions::new().supervise().open(
        async |n: Nursery<'_, Word>| {
            let put = catch_unwind(AssertUnwindSafe(|| {
                n.start_soon_on(&broken, async { Ok(()) })
            }));
            assert_eq!(text(&*put.unwrap_err()), "no threads left");
            n.start_soon(async { Err("another".into()) });
            Ok(())
        },
    ));
    let failure = probe.ends().unwrap_err();
    assert_eq!(errors(&failure), ["another"]);
    let lost = failure
        .leaves()
        .filter_map(|leaf| leaf.as_cancelled())
        .count();
    assert_eq!(lost, 1);
}

/// A limit holds for children on executors, too; those that have no room wait there without running.
#[test]
fn a_limit_holds_children_back_on_the_executor() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let mut probe = Probe::new(NurseryOptions::new().limit(1).open(
        async |n: Nursery<'_, Word>| {
            for (index, gate) in gates.iter().enumerate() {
                let (noted, opened) = (notes.clone(), gate.wait());
                n.start_soon_on(&shelf, async move {
                    noted.add(index.to_string());
                    opened.await;
                    Ok(())
                });
            }
            Ok(())
        },
    ));
    shelf.run();
    assert!(notes.take().is_empty());
    probe.waits();
    shelf.run();
    assert_eq!(notes.take(), ["0"]);
    gates[1].open();
    gates[0].open();
    shelf.run();
    probe.waits();
    shelf.run();
    assert_eq!(notes.take(), ["1"]);
    probe.waits();
    shelf.run();
    assert_eq!(notes.take(), ["2"]);
    gates[2].open();
    shelf.run();
    probe.ends().unwrap();
}

/// A child that has no room yet is not left behind by a nursery that is dropped.
#[test]
fn a_child_that_waits_for_room_goes_with_its_nursery() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let mut probe = Probe::new(NurseryOptions::new().limit(1).open(
        async |n: Nursery<'_, Word>| {
            for _ in 0..2 {
                let gone = notes.on_drop("gone");
                n.start_soon_on(&shelf, async move {
                    let _gone = gone;
                    forever().await
                });
            }
            Ok(())
        },
    ));
    probe.waits();
    shelf.run();
    probe.cut();
    assert!(notes.take().is_empty(), "another thread may be polling it");
    shelf.run();
    assert_eq!(notes.take(), ["gone", "gone"]);
    assert_eq!(shelf.n_tasks(), 0);
}

/// Rule 11: dropped from outside, the child is dropped at its next poll, to which it is woken.
#[test]
fn rule_11_a_nursery_that_is_dropped_dismisses_its_children_on_executors() {
    let shelf = Shelf::new();
    let reports = Reports::new();
    let notes = Notes::new();
    let handle = Drawer::new();
    let mut probe = Probe::new(reports.settings().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            let noted = notes.clone();
            handle.put(n.spawn_on(&shelf, async move {
                let _gone = noted.on_drop("gone");
                shield(never()).await;
                Ok(())
            }));
            Ok(())
        },
    )));
    probe.waits();
    shelf.run();
    probe.cut();
    shelf.run();
    assert_eq!(
        (shelf.n_tasks(), notes.take()),
        (0, vec!["gone".to_owned()])
    );
    assert_eq!(common::ends(handle.take()), Err(ChildEnded::Cancelled));
    assert!(
        matches!(&reports.take()[..], [Report::Dropped(frame)] if frame.kind() == FrameKind::Shield)
    );
}

/// Rule 9: patience does not apply to children on executors, however long nobody polls them.
#[test]
fn rule_9_a_child_on_an_executor_is_waited_for_without_a_limit() {
    let shelf = Shelf::new();
    let clock = VirtualClock::new();
    let notes = Notes::new();
    let reports = Reports::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(scope.run(async {
                // A nursery inside a scope inside another frame: each of them waits.
                shield(async {
                    scope.cancel("shut down");
                })
                .await;
                open_nursery(async |n: Nursery<'_, Word>| {
                    let noted = notes.clone();
                    n.start_soon_on(&shelf, async move {
                        pause().await;
                        noted.add("ran");
                        forever().await
                    });
                    Ok(())
                })
                .await
            })),
    );
    probe.waits();
    for _ in 0..50 {
        clock.advance(Duration::from_secs(1));
        probe.waits();
    }
    assert!(reports.take().is_empty());
    shelf.run();
    assert!(probe.ends().is_err());
    assert!(notes.take().is_empty(), "stopped at its first await");
}

/// The same without a clock, where polls stand for the time.
#[test]
fn rule_9_a_child_on_an_executor_is_waited_for_without_a_clock() {
    let shelf = Shelf::new();
    let scope = CancelScope::new();
    let reports = Reports::new();
    let mut probe = Probe::new(reports.settings().run(scope.run(async {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon_on(&shelf, async { forever().await });
            forever().await
        })
        .await
    })));
    probe.waits();
    scope.cancel("shut down");
    probe.waits();
    for _ in 0..50 {
        assert!(probe.poll().is_pending());
        assert!(probe.n_wakes() <= 1, "it spins");
        probe.waits();
    }
    shelf.run();
    assert!(probe.ends().is_err());
    assert!(reports.take().is_empty());
}

/// Rule 9, inside the child: what it does not poll is given up on there, after a patience.
#[test]
fn rule_9_a_frame_that_a_child_on_an_executor_does_not_poll_is_given_up_on() {
    let shelf = Shelf::new();
    let clock = VirtualClock::new();
    let reports = Reports::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(reports.settings().clock(clock.clone()).run(scope.run(
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon_on(&shelf, async {
                let mut stalled = Box::pin(shield(never()));
                common::poll_once(&mut stalled).await;
                forever().await
            });
            forever().await
        }),
    )));
    probe.waits();
    shelf.run();
    scope.cancel("shut down");
    probe.waits();
    shelf.run();
    assert_eq!(shelf.n_tasks(), 1);
    clock.advance(Duration::from_secs(1));
    shelf.run();
    assert_eq!(shelf.n_tasks(), 0);
    assert!(probe.ends().is_err());
    assert!(
        matches!(&reports.take()[..], [Report::NotPolled(frame)] if frame.kind() == FrameKind::Shield)
    );
}

/// Rule 7: at the end of a grace period the executor drops the child at its next poll, and is waited for.
#[test]
fn rule_7_the_end_of_a_grace_period_reaches_executors_and_waits_for_them() {
    let shelf = Shelf::new();
    let clock = VirtualClock::new();
    let notes = Notes::new();
    let reports = Reports::new();
    let mut probe = Probe::new(
        reports.settings().clock(clock.clone()).run(
            NurseryOptions::new()
                .exit_grace(Duration::from_secs(5))
                .open(async |n: Nursery<'_, Word>| {
                    let noted = notes.clone();
                    n.named("stubborn").start_soon_on(&shelf, async move {
                        let _gone = noted.on_drop("gone");
                        shield(never()).await;
                        Ok(())
                    });
                    n.start_soon(async {
                        let _gone = notes.on_drop("local gone");
                        shield(never()).await;
                        Ok(())
                    });
                    n.cancel("shut down");
                    forever().await
                }),
        ),
    );
    probe.waits();
    shelf.run();
    clock.advance(Duration::from_secs(5));
    probe.waits();
    assert!(notes.take().is_empty(), "the executor may be polling it");
    shelf.run();
    let failure = probe.ends().unwrap_err();
    assert_eq!(notes.take(), ["gone", "local gone"]);
    assert!(format!("{failure:#}").contains("stubborn"), "{failure:#}");
    let given_up: Vec<_> = reports
        .take()
        .into_iter()
        .filter_map(|report| match report {
            Report::OutOfGrace(frame) => frame.name().map(str::to_owned),
            _ => None,
        })
        .collect();
    assert_eq!(given_up, ["stubborn"]);
}

/// Rule 7, for a scope further out whose nursery nobody polls any more.
#[test]
fn rule_7_a_scope_out_of_grace_waits_for_executors_deep_inside() {
    let shelf = Shelf::new();
    let clock = VirtualClock::new();
    let scope = CancelScope::new();
    let notes = Notes::new();
    let reports = Reports::new();
    scope.set_exit_grace(Duration::from_secs(5));
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(scope.run(async {
                let mut nursery = Box::pin(open_nursery(async |n: Nursery<'_, Word>| {
                    let noted = notes.clone();
                    n.start_soon_on(&shelf, async move {
                        let _gone = noted.on_drop("gone");
                        shield(never()).await;
                        Ok(())
                    });
                    Ok(())
                }));
                // Its waker wakes nobody: nobody polls it again.
                let polled = nursery
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
                never().await;
            })),
    );
    probe.waits();
    shelf.run();
    scope.cancel("shut down");
    probe.waits();
    for _ in 0..8 {
        clock.advance(Duration::from_secs(1));
        probe.waits();
    }
    assert!(notes.take().is_empty());
    shelf.run();
    assert_eq!(notes.take(), ["gone"]);
    assert!(
        probe.is_woken(),
        "the end of the child wakes who waits for it, past a nursery that is not polled"
    );
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1));
    }
    assert!(probe.ends().is_err());
}

/// Rule 7: the same for children that the executor has not polled, and that have no frame inside; each is named once.
#[test]
fn rule_7_the_end_of_a_grace_period_reaches_children_without_frames() {
    let shelf = Shelf::new();
    let clock = VirtualClock::new();
    let notes = Notes::new();
    let reports = Reports::new();
    let mut probe = Probe::new(
        reports.settings().clock(clock.clone()).run(
            NurseryOptions::new()
                .exit_grace(Duration::from_secs(5))
                .open(async |n: Nursery<'_, Word>| {
                    for name in ["one", "two"] {
                        let noted = notes.clone();
                        n.named(name).start_soon_on(&shelf, async move {
                            noted.add("polled");
                            forever().await
                        });
                    }
                    n.cancel("shut down");
                    forever().await
                }),
        ),
    );
    probe.waits();
    for _ in 0..3 {
        clock.advance(Duration::from_secs(5));
        assert!(probe.poll().is_pending());
    }
    shelf.run();
    let failure = format!("{:#}", probe.ends().unwrap_err());
    assert!(notes.take().is_empty(), "dropped at the next poll");
    let given_up: Vec<_> = reports
        .take()
        .into_iter()
        .map(|report| match report {
            Report::OutOfGrace(frame) => frame.name().unwrap_or_default().to_owned(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(given_up, ["one", "two"]);
    assert!(
        failure.contains("one") && failure.contains("two"),
        "{failure}"
    );
}

/// Nobody has to poll the nursery for a cancellation to come to its children, whether frames are open in them or not; and a
/// nursery that nobody polls is given up on once they have ended.
#[test]
fn a_cancellation_reaches_children_whose_nursery_nobody_polls() {
    let shelf = Shelf::new();
    let clock = VirtualClock::new();
    let notes = Notes::new();
    let reports = Reports::new();
    let scope = CancelScope::new();
    let mut probe = Probe::new(
        reports
            .settings()
            .clock(clock.clone())
            .run(scope.run(async {
                let mut nursery = Box::pin(open_nursery(async |n: Nursery<'_, Word>| {
                    for has_frame in [false, true] {
                        let noted = notes.clone();
                        n.start_soon_on(&shelf, async move {
                            let _gone = noted.on_drop(if has_frame { "framed" } else { "bare" });
                            if has_frame {
                                CancelScope::new().run(forever()).await.unwrap()
                            } else {
                                forever().await
                            }
                        });
                    }
                    forever().await
                }));
                // Its waker wakes nobody: nobody polls it again.
                let polled = nursery
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
                never().await;
            })),
    );
    probe.waits();
    shelf.run();
    scope.cancel("shut down");
    for _ in 0..8 {
        clock.advance(Duration::from_secs(1));
        probe.waits();
    }
    assert!(notes.take().is_empty());
    shelf.run();
    assert_eq!(notes.take(), ["bare", "framed"]);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1));
    }
    assert!(probe.ends().is_err());
}

/// A value that no handle waits for any more is dropped by then, wherever it is.
#[test]
fn a_value_goes_with_its_handle() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let (early, late) = (Drawer::new(), Drawer::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for (name, drawer) in [("early", &early), ("late", &late)] {
            let noted = notes.clone();
            drawer.put(n.spawn_on(&shelf, async move { Ok(noted.on_drop(name)) }));
        }
        Ok(())
    }));
    probe.waits();
    drop(early.take());
    shelf.run();
    assert_eq!(notes.take(), ["early"]);
    drop(late.take());
    assert_eq!(notes.take(), ["late"]);
    probe.ends().unwrap();
}

/// Errors of which their nursery has not heard go with the nursery; what the first one's drop panics with comes through once
/// the other children are gone, too.
#[test]
fn unheard_errors_that_panic_go_with_the_nursery() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("loud error");
        }
    }
    for n_before in 0..4 {
        let (shelf, notes) = (Shelf::new(), Notes::new());
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Loud>| {
            for name in ["a", "b", "c", "d"].into_iter().take(n_before) {
                let gone = notes.on_drop(name);
                n.start_soon(async move {
                    let _gone = gone;
                    never().await;
                    Ok(())
                });
            }
            for _ in 0..2 {
                n.start_soon_on(&shelf, async { Err(Loud.into()) });
            }
            let gone = notes.on_drop("sibling");
            n.start_soon(async move {
                let _gone = gone;
                never().await;
                Ok(())
            });
            pending::<Result<(), _>>().await
        }));
        probe.waits();
        notes.take();
        shelf.run();
        assert_eq!(shelf.n_tasks(), 0);
        assert_eq!(panic_of(|| probe.cut()), "loud error");
        let gone = notes.take();
        assert_eq!(gone.len(), n_before + 1);
        assert_eq!(gone[n_before], "sibling");
    }
}

/// The scope of a child on an executor is the tree's: clocks, cancellations, reports go through.
#[test]
fn scopes_nest_across_executors() {
    let (shelf, inner_shelf) = (Shelf::new(), Shelf::new());
    let scope = CancelScope::new();
    let notes = Notes::new();
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        let (noted, inner) = (notes.clone(), inner_shelf.clone());
        n.start_soon_on(&shelf, async move {
            open_nursery(async |n: Nursery<'_, Word>| {
                let noted = noted.clone();
                n.start_soon_on(&inner, async move {
                    shield(async {
                        cancel_requested().await;
                        noted.add("inner exit");
                    })
                    .await;
                    forever().await
                });
                Ok(())
            })
            .await?;
            Ok(())
        });
        Ok(())
    })));
    probe.waits();
    shelf.run();
    inner_shelf.run();
    scope.cancel("shut down");
    shelf.run();
    inner_shelf.run();
    assert_eq!(notes.take(), ["inner exit"]);
    shelf.run();
    assert!(probe.ends().is_err());
}

#[test]
fn a_local_nursery_puts_children_on_executors_too() {
    let shelf = Shelf::new();
    let local = Rc::new(());
    let mut probe = Probe::new(open_local_nursery(async |n: LocalNursery<'_, Word>| {
        let kept = Rc::clone(&local);
        n.start_soon(async move {
            drop(kept);
            Ok(())
        });
        Ok(n.spawn_on(&shelf, async { Ok(7) }).await)
    }));
    probe.waits();
    shelf.run();
    assert_eq!(probe.ends().unwrap(), Ok(7));
}

/// N-007.
#[test]
fn a_closed_nursery_puts_nothing_on_an_executor() {
    let shelf = Shelf::new();
    let notes = Notes::new();
    let kept = common::ends(open_nursery(async |n: Nursery<'_, Word>| Ok(n))).unwrap();
    let gone = notes.on_drop("gone");
    let message = panic_of(|| {
        kept.start_soon_on(&shelf, async move {
            let _gone = gone;
            Ok(())
        });
    });
    assert!(
        message.starts_with("`start_soon_on` on a nursery that has closed"),
        "{message}"
    );
    assert_eq!(
        (shelf.n_tasks(), notes.take()),
        (0, vec!["gone".to_owned()])
    );
}

/// The future moves to the executor by value; a body's borrows could not.
#[test]
fn an_executor_that_polls_after_the_end_is_told_so() {
    let shelf = Shelf::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&shelf, async { Ok(()) });
        Ok(())
    }));
    probe.waits();
    let mut task = shelf.0.lock().unwrap().pop().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(task.future.as_mut().poll(&mut cx).is_ready());
    let message = panic_of(|| task.future.as_mut().poll(&mut cx).is_ready());
    assert!(message.contains("after it had completed"), "{message}");
    drop(task);
    probe.ends().unwrap();
}

mod blocking {
    use std::sync::mpsc;

    use trionics_nursery::SpawnBlocking;

    use super::*;

    /// A pool without threads: the test calls the work.
    #[derive(Clone, Default)]
    struct Pool(Arc<Mutex<Vec<Work>>>);

    type Work = Box<dyn FnOnce() + Send>;

    impl SpawnBlocking for Pool {
        fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
            self.0.lock().unwrap().push(Box::new(work));
        }
    }

    impl Pool {
        fn n_waiting(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn run(&self) {
            let works = std::mem::take(&mut *self.0.lock().unwrap());
            for work in works {
                work();
            }
        }

        fn shut_down(&self) {
            let works = std::mem::take(&mut *self.0.lock().unwrap());
            drop(works);
        }
    }

    #[test]
    fn work_that_blocks_is_joined() {
        let pool = Pool::default();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let sum = n.spawn_blocking_on(&pool, || Ok((1..=100).sum::<u32>()));
            Ok(sum.await)
        }));
        probe.waits();
        assert_eq!(pool.n_waiting(), 1);
        pool.run();
        assert_eq!(probe.ends().unwrap(), Ok(5_050));
    }

    #[test]
    fn its_failures_and_panics_are_the_nurserys() {
        let pool = Pool::default();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let failed = n.spawn_blocking_on(&pool, || -> Result<(), _> { Err("it broke".into()) });
            assert_eq!(failed.await, Err(ChildEnded::Failed));
            Ok(())
        }));
        probe.waits();
        pool.run();
        assert_eq!(errors(&probe.ends().unwrap_err()), ["it broke"]);

        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            drop(n.spawn_blocking_on(&pool, || -> Result<(), _> { panic!("on a thread") }));
            forever().await
        }));
        probe.waits();
        pool.run();
        assert_eq!(probe.panics(), "on a thread");
    }

    /// It asks, because it cannot be stopped; and the nursery waits for it, grace or no grace.
    #[test]
    fn it_hears_of_a_cancellation_and_is_never_abandoned() {
        let pool = Pool::default();
        let clock = VirtualClock::new();
        let reports = Reports::new();
        let (begun, has_begun) = mpsc::channel();
        let (cancelled, is_cancelled) = mpsc::channel::<()>();
        let scope = CancelScope::new();
        let mut probe = Probe::new(
            reports.settings().clock(clock.clone()).run(
                scope.run(
                    NurseryOptions::new()
                        .exit_grace(Duration::from_secs(1))
                        .open(async |n: Nursery<'_, Word>| {
                            let asked = n.spawn_blocking_on(&pool, move || {
                                let before = is_cancel_requested();
                                begun.send(()).unwrap();
                                is_cancelled.recv().unwrap();
                                Ok((before, is_cancel_requested()))
                            });
                            Ok(shield(asked).await)
                        }),
                ),
            ),
        );
        probe.waits();
        std::thread::scope(|threads| {
            threads.spawn(|| pool.run());
            has_begun.recv().unwrap();
            scope.cancel("shut down");
            clock.advance(Duration::from_secs(60));
            probe.waits();
            clock.advance(Duration::from_secs(60));
            probe.waits();
            cancelled.send(()).unwrap();
        });
        assert!(probe.is_woken());
        assert_eq!(probe.ends().unwrap().unwrap(), Ok((false, true)));
    }

    /// What it blocks on is shielded: it could not be dropped where it stands.
    #[test]
    fn a_future_that_it_blocks_on_is_shielded() {
        let pool = Pool::default();
        let scope = CancelScope::new();
        let handed = scope.clone();
        let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
            let value = n.spawn_blocking_on(&pool, move || {
                handed.cancel("meanwhile");
                Ok(common::ends(CancelScope::new().run(async {
                    pause().await;
                    "went on"
                })))
            });
            Ok(shield(value).await)
        })));
        probe.waits();
        pool.run();
        assert_eq!(probe.ends().unwrap().unwrap().unwrap().unwrap(), "went on");
    }

    #[test]
    fn what_has_not_begun_when_it_is_cancelled_does_not_begin() {
        let pool = Pool::default();
        let notes = Notes::new();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let gone = notes.on_drop("dropped, not called");
            let noted = notes.clone();
            let handle = n.spawn_blocking_on(&pool, move || {
                let _gone = gone;
                noted.add("called");
                Ok(())
            });
            pause().await;
            n.cancel("enough");
            Ok(handle)
        }));
        probe.waits();
        pool.run();
        let handle = probe.ends().unwrap();
        assert_eq!(notes.take(), ["dropped, not called"]);
        assert_eq!(common::ends(handle), Err(ChildEnded::Cancelled));
    }

    #[test]
    fn a_pool_that_shuts_down_ends_it() {
        let pool = Pool::default();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            Ok(n.spawn_blocking_on(&pool, || Ok(1)).await)
        }));
        probe.waits();
        pool.shut_down();
        let failure = probe.ends().unwrap_err();
        assert_eq!(
            lone_cancelled(&failure).reason(),
            &CancelReason::ExecutorShutDown
        );
    }

    /// It takes a thread only when there is room for it.
    #[test]
    fn a_limit_holds_work_back() {
        let pool = Pool::default();
        let mut probe = Probe::new(NurseryOptions::new().limit(2).open(
            async |n: Nursery<'_, Word>| {
                for _ in 0..5 {
                    drop(n.spawn_blocking_on(&pool, || Ok(())));
                }
                Ok(())
            },
        ));
        let mut rounds = Vec::new();
        loop {
            if let std::task::Poll::Ready(outcome) = probe.settle() {
                outcome.unwrap();
                break;
            }
            rounds.push(pool.n_waiting());
            pool.run();
        }
        assert_eq!(rounds, [2, 2, 1]);
    }

    #[test]
    fn a_nursery_that_is_dropped_lets_running_work_end_and_calls_no_other() {
        let pool = Pool::default();
        let notes = Notes::new();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let noted = notes.clone();
            drop(n.spawn_blocking_on(&pool, move || {
                noted.add("called");
                Ok(())
            }));
            Ok(())
        }));
        probe.waits();
        probe.cut();
        pool.run();
        assert!(notes.take().is_empty());
    }
}

/// The same program on the executors that the features know.
mod kinds {
    use futures::executor::{LocalPool, ThreadPool};
    use trionics_nursery::FuturesSpawner;

    use super::*;

    /// A value, an exit that a failure causes, the failure: from three children.
    async fn program(spawner: impl Spawner) -> (Vec<Word>, Vec<String>) {
        let notes = Notes::new();
        let failure: Failure<Word> = open_nursery(async |n: Nursery<'_, Word>| {
            let value = n.spawn_on(&spawner, async {
                pause().await;
                Ok(1)
            });
            let (noted, started) = (notes.clone(), Gate::new());
            let opened = started.wait();
            n.start_soon_on(&spawner, async move {
                shield(async {
                    started.open();
                    cancel_requested().await;
                    pause().await;
                    noted.add("exit");
                })
                .await;
                forever().await
            });
            assert_eq!(value.await, Ok(1));
            opened.await;
            n.start_soon_on(&spawner, async {
                pause().await;
                Err("it broke".into())
            });
            forever().await
        })
        .await
        .unwrap_err();
        (errors(&failure), notes.take())
    }

    fn expected() -> (Vec<Word>, Vec<String>) {
        (vec!["it broke"], vec!["exit".to_owned()])
    }

    #[test]
    fn tokio_with_threads() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        assert_eq!(
            runtime.block_on(program(runtime.handle().clone())),
            expected()
        );
    }

    #[test]
    fn tokio_on_the_current_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert_eq!(
            runtime.block_on(program(runtime.handle().clone())),
            expected()
        );
    }

    #[test]
    fn async_executor() {
        let executor = async_executor::Executor::new();
        assert_eq!(smol::block_on(executor.run(program(&executor))), expected());
        let executor = async_executor::LocalExecutor::new();
        assert_eq!(smol::block_on(executor.run(program(&executor))), expected());
        let executor = Arc::new(async_executor::Executor::new());
        assert_eq!(
            smol::block_on(executor.run(program(Arc::clone(&executor)))),
            expected()
        );
    }

    #[test]
    fn smol() {
        assert_eq!(
            smol::block_on(program(spawn_with(|task| smol::spawn(task).detach()))),
            expected()
        );
    }

    #[test]
    fn futures() {
        let pool = ThreadPool::builder().pool_size(2).create().unwrap();
        assert_eq!(
            futures::executor::block_on(program(FuturesSpawner(pool))),
            expected()
        );
        let mut pool = LocalPool::new();
        let spawner = FuturesSpawner(pool.spawner());
        assert_eq!(pool.run_until(program(spawner)), expected());
    }

    /// N-125 for each kind: the child's executor is shut down under it.
    #[test]
    fn each_kind_shut_down_under_its_children() {
        async fn lost(spawner: impl Spawner, shut_down: impl FnOnce()) {
            let failure = open_nursery(async |n: Nursery<'_, Word>| {
                let child = n.spawn_on(&spawner, async { forever().await });
                shut_down();
                // The executor has gone, so whatever is put on it now is refused.
                let refused = n.spawn_on(&spawner, async { forever().await });
                assert_eq!(child.await, Err(ChildEnded::Cancelled));
                drop(refused);
                Ok(())
            })
            .await
            .unwrap_err();
            for leaf in failure.leaves() {
                assert_eq!(
                    leaf.as_cancelled().unwrap().reason(),
                    &CancelReason::ExecutorShutDown
                );
            }
        }

        for mut builder in [
            tokio::runtime::Builder::new_multi_thread(),
            tokio::runtime::Builder::new_current_thread(),
        ] {
            let runtime = builder.build().unwrap();
            let handle = runtime.handle().clone();
            futures::executor::block_on(lost(handle, || runtime.shutdown_background()));
        }

        let pool = LocalPool::new();
        let spawner = FuturesSpawner(pool.spawner());
        futures::executor::block_on(lost(spawner, || drop(pool)));

        // The executor of a nursery's own tree: it goes with the last handle.
        let executor = Arc::new(async_executor::Executor::new());
        let failure = futures::executor::block_on(open_nursery(async |n: Nursery<'_, Word>| {
            let child = n.spawn_on(&executor, async { forever().await });
            drop(executor);
            Ok(child.await)
        }))
        .unwrap_err();
        assert_eq!(
            lone_cancelled(&failure).reason(),
            &CancelReason::ExecutorShutDown
        );
    }

    #[test]
    fn tokios_blocking_pool() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let asked = runtime.block_on(async {
            let handle = runtime.handle();
            open_nursery(async |n: Nursery<'_, Word>| {
                let asked = n.spawn_blocking_on(handle, || {
                    while !is_cancel_requested() {
                        std::thread::yield_now();
                    }
                    Ok("heard of it")
                });
                n.cancel("enough");
                Ok(shield(asked).await)
            })
            .await
        });
        // It may have been cancelled before a thread took it.
        assert!(matches!(
            asked.unwrap(),
            Ok("heard of it") | Err(ChildEnded::Cancelled)
        ));
    }
}

/// A child's future and the executor's task are `Send` where the nursery's parts are.
#[test]
fn what_puts_children_on_executors_can_be_sent() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let spawner = runtime.handle().clone();
    let sum = runtime.block_on(async {
        tokio::spawn(async move {
            let numbers: Vec<u64> = (0..100).collect();
            open_nursery(async |n: Nursery<'_, Word>| {
                let mut handles = Vec::new();
                for number in &numbers {
                    let number = *number;
                    handles.push(n.spawn_on(&spawner, async move {
                        tokio::task::yield_now().await;
                        Ok(number)
                    }));
                }
                let mut sum = 0;
                for handle in handles {
                    sum += handle.await.unwrap();
                }
                Ok(sum)
            })
            .await
        })
        .await
    });
    assert_eq!(
        sum.unwrap_or_else(|error| resume_unwind(error.into_panic()))
            .unwrap(),
        4_950
    );
}

/// What a child is boxed into: see [`spawn_with`].
#[test]
fn a_spawner_is_made_from_a_function() {
    let tasks = Mutex::new(Vec::<Pin<Box<dyn Future<Output = ()> + Send>>>::new());
    let spawner = spawn_with(|task| tasks.lock().unwrap().push(task));
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        Ok(n.spawn_on(&spawner, async { Ok(3) }).await)
    }));
    probe.waits();
    let task = tasks.lock().unwrap().pop().unwrap();
    common::ends(task);
    assert_eq!(probe.ends().unwrap(), Ok(3));
}
