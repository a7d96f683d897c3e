//! Who hangs under whom, and how that changes.

use std::{sync::Arc, task::Waker};

use trionics_errgroup::Cancelled;

use super::{
    Link, Node, State,
    flags::{LIVE, RETIRED, WAITING, cancelled_itself, effective},
};
use crate::{
    sync::{Mutex, Ordering, lock},
    wake::WakeList,
};

/// Held while a node that has children gets another parent.
static MOVES: Mutex<()> = Mutex::new(());

impl Node {
    /// Hangs the node under `parent`, or under whoever took over from it.
    ///
    /// Returns false, and does nothing, if the node is linked or retired.
    pub(crate) fn attach(self: &Arc<Self>, parent: Option<Arc<Node>>, live: bool) -> bool {
        let mut wakers = WakeList::new();
        let mut requests = Vec::new();
        #[cfg(feature = "task-tree")]
        if parent.is_none() && crate::tree::tracks_all() {
            self.set_tracked(true);
        }
        let attached = self.attach_quietly(parent, Some(live), &mut wakers, &mut requests);
        #[cfg(feature = "task-tree")]
        if self.is_tracked() {
            self.times.note_opened(self);
        }
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, &mut wakers);
        }
        wakers.wake_all();
        attached
    }

    /// As `attach`; without a `live` the node stays as live as it is.
    pub(super) fn attach_quietly(
        self: &Arc<Self>,
        mut parent: Option<Arc<Node>>,
        live: Option<bool>,
        wakers: &mut WakeList,
        requests: &mut Vec<(Arc<Node>, Cancelled)>,
    ) -> bool {
        let (before, after, has_children) = loop {
            let Some(target) = parent else {
                let mut state = self.lock();
                if state.link.is_some() || self.flags.load(Ordering::Relaxed) & RETIRED != 0 {
                    return false;
                }
                self.parent_address.store(0, Ordering::Relaxed);
                self.set_live(&mut state, live.unwrap_or_else(|| self.is_live()));
                if !state.sets_environment {
                    let own = state.with_own(None);
                    wakers.drop_later(std::mem::replace(&mut state.environment, own));
                }
                let (before, after) = self.inherit(&mut state, 0, None);
                break (before, after, !state.children.is_empty());
            };
            let mut parent_state = target.lock();
            let parent_flags = target.flags.load(Ordering::Relaxed);
            if parent_flags & RETIRED != 0 {
                // An anchored frame stays cancelled with the scope it was anchored to, not with those around, of
                // which a shield may part it.
                if cancelled_itself(parent_flags) {
                    let cancelled = parent_state.cancelled.clone();
                    if self.lock().anchored
                        && let Some(cancelled) = cancelled
                    {
                        requests.push((Arc::clone(self), cancelled));
                    }
                }
                let next = parent_state.successor.clone();
                drop(parent_state);
                parent = next;
                continue;
            }
            let mut state = self.lock();
            if state.link.is_some() || self.flags.load(Ordering::Relaxed) & RETIRED != 0 {
                return false;
            }
            let key = parent_state.children.insert(Arc::clone(self));
            let live = live.unwrap_or_else(|| self.is_live());
            self.set_live(&mut state, live);
            parent_state.live += usize::from(live);
            if !state.sets_environment {
                let inherited = state.with_own(parent_state.environment.as_ref());
                wakers.drop_later(std::mem::replace(&mut state.environment, inherited));
            }
            // The reason is that of the new place.
            state.cancelled_above = None;
            let (before, after) = self.inherit(&mut state, parent_flags, Some(&parent_state));
            self.parent_address
                .store(target.address(), Ordering::Relaxed);
            drop(parent_state);
            // Whoever has found the child with its parent waits for the child's lock.
            state.link = Some(Link {
                parent: target,
                key,
            });
            if !effective(before)
                && effective(after)
                && let Some(follower) = state.follower().cloned()
            {
                drop(state);
                requests.push((follower, self.cancelled_or_closed()));
                break (before, after, false);
            }
            break (before, after, !state.children.is_empty());
        };
        #[cfg(feature = "task-tree")]
        self.note_root();
        if before != after && has_children {
            self.propagate(wakers, requests);
        }
        true
    }

    /// Runs `change` with the node's and its parent's locks held; at a root, with the node's alone.
    pub(super) fn with_place<R>(
        self: &Arc<Self>,
        change: impl FnOnce(Option<(&Arc<Node>, &mut State)>, &mut State) -> R,
    ) -> R {
        loop {
            let parent = {
                let mut state = self.lock();
                match &state.link {
                    Some(link) => Arc::clone(&link.parent),
                    None => return change(None, &mut state),
                }
            };
            let mut parent_state = parent.lock();
            let mut state = self.lock();
            match &state.link {
                Some(link) if Arc::ptr_eq(&link.parent, &parent) => {
                    return change(Some((&parent, &mut parent_state)), &mut state);
                }
                _ => {}
            }
        }
    }

    /// Runs `change` with the node's and its parent's locks held; `None` at a root.
    pub(super) fn with_parent<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&Arc<Node>, &mut State, &mut State) -> R,
    ) -> Option<R> {
        self.with_place(|parent, state| {
            parent.map(|(parent, parent_state)| change(parent, parent_state, state))
        })
    }

    pub(crate) fn parent(&self) -> Option<Arc<Node>> {
        let state = self.lock();
        state.link.as_ref().map(|link| Arc::clone(&link.parent))
    }

    /// Takes the node from its parent; wakes a parent that waited for it.
    pub(super) fn unlink(self: &Arc<Self>, wakers: &mut WakeList) {
        // The link may hold the last reference to the parent: it is dropped after the locks.
        let _link = self.with_parent(|parent, parent_state, state| {
            let link = state.link.take();
            if let Some(link) = &link {
                parent_state.children.remove(link.key);
            }
            self.parent_address.store(0, Ordering::Relaxed);
            if self.flags.load(Ordering::Relaxed) & LIVE != 0 {
                wakers.push(parent.one_live_less(parent_state));
            }
            link
        });
    }

    /// A child is no longer live; what comes back is to be woken.
    pub(super) fn one_live_less(&self, state: &mut State) -> Option<Waker> {
        state.live -= 1;
        if state.live == 0 && self.flags.load(Ordering::Relaxed) & WAITING != 0 {
            state.waker.take()
        } else {
            None
        }
    }

    /// Gives the node another parent, unless that would make it its own ancestor.
    pub(crate) fn move_under(self: &Arc<Self>, parent: Option<Arc<Node>>, live: bool) {
        // What is met on the way is let go after the lock: it may be the last hold on a user's waker.
        let mut met = Vec::new();
        let mut wakers = WakeList::new();
        let mut requests = Vec::new();
        let moves = lock(&MOVES);
        let mut above = parent.clone();
        while let Some(node) = above {
            if Arc::ptr_eq(&node, self) {
                drop(moves);
                return;
            }
            above = {
                let state = node.lock();
                state
                    .link
                    .as_ref()
                    .map(|link| Arc::clone(&link.parent))
                    .or_else(|| state.successor.clone())
            };
            met.push(node);
        }
        loop {
            met.extend(self.parent());
            self.unlink(&mut wakers);
            if self.flags() & RETIRED != 0
                || self.attach_quietly(parent.clone(), Some(live), &mut wakers, &mut requests)
            {
                break;
            }
        }
        drop(moves);
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, &mut wakers);
        }
        wakers.wake_all();
    }
}
