//! What the task tree asks.

use std::sync::Arc;

use super::{
    Node,
    flags::{
        ABANDONED, EXITING, LIVE, NODELESS, OWN, RETIRED, ROOT, TRACKED, UNTRACKED, VISIT, WAITING,
        effective, requested,
    },
};
use crate::{report::FrameKind, sync::Ordering};

impl Node {
    pub(crate) fn is_tracked(&self) -> bool {
        self.flags() & TRACKED != 0
    }

    /// Begins a part of the tree that is tracked, or is not; before the node is linked.
    pub(crate) fn set_tracked(&self, tracked: bool) {
        let (set, clear) = if tracked {
            (TRACKED, UNTRACKED)
        } else {
            (UNTRACKED, TRACKED)
        };
        self.change_flags(&mut self.lock(), set, clear);
    }

    /// A tracked node whose parent is not has been linked.
    pub(super) fn note_root(self: &Arc<Self>) {
        if self.flags() & (TRACKED | ROOT) == TRACKED
            && self.parent().is_none_or(|parent| !parent.is_tracked())
        {
            self.change_flags(&mut self.lock(), ROOT, 0);
            crate::tree::roots::add(self);
        }
    }

    pub(crate) fn times(&self) -> &crate::tree::Times {
        &self.times
    }

    pub(crate) fn look(&self) -> crate::tree::Look {
        let state = self.lock();
        let flags = self.flags.load(Ordering::Relaxed);
        crate::tree::Look {
            state: self.task_state(flags, state.link.is_some()),
            is_cancelled_itself: flags & OWN != 0,
            waits_inside: flags & WAITING != 0,
            cancelled: state.why_cancelled().filter(|_| effective(flags)).cloned(),
            clock: state
                .environment
                .as_ref()
                .and_then(|environment| environment.clock.clone()),
            children: state
                .children
                .iter()
                .map(Arc::clone)
                // No frames, but somebody who listens, and who stands for a frame elsewhere.
                .filter(|child| {
                    child.kind != FrameKind::CancelRequested
                        && child.flags() & (VISIT | NODELESS) == 0
                })
                .collect(),
        }
    }

    fn task_state(&self, flags: u32, is_linked: bool) -> crate::tree::TaskState {
        use crate::tree::TaskState;
        let is_live = flags & LIVE != 0;
        if flags & RETIRED != 0 {
            TaskState::Ended
        } else if flags & ABANDONED != 0 {
            TaskState::Abandoned
        } else if !is_live && self.polled.load(Ordering::Relaxed) == 0 && !is_linked {
            TaskState::NotStarted
        } else if !is_live {
            TaskState::Parked
        } else if flags & EXITING != 0 {
            TaskState::Exiting
        } else if effective(flags) {
            TaskState::Cancelling
        } else if requested(flags) {
            TaskState::Shielded
        } else {
            TaskState::Running
        }
    }
}
