//! A nursery's children and its body as the outside sees them: what wakes them, and their late nodes.

use std::{
    collections::VecDeque,
    mem,
    panic::Location,
    sync::{Arc, OnceLock},
    task::{Wake, Waker},
};

use trionics_errgroup::Cancelled;

use crate::{
    node::Node,
    report::{FrameInfo, FrameKind},
    scope::Name,
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    wake::wake_outside,
};

/// What the wakers of a nursery's members share with the nursery.
pub(crate) struct Queue {
    /// The nursery's own node.
    nursery: Arc<Node>,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    /// Members that were woken since the nursery looked.
    ready: VecDeque<Arc<Member>>,
    /// Wakes whoever polls the nursery.
    owner: Option<Waker>,
    /// The nursery is being polled: it looks again before it returns.
    polling: bool,
    /// Something other than a wake happened during the poll.
    missed: bool,
    /// The nursery is over; wakes go nowhere.
    closed: bool,
}

impl Queue {
    pub(crate) fn new(nursery: Arc<Node>) -> Arc<Self> {
        Arc::new(Self {
            nursery,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    pub(crate) fn nursery(&self) -> &Arc<Node> {
        &self.nursery
    }

    /// A poll of the nursery begins: wakes need not wake it.
    pub(crate) fn begin_poll(&self) {
        let mut state = self.lock();
        state.polling = true;
        state.missed = false;
    }

    /// Moves what is ready to the end of `batch`.
    pub(crate) fn take_ready(&self, batch: &mut VecDeque<Arc<Member>>) {
        let mut state = self.lock();
        if batch.is_empty() {
            mem::swap(&mut state.ready, batch);
        } else {
            batch.append(&mut state.ready);
        }
    }

    /// The poll ends with `Pending`: true if the nursery must be polled again at once.
    pub(crate) fn end_poll(&self, waker: &Waker) -> bool {
        let known = self
            .lock()
            .owner
            .as_ref()
            .is_some_and(|owner| owner.will_wake(waker));
        // A waker is neither cloned nor dropped under the lock. Only a poll of the nursery stores one.
        let waker = if known { None } else { Some(waker.clone()) };
        let (again, replaced) = {
            let mut state = self.lock();
            state.polling = false;
            let replaced = waker.and_then(|waker| state.owner.replace(waker));
            (state.missed || !state.ready.is_empty(), replaced)
        };
        drop(replaced);
        again
    }

    /// The nursery has something new to look at.
    pub(crate) fn notify(&self) {
        let owner = {
            let mut state = self.lock();
            if state.polling {
                state.missed = true;
                return;
            }
            state.owner.take()
        };
        wake_outside(owner);
    }

    fn push(&self, member: &Arc<Member>) {
        let owner = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.ready.push_back(Arc::clone(member));
            if state.polling {
                None
            } else {
                state.owner.take()
            }
        };
        wake_outside(owner);
    }

    /// No member is polled any more.
    pub(crate) fn close(&self) {
        let (ready, owner) = {
            let mut state = self.lock();
            state.closed = true;
            (mem::take(&mut state.ready), state.owner.take())
        };
        drop((ready, owner));
    }
}

/// One child of a nursery, or its body.
pub(crate) struct Member {
    queue: Arc<Queue>,
    /// Which seat in the nursery it has, once it has one.
    key: AtomicUsize,
    kind: FrameKind,
    name: Option<Name>,
    location: &'static Location<'static>,
    /// It waits to be polled: a further wake changes nothing.
    queued: AtomicBool,
    /// The poll of the nursery in which it was polled last.
    round: AtomicU64,
    /// Its place in the scope tree, made when a frame opens inside it or when it is cancelled alone.
    node: OnceLock<Arc<Node>>,
    /// Its future is gone; it gets no place any more.
    over: Mutex<bool>,
}

impl Member {
    /// A member that waits for its first poll.
    pub(crate) fn new(
        queue: &Arc<Queue>,
        kind: FrameKind,
        name: Option<Name>,
        location: &'static Location<'static>,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Arc::clone(queue),
            key: AtomicUsize::new(usize::MAX),
            kind,
            name,
            location,
            queued: AtomicBool::new(true),
            round: AtomicU64::new(0),
            node: OnceLock::new(),
            over: Mutex::new(false),
        })
    }

    pub(crate) fn nursery(&self) -> &Arc<Node> {
        self.queue.nursery()
    }

    pub(crate) fn key(&self) -> usize {
        self.key.load(Ordering::Relaxed)
    }

    pub(crate) fn set_key(&self, key: usize) {
        self.key.store(key, Ordering::Relaxed);
    }

    /// The member runs on an executor, at `node`; before anybody else sees the member.
    pub(crate) fn put_on_executor(&self, node: Arc<Node>) {
        let _ = self.node.set(node);
    }

    /// The member's node, if an executor polls it.
    pub(crate) fn node_on_executor(&self) -> Option<&Arc<Node>> {
        self.node.get().filter(|node| node.is_on_executor())
    }

    pub(crate) fn known_node(&self) -> Option<&Arc<Node>> {
        self.node.get()
    }

    /// The member's node, made now if need be; the caller is polling the member.
    pub(crate) fn node(&self) -> &Arc<Node> {
        if self.node.get().is_none() {
            self.make_node(&lock(&self.over));
        }
        self.node.get().expect("made above")
    }

    /// Makes the node unless there is one; whoever holds `over` is the only one to do so.
    fn make_node(&self, _over: &MutexGuard<'_, bool>) {
        if self.node.get().is_none() {
            let node = Node::named(self.kind, self.location, self.name.clone());
            node.note_poll();
            node.attach(Some(Arc::clone(self.nursery())), true);
            let _ = self.node.set(node);
        }
    }

    /// Cancels this member alone; nothing happens once it is over.
    pub(crate) fn cancel(self: &Arc<Self>, cancelled: Cancelled) -> bool {
        let node = {
            let over = lock(&self.over);
            if *over {
                return false;
            }
            self.make_node(&over);
            Arc::clone(self.node())
        };
        let first = node.request(cancelled);
        // A member that got its node just now has left no waker there.
        self.wake_by_ref();
        first
    }

    /// The member's future is gone.
    pub(crate) fn end(&self) {
        *lock(&self.over) = true;
        // A child on an executor keeps its place until the executor has dropped it.
        if let Some(node) = self.node.get()
            && !node.is_on_executor()
        {
            node.retire();
        }
    }

    /// The place of something to report about the member.
    pub(crate) fn info(&self) -> FrameInfo {
        FrameInfo::new(self.kind, self.name.clone(), self.location)
    }

    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }

    /// The member is being polled: from now on a wake counts again.
    pub(crate) fn begin_poll(&self, round: u64) {
        self.round.store(round, Ordering::Relaxed);
        self.queued.swap(false, Ordering::AcqRel);
    }

    /// Whether it was polled in this poll of the nursery.
    pub(crate) fn was_polled_in(&self, round: u64) -> bool {
        self.round.load(Ordering::Relaxed) == round
    }
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.push(self);
        }
    }
}
