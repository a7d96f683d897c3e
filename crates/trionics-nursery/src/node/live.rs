//! How many frames are live, and since when: counters of the process.

use super::{
    Node, State,
    flags::{ABANDONED, LIVE, NODELESS, WAITING},
};
use crate::sync::{Ordering, ProcessU64, ProcessUsize};

/// Counts the patience periods of all waiting frames, so that "polled since then" is one comparison.
pub(super) static EPOCH: ProcessU64 = ProcessU64::new(1);
/// How many frames are live in this process.
static LIVE_FRAMES: ProcessUsize = ProcessUsize::new(0);

/// Begins a new epoch and returns it: polls from now on carry this number or a later one.
pub(crate) fn next_epoch() -> u64 {
    EPOCH.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns how many frames are live in this process.
///
/// A frame is one of this crate's futures (a cancel scope, a nursery, a shield, a context …) from its
/// first poll until it has returned, parked or been dropped. A child of a nursery counts once a frame
/// was opened inside it. When everything has ended the count is back where it was, which makes it a
/// cheap check at the end of a program or a test.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// let before = trionics_nursery::live_frames();
/// trionics_nursery::shield(async {
///     assert!(trionics_nursery::live_frames() > before);
/// })
/// .await;
/// # });
/// ```
#[must_use]
pub fn live_frames() -> usize {
    LIVE_FRAMES.load(Ordering::Relaxed)
}

/// Something that counts as a live frame, and has no node.
pub(crate) struct CountedLive(());

impl CountedLive {
    #[inline]
    pub(crate) fn new() -> Self {
        LIVE_FRAMES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for CountedLive {
    #[inline]
    fn drop(&mut self) {
        LIVE_FRAMES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    pub(crate) fn is_live(&self) -> bool {
        self.flags() & LIVE != 0
    }

    pub(super) fn set_live(&self, state: &mut State, live: bool) {
        let (before, after) = if live {
            self.change_flags(state, LIVE, ABANDONED)
        } else {
            self.change_flags(state, 0, LIVE | WAITING)
        };
        if after & NODELESS != 0 {
            return;
        }
        match (before & LIVE != 0, after & LIVE != 0) {
            (false, true) => {
                LIVE_FRAMES.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                LIVE_FRAMES.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
