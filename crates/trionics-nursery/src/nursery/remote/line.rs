//! The line between a child that runs elsewhere, its nursery, and its handle: one allocation for what the three share.

use std::{
    any::Any,
    panic::resume_unwind,
    sync::{Arc, OnceLock},
    task::{Poll, Waker},
};

use trionics_errgroup::{CancelReason, Cancelled, Failure};

use super::away::{Away, CurrentAway};
use crate::{
    current::Current,
    node::Node,
    nursery::{
        handle::{Awaited, Value},
        member::Member,
    },
    sync::{AtomicU8, Mutex, MutexGuard, Ordering, lock},
    wake::wake_outside,
};

/// The nursery has room for the child: it may run.
const ADMITTED: u8 = 1 << 0;
/// The child is to be dropped at its next poll.
const DISMISSED: u8 = 1 << 1;
/// The child's future is gone; it gets no node any more.
const OVER: u8 = 1 << 2;
/// The child's node is gone, too, and its end is there for the nursery to take.
const DELIVERED: u8 = 1 << 3;
/// The end is a success: there is nothing to take.
const WELL: u8 = 1 << 4;
/// The nursery has let go of the child before its end.
const LEFT: u8 = 1 << 5;

pub(super) struct Line<V, E> {
    away: Arc<Away>,
    /// The child's place among those that are away; none for work on a thread.
    key: Option<u32>,
    member: Member,
    /// What holds of the child, as bits; written under the lock, read without it.
    flags: AtomicU8,
    /// The child's place in the scope tree, made when a frame opens inside it or when it is cancelled alone.
    node: OnceLock<Arc<Node>>,
    value: Value<V>,
    state: Mutex<State<E>>,
}

struct State<E> {
    /// Wakes the executor's task of a child that has no node.
    waker: Option<Waker>,
    /// How the child ended, if not well, until the nursery takes it.
    end: Option<End<E>>,
}

pub(super) enum End<E> {
    Returned(Result<(), Failure<E>>),
    Panicked(Box<dyn Any + Send>),
    /// A cancellation has stopped it, or its nursery has.
    Stopped,
    /// It was dropped without anybody having asked for it.
    Gone,
}

/// A child that runs elsewhere, whatever it returns.
pub(crate) trait Remote: Send + Sync {
    fn member(&self) -> &Member;

    /// The child's node, if it has one.
    fn known_node(&self) -> Option<&Arc<Node>>;

    /// The child's node, made now if need be; none once the child is over.
    fn node_unless_over(&self) -> Option<Arc<Node>>;

    /// It has not come to its end.
    fn is_running(&self) -> bool;

    /// The child is to be dropped at its next poll, to which it is woken; false if it was told before.
    fn dismiss(&self) -> bool;

    /// Takes out what wakes the executor's task of a child that has no node.
    fn take_waker(&self) -> Option<Waker>;

    /// Cancels this child alone; nothing happens once it is over.
    fn cancel(&self, cancelled: Cancelled) -> bool;
}

impl<V, E> Line<V, E> {
    fn new(
        away: &Arc<Away>,
        key: Option<u32>,
        member: &Member,
        value: Value<V>,
        flags: u8,
    ) -> Self {
        member.set_elsewhere();
        Self {
            away: Arc::clone(away),
            key,
            member: member.clone(),
            flags: AtomicU8::new(flags),
            node: OnceLock::new(),
            value,
            state: Mutex::new(State {
                waker: None,
                end: None,
            }),
        }
    }

    /// The line to a child on an executor, which waits there until it is `admitted`.
    pub(super) fn to_executor(
        away: &Arc<Away>,
        member: &Member,
        value: Value<V>,
        admitted: bool,
    ) -> Arc<Self>
    where
        V: Send + 'static,
        E: Send + 'static,
    {
        let flags = if admitted { ADMITTED } else { 0 };
        let line = away.add(|key| Arc::new(Self::new(away, Some(key), member, value, flags)));
        if away.nursery().shows_children() {
            line.make_node();
        }
        line
    }

    /// The line to work on a thread.
    pub(super) fn to_thread(away: &Arc<Away>, member: &Member, value: Value<V>) -> Arc<Self> {
        Arc::new(Self::new(away, None, member, value, ADMITTED))
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        lock(&self.state)
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.flags.load(Ordering::Acquire)
    }

    /// Sets flags; the caller holds the lock. Returns what was set before.
    fn set(&self, _state: &mut State<E>, flags: u8) -> u8 {
        let before = self.flags.load(Ordering::Relaxed);
        self.flags.store(before | flags, Ordering::Release);
        before
    }

    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    pub(super) fn value(&self) -> &Value<V> {
        &self.value
    }

    /// The child as the current frame of the thread that polls it.
    pub(super) fn current(&self) -> Current {
        let key = self.key.expect("an executor's child is among those away");
        Current::Away(CurrentAway::new(&self.away, key))
    }

    #[inline]
    pub(super) fn known_node(&self) -> Option<&Arc<Node>> {
        self.node.get()
    }

    /// The child's node, made now if need be; none once the child is over.
    pub(super) fn node_unless_over(&self) -> Option<Arc<Node>> {
        if self.known_node().is_none() {
            self.make_node();
        }
        if self.flags() & OVER != 0 {
            return None;
        }
        self.known_node().cloned()
    }

    /// Makes the node unless the child gets one in the meantime, or is over.
    #[cold]
    fn make_node(&self) {
        let nursery = self.away.nursery();
        let name = self.member.name().cloned();
        let mut node = Some(Node::on_executor(nursery, self.member.location(), name));
        if let Some(node) = &node {
            node.note_poll();
            node.attach(Some(Arc::clone(nursery)), true);
        }
        let state = self.lock();
        if self.flags() & OVER == 0 {
            self.node.get_or_init(|| node.take().expect("made above"));
        }
        drop(state);
        match node {
            Some(unwanted) => unwanted.retire(),
            None if self.flags() & DISMISSED != 0 => {
                self.dismiss();
            }
            None => {}
        }
    }

    /// The nursery has room for the child.
    #[inline]
    pub(super) fn admit(&self) {
        if !self.is_admitted() {
            let mut state = self.lock();
            self.set(&mut state, ADMITTED);
            let waker = state.waker.take();
            drop(state);
            wake_outside(waker);
        }
    }

    #[inline]
    pub(super) fn is_admitted(&self) -> bool {
        self.flags() & ADMITTED != 0
    }

    #[inline]
    pub(super) fn is_dismissed(&self) -> bool {
        self.flags() & DISMISSED != 0 || self.known_node().is_some_and(|node| node.is_dismissed())
    }

    /// What stands for the child in the tree is cancelled.
    #[inline]
    pub(super) fn is_cancelled(&self) -> bool {
        self.away.stand_in().is_effective()
    }

    /// Stores the waker of the current poll.
    pub(super) fn register(&self, waker: &Waker) {
        let known = |state: &State<E>| {
            let known = state.waker.as_ref();
            known.is_some_and(|known| known.will_wake(waker))
        };
        if known(&self.lock()) {
            return;
        }
        let waker = waker.clone();
        let replaced = self.lock().waker.replace(waker);
        drop(replaced);
    }

    pub(super) fn take_waker(&self) -> Option<Waker> {
        self.lock().waker.take()
    }

    /// The child is to be dropped at its next poll, to which it is woken; false if it was told before, or is over.
    pub(super) fn dismiss(&self) -> bool {
        let mut state = self.lock();
        if self.flags() & OVER != 0 {
            return false;
        }
        let before = self.set(&mut state, DISMISSED);
        let waker = state.waker.take();
        drop(state);
        let told = match self.known_node() {
            Some(node) => node.dismiss(),
            None => before & DISMISSED == 0,
        };
        wake_outside(waker);
        told
    }

    /// The child's future is gone; its place goes, and the nursery hears of its end.
    pub(super) fn end(&self, end: End<E>) {
        let mut state = self.lock();
        self.set(&mut state, OVER);
        if let Some(node) = self.known_node() {
            drop(state);
            if !node.is_retired() {
                node.retire_from_executor();
            }
            state = self.lock();
        }
        let mut flags = DELIVERED;
        match end {
            End::Returned(Ok(())) => flags |= WELL,
            end => state.end = Some(end),
        }
        let before = self.set(&mut state, flags);
        debug_assert!(before & DELIVERED == 0, "a child ends once");
        let waker = state.waker.take();
        drop(state);
        drop(waker);
        if before & DISMISSED != 0 && self.known_node().is_none() {
            self.away.stand_in().wake_above();
        }
        if before & LEFT != 0 {
            self.leave();
        } else {
            self.member.wake();
        }
    }

    /// The nursery's look at whether the child has ended; it is taken out of the list of those that are away then.
    ///
    /// `over` is set before a panic of the child is resumed.
    #[inline]
    pub(super) fn poll_end(&self, over: &mut bool) -> Poll<Result<(), Failure<E>>> {
        let flags = self.flags();
        if flags & DELIVERED == 0 {
            return Poll::Pending;
        }
        *over = true;
        self.leave();
        Poll::Ready(if flags & WELL == 0 {
            self.take_end()
        } else {
            Ok(())
        })
    }

    #[cold]
    fn take_end(&self) -> Result<(), Failure<E>> {
        let end = self.lock().end.take();
        match end.expect("it is taken once") {
            End::Returned(result) => result,
            End::Panicked(payload) => resume_unwind(payload),
            End::Gone if !self.is_effective() => Err(Failure::cancelled(Cancelled::__new(
                CancelReason::ExecutorShutDown,
                self.member.location(),
            ))),
            End::Gone | End::Stopped => {
                self.member.set_stopped();
                Ok(())
            }
        }
    }

    fn is_effective(&self) -> bool {
        let node = self.known_node();
        node.unwrap_or_else(|| self.away.stand_in()).is_effective()
    }

    /// The nursery lets go of a child that may still run: it is dismissed.
    pub(super) fn let_go(&self) {
        let before = self.set(&mut self.lock(), LEFT);
        if before & DELIVERED != 0 {
            self.leave();
        } else {
            self.dismiss();
        }
    }

    fn leave(&self) {
        if let Some(key) = self.key {
            self.away.leave(key);
        }
    }
}

impl<V: Send, E: Send> Remote for Line<V, E> {
    fn member(&self) -> &Member {
        &self.member
    }

    fn known_node(&self) -> Option<&Arc<Node>> {
        self.known_node()
    }

    fn node_unless_over(&self) -> Option<Arc<Node>> {
        self.node_unless_over()
    }

    fn is_running(&self) -> bool {
        self.flags() & DELIVERED == 0
    }

    fn dismiss(&self) -> bool {
        self.dismiss()
    }

    fn take_waker(&self) -> Option<Waker> {
        self.take_waker()
    }

    fn cancel(&self, cancelled: Cancelled) -> bool {
        let Some(node) = self.node_unless_over() else {
            return false;
        };
        let first = node.request(cancelled);
        // A child that got its node just now has left no waker there.
        wake_outside(self.take_waker());
        first
    }
}

impl<V: Send, E: Send> Awaited<V> for Line<V, E> {
    fn value(&self) -> &Value<V> {
        &self.value
    }
}
