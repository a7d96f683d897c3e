//! The future of an open: small, and done at once where the key is in use.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    mem,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use trionics_errgroup::{AnyError, Failure};
use trionics_gather::AsyncContext;
use trionics_nursery::internal::RETURNS_ONCE;

use crate::{
    asking::Asking,
    cache::{ContextCache, boxed},
    hash::FastHash,
    index::SeenAt,
    lease::Lease,
};

/// The future of [`ContextCache::open`].
#[must_use = "futures do nothing unless polled"]
pub struct Open<'a, K, T, M, E = AnyError, S = FastHash> {
    cache: &'a ContextCache<K, T, E, S>,
    stage: Stage<'a, K, T, M, E>,
    /// Where it was called.
    location: &'static Location<'static>,
}

enum Stage<'a, K, T, M, E> {
    /// Until the first poll.
    Ordered(K, M),
    /// From then on, unless the key was in use.
    Asking(Asking<'a, K, T, E>),
    Done,
}

/// Nothing in it is pinned.
impl<K, T, M, E, S> Unpin for Open<'_, K, T, M, E, S> {}

impl<'a, K, T, M, E, S> Open<'a, K, T, M, E, S> {
    #[inline]
    #[track_caller]
    pub(crate) fn new(cache: &'a ContextCache<K, T, E, S>, key: K, make: M) -> Self {
        Self {
            cache,
            stage: Stage::Ordered(key, make),
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
        let Stage::Ordered(key, _) = &this.stage else {
            return this.poll_asking(0, SeenAt::NOWHERE, cx);
        };
        let hash = this.cache.hash_one(key);
        match this.cache.core().index.look(hash, key) {
            (Some(tenure), _) => {
                this.stage = Stage::Done;
                Poll::Ready(Ok(Lease::new(tenure, true)))
            }
            (None, seen_at) => this.poll_asking(hash, seen_at, cx),
        }
    }
}

impl<K, T, M, E, S, C> Open<'_, K, T, M, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
    C: AsyncContext<Value = T, Error = E>,
    C::Run: Send + 'static,
    M: FnOnce() -> C + Send + 'static,
{
    /// For a key that is not in use; its hash and where it was seen are those of the first poll.
    #[inline(never)]
    fn poll_asking(
        &mut self,
        hash: u64,
        seen_at: SeenAt,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Lease<K, T, E>, Failure<E>>> {
        if let Stage::Ordered(..) = self.stage
            && let Stage::Ordered(key, make) = mem::replace(&mut self.stage, Stage::Done)
        {
            let asking = Asking::new(self.cache.core(), (hash, seen_at), key, boxed(make));
            self.stage = Stage::Asking(asking);
        }
        let Stage::Asking(asking) = &mut self.stage else {
            panic!(
                "the `open` at {} was polled after it had completed; {RETURNS_ONCE}",
                self.location
            );
        };
        let opened = asking.poll(cx);
        if opened.is_ready() {
            self.stage = Stage::Done;
        }
        opened
    }
}

impl<K, T, M, E, S> fmt::Debug for Open<'_, K, T, M, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("waits", &matches!(self.stage, Stage::Asking(_)))
            .finish_non_exhaustive()
    }
}
