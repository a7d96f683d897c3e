//! A program that prints its task tree when asked, or when its shutdown takes too long.

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

use super::TaskTree;
use crate::{
    clock::{BoxSleep, no_clock, saturating_add},
    current,
    node::Node,
    report::FrameKind,
    scope::CancelScope,
    settings::{Settings, WithSettings},
};

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Prints the task tree of a program: on a signal, or when it takes too long to shut down.
///
/// The program is [tracked](Settings::track_tasks); what is printed is its tree alone. It goes to standard
/// error, unless [`to`](Self::to) says otherwise.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{CancelScope, PrintTree, TokioClock, sleep, with_clock};
///
/// async fn ctrl_c() {
///     // tokio::signal::ctrl_c().await, or SIGUSR1
/// #   std::future::pending::<()>().await;
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
/// # runtime.block_on(async {
/// let shutdown = CancelScope::named("program");
/// let program = PrintTree::new()
///     .on(ctrl_c)
///     .when_slow(&shutdown, Duration::from_secs(10)) // after it was cancelled
///     .run(shutdown.run(async {
///         sleep(Duration::from_millis(1)).await;
///     }));
/// with_clock(TokioClock, program).await.unwrap();
/// # });
/// ```
#[must_use = "nothing is printed unless a program is run with it"]
pub struct PrintTree {
    signals: Vec<Watched>,
    slow: Vec<Slow>,
    print: Box<dyn FnMut(&TaskTree) + Send>,
}

/// A signal that can come again.
struct Watched {
    make: Box<dyn FnMut() -> Signal + Send>,
    next: Option<Signal>,
}

/// A scope whose shutdown is timed.
struct Slow {
    scope: CancelScope,
    limit: Duration,
    location: &'static Location<'static>,
    /// Hangs below the scope to hear of its cancellation.
    listener: Option<Arc<Node>>,
    timer: Option<BoxSleep>,
    is_over: bool,
}

impl PrintTree {
    /// Prints to standard error, for no reason yet.
    pub fn new() -> Self {
        Self {
            signals: Vec::new(),
            slow: Vec::new(),
            print: Box::new(|tree| eprintln!("{tree}")),
        }
    }

    /// Prints each time a future made by `signal` ends: a ctrl-c, a SIGUSR1, a request over the network.
    ///
    /// The next one is made when one has ended. They are polled outside the program's scopes.
    pub fn on<S>(mut self, mut signal: impl FnMut() -> S + Send + 'static) -> Self
    where
        S: Future + Send + 'static,
    {
        self.signals.push(Watched {
            make: Box::new(move || {
                let signal = signal();
                Box::pin(async move {
                    signal.await;
                })
            }),
            next: None,
        });
        self
    }

    /// Prints if `scope` has been cancelled and has not ended after `limit`, and again after each further
    /// `limit`. Needs a clock.
    ///
    /// # Panics
    ///
    /// The program's future panics when the time is to be measured and no clock is set. If `limit` is zero.
    #[track_caller]
    pub fn when_slow(mut self, scope: &CancelScope, limit: Duration) -> Self {
        assert!(
            !limit.is_zero(),
            "a shutdown in no time at all is always slow; give a limit above zero"
        );
        self.slow.push(Slow {
            scope: scope.clone(),
            limit,
            location: Location::caller(),
            listener: None,
            timer: None,
            is_over: false,
        });
        self
    }

    /// Gives the tree to `print` instead of writing it to standard error.
    pub fn to(mut self, print: impl FnMut(&TaskTree) + Send + 'static) -> Self {
        self.print = Box::new(print);
        self
    }

    /// Runs the program.
    ///
    /// # Panics
    ///
    /// As [`Settings::run`]. A panic of a signal or of what prints is one of the program.
    ///
    /// # Cancel safety
    ///
    /// As [`Settings::run`].
    #[track_caller]
    pub fn run<F: Future>(self, program: F) -> PrintingTree<F> {
        PrintingTree {
            program: Settings::new().track_tasks(true).run(program),
            printer: self,
        }
    }
}

impl Default for PrintTree {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PrintTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintTree")
            .field("signals", &self.signals.len())
            .field("slow", &self.slow.len())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`PrintTree::run`].
    #[must_use = "futures do nothing unless polled"]
    pub struct PrintingTree<F> {
        #[pin]
        program: WithSettings<F>,
        printer: PrintTree,
    }
}

impl<F: Future> Future for PrintingTree<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        // The program first: what it did in this poll is in the picture.
        let polled = this.program.as_mut().poll(cx);
        if polled.is_pending() {
            let root = this.program.node();
            let _outside = current::clear();
            this.printer.look(root, cx);
        }
        polled
    }
}

impl<F> fmt::Debug for PrintingTree<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintingTree")
            .field("printer", &self.printer)
            .finish_non_exhaustive()
    }
}

impl PrintTree {
    /// Prints if there is a reason, and waits for the next.
    fn look(&mut self, root: &Arc<Node>, cx: &mut Context<'_>) {
        let mut must_print = false;
        for signal in &mut self.signals {
            must_print |= signal.has_come(cx);
        }
        for slow in &mut self.slow {
            must_print |= slow.is_slow(root, cx);
        }
        if must_print {
            (self.print)(&TaskTree::of(vec![Arc::clone(root)]));
        }
    }
}

impl Watched {
    fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        let signal = self.next.get_or_insert_with(&mut self.make);
        if signal.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.next = None;
        // A signal that is always there must not keep the program from running.
        cx.waker().wake_by_ref();
        true
    }
}

impl Slow {
    fn is_slow(&mut self, root: &Arc<Node>, cx: &mut Context<'_>) -> bool {
        if self.is_over {
            return false;
        }
        let scope = self.scope.node();
        if scope.is_retired() {
            self.end();
            return false;
        }
        if self.timer.is_none() {
            let listener = self.listener.get_or_insert_with(|| {
                let node = Node::new(FrameKind::CancelRequested, self.location);
                node.attach(Some(Arc::clone(scope)), false);
                node
            });
            listener.register(cx.waker());
            if !listener.is_requested() {
                return false;
            }
            self.start(root);
        }
        let timer = self.timer.as_mut().expect("started above");
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.start(root);
        cx.waker().wake_by_ref();
        true
    }

    fn start(&mut self, root: &Arc<Node>) {
        let Some(clock) = root.clock() else {
            no_clock(self.location)
        };
        self.timer = Some(clock.sleep_until(saturating_add(clock.now(), self.limit)));
    }

    fn end(&mut self) {
        self.is_over = true;
        self.timer = None;
        if let Some(listener) = self.listener.take() {
            listener.retire();
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _outside = current::clear();
        self.end();
    }
}
