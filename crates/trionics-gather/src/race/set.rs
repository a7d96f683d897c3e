//! Sets of futures with the same output.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use trionics_errgroup::Failure;

use super::{Branch, Contest, Runner};
use crate::set::{OneOf, child_of, push_children};

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
    type Branch: Future<Output = Result<(), Failure<Infallible>>> + Unpin;

    #[doc(hidden)]
    fn n_branches(&self) -> usize;

    #[doc(hidden)]
    fn branches(self, contest: &Arc<Contest<Self::Output>>) -> Vec<Self::Branch>;
}

mod sealed {
    pub trait Sealed {}
}

/// A future on its way, where it cannot move.
type BoxBranch<F> = Pin<Box<Branch<F, <F as Future>::Output>>>;

fn branch<F: Future>(future: F, contest: &Arc<Contest<F::Output>>) -> BoxBranch<F> {
    Box::pin(Branch {
        future,
        runner: Runner {
            contest: Arc::clone(contest),
            is_polling: false,
        },
    })
}

impl<F: Future> sealed::Sealed for Vec<F> {}

impl<F: Future> Race for Vec<F> {
    type Output = F::Output;
    type Branch = BoxBranch<F>;

    fn n_branches(&self) -> usize {
        self.len()
    }

    fn branches(self, contest: &Arc<Contest<Self::Output>>) -> Vec<Self::Branch> {
        self.into_iter()
            .map(|future| branch(future, contest))
            .collect()
    }
}

impl<F: Future, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future, const N: usize> Race for [F; N] {
    type Output = F::Output;
    type Branch = BoxBranch<F>;

    fn n_branches(&self) -> usize {
        N
    }

    fn branches(self, contest: &Arc<Contest<Self::Output>>) -> Vec<Self::Branch> {
        self.into_iter()
            .map(|future| branch(future, contest))
            .collect()
    }
}

macro_rules! tuple_race {
    ($($future:ident $value:ident)+) => {
        impl<Output, $($future: Future<Output = Output>),+> sealed::Sealed for ($($future,)+) {}

        impl<Output, $($future: Future<Output = Output>),+> Race for ($($future,)+) {
            type Output = Output;
            type Branch = child_of!(BoxBranch; $($future)+);

            fn n_branches(&self) -> usize {
                [$(stringify!($future)),+].len()
            }

            #[expect(clippy::vec_init_then_push, reason = "each push wraps its branch differently")]
            fn branches(self, contest: &Arc<Contest<Output>>) -> Vec<Self::Branch> {
                let ($($value,)+) = self;
                $(let $value = branch($value, contest);)+
                let mut branches = Vec::new();
                push_children!(branches, (|branch| branch); $($value)+);
                branches
            }
        }
    };
}

crate::set::for_each_tuple!(tuple_race);
