//! Sets of futures, and where their outputs are kept.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;

use crate::{
    delivery::Parcel,
    set::{OneOf, child_of, push_children},
};

/// A collection of futures: a `Vec`, an array, or a tuple of up to twelve futures of different types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of futures that can be joined",
    label = "not a `Vec`, an array or a tuple of futures"
)]
pub trait Join: sealed::Sealed {
    /// The outputs, in the same kind of collection.
    type Outputs;

    #[doc(hidden)]
    type Branch: Future<Output = Result<(), Failure<Infallible>>> + Unpin;

    #[doc(hidden)]
    type Parcels;

    #[doc(hidden)]
    fn branches(self) -> (Vec<Self::Branch>, Self::Parcels);

    #[doc(hidden)]
    fn collect(parcels: Self::Parcels) -> Self::Outputs;
}

/// A collection of futures that can fail: a `Vec`, an array, or a tuple of up to twelve futures of
/// different types and the same error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of futures that can be joined until one fails",
    label = "not a `Vec`, an array or a tuple of futures that return `Result<_, Failure<E>>` with one `E`"
)]
pub trait TryJoin: sealed::Sealed {
    /// The values, in the same kind of collection.
    type Values;

    /// What the futures fail with.
    type Error;

    #[doc(hidden)]
    type Branch: Future<Output = Result<(), Failure<Self::Error>>> + Unpin;

    #[doc(hidden)]
    type Parcels;

    #[doc(hidden)]
    fn branches(self) -> (Vec<Self::Branch>, Self::Parcels);

    #[doc(hidden)]
    fn collect(parcels: Self::Parcels) -> Self::Values;
}

mod sealed {
    pub trait Sealed {}
}

/// Where an output is kept until all are there.
type Kept<V> = Arc<Parcel<V>>;

pin_project! {
    /// A future of a join.
    #[doc(hidden)]
    pub struct JoinBranch<F, V> {
        #[pin]
        future: F,
        parcel: Kept<V>,
    }
}

impl<F: Future> Future for JoinBranch<F, F::Output> {
    type Output = Result<(), Failure<Infallible>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.parcel.deliver(ready!(this.future.poll(cx)));
        Poll::Ready(Ok(()))
    }
}

impl<F, V> std::fmt::Debug for JoinBranch<F, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinBranch").finish_non_exhaustive()
    }
}

pin_project! {
    /// A future of a join that can fail.
    #[doc(hidden)]
    pub struct TryBranch<F, V> {
        #[pin]
        future: F,
        parcel: Kept<V>,
    }
}

impl<F, V, E> Future for TryBranch<F, V>
where
    F: Future<Output = Result<V, Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let parcel = this.parcel;
        this.future
            .poll(cx)
            .map(|result| result.map(|value| parcel.deliver(value)))
    }
}

impl<F, V> std::fmt::Debug for TryBranch<F, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TryBranch").finish_non_exhaustive()
    }
}

type BoxJoin<F> = Pin<Box<JoinBranch<F, <F as Future>::Output>>>;

fn join_branch<F: Future>(future: F) -> (BoxJoin<F>, Kept<F::Output>) {
    let parcel = Arc::new(Parcel::awaited());
    let branch = JoinBranch {
        future,
        parcel: Arc::clone(&parcel),
    };
    (Box::pin(branch), parcel)
}

type BoxTry<F, V> = Pin<Box<TryBranch<F, V>>>;

fn try_branch<F, V, E>(future: F) -> (BoxTry<F, V>, Kept<V>)
where
    F: Future<Output = Result<V, Failure<E>>>,
{
    let parcel = Arc::new(Parcel::awaited());
    let branch = TryBranch {
        future,
        parcel: Arc::clone(&parcel),
    };
    (Box::pin(branch), parcel)
}

fn take_all<V>(parcels: Vec<Kept<V>>) -> Vec<V> {
    parcels
        .into_iter()
        .map(|parcel| parcel.take_delivered())
        .collect()
}

/// Makes the branches of an array.
fn array<F, B, P, const N: usize>(
    futures: [F; N],
    branch: impl Fn(F) -> (B, P),
) -> (Vec<B>, [P; N]) {
    let mut branches = Vec::with_capacity(N);
    let parcels = futures.map(|future| {
        let (branch, parcel) = branch(future);
        branches.push(branch);
        parcel
    });
    (branches, parcels)
}

impl<F: Future> sealed::Sealed for Vec<F> {}

impl<F: Future> Join for Vec<F> {
    type Outputs = Vec<F::Output>;
    type Branch = BoxJoin<F>;
    type Parcels = Vec<Kept<F::Output>>;

    fn branches(self) -> (Vec<Self::Branch>, Self::Parcels) {
        self.into_iter().map(join_branch).unzip()
    }

    fn collect(parcels: Self::Parcels) -> Self::Outputs {
        take_all(parcels)
    }
}

impl<F, V, E> TryJoin for Vec<F>
where
    F: Future<Output = Result<V, Failure<E>>>,
{
    type Values = Vec<V>;
    type Error = E;
    type Branch = BoxTry<F, V>;
    type Parcels = Vec<Kept<V>>;

    fn branches(self) -> (Vec<Self::Branch>, Self::Parcels) {
        self.into_iter().map(try_branch).unzip()
    }

    fn collect(parcels: Self::Parcels) -> Self::Values {
        take_all(parcels)
    }
}

impl<F: Future, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future, const N: usize> Join for [F; N] {
    type Outputs = [F::Output; N];
    type Branch = BoxJoin<F>;
    type Parcels = [Kept<F::Output>; N];

    fn branches(self) -> (Vec<Self::Branch>, Self::Parcels) {
        array(self, join_branch)
    }

    fn collect(parcels: Self::Parcels) -> Self::Outputs {
        parcels.map(|parcel| parcel.take_delivered())
    }
}

impl<F, V, E, const N: usize> TryJoin for [F; N]
where
    F: Future<Output = Result<V, Failure<E>>>,
{
    type Values = [V; N];
    type Error = E;
    type Branch = BoxTry<F, V>;
    type Parcels = [Kept<V>; N];

    fn branches(self) -> (Vec<Self::Branch>, Self::Parcels) {
        array(self, try_branch)
    }

    fn collect(parcels: Self::Parcels) -> Self::Values {
        parcels.map(|parcel| parcel.take_delivered())
    }
}

macro_rules! tuple_join {
    ($($future:ident $value:ident)+) => {
        impl<$($future: Future),+> sealed::Sealed for ($($future,)+) {}

        impl<$($future: Future),+> Join for ($($future,)+) {
            type Outputs = ($($future::Output,)+);
            type Branch = child_of!(BoxJoin; $($future)+);
            type Parcels = ($(Kept<$future::Output>,)+);

            #[expect(clippy::vec_init_then_push, reason = "each push wraps its branch differently")]
            fn branches(self) -> (Vec<Self::Branch>, Self::Parcels) {
                let ($($value,)+) = self;
                $(let $value = join_branch($value);)+
                let mut branches = Vec::new();
                push_children!(branches, (|branch| branch); $(($value.0))+);
                (branches, ($($value.1,)+))
            }

            fn collect(parcels: Self::Parcels) -> Self::Outputs {
                let ($($value,)+) = parcels;
                ($($value.take_delivered(),)+)
            }
        }
    };
}

crate::set::for_each_tuple!(tuple_join);

/// A future that can fail, by the names of its parts.
#[doc(hidden)]
pub trait Fallible: Future<Output = Result<Self::Value, Failure<Self::Error>>> {
    type Value;
    type Error;
}

impl<F, V, E> Fallible for F
where
    F: Future<Output = Result<V, Failure<E>>>,
{
    type Value = V;
    type Error = E;
}

type BoxFallible<F> = BoxTry<F, <F as Fallible>::Value>;

macro_rules! tuple_try_join {
    ($($future:ident $value:ident)+) => {
        impl<Error, $($future: Fallible<Error = Error>),+> TryJoin for ($($future,)+) {
            type Values = ($($future::Value,)+);
            type Error = Error;
            type Branch = child_of!(BoxFallible; $($future)+);
            type Parcels = ($(Kept<$future::Value>,)+);

            #[expect(clippy::vec_init_then_push, reason = "each push wraps its branch differently")]
            fn branches(self) -> (Vec<Self::Branch>, Self::Parcels) {
                let ($($value,)+) = self;
                $(let $value = try_branch($value);)+
                let mut branches = Vec::new();
                push_children!(branches, (|branch| branch); $(($value.0))+);
                (branches, ($($value.1,)+))
            }

            fn collect(parcels: Self::Parcels) -> Self::Values {
                let ($($value,)+) = parcels;
                ($($value.take_delivered(),)+)
            }
        }
    };
}

crate::set::for_each_tuple!(tuple_try_join);
