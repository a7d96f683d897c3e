//! The way from a block that was left to its context: shields for the code that follows.

use std::{slice, sync::Arc};

use super::{
    Node,
    flags::{EXITING, HAD_TO_WAIT, LATCHED, WAITING, effective},
};
use crate::{report::FrameKind, sync::Ordering, wake::WakeList};

impl Node {
    /// Every frame from this one's parent up to `context` becomes a shield for the code that follows.
    pub(crate) fn begin_exit(self: &Arc<Self>, context: &Arc<Node>) {
        #[cfg(feature = "tracing")]
        crate::trace::exit_begins(context);
        let parent = self
            .lock()
            .link
            .as_ref()
            .map(|link| Arc::clone(&link.parent));
        let longer_path;
        let path = match parent {
            Some(parent) if !Arc::ptr_eq(&parent, context) => {
                longer_path = parent.path_up_to(context);
                &*longer_path
            }
            _ => slice::from_ref(context),
        };
        let mut was_cancelled = false;
        for node in path {
            let mut state = node.lock();
            let now = effective(node.flags.load(Ordering::Relaxed));
            was_cancelled |= now;
            if node.kind == FrameKind::Nursery {
                if now {
                    node.change_flags(&mut state, LATCHED, 0);
                }
            } else {
                node.change_flags(&mut state, EXITING, WAITING);
            }
        }
        // A shield over what is not cancelled changes nothing inside.
        if !was_cancelled {
            return;
        }
        let mut wakers = WakeList::new();
        let mut requests = Vec::new();
        context.propagate(&mut wakers, &mut requests);
        for node in path.iter().rev() {
            node.propagate(&mut wakers, &mut requests);
        }
        wakers.wake_all();
    }

    /// This frame alone, a context's own, becomes a shield for the code that follows.
    pub(crate) fn begin_exit_alone(self: &Arc<Self>) {
        let was_cancelled = {
            let mut state = self.lock();
            let (before, _) = self.change_flags(&mut state, EXITING, WAITING);
            effective(before)
        };
        if was_cancelled {
            let (mut wakers, mut requests) = (WakeList::new(), Vec::new());
            self.propagate(&mut wakers, &mut requests);
            wakers.wake_all();
        }
    }

    /// This node and those above it, up to `context`; that one alone if it is not above.
    fn path_up_to(self: &Arc<Self>, context: &Arc<Node>) -> Vec<Arc<Node>> {
        let mut path = vec![Arc::clone(self)];
        loop {
            let top = path.last().expect("never empty");
            let above = top
                .lock()
                .link
                .as_ref()
                .map(|link| Arc::clone(&link.parent));
            match above {
                Some(above) if Arc::ptr_eq(&above, context) => {
                    path.push(above);
                    return path;
                }
                Some(above) => path.push(above),
                // A block that was provided from outside its context shields the context alone.
                None => return vec![Arc::clone(context)],
            }
        }
    }

    /// The frame waits for a block to unwind: what starts directly inside meanwhile parks.
    pub(crate) fn note_waiting(&self) {
        self.change_flags(&mut self.lock(), HAD_TO_WAIT, 0);
    }
}
