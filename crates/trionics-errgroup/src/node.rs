//! The nodes that trees of failures are made of, and how they are freed.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::error::Error;
use core::{array, mem, slice};

use crate::{Cancelled, LibraryFailure};

/// One failure in a tree, where it stands: a leaf, or a group with more nodes inside.
///
/// A [`Failure`](crate::Failure) owns one and dereferences to it, and a group hands out its children as nodes,
/// so that code which looks at failures is written once, for `&Node<E>`, and works at any depth.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, Node};
///
/// fn n_direct_errors<E>(node: &Node<E>) -> usize {
///     node.children().iter().filter(|child| child.as_leaf().is_some()).count()
/// }
///
/// let inner = Failure::group("inner", [Failure::leaf(1)])?;
/// let outer = Failure::group("outer", [Failure::leaf(2), Failure::leaf(3), inner])?;
/// assert_eq!(n_direct_errors(&outer), 2);
/// assert_eq!(n_direct_errors(&outer.children()[2]), 1);
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
pub struct Node<E>(pub(crate) Slot<E>);

/// What a node holds in its place: the common case takes no more room than the error itself.
pub(crate) enum Slot<E> {
    /// An error about which nothing else is known.
    Leaf(E),
    /// Everything else. Never nested: a rich node's own error is in its kind.
    Rich(Box<Rich<E>>),
}

/// A node that is not a bare error.
pub(crate) struct Rich<E> {
    pub(crate) kind: Kind<E>,
    /// Empty until something is said about the node.
    pub(crate) extras: Option<Box<Extras<E>>>,
}

/// The kinds of nodes.
pub(crate) enum Kind<E> {
    Leaf(E),
    Cancelled(Cancelled),
    Library(LibraryFailure),
    Group {
        message: Cow<'static, str>,
        /// At least one, except while the node is being taken apart.
        children: Children<E>,
    },
}

/// The children of a group. One child needs no allocation of its own, so a chain of groups of one is a plain list.
pub(crate) enum Children<E> {
    One([Node<E>; 1]),
    Many(Vec<Node<E>>),
}

/// What can be said about any node.
pub(crate) struct Extras<E> {
    /// In the order in which they were added.
    pub(crate) notes: Vec<Cow<'static, str>>,
    /// The task or scope from which the node came.
    pub(crate) origin: Option<Cow<'static, str>>,
    /// What was being handled when the node arose, nearest first.
    pub(crate) contexts: Vec<Context<E>>,
    /// The error that was named as the cause. Shared by the halves of a split.
    pub(crate) cause: Option<Arc<dyn Error + Send + Sync>>,
    /// Set as soon as another node refers to this one.
    pub(crate) mark: Option<Mark>,
    /// How many groups of one around the node were taken away by collapsing.
    pub(crate) collapsed: usize,
}

/// A failure that was being handled when another arose.
pub(crate) struct Context<E> {
    pub(crate) relation: Relation,
    pub(crate) target: Target<E>,
}

/// How a context relates to the node that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Relation {
    /// The context was on its way out when the node arose; the node may hide it.
    Pending,
    /// The context had been dealt with; it explains the node and never comes out again.
    Handled,
    /// The context is the cancellation behind which the node was found.
    MaskedBy,
}

/// Where a context is.
pub(crate) enum Target<E> {
    /// In the context's node itself.
    Owned(Node<E>),
    /// In another place, usually beside the node in the same group: errors are not copied.
    Elsewhere(Mark),
}

/// A reference to a node in another place, good as long as that node lives.
#[derive(Clone, Debug)]
pub struct Mark(
    /// Only its address counts. Not zero-sized, so that the address is its own.
    Arc<u8>,
);

impl Mark {
    pub(crate) fn new() -> Self {
        Self(Arc::new(0))
    }

    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl PartialEq for Mark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Mark {}

impl<E> Default for Extras<E> {
    fn default() -> Self {
        Self {
            notes: Vec::new(),
            origin: None,
            contexts: Vec::new(),
            cause: None,
            mark: None,
            collapsed: 0,
        }
    }
}

impl<E> Children<E> {
    pub(crate) const EMPTY: Self = Self::Many(Vec::new());

    pub(crate) fn from_vec(mut nodes: Vec<Node<E>>) -> Self {
        if nodes.len() == 1
            && let Some(only) = nodes.pop()
        {
            Self::One([only])
        } else {
            Self::Many(nodes)
        }
    }

    pub(crate) fn as_slice(&self) -> &[Node<E>] {
        match self {
            Self::One(only) => only,
            Self::Many(nodes) => nodes,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Node<E>] {
        match self {
            Self::One(only) => only,
            Self::Many(nodes) => nodes,
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        mem::replace(self, Self::EMPTY)
    }
}

impl<E> IntoIterator for Children<E> {
    type Item = Node<E>;
    type IntoIter = IntoChildren<E>;

    fn into_iter(self) -> IntoChildren<E> {
        match self {
            Self::One(only) => IntoChildren::One(only.into_iter()),
            Self::Many(nodes) => IntoChildren::Many(nodes.into_iter()),
        }
    }
}

/// The children of a group that was taken apart.
pub(crate) enum IntoChildren<E> {
    One(array::IntoIter<Node<E>, 1>),
    Many(vec::IntoIter<Node<E>>),
}

impl<E> Iterator for IntoChildren<E> {
    type Item = Node<E>;

    fn next(&mut self) -> Option<Node<E>> {
        match self {
            Self::One(only) => only.next(),
            Self::Many(nodes) => nodes.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::One(only) => only.size_hint(),
            Self::Many(nodes) => nodes.size_hint(),
        }
    }
}

impl<E> ExactSizeIterator for IntoChildren<E> {}

impl<E> Rich<E> {
    pub(crate) fn new(kind: Kind<E>) -> Box<Self> {
        Box::new(Self { kind, extras: None })
    }

    /// Takes the node apart, which its `Drop` would not allow otherwise.
    pub(crate) fn into_parts(mut self: Box<Self>) -> (Kind<E>, Option<Box<Extras<E>>>) {
        (self.take_kind(), self.extras.take())
    }

    pub(crate) fn take_kind(&mut self) -> Kind<E> {
        mem::replace(
            &mut self.kind,
            Kind::Group {
                message: Cow::Borrowed(""),
                children: Children::EMPTY,
            },
        )
    }

    pub(crate) fn take_children(&mut self) -> Children<E> {
        match &mut self.kind {
            Kind::Group { children, .. } => children.take(),
            _ => Children::EMPTY,
        }
    }

    pub(crate) fn extras_mut(&mut self) -> &mut Extras<E> {
        self.extras.get_or_insert_default()
    }

    /// Moves everything below that could nest into `pending`, and frees what could not.
    fn detach_into(&mut self, pending: &mut Vec<Box<Self>>) {
        let mut detach = |node: Node<E>| {
            if let Slot::Rich(rich) = node.0 {
                pending.push(rich);
            }
        };
        self.take_children().into_iter().for_each(&mut detach);
        if let Some(extras) = &mut self.extras {
            for context in extras.contexts.drain(..) {
                if let Target::Owned(node) = context.target {
                    detach(node);
                }
            }
        }
    }
}

/// Frees the tree level by level, because the stack is not as deep as a tree can be.
impl<E> Drop for Rich<E> {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.detach_into(&mut pending);
        while let Some(mut rich) = pending.pop() {
            rich.detach_into(&mut pending);
        }
    }
}

impl<E> Node<E> {
    pub(crate) fn rich(kind: Kind<E>) -> Self {
        Self(Slot::Rich(Rich::new(kind)))
    }

    /// The node with room to say something about it.
    pub(crate) fn into_rich(self) -> Box<Rich<E>> {
        match self.0 {
            Slot::Leaf(error) => Rich::new(Kind::Leaf(error)),
            Slot::Rich(rich) => rich,
        }
    }

    pub(crate) fn extras(&self) -> Option<&Extras<E>> {
        match &self.0 {
            Slot::Leaf(_) => None,
            Slot::Rich(rich) => rich.extras.as_deref(),
        }
    }

    /// Whether the node is an error, a `Cancelled` or a failure of the library's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).is_leaf());
    /// ```
    pub fn is_leaf(&self) -> bool {
        !self.is_group()
    }

    /// Whether the node is a group.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(!Failure::leaf(1).is_group());
    /// ```
    pub fn is_group(&self) -> bool {
        matches!(&self.0, Slot::Rich(rich) if matches!(rich.kind, Kind::Group { .. }))
    }

    /// Whether this very node is a `Cancelled`; see `is_multi_cancelled` for groups of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(!Failure::leaf(1).is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.as_cancelled().is_some()
    }

    /// The error, if the node is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert_eq!(Failure::leaf(1).with_note("the first").as_leaf(), Some(&1));
    /// ```
    pub fn as_leaf(&self) -> Option<&E> {
        match &self.0 {
            Slot::Leaf(error) => Some(error),
            Slot::Rich(rich) => match &rich.kind {
                Kind::Leaf(error) => Some(error),
                _ => None,
            },
        }
    }

    /// The `Cancelled`, if the node is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).as_cancelled().is_none());
    /// ```
    pub fn as_cancelled(&self) -> Option<&Cancelled> {
        match &self.0 {
            Slot::Rich(rich) => match &rich.kind {
                Kind::Cancelled(cancelled) => Some(cancelled),
                _ => None,
            },
            Slot::Leaf(_) => None,
        }
    }

    /// The library's own failure, if the node is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, LibraryFailure};
    ///
    /// let failure: Failure = Failure::library(LibraryFailure::EmptySet);
    /// assert_eq!(failure.as_library(), Some(&LibraryFailure::EmptySet));
    /// ```
    pub fn as_library(&self) -> Option<&LibraryFailure> {
        match &self.0 {
            Slot::Rich(rich) => match &rich.kind {
                Kind::Library(failure) => Some(failure),
                _ => None,
            },
            Slot::Leaf(_) => None,
        }
    }

    /// The group's message, if the node is a group.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("two feeds", [Failure::leaf(1), Failure::leaf(2)])?;
    /// assert_eq!(group.message(), Some("two feeds"));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn message(&self) -> Option<&str> {
        match &self.0 {
            Slot::Rich(rich) => match &rich.kind {
                Kind::Group { message, .. } => Some(message),
                _ => None,
            },
            Slot::Leaf(_) => None,
        }
    }

    /// The group's direct children in their order; none, if the node is no group.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("two feeds", [Failure::leaf(1), Failure::leaf(2)])?;
    /// assert_eq!(group.children()[1].as_leaf(), Some(&2));
    /// assert!(group.children()[1].children().is_empty());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn children(&self) -> &[Self] {
        match &self.0 {
            Slot::Rich(rich) => match &rich.kind {
                Kind::Group { children, .. } => children.as_slice(),
                _ => &[],
            },
            Slot::Leaf(_) => &[],
        }
    }

    /// The notes, in the order in which they were added.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::leaf(1).with_note("while starting").with_note("third attempt");
    /// assert!(failure.notes().eq(["while starting", "third attempt"]));
    /// ```
    pub fn notes(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone {
        let notes: slice::Iter<'_, _> = match self.extras() {
            Some(extras) => extras.notes.iter(),
            None => [].iter(),
        };
        notes.map(|note| &**note)
    }

    /// The name of the task or scope from which the node came.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert_eq!(Failure::leaf(1).with_origin("feed").origin(), Some("feed"));
    /// ```
    pub fn origin(&self) -> Option<&str> {
        self.extras()?.origin.as_deref()
    }
}
