//! What all subscribers share: the source, the window of values, and the protocol by which a value gets from one to the other.
//!
//! There is no leader. Whoever is caught up and finds the source's lock free polls the source, with the channel's own
//! waker; whoever finds it taken parks. A subscriber that goes away in whatever state leaves nothing to be handed over.
//!
//! Invariants, besides S1 in `signal`:
//!
//! * C1: only the holder of the intake's lock writes `head`, and a value is appended before `head` passes it.
//! * C2: a position in the window has a slot in the table or, if its value was moved to the only subscriber, no reader.
//! * C3: no code of the user (source apart, under the intake's lock that nobody waits for) runs under a lock: no clone, no drop, no waker.

use std::{
    collections::VecDeque,
    mem,
    ops::Deref,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use crate::{
    block::{Appender, SharedBlock},
    broadcast::Broadcast,
    loom::{
        AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, fence, let_others_run, lock,
        try_lock,
    },
    signal::{ARMED, BLOCKED, IDLE, POLLING, Signal, Ticket},
};

/// The source has ended.
const ENDED: u64 = 0b01;
/// A value was taken from the source whose publication waits for subscribers that are about to lose values.
const HELD: u64 = 0b10;
const FLAG_BITS: u32 = 2;

/// The largest number of values in a block.
const MAX_BLOCK_LEN: usize = 32;

pub(crate) struct Channel<S: Stream> {
    /// Number of values published, and the flags; read by every receive.
    head: Padded<AtomicU64>,
    pub(crate) window: u64,
    /// A power of two, so that finding a block takes no division.
    block_len: usize,
    /// Whether a full window makes the source wait.
    waits_for_slowest: bool,
    /// Whether values are kept that nobody has still to read.
    keeps_for_latecomers: bool,
    pub(crate) signal: Arc<Signal>,
    /// Reaches `signal`.
    waker: Waker,
    /// Mirrors the length of `Table::members`.
    n_open: AtomicUsize,
    /// No open subscriber's cursor is below; may be too low. Used if `waits_for_slowest`.
    least_cursor: AtomicU64,
    /// The subscriber that a full window waits for.
    witness: AtomicU64,
    /// Number of values taken from the source.
    pulls: AtomicU64,
    /// Who polls the source, or has polled it last.
    puller: AtomicU64,
    panicked: AtomicBool,
    /// Never waited for, except by the last handle.
    intake: Padded<Mutex<Intake<S>>>,
    table: Padded<Mutex<Table<S::Item>>>,
}

/// What belongs to whoever is pulling.
struct Intake<S: Stream> {
    /// Taken when the last handle is given up.
    source: Option<Pin<Box<S>>>,
    held: Option<S::Item>,
    /// Of the newest block, if it has room.
    appender: Option<Appender<S::Item>>,
    /// The position of its first slot.
    base: u64,
    /// Whether the table may hold blocks.
    keeps_values: bool,
}

/// What is needed once per block, or by those who come and go.
pub(crate) struct Table<T> {
    blocks: VecDeque<SharedBlock<T>>,
    /// The position of the first block's first slot.
    first: u64,
    /// An emptied block, kept for its memory.
    spare: Option<Appender<T>>,
    /// The open subscriptions.
    pub(crate) members: Vec<Arc<Member>>,
    /// Subscriptions that were not given up, open or closed.
    n_handles: usize,
    next_id: u64,
}

/// What others see of a subscription.
#[repr(align(64))]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// The next position to read; written by the subscriber only.
    cursor: AtomicU64,
    /// All values lost; written by the subscriber only.
    lost: AtomicU64,
    is_closed: AtomicBool,
    /// How far behind `head` the subscriber may be to read without a closer look: the window, but zero once it is closed.
    reach: AtomicU64,
    /// The place in `Table::members`; only used under the table's lock.
    index: AtomicUsize,
}

/// The private side of a subscription.
pub(crate) struct Reader<T> {
    pub(crate) member: Arc<Member>,
    pub(crate) cursor: u64,
    /// The position of the first slot in `block`.
    base: u64,
    /// The block that was read last.
    block: Option<SharedBlock<T>>,
    /// How many slots of `block` can be read without a closer look: none while parked, and never the last, with which the block is given up.
    n_quick: usize,
    /// The position before which this subscriber has let the others go first.
    graced_at: u64,
    /// Whether this subscription has held the intake: all who hold it later know of its existence, and do not believe to be alone.
    is_known: bool,
    pub(crate) ticket: Ticket,
}

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

/// What came of holding the intake.
enum Pulled<T> {
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

/// Where a new subscription starts.
pub(crate) enum Start {
    Now,
    Oldest,
}

impl<S: Stream> Channel<S> {
    pub(crate) fn new(source: S, settings: Broadcast) -> Self {
        let window = settings.max_buffer_size;
        let signal = Arc::new(Signal::new());
        Self {
            head: Padded(AtomicU64::new(0)),
            window: window as u64,
            block_len: 1 << (window / 2).clamp(1, MAX_BLOCK_LEN).ilog2(),
            waits_for_slowest: settings.waits_for_slowest,
            keeps_for_latecomers: settings.keeps_for_latecomers,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
            n_open: AtomicUsize::new(0),
            least_cursor: AtomicU64::new(0),
            witness: AtomicU64::new(0),
            pulls: AtomicU64::new(0),
            puller: AtomicU64::new(0),
            panicked: AtomicBool::new(false),
            intake: Padded(Mutex::new(Intake {
                source: Some(Box::pin(source)),
                held: None,
                appender: None,
                base: 0,
                keeps_values: false,
            })),
            table: Padded(Mutex::new(Table {
                blocks: VecDeque::new(),
                first: 0,
                spare: None,
                members: Vec::new(),
                n_handles: 0,
                next_id: 0,
            })),
        }
    }

    /// Adds a subscription, unless `needs_handle` and all handles were given up.
    pub(crate) fn join(&self, start: Start, needs_handle: bool) -> Option<Reader<S::Item>> {
        let mut table = lock(&self.table);
        if needs_handle && table.n_handles == 0 {
            return None;
        }
        if self.waits_for_slowest && matches!(start, Start::Oldest) {
            // From here on at most one value, for which there was room before, is published without looking at `members`.
            self.least_cursor.store(0, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
        // Announced before the start is read: of a publication and this, the later sees the earlier. So values that are moved to an
        // only subscriber, who has not seen this one, come before the start.
        let n_open = table.members.len() + 1;
        self.n_open.store(n_open, Ordering::SeqCst);
        self.signal.waiting.has_parked();
        let head = self.head.load(Ordering::SeqCst);
        let published = head >> FLAG_BITS;
        let cursor = match start {
            Start::Oldest if !table.blocks.is_empty() => {
                let kept = self.window - u64::from(self.waits_for_slowest);
                published.saturating_sub(kept).max(table.first)
            }
            // A held value was taken from the source before this subscription was made.
            _ => published + u64::from(head & HELD != 0),
        };
        let member = Arc::new(Member {
            id: table.next_id,
            cursor: AtomicU64::new(cursor),
            lost: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            reach: AtomicU64::new(if self.waits_for_slowest {
                0
            } else {
                self.window
            }),
            index: AtomicUsize::new(table.members.len()),
        });
        table.next_id += 1;
        table.n_handles += 1;
        table.members.push(Arc::clone(&member));
        Some(Reader {
            member,
            cursor,
            base: 0,
            block: None,
            n_quick: 0,
            graced_at: u64::MAX,
            is_known: false,
            ticket: Ticket::default(),
        })
    }

    /// Ends one subscription; a second time has no effect.
    pub(crate) fn close(&self, member: &Member) {
        let mut table = lock(&self.table);
        if member.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        member.reach.store(0, Ordering::Relaxed);
        let removed = table.remove(member);
        let n_open = table.members.len();
        self.n_open.store(n_open, Ordering::SeqCst);
        drop(table);
        drop(removed);
        if self.waits_for_slowest {
            self.has_moved(member);
        }
        if n_open == 0 {
            // Either the intake is found free below, or whoever holds it sees afterwards that nobody is left.
            self.signal.waiting.has_parked();
            self.discard_window();
            self.signal.closing.wake_all();
        }
    }

    /// Gives one handle up; the last one gets the source.
    pub(crate) fn give_up(&self, reader: &mut Reader<S::Item>) -> Option<Pin<Box<S>>> {
        self.unpark(reader);
        reader.forget_block();
        self.close(&reader.member);
        let mut table = lock(&self.table);
        table.n_handles -= 1;
        if table.n_handles > 0 {
            return None;
        }
        let blocks = mem::take(&mut table.blocks);
        let spare = table.spare.take();
        drop(table);
        let mut intake = lock(&self.intake);
        let source = intake.source.take();
        let held = intake.held.take();
        let block = intake.appender.take();
        drop(intake);
        drop((blocks, spare, held, block));
        source
    }

    /// Frees the values when nobody is subscribed; whoever is pulling meanwhile does it afterwards.
    #[cold]
    fn discard_window(&self) {
        let Some(mut intake) = try_lock(&self.intake) else {
            return;
        };
        let mut table = lock(&self.table);
        let mut discarded = None;
        if table.members.is_empty() {
            let blocks = mem::take(&mut table.blocks);
            drop(table);
            intake.keeps_values = false;
            let held = intake.held.take();
            if held.is_some() {
                // Its position is used up: subscriptions made meanwhile start behind it.
                let published = self.published() + 1;
                self.head.store(published << FLAG_BITS, Ordering::Release);
            }
            discarded = Some((blocks, intake.appender.take(), held));
        } else {
            drop(table);
        }
        drop(intake);
        self.wake_after_release(false);
        drop(discarded);
    }

    /// Wakes those who parked because they found the intake taken: to be called after each release of it.
    #[inline]
    fn wake_after_release(&self, concerns_all: bool) {
        // Whoever has found the intake taken has parked before this, or finds it free. The state is read last: what has been changed
        // before somebody parked is seen.
        if self.signal.waiting.has_parked()
            && (concerns_all || !matches!(self.signal.state(), ARMED | BLOCKED))
        {
            self.signal.waiting.wake_parked();
        }
    }

    /// Number of values published so far.
    pub(crate) fn published(&self) -> u64 {
        self.head.load(Ordering::Acquire) >> FLAG_BITS
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.head.load(Ordering::Acquire) & ENDED != 0
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    pub(crate) fn pulls(&self) -> u64 {
        self.pulls.load(Ordering::Relaxed)
    }

    /// Who is inside the source's poll.
    pub(crate) fn puller(&self) -> Option<u64> {
        let puller = self.puller.load(Ordering::Relaxed);
        self.signal.is_polling().then_some(puller)
    }

    pub(crate) fn n_open(&self) -> usize {
        self.n_open.load(Ordering::SeqCst)
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table<S::Item>> {
        lock(&self.table)
    }

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

    /// Whether this is the only open subscription. Whoever joins from now on joins behind a value that was taken already.
    #[inline]
    fn is_alone(&self, reader: &Reader<S::Item>) -> bool {
        // An open subscriber counts itself, so that one is nobody else.
        self.n_open() == 1 && !reader.member.is_closed() && !self.keeps_for_latecomers
    }

    /// Takes at most one value from the source, publishes it, and wakes those who wait for it.
    #[inline]
    fn pull<'a>(
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

    /// Whether there is room for one more value; if not, the source waits.
    #[cold]
    fn has_room_or_blocks(&self, published: u64) -> bool {
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
    fn has_moved(&self, member: &Member) {
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

impl<T> Table<T> {
    fn remove(&mut self, member: &Member) -> Arc<Member> {
        let index = member.index.load(Ordering::Relaxed);
        let removed = self.members.swap_remove(index);
        if let Some(moved) = self.members.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
        removed
    }

    /// The block with this position, and its first position.
    fn find(&self, position: u64, block_len: usize) -> Option<(SharedBlock<T>, u64)> {
        let offset = position.checked_sub(self.first)?;
        let index = offset >> block_len.trailing_zeros();
        let block = self.blocks.get(usize::try_from(index).ok()?)?;
        let base = position - (offset & (block_len as u64 - 1));
        Some((SharedBlock::clone(block), base))
    }

    /// Takes out the blocks that no position in the window falls into.
    fn evict(
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
    fn endangers(&self, published: u64, window: u64, block_len: usize) -> bool {
        self.members.iter().any(|member| {
            let kept_until = member.cursor.load(Ordering::Relaxed) + window;
            kept_until >= published && kept_until < published + block_len as u64
        })
    }
}

impl<T> Reader<T> {
    #[inline]
    fn move_to(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.member.cursor.store(cursor, Ordering::Release);
    }

    /// Goes past values that were lost, and lets the block go that they were in.
    fn skip(&mut self, lost: u64) {
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
    fn enter(&mut self, block: SharedBlock<T>) -> Option<SharedBlock<T>> {
        let left = self.block.replace(block);
        self.set_quick();
        left
    }

    pub(crate) fn forget_block(&mut self) -> Option<SharedBlock<T>> {
        self.n_quick = 0;
        self.block.take()
    }

    fn set_quick(&mut self) {
        self.n_quick = match &self.block {
            Some(block) if !self.ticket.is_held() => block.len() - 1,
            _ => 0,
        };
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

/// What is to be dropped once no lock is held.
struct Garbage<T> {
    /// There is seldom more than one: then nothing is allocated.
    block: Option<SharedBlock<T>>,
    more: Vec<SharedBlock<T>>,
    value: Option<T>,
}

impl<T> Garbage<T> {
    fn of(garbage: &mut Option<Self>) -> &mut Self {
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

/// Keeps what it holds on cache lines of its own.
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
