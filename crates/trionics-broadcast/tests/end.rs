//! The end of the source, of a subscription, and of the whole; what can be seen of it from outside.

mod common;

use std::{
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::Poll,
    thread,
};

use futures::{FutureExt, Stream, StreamExt, executor::block_on, stream, stream::FusedStream};
use trionics_broadcast::{
    Broadcast, BroadcastError, BroadcastReceiver, Closed, TryRecvError, broadcast_receiver,
};

use self::common::{Feed, Task, drain, feed, lost, next, poll, value};

/// B-033: the end wakes and reaches every subscriber that waits.
#[test]
fn the_end_wakes_all() {
    let (feeder, source) = feed::<u32>();
    let mut receivers = vec![broadcast_receiver(source, 4).unwrap()];
    receivers.extend((0..9).map(|_| receivers[0].subscribe()).collect::<Vec<_>>());
    let tasks: Vec<_> = receivers.iter().map(|_| Task::new()).collect();
    for (receiver, task) in receivers.iter_mut().zip(&tasks) {
        assert!(task.poll(receiver).is_pending());
    }
    feeder.end();
    for (receiver, task) in receivers.iter_mut().zip(&tasks) {
        assert_eq!(task.wakes.take(), 1);
        assert_eq!(task.poll(receiver), Poll::Ready(None));
    }
    assert_eq!(feeder.n_polls(), 2, "an ended source is not polled again");
}

/// B-033: who parks while another one finds the end is woken for it.
#[test]
fn the_end_found_by_one_wakes_the_others() {
    let (feeder, source) = feed::<u32>();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let (task_1, task_2) = (Task::new(), Task::new());
    assert!(task_1.poll(&mut first).is_pending());
    feeder.end();
    assert_eq!(task_1.poll(&mut first), Poll::Ready(None));
    assert_eq!(task_2.poll(&mut second), Poll::Ready(None));
}

/// B-037: iteration ends and stays ended; a loss is an item; the backlog comes first; late subscribers get the end too.
#[test]
fn the_end_is_durable() {
    let mut fast = broadcast_receiver(stream::iter(0..5), 2).unwrap();
    let mut slow = fast.subscribe();
    drain(&mut fast);
    assert!(fast.has_ended() && fast.is_terminated() && !fast.has_panicked());
    assert!(!slow.is_terminated());
    let mut late = slow.subscribe();
    let mut latest = slow.subscribe_from_oldest();
    let items: Vec<_> = block_on(slow.by_ref().collect());
    assert_eq!(items[0].unwrap_err().count(), 3);
    assert_eq!((items[1], items[2], items.len()), (Ok(3), Ok(4), 3));
    assert!(slow.is_terminated());
    assert_eq!(drain(&mut latest), [3, 4]);
    for receiver in [&mut fast, &mut slow, &mut late, &mut latest] {
        for _ in 0..3 {
            assert_eq!(next(receiver), None);
        }
    }
}

/// B-039: closing twice has no effect, nor has dropping what was closed; others go on.
#[test]
fn closing_twice_is_closing_once() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    feeder.send(1);
    value(&mut second);
    first.close();
    first.close();
    first.close_handle().close();
    assert!(first.is_closed() && first.is_empty() && first.is_terminated());
    assert_eq!(next(&mut first), None);
    assert_eq!(first.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(second.statistics().subscribers.len(), 1);
    let mut third = first.subscribe();
    drop(first);
    feeder.send(2);
    assert_eq!(value(&mut second), 2);
    assert_eq!(value(&mut third), 2);
}

/// B-042, B-043: closed from elsewhere, a receive that waits ends; nobody else is woken, and the next value finds the others.
#[test]
fn closing_from_elsewhere_ends_a_waiting_receive() {
    let (feeder, source) = feed();
    let mut puller = broadcast_receiver(source, 4).unwrap();
    let mut waiter = puller.subscribe();
    let mut other = puller.subscribe();
    let tasks = [Task::new(), Task::new(), Task::new()];
    assert!(tasks[0].poll(&mut puller).is_pending());
    assert!(tasks[1].poll(&mut waiter).is_pending());
    assert!(tasks[2].poll(&mut other).is_pending());
    let handles = [puller.close_handle(), waiter.close_handle()];
    for (handle, task) in handles.iter().zip(&tasks) {
        assert!(!handle.is_closed());
        handle.close();
        handle.clone().close();
        assert!(handle.is_closed());
        assert_eq!(task.wakes.take(), 1);
    }
    assert_eq!(tasks[0].poll(&mut puller), Poll::Ready(None));
    assert_eq!(tasks[1].poll(&mut waiter), Poll::Ready(None));
    assert_eq!(tasks[2].wakes.take(), 0);
    feeder.send(1);
    assert_eq!(tasks[2].wakes.take(), 1);
    assert_eq!(tasks[2].poll(&mut other), Poll::Ready(Some(Ok(1))));
}

/// B-043: a subscription that is closed while it is inside the source's poll: what it takes reaches the others.
#[test]
fn closed_inside_the_source() {
    let handle = Arc::new(std::sync::Mutex::new(None));
    let in_source = handle.clone();
    let source = stream::iter(0..2).inspect(move |_| {
        let handle: Option<Box<dyn Fn() + Send>> = in_source.lock().unwrap().take();
        if let Some(close) = handle {
            close();
        }
    });
    let mut closed = broadcast_receiver(source.boxed(), 4).unwrap();
    let mut other = closed.subscribe();
    let closing = closed.close_handle();
    *handle.lock().unwrap() = Some(Box::new(move || closing.close()));
    poll(&mut closed).is_ready();
    assert_eq!(next(&mut closed), None);
    assert_eq!(drain(&mut other), [0, 1]);
}

/// B-045: the values are dropped with the last subscription, in either order, whatever else is still around.
#[test]
fn the_last_subscription_takes_the_values_with_it() {
    for order in 0..2 {
        let (feeder, source) = feed::<Arc<u32>>();
        let mut first = broadcast_receiver(source, 8).unwrap();
        let second = first.subscribe();
        let weak_handle = first.downgrade();
        let _close_handle = first.close_handle();
        let values: Vec<_> = (0..5).map(Arc::new).collect();
        let weak: Vec<Weak<u32>> = values.iter().map(Arc::downgrade).collect();
        feeder.send_all(values);
        drain(&mut first);
        assert!(weak.iter().all(|weak| weak.strong_count() == 1));
        let (sooner, later) = if order == 0 {
            (first, second)
        } else {
            (second, first)
        };
        drop(sooner);
        assert!(weak.iter().all(|weak| weak.strong_count() == 1));
        assert!(feeder.is_alive());
        drop(later);
        assert!(weak.iter().all(|weak| weak.strong_count() == 0));
        assert!(!feeder.is_alive());
        assert!(weak_handle.subscribe().is_none());
    }
}

/// Values leave with the window: what is alive beside it is less than two blocks, and one for a subscriber that is stuck in it, until
/// it is told its loss; closing the last subscription frees all.
#[test]
fn values_are_freed_when_nobody_can_read_them() {
    for (window, block) in [
        (1, 1),
        (2, 1),
        (3, 1),
        (8, 4),
        (31, 8),
        (64, 32),
        (65, 32),
        (100, 32),
    ] {
        let (feeder, source) = feed::<Arc<u32>>();
        let mut first = broadcast_receiver(source, window).unwrap();
        let mut second = first.subscribe();
        let mut stuck = first.subscribe();
        let values: Vec<_> = (0..500).map(Arc::new).collect();
        let weak: Vec<Weak<u32>> = values.iter().map(Arc::downgrade).collect();
        let n_alive = |of: &[Weak<u32>]| of.iter().filter(|of| of.strong_count() > 0).count();
        feeder.send_all(values);
        for pulled in 1..=400 {
            value(&mut first);
            value(&mut second);
            if pulled == 1 {
                value(&mut stuck);
            }
            let taken = &weak[..500 - feeder.n_left()];
            let kept_by_stuck = n_alive(&taken[..block.min(taken.len())]);
            let most = window + 2 * block - 1;
            let alive = n_alive(taken);
            assert!(alive - kept_by_stuck <= most, "{alive} of {window}");
        }
        lost(&mut stuck);
        assert_eq!(n_alive(&weak[..block]), 0, "what was lost is kept");
        for mut receiver in [first, second, stuck] {
            receiver.close();
            assert!(feeder.is_alive(), "the source lives as long as a handle");
        }
        assert_eq!(n_alive(&weak[..400]), 0);
    }
}

/// An only subscriber keeps nothing alive, also if there were others before.
#[test]
fn a_sole_subscriber_keeps_nothing() {
    let (feeder, source) = feed::<Arc<u32>>();
    let mut first = broadcast_receiver(source, 8).unwrap();
    let second = first.subscribe();
    let values: Vec<_> = (0..5).map(Arc::new).collect();
    let weak: Vec<Weak<u32>> = values.iter().map(Arc::downgrade).collect();
    feeder.send_all(values);
    for _ in 0..4 {
        value(&mut first);
    }
    drop(second);
    drop(value(&mut first));
    assert!(weak.iter().all(|weak| weak.strong_count() == 0));
}

/// The source comes back to whoever gives the last handle up, exactly once, also from several threads at once.
#[test]
fn the_source_comes_back_once() {
    for _ in 0..200 {
        let first = broadcast_receiver(stream::iter(0..3), 2).unwrap();
        let receivers: Vec<_> = (0..3).map(|_| first.subscribe()).chain([]).collect();
        let n_sources: usize = thread::scope(|scope| {
            let threads: Vec<_> = receivers
                .into_iter()
                .chain([first])
                .map(|receiver| scope.spawn(|| usize::from(receiver.into_source().is_some())))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(n_sources, 1);
    }
}

/// A weak handle finds the broadcast while there is a receiver, closed or not, and keeps nothing alive.
#[test]
fn weak_handles_find_the_broadcast() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 2).unwrap();
    let weak = first.downgrade();
    first.close();
    let mut second = weak.clone().subscribe().unwrap();
    let mut third = weak.subscribe_from_oldest().unwrap();
    feeder.send_all(0..2);
    assert_eq!(drain(&mut second), [0, 1]);
    assert_eq!(drain(&mut third), [0, 1]);
    drop((first, second, third));
    assert!(weak.subscribe().is_none() && weak.subscribe_from_oldest().is_none());
    assert!(!feeder.is_alive());
}

/// B-059: `closed()` is the present state: pending while somebody is subscribed, woken at the last close, pending again for a newcomer.
#[test]
fn closed_waits_for_the_last_subscription() {
    let (_feeder, source) = feed::<u32>();
    let mut first = broadcast_receiver(source, 2).unwrap();
    let mut second = first.subscribe();
    let task = Task::new();
    let mut closed: Pin<&mut Closed<_>> = pin!(first.closed());
    assert!(task.poll_future(closed.as_mut()).is_pending());
    first.close();
    assert_eq!(task.wakes.take(), 0);
    second.close();
    assert_eq!(task.wakes.take(), 1);
    let third = second.subscribe();
    assert!(task.poll_future(closed.as_mut()).is_pending());
    drop(third);
    assert_eq!(task.wakes.take(), 1);
    assert!(task.poll_future(closed.as_mut()).is_ready());
    assert!(second.downgrade().closed().now_or_never().is_some());
}

/// `closed()` is woken by the source's end and by its panic, whoever finds it.
#[test]
fn closed_is_woken_by_the_end() {
    let (feeder, source) = feed::<u32>();
    let mut receiver = broadcast_receiver(source, 2).unwrap();
    let task = Task::new();
    let mut closed = pin!(receiver.closed());
    assert!(task.poll_future(closed.as_mut()).is_pending());
    assert!(poll(&mut receiver).is_pending());
    feeder.end();
    assert!(
        task.poll_future(closed.as_mut()).is_pending(),
        "nobody has asked"
    );
    assert_eq!(next(&mut receiver), None);
    assert_eq!(task.wakes.take(), 1);
    assert!(task.poll_future(closed.as_mut()).is_ready());
}

/// B-048: the figures; nobody is marked as pulling while all wait, also after a dropped receive.
#[test]
fn statistics_tell_backlogs_losses_and_waiters() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 3).unwrap();
    let mut slow = fast.subscribe();
    let idle = fast.subscribe();
    let task = Task::new();
    let of = |statistics: &trionics_broadcast::Statistics, id| {
        *statistics
            .subscribers
            .iter()
            .find(|of| of.id == id)
            .unwrap()
    };
    let before = fast.statistics();
    assert_eq!((before.max_buffer_size, before.subscribers.len()), (3, 3));
    assert_eq!(
        (before.n_waiting, before.n_pulls, before.puller),
        (0, 0, None)
    );
    assert!(before.subscribers.iter().all(|of| of.backlog == 0));
    feeder.send_all(0..5);
    drain(&mut fast);
    lost(&mut slow);
    drain(&mut slow);
    assert!(task.poll(&mut slow).is_pending());
    assert!(task.try_once(&mut fast).is_pending());
    let after = idle.statistics();
    assert_eq!((after.n_waiting, after.n_pulls, after.puller), (1, 5, None));
    let of_slow = of(&after, slow.id());
    assert_eq!(
        (of_slow.backlog, of_slow.n_lost, of_slow.is_waiting),
        (0, 2, true)
    );
    let of_idle = of(&after, idle.id());
    assert_eq!(
        (of_idle.backlog, of_idle.n_lost, of_idle.is_waiting),
        (5, 0, false)
    );
    let of_fast = of(&after, fast.id());
    assert_eq!(
        (of_fast.backlog, of_fast.n_lost, of_fast.is_waiting),
        (0, 0, false)
    );
}

type Boxed = Pin<Box<dyn Stream<Item = u32> + Send>>;

/// B-048: while somebody is inside the source's poll, it is named.
#[test]
fn statistics_name_the_puller() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let look: Arc<std::sync::Mutex<Option<BroadcastReceiver<Boxed>>>> = Arc::default();
    let (in_source, looking) = (seen.clone(), look.clone());
    let source: Boxed = Box::pin(stream::iter(0..2).inspect(move |_| {
        if let Some(receiver) = &*looking.lock().unwrap() {
            in_source.lock().unwrap().push(receiver.statistics().puller);
        }
    }));
    let mut first = broadcast_receiver(source, 2).unwrap();
    let mut second = first.subscribe();
    *look.lock().unwrap() = Some(first.subscribe());
    value(&mut first);
    value(&mut second);
    value(&mut second);
    look.lock().unwrap().take();
    assert_eq!(*seen.lock().unwrap(), [Some(first.id()), Some(second.id())]);
    assert_eq!(first.statistics().puller, None);
}

/// B-062: with back-pressure a full window makes the source wait until the slowest has read, and nobody loses anything.
#[test]
fn a_full_window_waits_for_the_slowest() {
    for window in [1, 2, 3, 40] {
        let (feeder, source) = feed();
        let settings = Broadcast::new(window).wait_for_slowest();
        let mut fast = settings.share(source).unwrap();
        let mut slow = fast.subscribe();
        let mut slowest = fast.subscribe();
        let (task, other) = (Task::new(), Task::new());
        feeder.send_all(0..window + 5);
        assert_eq!(drain(&mut fast).len(), window);
        assert!(task.poll(&mut fast).is_pending());
        assert_eq!(feeder.n_left(), 5, "the source waits");
        assert_eq!(value(&mut slow), 0);
        assert_eq!(task.wakes.take(), 0, "the slowest has not moved");
        assert_eq!(value(&mut slowest), 0);
        assert_eq!(task.wakes.take(), 1);
        assert_eq!(task.poll(&mut fast), Poll::Ready(Some(Ok(window))));
        assert!(other.poll(&mut fast).is_pending());
        drop(slowest);
        assert_eq!(other.wakes.take(), 0);
        value(&mut slow);
        assert_eq!(other.wakes.take(), 1);
        slow.close();
        assert_eq!(drain(&mut fast).len(), 4);
    }
}

/// B-062: closing the slowest lets the others go on; so does dropping it, and closing it from elsewhere.
#[test]
fn the_slowest_leaves() {
    for way in 0..3 {
        let mut fast = Broadcast::new(2)
            .wait_for_slowest()
            .share(stream::iter(0..6))
            .unwrap();
        let mut middle = fast.subscribe();
        let mut slowest = fast.subscribe();
        let task = Task::new();
        assert_eq!(drain(&mut fast), [0, 1]);
        assert_eq!(drain(&mut middle), [0, 1]);
        assert!(task.poll(&mut fast).is_pending());
        match way {
            0 => drop(slowest),
            1 => slowest.close(),
            _ => slowest.close_handle().close(),
        }
        assert_eq!(task.wakes.take(), 1);
        assert_eq!(drain(&mut fast), [2, 3]);
        assert_eq!(drain(&mut middle), [2, 3, 4, 5]);
        assert_eq!(drain(&mut fast), [4, 5]);
    }
}

/// With back-pressure, nobody loses a value, whichever subscription comes when, on several threads.
#[test]
fn back_pressure_loses_nothing_on_threads() {
    for window in [1, 2, 33] {
        let first = Broadcast::new(window)
            .wait_for_slowest()
            .share(stream::iter(0..3000_u32))
            .unwrap();
        let receivers = [
            first.subscribe(),
            first.subscribe(),
            first.subscribe_from_oldest(),
            first,
        ];
        thread::scope(|scope| {
            for mut receiver in receivers {
                scope.spawn(move || {
                    let mut late: Option<BroadcastReceiver<_>> = None;
                    let mut expected = 0;
                    while let Some(item) = block_on(receiver.recv()) {
                        assert_eq!(item, Ok(expected));
                        expected += 1;
                        if let Some(mut late) = late.take() {
                            assert!(matches!(late.try_recv(), Ok(_) | Err(TryRecvError::Empty)));
                        }
                        if expected % 7 == 0 {
                            late = Some(receiver.subscribe_from_oldest());
                        }
                    }
                    assert_eq!(expected, 3000);
                });
            }
        });
    }
}

/// Every public type may move between threads, and be shared by them, as far as source and values may.
#[test]
fn handles_are_for_all_threads() {
    fn all<T: Send + Sync + Unpin>() {}
    // `Feed` is neither `Sync` nor `Unpin`.
    all::<BroadcastReceiver<Feed<u32>>>();
    all::<trionics_broadcast::TryBroadcastReceiver<Feed<Result<u32, String>>>>();
    all::<trionics_broadcast::SkipLagged<BroadcastReceiver<Feed<u32>>>>();
    all::<trionics_broadcast::WeakTryBroadcastReceiver<Feed<Result<u32, String>>>>();
    all::<trionics_broadcast::CloseHandle<Feed<u32>>>();
    all::<trionics_broadcast::WeakBroadcastReceiver<Feed<u32>>>();
    all::<trionics_broadcast::Recv<'_, Feed<u32>>>();
    all::<trionics_broadcast::RecvRef<'_, Feed<u32>>>();
    all::<trionics_broadcast::ValueRef<'_, u32>>();
    all::<Closed<Feed<u32>>>();
    all::<trionics_broadcast::Statistics>();
    fn an_error_anywhere<T: std::error::Error + Send + Sync>() {}
    an_error_anywhere::<trionics_broadcast::CapacityError<Feed<u32>>>();
    all::<BroadcastError<String>>();
}
