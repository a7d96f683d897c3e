//! The owner of a tree of failures.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::ops::Deref;

use crate::node::{Children, Kind, Slot};
use crate::{AnyError, Cancelled, EmptyGroup, LibraryFailure, Node};

/// A failure, or a whole tree of them, one pointer wide.
///
/// `?` makes one out of an error, and passes one on as it is. What is in it is asked of the [`Node`] that it
/// dereferences to.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::Failure;
///
/// fn port(text: &str) -> Result<u16, Failure> {
///     Ok(text.trim().parse::<u16>()?)
/// }
///
/// let group = Failure::group("reading the settings", [port("x").unwrap_err(), port("").unwrap_err()])?;
/// assert_eq!(group.to_string(), "reading the settings (2 sub-errors)");
/// assert_eq!(size_of::<Result<(), Failure>>(), size_of::<usize>());
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
pub struct Failure<E = AnyError>(
    /// A box of its own, so that the failure of a call that goes well costs one word.
    pub(crate) Box<Node<E>>,
);

impl<E> Failure<E> {
    /// Makes a failure out of one error.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert_eq!(Failure::leaf("no route").into_leaf().ok(), Some("no route"));
    /// ```
    pub fn leaf(error: E) -> Self {
        Self::from_node(Node(Slot::Leaf(error)))
    }

    /// Makes a group out of failures, which keep their order and their shape.
    ///
    /// # Errors
    ///
    /// There is no group of nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("close", [Failure::leaf(1), Failure::leaf(2)])?;
    /// assert_eq!(group.to_string(), "close (2 sub-errors)");
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn group(
        message: impl Into<Cow<'static, str>>,
        failures: impl IntoIterator<Item = Self>,
    ) -> Result<Self, EmptyGroup> {
        Self::group_of_nodes(
            message.into(),
            failures.into_iter().map(|failure| *failure.0),
        )
    }

    /// Makes a group out of bare errors, without making a failure out of each first.
    ///
    /// # Errors
    ///
    /// There is no group of nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group_of("two feeds", ["no route", "timed out"])?;
    /// assert_eq!(group.to_string(), "two feeds (2 sub-errors)");
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn group_of(
        message: impl Into<Cow<'static, str>>,
        errors: impl IntoIterator<Item = E>,
    ) -> Result<Self, EmptyGroup> {
        let nodes = errors.into_iter().map(|error| Node(Slot::Leaf(error)));
        Self::group_of_nodes(message.into(), nodes)
    }

    /// Makes a failure out of the `Cancelled` that one was given.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Cancelled, Failure};
    ///
    /// fn pass_on(outcome: Result<u8, Cancelled>) -> Result<u8, Failure> {
    ///     outcome.map_err(Failure::cancelled)
    /// }
    /// # let reason = trionics_errgroup::CancelReason::Deadline;
    /// # let given = Cancelled::__new(reason, std::panic::Location::caller());
    /// # assert!(pass_on(Err(given)).unwrap_err().is_cancelled());
    /// ```
    pub fn cancelled(cancelled: Cancelled) -> Self {
        Self::from_node(Node::rich(Kind::Cancelled(cancelled)))
    }

    /// Makes a failure of the library's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, LibraryFailure};
    ///
    /// let failure: Failure = Failure::library(LibraryFailure::NotStarted);
    /// assert!(failure.as_library().is_some());
    /// ```
    pub fn library(failure: LibraryFailure) -> Self {
        Self::from_node(Node::rich(Kind::Library(failure)))
    }

    /// Adds a note: something that the reader should know.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::leaf("no route").with_note("the third attempt");
    /// assert!(failure.notes().eq(["the third attempt"]));
    /// ```
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Cow<'static, str>>) -> Self {
        self.0.extras_mut().said.notes.push(note.into());
        self
    }

    /// Names the task or scope from which the failure comes; the last name given stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert_eq!(Failure::leaf("no route").with_origin("feed").origin(), Some("feed"));
    /// ```
    #[must_use]
    pub fn with_origin(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.0.extras_mut().said.origin = Some(name.into());
        self
    }

    /// Names the error that caused this failure; the last cause given stays.
    ///
    /// It is the [`source`](Error::source) of a group and of a leaf that has none of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::group("reload", [Failure::leaf(1)])?.with_cause(std::fmt::Error);
    /// assert!(failure.cause().is_some_and(|cause| cause.is::<std::fmt::Error>()));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    #[must_use]
    pub fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.extras_mut().said.cause = Some(Arc::new(cause));
        self
    }

    /// The failure's direct children as failures of their own.
    ///
    /// # Errors
    ///
    /// Gives the failure back if it is not a group.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("two feeds", [Failure::leaf(1), Failure::leaf(2)]).unwrap();
    /// let children = group.into_children().unwrap();
    /// assert_eq!(children.into_iter().filter_map(|child| child.into_leaf().ok()).collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn into_children(self) -> Result<Vec<Self>, Self> {
        match self.0.0 {
            Slot::Rich(mut rich) if matches!(rich.kind, Kind::Group { .. }) => Ok(rich
                .take_children()
                .into_iter()
                .map(Self::from_node)
                .collect()),
            slot => Err(Self::from_node(Node(slot))),
        }
    }

    /// Makes a group like this one out of other failures: its message and its name, but not its notes or contexts.
    ///
    /// The derived group of a leaf is called after nothing: its message is empty.
    ///
    /// # Errors
    ///
    /// There is no group of nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("reload", [Failure::leaf(1)])?.with_origin("settings").with_note("at noon");
    /// let derived = group.derive([Failure::leaf("one")])?;
    /// assert_eq!((derived.message(), derived.origin()), (Some("reload"), Some("settings")));
    /// assert_eq!(derived.notes().len(), 0);
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn derive<E2>(
        &self,
        failures: impl IntoIterator<Item = Failure<E2>>,
    ) -> Result<Failure<E2>, EmptyGroup> {
        let message = match &self.0.0 {
            Slot::Rich(rich) => match &rich.kind {
                Kind::Group { message, .. } => message.clone(),
                _ => Cow::Borrowed(""),
            },
            Slot::Leaf(_) => Cow::Borrowed(""),
        };
        let derived = Failure::group(message, failures)?;
        Ok(
            match self.extras().and_then(|extras| extras.said.origin.clone()) {
                Some(origin) => derived.with_origin(origin),
                None => derived,
            },
        )
    }

    /// The very error that the leaf was made of. What else was said of it is dropped.
    ///
    /// # Errors
    ///
    /// Gives the failure back if it is not an error: a group, a `Cancelled`, a failure of the library's own.
    pub fn into_leaf(self) -> Result<E, Self> {
        match self.0.0 {
            Slot::Leaf(error) => Ok(error),
            Slot::Rich(mut rich) if matches!(rich.kind, Kind::Leaf(_)) => match rich.take_kind() {
                Kind::Leaf(error) => Ok(error),
                _ => unreachable!("the kind was looked at just before"),
            },
            slot @ Slot::Rich(_) => Err(Self::from_node(Node(slot))),
        }
    }

    pub(crate) fn from_node(node: Node<E>) -> Self {
        Self(Box::new(node))
    }

    pub(crate) fn group_of_nodes(
        message: Cow<'static, str>,
        mut nodes: impl Iterator<Item = Node<E>>,
    ) -> Result<Self, EmptyGroup> {
        let first = nodes.next().ok_or(EmptyGroup)?;
        let children = match nodes.next() {
            None => Children::One([first]),
            Some(second) => {
                let mut all = Vec::with_capacity(nodes.size_hint().0.saturating_add(2));
                all.push(first);
                all.push(second);
                all.extend(nodes);
                Children::Many(all)
            }
        };
        Ok(Self::from_node(Node::rich(Kind::Group {
            message,
            children,
        })))
    }
}

impl Failure<AnyError> {
    /// Makes a failure out of one error of any type, as `?` does.
    ///
    /// A [`LibraryFailure`] stays one, and a [`ChildEnded`](crate::ChildEnded) becomes one.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::new(std::fmt::Error).is::<std::fmt::Error>());
    /// ```
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        match LibraryFailure::of(&error) {
            Some(failure) => Self::library(failure),
            None => Self::leaf(AnyError::new(error)),
        }
    }

    /// Makes a failure out of a text, where no error type is worth its while.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert_eq!(Failure::text("no route").to_string(), "no route");
    /// ```
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Text(text.into()))
    }
}

impl<E> Deref for Failure<E> {
    type Target = Node<E>;

    fn deref(&self) -> &Node<E> {
        &self.0
    }
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::leaf(error)
    }
}

impl<X: Error + Send + Sync + 'static> From<X> for Failure<AnyError> {
    fn from(error: X) -> Self {
        Self::new(error)
    }
}

/// An error that is nothing but a text.
#[derive(Debug)]
struct Text(Cow<'static, str>);

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Text {}
