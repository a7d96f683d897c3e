//! The live task tree: who is in it, in which state, since when, and how it is drawn.

use std::{
    panic::Location,
    sync::{Arc, Mutex},
    time::Duration,
};

use trionics_nursery::{
    CancelReason, CancelScope, FrameKind, Nursery, NurseryOptions, PrintTree, Settings, TaskInfo,
    TaskState, TaskTree, branch, cancel_requested, checkpoint, in_current_scope,
    internal::{Block, Guest},
    move_on_after, open_nursery, shield, sleep, task_tree,
    testing::{self, VirtualClock, wait_all_blocked},
    track_all_tasks, with_clock,
};

mod common;
use common::{Drawer, Gate, Invited, Notes, Probe, Word, ends, never, panic_of, pause, poll_once};

const SECOND: Duration = Duration::from_secs(1);

fn names(tree: &TaskTree) -> Vec<String> {
    tree.iter()
        .filter_map(|task| {
            task.name()
                .map(|name| format!("{}{name}", "-".repeat(task.depth())))
        })
        .collect()
}

#[track_caller]
fn find<'a>(tree: &'a TaskTree, name: &str) -> &'a TaskInfo {
    tree.find(name)
        .unwrap_or_else(|| panic!("`{name}` is not in the tree:\n{tree}"))
}

#[test]
fn the_tree_shows_nurseries_children_and_what_is_inside_them() {
    testing::run(async {
        let line = line!() + 1;
        NurseryOptions::new()
            .name("server")
            .open(async |n: Nursery<'_, Word>| {
                for name in ["reader", "writer"] {
                    n.named(name).start_soon(async {
                        sleep(5 * SECOND).await;
                        Ok(())
                    });
                }
                n.named("busy").start_soon(async {
                    let _ = CancelScope::named("section").run(sleep(5 * SECOND)).await;
                    Ok(())
                });
                sleep(2 * SECOND).await;
                let tree = n.cancel_scope().task_tree();
                assert_eq!(
                    names(&tree),
                    [
                        "server",
                        "-server",
                        "-reader",
                        "-writer",
                        "-busy",
                        "--section"
                    ]
                );
                assert_eq!(tree.len(), 6);
                let kinds: Vec<_> = tree.iter().map(TaskInfo::kind).collect();
                use FrameKind::{Body, Child, Nursery, Scope};
                assert_eq!(kinds, [Nursery, Body, Child, Child, Child, Scope]);
                for task in &tree {
                    assert_eq!(task.state(), TaskState::Running);
                    assert_eq!(task.age(), Some(2 * SECOND));
                    assert_eq!(task.location().file(), file!());
                    assert!(task.cancelled().is_none() && task.time_left().is_none());
                }
                assert!((line..line + 3).contains(&find(&tree, "server").location().line()));
                Ok(())
            })
            .await
            .unwrap();
    });
}

/// What is cancelled says why and since when; what keeps it out, what runs an exit and what has parked say so.
#[test]
fn the_states_of_a_cancelled_tree() {
    let clock = VirtualClock::new();
    let scope = CancelScope::named("program");
    let run = scope.clone();
    let program = async move {
        run.run(open_nursery(async |n: Nursery<'_, Word>| {
            n.named("shielded").start_soon(async {
                shield(CancelScope::named("in the shield").run(sleep(100 * SECOND)))
                    .await
                    .unwrap();
                Ok(())
            });
            n.named("listening").start_soon(async {
                shield(async {
                    cancel_requested().await;
                    sleep(100 * SECOND).await;
                })
                .await;
                Ok(())
            });
            // A foreign join, whose first branch has parked while the second is still unwinding.
            futures::join!(
                async {
                    CancelScope::named("parks").run(never()).await.ok();
                },
                branch(shield(sleep(100 * SECOND)))
            );
            Ok(())
        }))
        .await
        .ok();
    };
    let mut probe = Probe::new(
        Settings::new()
            .clock(clock.clone())
            .track_tasks(true)
            .run(program),
    );
    probe.waits();
    clock.advance(SECOND);
    scope.cancel("ctrl-c");
    probe.waits();
    clock.advance(2 * SECOND);
    let tree = scope.task_tree();
    let program = find(&tree, "program");
    assert_eq!(program.state(), TaskState::Cancelling);
    assert!(program.waits_inside());
    assert_eq!(program.cancelled().unwrap().reason().to_string(), "ctrl-c");
    assert_eq!(program.cancelled_for(), Some(2 * SECOND));
    assert_eq!(program.age(), Some(3 * SECOND));
    let nursery = tree
        .iter()
        .find(|task| task.kind() == FrameKind::Nursery)
        .unwrap();
    assert_eq!(nursery.state(), TaskState::Cancelling);
    assert_eq!(nursery.cancelled_for(), Some(2 * SECOND));
    assert_eq!(find(&tree, "shielded").state(), TaskState::Cancelling);
    assert_eq!(find(&tree, "in the shield").state(), TaskState::Shielded);
    assert!(find(&tree, "in the shield").cancelled_for().is_none());
    assert_eq!(find(&tree, "parks").state(), TaskState::Parked);
    assert!(
        tree.iter()
            .all(|task| task.kind() != FrameKind::CancelRequested)
    );
    clock.advance(100 * SECOND);
    probe.ends();
    assert_eq!(
        find(&scope.task_tree(), "program").state(),
        TaskState::Ended
    );
    assert_eq!(scope.task_tree().len(), 1);
}

/// An exit of an async context, as the crate for contexts makes one.
#[test]
fn an_exit_is_shown_as_one() {
    testing::run(async {
        let location = Location::caller();
        let block = Block::new(location, 1);
        let context = {
            let block = block.clone();
            async move {
                Guest::new(Invited::here(&block)).await;
                CancelScope::named("in the exit")
                    .run(sleep(5 * SECOND))
                    .await
                    .unwrap();
            }
        };
        let scope = CancelScope::named("around");
        let outcome = scope.run(async {
            futures::join!(
                branch(context),
                branch(block.run(async || {
                    never().await;
                    Ok::<(), ()>(())
                }))
            )
        });
        let look = async {
            wait_all_blocked().await;
            scope.cancel("stop");
            wait_all_blocked().await;
            let tree = scope.task_tree();
            let states: Vec<_> = tree
                .iter()
                .map(|task| (task.depth(), task.state()))
                .collect();
            assert_eq!(find(&tree, "around").state(), TaskState::Cancelling);
            assert_eq!(find(&tree, "in the exit").state(), TaskState::Shielded);
            assert!(states.contains(&(1, TaskState::Exiting)), "{tree}");
        };
        let (outcome, ()) = futures::join!(outcome, look);
        assert!(outcome.is_err());
    });
}

#[test]
fn a_frame_that_was_given_up_on_is_shown_until_it_is_dropped() {
    let (clock, drawer) = (VirtualClock::new(), Drawer::new());
    let scope = CancelScope::named("program");
    let (run, give) = (scope.clone(), drawer.clone());
    let settings = Settings::new().track_tasks(true).on_report(|_| ());
    let mut probe = Probe::new(settings.clock(clock.clone()).run(async move {
        let _ = run
            .run(async {
                let mut forgotten = Box::pin(in_current_scope(
                    CancelScope::named("inside the forgotten").run(shield(never())),
                ));
                assert!(poll_once(&mut forgotten).await.is_none());
                give.put(forgotten);
                never().await;
            })
            .await;
        never().await;
    }));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    while clock.advance_to_next() {
        probe.waits();
    }
    let forgotten = drawer.take();
    let tree = task_tree();
    let carried = tree
        .iter()
        .find(|task| task.kind() == FrameKind::Carried)
        .unwrap();
    assert_eq!(carried.state(), TaskState::Abandoned);
    drop(forgotten);
    let tree = task_tree();
    assert!(tree.find("inside the forgotten").is_none(), "{tree}");
}

#[test]
fn a_scope_that_is_not_entered_yet_and_one_without_tracking() {
    let scope = CancelScope::named("later");
    let tree = scope.task_tree();
    assert_eq!(find(&tree, "later").state(), TaskState::NotStarted);
    scope.set_timeout(SECOND);
    let inside = scope.clone();
    ends(with_clock(VirtualClock::new(), async move {
        let run = inside.run(open_nursery(async |n: Nursery<'_, Word>| {
            n.named("no frame inside").start_soon(async {
                pause().await;
                Ok(())
            });
            n.named("a frame inside").start_soon(async {
                CancelScope::named("frame").run(pause()).await.unwrap();
                Ok(())
            });
            checkpoint().await;
            let tree = inside.task_tree();
            assert_eq!(names(&tree), ["later", "--a frame inside", "---frame"]);
            assert_eq!(find(&tree, "later").time_left(), Some(SECOND));
            assert!(tree.iter().all(|task| task.age().is_none()));
            Ok(())
        }));
        run.await.unwrap().unwrap();
    }));
}

/// Roots are found from anywhere while they run, and only if they are tracked.
#[test]
fn all_tracked_roots_are_found() {
    let tracked = |name: &str, track: bool| {
        let scope = CancelScope::named(name);
        Settings::new()
            .track_tasks(track)
            .run(async move { scope.run(never()).await })
    };
    let there = |name: &str| task_tree().find(name).is_some();
    let mut first = Probe::new(tracked("root 1", true));
    let mut second = Probe::new(tracked("root 2", true));
    let mut hidden = Probe::new(tracked("root 3", false));
    assert!(!there("root 1"), "it has not begun");
    for probe in [&mut first, &mut second, &mut hidden] {
        probe.waits();
    }
    assert!(there("root 1") && there("root 2") && !there("root 3"));
    std::thread::spawn(|| assert!(task_tree().find("root 2").is_some()))
        .join()
        .unwrap();
    first.cut();
    assert!(!there("root 1") && there("root 2"));
    second.cut();
    assert!(!there("root 2"));
    // One inside the other is shown once, in its place.
    let mut nested = Probe::new(Settings::new().track_tasks(true).run(async {
        CancelScope::named("root 4")
            .run(tracked("nested", true))
            .await
    }));
    nested.waits();
    let tree = task_tree();
    assert_eq!(
        tree.iter()
            .filter(|task| task.name() == Some("nested"))
            .count(),
        1
    );
    assert_eq!(
        find(&tree, "nested").depth(),
        find(&tree, "root 4").depth() + 2
    );
    // A root that is taken into another one moves there.
    let borrowed = CancelScope::named("borrowed");
    let mut work = Box::pin(Settings::new().track_tasks(true).run(borrowed.run(never())));
    assert!(Probe::new(&mut work).poll().is_pending());
    let host = CancelScope::named("host");
    let mut probe = Probe::new(Settings::new().track_tasks(true).run(host.run(work)));
    probe.waits();
    let tree = task_tree();
    assert_eq!(
        find(&tree, "borrowed").depth(),
        find(&tree, "host").depth() + 2
    );
    drop(probe);
    // A part of a tracked program that is not.
    let mut partly = Probe::new(Settings::new().track_tasks(true).run(async {
        let hidden = Settings::new().track_tasks(false);
        hidden
            .run(open_nursery(async |n: Nursery<'_, Word>| {
                n.named("hidden child").start_soon(async {
                    never().await;
                    Ok(())
                });
                never().await;
                Ok(())
            }))
            .await
    }));
    partly.waits();
    assert!(!there("hidden child"));
}

#[test]
fn the_process_can_track_every_root() {
    let scope = CancelScope::named("bare root");
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.named("bare child").start_soon(async {
            never().await;
            Ok(())
        });
        never().await;
        Ok(())
    })));
    track_all_tasks(true);
    probe.waits();
    track_all_tasks(false);
    let tree = task_tree();
    assert_eq!(
        find(&tree, "bare child").depth(),
        find(&tree, "bare root").depth() + 2
    );
    assert!(
        find(&tree, "bare child").age().is_some(),
        "the system's clock will do"
    );
    drop(probe);
    assert!(task_tree().find("bare root").is_none());
}

#[test]
fn the_drawing() {
    let (drawer, line) = (Drawer::new(), Drawer::new());
    testing::run(async {
        let scope = CancelScope::named("program");
        scope.set_timeout(60 * SECOND);
        let outcome = scope
            .run(open_nursery(async |n: Nursery<'_, Word>| {
                n.named("first").start_soon(async {
                    let _ = CancelScope::named("inside").run(sleep(9 * SECOND)).await;
                    Ok(())
                });
                n.named("second").start_soon(async {
                    shield(sleep(9 * SECOND)).await;
                    Ok(())
                });
                sleep(SECOND).await;
                line.put(line!() + 1);
                scope.cancel("enough");
                drawer.put(scope.task_tree().to_string());
                Ok(())
            }))
            .await;
        outcome.unwrap_err();
    });
    let (shown, line): (String, u32) = (drawer.take(), line.take());
    let shown: Vec<_> = shown
        .lines()
        .map(|line| line.split(", at ").next().unwrap())
        .map(|line| line.replace(file!(), "tree.rs"))
        .collect();
    assert_eq!(
        shown,
        [
            &format!(
                "cancel scope `program`: cancelling for 0ns (enough, from tree.rs:{line}:23), 59s to its deadline, 1s old"
            ),
            "└─ nursery: cancelling for 0ns (enough), 1s old",
            "   ├─ nursery body: cancelling for 0ns (enough), 1s old",
            "   ├─ child `first`: cancelling for 0ns (enough), 1s old",
            "   │  └─ cancel scope `inside`: cancelling for 0ns (enough), 1s old",
            "   └─ child `second`: cancelling for 0ns (enough), 1s old",
            "      └─ shield: shielded, 1s old",
        ]
    );
    assert_eq!(
        TaskTree::default().to_string(),
        "nothing that is tracked runs"
    );
}

/// Neither the snapshot nor its drawing recurses on the depth.
#[test]
fn a_very_deep_tree_is_drawn() {
    fn nest(depth: u32) -> std::pin::Pin<Box<dyn Future<Output = TaskTree> + Send>> {
        Box::pin(async move {
            let scope = CancelScope::new();
            let inside = async {
                if depth == 0 {
                    return task_tree();
                }
                nest(depth - 1).await
            };
            scope.run(inside).await.unwrap()
        })
    }
    // The nested polls themselves need their stack.
    let tree = std::thread::Builder::new()
        .stack_size(512 << 20)
        .spawn(|| ends(Settings::new().track_tasks(true).run(nest(10_000))))
        .unwrap()
        .join()
        .unwrap();
    assert!(tree.len() > 10_000);
    // In a small stack.
    let shown = std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || tree.to_string())
        .unwrap()
        .join()
        .unwrap();
    assert!(shown.contains("(10001) cancel scope"));
}

/// Snapshots are taken from another thread while frames come and go and are cancelled.
#[test]
fn snapshots_are_taken_while_the_program_runs() {
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut most = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let tree = task_tree();
                most = most.max(tree.len());
                let _ = tree.to_string();
            }
            most
        }
    });
    for round in 0..200 {
        ends(Settings::new().track_tasks(true).run(async {
            let scope = CancelScope::new();
            let cancel = scope.clone();
            let _ = scope
                .run(open_nursery(async |n: Nursery<'_, Word>| {
                    for i in 0..20 {
                        let cancel = cancel.clone();
                        n.start_soon(async move {
                            for _ in 0..i {
                                CancelScope::new().run(shield(checkpoint())).await.unwrap();
                            }
                            if i == round % 30 {
                                cancel.cancel("enough");
                            }
                            Ok(())
                        });
                    }
                    Ok(())
                }))
                .await;
        }));
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(watcher.join().unwrap() > 0);
}

/// What was printed.
fn printer(printed: &Arc<Mutex<Vec<TaskTree>>>) -> PrintTree {
    let printed = Arc::clone(printed);
    PrintTree::new().to(move |tree| printed.lock().unwrap().push(tree.clone()))
}

#[test]
fn a_program_prints_its_tree_on_each_signal() {
    let printed = Arc::default();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<()>();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let signal = move || {
        let receiver = Arc::clone(&receiver);
        async move {
            if receiver.lock().await.recv().await.is_none() {
                never().await;
            }
        }
    };
    let mut probe = Probe::new(
        printer(&printed)
            .on(signal)
            .run(async { CancelScope::named("program").run(never()).await }),
    );
    probe.waits();
    assert_eq!(printed.lock().unwrap().len(), 0);
    for n_printed in 1..=3 {
        sender.send(()).unwrap();
        assert!(probe.is_woken());
        probe.waits();
        assert_eq!(printed.lock().unwrap().len(), n_printed);
    }
    sender.send(()).unwrap();
    sender.send(()).unwrap();
    probe.waits();
    let printed = printed.lock().unwrap();
    assert_eq!(printed.len(), 5);
    assert_eq!(find(&printed[0], "program").depth(), 1);
}

#[test]
fn a_program_prints_its_tree_when_its_shutdown_is_slow_and_only_then() {
    for (exit, expected) in [(4, vec![]), (5, vec![]), (12, vec![5, 10])] {
        let printed = Arc::default();
        let notes = Notes::new();
        let note = notes.clone();
        let keep = printer(&printed);
        let shutdown = CancelScope::named("program");
        let program = shutdown.clone();
        testing::run(async {
            let cancel = async {
                sleep(100 * SECOND).await;
                shutdown.cancel("ctrl-c");
            };
            let program = keep.when_slow(&shutdown, 5 * SECOND).run(async move {
                let outcome = program.run(shield(sleep((100 + exit) * SECOND))).await;
                // What the program does after the scope has ended is not its shutdown.
                sleep(50 * SECOND).await;
                outcome
            });
            let watch = async {
                let mut seen = 0;
                while move_on_after(SECOND, never()).await.is_none()
                    && testing::elapsed() < 160 * SECOND
                {
                    let n_printed: &Mutex<Vec<TaskTree>> = &printed;
                    let n_printed = n_printed.lock().unwrap().len();
                    if n_printed > seen {
                        seen = n_printed;
                        note.add((testing::elapsed() - 100 * SECOND).as_secs().to_string());
                    }
                }
            };
            let ((), outcome, ()) = futures::join!(cancel, program, watch);
            outcome.unwrap();
        });
        let seen: Vec<u64> = notes
            .take()
            .iter()
            .map(|note| note.parse().unwrap())
            .collect();
        assert_eq!(seen.len(), expected.len(), "{seen:?}");
        for (seen, expected) in seen.iter().zip(&expected) {
            assert!((*expected..=expected + 1).contains(seen), "{seen}");
        }
        let printed: Vec<TaskTree> = printed.lock().unwrap().clone();
        for tree in printed {
            assert_eq!(tree.find("program").unwrap().state(), TaskState::Cancelling);
        }
    }
}

#[test]
fn a_slow_shutdown_needs_a_clock_and_a_limit() {
    let scope = CancelScope::new();
    let panic = panic_of(|| PrintTree::new().when_slow(&scope, Duration::ZERO));
    assert!(panic.contains("limit above zero"), "{panic}");
    scope.cancel("stop");
    let panic = panic_of(|| {
        let run = scope.run(shield(pause()));
        ends(PrintTree::new().when_slow(&scope, SECOND).run(run))
    });
    assert!(panic.contains("with_clock"), "{panic}");
}

/// The reason is that of the scope that was cancelled, wherever one looks.
#[test]
fn the_reason_comes_down_with_the_cancellation() {
    testing::run(async {
        let gate = Gate::new();
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            n.named("fails").start_soon(
                async {
                    gate.wait().await;
                    Err("failed")
                }
                .map_err(),
            );
            n.named("stays").start_soon(async {
                shield(sleep(SECOND)).await;
                Ok(())
            });
            wait_all_blocked().await;
            gate.open();
            shield(wait_all_blocked()).await;
            let tree = n.cancel_scope().task_tree();
            let expected = CancelReason::ChildFailed {
                child: Some("fails".into()),
            };
            assert_eq!(
                *find(&tree, "stays").cancelled().unwrap().reason(),
                expected
            );
            Ok(())
        });
        outcome.await.unwrap_err();
    });
}

trait MapErr: Future<Output = Result<(), Word>> + Sized {
    async fn map_err(self) -> Result<(), trionics_nursery::Failure<Word>> {
        Ok(self.await?)
    }
}

impl<F: Future<Output = Result<(), Word>>> MapErr for F {}

/// A child on an executor, which another thread polls, is in the tree like any other.
#[test]
fn a_child_on_an_executor_is_shown() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    let gate = Gate::new();
    let settings = Settings::new().track_tasks(true);
    runtime.block_on(settings.run(async {
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            let (started, has_started) = futures::channel::oneshot::channel();
            let inside = gate.clone();
            let child = n.named("far away").spawn_on(&handle, async move {
                let scope = CancelScope::named("inside far away");
                let run = scope.run(async {
                    started.send(()).unwrap();
                    inside.wait().await;
                });
                run.await.unwrap();
                Ok(())
            });
            has_started.await.unwrap();
            let tree = task_tree();
            let child_depth = find(&tree, "far away").depth();
            assert_eq!(find(&tree, "inside far away").depth(), child_depth + 1);
            assert_eq!(find(&tree, "far away").kind(), FrameKind::Child);
            gate.open();
            child.await.unwrap();
            Ok(())
        });
        outcome.await.unwrap();
        // A value arrives before its child has left the executor; the nursery waits for that.
        assert!(task_tree().find("far away").is_none());
    }));
}
