//! The engine of a nursery: a body and children that are polled, stopped and collected together.

use std::{
    any::{Any, type_name},
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use slab::Slab;
use trionics_errgroup::{CancelReason, Cancelled, Failure};

use super::member::{Member, Queue};
use crate::{
    current::{self, Current},
    frame::{Frame, Wait, begin_poll, decide, drop_body},
    node::Node,
    report::{FrameKind, Report, panic_message},
};

/// How many members one poll of a nursery polls at most before it lets its neighbors run.
const POLLS_AT_ONCE: usize = 256;

/// The key of the body among the members.
const BODY: usize = usize::MAX;

/// A child that has yet to be polled.
pub struct NewChild<C> {
    pub(crate) future: C,
    pub(crate) location: &'static Location<'static>,
}

impl<C> std::fmt::Debug for NewChild<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewChild")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// Where the children of a nursery come from.
pub trait Source<C> {
    /// Moves all new children to the end of `into`.
    fn take(&mut self, into: &mut Vec<NewChild<C>>);
    /// Closes for good if there is no new child; false if there is one.
    fn try_close(&mut self) -> bool;
    /// Closes for good; returns the children that will never be polled.
    fn close(&mut self) -> Vec<NewChild<C>>;
}

/// Children that are all there from the beginning.
impl<C> Source<C> for Vec<NewChild<C>> {
    fn take(&mut self, into: &mut Vec<NewChild<C>>) {
        into.append(self);
    }

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

    fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> SeatStep<T> {
        let member = &self.member;
        member.unqueue();
        self.polled = true;
        let epoch = member.known_node().map_or(0, |node| {
            if node.is_abandoned() {
                node.revive();
            }
            begin_poll(node, &self.wait)
        });
        let mut cx = Context::from_waker(&self.waker);
        let polled = {
            self.current
                .get_or_insert_with(|| Current::Member(Arc::clone(member)));
            let _entered = current::enter(&mut self.current);
            catch_unwind(AssertUnwindSafe(|| poll(&mut cx)))
        };
        match polled {
            Ok(Poll::Ready(value)) => SeatStep::Ready(value),
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
        if let Some(node) = self.member.known_node() {
            node.retire();
        }
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
    source: S,
    value: Option<T>,
    failures: Vec<Failure<E>>,
    panic: Option<Box<dyn Any + Send>>,
    /// A cancellation has stopped the body or a child.
    stopped: bool,
    stopped_by: Option<Cancelled>,
    /// The members that need no further poll have been dropped since the nursery was cancelled.
    swept: bool,
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
    /// `body` gets the queue that tells the nursery of new children.
    pub(crate) fn new(
        location: &'static Location<'static>,
        make: impl FnOnce(&Arc<Queue>) -> (B, S),
    ) -> Self {
        let node = Node::new(FrameKind::Nursery, location);
        let queue = Queue::new(Arc::clone(&node));
        let (body, source) = make(&queue);
        let seat = Seat::new(Member::new(&queue, BODY, FrameKind::Body, location));
        Self {
            body: Some(body),
            inner: Inner {
                frame: Frame::new(node),
                batch: VecDeque::from([Arc::clone(&seat.member)]),
                queue,
                body: seat,
                body_is_over: false,
                children: Slab::new(),
                source,
                value: None,
                failures: Vec::new(),
                panic: None,
                stopped: false,
                stopped_by: None,
                swept: false,
            },
        }
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.inner.frame.node().info().location()
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
        inner.queue.begin_poll(&mut inner.batch);
        inner.poll_members(this.body.as_mut());
        inner.sweep(this.body);
        if inner.is_finished() {
            return inner.finish(cx);
        }
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
    /// Polls each member that was woken once, then each new one once.
    fn poll_members<B: Future<Output = BodyEnd<T, E>>>(&mut self, mut body: Pin<&mut Option<B>>) {
        let mut budget = POLLS_AT_ONCE;
        let mut to_poll = self.batch.len();
        while budget > 0 && to_poll > 0 {
            budget -= 1;
            to_poll -= 1;
            let Some(member) = self.batch.pop_front() else {
                break;
            };
            if member.key == BODY {
                self.poll_body(body.as_mut());
            } else {
                self.poll_child(&member);
            }
        }
        let mut new_children = Vec::new();
        loop {
            self.source.take(&mut new_children);
            if new_children.is_empty() {
                break;
            }
            for child in new_children.drain(..) {
                let member = self.seat(child);
                if budget == 0 {
                    self.batch.push_back(member);
                } else {
                    budget -= 1;
                    self.poll_child(&member);
                }
            }
        }
    }

    fn seat(&mut self, child: NewChild<C>) -> Arc<Member> {
        let entry = self.children.vacant_entry();
        let member = Member::new(&self.queue, entry.key(), FrameKind::Child, child.location);
        entry.insert(Child {
            future: Some(child.future),
            seat: Seat::new(Arc::clone(&member)),
        });
        member
    }

    fn poll_body<B: Future<Output = BodyEnd<T, E>>>(&mut self, mut body: Pin<&mut Option<B>>) {
        let Some(future) = body.as_mut().as_pin_mut() else {
            return;
        };
        match self.body.poll(|cx| future.poll(cx)) {
            SeatStep::Pending => {}
            SeatStep::Ready(end) => {
                self.drop_body(body);
                match end {
                    BodyEnd::Value(value) => self.value = Some(value),
                    BodyEnd::Failed(failure) => self.fail(
                        failure,
                        CancelReason::BodyFailed,
                        self.body.member.location(),
                    ),
                    BodyEnd::Cancelled(cancelled) => {
                        self.stopped = true;
                        self.stopped_by = Some(cancelled.clone());
                        self.frame.node().request(cancelled);
                    }
                }
            }
            SeatStep::Strike => {
                self.stopped = true;
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
        let Some(child) = self.children.get_mut(member.key) else {
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
        match seat.poll(|cx| Pin::new(future).poll(cx)) {
            SeatStep::Pending => {}
            SeatStep::Ready(result) => {
                self.drop_child(member.key);
                if let Err(failure) = result {
                    self.fail(
                        failure,
                        CancelReason::ChildFailed { child: None },
                        member.location(),
                    );
                }
            }
            SeatStep::Strike => {
                self.stopped = true;
                self.drop_child(member.key);
            }
            SeatStep::Panicked(payload) => {
                self.panicked(payload, member.info());
                self.drop_child(member.key);
            }
        }
    }

    fn fail(
        &mut self,
        failure: Failure<E>,
        reason: CancelReason,
        location: &'static Location<'static>,
    ) {
        self.failures.push(failure);
        self.frame
            .node()
            .request(Cancelled::__new(reason, location));
    }

    /// Drops, once per cancellation, the members that would only say `Pending`.
    fn sweep<B>(&mut self, body: Pin<&mut Option<B>>) {
        if !self.frame.node().is_effective() {
            self.swept = false;
            return;
        }
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        if !self.body_is_over && self.body.may_be_dropped_unpolled() {
            self.stopped = true;
            self.drop_body(body);
        }
        let idle: Vec<_> = self
            .children
            .iter()
            .filter(|(_, child)| child.seat.may_be_dropped_unpolled())
            .map(|(key, _)| key)
            .collect();
        for key in idle {
            self.stopped = true;
            self.drop_child(key);
        }
    }

    fn is_finished(&mut self) -> bool {
        self.body_is_over && self.children.is_empty() && self.source.try_close()
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<RawEnd<T, E>> {
        self.queue.close();
        let node = Arc::clone(self.frame.node());
        let outer_cancelled = node.is_outer_cancelled();
        let failures = std::mem::take(&mut self.failures);
        let value = self.value.take();
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
            && !(outer_cancelled && self.stopped)
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
    fn drop_child(&mut self, key: usize) {
        let mut child = self.children.remove(key);
        let info = child.seat.member.info();
        let dropped = {
            let _outside = current::clear();
            catch_unwind(AssertUnwindSafe(|| child.future = None))
        };
        child.seat.close();
        if let Err(payload) = dropped {
            self.panicked(payload, info);
        }
    }

    /// The first panic is kept to be resumed, and cancels the nursery; the hook hears of later ones.
    fn panicked(&mut self, payload: Box<dyn Any + Send>, frame: crate::FrameInfo) {
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
        for mut child in std::mem::take(&mut self.children)
            .into_iter()
            .map(|(_, child)| child)
        {
            let _outside = current::clear();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| child.future = None)) {
                first_panic.get_or_insert(payload);
            }
            child.seat.close();
        }
        for child in self.source.close() {
            let _outside = current::clear();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(child))) {
                first_panic.get_or_insert(payload);
            }
        }
        self.batch.clear();
        self.queue.close();
        if let Some(payload) = first_panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
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
    let children = children
        .into_iter()
        .map(|future| NewChild { future, location })
        .collect();
    RawNursery::new(location, |_| (body, children))
}
