//! Copying trees of errors that can be copied.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::list::{Entry, Item, list};
use crate::node::{Attached, Children, Extras, Kind, Rich, Slot, Target};
use crate::{Failure, FailureMark, Node};

impl<E: Clone> Node<E> {
    /// A failure of its own that is a copy of the node and everything in it.
    ///
    /// A reference to a node inside leads to that node's copy; one to a node elsewhere still leads there.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group_of("feed", [1, 2])?;
    /// assert_eq!(group.children()[1].to_failure().into_leaf().ok(), Some(2));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn to_failure(&self) -> Failure<E> {
        let entries = list(self);
        let marks = new_marks(&entries);
        // What is copied already of what hangs on each entry, last first: the list is read backwards.
        let mut copied: Vec<Below<E>> = Vec::new();
        copied.resize_with(entries.len(), Default::default);
        for entry in entries.iter().rev() {
            let Some(below) = copied.pop() else {
                unreachable!("there is one for each entry")
            };
            let target = match entry.item {
                Item::Node(node) => Target::Owned(copy_of(node, below, &marks)),
                Item::Reference(mark) => {
                    let known = marks.get(&mark.address());
                    Target::Elsewhere(known.unwrap_or(mark).clone())
                }
            };
            match (entry.parent, entry.relation, target) {
                (Some(parent), Some(relation), target) => {
                    copied[parent].1.push(Attached { relation, target });
                }
                (Some(parent), None, Target::Owned(node)) => copied[parent].0.push(node),
                (None, _, Target::Owned(node)) => return Failure::from_node(node),
                (_, _, Target::Elsewhere(_)) => unreachable!("only contexts are references"),
            }
        }
        unreachable!("the list begins with the root")
    }
}

/// The children and the contexts of a node.
type Below<E> = (Vec<Node<E>>, Vec<Attached<E>>);

impl<E: Clone> Clone for Failure<E> {
    fn clone(&self) -> Self {
        self.to_failure()
    }
}

/// For each mark of a node in the list, the one that its copy bears.
fn new_marks<E>(entries: &[Entry<'_, E>]) -> BTreeMap<usize, FailureMark> {
    let nodes = entries.iter().filter_map(|entry| match entry.item {
        Item::Node(node) => Some(node),
        Item::Reference(_) => None,
    });
    let marks = nodes.flat_map(Node::marks);
    marks
        .map(|mark| (mark.address(), FailureMark::new()))
        .collect()
}

fn copy_of<E: Clone>(
    node: &Node<E>,
    (mut children, mut contexts): Below<E>,
    marks: &BTreeMap<usize, FailureMark>,
) -> Node<E> {
    let rich = match &node.0 {
        Slot::Leaf(error) => return Node(Slot::Leaf(error.clone())),
        Slot::Rich(rich) => rich,
    };
    let kind = match &rich.kind {
        Kind::Leaf(error) => Kind::Leaf(error.clone()),
        Kind::Cancelled(cancelled) => Kind::Cancelled(cancelled.clone()),
        Kind::Library(failure) => Kind::Library(failure.clone()),
        Kind::Group { message, .. } => {
            children.reverse();
            Kind::Group {
                message: message.clone(),
                children: Children::from_vec(children),
            }
        }
    };
    let mut copy = Rich::new(kind);
    copy.extras = rich.extras.as_ref().map(|extras| {
        contexts.reverse();
        let mut said = extras.said.clone();
        for mark in &mut said.marks {
            if let Some(new) = marks.get(&mark.address()) {
                *mark = new.clone();
            }
        }
        Box::new(Extras { said, contexts })
    });
    Node(Slot::Rich(copy))
}
