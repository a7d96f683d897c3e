//! Which frame is polling its body on this thread.
//!
//! A frame puts itself here while it polls its body and takes itself out afterwards, so that frames
//! which start in that body find their parent. Nothing is counted on the way: the handle moves in and
//! out.

use std::{cell::Cell, mem::ManuallyDrop, sync::Arc};

use crate::{node::Node, nursery::CurrentMember, sync::thread_local};

thread_local! {
    /// Whoever puts a frame here takes it out again: nothing is left to be dropped with the thread, which would cost each
    /// access a look whether that has happened.
    static CURRENT: Cell<ManuallyDrop<Option<Current>>> = const { Cell::new(ManuallyDrop::new(None)) };
}

/// The frame that is polling its body.
pub(crate) enum Current {
    Node(Arc<Node>),
    /// A child or the body of a nursery, which gets its node when a frame opens inside it.
    Member(CurrentMember),
}

impl Current {
    /// The frame's node, made now if need be.
    pub(crate) fn node(&self) -> Arc<Node> {
        match self {
            Self::Node(node) => Arc::clone(node),
            Self::Member(member) => Arc::clone(member.node()),
        }
    }

    /// The frame's node if it has one, else its nursery's.
    pub(crate) fn nearest_node(&self) -> Arc<Node> {
        match self {
            Self::Node(node) => Arc::clone(node),
            Self::Member(member) => {
                Arc::clone(member.known_node().unwrap_or_else(|| member.nursery()))
            }
        }
    }

    /// The frame's node if it has one.
    pub(crate) fn known_node(&self) -> Option<&Arc<Node>> {
        match self {
            Self::Node(node) => Some(node),
            Self::Member(member) => member.known_node(),
        }
    }
}

impl Current {
    /// The frame is effectively cancelled.
    pub(crate) fn is_effective(&self) -> bool {
        match self {
            Self::Node(node) => node.is_effective(),
            Self::Member(member) => match member.known_node() {
                Some(node) => node.is_effective(),
                None => member
                    .known_nursery()
                    .is_some_and(|node| node.is_effective()),
            },
        }
    }

    /// The frame is effectively cancelled, or about to be told so.
    pub(crate) fn is_effective_soon(&self) -> bool {
        match self {
            Self::Node(node) => node.is_effective_soon(),
            Self::Member(member) => match member.known_node() {
                Some(node) => node.is_effective_soon(),
                None => member.known_nursery().is_some_and(Node::is_effective_soon),
            },
        }
    }

    /// Something from the frame up to the root was cancelled, shields or not.
    pub(crate) fn is_requested(&self) -> bool {
        match self {
            Self::Node(node) => node.is_requested(),
            Self::Member(member) => match member.known_node() {
                Some(node) => node.is_requested(),
                None => member
                    .known_nursery()
                    .is_some_and(|node| node.is_requested()),
            },
        }
    }
}

/// Puts a frame back where it was found.
pub(crate) struct Entered<'a> {
    slot: &'a mut Option<Current>,
    previous: Option<Current>,
    #[cfg(feature = "tracing")]
    _span: Option<tracing::span::EnteredSpan>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self.slot = swap(self.previous.take());
    }
}

/// Makes the frame in `slot` the current one, until the guard is dropped.
pub(crate) fn enter(slot: &mut Option<Current>) -> Entered<'_> {
    #[cfg(feature = "tracing")]
    let span = slot
        .as_ref()
        .and_then(Current::known_node)
        .and_then(|node| node.trace().enter(node));
    let previous = swap(slot.take());
    Entered {
        slot,
        previous,
        #[cfg(feature = "tracing")]
        _span: span,
    }
}

/// Restores what was current before [`clear`].
pub(crate) struct Cleared {
    previous: Option<Current>,
}

impl Drop for Cleared {
    #[inline]
    fn drop(&mut self) {
        if self.previous.is_some() {
            swap(self.previous.take());
        }
    }
}

/// No frame is current until the guard is dropped.
#[inline]
pub(crate) fn clear() -> Cleared {
    Cleared {
        previous: swap(None),
    }
}

/// Runs `look` with the current frame; no user code may run inside.
#[inline]
pub(crate) fn with<R>(look: impl FnOnce(Option<&Current>) -> R) -> R {
    let current = swap(None);
    let result = look(current.as_ref());
    if current.is_some() {
        swap(current);
    }
    result
}

/// Whether the code that runs now is effectively cancelled: it is going to be dropped at its next await.
pub fn is_cancelled() -> bool {
    with(|current| current.is_some_and(Current::is_effective))
}

/// Whether a frame that starts here, unless it is a shield, parks without being polled.
pub fn refuses_frames() -> bool {
    // A frame that has had to wait has a node.
    with(|current| {
        let node = current.and_then(Current::known_node);
        node.is_some_and(|node| node.refuses_frames())
    })
}

/// The node of the current frame, made now if need be.
pub(crate) fn node() -> Option<Arc<Node>> {
    with(|current| current.map(Current::node))
}

#[inline]
pub(crate) fn swap(current: Option<Current>) -> Option<Current> {
    CURRENT
        .try_with(|cell| ManuallyDrop::into_inner(cell.replace(ManuallyDrop::new(current))))
        .unwrap_or(None)
}

/// Runs `f` with no frame current: what it polls or drops does not belong to the scope around.
///
/// Use it around a nested executor inside a frame, such as a `block_on` in a `Drop` or in synchronous
/// code: without it, the frames of that inner program would count as frames of the outer scope.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{CancelScope, is_cancel_requested, outside};
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// scope.cancel("done");
/// let seen = scope
///     .run(async {
///         let inside = is_cancel_requested();
///         let outside = outside(|| is_cancel_requested());
///         (inside, outside)
///     })
///     .await;
/// assert_eq!(seen.unwrap(), (true, false));
/// # });
/// ```
pub fn outside<R>(f: impl FnOnce() -> R) -> R {
    let _cleared = clear();
    f()
}
