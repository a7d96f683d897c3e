//! The nodes that trees of failures are made of, and how they are freed.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::error::Error;
use core::{array, mem, slice};

use crate::{AnyError, Cancelled, ContextRelation, Failure, FailureMark, LibraryFailure};

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

/// What is known about a node beside what it is.
pub(crate) struct Extras<E> {
    pub(crate) said: Said,
    /// What was being handled when the node arose, nearest first.
    pub(crate) contexts: Vec<Attached<E>>,
}

/// What can be said about a node of any type.
#[derive(Clone, Default)]
pub(crate) struct Said {
    /// In the order in which they were added.
    pub(crate) notes: Vec<Cow<'static, str>>,
    /// The task or scope from which the node came.
    pub(crate) origin: Option<Cow<'static, str>>,
    /// The error that was named as the cause. Shared by the halves of a split.
    pub(crate) cause: Option<Arc<dyn Error + Send + Sync>>,
    /// The addresses under which other nodes refer to this one. More than one only after collapsing.
    pub(crate) marks: Vec<FailureMark>,
    /// How many groups of one around the node were taken away by a collapse that marks.
    pub(crate) collapsed: usize,
}

/// A context where it is kept.
pub(crate) struct Attached<E> {
    pub(crate) relation: ContextRelation,
    pub(crate) target: Target<E>,
}

/// Where a context is.
pub(crate) enum Target<E> {
    /// In the context's node itself.
    Owned(Node<E>),
    /// In another place, usually beside the node in the same group: errors are not copied.
    Elsewhere(FailureMark),
}

impl<E> Default for Extras<E> {
    fn default() -> Self {
        Self {
            said: Said::default(),
            contexts: Vec::new(),
        }
    }
}

impl<E> Kind<E> {
    /// Stands where a kind was taken out.
    pub(crate) const VACANT: Self = Self::Group {
        message: Cow::Borrowed(""),
        children: Children::EMPTY,
    };
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
    pub(crate) fn into_parts(mut self) -> (Kind<E>, Option<Box<Extras<E>>>) {
        (self.take_kind(), self.extras.take())
    }

    pub(crate) fn take_kind(&mut self) -> Kind<E> {
        mem::replace(&mut self.kind, Kind::VACANT)
    }

    pub(crate) fn is_group(&self) -> bool {
        matches!(self.kind, Kind::Group { .. })
    }

    /// Gives a group new children; nothing else has any.
    pub(crate) fn put_children(&mut self, new: Children<E>) {
        if let Kind::Group { children, .. } = &mut self.kind {
            *children = new;
        }
    }

    pub(crate) fn take_children(&mut self) -> Children<E> {
        match &mut self.kind {
            Kind::Group { children, .. } => children.take(),
            _ => Children::EMPTY,
        }
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

    /// Makes room to say something about the node, where it stands.
    pub(crate) fn make_rich(&mut self) -> &mut Rich<E> {
        if let Slot::Leaf(_) = self.0 {
            let room = Self::rich(Kind::VACANT);
            if let Slot::Leaf(error) = mem::replace(self, room).0
                && let Slot::Rich(rich) = &mut self.0
            {
                rich.kind = Kind::Leaf(error);
            }
        }
        match &mut self.0 {
            Slot::Rich(rich) => rich,
            Slot::Leaf(_) => unreachable!("a bare error was made rich just before"),
        }
    }

    pub(crate) fn extras_mut(&mut self) -> &mut Extras<E> {
        self.make_rich().extras.get_or_insert_default()
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
            Some(extras) => extras.said.notes.iter(),
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
        self.extras()?.said.origin.as_deref()
    }

    /// The error that was named as the cause, if one was.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).cause().is_none());
    /// ```
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.extras()?.said.cause.as_deref()
    }

    /// How many groups of one around the node a collapse took away, if it was to mark what it does.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, collapse_eg};
    ///
    /// let collapsed = collapse_eg(Failure::group("nursery", [Failure::leaf(1)])?);
    /// assert_eq!((collapsed.as_leaf(), collapsed.n_collapsed()), (Some(&1), 1));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn n_collapsed(&self) -> usize {
        self.extras().map_or(0, |extras| extras.said.collapsed)
    }
}

impl Node<AnyError> {
    /// Whether the node is an error of type `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::new(std::fmt::Error).is::<std::fmt::Error>());
    /// ```
    pub fn is<T: Error + Send + Sync + 'static>(&self) -> bool {
        self.downcast_ref::<T>().is_some()
    }

    /// The error, if the node is one of type `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::new(std::fmt::Error).downcast_ref::<std::num::ParseIntError>().is_none());
    /// ```
    pub fn downcast_ref<T: Error + Send + Sync + 'static>(&self) -> Option<&T> {
        match self.as_library() {
            Some(failure) => failure.as_error().downcast_ref(),
            None => self.as_leaf()?.downcast_ref(),
        }
    }

    /// A group's cause if one was set, else its first error; a leaf's own source, else its cause.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
    /// assert!(group.source().is_some_and(|error| error.is::<std::fmt::Error>()));
    /// assert!(group.children()[0].source().is_none());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        source_of(self, |error| error.as_error())
    }
}

impl<E: Error + 'static> Error for Node<E> {
    /// A group's cause if one was set, else its first error; a leaf's own source, else its cause.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        source_of(self, |error| error)
    }
}

fn source_of<E>(
    node: &Node<E>,
    as_error: fn(&E) -> &(dyn Error + 'static),
) -> Option<&(dyn Error + 'static)> {
    let cause = node.cause().map(|cause| cause as &(dyn Error + 'static));
    match node.as_leaf() {
        Some(error) => as_error(error).source().or(cause),
        None => cause.or_else(|| node.errors().next().map(as_error)),
    }
}

impl<E: Error + 'static> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        (**self).source()
    }
}
