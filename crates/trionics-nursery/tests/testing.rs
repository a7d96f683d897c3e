//! The deterministic executor: its orders, its seeds, what it knows of who is blocked, and its deadlocks.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    env,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, join};
use trionics_nursery::{
    CancelScope, LocalNursery, Nursery, NurseryOptions, Settings, checkpoint, move_on_after,
    open_local_nursery, open_nursery, sleep,
    testing::{self, for_each_seed, run_with_seed, wait_all_blocked},
};

mod common;
use common::{Notes, Word, never, panic_of, pause};

const SECOND: Duration = Duration::from_secs(1);

/// The order in which ten children of a nursery, started one after the other, run for the first time.
async fn children() -> Vec<u32> {
    let order = RefCell::new(Vec::new());
    open_local_nursery(async |n: LocalNursery<'_, Word>| {
        for i in 0..10 {
            let order = &order;
            n.start_soon(async move {
                order.borrow_mut().push(i);
                Ok(())
            });
        }
        Ok(())
    })
    .await
    .unwrap();
    order.into_inner()
}

/// The order in which ten tasks, started one after the other, run for the first time.
async fn tasks() -> Vec<u32> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..10)
        .map(|i| {
            let order = Arc::clone(&order);
            testing::spawn(async move { order.lock().unwrap().push(i) })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    let order = order.lock().unwrap();
    order.clone()
}

/// The order in which ten children that wait for the same gate run on.
async fn woken() -> Vec<u32> {
    let order = RefCell::new(Vec::new());
    let gate = common::Gate::new();
    open_local_nursery(async |n: LocalNursery<'_, Word>| {
        for i in 0..10 {
            let (order, gate) = (&order, gate.clone());
            n.start_soon(async move {
                gate.wait().await;
                order.borrow_mut().push(i);
                Ok(())
            });
        }
        wait_all_blocked().await;
        gate.open();
        Ok(())
    })
    .await
    .unwrap();
    order.into_inner()
}

#[test]
fn without_a_seed_the_first_is_the_first() {
    let sorted: Vec<u32> = (0..10).collect();
    assert_eq!(testing::run(children()), sorted);
    assert_eq!(testing::run(tasks()), sorted);
    assert_eq!(testing::run(woken()), sorted);
}

#[test]
fn a_seed_is_an_order_and_other_seeds_are_other_orders() {
    for orders in [
        |seed| run_with_seed(seed, children()),
        |seed| run_with_seed(seed, tasks()),
        |seed| run_with_seed(seed, woken()),
    ] {
        let first: Vec<Vec<u32>> = (0..50).map(orders).collect();
        let second: Vec<Vec<u32>> = (0..50).map(orders).collect();
        assert_eq!(first, second, "the same seed gives the same order");
        let different: BTreeSet<_> = first.iter().collect();
        assert!(different.len() > 45, "only {} orders", different.len());
        for position in 0..10 {
            let there: BTreeSet<_> = first.iter().map(|order| order[position]).collect();
            assert!(there.len() > 5, "hardly anybody was ever number {position}");
        }
    }
}

#[test]
fn each_seed_is_run_once_and_known_to_the_test() {
    let seeds = RefCell::new(Vec::new());
    for_each_seed(20, || async {
        seeds.borrow_mut().push(testing::seed().unwrap());
        sleep(SECOND).await;
        assert_eq!(
            testing::elapsed(),
            SECOND,
            "each run has a clock of its own"
        );
    });
    assert_eq!(seeds.into_inner(), (0..20).collect::<Vec<_>>());
}

trionics_nursery::seeded_tests! {
    /// A program with channels of tokio and of futures, in 200 orders.
    #[test]
    async fn channels_of_others_work_in_any_order() {
        let (to_worker, mut requests) = tokio::sync::mpsc::channel::<(u32, tokio::sync::oneshot::Sender<u32>)>(2);
        let (to_log, log) = futures::channel::mpsc::channel::<u32>(1);
        let gate = tokio::sync::Semaphore::new(2);
        let total = tokio::sync::Mutex::new(0);
        let n_logged = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async move {
                while let Some((number, answer)) = requests.recv().await {
                    pause().await;
                    let _ = answer.send(number * number);
                }
                Ok(())
            });
            for number in 1..=5 {
                let (to_worker, mut to_log) = (to_worker.clone(), to_log.clone());
                let (gate, total) = (&gate, &total);
                n.start_soon(async move {
                    let _permit = gate.acquire().await.unwrap();
                    let (sender, receiver) = tokio::sync::oneshot::channel();
                    to_worker.send((number, sender)).await.unwrap();
                    let square = receiver.await.unwrap();
                    *total.lock().await += square;
                    futures::SinkExt::send(&mut to_log, square).await.unwrap();
                    Ok(())
                });
            }
            drop((to_worker, to_log));
            Ok(log.count().await)
        })
        .await
        .unwrap();
        assert_eq!(n_logged, 5);
        assert_eq!(*total.lock().await, 55);
    }

    /// The macro passes attributes on.
    #[test]
    #[should_panic(expected = "as it should")]
    async fn attributes_are_kept() {
        sleep(SECOND).await;
        panic!("as it should");
    }
}

/// Two tasks count together without a lock: wrong in some orders only, those in which one is polled between
/// the other's reading and writing.
async fn counts_wrongly() {
    let count = Cell::new(0);
    let add = async || {
        checkpoint().await;
        let seen = count.get();
        if seen == 1 {
            checkpoint().await;
        }
        count.set(seen + 1);
        Ok(())
    };
    open_local_nursery(async |n: LocalNursery<'_, Word>| {
        for _ in 0..3 {
            n.start_soon(add());
            checkpoint().await;
        }
        n.start_soon(async {
            pause().await;
            pause().await;
            count.set(count.get() + 1);
            Ok(())
        });
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(count.get(), 4, "the count is wrong");
}

/// A test that is wrong about an ordering; it only fails where the test below runs it.
#[test]
fn wrong_about_an_ordering() {
    if env::var("TRIONICS_RUN_THE_WRONG_TEST").is_ok() {
        for_each_seed(200, || async {
            let first = Cell::new(None);
            open_local_nursery(async |n: LocalNursery<'_, Word>| {
                for i in 0..100 {
                    let first = &first;
                    n.start_soon(async move {
                        pause().await;
                        if first.get().is_none() {
                            first.set(Some(i));
                        }
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
            .unwrap();
            // Wrong about one order in a hundred.
            assert_ne!(first.get(), Some(42), "42 was first");
        });
    }
}

fn run_the_wrong_test(seed: Option<&str>) -> (bool, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "wrong_about_an_ordering", "--nocapture"])
        .env("TRIONICS_RUN_THE_WRONG_TEST", "1")
        .env_remove("TRIONICS_SEEDS")
        .env_remove("TRIONICS_SEED");
    if let Some(seed) = seed {
        command.env("TRIONICS_SEED", seed);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

#[test]
fn a_wrong_test_fails_within_200_seeds_and_its_seed_fails_again_at_once() {
    let (passed, text) = run_the_wrong_test(None);
    assert!(!passed && text.contains("42 was first"), "{text}");
    let (_, after) = text
        .split_once("TRIONICS_SEED=")
        .expect("it tells the seed");
    let seed = after.split('`').next().unwrap();
    assert!(
        seed.parse::<u64>().unwrap() > 0,
        "the first order is not wrong"
    );
    let (passed, again) = run_the_wrong_test(Some(seed));
    assert!(!passed && again.contains("42 was first"), "{again}");
    // The first order passes: so the seed before ran alone.
    let (passed, text) = run_the_wrong_test(Some("0"));
    assert!(passed, "{text}");
    let (passed, text) = run_the_wrong_test(Some("seventeen"));
    assert!(!passed && text.contains("must hold a number"), "{text}");
}

#[test]
fn a_race_between_children_is_found() {
    testing::run(counts_wrongly());
    let found = panic_of(|| for_each_seed(200, counts_wrongly));
    assert!(found.contains("the count is wrong"), "{found}");
}

#[test]
fn wait_all_blocked_lets_everybody_else_go_as_far_as_they_can_and_time_stand_still() {
    testing::run(async {
        let notes = Notes::new();
        let task_notes = notes.clone();
        let task = testing::spawn(async move {
            for _ in 0..20 {
                pause().await;
            }
            task_notes.add("the task waits");
            sleep(SECOND).await;
            task_notes.add("the task ends");
        });
        let outcome = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                for _ in 0..50 {
                    checkpoint().await;
                }
                notes.add("the child waits");
                sleep(2 * SECOND).await;
                notes.add("the child ends");
                Ok(())
            });
            wait_all_blocked().await;
            notes.add(format!("all are blocked at {:?}", testing::elapsed()));
            wait_all_blocked().await;
            notes.add(format!("still, at {:?}", testing::elapsed()));
            Ok(())
        });
        outcome.await.unwrap();
        task.await;
        assert_eq!(
            notes.take(),
            [
                "the task waits",
                "the child waits",
                "all are blocked at 0ns",
                "still, at 0ns",
                "the task ends",
                "the child ends"
            ]
        );
    });
}

#[test]
fn several_wait_for_all_to_be_blocked_in_any_order() {
    for_each_seed(100, || async {
        let n_through = Cell::new(0);
        let busy = Cell::new(true);
        open_local_nursery(async |n: LocalNursery<'_, Word>| {
            for _ in 0..5 {
                n.start_soon(async {
                    wait_all_blocked().await;
                    assert!(!busy.get());
                    n_through.set(n_through.get() + 1);
                    Ok(())
                });
            }
            n.start_soon(async {
                for _ in 0..10 {
                    pause().await;
                }
                busy.set(false);
                never().await;
                Ok(())
            });
            // One that gives up does not hold up the others.
            assert!(wait_all_blocked().now_or_never().is_none());
            wait_all_blocked().await;
            wait_all_blocked().await;
            assert_eq!(n_through.get(), 5);
            n.cancel("done");
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_wait_for_all_to_be_blocked_can_be_stopped() {
    testing::run(async {
        let scope = CancelScope::new();
        scope.cancel("stop");
        assert!(scope.run(wait_all_blocked()).await.is_err());
        let (moved_on, ()) = join!(move_on_after(SECOND, wait_all_blocked()), sleep(2 * SECOND));
        assert_eq!(moved_on, Some(()), "it does not wait for a time");
    });
    let panic = panic_of(|| common::ends(wait_all_blocked()));
    assert!(panic.contains("outside `testing::run`"), "{panic}");
}

#[test]
fn a_deadlock_shows_who_waits_and_where() {
    let panic = panic_of(|| {
        testing::run(async {
            testing::spawn(async { CancelScope::named("hidden").run(never()).await });
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            let server = NurseryOptions::new().name("server");
            server
                .open(async |n: Nursery<'_, Word>| {
                    n.named("reader").start_soon(async {
                        let _ = receiver.await;
                        Ok(())
                    });
                    let scope = CancelScope::named("section");
                    let _ = scope.run(never()).await;
                    drop(sender);
                    Ok(())
                })
                .await
        })
    });
    for word in [
        "deadlock",
        "1 tasks",
        "`hidden`",
        "`server`",
        "child `reader`",
        "`section`",
    ] {
        assert!(panic.contains(word), "{word} is not in: {panic}");
    }
    let reader = panic
        .lines()
        .find(|line| line.contains("`reader`"))
        .unwrap();
    assert!(
        reader.contains(file!()) && reader.contains("running"),
        "{reader}"
    );
}

#[test]
fn a_deadlock_is_found_in_whatever_order() {
    let panic = panic_of(|| {
        for_each_seed(200, || async {
            let (left, right) = (tokio::sync::Mutex::new(()), tokio::sync::Mutex::new(()));
            open_nursery(async |n: Nursery<'_, Word>| {
                n.named("left first").start_soon(async {
                    let _left = left.lock().await;
                    pause().await;
                    let _right = right.lock().await;
                    Ok(())
                });
                n.named("right first").start_soon(async {
                    pause().await;
                    let _right = right.lock().await;
                    let _left = left.lock().await;
                    Ok(())
                });
                Ok(())
            })
            .await
            .unwrap();
        });
    });
    assert!(
        panic.contains("`left first`") && panic.contains("`right first`"),
        "{panic}"
    );
}

/// The lazy places of children are as good as those made for the task tree.
#[test]
fn a_run_can_do_without_the_task_tree() {
    for_each_seed(50, || {
        Settings::new().track_tasks(false).run(async {
            let scope = CancelScope::new();
            scope.set_timeout(SECOND);
            let outcome = scope.run(open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    never().await;
                    Ok(())
                });
                wait_all_blocked().await;
                assert_eq!(n.cancel_scope().task_tree().len(), 1, "no frame inside");
                never().await;
                Ok(())
            }));
            assert!(outcome.await.is_err());
        })
    });
}
