//! Taking a snapshot: one frame after the other, each under its own lock.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Instant,
};

use trionics_errgroup::Cancelled;

use super::{TaskInfo, TaskState};
use crate::{clock::Clock, deadline::Deadline, node::Node};

/// What a tracked frame remembers of time.
#[derive(Default)]
pub(crate) struct Times {
    opened: OnceLock<Instant>,
    cancelled: OnceLock<Instant>,
}

impl Times {
    pub(crate) fn note_opened(&self, node: &Node) {
        if self.opened.get().is_none() {
            let _ = self.opened.set(time(node.clock().as_deref()));
        }
    }

    pub(crate) fn note_cancelled(&self, node: &Node) {
        if self.cancelled.get().is_none() {
            let _ = self.cancelled.set(time(node.clock().as_deref()));
        }
    }
}

/// Where a program has no clock, ages are measured by the system's.
fn time(clock: Option<&dyn Clock>) -> Instant {
    clock.map_or_else(Instant::now, Clock::now)
}

/// What is read of a frame under its lock.
pub(crate) struct Look {
    pub(crate) state: TaskState,
    pub(crate) is_cancelled_itself: bool,
    pub(crate) waits_inside: bool,
    pub(crate) cancelled: Option<Cancelled>,
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) children: Vec<Arc<Node>>,
}

/// A frame that has yet to be looked at.
struct Ahead {
    node: Arc<Node>,
    depth: usize,
    /// When the nearest cancellation around it was asked for.
    cancelled_around: Option<Instant>,
}

pub(super) fn take(roots: Vec<Arc<Node>>) -> Vec<TaskInfo> {
    let mut tasks = Vec::new();
    // A frame that moves while we look must not be met twice.
    let mut met = HashSet::new();
    let ahead = |node: Arc<Node>| Ahead {
        cancelled_around: cancelled_above(&node),
        node,
        depth: 0,
    };
    let mut work: Vec<_> = roots.into_iter().rev().map(ahead).collect();
    while let Some(Ahead {
        node,
        depth,
        cancelled_around,
    }) = work.pop()
    {
        if !met.insert(node.address()) {
            continue;
        }
        let look = node.look();
        let times = node.times();
        let cancelled_since = if look.is_cancelled_itself {
            times.cancelled.get().copied().or(cancelled_around)
        } else {
            cancelled_around
        };
        let needs_time = node.deadline().is_some() || times.opened.get().is_some();
        let now = needs_time.then(|| time(look.clock.as_deref()));
        let since = |then: Option<&Instant>| Some(now?.saturating_duration_since(*then?));
        let is_stopped = look.cancelled.is_some();
        let mut children = look.children;
        // Places are reused; the oldest frames come first.
        children.sort_by_key(|child| child.times().opened.get().copied());
        work.extend(children.into_iter().rev().map(|child| Ahead {
            node: child,
            depth: depth + 1,
            cancelled_around: cancelled_since,
        }));
        let until = node.deadline().and_then(Deadline::instant);
        tasks.push(TaskInfo {
            frame: node.info(),
            depth,
            state: look.state,
            waits_inside: look.waits_inside,
            is_cancelled_itself: look.is_cancelled_itself,
            cancelled: look.cancelled,
            cancelled_for: since(cancelled_since.as_ref()).filter(|_| is_stopped),
            time_left: until.and_then(|until| Some(until.saturating_duration_since(now?))),
            age: since(times.opened.get()),
        });
    }
    tasks
}

fn cancelled_above(node: &Node) -> Option<Instant> {
    let mut above = node.parent();
    while let Some(node) = above {
        if node.is_own_cancelled() {
            return node.times().cancelled.get().copied();
        }
        above = node.parent();
    }
    None
}
