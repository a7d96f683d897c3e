//! User code that calls back in: `Drop`s that start, cancel and poll, hooks that cancel, locals of threads.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use trionics_nursery::{
    CancelScope, Nursery, Settings, is_cancel_requested, open_nursery, outside, shield,
};

mod common;
use common::{
    Drawer, Gate, Notes, OnDrop, Probe, Word, ends, errors, lone_cancelled, never, pause,
};

#[test]
fn a_drop_that_starts_a_child_while_the_nursery_unwinds() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (again, child_notes) = (n.clone(), notes.clone());
        n.start_soon(async move {
            let _guard = OnDrop::new(move || {
                let notes = child_notes.clone();
                let started = again.try_start_soon(async move {
                    notes.add("began");
                    let _guard = notes.on_drop("dropped");
                    pause().await;
                    notes.add("not reached");
                    Ok(())
                });
                assert!(started.is_ok(), "the nursery is still open");
            });
            never().await;
            Ok(())
        });
        pause().await;
        n.cancel("stop");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    lone_cancelled(&failure);
    assert_eq!(notes.take(), ["began", "dropped"]);
}

#[test]
fn a_drop_that_starts_a_child_that_fails_while_the_nursery_unwinds() {
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let again = n.clone();
        n.start_soon(async move {
            let _guard = OnDrop::new(move || again.start_soon(async { Err("late".into()) }));
            pause().await;
            Ok(())
        });
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["late"]);
}

#[test]
fn a_drop_that_starts_a_child_in_a_nursery_that_is_dropped_from_outside() {
    let notes = Notes::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for i in 0..2 {
            let (again, guard) = (n.clone(), notes.on_drop(&format!("late child {i}")));
            n.start_soon(async move {
                let _guard = OnDrop::new(move || {
                    let _ = again.try_start_soon(async move {
                        let _guard = guard;
                        unreachable!("nobody polls it");
                    });
                });
                never().await;
                Ok(())
            });
        }
        never().await;
        Ok(())
    }));
    probe.waits();
    probe.cut();
    let mut dropped = notes.take();
    dropped.sort();
    assert_eq!(
        dropped,
        ["late child 0", "late child 1"],
        "dropped, not kept"
    );
}

#[test]
fn a_drop_that_cancels() {
    let (outer, own, other) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
    let mut elsewhere = Probe::new(other.run(never()));
    elsewhere.waits();
    let handles = [outer.clone(), own.clone(), other.clone()];
    let mut probe = Probe::new(outer.run(async {
        let _ = own
            .run(async {
                let _guard = OnDrop::new(move || {
                    for handle in handles {
                        handle.cancel("by a drop");
                    }
                });
                never().await;
            })
            .await;
        // The outer scope is cancelled by now: this is the last that runs.
        never().await;
    }));
    probe.waits();
    own.cancel("stop");
    assert_eq!(probe.ends().unwrap_err().reason().to_string(), "by a drop");
    assert_eq!(own.cancelled().unwrap().reason().to_string(), "stop");
    assert!(elsewhere.ends().is_err());
}

#[test]
fn a_drop_that_cancels_its_nursery_when_the_child_ends() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let scope = n.cancel_scope();
        n.start_soon(async move {
            let _guard = OnDrop::new(move || {
                scope.cancel("by a child's end");
            });
            pause().await;
            Ok(())
        });
        let _guard = notes.on_drop("body");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(
        lone_cancelled(&failure).reason().to_string(),
        "by a child's end"
    );
    assert_eq!(notes.take(), ["body"]);
}

#[test]
fn no_frame_is_current_while_a_body_is_dropped() {
    let notes = Notes::new();
    let looks = |what: Word| {
        let notes = notes.clone();
        OnDrop::new(move || {
            notes.add(format!("{what}: {}", is_cancel_requested()));
            // A little program of its own, as a `block_on` in a `Drop` would run it.
            let scope = CancelScope::new();
            ends(scope.run(async {
                pause().await;
                ends(open_nursery(async |n: Nursery<'_, Word>| {
                    n.start_soon(async {
                        pause().await;
                        Ok(())
                    });
                    Ok(())
                }))
                .unwrap();
            }))
            .unwrap();
        })
    };
    let scope = CancelScope::new();
    let outcome = ends(scope.run(async {
        let _guard = looks("scope body");
        open_nursery(async |n: Nursery<'_, Word>| {
            let guard = looks("child");
            n.start_soon(async {
                let _guard = guard;
                never().await;
                Ok(())
            });
            let _guard = looks("nursery body");
            pause().await;
            scope.cancel("stop");
            never().await;
            Ok(())
        })
        .await
    }));
    assert!(outcome.is_err());
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(
        notes,
        ["child: false", "nursery body: false", "scope body: false"]
    );
}

#[test]
fn outside_keeps_a_nested_executor_out_of_the_scope() {
    let scope = CancelScope::new();
    let outcome = ends(scope.run(async {
        scope.cancel("stop");
        let nested = outside(|| {
            futures::executor::block_on(async {
                assert!(!is_cancel_requested());
                CancelScope::new().run(pause()).await.is_ok()
            })
        });
        assert!(is_cancel_requested());
        nested
    }));
    assert!(outcome.unwrap());
}

#[test]
fn outside_restores_the_frame_after_a_panic() {
    let scope = CancelScope::new();
    scope.cancel("stop");
    let seen = ends(scope.run(async {
        let caught = std::panic::catch_unwind(|| outside(|| panic!("outside")));
        (caught.is_err(), is_cancel_requested())
    }));
    assert_eq!(seen.unwrap(), (true, true));
}

#[test]
fn a_user_that_catches_a_panic_inside_a_frame_goes_on_in_that_frame() {
    let scope = CancelScope::new();
    scope.cancel("stop");
    let outcome = ends(scope.run(async {
        let caught =
            std::panic::catch_unwind(|| ends(CancelScope::new().run(async { panic!("inside") })));
        assert!(caught.is_err());
        is_cancel_requested()
    }));
    assert!(outcome.unwrap());
}

#[test]
fn a_report_hook_that_cancels_and_runs_frames() {
    let (scope, heard) = (CancelScope::new(), Drawer::new());
    let (handle, telling) = (Drawer::new(), heard.clone());
    handle.put(scope.clone());
    let settings = Settings::new().on_report(move |report| {
        handle.take().cancel("by the hook");
        telling.put((is_cancel_requested(), report.to_string()));
        ends(shield(pause()));
    });
    let mut probe = Probe::new(settings.run(scope.run(async {
        let mut dropped = Box::pin(shield(never()));
        assert!(common::poll_once(&mut dropped).await.is_none());
        drop(dropped);
        never().await;
    })));
    let outcome = probe.ends();
    assert_eq!(outcome.unwrap_err().reason().to_string(), "by the hook");
    let (requested, text) = heard.take();
    assert!(!requested, "no frame is current in a hook");
    assert!(text.contains("abandoned"), "{text}");
}

#[test]
fn a_child_that_drops_its_own_handle_and_the_nurserys_handles() {
    let gate = Gate::new();
    let handle = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (own, nursery, wait) = (handle.clone(), n.clone(), gate.wait());
        handle.put(n.spawn(async move {
            wait.await;
            drop(own.take());
            drop(nursery);
            Ok(7)
        }));
        Ok(())
    }));
    probe.waits();
    gate.open();
    probe.ends().unwrap();
}

#[test]
fn a_nursery_may_be_polled_by_one_thread_after_the_other() {
    let polls = AtomicUsize::new(0);
    let scope = CancelScope::new();
    let mut whole: Pin<Box<dyn Future<Output = bool> + Send + '_>> = Box::pin(async {
        let outcome = scope
            .run(open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    loop {
                        polls.fetch_add(1, Ordering::SeqCst);
                        shield(pause()).await;
                        pause().await;
                    }
                });
                Ok(())
            }))
            .await;
        outcome.is_err()
    });
    for round in 0..50 {
        whole = thread::scope(|threads| {
            threads
                .spawn(move || {
                    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                    assert!(whole.as_mut().poll(&mut cx).is_pending());
                    whole
                })
                .join()
                .unwrap()
        });
        assert!(!is_cancel_requested(), "round {round}");
    }
    scope.cancel("stop");
    assert!(ends(whole));
    assert!(polls.load(Ordering::SeqCst) > 20);
}

#[test]
fn a_frame_in_a_threads_local_is_dropped_with_the_thread() {
    thread_local! {
        static KEPT: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
    }
    let notes = Notes::new();
    let guard = notes.on_drop("dropped with the thread");
    let hook = notes.clone();
    thread::spawn(move || {
        // Made first, so that it outlives what the frames keep in locals of the thread.
        KEPT.with(|kept| kept.borrow_mut().take());
        let mut future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(
            Settings::new()
                .on_report(move |_| hook.add("reported"))
                .run(async move {
                    let _ = CancelScope::new()
                        .run(async {
                            let _guard = guard;
                            shield(never()).await;
                        })
                        .await;
                }),
        );
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        KEPT.with(|kept| *kept.borrow_mut() = Some(future));
    })
    .join()
    .unwrap();
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["dropped with the thread", "reported"]);
}

#[test]
fn a_frame_that_is_polled_while_the_threads_locals_go() {
    struct PollsOnDrop(RefCell<Option<Notes>>);
    impl Drop for PollsOnDrop {
        fn drop(&mut self) {
            let notes = self.0.borrow_mut().take().expect("set before");
            let scope = CancelScope::new();
            scope.cancel("stop");
            let stopped = ends(scope.run(async {
                shield(pause()).await;
                never().await;
            }));
            notes.add(format!("stopped: {}", stopped.is_err()));
        }
    }
    thread_local! {
        static LAST: PollsOnDrop = const { PollsOnDrop(RefCell::new(None)) };
    }
    let notes = Notes::new();
    let kept = notes.clone();
    let first = thread::spawn(move || {
        LAST.with(|last| *last.0.borrow_mut() = Some(kept));
        // The crate's own local comes to life after it, and goes before it.
        ends(shield(pause()));
    });
    assert!(first.join().is_ok());
    assert_eq!(notes.take(), ["stopped: true"]);
}
