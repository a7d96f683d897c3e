//! Sources that fail: all that a subscription can do, with the failure told once.

mod common;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
};

use futures::{FutureExt, StreamExt, executor::block_on, stream, stream::FusedStream};
use trionics_broadcast::{BroadcastError, TryRecvError, try_broadcast_receiver};

use self::common::{Task, feed};

/// A source that fails: every subscriber is told once, after its backlog, and late ones too; then the end, for ever.
#[test]
fn a_failure_reaches_every_subscriber_once() {
    #[derive(Debug)]
    struct NotClone;
    let source = stream::iter([Ok(1), Ok(2), Err(NotClone), Ok(3)]);
    let mut fast = try_broadcast_receiver(source, 1).unwrap();
    let mut slow = fast.subscribe();
    let closed = fast.subscribe();
    assert_eq!(block_on(fast.recv()).unwrap().unwrap(), 1);
    assert!(fast.failure().is_none());
    assert_eq!(block_on(fast.recv()).unwrap().unwrap(), 2);
    assert!(matches!(
        block_on(fast.recv()),
        Some(Err(BroadcastError::Source(_)))
    ));
    assert!(fast.failure().is_some());
    assert!(block_on(fast.next()).is_none() && fast.is_terminated());
    let late = slow.subscribe();
    assert!(!late.is_terminated());
    match block_on(slow.recv()) {
        Some(Err(BroadcastError::Lagged(lagged))) => assert_eq!(lagged.count(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(block_on(slow.next()).unwrap().unwrap(), 2);
    for mut receiver in [slow, late] {
        assert!(matches!(
            block_on(receiver.next()),
            Some(Err(BroadcastError::Source(_)))
        ));
        assert!(block_on(receiver.next()).is_none());
        assert!(receiver.into_source().is_none());
    }
    drop(fast);
    let mut closed = closed;
    closed.close();
    assert!(
        block_on(closed.recv()).is_none(),
        "a closed subscription is told nothing"
    );
    let source = closed.into_source().unwrap();
    assert_eq!(block_on(source.collect::<Vec<_>>()).len(), 1);
}

/// A failure wakes all who wait.
#[test]
fn a_failure_wakes_all() {
    let (feeder, source) = feed::<Result<u32, &str>>();
    let mut first = try_broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let task = Task::new();
    assert!(task.poll_future(pin!(first.recv())).is_pending());
    let mut waiting = pin!(second.recv());
    assert!(task.poll_future(waiting.as_mut()).is_pending());
    feeder.send(Err("gone"));
    assert_eq!(task.wakes.take(), 1);
    match task.poll_future(waiting) {
        Poll::Ready(Some(Err(BroadcastError::Source(error)))) => assert_eq!(*error, "gone"),
        other => panic!("{other:?}"),
    }
}

/// A refused window gives a fallible source back as well.
#[test]
fn a_fallible_source_is_refused_too() {
    let source = stream::iter([Ok::<u32, ()>(1)]);
    let refused = try_broadcast_receiver(source, 0).unwrap_err();
    assert_eq!(block_on(refused.into_source().next()), Some(Ok(1)));
}

/// B-047: nothing waiting, a loss, what is kept, the failure once, and then closed; the source is never asked.
#[test]
fn try_recv_tells_everything_once_and_asks_nothing() {
    let (feeder, source) = feed::<Result<u32, &str>>();
    let mut fast = try_broadcast_receiver(source, 2).unwrap();
    let mut slow = fast.subscribe();
    feeder.send_all([Ok(1), Ok(2), Ok(3), Err("gone")]);
    assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(feeder.n_polls(), 0);
    for _ in 0..3 {
        assert!(matches!(block_on(fast.recv()), Some(Ok(_))));
    }
    match slow.try_recv() {
        Err(TryRecvError::Lagged(lagged)) => assert_eq!(lagged.count(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(slow.n_lost(), 1);
    assert_eq!(slow.try_recv(), Ok(2));
    assert!(matches!(
        block_on(fast.recv()),
        Some(Err(BroadcastError::Source(_)))
    ));
    assert!(fast.has_ended() && !fast.has_panicked());
    assert_eq!((slow.len(), slow.max_buffer_size()), (1, 2));
    assert_eq!(slow.try_recv(), Ok(3));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Source("gone".into())));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(fast.try_recv(), Err(TryRecvError::Closed), "told by `recv`");
    assert_eq!(feeder.n_polls(), 4);
}

/// A `match` on a source that cannot fail needs no arm for its failure.
#[test]
fn there_is_no_failure_of_a_stream() {
    let mut receiver = trionics_broadcast::broadcast_receiver(stream::iter([1]), 2).unwrap();
    match receiver.try_recv() {
        Ok(_) | Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => panic!("nothing was pulled"),
        Err(TryRecvError::Empty) => {}
    }
}

/// B-042, B-043: closed from elsewhere while it waits, a subscription ends, and is not told the failure that comes later.
#[test]
fn a_close_handle_ends_a_receive_that_waits() {
    let (feeder, source) = feed::<Result<u32, &str>>();
    let mut first = try_broadcast_receiver(source, 2).unwrap();
    let mut second = first.subscribe();
    let (id, handle) = (first.id(), first.close_handle());
    assert_ne!(id, second.id());
    let task = Task::new();
    {
        let mut waiting = pin!(first.recv());
        assert!(task.poll_future(waiting.as_mut()).is_pending());
        handle.close();
        assert_eq!(task.wakes.take(), 1);
        assert!(matches!(task.poll_future(waiting), Poll::Ready(None)));
    }
    feeder.send(Err("gone"));
    assert!(matches!(
        block_on(second.recv()),
        Some(Err(BroadcastError::Source(_)))
    ));
    assert!(block_on(first.recv()).is_none());
    assert_eq!(first.try_recv(), Err(TryRecvError::Closed));
}

/// A weak handle finds the broadcast while there is a receiver, its failure included, and keeps nothing alive.
#[test]
fn a_weak_handle_finds_a_fallible_broadcast_again() {
    let (feeder, source) = feed::<Result<u32, &str>>();
    let mut first = try_broadcast_receiver(source, 2).unwrap();
    let weak = first.downgrade();
    let closed = weak.clone().closed();
    assert!(weak.closed().now_or_never().is_none());
    let second = weak.subscribe().expect("there is a receiver");
    feeder.send_all([Ok(1), Err("gone")]);
    assert_eq!(block_on(first.recv()).unwrap().unwrap(), 1);
    let mut oldest = weak.subscribe_from_oldest().expect("there are receivers");
    assert!(matches!(
        block_on(first.recv()),
        Some(Err(BroadcastError::Source(_)))
    ));
    block_on(closed);
    block_on(first.closed());
    assert_eq!(oldest.try_recv(), Ok(1));
    let mut late = weak.subscribe().expect("there are receivers");
    for receiver in [&mut oldest, &mut late] {
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Source(_))));
    }
    drop((first, second, oldest, late));
    assert!(weak.subscribe().is_none() && weak.subscribe_from_oldest().is_none());
    assert!(!feeder.is_alive());
}

/// Lent values, losses and the failure, without a clone of any.
#[test]
fn values_are_lent() {
    #[derive(Debug)]
    struct NotClone(u32);
    let source = stream::iter([Ok(NotClone(1)), Ok(NotClone(2)), Err("gone")]);
    let mut fast = try_broadcast_receiver(source, 1).unwrap();
    let mut slow = fast.subscribe();
    for expected in [1, 2] {
        assert_eq!(block_on(fast.recv_ref()).unwrap().unwrap().0, expected);
    }
    assert!(matches!(
        block_on(slow.recv_ref()),
        Some(Err(BroadcastError::Lagged(_)))
    ));
    assert_eq!(block_on(slow.recv_ref()).unwrap().unwrap().0, 2);
    for receiver in [&mut fast, &mut slow] {
        assert!(matches!(
            block_on(receiver.recv_ref()),
            Some(Err(BroadcastError::Source(_)))
        ));
        assert!(block_on(receiver.recv_ref()).is_none());
    }
}

/// B-029: a receive that is dropped while it waits gives up its place, whatever its kind.
#[test]
fn dropped_receives_leave_no_waiter() {
    let (feeder, source) = feed::<Result<u32, &str>>();
    let mut receiver = try_broadcast_receiver(source, 2).unwrap();
    let other = receiver.subscribe();
    let task = Task::new();
    let mut context = Context::from_waker(&task.waker);
    assert!(pin!(receiver.recv()).poll(&mut context).is_pending());
    assert!(pin!(receiver.recv_ref()).poll(&mut context).is_pending());
    assert_eq!(other.statistics().n_waiting, 0);
    let mut skipping = receiver.skip_lagged();
    assert!(pin!(skipping.recv()).poll(&mut context).is_pending());
    assert_eq!(other.statistics().n_waiting, 0);
    assert!(skipping.poll_next_unpin(&mut context).is_pending());
    assert_eq!(other.statistics().n_waiting, 1);
    feeder.send(Ok(1));
    assert_eq!(task.wakes.take(), 1);
    assert!(skipping.poll_next_unpin(&mut context).is_ready());
}

/// B-022: who skips is given values and the failure, never a loss, and counts what was skipped.
#[test]
fn skipping_passes_the_failure_on() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let source = stream::iter((0..5).map(Ok).chain([Err("gone")]));
    let mut fast = try_broadcast_receiver(source, 2).unwrap();
    let mut slow = fast.subscribe().skip_lagged();
    let as_stream = fast.subscribe().skip_lagged();
    while block_on(fast.recv()).is_some() {}
    assert_eq!(block_on(is_send(slow.recv())), Some(Ok(3)));
    assert_eq!(slow.n_skipped(), 3);
    assert_eq!(block_on(slow.recv()), Some(Ok(4)));
    assert_eq!(block_on(slow.recv()), Some(Err("gone".into())));
    assert_eq!(block_on(slow.recv()), None);
    assert_eq!(slow.get_ref().n_lost(), 3);
    let all: Vec<_> = block_on(as_stream.collect());
    assert_eq!(all, [Ok(3), Ok(4), Err("gone".into())]);
}
