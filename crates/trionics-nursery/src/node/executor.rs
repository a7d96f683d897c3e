//! Children that an executor polls, or a thread runs.

use std::{
    panic::Location,
    sync::{Arc, Weak},
};

use super::{
    Node,
    flags::{DISMISSED, LIVE, NODELESS, ON_EXECUTOR, ON_THREAD, effective},
};
use crate::{
    report::{FrameInfo, FrameKind},
    sync::Ordering,
    wake::{WakeList, wake_outside},
};

impl Node {
    /// The place of a child that an executor polls, to be hung under `nursery`.
    pub(crate) fn on_executor(
        nursery: &Arc<Node>,
        location: &'static Location<'static>,
        name: Option<Arc<str>>,
    ) -> Arc<Self> {
        let node = Self::named(FrameKind::Child, location, name);
        node.set_anchored(Some(nursery));
        node.change_flags(&mut node.lock(), ON_EXECUTOR, 0);
        node
    }

    pub(crate) fn is_on_executor(&self) -> bool {
        self.flags() & ON_EXECUTOR != 0
    }

    /// A child on an executor is to be dropped at its next poll, to which it is woken.
    ///
    /// False if it was told before, or cannot be stopped.
    pub(crate) fn dismiss(&self) -> bool {
        let waker = {
            let mut state = self.lock();
            if self.flags.load(Ordering::Relaxed) & (DISMISSED | ON_THREAD) != 0 {
                return false;
            }
            self.change_flags(&mut state, DISMISSED, 0);
            state.waker.take()
        };
        wake_outside(waker);
        true
    }

    /// A thread is about to run the child; false if it is no longer wanted.
    pub(crate) fn begin_on_thread(&self) -> bool {
        let mut state = self.lock();
        let flags = self.flags.load(Ordering::Relaxed);
        let is_wanted = !effective(flags) && flags & DISMISSED == 0;
        if is_wanted {
            self.change_flags(&mut state, ON_THREAD, 0);
        }
        is_wanted
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.flags() & DISMISSED != 0
    }

    /// Dismisses every child on an executor inside.
    ///
    /// Returns what was not told before, and whether there is one that still runs.
    pub(crate) fn dismiss_inside(self: &Arc<Self>) -> (Vec<FrameInfo>, bool) {
        let mut running = Vec::new();
        let mut nodeless = Vec::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let state = node.lock();
            for child in state.children.iter() {
                if child.flags() & NODELESS != 0 {
                    nodeless.extend(child.nodeless());
                } else if child.is_on_executor() && child.flags() & LIVE != 0 {
                    running.push(Arc::clone(child));
                } else {
                    work.push(Arc::clone(child));
                }
            }
        }
        let mut told: Vec<_> = running
            .iter()
            .filter(|child| child.dismiss())
            .map(|child| child.info())
            .collect();
        let mut some_run = !running.is_empty();
        for children in nodeless {
            let (told_now, run) = children.dismiss();
            told.extend(told_now);
            some_run |= run;
        }
        (told, some_run)
    }

    /// As [`retire`](Self::retire), for a child on an executor.
    ///
    /// If it was dismissed, whoever waits further out is woken, too: it waits for this end.
    pub(crate) fn retire_from_executor(self: &Arc<Self>) {
        let above = if self.is_dismissed() {
            self.parent()
        } else {
            None
        };
        self.retire();
        if let Some(node) = above {
            node.wake_up();
        }
    }

    /// Wakes those who wait further out: a child that was dismissed, and has no node, is gone.
    pub(crate) fn wake_above(&self) {
        if let Some(node) = self.parent() {
            node.wake_up();
        }
    }

    /// Wakes this frame and those around it.
    fn wake_up(self: Arc<Self>) {
        let mut wakers = WakeList::new();
        let mut above = Some(self);
        while let Some(node) = above {
            let mut state = node.lock();
            wakers.push(state.waker.take());
            let next = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            drop(state);
            above = next;
        }
        wakers.wake_all();
    }
}

/// Children on executors that have no nodes.
pub(crate) trait Nodeless: Send + Sync {
    /// Dismisses each of them; returns what was not told before, and whether there is one that still runs.
    fn dismiss(&self) -> (Vec<FrameInfo>, bool);

    fn any_runs(&self) -> bool;
}

impl Node {
    /// Stands for the children of `nursery` that have no node; to be hung under it.
    pub(crate) fn of_nodeless(nursery: &Arc<Node>) -> Arc<Self> {
        let node = Self::named(FrameKind::Child, nursery.location, None);
        node.set_anchored(Some(nursery));
        #[cfg(feature = "task-tree")]
        node.set_tracked(false);
        node.change_flags(&mut node.lock(), ON_EXECUTOR | NODELESS, 0);
        node
    }

    /// Says which children the node stands for.
    pub(crate) fn stand_for(&self, children: Weak<dyn Nodeless>) {
        self.lock().rare_or_new().nodeless = Some(children);
    }

    pub(super) fn nodeless(&self) -> Option<Arc<dyn Nodeless>> {
        self.lock().rare.as_ref()?.nodeless.as_ref()?.upgrade()
    }
}
