//! Async contexts: one future that sets up, hands a value over, waits to be left, and tears down.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;
use trionics_nursery::internal::Guest;

pub use trionics_nursery::internal::BlockEnd;

use crate::{
    boxed::{BoxContext, LocalBoxContext},
    delivery::Delivery,
    map::Map,
};

/// Something with an async set-up that gives a value, and an async exit.
///
/// One future does it all: it sets up, calls [`Slot::provide`] with the value, which waits until the
/// block that uses the value has ended, and then tears down. What `?` and early returns do in an
/// ordinary function they do here. [`acm`] makes one from an async function.
///
/// Set-up can be cancelled like any code. From the moment `provide` has returned, the rest is a shield:
/// it runs to its end, however often the scopes around are cancelled.
///
/// A function that returns a context for use in a nursery's child says that its life is `Send`:
/// `-> impl AsyncContext<Value = V, Error = E, Run: Send>`.
///
/// # Examples
///
/// ```
/// use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc};
/// use trionics_errgroup::{AnyError, Failure};
/// use trionics_gather::{AsyncContext, Slot, with_context};
///
/// /// Writes down when it is entered and left.
/// struct Noted(Rc<RefCell<Vec<&'static str>>>);
///
/// impl AsyncContext for Noted {
///     type Value = ();
///     type Error = AnyError;
///     type Run = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;
///
///     fn run(self, slot: Slot<()>) -> Self::Run {
///         Box::pin(async move {
///             self.0.borrow_mut().push("enter");
///             slot.provide(()).await;
///             self.0.borrow_mut().push("exit");
///             Ok(())
///         })
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let notes = Rc::new(RefCell::new(Vec::new()));
/// let block = async |()| {
///     notes.borrow_mut().push("block");
///     Ok(())
/// };
/// with_context(Noted(Rc::clone(&notes)), block).await.unwrap();
/// assert_eq!(*notes.borrow(), ["enter", "block", "exit"]);
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async context",
    label = "not an async context",
    note = "`acm(async |slot| {{ … slot.provide(value).await; … }})` makes one from an async function",
    note = "`null_context(value)` makes one from a plain value"
)]
pub trait AsyncContext {
    /// What the block gets.
    type Value;

    /// What set-up and exit fail with.
    type Error;

    /// The whole life of the context.
    type Run: Future<Output = Result<(), Failure<Self::Error>>>;

    /// Sets up, provides a value to `slot`, and tears down once `provide` has returned.
    fn run(self, slot: Slot<Self::Value>) -> Self::Run;

    /// Changes the value on its way to the block.
    ///
    /// Set-up and exit stay as they are, and the exit is told how the user's block ended. If `change` panics, the
    /// context is left, and the panic is resumed.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_gather::{AsyncContext as _, Slot, acm, with_context};
    /// use trionics_nursery::Failure;
    ///
    /// # futures::executor::block_on(async {
    /// let feed = acm(async |slot: Slot<&str>| {
    ///     slot.provide("quotes").await;
    ///     Ok::<(), Failure>(())
    /// });
    /// let outcome = with_context(feed.map(str::len), async |length| Ok(length)).await;
    /// assert_eq!(outcome.unwrap(), 6);
    /// # });
    /// ```
    #[track_caller]
    fn map<U, F>(self, change: F) -> Map<Self, F>
    where
        Self: Sized,
        F: FnOnce(Self::Value) -> U,
    {
        Map::new(self, change, Location::caller())
    }

    /// Hides what kind of context this is, so that different kinds can be in one `Vec`.
    ///
    /// Costs two allocations. Contexts that cannot be sent to another thread have
    /// [`boxed_local`](Self::boxed_local).
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_gather::{AsyncContext as _, Slot, acm, gather_contexts, null_context};
    /// use trionics_nursery::Failure;
    ///
    /// # futures::executor::block_on(async {
    /// let feed = acm(async |slot: Slot<&str>| {
    ///     slot.provide("quotes").await;
    ///     Ok::<(), Failure>(())
    /// });
    /// let contexts = vec![feed.boxed(), null_context("news").boxed()];
    /// let outcome = gather_contexts(contexts, async |names| Ok(names.concat())).await;
    /// assert_eq!(outcome.unwrap(), "quotesnews");
    /// # });
    /// ```
    fn boxed<'a>(self) -> BoxContext<'a, Self::Value, Self::Error>
    where
        Self: Sized + Send + 'a,
        Self::Run: Send + 'a,
    {
        BoxContext::new(self)
    }

    /// Like [`boxed`](Self::boxed), for contexts that stay on their thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    /// use trionics_gather::{AsyncContext as _, null_context, with_context};
    /// use trionics_nursery::Failure;
    ///
    /// # futures::executor::block_on(async {
    /// let context = null_context(Rc::new(7)).boxed_local();
    /// let outcome = with_context(context, async |n| Ok::<_, Failure>(*n)).await;
    /// assert_eq!(outcome.unwrap(), 7);
    /// # });
    /// ```
    fn boxed_local<'a>(self) -> LocalBoxContext<'a, Self::Value, Self::Error>
    where
        Self: Sized + 'a,
        Self::Run: 'a,
    {
        LocalBoxContext::new(self)
    }
}

/// Where a context puts its value.
///
/// A context that ends without having provided makes the block impossible: the outcome is then a
/// failure that says so, unless the context has failed with one of its own.
pub struct Slot<V> {
    delivery: Delivery<V>,
}

impl<V> Slot<V> {
    pub(crate) fn new(delivery: Delivery<V>) -> Self {
        Self { delivery }
    }

    /// Hands `value` to the block and waits until the block has ended, for whatever reason.
    ///
    /// What follows it is the exit. By then a block that never began has let go of the value. It is told *how* the block ended, not with which error: it can
    /// neither read nor suppress that.
    ///
    /// While it waits, the block counts as inside the frame that called this. If that frame is
    /// cancelled, the block unwinds first.
    ///
    /// # Cancel safety
    ///
    /// If the returned future is dropped before the block has ended, the block is cancelled: nobody
    /// keeps its value alive any more.
    pub fn provide(self, value: V) -> Provide<V> {
        Provide {
            value: Some(value),
            guest: Guest::new(self.delivery),
        }
    }
}

impl<V> fmt::Debug for Slot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`Slot::provide`].
    #[must_use = "await it: the exit begins when it returns"]
    pub struct Provide<V> {
        // Until it is handed over.
        value: Option<V>,
        #[pin]
        guest: Guest<Delivery<V>>,
    }
}

impl<V> Future for Provide<V> {
    type Output = BlockEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BlockEnd> {
        let mut this = self.project();
        if let Some(value) = this.value.take() {
            this.guest.invitation().deliver(value);
        }
        let end = ready!(this.guest.as_mut().poll(cx));
        this.guest.invitation().discard();
        Poll::Ready(end)
    }
}

impl<V> fmt::Debug for Provide<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provide")
            .field("delivered", &self.value.is_none())
            .finish_non_exhaustive()
    }
}

/// Makes a context from an async function that takes a [`Slot`].
///
/// # Examples
///
/// ```
/// use trionics_errgroup::Failure;
/// use trionics_gather::{Slot, acm, with_context};
///
/// async fn counter(start: u32, slot: Slot<u32>) -> Result<(), Failure> {
///     slot.provide(start + 1).await;
///     Ok(())
/// }
///
/// # futures::executor::block_on(async {
/// let got = with_context(acm(|slot| counter(41, slot)), async |value| Ok(value)).await;
/// assert_eq!(got.unwrap(), 42);
/// # });
/// ```
pub fn acm<V, E, F, Fut>(run: F) -> Acm<V, F>
where
    F: FnOnce(Slot<V>) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    Acm {
        run,
        value: PhantomData,
    }
}

/// The context made by [`acm`].
#[must_use = "a context does nothing until it is entered"]
pub struct Acm<V, F> {
    run: F,
    value: PhantomData<fn(V)>,
}

impl<V, E, F, Fut> AsyncContext for Acm<V, F>
where
    F: FnOnce(Slot<V>) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    type Value = V;
    type Error = E;
    type Run = Fut;

    fn run(self, slot: Slot<V>) -> Fut {
        (self.run)(slot)
    }
}

impl<V, F> fmt::Debug for Acm<V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acm").finish_non_exhaustive()
    }
}
