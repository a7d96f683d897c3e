//! The private side of a subscription: how far it has read, and in which block.

use std::sync::{Arc, atomic::Ordering};

use super::table::Member;
use crate::{block::SharedBlock, signal::Ticket};

/// The private side of a subscription.
pub(crate) struct Reader<T> {
    pub(crate) member: Arc<Member>,
    pub(crate) cursor: u64,
    /// The position of the first slot in `block`.
    pub(super) base: u64,
    /// The block that was read last.
    pub(super) block: Option<SharedBlock<T>>,
    /// How many slots of `block` can be read without a closer look: none while parked, and never the last, with which the block is given up.
    pub(super) n_quick: usize,
    /// The position before which this subscriber has let the others go first.
    pub(super) graced_at: u64,
    /// Whether this subscription has held the intake: all who hold it later know of its existence, and do not believe to be alone.
    pub(super) is_known: bool,
    pub(crate) ticket: Ticket,
}

impl<T> Reader<T> {
    #[inline]
    pub(super) fn move_to(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.member.cursor.store(cursor, Ordering::Release);
    }

    /// Goes past values that were lost, and lets the block go that they were in.
    pub(super) fn skip(&mut self, lost: u64) {
        self.move_to(self.cursor + lost);
        let before = self.member.lost.load(Ordering::Relaxed);
        self.member.lost.store(before + lost, Ordering::Relaxed);
        let index = self.cursor - self.base;
        if self
            .block
            .as_ref()
            .is_some_and(|block| index >= block.len() as u64)
        {
            self.forget_block();
        }
    }

    /// The value in a slot that a receive has named.
    #[inline]
    pub(crate) fn value(&self, index: usize) -> &T {
        self.block
            .as_deref()
            .and_then(|block| block.get(index))
            .expect("a slot that was named has its value")
    }

    /// Reads in this block from here on; gives back the one before.
    pub(super) fn enter(&mut self, block: SharedBlock<T>) -> Option<SharedBlock<T>> {
        let left = self.block.replace(block);
        self.set_quick();
        left
    }

    pub(crate) fn forget_block(&mut self) -> Option<SharedBlock<T>> {
        self.n_quick = 0;
        self.block.take()
    }

    pub(super) fn set_quick(&mut self) {
        self.n_quick = match &self.block {
            Some(block) if !self.ticket.is_held() => block.len() - 1,
            _ => 0,
        };
    }
}
