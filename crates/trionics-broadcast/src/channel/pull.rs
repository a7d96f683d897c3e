//! Pulling: what whoever holds the intake does with it.

use std::{
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{Channel, ENDED, FLAG_BITS, HELD, Intake, reader::Reader};
use crate::{
    block::{Appender, SharedBlock},
    loom::{MutexGuard, lock},
    signal::{ARMED, BLOCKED, IDLE, POLLING},
};

/// What came of holding the intake.
pub(super) enum Pulled<T> {
    Slot(usize),
    Moved(T),
    /// Somebody else has published, or it was the end: look again.
    Changed,
    /// Nothing to be had before a wake.
    Parked,
    /// The source said `Pending` and has woken itself.
    Again,
    /// The others go first.
    Grace,
}

impl<S: Stream> Channel<S> {
    /// Whether this is the only open subscription. Whoever joins from now on joins behind a value that was taken already.
    #[inline]
    fn is_alone(&self, reader: &Reader<S::Item>) -> bool {
        // An open subscriber counts itself, so that one is nobody else.
        self.n_open() == 1 && !reader.member.is_closed() && !self.keeps_for_latecomers
    }

    /// Takes at most one value from the source, publishes it, and wakes those who wait for it.
    #[inline]
    pub(super) fn pull<'a>(
        &'a self,
        reader: &mut Reader<S::Item>,
        intake: MutexGuard<'a, Intake<S>>,
    ) -> Pulled<S::Item> {
        let mut garbage = None;
        let mut holder = Holder {
            channel: self,
            intake: Some(intake),
        };
        let pulled = match &mut holder.intake {
            Some(intake) => self.pull_locked(reader, intake, &mut garbage),
            None => Pulled::Changed,
        };
        drop(holder.intake.take());
        reader.is_known = true;
        self.unpark(reader);
        // A value that was moved is for nobody else: whoever has come meanwhile does not rely on being woken from here
        // (see `Reader::is_known`).
        if !matches!(pulled, Pulled::Moved(_)) {
            if matches!(pulled, Pulled::Changed) && self.has_ended() {
                self.signal.closing.wake_all();
            }
            self.wake_after_release(matches!(pulled, Pulled::Slot(_) | Pulled::Changed));
            if reader.member.is_closed() && self.n_open() == 0 {
                self.discard_window();
            }
        }
        if let Some(garbage) = garbage {
            self.recycle(garbage);
        }
        pulled
    }

    #[inline]
    fn pull_locked(
        &self,
        reader: &mut Reader<S::Item>,
        intake: &mut Intake<S>,
        garbage: &mut Option<Garbage<S::Item>>,
    ) -> Pulled<S::Item> {
        let head = self.head.load(Ordering::Acquire);
        let published = head >> FLAG_BITS;
        let was_held = head & HELD != 0;
        if head != reader.cursor << FLAG_BITS && (head & ENDED != 0 || published > reader.cursor) {
            return Pulled::Changed;
        }
        if matches!(self.signal.state(), ARMED | BLOCKED)
            || (self.waits_for_slowest && !self.has_room_or_blocks(published))
        {
            return Pulled::Parked;
        }

        let polled = if was_held {
            Poll::Ready(intake.held.take())
        } else {
            self.poll_locked(intake, reader.member.id)
        };
        let value = match polled {
            Poll::Ready(Some(value)) => value,
            Poll::Ready(None) => {
                self.head.store(head | ENDED, Ordering::Release);
                return Pulled::Changed;
            }
            Poll::Pending if self.signal.finish_pending() => return Pulled::Again,
            Poll::Pending => return Pulled::Parked,
        };

        if self.is_alone(reader) && (!intake.keeps_values || self.forget_window(intake, garbage)) {
            if let Some(block) = reader.forget_block() {
                Garbage::of(garbage).put(block);
            }
            if !was_held {
                return Pulled::Moved(value);
            }
            // Subscriptions made since start behind the position of the held value.
            let is_for_reader = reader.cursor == published;
            self.head
                .store((published + 1) << FLAG_BITS, Ordering::Release);
            if is_for_reader {
                reader.move_to(published + 1);
                return Pulled::Moved(value);
            }
            Garbage::of(garbage).value = Some(value);
            return Pulled::Changed;
        }

        if intake.appender.is_none() {
            let may_yield = reader.graced_at != published && !self.waits_for_slowest;
            if !self.open_block(intake, garbage, published, may_yield) {
                reader.graced_at = published;
                intake.held = Some(value);
                self.head.store(head | HELD, Ordering::Release);
                return Pulled::Grace;
            }
        }
        let appender = intake.appender.as_mut().expect("a block was opened");
        let index = appender.push(value);
        debug_assert_eq!(intake.base + index as u64, published);
        let is_for_reader = reader.cursor == published;
        if is_for_reader && (reader.base != intake.base || reader.block.is_none()) {
            reader.base = intake.base;
            if let Some(left) = reader.enter(SharedBlock::clone(appender.block())) {
                Garbage::of(garbage).put(left);
            }
        }
        if index + 1 == self.block_len {
            intake.appender = None;
        }
        self.head
            .store((published + 1) << FLAG_BITS, Ordering::Release);
        if !is_for_reader {
            return Pulled::Changed;
        }
        reader.move_to(published + 1);
        Pulled::Slot(index)
    }

    /// Opens a block for the positions from `published` on, unless one that would lose values to it can be given time to read.
    #[cold]
    fn open_block(
        &self,
        intake: &mut Intake<S>,
        garbage: &mut Option<Garbage<S::Item>>,
        published: u64,
        may_yield: bool,
    ) -> bool {
        let mut table = lock(&self.table);
        if may_yield && table.endangers(published, self.window, self.block_len) {
            return false;
        }
        let spare = table.spare.take();
        let appender = spare.unwrap_or_else(|| Appender::new(self.block_len));
        table.evict(published, self.window, self.block_len, |evicted| {
            Garbage::of(garbage).put(evicted);
        });
        if table.blocks.is_empty() {
            table.first = published;
        }
        table.blocks.push_back(SharedBlock::clone(appender.block()));
        drop(table);
        intake.keeps_values = true;
        intake.base = published;
        intake.appender = Some(appender);
        true
    }

    /// The source has panicked, and the panic is on its way to the receive that polled it.
    #[cold]
    fn end_by_panic(&self, intake: MutexGuard<'_, Intake<S>>) {
        self.panicked.store(true, Ordering::Release);
        self.signal.set_state(IDLE);
        self.head.fetch_or(ENDED, Ordering::AcqRel);
        drop(intake);
        self.wake_after_release(true);
        self.signal.closing.wake_all();
    }

    /// Polls the source with the channel's waker.
    #[inline]
    fn poll_locked(&self, intake: &mut Intake<S>, puller: u64) -> Poll<Option<S::Item>> {
        let Some(source) = &mut intake.source else {
            return Poll::Ready(None);
        };
        self.signal.set_state(POLLING);
        self.puller.store(puller, Ordering::Relaxed);
        let polled = source
            .as_mut()
            .poll_next(&mut Context::from_waker(&self.waker));
        if let Poll::Ready(item) = &polled {
            self.signal.set_state(IDLE);
            let pulls = self.pulls.load(Ordering::Relaxed) + u64::from(item.is_some());
            self.pulls.store(pulls, Ordering::Relaxed);
        }
        polled
    }

    /// Empties the table for an only subscriber: its values from here on are moved, so that what is there would leave a gap.
    #[cold]
    fn forget_window(
        &self,
        intake: &mut Intake<S>,
        garbage: &mut Option<Garbage<S::Item>>,
    ) -> bool {
        let garbage = Garbage::of(garbage);
        let mut table = lock(&self.table);
        if table.members.len() != 1 {
            return false;
        }
        garbage.more.extend(table.blocks.drain(..));
        drop(table);
        intake.keeps_values = false;
        let block = intake.appender.take();
        garbage
            .more
            .extend(block.map(|appender| SharedBlock::clone(appender.block())));
        true
    }

    /// Drops what is not needed any more, with no lock held, and keeps one block for its memory.
    #[cold]
    fn recycle(&self, garbage: Garbage<S::Item>) {
        for block in garbage.block.into_iter().chain(garbage.more) {
            // A subscriber that has not moved on still has this block: the last to leave it frees it.
            let Some(appender) = Appender::reuse(block) else {
                continue;
            };
            let mut table = lock(&self.table);
            let surplus = table.spare.replace(appender);
            drop(table);
            drop(surplus);
        }
    }
}

/// What is to be dropped once no lock is held.
struct Garbage<T> {
    /// There is seldom more than one: then nothing is allocated.
    block: Option<SharedBlock<T>>,
    more: Vec<SharedBlock<T>>,
    value: Option<T>,
}

impl<T> Garbage<T> {
    pub(super) fn of(garbage: &mut Option<Self>) -> &mut Self {
        garbage.get_or_insert_with(|| Self {
            block: None,
            more: Vec::new(),
            value: None,
        })
    }

    fn put(&mut self, block: SharedBlock<T>) {
        match &self.block {
            None => self.block = Some(block),
            Some(_) => self.more.push(block),
        }
    }
}

/// Holds the intake while the source is polled; if that panics, the source has ended.
struct Holder<'a, S: Stream> {
    channel: &'a Channel<S>,
    intake: Option<MutexGuard<'a, Intake<S>>>,
}

impl<S: Stream> Drop for Holder<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if let Some(intake) = self.intake.take() {
            self.channel.end_by_panic(intake);
        }
    }
}
