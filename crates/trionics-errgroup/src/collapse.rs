//! Taking away the groups that hold a single failure.

use alloc::vec::Vec;

use crate::node::Slot;
use crate::{Failure, Node};

/// Takes away every group of one, at any depth.
pub fn collapse_eg<E>(mut failure: Failure<E>) -> Failure<E> {
    let mut pending: Vec<&mut Node<E>> = alloc::vec![&mut *failure.0];
    while let Some(node) = pending.pop() {
        while let Slot::Rich(rich) = &mut node.0
            && let crate::node::Kind::Group {
                children: children @ crate::node::Children::One(_),
                ..
            } = &mut rich.kind
            && let crate::node::Children::One([only]) = children.take()
        {
            *node = only;
        }
        if let Slot::Rich(rich) = &mut node.0
            && let crate::node::Kind::Group { children, .. } = &mut rich.kind
        {
            pending.extend(children.as_mut_slice());
        }
    }
    failure
}
