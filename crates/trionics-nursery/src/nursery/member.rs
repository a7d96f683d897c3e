//! A nursery's children and its body as the outside sees them, and what they share with the nursery.

use std::{
    cell::UnsafeCell,
    panic::Location,
    sync::{Arc, OnceLock},
    task::{Wake, Waker},
};

use trionics_errgroup::Cancelled;

pub(crate) use super::child::Member;
use super::{
    child::{Header, Ready},
    remote::Away,
    shared::Count,
};
use crate::{
    frame::Wait,
    node::Node,
    report::{FrameInfo, FrameKind},
    scope::Name,
    sync::{AtomicBool, Mutex, Ordering, fence, lock},
    tag::Tag,
    wake::wake_outside,
};

/// What a nursery shares with its members, their wakers, and its handles.
pub(crate) struct Queue {
    /// The nursery's own node. A nursery that is opened in no frame gets it when somebody asks for it.
    nursery: OnceLock<Arc<Node>>,
    ready: Ready,
    /// The node has a waker of the queue's, or is about to wake it.
    listens: AtomicBool,
    pub(super) count: Count,
    /// The children on executors, once there was one.
    away: OnceLock<Arc<Away>>,
    /// The nursery's body as a member.
    pub(super) body: Header,
}

impl Queue {
    pub(crate) fn new(
        nursery: Option<Arc<Node>>,
        limit: Option<usize>,
        name: Option<Name>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            nursery: nursery.map_or_else(OnceLock::new, OnceLock::from),
            ready: Ready::new(),
            listens: AtomicBool::new(false),
            count: Count::new(limit),
            away: OnceLock::new(),
            body: Header::of_body(name, location),
        }
    }

    /// The nursery's node, if it has one.
    #[inline]
    pub(crate) fn known_nursery(&self) -> Option<&Arc<Node>> {
        self.nursery.get()
    }

    /// The nursery's node, made now if need be.
    #[inline]
    pub(crate) fn nursery(&self) -> &Arc<Node> {
        match self.nursery.get() {
            Some(node) => node,
            None => self.make_nursery(),
        }
    }

    #[cold]
    fn make_nursery(&self) -> &Arc<Node> {
        let mut is_new = false;
        let node = self.nursery.get_or_init(|| {
            is_new = true;
            Node::of_nursery(self.location(), None, true)
        });
        // The nursery looks whether it has got a node after each turn, when it is woken, and when it has closed.
        if is_new && !self.is_inside() {
            if self.is_closed() {
                node.retire();
            } else {
                self.notify();
            }
        }
        node
    }

    /// The children on executors.
    #[inline]
    pub(super) fn away(&self) -> &Arc<Away> {
        match self.away.get() {
            Some(away) => away,
            None => self.make_away(),
        }
    }

    #[cold]
    fn make_away(&self) -> &Arc<Away> {
        let away = self.away.get_or_init(|| Away::new(self.nursery()));
        // Whoever closes the nursery on another thread either sees this or is seen here.
        fence(Ordering::SeqCst);
        if self.is_closed() {
            away.close();
        }
        away
    }

    /// The nursery has closed: nobody waits for it any more.
    pub(super) fn tell_closed(&self) {
        self.count.tell_closed();
        if let Some(away) = self.away.get() {
            away.close();
        }
    }

    /// Where the nursery was opened.
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.body.location()
    }

    /// What the nursery is.
    pub(crate) fn info(&self) -> FrameInfo {
        match self.nursery.get() {
            Some(node) => node.info(),
            None => FrameInfo::new(FrameKind::Nursery, None, self.location()),
        }
    }

    #[inline]
    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Whether the nursery is being polled on this thread.
    #[inline]
    pub(crate) fn is_inside(&self) -> bool {
        self.ready.is_inside()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ready.is_closed()
    }

    /// From now on, whoever cancels the nursery or looks after it wakes it. False if that was so before.
    #[inline]
    pub(crate) fn listen(self: &Arc<Self>) -> bool {
        // Whoever makes the node wakes it, too.
        let Some(node) = self.nursery.get() else {
            return false;
        };
        if self.listens.load(Ordering::Relaxed) {
            return false;
        }
        self.listens.store(true, Ordering::Relaxed);
        node.register(&Waker::from(Arc::clone(self)));
        true
    }

    /// The nursery has something new to look at that is no member.
    pub(crate) fn notify(&self) {
        wake_outside(self.ready.nudge());
    }
}

/// The waker in the nursery's node, which is the same for all hosts.
impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It has been taken out of the node, and the poll to which the nudge leads puts it back.
        self.listens.store(false, Ordering::Relaxed);
        self.notify();
    }
}

/// What few members have.
pub(crate) struct Cold {
    name: Option<Name>,
    /// What the member runs for, and its node with it.
    tag: Option<Arc<dyn Tag>>,
    /// The member's place in the scope tree, made when a frame opens inside it or when it is cancelled alone.
    node: OnceLock<Arc<Node>>,
    /// Its future is gone; it gets no place any more.
    pub(super) over: Mutex<bool>,
    /// How long it has waited for the frames inside; its owner's.
    pub(super) wait: UnsafeCell<Option<Box<Wait>>>,
}

impl Cold {
    fn new(name: Option<Name>, tag: Option<Arc<dyn Tag>>) -> Box<Self> {
        Box::new(Self {
            name,
            tag,
            node: OnceLock::new(),
            over: Mutex::new(false),
            wait: UnsafeCell::new(None),
        })
    }

    pub(crate) fn named(name: Name) -> Box<Self> {
        Self::new(Some(name), None)
    }
}

impl Member {
    #[inline]
    fn known_cold(&self) -> Option<&Cold> {
        self.cold().get()?.as_deref()
    }

    /// Makes room for a node, unless the member is over.
    pub(super) fn cold_or_new(&self) -> Option<&Cold> {
        self.cold()
            .get_or_init(|| Some(Cold::new(None, None)))
            .as_deref()
    }

    #[inline]
    pub(crate) fn known_node(&self) -> Option<&Arc<Node>> {
        self.known_cold()?.node.get()
    }

    /// Says what the member runs for; before anybody else sees the member, which has no name.
    pub(crate) fn set_tag(&self, tag: Arc<dyn Tag>) {
        let set = self.cold().set(Some(Cold::new(None, Some(tag))));
        assert!(set.is_ok(), "a new member");
    }

    /// What the member runs for, if that was said of itself.
    pub(crate) fn tag(&self) -> Option<&Arc<dyn Tag>> {
        self.known_cold()?.tag.as_ref()
    }

    /// The member's node, made now if need be; the caller is polling the member.
    pub(crate) fn node(&self) -> &Arc<Node> {
        if self.known_node().is_none() {
            self.unless_over(|cold, nursery| self.make_node(cold, nursery));
        }
        self.known_node()
            .expect("a member that is polled is not over")
    }

    /// Makes the node unless there is one; `over` is locked, so that nobody else does so.
    fn make_node(&self, cold: &Cold, nursery: &Arc<Node>) {
        if cold.node.get().is_none() {
            let node = Node::named(self.kind(), self.location(), cold.name.clone());
            if let Some(tag) = &cold.tag {
                node.set_tag(Arc::clone(tag));
            }
            node.note_poll();
            node.attach(Some(Arc::clone(nursery)), true);
            let node = cold.node.get_or_init(|| node);
            fence(Ordering::SeqCst);
            if self.is_exiting() {
                node.begin_exit_alone();
            }
        }
    }

    /// The member's node, made now if need be; none once the member is over.
    pub(crate) fn node_unless_over(&self) -> Option<Arc<Node>> {
        self.unless_over(|cold, nursery| {
            self.make_node(cold, nursery);
            cold.node.get().cloned()
        })?
    }

    /// The block that the member provided to has ended: what follows is an exit.
    pub(crate) fn begin_exit(&self) {
        self.set_exiting();
        if let Some(node) = self.known_node() {
            node.begin_exit_alone();
        }
    }

    /// Cancels this member alone; nothing happens once it is over.
    pub(crate) fn cancel(&self, cancelled: Cancelled) -> bool {
        let made = self.unless_over(|cold, nursery| self.make_node(cold, nursery));
        let (Some(()), Some(node)) = (made, self.known_node()) else {
            return false;
        };
        let first = node.request(cancelled);
        // A member that got its node just now has left no waker there.
        self.wake();
        first
    }

    /// The member's future is gone.
    #[inline]
    pub(crate) fn end(&self) {
        if self.cold().get().is_none() && self.is_alone() {
            // Nobody is left who could give it a node.
            return;
        }
        if let Some(cold) = self.cold().get_or_init(|| None) {
            *lock(&cold.over) = true;
            if let Some(node) = cold.node.get() {
                node.retire();
            }
        }
    }

    fn kind(&self) -> FrameKind {
        if self.is_body() {
            FrameKind::Body
        } else {
            FrameKind::Child
        }
    }

    /// The place of something to report about the member.
    pub(crate) fn info(&self) -> FrameInfo {
        FrameInfo::new(self.kind(), self.name().cloned(), self.location())
    }

    pub(crate) fn name(&self) -> Option<&Name> {
        self.known_cold()?.name.as_ref()
    }
}
