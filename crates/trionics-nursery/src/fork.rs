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

use trionics_errgroup::{CancelReason, Cancelled};

use self::lane::{begin_lane, enter, take_made};
use crate::{
    current,
    frame::{Frame, RETURNS_ONCE, Wait, begin_poll, decide, report_at},
    node::Node,
    report::{FrameInfo, FrameKind, Report, drop_payload, panic_message},
};

mod lane;
mod lanes;

pub(crate) use self::lane::{CurrentLane, seat_lane};
pub use self::lanes::{Lane, LaneAnd, Lanes, Row, Visit};

/// So many polls of a fork begin with its first lane: most are over by then. Those that follow begin with each lane in
/// turn, as what the first ones use up (of a task's budget, say) the last ones would lack for ever.
const POLLS_IN_ORDER: u32 = 8;

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
pub(crate) enum Why {
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

/// Where a lane stands that has an output, beside the one that has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Further back, if there is one.
    Behind,
    /// Further to the front, and both had their outputs in the same poll: the decision is this one's.
    Ahead,
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
    /// Made when it is needed.
    rare: Option<Box<Rare>>,
    n_polls: u32,
    /// Why the lanes are cancelled from here.
    why: Option<Why>,
    /// A cancellation from further out has stopped a lane.
    stopped_by_outer: bool,
    phase: Phase,
}

/// What a fork has that is a frame, or in which a lane has panicked.
#[derive(Default)]
struct Rare {
    /// The fork's own frame, around all lanes.
    frame: Option<Frame>,
    /// The lanes' places in the scope tree, by number; those that have none may be missing.
    places: Vec<Place>,
    panic: Option<Box<dyn Any + Send>>,
}

/// A lane's place in the scope tree.
#[derive(Default)]
struct Place {
    /// Made when a frame opens inside the lane.
    node: Option<Arc<Node>>,
    /// How long the lane has waited for the frames inside.
    wait: Option<Box<Wait>>,
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
    #[inline]
    pub fn new(location: &'static Location<'static>) -> Self {
        Self {
            location,
            rare: None,
            n_polls: 0,
            why: None,
            stopped_by_outer: false,
            phase: Phase::Fresh,
        }
    }

    /// Where it was opened.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    #[inline]
    fn frame(&self) -> Option<&Frame> {
        self.rare.as_ref()?.frame.as_ref()
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The lane's place; `None` as long as no lane has one.
    #[inline]
    fn place(&mut self, index: usize) -> Option<&mut Place> {
        self.rare.as_mut()?.places.get_mut(index)
    }

    fn place_or_new(&mut self, index: usize) -> &mut Place {
        let places = &mut self.rare().places;
        if places.len() <= index {
            places.resize_with(index + 1, Place::default);
        }
        &mut places[index]
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
        mut on_output: impl FnMut(L::Output, Standing) -> Decision,
    ) -> Poll<ForkEnd> {
        let is_frame = match self.phase {
            Phase::Fresh => is_watched(),
            Phase::Begun => self.frame().is_some(),
            Phase::Done => self.polled_after_end(),
        };
        self.phase = Phase::Begun;
        if is_frame && !self.find_place() {
            self.clear(lanes);
            return Poll::Ready(ForkEnd::Stopped);
        }
        let turns = Turns::from(self.next_first(&*lanes));
        let turn = if turns.has_more() {
            self.turn(lanes.as_mut(), turns, cx, &mut on_output)
        } else {
            self.quick_turn(lanes.as_mut(), cx, &mut on_output)
        };
        match turn {
            Turn::Over => Poll::Ready(self.end()),
            Turn::Pending(around) if self.rare.is_none() && !around.is_cancelled => Poll::Pending,
            turn => self.poll_on(lanes, turn, cx, &mut on_output),
        }
    }

    /// What there is to do in the poll that has begun with `turn`.
    #[inline(never)]
    fn poll_on<L: Lanes>(
        &mut self,
        mut lanes: Pin<&mut L>,
        mut turn: Turn,
        cx: &mut Context<'_>,
        on_output: &mut impl FnMut(L::Output, Standing) -> Decision,
    ) -> Poll<ForkEnd> {
        let mut is_registered = false;
        loop {
            let around = match turn {
                Turn::Over => return Poll::Ready(self.end()),
                // Who was polled before it came has yet to hear of it.
                Turn::Cancelled(decided_at) => {
                    turn = self.turn(lanes.as_mut(), Turns::before(decided_at), cx, on_output);
                    continue;
                }
                Turn::Pending(around) => around,
            };
            match self.frame() {
                Some(frame) if !is_registered => {
                    frame.node().register(cx.waker());
                    is_registered = true;
                    // What cancels the fork from now on wakes it.
                    if around.was_effective || !self.is_effective() {
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
            turn = self.turn(lanes.as_mut(), Turns::from(0), cx, on_output);
        }
    }

    /// A turn of all lanes, the first one first, of which most forks need no others.
    #[inline]
    fn quick_turn<L: Lanes>(
        &mut self,
        lanes: Pin<&mut L>,
        cx: &mut Context<'_>,
        on_output: &mut impl FnMut(L::Output, Standing) -> Decision,
    ) -> Turn {
        self.turn_by(|fork| fork.round::<true, _>(lanes, Turns::from(0), cx, on_output))
    }

    #[inline(never)]
    fn turn<L: Lanes>(
        &mut self,
        lanes: Pin<&mut L>,
        turns: Turns,
        cx: &mut Context<'_>,
        on_output: &mut impl FnMut(L::Output, Standing) -> Decision,
    ) -> Turn {
        self.turn_by(|fork| fork.round::<false, _>(lanes, turns, cx, on_output))
    }

    /// Polls the lanes once each, by `round`, in their place.
    #[inline(always)]
    fn turn_by(&mut self, round: impl FnOnce(&mut Self) -> (usize, usize)) -> Turn {
        let was_effective = self.is_effective();
        let (entered, is_cancelled) = enter(self);
        if is_cancelled && self.frame().is_none() {
            // Where it is to be stopped it is a frame, also if none has opened inside.
            let is_cancelled = entered.leave();
            return Turn::Pending(Around {
                is_cancelled,
                was_effective,
            });
        }
        let (n_left, decided_at) = round(self);
        let is_cancelled = entered.leave();
        if n_left == 0 {
            Turn::Over
        } else if !was_effective && self.is_effective() {
            Turn::Cancelled(decided_at)
        } else {
            Turn::Pending(Around {
                is_cancelled,
                was_effective,
            })
        }
    }

    #[cold]
    fn polled_after_end(&self) -> ! {
        panic!(
            "what was opened at {} was polled after it had completed; {RETURNS_ONCE}",
            self.location
        )
    }

    /// Which lane is the first of this poll.
    #[inline]
    fn next_first<L: Lanes>(&mut self, lanes: &L) -> usize {
        if self.n_polls < POLLS_IN_ORDER {
            self.n_polls += 1;
            return 0;
        }
        let turn = self.n_polls - POLLS_IN_ORDER + 1;
        self.n_polls = self.n_polls.checked_add(1).unwrap_or(POLLS_IN_ORDER);
        turn as usize % lanes.n_lanes().max(1)
    }

    /// Finds the fork's place for this poll, as a frame. False: it was stopped, or starts where nothing may start.
    #[cold]
    fn find_place(&mut self) -> bool {
        let location = self.location;
        let frame = self
            .rare()
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
        match self.frame() {
            Some(frame) => frame.node().is_effective(),
            None => self.why.is_some(),
        }
    }

    /// Polls the lanes whose turn it is once each; how many are left; and those before which lane have
    /// yet to hear of it if the lanes have been cancelled.
    #[inline(always)]
    fn round<const QUICK: bool, L: Lanes>(
        &mut self,
        mut lanes: Pin<&mut L>,
        turns: Turns,
        cx: &mut Context<'_>,
        on_output: &mut impl FnMut(L::Output, Standing) -> Decision,
    ) -> (usize, usize) {
        #[cfg(feature = "tracing")]
        let _span = self
            .frame()
            .and_then(|frame| frame.node().trace().enter(frame.node()));
        let mut round = Round {
            fork: self,
            cx,
            on_output,
            turns,
            is_rotated: turns.has_more(),
            current: 0,
            decided_at: usize::MAX,
            is_held: false,
        };
        if QUICK {
            let mut all = AllOf(&mut round);
            match catch_unwind(AssertUnwindSafe(|| lanes.as_mut().visit(0, &mut all))) {
                Ok(n_left) => return (n_left, round.decided_at),
                Err(payload) => round.panicked(payload, lanes.as_mut()),
            }
        }
        loop {
            match catch_unwind(AssertUnwindSafe(|| lanes.as_mut().visit(0, &mut round))) {
                Ok(n_left) => {
                    if !round.turns.wrap() {
                        return (n_left, round.end());
                    }
                }
                Err(payload) => round.panicked(payload, lanes.as_mut()),
            }
        }
    }

    /// The first panic is kept to be resumed, and cancels the lanes; the hook hears of later ones.
    fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        let rare = self.rare();
        if rare.panic.is_none() {
            rare.panic = Some(payload);
            self.cancel(Why::Panicked);
            return;
        }
        let message = panic_message(&*payload);
        let frame = FrameInfo::new(FrameKind::Child, None, self.location);
        let later = Report::LaterPanic { frame, message };
        let around = match self.frame() {
            Some(frame) => Some(Arc::clone(frame.node())),
            None => current::nearest_node(),
        };
        report_at(around.as_ref(), &later);
        drop_payload(payload);
    }

    #[inline]
    fn cancel(&mut self, why: Why) {
        self.why = Some(why);
        if let Some(frame) = self.frame() {
            frame.node().request(why.cancelled(self.location));
        }
        lane::cancel(why);
    }

    #[inline]
    fn note_stop(&mut self) {
        if let Some(frame) = self.frame() {
            self.stopped_by_outer |= frame.node().is_outer_cancelled();
        }
    }

    #[inline]
    fn end(&mut self) -> ForkEnd {
        if let Some(rare) = &mut self.rare
            && let Some(payload) = rare.panic.take()
        {
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
        if let Some(rare) = &mut self.rare
            && let Some(frame) = &mut rare.frame
        {
            frame.finish();
        }
    }

    /// There is none: the fork hears of the cancellation, or parks.
    #[cold]
    pub fn stop(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        let frame = self.rare().frame.as_mut();
        let frame = frame.expect("what was stopped from further out has a frame");
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
        if self.phase == Phase::Done {
            return;
        }
        if let Some(payload) = self.drop_lanes(None, lanes)
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }

    /// Drops one lane or all of them; what the first one panics with.
    #[cold]
    fn drop_lanes<L: Lanes>(
        &mut self,
        only: Option<usize>,
        lanes: Pin<&mut L>,
    ) -> Option<Box<dyn Any + Send>> {
        let mut clear = Clear {
            fork: self,
            only,
            panic: None,
        };
        lanes.visit(0, &mut clear);
        clear.panic
    }

    /// The lane is polled: it has a place, or is to have one if somebody watches.
    #[cold]
    fn begin_turn(&mut self, index: usize) -> u64 {
        let location = self.location;
        let Some(scope) = self.frame().map(|frame| Arc::clone(frame.node())) else {
            return 0;
        };
        if scope.shows_children() {
            let place = self.place_or_new(index);
            place.node.get_or_insert_with(|| new_lane(location, &scope));
        }
        let place = self.place(index);
        let node = place.as_ref().and_then(|place| place.node.clone());
        begin_lane(node);
        let Some(Place {
            node: Some(node),
            wait,
        }) = place
        else {
            return 0;
        };
        if node.is_abandoned() {
            node.revive();
        }
        begin_poll(node, wait)
    }

    /// A frame has opened inside the lane: it has a place now, and so has the fork.
    #[cold]
    fn has_made(&mut self, index: usize, scope: Arc<Node>, lane: Arc<Node>) {
        self.place_or_new(index).node.get_or_insert(lane);
        let why = self.why.map(|why| why.cancelled(self.location));
        let frame = &mut self.rare().frame;
        let frame = frame.get_or_insert_with(|| Frame::running(scope));
        if let Some(cancelled) = why {
            frame.node().request(cancelled);
        }
    }

    #[cfg(feature = "tracing")]
    fn enter_span(&mut self, index: usize) -> Option<tracing::span::EnteredSpan> {
        let node = self.place(index)?.node.as_ref()?;
        node.trace().enter(node)
    }

    /// The lane said `Pending` while the fork is cancelled.
    #[inline]
    fn strikes(&mut self, index: usize, epoch: u64, cx: &mut Context<'_>) -> bool {
        match self.place(index) {
            Some(Place {
                node: Some(node),
                wait,
            }) => {
                node.register(cx.waker());
                decide(node, wait, epoch, cx)
            }
            _ => true,
        }
    }

    /// A lane has ended: its future is dropped with no frame current, and its place goes.
    fn drop_lane<F>(&mut self, index: usize, mut lane: Pin<&mut Lane<F>>) {
        match self.place(index) {
            Some(place) if place.node.is_some() => {
                mem::take(place).end(|| lane.set(Lane::ended()));
            }
            _ => drop_plain(lane),
        }
    }
}

impl Place {
    #[cold]
    fn end(self, drop_future: impl FnOnce()) {
        let dropped = {
            let _outside = current::clear();
            catch_unwind(AssertUnwindSafe(drop_future))
        };
        drop(self.wait);
        if let Some(node) = self.node {
            node.retire();
        }
        if let Err(payload) = dropped {
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

/// What a turn of the lanes has come to.
enum Turn {
    /// All have ended.
    Over,
    /// In the middle of it the fork was cancelled: those before this lane are next, in the same poll.
    Cancelled(usize),
    Pending(Around),
}

/// How it was around the lanes in a turn.
struct Around {
    /// The code around the fork is effectively cancelled.
    is_cancelled: bool,
    /// The fork was before the turn.
    was_effective: bool,
}

/// The lanes that are polled in a round, each once: from `begin` to `end`, and then, if `wraps`, those before `begin`.
#[derive(Clone, Copy)]
struct Turns {
    begin: usize,
    end: usize,
    /// Where those end that are polled afterwards.
    wraps_to: usize,
}

impl Turns {
    /// All lanes, beginning with `first`.
    #[inline]
    fn from(first: usize) -> Self {
        Self {
            begin: first,
            end: usize::MAX,
            wraps_to: first,
        }
    }

    fn before(end: usize) -> Self {
        Self {
            begin: 0,
            end,
            wraps_to: 0,
        }
    }

    #[inline]
    fn contains(self, index: usize) -> bool {
        index >= self.begin && index < self.end
    }

    /// Lanes that stand further to the front have yet to be polled.
    #[inline]
    fn has_more(self) -> bool {
        self.wraps_to > 0
    }

    /// Goes on with the lanes further to the front; false if all have been polled.
    #[inline]
    fn wrap(&mut self) -> bool {
        let end = mem::take(&mut self.wraps_to);
        *self = Self::before(end);
        end > 0
    }
}

/// One look at each lane.
struct Round<'a, 'c, 'w, G> {
    fork: &'a mut Fork,
    cx: &'c mut Context<'w>,
    on_output: G,
    turns: Turns,
    /// The poll begins with another lane than the first.
    is_rotated: bool,
    /// The number of the lane that is being polled.
    current: usize,
    /// The lane that cancelled the others.
    decided_at: usize,
    /// There is a decision, which waits for the lanes that stand further to the front.
    is_held: bool,
}

impl<O, G: FnMut(O, Standing) -> Decision> Visit<O> for Round<'_, '_, '_, G> {
    fn lane<F: Future<Output = O>>(&mut self, index: usize, mut lane: Pin<&mut Lane<F>>) -> bool {
        if self.turns.contains(index) {
            self.poll(index, lane.as_mut());
        }
        !lane.has_ended()
    }
}

/// One look at each lane, whose turn it is in any case.
struct AllOf<'r, 'a, 'c, 'w, G>(&'r mut Round<'a, 'c, 'w, G>);

// All is inlined that a lane of a fork without a frame needs.
impl<O, G: FnMut(O, Standing) -> Decision> Visit<O> for AllOf<'_, '_, '_, '_, G> {
    #[inline(always)]
    fn lane<F: Future<Output = O>>(&mut self, index: usize, mut lane: Pin<&mut Lane<F>>) -> bool {
        self.0.poll(index, lane.as_mut());
        !lane.has_ended()
    }
}

impl<G> Round<'_, '_, '_, G> {
    #[inline(always)]
    fn poll<F: Future>(&mut self, index: usize, mut lane: Pin<&mut Lane<F>>)
    where
        G: FnMut(F::Output, Standing) -> Decision,
    {
        let Some(future) = lane.as_mut().future() else {
            return;
        };
        self.current = index;
        if self.fork.rare.is_some() {
            let epoch = self.fork.begin_turn(index);
            let polled = self.poll_in_place(index, future);
            self.polled(index, lane, polled, epoch);
            return;
        }
        let polled = future.poll(self.cx);
        if let Some((scope, node)) = take_made() {
            self.fork.has_made(index, scope, node);
            self.polled(index, lane, polled, 0);
            return;
        }
        match polled {
            Poll::Pending if self.fork.why.is_none() => {}
            Poll::Pending => drop_plain(lane),
            Poll::Ready(output) => {
                self.ready(output);
                drop_plain(lane);
            }
        }
    }

    /// The lane has a place, or may have.
    #[cold]
    fn poll_in_place<F: Future>(&mut self, index: usize, future: Pin<&mut F>) -> Poll<F::Output> {
        #[cfg(feature = "tracing")]
        let span = self.fork.enter_span(index);
        let polled = future.poll(self.cx);
        #[cfg(feature = "tracing")]
        drop(span);
        if let Some((scope, node)) = take_made() {
            self.fork.has_made(index, scope, node);
        }
        polled
    }

    #[cold]
    fn polled<F: Future>(
        &mut self,
        index: usize,
        lane: Pin<&mut Lane<F>>,
        polled: Poll<F::Output>,
        epoch: u64,
    ) where
        G: FnMut(F::Output, Standing) -> Decision,
    {
        match polled {
            Poll::Pending => {
                if self.fork.is_effective() && self.fork.strikes(index, epoch, self.cx) {
                    self.fork.note_stop();
                    self.fork.drop_lane(index, lane);
                }
            }
            Poll::Ready(output) => {
                self.ready(output);
                self.fork.drop_lane(index, lane);
            }
        }
    }

    #[inline(always)]
    fn ready<O>(&mut self, output: O)
    where
        G: FnMut(O, Standing) -> Decision,
    {
        let standing = if self.is_held && !self.turns.has_more() {
            Standing::Ahead
        } else {
            Standing::Behind
        };
        if (self.on_output)(output, standing) == Decision::Finished {
            if self.turns.has_more() {
                self.is_held = true;
            } else {
                self.decide();
            }
        }
    }

    /// The decision, of the lane that has just been polled or of an earlier one, cancels the lanes.
    #[inline]
    fn decide(&mut self) {
        self.is_held = false;
        self.fork.cancel(Why::Finished);
        self.note_decision();
    }

    /// All lanes have been polled; those before which lane have yet to hear of it if they have been cancelled.
    fn end(&mut self) -> usize {
        if self.is_held {
            self.decide();
        }
        if self.is_rotated {
            usize::MAX
        } else {
            self.decided_at
        }
    }

    #[inline]
    fn note_decision(&mut self) {
        self.decided_at = self.decided_at.min(self.current);
    }

    /// The lane that was being polled has panicked and is dropped; the same lanes again, from this one.
    #[cold]
    fn panicked<L: Lanes>(&mut self, payload: Box<dyn Any + Send>, lanes: Pin<&mut L>) {
        if let Some((scope, node)) = take_made() {
            self.fork.has_made(self.current, scope, node);
        }
        self.fork.panicked(payload);
        self.note_decision();
        self.turns.begin = self.current;
        if let Some(payload) = self.fork.drop_lanes(Some(self.current), lanes) {
            self.fork.panicked(payload);
        }
    }
}

/// Drops the future of a lane that has no place, with no frame current.
#[inline(always)]
fn drop_plain<F>(mut lane: Pin<&mut Lane<F>>) {
    if mem::needs_drop::<F>() {
        let _outside = lane::clear();
        lane.set(Lane::ended());
    } else {
        lane.set(Lane::ended());
    }
}

/// Ends lanes; keeps the first panic.
struct Clear<'a> {
    fork: &'a mut Fork,
    /// The only one.
    only: Option<usize>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<O> Visit<O> for Clear<'_> {
    fn lane<F: Future<Output = O>>(&mut self, index: usize, lane: Pin<&mut Lane<F>>) -> bool {
        if self.only.is_none_or(|only| index == only) {
            let dropped = catch_unwind(AssertUnwindSafe(|| self.fork.drop_lane(index, lane)));
            if let Err(payload) = dropped {
                self.panic.get_or_insert(payload);
            }
        }
        false
    }
}
