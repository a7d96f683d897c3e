//! The first of several futures to finish; the others unwind before it is returned.

use std::{future::Future, panic::Location};

use trionics_errgroup::Failure;

use self::rules::{AnyEnd, AnyResult, AnySuccess};

pub use self::set::Race;

mod few;
mod many;
mod rules;
mod set;

/// Runs futures side by side, returns what the first one to finish gives, and cancels the others.
///
/// Unlike with a `select!`, the others *unwind*: exits of contexts and shields inside them run to their end before this
/// returns. Takes a tuple of up to twelve futures with the same output, an array or a `Vec`. If several
/// are ready in one poll, the one that stands first wins, whichever of them is polled first.
///
/// Up to thirty futures are polled in place, all of them at each poll, as a `select!` does; of more, only those that
/// were woken. A race in which no scope, context or shield has been opened costs no more than that: there is nothing
/// to unwind.
///
/// An output that one of the others gives on its way out is dropped; where that may be a failure that
/// must not be lost, use [`try_race`]. As the others may be polled once more when there is a winner, a receiver among
/// them may take a message along: what loses nothing when it is dropped, and cleans nothing up, belongs in a `select!`.
///
/// # Fairness
///
/// Of up to thirty futures, the first few polls begin with the one that stands first, and those that follow with each in
/// turn. So one that uses up the budget of its task (tokio's, say) in every poll starves no other.
/// More of them are polled in the order in which they were woken.
///
/// # Panics
///
/// A panic of one of the futures cancels the others, and is resumed here once they have unwound.
/// Panics when called with no future: nothing could ever finish first. Also if it was stopped by
/// a cancellation and is then polled where nothing is cancelled: it has no value to return.
///
/// # Cancel safety
///
/// If a scope around it is cancelled, all of the futures unwind; it then stays pending until the
/// enclosing frame drops it. If it is dropped from outside, all of them are dropped at once, and exits
/// that had not run are reported.
///
/// # Examples
///
/// A timeout, after which the slower work says goodbye:
///
/// ```
/// use std::time::Duration;
/// use trionics_gather::{finally, race};
/// use trionics_nursery::{Failure, sleep, testing};
///
/// testing::run(async {
///     let mut said_goodbye = false;
///     let download = finally(
///         async {
///             sleep(Duration::from_secs(60)).await;
///             Ok(Some("a file"))
///         },
///         async |_end| {
///             sleep(Duration::from_secs(1)).await; // close the connection
///             said_goodbye = true;
///             Ok(())
///         },
///     );
///     let timeout = async {
///         sleep(Duration::from_secs(5)).await;
///         Ok::<_, Failure>(None)
///     };
///     let outcome = race((download, timeout)).await;
///     assert_eq!(outcome.unwrap(), None);
///     assert!(said_goodbye);
///     assert_eq!(testing::elapsed(), Duration::from_secs(6));
/// });
/// ```
#[track_caller]
pub fn race<S: Race>(futures: S) -> impl Future<Output = S::Output> + use<S> {
    assert!(
        futures.n_branches() > 0,
        "a race of no futures would never end; give at least one"
    );
    futures.run::<AnyEnd>(Location::caller())
}

/// Like [`race`], for futures that can fail: nothing that fails is lost.
///
/// The first one to finish decides, with a value or with a failure.
///
/// # Errors
///
/// A group of the failure of the first one to finish, if it failed, and of what the others failed with
/// on their way out, or in the very poll in which they would have been stopped. A value is dropped then. [`LibraryFailure::EmptySet`](trionics_errgroup::LibraryFailure::EmptySet) if there is no future.
///
/// # Panics
///
/// A panic of one of the futures cancels the others, and is resumed here once they have unwound.
///
/// # Cancel safety
///
/// As [`race`].
///
/// # Examples
///
/// ```
/// use trionics_gather::try_race;
/// use trionics_nursery::{Failure, checkpoint};
///
/// # futures::executor::block_on(async {
/// let outcome = try_race((
///     async { Ok::<_, Failure>(1) },
///     async {
///         checkpoint().await;
///         Ok(2)
///     },
/// ))
/// .await;
/// assert_eq!(outcome.unwrap(), 1);
/// # });
/// ```
#[track_caller]
pub fn try_race<S, T, E>(futures: S) -> impl Future<Output = Result<T, Failure<E>>> + use<S, T, E>
where
    S: Race<Output = Result<T, Failure<E>>>,
{
    futures.run::<AnyResult>(Location::caller())
}

/// Runs futures side by side, returns the first success, and cancels the others.
///
/// A future that fails leaves the others running. Otherwise it is as [`race`]: the others unwind
/// before this returns. Once there is a success, the failures of the others no longer matter.
///
/// # Errors
///
/// If all of them fail, a group of their failures in the order in which they happened.
/// [`LibraryFailure::EmptySet`](trionics_errgroup::LibraryFailure::EmptySet) if there is no future.
///
/// # Panics
///
/// A panic of one of the futures cancels the others, and is resumed here once they have unwound.
///
/// # Cancel safety
///
/// As [`race`].
///
/// # Examples
///
/// ```
/// use trionics_gather::race_ok;
/// use trionics_nursery::{Failure, checkpoint};
///
/// # futures::executor::block_on(async {
/// let connect = async |address: &str| {
///     checkpoint().await;
///     match address {
///         "dead" => Err(Failure::text("refused")),
///         _ => Ok(address.len()),
///     }
/// };
/// let outcome = race_ok(["dead", "alive"].map(connect)).await;
/// assert_eq!(outcome.unwrap(), 5);
/// let failure = race_ok(["dead", "dead"].map(connect)).await.unwrap_err();
/// assert_eq!(failure.leaves().count(), 2);
/// # });
/// ```
#[track_caller]
pub fn race_ok<S, T, E>(futures: S) -> impl Future<Output = Result<T, Failure<E>>> + use<S, T, E>
where
    S: Race<Output = Result<T, Failure<E>>>,
{
    futures.run::<AnySuccess>(Location::caller())
}
