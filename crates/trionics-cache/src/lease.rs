//! The guard form: a use of a key that lasts until it is closed or dropped.

use std::{fmt, ops::Deref, sync::Arc};

use trionics_errgroup::{AnyError, Failure};
use trionics_nursery::{CancelScope, internal::shield_leaf};

use crate::{identity::Identity, tenure::Tenure, ticket::Outcome, waiting::Waiting};

/// A use of a key's resource, made by [`ContextCache::open`](crate::ContextCache::open).
///
/// It dereferences to the value. Dropping it leaves at once; if it was the last, the service tears the
/// resource down, and a failure of the exit is the service's. [`close`](Self::close) waits for that, and
/// hears of it.
///
/// Neither of them takes a lock, unless it is the last.
///
/// # Examples
///
/// ```
/// use trionics_cache::{ContextCache, LeaseEnd};
/// use trionics_errgroup::Failure;
/// use trionics_gather::{Slot, acm};
/// use trionics_nursery::{Nursery, open_nursery};
///
/// async fn connect(slot: Slot<&'static str>) -> Result<(), Failure> {
///     slot.provide("connected").await;
///     Ok(()) // say goodbye here
/// }
///
/// # futures::executor::block_on(async {
/// let cache: ContextCache<u8, &str> = ContextCache::new();
/// open_nursery(async |n: Nursery<'_>| {
///     n.start_soon(cache.serve());
///     let first = cache.open(1, || acm(connect)).await?;
///     let second = cache.open(1, || acm(connect)).await?;
///     assert_eq!((*first, first.cache_hit()), ("connected", false));
///     assert_eq!((*second, second.cache_hit()), ("connected", true));
///     assert_eq!(first.close().await?, LeaseEnd::StillUsed { users: 1 });
///     assert_eq!(second.close().await?, LeaseEnd::TornDown);
///     cache.close();
///     Ok(())
/// })
/// .await
/// .unwrap();
/// # });
/// ```
#[must_use = "the resource is left when the lease is dropped"]
pub struct Lease<K, T, E = AnyError> {
    tenure: Arc<Tenure<K, T, E>>,
    cache_hit: bool,
}

/// What leaving a resource came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// Others use it.
    StillUsed {
        /// How many, at about that time; one at least.
        users: usize,
    },
    /// Nobody uses it; it is kept for a while.
    KeptIdle,
    /// This was the last use, and the exit is over.
    TornDown,
}

impl<K, T, E> Lease<K, T, E> {
    #[inline]
    pub(crate) fn new(tenure: Arc<Tenure<K, T, E>>, cache_hit: bool) -> Self {
        Self { tenure, cache_hit }
    }

    pub(crate) fn tenure(&self) -> &Arc<Tenure<K, T, E>> {
        &self.tenure
    }

    /// Whether the resource was there already: true for all but exactly one lease of each generation.
    #[inline]
    #[must_use]
    pub fn cache_hit(&self) -> bool {
        self.cache_hit
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.tenure.identity().key
    }

    /// The number of this life of the resource. No two generations of a cache have the same.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.tenure.identity().generation()
    }

    /// How many use this generation now, this lease included.
    #[must_use]
    pub fn users(&self) -> usize {
        Arc::strong_count(&self.tenure)
    }

    /// Whether the resource wants to end, because its service was cancelled or it has failed: the exit
    /// waits for this lease, which should be dropped soon.
    ///
    /// Once the [grace for leases](crate::CacheOptions::lease_grace) is over, the exit runs all the same; but not before
    /// the blocks that use the resource have unwound.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        let identity = self.tenure.identity();
        identity.is_detached(identity.generation())
    }

    /// Leaves; the last one waits until the resource is torn down.
    ///
    /// # Errors
    ///
    /// The failure of the exit, if this was the last use.
    ///
    /// # Panics
    ///
    /// A panic of the exit is resumed here.
    ///
    /// # Cancel safety
    ///
    /// The wait is shielded: a cancellation does not cut it short. If the future is dropped, the lease
    /// has left, the service runs the exit, and its failure is the service's.
    pub async fn close(self) -> Result<LeaseEnd, Failure<E>> {
        let users = self.users() - 1;
        let Some(tenure) = Arc::into_inner(self.tenure) else {
            return Ok(LeaseEnd::StillUsed {
                users: users.max(1),
            });
        };
        let (value, identity) = tenure.end();
        let core = &*identity.core;
        let (end, waiting) = Waiting::leaving(core, |listener| {
            core.last_left(&identity, value, Some(listener))
        });
        let Some(waiting) = waiting else {
            return Ok(end);
        };
        match shield_leaf(waiting).await {
            Outcome::Over(Some(trouble)) => Err(trouble.into_failure()),
            _ => Ok(end),
        }
    }

    /// Has `block` cancelled when the resource wants to end, until what is returned is dropped.
    pub(crate) fn follow(&self, block: &CancelScope) -> Followed<K, T, E> {
        let identity = Arc::clone(self.tenure.identity());
        let generation = identity.generation();
        let id = identity.core.add_block(identity.place(), generation, block);
        Followed {
            identity,
            generation,
            id,
        }
    }
}

/// A block that is cancelled when the resource it uses wants to end.
pub(crate) struct Followed<K, T, E> {
    identity: Arc<Identity<K, T, E>>,
    generation: u64,
    id: Option<usize>,
}

impl<K, T, E> Drop for Followed<K, T, E> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let place = self.identity.place();
            self.identity.core.remove_block(place, self.generation, id);
        }
    }
}

impl<K, T, E> Deref for Lease<K, T, E> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.tenure.value()
    }
}

impl<K: fmt::Debug, T: fmt::Debug, E> fmt::Debug for Lease<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", self.key())
            .field("value", &**self)
            .field("cache_hit", &self.cache_hit)
            .field("generation", &self.generation())
            .finish()
    }
}
