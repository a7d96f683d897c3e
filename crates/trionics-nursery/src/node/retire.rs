//! The end of a frame, and what becomes of those inside.

use std::sync::Arc;

use super::{
    Node,
    flags::{LIVE, OWN, RETIRED, VISIT, cancelled_itself, effective},
};
use crate::{
    sync::{Ordering, try_lock},
    wake::{WakeList, wake_outside},
};

impl Node {
    /// The frame parks: it stays linked, to be woken when its surroundings go, but no longer live.
    pub(crate) fn park(self: &Arc<Self>) {
        let mut wakers = WakeList::new();
        self.hand_over(&mut wakers);
        self.make_idle(0, &mut wakers);
        wakers.wake_all();
    }

    /// Clears `LIVE`, sets `flags`.
    pub(super) fn make_idle(self: &Arc<Self>, flags: u32, wakers: &mut WakeList) {
        self.with_place(|parent, state| {
            if let Some((parent, parent_state)) = parent
                && self.flags.load(Ordering::Relaxed) & LIVE != 0
            {
                wakers.push(parent.one_live_less(parent_state));
            }
            self.set_live(state, false);
            self.change_flags(state, flags, 0);
        });
    }

    /// The frame is over: its place goes, and what is still inside goes to its parent.
    pub(crate) fn retire(self: &Arc<Self>) {
        #[cfg(feature = "task-tree")]
        if self.flags() & super::flags::ROOT != 0 {
            crate::tree::roots::remove(self.address());
        }
        if !self.retire_leaf() {
            self.retire_with_all();
        }
    }

    /// Retires a frame that is not cancelled and has nothing inside; false if it is another one, or its parent is busy.
    fn retire_leaf(&self) -> bool {
        let mut state = self.lock();
        let is_plain = state.children.is_empty() && state.rare.is_none();
        if !is_plain || effective(self.flags.load(Ordering::Relaxed)) {
            return false;
        }
        let mut parent_waker = None;
        let itself = match state.link.take() {
            None => None,
            Some(link) => {
                // Against the order of the locks, so that it is only tried.
                let Some(mut parent_state) = try_lock(&link.parent.state) else {
                    state.link = Some(link);
                    return false;
                };
                let itself = parent_state.children.remove(link.key);
                if self.flags.load(Ordering::Relaxed) & LIVE != 0 {
                    parent_waker = link.parent.one_live_less(&mut parent_state);
                }
                drop(parent_state);
                self.parent_address.store(0, Ordering::Relaxed);
                state.successor = Some(link.parent);
                Some(itself)
            }
        };
        self.change_flags(&mut state, RETIRED, 0);
        self.set_live(&mut state, false);
        let waker = state.waker.take();
        drop(state);
        drop((itself, waker));
        wake_outside(parent_waker);
        true
    }

    /// As [`retire`](Self::retire), for any frame.
    fn retire_with_all(self: &Arc<Self>) {
        let mut wakers = WakeList::new();
        let cancelled = if self.is_effective() {
            self.cancelled()
        } else {
            None
        };
        let waker = {
            let mut state = self.lock();
            self.change_flags(&mut state, RETIRED, 0);
            state.successor = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            if state.cancelled.is_none() {
                state.cancelled = cancelled;
            }
            state.waker.take()
        };
        self.hand_over(&mut wakers);
        self.unlink(&mut wakers);
        let mut state = self.lock();
        self.set_live(&mut state, false);
        let follower = state.rare.as_mut().and_then(|rare| rare.follower.take());
        drop(state);
        drop(waker);
        drop(follower);
        wakers.wake_all();
    }

    /// Gives the frames that survive inside to the parent, and wakes them.
    fn hand_over(self: &Arc<Self>, wakers: &mut WakeList) {
        let (survivors, parent) = {
            let mut state = self.lock();
            if state.children.is_empty() {
                return;
            }
            let cancelled = if cancelled_itself(self.flags.load(Ordering::Relaxed)) {
                state.why_cancelled().cloned()
            } else {
                None
            };
            let children = state.children.take_all();
            let mut survivors = Vec::with_capacity(children.len());
            for child in children {
                let mut child_state = child.lock();
                let link = child_state.link.take();
                child.parent_address.store(0, Ordering::Relaxed);
                // An anchored frame stays cancelled with the scope it was anchored to, not with those around, of
                // which a shield may part it. It is told before it leaves, so that no poll on another thread slips
                // through in between.
                if child_state.anchored
                    && child_state.cancelled.is_none()
                    && let Some(cancelled) = &cancelled
                {
                    child.change_flags(&mut child_state, OWN, 0);
                    child_state.cancelled = Some(cancelled.clone());
                }
                wakers.push(child_state.waker.take());
                // A visit ends with its host.
                let is_visit = child.flags.load(Ordering::Relaxed) & VISIT != 0;
                if is_visit {
                    child.set_live(&mut child_state, false);
                }
                drop(child_state);
                survivors.push((child, link, is_visit));
            }
            state.live = 0;
            let parent = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            (survivors, parent)
        };
        let mut requests = Vec::new();
        for (child, link, is_visit) in survivors {
            if !is_visit {
                // The frame may have parked in the meantime, or have found another place by itself.
                child.attach_quietly(parent.clone(), None, wakers, &mut requests);
                child.propagate(wakers, &mut requests);
            }
            drop(link);
        }
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, wakers);
        }
    }
}
