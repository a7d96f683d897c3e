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
    /// The last user has left; the exit runs.
    Leaving,
    Over,
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
        let waiters = {
            let mut state = self.lock();
            if state.n_users > 0 {
                state.phase = Phase::Open(value);
            } else {
                state.phase = Phase::Leaving;
            }
            state.take_waiters()
        };
        wake(waiters);
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
        self.wait(|state| matches!(state.phase, Phase::Leaving).then_some(()))
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
            block.cancel("the cache is closing");
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
            block.cancel("the cache is closing");
        }
        id
    }

    pub(crate) fn remove_block(&self, id: u64) {
        let removed = self.lock().blocks.remove(&id);
        drop(removed);
    }

    /// A user leaves; true if it was the last, and the exit begins.
    ///
    /// `listens`: if it is the last it will wait for the exit.
    pub(crate) fn leave(&self, opener: bool, listens: bool) -> bool {
        let (last, value, waiters, unwanted) = {
            let mut state = self.lock();
            state.n_users -= 1;
            let last = state.n_users == 0;
            state.is_listened_to |= last && listens;
            let opening = matches!(state.phase, Phase::Opening);
            if opening && opener {
                // Whoever waits becomes the opener.
                state.miss_is_claimed = false;
            }
            let mut value = None;
            if last && matches!(state.phase, Phase::Open(_)) {
                value = Some(mem::replace(&mut state.phase, Phase::Leaving));
            }
            let waiters = if last {
                state.take_waiters()
            } else {
                BTreeMap::new()
            };
            (last, value, waiters, last && opening)
        };
        // The value goes before the exit begins, outside the lock.
        drop(value);
        if unwanted {
            self.set_up
                .cancel("nobody waits for this resource any more");
        }
        wake(waiters);
        last
    }

    /// Set-up and exit are over. Returns what went wrong if no user will hear of it.
    pub(crate) fn finish(&self, trouble: Option<Trouble<E>>) -> Option<Trouble<E>> {
        let (waiters, unheard, phase) = {
            let mut state = self.lock();
            let phase = mem::replace(&mut state.phase, Phase::Over);
            let unheard = if state.n_users > 0 || state.is_listened_to {
                state.trouble = trouble;
                None
            } else {
                trouble
            };
            (state.take_waiters(), unheard, phase)
        };
        drop(phase);
        wake(waiters);
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

fn wake(waiters: BTreeMap<u64, Waker>) {
    for waker in waiters.into_values() {
        waker.wake();
    }
}
