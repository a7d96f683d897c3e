//! Contexts that have nothing to set up and nothing to tear down with awaits.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;

use crate::context::{AsyncContext, Provide, Slot};

/// Makes a context from a plain value, whose `Drop` is all the teardown it needs.
///
/// The value goes to the block, and is dropped where the block drops it, before any exit begins. It is
/// for places that want a context, as Python's `contextlib.nullcontext` is.
///
/// # Examples
///
/// ```
/// use trionics_gather::{Slot, acm, gather_contexts, null_context};
/// use trionics_nursery::Failure;
///
/// # futures::executor::block_on(async {
/// let feed = acm(async |slot: Slot<&str>| {
///     slot.provide("quotes").await;
///     Ok::<(), Failure>(())
/// });
/// let outcome = gather_contexts((feed, null_context(7)), async |(feed, n)| Ok(feed.len() + n)).await;
/// assert_eq!(outcome.unwrap(), 13);
/// # });
/// ```
pub fn null_context<V, E>(value: V) -> NullContext<V, E> {
    NullContext {
        value,
        error: PhantomData,
    }
}

/// The context made by [`null_context`].
#[must_use = "a context does nothing until it is entered"]
pub struct NullContext<V, E> {
    value: V,
    error: PhantomData<fn() -> E>,
}

impl<V, E> AsyncContext for NullContext<V, E> {
    type Value = V;
    type Error = E;
    type Run = RunNull<V, E>;

    fn run(self, slot: Slot<V>) -> Self::Run {
        RunNull {
            provide: slot.provide(self.value),
            error: PhantomData,
        }
    }
}

impl<V, E> fmt::Debug for NullContext<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NullContext").finish_non_exhaustive()
    }
}

pin_project! {
    /// The life of a [`NullContext`].
    #[doc(hidden)]
    pub struct RunNull<V, E> {
        #[pin]
        provide: Provide<V>,
        error: PhantomData<fn() -> E>,
    }
}

impl<V, E> Future for RunNull<V, E> {
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().provide.poll(cx).map(|_| Ok(()))
    }
}

impl<V, E> fmt::Debug for RunNull<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunNull").finish_non_exhaustive()
    }
}
