//! What a nursery's handles share with the nursery: the way in for new children, and their number.

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    ops::{Deref, DerefMut},
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    child::{Child, Door, Elsewhere, Fits, Share},
    member::{Member, Queue},
};
use crate::{
    scope::Name,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, fence, lock},
    wake::WakeList,
};

/// How many children a nursery has, and who waits for that to change.
///
/// Children count from their start on, whether the nursery has taken them in or not.
pub(crate) struct Count {
    /// Those that were started inside the nursery's poll, less those that are gone; changed only there.
    inside: AtomicUsize,
    /// Those that were started elsewhere.
    outside: AtomicUsize,
    /// Starts that have yet to hand their child over; the nursery stays open for them.
    starts: AtomicUsize,
    /// A child has gone since the last [`settle`](Self::settle); the nursery's own.
    unsettled: AtomicBool,
    /// Somebody waits for room or for there to be no child; set and cleared under the lock.
    awaited: AtomicBool,
    /// How many children may run at once.
    limit: Option<usize>,
    /// Made when somebody waits.
    state: Mutex<Option<Box<State>>>,
}

#[derive(Default)]
struct State {
    next_ticket: u64,
    /// Who waits for room, in the order of their coming.
    waiting_for_room: BTreeMap<u64, Waker>,
    /// Who waits until there is no child.
    waiting_for_idle: BTreeMap<u64, Waker>,
}

impl Count {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            inside: AtomicUsize::new(0),
            outside: AtomicUsize::new(0),
            starts: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            limit,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> Locked<'_> {
        let mut state = lock(&self.state);
        state.get_or_insert_default();
        Locked { state }
    }

    fn n_children(&self) -> usize {
        // Children that go while this looks are counted or not, as ever with threads; one that was started
        // elsewhere is counted before it can go.
        let inside = self.inside.load(Ordering::SeqCst);
        self.outside
            .load(Ordering::SeqCst)
            .wrapping_add(inside)
            .min(isize::MAX as usize)
    }

    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.n_children() < limit)
    }

    /// One child more.
    #[inline]
    pub(super) fn add(&self, inside: bool) {
        if inside {
            self.change_inside(1);
        } else {
            self.outside.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Adds without the cost of an exchange, as only the thread inside does so.
    #[inline]
    fn change_inside(&self, by: usize) {
        let before = self.inside.load(Ordering::Relaxed);
        self.inside
            .store(before.wrapping_add(by), Ordering::Release);
    }

    /// A child that was added has not been taken after all, because the nursery has closed.
    fn take_back(&self, inside: bool) {
        if inside {
            self.change_inside(usize::MAX);
        } else {
            self.outside.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A child is gone; the caller is inside.
    #[inline]
    pub(super) fn collected(&self) {
        self.change_inside(usize::MAX);
        self.unsettled.store(true, Ordering::Relaxed);
        if self.awaited.load(Ordering::Relaxed) {
            self.tell();
        }
    }

    /// The nursery is about to sleep: what was counted since is seen by those who come to wait from elsewhere, or they
    /// are seen here.
    #[inline]
    pub(super) fn settle(&self) {
        if self.unsettled.load(Ordering::Relaxed) {
            self.unsettled.store(false, Ordering::Relaxed);
            self.tell_if_awaited();
        }
    }

    fn tell_if_awaited(&self) {
        fence(Ordering::SeqCst);
        if self.awaited.load(Ordering::Relaxed) {
            self.tell();
        }
    }

    /// Tells who waits how many children there are.
    fn tell(&self) {
        let mut wakers = WakeList::new();
        {
            let mut state = self.lock();
            if self.n_children() == 0 {
                state.wake_idle(&mut wakers);
            }
            if self.has_room() {
                state.wake_first_for_room(&mut wakers);
            }
            self.note_waiting(&state);
        }
        wakers.wake_all();
    }

    /// Notes whether anybody waits; whoever has come to wait looks at the number of children after this.
    fn note_waiting(&self, state: &State) {
        let awaited = !state.waiting_for_room.is_empty() || !state.waiting_for_idle.is_empty();
        self.awaited.store(awaited, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Nobody waits any more: the nursery has closed.
    pub(super) fn tell_closed(&self) {
        fence(Ordering::SeqCst);
        if !self.awaited.load(Ordering::Relaxed) {
            return;
        }
        let mut wakers = WakeList::new();
        {
            let mut state = self.lock();
            for waker in mem::take(&mut state.waiting_for_room).into_values() {
                wakers.push(Some(waker));
            }
            state.wake_idle(&mut wakers);
            self.note_waiting(&state);
        }
        wakers.wake_all();
    }

    /// Whether a start is under way.
    pub(super) fn has_starts(&self) -> bool {
        self.starts.load(Ordering::SeqCst) > 0
    }
}

/// The state, which is there.
struct Locked<'a> {
    state: MutexGuard<'a, Option<Box<State>>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state.as_ref().expect("made by `lock`")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("made by `lock`")
    }
}

impl State {
    fn new_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn wake_first_for_room(&mut self, wakers: &mut WakeList) {
        // The entry stays: its place in the order is kept until it has started its child.
        if let Some(mut first) = self.waiting_for_room.first_entry() {
            wakers.push(Some(mem::replace(first.get_mut(), Waker::noop().clone())));
        }
    }

    fn wake_idle(&mut self, wakers: &mut WakeList) {
        for waker in mem::take(&mut self.waiting_for_idle).into_values() {
            wakers.push(Some(waker));
        }
    }
}

/// The handles' side of a nursery whose children are stored as `C`.
pub(crate) struct Shared<C: ?Sized> {
    door: Door<C>,
}

impl<C: ?Sized> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self {
            door: self.door.clone(),
        }
    }
}

/// The nursery takes no more children; what was to be started comes back.
pub(crate) struct Closed<T>(pub(crate) T);

impl<C: ?Sized> Shared<C> {
    pub(crate) fn new(door: Door<C>) -> Self {
        Self { door }
    }

    #[inline]
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        self.door.queue()
    }

    #[inline]
    fn count(&self) -> &Count {
        &self.queue().count
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.queue().is_closed()
    }

    pub(crate) fn n_children(&self) -> usize {
        if self.is_closed() {
            return 0;
        }
        self.count().n_children()
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.count().limit
    }

    /// Starts the child whose future `make` makes, for the member that it gets; the future comes back if the nursery
    /// has closed.
    #[inline]
    pub(crate) fn start<F: Fits<C>>(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
        make: impl FnOnce(&Member) -> F,
    ) -> Result<(), F>
    where
        C: Future,
    {
        let inside = self.queue().is_inside();
        self.count().add(inside);
        self.door.start(name, location, make).inspect_err(|_| {
            self.count().take_back(inside);
        })
    }

    /// Starts a child that runs elsewhere, unless the nursery has closed: see [`Door::place`].
    #[inline]
    pub(crate) fn place<T: Elsewhere>(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
        shared: T,
        list: impl FnOnce(Share<T>),
    ) -> Result<(Share<T>, Share<T>), Share<T>>
    where
        C: Future<Output = T::Output>,
    {
        let inside = self.queue().is_inside();
        self.count().add(inside);
        // Who waits for room is told by a poll that there is some.
        let rests = self.limit().is_none();
        let placed = self.door.place(name, location, rests, shared, list);
        if placed.is_err() {
            self.count().take_back(inside);
        }
        placed
    }

    /// Makes a child that is to be handed in later.
    pub(crate) fn hold<F: Fits<C>>(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
        future: F,
    ) -> Child<C>
    where
        C: Future,
    {
        self.door.hold(name, location, future)
    }

    /// Hands a child in that was held.
    pub(crate) fn push(&self, child: Child<C>) -> Result<(), Closed<Child<C>>> {
        let inside = self.queue().is_inside();
        self.count().add(inside);
        self.door.push(child).map_err(|child| {
            self.count().take_back(inside);
            Closed(child)
        })
    }

    /// A start begins: the nursery stays open until it has ended. False if it has closed.
    pub(crate) fn begin_start(&self) -> bool {
        self.count().starts.fetch_add(1, Ordering::SeqCst);
        // A nursery that is about to close on another thread either sees the start or looks once more.
        if !self.queue().is_inside() {
            self.queue().ready().hold_open();
        }
        if self.is_closed() {
            self.count().starts.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// A start has ended.
    pub(crate) fn end_start(&self) {
        self.count().starts.fetch_sub(1, Ordering::SeqCst);
        self.queue().notify();
    }

    /// Hands `child` in once it can run at once; it stays where it is if the nursery has closed.
    pub(crate) fn poll_push_when_free(
        &self,
        ticket: &mut Option<u64>,
        child: &mut Option<Child<C>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let count = self.count();
        let waker = cx.waker().clone();
        let mut wakers = WakeList::new();
        let mut state = count.lock();
        let number = match *ticket {
            Some(number) => number,
            None => *ticket.insert(state.new_ticket()),
        };
        let is_first = state
            .waiting_for_room
            .keys()
            .next()
            .is_none_or(|first| number <= *first);
        let mut may_start = is_first && count.has_room();
        let mut replaced = None;
        if !(self.is_closed() || may_start) {
            replaced = state.waiting_for_room.insert(number, waker);
            count.note_waiting(&state);
            may_start = is_first && count.has_room();
            if !(self.is_closed() || may_start) {
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
        }
        let inside = self.queue().is_inside();
        count.add(inside);
        let removed = state.waiting_for_room.remove(&number);
        count.note_waiting(&state);
        if count.has_room() {
            state.wake_first_for_room(&mut wakers);
        }
        drop(state);
        drop((replaced, removed));
        *ticket = None;
        if let Some(future) = child.take()
            && let Err(refused) = self.door.push(future)
        {
            count.take_back(inside);
            *child = Some(refused);
        }
        wakers.wake_all();
        Poll::Ready(())
    }

    /// Somebody no longer waits for room: the next one may.
    pub(crate) fn give_up_room(&self, ticket: u64) {
        let count = self.count();
        let mut wakers = WakeList::new();
        let removed = {
            let mut state = count.lock();
            let removed = state.waiting_for_room.remove(&ticket);
            count.note_waiting(&state);
            if count.has_room() {
                state.wake_first_for_room(&mut wakers);
            }
            removed
        };
        drop(removed);
        wakers.wake_all();
    }

    /// Whether there is no child.
    pub(crate) fn poll_idle(&self, ticket: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let count = self.count();
        let waker = cx.waker().clone();
        let mut state = count.lock();
        let number = match *ticket {
            // It was idle since, and woke: that counts, whatever has been started in the meantime.
            Some(number) if !state.waiting_for_idle.contains_key(&number) => {
                drop(state);
                *ticket = None;
                return Poll::Ready(());
            }
            Some(number) => number,
            None => *ticket.insert(state.new_ticket()),
        };
        let replaced = state.waiting_for_idle.insert(number, waker);
        count.note_waiting(&state);
        let idle = count.n_children() == 0 || self.is_closed();
        let removed = if idle {
            *ticket = None;
            let removed = state.waiting_for_idle.remove(&number);
            count.note_waiting(&state);
            removed
        } else {
            None
        };
        drop(state);
        drop((replaced, removed));
        if idle { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn give_up_idle(&self, ticket: u64) {
        let removed = {
            let mut state = self.count().lock();
            let removed = state.waiting_for_idle.remove(&ticket);
            self.count().note_waiting(&state);
            removed
        };
        drop(removed);
    }
}

/// Waits until a nursery has no child.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct WaitIdle<C: ?Sized> {
    shared: IdleShared<C>,
    ticket: Option<u64>,
}

struct IdleShared<C: ?Sized>(Shared<C>);

impl<C: ?Sized> std::fmt::Debug for IdleShared<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("n_children", &self.0.n_children())
            .finish()
    }
}

impl<C: ?Sized> WaitIdle<C> {
    pub(crate) fn new(shared: &Shared<C>) -> Self {
        Self {
            shared: IdleShared(shared.clone()),
            ticket: None,
        }
    }
}

impl<C: ?Sized> Future for WaitIdle<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.0.poll_idle(&mut this.ticket, cx)
    }
}

impl<C: ?Sized> Drop for WaitIdle<C> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.0.give_up_idle(ticket);
        }
    }
}
