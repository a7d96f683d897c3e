//! A nursery's children and its body as the outside sees them: what wakes them, and their late nodes.

use std::{
    collections::VecDeque,
    mem,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use crate::{node::Node, report::FrameKind, wake::wake_outside};

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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn nursery(&self) -> &Arc<Node> {
        &self.nursery
    }

    /// A poll of the nursery begins: moves what is ready to the end of `batch`.
    pub(crate) fn begin_poll(&self, batch: &mut VecDeque<Arc<Member>>) {
        let mut state = self.lock();
        state.polling = true;
        state.missed = false;
        if batch.is_empty() {
            mem::swap(&mut state.ready, batch);
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
    /// Which seat in the nursery it has.
    pub(crate) key: usize,
    kind: FrameKind,
    location: &'static Location<'static>,
    /// It waits to be polled: a further wake changes nothing.
    queued: AtomicBool,
    /// Its place in the scope tree, made when a frame opens inside it.
    node: OnceLock<Arc<Node>>,
}

impl Member {
    /// A member that is about to be polled for the first time.
    pub(crate) fn new(
        queue: &Arc<Queue>,
        key: usize,
        kind: FrameKind,
        location: &'static Location<'static>,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Arc::clone(queue),
            key,
            kind,
            location,
            queued: AtomicBool::new(true),
            node: OnceLock::new(),
        })
    }

    pub(crate) fn nursery(&self) -> &Arc<Node> {
        self.queue.nursery()
    }

    pub(crate) fn known_node(&self) -> Option<&Arc<Node>> {
        self.node.get()
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.node.get_or_init(|| {
            let node = Node::new(self.kind, self.location);
            node.note_poll();
            node.attach(Some(Arc::clone(self.nursery())), true);
            node
        })
    }

    /// The place of something to report about the member.
    pub(crate) fn info(&self) -> crate::FrameInfo {
        crate::FrameInfo::new(self.kind, self.location)
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }

    /// The member is being polled: from now on a wake counts again.
    pub(crate) fn unqueue(&self) {
        self.queued.swap(false, Ordering::AcqRel);
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
