//! How a failure prints.

use core::fmt;

use crate::node::{Kind, Slot};
use crate::{Failure, Node};

impl<E: fmt::Display> fmt::Display for Node<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Slot::Leaf(error) => fmt::Display::fmt(error, formatter),
            Slot::Rich(rich) => match &rich.kind {
                Kind::Leaf(error) => fmt::Display::fmt(error, formatter),
                Kind::Cancelled(cancelled) => fmt::Display::fmt(cancelled, formatter),
                Kind::Library(failure) => fmt::Display::fmt(failure, formatter),
                Kind::Group { message, children } => match children.as_slice().len() {
                    1 => write!(formatter, "{message} (1 sub-error)"),
                    n_children => write!(formatter, "{message} ({n_children} sub-errors)"),
                },
            },
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, formatter)
    }
}

impl<E: fmt::Debug> fmt::Debug for Node<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_leaf(), self.message()) {
            (Some(error), _) => fmt::Debug::fmt(error, formatter),
            (_, Some(message)) => write!(formatter, "{message} ({})", self.children().len()),
            _ => match (self.as_cancelled(), self.as_library()) {
                (Some(cancelled), _) => fmt::Debug::fmt(cancelled, formatter),
                (_, Some(failure)) => fmt::Debug::fmt(failure, formatter),
                _ => Ok(()),
            },
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Failure<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}
