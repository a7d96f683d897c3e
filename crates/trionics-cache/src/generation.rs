//! One life of one key's resource, from its set-up to the end of its exit.

use std::{
    any::Any,
    collections::BTreeMap,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use trionics_errgroup::Failure;
use trionics_nursery::CancelScope;

/// What went wrong in a set-up or an exit.
pub(crate) enum Trouble<E> {
    Failure(Failure<E>),
    Panic(Box<dyn Any + Send>),
}

impl<E> Trouble<E> {
    /// The failure; a panic is resumed.
    pub(crate) fn into_failure(self) -> Failure<E> {
        match self {
            Self::Failure(failure) => failure,
            Self::Panic(payload) => std::panic::resume_unwind(payload),
        }
    }
}

/// One set-up, its users, and its exit.
///
/// The key's place in the map goes when the generation is over, and only then: so there is never more
/// than one of a key.
pub(crate) struct Generation<T, E> {
    /// Stops a set-up that nobody waits for any more.
    pub(crate) set_up: CancelScope,
    state: Mutex<State<T, E>>,
}

struct State<T, E> {
    phase: Phase<T>,
    /// Who opened it or waits for it to be open, and has not left.
    n_users: usize,
    /// Somebody has been told, or will be told, that this opening was no hit.
    miss_is_claimed: bool,
    /// What went wrong in set-up or exit, until a user takes it.
    trouble: Option<Trouble<E>>,
    /// The last user waits for the exit and will take what went wrong.
    is_listened_to: bool,
    /// Users' blocks, which are cancelled if the service goes.
    blocks: BTreeMap<u64, CancelScope>,
    /// The service goes: no further user, and those that are there are cancelled.
    evicted: bool,
    /// Who to wake when something changes, in the order of their coming.
    waiters: BTreeMap<u64, Waker>,
    next_id: u64,
}

enum Phase<T> {
    Opening,
    Open(Arc<T>),
    /// The last user has left; the exit runs, or a set-up that nobody waits for is being stopped.
    Leaving,
    Over,
}

/// What a user leaves behind.
pub(crate) struct Left<E> {
    /// It was the last one: the exit begins.
    pub(crate) last: bool,
    /// What went wrong and will be heard by no user.
    pub(crate) unheard: Option<Trouble<E>>,
}

/// What somebody who waits for a generation to be open is told.
pub(crate) enum Opened<T, E> {
    Value {
        value: Arc<T>,
        cache_hit: bool,
    },
    /// The set-up failed, and this user is the one who hears of it.
    Failed(Trouble<E>),
    /// The set-up failed or ended; somebody else heard of it, or nobody had to.
    Again,
    /// The service is gone.
    Closed,
}

impl<T, E> Generation<T, E> {
    /// A generation with one user, who opens it.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            set_up: CancelScope::new(),
            state: Mutex::new(State {
                phase: Phase::Opening,
                n_users: 1,
                miss_is_claimed: true,
                trouble: None,
                is_listened_to: false,
                blocks: BTreeMap::new(),
                evicted: false,
                waiters: BTreeMap::new(),
                next_id: 0,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One user more, unless it is too late for that.
    pub(crate) fn try_join(&self) -> bool {
        let mut state = self.lock();
        let open = matches!(state.phase, Phase::Opening | Phase::Open(_)) && !state.evicted;
        if open {
            state.n_users += 1;
        }
        open
    }

    /// The set-up has given a value.
    pub(crate) fn set_open(&self, value: T) {
        let value = Arc::new(value);
        let wakes = {
            let mut state = self.lock();
            if state.n_users > 0 {
                state.phase = Phase::Open(value);
            } else {
                state.phase = Phase::Leaving;
            }
            WakeOnDrop(state.take_waiters())
        };
        drop(wakes);
    }

    /// Waits until it is open, for a user that has joined; `opener` says who began it.
    pub(crate) async fn wait_open(&self, opener: bool) -> Opened<T, E> {
        self.wait(|state| match &state.phase {
            Phase::Opening => None,
            Phase::Open(value) => {
                let cache_hit = !opener && mem::replace(&mut state.miss_is_claimed, true);
                Some(Opened::Value {
                    value: Arc::clone(value),
                    cache_hit,
                })
            }
            Phase::Leaving => Some(Opened::Again),
            Phase::Over => Some(
                if opener || !mem::replace(&mut state.miss_is_claimed, true) {
                    match state.trouble.take() {
                        Some(trouble) => Opened::Failed(trouble),
                        None if state.evicted => Opened::Closed,
                        None => Opened::Again,
                    }
                } else if state.evicted {
                    Opened::Closed
                } else {
                    Opened::Again
                },
            ),
        })
        .await
    }

    /// Waits until set-up and exit are over.
    pub(crate) async fn wait_over(&self) {
        self.wait(|state| matches!(state.phase, Phase::Over).then_some(()))
            .await;
    }

    /// Waits until the last user has left.
    pub(crate) async fn wait_left(&self) {
        self.wait(|state| matches!(state.phase, Phase::Leaving | Phase::Over).then_some(()))
            .await;
    }

    /// The service goes: no further user, and those that are there are cancelled.
    pub(crate) fn evict(&self) {
        let blocks: Vec<_> = {
            let mut state = self.lock();
            state.evicted = true;
            state.blocks.values().cloned().collect()
        };
        for block in blocks {
            block.cancel("the shared resource is closing");
        }
    }

    /// Has `block` cancelled if the service goes, until it is removed.
    pub(crate) fn add_block(&self, block: &CancelScope) -> u64 {
        let (id, evicted) = {
            let mut state = self.lock();
            let id = state.new_id();
            state.blocks.insert(id, block.clone());
            (id, state.evicted)
        };
        if evicted {
            block.cancel("the shared resource is closing");
        }
        id
    }

    pub(crate) fn remove_block(&self, id: u64) {
        let removed = self.lock().blocks.remove(&id);
        drop(removed);
    }

    /// A user leaves, who waits for the exit if it `listens` and is the last.
    pub(crate) fn leave(&self, opener: bool, listens: bool) -> Left<E> {
        let (left, phase, wakes, unwanted) = {
            let mut state = self.lock();
            state.n_users -= 1;
            let last = state.n_users == 0;
            state.is_listened_to |= last && listens;
            if opener && !matches!(state.phase, Phase::Open(_)) {
                // Whoever waits becomes the opener, and hears what there is to hear.
                state.miss_is_claimed = false;
            }
            let opening = matches!(state.phase, Phase::Opening);
            // From here on nobody joins: also a set-up that is being stopped may yet give its value.
            let phase = (last && !matches!(state.phase, Phase::Over))
                .then(|| mem::replace(&mut state.phase, Phase::Leaving));
            let unheard = if last && !listens {
                state.trouble.take()
            } else {
                None
            };
            let wakes = WakeOnDrop(if last {
                state.take_waiters()
            } else {
                BTreeMap::new()
            });
            (Left { last, unheard }, phase, wakes, last && opening)
        };
        if unwanted {
            self.set_up
                .cancel("nobody waits for this resource any more");
        }
        // The value goes before the exit begins, outside the lock; its drop may panic.
        drop(phase);
        drop(wakes);
        left
    }

    /// Whether the last user has left, or nobody can come any more.
    pub(crate) fn is_left(&self) -> bool {
        matches!(self.lock().phase, Phase::Leaving | Phase::Over)
    }

    /// Set-up and exit are over. Returns what went wrong if no user will hear of it.
    pub(crate) fn finish(&self, trouble: Option<Trouble<E>>) -> Option<Trouble<E>> {
        let (wakes, unheard, phase) = {
            let mut state = self.lock();
            let phase = mem::replace(&mut state.phase, Phase::Over);
            let unheard = if state.n_users > 0 || state.is_listened_to {
                if trouble.is_some() {
                    state.trouble = trouble;
                }
                None
            } else {
                trouble
            };
            (WakeOnDrop(state.take_waiters()), unheard, phase)
        };
        drop(phase);
        drop(wakes);
        unheard
    }

    /// What went wrong in the exit, for the last user, or for the service if that user is gone.
    pub(crate) fn take_trouble(&self) -> Option<Trouble<E>> {
        let mut state = self.lock();
        state.is_listened_to = false;
        state.trouble.take()
    }

    /// Waits until `ready` gives something.
    async fn wait<R>(&self, mut ready: impl FnMut(&mut State<T, E>) -> Option<R>) -> R {
        let mut waiter = Waiter {
            generation: self,
            id: None,
        };
        poll_fn(|cx| {
            // A waker is cloned before the lock is taken; waiting is rare enough.
            let waker = cx.waker().clone();
            let (result, replaced) = {
                let mut state = self.lock();
                match ready(&mut state) {
                    Some(result) => (Poll::Ready(result), None),
                    None => (Poll::Pending, waiter.register(&mut state, waker)),
                }
            };
            drop(replaced);
            result
        })
        .await
    }
}

impl<T, E> State<T, E> {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn take_waiters(&mut self) -> BTreeMap<u64, Waker> {
        mem::take(&mut self.waiters)
    }
}

/// A place in the list of waiters, given up when dropped.
struct Waiter<'a, T, E> {
    generation: &'a Generation<T, E>,
    id: Option<u64>,
}

impl<T, E> Waiter<'_, T, E> {
    fn register(&mut self, state: &mut State<T, E>, waker: Waker) -> Option<Waker> {
        let id = *self.id.get_or_insert_with(|| state.new_id());
        state.waiters.insert(id, waker)
    }
}

impl<T, E> Drop for Waiter<'_, T, E> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let removed = self.generation.lock().waiters.remove(&id);
            drop(removed);
        }
    }
}

/// Wakes those who wait, also where a panic passes.
struct WakeOnDrop(BTreeMap<u64, Waker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        for waker in mem::take(&mut self.0).into_values() {
            waker.wake();
        }
    }
}
