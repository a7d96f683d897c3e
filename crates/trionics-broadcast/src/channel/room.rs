//! A source that waits: whether the slowest subscriber leaves room for one more value.

use std::sync::atomic::Ordering;

use futures_core::Stream;

use super::{Channel, table::Member};
use crate::{
    loom::{fence, lock},
    signal::{BLOCKED, IDLE},
};

impl<S: Stream> Channel<S> {
    /// Whether there is room for one more value; if not, the source waits.
    #[cold]
    pub(super) fn has_room_or_blocks(&self, published: u64) -> bool {
        if self.has_room(published) {
            return true;
        }
        self.signal.set_state(BLOCKED);
        fence(Ordering::SeqCst);
        let has_room = self.has_room(published);
        if has_room {
            self.signal.set_state(IDLE);
        }
        has_room
    }

    /// Whether the slowest subscriber leaves room for one more value.
    fn has_room(&self, published: u64) -> bool {
        let least = self.least_cursor.load(Ordering::SeqCst);
        published.saturating_sub(least) < self.window || self.look_for_room(published)
    }

    /// Looks at all subscribers; without room, one of the slowest becomes the witness, which looks again when it has moved.
    fn look_for_room(&self, published: u64) -> bool {
        let table = lock(&self.table);
        loop {
            let slowest = table
                .members
                .iter()
                .map(|member| (member.cursor.load(Ordering::SeqCst), member))
                .min_by_key(|(cursor, _)| *cursor);
            let Some((least, slowest)) = slowest else {
                return true;
            };
            self.least_cursor.store(least, Ordering::SeqCst);
            if published.saturating_sub(least) < self.window {
                return true;
            }
            self.witness.store(slowest.id, Ordering::SeqCst);
            // Either the witness sees that it is one, or its move is seen here.
            fence(Ordering::SeqCst);
            if slowest.cursor.load(Ordering::SeqCst) == least {
                return false;
            }
        }
    }

    /// Lets the source go on if a full window was waiting for `member`, which has moved or left.
    #[cold]
    pub(super) fn has_moved(&self, member: &Member) {
        fence(Ordering::SeqCst);
        if self.signal.state() == BLOCKED
            && self.witness.load(Ordering::SeqCst) == member.id
            && self.look_for_room(self.published())
            && self.signal.unblock()
        {
            self.signal.waiting.wake_all();
        }
    }
}
