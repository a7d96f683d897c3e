//! Sets of contexts: vectors, arrays, and tuples of different types.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;
use trionics_nursery::internal::{Enlist, Host};

use crate::{
    context::AsyncContext,
    delivery::Shelf,
    held::{HeldOf, Holding, ShelfOf, hold},
};

/// A collection of contexts that [`gather_contexts`](crate::gather_contexts) takes: a `Vec`, an array,
/// or a tuple of up to twelve contexts of different types and the same error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of async contexts",
    label = "not a `Vec`, an array or a tuple of async contexts",
    note = "`acm` makes a context from an async function; contexts of different types go into a tuple, or are made alike with `boxed()`"
)]
pub trait ContextSet: sealed::Sealed {
    /// What the contexts fail with.
    type Error;

    /// The values, in the same kind of collection.
    type Values;

    #[doc(hidden)]
    type Child: Future<Output = Result<(), Failure<Self::Error>>>;

    #[doc(hidden)]
    type Shelves;

    #[doc(hidden)]
    fn n_contexts(&self) -> usize;

    /// Prepares the contexts, seats each, and says where their values arrive.
    #[doc(hidden)]
    fn hold(self, holding: &Holding, seats: &mut impl Seats<Self::Child>) -> Self::Shelves;

    #[doc(hidden)]
    fn collect(shelves: Self::Shelves) -> Self::Values;
}

/// Where contexts are put.
#[doc(hidden)]
pub trait Seats<C> {
    /// Puts the context there that `make` makes, for the child that will run it if that is known.
    fn seat(&mut self, make: impl FnOnce(Option<Host>) -> C);
}

/// The nursery whose body runs the block.
impl<C: Future> Seats<C> for Enlist<'_, C> {
    fn seat(&mut self, make: impl FnOnce(Option<Host>) -> C) {
        self.add_with(|host| make(Some(host)));
    }
}

/// For a nursery of the caller's.
impl<C> Seats<C> for Vec<C> {
    fn seat(&mut self, make: impl FnOnce(Option<Host>) -> C) {
        self.push(make(None));
    }
}

mod sealed {
    pub trait Sealed {}
}

impl<C: AsyncContext> sealed::Sealed for Vec<C> {}

impl<C: AsyncContext> ContextSet for Vec<C> {
    type Error = C::Error;
    type Values = Vec<C::Value>;
    type Child = HeldOf<C>;
    type Shelves = ShelfOf<C>;

    fn n_contexts(&self) -> usize {
        self.len()
    }

    fn hold(self, holding: &Holding, seats: &mut impl Seats<Self::Child>) -> Self::Shelves {
        let shelf = Shelf::new(holding, self.len());
        for (index, context) in self.into_iter().enumerate() {
            seats.seat(|host| hold(context, &shelf, index, host));
        }
        shelf
    }

    fn collect(shelf: Self::Shelves) -> Self::Values {
        shelf.take_all().collect()
    }
}

impl<C: AsyncContext, const N: usize> sealed::Sealed for [C; N] {}

impl<C: AsyncContext, const N: usize> ContextSet for [C; N] {
    type Error = C::Error;
    type Values = [C::Value; N];
    type Child = HeldOf<C>;
    type Shelves = ShelfOf<C>;

    fn n_contexts(&self) -> usize {
        N
    }

    fn hold(self, holding: &Holding, seats: &mut impl Seats<Self::Child>) -> Self::Shelves {
        let shelf = Shelf::new(holding, N);
        for (index, context) in self.into_iter().enumerate() {
            seats.seat(|host| hold(context, &shelf, index, host));
        }
        shelf
    }

    fn collect(shelf: Self::Shelves) -> Self::Values {
        let mut values = shelf.take_all();
        std::array::from_fn(|_| values.next().expect("a value for each context"))
    }
}

pin_project! {
    /// One of several kinds of children.
    #[doc(hidden)]
    #[project = OneOfPinned]
    #[derive(Debug)]
    pub enum OneOf<A, B> {
        First { #[pin] future: A },
        Rest { #[pin] future: B },
    }
}

impl<A, B> Future for OneOf<A, B>
where
    A: Future,
    B: Future<Output = A::Output>,
{
    type Output = A::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            OneOfPinned::First { future } => future.poll(cx),
            OneOfPinned::Rest { future } => future.poll(cx),
        }
    }
}

/// The type of a tuple's children, each in `$Child`: `OneOf<A, OneOf<B, C>>`.
macro_rules! child_of {
    ($Child:ident; $last:ident) => { $Child<$last> };
    ($Child:ident; $first:ident $($rest:ident)+) => {
        OneOf<$Child<$first>, child_of!($Child; $($rest)+)>
    };
}

/// Gives each child to `$take`, wrapped as deep as its place in the tuple.
macro_rules! take_children {
    ($take:ident, ($wrap:expr); $last:expr) => {
        $take(($wrap)($last));
    };
    ($take:ident, ($wrap:expr); $first:expr, $($rest:expr),+) => {
        $take(($wrap)(OneOf::First { future: $first }));
        take_children!($take, (|future| ($wrap)(OneOf::Rest { future })); $($rest),+);
    };
}

/// Calls a macro for each tuple that is a set: with a name for each type and each value.
macro_rules! for_each_tuple {
    ($make:ident) => {
        $make!(A a);
        $make!(A a B b);
        $make!(A a B b C c);
        $make!(A a B b C c D d);
        $make!(A a B b C c D d E e);
        $make!(A a B b C c D d E e F f);
        $make!(A a B b C c D d E e F f G g);
        $make!(A a B b C c D d E e F f G g H h);
        $make!(A a B b C c D d E e F f G g H h I i);
        $make!(A a B b C c D d E e F f G g H h I i J j);
        $make!(A a B b C c D d E e F f G g H h I i J j K k);
        $make!(A a B b C c D d E e F f G g H h I i J j K k L l);
    };
}

pub(crate) use {child_of, for_each_tuple, take_children};

/// Seats each context, with its shelf, as deep as its place in the tuple.
macro_rules! seat_children {
    ($seats:ident, ($wrap:expr); $last:ident) => {
        $seats.seat(|host| ($wrap)(hold($last.0, &$last.1, 0, host)));
    };
    ($seats:ident, ($wrap:expr); $first:ident $($rest:ident)+) => {
        $seats.seat(|host| {
            let future = hold($first.0, &$first.1, 0, host);
            ($wrap)(OneOf::First { future })
        });
        seat_children!($seats, (|future| ($wrap)(OneOf::Rest { future })); $($rest)+);
    };
}

macro_rules! tuple_set {
    ($($context:ident $value:ident)+) => {
        impl<Error, $($context: AsyncContext<Error = Error>),+> sealed::Sealed for ($($context,)+) {}

        impl<Error, $($context: AsyncContext<Error = Error>),+> ContextSet for ($($context,)+) {
            type Error = Error;
            type Values = ($($context::Value,)+);
            type Child = child_of!(HeldOf; $($context)+);
            type Shelves = ($(ShelfOf<$context>,)+);

            fn n_contexts(&self) -> usize {
                [$(stringify!($context)),+].len()
            }

            fn hold(self, holding: &Holding, seats: &mut impl Seats<Self::Child>) -> Self::Shelves {
                let ($($value,)+) = self;
                $(let $value = ($value, Shelf::new(holding, 1));)+
                seat_children!(seats, (|child| child); $($value)+);
                ($($value.1,)+)
            }

            fn collect(shelves: Self::Shelves) -> Self::Values {
                let ($($value,)+) = shelves;
                ($($value.take_one(),)+)
            }
        }
    };
}

for_each_tuple!(tuple_set);
