//! Sets of contexts: vectors, arrays, and tuples of different types.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use trionics_errgroup::Failure;

use crate::{
    context::AsyncContext,
    held::{HeldOf, Holding, ParcelOf, hold},
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
    type Child: Future<Output = Result<(), Failure<Self::Error>>> + Unpin;

    #[doc(hidden)]
    type Children: IntoIterator<Item = Self::Child>;

    #[doc(hidden)]
    type Parcels;

    #[doc(hidden)]
    fn n_contexts(&self) -> usize;

    #[doc(hidden)]
    fn hold(self, holding: &Holding) -> (Self::Children, Self::Parcels);

    #[doc(hidden)]
    fn collect(parcels: Self::Parcels) -> Self::Values;
}

mod sealed {
    pub trait Sealed {}
}

/// A context on its way, where it cannot move.
type BoxHeld<C> = Pin<Box<HeldOf<C>>>;

fn hold_boxed<C: AsyncContext>(context: C, holding: &Holding) -> (BoxHeld<C>, ParcelOf<C>) {
    let (held, parcel) = hold(context, holding);
    (Box::pin(held), parcel)
}

impl<C: AsyncContext> sealed::Sealed for Vec<C> {}

impl<C: AsyncContext> ContextSet for Vec<C> {
    type Error = C::Error;
    type Values = Vec<C::Value>;
    type Child = BoxHeld<C>;
    type Children = Vec<BoxHeld<C>>;
    type Parcels = Vec<ParcelOf<C>>;

    fn n_contexts(&self) -> usize {
        self.len()
    }

    fn hold(self, holding: &Holding) -> (Self::Children, Self::Parcels) {
        self.into_iter()
            .map(|context| hold_boxed(context, holding))
            .unzip()
    }

    fn collect(parcels: Self::Parcels) -> Self::Values {
        parcels
            .into_iter()
            .map(|parcel| parcel.take_delivered())
            .collect()
    }
}

impl<C: AsyncContext, const N: usize> sealed::Sealed for [C; N] {}

impl<C: AsyncContext, const N: usize> ContextSet for [C; N] {
    type Error = C::Error;
    type Values = [C::Value; N];
    type Child = BoxHeld<C>;
    type Children = Vec<BoxHeld<C>>;
    type Parcels = [ParcelOf<C>; N];

    fn n_contexts(&self) -> usize {
        N
    }

    fn hold(self, holding: &Holding) -> (Self::Children, Self::Parcels) {
        let mut children = Vec::with_capacity(N);
        let parcels = self.map(|context| {
            let (child, parcel) = hold_boxed(context, holding);
            children.push(child);
            parcel
        });
        (children, parcels)
    }

    fn collect(parcels: Self::Parcels) -> Self::Values {
        parcels.map(|parcel| parcel.take_delivered())
    }
}

/// One of several kinds of children.
#[derive(Debug)]
pub enum OneOf<A, B> {
    #[doc(hidden)]
    First(A),
    #[doc(hidden)]
    Rest(B),
}

impl<A, B> Future for OneOf<A, B>
where
    A: Future + Unpin,
    B: Future<Output = A::Output> + Unpin,
{
    type Output = A::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::First(future) => Pin::new(future).poll(cx),
            Self::Rest(future) => Pin::new(future).poll(cx),
        }
    }
}

/// The type of a tuple's children, each in `$Boxed`: `OneOf<A, OneOf<B, C>>`.
macro_rules! child_of {
    ($Boxed:ident; $last:ident) => { $Boxed<$last> };
    ($Boxed:ident; $first:ident $($rest:ident)+) => {
        OneOf<$Boxed<$first>, child_of!($Boxed; $($rest)+)>
    };
}

/// Pushes each child, wrapped as deep as its place in the tuple.
macro_rules! push_children {
    ($children:ident, ($wrap:expr); $last:tt) => {
        $children.push(($wrap)($last));
    };
    ($children:ident, ($wrap:expr); $first:tt $($rest:tt)+) => {
        $children.push(($wrap)(OneOf::First($first)));
        push_children!($children, (|child| ($wrap)(OneOf::Rest(child))); $($rest)+);
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

pub(crate) use {child_of, for_each_tuple, push_children};

macro_rules! tuple_set {
    ($($context:ident $value:ident)+) => {
        impl<Error, $($context: AsyncContext<Error = Error>),+> sealed::Sealed for ($($context,)+) {}

        impl<Error, $($context: AsyncContext<Error = Error>),+> ContextSet for ($($context,)+) {
            type Error = Error;
            type Values = ($($context::Value,)+);
            type Child = child_of!(BoxHeld; $($context)+);
            type Children = Vec<Self::Child>;
            type Parcels = ($(ParcelOf<$context>,)+);

            fn n_contexts(&self) -> usize {
                [$(stringify!($context)),+].len()
            }

            #[expect(clippy::vec_init_then_push, reason = "each push wraps its child differently")]
            fn hold(
                self,
                holding: &Holding
            ) -> (Self::Children, Self::Parcels) {
                let ($($value,)+) = self;
                $(let $value = hold_boxed($value, holding);)+
                let mut children = Vec::new();
                push_children!(children, (|child| child); $(($value.0))+);
                (children, ($($value.1,)+))
            }

            fn collect(parcels: Self::Parcels) -> Self::Values {
                let ($($value,)+) = parcels;
                ($($value.take_delivered(),)+)
            }
        }
    };
}

for_each_tuple!(tuple_set);
