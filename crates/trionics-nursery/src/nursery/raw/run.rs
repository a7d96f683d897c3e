//! The turns of the members: who is polled in one poll of the nursery, and what comes of it.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use trionics_errgroup::{CancelReason, Cancelled, Failure};

use super::{BodyEnd, Inner, POLLS_AT_ONCE};
use crate::{
    current,
    frame::{begin_poll, decide, drop_body},
    nursery::child::{Removed, Running, Seat, ToDo, Turn},
    report::FrameInfo,
};

/// What the body's turn came to.
enum SeatStep<T> {
    Ready(T),
    Pending,
    /// Its future is to be dropped because of a cancellation.
    Strike,
    Panicked(Box<dyn Any + Send>),
}

impl<C, T, E> Inner<C, T, E>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
{
    /// Polls whoever is to be polled; true once everybody has ended.
    pub(super) fn run<B: Future<Output = BodyEnd<T, E>>>(
        &mut self,
        mut body: Pin<&mut Option<B>>,
    ) -> bool {
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
    pub(super) fn room(&self) -> usize {
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

    pub(super) fn drop_body<B>(&mut self, body: Pin<&mut Option<B>>) {
        if let Err(payload) = drop_body(body) {
            self.panicked(payload, self.crew.body_member().info());
        }
        self.crew.end_body();
        self.begin_exits();
    }
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
pub(super) fn may_be_dropped_unpolled(seat: &Seat<'_>) -> bool {
    let member = seat.member();
    seat.was_polled() && !member.is_queued() && member.known_node().is_none() && !member.is_spared()
}

/// How a child ended.
pub(super) enum Ended<E> {
    /// With success, and nothing is left of it.
    Well,
    /// It was removed, and is to be dropped.
    Otherwise(OtherEnd<E>),
}

pub(super) enum OtherEnd<E> {
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
pub(super) fn drop_child<C: ?Sized>(
    mut child: Removed<'_, C>,
) -> Result<(), (Box<dyn Any + Send>, FrameInfo)> {
    let dropped = {
        let _outside = current::clear();
        catch_unwind(AssertUnwindSafe(|| child.drop_future()))
    };
    dropped.map_err(|payload| (payload, child.member().info()))
}
