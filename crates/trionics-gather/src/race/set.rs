//! Sets of futures with the same output.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_nursery::internal::{Lane, LaneAnd, Row};

use super::{few::Few, many::Many, rules::Rules};

/// How many futures are polled in place at most: all of them at each poll.
const FEW: usize = 30;

/// A collection of futures with the same output: a `Vec`, an array, or a tuple of up to twelve futures
/// of different types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of futures that can be raced",
    label = "not a `Vec`, an array or a tuple of futures with one type of output"
)]
pub trait Race: sealed::Sealed {
    /// What each of them gives.
    type Output;

    #[doc(hidden)]
    type Racing<R: Rules<Self::Output>>: Future<Output = R::Outcome>;

    #[doc(hidden)]
    fn n_branches(&self) -> usize;

    #[doc(hidden)]
    fn run<R: Rules<Self::Output>>(self, location: &'static Location<'static>) -> Self::Racing<R>;
}

mod sealed {
    pub trait Sealed {}
}

pin_project! {
    /// Few futures are polled in place; many as children of a nursery, which polls only those that were woken.
    #[doc(hidden)]
    #[project = FewOrManyPinned]
    pub enum FewOrMany<F: Future, R: Rules<F::Output>> {
        Few { #[pin] race: Few<Row<F>, R> },
        Many { race: Pin<Box<Many<F, R>>> },
    }
}

impl<F: Future, R: Rules<F::Output>> FewOrMany<F, R> {
    fn new(
        location: &'static Location<'static>,
        futures: impl ExactSizeIterator<Item = F>,
    ) -> Self {
        if futures.len() <= FEW {
            let race = Few::new(location, Row::new(futures));
            Self::Few { race }
        } else {
            let race = Box::pin(Many::new(location, futures));
            Self::Many { race }
        }
    }
}

impl<F: Future, R: Rules<F::Output>> Future for FewOrMany<F, R> {
    type Output = R::Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R::Outcome> {
        match self.project() {
            FewOrManyPinned::Few { race } => race.poll(cx),
            FewOrManyPinned::Many { race } => race.as_mut().poll(cx),
        }
    }
}

impl<F: Future, R: Rules<F::Output>> fmt::Debug for FewOrMany<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FewOrMany").finish_non_exhaustive()
    }
}

impl<F: Future> sealed::Sealed for Vec<F> {}

impl<F: Future> Race for Vec<F> {
    type Output = F::Output;
    type Racing<R: Rules<F::Output>> = FewOrMany<F, R>;

    fn n_branches(&self) -> usize {
        self.len()
    }

    fn run<R: Rules<F::Output>>(self, location: &'static Location<'static>) -> FewOrMany<F, R> {
        FewOrMany::new(location, self.into_iter())
    }
}

impl<F: Future, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future, const N: usize> Race for [F; N] {
    type Output = F::Output;
    type Racing<R: Rules<F::Output>> = FewOrMany<F, R>;

    fn n_branches(&self) -> usize {
        N
    }

    fn run<R: Rules<F::Output>>(self, location: &'static Location<'static>) -> FewOrMany<F, R> {
        FewOrMany::new(location, self.into_iter())
    }
}

/// The type of a tuple's lanes.
macro_rules! lanes_of {
    ($last:ident) => { Lane<$last> };
    ($first:ident $($rest:ident)+) => { LaneAnd<$first, lanes_of!($($rest)+)> };
}

/// A tuple's lanes.
macro_rules! lanes {
    ($last:ident) => { Lane::new($last) };
    ($first:ident $($rest:ident)+) => { LaneAnd::new($first, lanes!($($rest)+)) };
}

macro_rules! tuple_race {
    ($($future:ident $value:ident)+) => {
        impl<Output, $($future: Future<Output = Output>),+> sealed::Sealed for ($($future,)+) {}

        impl<Output, $($future: Future<Output = Output>),+> Race for ($($future,)+) {
            type Output = Output;
            type Racing<R: Rules<Output>> = Few<lanes_of!($($future)+), R>;

            #[inline]
            fn n_branches(&self) -> usize {
                [$(stringify!($future)),+].len()
            }

            #[inline]
            fn run<R: Rules<Output>>(self, location: &'static Location<'static>) -> Self::Racing<R> {
                let ($($value,)+) = self;
                Few::new(location, lanes!($($value)+))
            }
        }
    };
}

crate::set::for_each_tuple!(tuple_race);
