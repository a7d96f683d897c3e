//! The cache: which keys are alive, and how a user gets at one.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    hash::Hash,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use trionics_errgroup::{AnyError, Failure, LibraryFailure};
use trionics_gather::{AsyncContext, Slot, acm, with_context};
use trionics_nursery::CancelScope;

use crate::generation::{Generation, Opened, Trouble};

/// Shares one resource per key: the first user sets it up, later ones share it, and when the last one
/// leaves it is torn down before that user goes on.
///
/// The resources live in the [service](Self::serve), which runs as a child of a nursery of yours, and
/// not in any user: whoever opened a resource may leave first. A clone is a handle to the same cache.
/// When the last handle is dropped, the cache closes by itself.
///
/// `K` is compared and hashed under the cache's lock: its `Eq` and `Hash` must not use the cache.
///
/// # Examples
///
/// ```
/// use trionics_cache::{ContextCache, maybe_open_context};
/// use trionics_errgroup::Failure;
/// use trionics_gather::{Slot, acm};
/// use trionics_nursery::{Nursery, open_nursery};
///
/// async fn connect(name: &'static str, slot: Slot<String>) -> Result<(), Failure> {
///     slot.provide(format!("connection to {name}")).await;
///     Ok(()) // say goodbye here
/// }
///
/// # futures::executor::block_on(async {
/// let cache: ContextCache<&str, String> = ContextCache::new();
/// let shared = open_nursery(async |n: Nursery<'_>| {
///     n.start_soon(cache.serve());
///     let first = maybe_open_context(&cache, "db", || acm(|slot| connect("db", slot)), {
///         async |cache_hit, connection| {
///             assert!(!cache_hit);
///             assert_eq!(*connection, "connection to db");
///             maybe_open_context(&cache, "db", || acm(|slot| connect("db", slot)), {
///                 async |cache_hit, _same| Ok(cache_hit)
///             })
///             .await
///         }
///     })
///     .await?;
///     cache.close();
///     Ok(first)
/// })
/// .await;
/// assert!(shared.unwrap());
/// # });
/// ```
pub struct ContextCache<K, T, E = AnyError> {
    shared: Arc<Shared<K, T, E>>,
}

pub(crate) struct Shared<K, T, E> {
    state: Mutex<State<K, T, E>>,
    /// How many `ContextCache`s there are.
    n_handles: AtomicUsize,
}

pub(crate) struct State<K, T, E> {
    /// The living generations; an entry goes when its exit is over.
    pub(crate) generations: HashMap<K, Arc<Generation<T, E>>>,
    /// Set-ups that the service has yet to begin.
    pub(crate) requests: VecDeque<Request<K, T, E>>,
    /// What went wrong where no user stayed to hear of it.
    pub(crate) unheard: Vec<Trouble<E>>,
    /// No key is opened any more.
    pub(crate) closed: bool,
    /// `serve` was called.
    pub(crate) is_served: bool,
    pub(crate) service: Option<Waker>,
}

/// A set-up to be run by the service.
pub(crate) struct Request<K, T, E> {
    pub(crate) key: K,
    pub(crate) generation: Arc<Generation<T, E>>,
    pub(crate) run: RunContext<T, E>,
}

/// Makes the context and runs it.
pub(crate) type RunContext<T, E> =
    Box<dyn FnOnce(Slot<T>) -> Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send>> + Send>;

impl<K, T, E> Shared<K, T, E> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<K, T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the service.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State<K, T, E>) -> R) -> R {
        let (result, service) = {
            let mut state = self.lock();
            let result = change(&mut state);
            (result, state.service.take())
        };
        if let Some(service) = service {
            service.wake();
        }
        result
    }
}

impl<K, T, E> ContextCache<K, T, E> {
    /// Makes an empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    generations: HashMap::new(),
                    requests: VecDeque::new(),
                    unheard: Vec::new(),
                    closed: false,
                    is_served: false,
                    service: None,
                }),
                n_handles: AtomicUsize::new(1),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<K, T, E>> {
        &self.shared
    }

    /// Refuses further opens. Users that are there stay; the service ends when the last of them has
    /// left and its resource is torn down.
    pub fn close(&self) {
        self.shared.change(|state| state.closed = true);
    }

    /// How many keys are alive: being set up, in use, or being torn down.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().generations.len()
    }

    /// Whether no key is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, T, E> ContextCache<K, T, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    /// A use of `key`, itself an async context: enter it with
    /// [`with_context`] or, several at once, with
    /// [`gather_contexts`](trionics_gather::gather_contexts).
    ///
    /// If the key is alive the resource is shared, and `make` is dropped. If it is being torn down, the
    /// use waits for that and then sets it up anew. If not, the service calls `make` and runs the
    /// context it returns. A user that is not the last leaves at once; the last one waits for the
    /// exit of the resource.
    ///
    /// # Errors
    ///
    /// The opener gets the failure of the set-up; others who waited for it try themselves. The last
    /// user gets the failure of the exit. A closed cache, or one whose service has ended, refuses with
    /// [`LibraryFailure::Closed`]. A failure that no user stays to hear of is the service's.
    ///
    /// # Panics
    ///
    /// A panic in set-up or exit is resumed in the user that would have got the failure.
    ///
    /// # Cancel safety
    ///
    /// A user who is cancelled while waiting leaves; if nobody else waits, the set-up is cancelled and
    /// unwound. A user who is cancelled in its block leaves as if the block had ended, waiting for the
    /// exit if it is the last. If the service is cancelled, the users' blocks are cancelled, and the
    /// exit waits for them.
    pub fn open<C, M>(
        &self,
        key: K,
        make: M,
    ) -> impl AsyncContext<Value = CacheValue<T>, Error = E, Run: Send> + use<C, M, K, T, E>
    where
        C: AsyncContext<Value = T, Error = E>,
        C::Run: Send + 'static,
        M: FnOnce() -> C + Send + 'static,
    {
        let cache = self.clone();
        acm(move |slot: Slot<CacheValue<T>>| async move {
            let run: RunContext<T, E> = Box::new(move |slot| Box::pin(make().run(slot)));
            let (mut user, value) = cache.enter(key, run).await?;
            let block = CancelScope::new();
            user.block = Some(user.generation.add_block(&block));
            let _ended = block.run(slot.provide(value)).await;
            match user.leave().await {
                Some(trouble) => Err(trouble.into_failure()),
                None => Ok(()),
            }
        })
    }

    /// Joins the key's generation or begins one, and waits until it is open.
    async fn enter(
        &self,
        key: K,
        run: RunContext<T, E>,
    ) -> Result<(User<K, T, E>, CacheValue<T>), Failure<E>> {
        let mut run = Some(run);
        loop {
            let user = match self.join(&key, &mut run) {
                Join::Joined(user) => user,
                Join::Wait(generation) => {
                    generation.wait_over().await;
                    continue;
                }
                Join::Closed => return Err(closed()),
            };
            match user.generation.wait_open(user.opener).await {
                Opened::Value { value, cache_hit } => {
                    return Ok((user, CacheValue { value, cache_hit }));
                }
                Opened::Failed(trouble) => {
                    drop(user);
                    return Err(trouble.into_failure());
                }
                // The opener's make is used up; but then it was the opener's to hear of it.
                Opened::Again if run.is_some() => drop(user),
                Opened::Again | Opened::Closed => return Err(closed()),
            }
        }
    }

    fn join(&self, key: &K, run: &mut Option<RunContext<T, E>>) -> Join<K, T, E> {
        // Cloned before the lock is taken: a key's `Clone` is the user's.
        let (for_map, for_request) = (key.clone(), key.clone());
        let generation = Generation::new();
        self.shared.change(|state| {
            if state.closed {
                return Join::Closed;
            }
            if let Some(known) = state.generations.get(key) {
                let known = Arc::clone(known);
                return if known.try_join() {
                    Join::Joined(User::new(self.clone(), known, false))
                } else {
                    Join::Wait(known)
                };
            }
            let Some(run) = run.take() else {
                return Join::Closed;
            };
            state.generations.insert(for_map, Arc::clone(&generation));
            state.requests.push_back(Request {
                key: for_request,
                generation: Arc::clone(&generation),
                run,
            });
            Join::Joined(User::new(self.clone(), generation, true))
        })
    }
}

fn closed<E>() -> Failure<E> {
    Failure::library(LibraryFailure::Closed {
        what: "the cache".into(),
    })
}

/// What came of asking for a key.
enum Join<K, T, E> {
    Joined(User<K, T, E>),
    /// It is being torn down.
    Wait(Arc<Generation<T, E>>),
    Closed,
}

/// A user of a generation, who leaves when dropped.
struct User<K, T, E> {
    cache: ContextCache<K, T, E>,
    generation: Arc<Generation<T, E>>,
    opener: bool,
    /// Its block's place among those that are cancelled if the service goes.
    block: Option<u64>,
    here: bool,
    listens: bool,
}

impl<K, T, E> User<K, T, E> {
    fn new(cache: ContextCache<K, T, E>, generation: Arc<Generation<T, E>>, opener: bool) -> Self {
        Self {
            cache,
            generation,
            opener,
            block: None,
            here: true,
            listens: false,
        }
    }

    /// Leaves; the last user waits for the exit and hears of its failure.
    async fn leave(mut self) -> Option<Trouble<E>> {
        self.remove_block();
        self.here = false;
        self.listens = self.generation.leave(self.opener, true).last;
        if !self.listens {
            return None;
        }
        self.generation.wait_over().await;
        self.listens = false;
        self.generation.take_trouble()
    }

    fn remove_block(&mut self) {
        if let Some(id) = self.block.take() {
            self.generation.remove_block(id);
        }
    }
}

impl<K, T, E> Drop for User<K, T, E> {
    fn drop(&mut self) {
        self.remove_block();
        let unheard = if self.here {
            self.generation.leave(self.opener, false).unheard
        } else if self.listens {
            self.generation.take_trouble()
        } else {
            None
        };
        // What it waited for, or would have been told, is the service's now.
        if let Some(trouble) = unheard {
            self.cache
                .shared
                .change(|state| state.unheard.push(trouble));
        }
    }
}

impl<K, T, E> Clone for ContextCache<K, T, E> {
    fn clone(&self) -> Self {
        self.shared.n_handles.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K, T, E> Drop for ContextCache<K, T, E> {
    fn drop(&mut self) {
        if self.shared.n_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }
}

impl<K, T, E> Default for ContextCache<K, T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T, E> fmt::Debug for ContextCache<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_keys, closed) = {
            let state = self.shared.lock();
            (state.generations.len(), state.closed)
        };
        f.debug_struct("ContextCache")
            .field("n_keys", &n_keys)
            .field("closed", &closed)
            .finish()
    }
}

/// The shared value, in the hands of one user.
///
/// It dereferences to the value. A value that is moved out of the block, by a clone for instance, may
/// outlive the resource: that is the user's decision.
pub struct CacheValue<T> {
    value: Arc<T>,
    cache_hit: bool,
}

impl<T> CacheValue<T> {
    /// Whether the resource was there already: true for all but exactly one user of each set-up.
    #[must_use]
    pub fn cache_hit(&self) -> bool {
        self.cache_hit
    }

    /// The value, cloned if others share it.
    #[must_use]
    pub fn into_inner(self) -> T
    where
        T: Clone,
    {
        Arc::unwrap_or_clone(self.value)
    }
}

impl<T> Deref for CacheValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for CacheValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheValue")
            .field("value", &self.value)
            .field("cache_hit", &self.cache_hit)
            .finish()
    }
}

/// Opens `key` of `cache` for as long as `body` runs: the resource is shared with everybody who has it
/// open, and torn down when the last of them leaves.
///
/// `make_context` is called only if the key is not alive.
///
/// # Errors
///
/// The body's failure; the failure of the set-up, for the opener; the failure of the exit, for the last
/// user; both in a group if the last user's body had failed, too. Otherwise as [`ContextCache::open`].
///
/// # Panics
///
/// As [`ContextCache::open`].
///
/// # Cancel safety
///
/// As [`ContextCache::open`]; dropped from outside, the user leaves at once and does not wait for the
/// exit, which the service runs.
///
/// # Examples
///
/// See [`ContextCache`].
#[track_caller]
pub fn maybe_open_context<K, T, E, C, M, R, F, Fut>(
    cache: &ContextCache<K, T, E>,
    key: K,
    make_context: M,
    body: F,
) -> impl Future<Output = Result<R, Failure<E>>> + use<K, T, E, C, M, R, F, Fut>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    C: AsyncContext<Value = T, Error = E>,
    C::Run: Send + 'static,
    M: FnOnce() -> C + Send + 'static,
    F: FnOnce(bool, CacheValue<T>) -> Fut,
    Fut: Future<Output = Result<R, Failure<E>>>,
{
    with_context(cache.open(key, make_context), move |value| {
        body(value.cache_hit(), value)
    })
}
