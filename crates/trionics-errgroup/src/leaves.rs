//! Walking over the leaves of a tree.

use alloc::vec::Vec;
use core::error::Error;
use core::iter::FusedIterator;
use core::{fmt, slice};

use crate::node::{IntoChildren, Kind, Slot};
use crate::{AnyError, Failure, Node};

/// The leaves of a tree, depth first and from left to right.
///
/// # Examples
///
/// See [`Node::leaves`].
#[must_use = "iterators do nothing until they are asked"]
pub struct Leaves<'a, E> {
    /// The node from which the walk starts, until it has been looked at.
    start: Option<&'a Node<E>>,
    /// The groups around the leaf that came last, outermost first, each with its children that are still to come.
    enclosing: Vec<(&'a Node<E>, slice::Iter<'a, Node<E>>)>,
}

impl<E> Node<E> {
    /// The leaves, depth first and from left to right: errors, `Cancelled`s and the library's own failures.
    ///
    /// Contexts are not part of it. The groups around each leaf can be had from [`Leaves::path`] on the way.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let inner = Failure::group("inner", [Failure::leaf(1), Failure::leaf(2)])?;
    /// let outer = Failure::group("outer", [inner, Failure::leaf(3)])?;
    /// assert!(outer.leaves().filter_map(|leaf| leaf.as_leaf()).eq(&[1, 2, 3]));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn leaves(&self) -> Leaves<'_, E> {
        Leaves {
            start: Some(self),
            enclosing: Vec::new(),
        }
    }

    /// The errors among the leaves, depth first and from left to right.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, LibraryFailure};
    ///
    /// let group = Failure::group("feed", [Failure::library(LibraryFailure::EmptySet), Failure::leaf(1)])?;
    /// assert!(group.errors().eq(&[1]));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn errors(&self) -> impl FusedIterator<Item = &E> {
        self.leaves().filter_map(Self::as_leaf)
    }
}

impl Node<AnyError> {
    /// The first error of type `T`, depth first and from left to right. The sources behind the errors are not looked at.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
    /// assert!(group.find::<std::fmt::Error>().is_some());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn find<T: Error + Send + Sync + 'static>(&self) -> Option<&T> {
        self.leaves().find_map(Node::downcast_ref)
    }
}

impl<'a, E> Leaves<'a, E> {
    /// The groups around the leaf that came last, outermost first; none before the first leaf, and for a lone leaf.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let inner = Failure::group("inner", [Failure::leaf(1)])?;
    /// let outer = Failure::group("outer", [inner, Failure::leaf(2)])?;
    ///
    /// let mut leaves = outer.leaves();
    /// let mut paths = Vec::new();
    /// while leaves.next().is_some() {
    ///     paths.push(leaves.path().filter_map(|group| group.message()).collect::<Vec<_>>());
    /// }
    /// assert_eq!(paths, [vec!["outer", "inner"], vec!["outer"]]);
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn path(&self) -> impl ExactSizeIterator<Item = &'a Node<E>> + DoubleEndedIterator {
        self.enclosing.iter().map(|(group, _)| *group)
    }
}

impl<'a, E> Iterator for Leaves<'a, E> {
    type Item = &'a Node<E>;

    fn next(&mut self) -> Option<&'a Node<E>> {
        let mut candidate = self.start.take();
        loop {
            let node = match candidate.take() {
                Some(node) => node,
                None => {
                    let (_, children) = self.enclosing.last_mut()?;
                    match children.next() {
                        Some(child) => child,
                        None => {
                            self.enclosing.pop();
                            continue;
                        }
                    }
                }
            };
            if node.is_leaf() {
                return Some(node);
            }
            self.enclosing.push((node, node.children().iter()));
        }
    }
}

impl<E> FusedIterator for Leaves<'_, E> {}

impl<E> fmt::Debug for Leaves<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Leaves")
            .field("n_enclosing", &self.enclosing.len())
            .finish_non_exhaustive()
    }
}

impl<E> Clone for Leaves<'_, E> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            enclosing: self.enclosing.clone(),
        }
    }
}

impl<E> Failure<E> {
    /// Takes the tree apart into its leaves, depth first and from left to right, each with its own notes and contexts.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let inner = Failure::group("inner", [Failure::leaf(1), Failure::leaf(2)])?;
    /// let outer = Failure::group("outer", [inner, Failure::leaf(3)])?;
    /// let errors: Vec<_> = outer.into_leaves().filter_map(|leaf| leaf.into_leaf().ok()).collect();
    /// assert_eq!(errors, [1, 2, 3]);
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn into_leaves(self) -> impl FusedIterator<Item = Self> {
        IntoLeaves::new(*self.0).map(Self::from_node)
    }

    /// The errors among the leaves, to be changed where they stand.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let mut group = Failure::group("feed", [Failure::leaf(1), Failure::leaf(2)])?;
    /// group.errors_mut().for_each(|error| *error *= 10);
    /// assert!(group.errors().eq(&[10, 20]));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn errors_mut(&mut self) -> impl FusedIterator<Item = &mut E> {
        ErrorsMut {
            enclosing: alloc::vec![slice::from_mut(&mut *self.0).iter_mut()],
        }
    }
}

/// The errors of a tree, depth first and from left to right, to be changed where they stand.
struct ErrorsMut<'a, E> {
    /// The groups around the next error, outermost first: their children that are still to come.
    enclosing: Vec<slice::IterMut<'a, Node<E>>>,
}

impl<'a, E> Iterator for ErrorsMut<'a, E> {
    type Item = &'a mut E;

    fn next(&mut self) -> Option<&'a mut E> {
        loop {
            let Some(node) = self.enclosing.last_mut()?.next() else {
                self.enclosing.pop();
                continue;
            };
            match &mut node.0 {
                Slot::Leaf(error) => return Some(error),
                Slot::Rich(rich) => match &mut rich.kind {
                    Kind::Leaf(error) => return Some(error),
                    Kind::Group { children, .. } => {
                        self.enclosing.push(children.as_mut_slice().iter_mut());
                    }
                    Kind::Cancelled(_) | Kind::Library(_) => {}
                },
            }
        }
    }
}

impl<E> FusedIterator for ErrorsMut<'_, E> {}

/// The leaves of a tree that is taken apart, depth first and from left to right.
pub(crate) struct IntoLeaves<E> {
    start: Option<Node<E>>,
    /// The groups around the next leaf, outermost first: their children that are still to come.
    enclosing: Vec<IntoChildren<E>>,
}

impl<E> IntoLeaves<E> {
    pub(crate) fn new(node: Node<E>) -> Self {
        Self {
            start: Some(node),
            enclosing: Vec::new(),
        }
    }
}

impl<E> Iterator for IntoLeaves<E> {
    type Item = Node<E>;

    fn next(&mut self) -> Option<Node<E>> {
        let mut candidate = self.start.take();
        loop {
            let node = match candidate.take() {
                Some(node) => node,
                None => match self.enclosing.last_mut()?.next() {
                    Some(child) => child,
                    None => {
                        self.enclosing.pop();
                        continue;
                    }
                },
            };
            match node.0 {
                Slot::Rich(mut rich) if matches!(rich.kind, Kind::Group { .. }) => {
                    self.enclosing.push(rich.take_children().into_iter());
                }
                leaf => return Some(Node(leaf)),
            }
        }
    }
}

impl<E> FusedIterator for IntoLeaves<E> {}
