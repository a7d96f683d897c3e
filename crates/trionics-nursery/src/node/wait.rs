//! A frame's own poll, and its wait for the frames inside.

use std::{sync::Arc, task::Waker};

use super::{
    Node,
    flags::{ABANDONED, HAD_TO_WAIT, LIVE, NODELESS, ON_EXECUTOR, WAITING, effective},
    live::EPOCH,
};
use crate::{report::FrameInfo, sync::Ordering, wake::WakeList};

/// What a parked, cancelled or waiting frame should do after its body said `Pending`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// The frame is not cancelled.
    NotCancelled,
    /// Cancelled, and nothing inside is live.
    Clear,
    /// Cancelled, and frames inside are live.
    Live,
}

impl Node {
    /// Notes that the frame is being polled.
    #[inline]
    pub(crate) fn note_poll(&self) {
        self.polled
            .store(EPOCH.load(Ordering::Relaxed), Ordering::Relaxed);
        if self.flags() & WAITING != 0 {
            self.change_flags(&mut self.lock(), 0, WAITING);
        }
    }

    /// Stores the waker of the current poll.
    pub(crate) fn register(&self, waker: &Waker) {
        if self
            .lock()
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            return;
        }
        let waker = waker.clone();
        let replaced = self.lock().waker.replace(waker);
        drop(replaced);
    }

    pub(crate) fn take_waker(&self) -> Option<Waker> {
        self.lock().waker.take()
    }

    /// Whether the node is `outer` or somewhere below it.
    pub(crate) fn is_inside(self: &Arc<Self>, outer: &Arc<Node>) -> bool {
        let mut above = Some(Arc::clone(self));
        while let Some(node) = above {
            if Arc::ptr_eq(&node, outer) {
                return true;
            }
            above = node
                .lock()
                .link
                .as_ref()
                .map(|link| Arc::clone(&link.parent));
        }
        false
    }

    /// What the frame finds after its body said `Pending`; notes that it waits, if it must.
    ///
    /// An anchored frame that it polls, and that is being cancelled, too, counts as inside.
    pub(crate) fn look_inside(self: &Arc<Self>) -> Inside {
        if !self.is_effective() {
            return Inside::NotCancelled;
        }
        let mut state = self.lock();
        if state.live == 0 {
            let visits = Self::silent_visits(&state);
            if !visits.is_empty() {
                // The homes are further out: they are looked at without the lock.
                drop(state);
                let visits: Vec<_> = visits
                    .into_iter()
                    .filter(|(_, home)| home.is_effective_soon())
                    .collect();
                state = self.lock();
                for (visit, _) in &visits {
                    self.count_visit(&mut state, visit);
                }
            }
        }
        if !effective(self.flags.load(Ordering::Relaxed)) {
            return Inside::NotCancelled;
        }
        if state.live == 0 {
            Inside::Clear
        } else {
            self.change_flags(&mut state, WAITING | HAD_TO_WAIT, 0);
            Inside::Live
        }
    }

    /// Whether any frame inside was polled since `epoch`, or is polled by an executor.
    pub(crate) fn any_inside_polled_since(self: &Arc<Self>, epoch: u64) -> bool {
        let mut nodeless = Vec::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let state = node.lock();
            for child in state.children.iter() {
                if child.flags() & LIVE == 0 {
                    continue;
                }
                if child.flags() & NODELESS != 0 {
                    nodeless.extend(child.nodeless());
                    continue;
                }
                if child.is_on_executor() || child.polled.load(Ordering::Relaxed) >= epoch {
                    return true;
                }
                work.push(Arc::clone(child));
            }
        }
        nodeless.iter().any(|children| children.any_runs())
    }

    /// Wakes the live frames inside, once.
    ///
    /// A frame that was polled since `epoch` looks after what is inside it; in the first round, where
    /// nothing tells a poll just now from one long ago, only if it waits itself. A child on an executor
    /// always does.
    pub(crate) fn wake_inside(self: &Arc<Self>, epoch: u64, first: bool) {
        let mut wakers = WakeList::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let state = node.lock();
            for child in state.children.iter() {
                let flags = child.flags();
                if flags & LIVE == 0 || flags & ON_EXECUTOR != 0 {
                    continue;
                }
                wakers.push(child.lock().waker.take());
                let polled = child.polled.load(Ordering::Relaxed) >= epoch;
                if !polled || (first && flags & WAITING == 0) {
                    work.push(Arc::clone(child));
                }
            }
        }
        wakers.wake_all();
    }

    /// The epoch of the last poll.
    pub(crate) fn polled_epoch(&self) -> u64 {
        self.polled.load(Ordering::Relaxed)
    }

    /// A frame that was given up on is polled again after all.
    pub(crate) fn revive(self: &Arc<Self>) {
        self.with_parent(|_, parent_state, state| {
            if self.flags.load(Ordering::Relaxed) & LIVE == 0 {
                parent_state.live += 1;
                self.set_live(state, true);
            }
        });
    }

    /// Gives up on every live frame inside, children on executors excepted; returns what they were.
    ///
    /// A frame that was anchored here is given up on by itself: it is polled elsewhere, if at all, and
    /// goes on looking after what is inside it.
    pub(crate) fn abandon_inside(self: &Arc<Self>) -> Vec<FrameInfo> {
        let mut abandoned = Vec::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let children: Vec<_> = {
                let state = node.lock();
                state.children.iter().map(Arc::clone).collect()
            };
            for child in children {
                if child.flags() & LIVE == 0 || child.is_on_executor() {
                    continue;
                }
                // Nobody waits for it any more: this node is its waiting ancestor.
                child.make_idle(ABANDONED, &mut WakeList::new());
                abandoned.push(child.info());
                if !child.lock().anchored {
                    work.push(child);
                }
            }
        }
        abandoned
    }
}
