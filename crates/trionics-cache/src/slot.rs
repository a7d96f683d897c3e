//! A key whose way through the map is remembered.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    mem,
    sync::{Arc, Weak},
};

use trionics_errgroup::{AnyError, Failure};
use trionics_gather::AsyncContext;

use crate::{
    cache::{ContextCache, boxed},
    hash::FastHash,
    identity::Identity,
    lease::Lease,
    tenure::Tenure,
};

/// One key of a cache, for one task that opens it again and again: as long as others or itself keep the
/// resource in use, opening takes neither a lock nor a look at the map.
///
/// Made by [`ContextCache::slot`]. It holds no resource open. It counts as a handle to the cache, and keeps
/// the memory of the generation it saw last (not its value) until it sees another or is dropped.
pub struct KeySlot<K, T, E = AnyError, S = FastHash> {
    cache: ContextCache<K, T, E, S>,
    key: K,
    hash: u64,
    seen: Option<Seen<K, T, E>>,
    /// Hits that the cache has yet to be told of.
    n_hits: u64,
}

/// The generation that a slot saw last.
struct Seen<K, T, E> {
    tenure: Weak<Tenure<K, T, E>>,
    identity: Arc<Identity<K>>,
    generation: u64,
}

impl<K, T, E> Seen<K, T, E> {
    fn new(tenure: &Arc<Tenure<K, T, E>>) -> Self {
        Self {
            tenure: Arc::downgrade(tenure),
            identity: Arc::clone(&tenure.identity),
            generation: tenure.generation,
        }
    }

    /// A share, if the key still leads there; one that is not wanted must not be taken, not even for a
    /// moment.
    #[inline]
    fn join(&self) -> Option<Arc<Tenure<K, T, E>>> {
        if self.identity.is_superseded(self.generation) {
            return None;
        }
        self.tenure.upgrade()
    }
}

impl<K, T, E> Clone for Seen<K, T, E> {
    fn clone(&self) -> Self {
        Self {
            tenure: Weak::clone(&self.tenure),
            identity: Arc::clone(&self.identity),
            generation: self.generation,
        }
    }
}

impl<K, T, E, S> KeySlot<K, T, E, S> {
    pub(crate) fn new(cache: ContextCache<K, T, E, S>, key: K, hash: u64) -> Self {
        Self {
            cache,
            key,
            hash,
            seen: None,
            n_hits: 0,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }

    fn tell_hits(&mut self) {
        let n_hits = mem::take(&mut self.n_hits);
        if n_hits > 0 {
            self.cache.core().add_hits(n_hits);
        }
    }

    #[inline]
    fn hit(&mut self) -> Option<Lease<K, T, E>> {
        let tenure = self.seen.as_ref()?.join()?;
        self.n_hits += 1;
        Some(Lease::new(tenure, true))
    }
}

impl<K, T, E, S> KeySlot<K, T, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    S: BuildHasher,
{
    /// A lease of the key's value, if it is in use: as [`ContextCache::try_peek`].
    #[inline]
    pub fn try_peek(&mut self) -> Option<Lease<K, T, E>> {
        if let Some(lease) = self.hit() {
            return Some(lease);
        }
        self.tell_hits();
        let tenure = self.cache.core().index.hit(self.hash, &self.key)?;
        self.seen = Some(Seen::new(&tenure));
        Some(Lease::new(tenure, true))
    }

    /// Opens the key: as [`ContextCache::open`].
    ///
    /// # Errors
    ///
    /// As [`ContextCache::open`].
    ///
    /// # Panics
    ///
    /// As [`ContextCache::open`].
    ///
    /// # Cancel safety
    ///
    /// As [`ContextCache::open`].
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_cache::ContextCache;
    /// use trionics_errgroup::Failure;
    /// use trionics_gather::{Slot, acm};
    /// use trionics_nursery::{Nursery, open_nursery};
    ///
    /// async fn connect(slot: Slot<u32>) -> Result<(), Failure> {
    ///     slot.provide(7).await;
    ///     Ok(())
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let cache: ContextCache<String, u32> = ContextCache::new();
    /// open_nursery(async |n: Nursery<'_>| {
    ///     n.start_soon(cache.serve());
    ///     let mut slot = cache.slot("db".to_owned());
    ///     let first = slot.open(|| acm(connect)).await?;
    ///     let again = slot.open(|| acm(connect)).await?;
    ///     assert_eq!((*first, again.cache_hit()), (7, true));
    ///     cache.close();
    ///     Ok(())
    /// })
    /// .await
    /// .unwrap();
    /// # });
    /// ```
    pub async fn open<C, M>(&mut self, make: M) -> Result<Lease<K, T, E>, Failure<E>>
    where
        C: AsyncContext<Value = T, Error = E>,
        C::Run: Send + 'static,
        M: FnOnce() -> C + Send + 'static,
    {
        if let Some(lease) = self.try_peek() {
            return Ok(lease);
        }
        let core = self.cache.core();
        // Boxed, so that a hit does not carry it along.
        let opening = Box::pin(core.open(self.hash, self.key.clone(), boxed(make)));
        let lease = opening.await?;
        self.seen = Some(Seen::new(lease.tenure()));
        Ok(lease)
    }
}

impl<K: Clone, T, E, S: Clone> Clone for KeySlot<K, T, E, S> {
    fn clone(&self) -> Self {
        let mut slot = Self::new(self.cache.clone(), self.key.clone(), self.hash);
        slot.seen = self.seen.clone();
        slot
    }
}

impl<K, T, E, S> Drop for KeySlot<K, T, E, S> {
    fn drop(&mut self) {
        self.tell_hits();
    }
}

impl<K: fmt::Debug, T, E, S> fmt::Debug for KeySlot<K, T, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySlot")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
