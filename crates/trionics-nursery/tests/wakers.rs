//! Wakers: the last one counts, late ones harm nobody, and those that panic or call back in.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use trionics_nursery::{
    CancelScope, Nursery, cancel_requested, checkpoint, in_current_scope, is_cancel_requested,
    open_nursery, shield,
};

mod common;
use common::{Drawer, Gate, Notes, Probe, Wakes, Word, ends, never, panic_of, pause};

/// A waker that does something when it wakes and something when its last clone is dropped.
struct Acting<W: Fn() + Send + Sync, D: Fn() + Send + Sync> {
    on_wake: W,
    on_drop: D,
}

impl<W: Fn() + Send + Sync, D: Fn() + Send + Sync> Wake for Acting<W, D> {
    fn wake(self: Arc<Self>) {
        (self.on_wake)();
    }
}

impl<W: Fn() + Send + Sync, D: Fn() + Send + Sync> Drop for Acting<W, D> {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

fn waker_that(on_wake: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Acting {
        on_wake,
        on_drop: || {},
    }))
}

/// N-019: what waits is `future`, and `wake` makes it go on
fn the_last_waker_is_woken<T>(mut future: Probe<'_, T>, wake: impl FnOnce()) {
    let (first_wakes, first) = Wakes::new();
    let (last_wakes, last) = Wakes::new();
    assert!(future.poll_with(&first).is_pending());
    while first_wakes.take() > 0 {
        assert!(future.poll_with(&first).is_pending());
    }
    assert!(future.poll_with(&last).is_pending());
    first_wakes.take();
    last_wakes.take();
    wake();
    assert!(last_wakes.count() > 0, "the last waker");
    assert_eq!(first_wakes.count(), 0, "not the first one");
}

/// N-019
#[test]
fn the_last_waker_counts_for_scopes_shields_and_requests() {
    let scope = CancelScope::new();
    the_last_waker_is_woken(Probe::new(scope.run(never())), || {
        scope.cancel("stop");
    });
    let scope = CancelScope::new();
    the_last_waker_is_woken(Probe::new(scope.run(shield(cancel_requested()))), || {
        scope.cancel("stop");
    });
    let gate = Gate::new();
    the_last_waker_is_woken(Probe::new(shield(gate.wait())), || gate.open());
    let scope = CancelScope::new();
    the_last_waker_is_woken(
        Probe::new(scope.run(CancelScope::new().run(CancelScope::new().run(never())))),
        || {
            scope.cancel("stop");
        },
    );
}

/// N-019
#[test]
fn the_last_waker_counts_for_nurseries() {
    fn nursery(
        gate: &Gate,
        handle: &Drawer<Nursery<'static, Word>>,
    ) -> impl Future<Output = Result<(), trionics_nursery::Failure<Word>>> + use<> {
        let (gate, handle) = (gate.wait(), handle.clone());
        open_nursery(async move |n: Nursery<'static, Word>| {
            handle.put(n.clone());
            n.start_soon(async {
                gate.await;
                Ok(())
            });
            never().await;
            Ok(())
        })
    }
    let (gate, handle) = (Gate::new(), Drawer::new());
    the_last_waker_is_woken(Probe::new(nursery(&gate, &handle)), || gate.open());
    let (gate, handle) = (Gate::new(), Drawer::new());
    the_last_waker_is_woken(Probe::new(nursery(&gate, &handle)), || {
        handle.take().cancel("stop");
    });
    let (gate, handle) = (Gate::new(), Drawer::new());
    the_last_waker_is_woken(Probe::new(nursery(&gate, &handle)), || {
        handle.take().start_soon(async { Ok(()) });
    });
}

/// N-019
#[test]
fn the_last_waker_counts_for_a_childs_handle() {
    let (gate, handle) = (Gate::new(), Drawer::new());
    let mut nursery = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        handle.put(n.spawn(async {
            gate.wait().await;
            Ok(7)
        }));
        Ok(())
    }));
    nursery.waits();
    the_last_waker_is_woken(Probe::new(handle.take()), || {
        gate.open();
        nursery.ends().unwrap();
    });
}

/// N-024
#[test]
fn children_that_are_dropped_while_threads_fire_their_wakers() {
    const CHILDREN: usize = 16;
    for round in 0..200 {
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (wakers, stop) = (Arc::clone(&wakers), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        let wakers = wakers.lock().unwrap().clone();
                        wakers.iter().for_each(Waker::wake_by_ref);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let token = Arc::new(());
        let scope = Drawer::new();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            scope.put(n.cancel_scope());
            for _ in 0..CHILDREN {
                let (token, wakers) = (Arc::clone(&token), Arc::clone(&wakers));
                n.start_soon(async move {
                    let _token = token;
                    poll_fn(|cx| {
                        wakers.lock().unwrap().push(cx.waker().clone());
                        Poll::<()>::Pending
                    })
                    .await;
                    Ok(())
                });
            }
            never().await;
            Ok(())
        }));
        for _ in 0..5 {
            assert!(probe.poll().is_pending());
        }
        if round % 2 == 0 {
            probe.cut();
        } else {
            scope.take().cancel("stop");
            // A child that a thread is just waking is polled once more, when the wake has arrived.
            while probe.poll().is_pending() {
                while !probe.is_woken() {
                    thread::yield_now();
                }
            }
        }
        assert_eq!(Arc::strong_count(&token), 1, "a child has leaked");
        stop.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
        // The nursery is gone: late wakes reach nobody.
        let before = probe.n_wakes();
        wakers.lock().unwrap().iter().for_each(Waker::wake_by_ref);
        assert_eq!(probe.n_wakes(), before, "a foreign task was woken");
    }
}

/// N-024: wakers that outlive the nursery own no child
#[test]
fn a_waker_that_is_kept_keeps_no_child_alive() {
    let token = Arc::new(());
    let kept = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (token, kept) = (Arc::clone(&token), kept.clone());
        n.start_soon(async move {
            let _token = token;
            poll_fn(|cx| {
                kept.put(cx.waker().clone());
                Poll::<()>::Pending
            })
            .await;
            Ok(())
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    probe.cut();
    assert_eq!(Arc::strong_count(&token), 1);
    kept.take().wake();
}

#[test]
fn a_waker_of_a_child_that_has_ended_wakes_no_other_child() {
    let kept = Drawer::new();
    let gate = Gate::new();
    let polls = AtomicUsize::new(0);
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let (kept, gate) = (kept.clone(), gate.clone());
        n.start_soon(async move {
            poll_fn(|cx| {
                kept.put(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
            Ok(())
        });
        pause().await;
        // It may well get the seat of the first one.
        n.start_soon(async {
            poll_fn(|_| {
                polls.fetch_add(1, Ordering::SeqCst);
                Poll::<()>::Pending
            })
            .await;
            Ok(())
        });
        gate.wait().await;
        Ok(())
    }));
    probe.waits();
    assert_eq!(polls.load(Ordering::SeqCst), 1);
    kept.take().wake();
    probe.waits();
    assert_eq!(polls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_waker_that_panics_does_not_keep_the_others_asleep() {
    let scope = CancelScope::new();
    let carried = Drawer::new();
    let mut home = Probe::new(scope.run(async {
        let tasks: Vec<_> = (0..3).map(|_| in_current_scope(never())).collect();
        carried.put(tasks);
        never().await;
    }));
    home.waits();
    let mut tasks: Vec<_> = carried.take().into_iter().map(Probe::new).collect();
    tasks[0].waits();
    let panics = waker_that(|| panic!("in a waker"));
    assert!(tasks[1].poll_with(&panics).is_pending());
    tasks[2].waits();
    assert_eq!(panic_of(|| scope.cancel("stop")), "in a waker");
    assert!(home.is_woken() && tasks[0].is_woken() && tasks[2].is_woken());
    assert!(scope.is_cancelled());
    for task in &mut tasks {
        assert!(matches!(task.poll(), Poll::Ready(Err(_))));
    }
    assert!(home.ends().is_err());
}

#[test]
fn a_waker_that_cancels_is_no_deadlock() {
    let (scope, other) = (CancelScope::new(), CancelScope::new());
    let mut elsewhere = Probe::new(other.run(never()));
    elsewhere.waits();
    let (own, handle) = (scope.clone(), other.clone());
    let acts = waker_that(move || {
        assert!(handle.cancel("by a waker"));
        assert!(!own.cancel("again, by a waker"));
        assert!(own.cancelled().is_some());
    });
    let mut probe = Probe::new(scope.run(never()));
    assert!(probe.poll_with(&acts).is_pending());
    scope.cancel("by the test");
    let outcome = elsewhere.ends();
    assert_eq!(outcome.unwrap_err().reason().to_string(), "by a waker");
    let Poll::Ready(outcome) = probe.poll() else {
        panic!("it waits");
    };
    assert_eq!(outcome.unwrap_err().reason().to_string(), "by the test");
}

#[test]
fn a_waker_that_drops_what_is_being_cancelled_is_no_deadlock() {
    let scope = CancelScope::new();
    let carried = Drawer::new();
    let mut home = Probe::new(scope.run(async {
        carried.put((in_current_scope(never()), in_current_scope(never())));
        never().await;
    }));
    home.waits();
    let (first, second) = carried.take();
    let second = Arc::new(Mutex::new(Some(Box::pin(second))));
    let victim = Arc::clone(&second);
    let mut first = Probe::new(first);
    let drops = waker_that(move || drop(victim.lock().unwrap().take()));
    assert!(first.poll_with(&drops).is_pending());
    let (_, waker) = Wakes::new();
    assert!(
        second
            .lock()
            .unwrap()
            .as_mut()
            .unwrap()
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    scope.cancel("stop");
    assert!(second.lock().unwrap().is_none());
    assert!(first.poll().is_ready());
    assert!(home.ends().is_err());
}

#[test]
fn a_waker_whose_drop_cancels_is_no_deadlock() {
    let scope = CancelScope::new();
    let other = CancelScope::new();
    let (own, also) = (scope.clone(), other.clone());
    let acts = Waker::from(Arc::new(Acting {
        on_wake: || {},
        on_drop: move || {
            own.cancel("by a dropped waker");
            also.cancel("by a dropped waker");
        },
    }));
    let mut probe = Probe::new(scope.run(async {
        open_nursery(async |n: Nursery<'_, Word>| {
            let handle = n.spawn(async {
                never().await;
                Ok(())
            });
            handle.await.ok();
            Ok(())
        })
        .await
    }));
    assert!(probe.poll_with(&acts).is_pending());
    drop(acts);
    assert!(!scope.is_cancelled(), "the future still keeps the waker");
    // The next poll replaces it, in every place that has kept it.
    let _ = probe.poll();
    assert!(scope.is_cancelled() && other.is_cancelled());
    assert!(probe.ends().is_err());
}

#[test]
fn no_frame_is_current_while_a_waker_is_called() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let seen = Notes::new();
    let notes = seen.clone();
    let looks = waker_that(move || {
        notes.add(format!("requested: {}", is_cancel_requested()));
        // Frames that run in a waker belong to nobody.
        ends(CancelScope::new().run(pause())).unwrap();
    });
    let mut waiting = Probe::new(inner.run(never()));
    assert!(waiting.poll_with(&looks).is_pending());
    let outcome = ends(outer.run(async {
        outer.cancel("the code that wakes is cancelled");
        assert!(is_cancel_requested());
        inner.cancel("wake");
        assert!(is_cancel_requested());
        7
    }));
    assert_eq!(outcome.unwrap(), 7);
    assert_eq!(seen.take(), ["requested: false"]);
}

#[test]
fn a_wake_during_the_poll_of_a_nursery_is_not_lost() {
    let gate = Gate::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        // The child is polled after the body in the first poll, and then waits.
        n.start_soon(async {
            gate.wait().await;
            Ok(())
        });
        checkpoint().await;
        gate.open();
        Ok(())
    }));
    probe.ends().unwrap();
    // From another thread, at any moment of the poll.
    for _ in 0..500 {
        let gate = Gate::new();
        let opener = gate.clone();
        let thread = thread::spawn(move || opener.open());
        let (woken, waker) = Wakes::new();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                gate.wait().await;
                Ok(())
            });
            Ok(())
        }));
        let first = probe.poll_with(&waker);
        thread.join().unwrap();
        if first.is_pending() {
            assert!(woken.take() > 0, "the wake is lost");
            while probe.poll_with(&waker).is_pending() {
                assert!(woken.take() > 0, "the wake is lost");
            }
        }
    }
}

#[test]
fn a_cancellation_from_another_thread_at_any_moment_is_not_lost() {
    for round in 0..500 {
        let scope = CancelScope::new();
        let canceller = scope.clone();
        let thread = thread::spawn(move || {
            if round % 2 == 0 {
                thread::yield_now();
            }
            canceller.cancel("from another thread")
        });
        let (woken, waker) = Wakes::new();
        let mut probe = Probe::new(scope.run(async {
            open_nursery(async |n: Nursery<'_, Word>| {
                for _ in 0..3 {
                    n.start_soon(async {
                        CancelScope::new().run(shield(checkpoint())).await.ok();
                        never().await;
                        Ok(())
                    });
                }
                Ok(())
            })
            .await
        }));
        let mut polled = probe.poll_with(&waker);
        thread.join().unwrap();
        while polled.is_pending() {
            assert!(woken.take() > 0, "the cancellation is lost");
            polled = probe.poll_with(&waker);
        }
        assert!(matches!(polled, Poll::Ready(Err(_))));
    }
}

#[test]
fn a_carried_frame_stays_cancelled_while_its_scope_ends() {
    for _ in 0..60 {
        let (scope, carried, gate) = (CancelScope::new(), Drawer::new(), Gate::new());
        let ending = Arc::new(AtomicBool::new(false));
        let escaped = Arc::new(AtomicBool::new(false));
        let (made, wait, ends) = (carried.clone(), gate.wait(), Arc::clone(&ending));
        let (ends_now, escapes) = (Arc::clone(&ending), Arc::clone(&escaped));
        let mut home = Box::pin(scope.run(async move {
            // Many of them, so that to hand them all over takes its time.
            let idle: Vec<_> = (0..2_000).map(|_| in_current_scope(never())).collect();
            let watched = in_current_scope(async move {
                shield(async {
                    while !ends_now.load(Ordering::SeqCst) {
                        checkpoint().await;
                    }
                })
                .await;
                checkpoint().await;
                escapes.store(true, Ordering::SeqCst);
            });
            made.put((watched, idle));
            wait.await;
            ends.store(true, Ordering::SeqCst);
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(home.as_mut().poll(&mut cx).is_pending());
        let (watched, idle) = carried.take();
        let mut watched = Box::pin(watched);
        assert!(watched.as_mut().poll(&mut cx).is_pending());
        let mut idle: Vec<_> = idle.into_iter().map(Box::pin).collect();
        for frame in &mut idle {
            assert!(frame.as_mut().poll(&mut cx).is_pending());
        }
        let away = thread::spawn(move || {
            let mut cx = Context::from_waker(Waker::noop());
            loop {
                if let Poll::Ready(outcome) = watched.as_mut().poll(&mut cx) {
                    return outcome;
                }
            }
        });
        scope.cancel("stop");
        gate.open();
        // Its work is finished, and so it returns although it is cancelled; what it gave away is cancelled for good.
        assert!(matches!(home.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
        let watched = away.join().unwrap();
        assert!(
            !escaped.load(Ordering::SeqCst),
            "it went on after it was cancelled"
        );
        assert_eq!(watched.unwrap_err().reason().to_string(), "stop");
        for mut frame in idle {
            assert!(matches!(frame.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
        }
    }
}
