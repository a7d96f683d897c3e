//! One little program on each executor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc, channel::oneshot};
use trionics_nursery::{
    CancelScope, ChildEnded, Failure, Nursery, TokioClock, cancel_requested, checkpoint,
    in_current_scope, move_on_after, now, open_nursery, shield, sleep, testing, with_clock,
};

/// What the program comes to, everywhere.
#[derive(Debug, PartialEq)]
struct Outcome {
    sum: u32,
    reason: String,
    n_exits: usize,
    errors: Vec<&'static str>,
}

fn expected() -> Outcome {
    Outcome {
        sum: 4_950,
        reason: "from another thread".to_owned(),
        n_exits: 4,
        errors: vec!["failed", "failed while it unwound"],
    }
}

/// Children that yield and talk, a cancellation from another thread, exits that wait for a peer, and failures.
async fn program() -> Outcome {
    let (sender, receiver) = mpsc::unbounded();
    let sum = open_nursery(async |n: Nursery<'_, &'static str>| {
        for i in 0..100 {
            let sender = sender.clone();
            n.start_soon(async move {
                checkpoint().await;
                sender.unbounded_send(i).unwrap();
                Ok(())
            });
        }
        drop(sender);
        let sum = n.spawn(receiver.fold(0, async |sum, i| sum + i).map_ok());
        Ok(sum.await.unwrap())
    })
    .await
    .unwrap();

    let scope = CancelScope::new();
    let n_exits = AtomicUsize::new(0);
    let canceller = scope.clone();
    let cancelled = scope
        .run(async {
            open_nursery(async |n: Nursery<'_, &'static str>| {
                for _ in 0..4 {
                    n.start_soon(async {
                        shield(async {
                            cancel_requested().await;
                            // The peer answers from a thread of its own.
                            let (answer, answered) = oneshot::channel();
                            thread::spawn(move || answer.send(()).unwrap());
                            answered.await.unwrap();
                            n_exits.fetch_add(1, Ordering::SeqCst);
                        })
                        .await;
                        checkpoint().await;
                        unreachable!("it is stopped before");
                    });
                }
                let canceller = canceller.clone();
                checkpoint().await;
                thread::spawn(move || canceller.cancel("from another thread"));
                std::future::pending::<()>().await;
                Ok(())
            })
            .await
        })
        .await
        .unwrap_err();

    let failure = open_nursery(async |n: Nursery<'_, &'static str>| {
        n.start_soon(async {
            checkpoint().await;
            Err("failed".into())
        });
        n.start_soon(async {
            shield(cancel_requested()).await;
            Err("failed while it unwound".into())
        });
        let stopped = n.spawn(async {
            std::future::pending::<()>().await;
            Ok(())
        });
        assert_eq!(shield(stopped).await, Err(ChildEnded::Cancelled));
        Ok(())
    })
    .await
    .unwrap_err();

    Outcome {
        sum,
        reason: cancelled.reason().to_string(),
        n_exits: n_exits.into_inner(),
        errors: failure.errors().copied().collect(),
    }
}

trait MapOk: Future + Sized {
    /// A future that cannot fail, as a child.
    fn map_ok(self) -> impl Future<Output = Result<Self::Output, Failure<&'static str>>>;
}

impl<F: Future> MapOk for F {
    async fn map_ok(self) -> Result<F::Output, Failure<&'static str>> {
        Ok(self.await)
    }
}

#[test]
fn futures_block_on() {
    assert_eq!(futures::executor::block_on(program()), expected());
}

#[test]
fn futures_pools() {
    let mut pool = futures::executor::LocalPool::new();
    assert_eq!(pool.run_until(program()), expected());
}

#[test]
fn tokio_current_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert_eq!(runtime.block_on(program()), expected());
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&runtime, async {
        tokio::task::spawn_local(program()).await.unwrap()
    });
    assert_eq!(outcome, expected());
}

#[test]
fn tokio_multi_thread_inside_spawn() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..20).map(|_| tokio::spawn(program())).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), expected());
        }
    });
}

#[test]
fn smol_block_on() {
    assert_eq!(smol::block_on(program()), expected());
}

#[test]
fn smol_executor() {
    let executor = smol::Executor::new();
    smol::block_on(executor.run(async {
        assert_eq!(executor.spawn(program()).await, expected());
    }));
    let executor = Arc::new(smol::Executor::new());
    let (stop, stopped) = smol::channel::unbounded::<()>();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
            thread::spawn(move || smol::block_on(executor.run(stopped.recv())))
        })
        .collect();
    let tasks: Vec<_> = (0..20).map(|_| executor.spawn(program())).collect();
    smol::block_on(async {
        for task in tasks {
            assert_eq!(task.await, expected());
        }
    });
    drop(stop);
    for thread in threads {
        assert!(thread.join().unwrap().is_err());
    }
}

#[test]
fn smol_local_executor() {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        assert_eq!(executor.spawn(program()).await, expected());
    }));
}

#[test]
fn carried_into_tokio_tasks() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let scope = CancelScope::new();
        let exits = Arc::new(AtomicUsize::new(0));
        let (started, has_started) = mpsc::unbounded();
        let handle = scope.clone();
        let mut tasks = Vec::new();
        let outcome = scope
            .run(async {
                for _ in 0..8 {
                    let (exits, started) = (Arc::clone(&exits), started.clone());
                    tasks.push(tokio::spawn(in_current_scope(async move {
                        shield(async {
                            started.unbounded_send(()).unwrap();
                            cancel_requested().await;
                            tokio::task::yield_now().await;
                            exits.fetch_add(1, Ordering::SeqCst);
                        })
                        .await;
                        checkpoint().await;
                        unreachable!("it is stopped before");
                    })));
                }
                has_started.take(8).collect::<Vec<_>>().await;
                handle.cancel("come home");
                std::future::pending::<()>().await;
            })
            .await;
        assert!(outcome.is_err());
        for task in tasks {
            let outcome: Result<(), _> = task.await.unwrap();
            assert_eq!(outcome.unwrap_err().reason().to_string(), "come home");
        }
        assert_eq!(exits.load(Ordering::SeqCst), 8);
    });
}

#[test]
fn the_tokio_clock_follows_a_paused_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(with_clock(TokioClock, async {
        let start = now();
        sleep(Duration::from_secs(3_600)).await;
        assert!(now() - start >= Duration::from_secs(3_600));
        // A deadline on that clock, which wakes by itself.
        let (hour, never) = (Duration::from_secs(3_600), std::future::pending::<()>());
        let before = now();
        assert_eq!(move_on_after(hour, never).await, None);
        assert!(now() - before >= hour && now() - before < 2 * hour);
        // A forgotten frame costs a patience on that clock.
        let scope = CancelScope::new();
        scope.cancel("stop");
        let outcome = scope
            .run(async {
                let mut forgotten = Box::pin(shield(std::future::pending::<()>()));
                assert!(futures::poll!(&mut forgotten).is_pending());
                std::future::pending::<()>().await;
                drop(forgotten);
            })
            .await;
        assert!(outcome.is_err());
        let elapsed = now() - start;
        assert!(elapsed < Duration::from_secs(7_201), "{elapsed:?}");
    }));
}

#[test]
fn the_deterministic_executor() {
    // Its threads are real, so that only what waits for none of them is deterministic.
    let total = testing::run(async {
        let total = open_nursery(async |n: Nursery<'_, &'static str>| {
            let children: Vec<_> = (1..=10)
                .map(|i| {
                    n.spawn(async move {
                        sleep(Duration::from_secs(i)).await;
                        Ok(i)
                    })
                })
                .collect();
            let mut total = 0;
            for child in children {
                total += child.await.unwrap();
            }
            Ok(total)
        });
        total.await.unwrap()
    });
    assert_eq!(total, 55);
}

/// What a task may do in one poll is shared by all children: each of them is the first in its turn.
#[test]
fn no_child_uses_up_the_budget_of_its_siblings_for_ever() {
    // Where it blocks on the whole, tokio wakes at once who has no budget left.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let greedy = async {
            loop {
                sender.send(()).unwrap();
                receiver.recv().await.unwrap();
            }
        };
        let modest = async || {
            for _ in 0..10 {
                tokio::task::coop::consume_budget().await;
            }
            Ok(())
        };
        let failure = open_nursery(async |n: Nursery<'_>| {
            n.start_soon(greedy);
            let modest: Vec<_> = (0..3).map(|_| n.spawn(modest())).collect();
            for child in modest {
                child.await?;
            }
            n.cancel("all are done");
            checkpoint().await;
            Ok(())
        })
        .await
        .unwrap_err();
        assert!(failure.leaves().all(|leaf| leaf.is_cancelled()));
    });
}
