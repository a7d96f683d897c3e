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
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

use futures_core::Stream;

use crate::{
    block::Appender,
    broadcast::Broadcast,
    loom::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, fence, lock, try_lock},
    signal::{ARMED, BLOCKED, Signal, Ticket},
};

mod padded;
mod pull;
mod reader;
mod receive;
mod room;
mod table;

use self::padded::Padded;
pub(crate) use self::{
    reader::Reader,
    receive::{Delivery, Step},
    table::{Member, Table},
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
}
