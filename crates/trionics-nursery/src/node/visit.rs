//! Anchored frames that are polled elsewhere than where they belong.

use std::sync::Arc;

use super::{
    Node, State,
    flags::{ABANDONED, EXITING, LIVE, SHIELDED, VISIT, effective},
};

impl Node {
    /// Hangs a node under `host` that stands for this frame, which the host polls.
    ///
    /// While the frame is being cancelled where it belongs, a host that is cancelled, too, waits for it:
    /// if it dropped what polls the frame, nobody would run the frame's exits.
    pub(crate) fn visit(self: &Arc<Self>, host: Arc<Node>) -> Option<Arc<Node>> {
        let home = self.parent()?;
        let visit = Self::named(self.kind, self.location, self.name.clone());
        {
            let mut state = visit.lock();
            visit.change_flags(&mut state, VISIT, 0);
            state.rare_or_new().home = Some(home);
        }
        visit.attach(Some(host), false);
        Some(visit)
    }

    /// The visits that do not count as live, and where their frames belong; the caller holds the lock.
    pub(super) fn silent_visits(state: &State) -> Vec<(Arc<Node>, Arc<Node>)> {
        let mut visits = Vec::new();
        for child in state.children.iter() {
            if child.flags() & (VISIT | LIVE | ABANDONED) == VISIT {
                let home = child
                    .lock()
                    .rare
                    .as_ref()
                    .and_then(|rare| rare.home.clone());
                visits.extend(home.map(|home| (Arc::clone(child), home)));
            }
        }
        visits
    }

    /// From now on the visit counts as live, unless it has ended; the caller holds this node's lock.
    pub(super) fn count_visit(self: &Arc<Self>, state: &mut State, visit: &Arc<Node>) {
        let mut visit_state = visit.lock();
        let link = visit_state.link.as_ref();
        if link.is_some_and(|link| Arc::ptr_eq(&link.parent, self)) && !visit.is_live() {
            visit.set_live(&mut visit_state, true);
            state.live += 1;
        }
    }

    /// Effectively cancelled, or about to be told so: a cancellation is on its way down from further out.
    ///
    /// A frame that is told before another one, with which it shares the cancelled scope, asks this about
    /// the other one.
    pub(crate) fn is_effective_soon(self: &Arc<Self>) -> bool {
        let mut above = Some(Arc::clone(self));
        while let Some(node) = above {
            let flags = node.flags();
            if flags & EXITING != 0 {
                return false;
            }
            if effective(flags) {
                return true;
            }
            if flags & SHIELDED != 0 {
                return false;
            }
            let state = node.lock();
            let parent = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            above = parent.or_else(|| state.successor.clone());
        }
        false
    }
}
