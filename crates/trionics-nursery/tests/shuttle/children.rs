//! The memory of children: late wakes, drops and starts from other threads.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shuttle::{sync::Mutex, thread};
use trionics_nursery::{ChildHandle, Nursery, NurseryOptions, TaskStatus, open_nursery};

use crate::tools::{Count, Gate, block_on, explore, is_lone_cancelled};

/// Counts how often something of its kind was dropped.
#[derive(Clone, Default)]
struct Drops(Arc<Mutex<usize>>);

impl Drops {
    fn count(&self) -> usize {
        *self.0.lock().unwrap()
    }

    fn guard(&self) -> CountDrop {
        CountDrop(self.clone())
    }
}

struct CountDrop(Drops);

impl Drop for CountDrop {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() += 1;
    }
}

/// A waker that is cloned, woken and dropped elsewhere while the nursery polls its child, ends, or is dropped.
#[test]
fn late_wakes_find_memory_and_no_future() {
    for dropped in [false, true] {
        explore(move || {
            let drops = Drops::default();
            let stolen: Arc<Mutex<Option<Waker>>> = Arc::default();
            let mut nursery = Box::pin(open_nursery({
                let (drops, stolen) = (drops.clone(), Arc::clone(&stolen));
                async move |n: Nursery<'_, ()>| {
                    let guard = drops.guard();
                    let mut polls = 0;
                    n.start_soon(poll_fn(move |cx| {
                        let _ = &guard;
                        polls += 1;
                        *stolen.lock().unwrap() = Some(cx.waker().clone());
                        if polls == 2 {
                            Poll::Ready(Ok(()))
                        } else {
                            Poll::Pending
                        }
                    }));
                    Ok(())
                }
            }));
            let ringer = {
                let stolen = Arc::clone(&stolen);
                thread::spawn(move || {
                    for _ in 0..3 {
                        let waker = stolen.lock().unwrap().clone();
                        if let Some(waker) = waker {
                            waker.clone().wake();
                            thread::yield_now();
                            waker.wake();
                        }
                        thread::yield_now();
                    }
                })
            };
            let mut cx = Context::from_waker(Waker::noop());
            let mut over = false;
            for _ in 0..if dropped { 1 } else { 3 } {
                if !over {
                    over = nursery.as_mut().poll(&mut cx).is_ready();
                }
            }
            drop(nursery);
            assert_eq!(drops.count(), 1);
            ringer.join().unwrap();
            let last = stolen.lock().unwrap().take();
            last.expect("the child was polled").wake();
            assert_eq!(drops.count(), 1);
        });
    }
}

/// Children that are started from elsewhere while the nursery ends either run to their end or come back.
#[test]
fn a_child_from_another_thread_runs_or_comes_back() {
    explore(|| {
        let (drops, ran) = (Drops::default(), Count::new());
        let (tried, refused) = {
            let handles: Arc<Mutex<Option<Nursery<'static, ()>>>> = Arc::default();
            let starter = {
                let (handles, drops, ran) = (Arc::clone(&handles), drops.clone(), ran.clone());
                thread::spawn(move || {
                    let (mut tried, mut refused) = (0, 0);
                    for _ in 0..2 {
                        let handle = handles.lock().unwrap().clone();
                        let Some(handle) = handle else {
                            thread::yield_now();
                            continue;
                        };
                        let (guard, ran) = (drops.guard(), ran.clone());
                        let child = async move {
                            let _guard = guard;
                            ran.add();
                            Ok(())
                        };
                        tried += 1;
                        refused += usize::from(handle.try_start_soon(child).is_err());
                    }
                    (tried, refused)
                })
            };
            block_on(open_nursery({
                let handles = Arc::clone(&handles);
                async move |n: Nursery<'static, ()>| {
                    *handles.lock().unwrap() = Some(n);
                    Ok(())
                }
            }))
            .unwrap();
            let counts = starter.join().unwrap();
            let handle = handles.lock().unwrap().take();
            if let Some(handle) = handle {
                assert_eq!(handle.n_children(), 0);
                assert!(handle.try_start_soon(async { Ok(()) }).is_err());
            }
            counts
        };
        assert_eq!(ran.get(), tried - refused);
        // What came back was dropped by the starter, without a poll.
        assert_eq!(drops.count(), tried);
    });
}

/// A nursery that is dropped while children come in drops each of them once, or gives it back.
#[test]
fn a_child_that_comes_while_the_nursery_is_dropped_is_dropped_once() {
    explore(|| {
        let drops = Drops::default();
        let handles: Arc<Mutex<Option<Nursery<'static, ()>>>> = Arc::default();
        let mut nursery = Box::pin(open_nursery({
            let handles = Arc::clone(&handles);
            async move |n: Nursery<'static, ()>| {
                *handles.lock().unwrap() = Some(n);
                std::future::pending().await
            }
        }));
        let polled: Poll<Result<(), _>> = nursery
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let handle = handles.lock().unwrap().take().unwrap();
        let starter = {
            let drops = drops.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let guard = drops.guard();
                    let _ = handle.try_start_soon(async move {
                        let _guard = guard;
                        std::future::pending().await
                    });
                }
            })
        };
        drop(nursery);
        starter.join().unwrap();
        assert_eq!(drops.count(), 2);
    });
}

/// Cancelling one child from elsewhere while it ends, or its nursery is dropped.
#[test]
fn a_child_that_is_cancelled_alone_while_it_ends() {
    explore(|| {
        let handle: Arc<Mutex<Option<ChildHandle<()>>>> = Arc::default();
        let gate = Gate::new();
        let mut nursery = Box::pin(open_nursery({
            let (handle, gate) = (Arc::clone(&handle), Arc::clone(&gate));
            async move |n: Nursery<'static, ()>| {
                *handle.lock().unwrap() = Some(n.spawn(async move { Ok(gate.wait().await) }));
                Ok(())
            }
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(nursery.as_mut().poll(&mut cx).is_pending());
        let handle = handle.lock().unwrap().take().unwrap();
        let opener = thread::spawn(move || gate.open());
        let canceller = thread::spawn(move || handle.cancel("not needed"));
        let over = nursery.as_mut().poll(&mut cx).is_ready();
        let over = over || nursery.as_mut().poll(&mut cx).is_ready();
        drop(nursery);
        opener.join().unwrap();
        canceller.join().unwrap();
        let _ = over;
    });
}

/// A nursery in no scope that waits is cancelled from another thread, which makes its place in the tree for that.
#[test]
fn a_nursery_in_no_scope_hears_that_it_is_cancelled() {
    explore(|| {
        let handles: Arc<Mutex<Option<Nursery<'static, ()>>>> = Arc::default();
        let canceller = {
            let handles = Arc::clone(&handles);
            thread::spawn(move || {
                let handle = loop {
                    let handle = handles.lock().unwrap().clone();
                    match handle {
                        Some(handle) => break handle,
                        None => thread::yield_now(),
                    }
                };
                handle.cancel("on another thread");
            })
        };
        let outcome = block_on(open_nursery({
            let handles = Arc::clone(&handles);
            async move |n: Nursery<'static, ()>| {
                *handles.lock().unwrap() = Some(n);
                std::future::pending::<Result<(), _>>().await
            }
        }));
        assert!(is_lone_cancelled(&outcome.unwrap_err()));
        canceller.join().unwrap();
    });
}

/// A start on another thread keeps the nursery open, or finds it closed before the child is polled.
#[test]
fn a_start_on_another_thread_is_waited_for_or_refused() {
    explore(|| {
        let handles: Arc<Mutex<Option<Nursery<'static, ()>>>> = Arc::default();
        let starter = {
            let handles = Arc::clone(&handles);
            thread::spawn(move || {
                let handle = handles.lock().unwrap().clone();
                let Some(handle) = handle else { return };
                let polled = Drops::default();
                let guard = polled.guard();
                let started = block_on(handle.start(|status: TaskStatus<()>| async move {
                    std::mem::forget(guard);
                    yield_once().await;
                    status.started(());
                    yield_once().await;
                    Ok(())
                }));
                // A child that was polled is not refused, and one that is refused was not polled.
                assert_eq!(polled.count(), usize::from(started.is_err()));
            })
        };
        block_on(open_nursery({
            let handles = Arc::clone(&handles);
            async move |n: Nursery<'static, ()>| {
                *handles.lock().unwrap() = Some(n);
                yield_once().await;
                Ok(())
            }
        }))
        .unwrap();
        starter.join().unwrap();
    });
}

/// Pending once, and woken at once.
fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Who waits on another thread for room, or for there to be no child, hears of it.
#[test]
fn room_and_idleness_are_heard_of_on_another_thread() {
    explore(|| {
        let handles: Arc<Mutex<Option<Nursery<'static, ()>>>> = Arc::default();
        let done = Gate::new();
        let waiter = {
            let (handles, done) = (Arc::clone(&handles), Arc::clone(&done));
            thread::spawn(move || {
                let handle = loop {
                    let handle = handles.lock().unwrap().clone();
                    match handle {
                        Some(handle) => break handle,
                        None => thread::yield_now(),
                    }
                };
                block_on(handle.wait_idle());
                block_on(handle.start_soon_when_free(async { Ok(()) }));
                done.open();
            })
        };
        block_on(NurseryOptions::new().limit(1).open({
            let handles = Arc::clone(&handles);
            async move |n: Nursery<'static, ()>| {
                n.start_soon(async {
                    yield_once().await;
                    Ok(())
                });
                *handles.lock().unwrap() = Some(n);
                done.wait().await;
                Ok(())
            }
        }))
        .unwrap();
        waiter.join().unwrap();
    });
}
