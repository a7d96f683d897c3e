//! Handles to children that return a value.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    marker::PhantomData,
    mem,
    ops::Deref,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, ChildEnded, Failure, LibraryFailure};

use super::{Member, child::Part, remote::Remote};
use crate::{
    frame::RETURNS_ONCE,
    report::FrameInfo,
    sync::{Mutex, lock},
    wake::wake_outside,
};

/// Waits for the value of a child that was started with [`Nursery::spawn`](crate::Nursery::spawn).
///
/// Dropping it lets the child run on; the nursery waits for the child all the same.
///
/// # Errors
///
/// [`ChildEnded`] if the child gave no value. What went wrong is in the nursery's own outcome.
///
/// # Panics
///
/// If polled again after it has returned.
///
/// # Cancel safety
///
/// Nothing is lost when a future that awaits `&mut handle` is dropped: the value stays for later.
#[must_use = "await the handle for the child's value, or use `start_soon`"]
pub struct ChildHandle<V> {
    child: Whereabouts<V>,
}

enum Whereabouts<V> {
    /// The nursery polls the child.
    Here(Arc<Slot<V>>),
    /// The child runs on an executor.
    Away(Forgotten<V, Part<dyn Awaited<V>>>),
    /// The child runs on a thread.
    OnThread(Forgotten<V, Arc<dyn Awaited<V>>>),
}

/// A child of a nursery's own and its value.
pub(super) struct Slot<V> {
    value: Mutex<ValueState<V>>,
    member: Member,
}

/// A child that runs elsewhere and its value.
pub(super) trait Awaited<V>: Remote {
    /// The handle's look at the value: see [`ValueState::look`].
    fn look(&self, waker: &Waker, new: &mut Option<Waker>) -> Look<V>;

    fn is_there(&self) -> bool;

    /// Nobody waits for the value any more.
    fn forget(&self);
}

/// The handle's share in a child that runs elsewhere; a value that is left in there goes with it.
struct Forgotten<V, S: Deref<Target = dyn Awaited<V>>>(S);

impl<V, S: Deref<Target = dyn Awaited<V>>> Drop for Forgotten<V, S> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

/// A child's value, on its way to the handle.
pub(super) enum ValueState<V> {
    Running(Option<Waker>),
    Ended(Result<V, ChildEnded>),
    Taken,
}

/// What the handle finds.
pub(super) enum Look<V> {
    Ready(Result<V, ChildEnded>),
    Pending,
    /// It is to come again with a waker of its own.
    NeedsWaker,
    Taken,
}

impl<V> ValueState<V> {
    pub(super) fn awaited() -> Self {
        Self::Running(None)
    }

    /// One that no handle waits for.
    pub(super) fn unwanted() -> Self {
        Self::Taken
    }

    /// The child has ended; only the first call counts. What comes back is to be woken, and dropped, without the lock.
    #[inline]
    pub(super) fn end(
        &mut self,
        result: Result<V, ChildEnded>,
    ) -> (Option<Waker>, Option<Result<V, ChildEnded>>) {
        match self {
            Self::Running(waker) => {
                let waker = waker.take();
                *self = Self::Ended(result);
                (waker, None)
            }
            Self::Ended(_) | Self::Taken => (None, Some(result)),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Running(_))
    }

    /// The handle's look, in a poll with `waker`; a `new` waker, a clone of that, is kept in exchange for the one before, which
    /// is to be dropped without the lock.
    pub(super) fn look(&mut self, waker: &Waker, new: &mut Option<Waker>) -> Look<V> {
        match self {
            Self::Running(Some(known)) if known.will_wake(waker) => Look::Pending,
            Self::Running(known) if new.is_some() => {
                mem::swap(known, new);
                Look::Pending
            }
            Self::Running(_) => Look::NeedsWaker,
            Self::Ended(_) => match mem::replace(self, Self::Taken) {
                Self::Ended(result) => Look::Ready(result),
                _ => unreachable!("matched above"),
            },
            Self::Taken => Look::Taken,
        }
    }
}

impl<V> Sink<V> for Arc<Slot<V>> {
    fn end(&self, result: Result<V, ChildEnded>) {
        let (waker, unwanted) = lock(&self.value).end(result);
        drop(unwanted);
        wake_outside(waker);
    }
}

impl<V> ChildHandle<V> {
    /// Cancels this child alone, its exits included; false if it was cancelled before, or has ended.
    ///
    /// The nursery and the other children go on. The handle then gives [`ChildEnded::Cancelled`], unless
    /// the child returns all the same in the poll in which it would have been stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::{ChildEnded, Nursery, open_nursery};
    ///
    /// # futures::executor::block_on(async {
    /// let outcome = open_nursery(async |n: Nursery<'_>| {
    ///     let child = n.spawn(std::future::pending::<Result<(), _>>());
    ///     child.cancel("not needed any more");
    ///     Ok(child.await)
    /// })
    /// .await;
    /// assert_eq!(outcome.unwrap(), Err(ChildEnded::Cancelled));
    /// # });
    /// ```
    #[track_caller]
    pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) -> bool {
        let reason = CancelReason::Explicit(reason.into());
        let cancelled = Cancelled::__new(reason, Location::caller());
        !self.is_finished()
            && match &self.child {
                Whereabouts::Here(slot) => slot.member.cancel(cancelled),
                Whereabouts::Away(child) => child.0.cancel(cancelled),
                Whereabouts::OnThread(child) => child.0.cancel(cancelled),
            }
    }

    /// The child's name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.child {
            Whereabouts::Here(slot) => slot.member.name().map(|name| &**name),
            Whereabouts::Away(child) => child.0.name(),
            Whereabouts::OnThread(child) => child.0.name(),
        }
    }

    /// Whether the child has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.child {
            Whereabouts::Here(slot) => lock(&slot.value).is_there(),
            Whereabouts::Away(child) => child.0.is_there(),
            Whereabouts::OnThread(child) => child.0.is_there(),
        }
    }

    /// The handle of a child on an executor.
    pub(super) fn to_executor(child: Part<dyn Awaited<V>>) -> Self {
        Self {
            child: Whereabouts::Away(Forgotten(child)),
        }
    }

    /// The handle of a child on a thread.
    pub(super) fn to_thread(child: Arc<dyn Awaited<V>>) -> Self {
        Self {
            child: Whereabouts::OnThread(Forgotten(child)),
        }
    }

    /// What the child is.
    fn info(&self) -> FrameInfo {
        match &self.child {
            Whereabouts::Here(slot) => slot.member.info(),
            Whereabouts::Away(child) => child.0.info(),
            Whereabouts::OnThread(child) => child.0.info(),
        }
    }
}

impl<V> Future for ChildHandle<V> {
    type Output = Result<V, ChildEnded>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut new_waker = None;
        loop {
            let look = match &self.child {
                Whereabouts::Here(slot) => lock(&slot.value).look(cx.waker(), &mut new_waker),
                Whereabouts::Away(child) => child.0.look(cx.waker(), &mut new_waker),
                Whereabouts::OnThread(child) => child.0.look(cx.waker(), &mut new_waker),
            };
            match look {
                Look::Ready(result) => return Poll::Ready(result),
                Look::Pending => return Poll::Pending,
                Look::NeedsWaker => new_waker = Some(cx.waker().clone()),
                Look::Taken => panic!(
                    "the handle of a {} was polled after it had returned the child's value; {RETURNS_ONCE}",
                    self.info()
                ),
            }
        }
    }
}

impl<V> fmt::Debug for ChildHandle<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildHandle")
            .field("name", &self.name())
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// Where a child's value goes.
pub(super) trait Sink<V> {
    /// Called once at least; only the first call counts.
    fn end(&self, result: Result<V, ChildEnded>);
}

/// A child whose value goes to a handle.
pub(super) type WithHandle<V, C> = Spawned<V, Arc<Slot<V>>, C>;

/// Splits `child` into what the nursery runs and what waits for its value.
pub(super) fn with_handle<V, C>(child: C, member: &Member) -> (WithHandle<V, C>, ChildHandle<V>) {
    let slot = Arc::new(Slot {
        value: Mutex::new(ValueState::awaited()),
        member: member.clone(),
    });
    let handle = ChildHandle {
        child: Whereabouts::Here(Arc::clone(&slot)),
    };
    (Spawned::new(child, slot), handle)
}

pin_project! {
    /// A child whose value goes to a sink.
    pub(super) struct Spawned<V, S, C>
    where
        S: Sink<V>,
    {
        #[pin]
        child: C,
        ender: Ender<V, S>,
    }
}

impl<V, S: Sink<V>, C> Spawned<V, S, C> {
    pub(super) fn new(child: C, sink: S) -> Self {
        Self {
            child,
            ender: Ender {
                sink,
                value: PhantomData,
            },
        }
    }
}

/// Tells the sink when the child goes without a word.
struct Ender<V, S: Sink<V>> {
    sink: S,
    value: PhantomData<fn(V)>,
}

impl<V, S: Sink<V>> Drop for Ender<V, S> {
    fn drop(&mut self) {
        self.sink.end(Err(ChildEnded::Cancelled));
    }
}

impl<V, E, S: Sink<V>, C: Future<Output = Result<V, Failure<E>>>> Future for Spawned<V, S, C> {
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let sink = &this.ender.sink;
        let child = this.child;
        let polled = catch_unwind(AssertUnwindSafe(|| child.poll(cx)));
        Poll::Ready(match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => {
                sink.end(Ok(value));
                Ok(())
            }
            Ok(Poll::Ready(Err(failure))) => {
                sink.end(Err(ChildEnded::Failed));
                Err(failure)
            }
            Err(payload) => {
                sink.end(Err(ChildEnded::Panicked));
                resume_unwind(payload)
            }
        })
    }
}

/// What is all that a failure says of a child that somebody waited for.
fn echo<E>(failure: &Failure<E>) -> Option<ChildEnded> {
    match failure.as_library() {
        Some(LibraryFailure::ChildEnded(ended))
            if failure.notes().len() == 0 && failure.cause().is_none() =>
        {
            Some(*ended)
        }
        _ => None,
    }
}

/// Whoever waited for a child and passes on that it failed adds nothing to the child's own failure.
pub(super) fn forget_echoes<E>(failures: &mut Vec<Failure<E>>) {
    fn is_echo<E>(failure: &Failure<E>) -> bool {
        matches!(
            echo(failure),
            Some(ChildEnded::Failed | ChildEnded::Panicked)
        )
    }
    if !failures.iter().all(is_echo) {
        failures.retain(|failure| !is_echo(failure));
    }
}

/// Whoever is cancelled together with the child that it waited for, and passes that on, was stopped and has not failed.
pub(super) fn is_echo_of_cancellation<E>(failure: &Failure<E>) -> bool {
    echo(failure) == Some(ChildEnded::Cancelled)
}
