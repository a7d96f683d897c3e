//! Shields that come and go, and the end of patience.

use std::{sync::Arc, time::Duration};

use super::{
    Node,
    flags::{OUT_OF_GRACE, SHIELDED},
};
use crate::{
    sync::Ordering,
    wake::{WakeList, wake_outside},
};

impl Node {
    pub(crate) fn is_shielded(&self) -> bool {
        self.flags() & SHIELDED != 0
    }

    /// Begins or ends to keep cancellations out; what runs inside is woken if one now reaches it.
    pub(crate) fn set_shielded(self: &Arc<Self>, shielded: bool) {
        let mut wakers = WakeList::new();
        self.with_place(|parent, state| {
            let (set, clear) = if shielded {
                (SHIELDED, 0)
            } else {
                (0, SHIELDED)
            };
            self.change_flags(state, set, clear);
            let (before, after) = match parent {
                Some((parent, parent_state)) => {
                    let parent_flags = parent.flags.load(Ordering::Relaxed);
                    self.inherit(state, parent_flags, Some(&*parent_state))
                }
                None => self.inherit(state, 0, None),
            };
            if self.should_wake(before, after) {
                wakers.push(state.waker.take());
            }
        });
        let mut requests = Vec::new();
        self.propagate(&mut wakers, &mut requests);
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, &mut wakers);
        }
        wakers.wake_all();
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.lock().rare.as_ref()?.grace
    }

    /// Sets the grace period; wakes the frame, which may be waiting already.
    pub(crate) fn set_grace(&self, grace: Duration) {
        let waker = {
            let mut state = self.lock();
            state.rare_or_new().grace = Some(grace);
            state.waker.take()
        };
        wake_outside(waker);
    }

    /// Ends the grace period of a cancelled frame now, and wakes it.
    pub(crate) fn end_grace(&self) {
        self.set_out_of_grace();
        wake_outside(self.take_waker());
    }

    /// The grace period is over.
    pub(crate) fn set_out_of_grace(&self) {
        self.change_flags(&mut self.lock(), OUT_OF_GRACE, 0);
    }

    pub(crate) fn is_out_of_grace(&self) -> bool {
        self.flags() & OUT_OF_GRACE != 0
    }
}
