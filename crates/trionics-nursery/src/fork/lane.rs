//! What frames that open inside a lane find: of the innermost fork whose lanes are being polled on this thread.
//!
//! As with the current frame, whoever puts something here takes it out again.

use std::{
    cell::Cell,
    mem::{self, ManuallyDrop},
    panic::Location,
    sync::Arc,
};

use super::{Fork, Why, new_lane, new_scope};
use crate::{
    current::{self, Current},
    node::Node,
    sync::thread_local,
    tag::Tag,
};

thread_local! {
    /// What is current where the fork is polled; never a lane, which is given a node for a fork inside it.
    static AROUND: Cell<ManuallyDrop<Option<Current>>> = const { Cell::new(ManuallyDrop::new(None)) };
    static STATE: Cell<State> = const { Cell::new(State { why: None, has_nodes: false, was_made: false }) };
    static NODES: Cell<ManuallyDrop<Option<Nodes>>> = const { Cell::new(ManuallyDrop::new(None)) };
}

#[derive(Clone, Copy)]
pub(super) struct State {
    /// Why the lanes are cancelled.
    pub(super) why: Option<Why>,
    /// There is something in `NODES`.
    has_nodes: bool,
    /// The lane that is being polled has been given a node.
    pub(super) was_made: bool,
}

pub(super) struct Nodes {
    pub(super) scope: Arc<Node>,
    /// That of the lane that is being polled.
    pub(super) lane: Option<Arc<Node>>,
}

/// Stands, as the current frame, for the lane that is being polled of the innermost fork, which was opened here.
#[derive(Clone, Copy)]
pub(crate) struct CurrentLane(&'static Location<'static>);

/// Ends what [`enter`] began.
pub(super) struct Entered {
    outer_around: Option<Current>,
    outer_state: State,
    outer_nodes: Option<Nodes>,
    /// The lane of the outer fork in which this one is polled, if it is so directly.
    outer_lane: Option<CurrentLane>,
    /// The code around the fork is effectively cancelled.
    pub(super) is_cancelled: bool,
}

/// What was found around a fork.
pub(super) struct Around {
    /// The code is effectively cancelled by now.
    pub(super) is_cancelled: bool,
}

#[inline]
fn swap_around(around: Option<Current>) -> Option<Current> {
    AROUND.with(|cell| ManuallyDrop::into_inner(cell.replace(ManuallyDrop::new(around))))
}

fn swap_nodes(nodes: Option<Nodes>) -> Option<Nodes> {
    NODES.with(|cell| ManuallyDrop::into_inner(cell.replace(ManuallyDrop::new(nodes))))
}

#[inline]
fn state() -> State {
    STATE.with(Cell::get)
}

#[inline]
pub(super) fn change_state(change: impl FnOnce(&mut State)) {
    STATE.with(|cell| {
        let mut state = cell.get();
        change(&mut state);
        cell.set(state);
    });
}

/// From now on a lane of `fork` is current.
#[inline]
pub(super) fn enter(fork: &Fork) -> Entered {
    let mut around = current::swap(Some(Current::Lane(CurrentLane(fork.location))));
    let mut outer_lane = None;
    if let Some(Current::Lane(lane)) = around {
        outer_lane = Some(lane);
        around = lane.node().map(Current::Node);
    }
    let is_cancelled = around.as_ref().is_some_and(Current::is_effective);
    let outer_around = swap_around(around);
    let outer_state = state();
    let has_nodes = fork.frame.is_some();
    STATE.with(|cell| {
        cell.set(State {
            why: fork.why,
            has_nodes,
            was_made: false,
        });
    });
    let outer_nodes = if has_nodes || outer_state.has_nodes {
        swap_nodes(fork.frame.as_ref().map(|frame| Nodes {
            scope: Arc::clone(frame.node()),
            lane: None,
        }))
    } else {
        None
    };
    Entered {
        outer_around,
        outer_state,
        outer_nodes,
        outer_lane,
        is_cancelled,
    }
}

impl Entered {
    #[inline]
    pub(super) fn leave(mut self) -> Around {
        let around = self.end();
        // Nothing is left in it.
        mem::forget(self);
        around
    }

    #[inline]
    fn end(&mut self) -> Around {
        let has_nodes = state().has_nodes || self.outer_state.has_nodes;
        STATE.with(|cell| cell.set(self.outer_state));
        let around = swap_around(self.outer_around.take());
        let is_cancelled = around.as_ref().is_some_and(Current::is_effective);
        let nodes = if has_nodes {
            swap_nodes(self.outer_nodes.take())
        } else {
            None
        };
        let current = match self.outer_lane {
            Some(lane) => Some(Current::Lane(lane)),
            None => around,
        };
        current::swap(current);
        drop(nodes);
        Around { is_cancelled }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.end();
    }
}

#[inline]
pub(super) fn was_made() -> bool {
    state().was_made
}

/// Looks at what is around, which is out of its place meanwhile.
fn with_around<R>(look: impl FnOnce(Option<&Current>) -> R) -> R {
    struct PutBack(Option<Current>);
    impl Drop for PutBack {
        fn drop(&mut self) {
            swap_around(self.0.take());
        }
    }
    let around = PutBack(swap_around(None));
    look(around.0.as_ref())
}

/// Changes the nodes, if there are any; no user code may run inside.
pub(super) fn with_nodes<R>(change: impl FnOnce(&mut Nodes) -> R) -> Option<R> {
    let mut nodes = swap_nodes(None)?;
    let result = change(&mut nodes);
    swap_nodes(Some(nodes));
    Some(result)
}

impl CurrentLane {
    /// The lane's node or the fork's, whichever is nearer.
    fn known_node(self) -> Option<Arc<Node>> {
        with_nodes(|nodes| Arc::clone(nodes.lane.as_ref().unwrap_or(&nodes.scope)))
    }

    /// Looks at the frame that counts: the lane's or the fork's if there is one, or what is around.
    fn look(
        self,
        at_node: impl FnOnce(&Arc<Node>) -> bool,
        at_around: impl FnOnce(&Current) -> bool,
    ) -> bool {
        match self.known_node() {
            Some(node) => at_node(&node),
            None => state().why.is_some() || with_around(|around| around.is_some_and(at_around)),
        }
    }

    pub(crate) fn is_effective(self) -> bool {
        self.look(|node| node.is_effective(), Current::is_effective)
    }

    pub(crate) fn is_effective_soon(self) -> bool {
        self.look(|node| node.is_effective_soon(), Current::is_effective_soon)
    }

    pub(crate) fn is_requested(self) -> bool {
        self.look(|node| node.is_requested(), Current::is_requested)
    }

    /// The address of the lane's node, if it has one.
    pub(crate) fn known_address(self) -> Option<usize> {
        with_nodes(|nodes| nodes.lane.as_ref().map(|lane| lane.address())).flatten()
    }

    /// The nearest node from the lane outwards.
    pub(crate) fn nearest_node(self) -> Option<Arc<Node>> {
        self.known_node()
            .or_else(|| with_around(|around| around.and_then(Current::nearest_node)))
    }

    /// What the lane runs for.
    pub(crate) fn tag(self) -> Option<Arc<dyn Tag>> {
        match self.known_node() {
            Some(node) => node.tag(),
            None => with_around(|around| around.and_then(Current::tag)),
        }
    }

    /// The lane's node, made now if need be.
    pub(crate) fn node(self) -> Option<Arc<Node>> {
        let Self(location) = self;
        let (scope, lane) = with_nodes(|nodes| (Arc::clone(&nodes.scope), nodes.lane.clone()))
            .map_or((None, None), |(scope, lane)| (Some(scope), lane));
        if lane.is_some() {
            return lane;
        }
        let scope = scope.unwrap_or_else(|| {
            let scope = new_scope(location);
            if let Some(why) = state().why {
                scope.request(why.cancelled(location));
            }
            scope.note_poll();
            scope.attach(with_around(|around| around.and_then(Current::node)), true);
            scope
        });
        let lane = new_lane(location, &scope);
        swap_nodes(Some(Nodes {
            scope,
            lane: Some(Arc::clone(&lane)),
        }));
        change_state(|state| (state.has_nodes, state.was_made) = (true, true));
        Some(lane)
    }
}
