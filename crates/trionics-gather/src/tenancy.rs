//! For the sibling crates: a context whose value is used by somebody who is no future of ours.

use std::{
    fmt,
    panic::Location,
    sync::Arc,
    task::{Context, Poll},
};

use trionics_nursery::internal::Block;

use crate::{
    context::{AsyncContext, BlockEnd},
    delivery::Shelf,
    held::{HeldOf, Holding, hold},
};

/// The use of a context's value: a block without a future, which ends when it is told to.
pub struct Tenancy<V> {
    block: Block,
    shelf: Arc<Shelf<V>>,
}

/// Prepares `context`. Its future sets up, waits for the end of the tenancy, and tears down.
#[track_caller]
pub fn let_out<C: AsyncContext>(context: C) -> (HeldOf<C>, Tenancy<C::Value>) {
    let location = Location::caller();
    let block = Block::new(location, 1);
    let shelf = Shelf::new(&Holding::new(&block, location), 1);
    let held = hold(context, &shelf, 0, None);
    (held, Tenancy { block, shelf })
}

impl<V> Tenancy<V> {
    /// The value, once it is provided; it is given once.
    #[must_use]
    pub fn take_value(&self) -> Option<V> {
        self.shelf.try_take_one()
    }

    /// Waits until the context needs its value back: it has ended, or something around it was cancelled.
    pub fn poll_notice(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.block.poll_cancelled(cx).map(drop)
    }

    /// The value is not used any more, and dropped: the exit may begin.
    pub fn end(&self) {
        self.block.end(BlockEnd::Completed);
    }
}

impl<V> fmt::Debug for Tenancy<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenancy").finish_non_exhaustive()
    }
}
