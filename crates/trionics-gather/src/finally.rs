//! Cleanup that awaits.

use std::{
    future::{Future, ready},
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;
use trionics_nursery::{
    Shield,
    internal::{refuses_frames, report_failure, shield_at},
};

use crate::{context::BlockEnd, gather::with_context, pair::acm_pair};

/// Runs `body`, and then `cleanup`, however the body ended.
///
/// `cleanup` is told how, and is shielded: it runs to its end although the scopes around are cancelled.
/// It is a context without a value, for code that needs no more.
///
/// # Errors
///
/// The failure of the body or of the cleanup; a group if both fail, in which the cleanup's has the
/// body's as its context.
///
/// # Panics
///
/// A panic of the body is resumed once the cleanup has run; so is one of the cleanup.
///
/// # Cancel safety
///
/// If a scope around it is cancelled, the body unwinds, the cleanup runs, and the future then stays
/// pending until the enclosing frame drops it. If it is dropped from outside, the cleanup does not run,
/// which is reported; if it was never polled, there is nothing to clean up.
///
/// In code that goes on after a shield although it has been cancelled, where nothing else may begin, the body
/// does not begin either; the cleanup runs, and is told [`BlockEnd::Cancelled`].
///
/// # Examples
///
/// ```
/// use trionics_gather::{BlockEnd, finally};
/// use trionics_nursery::{CancelScope, Failure, checkpoint};
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// let mut ended = None;
/// let outcome = scope
///     .run(finally(
///         async {
///             scope.cancel("stop");
///             checkpoint().await; // stopped here
///             Ok::<(), Failure>(())
///         },
///         async |end| {
///             checkpoint().await; // not stopped here
///             ended = Some(end);
///             Ok(())
///         },
///     ))
///     .await;
/// assert!(outcome.is_err());
/// assert_eq!(ended, Some(BlockEnd::Cancelled));
/// # });
/// ```
#[track_caller]
pub fn finally<T, E, B, F, Fut>(
    body: B,
    cleanup: F,
) -> impl Future<Output = Result<T, Failure<E>>> + use<T, E, B, F, Fut>
where
    B: Future<Output = Result<T, Failure<E>>>,
    F: FnOnce(BlockEnd) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    let owed = Owed::new(cleanup);
    let context = {
        let owed = owed.clone();
        acm_pair(ready(Ok(((), ()))), move |(), end| {
            let cleanup = owed.take().expect("it is run once");
            cleanup(end)
        })
    };
    Finally {
        work: with_context(context, |()| body),
        alone: None,
        owed: Some(owed),
        location: Location::caller(),
    }
}

/// A cleanup that has to be run by whoever takes it.
struct Owed<F>(Arc<Mutex<Option<F>>>);

impl<F> Owed<F> {
    fn new(cleanup: F) -> Self {
        Self(Arc::new(Mutex::new(Some(cleanup))))
    }

    fn take(&self) -> Option<F> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<F> Clone for Owed<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pin_project! {
    struct Finally<W, F, Fut> {
        #[pin]
        work: W,
        // The cleanup, where the body may not begin.
        #[pin]
        alone: Option<Shield<Fut>>,
        // `None` once it has been polled.
        owed: Option<Owed<F>>,
        location: &'static Location<'static>,
    }
}

impl<T, E, W, F, Fut> Future for Finally<W, F, Fut>
where
    W: Future<Output = Result<T, Failure<E>>>,
    F: FnOnce(BlockEnd) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(owed) = this.owed.take()
            && refuses_frames()
        {
            // It parks for good, without a look at its body.
            let parked = this.work.as_mut().poll(cx).is_pending();
            debug_assert!(parked);
            let cleanup = owed.take().expect("it has not been run");
            let alone = shield_at(this.location, cleanup(BlockEnd::Cancelled));
            this.alone.set(Some(alone));
        }
        if let Some(alone) = this.alone.as_mut().as_pin_mut() {
            let cleaned = ready!(alone.poll(cx));
            this.alone.set(None);
            if let Err(failure) = cleaned {
                report_failure::<E>(this.location);
                return Poll::Ready(Err(failure));
            }
        }
        this.work.poll(cx)
    }
}
