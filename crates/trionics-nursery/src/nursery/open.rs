//! The future of an open nursery.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;

use super::{
    AnyChild, AnyLocalChild, LocalNursery, Nursery,
    finish::FinishSlot,
    raw::{BodyEnd, RawEnd, RawNursery, RawOptions},
    shared::Shared,
};

/// The future of [`open_nursery`](crate::open_nursery).
pub type OpenNursery<'env, T, E, F, Fut> = Open<AnyChild<'env, E>, Nursery<'env, E>, T, E, F, Fut>;

/// The future of [`open_local_nursery`](crate::open_local_nursery).
pub type OpenLocalNursery<'env, T, E, F, Fut> =
    Open<AnyLocalChild<'env, E>, LocalNursery<'env, E>, T, E, F, Fut>;

pin_project! {
    /// A nursery with children of type `C` and handles of type `H`.
    #[must_use = "futures do nothing unless polled"]
    pub struct Open<C: ?Sized, H, T, E, F, Fut> {
        #[pin]
        raw: RawNursery<C, Body<H, F, Fut>, T, E>,
    }
}

impl<C: ?Sized, H, T, E, F, Fut> Open<C, H, T, E, F, Fut> {
    pub(super) fn new(
        location: &'static Location<'static>,
        options: RawOptions,
        finish: Option<Arc<FinishSlot<T>>>,
        handle: impl FnOnce(Shared<C>) -> H,
        body: F,
    ) -> Self {
        let raw = RawNursery::new(location, options, |crew| Body {
            start: Some((body, handle(Shared::new(crew.door())))),
            future: None,
        });
        Self {
            raw: raw.finished_by(finish),
        }
    }
}

impl<C: ?Sized, H, T, E, F, Fut> Future for Open<C, H, T, E, F, Fut>
where
    C: Future<Output = Result<(), Failure<E>>>,
    F: FnOnce(H) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let name = this.raw.name();
        let failures = match ready!(this.raw.poll(cx)) {
            RawEnd::Value(value) => return Poll::Ready(Ok(value)),
            RawEnd::Failed(failures) => failures,
            RawEnd::Cancelled(cancelled) => vec![Failure::cancelled(cancelled)],
        };
        let group = Failure::group("a nursery failed", failures).expect("there is a failure");
        Poll::Ready(Err(match name {
            Some(name) => group.with_origin(name.to_string()),
            None => group,
        }))
    }
}

impl<C: ?Sized, H, T, E, F, Fut> fmt::Debug for Open<C, H, T, E, F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenNursery")
            .field("opened_at", &self.raw.location())
            .finish_non_exhaustive()
    }
}

/// For the sibling crates: a nursery whose body is any future, made with the handle.
pub fn open_with<'env, T, E, B, M>(
    location: &'static Location<'static>,
    make: M,
) -> impl Future<Output = RawEnd<T, E>> + use<'env, T, E, B, M>
where
    M: FnOnce(Nursery<'env, E>) -> B,
    B: Future<Output = BodyEnd<T, E>>,
{
    RawNursery::new(location, RawOptions::default(), |crew| {
        make(Nursery::from_shared(Shared::new(crew.door())))
    })
}

/// For the sibling crates: like [`open_with`], for children that need not be `Send`.
pub fn open_local_with<'env, T, E, B, M>(
    location: &'static Location<'static>,
    make: M,
) -> impl Future<Output = RawEnd<T, E>> + use<'env, T, E, B, M>
where
    M: FnOnce(LocalNursery<'env, E>) -> B,
    B: Future<Output = BodyEnd<T, E>>,
{
    RawNursery::new(location, RawOptions::default(), |crew| {
        make(LocalNursery::from_shared(Shared::new(crew.door())))
    })
}

pin_project! {
    /// Calls the body's function inside the body's frame and polls what it returns.
    struct Body<H, F, Fut> {
        start: Option<(F, H)>,
        #[pin]
        future: Option<Fut>,
    }
}

impl<H, T, E, F, Fut> Future for Body<H, F, Fut>
where
    F: FnOnce(H) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    type Output = BodyEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((body, handle)) = this.start.take() {
            this.future.set(Some(body(handle)));
        }
        let future = this
            .future
            .as_pin_mut()
            .expect("a body is not polled after a panic");
        Poll::Ready(match ready!(future.poll(cx)) {
            Ok(value) => BodyEnd::Value(value),
            Err(failure) => BodyEnd::Failed(failure),
        })
    }
}
