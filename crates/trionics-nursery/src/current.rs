//! Which frame is polling its body on this thread.
//!
//! A frame puts itself here while it polls its body and takes itself out afterwards, so that frames
//! which start in that body find their parent. Nothing is counted on the way: the handle moves in and
//! out.

use std::{cell::Cell, mem::ManuallyDrop, panic::Location, sync::Arc};

use crate::{
    fork::{CurrentLane, Why, seat_lane},
    node::Node,
    nursery::{CurrentAway, CurrentMember},
    sync::thread_local,
    tag::Tag,
};

thread_local! {
    /// Whoever puts a frame here takes it out again: nothing is left to be dropped with the thread, which would cost each
    /// access a look whether that has happened.
    static CURRENT: Cell<ManuallyDrop<Option<Current>>> = const { Cell::new(ManuallyDrop::new(None)) };

    /// A lane of a fork that is being polled in the frame that is current; it takes that one's place as soon as anybody
    /// looks. Most lanes nobody looks for.
    static LANE: Cell<Option<UnseatedLane>> = const { Cell::new(None) };
}

/// The frame that is polling its body.
pub(crate) enum Current {
    Node(Arc<Node>),
    /// A child or the body of a nursery, which gets its node when a frame opens inside it.
    Member(CurrentMember),
    /// A lane of a fork, which likewise gets its node when a frame opens inside it.
    Lane(CurrentLane),
    /// A child on an executor, likewise.
    Away(CurrentAway),
}

/// What is to be known of a lane that is being polled, and of which nobody inside has taken note.
#[derive(Clone, Copy)]
pub(crate) struct UnseatedLane {
    /// Where its fork was opened.
    pub(crate) location: &'static Location<'static>,
    /// Why the fork has cancelled its lanes.
    pub(crate) why: Option<Why>,
}

impl Current {
    /// The frame's node, made now if need be; none where a thread's locals are being destroyed.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        match self {
            Self::Node(node) => Some(Arc::clone(node)),
            Self::Member(member) => Some(Arc::clone(member.node())),
            Self::Lane(lane) => lane.node(),
            Self::Away(child) => child.node_unless_over(),
        }
    }

    /// The frame's node if it has one, else the nearest one around, where there is any.
    pub(crate) fn nearest_node(&self) -> Option<Arc<Node>> {
        match self {
            Self::Node(node) => Some(Arc::clone(node)),
            Self::Member(member) => {
                let known = member.known_node();
                known.or_else(|| member.known_nursery()).cloned()
            }
            Self::Lane(lane) => lane.nearest_node(),
            Self::Away(child) => Some(Arc::clone(child.nearest_node())),
        }
    }

    /// What the code of this frame runs for.
    pub(crate) fn tag(&self) -> Option<Arc<dyn Tag>> {
        match self {
            Self::Member(member) if member.known_node().is_none() && member.tag().is_some() => {
                member.tag().cloned()
            }
            Self::Lane(lane) => lane.tag(),
            Self::Node(_) | Self::Member(_) | Self::Away(_) => self.nearest_node()?.tag(),
        }
    }

    /// The address of the frame's node if it has one.
    pub(crate) fn known_address(&self) -> Option<usize> {
        match self {
            Self::Node(node) => Some(node.address()),
            Self::Member(member) => member.known_node().map(|node| node.address()),
            Self::Lane(lane) => lane.known_address(),
            Self::Away(child) => child.known_node().map(|node| node.address()),
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
                None => {
                    !member.is_exiting()
                        && member
                            .known_nursery()
                            .is_some_and(|node| node.is_effective())
                }
            },
            Self::Lane(lane) => lane.is_effective(),
            Self::Away(child) => child.nearest_node().is_effective(),
        }
    }

    /// The frame is effectively cancelled, or about to be told so.
    pub(crate) fn is_effective_soon(&self) -> bool {
        match self {
            Self::Node(node) => node.is_effective_soon(),
            Self::Member(member) => match member.known_node() {
                Some(node) => node.is_effective_soon(),
                None => {
                    !member.is_exiting()
                        && member.known_nursery().is_some_and(Node::is_effective_soon)
                }
            },
            Self::Lane(lane) => lane.is_effective_soon(),
            Self::Away(child) => child.nearest_node().is_effective_soon(),
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
            Self::Lane(lane) => lane.is_requested(),
            Self::Away(child) => child.nearest_node().is_requested(),
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
        *self.slot = replace(self.previous.take());
    }
}

/// Makes the frame in `slot` the current one, until the guard is dropped.
pub(crate) fn enter(slot: &mut Option<Current>) -> Entered<'_> {
    #[cfg(feature = "tracing")]
    let span = slot.as_ref().and_then(|current| match current {
        Current::Node(node) => node.trace().enter(node),
        Current::Member(_) | Current::Lane(_) | Current::Away(_) => None,
    });
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
            put_back(self.previous.take());
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
        put_back(current);
    }
    result
}

/// Whether the code that runs now is effectively cancelled: it is going to be dropped at its next await.
pub fn is_cancelled() -> bool {
    with(|current| current.is_some_and(Current::is_effective))
}

/// Whether a frame that starts here, unless it is a shield, parks without being polled.
pub fn refuses_frames() -> bool {
    let cancelled = with(|current| {
        current
            .filter(|current| current.is_effective())
            .and_then(Current::node)
    });
    cancelled.is_some_and(|node| node.refuses_frames())
}

/// The node of the current frame, made now if need be.
pub(crate) fn node() -> Option<Arc<Node>> {
    with(|current| current.and_then(Current::node))
}

/// The node of the current frame if it has one, else the nearest one around: for what is inherited.
pub(crate) fn nearest_node() -> Option<Arc<Node>> {
    with(|current| current.and_then(Current::nearest_node))
}

#[inline]
pub(crate) fn swap(current: Option<Current>) -> Option<Current> {
    if let Some(lane) = unseated_lane() {
        set_unseated_lane(None);
        seat_lane(lane);
    }
    replace(current)
}

/// As [`swap`], where no lane is unseated.
#[inline]
pub(crate) fn replace(current: Option<Current>) -> Option<Current> {
    CURRENT
        .try_with(|cell| ManuallyDrop::into_inner(cell.replace(ManuallyDrop::new(current))))
        .unwrap_or(None)
}

/// As [`swap`], where nothing is current.
#[inline]
pub(crate) fn put_back(current: Option<Current>) {
    let current = ManuallyDrop::new(current);
    // Where a thread's locals are gone, nothing was taken out of them.
    let _ = CURRENT.try_with(|cell| cell.set(current));
}

#[inline]
pub(crate) fn unseated_lane() -> Option<UnseatedLane> {
    LANE.try_with(Cell::get).unwrap_or(None)
}

#[inline]
pub(crate) fn set_unseated_lane(lane: Option<UnseatedLane>) {
    let _ = LANE.try_with(|cell| cell.set(lane));
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
