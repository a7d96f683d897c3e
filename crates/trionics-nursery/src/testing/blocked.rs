//! Waiting until everything else waits.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::executor::Executor;

/// Waits until nothing else can run without the clock moving.
///
/// A test uses it in place of a sleep, to be sure that the others have come as far as they can. Children of
/// a nursery and spawned tasks count alike. If several wait for this, all of them go on at once.
///
/// The semantics are those of trio's `testing.wait_all_tasks_blocked`.
///
/// # Panics
///
/// When polled outside [`run`](super::run).
///
/// # Cancel safety
///
/// Nothing is lost when it is dropped.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, time::Duration};
/// use trionics_nursery::{checkpoint, sleep, testing};
///
/// testing::run(async {
///     let progress = Cell::new(0);
///     let work = async {
///         for _ in 0..10 {
///             checkpoint().await;
///             progress.set(progress.get() + 1);
///         }
///         sleep(Duration::from_secs(1)).await;
///         progress.set(1000);
///     };
///     let look = async {
///         testing::wait_all_blocked().await;
///         assert_eq!(progress.get(), 10);
///     };
///     futures::join!(work, look);
/// });
/// ```
pub fn wait_all_blocked() -> WaitAllBlocked {
    WaitAllBlocked { waiting: None }
}

/// The future of [`wait_all_blocked`].
#[must_use = "futures do nothing unless polled"]
pub struct WaitAllBlocked {
    waiting: Option<Arc<Waiting>>,
}

impl Future for WaitAllBlocked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let known = self.waiting.is_some();
        let waiting = Arc::clone(self.waiting.get_or_insert_with(Arc::default));
        if waiting.released.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        waiting.register(Some(cx.waker().clone()));
        if !known {
            Executor::current("wait_all_blocked").wait_until_blocked(&waiting);
        }
        Poll::Pending
    }
}

impl Drop for WaitAllBlocked {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.register(None);
        }
    }
}

impl fmt::Debug for WaitAllBlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitAllBlocked").finish_non_exhaustive()
    }
}

/// One who waits; the executor lets it go.
#[derive(Default)]
pub(super) struct Waiting {
    released: AtomicBool,
    /// `None` once nobody waits any more.
    waker: Mutex<Option<Waker>>,
}

impl Waiting {
    fn register(&self, waker: Option<Waker>) {
        let replaced = {
            let mut known = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, waker)
        };
        drop(replaced);
    }

    /// False if it has given up.
    pub(super) fn release(&self) -> bool {
        let waker = {
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            waker.take()
        };
        self.released.store(true, Ordering::Relaxed);
        match waker {
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        }
    }
}
