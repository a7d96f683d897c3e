//! Sets of futures, and where their outputs are kept.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;

use crate::set::{OneOf, child_of, take_children};

/// A collection of futures: a `Vec`, an array, or a tuple of up to twelve futures of different types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of futures that can be joined",
    label = "not a `Vec`, an array or a tuple of futures"
)]
pub trait Join: sealed::Sealed {
    /// The outputs, in the same kind of collection.
    type Outputs;

    #[doc(hidden)]
    type Branch: Future<Output = Result<(), Failure<Infallible>>>;

    #[doc(hidden)]
    type Kept;

    #[doc(hidden)]
    fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept;

    #[doc(hidden)]
    fn collect(kept: Self::Kept) -> Self::Outputs;
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
    type Branch: Future<Output = Result<(), Failure<Self::Error>>>;

    #[doc(hidden)]
    type Kept;

    #[doc(hidden)]
    fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept;

    #[doc(hidden)]
    fn collect(kept: Self::Kept) -> Self::Values;
}

mod sealed {
    pub trait Sealed {}
}

/// Where outputs are kept until all are there.
#[doc(hidden)]
pub struct Kept<V> {
    outputs: Arc<[Mutex<Option<V>>]>,
}

impl<V> Kept<V> {
    fn new(n_branches: usize) -> Self {
        Self {
            outputs: (0..n_branches).map(|_| Mutex::new(None)).collect(),
        }
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Option<V>> {
        self.outputs[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The outputs in the order of the branches, once all are there.
    fn take_all(&self) -> impl Iterator<Item = V> {
        (0..self.outputs.len()).map(|index| {
            let output = self.lock(index).take();
            output.expect("a join ends when all outputs are there")
        })
    }

    fn take_one(&self) -> V {
        self.take_all().next().expect("one branch")
    }
}

impl<V> fmt::Debug for Kept<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

/// Where one branch puts its output.
struct Keeper<V> {
    kept: Kept<V>,
    index: usize,
}

impl<V> Keeper<V> {
    fn new(kept: &Kept<V>, index: usize) -> Self {
        Self {
            kept: Kept {
                outputs: Arc::clone(&kept.outputs),
            },
            index,
        }
    }

    fn keep(&self, output: V) {
        let replaced = self.kept.lock(self.index).replace(output);
        drop(replaced);
    }
}

pin_project! {
    /// A future of a join.
    #[doc(hidden)]
    pub struct JoinBranch<F, V> {
        #[pin]
        future: F,
        keeper: Keeper<V>,
    }
}

impl<F: Future> Future for JoinBranch<F, F::Output> {
    type Output = Result<(), Failure<Infallible>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.keeper.keep(ready!(this.future.poll(cx)));
        Poll::Ready(Ok(()))
    }
}

impl<F, V> fmt::Debug for JoinBranch<F, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinBranch").finish_non_exhaustive()
    }
}

pin_project! {
    /// A future of a join that can fail.
    #[doc(hidden)]
    pub struct TryBranch<F, V> {
        #[pin]
        future: F,
        keeper: Keeper<V>,
    }
}

impl<F, V, E> Future for TryBranch<F, V>
where
    F: Future<Output = Result<V, Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let keeper = this.keeper;
        this.future
            .poll(cx)
            .map(|result| result.map(|value| keeper.keep(value)))
    }
}

impl<F, V> fmt::Debug for TryBranch<F, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryBranch").finish_non_exhaustive()
    }
}

type JoinOf<F> = JoinBranch<F, <F as Future>::Output>;

type TryOf<F> = TryBranch<F, <F as Fallible>::Value>;

/// Gives the branches of a `Vec` or an array to `take`.
fn branches<F, V, B>(
    futures: impl ExactSizeIterator<Item = F>,
    branch: impl Fn(F, Keeper<V>) -> B,
    take: &mut impl FnMut(B),
) -> Kept<V> {
    let kept = Kept::new(futures.len());
    for (index, future) in futures.enumerate() {
        take(branch(future, Keeper::new(&kept, index)));
    }
    kept
}

fn array<V, const N: usize>(kept: &Kept<V>) -> [V; N] {
    let mut outputs = kept.take_all();
    std::array::from_fn(|_| outputs.next().expect("an output for each branch"))
}

impl<F: Future> sealed::Sealed for Vec<F> {}

impl<F: Future> Join for Vec<F> {
    type Outputs = Vec<F::Output>;
    type Branch = JoinOf<F>;
    type Kept = Kept<F::Output>;

    fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept {
        let branch = |future, keeper| JoinBranch { future, keeper };
        branches(self.into_iter(), branch, take)
    }

    fn collect(kept: Self::Kept) -> Self::Outputs {
        kept.take_all().collect()
    }
}

impl<F: Fallible> TryJoin for Vec<F> {
    type Values = Vec<F::Value>;
    type Error = F::Error;
    type Branch = TryOf<F>;
    type Kept = Kept<F::Value>;

    fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept {
        let branch = |future, keeper| TryBranch { future, keeper };
        branches(self.into_iter(), branch, take)
    }

    fn collect(kept: Self::Kept) -> Self::Values {
        kept.take_all().collect()
    }
}

impl<F: Future, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future, const N: usize> Join for [F; N] {
    type Outputs = [F::Output; N];
    type Branch = JoinOf<F>;
    type Kept = Kept<F::Output>;

    fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept {
        let branch = |future, keeper| JoinBranch { future, keeper };
        branches(self.into_iter(), branch, take)
    }

    fn collect(kept: Self::Kept) -> Self::Outputs {
        array(&kept)
    }
}

impl<F: Fallible, const N: usize> TryJoin for [F; N] {
    type Values = [F::Value; N];
    type Error = F::Error;
    type Branch = TryOf<F>;
    type Kept = Kept<F::Value>;

    fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept {
        let branch = |future, keeper| TryBranch { future, keeper };
        branches(self.into_iter(), branch, take)
    }

    fn collect(kept: Self::Kept) -> Self::Values {
        array(&kept)
    }
}

macro_rules! tuple_join {
    ($($future:ident $value:ident)+) => {
        impl<$($future: Future),+> sealed::Sealed for ($($future,)+) {}

        impl<$($future: Future),+> Join for ($($future,)+) {
            type Outputs = ($($future::Output,)+);
            type Branch = child_of!(JoinOf; $($future)+);
            type Kept = ($(Kept<$future::Output>,)+);

            fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept {
                let ($($value,)+) = self;
                $(
                    let kept = Kept::new(1);
                    let $value = (JoinBranch { future: $value, keeper: Keeper::new(&kept, 0) }, kept);
                )+
                take_children!(take, (|branch| branch); $($value.0),+);
                ($($value.1,)+)
            }

            fn collect(kept: Self::Kept) -> Self::Outputs {
                let ($($value,)+) = kept;
                ($($value.take_one(),)+)
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

macro_rules! tuple_try_join {
    ($($future:ident $value:ident)+) => {
        impl<Error, $($future: Fallible<Error = Error>),+> TryJoin for ($($future,)+) {
            type Values = ($($future::Value,)+);
            type Error = Error;
            type Branch = child_of!(TryOf; $($future)+);
            type Kept = ($(Kept<$future::Value>,)+);

            fn branches(self, take: &mut impl FnMut(Self::Branch)) -> Self::Kept {
                let ($($value,)+) = self;
                $(
                    let kept = Kept::new(1);
                    let $value = (TryBranch { future: $value, keeper: Keeper::new(&kept, 0) }, kept);
                )+
                take_children!(take, (|branch| branch); $($value.0),+);
                ($($value.1,)+)
            }

            fn collect(kept: Self::Kept) -> Self::Values {
                let ($($value,)+) = kept;
                ($($value.take_one(),)+)
            }
        }
    };
}

crate::set::for_each_tuple!(tuple_try_join);
