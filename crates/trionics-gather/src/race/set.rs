//! Sets of futures with the same output.

use std::{
    future::{Future, Ready},
    pin::Pin,
};

use trionics_nursery::internal::{Lane, LaneAnd, Lanes};

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
    type Lanes: Lanes<Output = Self::Output>;

    #[doc(hidden)]
    type Future: Future<Output = Self::Output>;

    #[doc(hidden)]
    fn n_branches(&self) -> usize;

    #[doc(hidden)]
    fn runners(self) -> Runners<Self::Lanes, Self::Future>;
}

/// Those who take part in a race.
#[doc(hidden)]
#[derive(Debug)]
pub enum Runners<L, F> {
    Few(L),
    Many(Vec<F>),
}

mod sealed {
    pub trait Sealed {}
}

fn runners<F: Future>(
    futures: impl ExactSizeIterator<Item = F>,
) -> Runners<Vec<Pin<Box<Lane<F>>>>, F> {
    if futures.len() <= FEW {
        Runners::Few(futures.map(Lane::new).map(Box::pin).collect())
    } else {
        Runners::Many(futures.collect())
    }
}

impl<F: Future> sealed::Sealed for Vec<F> {}

impl<F: Future> Race for Vec<F> {
    type Output = F::Output;
    type Lanes = Vec<Pin<Box<Lane<F>>>>;
    type Future = F;

    fn n_branches(&self) -> usize {
        self.len()
    }

    fn runners(self) -> Runners<Self::Lanes, F> {
        runners(self.into_iter())
    }
}

impl<F: Future, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future, const N: usize> Race for [F; N] {
    type Output = F::Output;
    type Lanes = Vec<Pin<Box<Lane<F>>>>;
    type Future = F;

    fn n_branches(&self) -> usize {
        N
    }

    fn runners(self) -> Runners<Self::Lanes, F> {
        runners(self.into_iter())
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
            type Lanes = lanes_of!($($future)+);
            // A tuple is never so large.
            type Future = Ready<Output>;

            fn n_branches(&self) -> usize {
                [$(stringify!($future)),+].len()
            }

            fn runners(self) -> Runners<Self::Lanes, Ready<Output>> {
                let ($($value,)+) = self;
                Runners::Few(lanes!($($value)+))
            }
        }
    };
}

crate::set::for_each_tuple!(tuple_race);
