//! Nurseries: child tasks that cannot outlive the block that started them.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{AnyError, Failure};

use crate::scope::CancelScope;

mod handle;
mod member;
pub(crate) mod raw;

pub use self::handle::{ChildEnded, ChildHandle};
pub(crate) use self::member::{Member, Queue};
use self::raw::{BodyEnd, NewChild, RawEnd, RawNursery, Source};

/// Opens a nursery, runs `body` with it, and returns once the body and every child have ended.
///
/// Children may borrow anything that outlives the call. They are polled by the nursery itself and share
/// its task. If the body or a child fails, the others are cancelled: each is stopped at its next
/// pending await, from the inside out, exits included. The nursery is a cancel scope of its own:
/// [`Nursery::cancel`].
///
/// The type of the failures is fixed by annotating the handle, `async |n: Nursery<'_>| …` for the
/// erased [`AnyError`], or by the result's type.
///
/// The semantics are those of trio's nurseries with strict exception groups.
///
/// # Errors
///
/// A group of all failures of the body and the children, in the order in which they happened, however
/// few; the body's value is dropped then. A nursery that was itself cancelled, and has neither a
/// failure nor a value, returns a group whose only leaf is [`Cancelled`](trionics_errgroup::Cancelled).
///
/// # Panics
///
/// A panic of the body or a child, or of their `Drop`, cancels the others, lets their exits run, and is
/// then resumed here with its payload.
///
/// # Cancel safety
///
/// If a scope around it is cancelled, body and children unwind. Without a failure it then stays pending
/// until the enclosing frame drops it; with one it returns it. If it is dropped from outside, the body
/// and then the children are dropped at once, and exits that had not run are reported.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{Nursery, checkpoint, open_nursery};
///
/// # fn main() -> Result<(), trionics_nursery::Failure> {
/// # futures::executor::block_on(async {
/// let words = ["start", "together", "end", "together"];
/// let letters = open_nursery(async |n: Nursery<'_>| {
///     let mut handles = Vec::new();
///     for word in &words {
///         handles.push(n.spawn(async move {
///             checkpoint().await;
///             Ok(word.len())
///         }));
///     }
///     let mut letters = 0;
///     for handle in handles {
///         letters += handle.await?;
///     }
///     Ok(letters)
/// })
/// .await?;
/// assert_eq!(letters, 24);
/// # Ok(())
/// # })
/// # }
/// ```
///
/// A borrow of something inside the body would not live long enough:
///
/// ```compile_fail,E0373
/// # use trionics_nursery::{Nursery, open_nursery};
/// # async fn f() {
/// let _ = open_nursery(async |n: Nursery<'_>| {
///     let local = 5;
///     n.start_soon(async { drop(&local); Ok(()) });
///     Ok(())
/// })
/// .await;
/// # }
/// ```
#[track_caller]
pub fn open_nursery<'env, T, E, F, Fut>(body: F) -> OpenNursery<'env, T, E, F, Fut>
where
    F: FnOnce(Nursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    OpenNursery {
        raw: RawNursery::new(Location::caller(), |queue| {
            let shared = Arc::new(Shared {
                queue: Arc::clone(queue),
                incoming: Mutex::new(Incoming::default()),
            });
            let nursery = Nursery {
                shared: Arc::clone(&shared),
            };
            (
                NurseryBody {
                    start: Some((body, nursery)),
                    future: None,
                },
                Handed { shared },
            )
        }),
    }
}

/// A handle to an open nursery, with which children are started.
///
/// A clone is a handle to the same nursery. A handle may be sent to other threads and may outlive the
/// nursery; then it starts nothing any more.
pub struct Nursery<'env, E = AnyError> {
    shared: Arc<Shared<'env, E>>,
}

impl<'env, E> Nursery<'env, E> {
    /// Starts a child that runs until it ends or is cancelled; the nursery waits for it.
    ///
    /// Returns before the child is polled for the first time. A child that fails cancels its siblings
    /// and the body. A child started in a cancelled nursery runs to its first pending await.
    ///
    /// # Panics
    ///
    /// If the nursery has closed, which means that its body and all its children had ended. Where that
    /// can happen, use [`try_start_soon`](Self::try_start_soon).
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::{Nursery, open_nursery};
    ///
    /// # futures::executor::block_on(async {
    /// let outcome = open_nursery(async |n: Nursery<'_>| {
    ///     n.start_soon(async { Err(std::fmt::Error.into()) });
    ///     std::future::pending::<()>().await;
    ///     Ok(())
    /// })
    /// .await;
    /// assert!(outcome.unwrap_err().leaves().next().unwrap().as_leaf().unwrap().is::<std::fmt::Error>());
    /// # });
    /// ```
    #[track_caller]
    pub fn start_soon<C>(&self, child: C)
    where
        C: Future<Output = Result<(), Failure<E>>> + Send + 'env,
    {
        if self.try_start_soon(child).is_err() {
            panic!(
                "`start_soon` on a nursery that has closed: its body and its children had all ended; \
                 start children while it is open, or use `try_start_soon`, which gives the future back"
            );
        }
    }

    /// Like [`start_soon`](Self::start_soon), but gives the future back if the nursery has closed.
    ///
    /// # Errors
    ///
    /// [`NurseryClosed`], with the future.
    #[track_caller]
    pub fn try_start_soon<C>(&self, child: C) -> Result<(), NurseryClosed<C>>
    where
        C: Future<Output = Result<(), Failure<E>>> + Send + 'env,
    {
        let location = Location::caller();
        let future = Box::new(child);
        {
            let mut incoming = self.shared.lock();
            if incoming.closed {
                drop(incoming);
                return Err(NurseryClosed { future: *future });
            }
            incoming.children.push(NewChild {
                future: Box::into_pin(future),
                location,
            });
        }
        self.shared.queue.notify();
        Ok(())
    }

    /// Starts a child that returns a value, and returns a handle that waits for it.
    ///
    /// # Panics
    ///
    /// If the nursery has closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::{Nursery, open_nursery};
    ///
    /// # futures::executor::block_on(async {
    /// let sum = open_nursery(async |n: Nursery<'_>| {
    ///     let one = n.spawn(async { Ok(1) });
    ///     let two = n.spawn(async { Ok(2) });
    ///     Ok(one.await? + two.await?)
    /// })
    /// .await;
    /// assert_eq!(sum.unwrap(), 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn spawn<V, C>(&self, child: C) -> ChildHandle<V>
    where
        C: Future<Output = Result<V, Failure<E>>> + Send + 'env,
        V: Send + 'env,
    {
        let (child, handle) = handle::with_handle(child);
        if self.try_start_soon(child).is_err() {
            panic!(
                "`spawn` on a nursery that has closed: its body and its children had all ended; \
                 start children while it is open"
            );
        }
        handle
    }

    /// Cancels the nursery: its body and its children. False if it was cancelled before.
    #[track_caller]
    pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) -> bool {
        self.cancel_scope().cancel(reason)
    }

    /// The nursery's own scope, to be cancelled from elsewhere.
    #[must_use]
    pub fn cancel_scope(&self) -> CancelScope {
        CancelScope::of(Arc::clone(self.shared.queue.nursery()))
    }
}

impl<E> Clone for Nursery<'_, E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E> fmt::Debug for Nursery<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery")
            .field(
                "opened_at",
                &format_args!("{}", self.shared.queue.nursery().info().location()),
            )
            .field("closed", &self.shared.lock().closed)
            .finish()
    }
}

/// A child was started on a nursery that had closed.
pub struct NurseryClosed<C> {
    /// The future, which was not polled.
    pub future: C,
}

impl<C> fmt::Debug for NurseryClosed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NurseryClosed").finish_non_exhaustive()
    }
}

impl<C> fmt::Display for NurseryClosed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the nursery has closed: its body and its children had all ended")
    }
}

impl<C> std::error::Error for NurseryClosed<C> {}

/// A child of a nursery, as it is stored.
type BoxChild<'env, E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send + 'env>>;

/// What the handles share with the nursery.
struct Shared<'env, E> {
    queue: Arc<Queue>,
    incoming: Mutex<Incoming<'env, E>>,
}

/// Children that the nursery has yet to take in.
struct Incoming<'env, E> {
    children: Vec<NewChild<BoxChild<'env, E>>>,
    closed: bool,
}

impl<E> Default for Incoming<'_, E> {
    fn default() -> Self {
        Self {
            children: Vec::new(),
            closed: false,
        }
    }
}

impl<'env, E> Shared<'env, E> {
    fn lock(&self) -> MutexGuard<'_, Incoming<'env, E>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nursery's side of [`Shared`].
struct Handed<'env, E> {
    shared: Arc<Shared<'env, E>>,
}

impl<'env, E> Source<BoxChild<'env, E>> for Handed<'env, E> {
    fn take(&mut self, into: &mut Vec<NewChild<BoxChild<'env, E>>>) {
        into.append(&mut self.shared.lock().children);
    }

    fn try_close(&mut self) -> bool {
        let mut incoming = self.shared.lock();
        if incoming.children.is_empty() {
            incoming.closed = true;
        }
        incoming.closed
    }

    fn close(&mut self) -> Vec<NewChild<BoxChild<'env, E>>> {
        let mut incoming = self.shared.lock();
        incoming.closed = true;
        std::mem::take(&mut incoming.children)
    }
}

pin_project! {
    /// Calls the body's function inside the body's frame and polls what it returns.
    struct NurseryBody<'env, E, F, Fut> {
        start: Option<(F, Nursery<'env, E>)>,
        #[pin]
        future: Option<Fut>,
    }
}

impl<'env, T, E, F, Fut> Future for NurseryBody<'env, E, F, Fut>
where
    F: FnOnce(Nursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    type Output = BodyEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((body, nursery)) = this.start.take() {
            this.future.set(Some(body(nursery)));
        }
        let future = this
            .future
            .as_pin_mut()
            .expect("a body is not polled after a panic");
        Poll::Ready(match ready!(future.poll(cx)) {
            Ok(value) => BodyEnd::Value(value),
            Err(failure) => BodyEnd::Failed(failure),
        })
    }
}

pin_project! {
    /// The future of [`open_nursery`].
    #[must_use = "futures do nothing unless polled"]
    pub struct OpenNursery<'env, T, E, F, Fut> {
        #[pin]
        raw: RawNursery<BoxChild<'env, E>, Handed<'env, E>, NurseryBody<'env, E, F, Fut>, T, E>,
    }
}

impl<'env, T, E, F, Fut> Future for OpenNursery<'env, T, E, F, Fut>
where
    F: FnOnce(Nursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let failures = match ready!(self.project().raw.poll(cx)) {
            RawEnd::Value(value) => return Poll::Ready(Ok(value)),
            RawEnd::Failed(failures) => failures,
            RawEnd::Cancelled(cancelled) => vec![Failure::cancelled(cancelled)],
        };
        Poll::Ready(Err(
            Failure::group("a nursery failed", failures).expect("there is a failure")
        ))
    }
}

impl<T, E, F, Fut> fmt::Debug for OpenNursery<'_, T, E, F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenNursery")
            .field("opened_at", &self.raw.location())
            .finish_non_exhaustive()
    }
}
