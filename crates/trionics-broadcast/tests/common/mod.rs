//! A source that is fed by hand, and polls that are made by hand and count their wakes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    cell::Cell,
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::Stream;
use trionics_broadcast::{BroadcastReceiver, Lagged};

/// Counts how often it was woken.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (wakes.clone(), Waker::from(wakes))
    }

    /// The wakes since the last call.
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A task: polls receives, and knows how often it was woken.
pub struct Task {
    pub wakes: Arc<Wakes>,
    pub waker: Waker,
}

impl Task {
    pub fn new() -> Self {
        let (wakes, waker) = Wakes::new();
        Self { wakes, waker }
    }

    /// Polls a new receive once, then drops it; the registration is gone afterwards.
    pub fn try_once<S: Stream<Item: Clone>>(
        &self,
        receiver: &mut BroadcastReceiver<S>,
    ) -> Poll<Option<Result<S::Item, Lagged>>> {
        let future = pin!(receiver.recv());
        future.poll(&mut Context::from_waker(&self.waker))
    }

    /// Polls as a stream, which stays parked.
    pub fn poll<S: Stream<Item: Clone>>(
        &self,
        receiver: &mut BroadcastReceiver<S>,
    ) -> Poll<Option<Result<S::Item, Lagged>>> {
        receiver.poll_recv(&mut Context::from_waker(&self.waker))
    }

    pub fn poll_future<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker))
    }
}

/// Polls as a stream, with wakes ignored, and once more after a grace yield.
pub fn poll<S: Stream<Item: Clone>>(
    receiver: &mut BroadcastReceiver<S>,
) -> Poll<Option<Result<S::Item, Lagged>>> {
    let task = Task::new();
    let first = task.poll(receiver);
    if first.is_pending() && task.wakes.take() > 0 {
        return task.poll(receiver);
    }
    first
}

/// What a receive that has to be ready gives.
#[track_caller]
pub fn next<S: Stream<Item: Clone>>(
    receiver: &mut BroadcastReceiver<S>,
) -> Option<Result<S::Item, Lagged>> {
    match poll(receiver) {
        Poll::Ready(item) => item,
        Poll::Pending => panic!("the receive is pending"),
    }
}

/// The value that a receive has to give.
#[track_caller]
pub fn value<S: Stream<Item: Clone>>(receiver: &mut BroadcastReceiver<S>) -> S::Item {
    match next(receiver) {
        Some(Ok(value)) => value,
        Some(Err(lagged)) => panic!("{lagged}"),
        None => panic!("the end"),
    }
}

/// The loss that a receive has to tell.
#[track_caller]
pub fn lost<S: Stream<Item: Clone>>(receiver: &mut BroadcastReceiver<S>) -> u64 {
    match next(receiver) {
        Some(Err(lagged)) => lagged.count(),
        Some(Ok(_)) => panic!("a value instead of a loss"),
        None => panic!("the end instead of a loss"),
    }
}

/// Everything that can be received until the source has nothing more.
pub fn drain<S: Stream<Item: Clone>>(receiver: &mut BroadcastReceiver<S>) -> Vec<S::Item> {
    let mut values = Vec::new();
    while let Poll::Ready(Some(item)) = poll(receiver) {
        values.push(item.expect("no loss"));
    }
    values
}

struct Script<T> {
    items: VecDeque<T>,
    has_ended: bool,
    waker: Option<Waker>,
    n_polls: usize,
}

/// The end of a [`feed`] that puts items in.
pub struct Feeder<T>(Arc<Mutex<Script<T>>>);

/// The end of a [`feed`] that is the source.
pub struct Feed<T> {
    script: Arc<Mutex<Script<T>>>,
    /// A source need not be `Sync`, nor `Unpin`.
    _not_sync: Cell<()>,
    _not_unpin: std::marker::PhantomPinned,
}

pub fn feed<T>() -> (Feeder<T>, Feed<T>) {
    let script = Arc::new(Mutex::new(Script {
        items: VecDeque::new(),
        has_ended: false,
        waker: None,
        n_polls: 0,
    }));
    let feed = Feed {
        script: script.clone(),
        _not_sync: Cell::new(()),
        _not_unpin: std::marker::PhantomPinned,
    };
    (Feeder(script), feed)
}

impl<T> Feeder<T> {
    pub fn send(&self, item: T) {
        self.send_all([item]);
    }

    /// One wake for all.
    pub fn send_all(&self, items: impl IntoIterator<Item = T>) {
        let mut script = self.0.lock().unwrap();
        script.items.extend(items);
        let waker = script.waker.take();
        drop(script);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn end(&self) {
        self.0.lock().unwrap().has_ended = true;
        self.wake();
    }

    /// Wakes without an item.
    pub fn wake(&self) {
        let waker = self.0.lock().unwrap().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Items that nobody has taken.
    pub fn n_left(&self) -> usize {
        self.0.lock().unwrap().items.len()
    }

    pub fn n_polls(&self) -> usize {
        self.0.lock().unwrap().n_polls
    }

    pub fn has_waker(&self) -> bool {
        self.0.lock().unwrap().waker.is_some()
    }

    /// Whether the source is still there.
    pub fn is_alive(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl<T> Stream for Feed<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut script = self.script.lock().unwrap();
        script.n_polls += 1;
        if let Some(item) = script.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if script.has_ended {
            return Poll::Ready(None);
        }
        script.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
