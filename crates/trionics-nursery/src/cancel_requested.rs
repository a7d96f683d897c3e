//! Noticing a cancellation instead of being stopped by it.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    current::{self, Current},
    deadline::notice_due,
    node::Node,
    report::FrameKind,
};

/// Whether any scope from here up to the root has been cancelled, shields or not.
///
/// For computing loops, which have no await to be stopped at, and for shielded code that wants to
/// finish early. A deadline that has passed counts. Outside any scope it is false. Takes constant time, and
/// a look at the clock for each deadline around.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, is_cancel_requested};
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// let handle = scope.clone();
/// let rounds = scope
///     .run(async {
///         let mut rounds = 0;
///         while !is_cancel_requested() {
///             rounds += 1;
///             if rounds == 3 {
///                 handle.cancel("enough");
///             }
///         }
///         rounds
///     })
///     .await;
/// assert_eq!(rounds.unwrap(), 3);
/// # });
/// ```
#[must_use]
pub fn is_cancel_requested() -> bool {
    notice_due();
    current::with(|current| current.is_some_and(Current::is_requested))
}

/// Waits until any scope from here up to the root is cancelled, shields or not.
///
/// Meant for shielded code that drains or hands over when it is no longer wanted; in code that is not
/// shielded the await is stopped by the cancellation like any other. Outside any scope it waits for
/// ever.
///
/// # Cancel safety
///
/// Nothing is lost when it is dropped; a later call sees the same cancellation.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, cancel_requested, shield};
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// scope.cancel("shut down");
/// let drained = scope
///     .run(shield(async {
///         cancel_requested().await;
///         "drained"
///     }))
///     .await;
/// assert_eq!(drained.unwrap(), "drained");
/// # });
/// ```
#[track_caller]
pub fn cancel_requested() -> CancelRequested {
    CancelRequested {
        node: None,
        location: Location::caller(),
    }
}

/// The future of [`cancel_requested`].
#[must_use = "futures do nothing unless polled"]
pub struct CancelRequested {
    /// Hangs in the tree like a frame, but is never live: nobody waits for it.
    node: Option<Arc<Node>>,
    location: &'static Location<'static>,
}

impl Future for CancelRequested {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if is_cancel_requested() {
            this.leave();
            return Poll::Ready(());
        }
        let parent = current::node();
        match &this.node {
            Some(node) => {
                if node.parent_address() != parent.as_ref().map_or(0, |parent| parent.address()) {
                    node.move_under(parent, false);
                }
            }
            None => {
                let node = Node::new(FrameKind::CancelRequested, this.location);
                node.attach(parent, false);
                this.node = Some(node);
            }
        }
        let node = this.node.as_ref().expect("made above");
        node.register(cx.waker());
        // A request between the look above and the registration woke nobody.
        if node.is_requested() {
            this.leave();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl CancelRequested {
    fn leave(&mut self) {
        if let Some(node) = self.node.take() {
            node.retire();
        }
    }
}

impl Drop for CancelRequested {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for CancelRequested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRequested")
            .field("made_at", &self.location)
            .finish_non_exhaustive()
    }
}
