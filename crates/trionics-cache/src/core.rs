//! The state of a cache, and every change of it.
//!
//! Invariants:
//!
//! 1. *One lock, no user code.* All that is here changes under one lock, together with the index, whose
//!    own lock is taken inside. Of the program's code only a key's `Eq` runs there, before anything has
//!    changed. Whatever else a change sets off (wakers, drops, cancellations) is an [`Effects`], which
//!    takes place after the lock is released. A share of a [`Tenure`] is never
//!    dropped under the lock, nor held for anybody but a user: while it is, the last user is not the last.
//! 2. *A place is a key's*, from its first opener to the end of the last exit that somebody waits for. It has
//!    at most one generation at a time. A generation is told apart by its number, never by its key.
//! 3. *Who waits is in the queue* of a place, in order, until an outcome is delivered. The first in the
//!    queue of a place that is being set up is the opener.
//! 4. *An error is in one place*: with its set-up or exit, in a ticket, or in `unheard`, where the
//!    service finds it. It moves and is never copied, unless the program asked for that.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    hash::Hash,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use slab::Slab;
use trionics_errgroup::Failure;
use trionics_gather::Slot;
use trionics_nursery::{
    CancelScope,
    internal::{Host, Tag},
};

use crate::{
    cycle::{Cycle, Edge},
    effects::{Effect, Effects},
    identity::Identity,
    index::{Index, SeenAt},
    lease::LeaseEnd,
    options::{Settings, WhenFull},
    statistics::Statistics,
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    tenure::{Spares, Tenure},
    ticket::{Line, Outcome, Ticket},
    trouble::Trouble,
};

/// A set-up that may begin.
pub(crate) struct SetUp<K, T, E> {
    pub(crate) run: RunContext<T, E>,
    /// What it runs for, and where.
    pub(crate) identity: Arc<Identity<K, T, E>>,
    pub(crate) generation: u64,
}

/// A set-up that has its child, where it is to be known.
pub(crate) struct Begun {
    pub(crate) place: usize,
    pub(crate) generation: u64,
    pub(crate) host: Host,
}

/// Who asks for a key. What is used is taken.
pub(crate) struct Seeker<'a, T, E> {
    /// Its context, unless it only looks.
    pub(crate) run: Option<RunContext<T, E>>,
    /// What it belongs to.
    pub(crate) inside: Option<&'a Arc<dyn Tag>>,
    /// Whom to wake, if that is known.
    pub(crate) waker: Option<Waker>,
}

impl<'a, T, E> Seeker<'a, T, E> {
    /// One that sets nothing up.
    pub(crate) fn looking(inside: Option<&'a Arc<dyn Tag>>) -> Self {
        Self {
            run: None,
            inside,
            waker: None,
        }
    }
}

/// The life of a context.
pub(crate) type ContextRun<E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send>>;

/// Makes the context and runs it.
pub(crate) type RunContext<T, E> = Box<dyn FnOnce(Slot<T>) -> ContextRun<E> + Send>;

/// What the handles of a cache, its users and its service share.
pub(crate) struct Core<K, T, E> {
    pub(crate) index: Index<K, T, E>,
    pub(crate) settings: Settings<K, E>,
    state: Mutex<State<K, T, E>>,
    /// How many handles to the cache there are.
    n_handles: AtomicUsize,
}

struct State<K, T, E> {
    places: Slab<Place<K, T, E>>,
    spares: Spares<K, T, E>,
    /// Those who wait: to be given a value, or for the end of an exit.
    tickets: Slab<Ticket<K, T, E>>,
    /// Set-ups that the service has yet to begin: places and generations.
    requests: VecDeque<(usize, u64)>,
    /// Places that wait for room, by the number of the generation, which is their order.
    without_room: BTreeMap<u64, usize>,
    /// Idle resources, by the number that they were given when they became idle.
    idle: BTreeMap<u64, usize>,
    /// How many generations have room.
    n_alive: usize,
    /// What went wrong where no user stayed to hear of it.
    unheard: Vec<Trouble<E>>,
    /// How many tickets hold something that went wrong.
    n_undelivered: usize,
    /// No key is opened any more.
    closed: bool,
    /// `serve` was called.
    is_served: bool,
    /// The service begins no set-up any more, and what is open is to be left.
    is_ending: bool,
    /// The service has ended; nobody is there to be told.
    is_over: bool,
    service: Option<Waker>,
    next_number: u64,
    n_hits: u64,
    n_misses: u64,
    n_opens: u64,
    n_failures: u64,
    n_teardowns: u64,
}

/// A key's place.
pub(crate) struct Place<K, T, E> {
    pub(crate) identity: Arc<Identity<K, T, E>>,
    hash: u64,
    /// The index leads here.
    indexed: bool,
    keep_alive: Duration,
    generation: u64,
    phase: Phase<K, T, E>,
    line: Line,
    /// The child that runs the generation, from soon after its beginning.
    pub(crate) host: Option<Host>,
    /// The value was provided.
    has_opened: bool,
    /// The context or the service wants to end: nobody joins, and who is there is asked to leave.
    is_evicted: bool,
    /// The ticket of the last user, who waits for the end of the exit.
    listener: Option<usize>,
    /// The exit did not wait for users: they have shares yet when it is over.
    gave_users_up: bool,
    /// Users' blocks, which are cancelled when the place is evicted.
    pub(crate) blocks: Slab<CancelScope>,
}

enum Phase<K, T, E> {
    /// The cache is full.
    WithoutRoom,
    /// The service has yet to begin the set-up.
    Requested,
    /// `unwanted`: the set-up has been cancelled; who comes waits for its end.
    Opening {
        unwanted: bool,
    },
    Open {
        tenure: Weak<Tenure<K, T, E>>,
    },
    Idle {
        value: T,
        since: u64,
    },
    /// The last user has left. `released`: the value is dropped and the exit may begin.
    Leaving {
        released: bool,
    },
    Over,
}

/// What came of asking for a key.
pub(crate) enum Entered<K, T, E> {
    Lease(Arc<Tenure<K, T, E>>),
    /// Wait for the ticket.
    Wait(usize),
    /// The key is not there; ask again with a newcomer.
    Absent,
    Closed,
    Full,
    Cycle(Cycle),
}

/// A key that comes alive.
pub(crate) struct Newcomer<K, T, E> {
    pub(crate) key: K,
    pub(crate) identity: Arc<Identity<K, T, E>>,
    pub(crate) keep_alive: Duration,
}

/// What a generation's task finds when it looks after its users.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    InUse,
    /// Nobody uses it; the number is that of this idle time.
    Idle(u64, Duration),
    /// Users were asked to leave.
    Detached,
    /// The last user has left: the exit may begin.
    Left,
}

/// What the service has to do next.
pub(crate) enum Work<K, T, E> {
    SetUp(SetUp<K, T, E>),
    Unheard(Trouble<E>),
    /// The cache is closed, and nothing is left.
    Nothing,
}

impl<K, T, E> State<K, T, E> {
    fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Whom to wake because the service may be able to end.
    fn service_if_closed(&mut self) -> Option<Waker> {
        if self.closed {
            self.service.take()
        } else {
            None
        }
    }

    fn wake_service(&mut self, effects: &mut Effects<K, T, E>) {
        effects.wake(self.service.take());
    }

    /// The place, if it still has this generation.
    fn place(&mut self, at: usize, generation: u64) -> Option<&mut Place<K, T, E>> {
        self.places
            .get_mut(at)
            .filter(|place| place.generation == generation)
    }

    /// Puts a ticket at the end of a place's queue.
    fn queue(
        &mut self,
        at: usize,
        run: Option<RunContext<T, E>>,
        waker: Option<Waker>,
        edge: Option<Edge>,
    ) -> usize {
        let serial = self.new_number();
        let id = self
            .tickets
            .insert(Ticket::new(at, serial, run, waker, edge));
        self.places[at].line.push(id, &mut self.tickets);
        id
    }

    /// Gives a ticket its outcome.
    fn deliver(&mut self, id: usize, outcome: Outcome<K, T, E>, effects: &mut Effects<K, T, E>) {
        let ticket = &mut self.tickets[id];
        let at = ticket.place;
        if ticket.is_queued() {
            self.places[at].line.remove(id, &mut self.tickets);
        }
        self.n_undelivered += usize::from(outcome.is_trouble());
        let ticket = &mut self.tickets[id];
        effects.wake(ticket.waker.take());
        effects.extend(
            ticket
                .edge
                .take()
                .and_then(|edge| edge.cut())
                .map(Effect::Tag),
        );
        ticket.outcome = Some(outcome);
    }

    /// Gives everybody in the queue of a place a share; returns how many they were.
    ///
    /// No share is left over: it would count as a user until it is dropped.
    fn hand_out(
        &mut self,
        at: usize,
        tenure: Arc<Tenure<K, T, E>>,
        first_hits: bool,
        effects: &mut Effects<K, T, E>,
    ) -> usize {
        let n_users = self.places[at].line.len();
        effects.reserve_wakes(n_users);
        let shares = std::iter::repeat_n(tenure, n_users);
        let mut next = self.places[at].line.take_all();
        for (index, share) in shares.enumerate() {
            if let Some(id) = next {
                let hit = first_hits || index > 0;
                next = self.tickets[id].leave_line();
                self.deliver(id, Outcome::Lease(share, hit), effects);
            }
        }
        n_users
    }

    /// Tells everybody in the queue of a place that it is closed, or to ask again.
    fn dismiss_all(&mut self, at: usize, effects: &mut Effects<K, T, E>) {
        while let Some(id) = self.places[at].line.first() {
            let outcome = if self.closed {
                Outcome::Closed
            } else {
                Outcome::Again(self.tickets[id].run.take())
            };
            self.deliver(id, outcome, effects);
        }
    }

    /// A place that nobody waits for and that has nothing left.
    fn remove_place(&mut self, at: usize, index: &Index<K, T, E>, effects: &mut Effects<K, T, E>) {
        let place = self.places.remove(at);
        if place.indexed {
            effects.drop_key(index.remove(place.hash, at));
        }
        effects.drop_place(place);
        if self.closed {
            self.wake_service(effects);
        }
    }

    /// Asks for a new generation of a place.
    fn request(&mut self, at: usize, limits: (usize, WhenFull), effects: &mut Effects<K, T, E>) {
        let number = self.new_number();
        let (capacity, when_full) = limits;
        let place = &mut self.places[at];
        place.generation = number;
        place.identity.begin(number);
        place.has_opened = false;
        place.is_evicted = false;
        if self.n_alive < capacity && self.without_room.is_empty() {
            self.give_room(at, number, effects);
            return;
        }
        place.phase = Phase::WithoutRoom;
        self.without_room.insert(number, at);
        self.admit(capacity, effects);
        if when_full == WhenFull::EvictIdle
            && !self.without_room.is_empty()
            && let Some((_, idle)) = self.idle.pop_first()
        {
            self.end_idle(idle, effects);
        }
    }

    /// Lets places that wait for room have what there is.
    fn admit(&mut self, capacity: usize, effects: &mut Effects<K, T, E>) {
        while self.n_alive < capacity
            && let Some((number, at)) = self.without_room.pop_first()
        {
            self.give_room(at, number, effects);
        }
    }

    fn give_room(&mut self, at: usize, number: u64, effects: &mut Effects<K, T, E>) {
        self.n_alive += 1;
        self.places[at].phase = Phase::Requested;
        self.requests.push_back((at, number));
        self.wake_service(effects);
    }

    /// A generation has its child; what has become of it meanwhile concerns the child now.
    fn note_begun(&mut self, begun: Begun, effects: &mut Effects<K, T, E>) {
        let Begun {
            place,
            generation,
            host,
        } = begun;
        match self.place(place, generation) {
            Some(place) => {
                if let Phase::Opening { unwanted: true } = place.phase {
                    effects.push(Effect::Stop(host.clone()));
                }
                place.host = Some(host);
            }
            None => effects.push(Effect::Host(host)),
        }
    }

    /// Begins the end of a resource that is in `Idle`; its entry among the idle ones is gone.
    fn end_idle(&mut self, at: usize, effects: &mut Effects<K, T, E>) {
        let place = &mut self.places[at];
        if let Phase::Idle { .. } = place.phase
            && let Phase::Idle { value, .. } =
                mem::replace(&mut place.phase, Phase::Leaving { released: false })
        {
            place.let_go(at, value, effects);
        }
    }
}

impl<K, T, E> Place<K, T, E> {
    fn usage(&self) -> Usage {
        match self.phase {
            Phase::Idle { since, .. } => Usage::Idle(since, self.keep_alive),
            Phase::Leaving { released: false } => Usage::InUse,
            Phase::Open { .. } if self.is_evicted => Usage::Detached,
            Phase::Open { .. } => Usage::InUse,
            _ => Usage::Left,
        }
    }

    /// The exit may begin once the value is dropped.
    fn let_go(&mut self, at: usize, value: T, effects: &mut Effects<K, T, E>) {
        if mem::needs_drop::<T>() {
            self.phase = Phase::Leaving { released: false };
            effects.push(Effect::Leave(at, self.generation, value));
        } else {
            self.phase = Phase::Leaving { released: true };
            effects.nudge(self.host.as_ref());
        }
    }

    /// The key does not lead here any more.
    fn supersede(&mut self) {
        self.indexed = false;
        self.identity.supersede(self.generation);
    }
}

impl<K, T, E> Core<K, T, E> {
    pub(crate) fn new(settings: Settings<K, E>) -> Arc<Self> {
        Arc::new(Self {
            index: Index::new(),
            settings,
            state: Mutex::new(State {
                places: Slab::new(),
                spares: Spares::new(),
                tickets: Slab::new(),
                requests: VecDeque::new(),
                without_room: BTreeMap::new(),
                idle: BTreeMap::new(),
                n_alive: 0,
                unheard: Vec::new(),
                n_undelivered: 0,
                closed: false,
                is_served: false,
                is_ending: false,
                is_over: false,
                service: None,
                next_number: 0,
                n_hits: 0,
                n_misses: 0,
                n_opens: 0,
                n_failures: 0,
                n_teardowns: 0,
            }),
            n_handles: AtomicUsize::new(1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<K, T, E>> {
        lock(&self.state)
    }

    /// Changes the state, then lets the effects take place.
    fn change<R>(&self, change: impl FnOnce(&mut State<K, T, E>, &mut Effects<K, T, E>) -> R) -> R {
        let mut effects = Effects::new(self);
        change(&mut self.lock(), &mut effects)
    }

    fn limits(&self) -> (usize, WhenFull) {
        (self.settings.capacity, self.settings.when_full)
    }

    pub(crate) fn add_handle(&self) {
        self.n_handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the hits of a slot.
    pub(crate) fn add_hits(&self, n_hits: u64) {
        self.lock().n_hits += n_hits;
    }

    /// A failure that was delivered to somebody who is not the one to hear of it.
    pub(crate) fn put_back(&self, trouble: Trouble<E>) {
        self.change(|state, effects| self.leave_unheard(state, trouble, effects));
    }

    /// The cache closes with its last handle.
    pub(crate) fn remove_handle(&self) {
        if self.n_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }
}

// Coming.
impl<K, T, E> Core<K, T, E>
where
    K: Eq + Hash,
{
    /// Asks for a key: shares its value, or waits in its queue, or sets it up.
    ///
    /// `seen_at` is the place at which it may be.
    pub(crate) fn enter(
        &self,
        hash: u64,
        key: &K,
        seen_at: SeenAt,
        newcomer: &mut Option<Newcomer<K, T, E>>,
        seeker: &mut Seeker<'_, T, E>,
    ) -> Entered<K, T, E> {
        if newcomer.is_none() {
            // Nothing comes of it that would have to wait until the lock is released.
            let mut state = self.lock();
            return match self.seek(&state, hash, key, seen_at) {
                Ok(at) => self.join(&mut state, at, seeker),
                Err(entered) => entered,
            };
        }
        self.change(
            |state, effects| match self.seek(state, hash, key, seen_at) {
                Ok(at) => self.join(state, at, seeker),
                Err(Entered::Absent) => match newcomer.take() {
                    Some(newcomer) => self.settle(state, hash, newcomer, true, seeker, effects),
                    None => Entered::Absent,
                },
                Err(entered) => entered,
            },
        )
    }

    /// The key's place, if it is alive.
    fn seek(
        &self,
        state: &State<K, T, E>,
        hash: u64,
        key: &K,
        seen_at: SeenAt,
    ) -> Result<usize, Entered<K, T, E>> {
        if state.closed {
            return Err(Entered::Closed);
        }
        let is_there = |at: &usize| {
            let place = state.places.get(*at);
            place.is_some_and(|it| it.indexed && it.hash == hash && it.identity.key == *key)
        };
        let seen_at = seen_at.place().filter(is_there);
        seen_at
            .or_else(|| self.index.place(hash, key))
            .ok_or(Entered::Absent)
    }

    /// Shares what is alive, or waits in its queue.
    fn join(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        seeker: &mut Seeker<'_, T, E>,
    ) -> Entered<K, T, E> {
        let place = &mut state.places[at];
        match &place.phase {
            Phase::Open { tenure } if !place.is_evicted => {
                if let Some(tenure) = tenure.upgrade() {
                    state.n_hits += 1;
                    return Entered::Lease(tenure);
                }
            }
            Phase::Idle { .. } => return Entered::Lease(self.revive(state, at)),
            // Who only looks does not wait for a resource that is on its way out.
            Phase::Leaving { .. } | Phase::Opening { unwanted: true } if seeker.run.is_none() => {
                return Entered::Absent;
            }
            _ => {}
        }
        self.wait(state, at, seeker)
    }

    /// Sets up a key of its own, to which nobody comes until it is [promoted](Self::promote).
    pub(crate) fn enter_apart(
        &self,
        hash: u64,
        newcomer: Newcomer<K, T, E>,
        run: RunContext<T, E>,
        inside: Option<&Arc<dyn Tag>>,
    ) -> Entered<K, T, E> {
        let mut seeker = Seeker {
            run: Some(run),
            ..Seeker::looking(inside)
        };
        self.change(|state, effects| {
            if state.closed {
                return Entered::Closed;
            }
            self.settle(state, hash, newcomer, false, &mut seeker, effects)
        })
    }

    /// Lets the key lead to a resource that was set up apart. False: the cache is closed.
    pub(crate) fn promote(&self, key: K, hash: u64, tenure: &Arc<Tenure<K, T, E>>) -> bool {
        self.change(|state, effects| {
            if state.closed {
                effects.drop_key(Some(key));
                return false;
            }
            let identity = tenure.identity();
            let new = identity.place();
            match self.index.place(hash, &key) {
                Some(old) => {
                    self.index.redirect(hash, old, new);
                    let place = &mut state.places[old];
                    place.supersede();
                    if let Phase::Idle { since, .. } = place.phase {
                        state.idle.remove(&since);
                        state.end_idle(old, effects);
                    }
                    effects.drop_key(Some(key));
                    match state.places[old].phase {
                        // Who waits there has nothing to wait for.
                        Phase::WithoutRoom => {
                            let number = state.places[old].generation;
                            state.without_room.remove(&number);
                            state.dismiss_all(old, effects);
                            state.remove_place(old, &self.index, effects);
                        }
                        Phase::Leaving { .. } | Phase::Opening { unwanted: true } => {
                            state.dismiss_all(old, effects);
                        }
                        _ => {}
                    }
                }
                None => self.index.insert(key, hash, new),
            }
            if let Some(place) = state.place(new, identity.generation()) {
                place.indexed = true;
                self.index.set_open(hash, new, Arc::downgrade(tenure));
            }
            true
        })
    }

    fn settle(
        &self,
        state: &mut State<K, T, E>,
        hash: u64,
        mut newcomer: Newcomer<K, T, E>,
        indexed: bool,
        seeker: &mut Seeker<'_, T, E>,
        effects: &mut Effects<K, T, E>,
    ) -> Entered<K, T, E> {
        let (capacity, when_full) = self.limits();
        if when_full == WhenFull::Refuse && state.n_alive >= capacity {
            effects.drop_key(Some(newcomer.key));
            effects.push(Effect::Identity(newcomer.identity));
            return Entered::Full;
        }
        let entry = state.places.vacant_entry();
        let at = entry.key();
        Identity::settle(&mut newcomer.identity, at);
        entry.insert(Place {
            identity: newcomer.identity,
            hash,
            indexed,
            keep_alive: newcomer.keep_alive,
            generation: 0,
            phase: Phase::Over,
            line: Line::default(),
            host: None,
            has_opened: false,
            is_evicted: false,
            listener: None,
            gave_users_up: false,
            blocks: Slab::new(),
        });
        if indexed {
            self.index.insert(newcomer.key, hash, at);
        } else {
            effects.drop_key(Some(newcomer.key));
        }
        let entered = self.wait(state, at, seeker);
        state.request(at, (capacity, when_full), effects);
        entered
    }

    fn wait(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        seeker: &mut Seeker<'_, T, E>,
    ) -> Entered<K, T, E> {
        let edge = match seeker
            .inside
            .map(|tag| Edge::try_new(tag, state.places[at].identity.id()))
        {
            None => None,
            Some(Ok(edge)) => Some(edge),
            Some(Err(cycle)) => return Entered::Cycle(cycle),
        };
        Entered::Wait(state.queue(at, seeker.run.take(), seeker.waker.take(), edge))
    }

    /// Forgets a key's resource: users keep it, an idle one is torn down, and the next open makes
    /// another.
    pub(crate) fn invalidate(&self, hash: u64, key: &K) -> bool {
        self.change(|state, effects| {
            let Some(at) = self.index.place(hash, key) else {
                return false;
            };
            let place = &mut state.places[at];
            match place.phase {
                Phase::Open { .. } if !place.is_evicted => {}
                Phase::Idle { since, .. } => {
                    state.idle.remove(&since);
                    state.end_idle(at, effects);
                    // The next one waits for the exit: nobody uses this one.
                    return true;
                }
                Phase::Opening { unwanted: false } => {}
                _ => return false,
            }
            place.supersede();
            effects.drop_key(self.index.remove(place.hash, at));
            true
        })
    }

    /// Begins a key's idle time anew. False if nothing is there.
    pub(crate) fn touch(&self, hash: u64, key: &K) -> bool {
        self.change(|state, effects| {
            let Some(at) = self.index.place(hash, key) else {
                return false;
            };
            let number = state.new_number();
            let place = &mut state.places[at];
            match &mut place.phase {
                Phase::Idle { since, .. } => {
                    let before = mem::replace(since, number);
                    effects.nudge(place.host.as_ref());
                    state.idle.remove(&before);
                    state.idle.insert(number, at);
                    true
                }
                Phase::Open { .. } => true,
                _ => false,
            }
        })
    }

    /// How many use a key's value.
    pub(crate) fn users(&self, hash: u64, key: &K) -> usize {
        let state = self.lock();
        match self
            .index
            .place(hash, key)
            .map(|at| &state.places[at].phase)
        {
            Some(Phase::Open { tenure }) => tenure.strong_count(),
            _ => 0,
        }
    }
}

impl<K, T, E> Core<K, T, E> {
    /// Gives an idle resource a user again.
    fn revive(&self, state: &mut State<K, T, E>, at: usize) -> Arc<Tenure<K, T, E>> {
        let phase = &mut state.places[at].phase;
        let Phase::Idle { value, since } = mem::replace(phase, Phase::Over) else {
            unreachable!("the caller has looked");
        };
        state.idle.remove(&since);
        state.n_hits += 1;
        self.set_in_use(state, at, value)
    }

    fn set_in_use(&self, state: &mut State<K, T, E>, at: usize, value: T) -> Arc<Tenure<K, T, E>> {
        let place = &mut state.places[at];
        let identity = Arc::clone(&place.identity);
        let tenure = state.spares.begin(value, identity, state.n_alive);
        let weak = Arc::downgrade(&tenure);
        if place.indexed {
            self.index.set_open(place.hash, at, Weak::clone(&weak));
        }
        place.phase = Phase::Open { tenure: weak };
        tenure
    }
}

// Waiting.
impl<K, T, E> Core<K, T, E> {
    /// A ticket's outcome, with which the ticket is used up.
    pub(crate) fn poll_ticket(&self, id: usize, waker: &Waker) -> Poll<Outcome<K, T, E>> {
        let mut new_waker = None;
        loop {
            // Both are dropped after the lock; no more than that comes of most polls.
            let (_replaced, _ticket);
            let mut state = self.lock();
            let ticket = &mut state.tickets[id];
            if let Some(outcome) = ticket.outcome.take() {
                _ticket = state.tickets.remove(id);
                let service = if outcome.is_trouble() {
                    state.n_undelivered -= 1;
                    state.service_if_closed()
                } else {
                    None
                };
                drop(state);
                if let Some(service) = service {
                    service.wake();
                }
                return Poll::Ready(outcome);
            }
            if let Some(known) = &ticket.waker
                && known.will_wake(waker)
            {
                return Poll::Pending;
            }
            if let Some(new_waker) = new_waker.take() {
                _replaced = ticket.waker.replace(new_waker);
                drop(state);
                return Poll::Pending;
            }
            drop(state);
            // It is the executor's code.
            new_waker = Some(waker.clone());
        }
    }

    /// Whoever has the ticket does not wait any more.
    pub(crate) fn withdraw(&self, id: usize) {
        self.change(|state, effects| {
            let ticket = &mut state.tickets[id];
            let at = ticket.place;
            effects.extend(
                ticket
                    .edge
                    .take()
                    .and_then(|edge| edge.cut())
                    .map(Effect::Tag),
            );
            if let Some(outcome) = ticket.outcome.take() {
                effects.drop_ticket(state.tickets.remove(id));
                match outcome {
                    Outcome::Failed(trouble) | Outcome::Over(Some(trouble)) => {
                        state.n_undelivered -= 1;
                        self.leave_unheard(state, trouble, effects);
                    }
                    outcome => effects.push(Effect::Outcome(outcome)),
                }
                return;
            }
            if !ticket.is_queued() {
                if let Some(place) = state.places.get_mut(at)
                    && place.listener == Some(id)
                {
                    place.listener = None;
                }
                effects.drop_ticket(state.tickets.remove(id));
                return;
            }
            let was_first = state.places[at].line.first() == Some(id);
            state.places[at].line.remove(id, &mut state.tickets);
            effects.drop_ticket(state.tickets.remove(id));
            let place = &mut state.places[at];
            let is_empty = place.line.first().is_none();
            match place.phase {
                Phase::Opening { unwanted: false }
                    if is_empty || (was_first && self.settings.restarts) =>
                {
                    place.phase = Phase::Opening { unwanted: true };
                    effects.extend(place.host.clone().map(Effect::Stop));
                }
                Phase::WithoutRoom if is_empty => {
                    let number = place.generation;
                    state.without_room.remove(&number);
                    state.remove_place(at, &self.index, effects);
                }
                Phase::Requested if is_empty => {
                    state.n_alive -= 1;
                    state.remove_place(at, &self.index, effects);
                    state.admit(self.settings.capacity, effects);
                }
                _ => {}
            }
        });
    }

    fn leave_unheard(
        &self,
        state: &mut State<K, T, E>,
        trouble: Trouble<E>,
        effects: &mut Effects<K, T, E>,
    ) {
        if state.is_over {
            effects.push(Effect::TooLate(trouble));
        } else {
            state.unheard.push(trouble);
            state.wake_service(effects);
        }
    }
}

// Leaving.
impl<K, T, E> Core<K, T, E> {
    /// The last user of a generation has left; with `listener`, that one waits for the exit's end.
    pub(crate) fn last_left(
        &self,
        identity: &Identity<K, T, E>,
        value: T,
        listener: Option<&mut Option<usize>>,
    ) -> LeaseEnd {
        let (at, generation) = (identity.place(), identity.generation());
        self.change(|state, effects| {
            let (closed, full) = (state.closed, !state.without_room.is_empty());
            let Some(place) = state
                .place(at, generation)
                .filter(|place| matches!(place.phase, Phase::Open { .. }))
            else {
                // The exit did not wait.
                effects.push(Effect::Value(value));
                return LeaseEnd::TornDown;
            };
            let keeps =
                place.keep_alive > Duration::ZERO && place.indexed && !place.is_evicted && !closed;
            if keeps && place.line.first().is_some() {
                // Who came in this moment has it.
                let tenure = self.set_in_use(state, at, value);
                let users = state.hand_out(at, tenure, true, effects);
                state.n_hits += users as u64;
                return LeaseEnd::StillUsed { users };
            }
            if keeps && !full {
                effects.nudge(place.host.as_ref());
                let hash = place.hash;
                let since = state.new_number();
                state.places[at].phase = Phase::Idle { value, since };
                state.idle.insert(since, at);
                self.index.set_open(hash, at, Weak::new());
                return LeaseEnd::KeptIdle;
            }
            place.let_go(at, value, effects);
            if let Some(listener) = listener {
                let serial = state.new_number();
                let id = state
                    .tickets
                    .insert(Ticket::new(at, serial, None, None, None));
                state.places[at].listener = Some(id);
                *listener = Some(id);
            }
            LeaseEnd::TornDown
        })
    }

    /// The value is dropped: the exit may begin.
    pub(crate) fn release(&self, at: usize, generation: u64) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation)
                && let Phase::Leaving { released } = &mut place.phase
            {
                *released = true;
                effects.nudge(place.host.as_ref());
            }
        });
    }

    /// The idle time with this number is over.
    pub(crate) fn expire(&self, at: usize, generation: u64, number: u64) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation)
                && let Phase::Idle { since, .. } = place.phase
                && since == number
            {
                state.idle.remove(&since);
                state.end_idle(at, effects);
            }
        });
    }

    /// The exit waits no longer for those who were asked to leave.
    pub(crate) fn give_up_users(&self, at: usize, generation: u64) {
        self.change(|state, _| {
            if let Some(place) = state.place(at, generation)
                && place.is_evicted
                && matches!(place.phase, Phase::Open { .. })
            {
                place.phase = Phase::Leaving { released: true };
                place.gave_users_up = true;
            }
        });
    }

    /// A generation's users, as its own task sees them.
    pub(crate) fn usage(&self, at: usize, generation: u64) -> Usage {
        let mut state = self.lock();
        (state.place(at, generation)).map_or(Usage::Left, |place| place.usage())
    }

    /// The block of a user, which is cancelled if the place is evicted.
    pub(crate) fn add_block(
        &self,
        at: usize,
        generation: u64,
        block: &CancelScope,
    ) -> Option<usize> {
        self.change(|state, effects| {
            let place = state.place(at, generation)?;
            if place.is_evicted {
                effects.push(Effect::Cancel(block.clone()));
            }
            Some(place.blocks.insert(block.clone()))
        })
    }

    pub(crate) fn remove_block(&self, at: usize, generation: u64, id: usize) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation) {
                effects.extend((place.blocks.try_remove(id)).map(Effect::Scope));
            }
        });
    }
}

// The service's side.
impl<K, T, E> Core<K, T, E> {
    /// Marks the cache as served; false if it was before.
    pub(crate) fn begin_service(&self) -> bool {
        !mem::replace(&mut self.lock().is_served, true)
    }

    /// What the service has to do next; `begun` is what came of the last set-up.
    pub(crate) fn poll_work(&self, begun: &mut Option<Begun>, waker: Waker) -> Poll<Work<K, T, E>> {
        self.change(|state, effects| {
            if let Some(begun) = begun.take() {
                state.note_begun(begun, effects);
            }
            if let Some(trouble) = state.unheard.pop() {
                return Poll::Ready(Work::Unheard(trouble));
            }
            while let Some((at, generation)) = state.requests.pop_front() {
                if let Some(set_up) = self.begin(state, at, generation, effects) {
                    return Poll::Ready(Work::SetUp(set_up));
                }
            }
            if state.closed && state.places.is_empty() && state.n_undelivered == 0 {
                Poll::Ready(Work::Nothing)
            } else {
                effects.extend((state.service.replace(waker)).map(Effect::Waker));
                Poll::Pending
            }
        })
    }

    /// Begins a set-up, if somebody still wants it.
    fn begin(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        generation: u64,
        effects: &mut Effects<K, T, E>,
    ) -> Option<SetUp<K, T, E>> {
        let place = state.place(at, generation)?;
        if !matches!(place.phase, Phase::Requested) {
            return None;
        }
        while let Some(id) = state.places[at].line.first() {
            if let Some(run) = state.tickets[id].run.take() {
                state.n_opens += 1;
                let place = &mut state.places[at];
                place.phase = Phase::Opening { unwanted: false };
                return Some(SetUp {
                    run,
                    identity: Arc::clone(&place.identity),
                    generation,
                });
            }
            // It only looked.
            state.deliver(id, Outcome::Absent, effects);
        }
        state.n_alive -= 1;
        state.remove_place(at, &self.index, effects);
        state.admit(self.settings.capacity, effects);
        None
    }

    /// The set-up has given a value.
    pub(crate) fn set_open(&self, at: usize, generation: u64, value: T) -> Usage {
        self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                effects.push(Effect::Value(value));
                return Usage::Left;
            };
            place.has_opened = true;
            if matches!(place.phase, Phase::Opening { unwanted: false }) {
                let tenure = self.set_in_use(state, at, value);
                let n_users = state.hand_out(at, tenure, false, effects);
                state.n_misses += 1;
                state.n_hits += n_users as u64 - 1;
                if state.is_ending {
                    self.evict_place(state, at, effects);
                }
            } else {
                place.let_go(at, value, effects);
            }
            state.places[at].usage()
        })
    }

    /// The context wants to end: nobody joins, and who is there is asked to leave.
    pub(crate) fn evict(&self, at: usize, generation: u64) {
        self.change(|state, effects| {
            if state.place(at, generation).is_some() {
                self.evict_place(state, at, effects);
            }
        });
    }

    fn evict_place(&self, state: &mut State<K, T, E>, at: usize, effects: &mut Effects<K, T, E>) {
        let place = &mut state.places[at];
        place.is_evicted = true;
        place.identity.detach(place.generation);
        for (_, block) in &place.blocks {
            effects.push(Effect::Cancel(block.clone()));
        }
        effects.nudge(place.host.as_ref());
        match &place.phase {
            Phase::Open { .. } if place.indexed => {
                self.index.set_open(place.hash, at, Weak::new());
            }
            Phase::Idle { since, .. } => {
                let since = *since;
                state.idle.remove(&since);
                state.end_idle(at, effects);
            }
            _ => {}
        }
    }

    /// Set-up and exit are over. Returns what went wrong if no user will hear of it.
    pub(crate) fn over(
        &self,
        at: usize,
        generation: u64,
        trouble: Option<Trouble<E>>,
    ) -> Option<Trouble<E>> {
        let mut shared = None;
        let unheard = self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                return trouble;
            };
            let phase = mem::replace(&mut place.phase, Phase::Over);
            let has_opened = place.has_opened;
            if matches!(phase, Phase::Requested | Phase::WithoutRoom) {
                if let Phase::WithoutRoom = phase {
                    state.without_room.remove(&generation);
                    state.n_alive += 1;
                }
            } else {
                state.n_failures += u64::from(trouble.is_some());
                state.n_teardowns += u64::from(has_opened);
            }
            state.n_alive -= 1;
            let unheard = match phase {
                Phase::Opening { unwanted: false } => match trouble {
                    Some(trouble) => self.fail(state, at, trouble, &mut shared, effects),
                    None => None,
                },
                phase => {
                    if let Phase::Idle { value, since } = phase {
                        state.idle.remove(&since);
                        effects.push(Effect::Value(value));
                    }
                    match state.places[at].listener.take() {
                        Some(id) => {
                            state.deliver(id, Outcome::Over(trouble), effects);
                            None
                        }
                        None => trouble,
                    }
                }
            };
            let place = &state.places[at];
            if state.closed || !place.indexed || place.gave_users_up {
                state.dismiss_all(at, effects);
            }
            let place = &mut state.places[at];
            if place.line.first().is_some() {
                effects.extend(place.host.take().map(Effect::Host));
                if !place.blocks.is_empty() {
                    effects.push(Effect::Blocks(mem::take(&mut place.blocks)));
                }
                state.request(at, self.limits(), effects);
            } else {
                state.remove_place(at, &self.index, effects);
            }
            state.admit(self.settings.capacity, effects);
            unheard
        });
        if let Some((failure, all)) = shared {
            self.share(failure, all);
        }
        unheard
    }

    /// A set-up has failed: its opener is told, or everybody who waited.
    #[allow(clippy::type_complexity, reason = "an out parameter of one caller")]
    fn fail(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        trouble: Trouble<E>,
        shared: &mut Option<(Failure<E>, Vec<(usize, u64)>)>,
        effects: &mut Effects<K, T, E>,
    ) -> Option<Trouble<E>> {
        let Some(opener) = state.places[at].line.first() else {
            return Some(trouble);
        };
        match trouble {
            Trouble::Failure(failure) if self.settings.share_failure.is_some() => {
                let mut all = Vec::new();
                while let Some(id) = state.places[at].line.first() {
                    state.places[at].line.remove(id, &mut state.tickets);
                    all.push((id, state.tickets[id].serial));
                }
                *shared = Some((failure, all));
            }
            trouble => state.deliver(opener, Outcome::Failed(trouble), effects),
        }
        None
    }

    /// Gives copies of a failure to all these tickets, the original to the first.
    fn share(&self, failure: Failure<E>, all: Vec<(usize, u64)>) {
        let copy = self.settings.share_failure.expect("it is shared");
        let mut troubles: Vec<Trouble<E>> = all
            .iter()
            .skip(1)
            .map(
                |_| match catch_unwind(AssertUnwindSafe(|| copy(&failure))) {
                    Ok(copy) => Trouble::Failure(copy),
                    Err(payload) => Trouble::Panic(payload),
                },
            )
            .collect();
        troubles.push(Trouble::Failure(failure));
        self.change(|state, effects| {
            let mut original_is_told = false;
            for (id, serial) in all {
                let is_there = state
                    .tickets
                    .get(id)
                    .is_some_and(|ticket| ticket.serial == serial);
                if is_there && let Some(trouble) = troubles.pop() {
                    original_is_told = true;
                    state.deliver(id, Outcome::Failed(trouble), effects);
                }
            }
            if !original_is_told && let Some(trouble) = troubles.pop() {
                self.leave_unheard(state, trouble, effects);
            }
            effects.extend(troubles.into_iter().map(Effect::Trouble));
        });
    }

    /// Refuses further opens; idle resources are torn down.
    pub(crate) fn close(&self) {
        self.change(|state, effects| {
            if mem::replace(&mut state.closed, true) {
                return;
            }
            effects.extend(self.index.clear().into_iter().map(Effect::Key));
            for (_, place) in &mut state.places {
                place.supersede();
            }
            while let Some((_, at)) = state.idle.pop_first() {
                state.end_idle(at, effects);
            }
            while let Some((_, at)) = state.without_room.pop_first() {
                state.dismiss_all(at, effects);
                state.remove_place(at, &self.index, effects);
            }
            state.wake_service(effects);
        });
    }

    /// A generation's child is gone before its end. Without a set-up that nobody wanted any more, the service is stopped or
    /// dropped, and nobody is to try after this one.
    pub(crate) fn stopped(&self, at: usize, generation: u64) {
        let was_unwanted = self.lock().place(at, generation).is_some_and(|place| {
            matches!(place.phase, Phase::Opening { unwanted: true }) && !place.is_evicted
        });
        if !was_unwanted {
            self.close();
            self.evict(at, generation);
        }
        self.over(at, generation, None);
    }

    /// The service begins no further set-up, and what is open wants to end.
    pub(crate) fn refuse(&self) {
        self.close();
        self.change(|state, effects| {
            state.is_ending = true;
            state.requests.clear();
            let requested: Vec<_> = state
                .places
                .iter()
                .filter(|(_, place)| matches!(place.phase, Phase::Requested))
                .map(|(at, _)| at)
                .collect();
            for at in requested {
                state.n_alive -= 1;
                state.dismiss_all(at, effects);
                state.remove_place(at, &self.index, effects);
            }
            let open: Vec<_> = state
                .places
                .iter()
                .filter(|(_, place)| matches!(place.phase, Phase::Open { .. }) && !place.is_evicted)
                .map(|(at, _)| at)
                .collect();
            for at in open {
                self.evict_place(state, at, effects);
            }
        });
    }

    /// The service is gone, and nothing of it must be left.
    pub(crate) fn end_service(&self) -> Vec<Trouble<E>> {
        self.refuse();
        loop {
            let next = self
                .lock()
                .places
                .iter()
                .next()
                .map(|(at, place)| (at, place.generation));
            let Some((at, generation)) = next else {
                break;
            };
            self.evict(at, generation);
            self.over(at, generation, None);
        }
        let mut state = self.lock();
        state.is_over = true;
        mem::take(&mut state.unheard)
    }
}

// Looking.
impl<K, T, E> Core<K, T, E> {
    pub(crate) fn len(&self) -> usize {
        self.lock().places.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn identities(&self) -> Vec<Arc<Identity<K, T, E>>> {
        self.lock()
            .places
            .iter()
            .filter(|(_, place)| place.indexed)
            .map(|(_, place)| Arc::clone(&place.identity))
            .collect()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let state = self.lock();
        let mut statistics = Statistics {
            hits: state.n_hits + self.index.n_hits(),
            misses: state.n_misses,
            opens: state.n_opens,
            failures: state.n_failures,
            teardowns: state.n_teardowns,
            ..Statistics::default()
        };
        for (_, place) in &state.places {
            match &place.phase {
                Phase::WithoutRoom | Phase::Requested | Phase::Opening { .. } => {
                    statistics.opening += 1;
                }
                Phase::Open { tenure } => {
                    statistics.in_use += 1;
                    statistics.users += tenure.strong_count();
                }
                Phase::Idle { .. } => statistics.idle += 1,
                Phase::Leaving { .. } | Phase::Over => statistics.leaving += 1,
            }
            statistics.waiting += place.line.len();
        }
        statistics
    }
}
