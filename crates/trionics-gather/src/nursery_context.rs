//! Nurseries as contexts: background tasks that live as long as a block.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure};
use trionics_nursery::{
    CancelScope, LocalNursery, Nursery, NurseryOptions, OpenLocalNursery, OpenNursery,
    internal::cancel_scope,
};

use crate::context::{AsyncContext, BlockEnd, Provide, Slot};

/// Makes a context that provides a nursery, whose children live as long as the block.
///
/// When the block has ended the children are cancelled, and the exit waits until they have unwound; with
/// [`joining`](NurseryContext::joining) it waits for those of a block that completed. A child that fails
/// cancels the block, and its failure is the context's.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
/// use trionics_gather::{nursery_context, with_context};
/// use trionics_nursery::{Nursery, checkpoint};
///
/// # futures::executor::block_on(async {
/// let beats = AtomicUsize::new(0);
/// let outcome = with_context(nursery_context(), async |background: Nursery<'_>| {
///     background.start_soon(async {
///         loop {
///             beats.fetch_add(1, Relaxed); // a heartbeat
///             checkpoint().await;
///         }
///     });
///     checkpoint().await;
///     Ok("done")
/// })
/// .await;
/// assert_eq!(outcome.unwrap(), "done"); // and the heartbeat has been stopped
/// assert!(beats.load(Relaxed) > 0);
/// # });
/// ```
#[track_caller]
pub fn nursery_context<'env, E>() -> NurseryContext<Nursery<'env, E>> {
    NurseryContext::new(Location::caller())
}

/// Makes a context that provides a nursery whose children need not be `Send`; otherwise as
/// [`nursery_context`].
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use trionics_gather::{local_nursery_context, with_context};
/// use trionics_nursery::LocalNursery;
///
/// # futures::executor::block_on(async {
/// let count = Rc::new(Cell::new(0));
/// let context = local_nursery_context().joining();
/// let outcome = with_context(context, async |background: LocalNursery<'_>| {
///     let count = Rc::clone(&count);
///     background.start_soon(async move { Ok(count.set(1)) });
///     Ok(())
/// })
/// .await;
/// assert!(outcome.is_ok());
/// assert_eq!(count.get(), 1);
/// # });
/// ```
#[track_caller]
pub fn local_nursery_context<'env, E>() -> NurseryContext<LocalNursery<'env, E>> {
    NurseryContext::new(Location::caller())
}

/// The context made by [`nursery_context`] and [`local_nursery_context`].
#[must_use = "a context does nothing until it is entered"]
pub struct NurseryContext<N> {
    options: NurseryOptions,
    joins: bool,
    location: &'static Location<'static>,
    nursery: PhantomData<fn() -> N>,
}

impl<N> NurseryContext<N> {
    fn new(location: &'static Location<'static>) -> Self {
        Self {
            options: NurseryOptions::new(),
            joins: false,
            location,
            nursery: PhantomData,
        }
    }

    /// Opens the nursery with these options.
    pub fn options(mut self, options: NurseryOptions) -> Self {
        self.options = options;
        self
    }

    /// Waits, when the block has completed, until the children end by themselves.
    ///
    /// After a block that failed, panicked or was cancelled they are cancelled all the same.
    pub fn joining(mut self) -> Self {
        self.joins = true;
        self
    }
}

impl<N> fmt::Debug for NurseryContext<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NurseryContext")
            .field("options", &self.options)
            .field("joins", &self.joins)
            .finish_non_exhaustive()
    }
}

macro_rules! nursery_context_of {
    ($Nursery:ident, $Open:ident, $open:ident, $MakeBody:ident $(, $send:ident)?) => {
        /// Boxed, because the type of a context's life has to be named.
        type $MakeBody<'env, E> =
            Box<dyn FnOnce($Nursery<'env, E>) -> Lend<$Nursery<'env, E>, E> $(+ $send)? + 'env>;

        impl<'env, E: 'env> AsyncContext for NurseryContext<$Nursery<'env, E>> {
            type Value = $Nursery<'env, E>;
            type Error = E;
            type Run = $Open<'env, (), E, $MakeBody<'env, E>, Lend<$Nursery<'env, E>, E>>;

            fn run(self, slot: Slot<Self::Value>) -> Self::Run {
                let (joins, location) = (self.joins, self.location);
                self.options.$open(Box::new(move |nursery: $Nursery<'env, E>| Lend {
                    scope: nursery.cancel_scope(),
                    provide: slot.provide(nursery),
                    joins,
                    location,
                    error: PhantomData,
                }))
            }
        }
    };
}

nursery_context_of!(Nursery, OpenNursery, open, MakeBody, Send);
nursery_context_of!(LocalNursery, OpenLocalNursery, open_local, MakeLocalBody);

pin_project! {
    /// The body of the nursery: it lends the nursery to the block.
    #[doc(hidden)]
    pub struct Lend<N, E> {
        #[pin]
        provide: Provide<N>,
        scope: CancelScope,
        joins: bool,
        location: &'static Location<'static>,
        error: PhantomData<fn() -> E>,
    }
}

impl<N, E> Future for Lend<N, E> {
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let end = ready!(this.provide.poll(cx));
        if !(*this.joins && end == BlockEnd::Completed) {
            let reason = CancelReason::Closed;
            cancel_scope(this.scope, Cancelled::__new(reason, this.location));
        }
        Poll::Ready(Ok(()))
    }
}

impl<N, E> fmt::Debug for Lend<N, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lend").finish_non_exhaustive()
    }
}
