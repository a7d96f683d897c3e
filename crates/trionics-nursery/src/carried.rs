//! Futures that carry their scope to another task.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Cancelled;

use crate::{
    current,
    frame::{Ended, Frame, Framed},
    node::Node,
    report::FrameKind,
};

/// Carries the current scope along with `future`, into a bare `tokio::spawn` for instance.
///
/// The future belongs to the frame that calls this, whoever polls it: it is stopped when that frame is
/// cancelled, exits included, and a cancelled frame waits for it as for any frame inside. Nobody joins
/// it otherwise: a nursery's child is the better choice where the result or the end matters.
///
/// # Errors
///
/// [`Cancelled`] if it was stopped and is polled where nothing around is cancelled, as in a task of its
/// own.
///
/// # Cancel safety
///
/// As for [`CancelScope::run`](crate::CancelScope::run).
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, in_current_scope};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let scope = CancelScope::new();
/// let handle = scope.clone();
/// let task = scope
///     .run(async { tokio::spawn(in_current_scope(std::future::pending::<()>())) })
///     .await
///     .unwrap();
/// # drop(handle); task.abort();
/// # });
/// ```
#[track_caller]
pub fn in_current_scope<F: Future>(future: F) -> InCurrentScope<F> {
    let node = Node::new(FrameKind::Carried, Location::caller());
    InCurrentScope {
        framed: Framed::new(future, Frame::anchored(node, current::node())),
    }
}

pin_project! {
    /// The future of [`in_current_scope`].
    #[must_use = "futures do nothing unless polled"]
    pub struct InCurrentScope<F> {
        #[pin]
        framed: Framed<F>,
    }
}

impl<F: Future> Future for InCurrentScope<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.project().framed.poll(cx)) {
            Ended::Ready(value) => Ok(value),
            Ended::Cancelled(cancelled) => Err(cancelled),
        })
    }
}

impl<F> fmt::Debug for InCurrentScope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InCurrentScope")
            .field("made_at", &self.framed.node().info().location())
            .finish_non_exhaustive()
    }
}
