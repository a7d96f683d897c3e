//! An await that is pending once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::deadline::notice_due;

/// Lets others run once, and lets a cancellation stop the code here.
///
/// A loop without a pending await cannot be stopped; with a checkpoint in it, it can.
///
/// # Cancel safety
///
/// Nothing is lost when it is dropped. In a cancelled scope the code does not go on after it.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, checkpoint};
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// scope.cancel("stop");
/// let outcome = scope
///     .run(async {
///         loop {
///             checkpoint().await;
///         }
///     })
///     .await;
/// assert!(outcome.is_err());
/// # });
/// ```
pub fn checkpoint() -> Checkpoint {
    Checkpoint { passed: false }
}

/// The future of [`checkpoint`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Checkpoint {
    passed: bool,
}

impl Future for Checkpoint {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.passed {
            return Poll::Ready(());
        }
        self.passed = true;
        notice_due();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
