//! A frame: one of our futures with its place in the scope tree, and what it does after each poll.

use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Cancelled;

use crate::{
    clock::{BoxSleep, Clock},
    current::{self, Current, Entered},
    deadline::{self, DeadlineTimer},
    node::{Inside, Node, next_epoch},
    report::{Report, drop_payload, panic_message, report},
    settings::DEFAULT_PATIENCE,
};

/// What to do about a future that is polled once too often.
pub const RETURNS_ONCE: &str = "a future returns once: keep what it has returned, and leave it out of the `select!` \
                                or the loop that polls it again";

/// How a frame's body came to its end.
pub(crate) enum Ended<T> {
    /// It returned.
    Ready(T),
    /// It was stopped, and the code around the frame is to hear of it.
    Cancelled(Cancelled),
}

pin_project! {
    /// A future with its frame: what scopes, shields, branches and the like are made of.
    pub(crate) struct Framed<F> {
        #[pin]
        body: Option<F>,
        frame: Frame,
    }

    impl<F> PinnedDrop for Framed<F> {
        fn drop(this: Pin<&mut Self>) {
            let _outside = current::clear();
            this.project().body.set(None);
        }
    }
}

impl<F> Framed<F> {
    pub(crate) fn new(body: F, frame: Frame) -> Self {
        Self {
            body: Some(body),
            frame,
        }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.frame.node
    }

    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.frame.is_stopped()
    }
}

impl<F: Future> Framed<F> {
    /// Polls the body; a frame that is stopped by a cancellation from further out parks.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<F::Output>> {
        let this = self.project();
        match this.frame.poll_once(this.body, cx) {
            Step::Ready(value) => Poll::Ready(Ended::Ready(value)),
            Step::Pending => Poll::Pending,
            Step::Stopped => this.frame.absorb_or_park(cx).map(Ended::Cancelled),
        }
    }

    /// As [`poll`](Self::poll), where the type cannot say that it was cancelled.
    pub(crate) fn poll_valued(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self;
        match ready!(this.as_mut().poll(cx)) {
            Ended::Ready(value) => Poll::Ready(value),
            Ended::Cancelled(cancelled) => panic!(
                "the {} was stopped by a cancellation ({cancelled}) and then polled outside the \
                 cancelled scope, where it has no value to return; put a cancel scope inside it, or poll it \
                 inside the scope only",
                this.node().info()
            ),
        }
    }
}

/// What one poll of a frame came to.
pub(crate) enum Step<T> {
    /// The body returned; the frame is over.
    Ready(T),
    /// The body waits, or the frame waits for frames inside, or it is parked.
    Pending,
    /// The body was dropped because of a cancellation; the frame's owner decides what follows.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not polled yet, or polled only where it may not start.
    Fresh,
    Running,
    /// The body is gone, the owner has yet to decide what to do.
    Stopped,
    /// Stopped, and pending until the code around is dropped.
    Parked,
    Done,
}

/// The part of a frame's future that keeps its place in the scope tree.
///
/// Dropping it ends the frame. The body must be dropped before.
pub(crate) struct Frame {
    node: Arc<Node>,
    /// The handle that moves into the thread-local while the body is polled.
    current: Option<Current>,
    phase: Phase,
    wait: Option<Box<Wait>>,
    grace: Grace,
    /// Ends at the scope's deadline, if it has one.
    deadline: Option<Box<DeadlineTimer>>,
    stopped_by: Option<Cancelled>,
    /// When the frame struck, its own scope was cancelled and none around it was.
    struck_alone: bool,
    place: Place,
    /// Dropping the frame before its end is reported.
    reports_drop: bool,
}

/// Who decides where a frame belongs.
enum Place {
    /// Whoever polls it.
    Ambient,
    /// The program did, and it stays there.
    Fixed,
    /// The program did, and whoever polls it is a host.
    Anchored(Box<Anchor>),
}

/// The place of an anchored frame.
struct Anchor {
    /// The parent, until the first poll.
    parent: Option<Arc<Node>>,
    /// Hangs in the frame that polled it last, where that is not its parent: a host that is cancelled
    /// together with its guest waits for the guest.
    visit: Option<Visit>,
}

struct Visit {
    node: Arc<Node>,
    /// The address of the guest's parent when the visit began.
    home: usize,
}

impl Anchor {
    /// After a poll that ended with `Pending`: visits the frame that polled `guest`.
    fn visit(&mut self, guest: &Arc<Node>, cx: &mut Context<'_>) {
        let home = guest.parent_address();
        let goes_on = |host: usize| {
            let visit = self.visit.as_ref();
            visit.is_some_and(|visit| visit.node.parent_address() == host && visit.home == home)
        };
        // `None`: it is at home. A host that has no node yet gets one for its guest.
        let host = current::with(|current| {
            let host = current?;
            match host.known_address() {
                Some(address) if address == home => None,
                Some(address) if goes_on(address) => Some(None),
                _ => Some(host.node()),
            }
        });
        match host {
            None => self.leave(),
            Some(None) => {}
            Some(Some(host)) => {
                self.leave();
                self.visit = guest.visit(host).map(|node| Visit { node, home });
            }
        }
        if let Some(visit) = &self.visit {
            visit.node.note_poll();
            visit.node.register(cx.waker());
        }
    }

    fn leave(&mut self) {
        if let Some(visit) = self.visit.take() {
            visit.node.retire();
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Frame {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self {
            current: None,
            node,
            phase: Phase::Fresh,
            wait: None,
            grace: Grace::default(),
            deadline: None,
            stopped_by: None,
            struck_alone: false,
            place: Place::Ambient,
            reports_drop: false,
        }
    }

    /// A frame whose parent is `parent`, whoever polls it.
    pub(crate) fn anchored(node: Arc<Node>, parent: Option<Arc<Node>>) -> Self {
        node.set_anchored(parent.as_ref());
        let mut frame = Self::new(node);
        frame.place = Place::Anchored(Box::new(Anchor {
            parent,
            visit: None,
        }));
        frame
    }

    /// The frame of a child on an executor, whose node has its place already.
    pub(crate) fn on_executor(node: Arc<Node>) -> Self {
        let mut frame = Self::running(node);
        frame.place = Place::Fixed;
        frame
    }

    /// The frame of what has been polled, at a node that has its place already.
    pub(crate) fn running(node: Arc<Node>) -> Self {
        let mut frame = Self::new(node);
        frame.phase = Phase::Running;
        frame
    }

    /// From its first poll on, dropping the frame before its end is reported.
    pub(crate) fn reporting_drop(mut self) -> Self {
        self.reports_drop = true;
        self
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Makes this frame the current one.
    pub(crate) fn enter(&mut self) -> Entered<'_> {
        let node = &self.node;
        // Made when the frame is first polled; lost if a thread's locals were gone when it was polled there.
        self.current
            .get_or_insert_with(|| Current::Node(Arc::clone(node)));
        current::enter(&mut self.current)
    }

    /// Finds the frame's place for this poll. False: the frame starts where nothing may start.
    #[inline]
    pub(crate) fn settle(&mut self) -> bool {
        let live = matches!(self.phase, Phase::Fresh | Phase::Running);
        if self.phase == Phase::Fresh {
            let parent = match &mut self.place {
                Place::Anchored(anchor) => anchor.parent.take(),
                Place::Ambient | Place::Fixed => current::node(),
            };
            let refused = !self.node.is_shielded()
                && parent
                    .as_ref()
                    .is_some_and(|parent| parent.refuses_frames());
            self.node.attach(parent, !refused);
            if refused {
                self.phase = Phase::Stopped;
                return false;
            }
            self.phase = Phase::Running;
        } else if matches!(self.place, Place::Ambient) {
            let known = self.node.parent_address();
            let (address, moved) = current::with(|current| match current {
                None => (0, None),
                Some(current) => match current.known_address() {
                    Some(address) if address == known => (known, None),
                    _ => (0, current.node()),
                },
            });
            if moved.is_some() || address != known || (live && self.node.is_abandoned()) {
                let parent = moved.or_else(current::node);
                self.node.move_under(parent, live);
            }
        } else if live && self.node.is_abandoned() {
            self.node.revive();
        }
        true
    }

    /// Polls the body once and decides what the frame does next.
    pub(crate) fn poll_once<F: Future>(
        &mut self,
        mut body: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Step<F::Output> {
        match self.phase {
            Phase::Fresh | Phase::Running => {
                if !self.settle() {
                    self.stop(body);
                    return Step::Stopped;
                }
            }
            Phase::Stopped | Phase::Parked => {
                self.settle();
                return Step::Stopped;
            }
            Phase::Done => panic!(
                "a {} was polled after it had completed; {RETURNS_ONCE}",
                self.node.info()
            ),
        }
        let epoch = self.begin_poll();
        let polled = {
            let _in_force = deadline::begin_poll(&self.node);
            let _entered = self.enter();
            let body = body
                .as_mut()
                .as_pin_mut()
                .expect("a running frame has its body");
            catch_unwind(AssertUnwindSafe(|| body.poll(cx)))
        };
        match polled {
            Ok(Poll::Ready(value)) => {
                let dropped = drop_body(body);
                self.finish();
                if let Err(payload) = dropped {
                    resume_unwind(payload);
                }
                Step::Ready(value)
            }
            Ok(Poll::Pending) => self.after_pending(body, epoch, cx),
            Err(payload) => {
                self.drop_after_panic(body);
                resume_unwind(payload);
            }
        }
    }

    /// The body has just been polled, in `epoch`, and waits: decides what the frame does next.
    pub(crate) fn after_pending<F: Future>(
        &mut self,
        body: Pin<&mut Option<F>>,
        epoch: u64,
        cx: &mut Context<'_>,
    ) -> Step<F::Output> {
        self.node.register(cx.waker());
        if let Place::Anchored(anchor) = &mut self.place {
            anchor.visit(&self.node, cx);
        }
        self.watch_deadline(cx);
        let was_around = self.node.is_outer_cancelled();
        if decide(&self.node, &mut self.wait, epoch, cx) || self.gives_up(cx) {
            self.struck_alone =
                matches!(self.place, Place::Ambient) && !was_around && self.node.is_own_cancelled();
            self.stop(body);
            Step::Stopped
        } else {
            Step::Pending
        }
    }

    /// Notes the poll; returns the epoch in which it takes place.
    #[inline]
    pub(crate) fn begin_poll(&mut self) -> u64 {
        begin_poll(&self.node, &self.wait)
    }

    /// After a pending poll: cancels the scope if its deadline has passed, else arms the timer.
    #[inline]
    pub(crate) fn watch_deadline(&mut self, cx: &mut Context<'_>) {
        if let Some(deadline) = self.node.deadline() {
            deadline::end_poll(&self.node, deadline, &mut self.deadline, cx);
        }
    }

    /// Whether the grace period of a cancelled frame is over; tells what is given up.
    fn gives_up(&mut self, cx: &mut Context<'_>) -> bool {
        if self.wait.is_none() {
            self.grace.reset();
            return false;
        }
        if !self.grace.is_over(&self.node, cx) {
            return false;
        }
        let (dismissed, some_run) = self.node.dismiss_inside();
        for frame in dismissed {
            self.report(&Report::OutOfGrace(frame));
        }
        if some_run {
            return false;
        }
        for frame in self.node.abandon_inside() {
            self.report(&Report::OutOfGrace(frame));
        }
        true
    }

    /// Strikes: the body is dropped because of a cancellation.
    fn stop<F>(&mut self, body: Pin<&mut Option<F>>) {
        self.stopped_by = Some(self.node.cancelled_or_closed());
        self.phase = Phase::Stopped;
        self.wait = None;
        self.drop_deadline();
        if let Err(payload) = drop_body(body) {
            self.finish();
            resume_unwind(payload);
        }
    }

    fn drop_after_panic<F>(&mut self, body: Pin<&mut Option<F>>) {
        if let Err(later) = drop_body(body) {
            self.report(&Report::LaterPanic {
                frame: self.node.info(),
                message: panic_message(&*later),
            });
            drop_payload(later);
        }
        self.finish();
    }

    /// A stopped frame: "cancelled" goes to the caller if nothing around is cancelled, else it parks.
    pub(crate) fn absorb_or_park(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        // What is cancelled around a shielded scope is not its code's to hear of. Neither is what comes
        // between the strike and this look: guests that were not waited for are left to the code around.
        let struck_alone = mem::take(&mut self.struck_alone);
        if !struck_alone
            && !self.node.is_shielded()
            && current::with(|current| current.is_some_and(|current| self.is_stopped_at(current)))
        {
            if self.phase != Phase::Parked {
                self.phase = Phase::Parked;
                self.leave_host();
                self.node.park();
            }
            self.node.register(cx.waker());
            return Poll::Pending;
        }
        let cancelled = self
            .stopped_by
            .take()
            .unwrap_or_else(|| self.node.cancelled_or_closed());
        if self.node.is_own_cancelled() {
            self.node.set_caught();
        }
        self.finish();
        Poll::Ready(cancelled)
    }

    /// Whether the code that polls the frame is being stopped, too.
    fn is_stopped_at(&self, poller: &Current) -> bool {
        // Where a guest and its host are cancelled together, the guest may hear of it first.
        poller.is_effective()
            || (matches!(self.place, Place::Anchored(_)) && poller.is_effective_soon())
    }

    /// Why the frame was stopped.
    pub(crate) fn stopped_by(&self) -> Cancelled {
        self.stopped_by
            .clone()
            .unwrap_or_else(|| self.node.cancelled_or_closed())
    }

    /// The owner has an outcome of its own for a frame that was stopped.
    pub(crate) fn mark_stopped(&mut self, cancelled: Cancelled) {
        self.stopped_by = Some(cancelled);
        self.phase = Phase::Stopped;
        self.drop_deadline();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Parked)
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// A frame that has ended or parked is nobody's guest.
    fn leave_host(&mut self) {
        if let Place::Anchored(anchor) = &mut self.place {
            anchor.leave();
        }
    }

    /// The frame is over.
    pub(crate) fn finish(&mut self) {
        if self.phase != Phase::Done {
            self.phase = Phase::Done;
            self.wait = None;
            self.drop_deadline();
            self.leave_host();
            if self.node.is_on_executor() {
                self.node.retire_from_executor();
            } else {
                self.node.retire();
            }
        }
    }

    #[inline]
    fn drop_deadline(&mut self) {
        if let Some(timer) = self.deadline.take() {
            deadline::drop_timer(timer);
        }
    }

    pub(crate) fn report(&self, what: &Report) {
        report_at(Some(&self.node), what);
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if self.reports_drop && self.phase == Phase::Running && !self.node.is_abandoned() {
            self.report(&Report::Dropped(self.node.info()));
        }
        if self.phase != Phase::Fresh {
            self.finish();
        }
    }
}

/// Tells the hook in force at `node`.
pub(crate) fn report_at(node: Option<&Arc<Node>>, what: &Report) {
    let environment = node.and_then(|node| node.environment());
    report(
        environment
            .as_ref()
            .and_then(|environment| environment.hook.as_ref()),
        what,
    );
}

/// Drops what a frame polled, with no frame current.
pub(crate) fn drop_body<F>(mut body: Pin<&mut Option<F>>) -> std::thread::Result<()> {
    let _outside = current::clear();
    catch_unwind(AssertUnwindSafe(|| body.set(None)))
}

/// How long a cancelled frame waits for what still runs inside.
#[derive(Default)]
pub(crate) struct Grace {
    /// Since the first poll in which it had to wait.
    waiting: Option<Box<GraceWait>>,
}

struct GraceWait {
    /// The period counts from here, also one that is set later.
    since: Instant,
    timer: Option<(Duration, BoxSleep)>,
}

impl Grace {
    /// Asked at each poll of a cancelled frame that waits: begins the period, or says that it is over.
    pub(crate) fn is_over(&mut self, node: &Arc<Node>, cx: &mut Context<'_>) -> bool {
        if node.is_out_of_grace() {
            return true;
        }
        let period = node.grace();
        let _outside = current::clear();
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => {
                let Some(clock) = node.clock() else {
                    if period.is_none() {
                        return false;
                    }
                    crate::clock::no_clock(node.info().location())
                };
                none.insert(Box::new(GraceWait {
                    since: clock.now(),
                    timer: None,
                }))
            }
        };
        let Some(period) = period else {
            return false;
        };
        let timer = match &mut waiting.timer {
            Some(timer) if timer.0 == period => timer,
            timer => {
                let Some(clock) = node.clock() else {
                    crate::clock::no_clock(node.info().location())
                };
                let end = crate::clock::saturating_add(waiting.since, period);
                timer.insert((period, clock.sleep_until(end)))
            }
        };
        let is_over = timer.1.as_mut().poll(cx).is_ready();
        if is_over {
            node.set_out_of_grace();
        }
        is_over
    }

    /// The frame is not cancelled, or not any more.
    #[inline]
    pub(crate) fn reset(&mut self) {
        if self.waiting.is_some() {
            // The timer is the user's.
            let _outside = current::clear();
            self.waiting = None;
        }
    }
}

/// A cancelled frame's wait for frames inside.
pub(crate) struct Wait {
    /// Ends when the patience is used up; `None` where there is no clock.
    timer: Option<Timer>,
    /// Frames that were polled in this epoch or later were polled since the patience began.
    since: u64,
    /// Stands for the time where there is no clock.
    polls: PollCount,
}

/// Without a clock: what the polls of the waiting frame have shown so far.
#[derive(Default)]
struct PollCount {
    /// Polls in a row in which no frame inside was polled.
    misses: u8,
    /// Polls in a row in which one was.
    hits: u8,
    /// How many misses are let pass: the frames inside were seen to follow their wakes twice in a row.
    /// A foreign set that yields to its host makes such misses, and to answer each with another wake
    /// would spin.
    credit: u8,
}

enum Verdict {
    Settled,
    WakeInside,
    Strike,
}

impl PollCount {
    const CREDIT: u8 = 8;

    fn note(&mut self, polled_inside: bool) -> Verdict {
        if polled_inside {
            self.misses = 0;
            self.hits = self.hits.saturating_add(1);
            if self.hits < 2 {
                return Verdict::WakeInside;
            }
            self.credit = Self::CREDIT;
            return Verdict::Settled;
        }
        self.hits = 0;
        if self.credit > 0 {
            self.credit -= 1;
            return Verdict::Settled;
        }
        self.misses += 1;
        if self.misses < 2 {
            Verdict::WakeInside
        } else {
            Verdict::Strike
        }
    }
}

struct Timer {
    clock: Arc<dyn Clock>,
    sleep: BoxSleep,
}

/// Notes a poll of the frame at `node`; returns the epoch in which it takes place.
#[inline]
pub(crate) fn begin_poll(node: &Arc<Node>, wait: &Option<Box<Wait>>) -> u64 {
    // Only a frame that counts polls instead of time needs an epoch of its own.
    let epoch = match wait {
        Some(wait) if wait.timer.is_none() => next_epoch(),
        _ => 0,
    };
    node.note_poll();
    epoch
}

/// After the body said `Pending`: whether the frame strikes now.
pub(crate) fn decide(
    node: &Arc<Node>,
    wait: &mut Option<Box<Wait>>,
    epoch: u64,
    cx: &mut Context<'_>,
) -> bool {
    match node.look_inside() {
        Inside::NotCancelled => {
            *wait = None;
            false
        }
        Inside::Clear => true,
        Inside::Live => be_patient(node, wait, epoch, cx),
    }
}

/// Waits for the frames inside; true once nobody has polled any of them for a whole patience.
fn be_patient(
    node: &Arc<Node>,
    wait: &mut Option<Box<Wait>>,
    epoch: u64,
    cx: &mut Context<'_>,
) -> bool {
    let _outside = current::clear();
    let wait = match wait {
        Some(wait) => wait,
        None => {
            let since = next_epoch();
            let timer = start_timer(node);
            let clockless = timer.is_none();
            let new = wait.insert(Box::new(Wait {
                timer,
                since,
                polls: PollCount::default(),
            }));
            node.wake_inside(node.polled_epoch(), true);
            if clockless {
                // One more poll shows whether anybody still polls the frames inside.
                cx.waker().wake_by_ref();
                return false;
            }
            new
        }
    };
    loop {
        match &mut wait.timer {
            Some(timer) => {
                if timer.sleep.as_mut().poll(cx).is_pending() {
                    return false;
                }
                if !node.any_inside_polled_since(wait.since) {
                    break;
                }
                timer.restart(node);
            }
            None => match wait.polls.note(node.any_inside_polled_since(epoch)) {
                Verdict::Settled => return false,
                Verdict::Strike => break,
                Verdict::WakeInside => {
                    node.wake_inside(epoch, false);
                    cx.waker().wake_by_ref();
                    return false;
                }
            },
        }
        let since = mem::replace(&mut wait.since, next_epoch());
        node.wake_inside(since, false);
    }
    for frame in node.abandon_inside() {
        report_at(Some(node), &Report::NotPolled(frame));
    }
    true
}

fn start_timer(node: &Arc<Node>) -> Option<Timer> {
    let environment = node.environment()?;
    let clock = Arc::clone(environment.clock.as_ref()?);
    let sleep = clock.sleep_until(patience_end(node, &*clock));
    Some(Timer { clock, sleep })
}

impl Timer {
    fn restart(&mut self, node: &Arc<Node>) {
        self.sleep = self.clock.sleep_until(patience_end(node, &*self.clock));
    }
}

fn patience_end(node: &Arc<Node>, clock: &dyn Clock) -> Instant {
    let patience = node
        .environment()
        .and_then(|environment| environment.patience)
        .unwrap_or(DEFAULT_PATIENCE);
    crate::clock::saturating_add(clock.now(), patience)
}
