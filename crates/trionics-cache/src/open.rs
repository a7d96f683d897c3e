//! The future of an open: small, and done at once where the key is in use.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use trionics_errgroup::{AnyError, Failure};
use trionics_gather::AsyncContext;
use trionics_nursery::internal::RETURNS_ONCE;

use crate::{
    cache::{ContextCache, boxed},
    hash::FastHash,
    lease::Lease,
};

/// The way of a key that is not in use; boxed, so that nobody else pays for its size.
pub(crate) type Opening<'a, K, T, E> =
    Pin<Box<dyn Future<Output = Result<Lease<K, T, E>, Failure<E>>> + Send + 'a>>;

/// The future of [`ContextCache::open`].
#[must_use = "futures do nothing unless polled"]
pub struct Open<'a, K, T, M, E = AnyError, S = FastHash> {
    cache: &'a ContextCache<K, T, E, S>,
    /// Until the first poll.
    order: Option<(K, M)>,
    opening: Option<Opening<'a, K, T, E>>,
    /// Where it was called.
    location: &'static Location<'static>,
}

/// Nothing in it is pinned but the box.
impl<K, T, M, E, S> Unpin for Open<'_, K, T, M, E, S> {}

impl<'a, K, T, M, E, S> Open<'a, K, T, M, E, S> {
    #[inline]
    #[track_caller]
    pub(crate) fn new(cache: &'a ContextCache<K, T, E, S>, key: K, make: M) -> Self {
        Self {
            cache,
            order: Some((key, make)),
            opening: None,
            location: Location::caller(),
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
            this.opening = Some(Box::pin(this.cache.core().open(hash, key, boxed(make))));
        }
        match &mut this.opening {
            Some(opening) => {
                let polled = opening.as_mut().poll(cx);
                if polled.is_ready() {
                    this.opening = None;
                }
                polled
            }
            None => panic!(
                "the `open` at {} was polled after it had completed; {RETURNS_ONCE}",
                this.location
            ),
        }
    }
}

impl<K, T, M, E, S> fmt::Debug for Open<'_, K, T, M, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("waits", &self.opening.is_some())
            .finish_non_exhaustive()
    }
}
