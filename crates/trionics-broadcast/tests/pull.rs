//! A subscriber that waits can go away, at any moment and in any way, and strands nobody.

mod common;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, Stream, executor::block_on, stream};
use trionics_broadcast::{BroadcastReceiver, broadcast_receiver, receive_stream};

use self::common::{Feed, Task, drain, feed, lost, next, poll, value};

/// B-025: who waits in the source is dropped; who waits for its result gets the value.
#[test]
fn the_puller_is_dropped() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let (task_1, task_2) = (Task::new(), Task::new());
    assert!(task_1.try_once(&mut first).is_pending());
    assert!(task_2.poll(&mut second).is_pending());
    feeder.send(1);
    assert_eq!(task_1.wakes.take(), 0, "its receive was dropped");
    assert_eq!(task_2.wakes.take(), 1);
    assert_eq!(task_2.poll(&mut second), Poll::Ready(Some(Ok(1))));
    assert_eq!(value(&mut first), 1);
}

static LEAKED: Mutex<Vec<BroadcastReceiver<Feed<u32>>>> = Mutex::new(Vec::new());

/// B-025: the same with the whole subscription dropped, or leaked with its receive, or never polled again.
#[test]
fn the_puller_vanishes() {
    for way in 0..3 {
        let (feeder, source) = feed();
        let mut first = broadcast_receiver(source, 4).unwrap();
        let mut second = first.subscribe();
        let (task_1, task_2) = (Task::new(), Task::new());
        assert!(task_1.poll(&mut first).is_pending());
        assert!(task_2.poll(&mut second).is_pending());
        let kept = match way {
            0 => None,
            1 => {
                // Leaked, but not for a leak checker: what a static holds is never dropped.
                LEAKED.lock().unwrap().push(first);
                None
            }
            _ => Some(first),
        };
        feeder.send(1);
        assert_eq!(task_2.wakes.take(), 1);
        assert_eq!(task_2.poll(&mut second), Poll::Ready(Some(Ok(1))));
        drop(kept);
    }
}

/// A waiting subscription that moves to another task is woken there, and only there.
#[test]
fn a_moved_subscription_is_woken_where_it_is() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let _second = first.subscribe();
    let (old, new) = (Task::new(), Task::new());
    assert!(old.poll(&mut first).is_pending());
    assert!(new.poll(&mut first).is_pending());
    feeder.send(1);
    assert_eq!(old.wakes.take(), 0);
    assert_eq!(new.wakes.take(), 1);
}

/// B-027: woken without a value for it, a waiter waits again.
#[test]
fn a_wake_without_a_value_gives_nothing() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    feeder.send(0);
    assert_eq!((value(&mut first), value(&mut second)), (0, 0));
    for _ in 0..3 {
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        feeder.wake();
    }
    feeder.send(1);
    assert_eq!((value(&mut second), value(&mut first)), (1, 1));
}

/// B-029: a receive that is dropped while it waits leaves no waker behind.
#[test]
fn a_dropped_receive_leaves_no_waiter() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let (dropped, live) = (Task::new(), Task::new());
    for _ in 0..1000 {
        assert!(dropped.try_once(&mut first).is_pending());
    }
    assert_eq!(first.statistics().n_waiting, 0);
    assert!(live.poll(&mut second).is_pending());
    feeder.send(5);
    assert_eq!((dropped.wakes.take(), live.wakes.take()), (0, 1));
    assert_eq!(value(&mut second), 5);
}

/// B-030: the faster of two goes away; the slower gets one loss, the window, and everything to the end.
#[test]
fn the_faster_of_two_goes_away() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 3).unwrap();
    let mut slow = fast.subscribe();
    feeder.send_all(0..5);
    drain(&mut fast);
    assert!(poll(&mut fast).is_pending());
    drop(fast);
    feeder.send_all(5..8);
    feeder.end();
    assert_eq!(lost(&mut slow), 2);
    assert_eq!(drain(&mut slow), [2, 3, 4, 5, 6, 7]);
    assert_eq!(next(&mut slow), None);
    assert_eq!(slow.statistics().puller, None);
}

/// B-032: a source that panics has ended: the puller gets the panic, all others the end after their backlog, late ones too.
#[test]
fn a_panicking_source_wakes_all() {
    let (feeder, source) = feed();
    let source = futures::StreamExt::inspect(source, |value| assert_ne!(*value, 2, "on purpose"));
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let mut third = first.subscribe();
    feeder.send(1);
    assert_eq!(value(&mut first), 1);
    assert_eq!(value(&mut second), 1);
    let task = Task::new();
    assert!(task.poll(&mut second).is_pending());
    feeder.send(2);
    assert_eq!(task.wakes.take(), 1);
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    let late = first.subscribe();
    assert!(first.has_ended() && first.has_panicked());
    assert_eq!(value(&mut third), 1);
    for mut receiver in [first, second, third, late] {
        assert_eq!(next(&mut receiver), None);
        assert_eq!(next(&mut receiver), None);
    }
}

/// A source that wakes itself is polled once per poll, and all subscribers make progress by turns.
#[test]
fn a_source_that_wakes_itself_is_polled_once_per_poll() {
    let mut n_polls = 0;
    let source = stream::poll_fn(move |context| {
        n_polls += 1;
        if n_polls % 4 == 0 {
            return Poll::Ready(Some(n_polls));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let (task_1, task_2) = (Task::new(), Task::new());
    assert!(task_1.poll(&mut first).is_pending());
    assert!(task_1.wakes.take() > 0);
    assert!(task_2.poll(&mut second).is_pending());
    assert!(task_2.wakes.take() > 0);
    assert!(task_1.poll(&mut first).is_pending());
    assert!(task_1.wakes.take() > 0);
    assert_eq!(task_2.poll(&mut second), Poll::Ready(Some(Ok(4))));
    assert_eq!(task_1.poll(&mut first), Poll::Ready(Some(Ok(4))));
}

/// B-025 and row 41 of the adapted ones: the call that is under way belongs to the source, and survives the subscriber that waits.
#[test]
fn a_receive_function_keeps_its_call() {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let mut receiver = Some(receiver);
    let mut n_calls = 0;
    let source = receive_stream(async move || {
        n_calls += 1;
        assert_eq!(n_calls, 1, "the call under way was dropped");
        let receiver = receiver.take()?;
        receiver.await.ok()
    });
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    assert!(first.recv().now_or_never().is_none());
    drop(first);
    assert!(second.recv().now_or_never().is_none());
    sender.send(7).unwrap();
    assert_eq!(block_on(second.recv()), Some(Ok(7)));
}

/// A receive function ends its stream with `None`, is not called again, and is gone with the source.
#[test]
fn a_receive_function_ends() {
    let mut left = 3;
    let source = receive_stream(async move || {
        left -= 1;
        (left >= 0).then_some(left)
    });
    let mut receiver = broadcast_receiver(source, 4).unwrap();
    assert_eq!(drain(&mut receiver), [2, 1, 0]);
    assert_eq!(next(&mut receiver), None);
    let mut source = receiver.into_source().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(source.as_mut().poll_next(&mut context), Poll::Ready(None));
}

/// A source that receives from its own broadcast neither deadlocks nor starves anybody.
#[test]
fn a_source_may_touch_its_own_broadcast() {
    use std::sync::{Arc, Mutex};
    let inner = Arc::new(Mutex::new(
        None::<trionics_broadcast::WeakBroadcastReceiver<Boxed>>,
    ));
    type Boxed = std::pin::Pin<Box<dyn Stream<Item = u32> + Send>>;
    let weak = inner.clone();
    let mut n = 0;
    let source: Boxed = Box::pin(stream::poll_fn(move |_| {
        let weak = weak.lock().unwrap().clone().unwrap();
        let mut own = weak.subscribe().unwrap();
        assert!(poll(&mut own).is_pending());
        n += 1;
        Poll::Ready((n < 4).then_some(n))
    }));
    let mut receiver = broadcast_receiver(source, 2).unwrap();
    *inner.lock().unwrap() = Some(receiver.downgrade());
    let mut other = receiver.subscribe();
    assert_eq!(value(&mut receiver), 1);
    assert_eq!(value(&mut other), 1);
    assert_eq!(value(&mut other), 2);
    assert_eq!(drain(&mut receiver), [2, 3]);
    assert_eq!(next(&mut receiver), None);
}

/// A receive that is dropped after it was woken passes nothing on, because nothing was handed to it alone.
#[test]
fn a_receive_dropped_after_its_wake() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let (task_1, task_2) = (Task::new(), Task::new());
    {
        let mut waiting = pin!(first.recv());
        assert!(task_1.poll_future(waiting.as_mut()).is_pending());
        assert!(task_2.poll(&mut second).is_pending());
        feeder.send(3);
        assert_eq!((task_1.wakes.take(), task_2.wakes.take()), (1, 1));
    }
    assert_eq!(value(&mut second), 3);
    assert_eq!(value(&mut first), 3);
}

/// B-032: a panic in the source reaches the puller unchanged.
#[test]
fn the_puller_gets_the_panic() {
    let source = stream::poll_fn(|_| -> Poll<Option<u32>> { panic!("source broke") });
    let mut receiver = broadcast_receiver(source, 4).unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| poll(&mut receiver))).unwrap_err();
    assert_eq!(*payload.downcast::<&str>().unwrap(), "source broke");
    assert_eq!(next(&mut receiver), None);
    assert!(receiver.into_source().is_some());
}
