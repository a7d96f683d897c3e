//! The scope tree: one node per frame, with the cancellation state that flows down it.
//!
//! Invariants, numbered for the places that rely on them:
//!
//! 1. *Lock order.* A thread that holds a node's lock waits only for locks of nodes below it. No user
//!    code (poll, clone, drop, wake, hook) runs under any of them.
//! 2. *Links agree.* A child's link and its parent's entry change together, under both locks.
//! 3. *Flags flow down.* A linked child's `OUTER` and `REQUESTED_AROUND` follow from its parent's
//!    flags, except while a thread that changed the parent still has the child on its work list.
//!    All flags change under the node's lock and are read without it.
//! 4. *Live children are counted.* `State::live` is the number of children whose `LIVE` flag is set.
//! 5. *No cycle.* A node with children changes its parent only under `link::MOVES`, after a walk from the
//!    new parent to the root that did not meet it.
//! 6. *Nothing recurses on depth.* Walks keep their own work list; [`Node::drop`] frees a chain of
//!    parents in a loop.

use std::{
    panic::Location,
    sync::{Arc, OnceLock, PoisonError, Weak},
    task::Waker,
    time::Duration,
};

use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    deadline::Deadline,
    report::{FrameInfo, FrameKind},
    settings::Environment,
    sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    tag::Tag,
};

mod cancel;
mod children;
mod executor;
mod exit;
mod flags;
mod link;
mod live;
mod observe;
mod retire;
mod shield;
#[cfg(feature = "task-tree")]
mod tracked;
mod visit;
mod wait;

pub use self::live::live_frames;
use self::{
    children::Children,
    flags::{
        ABANDONED, CAUGHT, ENTERED, EXITING, HAD_TO_WAIT, OUTER, OWN, RETIRED, SHIELDED, effective,
        requested,
    },
};
pub(crate) use self::{
    executor::Nodeless,
    live::{CountedLive, next_epoch},
    wait::Inside,
};

/// One frame's place in the tree.
pub(crate) struct Node {
    kind: FrameKind,
    name: Option<Arc<str>>,
    location: &'static Location<'static>,
    /// The state as bits; written under the lock, read without it.
    flags: AtomicU32,
    /// The address of the parent, 0 for none; written under the lock, read by the frame's own poll.
    parent_address: AtomicUsize,
    /// The epoch of the frame's last poll.
    polled: AtomicU64,
    /// When the scope cancels itself; made when it first gets a deadline.
    deadline: OnceLock<Box<Deadline>>,
    #[cfg(feature = "task-tree")]
    times: crate::tree::Times,
    #[cfg(feature = "tracing")]
    trace: crate::trace::Trace,
    state: Mutex<State>,
}

struct State {
    /// Where the node hangs; `None` at a root, before the first poll, and once retired.
    link: Option<Link>,
    /// The frames directly inside that are live, parked or waiting to be told.
    children: Children,
    /// How many of `children` are live.
    live: usize,
    /// Wakes whoever polled the frame last; taken by the one who wakes.
    waker: Option<Waker>,
    /// Why `OWN` is set, or why the frame was cancelled when it retired.
    cancelled: Option<Cancelled>,
    /// Why a node above is cancelled; comes down together with `OUTER`.
    cancelled_above: Option<Cancelled>,
    /// Who takes what is still inside, once this node has retired.
    successor: Option<Arc<Node>>,
    /// The clock, patience and hook in force here.
    environment: Option<Arc<Environment>>,
    /// The environment was set here and not inherited.
    sets_environment: bool,
    /// The parent was chosen by the program; whoever polls the frame does not change it.
    anchored: bool,
    /// What few nodes have.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// The scope to cancel as soon as this node is effectively cancelled.
    follower: Option<Arc<Node>>,
    /// The patience that was set here, whatever is inherited.
    patience: Option<Duration>,
    /// What runs here and inside belongs to, if that was said here.
    tag: Option<Arc<dyn Tag>>,
    /// How long what runs inside may go on once the frame is effectively cancelled.
    grace: Option<Duration>,
    /// Where the anchored frame belongs that this node stands for.
    home: Option<Arc<Node>>,
    /// The children on executors that this node stands for.
    nodeless: Option<Weak<dyn Nodeless>>,
}

struct Link {
    parent: Arc<Node>,
    key: usize,
}

impl Node {
    pub(crate) fn new(kind: FrameKind, location: &'static Location<'static>) -> Arc<Self> {
        Self::named(kind, location, None)
    }

    pub(crate) fn named(
        kind: FrameKind,
        location: &'static Location<'static>,
        name: Option<Arc<str>>,
    ) -> Arc<Self> {
        let flags = if kind == FrameKind::Shield {
            SHIELDED
        } else {
            0
        };
        Self::with_flags(kind, location, name, flags)
    }

    /// A nursery's node; what `is_entered` is nobody else's to enter.
    #[inline]
    pub(crate) fn of_nursery(
        location: &'static Location<'static>,
        name: Option<Arc<str>>,
        is_entered: bool,
    ) -> Arc<Self> {
        let flags = if is_entered { ENTERED } else { 0 };
        Self::with_flags(FrameKind::Nursery, location, name, flags)
    }

    #[inline]
    fn with_flags(
        kind: FrameKind,
        location: &'static Location<'static>,
        name: Option<Arc<str>>,
        flags: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            kind,
            name,
            location,
            flags: AtomicU32::new(flags),
            parent_address: AtomicUsize::new(0),
            polled: AtomicU64::new(0),
            deadline: OnceLock::new(),
            #[cfg(feature = "task-tree")]
            times: crate::tree::Times::default(),
            #[cfg(feature = "tracing")]
            trace: crate::trace::Trace::default(),
            state: Mutex::new(State {
                link: None,
                children: Children::default(),
                live: 0,
                waker: None,
                cancelled: None,
                cancelled_above: None,
                successor: None,
                sets_environment: false,
                environment: None,
                anchored: false,
                rare: None,
            }),
        })
    }

    /// A node that, once effectively cancelled, cancels `follower`.
    pub(crate) fn with_follower(
        kind: FrameKind,
        location: &'static Location<'static>,
        follower: Arc<Node>,
    ) -> Arc<Self> {
        let node = Self::new(kind, location);
        node.lock().rare_or_new().follower = Some(follower);
        node
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    #[inline]
    fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    /// Sets and clears flags; the caller holds the node's lock.
    fn change_flags(&self, _state: &mut State, set: u32, clear: u32) -> (u32, u32) {
        let before = self.flags.load(Ordering::Relaxed);
        let after = (before & !clear) | set;
        if before != after {
            self.flags.store(after, Ordering::Release);
        }
        (before, after)
    }

    pub(crate) fn info(&self) -> FrameInfo {
        FrameInfo::new(self.kind, self.name.clone(), self.location)
    }

    #[inline]
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[inline]
    pub(crate) fn parent_address(&self) -> usize {
        self.parent_address.load(Ordering::Relaxed)
    }

    /// Its own scope is cancelled, or an enclosing one with no shield in between.
    #[inline]
    pub(crate) fn is_effective(&self) -> bool {
        effective(self.flags())
    }

    /// Something from here up to the root was cancelled, shields or not.
    pub(crate) fn is_requested(&self) -> bool {
        requested(self.flags())
    }

    /// An enclosing scope is cancelled, with no shield in between.
    pub(crate) fn is_outer_cancelled(&self) -> bool {
        let flags = self.flags();
        flags & EXITING == 0 && flags & OUTER != 0
    }

    pub(crate) fn is_own_cancelled(&self) -> bool {
        self.flags() & OWN != 0
    }

    /// The frame is over.
    pub(crate) fn is_retired(&self) -> bool {
        self.flags() & RETIRED != 0
    }

    pub(crate) fn is_caught(&self) -> bool {
        self.flags() & CAUGHT != 0
    }

    pub(crate) fn set_caught(&self) {
        self.change_flags(&mut self.lock(), CAUGHT, 0);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.flags() & ABANDONED != 0
    }

    pub(crate) fn is_exiting(&self) -> bool {
        self.flags() & EXITING != 0
    }

    pub(crate) fn is_entered(&self) -> bool {
        self.flags() & ENTERED != 0
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<&Deadline> {
        self.deadline.get().map(|deadline| &**deadline)
    }

    pub(crate) fn deadline_or_new(&self, location: &'static Location<'static>) -> &Deadline {
        self.deadline
            .get_or_init(|| Box::new(Deadline::new(location)))
    }

    /// Marks a scope as entered; false if it had been entered before.
    pub(crate) fn try_enter(&self) -> bool {
        let (before, _) = self.change_flags(&mut self.lock(), ENTERED, 0);
        before & ENTERED == 0
    }

    /// Frames that start directly in this one park without being polled.
    pub(crate) fn refuses_frames(&self) -> bool {
        let flags = self.flags();
        effective(flags) && flags & HAD_TO_WAIT != 0
    }

    /// The node stays with `parent`, and keeps its settings when it has gone.
    pub(crate) fn set_anchored(&self, parent: Option<&Arc<Node>>) {
        let environment = parent.and_then(|parent| parent.environment());
        let mut state = self.lock();
        state.anchored = true;
        state.sets_environment = environment.is_some();
        state.environment = environment;
    }

    /// Sets what frames inside inherit; before the node is linked.
    pub(crate) fn set_environment(&self, environment: Environment) {
        let environment = Some(Arc::new(environment));
        let replaced = {
            let mut state = self.lock();
            state.sets_environment = true;
            std::mem::replace(&mut state.environment, environment)
        };
        drop(replaced);
    }

    /// Sets the patience here and for frames that open inside from now on.
    pub(crate) fn set_patience(&self, patience: Duration) {
        let replaced = {
            let mut state = self.lock();
            state.rare_or_new().patience = Some(patience);
            let inherited = state.environment.take();
            state.environment = state.with_own(inherited.as_ref());
            inherited
        };
        drop(replaced);
    }

    /// Says what runs here belongs to; before the node is linked.
    pub(crate) fn set_tag(&self, tag: Arc<dyn Tag>) {
        let replaced = self.lock().rare_or_new().tag.replace(tag);
        drop(replaced);
    }

    /// What the code here runs for.
    pub(crate) fn tag(&self) -> Option<Arc<dyn Tag>> {
        self.lock().environment.as_ref()?.tag.clone()
    }

    pub(crate) fn environment(&self) -> Option<Arc<Environment>> {
        self.lock().environment.clone()
    }

    /// Why this node is cancelled: its own reason, else that of the nearest scope above.
    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.lock().why_cancelled().cloned()
    }

    /// Like [`cancelled`](Self::cancelled), for a node that was seen cancelled a moment ago.
    pub(crate) fn cancelled_or_closed(&self) -> Cancelled {
        self.cancelled()
            .unwrap_or_else(|| Cancelled::__new(CancelReason::Closed, self.location))
    }
}

impl State {
    /// What a frame inherits, with its own patience and tag in place of the inherited ones.
    fn with_own(&self, inherited: Option<&Arc<Environment>>) -> Option<Arc<Environment>> {
        match &self.rare {
            Some(rare) if rare.patience.is_some() || rare.tag.is_some() => {
                let mut environment = inherited
                    .map(|inherited| Environment::clone(inherited))
                    .unwrap_or_default();
                environment.patience = rare.patience.or(environment.patience);
                environment.tag = rare.tag.clone().or(environment.tag);
                Some(Arc::new(environment))
            }
            _ => inherited.cloned(),
        }
    }

    fn rare_or_new(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    #[inline]
    fn follower(&self) -> Option<&Arc<Node>> {
        self.rare.as_ref()?.follower.as_ref()
    }

    fn why_cancelled(&self) -> Option<&Cancelled> {
        self.cancelled.as_ref().or(self.cancelled_above.as_ref())
    }
}

impl State {
    /// Takes out what may be the last references to other nodes: one comes back, which is mostly all.
    #[inline]
    fn take_links(&mut self, others: &mut Vec<Arc<Node>>) -> Option<Arc<Node>> {
        if let Some(mut rare) = self.rare.take() {
            others.extend(rare.follower.take());
            others.extend(rare.home.take());
        }
        let parent = self.link.take().map(|link| link.parent);
        match (parent, self.successor.take()) {
            (Some(parent), successor) => {
                others.extend(successor);
                Some(parent)
            }
            (None, successor) => successor,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut others = Vec::new();
        let mut next = state.take_links(&mut others);
        while let Some(node) = next.or_else(|| others.pop()) {
            next = Arc::into_inner(node).and_then(|mut last| {
                let state = last.state.get_mut().unwrap_or_else(PoisonError::into_inner);
                state.take_links(&mut others)
            });
        }
    }
}
