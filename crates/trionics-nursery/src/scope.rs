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
    time::Duration,
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    frame::{Ended, Frame, Framed},
    node::Node,
    report::FrameKind,
};

mod listen;
mod until;

pub use self::{
    listen::{OnCancel, WaitCancelled},
    until::RunUntil,
};

/// What a frame is called.
pub(crate) type Name = Arc<str>;

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

    /// Makes a scope with a name, for reports and task trees.
    #[must_use]
    #[track_caller]
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            node: Node::named(FrameKind::Scope, Location::caller(), Some(name.into())),
        }
    }

    /// The scope of a child that is being started.
    pub(crate) fn starting(location: &'static Location<'static>, name: Option<Name>) -> Self {
        Self {
            node: Node::named(FrameKind::Scope, location, name),
        }
    }

    /// Hands the scope, and what runs in it, over to the frame at `parent`.
    pub(crate) fn move_under(&self, parent: &Arc<Node>) {
        self.node.move_under(Some(Arc::clone(parent)), true);
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// What ran in it was stopped by a cancellation of which the code around is not told.
    pub(crate) fn is_parked(&self) -> bool {
        !self.node.is_live() && !self.node.is_retired()
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
    /// When it returns, everything inside has been told, also if another thread was first or is cancelling a scope
    /// around this one.
    ///
    /// Takes time in proportion to the number of frames inside.
    #[track_caller]
    pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) -> bool {
        self.cancel_for(CancelReason::Explicit(reason.into()), Location::caller())
    }

    pub(crate) fn cancel_for(
        &self,
        reason: CancelReason,
        location: &'static Location<'static>,
    ) -> bool {
        // A deadline that has passed came first.
        self.node.notice_if_due();
        self.node.request(Cancelled::__new(reason, location))
    }

    /// Whether [`cancel`](Self::cancel) was called on this scope, or its
    /// [deadline](Self::set_deadline) has passed before it was left.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.notice_if_due();
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

    /// Begins or ends to keep out the cancellations of the scopes around this one.
    ///
    /// A shielded scope is still cancelled by its own [`cancel`](Self::cancel). When the shield goes
    /// while a scope around is cancelled, what runs inside is stopped there and then.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::{CancelScope, checkpoint};
    ///
    /// # futures::executor::block_on(async {
    /// let (outer, inner) = (CancelScope::new(), CancelScope::new());
    /// inner.set_shielded(true);
    /// outer.cancel("stop");
    /// let outcome = outer
    ///     .run(inner.run(async {
    ///         checkpoint().await;     // shielded
    ///         inner.set_shielded(false);
    ///         checkpoint().await;     // stopped here
    ///     }))
    ///     .await;
    /// assert!(outcome.is_err());
    /// # });
    /// ```
    pub fn set_shielded(&self, shielded: bool) {
        self.node.set_shielded(shielded);
    }

    /// Whether the scope keeps out the cancellations of the scopes around it.
    #[must_use]
    pub fn is_shielded(&self) -> bool {
        self.node.is_shielded()
    }

    /// Sets how long this scope, and frames opened inside from now on, wait once cancelled for frames
    /// that nobody polls; 100 ms unless [set](crate::Settings::patience) further out.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::FutureExt as _;
    /// use trionics_nursery::{CancelScope, Settings, shield, testing};
    ///
    /// testing::run(Settings::new().on_report(|report| println!("{report}")).run(async {
    ///     let scope = CancelScope::new();
    ///     scope.set_patience(Duration::from_secs(5));
    ///     let outcome = scope
    ///         .run(async {
    ///             let mut stalled = Box::pin(shield(std::future::pending::<()>()));
    ///             assert!((&mut stalled).now_or_never().is_none());
    ///             scope.cancel("stop");
    ///             std::future::pending::<()>().await // `stalled` is alive, and polled no more
    ///         })
    ///         .await;
    ///     assert!(outcome.is_err());
    ///     assert_eq!(testing::elapsed(), Duration::from_secs(5));
    /// }));
    /// ```
    pub fn set_patience(&self, patience: Duration) {
        self.node.set_patience(patience);
    }

    /// Limits how long exits and shields inside may go on once the scope is effectively cancelled.
    ///
    /// What still runs when the period is over is dropped where it stands, and reported to the hook;
    /// a nursery names it in its outcome, too. It can be changed while the exits run, and counts from the
    /// cancellation all the same. Needs a clock.
    ///
    /// # Panics
    ///
    /// The scope's future panics when the period is to begin and no clock is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{CancelScope, Settings, shield, sleep, testing};
    ///
    /// testing::run(Settings::new().on_report(|report| println!("{report}")).run(async {
    ///     let scope = CancelScope::new();
    ///     scope.set_exit_grace(Duration::from_secs(5));
    ///     scope.cancel("shut down");
    ///     let outcome = scope.run(shield(sleep(Duration::from_secs(3600)))).await;
    ///     assert!(outcome.is_err());
    ///     assert_eq!(testing::elapsed(), Duration::from_secs(5));
    /// }));
    /// ```
    pub fn set_exit_grace(&self, period: Duration) {
        self.node.set_grace(period);
    }

    /// Ends the grace period now, or before it begins: once the scope is cancelled, what still runs
    /// inside is dropped where it stands, and reported.
    ///
    /// For the second ctrl-c.
    pub fn end_exit_grace(&self) {
        self.node.end_grace();
    }

    /// Runs `future` in the scope, and cancels the scope once `signal` is ready.
    ///
    /// The signal can be any future: ctrl-c, a foreign cancellation token, a channel. What it yields is
    /// dropped; the scope's reason is [`CancelReason::Signal`]. It is polled after `future`, outside the
    /// scope, until the scope is cancelled for whatever reason.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run). A panic of the signal cancels the scope, lets the exits run, and is then
    /// resumed here.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run); the signal is dropped with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_util::sync::CancellationToken;
    /// use trionics_nursery::{CancelReason, CancelScope};
    ///
    /// # futures::executor::block_on(async {
    /// let token = CancellationToken::new();
    /// let foreign = token.clone();
    /// std::thread::spawn(move || foreign.cancel());
    /// let outcome = CancelScope::new()
    ///     .run_until(token.cancelled(), std::future::pending::<()>())
    ///     .await;
    /// assert_eq!(outcome.unwrap_err().reason(), &CancelReason::Signal);
    /// # });
    /// ```
    #[track_caller]
    pub fn run_until<S: Future, F: Future>(&self, signal: S, future: F) -> RunUntil<S, F> {
        RunUntil::new(self.clone(), signal, self.run(future), Location::caller())
    }

    /// Waits until the scope is cancelled, itself or with one around it; for code outside the scope.
    ///
    /// The future belongs to no scope and may be sent anywhere. Code *inside* a scope is stopped without
    /// any of this, or asks [`cancel_requested`](crate::cancel_requested). If the scope ends without
    /// having been cancelled, it waits for ever. The timer of a deadline is the task's that runs the scope: that of a
    /// scope which nobody has entered wakes nobody.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped; a later call sees the same cancellation.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::CancelScope;
    ///
    /// # futures::executor::block_on(async {
    /// let scope = CancelScope::new();
    /// let watcher = std::thread::spawn({
    ///     let cancelled = scope.wait_cancelled();
    ///     || futures::executor::block_on(cancelled).to_string()
    /// });
    /// scope.cancel("closing time");
    /// assert_eq!(watcher.join().unwrap(), "cancelled: closing time");
    /// # });
    /// ```
    pub fn wait_cancelled(&self) -> WaitCancelled {
        WaitCancelled::new(&self.node)
    }

    /// Calls `callback` once, when the scope is cancelled, itself or with one around it.
    ///
    /// It is called on the thread that cancels, with no lock held, or here if the scope is cancelled
    /// already. Nothing is called after the scope has ended, or once the returned guard is dropped; a call that
    /// has begun on another thread by then goes on.
    ///
    /// # Panics
    ///
    /// A panic of the callback is resumed in the call that cancels, once everything else has been told.
    ///
    /// # Examples
    ///
    /// Foreign code that takes a token of its own hears of the scope's cancellation:
    ///
    /// ```
    /// use tokio_util::sync::CancellationToken;
    /// use trionics_nursery::CancelScope;
    ///
    /// let scope = CancelScope::new();
    /// let token = CancellationToken::new();
    /// let _guard = scope.on_cancel({
    ///     let token = token.clone();
    ///     move |_| token.cancel()
    /// });
    /// scope.cancel("closing time");
    /// assert!(token.is_cancelled());
    /// ```
    pub fn on_cancel(&self, callback: impl FnOnce(&Cancelled) + Send + 'static) -> OnCancel {
        OnCancel::new(&self.node, Box::new(callback))
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
            framed: Framed::new(future, Frame::new(Arc::clone(&self.node))),
            entered: false,
        }
    }
}

/// For the sibling crates: a scope that says it was made at `location`.
#[must_use]
pub fn scope_at(location: &'static Location<'static>) -> CancelScope {
    CancelScope::starting(location, None)
}

/// For the sibling crates: hands `scope`, and what runs in it, over to another one.
pub fn move_scope(scope: &CancelScope, under: &CancelScope) {
    scope.move_under(&under.node);
}

/// For the sibling crates: cancels `scope` with their own reason and location.
pub fn cancel_scope(scope: &CancelScope, cancelled: Cancelled) -> bool {
    scope.node.request(cancelled)
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
        framed: Framed<F>,
        entered: bool,
    }
}

impl<F: Future> Future for RunScope<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !std::mem::replace(this.entered, true) {
            let node = this.framed.node();
            assert!(
                node.try_enter(),
                "the {} was entered a second time; make a new scope for each run",
                node.info()
            );
        }
        Poll::Ready(match ready!(this.framed.poll(cx)) {
            Ended::Ready(value) => Ok(value),
            Ended::Cancelled(cancelled) => Err(cancelled),
        })
    }
}

impl<F> RunScope<F> {
    /// A cancellation has stopped the future, and the scope has yet to return or be dropped.
    fn is_stopped(&self) -> bool {
        self.framed.is_stopped()
    }
}

impl<F> fmt::Debug for RunScope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunScope")
            .field("made_at", &self.framed.node().info().location())
            .finish_non_exhaustive()
    }
}
