//! Receiving: what is there, or else what the source gives, or else a place among those who wait.

use std::{
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{Channel, ENDED, FLAG_BITS, pull::Pulled, reader::Reader};
use crate::{
    block::SharedBlock,
    loom::{let_others_run, lock, try_lock},
    signal::{ARMED, BLOCKED, IDLE},
};

/// What a subscriber finds without asking the source.
pub(crate) enum Step {
    /// A value, in this slot of the reader's block.
    Slot(usize),
    Lost(u64),
    Empty,
    End,
}

/// What a receive gives.
pub(crate) enum Delivery<T> {
    /// In this slot of the reader's block.
    Slot(usize),
    /// Nobody else needs it.
    Moved(T),
    Lost(u64),
}

impl<S: Stream> Channel<S> {
    /// What `reader` has to read; moves it on.
    #[inline]
    pub(crate) fn advance(&self, reader: &mut Reader<S::Item>) -> Step {
        loop {
            if reader.member.is_closed() {
                return Step::End;
            }
            let head = self.head.load(Ordering::Acquire);
            let published = head >> FLAG_BITS;
            if reader.cursor >= published {
                return if head & ENDED != 0 {
                    Step::End
                } else {
                    Step::Empty
                };
            }
            let behind = published - reader.cursor;
            if behind > self.window {
                let lost = behind - self.window;
                reader.skip(lost);
                return Step::Lost(lost);
            }
            let index = reader.cursor.wrapping_sub(reader.base) as usize;
            if let Some(block) = &reader.block
                && index < block.len()
            {
                reader.move_to(reader.cursor + 1);
                if self.waits_for_slowest {
                    self.has_moved(&reader.member);
                }
                return Step::Slot(index);
            }
            // If the block is gone, `head` has moved so far that the next round tells the loss.
            self.fetch_block(reader);
        }
    }

    #[cold]
    fn fetch_block(&self, reader: &mut Reader<S::Item>) {
        let table = lock(&self.table);
        let found = table.find(reader.cursor, self.block_len);
        drop(table);
        if let Some((block, base)) = found {
            reader.base = base;
            // The old block is dropped here, with no lock held.
            drop(reader.enter(block));
        }
    }

    /// Receives: what is there, or else what the source gives.
    #[inline]
    pub(crate) fn poll_receive(
        &self,
        reader: &mut Reader<S::Item>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Delivery<S::Item>>> {
        if self.is_caught_up(reader) {
            match self.signal.state() {
                IDLE => {
                    if let Some(intake) = try_lock(&self.intake) {
                        return match self.pull(reader, intake) {
                            Pulled::Slot(index) => Poll::Ready(Some(Delivery::Slot(index))),
                            Pulled::Moved(value) => Poll::Ready(Some(Delivery::Moved(value))),
                            Pulled::Parked => self.poll_armed(reader, context, Pulled::Parked),
                            other => self.poll_or_park(reader, context, Some(other)),
                        };
                    }
                }
                ARMED => return self.poll_armed(reader, context, Pulled::Changed),
                _ => {}
            }
        }
        match self.poll_window(reader) {
            Poll::Pending => self.poll_or_park(reader, context, None),
            found => found,
        }
    }

    /// Parks for the source's wake, unless something has happened since `pulled`.
    #[inline]
    fn poll_armed(
        &self,
        reader: &mut Reader<S::Item>,
        context: &mut Context<'_>,
        pulled: Pulled<S::Item>,
    ) -> Poll<Option<Delivery<S::Item>>> {
        self.park(reader, context);
        if self.is_caught_up(reader) && self.signal.state() == ARMED {
            return Poll::Pending;
        }
        self.poll_or_park(reader, context, Some(pulled))
    }

    /// Whether there is nothing to be read, and the source has not ended as far as is known.
    #[inline]
    fn is_caught_up(&self, reader: &Reader<S::Item>) -> bool {
        self.head.load(Ordering::Acquire) == reader.cursor << FLAG_BITS
            && !reader.member.is_closed()
    }

    /// The next value, if that takes no closer look: the way that nearly all receives take.
    #[inline]
    pub(crate) fn next_value<'r>(&self, reader: &'r mut Reader<S::Item>) -> Option<&'r S::Item> {
        let cursor = reader.cursor;
        let index = cursor.wrapping_sub(reader.base) as usize;
        if index >= reader.n_quick {
            return None;
        }
        let published = self.head.load(Ordering::Acquire) >> FLAG_BITS;
        let reach = reader.member.reach.load(Ordering::Relaxed);
        if published.wrapping_sub(cursor).wrapping_sub(1) >= reach {
            return None;
        }
        reader.move_to(cursor + 1);
        Some(reader.value(index))
    }

    /// A clone of the value in a slot that a receive has named.
    #[inline]
    pub(crate) fn take(&self, reader: &mut Reader<S::Item>, index: usize) -> S::Item
    where
        S::Item: Clone,
    {
        let value = reader.value(index).clone();
        let is_last = |block: &SharedBlock<_>| index + 1 == block.len();
        if reader.block.as_ref().is_some_and(is_last) {
            self.turn_page(reader);
        }
        value
    }

    /// Nothing is left to be read in the block: lets its values be freed, and goes on to the next if there is one.
    fn turn_page(&self, reader: &mut Reader<S::Item>) {
        reader.forget_block();
        if reader.cursor < self.published() && !reader.member.is_closed() {
            self.fetch_block(reader);
        }
    }

    /// The next value again, if the task was woken since it has parked.
    #[inline]
    pub(crate) fn next_value_after_wake<'r>(
        &self,
        reader: &'r mut Reader<S::Item>,
    ) -> Option<&'r S::Item> {
        if !self.signal.waiting.has_woken(&mut reader.ticket) {
            return None;
        }
        reader.set_quick();
        self.next_value(reader)
    }

    /// Gives up the place among the parked, if there is one.
    #[inline]
    pub(crate) fn unpark(&self, reader: &mut Reader<S::Item>) {
        if reader.ticket.is_held() {
            self.unpark_held(reader);
        }
    }

    #[cold]
    fn unpark_held(&self, reader: &mut Reader<S::Item>) {
        self.signal.waiting.cancel(&mut reader.ticket);
        reader.set_quick();
    }

    /// What is there; the task is then parked no longer.
    #[inline]
    fn poll_window(&self, reader: &mut Reader<S::Item>) -> Poll<Option<Delivery<S::Item>>> {
        let found = match self.advance(reader) {
            Step::Slot(index) => Some(Delivery::Slot(index)),
            Step::Lost(count) => Some(Delivery::Lost(count)),
            Step::End => {
                reader.forget_block();
                None
            }
            Step::Empty => return Poll::Pending,
        };
        self.unpark(reader);
        Poll::Ready(found)
    }

    /// Parks the task; what it waits for must be looked at again afterwards.
    fn park(&self, reader: &mut Reader<S::Item>, context: &mut Context<'_>) {
        let owner = reader.member.id;
        self.signal
            .waiting
            .register(&mut reader.ticket, owner, context.waker());
        reader.n_quick = 0;
    }

    /// Asks the source, or parks; goes on from what came of a first attempt.
    #[cold]
    fn poll_or_park(
        &self,
        reader: &mut Reader<S::Item>,
        context: &mut Context<'_>,
        mut pulled: Option<Pulled<S::Item>>,
    ) -> Poll<Option<Delivery<S::Item>>> {
        let mut was_refused = false;
        let mut is_parked = false;
        loop {
            match pulled.take() {
                None => {}
                Some(Pulled::Slot(index)) => return Poll::Ready(Some(Delivery::Slot(index))),
                Some(Pulled::Moved(value)) => return Poll::Ready(Some(Delivery::Moved(value))),
                Some(Pulled::Grace | Pulled::Again) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Pulled::Parked) => was_refused = true,
                Some(Pulled::Changed) => {
                    if let found @ Poll::Ready(_) = self.poll_window(reader) {
                        return found;
                    }
                }
            }
            if matches!(self.signal.state(), ARMED | BLOCKED) {
                if is_parked {
                    return Poll::Pending;
                }
            } else if was_refused {
                // The source has woken itself, or was woken at once: asking it again in the same poll could go on for ever.
                context.waker().wake_by_ref();
                return Poll::Pending;
            } else if let Some(intake) = try_lock(&self.intake) {
                // A pull gives the place among the parked up.
                is_parked = false;
                pulled = Some(self.pull(reader, intake));
                continue;
            } else if !reader.is_known {
                // Who holds the intake may believe to be alone, and then wakes nobody.
                context.waker().wake_by_ref();
                let_others_run();
                return Poll::Pending;
            } else if is_parked {
                // Whoever holds the intake looks for parked tasks after its release.
                return Poll::Pending;
            }
            if !is_parked {
                self.park(reader, context);
                is_parked = true;
                if let found @ Poll::Ready(_) = self.poll_window(reader) {
                    return found;
                }
            }
        }
    }
}
