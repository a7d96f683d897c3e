//! Using a nursery that may be there already.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{AnyError, Failure};

use super::{
    Nursery, NurseryOptions,
    open::{Open, OpenNursery},
};
use crate::{current, frame::RETURNS_ONCE};

/// A nursery that exists, or the options with which to open one.
///
/// Options for a new nursery cannot be given along with an existing one.
#[derive(Debug)]
pub enum NurserySource<'env, E = AnyError> {
    /// Use this one.
    Existing(Nursery<'env, E>),
    /// Open one.
    New(NurseryOptions),
}

impl<'env, E> From<Nursery<'env, E>> for NurserySource<'env, E> {
    fn from(nursery: Nursery<'env, E>) -> Self {
        Self::Existing(nursery)
    }
}

impl<'env, E> From<&Nursery<'env, E>> for NurserySource<'env, E> {
    fn from(nursery: &Nursery<'env, E>) -> Self {
        Self::Existing(nursery.clone())
    }
}

impl<E> From<NurseryOptions> for NurserySource<'_, E> {
    fn from(options: NurseryOptions) -> Self {
        Self::New(options)
    }
}

impl<'env, E> From<Option<Nursery<'env, E>>> for NurserySource<'env, E> {
    fn from(nursery: Option<Nursery<'env, E>>) -> Self {
        nursery.map_or_else(|| Self::New(NurseryOptions::new()), Self::Existing)
    }
}

/// Runs `body` with the given nursery, or opens one if there is none.
///
/// Given a nursery, its children outlive the call: they are that nursery's, and nothing of it is closed,
/// cancelled or shielded here. Given options, or `None`, it opens a nursery and waits for the children.
///
/// # Errors
///
/// With a given nursery the body's failure, as it is. Otherwise as
/// [`open_nursery`](crate::open_nursery).
///
/// # Panics
///
/// A panic of the body goes through; with a new nursery as [`open_nursery`](crate::open_nursery).
///
/// # Cancel safety
///
/// As the body's; with a new nursery as [`open_nursery`](crate::open_nursery).
///
/// # Examples
///
/// ```
/// use trionics_nursery::{Failure, Nursery, maybe_open_nursery};
///
/// /// Refreshes in the background of `nursery`, or within this call if there is none.
/// async fn refresh<'env>(nursery: Option<Nursery<'env>>) -> Result<(), Failure> {
///     maybe_open_nursery(nursery, async |n: Nursery<'env>| {
///         n.start_soon(async { Ok(()) });
///         Ok(())
///     })
///     .await
/// }
///
/// # futures::executor::block_on(async {
/// refresh(None).await.unwrap();
/// # });
/// ```
#[track_caller]
pub fn maybe_open_nursery<'env, T, E, F, Fut>(
    nursery: impl Into<NurserySource<'env, E>>,
    body: F,
) -> MaybeOpenNursery<'env, T, E, F, Fut>
where
    F: FnOnce(Nursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    match nursery.into() {
        NurserySource::Existing(nursery) => MaybeOpenNursery::Existing {
            start: Some((body, nursery)),
            future: None,
            location: Location::caller(),
        },
        NurserySource::New(options) => MaybeOpenNursery::New {
            open: Open::new(
                Location::caller(),
                options.into_raw(),
                None,
                Nursery::from_shared,
                body,
            ),
        },
    }
}

pin_project! {
    /// The future of [`maybe_open_nursery`].
    #[project = MaybeProjected]
    #[must_use = "futures do nothing unless polled"]
    pub enum MaybeOpenNursery<'env, T, E, F, Fut> {
        #[doc(hidden)]
        Existing {
            start: Option<(F, Nursery<'env, E>)>,
            #[pin]
            future: Option<Fut>,
            location: &'static Location<'static>,
        },
        #[doc(hidden)]
        New {
            #[pin]
            open: OpenNursery<'env, T, E, F, Fut>,
        },
    }
}

impl<'env, T, E, F, Fut> Future for MaybeOpenNursery<'env, T, E, F, Fut>
where
    F: FnOnce(Nursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            MaybeProjected::New { open } => open.poll(cx),
            MaybeProjected::Existing {
                start,
                mut future,
                location,
            } => {
                if let Some((body, nursery)) = start.take() {
                    future.set(Some(body(nursery)));
                }
                let running = future
                    .as_mut()
                    .as_pin_mut()
                    .unwrap_or_else(|| {
                        panic!(
                            "the `maybe_open_nursery` at {location} was polled after it had completed; {RETURNS_ONCE}"
                        )
                    });
                let polled = running.poll(cx);
                if polled.is_ready() {
                    let _outside = current::clear();
                    future.set(None);
                }
                polled
            }
        }
    }
}

impl<T, E, F, Fut> fmt::Debug for MaybeOpenNursery<'_, T, E, F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaybeOpenNursery").finish_non_exhaustive()
    }
}
