//! The first of several futures to finish; the others unwind before it is returned.

use std::{
    convert::Infallible,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure, LibraryFailure};
use trionics_nursery::{
    internal::{BodyEnd, RawEnd, open_children},
    outside,
};

pub use self::set::Race;

mod set;

/// Runs futures side by side, returns what the first one to finish gives, and cancels the others.
///
/// Unlike with a `select!`, the others *unwind*: exits of contexts and shields inside them run to their end before this
/// returns. Takes a tuple of up to twelve futures with the same output, an array or a `Vec`. If several
/// are ready in one poll, the one that stands first wins.
///
/// An output that one of the others gives on its way out is dropped; where that may be a failure that
/// must not be lost, use [`try_race`].
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
#[derive(Clone, Copy)]
struct Rules<O> {
    wins: fn(&O) -> bool,
    counts: fn(&O) -> bool,
}

/// How a race has gone.
enum RaceResult<O> {
    /// The winner, and what else counts.
    Won(O, Vec<O>),
    /// All have finished, and nobody has won.
    Lost(Vec<O>),
    Cancelled(Cancelled),
}

/// What the branches of one race share.
#[doc(hidden)]
pub struct Contest<O> {
    rules: Rules<O>,
    state: Mutex<ContestState<O>>,
}

struct ContestState<O> {
    winner: Option<O>,
    /// The other outputs that count.
    others: Vec<O>,
    /// How many branches have not ended.
    n_running: usize,
    /// A branch has panicked, which the nursery resumes.
    has_panicked: bool,
    /// Wakes the nursery's body.
    waker: Option<Waker>,
}

impl<O> Contest<O> {
    fn lock(&self) -> MutexGuard<'_, ContestState<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, output: O) {
        let wins = (self.rules.wins)(&output);
        let counts = (self.rules.counts)(&output);
        let (dropped, waker) = {
            let mut state = self.lock();
            if wins && state.winner.is_none() {
                state.winner = Some(output);
                (None, state.waker.take())
            } else if counts {
                state.others.push(output);
                (None, None)
            } else {
                (Some(output), None)
            }
        };
        drop(dropped);
        wake(waker);
    }

    fn end(&self, has_panicked: bool) {
        let waker = {
            let mut state = self.lock();
            state.n_running -= 1;
            state.has_panicked |= has_panicked;
            if state.n_running == 0 {
                state.waker.take()
            } else {
                None
            }
        };
        wake(waker);
    }

    /// There is a winner, and the others have unwound.
    fn is_over(&self) -> bool {
        let state = self.lock();
        state.winner.is_some() && state.n_running == 0 && !state.has_panicked
    }

    fn result(&self) -> Option<RaceResult<O>> {
        let mut state = self.lock();
        let others = std::mem::take(&mut state.others);
        match state.winner.take() {
            Some(winner) => Some(RaceResult::Won(winner, others)),
            None if state.n_running == 0 => Some(RaceResult::Lost(others)),
            None => None,
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        outside(|| waker.wake());
    }
}

impl<O> std::fmt::Debug for Contest<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contest").finish_non_exhaustive()
    }
}

pin_project! {
    /// One future of a race.
    #[doc(hidden)]
    pub struct Branch<F, O> {
        #[pin]
        future: F,
        // Dropped after the future.
        runner: Runner<O>,
    }
}

struct Runner<O> {
    contest: Arc<Contest<O>>,
    /// Stays so when a poll panics.
    is_polling: bool,
}

impl<O> Drop for Runner<O> {
    fn drop(&mut self) {
        self.contest
            .end(self.is_polling || std::thread::panicking());
    }
}

impl<F: Future> Future for Branch<F, F::Output> {
    type Output = Result<(), Failure<Infallible>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.runner.is_polling = true;
        let polled = this.future.poll(cx);
        this.runner.is_polling = false;
        polled.map(|output| {
            this.runner.contest.finish(output);
            Ok(())
        })
    }
}

impl<F, O> std::fmt::Debug for Branch<F, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branch").finish_non_exhaustive()
    }
}

/// Runs a race: a nursery, whose body waits for the winner and then cancels it.
fn run<S: Race, R, J: Fn(RaceResult<S::Output>) -> R>(
    location: &'static Location<'static>,
    futures: S,
    rules: Rules<S::Output>,
    judge: J,
) -> impl Future<Output = R> + use<S, R, J> {
    let contest = Arc::new(Contest {
        rules,
        state: Mutex::new(ContestState {
            winner: None,
            others: Vec::new(),
            n_running: futures.n_branches(),
            has_panicked: false,
            waker: None,
        }),
    });
    let branches = futures.branches(&contest);
    let referee = Referee {
        contest: Arc::clone(&contest),
        location,
    };
    Racing {
        nursery: open_children(location, branches, referee),
        contest,
        judge,
    }
}

pin_project! {
    struct Racing<N, O, J> {
        #[pin]
        nursery: N,
        contest: Arc<Contest<O>>,
        judge: J,
    }
}

impl<N, O, R, J> Future for Racing<N, O, J>
where
    N: Future<Output = RawEnd<(), Infallible>>,
    J: Fn(RaceResult<O>) -> R,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.project();
        let cancelled = match this.nursery.poll(cx) {
            Poll::Ready(RawEnd::Cancelled(cancelled)) => Some(cancelled),
            Poll::Ready(RawEnd::Value(()) | RawEnd::Failed(_)) => None,
            // Under an outer cancellation the nursery would park; but a race that is over has its result.
            Poll::Pending if this.contest.is_over() => None,
            Poll::Pending => return Poll::Pending,
        };
        let result = match (this.contest.result(), cancelled) {
            (Some(RaceResult::Lost(_)) | None, Some(cancelled)) => RaceResult::Cancelled(cancelled),
            (Some(result), _) => result,
            (None, None) => unreachable!("a race without a result was cancelled"),
        };
        Poll::Ready((this.judge)(result))
    }
}

/// The body of the nursery.
struct Referee<O> {
    contest: Arc<Contest<O>>,
    location: &'static Location<'static>,
}

impl<O> Future for Referee<O> {
    type Output = BodyEnd<(), Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        let (polled, replaced) = {
            let mut state = self.contest.lock();
            if state.winner.is_some() {
                let cancelled = Cancelled::__new(CancelReason::Finished, self.location);
                (Poll::Ready(BodyEnd::Cancelled(cancelled)), Some(waker))
            } else if state.n_running == 0 {
                (Poll::Ready(BodyEnd::Value(())), Some(waker))
            } else {
                (Poll::Pending, state.waker.replace(waker))
            }
        };
        drop(replaced);
        polled
    }
}
