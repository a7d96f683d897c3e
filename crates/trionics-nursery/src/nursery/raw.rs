//! The engine of a nursery: a body and children that are polled, stopped and collected together.

use std::{
    any::{Any, type_name},
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure, LibraryFailure};

use super::{
    child::{Crew, Removed, Running, Seat, ToDo, Turn},
    finish::FinishSlot,
    handle::{forget_echoes, is_echo_of_cancellation},
    member::{Member, Queue},
};
use crate::{
    block::Block,
    current,
    deadline::{self, Limit},
    frame::{Frame, Grace, RETURNS_ONCE, begin_poll, decide, drop_body, report_at},
    host::Host,
    node::{CountedLive, Node},
    report::{FrameInfo, FrameKind, Report, drop_payload, panic_message},
    scope::Name,
};

/// How many members one poll of a nursery polls at most before it lets its neighbors run.
const POLLS_AT_ONCE: usize = 256;

/// What a nursery does beyond the ordinary.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawOptions {
    pub(crate) name: Option<Name>,
    pub(crate) shielded: bool,
    /// How many children run at once at most.
    pub(crate) limit: Option<usize>,
    /// A child's failure does not cancel the others.
    pub(crate) supervises: bool,
    /// How long what still runs may take, from the moment the nursery is effectively cancelled.
    pub(crate) grace: Option<Duration>,
    /// When the nursery cancels itself, and where that was asked for.
    pub(crate) limit_in_time: Option<(Limit, &'static Location<'static>)>,
}

impl RawOptions {
    /// Something is asked for that a node keeps.
    fn asks_for_node(&self) -> bool {
        self.name.is_some() || self.shielded || self.grace.is_some() || self.limit_in_time.is_some()
    }
}

/// How the body of a nursery ended.
#[derive(Debug)]
pub enum BodyEnd<T, E> {
    /// It returned a value.
    Value(T),
    /// It failed.
    Failed(Failure<E>),
    /// It was stopped by a cancellation of its own.
    Cancelled(Cancelled),
}

/// How a nursery ended.
#[derive(Debug)]
pub enum RawEnd<T, E> {
    /// The body's value, and no failure anywhere.
    Value(T),
    /// All failures, in the order in which they happened.
    Failed(Vec<Failure<E>>),
    /// Cancelled, without a failure and without a value.
    Cancelled(Cancelled),
}

/// What the body's turn came to.
enum SeatStep<T> {
    Ready(T),
    Pending,
    /// Its future is to be dropped because of a cancellation.
    Strike,
    Panicked(Box<dyn Any + Send>),
}

/// The member in `seat` is polled, as part of its nursery's `round`; the epoch in which that is.
#[inline(always)]
fn begin_turn(seat: &mut Seat<'_>, round: u32) -> u64 {
    // Elsewhere a member has a node only if a frame opens inside it.
    if !seat.was_polled()
        && seat.nursery().is_some_and(|node| node.shows_children())
        && !seat.member().is_elsewhere()
    {
        seat.member().node();
    }
    seat.begin_poll(round);
    match (seat.member().known_node(), seat.wait()) {
        (Some(node), Some(wait)) => {
            if node.is_abandoned() {
                node.revive();
            }
            begin_poll(node, wait)
        }
        _ => 0,
    }
}

/// The member said `Pending`: whether it is to be stopped now.
#[inline(always)]
fn strikes(seat: &mut Seat<'_>, epoch: u64, cx: &mut Context<'_>) -> bool {
    let member = seat.member();
    if member.is_spared() {
        // The block is in the nursery's hands, too, and unwinds first; and what follows it is shielded.
        if member.is_guest() && seat.nursery().is_some_and(|node| node.is_effective()) {
            member.node().note_waiting();
        }
        return false;
    }
    match (member.known_node(), seat.wait()) {
        (Some(node), Some(wait)) => {
            node.register(cx.waker());
            decide(node, wait, epoch, cx)
        }
        _ => seat.nursery().is_some_and(|node| node.is_effective()),
    }
}

/// A member that was not woken and holds no frame would only say `Pending`.
fn may_be_dropped_unpolled(seat: &Seat<'_>) -> bool {
    let member = seat.member();
    seat.was_polled() && !member.is_queued() && member.known_node().is_none() && !member.is_spared()
}

/// Everything of a nursery but its body's future.
struct Inner<C: ?Sized, T, E> {
    /// Made for the first poll if that is in a frame, else when the nursery has got a node.
    frame: Option<Frame>,
    /// It is running, and has no frame.
    bare: Option<CountedLive>,
    crew: Crew<C>,
    value: Option<T>,
    /// Where a value comes from that ends the nursery early; the first one counts.
    finish: Option<Arc<FinishSlot<T>>>,
    /// A cancellation from further out has stopped the body or a child.
    stopped_by_outer: bool,
    /// The members that need no further poll have been dropped since the nursery was cancelled.
    swept: bool,
    /// The block that the body runs, if the children are its contexts.
    block: Option<Block>,
    supervises: bool,
    limit: usize,
    /// Made when something does not go well.
    trouble: Option<Box<Trouble<E>>>,
}

/// Why a nursery has no value.
struct Trouble<E> {
    failures: Vec<Failure<E>>,
    panic: Option<Box<dyn Any + Send>>,
    stopped_by: Option<Cancelled>,
    grace: Grace,
    /// What was still running when the grace period was over.
    out_of_grace: Vec<FrameInfo>,
}

impl<E> Default for Trouble<E> {
    fn default() -> Self {
        Self {
            failures: Vec::new(),
            panic: None,
            stopped_by: None,
            grace: Grace::default(),
            out_of_grace: Vec::new(),
        }
    }
}

pin_project! {
    /// A nursery whose children are stored as `C`.
    #[must_use = "futures do nothing unless polled"]
    pub struct RawNursery<C: ?Sized, B, T, E> {
        #[pin]
        body: Option<B>,
        // The one of the crew in `inner`.
        queue: Arc<Queue>,
        inner: Inner<C, T, E>,
    }

    impl<C: ?Sized, B, T, E> PinnedDrop for RawNursery<C, B, T, E> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.inner.clear(this.body);
        }
    }
}

impl<C: ?Sized, B, T, E> RawNursery<C, B, T, E> {
    /// `make` gets the crew, for a body that starts children.
    pub(crate) fn new(
        location: &'static Location<'static>,
        options: RawOptions,
        make: impl FnOnce(&mut Crew<C>) -> B,
    ) -> Self {
        let node = options.asks_for_node().then(|| {
            // Its scope is the nursery's: nothing else runs in it.
            let is_entered = options.limit_in_time.is_none();
            let node = Node::of_nursery(location, options.name.clone(), is_entered);
            if let Some((limit, location)) = options.limit_in_time {
                // Before it counts as entered: a timeout begins with the first poll.
                node.set_limit(limit, location);
                node.try_enter();
            }
            if options.shielded {
                node.set_shielded(true);
            }
            if let Some(grace) = options.grace {
                node.set_grace(grace);
            }
            node
        });
        let mut crew = Crew::new(Queue::new(node, options.limit, options.name, location));
        Self {
            body: Some(make(&mut crew)),
            queue: Arc::clone(crew.queue()),
            inner: Inner {
                frame: None,
                bare: None,
                crew,
                value: None,
                finish: None,
                stopped_by_outer: false,
                swept: false,
                block: None,
                supervises: options.supervises,
                limit: options.limit.unwrap_or(usize::MAX),
                trouble: None,
            },
        }
    }

    /// A value may also come through `finish`, and ends the nursery then.
    pub(crate) fn finished_by(mut self, finish: Option<Arc<FinishSlot<T>>>) -> Self {
        self.inner.finish = finish;
        self
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.queue.location()
    }

    pub(crate) fn name(&self) -> Option<Name> {
        self.inner.crew.body_member().name().cloned()
    }
}

impl<C: ?Sized, B, T, E> std::fmt::Debug for RawNursery<C, B, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawNursery")
            .field("opened_at", &self.location())
            .finish_non_exhaustive()
    }
}

impl<C, B, T, E> Future for RawNursery<C, B, T, E>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
    B: Future<Output = BodyEnd<T, E>>,
{
    type Output = RawEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut body, inner) = (this.body, this.inner);
        if inner.frame.is_none() && !inner.may_be_bare() {
            inner.make_frame();
        }
        let mut in_force = None;
        match &mut inner.frame {
            Some(frame) => {
                if frame.is_stopped() {
                    frame.settle();
                    return frame.absorb_or_park(cx).map(RawEnd::Cancelled);
                }
                assert!(
                    !frame.is_done(),
                    "a {} was polled after it had completed; {RETURNS_ONCE}",
                    frame.node().info()
                );
                if !frame.settle() {
                    let cancelled = frame.stopped_by();
                    inner.clear(body);
                    let frame = inner.frame();
                    frame.mark_stopped(cancelled);
                    return frame.absorb_or_park(cx).map(RawEnd::Cancelled);
                }
                inner.bare = None;
                frame.begin_poll();
                in_force = deadline::begin_poll(frame.node());
            }
            None => {
                assert!(
                    !inner.crew.is_closed(),
                    "a {} was polled after it had completed; {RETURNS_ONCE}",
                    this.queue.info()
                );
                inner.bare.get_or_insert_with(CountedLive::new);
            }
        }
        // Children and body have spans inside.
        #[cfg(feature = "tracing")]
        let _span = this
            .queue
            .known_nursery()
            .and_then(|node| node.trace().enter(node));
        let polling = inner.crew.begin_poll(this.queue);
        if inner.run(body.as_mut()) {
            return inner.finish(cx);
        }
        drop(in_force);
        if let Some(frame) = &mut inner.frame {
            frame.watch_deadline(cx);
            if !frame.node().is_effective() {
                if let Some(trouble) = &mut inner.trouble {
                    trouble.grace.reset();
                }
            } else if inner.is_out_of_grace(cx) {
                inner.give_up(body);
                if inner.is_finished() {
                    return inner.finish(cx);
                }
            }
        }
        // What is woken from here on, on this thread too, comes by way of the stack.
        let has_more = inner.crew.has_more(inner.room());
        drop(polling);
        // Nobody need wake a nursery that is polled again at once.
        if has_more || !inner.crew.sleep(cx.waker()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<C, T, E> Inner<C, T, E>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
{
    /// Polls whoever is to be polled; true once everybody has ended.
    fn run<B: Future<Output = BodyEnd<T, E>>>(&mut self, mut body: Pin<&mut Option<B>>) -> bool {
        // Around each turn no frame is current.
        let _outside = current::clear();
        let mut budget = POLLS_AT_ONCE;
        loop {
            self.crew.take_ready();
            self.poll_woken(body.as_mut(), &mut budget);
            self.sweep(body.as_mut());
            if self.crew.has_new() {
                self.poll_new(&mut budget);
            }
            if self.is_finished() {
                return true;
            }
            self.adopt_node();
            if self.crew.has_arrivals() || self.is_to_be_swept() {
                continue;
            }
            // What cancels the nursery once it listens wakes it; what did before is seen in one more round.
            if !self.crew.queue().listen() {
                return false;
            }
        }
    }

    /// Polls each member that was woken and has not been polled in this poll.
    #[inline]
    fn poll_woken<B: Future<Output = BodyEnd<T, E>>>(
        &mut self,
        mut body: Pin<&mut Option<B>>,
        budget: &mut usize,
    ) {
        #[cfg(feature = "testing")]
        self.crew.shuffle_woken();
        while *budget > 0 {
            let Some(turn) = self.crew.next_woken() else {
                break;
            };
            *budget -= 1;
            match turn {
                Turn::Body => self.poll_body(body.as_mut()),
                Turn::Child(child) => match poll_child(child) {
                    None => {}
                    Some(ended) => self.child_ended(ended),
                },
            }
        }
    }

    /// Takes new children in and polls each once.
    fn poll_new(&mut self, budget: &mut usize) {
        self.crew.take_ready();
        // Under a limit the children run in the order in which they queue.
        #[cfg(feature = "testing")]
        if self.limit == usize::MAX {
            self.crew.shuffle_new();
        }
        while *budget > 0 && self.room() > 0 {
            let Some(child) = self.crew.next_new() else {
                break;
            };
            *budget -= 1;
            if let Some(ended) = poll_child(child) {
                self.child_ended(ended);
            }
        }
    }

    /// How many more children may run.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.crew.n_children())
    }

    fn poll_body<B: Future<Output = BodyEnd<T, E>>>(&mut self, mut body: Pin<&mut Option<B>>) {
        let Some(future) = body.as_mut().as_pin_mut() else {
            return;
        };
        match self.poll_seat_of_body(|cx| future.poll(cx)) {
            SeatStep::Pending => self.begin_exits(),
            SeatStep::Ready(end) => {
                self.drop_body(body);
                match end {
                    BodyEnd::Value(value) => {
                        // A value that came first through `finish` counts.
                        self.value = match &self.finish {
                            Some(finish) => {
                                drop(finish.offer(value));
                                None
                            }
                            None => Some(value),
                        };
                    }
                    BodyEnd::Failed(failure) if self.is_stop(&failure) => self.note_stop(),
                    BodyEnd::Failed(failure) => {
                        self.trouble().failures.push(failure);
                        self.cancel(CancelReason::BodyFailed, self.crew.body_member().location());
                    }
                    BodyEnd::Cancelled(cancelled) => self.body_cancelled(cancelled),
                }
            }
            SeatStep::Strike => {
                self.note_stop();
                let alone = self.cancelled_body();
                self.drop_body(body);
                if let Some(cancelled) = alone {
                    self.body_cancelled(cancelled);
                }
            }
            SeatStep::Panicked(payload) => {
                self.panicked(payload, self.crew.body_member().info());
                self.drop_body(body);
            }
        }
    }

    /// Why the body is cancelled, if it is and the nursery is not.
    fn cancelled_body(&self) -> Option<Cancelled> {
        let node = self.crew.body_member().known_node()?;
        (node.is_own_cancelled() && !self.is_effective()).then(|| node.cancelled_or_closed())
    }

    /// The body was stopped by a cancellation of its own, which becomes the nursery's.
    fn body_cancelled(&mut self, cancelled: Cancelled) {
        self.trouble().stopped_by = Some(cancelled.clone());
        self.crew.queue().nursery().request(cancelled);
    }

    fn poll_seat_of_body<V>(
        &mut self,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<V>,
    ) -> SeatStep<V> {
        let round = self.crew.round();
        let mut seat = self.crew.body();
        let member = seat.member();
        let epoch = begin_turn(&mut seat, round);
        let waker = seat.waker();
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| member.as_current(|| poll(&mut cx)))) {
            Ok(Poll::Ready(value)) => SeatStep::Ready(value),
            Ok(Poll::Pending) => {
                if strikes(&mut seat, epoch, &mut cx) {
                    SeatStep::Strike
                } else {
                    SeatStep::Pending
                }
            }
            Err(payload) => SeatStep::Panicked(payload),
        }
    }

    fn drop_body<B>(&mut self, body: Pin<&mut Option<B>>) {
        if let Err(payload) = drop_body(body) {
            self.panicked(payload, self.crew.body_member().info());
        }
        self.crew.end_body();
        self.begin_exits();
    }

    /// Once the block has ended, its guests' exits begin, before anything else happens here.
    fn begin_exits(&mut self) {
        if self
            .block
            .as_ref()
            .is_some_and(|block| block.ended().is_some())
        {
            self.block = None;
            self.crew.for_each(|member| {
                if member.is_guest() {
                    member.begin_exit();
                    member.wake();
                }
            });
        }
    }

    /// A child's last turn is over.
    #[inline]
    fn child_ended(&mut self, ended: Ended<E>) {
        match ended {
            Ended::Well => self.crew.queue().count.collected(),
            Ended::Otherwise(end) => self.child_ended_otherwise(end),
        }
    }

    /// As [`child_ended`](Self::child_ended), for a child that was removed.
    #[cold]
    fn child_ended_otherwise(&mut self, end: OtherEnd<E>) {
        match end {
            OtherEnd::Failed(failure) => {
                let info = self.drop_removed_info();
                self.fail(failure, &info);
            }
            OtherEnd::Strike => {
                self.note_stop();
                self.drop_removed();
            }
            OtherEnd::Panicked(payload) => {
                // A context that has panicked is over.
                self.crew.for_each_removed(Member::forgive_exit);
                let info = self.crew.removed_infos().pop();
                self.panicked(payload, info.expect("a child was removed"));
                self.drop_removed();
            }
            OtherEnd::PanickedInDrop(result, payload) => {
                let info = self.drop_removed_info();
                self.panicked(payload, info.clone());
                if let Err(failure) = result {
                    self.fail(failure, &info);
                }
            }
        }
    }

    /// A child has failed.
    fn fail(&mut self, failure: Failure<E>, child: &FrameInfo) {
        if self.is_stop(&failure) {
            self.note_stop();
            return;
        }
        self.trouble().failures.push(failure);
        if !self.supervises {
            let location = child.location();
            let child = child.name().map(|name| name.to_owned().into());
            self.cancel(CancelReason::ChildFailed { child }, location);
        }
    }

    /// Whoever failed has only heard of the cancellation.
    fn is_stop(&self, failure: &Failure<E>) -> bool {
        is_echo_of_cancellation(failure) && self.is_effective()
    }

    fn note_stop(&mut self) {
        self.stopped_by_outer |= self.is_outer_cancelled();
    }

    fn cancel(&self, reason: CancelReason, location: &'static Location<'static>) {
        self.crew
            .queue()
            .nursery()
            .request(Cancelled::__new(reason, location));
    }

    /// The nursery is cancelled, and has not looked who need not be polled any more.
    #[inline]
    fn is_to_be_swept(&self) -> bool {
        !self.swept && self.is_effective()
    }

    /// Drops, once per cancellation, the members that would only say `Pending`.
    #[inline]
    fn sweep<B>(&mut self, body: Pin<&mut Option<B>>) {
        let is_effective = self.is_effective();
        if is_effective && !self.swept {
            self.sweep_now(body);
        }
        self.swept = is_effective;
    }

    #[cold]
    fn sweep_now<B>(&mut self, body: Pin<&mut Option<B>>) {
        if self.crew.has_body() && may_be_dropped_unpolled(&self.crew.body()) {
            self.note_stop();
            self.drop_body(body);
        }
        self.crew.remove_all(may_be_dropped_unpolled);
        if self.crew.has_removed() {
            self.note_stop();
            self.drop_removed();
        }
    }

    #[inline]
    fn is_finished(&mut self) -> bool {
        if !self.crew.is_empty() {
            return false;
        }
        if self.crew.is_closed() {
            return true;
        }
        let closed = self.crew.close_if_empty();
        if closed {
            self.crew.queue().tell_closed();
        }
        closed
    }

    /// Whether the nursery, which is cancelled, gives up on what still runs.
    #[cold]
    fn is_out_of_grace(&mut self, cx: &mut Context<'_>) -> bool {
        let trouble = self.trouble.get_or_insert_default();
        trouble.grace.is_over(self.crew.queue().nursery(), cx) && self.dismiss_executor_children()
    }

    /// The grace period is over: executors drop the children that they poll. False while one of them runs.
    fn dismiss_executor_children(&mut self) -> bool {
        let (dismissed, some_run) = self.crew.queue().nursery().dismiss_inside();
        for frame in &dismissed {
            self.report(&Report::OutOfGrace(frame.clone()));
        }
        self.trouble().out_of_grace.extend(dismissed);
        !some_run
    }

    /// The grace period is over: what still runs is dropped where it stands, and named.
    fn give_up<B>(&mut self, body: Pin<&mut Option<B>>) {
        self.note_stop();
        let node = Arc::clone(self.crew.queue().nursery());
        let mut given_up = Vec::new();
        if self.crew.has_body() {
            given_up.push(self.crew.body_member().info());
        }
        self.crew.remove_all(|_| true);
        self.crew.for_each_removed(Member::forgive_exit);
        given_up.extend(self.crew.removed_infos());
        let inside = node.abandon_inside();
        given_up.extend(inside.into_iter().filter(|frame| !frame.kind().is_member()));
        for frame in &given_up {
            self.report(&Report::OutOfGrace(frame.clone()));
        }
        self.trouble().out_of_grace.extend(given_up);
        if self.crew.has_body() {
            self.drop_body(body);
        }
        self.drop_removed();
        self.crew.close();
        self.drop_removed();
        self.crew.queue().tell_closed();
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<RawEnd<T, E>> {
        self.adopt_node();
        let outer_cancelled = self.is_outer_cancelled();
        let mut value = self
            .value
            .take()
            .or_else(|| self.finish.as_ref().and_then(|finish| finish.take()));
        let mut stopped_by = None;
        if let Some(trouble) = self.trouble.take() {
            stopped_by = trouble.stopped_by.clone();
            let failures = self.failures_of(*trouble, &mut value, outer_cancelled);
            if !failures.is_empty() {
                self.end_frame();
                return Poll::Ready(RawEnd::Failed(failures));
            }
        }
        if let Some(value) = value
            && !(outer_cancelled && self.stopped_by_outer)
        {
            self.end_frame();
            return Poll::Ready(RawEnd::Value(value));
        }
        let frame = self.frame();
        let cancelled = stopped_by.unwrap_or_else(|| frame.node().cancelled_or_closed());
        frame.mark_stopped(cancelled);
        frame.absorb_or_park(cx).map(RawEnd::Cancelled)
    }

    /// The failures with which the nursery ends; resumes a panic.
    #[cold]
    fn failures_of(
        &mut self,
        trouble: Trouble<E>,
        value: &mut Option<T>,
        outer_cancelled: bool,
    ) -> Vec<Failure<E>> {
        let info = self.crew.queue().info();
        let mut failures = trouble.failures;
        if !trouble.out_of_grace.is_empty() {
            let names = trouble
                .out_of_grace
                .iter()
                .map(|frame| frame.to_string().into())
                .collect();
            failures.push(Failure::library(LibraryFailure::OutOfGrace { names }));
        }
        forget_echoes(&mut failures);
        if let Some(payload) = trouble.panic {
            if !failures.is_empty() {
                self.report(&Report::FailuresBehindPanic {
                    frame: info,
                    failures: failures.len(),
                    type_name: type_name::<E>(),
                });
            }
            self.end_frame();
            drop((value.take(), failures));
            resume_unwind(payload);
        }
        if !failures.is_empty() && outer_cancelled {
            self.report(&Report::FailedUnderCancellation {
                frame: info,
                failures: failures.len(),
                type_name: type_name::<E>(),
            });
        }
        failures
    }
}

// The nursery's own frame.
impl<C: ?Sized, T, E> Inner<C, T, E> {
    /// It is polled in no frame, and nobody has asked for its node.
    #[inline]
    fn may_be_bare(&self) -> bool {
        #[cfg(feature = "task-tree")]
        if crate::tree::tracks_all() {
            return false;
        }
        #[cfg(feature = "tracing")]
        if crate::trace::hears_of_nurseries() {
            return false;
        }
        self.crew.queue().known_nursery().is_none() && current::with(|current| current.is_none())
    }

    #[inline(never)]
    fn make_frame(&mut self) {
        let node = Arc::clone(self.crew.queue().nursery());
        self.frame = Some(Frame::new(node));
    }

    /// Takes its place in the tree if it has got a node in the meantime; no frame is current.
    #[inline]
    fn adopt_node(&mut self) {
        if self.frame.is_none() && self.crew.queue().known_nursery().is_some() {
            self.frame();
        }
    }

    /// The frame, made now if need be; it is polled in no other one then.
    fn frame(&mut self) -> &mut Frame {
        if self.frame.is_none() {
            self.make_frame();
            let _outside = current::clear();
            let frame = self.frame.as_mut().expect("just made");
            frame.settle();
            frame.begin_poll();
            self.bare = None;
        }
        self.frame.as_mut().expect("made above")
    }

    /// The nursery is over.
    #[inline]
    fn end_frame(&mut self) {
        self.bare = None;
        if let Some(frame) = &mut self.frame {
            frame.finish();
        }
    }

    #[inline]
    fn is_effective(&self) -> bool {
        let node = self.crew.queue().known_nursery();
        node.is_some_and(|node| node.is_effective())
    }

    fn is_outer_cancelled(&self) -> bool {
        let node = self.crew.queue().known_nursery();
        node.is_some_and(|node| node.is_outer_cancelled())
    }

    fn report(&self, what: &Report) {
        report_at(self.crew.queue().known_nursery(), what);
    }
}

impl<C: ?Sized, T, E> Inner<C, T, E> {
    #[cold]
    fn trouble(&mut self) -> &mut Trouble<E> {
        self.trouble.get_or_insert_default()
    }

    /// Drops the children that were removed.
    fn drop_removed(&mut self) {
        while let Some(member) = self.crew.first_removed() {
            self.report_owed_exit(&member);
            let dropped = self.crew.next_removed().map_or(Ok(()), drop_child);
            self.crew.queue().count.collected();
            if let Err((payload, info)) = dropped {
                self.panicked(payload, info);
            }
        }
    }

    /// A context is dropped after it has provided and before its exit has run.
    fn report_owed_exit(&self, member: &Member) {
        if !member.owes_exit() {
            return;
        }
        let at = |kind| FrameInfo::new(kind, None, member.location());
        let has_node = member.known_node().is_some();
        let node = member
            .known_node()
            .or_else(|| self.crew.queue().known_nursery());
        if !node.is_some_and(|node| node.is_abandoned()) {
            self.report(&Report::Dropped(at(FrameKind::Context)));
            return;
        }
        // Who gave the nursery up knew nothing of what has no node.
        if !has_node {
            self.report(&Report::NotPolled(member.info()));
        }
        if member.is_guest() {
            self.report(&Report::NotPolled(at(FrameKind::Provide)));
        }
    }

    /// Drops the child that was removed, whose future is gone; what it was.
    fn drop_removed_info(&mut self) -> FrameInfo {
        let child = self.crew.next_removed().expect("a child was removed");
        let info = child.member().info();
        drop(child);
        self.crew.queue().count.collected();
        info
    }

    /// The first panic is kept to be resumed, and cancels the nursery; the hook hears of later ones.
    fn panicked(&mut self, payload: Box<dyn Any + Send>, frame: FrameInfo) {
        let first = &mut self.trouble().panic;
        if first.is_some() {
            let message = panic_message(&*payload);
            self.report(&Report::LaterPanic { frame, message });
            drop_payload(payload);
            return;
        }
        *first = Some(payload);
        self.crew.queue().nursery().request(Cancelled::__new(
            CancelReason::ChildPanicked,
            frame.location(),
        ));
    }

    /// Drops everything at once: the body first, then the children.
    fn clear<B>(&mut self, body: Pin<&mut Option<B>>) {
        if self.crew.is_closed() {
            return;
        }
        let mut first_panic = drop_body(body).err();
        let mut note = |panic: Option<Box<dyn Any + Send>>| match (&first_panic, panic) {
            (Some(_), Some(later)) => drop_payload(later),
            (_, Some(first)) => first_panic = Some(first),
            (_, None) => {}
        };
        self.crew.end_body();
        self.crew.remove_all(|_| true);
        self.crew
            .for_each_removed(|member| self.report_owed_exit(member));
        note(self.crew.drop_all_removed());
        self.crew.close();
        note(self.crew.drop_all_removed());
        self.crew.queue().tell_closed();
        if let (None, Some(node)) = (&self.frame, self.crew.queue().known_nursery()) {
            node.retire();
        }
        if let Some(payload) = first_panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

/// How a child ended.
enum Ended<E> {
    /// With success, and nothing is left of it.
    Well,
    /// It was removed, and is to be dropped.
    Otherwise(OtherEnd<E>),
}

enum OtherEnd<E> {
    /// It failed, and its future is dropped.
    Failed(Failure<E>),
    /// It is to be stopped.
    Strike,
    Panicked(Box<dyn Any + Send>),
    /// It returned, and dropping its future panicked.
    PanickedInDrop(Result<(), Failure<E>>, Box<dyn Any + Send>),
}

/// Polls a child; what ended is taken from its place.
#[inline(never)]
fn poll_child<C, E>(mut child: Running<'_, C>) -> Option<Ended<E>>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
{
    match child.begin_turn() {
        ToDo::Poll => {}
        ToDo::Nothing => return None,
        ToDo::End => {
            child.end_of_elsewhere();
            return Some(Ended::Well);
        }
    }
    let round = child.round();
    let (mut seat, mut future) = child.parts();
    let member = seat.member();
    let epoch = begin_turn(&mut seat, round);
    let waker = seat.waker();
    let mut cx = Context::from_waker(&waker);
    let mut polled = Poll::Pending;
    // The future of a child that has ended is dropped at once, with no frame current.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        polled = member.as_current(|| future.poll(&mut cx));
        if polled.is_ready() {
            future.drop_in_place();
        }
    }));
    let end = match (polled, caught) {
        (Poll::Pending, Ok(())) => {
            if !strikes(&mut seat, epoch, &mut cx) {
                return None;
            }
            OtherEnd::Strike
        }
        (Poll::Ready(Ok(())), Ok(())) => {
            if !member.was_stopped() {
                child.end();
                return Some(Ended::Well);
            }
            OtherEnd::Strike
        }
        (Poll::Ready(Err(failure)), Ok(())) => OtherEnd::Failed(failure),
        (Poll::Pending, Err(payload)) => OtherEnd::Panicked(payload),
        (Poll::Ready(result), Err(payload)) => OtherEnd::PanickedInDrop(result, payload),
    };
    child.remove();
    Some(Ended::Otherwise(end))
}

/// Drops a child with no frame current; the panic of its `Drop` comes with what the child was.
fn drop_child<C: ?Sized>(
    mut child: Removed<'_, C>,
) -> Result<(), (Box<dyn Any + Send>, FrameInfo)> {
    let dropped = {
        let _outside = current::clear();
        catch_unwind(AssertUnwindSafe(|| child.drop_future()))
    };
    dropped.map_err(|payload| (payload, child.member().info()))
}

/// For the sibling crates: takes children in before their nursery is polled.
pub struct Enlist<'a, C: ?Sized> {
    crew: &'a mut Crew<C>,
    location: &'static Location<'static>,
}

impl<C: Future> Enlist<'_, C> {
    /// One child more.
    pub fn add(&mut self, future: C) {
        self.add_with(|_| future);
    }

    /// One child more, whose future may provide to the block that the nursery's body runs.
    pub fn add_with(&mut self, make: impl FnOnce(Host) -> C) {
        self.crew.queue().count.add(false);
        self.crew
            .enlist(self.location, |member| make(Host::new(member.clone())));
    }
}

impl<C: ?Sized> std::fmt::Debug for Enlist<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enlist").finish_non_exhaustive()
    }
}

/// For the sibling crates: children that all exist when the nursery opens, and a body beside them.
///
/// `make` enlists the children and makes the body.
pub fn open_children<C, B, T, E>(
    location: &'static Location<'static>,
    make: impl FnOnce(&mut Enlist<'_, C>) -> B,
) -> RawNursery<C, B, T, E>
where
    C: Future<Output = Result<(), Failure<E>>>,
    B: Future<Output = BodyEnd<T, E>>,
{
    RawNursery::new(location, RawOptions::default(), |crew| {
        let body = make(&mut Enlist {
            crew: &mut *crew,
            location,
        });
        // The children first: a body that waits for them finds what they do in their first polls.
        crew.put_off_body();
        body
    })
}

impl<C: ?Sized, B, T, E> RawNursery<C, B, T, E> {
    /// Says which block the body runs, if the children that have a [`Host`] are its contexts.
    pub fn running(mut self, block: &Block) -> Self {
        block.run_by(self.inner.crew.body_member());
        self.inner.block = Some(block.clone());
        self
    }
}
