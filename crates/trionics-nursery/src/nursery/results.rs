//! The values of children in the order in which they come.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use trionics_errgroup::ChildEnded;

use super::handle::Sink;
use crate::{
    sync::{Mutex, MutexGuard, lock},
    wake::wake_outside,
};

/// What collects the values, and what yields them.
pub(super) fn results<V>() -> (ResultsSink<V>, Results<V>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            ended: VecDeque::new(),
            n_running: 0,
            waker: None,
        }),
    });
    (
        ResultsSink {
            shared: Arc::clone(&shared),
        },
        Results { shared },
    )
}

/// Yields the value of each child that was started with the matching [`ResultsSink`], in the order in
/// which the children end.
///
/// It ends when no such child is left, and goes on when another is started.
///
/// # Cancel safety
///
/// Nothing is lost when a future that awaits its next value is dropped. Dropping the stream lets the
/// children run on.
pub struct Results<V> {
    shared: Arc<Shared<V>>,
}

/// Names the children whose values a [`Results`] yields.
pub struct ResultsSink<V> {
    shared: Arc<Shared<V>>,
}

struct Shared<V> {
    state: Mutex<State<V>>,
}

struct State<V> {
    ended: VecDeque<Result<V, ChildEnded>>,
    n_running: usize,
    waker: Option<Waker>,
}

impl<V> Shared<V> {
    fn lock(&self) -> MutexGuard<'_, State<V>> {
        lock(&self.state)
    }
}

impl<V> Results<V> {
    /// How many children have neither ended nor been yielded.
    #[must_use]
    pub fn n_running(&self) -> usize {
        self.shared.lock().n_running
    }
}

impl<V> Stream for Results<V> {
    type Item = Result<V, ChildEnded>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let waker = cx.waker().clone();
        let (polled, replaced) = {
            let mut state = self.shared.lock();
            match state.ended.pop_front() {
                Some(result) => (Poll::Ready(Some(result)), None),
                None if state.n_running == 0 => (Poll::Ready(None), None),
                None => (Poll::Pending, state.waker.replace(waker)),
            }
        };
        drop(replaced);
        polled
    }
}

impl<V> ResultsSink<V> {
    /// One child more.
    pub(super) fn begin(&self) -> OneResult<V> {
        self.shared.lock().n_running += 1;
        OneResult {
            shared: Arc::clone(&self.shared),
            told: Mutex::new(false),
        }
    }
}

/// Where one child's result goes.
pub(super) struct OneResult<V> {
    shared: Arc<Shared<V>>,
    told: Mutex<bool>,
}

impl<V> Sink<V> for OneResult<V> {
    fn end(&self, result: Result<V, ChildEnded>) {
        if std::mem::replace(&mut *lock(&self.told), true) {
            return;
        }
        let waker = {
            let mut state = self.shared.lock();
            state.n_running -= 1;
            state.ended.push_back(result);
            state.waker.take()
        };
        wake_outside(waker);
    }
}

impl<V> Clone for ResultsSink<V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<V> fmt::Debug for Results<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results")
            .field("n_running", &self.n_running())
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for ResultsSink<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultsSink").finish_non_exhaustive()
    }
}
