//! What users of other broadcast channels expect, where no other test of ours says it.

mod common;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker},
    thread,
};

use common::{Task, Wakes, drain, feed, lost, next, poll, value};
use futures::{FutureExt as _, Stream, StreamExt as _, executor::block_on, stream};
use trionics_broadcast::{
    Broadcast, BroadcastReceiver, MAX_BUFFER_SIZE, TryRecvError, broadcast_receiver,
    receive_stream, try_broadcast_receiver,
};

/// Panics if it is polled after its end, as a stream may.
struct Once<T>(Option<Vec<T>>);

impl<T: Unpin> Stream for Once<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<T>> {
        let items = self.0.as_mut().expect("polled after its end");
        if items.is_empty() {
            self.0 = None;
            return Poll::Ready(None);
        }
        Poll::Ready(Some(items.remove(0)))
    }
}

/// futures' `fuse`: a source is not polled after its end, by whomever and however often it is asked, alone or not.
#[test]
fn a_source_is_never_polled_after_its_end() {
    for n_others in [0, 1, 3] {
        let mut first = broadcast_receiver(Once(Some(vec![1, 2])), 4).unwrap();
        let mut others: Vec<_> = (0..n_others).map(|_| first.subscribe()).collect();
        for _ in 0..3 {
            drain(&mut first);
            others.iter_mut().for_each(|other| drop(drain(other)));
            assert_eq!(first.try_recv(), Err(TryRecvError::Closed));
        }
        for mut late in [first.subscribe(), first.subscribe_from_oldest()] {
            drain(&mut late);
            assert_eq!(next(&mut late), None);
        }
        drop(others);
        assert_eq!(next(&mut first), None);
        assert_eq!(next(&mut first), None);
        assert!(block_on(first.closed().map(|()| true)));
    }
}

/// tokio's `receiver_recv_after_close`, async-broadcast: who has lost values when the source ends is told so, has the window, then
/// the end.
#[test]
fn a_loss_comes_before_the_end() {
    for window in [1, 2, 3, 5, 64, 100] {
        let mut fast = broadcast_receiver(stream::iter(0..200_u64), window).unwrap();
        let mut slow = fast.subscribe();
        let mut late = fast.subscribe();
        assert_eq!(value(&mut late), 0);
        while next(&mut fast).is_some() {}
        assert_eq!(slow.len(), 200);
        assert_eq!(lost(&mut slow), 200 - window as u64);
        assert_eq!(slow.len(), window);
        assert_eq!(
            drain(&mut slow),
            (200 - window as u64..200).collect::<Vec<_>>()
        );
        assert_eq!((next(&mut slow), slow.len()), (None, 0));
        // Without waiting it is the same.
        let told = late.try_recv().unwrap_err();
        assert!(
            matches!(told, TryRecvError::Lagged(lagged) if lagged.count() == 199 - window as u64)
        );
        for number in 200 - window as u64..200 {
            assert_eq!(late.try_recv(), Ok(number));
        }
        assert_eq!(late.try_recv(), Err(TryRecvError::Closed));
    }
}

/// tokio, for each way to receive: a loss is told once, by the receive that was polled, and not by one that was dropped unpolled.
#[test]
fn a_loss_is_told_by_a_receive_that_was_polled() {
    let mut fast = broadcast_receiver(stream::iter(0..100), 2).unwrap();
    let mut slow = fast.subscribe();
    for _ in 0..10 {
        value(&mut fast);
    }
    drop(slow.recv());
    drop(slow.recv_ref());
    assert_eq!((slow.n_lost(), slow.len()), (0, 10));
    {
        let task = Task::new();
        let Poll::Ready(Some(Err(lagged))) = task.poll_future(pin!(slow.recv_ref())) else {
            panic!("no loss");
        };
        assert_eq!(lagged.count(), 8);
    }
    assert_eq!(
        (slow.n_lost(), value(&mut slow), value(&mut slow)),
        (8, 8, 9)
    );
    assert!(slow.is_empty());
}

/// trio's memory channels: closing the handle that all others were made from ends it alone; from a closed one others can be made.
#[test]
fn the_first_handle_is_no_master() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let task = Task::new();
    assert!(task.poll(&mut second).is_pending());
    first.close();
    let mut third = first.subscribe();
    assert!(!third.is_closed() && next(&mut first).is_none());
    feeder.send_all([1, 2]);
    assert_eq!((value(&mut second), value(&mut third)), (1, 1));
    drop(first);
    assert_eq!((value(&mut second), value(&mut third)), (2, 2));
    drop(second);
    feeder.send(3);
    assert_eq!(value(&mut third), 3);
    drop(third);
    assert!(!feeder.is_alive());
}

/// tokio's `dropping_a_woken_receiver`: who was woken for a value and is dropped before it looks strands none of the others, each of
/// which was woken for itself.
#[test]
fn a_woken_task_that_goes_strands_nobody() {
    for goes in 0..3 {
        let (feeder, source) = feed();
        let mut receivers = vec![broadcast_receiver(source, 4).unwrap()];
        receivers.push(receivers[0].subscribe());
        receivers.push(receivers[0].subscribe());
        let tasks: Vec<_> = receivers.iter().map(|_| Task::new()).collect();
        for (receiver, task) in receivers.iter_mut().zip(&tasks) {
            assert!(task.poll(receiver).is_pending());
        }
        feeder.send(7);
        assert!(tasks.iter().all(|task| task.wakes.take() == 1));
        drop(receivers.remove(goes));
        for receiver in &mut receivers {
            assert_eq!(value(receiver), 7);
        }
    }
}

/// trio's fairness: those who wait are woken in the order in which they began to wait, where nobody has left in between.
#[test]
fn wakes_come_in_the_order_of_waiting() {
    struct Noting(usize, Arc<Mutex<Vec<usize>>>);
    impl Wake for Noting {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let (feeder, source) = feed();
    let mut receivers = vec![broadcast_receiver(source, 4).unwrap()];
    for _ in 1..20 {
        receivers.push(receivers[0].subscribe());
    }
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    for round in 0..3 {
        for (index, receiver) in receivers.iter_mut().enumerate().rev() {
            let waker = Waker::from(Arc::new(Noting(index, order.clone())));
            let polled = receiver.poll_recv(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        feeder.send(round);
        let woken = std::mem::take(&mut *order.lock().unwrap());
        assert_eq!(woken, (0..20).rev().collect::<Vec<_>>());
        for receiver in &mut receivers {
            assert_eq!(value(receiver), round);
        }
    }
}

/// Counts itself while it lives, notes its drop, and may panic in it.
#[derive(Debug)]
struct Payload {
    number: u32,
    drops: Arc<Mutex<Vec<u32>>>,
    panics: bool,
}

impl Clone for Payload {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            drops: Arc::default(),
            panics: false,
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.drops.lock().unwrap().push(self.number);
        assert!(
            !self.panics || thread::panicking(),
            "payload {}",
            self.number
        );
    }
}

fn payloads(drops: &Arc<Mutex<Vec<u32>>>, panics: u32) -> impl Stream<Item = Payload> + use<> {
    let drops = drops.clone();
    stream::iter(0..1000).map(move |number| Payload {
        number,
        drops: drops.clone(),
        panics: number == panics,
    })
}

/// `VecDeque`, tokio: values go in the order in which they came, whether they leave the window or are dropped with the last handle.
#[test]
fn values_are_dropped_in_order() {
    for window in [1, 2, 7, 64, 100] {
        let drops: Arc<Mutex<Vec<u32>>> = Arc::default();
        let mut fast = broadcast_receiver(payloads(&drops, u32::MAX), window).unwrap();
        let slow = fast.subscribe();
        for number in 0..200 {
            assert_eq!(value(&mut fast).number, number);
        }
        drop(slow);
        drop(fast);
        let dropped = std::mem::take(&mut *drops.lock().unwrap());
        assert_eq!(dropped, (0..200).collect::<Vec<_>>(), "{window}");
    }
}

/// A value whose drop panics when it leaves the window: the receive that makes room panics, the others have every value, each is
/// dropped once, and the source goes on.
#[test]
fn a_value_whose_drop_panics_costs_one_receive() {
    let drops: Arc<Mutex<Vec<u32>>> = Arc::default();
    let mut fast = broadcast_receiver(payloads(&drops, 3), 4).unwrap();
    let mut second = fast.subscribe();
    let mut n_panics = 0;
    for _ in 0..40 {
        let both = [&mut fast, &mut second].map(|receiver| {
            catch_unwind(AssertUnwindSafe(|| value(receiver).number)).inspect_err(|_| ())
        });
        n_panics += both.iter().filter(|it| it.is_err()).count();
        for number in both.into_iter().flatten() {
            assert!(number < 41);
        }
    }
    assert_eq!(n_panics, 1);
    let (at_first, at_second) = (value(&mut fast).number, value(&mut second).number);
    assert!(at_first == 40 && at_second == 40, "{at_first}, {at_second}");
    drop((fast, second));
    let mut dropped = drops.lock().unwrap().clone();
    dropped.sort_unstable();
    assert_eq!(dropped, (0..41).collect::<Vec<_>>());
}

/// A waker whose clone panics, or that is told off by its executor: the poll panics, no place is kept for it, and values go on.
#[test]
fn a_waker_that_cannot_be_cloned_costs_one_poll() {
    const TABLE: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("no clone"), |_| (), |_| (), |_| ());
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    // SAFETY: the functions use nothing.
    #[allow(unsafe_code, reason = "a safe `Wake` cannot panic in its clone")]
    let fragile = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) };
    let task = Task::new();
    for receiver in [&mut first, &mut second] {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            receiver.poll_recv(&mut Context::from_waker(&fragile))
        }));
        assert!(polled.is_err());
        assert_eq!(receiver.statistics().n_waiting, 0);
    }
    assert!(task.poll(&mut second).is_pending());
    feeder.send(5);
    assert_eq!(task.wakes.take(), 1);
    assert_eq!((value(&mut second), value(&mut first)), (5, 5));
}

/// tokio's `len`: the backlog counts up with each value taken, over and beyond the window, is what is kept after the loss was told,
/// and a receive takes one.
#[test]
fn the_backlog_counts_every_value() {
    let mut fast = broadcast_receiver(stream::iter(0..), 3).unwrap();
    let mut slow = fast.subscribe();
    assert!(slow.is_empty() && fast.is_empty());
    for n_taken in 1..=10 {
        value(&mut fast);
        assert_eq!(
            (slow.len(), slow.is_empty(), fast.len()),
            (n_taken, false, 0)
        );
        let seen = slow.statistics();
        let of_slow = seen.subscribers.iter().find(|of| of.id == slow.id());
        assert_eq!(of_slow.unwrap().backlog, n_taken as u64);
    }
    assert_eq!((lost(&mut slow), slow.len()), (7, 3));
    value(&mut fast);
    // The next one of the window is lost again, before it was read.
    assert_eq!((slow.len(), lost(&mut slow), slow.len()), (4, 1, 3));
    assert_eq!((value(&mut slow), slow.len()), (8, 2));
    slow.close();
    assert_eq!((slow.len(), slow.is_empty()), (0, true));
}

/// tokio, async-broadcast: the largest window allocates nothing before it is used, and the smallest ones, powers of two or not, are
/// exact over many turns of the ring.
#[test]
fn windows_of_every_size_are_exact() {
    let mut huge = broadcast_receiver(stream::iter(0..), MAX_BUFFER_SIZE).unwrap();
    let mut slow = huge.subscribe();
    for number in 0..1000 {
        assert_eq!(value(&mut huge), number);
    }
    assert_eq!(drain_n(&mut slow, 1000), (0..1000).collect::<Vec<_>>());
    for window in 1..70 {
        let mut fast = broadcast_receiver(stream::iter(0..), window).unwrap();
        let mut slow = fast.subscribe();
        let mut expected = 0;
        for turn in 1..20_usize {
            let behind = window + turn % 3;
            for _ in 0..behind {
                value(&mut fast);
            }
            let n_lost = behind - window;
            if n_lost > 0 {
                assert_eq!(lost(&mut slow), n_lost as u64);
            }
            expected += n_lost;
            let kept: Vec<_> = (expected..expected + window).collect();
            assert_eq!(drain_n(&mut slow, window), kept, "{window}, {turn}");
            expected += window;
        }
    }
    for refused in [0, MAX_BUFFER_SIZE + 1, usize::MAX] {
        let error = broadcast_receiver(stream::iter(0..1), refused).unwrap_err();
        assert!(error.to_string().contains(&refused.to_string()), "{error}");
        assert!(try_broadcast_receiver(stream::iter([Ok::<_, ()>(1)]), refused).is_err());
    }
}

fn drain_n<S: Stream<Item: Clone>>(receiver: &mut BroadcastReceiver<S>, n: usize) -> Vec<S::Item> {
    (0..n).map(|_| value(receiver)).collect()
}

/// A subscription is made and dropped for each value, by the thousand: nothing is kept of those that have gone, and ids are never
/// used twice.
#[test]
fn subscriptions_come_and_go() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 2).unwrap();
    let mut ids = std::collections::BTreeSet::from([first.id()]);
    for round in 0..2000 {
        let mut passing = first.subscribe();
        assert!(ids.insert(passing.id()));
        feeder.send(round);
        if round % 2 == 0 {
            assert_eq!(value(&mut passing), round);
        } else {
            let task = Task::new();
            assert!(task.poll(&mut first).is_ready());
            continue;
        }
        assert_eq!(value(&mut first), round);
        assert_eq!(first.statistics().subscribers.len(), 2);
    }
    let seen = first.statistics();
    assert_eq!(
        (seen.subscribers.len(), seen.n_waiting, seen.n_pulls),
        (1, 0, 2000)
    );
}

/// stream-broadcast, postage: looked at, written out and counted inside the source's poll, the broadcast answers and does not wait
/// for itself.
#[test]
fn a_source_may_look_at_its_broadcast() {
    type Look = Box<dyn Fn() -> String + Send>;
    let seen: Arc<Mutex<Option<Look>>> = Arc::default();
    let looking = seen.clone();
    let source = stream::poll_fn(move |_context| {
        let text = looking.lock().unwrap().as_ref().map(|look| look());
        Poll::Ready(text)
    });
    let mut first = broadcast_receiver(source.boxed(), 4).unwrap();
    let mut second = first.subscribe();
    let (weak, handle) = (first.downgrade(), first.close_handle());
    *seen.lock().unwrap() = Some(Box::new(move || {
        let receiver = weak.subscribe().unwrap();
        let statistics = receiver.statistics();
        let text = format!("{weak:?} {handle:?} {receiver:?} {}", receiver.len());
        assert!(!text.is_empty() && !receiver.has_ended());
        assert_eq!(statistics.puller, Some(0));
        format!("{}", statistics.subscribers.len())
    }));
    assert_eq!(
        (value(&mut first), value(&mut second)),
        ("3".into(), "3".into())
    );
    seen.lock().unwrap().take();
    assert_eq!(next(&mut first), None);
}

/// The last subscription is dropped by the source itself, in the middle of its poll: nothing hangs, and the source is dropped after
/// its poll.
#[test]
fn the_last_handle_may_be_dropped_inside_the_source() {
    type Held = Arc<Mutex<Option<BroadcastReceiver<Pin<Box<dyn Stream<Item = u8> + Send>>>>>>;
    let (held, is_dropped): (Held, _) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    struct Witness(Arc<AtomicBool>);
    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (inside, witness) = (held.clone(), Witness(is_dropped.clone()));
    let source = stream::poll_fn(move |_context| {
        let other = inside.lock().unwrap().take();
        drop(other);
        assert!(!witness.0.load(Ordering::SeqCst));
        Poll::Ready(Some(1))
    });
    let source: Pin<Box<dyn Stream<Item = u8> + Send>> = Box::pin(source);
    let mut first = broadcast_receiver(source, 4).unwrap();
    *held.lock().unwrap() = Some(first.subscribe());
    assert_eq!((value(&mut first), value(&mut first)), (1, 1));
    assert_eq!(first.statistics().subscribers.len(), 1);
    drop(first);
    assert!(is_dropped.load(Ordering::SeqCst));
}

/// A source that has panicked is given back like any other, and was not polled again.
#[test]
fn a_source_that_has_panicked_is_given_back() {
    let n_polls = Arc::new(AtomicUsize::new(0));
    let counts = n_polls.clone();
    let source = stream::poll_fn(move |_context| -> Poll<Option<u8>> {
        counts.fetch_add(1, Ordering::SeqCst);
        panic!("the source panics")
    });
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    assert_eq!((next(&mut second), next(&mut first)), (None, None));
    assert!(second.closed().now_or_never().is_some());
    assert!(first.into_source().is_none());
    assert!(second.into_source().is_some());
    assert_eq!(n_polls.load(Ordering::SeqCst), 1);
}

/// tokio-stream's `try_next`, anyhow: a failure reaches all as the very same error, without a clone of it, is kept for latecomers, and
/// ends a stream that goes on after it.
#[test]
fn a_failure_is_one_and_the_same_for_all() {
    #[derive(Debug)]
    struct Bare;
    let source = stream::iter([Ok(1), Err(Bare), Ok(2)]);
    let mut first = try_broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    assert_eq!(block_on(first.recv()).unwrap().unwrap(), 1);
    let told = block_on(first.recv()).unwrap().unwrap_err();
    assert!(block_on(first.recv()).is_none());
    let failure = first.failure().unwrap();
    assert_eq!(block_on(second.recv()).unwrap().unwrap(), 1);
    let again = block_on(second.recv()).unwrap().unwrap_err();
    let late = block_on(second.subscribe().recv()).unwrap().unwrap_err();
    for told in [told, again, late] {
        let trionics_broadcast::BroadcastError::Source(told) = told else {
            panic!("{told:?}");
        };
        assert!(Arc::ptr_eq(&told, &failure));
    }
    assert!(block_on(second.recv()).is_none());
}

/// A receive function that panics at its call, or later in its future: the one who polls it gets the panic, the others the end.
#[test]
fn a_receive_function_that_panics_ends_the_stream() {
    for at_once in [true, false] {
        let receive = async move || -> Option<u8> {
            assert!(!at_once, "at once");
            let mut has_waited = false;
            futures::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                match std::mem::replace(&mut has_waited, true) {
                    true => panic!("later"),
                    false => Poll::Pending,
                }
            })
            .await
        };
        let mut first = broadcast_receiver(receive_stream(receive), 4).unwrap();
        let mut second = first.subscribe();
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut first)));
        assert!(polled.is_err());
        assert_eq!((next(&mut second), next(&mut first)), (None, None));
        assert!(first.has_panicked());
    }
}

/// async-broadcast's `await_active`, tokio's blocking receives: threads that block on receives while others subscribe, close from
/// elsewhere and drop: everybody gets a gapless run or is told the gap, and all come to an end.
#[test]
fn threads_that_come_and_go_get_gapless_runs() {
    const N: u64 = 20_000;
    let mut first = broadcast_receiver(stream::iter(0..N), 8).unwrap();
    thread::scope(|threads| {
        for kind in 0..4 {
            let mut receiver = first.subscribe();
            threads.spawn(move || {
                let mut expected = None;
                let mut n_seen = 0_u64;
                loop {
                    match block_on(receiver.recv()) {
                        Some(Ok(number)) => {
                            assert!(expected.is_none_or(|it| it == number));
                            expected = Some(number + 1);
                        }
                        Some(Err(lagged)) => {
                            expected = expected.map(|it| it + lagged.count());
                        }
                        None => break,
                    }
                    n_seen += 1;
                    if n_seen.is_multiple_of(100) {
                        match kind {
                            // A new one in its place, whose run begins anew.
                            0 => {
                                receiver = receiver.subscribe();
                                expected = None;
                            }
                            1 => {
                                let other = receiver.subscribe();
                                other.close_handle().close();
                            }
                            2 => drop(receiver.recv()),
                            _ => thread::yield_now(),
                        }
                    }
                }
                assert!(
                    kind == 0 || expected.is_none_or(|it| it == N),
                    "{expected:?}"
                );
            });
        }
        while block_on(first.recv()).is_some() {}
    });
    assert_eq!(first.statistics().n_pulls, N);
}

/// With back-pressure, a window of one and a subscription that is only closed from elsewhere: the value that waits goes on at once,
/// and whoever waits is woken exactly for that.
#[test]
fn back_pressure_in_a_window_of_one() {
    let mut fast = Broadcast::new(1)
        .wait_for_slowest()
        .share(stream::iter(0..))
        .unwrap();
    let mut slow = fast.subscribe();
    let idle = fast.subscribe();
    let handle = idle.close_handle();
    let task = Task::new();
    assert_eq!(value(&mut fast), 0);
    assert!(task.poll(&mut fast).is_pending());
    assert_eq!(value(&mut slow), 0);
    assert!(poll(&mut slow).is_pending());
    assert_eq!(task.wakes.take(), 0);
    handle.close();
    assert_eq!(task.wakes.take(), 1);
    assert_eq!((value(&mut fast), value(&mut slow)), (1, 1));
    drop(idle);
    let late = slow.subscribe();
    assert!(late.is_empty());
    drop(late);
    assert_eq!((value(&mut slow), value(&mut fast)), (2, 2));
}

/// A subscription that was closed from elsewhere in the middle of a block keeps that block until it looks, or is dropped.
#[test]
fn what_was_closed_from_elsewhere_lets_go_when_it_looks() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 8).unwrap();
    let mut second = first.subscribe();
    let payload = Arc::new(());
    feeder.send_all((0..4).map(|_| payload.clone()));
    drop(value(&mut first));
    drop(value(&mut second));
    first.close();
    second.close_handle().close();
    assert!(second.is_closed() && second.is_empty());
    // The source has the rest.
    let n_left = feeder.n_left();
    assert_eq!(next(&mut second), None);
    assert_eq!(Arc::strong_count(&payload), 1 + n_left);
}

/// Wakes are counted by the thousand: a value costs each who waits one wake, however often it has polled and moved.
#[test]
fn a_wake_is_one_however_often_it_was_asked_for() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut others: Vec<_> = (0..50).map(|_| first.subscribe()).collect();
    let (wakes, waker) = Wakes::new();
    for round in 0..20 {
        for _ in 0..=round {
            for receiver in others.iter_mut().chain([&mut first]) {
                let polled = receiver.poll_recv(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
        }
        assert_eq!(wakes.take(), 0);
        feeder.send(round);
        assert_eq!(wakes.take(), 51);
        for receiver in others.iter_mut().chain([&mut first]) {
            assert_eq!(value(receiver), round);
        }
    }
}
