//! For the sibling crates: futures that one future polls side by side, and that unwind each by itself.
//!
//! A fork is what a nursery with a fixed set of children would be, without the nursery: its lanes are polled in
//! place, all of them at each poll and with the waker of whoever polls the fork. It gets a place in the scope tree
//! when a frame opens inside a lane, when it is cancelled from further out, or when somebody watches the tree. Until then
//! nothing inside has an exit to run, and the fork is no frame: its lanes are dropped like plain futures.

use std::{
    any::Any,
    fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled};

use self::lane::{change_state, enter, was_made, with_nodes};
use crate::{
    current,
    frame::{Frame, RETURNS_ONCE, Wait, begin_poll, decide, report_at},
    node::Node,
    report::{FrameInfo, FrameKind, Report, drop_payload, panic_message},
};

mod lane;

pub(crate) use self::lane::CurrentLane;

pin_project! {
    /// One of the futures of a fork.
    pub struct Lane<F> {
        #[pin]
        future: Option<F>,
        place: Place,
    }
}

/// A lane's place in the scope tree.
#[derive(Default)]
struct Place {
    /// Made when a frame opens inside the lane.
    node: Option<Arc<Node>>,
    /// How long the lane has waited for the frames inside.
    wait: Option<Box<Wait>>,
}

impl<F> Lane<F> {
    /// A lane that has not been polled.
    pub fn new(future: F) -> Self {
        Self {
            future: Some(future),
            place: Place::default(),
        }
    }
}

impl<F> fmt::Debug for Lane<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// The futures of a fork, where they cannot move.
pub trait Lanes {
    /// What each of them gives.
    type Output;

    /// Shows each lane to `visitor`, in order; the first has the number `index`. How many have not ended.
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<Self::Output>) -> usize;
}

/// Looks at lanes of different types.
pub trait Visit<O> {
    /// Called once for each lane; false if it has ended.
    fn lane<F: Future<Output = O>>(&mut self, index: usize, lane: Pin<&mut Lane<F>>) -> bool;
}

impl<F: Future> Lanes for Lane<F> {
    type Output = F::Output;

    #[inline]
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<F::Output>) -> usize {
        usize::from(visitor.lane(index, self))
    }
}

pin_project! {
    /// A lane and more lanes.
    #[derive(Debug)]
    pub struct LaneAnd<F, L> {
        #[pin]
        lane: Lane<F>,
        #[pin]
        rest: L,
    }
}

impl<F, L> LaneAnd<F, L> {
    /// The future of the first lane, and the lanes that follow.
    pub fn new(future: F, rest: L) -> Self {
        Self {
            lane: Lane::new(future),
            rest,
        }
    }
}

impl<F: Future, L: Lanes<Output = F::Output>> Lanes for LaneAnd<F, L> {
    type Output = F::Output;

    #[inline]
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<F::Output>) -> usize {
        let this = self.project();
        let is_left = visitor.lane(index, this.lane);
        usize::from(is_left) + this.rest.visit(index + 1, visitor)
    }
}

impl<F: Future> Lanes for Vec<Pin<Box<Lane<F>>>> {
    type Output = F::Output;

    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<F::Output>) -> usize {
        (index..)
            .zip(self.get_mut())
            .map(|(index, lane)| usize::from(visitor.lane(index, lane.as_mut())))
            .sum()
    }
}

/// Whether the lanes go on after an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They do.
    GoOn,
    /// They are cancelled: there is an outcome.
    Finished,
}

/// Why a fork cancels its lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Finished,
    Panicked,
}

impl Why {
    fn cancelled(self, location: &'static Location<'static>) -> Cancelled {
        let reason = match self {
            Self::Finished => CancelReason::Finished,
            Self::Panicked => CancelReason::ChildPanicked,
        };
        Cancelled::__new(reason, location)
    }
}

/// How the lanes of a fork have ended.
#[derive(Debug)]
pub enum ForkEnd {
    /// All of them have, by themselves or because of a decision.
    Over,
    /// Some were stopped by a cancellation from further out.
    Stopped,
}

/// Everything of a fork but its lanes.
pub struct Fork {
    location: &'static Location<'static>,
    /// The fork's own frame, around all lanes.
    frame: Option<Frame>,
    /// Why the lanes are cancelled from here.
    why: Option<Why>,
    /// A cancellation from further out has stopped a lane.
    stopped_by_outer: bool,
    panic: Option<Box<dyn Any + Send>>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Begun,
    Done,
}

impl Fork {
    /// A fork whose lanes have not been polled.
    #[must_use]
    pub fn new(location: &'static Location<'static>) -> Self {
        Self {
            location,
            frame: None,
            why: None,
            stopped_by_outer: false,
            panic: None,
            phase: Phase::Fresh,
        }
    }

    /// Polls the lanes; ready when each has ended. The caller says what outputs mean, and finishes or stops the fork.
    ///
    /// # Panics
    ///
    /// Resumes the first panic of a lane once all have ended.
    #[inline]
    pub fn poll<L: Lanes>(
        &mut self,
        mut lanes: Pin<&mut L>,
        cx: &mut Context<'_>,
        mut on_output: impl FnMut(L::Output) -> Decision,
    ) -> Poll<ForkEnd> {
        assert!(
            self.phase != Phase::Done,
            "what was opened at {} was polled after it had completed; {RETURNS_ONCE}",
            self.location
        );
        let is_frame = self.frame.is_some() || (self.phase == Phase::Fresh && is_watched());
        self.phase = Phase::Begun;
        if is_frame && !self.find_place() {
            self.clear(lanes);
            return Poll::Ready(ForkEnd::Stopped);
        }
        let mut is_registered = false;
        // Lanes before this one have yet to be polled in this poll.
        let mut before = usize::MAX;
        loop {
            let was_effective = self.is_effective();
            let entered = enter(self);
            let around = if self.frame.is_none() && entered.is_cancelled {
                // Where it is to be stopped it is a frame, also if none has opened inside.
                entered.leave()
            } else {
                let (n_left, decided_at) = self.round(lanes.as_mut(), before, cx, &mut on_output);
                let around = entered.leave();
                if n_left == 0 {
                    return Poll::Ready(self.end());
                }
                if !was_effective && self.is_effective() {
                    // Who was polled before it came has yet to hear of it.
                    before = decided_at;
                    continue;
                }
                around
            };
            before = usize::MAX;
            match &self.frame {
                Some(frame) if !is_registered => {
                    frame.node().register(cx.waker());
                    is_registered = true;
                    // What cancels the fork from now on wakes it.
                    if was_effective || !self.is_effective() {
                        return Poll::Pending;
                    }
                }
                None if around.is_cancelled => {
                    if !self.find_place() {
                        self.clear(lanes);
                        return Poll::Ready(ForkEnd::Stopped);
                    }
                }
                _ => return Poll::Pending,
            }
        }
    }

    /// Finds the fork's place for this poll, as a frame. False: it was stopped, or starts where nothing may start.
    fn find_place(&mut self) -> bool {
        let location = self.location;
        let frame = self
            .frame
            .get_or_insert_with(|| Frame::new(new_scope(location)));
        if frame.is_stopped() {
            frame.settle();
            return false;
        }
        if !frame.settle() {
            frame.mark_stopped(frame.stopped_by());
            return false;
        }
        frame.begin_poll();
        true
    }

    #[inline]
    fn is_effective(&self) -> bool {
        match &self.frame {
            Some(frame) => frame.node().is_effective(),
            None => self.why.is_some(),
        }
    }

    /// Polls the lanes before `end` once each; how many are left, and which one cancelled the others.
    #[inline]
    fn round<L: Lanes>(
        &mut self,
        mut lanes: Pin<&mut L>,
        end: usize,
        cx: &mut Context<'_>,
        on_output: &mut impl FnMut(L::Output) -> Decision,
    ) -> (usize, usize) {
        #[cfg(feature = "tracing")]
        let _span = self
            .frame
            .as_ref()
            .and_then(|frame| frame.node().trace().enter(frame.node()));
        let mut round = Round {
            fork: self,
            cx,
            on_output,
            begin: 0,
            end,
            current: 0,
            decided_at: usize::MAX,
            panicked: None,
        };
        loop {
            let caught = catch_unwind(AssertUnwindSafe(|| lanes.as_mut().visit(0, &mut round)));
            let payload = match caught {
                Ok(n_left) => return (n_left, round.decided_at),
                Err(payload) => payload,
            };
            // The same lanes again, from the one that has panicked: its future is dropped.
            let panicked = round.current;
            round.fork.panicked(payload);
            round.note_decision(panicked);
            round.begin = panicked;
            round.panicked = Some(panicked);
        }
    }

    /// The first panic is kept to be resumed, and cancels the lanes; the hook hears of later ones.
    fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        if self.panic.is_some() {
            let message = panic_message(&*payload);
            let frame = FrameInfo::new(FrameKind::Child, None, self.location);
            let later = Report::LaterPanic { frame, message };
            let around = match &self.frame {
                Some(frame) => Some(Arc::clone(frame.node())),
                None => current::nearest_node(),
            };
            report_at(around.as_ref(), &later);
            drop_payload(payload);
            return;
        }
        self.panic = Some(payload);
        self.cancel(Why::Panicked);
    }

    #[inline]
    fn cancel(&mut self, why: Why) {
        self.why = Some(why);
        if let Some(frame) = &self.frame {
            frame.node().request(why.cancelled(self.location));
        }
        change_state(|state| state.why = Some(why));
    }

    fn note_stop(&mut self) {
        if let Some(frame) = &self.frame {
            self.stopped_by_outer |= frame.node().is_outer_cancelled();
        }
    }

    #[inline]
    fn end(&mut self) -> ForkEnd {
        if let Some(payload) = self.panic.take() {
            self.finish();
            resume_unwind(payload);
        }
        if self.stopped_by_outer {
            ForkEnd::Stopped
        } else {
            ForkEnd::Over
        }
    }

    /// There is an outcome, although a cancellation from further out may have stopped lanes.
    #[inline]
    pub fn finish(&mut self) {
        self.phase = Phase::Done;
        if let Some(frame) = &mut self.frame {
            frame.finish();
        }
    }

    /// There is none: the fork hears of the cancellation, or parks.
    pub fn stop(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        let frame = self
            .frame
            .as_mut()
            .expect("what was stopped from further out has a frame");
        if !frame.is_stopped() {
            let cancelled = frame.node().cancelled_or_closed();
            frame.mark_stopped(cancelled);
        }
        let stopped = frame.absorb_or_park(cx);
        if stopped.is_ready() {
            self.phase = Phase::Done;
        }
        stopped
    }

    /// Drops all lanes at once; what the first one panics with is resumed.
    #[inline]
    pub fn clear<L: Lanes>(&mut self, lanes: Pin<&mut L>) {
        if self.phase != Phase::Done {
            Self::drop_lanes(lanes);
        }
    }

    #[cold]
    fn drop_lanes<L: Lanes>(lanes: Pin<&mut L>) {
        let _outside = current::clear();
        let mut clear = Clear { panic: None };
        lanes.visit(0, &mut clear);
        if let Some(payload) = clear.panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

impl fmt::Debug for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fork")
            .field("opened_at", &self.location)
            .finish_non_exhaustive()
    }
}

/// The node of a fork, as that of a nursery.
fn new_scope(location: &'static Location<'static>) -> Arc<Node> {
    let node = Node::new(FrameKind::Nursery, location);
    // Nothing else runs in it.
    node.try_enter();
    node
}

/// The node of a lane of the fork at `scope`.
fn new_lane(location: &'static Location<'static>, scope: &Arc<Node>) -> Arc<Node> {
    let node = Node::new(FrameKind::Child, location);
    node.note_poll();
    node.attach(Some(Arc::clone(scope)), true);
    node
}

/// Somebody wants to see each fork and each lane where this runs.
fn is_watched() -> bool {
    #[cfg(feature = "tracing")]
    if crate::trace::hears_of_nurseries() {
        return true;
    }
    #[cfg(any(feature = "task-tree", feature = "tracing"))]
    if let Some(node) = current::nearest_node() {
        return node.shows_children();
    }
    #[cfg(feature = "task-tree")]
    if crate::tree::tracks_all() {
        return true;
    }
    false
}

/// One look at each lane.
struct Round<'a, 'c, 'w, G> {
    fork: &'a mut Fork,
    cx: &'c mut Context<'w>,
    on_output: G,
    /// The lanes to poll.
    begin: usize,
    end: usize,
    /// The number of the lane that is being polled.
    current: usize,
    /// The lane that cancelled the others.
    decided_at: usize,
    /// The lane that has panicked in this round.
    panicked: Option<usize>,
}

impl<O, G: FnMut(O) -> Decision> Visit<O> for Round<'_, '_, '_, G> {
    #[inline]
    fn lane<F: Future<Output = O>>(&mut self, index: usize, mut lane: Pin<&mut Lane<F>>) -> bool {
        if index >= self.begin && index < self.end {
            self.current = index;
            if self.panicked == Some(index) {
                self.drop_panicked(lane.as_mut());
            } else {
                self.poll(index, lane.as_mut());
            }
        }
        lane.future.is_some()
    }
}

impl<G> Round<'_, '_, '_, G> {
    #[inline]
    fn poll<F: Future>(&mut self, index: usize, lane: Pin<&mut Lane<F>>)
    where
        G: FnMut(F::Output) -> Decision,
    {
        let mut lane = lane.project();
        let Some(future) = lane.future.as_mut().as_pin_mut() else {
            return;
        };
        let place = lane.place;
        let epoch = if self.fork.frame.is_some() {
            self.begin_turn(place)
        } else {
            0
        };
        #[cfg(feature = "tracing")]
        let span = place
            .node
            .as_ref()
            .and_then(|node| node.trace().enter(node));
        let polled = future.poll(self.cx);
        #[cfg(feature = "tracing")]
        drop(span);
        if was_made() {
            self.take_made(place);
        }
        let Poll::Ready(output) = polled else {
            if self.fork.is_effective() && self.strikes(place, epoch) {
                self.fork.note_stop();
                drop_lane(lane.future, place);
            }
            return;
        };
        if (self.on_output)(output) == Decision::Finished {
            self.fork.cancel(Why::Finished);
            self.note_decision(index);
        }
        drop_lane(lane.future, place);
    }

    #[inline]
    fn note_decision(&mut self, index: usize) {
        self.decided_at = self.decided_at.min(index);
    }

    /// The lane is polled: it has a place, or is to have one if somebody watches.
    #[cold]
    fn begin_turn(&mut self, place: &mut Place) -> u64 {
        let Some(scope) = self.fork.frame.as_ref().map(Frame::node) else {
            return 0;
        };
        if place.node.is_none() && scope.shows_children() {
            place.node = Some(new_lane(self.fork.location, scope));
        }
        with_nodes(|nodes| mem::replace(&mut nodes.lane, place.node.clone()));
        let Some(node) = &place.node else {
            return 0;
        };
        if node.is_abandoned() {
            node.revive();
        }
        begin_poll(node, &place.wait)
    }

    /// A frame has opened inside the lane: it has a place now, and so has the fork.
    #[cold]
    fn take_made(&mut self, place: &mut Place) {
        change_state(|state| state.was_made = false);
        let made = with_nodes(|nodes| (Arc::clone(&nodes.scope), nodes.lane.take()));
        let Some((scope, lane)) = made else {
            return;
        };
        if place.node.is_none() {
            place.node = lane;
        }
        let frame = self.fork.frame.get_or_insert_with(|| Frame::running(scope));
        if let Some(why) = self.fork.why {
            frame.node().request(why.cancelled(self.fork.location));
        }
    }

    /// The lane said `Pending` while the fork is cancelled.
    #[inline]
    fn strikes(&mut self, place: &mut Place, epoch: u64) -> bool {
        match &place.node {
            Some(node) => {
                node.register(self.cx.waker());
                decide(node, &mut place.wait, epoch, self.cx)
            }
            None => true,
        }
    }

    #[cold]
    fn drop_panicked<F>(&mut self, lane: Pin<&mut Lane<F>>) {
        let lane = lane.project();
        if was_made() {
            self.take_made(lane.place);
        }
        let dropped = catch_unwind(AssertUnwindSafe(|| drop_lane(lane.future, lane.place)));
        if let Err(payload) = dropped {
            self.fork.panicked(payload);
        }
    }
}

/// A lane has ended: its future is dropped with no frame current, and its place goes.
#[inline]
fn drop_lane<F>(mut future: Pin<&mut Option<F>>, place: &mut Place) {
    if place.node.is_none() {
        if !mem::needs_drop::<F>() {
            future.set(None);
            return;
        }
        let _outside = current::clear();
        future.set(None);
        return;
    }
    let dropped = {
        let _outside = current::clear();
        catch_unwind(AssertUnwindSafe(|| future.set(None)))
    };
    place.wait = None;
    if let Some(node) = place.node.take() {
        node.retire();
    }
    if let Err(payload) = dropped {
        resume_unwind(payload);
    }
}

struct Clear {
    panic: Option<Box<dyn Any + Send>>,
}

impl<O> Visit<O> for Clear {
    fn lane<F: Future<Output = O>>(&mut self, _index: usize, lane: Pin<&mut Lane<F>>) -> bool {
        let lane = lane.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop_lane(lane.future, lane.place)));
        if let Err(payload) = dropped {
            self.panic.get_or_insert(payload);
        }
        false
    }
}
