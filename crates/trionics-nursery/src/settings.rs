//! What a part of the program inherits from where it was started: clock, patience, report hook.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use crate::{
    clock::Clock,
    current,
    frame::{Frame, Framed},
    node::Node,
    report::{FrameKind, Hook, Report},
    tag::{Tag, current_tag},
};

/// How long a cancelled frame waits for frames inside that nobody polls, unless set.
pub(crate) const DEFAULT_PATIENCE: Duration = Duration::from_millis(100);

/// What frames inherit.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) patience: Option<Duration>,
    pub(crate) hook: Option<Hook>,
    pub(crate) tag: Option<Arc<dyn Tag>>,
}

/// Chooses the clock, the patience and the report hook for everything that runs inside.
///
/// Scopes inherit these from where they are opened. A program sets them once, around its outermost
/// future; what is not set is inherited from further out.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{Settings, sleep, testing::VirtualClock};
///
/// let clock = VirtualClock::new();
/// let mut program = Box::pin(Settings::new().clock(clock.clone()).run(async {
///     sleep(Duration::from_secs(3600)).await;
///     "an hour later"
/// }));
/// # use futures::FutureExt as _;
/// assert!(program.as_mut().now_or_never().is_none());
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(program.as_mut().now_or_never(), Some("an hour later"));
/// ```
#[derive(Clone, Default)]
#[must_use = "settings do nothing until a future is run with them"]
pub struct Settings {
    chosen: Environment,
    #[cfg(feature = "task-tree")]
    track: Option<bool>,
}

impl Settings {
    /// Settings that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the time from `clock`.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.chosen.clock = Some(Arc::new(clock));
        self
    }

    /// Sets how long a cancelled frame waits for frames inside that nobody polls; 100 ms unless set.
    ///
    /// Without a clock, two polls of the waiting frame in which no frame inside was polled stand for
    /// this time. That can give up on a frame that would have been polled a little later.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.chosen.patience = Some(patience);
        self
    }

    /// Tells `hook` what happens inside where no code can be told, instead of the process's hook.
    ///
    /// A panic in the hook is caught and ignored.
    pub fn on_report(mut self, hook: impl Fn(&Report) + Send + Sync + 'static) -> Self {
        self.chosen.hook = Some(Arc::new(hook));
        self
    }

    /// Shows what runs inside in the [`task_tree`](crate::task_tree), or does not; inherited, and off unless
    /// set.
    ///
    /// Each child of a tracked nursery has a place in the scope tree from its first poll, and each frame
    /// remembers when it was opened: a tracked frame takes a few hundred nanoseconds more.
    #[cfg(feature = "task-tree")]
    pub fn track_tasks(mut self, track: bool) -> Self {
        self.track = Some(track);
        self
    }

    /// Runs `future` with these settings.
    ///
    /// # Cancel safety
    ///
    /// The future is a frame of its own: when a scope around it is cancelled, it unwinds and then stays
    /// pending until the enclosing frame drops it. Dropping it drops `future` where it stands.
    ///
    /// # Panics
    ///
    /// If it was stopped by a cancellation and is then polled where nothing is cancelled: there is no
    /// value to return.
    #[track_caller]
    pub fn run<F: Future>(self, future: F) -> WithSettings<F> {
        let node = Node::new(FrameKind::Settings, Location::caller());
        #[cfg(feature = "task-tree")]
        if let Some(track) = self.track {
            node.set_tracked(track);
        }
        WithSettings {
            framed: Framed::new(future, Frame::new(node)),
            chosen: Some(self.chosen),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("clock", &self.chosen.clock.is_some())
            .field("patience", &self.chosen.patience)
            .field("on_report", &self.chosen.hook.is_some())
            .finish()
    }
}

/// Runs `future` on `clock`: short for `Settings::new().clock(clock).run(future)`.
///
/// # Cancel safety
///
/// As [`Settings::run`].
#[track_caller]
pub fn with_clock<F: Future>(clock: impl Clock, future: F) -> WithSettings<F> {
    Settings::new().clock(clock).run(future)
}

pin_project! {
    /// The future of [`Settings::run`].
    #[must_use = "futures do nothing unless polled"]
    pub struct WithSettings<F> {
        #[pin]
        framed: Framed<F>,
        // Until the first poll, which finds what is inherited.
        chosen: Option<Environment>,
    }
}

impl<F> WithSettings<F> {
    #[cfg(feature = "task-tree")]
    pub(crate) fn node(&self) -> &Arc<Node> {
        self.framed.node()
    }
}

impl<F: Future> Future for WithSettings<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(chosen) = this.chosen.take() {
            let around = current::nearest_node().and_then(|node| node.environment());
            let around = around.as_deref().cloned().unwrap_or_default();
            this.framed.node().set_environment(Environment {
                clock: chosen.clock.or(around.clock),
                patience: chosen.patience.or(around.patience),
                hook: chosen.hook.or(around.hook),
                tag: current_tag(),
            });
        }
        this.framed.poll_valued(cx)
    }
}

impl<F> fmt::Debug for WithSettings<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithSettings").finish_non_exhaustive()
    }
}
