//! The engine of a nursery: a body and children that are polled, stopped and collected together.

use std::{
    any::{Any, type_name},
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;
use slab::Slab;
use trionics_errgroup::{CancelReason, Cancelled, Failure, LibraryFailure};

use super::{
    finish::FinishSlot,
    member::{Member, Queue},
};
use crate::{
    current::{self, Current},
    deadline::{self, Limit},
    frame::{Frame, Grace, Wait, begin_poll, decide, drop_body},
    node::Node,
    report::{FrameInfo, FrameKind, Report, panic_message},
    scope::Name,
};

/// How many members one poll of a nursery polls at most before it lets its neighbors run.
const POLLS_AT_ONCE: usize = 256;

/// The key of the body among the members.
const BODY: usize = usize::MAX;

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

/// A child that has yet to be polled.
pub struct NewChild<C> {
    pub(crate) future: C,
    pub(crate) member: Arc<Member>,
}

impl<C> std::fmt::Debug for NewChild<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewChild")
            .field("location", &self.member.location())
            .finish_non_exhaustive()
    }
}

/// Where the children of a nursery come from.
pub trait Source<C> {
    /// Moves new children to the end of `into`, `room` of them at most.
    fn take(&mut self, room: usize, into: &mut Vec<NewChild<C>>);
    /// A child that was taken is gone.
    fn collected(&mut self);
    /// Closes for good if there is no new child; false if there is one.
    fn try_close(&mut self) -> bool;
    /// Closes for good; returns the children that will never be polled.
    fn close(&mut self) -> Vec<NewChild<C>>;
}

/// Children that are all there from the beginning.
impl<C> Source<C> for Vec<NewChild<C>> {
    fn take(&mut self, room: usize, into: &mut Vec<NewChild<C>>) {
        into.extend(self.drain(..self.len().min(room)));
    }

    fn collected(&mut self) {}

    fn try_close(&mut self) -> bool {
        self.is_empty()
    }

    fn close(&mut self) -> Self {
        std::mem::take(self)
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

/// Where one member is polled from.
struct Seat {
    member: Arc<Member>,
    waker: Waker,
    current: Option<Current>,
    wait: Option<Box<Wait>>,
    polled: bool,
}

enum SeatStep<T> {
    Ready(T),
    Pending,
    /// Its future is to be dropped because of a cancellation.
    Strike,
    Panicked(Box<dyn Any + Send>),
}

impl Seat {
    fn new(member: Arc<Member>) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&member)),
            current: Some(Current::Member(Arc::clone(&member))),
            member,
            wait: None,
            polled: false,
        }
    }

    fn poll<T>(
        &mut self,
        round: u64,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> SeatStep<T> {
        let member = &self.member;
        // Elsewhere a member has a node only if a frame opens inside it.
        if !self.polled && member.nursery().shows_children() {
            member.node();
        }
        member.begin_poll(round);
        self.polled = true;
        // What the nursery polls of a child on an executor is the wait for its end, which nothing cuts short.
        let on_executor = member.node_on_executor();
        let epoch = match member.known_node() {
            Some(node) if on_executor.is_none() => {
                if node.is_abandoned() {
                    node.revive();
                }
                begin_poll(node, &self.wait)
            }
            _ => 0,
        };
        let mut cx = Context::from_waker(&self.waker);
        let polled = {
            self.current
                .get_or_insert_with(|| Current::Member(Arc::clone(member)));
            let _entered = current::enter(&mut self.current);
            catch_unwind(AssertUnwindSafe(|| poll(&mut cx)))
        };
        match polled {
            Ok(Poll::Ready(_)) if on_executor.is_some_and(|node| node.is_stopped()) => {
                SeatStep::Strike
            }
            Ok(Poll::Ready(value)) => SeatStep::Ready(value),
            Ok(Poll::Pending) if on_executor.is_some() => SeatStep::Pending,
            Ok(Poll::Pending) => {
                let strike = match member.known_node() {
                    None => member.nursery().is_effective(),
                    Some(node) => {
                        node.register(&self.waker);
                        decide(node, &mut self.wait, epoch, &mut cx)
                    }
                };
                if strike {
                    SeatStep::Strike
                } else {
                    SeatStep::Pending
                }
            }
            Err(payload) => SeatStep::Panicked(payload),
        }
    }

    /// A body that was not woken and holds no frame would only say `Pending`.
    fn may_be_dropped_unpolled(&self) -> bool {
        self.polled && !self.member.is_queued() && self.member.known_node().is_none()
    }

    /// The member is over and its future dropped.
    fn close(&mut self) {
        self.wait = None;
        self.member.end();
    }
}

struct Child<C> {
    future: Option<C>,
    seat: Seat,
}

/// Everything of a nursery but its body.
struct Inner<C, S, T, E> {
    frame: Frame,
    queue: Arc<Queue>,
    body: Seat,
    body_is_over: bool,
    children: Slab<Child<C>>,
    /// Members to be polled; what one poll does not get through stays for the next.
    batch: VecDeque<Arc<Member>>,
    /// Members that were woken again in the poll that has polled them: they are for the next one.
    again: Vec<Arc<Member>>,
    /// Counts the polls, so that none polls a member twice.
    round: u64,
    source: S,
    value: Option<T>,
    /// Where a value comes from that ends the nursery early; the first one counts.
    finish: Option<Arc<FinishSlot<T>>>,
    failures: Vec<Failure<E>>,
    panic: Option<Box<dyn Any + Send>>,
    /// A cancellation from further out has stopped the body or a child.
    stopped_by_outer: bool,
    stopped_by: Option<Cancelled>,
    /// The members that need no further poll have been dropped since the nursery was cancelled.
    swept: bool,
    limit: usize,
    supervises: bool,
    grace: Grace,
    /// What was still running when the grace period was over.
    out_of_grace: Vec<FrameInfo>,
}

pin_project! {
    /// A nursery whose children are of type `C` and come from `S`.
    #[must_use = "futures do nothing unless polled"]
    pub struct RawNursery<C, S, B, T, E>
    where
        S: Source<C>,
    {
        #[pin]
        body: Option<B>,
        inner: Inner<C, S, T, E>,
    }

    impl<C, S, B, T, E> PinnedDrop for RawNursery<C, S, B, T, E>
    where
        S: Source<C>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.inner.clear(this.body);
        }
    }
}

impl<C, S: Source<C>, B, T, E> RawNursery<C, S, B, T, E> {
    /// `make` gets the queue that tells the nursery of new children.
    pub(crate) fn new(
        location: &'static Location<'static>,
        options: RawOptions,
        make: impl FnOnce(&Arc<Queue>) -> (B, S),
    ) -> Self {
        let node = Node::named(FrameKind::Nursery, location, options.name.clone());
        // Before it counts as entered: a timeout begins with the first poll.
        if let Some((limit, location)) = options.limit_in_time {
            node.set_limit(limit, location);
        }
        // Its scope is the nursery's: nothing else runs in it.
        node.try_enter();
        if options.shielded {
            node.set_shielded(true);
        }
        if let Some(grace) = options.grace {
            node.set_grace(grace);
        }
        let queue = Queue::new(Arc::clone(&node));
        let (body, source) = make(&queue);
        let seat = Seat::new(Member::new(&queue, FrameKind::Body, options.name, location));
        Self {
            body: Some(body),
            inner: Inner {
                frame: Frame::new(node),
                batch: VecDeque::from([Arc::clone(&seat.member)]),
                queue,
                body: seat,
                body_is_over: false,
                again: Vec::new(),
                round: 0,
                children: Slab::new(),
                source,
                value: None,
                finish: None,
                failures: Vec::new(),
                panic: None,
                stopped_by_outer: false,
                stopped_by: None,
                swept: false,
                limit: options.limit.unwrap_or(usize::MAX),
                supervises: options.supervises,
                grace: Grace::default(),
                out_of_grace: Vec::new(),
            },
        }
    }

    /// A value may also come through `finish`, and ends the nursery then.
    pub(crate) fn finished_by(mut self, finish: Option<Arc<FinishSlot<T>>>) -> Self {
        self.inner.finish = finish;
        self
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.inner.frame.node().info().location()
    }

    pub(crate) fn name(&self) -> Option<Name> {
        self.inner.frame.node().name()
    }
}

impl<C, S: Source<C>, B, T, E> std::fmt::Debug for RawNursery<C, S, B, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawNursery")
            .field("opened_at", &self.location())
            .finish_non_exhaustive()
    }
}

impl<C, S, B, T, E> Future for RawNursery<C, S, B, T, E>
where
    C: Future<Output = Result<(), Failure<E>>> + Unpin,
    S: Source<C>,
    B: Future<Output = BodyEnd<T, E>>,
{
    type Output = RawEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner;
        if inner.frame.is_stopped() {
            inner.frame.settle();
            return inner.frame.absorb_or_park(cx).map(RawEnd::Cancelled);
        }
        assert!(
            !inner.frame.is_done(),
            "a {} was polled after it had completed",
            inner.frame.node().info()
        );
        if !inner.frame.settle() {
            inner.clear(this.body);
            inner.frame.mark_stopped(inner.frame.stopped_by());
            return inner.frame.absorb_or_park(cx).map(RawEnd::Cancelled);
        }
        inner.frame.begin_poll();
        inner.frame.node().register(cx.waker());
        let in_force = deadline::begin_poll(inner.frame.node());
        // Children and body have spans inside.
        #[cfg(feature = "tracing")]
        let _span = inner.frame.node().trace().enter(inner.frame.node());
        inner.queue.begin_poll();
        inner.round += 1;
        let mut budget = POLLS_AT_ONCE;
        loop {
            let mut progress = inner.poll_woken(this.body.as_mut(), &mut budget);
            progress |= inner.sweep(this.body.as_mut());
            progress |= inner.poll_new(&mut budget);
            if !progress {
                break;
            }
        }
        drop(in_force);
        let mut finished = inner.is_finished();
        if !finished {
            inner.frame.watch_deadline(cx);
        }
        if !finished
            && inner.frame.node().is_effective()
            && inner.grace.is_over(inner.frame.node(), cx)
            && inner.dismiss_executor_children()
        {
            inner.give_up(this.body);
            finished = inner.is_finished();
        }
        if finished {
            return inner.finish(cx);
        }
        inner.batch.extend(inner.again.drain(..));
        if inner.queue.end_poll(cx.waker()) || !inner.batch.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<C, S, T, E> Inner<C, S, T, E>
where
    C: Future<Output = Result<(), Failure<E>>> + Unpin,
    S: Source<C>,
{
    /// Polls each member that was woken and has not been polled in this poll; false if there was none.
    fn poll_woken<B: Future<Output = BodyEnd<T, E>>>(
        &mut self,
        mut body: Pin<&mut Option<B>>,
        budget: &mut usize,
    ) -> bool {
        self.queue.take_ready(&mut self.batch);
        #[cfg(feature = "testing")]
        crate::testing::shuffle(self.batch.make_contiguous());
        let mut progress = false;
        while *budget > 0 {
            let Some(member) = self.batch.pop_front() else {
                break;
            };
            if member.was_polled_in(self.round) {
                self.again.push(member);
                continue;
            }
            *budget -= 1;
            progress = true;
            if member.key() == BODY {
                self.poll_body(body.as_mut());
            } else {
                self.poll_child(&member);
            }
        }
        progress
    }

    /// Takes new children in and polls each once; false if there were none.
    fn poll_new(&mut self, budget: &mut usize) -> bool {
        let mut new_children = Vec::new();
        self.source.take(
            self.limit.saturating_sub(self.children.len()),
            &mut new_children,
        );
        #[cfg(feature = "testing")]
        crate::testing::shuffle(&mut new_children);
        let some = !new_children.is_empty();
        for child in new_children {
            let member = self.seat(child);
            if *budget == 0 {
                self.batch.push_back(member);
            } else {
                *budget -= 1;
                self.poll_child(&member);
            }
        }
        some
    }

    fn poll_body<B: Future<Output = BodyEnd<T, E>>>(&mut self, mut body: Pin<&mut Option<B>>) {
        let Some(future) = body.as_mut().as_pin_mut() else {
            return;
        };
        match self.body.poll(self.round, |cx| future.poll(cx)) {
            SeatStep::Pending => {}
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
                    BodyEnd::Failed(failure) => {
                        self.failures.push(failure);
                        self.cancel(CancelReason::BodyFailed, self.body.member.location());
                    }
                    BodyEnd::Cancelled(cancelled) => {
                        self.stopped_by = Some(cancelled.clone());
                        self.frame.node().request(cancelled);
                    }
                }
            }
            SeatStep::Strike => {
                self.note_stop();
                self.drop_body(body);
            }
            SeatStep::Panicked(payload) => {
                self.panicked(payload, self.body.member.info());
                self.drop_body(body);
            }
        }
    }

    fn drop_body<B>(&mut self, body: Pin<&mut Option<B>>) {
        self.body_is_over = true;
        if let Err(payload) = drop_body(body) {
            self.panicked(payload, self.body.member.info());
        }
        self.body.close();
    }

    fn poll_child(&mut self, member: &Arc<Member>) {
        // The seat may have been given to another child since.
        let Some(child) = self.children.get_mut(member.key()) else {
            return;
        };
        if !Arc::ptr_eq(&child.seat.member, member) {
            return;
        }
        let Child {
            future: Some(future),
            seat,
        } = child
        else {
            return;
        };
        match seat.poll(self.round, |cx| Pin::new(future).poll(cx)) {
            SeatStep::Pending => {}
            SeatStep::Ready(result) => {
                self.drop_child(member.key());
                if let Err(failure) = result {
                    self.failures.push(failure);
                    if !self.supervises {
                        let child = member.name().map(|name| name.to_string().into());
                        self.cancel(CancelReason::ChildFailed { child }, member.location());
                    }
                }
            }
            SeatStep::Strike => {
                self.note_stop();
                self.drop_child(member.key());
            }
            SeatStep::Panicked(payload) => {
                self.panicked(payload, member.info());
                self.drop_child(member.key());
            }
        }
    }

    fn note_stop(&mut self) {
        self.stopped_by_outer |= self.frame.node().is_outer_cancelled();
    }

    fn cancel(&self, reason: CancelReason, location: &'static Location<'static>) {
        self.frame
            .node()
            .request(Cancelled::__new(reason, location));
    }

    /// Drops, once per cancellation, the members that would only say `Pending`; false if it did before.
    fn sweep<B>(&mut self, body: Pin<&mut Option<B>>) -> bool {
        if !self.frame.node().is_effective() {
            self.swept = false;
            return false;
        }
        if std::mem::replace(&mut self.swept, true) {
            return false;
        }
        if !self.body_is_over && self.body.may_be_dropped_unpolled() {
            self.note_stop();
            self.drop_body(body);
        }
        let idle: Vec<_> = self
            .children
            .iter()
            .filter(|(_, child)| child.seat.may_be_dropped_unpolled())
            .map(|(key, _)| key)
            .collect();
        for key in idle {
            self.note_stop();
            self.drop_child(key);
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.body_is_over && self.children.is_empty()
    }

    fn is_finished(&mut self) -> bool {
        self.is_empty() && self.source.try_close()
    }

    /// The grace period is over: executors drop the children that they poll. False while one of them runs.
    fn dismiss_executor_children(&mut self) -> bool {
        let (dismissed, some_run) = self.frame.node().dismiss_inside();
        for frame in &dismissed {
            self.frame.report(&Report::OutOfGrace(frame.clone()));
        }
        self.out_of_grace.extend(dismissed);
        !some_run
    }

    /// The grace period is over: what still runs is dropped where it stands, and named.
    fn give_up<B>(&mut self, body: Pin<&mut Option<B>>) {
        self.note_stop();
        let node = Arc::clone(self.frame.node());
        let mut given_up = Vec::new();
        if !self.body_is_over {
            given_up.push(self.body.member.info());
        }
        given_up.extend(
            self.children
                .iter()
                .map(|(_, child)| child.seat.member.info()),
        );
        let inside = node.abandon_inside();
        given_up.extend(inside.into_iter().filter(|frame| !frame.kind().is_member()));
        for frame in &given_up {
            self.frame.report(&Report::OutOfGrace(frame.clone()));
        }
        self.out_of_grace.extend(given_up);
        if !self.body_is_over {
            self.drop_body(body);
        }
        let keys: Vec<_> = self.children.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.drop_child(key);
        }
        for child in self.source.close() {
            let member = Arc::clone(&child.member);
            let dropped = drop_value(child);
            member.end();
            if let Err(payload) = dropped {
                self.panicked(payload, member.info());
            }
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<RawEnd<T, E>> {
        self.queue.close();
        let node = Arc::clone(self.frame.node());
        let outer_cancelled = node.is_outer_cancelled();
        let mut failures = std::mem::take(&mut self.failures);
        if !self.out_of_grace.is_empty() {
            let names = self
                .out_of_grace
                .iter()
                .map(|frame| frame.to_string().into())
                .collect();
            failures.push(Failure::library(LibraryFailure::OutOfGrace { names }));
        }
        let value = self
            .value
            .take()
            .or_else(|| self.finish.as_ref().and_then(|finish| finish.take()));
        if let Some(payload) = self.panic.take() {
            if !failures.is_empty() {
                self.frame.report(&Report::FailuresBehindPanic {
                    frame: node.info(),
                    failures: failures.len(),
                    type_name: type_name::<E>(),
                });
            }
            self.frame.finish();
            drop((value, failures));
            resume_unwind(payload);
        }
        if !failures.is_empty() {
            if outer_cancelled {
                self.frame.report(&Report::FailedUnderCancellation {
                    frame: node.info(),
                    failures: failures.len(),
                    type_name: type_name::<E>(),
                });
            }
            self.frame.finish();
            return Poll::Ready(RawEnd::Failed(failures));
        }
        if let Some(value) = value
            && !(outer_cancelled && self.stopped_by_outer)
        {
            self.frame.finish();
            return Poll::Ready(RawEnd::Value(value));
        }
        let cancelled = self
            .stopped_by
            .take()
            .unwrap_or_else(|| node.cancelled_or_closed());
        self.frame.mark_stopped(cancelled);
        self.frame.absorb_or_park(cx).map(RawEnd::Cancelled)
    }
}

impl<C, S: Source<C>, T, E> Inner<C, S, T, E> {
    fn seat(&mut self, child: NewChild<C>) -> Arc<Member> {
        let entry = self.children.vacant_entry();
        let member = child.member;
        member.set_key(entry.key());
        entry.insert(Child {
            future: Some(child.future),
            seat: Seat::new(Arc::clone(&member)),
        });
        member
    }

    fn drop_child(&mut self, key: usize) {
        let mut child = self.children.remove(key);
        let info = child.seat.member.info();
        let dropped = drop_value(child.future.take());
        child.seat.close();
        self.source.collected();
        if let Err(payload) = dropped {
            self.panicked(payload, info);
        }
    }

    /// The first panic is kept to be resumed, and cancels the nursery; the hook hears of later ones.
    fn panicked(&mut self, payload: Box<dyn Any + Send>, frame: FrameInfo) {
        if self.panic.is_some() {
            let message = panic_message(&*payload);
            self.frame.report(&Report::LaterPanic { frame, message });
            // Its `Drop` is the user's and might panic again.
            std::mem::forget(payload);
            return;
        }
        self.panic = Some(payload);
        self.frame.node().request(Cancelled::__new(
            CancelReason::ChildPanicked,
            frame.location(),
        ));
    }

    /// Drops everything at once: the body first, then the children.
    fn clear<B>(&mut self, body: Pin<&mut Option<B>>) {
        let mut first_panic = drop_body(body).err();
        self.body.close();
        self.body_is_over = true;
        for (_, mut child) in std::mem::take(&mut self.children) {
            if let Err(payload) = drop_value(child.future.take()) {
                first_panic.get_or_insert(payload);
            }
            child.seat.close();
        }
        for child in self.source.close() {
            let member = Arc::clone(&child.member);
            if let Err(payload) = drop_value(child) {
                first_panic.get_or_insert(payload);
            }
            // It may have been cancelled alone, and got its place by that.
            member.end();
        }
        self.batch.clear();
        self.again.clear();
        self.queue.close();
        if let Some(payload) = first_panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

/// Drops something of the user's, with no frame current.
fn drop_value<V>(value: V) -> std::thread::Result<()> {
    let _outside = current::clear();
    catch_unwind(AssertUnwindSafe(|| drop(value)))
}

/// For the sibling crates: children that all exist when the nursery opens, and a body beside them.
pub fn open_children<C, B, T, E>(
    location: &'static Location<'static>,
    children: impl IntoIterator<Item = C>,
    body: B,
) -> RawNursery<C, Vec<NewChild<C>>, B, T, E>
where
    C: Future<Output = Result<(), Failure<E>>> + Unpin,
    B: Future<Output = BodyEnd<T, E>>,
{
    let mut nursery = RawNursery::new(location, RawOptions::default(), |_| (body, Vec::new()));
    // The children first: a body that waits for them finds what they do in their first polls.
    let body = std::mem::take(&mut nursery.inner.batch);
    for future in children {
        let member = Member::new(&nursery.inner.queue, FrameKind::Child, None, location);
        let member = nursery.inner.seat(NewChild { future, member });
        nursery.inner.batch.push_back(member);
    }
    nursery.inner.batch.extend(body);
    nursery
}
