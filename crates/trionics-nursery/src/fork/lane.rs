//! The lane that is being polled, as the current frame.
//!
//! To be polled costs a lane next to nothing as long as nobody inside asks what is current: it is only noted, beside what
//! is current around it. Whoever asks has it *seated*: it becomes the current frame itself, and what is around lies in a
//! record of its fork's until that has polled its lanes.

use std::{
    cell::Cell,
    mem::{self, ManuallyDrop},
    panic::Location,
    sync::Arc,
};

use super::{Fork, Why, new_lane, new_scope};
use crate::{
    current::{self, Current, UnseatedLane},
    node::Node,
    sync::thread_local,
    tag::Tag,
};

thread_local! {
    /// Of the innermost fork whose lanes are being polled and that has one. As with the current frame, whoever puts
    /// something here takes it out again.
    static RECORD: Cell<ManuallyDrop<Option<Box<Record>>>> = const { Cell::new(ManuallyDrop::new(None)) };
}

/// What is known of a fork whose lanes are seated.
struct Record {
    /// Where it was opened.
    location: &'static Location<'static>,
    /// Why its lanes are cancelled.
    why: Option<Why>,
    /// What is current where it is polled; never a lane, which is given a node for a fork inside it.
    around: Option<Current>,
    /// Its own node, once it has one.
    scope: Option<Arc<Node>>,
    /// That of the lane that is being polled.
    lane: Option<Arc<Node>>,
    /// The lane has been given its node in this poll.
    was_made: bool,
    /// That of the next fork around that has one.
    outer: Option<Box<Record>>,
}

/// Stands, as the current frame, for the lane that is being polled: of the innermost fork that has a record.
///
/// A frame or fork inside that polls something else is current then itself.
#[derive(Clone, Copy)]
pub(crate) struct CurrentLane(());

/// Ends what [`enter`] began.
pub(super) struct Entered {
    /// What was current, if that was a lane of another fork.
    outer_lane: Option<Current>,
}

/// From now on a lane of `fork` is current. True if the code around the fork is effectively cancelled.
#[inline]
pub(super) fn enter(fork: &Fork) -> (Entered, bool) {
    let (outer_lane, is_cancelled) = if is_anything_current() {
        leave_lane()
    } else {
        (None, false)
    };
    let lane = UnseatedLane {
        location: fork.location,
        why: fork.why,
    };
    match fork.frame() {
        None => current::set_unseated_lane(Some(lane)),
        Some(frame) => seat(lane, Some(Arc::clone(frame.node()))),
    }
    (Entered { outer_lane }, is_cancelled)
}

#[inline]
fn is_anything_current() -> bool {
    if current::unseated_lane().is_some() {
        return true;
    }
    let current = current::replace(None);
    if current.is_none() {
        return false;
    }
    current::put_back(current);
    true
}

/// If a lane is current it gets a node, in which the fork is. True if the code around the fork is effectively cancelled.
#[inline(never)]
fn leave_lane() -> (Option<Current>, bool) {
    let mut outer_lane = None;
    if current::with(|current| matches!(current, Some(Current::Lane(_)))) {
        let node = current::node();
        outer_lane = current::swap(node.map(Current::Node));
    }
    (outer_lane, current::is_cancelled())
}

/// The lane becomes the current frame: somebody looks.
#[cold]
pub(crate) fn seat_lane(lane: UnseatedLane) {
    seat(lane, None);
}

fn seat(lane: UnseatedLane, scope: Option<Arc<Node>>) {
    let record = Box::new(Record {
        location: lane.location,
        why: lane.why,
        around: current::replace(Some(Current::Lane(CurrentLane(())))),
        scope,
        lane: None,
        was_made: false,
        outer: take_record(),
    });
    put_record(Some(record));
}

/// What is around the fork is current again.
#[cold]
fn unseat() {
    let Some(mut record) = take_record() else {
        return;
    };
    put_record(record.outer.take());
    current::replace(record.around.take());
}

fn take_record() -> Option<Box<Record>> {
    RECORD.with(|cell| ManuallyDrop::into_inner(cell.replace(ManuallyDrop::new(None))))
}

/// Where there was none, or it has been taken.
fn put_record(record: Option<Box<Record>>) {
    RECORD.with(|cell| cell.set(ManuallyDrop::new(record)));
}

/// Looks at the innermost record, if there is one; no user code may run inside.
fn with_record<R>(look: impl FnOnce(&mut Record) -> R) -> Option<R> {
    let mut record = take_record()?;
    let result = look(&mut record);
    put_record(Some(record));
    Some(result)
}

impl Entered {
    /// True if the code around the fork is effectively cancelled by now.
    #[inline]
    pub(super) fn leave(mut self) -> bool {
        let is_cancelled = self.end();
        // Nothing is left in it.
        mem::forget(self);
        is_cancelled
    }

    #[inline]
    fn end(&mut self) -> bool {
        if current::unseated_lane().is_some() {
            current::set_unseated_lane(None);
        } else {
            unseat();
        }
        let is_cancelled = is_anything_current() && current::is_cancelled();
        if self.outer_lane.is_some() {
            current::replace(self.outer_lane.take());
        }
        is_cancelled
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.end();
    }
}

/// Neither the lane nor what is around is current, until the guard is dropped.
pub(super) struct Outside {
    lane: Option<UnseatedLane>,
    current: Option<Current>,
}

/// As [`current::clear`], which would have the lane seated.
#[inline]
pub(super) fn clear() -> Outside {
    let lane = current::unseated_lane();
    current::set_unseated_lane(None);
    Outside {
        lane,
        current: current::replace(None),
    }
}

impl Drop for Outside {
    #[inline]
    fn drop(&mut self) {
        current::put_back(self.current.take());
        current::set_unseated_lane(self.lane);
    }
}

/// The next lane is being polled, with this node if it has one.
#[cold]
pub(super) fn begin_lane(node: Option<Arc<Node>>) {
    let replaced = with_record(|record| mem::replace(&mut record.lane, node));
    drop(replaced);
}

/// The node that the lane was given in this poll, if it was, and that of the fork.
#[inline]
pub(super) fn take_made() -> Option<(Arc<Node>, Arc<Node>)> {
    if current::unseated_lane().is_some() {
        return None;
    }
    take_made_of_seated()
}

#[cold]
fn take_made_of_seated() -> Option<(Arc<Node>, Arc<Node>)> {
    let made = with_record(|record| {
        if !mem::take(&mut record.was_made) {
            return None;
        }
        Some((Arc::clone(record.scope.as_ref()?), record.lane.take()?))
    });
    made.flatten()
}

/// From now on the lanes are cancelled.
#[inline]
pub(super) fn cancel(why: Why) {
    match current::unseated_lane() {
        Some(lane) => {
            let why = Some(why);
            current::set_unseated_lane(Some(UnseatedLane { why, ..lane }));
        }
        None => cancel_seated(why),
    }
}

#[cold]
fn cancel_seated(why: Why) {
    with_record(|record| record.why = Some(why));
}

impl Record {
    /// The lane's node or the fork's, whichever is nearer.
    fn known_node(&self) -> Option<&Arc<Node>> {
        self.lane.as_ref().or(self.scope.as_ref())
    }

    /// Looks at the frame that counts: the lane's or the fork's if there is one, or what is around.
    fn look(
        &self,
        at_node: impl FnOnce(&Arc<Node>) -> bool,
        at_around: impl FnOnce(&Current) -> bool,
    ) -> bool {
        match self.known_node() {
            Some(node) => at_node(node),
            None => self.why.is_some() || self.around.as_ref().is_some_and(at_around),
        }
    }

    fn scope_or_new(&mut self) -> &Arc<Node> {
        self.scope.get_or_insert_with(|| {
            let scope = new_scope(self.location);
            if let Some(why) = self.why {
                scope.request(why.cancelled(self.location));
            }
            scope.note_poll();
            scope.attach(self.around.as_ref().and_then(Current::node), true);
            scope
        })
    }
}

impl CurrentLane {
    pub(crate) fn is_effective(self) -> bool {
        let looked =
            with_record(|record| record.look(|node| node.is_effective(), Current::is_effective));
        looked.unwrap_or_default()
    }

    pub(crate) fn is_effective_soon(self) -> bool {
        let looked =
            with_record(|record| record.look(Node::is_effective_soon, Current::is_effective_soon));
        looked.unwrap_or_default()
    }

    pub(crate) fn is_requested(self) -> bool {
        let looked =
            with_record(|record| record.look(|node| node.is_requested(), Current::is_requested));
        looked.unwrap_or_default()
    }

    /// The address of the lane's node, if it has one.
    pub(crate) fn known_address(self) -> Option<usize> {
        with_record(|record| record.lane.as_ref().map(|lane| lane.address())).flatten()
    }

    /// The nearest node from the lane outwards.
    pub(crate) fn nearest_node(self) -> Option<Arc<Node>> {
        let nearest = with_record(|record| match record.known_node() {
            Some(node) => Some(Arc::clone(node)),
            None => record.around.as_ref().and_then(Current::nearest_node),
        });
        nearest.flatten()
    }

    /// What the lane runs for.
    pub(crate) fn tag(self) -> Option<Arc<dyn Tag>> {
        let tag = with_record(|record| match record.known_node() {
            Some(node) => node.tag(),
            None => record.around.as_ref().and_then(Current::tag),
        });
        tag.flatten()
    }

    /// The lane's node, made now if need be.
    pub(crate) fn node(self) -> Option<Arc<Node>> {
        with_record(|record| {
            if let Some(lane) = &record.lane {
                return Arc::clone(lane);
            }
            let location = record.location;
            let lane = new_lane(location, record.scope_or_new());
            record.lane = Some(Arc::clone(&lane));
            record.was_made = true;
            lane
        })
    }
}
