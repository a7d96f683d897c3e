//! Deadlines: scopes that cancel themselves at a time, and the functions that make such scopes.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    clock::{BoxSleep, Clock, current_clock, no_clock, now, saturating_add},
    current,
    node::Node,
    scope::{CancelScope, RunScope},
    sync::{Mutex, MutexGuard, lock, thread_local},
    wake::wake_outside,
};

impl CancelScope {
    /// Lets the scope cancel itself at `deadline`, on the clock of the scope around; replaces the deadline
    /// set before.
    ///
    /// It can be moved at any time and from any thread. A deadline that has passed has cancelled the scope,
    /// whether or not anybody has looked: moving it out again does not take that back. Once the scope has
    /// been left, a deadline does nothing.
    ///
    /// To move it takes constant time, and makes no timer: the scope has one timer at most. To move it out
    /// wakes nobody.
    ///
    /// The semantics are those of trio's `CancelScope.deadline`.
    ///
    /// # Panics
    ///
    /// The scope's future panics if no clock is set; the message says how to set one.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{CancelScope, now, sleep, testing};
    ///
    /// testing::run(async {
    ///     let scope = CancelScope::new();
    ///     scope.set_deadline(now() + Duration::from_secs(5));
    ///     let outcome = scope.run(sleep(Duration::from_secs(60))).await;
    ///     assert!(outcome.is_err());
    ///     assert_eq!(testing::elapsed(), Duration::from_secs(5));
    /// });
    /// ```
    #[track_caller]
    pub fn set_deadline(&self, deadline: Instant) {
        self.node()
            .set_limit(Limit::At(deadline), Location::caller());
    }

    /// Lets the scope cancel itself when it has run for `timeout`: counted from when it is entered, or
    /// from now if it has been.
    ///
    /// A timeout too long for the clock never ends, as far as anybody will notice. Otherwise as
    /// [`set_deadline`](Self::set_deadline).
    ///
    /// # Panics
    ///
    /// As [`set_deadline`](Self::set_deadline).
    ///
    /// # Examples
    ///
    /// A connection that is given up on when it has been silent for ten seconds:
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{CancelScope, sleep, testing};
    ///
    /// const SILENCE: Duration = Duration::from_secs(10);
    ///
    /// testing::run(async {
    ///     let scope = CancelScope::new();
    ///     scope.set_timeout(SILENCE);
    ///     let outcome = scope
    ///         .run(async {
    ///             for pause in [3, 9, 2, 11] {
    ///                 sleep(Duration::from_secs(pause)).await; // a message comes
    ///                 scope.set_timeout(SILENCE);
    ///             }
    ///         })
    ///         .await;
    ///     assert!(outcome.is_err());
    ///     assert_eq!(testing::elapsed(), Duration::from_secs(3 + 9 + 2 + 10));
    /// });
    /// ```
    #[track_caller]
    pub fn set_timeout(&self, timeout: Duration) {
        self.node()
            .set_limit(Limit::After(timeout), Location::caller());
    }

    /// Takes the deadline away. A scope that it has cancelled stays cancelled.
    #[track_caller]
    pub fn clear_deadline(&self) {
        if self.node().deadline().is_some() {
            self.node().set_limit(Limit::Never, Location::caller());
        }
    }

    /// The scope's own deadline; none is known yet of a [timeout](Self::set_timeout) whose scope has not
    /// been entered.
    ///
    /// The deadlines of the scopes around count, too: [`current_effective_deadline`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.node().deadline()?.instant()
    }
}

/// Runs `future` for `duration` at most, counted from when it is first polled, and then goes on without it.
///
/// # Returns
///
/// What `future` returned, or `None` if it was stopped. A future that returns in the very poll in which it
/// would have been stopped has returned.
///
/// # Panics
///
/// When polled, if no clock is set; the message says how to set one.
///
/// # Cancel safety
///
/// It is a cancel scope: at the deadline `future` unwinds from the inside out, exits and shields run to
/// their end, and only then does it return; so it can take longer than `duration`. If a scope *around* is
/// cancelled, it unwinds, and then stays pending until the enclosing frame drops it. If it is dropped from
/// outside, so is `future`.
///
/// The semantics are those of trio's `move_on_after`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{move_on_after, sleep, testing};
///
/// testing::run(async {
///     let quick = move_on_after(Duration::from_secs(5), async { 42 }).await;
///     let slow = move_on_after(Duration::from_secs(5), sleep(Duration::from_secs(60))).await;
///     assert_eq!((quick, slow), (Some(42), None));
///     assert_eq!(testing::elapsed(), Duration::from_secs(5));
/// });
/// ```
#[track_caller]
pub fn move_on_after<F: Future>(duration: Duration, future: F) -> MoveOn<F> {
    MoveOn {
        run: run_limited(Limit::After(duration), Location::caller(), future),
    }
}

/// Runs `future` until `deadline` at most, and then goes on without it: see [`move_on_after`].
///
/// # Panics
///
/// As [`move_on_after`].
///
/// # Cancel safety
///
/// As [`move_on_after`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{move_on_at, now, sleep, testing};
///
/// testing::run(async {
///     let deadline = now() + Duration::from_secs(5);
///     let mut n_rounds = 0;
///     while move_on_at(deadline, sleep(Duration::from_secs(2))).await.is_some() {
///         n_rounds += 1;
///     }
///     assert_eq!(n_rounds, 2);
/// });
/// ```
#[track_caller]
pub fn move_on_at<F: Future>(deadline: Instant, future: F) -> MoveOn<F> {
    MoveOn {
        run: run_limited(Limit::At(deadline), Location::caller(), future),
    }
}

/// Runs `future` for `duration` at most, counted from when it is first polled; to be stopped is an error.
///
/// # Errors
///
/// [`TooSlow`] if `future` was stopped because of the deadline. Whatever `future` itself returns is passed on
/// as it is, also a failure that it returns while it unwinds: a real failure is never replaced by `TooSlow`.
///
/// # Panics
///
/// When polled, if no clock is set; the message says how to set one.
///
/// # Cancel safety
///
/// As [`move_on_after`].
///
/// The semantics are those of trio's `fail_after`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{Failure, fail_after, sleep, testing};
///
/// async fn ask() -> Result<u32, Failure> {
///     sleep(Duration::from_secs(60)).await;
///     Ok(42)
/// }
///
/// testing::run(async {
///     let answer: Result<u32, Failure> = async {
///         // One `?` for the deadline, one for the failures of `ask`.
///         Ok(fail_after(Duration::from_secs(5), ask()).await??)
///     }
///     .await;
///     assert!(answer.unwrap_err().to_string().contains("too slow"));
/// });
/// ```
#[track_caller]
pub fn fail_after<F: Future>(duration: Duration, future: F) -> FailAfter<F> {
    FailAfter {
        run: run_limited(Limit::After(duration), Location::caller(), future),
    }
}

/// Runs `future` until `deadline` at most; to be stopped is an error: see [`fail_after`].
///
/// # Errors
///
/// As [`fail_after`].
///
/// # Panics
///
/// As [`fail_after`].
///
/// # Cancel safety
///
/// As [`fail_after`].
#[track_caller]
pub fn fail_at<F: Future>(deadline: Instant, future: F) -> FailAfter<F> {
    FailAfter {
        run: run_limited(Limit::At(deadline), Location::caller(), future),
    }
}

fn run_limited<F: Future>(
    limit: Limit,
    location: &'static Location<'static>,
    future: F,
) -> RunScope<F> {
    let scope = CancelScope::starting(location, None);
    scope.node().set_limit(limit, location);
    scope.run(future)
}

pin_project! {
    /// The future of [`move_on_after`] and [`move_on_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct MoveOn<F> {
        #[pin]
        run: RunScope<F>,
    }
}

impl<F: Future> Future for MoveOn<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().run.poll(cx).map(Result::ok)
    }
}

impl<F> fmt::Debug for MoveOn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MoveOn")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`fail_after`] and [`fail_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct FailAfter<F> {
        #[pin]
        run: RunScope<F>,
    }
}

impl<F: Future> Future for FailAfter<F> {
    type Output = Result<F::Output, TooSlow>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(self.project().run.poll(cx));
        Poll::Ready(ended.map_err(|cancelled| TooSlow { cancelled }))
    }
}

impl<F> fmt::Debug for FailAfter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailAfter")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// The error of [`fail_after`] and [`fail_at`]: the deadline passed, and the work was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TooSlow {
    cancelled: Cancelled,
}

impl TooSlow {
    /// Where the deadline was set.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.cancelled.location()
    }

    /// The cancellation by which the work was stopped.
    #[must_use]
    pub fn cancelled(&self) -> &Cancelled {
        &self.cancelled
    }
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "too slow: {} (set at {})",
            self.cancelled.reason(),
            self.location()
        )
    }
}

impl Error for TooSlow {}

/// When the code that asks will be stopped: see [`current_effective_deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectiveDeadline {
    /// No scope around has a deadline.
    Never,
    /// At this time, unless a deadline is moved.
    At(Instant),
    /// A scope around is cancelled: the next pending await is the last.
    Past,
}

impl EffectiveDeadline {
    /// How much time is left; zero if none is, `None` if it is not limited.
    ///
    /// # Panics
    ///
    /// If there is a deadline and no clock is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{current_effective_deadline, move_on_after, testing};
    ///
    /// testing::run(async {
    ///     assert_eq!(current_effective_deadline().time_left(), None);
    ///     move_on_after(Duration::from_secs(5), async {
    ///         // To be sent along with a request, for instance.
    ///         let left = current_effective_deadline().time_left();
    ///         assert_eq!(left, Some(Duration::from_secs(5)));
    ///     })
    ///     .await;
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn time_left(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(instant) => Some(instant.saturating_duration_since(now())),
            Self::Past => Some(Duration::ZERO),
        }
    }
}

/// Returns the earliest of the deadlines of the scopes around, as far out as the nearest shield.
///
/// A scope around that is cancelled makes it [`Past`](EffectiveDeadline::Past). Outside any scope it is
/// [`Never`](EffectiveDeadline::Never). Takes time in proportion to the number of scopes around.
///
/// The semantics are those of trio's `current_effective_deadline`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{
///     EffectiveDeadline, current_effective_deadline, move_on_after, now, shield, testing,
/// };
///
/// testing::run(async {
///     let (near, far) = (Duration::from_secs(5), Duration::from_secs(9));
///     move_on_after(near, move_on_after(far, async {
///         assert_eq!(current_effective_deadline(), EffectiveDeadline::At(now() + near));
///         shield(async {
///             assert_eq!(current_effective_deadline(), EffectiveDeadline::Never);
///         })
///         .await;
///     }))
///     .await;
/// });
/// ```
#[must_use]
pub fn current_effective_deadline() -> EffectiveDeadline {
    notice_due();
    let (mut above, effective) = current::with(|current| match current {
        Some(current) => (current.nearest_node(), current.is_effective()),
        None => (None, false),
    });
    if effective {
        return EffectiveDeadline::Past;
    }
    let mut nearest: Option<Instant> = None;
    while let Some(node) = above {
        if node.is_exiting() {
            break;
        }
        let own = node.deadline().and_then(Deadline::instant);
        nearest = nearest.into_iter().chain(own).min();
        if node.is_shielded() {
            break;
        }
        above = node.parent();
    }
    nearest.map_or(EffectiveDeadline::Never, EffectiveDeadline::At)
}

/// When a scope is to cancel itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Never,
    At(Instant),
    /// Counted from when the scope is entered.
    After(Duration),
}

/// What a scope with a deadline has in addition to its node.
///
/// Its lock is taken last, and no user code runs under it.
pub(crate) struct Deadline {
    state: Mutex<State>,
}

struct State {
    limit: Limit,
    /// Where the limit was set: the location of the cancellation.
    location: &'static Location<'static>,
    /// The clock in force where the limit was set, for scopes that have not been entered.
    clock: Option<Arc<dyn Clock>>,
    /// When the timer of the scope's frame ends: it will look at the limit then.
    armed: Option<Instant>,
}

impl Deadline {
    pub(crate) fn new(location: &'static Location<'static>) -> Self {
        Self {
            state: Mutex::new(State {
                limit: Limit::Never,
                location,
                clock: None,
                armed: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn instant(&self) -> Option<Instant> {
        match self.lock().limit {
            Limit::At(instant) => Some(instant),
            Limit::Never | Limit::After(_) => None,
        }
    }
}

// Setting a deadline, and noticing that one has passed.
impl Node {
    pub(crate) fn set_limit(self: &Arc<Self>, limit: Limit, location: &'static Location<'static>) {
        self.notice_if_due();
        let here = current_clock();
        let limit = match limit {
            Limit::After(duration) if self.is_entered() => {
                match self.clock().or_else(|| here.clone()) {
                    Some(clock) => Limit::At(saturating_add(clock.now(), duration)),
                    None => limit,
                }
            }
            limit => limit,
        };
        let (replaced, must_wake) = {
            let mut state = self.deadline_or_new(location).lock();
            state.limit = limit;
            state.location = location;
            let replaced = match here {
                Some(clock) => state.clock.replace(clock),
                None => None,
            };
            // A timer that ends before the deadline finds out by itself that it has to go on.
            let must_wake = match limit {
                Limit::At(instant) => state.armed.is_none_or(|armed| instant < armed),
                Limit::After(_) => true,
                Limit::Never => state.armed.is_some(),
            };
            (replaced, must_wake)
        };
        drop(replaced);
        self.notice_if_due();
        if must_wake {
            wake_outside(self.take_waker());
        }
    }

    pub(crate) fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.environment()?.clock.clone()
    }

    /// Cancels the scope if its deadline has passed and nobody has noticed.
    pub(crate) fn notice_if_due(self: &Arc<Self>) {
        let Some(deadline) = self.deadline() else {
            return;
        };
        if self.is_own_cancelled() || self.is_retired() {
            return;
        }
        let (instant, location, clock) = {
            let state = deadline.lock();
            let Limit::At(instant) = state.limit else {
                return;
            };
            (instant, state.location, state.clock.clone())
        };
        let clock = self.clock().or(clock).or_else(current_clock);
        if clock.is_some_and(|clock| clock.now() >= instant) {
            self.request(Cancelled::__new(CancelReason::Deadline, location));
        }
    }
}

/// The timer of the frame of a scope with a deadline.
pub(crate) struct DeadlineTimer {
    sleep: BoxSleep,
}

/// A poll of a frame begins. Costs a frame without a deadline one load.
#[inline]
pub(crate) fn begin_poll(node: &Arc<Node>) -> Option<InForce> {
    begin_timed_poll(node, node.deadline()?)
}

fn begin_timed_poll(node: &Arc<Node>, deadline: &Deadline) -> Option<InForce> {
    enter(node, deadline);
    node.notice_if_due();
    InForce::new(node)
}

/// Drops a timer, which is the user's, with no frame current.
#[cold]
pub(crate) fn drop_timer(timer: Box<DeadlineTimer>) {
    let _outside = current::clear();
    drop(timer);
}

/// A poll of a frame ends with its body pending, and the frame's waker stored: arms the timer, or cancels.
pub(crate) fn end_poll(
    node: &Arc<Node>,
    deadline: &Deadline,
    timer: &mut Option<Box<DeadlineTimer>>,
    cx: &mut Context<'_>,
) {
    enter(node, deadline);
    let _outside = current::clear();
    for _ in 0..2 {
        node.notice_if_due();
        let arm_at = {
            let mut state = deadline.lock();
            match state.limit {
                Limit::At(instant) if !node.is_own_cancelled() => {
                    let is_armed = timer.is_some() && state.armed.is_some_and(|at| at <= instant);
                    if !is_armed {
                        state.armed = Some(instant);
                    }
                    if is_armed { None } else { Some(instant) }
                }
                _ => {
                    state.armed = None;
                    drop(state);
                    *timer = None;
                    return;
                }
            }
        };
        if let Some(instant) = arm_at {
            let Some(clock) = node.clock() else {
                no_clock(deadline.lock().location)
            };
            let sleep = clock.sleep_until(instant);
            *timer = Some(Box::new(DeadlineTimer { sleep }));
        }
        let sleep = &mut timer.as_mut().expect("armed above").sleep;
        if sleep.as_mut().poll(cx).is_pending() {
            return;
        }
        // It has passed, or was moved out since the timer was made.
        *timer = None;
    }
    // A clock whose timers end early.
    cx.waker().wake_by_ref();
}

/// A timeout begins to count once its scope runs.
fn enter(node: &Arc<Node>, deadline: &Deadline) {
    let (duration, location) = {
        let state = deadline.lock();
        let Limit::After(duration) = state.limit else {
            return;
        };
        (duration, state.location)
    };
    let Some(clock) = node.clock() else {
        no_clock(location)
    };
    let instant = saturating_add(clock.now(), duration);
    let mut state = deadline.lock();
    if matches!(state.limit, Limit::After(_)) {
        state.limit = Limit::At(instant);
    }
}

thread_local! {
    /// The scopes with deadlines whose bodies are being polled on this thread, outermost first.
    static IN_FORCE: RefCell<Vec<Arc<Node>>> = const { RefCell::new(Vec::new()) };
    /// How many those are: quicker to ask.
    static N_IN_FORCE: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, code on this thread notices when the scope's deadline passes.
pub(crate) struct InForce;

impl InForce {
    fn new(node: &Arc<Node>) -> Option<Self> {
        let node = Arc::clone(node);
        IN_FORCE
            .try_with(|scopes| {
                let mut scopes = scopes.borrow_mut();
                scopes.push(node);
                N_IN_FORCE.with(|n| n.set(scopes.len()));
            })
            .is_ok()
            .then_some(Self)
    }
}

impl Drop for InForce {
    fn drop(&mut self) {
        let popped = IN_FORCE.try_with(|scopes| {
            let mut scopes = scopes.borrow_mut();
            let popped = scopes.pop();
            N_IN_FORCE.with(|n| n.set(scopes.len()));
            popped
        });
        drop(popped);
    }
}

/// Cancels the scopes around whose deadline has passed since they were last polled, so that a computing
/// loop hears of it.
#[inline]
pub(crate) fn notice_due() {
    if N_IN_FORCE.with(Cell::get) > 0 {
        notice_all_due();
    }
}

fn notice_all_due() {
    for index in 0.. {
        let scope = IN_FORCE
            .try_with(|scopes| scopes.borrow().get(index).cloned())
            .ok()
            .flatten();
        match scope {
            Some(scope) => scope.notice_if_due(),
            None => return,
        }
    }
}
