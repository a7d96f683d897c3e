//! Cancelling: how a request comes down the tree.

use std::{collections::BTreeMap, sync::Arc};

use trionics_errgroup::Cancelled;

use super::{
    Node, State,
    flags::{OUTER, OWN, REQUESTED_AROUND, SHIELDED, effective, requested, tracked},
};
use crate::{
    report::FrameKind,
    sync::{Ordering, ProcessU64},
    wake::WakeList,
};

/// The cancellations of the process that are on their way down, and how many have begun so far, in units of [`ONE_BEGUN`].
static ON_THEIR_WAY: ProcessU64 = ProcessU64::new(0);
const ONE_BEGUN: u64 = 1 << 24;

/// A cancellation on its way down.
struct OnItsWay {
    others_before: u64,
}

impl OnItsWay {
    fn begin() -> Self {
        let others_before = ON_THEIR_WAY.fetch_add(ONE_BEGUN + 1, Ordering::AcqRel);
        Self { others_before }
    }

    /// True if another one, perhaps of something around, was under way at any time since the beginning.
    fn end(self) -> bool {
        let before_end = ON_THEIR_WAY.fetch_sub(1, Ordering::AcqRel);
        !self.others_before.is_multiple_of(ONE_BEGUN)
            || before_end != self.others_before.wrapping_add(ONE_BEGUN + 1)
    }
}

/// How far down a change is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// As far as there is anything to change.
    Changed,
    /// To the last frame: what is as it should be already may be so because another thread, which has yet to go on
    /// from there, has just changed it.
    All,
}

impl Node {
    /// Cancels the node's own scope. The first reason stays; false if there was one.
    ///
    /// When it returns, everything inside has been told, whichever thread was first.
    pub(crate) fn request(self: &Arc<Self>, cancelled: Cancelled) -> bool {
        #[cfg(feature = "task-tree")]
        if self.is_tracked() {
            self.times.note_cancelled(self);
        }
        #[cfg(feature = "tracing")]
        let told = cancelled.clone();
        let mut wakers = WakeList::new();
        let first = self.request_quietly(cancelled, &mut wakers);
        #[cfg(feature = "tracing")]
        if first {
            crate::trace::cancelled(self, &told);
        }
        wakers.wake_all();
        first
    }

    pub(super) fn request_quietly(
        self: &Arc<Self>,
        cancelled: Cancelled,
        wakers: &mut WakeList,
    ) -> bool {
        let on_its_way = OnItsWay::begin();
        let first = self.tell(cancelled.clone(), Depth::Changed, wakers);
        if on_its_way.end() {
            self.tell(cancelled, Depth::All, wakers);
        }
        first
    }

    /// Cancels the node's scope and tells everything inside, and so on for the scopes that follow.
    fn tell(self: &Arc<Self>, cancelled: Cancelled, depth: Depth, wakers: &mut WakeList) -> bool {
        let mut requests = vec![(Arc::clone(self), cancelled)];
        let mut first_of_self = false;
        // By address: a follower may be reached twice, by way of itself even.
        let mut told = BTreeMap::new();
        while let Some((node, cancelled)) = requests.pop() {
            {
                let mut state = node.lock();
                let was_told = match depth {
                    Depth::Changed => node.flags.load(Ordering::Relaxed) & OWN != 0,
                    Depth::All => told.contains_key(&node.address()),
                };
                if was_told {
                    continue;
                }
                let (before, after) = node.change_flags(&mut state, OWN, 0);
                // A retired node keeps the reason for which it was cancelled when it ended.
                state.cancelled.get_or_insert(cancelled);
                if !effective(before) && effective(after) {
                    wakers.push(state.waker.take());
                }
                first_of_self |= before & OWN == 0 && Arc::ptr_eq(&node, self);
            }
            node.tell_inside(depth, wakers, &mut requests);
            if depth == Depth::All {
                told.insert(node.address(), node);
            }
        }
        first_of_self
    }

    /// Brings everything below in line with this node's flags, which have changed (invariant 3).
    pub(super) fn propagate(
        self: &Arc<Self>,
        wakers: &mut WakeList,
        requests: &mut Vec<(Arc<Node>, Cancelled)>,
    ) {
        self.tell_inside(Depth::Changed, wakers, requests);
    }

    fn tell_inside(
        self: &Arc<Self>,
        depth: Depth,
        wakers: &mut WakeList,
        requests: &mut Vec<(Arc<Node>, Cancelled)>,
    ) {
        let mut work = vec![Arc::clone(self)];
        let mut followers = Vec::new();
        while let Some(parent) = work.pop() {
            let parent_state = parent.lock();
            let parent_flags = parent.flags.load(Ordering::Relaxed);
            for child in parent_state.children.iter() {
                let mut state = child.lock();
                let (before, after) = child.inherit(&mut state, parent_flags, Some(&parent_state));
                if before == after && depth == Depth::Changed {
                    continue;
                }
                if child.should_wake(before, after) {
                    wakers.push(state.waker.take());
                }
                let is_news = depth == Depth::All || !effective(before);
                if is_news && effective(after) && state.follower().is_some() {
                    followers.push(Arc::clone(child));
                }
                if !state.children.is_empty() {
                    work.push(Arc::clone(child));
                }
            }
        }
        for follower in followers {
            let target = follower.lock().follower().cloned();
            if let Some(target) = target {
                requests.push((target, follower.cancelled_or_closed()));
            }
        }
    }

    /// Takes over the flags that come from the parent; the caller holds both locks.
    pub(super) fn inherit(
        &self,
        state: &mut State,
        parent_flags: u32,
        parent: Option<&State>,
    ) -> (u32, u32) {
        let flags = self.flags.load(Ordering::Relaxed);
        let mut set = tracked(flags, parent_flags);
        if effective(parent_flags) && flags & SHIELDED == 0 {
            set |= OUTER;
            if state.cancelled_above.is_none() {
                state.cancelled_above = parent.and_then(State::why_cancelled).cloned();
            }
        }
        if requested(parent_flags) {
            set |= REQUESTED_AROUND;
        }
        let (before, after) = self.change_flags(state, set, (OUTER | REQUESTED_AROUND) & !set);
        // A latched nursery goes on being cancelled for the same reason.
        if !effective(after) {
            state.cancelled_above = None;
        }
        (before, after)
    }

    /// A change of what reaches the frame is to be acted upon: it may have to strike, or, where it has
    /// parked and an exit's shield now covers it, to come back.
    pub(super) fn should_wake(&self, before: u32, after: u32) -> bool {
        let newly_cancelled = !effective(before) && effective(after);
        let freed = before & OUTER != 0 && after & OUTER == 0;
        let newly_requested = !requested(before) && requested(after);
        newly_cancelled || freed || (newly_requested && self.kind == FrameKind::CancelRequested)
    }
}
