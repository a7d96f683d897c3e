//! A key whose way through the map is remembered.

use std::{
    fmt,
    future::poll_fn,
    hash::{BuildHasher, Hash},
    mem,
    sync::{Arc, Weak},
};

use trionics_errgroup::{AnyError, Failure};
use trionics_gather::AsyncContext;

use crate::{
    asking::Asking,
    cache::{ContextCache, boxed},
    hash::FastHash,
    identity::{Identity, n_superseded},
    index::SeenAt,
    lease::Lease,
    tenure::Tenure,
};

/// One key of a cache, for one task that opens it again and again: as long as others or itself keep the
/// resource in use, opening takes neither a lock nor a look at the map.
///
/// Made by [`ContextCache::slot`]. It holds no resource open. It counts as a handle to the cache, and keeps
/// the memory of the generation it saw last (not its value) until it sees another or is dropped.
pub struct KeySlot<K, T, E = AnyError, S = FastHash> {
    seen: Weak<Tenure<K, T, E>>,
    /// What [`n_superseded`] said when the key was seen to lead there.
    n_superseded: u64,
    /// Hits that the cache has yet to be told of.
    n_hits: u64,
    /// What a hit needs not look at.
    way: Box<Way<K, T, E, S>>,
}

/// The way of a slot through the map.
struct Way<K, T, E, S> {
    cache: ContextCache<K, T, E, S>,
    key: K,
    hash: u64,
    /// The generation that was seen last.
    generation: Option<Seen<K, T, E>>,
}

/// A generation of a key's life.
type Seen<K, T, E> = (Arc<Identity<K, T, E>>, u64);

impl<K, T, E, S> Way<K, T, E, S> {
    /// The key still leads to what was seen last.
    fn is_good(&self) -> bool {
        match &self.generation {
            Some((identity, generation)) => !identity.is_superseded(*generation),
            None => false,
        }
    }
}

impl<K, T, E, S> KeySlot<K, T, E, S> {
    pub(crate) fn new(cache: ContextCache<K, T, E, S>, key: K, hash: u64) -> Self {
        let way = Way {
            cache,
            key,
            hash,
            generation: None,
        };
        Self {
            seen: Weak::new(),
            n_superseded: 0,
            n_hits: 0,
            way: Box::new(way),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.way.key
    }

    fn see(&mut self, tenure: &Arc<Tenure<K, T, E>>) {
        let identity = tenure.identity();
        self.seen = Arc::downgrade(tenure);
        self.way.generation = Some((Arc::clone(identity), identity.generation()));
        // Before the next hit, the generation is looked at.
        self.n_superseded = n_superseded().wrapping_sub(1);
    }

    fn tell_hits(&mut self) {
        let n_hits = mem::take(&mut self.n_hits);
        if n_hits > 0 {
            self.way.cache.core().add_hits(n_hits);
        }
    }

    /// A lease, if the key still leads to what was seen last; one that is not wanted must not be taken, not
    /// even for a moment.
    #[inline]
    fn hit(&mut self) -> Option<Lease<K, T, E>> {
        let known = n_superseded();
        if known != self.n_superseded {
            self.confirm(known)?;
        }
        let tenure = self.seen.upgrade()?;
        self.n_hits += 1;
        Some(Lease::new(tenure, true))
    }

    /// Some keys have ceased to lead where they led: was it this one?
    #[cold]
    fn confirm(&mut self, n_superseded: u64) -> Option<()> {
        if !self.way.is_good() {
            return None;
        }
        self.n_superseded = n_superseded;
        Some(())
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
        let way = &*self.way;
        let tenure = way.cache.core().index.hit(way.hash, &way.key)?;
        self.see(&tenure);
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
        let way = &*self.way;
        let mut asking = Asking::new(
            way.cache.core(),
            (way.hash, SeenAt::NOWHERE),
            way.key.clone(),
            boxed(make),
        );
        let lease = poll_fn(|cx| asking.poll(cx)).await?;
        drop(asking);
        self.see(lease.tenure());
        Ok(lease)
    }
}

impl<K: Clone, T, E, S: Clone> Clone for KeySlot<K, T, E, S> {
    fn clone(&self) -> Self {
        let way = &*self.way;
        let mut slot = Self::new(way.cache.clone(), way.key.clone(), way.hash);
        slot.seen = Weak::clone(&self.seen);
        slot.n_superseded = self.n_superseded;
        slot.way.generation = way.generation.clone();
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
            .field("key", self.key())
            .finish_non_exhaustive()
    }
}
