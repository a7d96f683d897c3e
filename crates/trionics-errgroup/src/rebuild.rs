//! Building a tree anew out of the parts of another, level by level and without recursion.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::{self, Vec};

use crate::node::{Attached, Children, Extras, IntoChildren, Kind, Rich, Slot, Target};
use crate::{ContextRelation, Node};

/// What is done to the nodes on the way, the inner ones first.
pub(crate) trait Rebuild<E> {
    /// The errors of the new tree.
    type To;

    /// Makes the error of a leaf.
    fn error(&mut self, error: E) -> Self::To;

    /// Takes a node whose children and contexts are done, and gives what is to stand in its place.
    ///
    /// Not called inside contexts that are not pending: what happened there is over.
    fn node(&mut self, done: Done<Self::To>) -> Done<Self::To>;
}

/// A node that is done.
pub(crate) struct Done<E> {
    pub(crate) node: Node<E>,
    /// Whether a leaf in it is anything but a `Cancelled`.
    pub(crate) is_real: bool,
    /// The same for each of its contexts, in their order. A reference to another place is not.
    pub(crate) real_contexts: Vec<bool>,
}

/// A node whose children and contexts are being done.
struct Frame<E, To> {
    message: Option<Cow<'static, str>>,
    children_ahead: IntoChildren<E>,
    children: Vec<Node<To>>,
    contexts_ahead: vec::IntoIter<Attached<E>>,
    /// The new node, but for its children.
    shell: Box<Rich<To>>,
    is_real: bool,
    real_contexts: Vec<bool>,
    /// How the node relates to the one around it, if it is one of its contexts.
    role: Option<ContextRelation>,
    /// Whether the node is inside a context that is not pending.
    is_over: bool,
}

/// Builds the tree anew.
pub(crate) fn rebuild<E, R: Rebuild<E>>(root: Node<E>, how: &mut R) -> Node<R::To> {
    let mut enclosing: Vec<Frame<E, R::To>> = Vec::new();
    let mut ahead = (root, None);
    loop {
        let (node, role) = ahead;
        let is_over = enclosing.last().is_some_and(|around| around.is_over)
            || role.is_some_and(|relation| relation != ContextRelation::Pending);
        let mut done = match node.0 {
            Slot::Leaf(error) => (Done::error(how.error(error)), role, is_over),
            Slot::Rich(rich) => {
                let mut frame = Frame::new(*rich, role, is_over, how);
                match frame.next() {
                    Some(next) => {
                        enclosing.push(frame);
                        ahead = next;
                        continue;
                    }
                    None => frame.finish(),
                }
            }
        };
        ahead = loop {
            let (mut node, role, is_over) = done;
            if !is_over {
                node = how.node(node);
            }
            let Some(mut around) = enclosing.pop() else {
                return node.node;
            };
            around.put(node, role);
            match around.next() {
                Some(next) => {
                    enclosing.push(around);
                    break next;
                }
                None => done = around.finish(),
            }
        };
    }
}

impl<E> Done<E> {
    fn error(error: E) -> Self {
        Self {
            node: Node(Slot::Leaf(error)),
            is_real: true,
            real_contexts: Vec::new(),
        }
    }
}

impl<E, To> Frame<E, To> {
    fn new<R: Rebuild<E, To = To>>(
        rich: Rich<E>,
        role: Option<ContextRelation>,
        is_over: bool,
        how: &mut R,
    ) -> Self {
        let (kind, extras) = rich.into_parts();
        let mut message = None;
        let mut children = Children::EMPTY;
        let mut is_real = true;
        let kind = match kind {
            Kind::Leaf(error) => Kind::Leaf(how.error(error)),
            Kind::Library(failure) => Kind::Library(failure),
            Kind::Cancelled(cancelled) => {
                is_real = false;
                Kind::Cancelled(cancelled)
            }
            Kind::Group {
                message: text,
                children: nodes,
            } => {
                is_real = false;
                message = Some(text);
                children = nodes;
                Kind::VACANT
            }
        };
        let mut shell = Rich::new(kind);
        let mut contexts = Vec::new();
        if let Some(extras) = extras {
            contexts = extras.contexts;
            shell.extras = Some(Box::new(Extras {
                said: extras.said,
                contexts: Vec::new(),
            }));
        }
        let children_ahead = children.into_iter();
        Self {
            message,
            children: Vec::with_capacity(children_ahead.len()),
            children_ahead,
            contexts_ahead: contexts.into_iter(),
            shell,
            is_real,
            real_contexts: Vec::new(),
            role,
            is_over,
        }
    }

    /// The next child or context to be done.
    fn next(&mut self) -> Option<(Node<E>, Option<ContextRelation>)> {
        if let Some(child) = self.children_ahead.next() {
            return Some((child, None));
        }
        while let Some(Attached { relation, target }) = self.contexts_ahead.next() {
            match target {
                Target::Owned(node) => return Some((node, Some(relation))),
                Target::Elsewhere(mark) => {
                    self.real_contexts.push(false);
                    self.attach(relation, Target::Elsewhere(mark));
                }
            }
        }
        None
    }

    fn put(&mut self, done: Done<To>, role: Option<ContextRelation>) {
        match role {
            None => {
                self.is_real |= done.is_real;
                self.children.push(done.node);
            }
            Some(relation) => {
                self.real_contexts.push(done.is_real);
                self.attach(relation, Target::Owned(done.node));
            }
        }
    }

    fn attach(&mut self, relation: ContextRelation, target: Target<To>) {
        let extras = self.shell.extras.get_or_insert_default();
        extras.contexts.push(Attached { relation, target });
    }

    /// The node, how it relates to the one around it, and whether it is inside a context that is not pending.
    fn finish(mut self) -> (Done<To>, Option<ContextRelation>, bool) {
        if let Some(message) = self.message {
            self.shell.kind = Kind::Group {
                message,
                children: Children::from_vec(self.children),
            };
        }
        let done = Done {
            node: Node(Slot::Rich(self.shell)),
            is_real: self.is_real,
            real_contexts: self.real_contexts,
        };
        (done, self.role, self.is_over)
    }
}
