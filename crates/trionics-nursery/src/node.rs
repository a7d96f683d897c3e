//! The scope tree: one node per frame, with the cancellation state that flows down it.
//!
//! Invariants, numbered for the places that rely on them:
//!
//! 1. *Lock order.* A thread that holds a node's lock waits only for locks of nodes below it. No user
//!    code (poll, clone, drop, wake, hook) runs under any of them.
//! 2. *Links agree.* A child's link and its parent's entry change together, under both locks.
//! 3. *Flags flow down.* A linked child's [`OUTER`] and [`REQUESTED_AROUND`] follow from its parent's
//!    flags, except while a thread that changed the parent still has the child on its work list.
//!    All flags change under the node's lock and are read without it.
//! 4. *Live children are counted.* `State::live` is the number of children whose [`LIVE`] flag is set.
//! 5. *No cycle.* A node with children changes its parent only under [`MOVES`], after a walk from the
//!    new parent to the root that did not meet it.
//! 6. *Nothing recurses on depth.* Walks keep their own work list; [`Node::drop`] frees a chain of
//!    parents in a loop.

use std::{
    panic::Location,
    slice,
    sync::{Arc, OnceLock, PoisonError},
    task::Waker,
    time::Duration,
};

use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    deadline::Deadline,
    report::{FrameInfo, FrameKind},
    settings::Environment,
    sync::{
        AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, ProcessU64, ProcessUsize,
        lock, try_lock,
    },
    tag::Tag,
    wake::{WakeList, wake_outside},
};

mod children;

use self::children::Children;

/// The scope of this very node was cancelled.
pub(crate) const OWN: u32 = 1 << 0;
/// A node above is effectively cancelled, with no shield in between.
pub(crate) const OUTER: u32 = 1 << 1;
/// A node above was cancelled, shields or not.
const REQUESTED_AROUND: u32 = 1 << 2;
/// The code of this frame runs the exit of a context: no cancellation reaches it any more.
const EXITING: u32 = 1 << 3;
/// A nursery on the way from an exit to its context: its children stay cancelled.
const LATCHED: u32 = 1 << 4;
/// The frame has been polled and has neither returned nor parked.
const LIVE: u32 = 1 << 5;
/// The frame is cancelled and waits for a live frame inside.
const WAITING: u32 = 1 << 6;
/// The frame was cancelled and has waited for a live frame inside at least once.
const HAD_TO_WAIT: u32 = 1 << 7;
/// The frame is over; what was inside belongs to its parent.
const RETIRED: u32 = 1 << 8;
/// The frame was given up on because nobody polled it.
const ABANDONED: u32 = 1 << 9;
/// A scope that some future has entered.
const ENTERED: u32 = 1 << 10;
/// A scope whose cancellation was absorbed by the scope itself.
const CAUGHT: u32 = 1 << 11;

/// No cancellation from further out reaches this frame.
const SHIELDED: u32 = 1 << 12;
/// What the frame still waits for is to be given up now.
const OUT_OF_GRACE: u32 = 1 << 13;
/// A child on an executor, which polls it: no patience applies, and what waits for it waits for its end.
const ON_EXECUTOR: u32 = 1 << 14;
/// A child on an executor that is to be dropped at its next poll.
const DISMISSED: u32 = 1 << 15;
/// A child on an executor that a cancellation has stopped.
const STOPPED: u32 = 1 << 16;
/// A child that a thread runs and nobody can stop.
const ON_THREAD: u32 = 1 << 18;
/// Stands, in the frame that polls an anchored frame, for that frame.
const VISIT: u32 = 1 << 17;

/// The task tree shows this frame and those inside.
#[cfg(feature = "task-tree")]
const TRACKED: u32 = 1 << 19;
/// The frame does not inherit `TRACKED`.
#[cfg(feature = "task-tree")]
const UNTRACKED: u32 = 1 << 20;
/// The frame is known to the task tree as a root.
#[cfg(feature = "task-tree")]
const ROOT: u32 = 1 << 21;

/// Counts the patience periods of all waiting frames, so that "polled since then" is one comparison.
static EPOCH: ProcessU64 = ProcessU64::new(1);
/// How many frames are live in this process.
static LIVE_FRAMES: ProcessUsize = ProcessUsize::new(0);
/// Held while a node that has children gets another parent.
static MOVES: Mutex<()> = Mutex::new(());

/// Begins a new epoch and returns it: polls from now on carry this number or a later one.
pub(crate) fn next_epoch() -> u64 {
    EPOCH.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns how many frames are live in this process.
///
/// A frame is one of this crate's futures (a cancel scope, a nursery, a shield, a context …) from its
/// first poll until it has returned, parked or been dropped. A child of a nursery counts once a frame
/// was opened inside it. When everything has ended the count is back where it was, which makes it a
/// cheap check at the end of a program or a test.
///
/// # Examples
///
/// ```
/// # futures::executor::block_on(async {
/// let before = trionics_nursery::live_frames();
/// trionics_nursery::shield(async {
///     assert!(trionics_nursery::live_frames() > before);
/// })
/// .await;
/// # });
/// ```
#[must_use]
pub fn live_frames() -> usize {
    LIVE_FRAMES.load(Ordering::Relaxed)
}

/// Something that counts as a live frame, and has no node.
pub(crate) struct CountedLive(());

impl CountedLive {
    #[inline]
    pub(crate) fn new() -> Self {
        LIVE_FRAMES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for CountedLive {
    #[inline]
    fn drop(&mut self) {
        LIVE_FRAMES.fetch_sub(1, Ordering::Relaxed);
    }
}

#[inline]
fn effective(flags: u32) -> bool {
    flags & EXITING == 0 && flags & (OWN | OUTER | LATCHED) != 0
}

/// Cancelled by itself, whatever becomes of the scopes around.
fn cancelled_itself(flags: u32) -> bool {
    flags & EXITING == 0 && flags & (OWN | LATCHED) != 0
}

/// What a frame inherits of its parent's being tracked.
#[cfg(feature = "task-tree")]
fn tracked(flags: u32, parent_flags: u32) -> u32 {
    if flags & UNTRACKED == 0 {
        parent_flags & TRACKED
    } else {
        0
    }
}

#[cfg(not(feature = "task-tree"))]
fn tracked(_flags: u32, _parent_flags: u32) -> u32 {
    0
}

fn requested(flags: u32) -> bool {
    flags & (OWN | REQUESTED_AROUND) != 0
}

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
}

struct Link {
    parent: Arc<Node>,
    key: usize,
}

/// What a parked, cancelled or waiting frame should do after its body said `Pending`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// The frame is not cancelled.
    NotCancelled,
    /// Cancelled, and nothing inside is live.
    Clear,
    /// Cancelled, and frames inside are live.
    Live,
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

// Cancelling.
impl Node {
    /// Cancels the node's own scope. The first reason stays; false if there was one.
    pub(crate) fn request(self: &Arc<Self>, cancelled: Cancelled) -> bool {
        #[cfg(feature = "task-tree")]
        if self.is_tracked() {
            self.times.note_cancelled(self);
        }
        #[cfg(feature = "tracing")]
        let told = cancelled.clone();
        let mut wakers = WakeList::new();
        let first = self.request_quietly(cancelled, &mut wakers);
        #[cfg(feature = "tracing")]
        if first {
            crate::trace::cancelled(self, &told);
        }
        wakers.wake_all();
        first
    }

    fn request_quietly(self: &Arc<Self>, cancelled: Cancelled, wakers: &mut WakeList) -> bool {
        let mut requests = vec![(Arc::clone(self), cancelled)];
        let mut first_of_self = false;
        while let Some((node, cancelled)) = requests.pop() {
            {
                let mut state = node.lock();
                if node.flags.load(Ordering::Relaxed) & OWN != 0 {
                    continue;
                }
                let (before, after) = node.change_flags(&mut state, OWN, 0);
                // A retired node keeps the reason for which it was cancelled when it ended.
                state.cancelled.get_or_insert(cancelled);
                if !effective(before) && effective(after) {
                    wakers.push(state.waker.take());
                }
            }
            first_of_self |= Arc::ptr_eq(&node, self);
            node.propagate(wakers, &mut requests);
        }
        first_of_self
    }

    /// Brings everything below in line with this node's flags (invariant 3).
    fn propagate(
        self: &Arc<Self>,
        wakers: &mut WakeList,
        requests: &mut Vec<(Arc<Node>, Cancelled)>,
    ) {
        let mut work = vec![Arc::clone(self)];
        let mut followers = Vec::new();
        while let Some(parent) = work.pop() {
            let parent_state = parent.lock();
            let parent_flags = parent.flags.load(Ordering::Relaxed);
            for child in parent_state.children.iter() {
                let mut state = child.lock();
                let (before, after) = child.inherit(&mut state, parent_flags, Some(&parent_state));
                if before == after {
                    continue;
                }
                if child.should_wake(before, after) {
                    wakers.push(state.waker.take());
                }
                if !effective(before) && effective(after) && state.follower().is_some() {
                    followers.push(Arc::clone(child));
                }
                if !state.children.is_empty() {
                    work.push(Arc::clone(child));
                }
            }
        }
        for follower in followers {
            let target = follower.lock().follower().cloned();
            if let Some(target) = target {
                requests.push((target, follower.cancelled_or_closed()));
            }
        }
    }

    /// Takes over the flags that come from the parent; the caller holds both locks.
    fn inherit(&self, state: &mut State, parent_flags: u32, parent: Option<&State>) -> (u32, u32) {
        let flags = self.flags.load(Ordering::Relaxed);
        let mut set = tracked(flags, parent_flags);
        if effective(parent_flags) && flags & SHIELDED == 0 {
            set |= OUTER;
            if state.cancelled_above.is_none() {
                state.cancelled_above = parent.and_then(State::why_cancelled).cloned();
            }
        }
        if requested(parent_flags) {
            set |= REQUESTED_AROUND;
        }
        let (before, after) = self.change_flags(state, set, (OUTER | REQUESTED_AROUND) & !set);
        // A latched nursery goes on being cancelled for the same reason.
        if !effective(after) {
            state.cancelled_above = None;
        }
        (before, after)
    }

    /// A change of what reaches the frame is to be acted upon: it may have to strike, or, where it has
    /// parked and an exit's shield now covers it, to come back.
    fn should_wake(&self, before: u32, after: u32) -> bool {
        let newly_cancelled = !effective(before) && effective(after);
        let freed = before & OUTER != 0 && after & OUTER == 0;
        let newly_requested = !requested(before) && requested(after);
        newly_cancelled || freed || (newly_requested && self.kind == FrameKind::CancelRequested)
    }
}

// Shields that come and go, and the end of patience.
impl Node {
    pub(crate) fn is_shielded(&self) -> bool {
        self.flags() & SHIELDED != 0
    }

    /// Begins or ends to keep cancellations out; what runs inside is woken if one now reaches it.
    pub(crate) fn set_shielded(self: &Arc<Self>, shielded: bool) {
        let mut wakers = WakeList::new();
        self.with_place(|parent, state| {
            let (set, clear) = if shielded {
                (SHIELDED, 0)
            } else {
                (0, SHIELDED)
            };
            self.change_flags(state, set, clear);
            let (before, after) = match parent {
                Some((parent, parent_state)) => {
                    let parent_flags = parent.flags.load(Ordering::Relaxed);
                    self.inherit(state, parent_flags, Some(&*parent_state))
                }
                None => self.inherit(state, 0, None),
            };
            if self.should_wake(before, after) {
                wakers.push(state.waker.take());
            }
        });
        let mut requests = Vec::new();
        self.propagate(&mut wakers, &mut requests);
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, &mut wakers);
        }
        wakers.wake_all();
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.lock().rare.as_ref()?.grace
    }

    /// Sets the grace period; wakes the frame, which may be waiting already.
    pub(crate) fn set_grace(&self, grace: Duration) {
        let waker = {
            let mut state = self.lock();
            state.rare_or_new().grace = Some(grace);
            state.waker.take()
        };
        wake_outside(waker);
    }

    /// Ends the grace period of a cancelled frame now, and wakes it.
    pub(crate) fn end_grace(&self) {
        self.set_out_of_grace();
        wake_outside(self.take_waker());
    }

    /// The grace period is over.
    pub(crate) fn set_out_of_grace(&self) {
        self.change_flags(&mut self.lock(), OUT_OF_GRACE, 0);
    }

    pub(crate) fn is_out_of_grace(&self) -> bool {
        self.flags() & OUT_OF_GRACE != 0
    }
}

// Anchored frames that are polled elsewhere than where they belong.
impl Node {
    /// Hangs a node under `host` that stands for this frame, which the host polls.
    ///
    /// While the frame is being cancelled where it belongs, a host that is cancelled, too, waits for it:
    /// if it dropped what polls the frame, nobody would run the frame's exits.
    pub(crate) fn visit(self: &Arc<Self>, host: Arc<Node>) -> Option<Arc<Node>> {
        let home = self.parent()?;
        let visit = Self::named(self.kind, self.location, self.name.clone());
        {
            let mut state = visit.lock();
            visit.change_flags(&mut state, VISIT, 0);
            state.rare_or_new().home = Some(home);
        }
        visit.attach(Some(host), false);
        Some(visit)
    }

    /// The visits that do not count as live, and where their frames belong; the caller holds the lock.
    fn silent_visits(state: &State) -> Vec<(Arc<Node>, Arc<Node>)> {
        let mut visits = Vec::new();
        for child in state.children.iter() {
            if child.flags() & (VISIT | LIVE | ABANDONED) == VISIT {
                let home = child
                    .lock()
                    .rare
                    .as_ref()
                    .and_then(|rare| rare.home.clone());
                visits.extend(home.map(|home| (Arc::clone(child), home)));
            }
        }
        visits
    }

    /// From now on the visit counts as live, unless it has ended; the caller holds this node's lock.
    fn count_visit(self: &Arc<Self>, state: &mut State, visit: &Arc<Node>) {
        let mut visit_state = visit.lock();
        let link = visit_state.link.as_ref();
        if link.is_some_and(|link| Arc::ptr_eq(&link.parent, self)) && !visit.is_live() {
            visit.set_live(&mut visit_state, true);
            state.live += 1;
        }
    }

    /// Effectively cancelled, or about to be told so: a cancellation is on its way down from further out.
    ///
    /// A frame that is told before another one, with which it shares the cancelled scope, asks this about
    /// the other one.
    pub(crate) fn is_effective_soon(self: &Arc<Self>) -> bool {
        let mut above = Some(Arc::clone(self));
        while let Some(node) = above {
            let flags = node.flags();
            if flags & EXITING != 0 {
                return false;
            }
            if effective(flags) {
                return true;
            }
            if flags & SHIELDED != 0 {
                return false;
            }
            let state = node.lock();
            let parent = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            above = parent.or_else(|| state.successor.clone());
        }
        false
    }
}

// Linking.
impl Node {
    /// Hangs the node under `parent`, or under whoever took over from it.
    ///
    /// Returns false, and does nothing, if the node is linked or retired.
    pub(crate) fn attach(self: &Arc<Self>, parent: Option<Arc<Node>>, live: bool) -> bool {
        let mut wakers = WakeList::new();
        let mut requests = Vec::new();
        #[cfg(feature = "task-tree")]
        if parent.is_none() && crate::tree::tracks_all() {
            self.set_tracked(true);
        }
        let attached = self.attach_quietly(parent, Some(live), &mut wakers, &mut requests);
        #[cfg(feature = "task-tree")]
        if self.is_tracked() {
            self.times.note_opened(self);
        }
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, &mut wakers);
        }
        wakers.wake_all();
        attached
    }

    /// As `attach`; without a `live` the node stays as live as it is.
    fn attach_quietly(
        self: &Arc<Self>,
        mut parent: Option<Arc<Node>>,
        live: Option<bool>,
        wakers: &mut WakeList,
        requests: &mut Vec<(Arc<Node>, Cancelled)>,
    ) -> bool {
        let (before, after, has_children) = loop {
            let Some(target) = parent else {
                let mut state = self.lock();
                if state.link.is_some() || self.flags.load(Ordering::Relaxed) & RETIRED != 0 {
                    return false;
                }
                self.parent_address.store(0, Ordering::Relaxed);
                self.set_live(&mut state, live.unwrap_or_else(|| self.is_live()));
                if !state.sets_environment {
                    let own = state.with_own(None);
                    wakers.drop_later(std::mem::replace(&mut state.environment, own));
                }
                let (before, after) = self.inherit(&mut state, 0, None);
                break (before, after, !state.children.is_empty());
            };
            let mut parent_state = target.lock();
            let parent_flags = target.flags.load(Ordering::Relaxed);
            if parent_flags & RETIRED != 0 {
                // An anchored frame stays cancelled with the scope it was anchored to, not with those around, of
                // which a shield may part it.
                if cancelled_itself(parent_flags) {
                    let cancelled = parent_state.cancelled.clone();
                    if self.lock().anchored
                        && let Some(cancelled) = cancelled
                    {
                        requests.push((Arc::clone(self), cancelled));
                    }
                }
                let next = parent_state.successor.clone();
                drop(parent_state);
                parent = next;
                continue;
            }
            let mut state = self.lock();
            if state.link.is_some() || self.flags.load(Ordering::Relaxed) & RETIRED != 0 {
                return false;
            }
            let key = parent_state.children.insert(Arc::clone(self));
            let live = live.unwrap_or_else(|| self.is_live());
            self.set_live(&mut state, live);
            parent_state.live += usize::from(live);
            if !state.sets_environment {
                let inherited = state.with_own(parent_state.environment.as_ref());
                wakers.drop_later(std::mem::replace(&mut state.environment, inherited));
            }
            // The reason is that of the new place.
            state.cancelled_above = None;
            let (before, after) = self.inherit(&mut state, parent_flags, Some(&parent_state));
            self.parent_address
                .store(target.address(), Ordering::Relaxed);
            drop(parent_state);
            // Whoever has found the child with its parent waits for the child's lock.
            state.link = Some(Link {
                parent: target,
                key,
            });
            if !effective(before)
                && effective(after)
                && let Some(follower) = state.follower().cloned()
            {
                drop(state);
                requests.push((follower, self.cancelled_or_closed()));
                break (before, after, false);
            }
            break (before, after, !state.children.is_empty());
        };
        #[cfg(feature = "task-tree")]
        self.note_root();
        if before != after && has_children {
            self.propagate(wakers, requests);
        }
        true
    }

    pub(crate) fn is_live(&self) -> bool {
        self.flags() & LIVE != 0
    }

    fn set_live(&self, state: &mut State, live: bool) {
        let (before, after) = if live {
            self.change_flags(state, LIVE, ABANDONED)
        } else {
            self.change_flags(state, 0, LIVE | WAITING)
        };
        match (before & LIVE != 0, after & LIVE != 0) {
            (false, true) => {
                LIVE_FRAMES.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                LIVE_FRAMES.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Runs `change` with the node's and its parent's locks held; at a root, with the node's alone.
    fn with_place<R>(
        self: &Arc<Self>,
        change: impl FnOnce(Option<(&Arc<Node>, &mut State)>, &mut State) -> R,
    ) -> R {
        loop {
            let parent = {
                let mut state = self.lock();
                match &state.link {
                    Some(link) => Arc::clone(&link.parent),
                    None => return change(None, &mut state),
                }
            };
            let mut parent_state = parent.lock();
            let mut state = self.lock();
            match &state.link {
                Some(link) if Arc::ptr_eq(&link.parent, &parent) => {
                    return change(Some((&parent, &mut parent_state)), &mut state);
                }
                _ => {}
            }
        }
    }

    /// Runs `change` with the node's and its parent's locks held; `None` at a root.
    fn with_parent<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&Arc<Node>, &mut State, &mut State) -> R,
    ) -> Option<R> {
        self.with_place(|parent, state| {
            parent.map(|(parent, parent_state)| change(parent, parent_state, state))
        })
    }

    pub(crate) fn parent(&self) -> Option<Arc<Node>> {
        let state = self.lock();
        state.link.as_ref().map(|link| Arc::clone(&link.parent))
    }

    /// Takes the node from its parent; wakes a parent that waited for it.
    fn unlink(self: &Arc<Self>, wakers: &mut WakeList) {
        // The link may hold the last reference to the parent: it is dropped after the locks.
        let _link = self.with_parent(|parent, parent_state, state| {
            let link = state.link.take();
            if let Some(link) = &link {
                parent_state.children.remove(link.key);
            }
            self.parent_address.store(0, Ordering::Relaxed);
            if self.flags.load(Ordering::Relaxed) & LIVE != 0 {
                wakers.push(parent.one_live_less(parent_state));
            }
            link
        });
    }

    /// A child is no longer live; what comes back is to be woken.
    fn one_live_less(&self, state: &mut State) -> Option<Waker> {
        state.live -= 1;
        if state.live == 0 && self.flags.load(Ordering::Relaxed) & WAITING != 0 {
            state.waker.take()
        } else {
            None
        }
    }

    /// Gives the node another parent, unless that would make it its own ancestor.
    pub(crate) fn move_under(self: &Arc<Self>, parent: Option<Arc<Node>>, live: bool) {
        // What is met on the way is let go after the lock: it may be the last hold on a user's waker.
        let mut met = Vec::new();
        let mut wakers = WakeList::new();
        let mut requests = Vec::new();
        let moves = lock(&MOVES);
        let mut above = parent.clone();
        while let Some(node) = above {
            if Arc::ptr_eq(&node, self) {
                drop(moves);
                return;
            }
            above = {
                let state = node.lock();
                state
                    .link
                    .as_ref()
                    .map(|link| Arc::clone(&link.parent))
                    .or_else(|| state.successor.clone())
            };
            met.push(node);
        }
        loop {
            met.extend(self.parent());
            self.unlink(&mut wakers);
            if self.flags() & RETIRED != 0
                || self.attach_quietly(parent.clone(), Some(live), &mut wakers, &mut requests)
            {
                break;
            }
        }
        drop(moves);
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, &mut wakers);
        }
        wakers.wake_all();
    }

    /// The frame parks: it stays linked, to be woken when its surroundings go, but no longer live.
    pub(crate) fn park(self: &Arc<Self>) {
        let mut wakers = WakeList::new();
        self.hand_over(&mut wakers);
        self.make_idle(0, &mut wakers);
        wakers.wake_all();
    }

    /// Clears `LIVE`, sets `flags`.
    fn make_idle(self: &Arc<Self>, flags: u32, wakers: &mut WakeList) {
        self.with_place(|parent, state| {
            if let Some((parent, parent_state)) = parent
                && self.flags.load(Ordering::Relaxed) & LIVE != 0
            {
                wakers.push(parent.one_live_less(parent_state));
            }
            self.set_live(state, false);
            self.change_flags(state, flags, 0);
        });
    }

    /// The frame is over: its place goes, and what is still inside goes to its parent.
    pub(crate) fn retire(self: &Arc<Self>) {
        #[cfg(feature = "task-tree")]
        if self.flags() & ROOT != 0 {
            crate::tree::roots::remove(self.address());
        }
        if !self.retire_leaf() {
            self.retire_with_all();
        }
    }

    /// Retires a frame that is not cancelled and has nothing inside; false if it is another one, or its parent is busy.
    fn retire_leaf(&self) -> bool {
        let mut state = self.lock();
        let is_plain = state.children.is_empty() && state.rare.is_none();
        if !is_plain || effective(self.flags.load(Ordering::Relaxed)) {
            return false;
        }
        let mut parent_waker = None;
        let itself = match state.link.take() {
            None => None,
            Some(link) => {
                // Against the order of the locks, so that it is only tried.
                let Some(mut parent_state) = try_lock(&link.parent.state) else {
                    state.link = Some(link);
                    return false;
                };
                let itself = parent_state.children.remove(link.key);
                if self.flags.load(Ordering::Relaxed) & LIVE != 0 {
                    parent_waker = link.parent.one_live_less(&mut parent_state);
                }
                drop(parent_state);
                self.parent_address.store(0, Ordering::Relaxed);
                state.successor = Some(link.parent);
                Some(itself)
            }
        };
        self.change_flags(&mut state, RETIRED, 0);
        self.set_live(&mut state, false);
        let waker = state.waker.take();
        drop(state);
        drop((itself, waker));
        wake_outside(parent_waker);
        true
    }

    /// As [`retire`](Self::retire), for any frame.
    fn retire_with_all(self: &Arc<Self>) {
        let mut wakers = WakeList::new();
        let cancelled = if self.is_effective() {
            self.cancelled()
        } else {
            None
        };
        let waker = {
            let mut state = self.lock();
            self.change_flags(&mut state, RETIRED, 0);
            state.successor = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            if state.cancelled.is_none() {
                state.cancelled = cancelled;
            }
            state.waker.take()
        };
        self.hand_over(&mut wakers);
        self.unlink(&mut wakers);
        let mut state = self.lock();
        self.set_live(&mut state, false);
        let follower = state.rare.as_mut().and_then(|rare| rare.follower.take());
        drop(state);
        drop(waker);
        drop(follower);
        wakers.wake_all();
    }

    /// Gives the frames that survive inside to the parent, and wakes them.
    fn hand_over(self: &Arc<Self>, wakers: &mut WakeList) {
        let (survivors, parent) = {
            let mut state = self.lock();
            if state.children.is_empty() {
                return;
            }
            let cancelled = if cancelled_itself(self.flags.load(Ordering::Relaxed)) {
                state.why_cancelled().cloned()
            } else {
                None
            };
            let children = state.children.take_all();
            let mut survivors = Vec::with_capacity(children.len());
            for child in children {
                let mut child_state = child.lock();
                let link = child_state.link.take();
                child.parent_address.store(0, Ordering::Relaxed);
                // An anchored frame stays cancelled with the scope it was anchored to, not with those around, of
                // which a shield may part it. It is told before it leaves, so that no poll on another thread slips
                // through in between.
                if child_state.anchored
                    && child_state.cancelled.is_none()
                    && let Some(cancelled) = &cancelled
                {
                    child.change_flags(&mut child_state, OWN, 0);
                    child_state.cancelled = Some(cancelled.clone());
                }
                wakers.push(child_state.waker.take());
                // A visit ends with its host.
                let is_visit = child.flags.load(Ordering::Relaxed) & VISIT != 0;
                if is_visit {
                    child.set_live(&mut child_state, false);
                }
                drop(child_state);
                survivors.push((child, link, is_visit));
            }
            state.live = 0;
            let parent = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            (survivors, parent)
        };
        let mut requests = Vec::new();
        for (child, link, is_visit) in survivors {
            if !is_visit {
                // The frame may have parked in the meantime, or have found another place by itself.
                child.attach_quietly(parent.clone(), None, wakers, &mut requests);
                child.propagate(wakers, &mut requests);
            }
            drop(link);
        }
        for (node, cancelled) in requests {
            node.request_quietly(cancelled, wakers);
        }
    }
}

// Children on executors.
impl Node {
    /// The place of a child that an executor polls, to be hung under `nursery`.
    pub(crate) fn on_executor(
        nursery: &Arc<Node>,
        location: &'static Location<'static>,
        name: Option<Arc<str>>,
    ) -> Arc<Self> {
        let node = Self::named(FrameKind::Child, location, name);
        node.set_anchored(Some(nursery));
        node.change_flags(&mut node.lock(), ON_EXECUTOR, 0);
        node
    }

    pub(crate) fn is_on_executor(&self) -> bool {
        self.flags() & ON_EXECUTOR != 0
    }

    /// A child on an executor is to be dropped at its next poll, to which it is woken.
    ///
    /// False if it was told before, or cannot be stopped.
    pub(crate) fn dismiss(&self) -> bool {
        let waker = {
            let mut state = self.lock();
            if self.flags.load(Ordering::Relaxed) & (DISMISSED | ON_THREAD) != 0 {
                return false;
            }
            self.change_flags(&mut state, DISMISSED, 0);
            state.waker.take()
        };
        wake_outside(waker);
        true
    }

    /// A thread is about to run the child; false if it is no longer wanted.
    pub(crate) fn begin_on_thread(&self) -> bool {
        let mut state = self.lock();
        let flags = self.flags.load(Ordering::Relaxed);
        let is_wanted = !effective(flags) && flags & DISMISSED == 0;
        if is_wanted {
            self.change_flags(&mut state, ON_THREAD, 0);
        }
        is_wanted
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.flags() & DISMISSED != 0
    }

    /// A child on an executor was stopped; its nursery reads it.
    pub(crate) fn set_stopped(&self) {
        self.change_flags(&mut self.lock(), STOPPED, 0);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.flags() & STOPPED != 0
    }

    /// Dismisses every child on an executor inside.
    ///
    /// Returns what was not told before, and whether there is one that still runs.
    pub(crate) fn dismiss_inside(self: &Arc<Self>) -> (Vec<FrameInfo>, bool) {
        let mut running = Vec::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let state = node.lock();
            for child in state.children.iter() {
                if child.is_on_executor() && child.flags() & LIVE != 0 {
                    running.push(Arc::clone(child));
                } else {
                    work.push(Arc::clone(child));
                }
            }
        }
        let told = running
            .iter()
            .filter(|child| child.dismiss())
            .map(|child| child.info())
            .collect();
        (told, !running.is_empty())
    }

    /// As [`retire`](Self::retire), for a child on an executor.
    ///
    /// If it was dismissed, whoever waits further out is woken, too: it waits for this end.
    pub(crate) fn retire_from_executor(self: &Arc<Self>) {
        let mut wakers = WakeList::new();
        let mut above = if self.is_dismissed() {
            self.parent()
        } else {
            None
        };
        self.retire();
        while let Some(node) = above {
            let mut state = node.lock();
            wakers.push(state.waker.take());
            let next = state.link.as_ref().map(|link| Arc::clone(&link.parent));
            drop(state);
            above = next;
        }
        wakers.wake_all();
    }
}

// A frame's own poll.
impl Node {
    /// Notes that the frame is being polled.
    #[inline]
    pub(crate) fn note_poll(&self) {
        self.polled
            .store(EPOCH.load(Ordering::Relaxed), Ordering::Relaxed);
        if self.flags() & WAITING != 0 {
            self.change_flags(&mut self.lock(), 0, WAITING);
        }
    }

    /// Stores the waker of the current poll.
    pub(crate) fn register(&self, waker: &Waker) {
        if self
            .lock()
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            return;
        }
        let waker = waker.clone();
        let replaced = self.lock().waker.replace(waker);
        drop(replaced);
    }

    pub(crate) fn take_waker(&self) -> Option<Waker> {
        self.lock().waker.take()
    }

    /// Whether the node is `outer` or somewhere below it.
    pub(crate) fn is_inside(self: &Arc<Self>, outer: &Arc<Node>) -> bool {
        let mut above = Some(Arc::clone(self));
        while let Some(node) = above {
            if Arc::ptr_eq(&node, outer) {
                return true;
            }
            above = node
                .lock()
                .link
                .as_ref()
                .map(|link| Arc::clone(&link.parent));
        }
        false
    }

    /// What the frame finds after its body said `Pending`; notes that it waits, if it must.
    ///
    /// An anchored frame that it polls, and that is being cancelled, too, counts as inside.
    pub(crate) fn look_inside(self: &Arc<Self>) -> Inside {
        if !self.is_effective() {
            return Inside::NotCancelled;
        }
        let mut state = self.lock();
        if state.live == 0 {
            let visits = Self::silent_visits(&state);
            if !visits.is_empty() {
                // The homes are further out: they are looked at without the lock.
                drop(state);
                let visits: Vec<_> = visits
                    .into_iter()
                    .filter(|(_, home)| home.is_effective_soon())
                    .collect();
                state = self.lock();
                for (visit, _) in &visits {
                    self.count_visit(&mut state, visit);
                }
            }
        }
        if !effective(self.flags.load(Ordering::Relaxed)) {
            return Inside::NotCancelled;
        }
        if state.live == 0 {
            Inside::Clear
        } else {
            self.change_flags(&mut state, WAITING | HAD_TO_WAIT, 0);
            Inside::Live
        }
    }

    /// Whether any frame inside was polled since `epoch`, or is polled by an executor.
    pub(crate) fn any_inside_polled_since(self: &Arc<Self>, epoch: u64) -> bool {
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let state = node.lock();
            for child in state.children.iter() {
                if child.flags() & LIVE == 0 {
                    continue;
                }
                if child.is_on_executor() || child.polled.load(Ordering::Relaxed) >= epoch {
                    return true;
                }
                work.push(Arc::clone(child));
            }
        }
        false
    }

    /// Wakes the live frames inside, once.
    ///
    /// A frame that was polled since `epoch` looks after what is inside it; in the first round, where
    /// nothing tells a poll just now from one long ago, only if it waits itself. A child on an executor
    /// always does.
    pub(crate) fn wake_inside(self: &Arc<Self>, epoch: u64, first: bool) {
        let mut wakers = WakeList::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let state = node.lock();
            for child in state.children.iter() {
                let flags = child.flags();
                if flags & LIVE == 0 || flags & ON_EXECUTOR != 0 {
                    continue;
                }
                wakers.push(child.lock().waker.take());
                let polled = child.polled.load(Ordering::Relaxed) >= epoch;
                if !polled || (first && flags & WAITING == 0) {
                    work.push(Arc::clone(child));
                }
            }
        }
        wakers.wake_all();
    }

    /// The epoch of the last poll.
    pub(crate) fn polled_epoch(&self) -> u64 {
        self.polled.load(Ordering::Relaxed)
    }

    /// A frame that was given up on is polled again after all.
    pub(crate) fn revive(self: &Arc<Self>) {
        self.with_parent(|_, parent_state, state| {
            if self.flags.load(Ordering::Relaxed) & LIVE == 0 {
                parent_state.live += 1;
                self.set_live(state, true);
            }
        });
    }

    /// Gives up on every live frame inside, children on executors excepted; returns what they were.
    ///
    /// A frame that was anchored here is given up on by itself: it is polled elsewhere, if at all, and
    /// goes on looking after what is inside it.
    pub(crate) fn abandon_inside(self: &Arc<Self>) -> Vec<FrameInfo> {
        let mut abandoned = Vec::new();
        let mut work = vec![Arc::clone(self)];
        while let Some(node) = work.pop() {
            let children: Vec<_> = {
                let state = node.lock();
                state.children.iter().map(Arc::clone).collect()
            };
            for child in children {
                if child.flags() & LIVE == 0 || child.is_on_executor() {
                    continue;
                }
                // Nobody waits for it any more: this node is its waiting ancestor.
                child.make_idle(ABANDONED, &mut WakeList::new());
                abandoned.push(child.info());
                if !child.lock().anchored {
                    work.push(child);
                }
            }
        }
        abandoned
    }

    /// This node and those above it, up to `context`; that one alone if it is not above.
    fn path_up_to(self: &Arc<Self>, context: &Arc<Node>) -> Vec<Arc<Node>> {
        let mut path = vec![Arc::clone(self)];
        loop {
            let top = path.last().expect("never empty");
            let above = top
                .lock()
                .link
                .as_ref()
                .map(|link| Arc::clone(&link.parent));
            match above {
                Some(above) if Arc::ptr_eq(&above, context) => {
                    path.push(above);
                    return path;
                }
                Some(above) => path.push(above),
                // A block that was provided from outside its context shields the context alone.
                None => return vec![Arc::clone(context)],
            }
        }
    }

    /// This frame alone, a context's own, becomes a shield for the code that follows.
    pub(crate) fn begin_exit_alone(self: &Arc<Self>) {
        let was_cancelled = {
            let mut state = self.lock();
            let (before, _) = self.change_flags(&mut state, EXITING, WAITING);
            effective(before)
        };
        if was_cancelled {
            let (mut wakers, mut requests) = (WakeList::new(), Vec::new());
            self.propagate(&mut wakers, &mut requests);
            wakers.wake_all();
        }
    }

    /// The frame waits for a block to unwind: what starts directly inside meanwhile parks.
    pub(crate) fn note_waiting(&self) {
        self.change_flags(&mut self.lock(), HAD_TO_WAIT, 0);
    }

    /// Every frame from this one's parent up to `context` becomes a shield for the code that follows.
    pub(crate) fn begin_exit(self: &Arc<Self>, context: &Arc<Node>) {
        #[cfg(feature = "tracing")]
        crate::trace::exit_begins(context);
        let parent = self
            .lock()
            .link
            .as_ref()
            .map(|link| Arc::clone(&link.parent));
        let longer_path;
        let path = match parent {
            Some(parent) if !Arc::ptr_eq(&parent, context) => {
                longer_path = parent.path_up_to(context);
                &*longer_path
            }
            _ => slice::from_ref(context),
        };
        let mut was_cancelled = false;
        for node in path {
            let mut state = node.lock();
            let now = effective(node.flags.load(Ordering::Relaxed));
            was_cancelled |= now;
            if node.kind == FrameKind::Nursery {
                if now {
                    node.change_flags(&mut state, LATCHED, 0);
                }
            } else {
                node.change_flags(&mut state, EXITING, WAITING);
            }
        }
        // A shield over what is not cancelled changes nothing inside.
        if !was_cancelled {
            return;
        }
        let mut wakers = WakeList::new();
        let mut requests = Vec::new();
        context.propagate(&mut wakers, &mut requests);
        for node in path.iter().rev() {
            node.propagate(&mut wakers, &mut requests);
        }
        wakers.wake_all();
    }
}

// Nodes for children that would otherwise have none.
impl Node {
    /// Whether somebody wants to see each child of this nursery, also one that has no frame inside.
    pub(crate) fn shows_children(&self) -> bool {
        #[cfg(feature = "task-tree")]
        if self.is_tracked() {
            return true;
        }
        #[cfg(feature = "tracing")]
        if crate::trace::hears_of_children() {
            return true;
        }
        false
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn trace(&self) -> &crate::trace::Trace {
        &self.trace
    }
}

// What the task tree asks.
#[cfg(feature = "task-tree")]
impl Node {
    pub(crate) fn is_tracked(&self) -> bool {
        self.flags() & TRACKED != 0
    }

    /// Begins a part of the tree that is tracked, or is not; before the node is linked.
    pub(crate) fn set_tracked(&self, tracked: bool) {
        let (set, clear) = if tracked {
            (TRACKED, UNTRACKED)
        } else {
            (UNTRACKED, TRACKED)
        };
        self.change_flags(&mut self.lock(), set, clear);
    }

    /// A tracked node whose parent is not has been linked.
    fn note_root(self: &Arc<Self>) {
        if self.flags() & (TRACKED | ROOT) == TRACKED
            && self.parent().is_none_or(|parent| !parent.is_tracked())
        {
            self.change_flags(&mut self.lock(), ROOT, 0);
            crate::tree::roots::add(self);
        }
    }

    pub(crate) fn times(&self) -> &crate::tree::Times {
        &self.times
    }

    pub(crate) fn look(&self) -> crate::tree::Look {
        let state = self.lock();
        let flags = self.flags.load(Ordering::Relaxed);
        crate::tree::Look {
            state: self.task_state(flags, state.link.is_some()),
            is_cancelled_itself: flags & OWN != 0,
            waits_inside: flags & WAITING != 0,
            cancelled: state.why_cancelled().filter(|_| effective(flags)).cloned(),
            clock: state
                .environment
                .as_ref()
                .and_then(|environment| environment.clock.clone()),
            children: state
                .children
                .iter()
                .map(Arc::clone)
                // No frames, but somebody who listens, and who stands for a frame elsewhere.
                .filter(|child| {
                    child.kind != FrameKind::CancelRequested && child.flags() & VISIT == 0
                })
                .collect(),
        }
    }

    fn task_state(&self, flags: u32, is_linked: bool) -> crate::tree::TaskState {
        use crate::tree::TaskState;
        let is_live = flags & LIVE != 0;
        if flags & RETIRED != 0 {
            TaskState::Ended
        } else if flags & ABANDONED != 0 {
            TaskState::Abandoned
        } else if !is_live && self.polled.load(Ordering::Relaxed) == 0 && !is_linked {
            TaskState::NotStarted
        } else if !is_live {
            TaskState::Parked
        } else if flags & EXITING != 0 {
            TaskState::Exiting
        } else if effective(flags) {
            TaskState::Cancelling
        } else if requested(flags) {
            TaskState::Shielded
        } else {
            TaskState::Running
        }
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
