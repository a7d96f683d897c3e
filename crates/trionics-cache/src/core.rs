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
use trionics_nursery::{CancelScope, internal::Tag};

use crate::{
    cycle::{Cycle, Edge},
    effects::{Effect, Effects},
    identity::Identity,
    index::Index,
    lease::LeaseEnd,
    options::{Settings, WhenFull},
    statistics::Statistics,
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    tenure::{Spares, Tenure, Terms},
    ticket::{Line, Outcome, Ticket},
    trouble::Trouble,
};

/// A set-up that may begin: its context, and what it runs for.
pub(crate) type SetUp<K, T, E> = (RunContext<T, E>, Arc<Identity<K>>);

/// Who asks for a key: its context, what it belongs to, and whom to wake. What is used is taken.
type Who<'a, T, E> = (
    &'a mut Option<RunContext<T, E>>,
    Option<&'a Arc<dyn Tag>>,
    &'a mut Option<Waker>,
);

/// Makes the context and runs it.
pub(crate) type RunContext<T, E> =
    Box<dyn FnOnce(Slot<T>) -> Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send>> + Send>;

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
    pub(crate) identity: Arc<Identity<K>>,
    hash: u64,
    /// The index leads here.
    indexed: bool,
    keep_alive: Duration,
    generation: u64,
    phase: Phase<K, T, E>,
    line: Line,
    /// The scope of the generation's set-up.
    pub(crate) set_up: Option<CancelScope>,
    /// The value was provided.
    has_opened: bool,
    /// The context or the service wants to end: nobody joins, and who is there is asked to leave.
    is_evicted: bool,
    /// The time for leases to be left is over.
    waits_for_blocks_only: bool,
    /// The ticket of the last user, who waits for the end of the exit.
    listener: Option<usize>,
    /// Users' blocks, which are cancelled when the place is evicted.
    pub(crate) blocks: Slab<CancelScope>,
    /// The generation's own task, which waits for its users to leave.
    pub(crate) task: Option<Waker>,
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
pub(crate) struct Newcomer<K> {
    pub(crate) key: K,
    pub(crate) identity: Arc<Identity<K>>,
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
pub(crate) enum Work<E> {
    SetUp(usize, u64),
    Unheard(Vec<Trouble<E>>),
    /// The cache is closed, and nothing is left.
    Nothing,
}

impl<K, T, E> State<K, T, E> {
    fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
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
        effects.extend(ticket.edge.take().and_then(Edge::cut).map(Effect::Tag));
        ticket.outcome = Some(outcome);
    }

    /// Who in the queue of a place has the miss, or hears of the failure: the first who does not only look.
    fn opener(&self, at: usize) -> Option<usize> {
        let first = self.places[at].line.first();
        let mut next = first;
        while let Some(id) = next {
            let ticket = &self.tickets[id];
            if !ticket.only_looks {
                return Some(id);
            }
            next = ticket.next();
        }
        first
    }

    /// Gives everybody in the queue of a place a share; returns how many they were.
    ///
    /// No share is left over: it would count as a user until it is dropped.
    fn hand_out(
        &mut self,
        at: usize,
        tenure: Arc<Tenure<K, T, E>>,
        all_hit: bool,
        effects: &mut Effects<K, T, E>,
    ) -> usize {
        let n_users = self.places[at].line.len();
        effects.reserve(n_users);
        let opener = self.opener(at).filter(|_| !all_hit);
        let shares = std::iter::repeat_n(tenure, n_users);
        let mut next = self.places[at].line.take_all();
        for share in shares {
            if let Some(id) = next {
                let hit = opener != Some(id);
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
            effects.extend(index.remove(place.hash, at).map(Effect::Key));
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
        place.has_opened = false;
        place.is_evicted = false;
        place.waits_for_blocks_only = false;
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
            self.n_alive += 1;
            self.places[at].phase = Phase::Requested;
            self.requests.push_back((at, number));
            self.wake_service(effects);
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
    /// The exit may begin once the value is dropped.
    fn let_go(&mut self, at: usize, value: T, effects: &mut Effects<K, T, E>) {
        if mem::needs_drop::<T>() {
            self.phase = Phase::Leaving { released: false };
            effects.push(Effect::Leave(at, self.generation, value));
        } else {
            self.phase = Phase::Leaving { released: true };
            effects.wake(self.task.take());
        }
    }
}

impl<K, T, E> Place<K, T, E> {
    /// The key does not lead here any more.
    fn supersede(&mut self) {
        self.indexed = false;
        self.identity.supersede(self.generation);
    }

    /// The exit may begin although there are leases, unless there are blocks.
    fn go_on_without_leases(&mut self) -> bool {
        let goes_on = self.blocks.is_empty() && matches!(self.phase, Phase::Open { .. });
        if goes_on {
            self.phase = Phase::Leaving { released: true };
        }
        goes_on
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

    /// As [`change`](Self::change), for somebody who may have to wait. What that sets off may panic, as the drop of a value
    /// that makes room can: the service hears of it then, so that the place in the queue is not lost.
    fn ask(
        &self,
        change: impl FnOnce(&mut State<K, T, E>, &mut Effects<K, T, E>) -> Entered<K, T, E>,
    ) -> Entered<K, T, E> {
        let mut effects = Effects::new(self);
        let entered = change(&mut self.lock(), &mut effects);
        match entered {
            Entered::Wait(_) => self.apart(|| drop(effects)),
            _ => drop(effects),
        }
        entered
    }

    /// Does what must not be cut short by a panic of the program's code: the service hears of that.
    pub(crate) fn apart(&self, act: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(act)) {
            self.put_back(Trouble::Panic(payload));
        }
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
    pub(crate) fn enter(
        self: &Arc<Self>,
        hash: u64,
        key: &K,
        run: &mut Option<RunContext<T, E>>,
        newcomer: &mut Option<Newcomer<K>>,
        inside: Option<&Arc<dyn Tag>>,
        waker: &mut Option<Waker>,
    ) -> Entered<K, T, E> {
        self.ask(|state, effects| {
            if state.closed {
                return Entered::Closed;
            }
            let Some(at) = self.index.place(hash, key) else {
                return match newcomer.take() {
                    Some(newcomer) => {
                        self.settle(state, hash, newcomer, true, (run, inside, waker), effects)
                    }
                    None => Entered::Absent,
                };
            };
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
                Phase::Leaving { .. } | Phase::Opening { unwanted: true } if run.is_none() => {
                    return Entered::Absent;
                }
                _ => {}
            }
            self.wait(state, at, (run, inside, waker))
        })
    }

    /// Sets up a key of its own, to which nobody comes until it is [promoted](Self::promote).
    pub(crate) fn enter_apart(
        self: &Arc<Self>,
        hash: u64,
        newcomer: Newcomer<K>,
        run: RunContext<T, E>,
        inside: Option<&Arc<dyn Tag>>,
    ) -> Entered<K, T, E> {
        self.ask(|state, effects| {
            if state.closed {
                return Entered::Closed;
            }
            self.settle(
                state,
                hash,
                newcomer,
                false,
                (&mut Some(run), inside, &mut None),
                effects,
            )
        })
    }

    /// Lets the key lead to a resource that was set up apart. False: the cache is closed.
    pub(crate) fn promote(&self, key: K, hash: u64, tenure: &Arc<Tenure<K, T, E>>) -> bool {
        self.change(|state, effects| {
            if state.closed {
                effects.push(Effect::Key(key));
                return false;
            }
            let terms = tenure.terms();
            let new = terms.place;
            if state
                .place(new, terms.generation)
                .is_none_or(|place| place.is_evicted)
            {
                // It has ended by itself meanwhile, and replaces nothing.
                effects.push(Effect::Key(key));
                return true;
            }
            match self.index.place(hash, &key) {
                Some(old) => {
                    self.index.redirect(hash, old, new);
                    let place = &mut state.places[old];
                    place.supersede();
                    if let Phase::Idle { since, .. } = place.phase {
                        state.idle.remove(&since);
                        state.end_idle(old, effects);
                    }
                    effects.push(Effect::Key(key));
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
                        Phase::Open { .. } if state.places[old].is_evicted => {
                            state.dismiss_all(old, effects);
                        }
                        _ => {}
                    }
                }
                None => self.index.insert(key, hash, new),
            }
            if let Some(place) = state.place(new, terms.generation) {
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
        newcomer: Newcomer<K>,
        indexed: bool,
        who: Who<'_, T, E>,
        effects: &mut Effects<K, T, E>,
    ) -> Entered<K, T, E> {
        let (capacity, when_full) = self.limits();
        if when_full == WhenFull::Refuse && state.n_alive >= capacity {
            effects.push(Effect::Key(newcomer.key));
            effects.push(Effect::Identity(newcomer.identity));
            return Entered::Full;
        }
        let at = state.places.insert(Place {
            identity: newcomer.identity,
            hash,
            indexed,
            keep_alive: newcomer.keep_alive,
            generation: 0,
            phase: Phase::Over,
            line: Line::default(),
            set_up: None,
            has_opened: false,
            is_evicted: false,
            waits_for_blocks_only: false,
            listener: None,
            blocks: Slab::new(),
            task: None,
        });
        if indexed {
            self.index.insert(newcomer.key, hash, at);
        } else {
            effects.push(Effect::Key(newcomer.key));
        }
        let entered = self.wait(state, at, who);
        state.request(at, (capacity, when_full), effects);
        entered
    }

    fn wait(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        (run, inside, waker): Who<'_, T, E>,
    ) -> Entered<K, T, E> {
        let edge = match inside.map(|tag| Edge::try_new(tag, state.places[at].identity.id())) {
            None => None,
            Some(Ok(edge)) => Some(edge),
            Some(Err(cycle)) => return Entered::Cycle(cycle),
        };
        Entered::Wait(state.queue(at, run.take(), waker.take(), edge))
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
            effects.extend((self.index.remove(place.hash, at)).map(Effect::Key));
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
                    effects.wake(place.task.take());
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
    fn revive(self: &Arc<Self>, state: &mut State<K, T, E>, at: usize) -> Arc<Tenure<K, T, E>> {
        let phase = &mut state.places[at].phase;
        let Phase::Idle { value, since } = mem::replace(phase, Phase::Over) else {
            unreachable!("the caller has looked");
        };
        state.idle.remove(&since);
        state.n_hits += 1;
        self.set_in_use(state, at, value)
    }

    fn set_in_use(
        self: &Arc<Self>,
        state: &mut State<K, T, E>,
        at: usize,
        value: T,
    ) -> Arc<Tenure<K, T, E>> {
        let place = &mut state.places[at];
        let terms = Terms {
            core: Arc::clone(self),
            identity: Arc::clone(&place.identity),
            place: at,
            generation: place.generation,
        };
        let tenure = state.spares.begin(value, terms, state.n_alive);
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
    pub(crate) fn poll_ticket(&self, id: usize, waker: Waker) -> Poll<Outcome<K, T, E>> {
        // Both are dropped after the lock; no more than that comes of most polls.
        let (_replaced, _ticket);
        let (outcome, service) = {
            let mut state = self.lock();
            let ticket = &mut state.tickets[id];
            let Some(outcome) = ticket.outcome.take() else {
                _replaced = ticket.waker.replace(waker);
                return Poll::Pending;
            };
            _ticket = state.tickets.remove(id);
            let mut service = None;
            if outcome.is_trouble() {
                state.n_undelivered -= 1;
                if state.closed {
                    service = state.service.take();
                }
            }
            (outcome, service)
        };
        if let Some(service) = service {
            service.wake();
        }
        Poll::Ready(outcome)
    }

    /// Whoever has the ticket does not wait any more.
    pub(crate) fn withdraw(&self, id: usize) {
        self.change(|state, effects| {
            let ticket = &mut state.tickets[id];
            let at = ticket.place;
            effects.extend(ticket.edge.take().and_then(Edge::cut).map(Effect::Tag));
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
                    if let Some(set_up) = &place.set_up {
                        effects.cancel_unwanted(set_up.clone());
                    }
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
        self: &Arc<Self>,
        at: usize,
        generation: u64,
        value: T,
        listener: Option<&mut Option<usize>>,
    ) -> LeaseEnd {
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
                effects.wake(place.task.take());
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
                effects.wake(place.task.take());
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

    /// The exit waits no longer for leases whose holders were asked to leave, but still for blocks.
    pub(crate) fn give_up_leases(&self, at: usize, generation: u64) {
        self.change(|state, _| {
            if let Some(place) = state.place(at, generation)
                && place.is_evicted
            {
                place.waits_for_blocks_only = true;
                place.go_on_without_leases();
            }
        });
    }

    /// A generation's users, as its own task sees them.
    pub(crate) fn poll_usage(&self, at: usize, generation: u64, waker: Waker) -> Usage {
        self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                effects.push(Effect::Waker(waker));
                return Usage::Left;
            };
            let usage = match place.phase {
                Phase::Idle { since, .. } => Usage::Idle(since, place.keep_alive),
                Phase::Leaving { released: false } => Usage::InUse,
                Phase::Open { .. } if place.waits_for_blocks_only => Usage::InUse,
                Phase::Open { .. } if place.is_evicted => Usage::Detached,
                Phase::Open { .. } => Usage::InUse,
                _ => Usage::Left,
            };
            effects.extend(place.task.replace(waker).map(Effect::Waker));
            usage
        })
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
                effects.cancel_block(block.clone());
            }
            Some(place.blocks.insert(block.clone()))
        })
    }

    pub(crate) fn remove_block(&self, at: usize, generation: u64, id: usize) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation) {
                effects.extend((place.blocks.try_remove(id)).map(Effect::Scope));
                if place.waits_for_blocks_only && place.go_on_without_leases() {
                    effects.wake(place.task.take());
                }
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

    /// What the service has to do next.
    pub(crate) fn poll_work(&self, waker: Waker) -> Poll<Work<E>> {
        self.change(|state, effects| {
            if !state.unheard.is_empty() {
                Poll::Ready(Work::Unheard(mem::take(&mut state.unheard)))
            } else if let Some((at, number)) = state.requests.pop_front() {
                Poll::Ready(Work::SetUp(at, number))
            } else if state.closed && state.places.is_empty() && state.n_undelivered == 0 {
                Poll::Ready(Work::Nothing)
            } else {
                effects.extend((state.service.replace(waker)).map(Effect::Waker));
                Poll::Pending
            }
        })
    }

    /// Begins a set-up in `scope`, if somebody still wants it.
    pub(crate) fn begin(
        &self,
        at: usize,
        generation: u64,
        scope: &CancelScope,
    ) -> Option<SetUp<K, T, E>> {
        self.change(|state, effects| {
            let place = state.place(at, generation)?;
            if !matches!(place.phase, Phase::Requested) {
                return None;
            }
            while let Some(id) = state.places[at].line.first() {
                if let Some(run) = state.tickets[id].run.take() {
                    state.n_opens += 1;
                    let place = &mut state.places[at];
                    place.phase = Phase::Opening { unwanted: false };
                    place.set_up = Some(scope.clone());
                    return Some((run, Arc::clone(&place.identity)));
                }
                // It only looked.
                state.deliver(id, Outcome::Absent, effects);
            }
            state.n_alive -= 1;
            state.remove_place(at, &self.index, effects);
            state.admit(self.settings.capacity, effects);
            None
        })
    }

    /// The set-up has given a value.
    pub(crate) fn set_open(self: &Arc<Self>, at: usize, generation: u64, value: T) {
        self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                effects.push(Effect::Value(value));
                return;
            };
            place.has_opened = true;
            if !matches!(place.phase, Phase::Opening { unwanted: false }) {
                place.let_go(at, value, effects);
                return;
            }
            let tenure = self.set_in_use(state, at, value);
            let n_users = state.hand_out(at, tenure, false, effects);
            state.n_misses += 1;
            state.n_hits += n_users as u64 - 1;
        });
    }

    /// The context or the service wants to end: nobody joins, and who is there is asked to leave.
    pub(crate) fn evict(&self, at: usize, generation: u64) {
        self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                return;
            };
            place.is_evicted = true;
            place.identity.detach(generation);
            for (_, block) in &place.blocks {
                effects.cancel_block(block.clone());
            }
            effects.wake(place.task.take());
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
        });
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
            if state.closed || !state.places[at].indexed {
                state.dismiss_all(at, effects);
            }
            let place = &mut state.places[at];
            if place.line.first().is_some() {
                effects.extend(place.set_up.take().map(Effect::Scope));
                if !place.blocks.is_empty() {
                    effects.push(Effect::Blocks(mem::take(&mut place.blocks)));
                }
                effects.extend(place.task.take().map(Effect::Waker));
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
        let Some(opener) = state.opener(at) else {
            return Some(trouble);
        };
        match trouble {
            Trouble::Failure(failure) if self.settings.share_failure.is_some() => {
                let mut all = Vec::new();
                let mut next = Some(opener);
                while let Some(id) = next {
                    state.places[at].line.remove(id, &mut state.tickets);
                    all.push((id, state.tickets[id].serial));
                    next = state.places[at].line.first();
                }
                *shared = Some((failure, all));
            }
            trouble => state.deliver(opener, Outcome::Failed(trouble), effects),
        }
        None
    }

    /// Gives copies of a failure to all these tickets, the original to the first that is still there.
    fn share(&self, failure: Failure<E>, all: Vec<(usize, u64)>) {
        let copy = self.settings.share_failure.expect("it is shared");
        let mut outcomes: Vec<Outcome<K, T, E>> = all
            .iter()
            .skip(1)
            .map(
                |_| match catch_unwind(AssertUnwindSafe(|| copy(&failure))) {
                    Ok(copy) => Outcome::Copy(copy),
                    Err(payload) => Outcome::Failed(Trouble::Panic(payload)),
                },
            )
            .collect();
        let mut original = Some(Trouble::Failure(failure));
        self.change(|state, effects| {
            for (id, serial) in all {
                let is_there = state
                    .tickets
                    .get(id)
                    .is_some_and(|ticket| ticket.serial == serial);
                let mut next = || match original.take() {
                    Some(original) => Some(Outcome::Failed(original)),
                    None => outcomes.pop(),
                };
                if is_there && let Some(outcome) = next() {
                    state.deliver(id, outcome, effects);
                }
            }
            if let Some(original) = original {
                self.leave_unheard(state, original, effects);
            }
            effects.extend(outcomes.into_iter().map(Effect::Outcome));
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

    /// The service begins no further set-up.
    pub(crate) fn refuse(&self) {
        self.close();
        self.change(|state, effects| {
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
        });
    }

    /// What no user heard so far.
    pub(crate) fn take_unheard(&self) -> Vec<Trouble<E>> {
        mem::take(&mut self.lock().unheard)
    }

    /// The service is gone, and nothing of it must be left.
    pub(crate) fn end_service(&self) {
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
        self.change(|state, effects| {
            state.is_over = true;
            let unheard = mem::take(&mut state.unheard);
            effects.extend(unheard.into_iter().map(Effect::TooLate));
        });
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

    pub(crate) fn identities(&self) -> Vec<Arc<Identity<K>>> {
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
