//! What a nursery's handles share with the nursery: the way in for new children.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    mem,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    member::{Member, Queue},
    raw::{NewChild, Source},
};
use crate::{
    report::FrameKind,
    scope::Name,
    sync::{Mutex, MutexGuard, lock},
    wake::WakeList,
};

/// The handles' side.
pub(crate) struct Shared<C> {
    queue: Arc<Queue>,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// Children that the nursery has yet to take in.
    incoming: VecDeque<NewChild<C>>,
    /// How many children there are: those, and those that the nursery has taken in and not collected.
    n_children: usize,
    /// How many children may run at once.
    limit: Option<usize>,
    /// Starts that have yet to hand their child over; the nursery stays open for them.
    n_starts: usize,
    closed: bool,
    next_ticket: u64,
    /// Who waits for room, in the order of their coming.
    waiting_for_room: BTreeMap<u64, Waker>,
    /// Who waits until there is no child.
    waiting_for_idle: BTreeMap<u64, Waker>,
}

/// The nursery takes no more children; what was to be started comes back.
pub(crate) struct Closed<T>(pub(crate) T);

impl<C> Shared<C> {
    pub(crate) fn new(queue: &Arc<Queue>, limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            queue: Arc::clone(queue),
            state: Mutex::new(State {
                incoming: VecDeque::new(),
                n_children: 0,
                limit,
                n_starts: 0,
                closed: false,
                next_ticket: 0,
                waiting_for_room: BTreeMap::new(),
                waiting_for_idle: BTreeMap::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        lock(&self.state)
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn n_children(&self) -> usize {
        self.lock().n_children
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.lock().limit
    }

    /// A member for a child of this nursery.
    pub(crate) fn new_member(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
    ) -> Arc<Member> {
        Member::new(&self.queue, FrameKind::Child, name, location)
    }

    /// Hands a child in; `make` puts it into its box once it is clear that it is taken.
    pub(crate) fn push<T>(
        &self,
        member: &Arc<Member>,
        child: T,
        make: impl FnOnce(T) -> C,
    ) -> Result<(), Closed<T>> {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return Err(Closed(child));
        }
        state.push(NewChild {
            future: make(child),
            member: Arc::clone(member),
        });
        drop(state);
        self.queue.notify();
        Ok(())
    }

    /// A start begins: the nursery stays open until it has ended. False if it has closed.
    pub(crate) fn begin_start(&self) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.n_starts += 1;
        }
        !state.closed
    }

    /// A start has ended.
    pub(crate) fn end_start(&self) {
        self.lock().n_starts -= 1;
        self.queue.notify();
    }

    /// Hands `child` in once it can run at once; it stays where it is if the nursery has closed.
    pub(crate) fn poll_push_when_free(
        &self,
        ticket: &mut Option<u64>,
        member: &Arc<Member>,
        child: &mut Option<C>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut wakers = WakeList::new();
        let mut state = self.lock();
        let number = match *ticket {
            Some(number) => number,
            None => *ticket.insert(state.new_ticket()),
        };
        let is_first = state
            .waiting_for_room
            .keys()
            .next()
            .is_none_or(|first| number <= *first);
        let may_start = is_first && state.has_room();
        if !(state.closed || may_start) {
            let replaced = state.waiting_for_room.insert(number, waker);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        if !state.closed
            && let Some(future) = child.take()
        {
            state.push(NewChild {
                future,
                member: Arc::clone(member),
            });
        }
        let removed = state.waiting_for_room.remove(&number);
        state.wake_for_room(&mut wakers);
        drop(state);
        drop(removed);
        *ticket = None;
        wakers.wake_all();
        self.queue.notify();
        Poll::Ready(())
    }

    /// Somebody no longer waits for room: the next one may.
    pub(crate) fn give_up_room(&self, ticket: u64) {
        let mut wakers = WakeList::new();
        let removed = {
            let mut state = self.lock();
            let removed = state.waiting_for_room.remove(&ticket);
            state.wake_for_room(&mut wakers);
            removed
        };
        drop(removed);
        wakers.wake_all();
    }

    /// Whether there is no child.
    pub(crate) fn poll_idle(&self, ticket: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.n_children == 0 {
            let removed = ticket
                .take()
                .and_then(|ticket| state.waiting_for_idle.remove(&ticket));
            drop(state);
            drop(removed);
            return Poll::Ready(());
        }
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
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(crate) fn give_up_idle(&self, ticket: u64) {
        let removed = self.lock().waiting_for_idle.remove(&ticket);
        drop(removed);
    }
}

impl<C> State<C> {
    fn push(&mut self, child: NewChild<C>) {
        self.incoming.push_back(child);
        self.n_children += 1;
    }

    fn new_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.n_children < limit)
    }

    fn wake_for_room(&mut self, wakers: &mut WakeList) {
        if self.has_room() || self.closed {
            // The entry stays: its place in the order is kept until it has started its child.
            if let Some(mut first) = self.waiting_for_room.first_entry() {
                wakers.push(Some(mem::replace(first.get_mut(), Waker::noop().clone())));
            }
        }
    }

    fn wake_idle(&mut self, wakers: &mut WakeList) {
        for waker in mem::take(&mut self.waiting_for_idle).into_values() {
            wakers.push(Some(waker));
        }
    }
}

/// The nursery's side.
pub(crate) struct Handed<C> {
    pub(crate) shared: Arc<Shared<C>>,
}

impl<C> Source<C> for Handed<C> {
    fn take(&mut self, room: usize, into: &mut Vec<NewChild<C>>) {
        let incoming = &mut self.shared.lock().incoming;
        let n_taken = incoming.len().min(room);
        into.extend(incoming.drain(..n_taken));
    }

    fn collected(&mut self) {
        let mut wakers = WakeList::new();
        {
            let mut state = self.shared.lock();
            state.n_children -= 1;
            if state.n_children == 0 {
                state.wake_idle(&mut wakers);
            }
            state.wake_for_room(&mut wakers);
        }
        wakers.wake_all();
    }

    fn try_close(&mut self) -> bool {
        let mut wakers = WakeList::new();
        let closed = {
            let mut state = self.shared.lock();
            if state.incoming.is_empty() && state.n_starts == 0 {
                state.close(&mut wakers);
            }
            state.closed
        };
        wakers.wake_all();
        closed
    }

    fn close(&mut self) -> Vec<NewChild<C>> {
        let mut wakers = WakeList::new();
        let children = {
            let mut state = self.shared.lock();
            state.close(&mut wakers);
            state.n_children = 0;
            state.wake_idle(&mut wakers);
            mem::take(&mut state.incoming)
        };
        wakers.wake_all();
        children.into()
    }
}

impl<C> State<C> {
    fn close(&mut self, wakers: &mut WakeList) {
        self.closed = true;
        for waker in mem::take(&mut self.waiting_for_room).into_values() {
            wakers.push(Some(waker));
        }
    }
}

/// Waits until a nursery has no child.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct WaitIdle<C> {
    shared: IdleShared<C>,
    ticket: Option<u64>,
}

struct IdleShared<C>(Arc<Shared<C>>);

impl<C> std::fmt::Debug for IdleShared<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("n_children", &self.0.n_children())
            .finish()
    }
}

impl<C> WaitIdle<C> {
    pub(crate) fn new(shared: &Arc<Shared<C>>) -> Self {
        Self {
            shared: IdleShared(Arc::clone(shared)),
            ticket: None,
        }
    }
}

impl<C> Future for WaitIdle<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.0.poll_idle(&mut this.ticket, cx)
    }
}

impl<C> Drop for WaitIdle<C> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.0.give_up_idle(ticket);
        }
    }
}
