//! Cancel scopes: a part of a program that can be told to stop.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    hash::{Hash, Hasher},
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    current,
    frame::{Ended, Frame, poll_body},
    node::Node,
    report::FrameKind,
};

/// A part of the program that can be cancelled as a whole, from any thread.
///
/// [`run`](Self::run) a future in the scope; [`cancel`](Self::cancel) the scope, and the future is
/// stopped at its next pending await: from the inside out, each async exit inside running to its end
/// first. A scope that was cancelled stays cancelled. A clone is a handle to the same scope; two
/// handles are equal if they belong to the same scope. Dropping handles cancels nothing.
///
/// The semantics are those of trio's `CancelScope`.
///
/// # Examples
///
/// ```
/// use trionics_nursery::CancelScope;
///
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// let handle = scope.clone();
/// let outcome = scope
///     .run(async move {
///         handle.cancel("seen enough");
///         std::future::pending::<()>().await;
///     })
///     .await;
/// assert_eq!(outcome.unwrap_err().reason().to_string(), "seen enough");
/// # });
/// ```
#[derive(Clone)]
pub struct CancelScope {
    node: Arc<Node>,
}

impl CancelScope {
    /// Makes a scope that nothing runs in yet.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self {
            node: Node::new(FrameKind::Scope, Location::caller()),
        }
    }

    pub(crate) fn of(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Cancels the scope, with a reason and this call's location; returns false, and changes nothing,
    /// if it was cancelled before.
    ///
    /// What runs inside hears of it at its next pending await, at once if it waits there already. A
    /// scope may be cancelled before it is entered; the future then runs to its first pending await.
    /// Cancelling a scope that has been left stops nothing.
    ///
    /// Takes time in proportion to the number of frames inside.
    #[track_caller]
    pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) -> bool {
        self.cancel_at(reason.into(), Location::caller())
    }

    fn cancel_at(&self, reason: Cow<'static, str>, location: &'static Location<'static>) -> bool {
        self.node
            .request(Cancelled::__new(CancelReason::Explicit(reason), location))
    }

    /// Whether [`cancel`](Self::cancel) was called on this scope.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_own_cancelled()
    }

    /// Whether the scope's own cancellation stopped what ran inside, so that the code after it went on.
    ///
    /// A scope whose future returned all the same, or whose enclosing scope was cancelled too, did not
    /// catch anything.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        self.node.is_caught()
    }

    /// Why and from where the scope was cancelled, if it was. The first reason stays.
    #[must_use]
    pub fn cancelled(&self) -> Option<Cancelled> {
        if self.is_cancelled() {
            self.node.cancelled()
        } else {
            None
        }
    }

    /// Runs `future` in the scope.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if this scope was cancelled, no scope around it was, and `future` was stopped by
    /// it. A future that returns in the very poll in which it would have been stopped has returned:
    /// its value counts.
    ///
    /// # Panics
    ///
    /// When polled, if the scope has been entered before: make a new scope for each run.
    ///
    /// # Cancel safety
    ///
    /// If a scope *around* this one is cancelled, what runs inside unwinds and the future then stays
    /// pending until the enclosing frame drops it. If it is dropped from outside instead, everything
    /// inside is dropped at once, and exits that had not run are reported.
    pub fn run<F: Future>(&self, future: F) -> RunScope<F> {
        RunScope {
            body: Some(future),
            frame: None,
            node: Arc::clone(&self.node),
        }
    }
}

impl Default for CancelScope {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for CancelScope {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
    }
}

impl Eq for CancelScope {}

impl Hash for CancelScope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.address().hash(state);
    }
}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelScope")
            .field("made_at", &format_args!("{}", self.node.info().location()))
            .field(
                "cancelled",
                &self.cancelled().map(|cancelled| cancelled.to_string()),
            )
            .field("caught", &self.is_caught())
            .finish()
    }
}

pin_project! {
    /// The future of [`CancelScope::run`].
    #[must_use = "futures do nothing unless polled"]
    pub struct RunScope<F> {
        #[pin]
        body: Option<F>,
        frame: Option<Frame>,
        node: Arc<Node>,
    }

    impl<F> PinnedDrop for RunScope<F> {
        fn drop(this: Pin<&mut Self>) {
            let _outside = current::clear();
            this.project().body.set(None);
        }
    }
}

impl<F: Future> Future for RunScope<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let node = &*this.node;
        let frame = this.frame.get_or_insert_with(|| {
            assert!(
                node.try_enter(),
                "the {} was entered a second time; make a new scope for each run",
                node.info()
            );
            Frame::new(Arc::clone(node))
        });
        Poll::Ready(match ready!(poll_body(frame, this.body, cx)) {
            Ended::Ready(value) => Ok(value),
            Ended::Cancelled(cancelled) => Err(cancelled),
        })
    }
}

impl<F> fmt::Debug for RunScope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunScope")
            .field("made_at", &self.node.info().location())
            .finish_non_exhaustive()
    }
}
