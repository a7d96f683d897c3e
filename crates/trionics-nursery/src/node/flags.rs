//! What a node is and what befell it, as bits; and what follows from them.

/// The scope of this very node was cancelled.
pub(super) const OWN: u32 = 1 << 0;
/// A node above is effectively cancelled, with no shield in between.
pub(super) const OUTER: u32 = 1 << 1;
/// A node above was cancelled, shields or not.
pub(super) const REQUESTED_AROUND: u32 = 1 << 2;
/// The code of this frame runs the exit of a context: no cancellation reaches it any more.
pub(super) const EXITING: u32 = 1 << 3;
/// A nursery on the way from an exit to its context: its children stay cancelled.
pub(super) const LATCHED: u32 = 1 << 4;
/// The frame has been polled and has neither returned nor parked.
pub(super) const LIVE: u32 = 1 << 5;
/// The frame is cancelled and waits for a live frame inside.
pub(super) const WAITING: u32 = 1 << 6;
/// The frame was cancelled and has waited for a live frame inside at least once.
pub(super) const HAD_TO_WAIT: u32 = 1 << 7;
/// The frame is over; what was inside belongs to its parent.
pub(super) const RETIRED: u32 = 1 << 8;
/// The frame was given up on because nobody polled it.
pub(super) const ABANDONED: u32 = 1 << 9;
/// A scope that some future has entered.
pub(super) const ENTERED: u32 = 1 << 10;
/// A scope whose cancellation was absorbed by the scope itself.
pub(super) const CAUGHT: u32 = 1 << 11;

/// No cancellation from further out reaches this frame.
pub(super) const SHIELDED: u32 = 1 << 12;
/// What the frame still waits for is to be given up now.
pub(super) const OUT_OF_GRACE: u32 = 1 << 13;
/// A child on an executor, which polls it: no patience applies, and what waits for it waits for its end.
pub(super) const ON_EXECUTOR: u32 = 1 << 14;
/// A child on an executor that is to be dropped at its next poll.
pub(super) const DISMISSED: u32 = 1 << 15;
/// Stands for the children on executors that have no node.
pub(super) const NODELESS: u32 = 1 << 16;
/// Stands, in the frame that polls an anchored frame, for that frame.
pub(super) const VISIT: u32 = 1 << 17;
/// A child that a thread runs and nobody can stop.
pub(super) const ON_THREAD: u32 = 1 << 18;

/// The task tree shows this frame and those inside.
#[cfg(feature = "task-tree")]
pub(super) const TRACKED: u32 = 1 << 19;
/// The frame does not inherit `TRACKED`.
#[cfg(feature = "task-tree")]
pub(super) const UNTRACKED: u32 = 1 << 20;
/// The frame is known to the task tree as a root.
#[cfg(feature = "task-tree")]
pub(super) const ROOT: u32 = 1 << 21;

#[inline]
pub(super) fn effective(flags: u32) -> bool {
    flags & EXITING == 0 && flags & (OWN | OUTER | LATCHED) != 0
}

/// Cancelled by itself, whatever becomes of the scopes around.
pub(super) fn cancelled_itself(flags: u32) -> bool {
    flags & EXITING == 0 && flags & (OWN | LATCHED) != 0
}

/// What a frame inherits of its parent's being tracked.
#[cfg(feature = "task-tree")]
pub(super) fn tracked(flags: u32, parent_flags: u32) -> u32 {
    if flags & UNTRACKED == 0 {
        parent_flags & TRACKED
    } else {
        0
    }
}

#[cfg(not(feature = "task-tree"))]
pub(super) fn tracked(_flags: u32, _parent_flags: u32) -> u32 {
    0
}

pub(super) fn requested(flags: u32) -> bool {
    flags & (OWN | REQUESTED_AROUND) != 0
}
