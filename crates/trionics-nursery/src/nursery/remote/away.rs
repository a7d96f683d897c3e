//! The children of a nursery that are on executors, and what stands for them in the scope tree.

use std::{
    sync::{Arc, Weak},
    task::{Wake, Waker},
};

use slab::Slab;

use super::line::Line;
use crate::{
    node::{Node, Nodeless},
    nursery::child::{AwayMember, Share},
    report::FrameInfo,
    sync::{Mutex, lock},
    wake::WakeList,
};

/// The children of a nursery that are on executors.
///
/// A child gets a node of its own when a frame opens inside it. Until then there is one node for all of them: it hangs under
/// the nursery's, so that a cancellation comes to them from any thread, whether or not anybody polls the nursery.
pub(crate) struct Away {
    nodes: Nodes,
    /// A leaf among the locks: nothing is woken, dropped or asked under it.
    list: Mutex<List>,
}

/// What executors read at each poll, apart from what the nursery's thread writes at each start and end.
#[repr(align(64))]
struct Nodes {
    /// Where a child gets its node.
    nursery: Arc<Node>,
    stand_in: Arc<Node>,
}

struct List {
    children: Slab<AwayMember>,
    /// The nursery is over: the last child to leave takes the stand-in away.
    closed: bool,
}

impl Away {
    pub(crate) fn new(nursery: &Arc<Node>) -> Arc<Self> {
        let away = Arc::new(Self {
            nodes: Nodes {
                nursery: Arc::clone(nursery),
                stand_in: Node::of_nodeless(nursery),
            },
            list: Mutex::new(List {
                children: Slab::new(),
                closed: false,
            }),
        });
        let itself = Arc::downgrade(&away);
        away.nodes.stand_in.stand_for(itself as Weak<dyn Nodeless>);
        away.listen();
        away.nodes.stand_in.attach(Some(Arc::clone(nursery)), true);
        away
    }

    /// From now on a cancellation that comes down the tree wakes the children.
    fn listen(self: &Arc<Self>) {
        self.nodes.stand_in.register(&Waker::from(Arc::clone(self)));
    }

    pub(super) fn nursery(&self) -> &Arc<Node> {
        &self.nodes.nursery
    }

    /// What stands in the tree for a child that has no node.
    #[inline]
    pub(crate) fn stand_in(&self) -> &Arc<Node> {
        &self.nodes.stand_in
    }

    /// Takes a child in.
    pub(super) fn add<V: Send + 'static, E: Send + 'static>(&self, child: Share<Line<V, E>>) {
        let mut list = lock(&self.list);
        let place = list.children.vacant_entry();
        let key = u32::try_from(place.key()).expect("fewer children than that fit into memory");
        child.set_key(key);
        place.insert(child.into_away());
    }

    /// A child is gone, and those who would look for it here have heard of that.
    pub(super) fn leave(&self, key: u32) {
        let mut list = lock(&self.list);
        let child = list.children.try_remove(key as usize);
        let is_last = list.closed && list.children.is_empty();
        drop(list);
        drop(child);
        if is_last {
            self.end();
        }
    }

    /// The nursery is over. Children that it has dismissed may still be on their executors.
    pub(crate) fn close(&self) {
        let mut list = lock(&self.list);
        list.closed = true;
        let is_empty = list.children.is_empty();
        drop(list);
        if is_empty {
            self.end();
        } else {
            // Whoever waits further out is to be woken when the last one leaves.
            self.nodes.stand_in.dismiss();
        }
    }

    fn end(&self) {
        if !self.nodes.stand_in.is_retired() {
            self.nodes.stand_in.retire_from_executor();
        }
    }

    fn all(&self) -> Vec<AwayMember> {
        let list = lock(&self.list);
        list.children
            .iter()
            .map(|(_, child)| AwayMember::clone(child))
            .collect()
    }
}

/// The waker in the stand-in.
impl Wake for Away {
    fn wake(self: Arc<Self>) {
        // What comes while this looks finds the waker, and what came before is seen by whoever is woken.
        self.listen();
        if self.nodes.stand_in.is_retired() {
            // The waker would keep its owner.
            drop(self.nodes.stand_in.take_waker());
        }
        let mut wakers = WakeList::new();
        for child in self.all() {
            if child.known_node().is_none() {
                wakers.push(child.take_waker());
            }
        }
        wakers.wake_all();
    }
}

impl Nodeless for Away {
    fn dismiss(&self) -> (Vec<FrameInfo>, bool) {
        let mut told = Vec::new();
        let mut some_run = false;
        for child in self.all() {
            if child.is_running() {
                some_run = true;
                if child.dismiss() {
                    told.push(child.info());
                }
            }
        }
        (told, some_run)
    }

    fn any_runs(&self) -> bool {
        self.all().iter().any(|child| child.is_running())
    }
}
