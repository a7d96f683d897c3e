//! The future of an open: small, and done at once where the key is in use.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    pin::Pin,
    task::{Context, Poll},
};

use trionics_errgroup::{AnyError, Failure};
use trionics_gather::AsyncContext;

use crate::{
    asking::Asking,
    cache::{ContextCache, boxed},
    hash::FastHash,
    lease::Lease,
};

/// The future of [`ContextCache::open`].
#[must_use = "futures do nothing unless polled"]
pub struct Open<'a, K, T, M, E = AnyError, S = FastHash> {
    cache: &'a ContextCache<K, T, E, S>,
    /// Until the first poll.
    order: Option<(K, M)>,
    /// From then on, unless the key was in use.
    asking: Option<Asking<'a, K, T, E>>,
}

/// Nothing in it is pinned.
impl<K, T, M, E, S> Unpin for Open<'_, K, T, M, E, S> {}

impl<'a, K, T, M, E, S> Open<'a, K, T, M, E, S> {
    #[inline]
    pub(crate) fn new(cache: &'a ContextCache<K, T, E, S>, key: K, make: M) -> Self {
        Self {
            cache,
            order: Some((key, make)),
            asking: None,
        }
    }
}

impl<K, T, M, E, S, C> Future for Open<'_, K, T, M, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    S: BuildHasher,
    C: AsyncContext<Value = T, Error = E>,
    C::Run: Send + 'static,
    M: FnOnce() -> C + Send + 'static,
{
    type Output = Result<Lease<K, T, E>, Failure<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((key, make)) = this.order.take() {
            let hash = this.cache.hash_one(&key);
            if let Some(tenure) = this.cache.core().index.hit(hash, &key) {
                return Poll::Ready(Ok(Lease::new(tenure, true)));
            }
            this.asking = Some(Asking::new(this.cache.core(), hash, key, boxed(make)));
        }
        let Some(asking) = &mut this.asking else {
            panic!("`open` was polled after it had completed");
        };
        let opened = asking.poll(cx);
        if opened.is_ready() {
            this.asking = None;
        }
        opened
    }
}

impl<K, T, M, E, S> fmt::Debug for Open<'_, K, T, M, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("waits", &self.asking.is_some())
            .finish_non_exhaustive()
    }
}
