//! Comparing trees.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::node::{Attached, Target};
use crate::{Failure, Node};

/// Two trees are equal if they have the same shape, with equal messages, errors, notes, names, causes and contexts.
///
/// A reference to a node in another place equals one to the node in the same place of the other tree.
/// Causes are compared by their text. How many groups were collapsed makes no difference.
impl<E: PartialEq> PartialEq for Node<E> {
    fn eq(&self, other: &Self) -> bool {
        let mut pending = alloc::vec![(self, other)];
        // The marks of nodes in the same place, and the references that must lead to the same place.
        let mut marks = BTreeMap::new();
        let mut references = Vec::new();
        while let Some((left, right)) = pending.pop() {
            if !has_equal_kind(left, right) || !says_the_same(left, right) {
                return false;
            }
            for left_mark in left.marks() {
                let addresses = right.marks().iter().map(|mark| mark.address());
                marks.insert(left_mark.address(), addresses.collect::<Vec<_>>());
            }
            pending.extend(left.children().iter().zip(right.children()));
            for (left, right) in left.attached().iter().zip(right.attached()) {
                match (&left.target, &right.target) {
                    (Target::Owned(left), Target::Owned(right)) => pending.push((left, right)),
                    (Target::Elsewhere(left), Target::Elsewhere(right)) => {
                        references.push((left, right));
                    }
                    _ => return false,
                }
            }
        }
        references.into_iter().all(|(left, right)| {
            left == right
                || marks
                    .get(&left.address())
                    .is_some_and(|same_place| same_place.contains(&right.address()))
        })
    }
}

impl<E: Eq> Eq for Node<E> {}

impl<E: PartialEq> PartialEq for Failure<E> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<E: Eq> Eq for Failure<E> {}

/// Whether the nodes are the same but for what is inside and what is said of them.
fn has_equal_kind<E: PartialEq>(left: &Node<E>, right: &Node<E>) -> bool {
    left.as_leaf() == right.as_leaf()
        && left.as_cancelled() == right.as_cancelled()
        && left.as_library() == right.as_library()
        && left.message() == right.message()
        && left.children().len() == right.children().len()
}

/// Whether the same is said of the nodes, but for the contexts themselves.
fn says_the_same<E>(left: &Node<E>, right: &Node<E>) -> bool {
    let relations = |node: &Node<E>| {
        node.attached()
            .iter()
            .map(|context: &Attached<E>| context.relation)
            .collect::<Vec<_>>()
    };
    left.notes().eq(right.notes())
        && left.origin() == right.origin()
        && relations(left) == relations(right)
        && left.cause().map(ToString::to_string) == right.cause().map(ToString::to_string)
}
