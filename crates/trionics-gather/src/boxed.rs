//! Contexts of different kinds under one type.

use std::{fmt, future::Future, pin::Pin};

use trionics_errgroup::{AnyError, Failure};

use crate::context::{AsyncContext, Slot};

/// The life of a [`BoxContext`].
type BoxRun<'a, E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send + 'a>>;

/// The life of a [`LocalBoxContext`].
type LocalBoxRun<'a, E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + 'a>>;

/// A context of any kind that may be sent to another thread; made by [`AsyncContext::boxed`].
#[must_use = "a context does nothing until it is entered"]
pub struct BoxContext<'a, V, E = AnyError> {
    run: Box<dyn FnOnce(Slot<V>) -> BoxRun<'a, E> + Send + 'a>,
}

/// A context of any kind that stays on its thread; made by [`AsyncContext::boxed_local`].
#[must_use = "a context does nothing until it is entered"]
pub struct LocalBoxContext<'a, V, E = AnyError> {
    run: Box<dyn FnOnce(Slot<V>) -> LocalBoxRun<'a, E> + 'a>,
}

impl<'a, V, E> BoxContext<'a, V, E> {
    pub(crate) fn new<C>(context: C) -> Self
    where
        C: AsyncContext<Value = V, Error = E, Run: Send + 'a> + Send + 'a,
    {
        Self {
            run: Box::new(move |slot| Box::pin(context.run(slot))),
        }
    }
}

impl<'a, V, E> LocalBoxContext<'a, V, E> {
    pub(crate) fn new<C>(context: C) -> Self
    where
        C: AsyncContext<Value = V, Error = E, Run: 'a> + 'a,
    {
        Self {
            run: Box::new(move |slot| Box::pin(context.run(slot))),
        }
    }
}

impl<'a, V, E> AsyncContext for BoxContext<'a, V, E> {
    type Value = V;
    type Error = E;
    type Run = BoxRun<'a, E>;

    fn run(self, slot: Slot<V>) -> Self::Run {
        (self.run)(slot)
    }
}

impl<'a, V, E> AsyncContext for LocalBoxContext<'a, V, E> {
    type Value = V;
    type Error = E;
    type Run = LocalBoxRun<'a, E>;

    fn run(self, slot: Slot<V>) -> Self::Run {
        (self.run)(slot)
    }
}

impl<V, E> fmt::Debug for BoxContext<'_, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxContext").finish_non_exhaustive()
    }
}

impl<V, E> fmt::Debug for LocalBoxContext<'_, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBoxContext").finish_non_exhaustive()
    }
}
