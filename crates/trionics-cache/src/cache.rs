//! The cache as its users see it.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    sync::Arc,
    time::Duration,
};

use hashbrown::Equivalent;
use trionics_errgroup::{AnyError, Failure, LibraryFailure};
use trionics_gather::AsyncContext;
use trionics_nursery::internal::current_tag;

use crate::{
    core::{Core, Entered, Newcomer, RunContext, Seeker},
    hash::FastHash,
    identity::Identity,
    index::SeenAt,
    lease::Lease,
    open::Open,
    options::{CacheOptions, Settings},
    slot::KeySlot,
    statistics::Statistics,
    ticket::Outcome,
    waiting::Waiting,
};

/// Shares one resource per key: the first user sets it up, later ones share it, and when the last one
/// leaves it is torn down before that user goes on.
///
/// The resources live in the [service](Self::serve), which runs as a child of a nursery of yours, and
/// not in any user: whoever opened a resource may leave first. A clone is a handle to the same cache.
/// When the last handle is dropped, the cache closes by itself.
///
/// `K` is compared under the cache's lock: its `Eq` must not use the cache. `Hash`, `Clone`, `Debug` and
/// `Drop` run outside. A panic of any of them leaves nothing locked; that of a `Drop` in the service is the service's.
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
pub struct ContextCache<K, T, E = AnyError, S = FastHash> {
    core: Arc<Core<K, T, E>>,
    hasher: S,
}

impl<K: fmt::Debug, T, E> ContextCache<K, T, E> {
    /// Makes an empty cache, with the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::options().build()
    }

    /// Options for a cache that is to keep idle resources, have a capacity, and the like.
    ///
    /// Keys are written in messages by their `Debug`.
    pub fn options() -> CacheOptions<K, T, E> {
        Self::options_describing(|key| format!("{key:?}"))
    }
}

impl<K, T, E> ContextCache<K, T, E> {
    /// As [`options`](Self::options), for keys that have no `Debug`, or one that tells too much: `describe`
    /// writes them in messages.
    pub fn options_describing(describe: fn(&K) -> String) -> CacheOptions<K, T, E> {
        CacheOptions::new(describe)
    }
}

impl<K, T, E, S> ContextCache<K, T, E, S> {
    pub(crate) fn with_settings(hasher: S, settings: Settings<K, E>) -> Self {
        Self {
            core: Core::new(settings),
            hasher,
        }
    }

    #[inline]
    pub(crate) fn hash_one(&self, key: &K) -> u64
    where
        K: Hash,
        S: BuildHasher,
    {
        self.hasher.hash_one(key)
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core<K, T, E>> {
        &self.core
    }

    /// Refuses further opens, and tears idle resources down. Users that are there stay; the service ends
    /// when the last of them has left and its resource is torn down.
    pub fn close(&self) {
        self.core.close();
    }

    /// Whether the cache refuses further opens: it was closed, or its service has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// How many resources are alive: being set up, in use, idle, or being torn down.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Whether no resource is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the cache has done so far, and what it holds. Takes time in proportion to the keys.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    /// The keys that are alive, in no particular order; none once the cache is closed.
    #[must_use]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let identities = self.core.identities();
        identities
            .into_iter()
            .map(|identity| identity.key.clone())
            .collect()
    }
}

impl<K, T, E, S> ContextCache<K, T, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    S: BuildHasher,
{
    /// Opens `key`: a lease of the resource, which is left when the lease is closed or dropped.
    ///
    /// If the key is alive the resource is shared, and `make` is dropped. If it is being torn down, the
    /// open waits in order for that and then sets it up anew. If not, the service calls `make` and runs
    /// the context it returns.
    ///
    /// # Errors
    ///
    /// The opener gets the failure of the set-up; others who waited for it try themselves, unless failures
    /// are [shared](CacheOptions::share_failures). A set-up or exit that opens a key which waits for it is
    /// told so by [`LibraryFailure::Cycle`]. A closed cache, or one whose service has ended, refuses with
    /// [`LibraryFailure::Closed`]; one that has no [room](CacheOptions::capacity) with
    /// [`LibraryFailure::Full`].
    ///
    /// # Panics
    ///
    /// A panic of the set-up is resumed in the opener.
    ///
    /// # Cancel safety
    ///
    /// Who is cancelled or dropped while waiting gives up its place in the queue; the set-up goes on for
    /// those who wait, and the next one is the opener. If nobody else waits, it is cancelled and unwound.
    /// Who is being cancelled when the cache is closed is stopped, not refused.
    ///
    /// # Examples
    ///
    /// See [`Lease`].
    #[inline]
    #[track_caller]
    pub fn open<C, M>(&self, key: K, make: M) -> Open<'_, K, T, M, E, S>
    where
        C: AsyncContext<Value = T, Error = E>,
        C::Run: Send + 'static,
        M: FnOnce() -> C + Send + 'static,
    {
        Open::new(self, key, make)
    }

    /// Makes a new resource for `key`, and leaves the old one only when the new one is there: present
    /// users keep the old one until they leave, who opens from then on shares the new one.
    ///
    /// If the set-up fails, or the new resource ends by itself before it is handed over, the old one stays. Where two
    /// refresh a key at once, the one that is done last stays. The new resource needs room beside the old one: in a full
    /// cache that [evicts idle ones](crate::WhenFull::EvictIdle), an idle old one can be what makes room.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Panics
    ///
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// Dropped or cancelled while waiting, it changes nothing; the set-up is cancelled and unwound.
    pub async fn refresh<C, M>(&self, key: K, make: M) -> Result<Lease<K, T, E>, Failure<E>>
    where
        C: AsyncContext<Value = T, Error = E>,
        C::Run: Send + 'static,
        M: FnOnce() -> C + Send + 'static,
    {
        let hash = self.hasher.hash_one(&key);
        let newcomer = self.core.newcomer(key.clone());
        let inside = current_tag();
        let entered = self
            .core
            .enter_apart(hash, newcomer, boxed(make), inside.as_ref());
        let lease = match self.core.outcome(entered).await? {
            Outcome::Lease(tenure, hit) => Lease::new(tenure, hit),
            Outcome::Failed(trouble) => return Err(trouble.into_failure()),
            _ => return Err(self.core.closed()),
        };
        if self.core.promote(key, hash, lease.tenure()) {
            Ok(lease)
        } else {
            Err(self.core.closed())
        }
    }

    /// A lease of the key's value, if it is alive; waits for it if it is being set up.
    ///
    /// Opens nothing: it gives `None` if the key is not alive, is being torn down, or does not come to
    /// life, if it waits for a set-up or exit that the caller belongs to, and if the cache is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub async fn peek(&self, key: &K) -> Option<Lease<K, T, E>> {
        let hash = self.hasher.hash_one(key);
        if let Some(tenure) = self.core.index.hit(hash, key) {
            return Some(Lease::new(tenure, true));
        }
        let inside = current_tag();
        let entered = self.core.enter(
            hash,
            key,
            SeenAt::NOWHERE,
            &mut None,
            &mut Seeker::looking(inside.as_ref()),
        );
        if let Entered::Absent = entered {
            return None;
        }
        match self.core.outcome(entered).await {
            Ok(Outcome::Lease(tenure, hit)) => Some(Lease::new(tenure, hit)),
            Ok(Outcome::Failed(trouble)) => {
                // Who opened it has gone: the service is told in its place.
                self.core.put_back(trouble);
                None
            }
            _ => None,
        }
    }

    /// A lease of the key's value, if it is in use at this moment.
    ///
    /// The quickest way to a value that somebody else keeps open. The key may be borrowed: a `&str` for
    /// `String` keys, hashed by the same hasher.
    #[inline]
    pub fn try_peek<Q>(&self, key: &Q) -> Option<Lease<K, T, E>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let tenure = self.core.index.hit(self.hasher.hash_one(key), key)?;
        Some(Lease::new(tenure, true))
    }

    /// A way to `key` that remembers its resource: see [`KeySlot`].
    #[must_use]
    pub fn slot(&self, key: K) -> KeySlot<K, T, E, S>
    where
        S: Clone,
    {
        let hash = self.hasher.hash_one(&key);
        KeySlot::new(self.clone(), key, hash)
    }

    /// Whether the key is alive: being set up, in use, idle, or being torn down. A resource that was given up is its users'
    /// only, and not the key's any more; all are, once the cache is closed.
    #[must_use]
    pub fn has(&self, key: &K) -> bool {
        let hash = self.hasher.hash_one(key);
        self.core.index.place(hash, key).is_some()
    }

    /// How many use the key's value; none that was given up, nor of a closed cache.
    #[must_use]
    pub fn users(&self, key: &K) -> usize {
        self.core.users(self.hasher.hash_one(key), key)
    }

    /// Gives up the key's resource: present users keep it until they leave, an idle one is torn down, and
    /// the next open makes a new one, beside the old one if that is still used.
    ///
    /// Who waits for its set-up still gets it. Returns false if there was nothing to give up.
    pub fn invalidate(&self, key: &K) -> bool {
        self.core.invalidate(self.hasher.hash_one(key), key)
    }

    /// Begins the key's idle time anew, without opening it; returns false if it is neither in use nor
    /// idle.
    pub fn touch(&self, key: &K) -> bool {
        self.core.touch(self.hasher.hash_one(key), key)
    }
}

/// The context, made and run when its turn comes.
pub(crate) fn boxed<C, M>(make: M) -> RunContext<C::Value, C::Error>
where
    C: AsyncContext,
    C::Run: Send + 'static,
    M: FnOnce() -> C + Send + 'static,
{
    Box::new(move |slot| Box::pin(make().run(slot)))
}

impl<K, T, E> Core<K, T, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(crate) fn newcomer(self: &Arc<Self>, key: K) -> Newcomer<K, T, E> {
        let keep_alive = match &self.settings.keep_alive {
            Some(keep_alive) => keep_alive(&key),
            None => Duration::ZERO,
        };
        Newcomer {
            identity: Identity::new(Arc::clone(self), key.clone()),
            key,
            keep_alive,
        }
    }

    async fn outcome(&self, entered: Entered<K, T, E>) -> Result<Outcome<K, T, E>, Failure<E>> {
        match entered {
            Entered::Wait(ticket) => Ok(Waiting::new(self, ticket).await),
            entered => self.at_once(entered),
        }
    }

    /// The outcome for who need not wait.
    pub(crate) fn at_once(
        &self,
        entered: Entered<K, T, E>,
    ) -> Result<Outcome<K, T, E>, Failure<E>> {
        Ok(match entered {
            Entered::Lease(tenure) => Outcome::Lease(tenure, true),
            Entered::Absent => Outcome::Absent,
            Entered::Closed => Outcome::Closed,
            Entered::Full => {
                return Err(Failure::library(LibraryFailure::Full { what: self.what() }));
            }
            Entered::Cycle(cycle) => return Err(cycle.into_failure()),
            Entered::Wait(_) => unreachable!("it has a ticket"),
        })
    }

    fn what(&self) -> std::borrow::Cow<'static, str> {
        match &self.settings.name {
            Some(name) => format!("the cache `{name}`").into(),
            None => "the cache".into(),
        }
    }

    pub(crate) fn closed(&self) -> Failure<E> {
        Failure::library(LibraryFailure::Closed { what: self.what() })
    }
}

impl<K, T, E, S: Clone> Clone for ContextCache<K, T, E, S> {
    fn clone(&self) -> Self {
        let hasher = self.hasher.clone();
        self.core.add_handle();
        Self {
            core: Arc::clone(&self.core),
            hasher,
        }
    }
}

impl<K, T, E, S> Drop for ContextCache<K, T, E, S> {
    fn drop(&mut self) {
        self.core.remove_handle();
    }
}

impl<K: fmt::Debug, T, E> Default for ContextCache<K, T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T, E, S> fmt::Debug for ContextCache<K, T, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextCache")
            .field("n_keys", &self.len())
            .field("closed", &self.is_closed())
            .finish()
    }
}
