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
//!    at most one generation at a time, and begins the next only when nobody has a share of the last. A generation is
//!    told apart by its number, never by its key.
//! 3. *Who waits is in the queue* of a place, in order, until an outcome is delivered. The first in the
//!    queue of a place that is being set up is the opener.
//! 4. *An error is in one place*: with its set-up or exit, in a ticket, or in `unheard`, where the
//!    service finds it. It moves and is never copied, unless the program asked for that.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Waker,
};

use slab::Slab;

pub(crate) use self::{
    entering::{Entered, Newcomer, Seeker},
    place::{Place, Usage},
    set_up::{Begun, RunContext, SetUp, Work},
};
use crate::{
    effects::Effects,
    index::Index,
    options::{Settings, WhenFull},
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    tenure::Spares,
    ticket::Ticket,
    trouble::Trouble,
};

mod blocks;
mod closing;
mod entering;
mod failing;
mod in_use;
mod keys;
mod looking;
mod over;
mod place;
mod queue;
mod refreshing;
mod room;
mod set_up;

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

    /// As [`change`](Self::change), for somebody who may have to wait. What that sets off may panic, as the drop of a value
    /// that makes room can: the service hears of it then, so that the place in the queue is not lost.
    fn ask(
        &self,
        change: impl FnOnce(&mut State<K, T, E>, &mut Effects<K, T, E>) -> Entered<K, T, E>,
    ) -> Entered<K, T, E> {
        let mut effects = Effects::new(self);
        let entered = change(&mut self.lock(), &mut effects);
        if let Entered::Wait(_) = entered {
            self.apart(|| drop(effects));
        }
        entered
    }

    /// Does what must not be cut short by a panic of the program's code: the service hears of that.
    pub(crate) fn apart<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(act)) {
            Ok(result) => Some(result),
            Err(payload) => {
                self.put_back(Trouble::Panic(payload));
                None
            }
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
}
