//! Children on executors that behave oddly: that run a task where it is spawned, drop it, panic, or keep it for ever.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    thread,
};

use futures::FutureExt as _;
use trionics_nursery::{
    BoxTask, CancelReason, CancelScope, ChildEnded, Nursery, NurseryOptions, checkpoint,
    is_cancel_requested, open_nursery, shield, spawn_with,
};

use crate::common::{
    Drawer, Notes, OnDrop, Probe, Word, ends, errors, lone_cancelled, never, panic_of, pause,
};

/// Runs the task to its end where it is spawned, as a task that blocks would.
fn run_inline(mut task: BoxTask) {
    let mut cx = Context::from_waker(Waker::noop());
    while task.poll_unpin(&mut cx).is_pending() {}
}

/// An executor that runs a task inside `spawn`: the value is there at once, and the code that spawned is where it was.
#[test]
fn an_inline_executor_gives_the_value_at_once() {
    let (scope, spawner) = (CancelScope::new(), spawn_with(run_inline));
    let outcome = ends(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        let handle = n.spawn_on(&spawner, async {
            checkpoint().await;
            Ok((7, is_cancel_requested()))
        });
        assert!(handle.is_finished());
        scope.cancel("stop");
        assert!(is_cancel_requested(), "the code is in its frame again");
        Ok(handle.now_or_never().unwrap().unwrap())
    })));
    assert_eq!(outcome.unwrap().unwrap(), (7, false));
}

/// An inline executor whose task fails, or panics: it is the nursery's, after `spawn_on` has returned.
#[test]
fn failures_and_panics_on_an_inline_executor_are_the_nurserys() {
    let (notes, spawner) = (Notes::new(), spawn_with(run_inline));
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&spawner, async { Err("inline".into()) });
        notes.add("returned");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["inline"]);
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon_on(&spawner, async { panic!("inline") });
        notes.add("returned");
        never().await;
        Ok(())
    }));
    assert_eq!(task.panics(), "inline");
    assert_eq!(notes.take(), ["returned", "returned"]);
}

/// An inline executor in a cancelled nursery: the child runs to its first pending await and is stopped there, inside `spawn_on`.
#[test]
fn an_inline_executor_in_a_cancelled_nursery() {
    let (notes, spawner) = (Notes::new(), spawn_with(run_inline));
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel("stop");
        let (for_child, guard) = (notes.clone(), notes.on_drop("stopped"));
        let handle = n.spawn_on(&spawner, async move {
            let _guard = guard;
            for_child.add("began");
            shield(pause()).await;
            for_child.add("shielded");
            never().await;
            Ok(())
        });
        assert!(handle.is_finished());
        assert_eq!(handle.now_or_never(), Some(Err(ChildEnded::Cancelled)));
        never().await;
        Ok(())
    }))
    .unwrap_err();
    lone_cancelled(&failure);
    assert_eq!(notes.take(), ["began", "shielded", "stopped"]);
}

/// An inline executor and a child that starts children of its own nursery on it, down to a depth.
#[test]
fn an_inline_executor_recurses() {
    fn grow(n: &Nursery<'static, Word>, depth: usize, count: &'static AtomicUsize) {
        let again = n.clone();
        n.start_soon_on(&spawn_with(run_inline), async move {
            count.fetch_add(1, Ordering::SeqCst);
            if depth > 0 {
                grow(&again, depth - 1, count);
            }
            Ok(())
        });
    }
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'static, Word>| {
        grow(&n, 50, &COUNT);
        // They have all run, and the nursery has yet to hear of it.
        assert_eq!((COUNT.load(Ordering::SeqCst), n.n_children()), (51, 51));
        n.wait_idle().await;
        assert_eq!(n.n_children(), 0);
        Ok(())
    }))
    .unwrap();
}

/// tokio's JoinSet on a runtime that is gone: with a limit, also the children that queue end, and the nursery says why.
#[test]
fn an_executor_that_drops_everything_under_a_limit_hangs_nobody() {
    let spawner = spawn_with(drop::<BoxTask>);
    let failure = ends(
        NurseryOptions::new()
            .limit(1)
            .open(async |n: Nursery<'_, Word>| {
                let handles: Vec<_> = (0..5)
                    .map(|_| n.spawn_on(&spawner, async { Ok(()) }))
                    .collect();
                shield(async {
                    for handle in handles {
                        assert_eq!(handle.await, Err(ChildEnded::Cancelled));
                    }
                })
                .await;
                never().await;
                Ok(())
            }),
    )
    .unwrap_err();
    let all_gone = failure.leaves().all(|leaf| {
        leaf.as_cancelled()
            .is_some_and(|gone| *gone.reason() == CancelReason::ExecutorShutDown)
    });
    assert!(all_gone, "{failure:?}");
}

/// An executor that polls a task once and drops it half-way: its `Drop`s run, and the panic of one is the nursery's.
#[test]
fn an_executor_that_drops_a_task_half_way() {
    let half_way = spawn_with(|mut task: BoxTask| {
        let _ = task.poll_unpin(&mut Context::from_waker(Waker::noop()));
    });
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let guard = notes.on_drop("dropped");
        n.start_soon_on(&half_way, async move {
            let _guard = guard;
            never().await;
            Ok(())
        });
        never().await;
        Ok(())
    }))
    .unwrap_err();
    let reason = lone_cancelled(&failure).reason().clone();
    assert_eq!(reason, CancelReason::ExecutorShutDown);
    assert_eq!(notes.take(), ["dropped"]);

    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            n.start_soon_on(&half_way, async move {
                let _guard = OnDrop::new(|| panic!("by a drop"));
                never().await;
                Ok(())
            });
        }));
        notes.add(format!("returned: {}", dropped.is_ok()));
        never().await;
        Ok(())
    }));
    assert_eq!(task.panics(), "by a drop");
    assert_eq!(notes.take(), ["returned: true"]);
}

/// tokio's `spawn` off a runtime panics: so does `spawn_on` there, and the nursery has no child that it waits for.
#[test]
fn a_spawner_that_panics_is_the_callers_panic_and_leaves_no_child() {
    let refuses = spawn_with(|task: BoxTask| {
        drop(task);
        panic!("no reactor running")
    });
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let text = panic_of(|| {
            n.start_soon_on(&refuses, async { Ok(()) });
        });
        assert_eq!(text, "no reactor running");
        n.wait_idle().await;
        Ok(())
    }))
    .unwrap_err();
    // The child was dropped unasked.
    assert_eq!(
        lone_cancelled(&failure).reason(),
        &CancelReason::ExecutorShutDown
    );
}

/// An executor that spawns on a new thread each: many children fail and end at the same time, and every error is there.
#[test]
fn children_on_threads_that_fail_together() {
    let threads = Mutex::new(Vec::new());
    let spawner = spawn_with(|mut task: BoxTask| {
        let thread = thread::spawn(move || {
            // A blocking executor: a waker that unparks.
            futures::executor::block_on(&mut task);
        });
        threads.lock().unwrap().push(thread);
    });
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(8));
    let failure = futures::executor::block_on(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..8 {
            let barrier = barrier.clone();
            n.start_soon_on(&spawner, async move {
                barrier.wait();
                Err("together".into())
            });
        }
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["together"; 8]);
    for thread in threads.into_inner().unwrap() {
        thread.join().unwrap();
    }
}

/// A child on an executor whose nursery is dropped from outside is woken to be dropped there, and says so to nobody.
#[test]
fn a_child_of_a_dropped_nursery_is_dropped_by_its_executor() {
    let (shelf, notes) = (Drawer::new(), Notes::new());
    let (to, guard) = (shelf.clone(), Mutex::new(Some(notes.on_drop("child"))));
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let guard = guard.lock().unwrap().take();
        n.start_soon_on(&spawn_with(move |task: BoxTask| to.put(task)), async move {
            let _guard = guard;
            never().await;
            Ok(())
        });
        never().await;
        Ok(())
    }));
    task.waits();
    let mut child = Probe::new(shelf.take());
    child.waits();
    task.cut();
    assert!(child.is_woken());
    child.ends();
    assert_eq!(notes.take(), ["child"]);
}
