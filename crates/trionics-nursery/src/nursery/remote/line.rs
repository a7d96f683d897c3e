//! The line between a child that runs elsewhere, its nursery, and its handle: what the three share.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    sync::{Arc, OnceLock},
    task::{Poll, Waker},
};

use trionics_errgroup::{CancelReason, Cancelled, ChildEnded, Failure};

use super::away::Away;
use crate::{
    node::Node,
    nursery::{
        Member,
        child::Elsewhere,
        handle::{Awaited, Look, ValueState},
    },
    report::{FrameInfo, FrameKind},
    scope::Name,
    sync::{AtomicU8, AtomicU32, Mutex, MutexGuard, Ordering, lock},
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
    /// The child's place among those that are away.
    key: AtomicU32,
    name: Option<Name>,
    location: &'static Location<'static>,
    /// What holds of the child, as bits; written under the lock, read without it.
    flags: AtomicU8,
    /// The child's place in the scope tree, made when a frame opens inside it or when it is cancelled alone.
    node: OnceLock<Arc<Node>>,
    state: Mutex<State<V, E>>,
}

/// It has no place there: work on a thread always has a node.
const NO_KEY: u32 = u32::MAX;

struct State<V, E> {
    /// Wakes the executor's task of a child that has no node.
    waker: Option<Waker>,
    /// What the handle waits for.
    value: ValueState<V>,
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
    fn name(&self) -> Option<&str>;

    fn info(&self) -> FrameInfo;

    /// The child's node, if it has one.
    fn known_node(&self) -> Option<&Arc<Node>>;

    /// The child's node, made now if need be; none once the child is over.
    fn node_unless_over(&self) -> Option<Arc<Node>>;

    /// The child's node, or what stands for it in the tree.
    fn nearest_node(&self) -> &Arc<Node>;

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
    /// To a child that is to wait where it runs until it is `admitted`.
    pub(super) fn new(
        away: &Arc<Away>,
        name: Option<Name>,
        location: &'static Location<'static>,
        value: ValueState<V>,
        admitted: bool,
    ) -> Self {
        Self {
            away: Arc::clone(away),
            key: AtomicU32::new(NO_KEY),
            name,
            location,
            flags: AtomicU8::new(if admitted { ADMITTED } else { 0 }),
            node: OnceLock::new(),
            state: Mutex::new(State {
                waker: None,
                value,
                end: None,
            }),
        }
    }

    /// The child is among those that are away; before anybody else knows of it.
    pub(super) fn set_key(&self, key: u32) {
        self.key.store(key, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State<V, E>> {
        lock(&self.state)
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.flags.load(Ordering::Acquire)
    }

    /// Sets flags; the caller holds the lock. Returns what was set before.
    fn set(&self, _state: &mut State<V, E>, flags: u8) -> u8 {
        let before = self.flags.load(Ordering::Relaxed);
        self.flags.store(before | flags, Ordering::Release);
        before
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
        let node = Node::on_executor(nursery, self.location, self.name.clone());
        let mut node = Some(node);
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

    /// Stores the waker of the current poll; `first`: there is none yet.
    #[inline]
    pub(super) fn register(&self, waker: &Waker, first: bool) {
        let is_known = |state: &State<V, E>| {
            let known = state.waker.as_ref();
            known.is_some_and(|known| known.will_wake(waker))
        };
        if !first && is_known(&self.lock()) {
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

    /// The child's future is gone; its place goes, its handle and, through `member`, its nursery hear of its end.
    pub(super) fn end(&self, value: Result<V, ChildEnded>, end: End<E>, member: &Member) {
        let mut state = self.lock();
        self.set(&mut state, OVER);
        if let Some(node) = self.known_node() {
            drop(state);
            if !node.is_retired() {
                node.retire_from_executor();
            }
            state = self.lock();
        }
        let well = matches!(end, End::Returned(Ok(())));
        let before = self.set(&mut state, DELIVERED | if well { WELL } else { 0 });
        debug_assert!(before & DELIVERED == 0, "a child ends once");
        let mut unheard = if well { None } else { Some(end) };
        if before & LEFT == 0 {
            state.end = unheard.take();
        }
        let waker = state.waker.take();
        let (handle, unwanted) = state.value.end(value);
        drop(state);
        // The nursery may be gone as soon as it knows.
        let told = catch_unwind(AssertUnwindSafe(|| {
            drop((waker, unwanted, unheard));
            wake_outside(handle);
        }));
        if before & DISMISSED != 0 && self.known_node().is_none() {
            self.away.stand_in().wake_above();
        }
        if before & LEFT != 0 {
            self.leave();
        } else {
            member.wake_ended(well);
        }
        if let Err(payload) = told {
            resume_unwind(payload);
        }
    }

    /// The nursery's look at whether the child has ended.
    pub(super) fn poll_end(&self, member: &Member) -> Poll<Result<(), Failure<E>>> {
        self.admit();
        let flags = self.flags();
        if flags & DELIVERED == 0 {
            return Poll::Pending;
        }
        if flags & WELL != 0 {
            return Poll::Ready(Ok(()));
        }
        let end = self.lock().end.take();
        Poll::Ready(match end.expect("it is taken once") {
            End::Returned(result) => result,
            End::Panicked(payload) => resume_unwind(payload),
            End::Gone if !self.nearest_node().is_effective() => Err(Failure::cancelled(
                Cancelled::__new(CancelReason::ExecutorShutDown, self.location),
            )),
            End::Gone | End::Stopped => {
                member.set_stopped();
                Ok(())
            }
        })
    }

    fn nearest_node(&self) -> &Arc<Node> {
        let node = self.known_node();
        node.unwrap_or_else(|| self.away.stand_in())
    }

    /// The nursery lets go of a child; one that may still run is dismissed. What dropping an end that nobody has taken panics
    /// with comes through.
    pub(super) fn part(&self) {
        if self.flags() & DELIVERED == 0 && self.set(&mut self.lock(), LEFT) & DELIVERED == 0 {
            self.dismiss();
            return;
        }
        self.leave();
        if self.flags() & WELL == 0 {
            let unheard = self.lock().end.take();
            drop(unheard);
        }
    }

    /// The nursery has closed before it could take the child in.
    pub(super) fn refuse(&self) {
        self.set(&mut self.lock(), OVER | DELIVERED);
        if let Some(node) = self.known_node() {
            node.retire();
        }
        self.leave();
    }

    /// What the child is.
    pub(super) fn describe(&self) -> FrameInfo {
        FrameInfo::new(FrameKind::Child, self.name.clone(), self.location)
    }

    fn leave(&self) {
        let key = self.key.load(Ordering::Relaxed);
        if key != NO_KEY {
            self.away.leave(key);
        }
    }
}

impl<V: Send + 'static, E: Send + 'static> Elsewhere for Line<V, E> {
    type Output = Result<(), Failure<E>>;

    fn poll(&self, member: &Member) -> Poll<Self::Output> {
        self.poll_end(member)
    }

    fn let_go(&self) {
        self.part();
    }
}

impl<V: Send, E: Send> Remote for Line<V, E> {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn info(&self) -> FrameInfo {
        self.describe()
    }

    fn known_node(&self) -> Option<&Arc<Node>> {
        self.known_node()
    }

    fn node_unless_over(&self) -> Option<Arc<Node>> {
        self.node_unless_over()
    }

    fn nearest_node(&self) -> &Arc<Node> {
        self.nearest_node()
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
    fn look(&self, waker: &Waker, new: &mut Option<Waker>) -> Look<V> {
        self.lock().value.look(waker, new)
    }

    fn is_there(&self) -> bool {
        self.lock().value.is_there()
    }

    fn forget(&self) {
        let forgotten = std::mem::replace(&mut self.lock().value, ValueState::Taken);
        drop(forgotten);
    }
}
