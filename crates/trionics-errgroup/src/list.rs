//! A tree as a flat list, for what has to see every node and must not recurse.

use alloc::vec::Vec;

use crate::node::Target;
use crate::{ContextRelation, FailureMark, Node};

/// A node, or a reference to one in another place.
pub(crate) struct Entry<'a, E> {
    /// The place in the list of the node that this one hangs on.
    pub(crate) parent: Option<usize>,
    /// How it relates to that node, if it is a context.
    pub(crate) relation: Option<ContextRelation>,
    pub(crate) item: Item<'a, E>,
}

pub(crate) enum Item<'a, E> {
    Node(&'a Node<E>),
    Reference(&'a FailureMark),
}

/// Every node before what hangs on it, contexts before children.
pub(crate) fn list<E>(root: &Node<E>) -> Vec<Entry<'_, E>> {
    let mut entries = Vec::new();
    let mut pending = alloc::vec![Entry {
        parent: None,
        relation: None,
        item: Item::Node(root),
    }];
    while let Some(entry) = pending.pop() {
        if let Item::Node(node) = entry.item {
            let parent = Some(entries.len());
            pending.extend(node.children().iter().rev().map(|child| Entry {
                parent,
                relation: None,
                item: Item::Node(child),
            }));
            pending.extend(node.attached().iter().rev().map(|context| Entry {
                parent,
                relation: Some(context.relation),
                item: match &context.target {
                    Target::Owned(node) => Item::Node(node),
                    Target::Elsewhere(mark) => Item::Reference(mark),
                },
            }));
        }
        entries.push(entry);
    }
    entries
}
