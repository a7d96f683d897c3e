//! The first of several futures to finish; the others unwind before it is returned.

use std::{
    future::Future,
    mem,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Cancelled, Failure, LibraryFailure};
use trionics_nursery::internal::Lanes;

use self::{few::Few, set::Runners};

pub use self::set::Race;

mod few;
mod many;
mod set;

/// Runs futures side by side, returns what the first one to finish gives, and cancels the others.
///
/// Unlike with a `select!`, the others *unwind*: exits of contexts and shields inside them run to their end before this
/// returns. Takes a tuple of up to twelve futures with the same output, an array or a `Vec`. If several
/// are ready in one poll, the one that stands first wins.
///
/// Up to thirty futures are polled in place, all of them at each poll, as a `select!` does; of more, only those that
/// were woken. A race in which no scope, context or shield has been opened costs no more than that: there is nothing
/// to unwind.
///
/// An output that one of the others gives on its way out is dropped; where that may be a failure that
/// must not be lost, use [`try_race`]. As the others may be polled once more when there is a winner, a receiver among
/// them may take a message along: what loses nothing when it is dropped, and cleans nothing up, belongs in a `select!`.
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
    let location = Location::caller();
    run(
        location,
        futures,
        Rules {
            wins: |_| true,
            counts: |_| false,
        },
        move |result| match result {
            RaceResult::Won(output, _) => output,
            RaceResult::Cancelled(cancelled) => panic!(
                "the race at {location} was stopped by a cancellation ({cancelled}) and then polled outside the \
                 cancelled scope, where it has no value to return; put a cancel scope inside it, or poll \
                 it inside the scope only"
            ),
            RaceResult::Lost(_) => unreachable!("whatever finishes wins"),
        },
    )
}

/// Like [`race`], for futures that can fail: nothing that fails is lost.
///
/// The first one to finish decides, with a value or with a failure.
///
/// # Errors
///
/// A group of the failure of the first one to finish, if it failed, and of what the others failed with
/// on their way out, or in the very poll in which they would have been stopped. A value is dropped then. [`LibraryFailure::EmptySet`] if there is no future.
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
    run(
        Location::caller(),
        futures,
        Rules {
            wins: |_| true,
            counts: Result::is_err,
        },
        |result| match result {
            RaceResult::Won(Ok(value), others) if others.is_empty() => Ok(value),
            RaceResult::Won(first, others) => {
                let failures = [first].into_iter().chain(others);
                Err(group("a race failed", failures))
            }
            RaceResult::Lost(_) => Err(Failure::library(LibraryFailure::EmptySet)),
            RaceResult::Cancelled(cancelled) => Err(Failure::cancelled(cancelled)),
        },
    )
}

/// Runs futures side by side, returns the first success, and cancels the others.
///
/// A future that fails leaves the others running. Otherwise it is as [`race`]: the others unwind
/// before this returns. Once there is a success, the failures of the others no longer matter.
///
/// # Errors
///
/// If all of them fail, a group of their failures in the order in which they happened.
/// [`LibraryFailure::EmptySet`] if there is no future.
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
    run(
        Location::caller(),
        futures,
        Rules {
            wins: Result::is_ok,
            counts: Result::is_err,
        },
        |result| match result {
            RaceResult::Won(winner, _) => winner,
            RaceResult::Lost(outputs) if outputs.is_empty() => {
                Err(Failure::library(LibraryFailure::EmptySet))
            }
            RaceResult::Lost(outputs) => {
                Err(group("all futures of a race failed", outputs.into_iter()))
            }
            RaceResult::Cancelled(cancelled) => Err(Failure::cancelled(cancelled)),
        },
    )
}

fn group<T, E>(
    message: &'static str,
    outputs: impl Iterator<Item = Result<T, Failure<E>>>,
) -> Failure<E> {
    Failure::group(message, outputs.filter_map(Result::err)).expect("there is a failure")
}

/// What wins a race, and which other outputs count for the outcome.
struct Rules<O> {
    wins: fn(&O) -> bool,
    counts: fn(&O) -> bool,
}

impl<O> Clone for Rules<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Rules<O> {}

/// How a race has gone.
enum RaceResult<O> {
    /// The winner, and what else counts.
    Won(O, Vec<O>),
    /// All have finished, and nobody has won.
    Lost(Vec<O>),
    Cancelled(Cancelled),
}

/// What has come in so far.
struct Score<O> {
    rules: Rules<O>,
    winner: Option<O>,
    /// The other outputs that count.
    others: Vec<O>,
}

impl<O> Score<O> {
    fn new(rules: Rules<O>) -> Self {
        Self {
            rules,
            winner: None,
            others: Vec::new(),
        }
    }

    fn has_winner(&self) -> bool {
        self.winner.is_some()
    }

    /// Puts an output where it counts; gives it back if it does not.
    fn note(&mut self, output: O) -> Option<O> {
        if self.winner.is_none() && (self.rules.wins)(&output) {
            self.winner = Some(output);
            None
        } else if (self.rules.counts)(&output) {
            self.others.push(output);
            None
        } else {
            Some(output)
        }
    }

    fn take(&mut self) -> RaceResult<O> {
        let others = mem::take(&mut self.others);
        match self.winner.take() {
            Some(winner) => RaceResult::Won(winner, others),
            None => RaceResult::Lost(others),
        }
    }
}

/// Runs a race: few futures in place, many as children of a nursery, which polls only those that were woken.
fn run<S: Race, R, J: Fn(RaceResult<S::Output>) -> R>(
    location: &'static Location<'static>,
    futures: S,
    rules: Rules<S::Output>,
    judge: J,
) -> impl Future<Output = R> + use<S, R, J> {
    Racing {
        runners: match futures.runners() {
            Runners::Few(lanes) => RunnersPinned::Few {
                race: Few::new(location, lanes, rules),
            },
            Runners::Many(futures) => RunnersPinned::Many {
                race: Box::pin(many::race(location, futures, rules)),
            },
        },
        judge,
    }
}

pin_project! {
    #[project = RunnersProjected]
    enum RunnersPinned<L: Lanes, M> {
        Few { #[pin] race: Few<L> },
        Many { race: Pin<Box<M>> },
    }
}

pin_project! {
    struct Racing<L: Lanes, M, J> {
        #[pin]
        runners: RunnersPinned<L, M>,
        judge: J,
    }
}

impl<L, M, R, J> Future for Racing<L, M, J>
where
    L: Lanes,
    M: Future<Output = RaceResult<L::Output>>,
    J: Fn(RaceResult<L::Output>) -> R,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.project();
        let result = match this.runners.project() {
            RunnersProjected::Few { race } => race.poll(cx),
            RunnersProjected::Many { race } => race.as_mut().poll(cx),
        };
        result.map(|result| (this.judge)(result))
    }
}
