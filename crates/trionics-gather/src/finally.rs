//! Cleanup that awaits.

use std::future::{Future, ready};

use trionics_errgroup::Failure;

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
    let context = acm_pair(ready(Ok(((), ()))), |(), end| cleanup(end));
    with_context(context, |()| body)
}
