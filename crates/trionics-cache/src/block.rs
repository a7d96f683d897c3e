//! The closure form: a block that uses a key.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    ops::Deref,
    sync::Arc,
};

use trionics_errgroup::{AnyError, Failure};
use trionics_gather::{AsyncContext, Slot, acm, with_context};
use trionics_nursery::CancelScope;

use crate::{cache::ContextCache, lease::Lease};

/// Opens `key` of `cache` for as long as `body` runs: the resource is shared with everybody who has it
/// open, and torn down when the last of them leaves, before that one goes on.
///
/// `make_context` is called, by the service, only if the key is not alive.
///
/// # Errors
///
/// The body's failure; the failure of the set-up, for the opener; the failure of the exit, for the last
/// user; both in a group if the last user's body had failed, too. Otherwise as [`ContextCache::open`].
///
/// # Panics
///
/// As [`ContextCache::open`]; a panic of the exit is resumed in the last user.
///
/// # Cancel safety
///
/// A user who is cancelled in its block leaves as if the block had ended, waiting for the exit if it is
/// the last. If the service is cancelled, the block is cancelled, and the exit waits for it. Dropped
/// from outside, the user leaves at once and does not wait for the exit, which the service runs.
///
/// # Examples
///
/// See [`ContextCache`].
#[track_caller]
pub fn maybe_open_context<K, T, E, S, C, M, R, F, Fut>(
    cache: &ContextCache<K, T, E, S>,
    key: K,
    make_context: M,
    body: F,
) -> impl Future<Output = Result<R, Failure<E>>> + use<K, T, E, S, C, M, R, F, Fut>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
    C: AsyncContext<Value = T, Error = E>,
    C::Run: Send + 'static,
    M: FnOnce() -> C + Send + 'static,
    F: FnOnce(bool, CacheValue<K, T, E>) -> Fut,
    Fut: Future<Output = Result<R, Failure<E>>>,
{
    with_context(cache.context(key, make_context), move |value| {
        body(value.cache_hit(), value)
    })
}

impl<K, T, E, S> ContextCache<K, T, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// A use of `key` as an async context: enter it with [`with_context`] or, several at once, with
    /// [`gather_contexts`](trionics_gather::gather_contexts).
    ///
    /// # Errors
    ///
    /// As [`maybe_open_context`], which is this and [`with_context`].
    ///
    /// # Cancel safety
    ///
    /// As [`maybe_open_context`].
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_cache::ContextCache;
    /// use trionics_errgroup::Failure;
    /// use trionics_gather::{Slot, acm, gather_contexts};
    /// use trionics_nursery::{Nursery, open_nursery};
    ///
    /// async fn connect(port: u16, slot: Slot<u16>) -> Result<(), Failure> {
    ///     slot.provide(port).await;
    ///     Ok(())
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let cache: ContextCache<u16, u16> = ContextCache::new();
    /// let sum = open_nursery(async |n: Nursery<'_>| {
    ///     n.start_soon(cache.serve());
    ///     let both = [80, 443].map(|port| cache.context(port, move || acm(move |slot| connect(port, slot))));
    ///     let sum = gather_contexts(both, async |[http, https]| Ok(*http + *https)).await?;
    ///     cache.close();
    ///     Ok(sum)
    /// })
    /// .await;
    /// assert_eq!(sum.unwrap(), 523);
    /// # });
    /// ```
    pub fn context<C, M>(
        &self,
        key: K,
        make: M,
    ) -> impl AsyncContext<Value = CacheValue<K, T, E>, Error = E, Run: Send> + use<C, M, K, T, E, S>
    where
        C: AsyncContext<Value = T, Error = E>,
        C::Run: Send + 'static,
        M: FnOnce() -> C + Send + 'static,
    {
        let cache = self.clone();
        acm(move |slot: Slot<CacheValue<K, T, E>>| async move {
            let lease = cache.open(key, make).await?;
            let block = CancelScope::new();
            let followed = lease.follow(&block);
            let lease = Arc::new(lease);
            let value = CacheValue {
                lease: Arc::clone(&lease),
            };
            let _ended = block.run(slot.provide(value)).await;
            // Who has taken the value out of the block uses it until it is dropped.
            let left = match Arc::into_inner(lease) {
                Some(lease) => lease.close().await.map(drop),
                None => Ok(()),
            };
            drop(followed);
            left
        })
    }
}

/// The shared value, in the hands of a block.
///
/// It dereferences to the value. One that is taken out of its block is still a use of the resource, until
/// it is dropped.
pub struct CacheValue<K, T, E = AnyError> {
    lease: Arc<Lease<K, T, E>>,
}

impl<K, T, E> CacheValue<K, T, E> {
    /// Whether the resource was there already: true for all but exactly one user of each generation.
    #[must_use]
    pub fn cache_hit(&self) -> bool {
        self.lease.cache_hit()
    }

    /// The lease by which the block uses the resource.
    pub fn lease(&self) -> &Lease<K, T, E> {
        &self.lease
    }

    /// A clone of the value, which may outlive the resource: that is the program's decision.
    #[must_use]
    pub fn into_inner(self) -> T
    where
        T: Clone,
    {
        T::clone(&self)
    }
}

impl<K, T, E> Deref for CacheValue<K, T, E> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lease
    }
}

impl<K, T: fmt::Debug, E> fmt::Debug for CacheValue<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheValue")
            .field("value", &**self)
            .field("cache_hit", &self.cache_hit())
            .finish()
    }
}
