//! Shields: code that a cancellation from outside does not reach.

use std::{
    fmt,
    future::Future,
    mem,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    current,
    frame::{Ended, Frame, Framed},
    node::Node,
    report::FrameKind,
};

/// Runs `future` to its end, however often the scopes around it are cancelled.
///
/// The code after the shield is not shielded: a cancelled scope stops it at its next pending await.
/// Scopes opened *inside* the shield can be cancelled as ever. A shielded section may ask whether it is
/// wanted, with [`is_cancel_requested`](crate::is_cancel_requested) and
/// [`cancel_requested`](crate::cancel_requested).
///
/// # Cancel safety
///
/// A cancellation waits for it. If it is dropped from outside, by a foreign `select!` or `timeout`, its
/// future is dropped where it stands, which is reported to the hook.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, checkpoint, shield};
///
/// # futures::executor::block_on(async {
/// let mut steps = 0;
/// let scope = CancelScope::new();
/// scope.cancel("stop");
/// let outcome = scope
///     .run(async {
///         shield(async {
///             checkpoint().await;
///             steps += 1;
///         })
///         .await;
///         checkpoint().await; // stopped here
///         steps += 1;
///     })
///     .await;
/// assert!(outcome.is_err());
/// assert_eq!(steps, 1);
/// # });
/// ```
#[track_caller]
pub fn shield<F: Future>(future: F) -> Shield<F> {
    shield_at(Location::caller(), future)
}

/// For the sibling crates: [`shield`], made where `location` says.
pub fn shield_at<F: Future>(location: &'static Location<'static>, future: F) -> Shield<F> {
    let node = Node::new(FrameKind::Shield, location);
    Shield {
        framed: Framed::new(future, Frame::new(node).reporting_drop()),
    }
}

/// For the sibling crates: [`shield`] for a future that opens no frame inside. Where it is polled in no frame it needs none
/// either: nothing there can be cancelled.
#[track_caller]
pub fn shield_leaf<F: Future + Unpin>(future: F) -> ShieldLeaf<F> {
    ShieldLeaf {
        location: Location::caller(),
        stage: Stage::Bare(future),
    }
}

/// The future of [`shield_leaf`].
#[must_use = "futures do nothing unless polled"]
pub struct ShieldLeaf<F> {
    location: &'static Location<'static>,
    stage: Stage<F>,
}

enum Stage<F> {
    /// It has not been polled inside a frame.
    Bare(F),
    Shielded(Shield<F>),
    Moving,
}

impl<F: Future + Unpin> Future for ShieldLeaf<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if let Stage::Bare(future) = &mut this.stage {
            if current::with(|current| current.is_none()) {
                return Pin::new(future).poll(cx);
            }
            if let Stage::Bare(future) = mem::replace(&mut this.stage, Stage::Moving) {
                this.stage = Stage::Shielded(shield_at(this.location, future));
            }
        }
        match &mut this.stage {
            Stage::Shielded(shield) => Pin::new(shield).poll(cx),
            Stage::Bare(_) | Stage::Moving => unreachable!("shielded above"),
        }
    }
}

impl<F> fmt::Debug for ShieldLeaf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShieldLeaf")
            .field("made_at", &self.location)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`shield`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Shield<F> {
        #[pin]
        framed: Framed<F>,
    }
}

impl<F: Future> Future for Shield<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match ready!(self.project().framed.poll(cx)) {
            Ended::Ready(value) => Poll::Ready(value),
            Ended::Cancelled(_) => {
                unreachable!("a shield has no scope of its own and no outer one")
            }
        }
    }
}

impl<F> fmt::Debug for Shield<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield")
            .field("made_at", &self.framed.node().info().location())
            .finish_non_exhaustive()
    }
}
