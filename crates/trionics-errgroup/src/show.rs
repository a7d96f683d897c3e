//! How a failure prints when a format string asks for it.

use core::fmt;

use crate::node::{Kind, Slot};
use crate::tree::{SubErrors, Tree};
use crate::{Failure, Node};

/// How deep `{:?}` follows a tree, and how many children of a group it shows: as good as everything.
const DEBUG_LIMIT: usize = 250;

/// One line that does not repeat the source; with `{:#}`, the tree.
///
/// `{:#}` prints the errors with `{:#}` too, by which an [`AnyError`](crate::AnyError) lists its sources.
/// [`Node::tree`] asks every error for its sources, and takes wishes.
impl<E: fmt::Display> fmt::Display for Node<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if formatter.alternate() {
            let show = |error: &E, out: &mut fmt::Formatter<'_>| write!(out, "{error:#}");
            return fmt::Display::fmt(&self.tree_with(show), formatter);
        }
        match &self.0 {
            Slot::Leaf(error) => fmt::Display::fmt(error, formatter),
            Slot::Rich(rich) => match &rich.kind {
                Kind::Leaf(error) => fmt::Display::fmt(error, formatter),
                Kind::Cancelled(cancelled) => fmt::Display::fmt(cancelled, formatter),
                Kind::Library(failure) => fmt::Display::fmt(failure, formatter),
                Kind::Group { message, children } => {
                    let blank = if message.is_empty() { "" } else { " " };
                    let count = SubErrors(children.as_slice());
                    write!(formatter, "{message}{blank}{count}")
                }
            },
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, formatter)
    }
}

/// The whole tree, down to 250 levels; a bare error as its own `Debug`.
impl<E: fmt::Debug> fmt::Debug for Node<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |error: &E, out: &mut fmt::Formatter<'_>| write!(out, "{error:?}");
        let show_pretty = |error: &E, out: &mut fmt::Formatter<'_>| write!(out, "{error:#?}");
        if let Slot::Leaf(error) = &self.0 {
            return fmt::Debug::fmt(error, formatter);
        }
        let tree: Tree<'_, E> = if formatter.alternate() {
            self.tree_with(show_pretty)
        } else {
            self.tree_with(show)
        };
        let tree = tree.max_depth(DEBUG_LIMIT).max_children(DEBUG_LIMIT);
        fmt::Display::fmt(&tree, formatter)
    }
}

impl<E: fmt::Debug> fmt::Debug for Failure<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}
