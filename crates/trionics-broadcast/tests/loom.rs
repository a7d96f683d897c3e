//! Model checking of the production code: all interleavings of two or three threads, with at most two preemptions each.
//!
//! `RUSTFLAGS="--cfg trionics_loom" cargo test -p trionics-broadcast --release --test loom`
#![cfg(trionics_loom)]

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{Stream, stream};
use loom::{future::block_on, sync::Mutex, thread};
use trionics_broadcast::{Broadcast, BroadcastReceiver, TryRecvError, broadcast_receiver};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    // None of them needs it on an idle machine.
    builder.max_duration = Some(Duration::from_secs(20));
    builder.check(model);
}

/// A queue as a source: the sender is another thread.
struct Queue {
    items: VecDeque<u32>,
    has_ended: bool,
    waker: Option<Waker>,
}

struct Source(Arc<Mutex<Queue>>);

struct Sender(Arc<Mutex<Queue>>);

fn queue() -> (Sender, Source) {
    let queue = Arc::new(Mutex::new(Queue {
        items: VecDeque::new(),
        has_ended: false,
        waker: None,
    }));
    (Sender(queue.clone()), Source(queue))
}

impl Sender {
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.0.lock().unwrap();
        change(&mut queue);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn send(&self, item: u32) {
        self.change(|queue| queue.items.push_back(item));
    }

    fn end(&self) {
        self.change(|queue| queue.has_ended = true);
    }
}

impl Stream for Source {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut queue = self.0.lock().unwrap();
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.has_ended => Poll::Ready(None),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Receives to the end: values in order, and received + lost = `total`.
fn receive_all<S: Stream<Item = u32>>(receiver: &mut BroadcastReceiver<S>, total: u32) -> u32 {
    let mut expected = 0;
    let mut n_lost = 0;
    while let Some(item) = block_on(receiver.recv()) {
        match item {
            Ok(value) => {
                assert_eq!(value, expected);
                expected += 1;
            }
            Err(lagged) => {
                expected += lagged.count() as u32;
                n_lost += lagged.count() as u32;
            }
        }
    }
    assert_eq!(expected, total);
    n_lost
}

/// Pull, wait, end: whoever pulls, both get the value and the end; no wake is lost.
#[test]
fn a_value_and_the_end_reach_both() {
    check(|| {
        let (sender, source) = queue();
        let mut first = broadcast_receiver(source, 2).unwrap();
        let mut second = first.subscribe();
        let other = thread::spawn(move || assert_eq!(receive_all(&mut second, 1), 0));
        sender.send(0);
        sender.end();
        assert_eq!(receive_all(&mut first, 1), 0);
        other.join().unwrap();
    });
}

/// The same, with the sender on a third thread.
#[test]
fn a_sender_on_a_third_thread_wakes_both() {
    check(|| {
        let (sender, source) = queue();
        let mut first = broadcast_receiver(source, 2).unwrap();
        let mut second = first.subscribe();
        let other = thread::spawn(move || assert_eq!(block_on(second.recv()), Some(Ok(7))));
        let sending = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(first.recv()), Some(Ok(7)));
        other.join().unwrap();
        sending.join().unwrap();
    });
}

/// Lag: a window of one, and two threads that both pull: in order, exactly counted, and never torn.
#[test]
fn losses_are_exact_on_two_threads() {
    check(|| {
        let mut first = broadcast_receiver(stream::iter(0..2), 1).unwrap();
        let mut second = first.subscribe();
        let other = thread::spawn(move || receive_all(&mut second, 2));
        receive_all(&mut first, 2);
        other.join().unwrap();
    });
}

/// Blocks are opened, given up and used again while the other thread reads: what it reads is in order and never torn.
#[test]
fn blocks_change_under_a_reader() {
    check(|| {
        let mut first = broadcast_receiver(stream::iter(0..4), 1).unwrap();
        let mut second = first.subscribe();
        let other = thread::spawn(move || {
            let mut expected = 0;
            loop {
                match second.try_recv() {
                    Ok(value) => {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                    Err(TryRecvError::Lagged(lagged)) => expected += lagged.count() as u32,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        });
        receive_all(&mut first, 4);
        other.join().unwrap();
    });
}

/// Wait: a subscriber that waits is dropped on one thread; the other is not stranded.
#[test]
fn a_dropped_waiter_strands_nobody() {
    check(|| {
        let (sender, source) = queue();
        let mut first = broadcast_receiver(source, 2).unwrap();
        let mut second = first.subscribe();
        let other = thread::spawn(move || {
            let mut receive = Box::pin(second.recv());
            let _ = block_on(poll_fn(|context| {
                Poll::Ready(receive.as_mut().poll(context))
            }));
            drop(receive);
            drop(second);
        });
        let sending = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(first.recv()), Some(Ok(7)));
        other.join().unwrap();
        sending.join().unwrap();
    });
}

/// Close: from another thread, while the receive waits or is about to.
#[test]
fn a_closed_receive_ends() {
    check(|| {
        let mut first = broadcast_receiver(stream::pending::<u32>(), 2).unwrap();
        let handle = first.close_handle();
        let closing = thread::spawn(move || handle.close());
        assert_eq!(block_on(first.recv()), None);
        closing.join().unwrap();
    });
}

/// A newcomer joins while a sole subscriber is given values without storing them: from where it joins it misses nothing.
#[test]
fn a_newcomer_joins_a_sole_subscriber() {
    check(|| {
        let mut first = broadcast_receiver(stream::iter(0..3), 4).unwrap();
        let weak = first.downgrade();
        let other = thread::spawn(move || {
            let Some(mut newcomer) = weak.subscribe() else {
                return;
            };
            let mut expected = None;
            while let Some(item) = block_on(newcomer.recv()) {
                let value = item.unwrap();
                assert!(expected.is_none_or(|expected| value == expected));
                expected = Some(value + 1);
            }
            assert_eq!(expected.unwrap_or(3), 3);
        });
        assert_eq!(receive_all(&mut first, 3), 0);
        drop(first);
        other.join().unwrap();
    });
}

/// Who finds the source taken by a sole subscriber that is given its value parks, and is woken.
#[test]
fn a_newcomer_that_parks_is_woken() {
    check(|| {
        let (sender, source) = queue();
        sender.send(1);
        sender.send(2);
        let mut first = broadcast_receiver(source, 4).unwrap();
        let weak = first.downgrade();
        let other = thread::spawn(move || {
            let mut newcomer = weak.subscribe()?;
            block_on(newcomer.recv())
        });
        let got = block_on(first.recv());
        assert_eq!(got, Some(Ok(1)));
        sender.end();
        let of_newcomer = other.join().unwrap();
        assert!(matches!(of_newcomer, Some(Ok(1 | 2))));
        drop(first);
    });
}

/// The mode that waits for the slowest: nothing is lost, and nobody sleeps for ever.
#[test]
fn the_slowest_is_waited_for() {
    check(|| {
        let settings = Broadcast::new(1).wait_for_slowest();
        let mut first = settings.share(stream::iter(0..2)).unwrap();
        let mut second = first.subscribe();
        let other = thread::spawn(move || assert_eq!(receive_all(&mut second, 2), 0));
        assert_eq!(receive_all(&mut first, 2), 0);
        other.join().unwrap();
    });
}

/// The mode that waits for the slowest, which leaves.
#[test]
fn the_slowest_leaves() {
    check(|| {
        let settings = Broadcast::new(1).wait_for_slowest();
        let mut first = settings.share(stream::iter(0..2)).unwrap();
        let slowest = first.subscribe();
        let leaving = thread::spawn(move || drop(slowest));
        assert_eq!(receive_all(&mut first, 2), 0);
        leaving.join().unwrap();
    });
}

/// The last of two handles, given up on two threads, gets the source; `closed()` is woken.
#[test]
fn the_last_handle_gets_the_source() {
    check(|| {
        let first = broadcast_receiver(stream::iter(0..3), 1).unwrap();
        let second = first.subscribe();
        let closed = first.closed();
        let other = thread::spawn(move || second.into_source().is_some());
        let is_mine = first.into_source().is_some();
        block_on(closed);
        assert!(is_mine ^ other.join().unwrap());
    });
}

/// The end is told to who waits for nothing else.
#[test]
fn closed_hears_of_the_end() {
    check(|| {
        let mut first = broadcast_receiver(stream::iter(0..1), 1).unwrap();
        let closed = first.closed();
        let other = thread::spawn(move || block_on(closed));
        receive_all(&mut first, 1);
        other.join().unwrap();
        assert!(first.has_ended());
    });
}
