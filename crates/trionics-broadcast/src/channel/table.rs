//! The window of values and the open subscriptions, of which whoever comes, goes or opens a block takes the lock.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    block::{Appender, SharedBlock},
    loom::{AtomicBool, AtomicU64, AtomicUsize},
};

/// What is needed once per block, or by those who come and go.
pub(crate) struct Table<T> {
    pub(super) blocks: VecDeque<SharedBlock<T>>,
    /// The position of the first block's first slot.
    pub(super) first: u64,
    /// An emptied block, kept for its memory.
    pub(super) spare: Option<Appender<T>>,
    /// The open subscriptions.
    pub(crate) members: Vec<Arc<Member>>,
    /// Subscriptions that were not given up, open or closed.
    pub(super) n_handles: usize,
    pub(super) next_id: u64,
}

/// What others see of a subscription.
#[repr(align(64))]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// The next position to read; written by the subscriber only.
    pub(super) cursor: AtomicU64,
    /// All values lost; written by the subscriber only.
    pub(super) lost: AtomicU64,
    pub(super) is_closed: AtomicBool,
    /// How far behind `head` the subscriber may be to read without a closer look: the window, but zero once it is closed.
    pub(super) reach: AtomicU64,
    /// The place in `Table::members`; only used under the table's lock.
    pub(super) index: AtomicUsize,
}

impl<T> Table<T> {
    pub(super) fn remove(&mut self, member: &Member) -> Arc<Member> {
        let index = member.index.load(Ordering::Relaxed);
        let removed = self.members.swap_remove(index);
        if let Some(moved) = self.members.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
        removed
    }

    /// The block with this position, and its first position.
    pub(super) fn find(&self, position: u64, block_len: usize) -> Option<(SharedBlock<T>, u64)> {
        let offset = position.checked_sub(self.first)?;
        let index = offset >> block_len.trailing_zeros();
        let block = self.blocks.get(usize::try_from(index).ok()?)?;
        let base = position - (offset & (block_len as u64 - 1));
        Some((SharedBlock::clone(block), base))
    }

    /// Takes out the blocks that no position in the window falls into.
    pub(super) fn evict(
        &mut self,
        published: u64,
        window: u64,
        block_len: usize,
        mut evicted: impl FnMut(SharedBlock<T>),
    ) {
        let block_len = block_len as u64;
        while !self.blocks.is_empty() && self.first + block_len + window <= published {
            self.blocks.pop_front().map(&mut evicted);
            self.first += block_len;
        }
    }

    /// Whether a subscriber that has lost nothing yet would lose values to the block about to be opened.
    pub(super) fn endangers(&self, published: u64, window: u64, block_len: usize) -> bool {
        self.members.iter().any(|member| {
            let kept_until = member.cursor.load(Ordering::Relaxed) + window;
            kept_until >= published && kept_until < published + block_len as u64
        })
    }
}

impl Member {
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Acquire)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }
}
