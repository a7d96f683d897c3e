//! How a cache is to behave.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use trionics_errgroup::{AnyError, Failure};

use crate::{cache::ContextCache, hash::FastHash};

/// What an open of a further key does when a cache holds as many resources as it may.
///
/// A resource in use is never thrown out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// It fails with [`LibraryFailure::Full`](trionics_errgroup::LibraryFailure::Full).
    #[default]
    Refuse,
    /// The resource that has been idle for longest is torn down to make room; if none is idle, the open
    /// waits as under [`Wait`](Self::Wait).
    EvictIdle,
    /// It waits, in order, until a resource has been torn down. A set-up that opens keys of its own cache
    /// can wait for itself in this way.
    Wait,
}

type KeepAlive<K> = Arc<dyn Fn(&K) -> Duration + Send + Sync>;
pub(crate) type CopyFailure<E> = fn(&Failure<E>) -> Failure<E>;
type Handler<E> = Arc<dyn Fn(Failure<E>) + Send + Sync>;

/// How a [`ContextCache`] behaves; made by [`ContextCache::options`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_cache::{ContextCache, WhenFull};
///
/// let cache: ContextCache<String, u32> = ContextCache::options()
///     .name("connections")
///     .keep_alive(Duration::from_secs(30))
///     .capacity(100, WhenFull::EvictIdle)
///     .build();
/// assert!(cache.is_empty());
/// ```
#[must_use = "options do nothing until `build` is called"]
pub struct CacheOptions<K, T, E = AnyError, S = FastHash> {
    pub(crate) hasher: S,
    pub(crate) settings: Settings<K, E>,
    value: PhantomData<fn() -> T>,
}

/// What the machinery needs to know.
pub(crate) struct Settings<K, E> {
    pub(crate) name: Option<Arc<str>>,
    /// Writes keys in messages.
    pub(crate) describe: fn(&K) -> String,
    pub(crate) keep_alive: Option<KeepAlive<K>>,
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    /// Copies the failure of a set-up for all who waited; `None`: the next one tries.
    pub(crate) share_failure: Option<CopyFailure<E>>,
    pub(crate) restarts: bool,
    pub(crate) handler: Option<Handler<E>>,
    pub(crate) lease_grace: Option<Duration>,
}

impl<K, T, E> CacheOptions<K, T, E> {
    pub(crate) fn new(describe: fn(&K) -> String) -> Self {
        Self {
            hasher: FastHash::default(),
            settings: Settings {
                name: None,
                describe,
                keep_alive: None,
                capacity: usize::MAX,
                when_full: WhenFull::default(),
                share_failure: None,
                restarts: false,
                handler: None,
                lease_grace: None,
            },
            value: PhantomData,
        }
    }
}

impl<K, T, E, S> CacheOptions<K, T, E, S> {
    /// Names the cache, for messages and task trees.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Keeps each resource for `period` after its last user has left; opened again within it, it is a
    /// hit. Needs a [clock](trionics_nursery::Clock) around the service.
    ///
    /// The period begins when the service sees that the resource is idle, and anew each time.
    /// `Duration::MAX` keeps it until the cache closes or needs the room.
    pub fn keep_alive(self, period: Duration) -> Self {
        self.keep_alive_by(move |_key| period)
    }

    /// As [`keep_alive`](Self::keep_alive), with a period for each key.
    ///
    /// `period` is called once for each key that comes alive, by who opens it.
    pub fn keep_alive_by(
        mut self,
        period: impl Fn(&K) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.settings.keep_alive = Some(Arc::new(period));
        self
    }

    /// Holds at most `n_resources`: those being set up, in use, idle, or being torn down.
    ///
    /// # Panics
    ///
    /// If `n_resources` is zero: such a cache could open nothing.
    #[track_caller]
    pub fn capacity(mut self, n_resources: usize, when_full: WhenFull) -> Self {
        assert!(
            n_resources > 0,
            "a cache with a capacity of 0 can open nothing: give it room for one resource at least"
        );
        self.settings.capacity = n_resources;
        self.settings.when_full = when_full;
        self
    }

    /// Gives the failure of a set-up to all who waited for it; without this the next in the queue tries.
    ///
    /// A panic cannot be copied: it goes to the opener, and the next one tries. Who [only looks](ContextCache::peek) gets
    /// no copy. A copy that its user does not stay to hear is dropped: the failure itself is the opener's.
    pub fn share_failures(mut self) -> Self
    where
        E: Clone,
    {
        self.settings.share_failure = Some(Failure::clone);
        self
    }

    /// Begins a set-up anew, with the next one's context, when its opener goes; without this it goes on
    /// for those who wait.
    pub fn restart_without_opener(mut self) -> Self {
        self.settings.restarts = true;
        self
    }

    /// Gives failures that no user stayed to hear of to `handler`; without one they end the service.
    ///
    /// It is called by the service. A panic of it is the service's, as is a panic that no user stayed to hear of.
    pub fn on_unheard_failure(
        mut self,
        handler: impl Fn(Failure<E>) + Send + Sync + 'static,
    ) -> Self {
        self.settings.handler = Some(Arc::new(handler));
        self
    }

    /// When the service is cancelled, lets exits wait for leases no longer than this: then the exit runs
    /// although the value is still held. Blocks are cancelled, and waited for as long as they unwind. Without it an exit
    /// waits until its last lease is gone, or the [exit grace](trionics_nursery::CancelScope::set_exit_grace) of the
    /// scope around is over.
    pub fn lease_grace(mut self, period: Duration) -> Self {
        self.settings.lease_grace = Some(period);
        self
    }

    /// Hashes keys with `hasher`.
    pub fn hasher<H>(self, hasher: H) -> CacheOptions<K, T, E, H> {
        CacheOptions {
            hasher,
            settings: self.settings,
            value: PhantomData,
        }
    }

    /// Makes the cache.
    #[must_use]
    pub fn build(self) -> ContextCache<K, T, E, S> {
        ContextCache::with_settings(self.hasher, self.settings)
    }
}

impl<K, T, E, S> fmt::Debug for CacheOptions<K, T, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions")
            .field("name", &self.settings.name)
            .field("capacity", &self.settings.capacity)
            .field("when_full", &self.settings.when_full)
            .finish_non_exhaustive()
    }
}
