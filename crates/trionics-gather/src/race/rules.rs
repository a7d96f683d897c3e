//! What decides a race, and what it comes to.

use std::{fmt, panic::Location};

use trionics_errgroup::{Cancelled, Failure, LibraryFailure};

/// What wins a race, which other outputs count, and what that comes to.
#[doc(hidden)]
pub trait Rules<O> {
    /// The outputs that count beside the winner's, in the order in which they came.
    type Others: Default;
    type Outcome;

    fn wins(output: &O) -> bool;

    /// Gives the output back if it does not count.
    fn keep(others: &mut Self::Others, output: O) -> Option<O>;

    fn won(winner: O, others: Self::Others) -> Self::Outcome;

    /// All have finished, and nobody has won.
    fn lost(others: Self::Others) -> Self::Outcome;

    /// Without a winner.
    fn cancelled(cancelled: Cancelled, location: &'static Location<'static>) -> Self::Outcome;
}

/// Whatever finishes wins, and nothing else counts.
#[derive(Debug)]
pub(super) struct AnyEnd;

impl<O> Rules<O> for AnyEnd {
    type Others = ();
    type Outcome = O;

    #[inline]
    fn wins(_output: &O) -> bool {
        true
    }

    #[inline]
    fn keep((): &mut (), output: O) -> Option<O> {
        Some(output)
    }

    #[inline]
    fn won(winner: O, (): ()) -> O {
        winner
    }

    #[cold]
    fn lost((): ()) -> O {
        unreachable!("whatever finishes wins")
    }

    #[cold]
    fn cancelled(cancelled: Cancelled, location: &'static Location<'static>) -> O {
        panic!(
            "the race at {location} was stopped by a cancellation ({cancelled}) and then polled outside the \
             cancelled scope, where it has no value to return; put a cancel scope inside it, or poll \
             it inside the scope only"
        )
    }
}

/// Whatever finishes wins, and all failures count.
#[derive(Debug)]
pub(super) struct AnyResult;

impl<T, E> Rules<Result<T, Failure<E>>> for AnyResult {
    type Others = Vec<Failure<E>>;
    type Outcome = Result<T, Failure<E>>;

    #[inline]
    fn wins(_output: &Self::Outcome) -> bool {
        true
    }

    #[inline]
    fn keep(others: &mut Self::Others, output: Self::Outcome) -> Option<Self::Outcome> {
        keep_failure(others, output)
    }

    #[inline]
    fn won(winner: Self::Outcome, others: Self::Others) -> Self::Outcome {
        match winner {
            Ok(value) if others.is_empty() => Ok(value),
            first => Err(group(
                "a race failed",
                first.err().into_iter().chain(others),
            )),
        }
    }

    fn lost(_others: Self::Others) -> Self::Outcome {
        Err(Failure::library(LibraryFailure::EmptySet))
    }

    fn cancelled(cancelled: Cancelled, _location: &'static Location<'static>) -> Self::Outcome {
        Err(Failure::cancelled(cancelled))
    }
}

/// What succeeds wins; failures count if nothing does.
#[derive(Debug)]
pub(super) struct AnySuccess;

impl<T, E> Rules<Result<T, Failure<E>>> for AnySuccess {
    type Others = Vec<Failure<E>>;
    type Outcome = Result<T, Failure<E>>;

    #[inline]
    fn wins(output: &Self::Outcome) -> bool {
        output.is_ok()
    }

    #[inline]
    fn keep(others: &mut Self::Others, output: Self::Outcome) -> Option<Self::Outcome> {
        keep_failure(others, output)
    }

    #[inline]
    fn won(winner: Self::Outcome, _others: Self::Others) -> Self::Outcome {
        winner
    }

    fn lost(others: Self::Others) -> Self::Outcome {
        if others.is_empty() {
            return Err(Failure::library(LibraryFailure::EmptySet));
        }
        Err(group("all futures of a race failed", others))
    }

    fn cancelled(cancelled: Cancelled, _location: &'static Location<'static>) -> Self::Outcome {
        Err(Failure::cancelled(cancelled))
    }
}

fn keep_failure<T, E>(
    others: &mut Vec<Failure<E>>,
    output: Result<T, Failure<E>>,
) -> Option<Result<T, Failure<E>>> {
    match output {
        Ok(value) => Some(Ok(value)),
        Err(failure) => {
            others.push(failure);
            None
        }
    }
}

fn group<E>(message: &'static str, failures: impl IntoIterator<Item = Failure<E>>) -> Failure<E> {
    Failure::group(message, failures).expect("there is a failure")
}

/// What has come in so far.
pub(super) struct Score<O, R: Rules<O>> {
    winner: Option<O>,
    others: R::Others,
}

impl<O, R: Rules<O>> Default for Score<O, R> {
    #[inline]
    fn default() -> Self {
        Self {
            winner: None,
            others: R::Others::default(),
        }
    }
}

impl<O, R: Rules<O>> Score<O, R> {
    #[inline]
    pub(super) fn has_winner(&self) -> bool {
        self.winner.is_some()
    }

    /// Puts an output where it counts. True if it is the winner's; and what does not count, to be dropped.
    ///
    /// One that is `ahead` of the winner takes its place.
    #[inline]
    pub(super) fn note(&mut self, output: O, ahead: bool) -> (bool, Option<O>) {
        let wins = (ahead || self.winner.is_none()) && R::wins(&output);
        let other = if wins {
            self.winner.replace(output)
        } else {
            Some(output)
        };
        let dropped = other.and_then(|other| R::keep(&mut self.others, other));
        (wins, dropped)
    }

    #[inline]
    pub(super) fn outcome(self) -> R::Outcome {
        match self.winner {
            Some(winner) => R::won(winner, self.others),
            None => R::lost(self.others),
        }
    }
}

impl<O, R: Rules<O>> fmt::Debug for Score<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Score")
            .field("has_winner", &self.has_winner())
            .finish_non_exhaustive()
    }
}
