//! Walking over the leaves of a tree.

use alloc::vec::Vec;
use core::slice;

use crate::{Failure, Node};

/// The leaves of a tree, depth first and from left to right; see [`Node::leaves`].
#[derive(Debug)]
pub struct Leaves<'a, E> {
    /// The node from which the walk starts, until it has been looked at.
    start: Option<&'a Node<E>>,
    /// The groups around the next leaf, outermost first, each with its children that are still to come.
    enclosing: Vec<(&'a Node<E>, slice::Iter<'a, Node<E>>)>,
}

impl<E> Node<E> {
    /// The leaves, depth first and from left to right: errors, `Cancelled`s and the library's own failures.
    pub fn leaves(&self) -> Leaves<'_, E> {
        Leaves {
            start: Some(self),
            enclosing: Vec::new(),
        }
    }
}

impl<'a, E> Iterator for Leaves<'a, E> {
    type Item = &'a Node<E>;

    fn next(&mut self) -> Option<&'a Node<E>> {
        let mut candidate = self.start.take();
        loop {
            let node = match candidate.take() {
                Some(node) => node,
                None => loop {
                    let (_, children) = self.enclosing.last_mut()?;
                    match children.next() {
                        Some(child) => break child,
                        None => drop(self.enclosing.pop()),
                    }
                },
            };
            if node.is_leaf() {
                return Some(node);
            }
            self.enclosing.push((node, node.children().iter()));
        }
    }
}
