//! Futures that keep the scope in which they were made, and branches that unwind by themselves.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    current,
    frame::{Frame, Framed},
    node::Node,
    report::FrameKind,
};

/// Keeps `future` in the scope in which this is called, whoever polls it.
///
/// For work in flight that is to survive an inner scope: without the anchor, a frame that is polled
/// inside a cancelled scope belongs to that scope.
///
/// # Panics
///
/// If it was stopped by a cancellation of its own scope and is then polled where nothing is cancelled:
/// it has no value to return. Put a [`CancelScope`](crate::CancelScope) inside it to get one.
///
/// # Cancel safety
///
/// A cancellation of the scope it is anchored in unwinds it. Dropping it drops `future` where it stands.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, anchor, checkpoint};
///
/// # futures::executor::block_on(async {
/// let mut work = Box::pin(anchor(async {
///     checkpoint().await;
///     42
/// }));
/// let inner = CancelScope::new();
/// inner.cancel("out of time");
/// assert!(inner.run(&mut work).await.is_err());
/// assert_eq!(work.await, 42); // it went on
/// # });
/// ```
#[track_caller]
pub fn anchor<F: Future>(future: F) -> Anchored<F> {
    let node = Node::new(FrameKind::Anchor, Location::caller());
    Anchored {
        framed: Framed::new(future, Frame::anchored(node, current::node())),
    }
}

/// Makes `future` a frame of its own, so that it unwinds by itself as a branch of a foreign combinator.
///
/// The branches of a `join!` in one body stand and fall together: a shield in one of them delays the end
/// of its neighbors. A branch is stopped as soon as nothing inside it is live.
///
/// # Panics
///
/// If it was stopped by a cancellation and is then polled where nothing is cancelled: it has no value to
/// return.
///
/// # Cancel safety
///
/// A cancellation unwinds it; it then stays pending until the enclosing frame drops it. Dropping it drops
/// `future` where it stands.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, branch, checkpoint, shield};
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// scope.cancel("stop");
/// let outcome = scope
///     .run(async {
///         futures::join!(
///             branch(shield(async { checkpoint().await })),
///             branch(std::future::pending::<()>()), // stopped at once, not after the shield
///         )
///     })
///     .await;
/// assert!(outcome.is_err());
/// # });
/// ```
#[track_caller]
pub fn branch<F: Future>(future: F) -> Branch<F> {
    let node = Node::new(FrameKind::Branch, Location::caller());
    Branch {
        framed: Framed::new(future, Frame::new(node)),
    }
}

pin_project! {
    /// The future of [`anchor`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Anchored<F> {
        #[pin]
        framed: Framed<F>,
    }
}

pin_project! {
    /// The future of [`branch`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Branch<F> {
        #[pin]
        framed: Framed<F>,
    }
}

impl<F: Future> Future for Anchored<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().framed.poll_valued(cx)
    }
}

impl<F: Future> Future for Branch<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().framed.poll_valued(cx)
    }
}

impl<F> fmt::Debug for Anchored<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchored")
            .field("made_at", &self.framed.node().info().location())
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Branch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch")
            .field("made_at", &self.framed.node().info().location())
            .finish_non_exhaustive()
    }
}
