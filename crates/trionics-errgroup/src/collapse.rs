//! Taking away the groups that hold a single failure.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::marker::PhantomData;

use crate::node::{Children, Extras, Kind, Slot};
use crate::{AnyError, Failure, Node};

/// Takes away every group of one, at any depth, whoever made it.
///
/// What is left is what it would have been without the nurseries around it: `[[E]]` becomes the leaf `E`, whose type
/// can be matched, `[[E], [F]]` becomes `[E, F]`, `[[E, F]]` becomes the inner group `[E, F]`, and `[E, F]` stays what it is.
/// The name, the notes and the contexts of a group that was taken away go to what it held, unless that has a name
/// already; the group does not become a cause or a context. How many were taken away stays readable in
/// [`Node::n_collapsed`] and is printed by the tree. [`Collapse`] has ways to spare some groups and to leave no mark.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, collapse_eg};
///
/// let failure = Failure::group("outer", [Failure::group("inner", [Failure::leaf("no route")])?])?;
/// assert_eq!(collapse_eg(failure).into_leaf().ok(), Some("no route"));
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
pub fn collapse_eg<E>(failure: Failure<E>) -> Failure<E> {
    Collapse::new().apply(failure)
}

/// Collapses like [`collapse_eg`], and says whether there was anything to collapse.
///
/// `[[E, F]]` counts as collapsed, to the group `[E, F]`.
///
/// # Errors
///
/// The very same failure, if there was no group of one in it.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, get_collapsed_eg};
///
/// let wide = Failure::group("nursery", [Failure::leaf(1), Failure::leaf(2)])?;
/// let same = get_collapsed_eg(wide).unwrap_err();
/// let nested = Failure::group("outer", [same])?;
/// assert_eq!(get_collapsed_eg(nested).unwrap().message(), Some("nursery"));
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
pub fn get_collapsed_eg<E>(failure: Failure<E>) -> Result<Failure<E>, Failure<E>> {
    Collapse::new().get(failure)
}

/// A collapse with an ignore list, or without marks.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Collapse, Failure};
///
/// let collapse = Collapse::new().ignore(|node| node.as_leaf() == Some(&1)).unmarked();
///
/// let one = collapse.apply(Failure::group("nursery", [Failure::leaf(1)])?);
/// assert!(one.is_group());
/// let two = collapse.apply(Failure::group("nursery", [Failure::leaf(2)])?);
/// assert_eq!((two.as_leaf(), two.n_collapsed()), (Some(&2), 0));
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
#[must_use = "a collapse does nothing until it is applied"]
pub struct Collapse<E, I = NothingIgnored> {
    ignored: I,
    marks: bool,
    errors: PhantomData<fn(&E)>,
}

/// Which results of a collapse are not wanted: the group is then kept as it was. [`Collapse`] implements it on the way.
pub trait Ignore<E> {
    /// Whether a group that would collapse to this node is to be kept.
    fn ignores(&self, node: &Node<E>) -> bool;
}

/// The condition of [`Collapse::ignore_type`].
type Condition = fn(&Node<AnyError>) -> bool;

/// The empty ignore list.
#[derive(Clone, Copy, Debug)]
pub struct NothingIgnored;

/// An ignore list with one more entry.
#[derive(Clone, Copy)]
pub struct Ignored<I, P> {
    others: I,
    condition: P,
}

impl<E> Ignore<E> for NothingIgnored {
    fn ignores(&self, _: &Node<E>) -> bool {
        false
    }
}

impl<E, I: Ignore<E>, P: Fn(&Node<E>) -> bool> Ignore<E> for Ignored<I, P> {
    fn ignores(&self, node: &Node<E>) -> bool {
        (self.condition)(node) || self.others.ignores(node)
    }
}

impl<I: fmt::Debug, P> fmt::Debug for Ignored<I, P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Ignored");
        shown.field("others", &self.others).finish_non_exhaustive()
    }
}

impl<E> Collapse<E> {
    /// A collapse that spares no group of one, and marks what it does.
    ///
    /// # Examples
    ///
    /// See [`Collapse`].
    pub fn new() -> Self {
        Self {
            ignored: NothingIgnored,
            marks: true,
            errors: PhantomData,
        }
    }
}

impl<E> Default for Collapse<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E, I> Collapse<E, I> {
    /// Keeps a failure as it is if it would, as a whole, collapse to a node for which the condition holds.
    ///
    /// Groups of one inside a failure that stays a group of several are not asked about.
    ///
    /// # Examples
    ///
    /// See [`Collapse`].
    pub fn ignore<P: Fn(&Node<E>) -> bool>(self, condition: P) -> Collapse<E, Ignored<I, P>> {
        Collapse {
            ignored: Ignored {
                others: self.ignored,
                condition,
            },
            marks: self.marks,
            errors: PhantomData,
        }
    }

    /// Leaves no mark of the groups that are taken away.
    ///
    /// # Examples
    ///
    /// See [`Collapse`].
    pub fn unmarked(mut self) -> Self {
        self.marks = false;
        self
    }
}

impl<I> Collapse<AnyError, I> {
    /// Keeps a failure as it is if it would, as a whole, collapse to an error of type `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Collapse, Failure};
    ///
    /// let group = Failure::group("nursery", [Failure::new(std::fmt::Error)])?;
    /// assert!(Collapse::new().ignore_type::<std::fmt::Error>().apply(group).is_group());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn ignore_type<T: Error + Send + Sync + 'static>(
        self,
    ) -> Collapse<AnyError, Ignored<I, Condition>> {
        self.ignore(Node::is::<T>)
    }
}

impl<E, I: Ignore<E>> Collapse<E, I> {
    /// Collapses the failure.
    ///
    /// # Examples
    ///
    /// See [`Collapse`].
    pub fn apply(&self, failure: Failure<E>) -> Failure<E> {
        self.get(failure).unwrap_or_else(|same| same)
    }

    /// Collapses the failure, and says whether there was anything to collapse.
    ///
    /// # Errors
    ///
    /// The very same failure, if there was no group of one in it, or if it was to be ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Collapse, Failure};
    ///
    /// assert!(Collapse::new().get(Failure::leaf(1)).is_err());
    /// ```
    pub fn get(&self, mut failure: Failure<E>) -> Result<Failure<E>, Failure<E>> {
        if failure.children().len() == 1 && self.ignored.ignores(end_of_chain(&failure)) {
            return Err(failure);
        }
        let mut has_changed = false;
        let mut pending: Vec<&mut Node<E>> = Vec::new();
        let mut node = &mut *failure.0;
        loop {
            has_changed |= collapse_chain(node, self.marks);
            pending.extend(node.children_mut());
            match pending.pop() {
                Some(next) => node = next,
                None => break,
            }
        }
        if has_changed {
            Ok(failure)
        } else {
            Err(failure)
        }
    }
}

impl<E, I: Clone> Clone for Collapse<E, I> {
    fn clone(&self) -> Self {
        Self {
            ignored: self.ignored.clone(),
            marks: self.marks,
            errors: PhantomData,
        }
    }
}

impl<E, I: fmt::Debug> fmt::Debug for Collapse<E, I> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Collapse")
            .field("ignored", &self.ignored)
            .field("marks", &self.marks)
            .finish()
    }
}

/// What the groups of one that start here hold in the end.
fn end_of_chain<E>(mut node: &Node<E>) -> &Node<E> {
    while let [only] = node.children() {
        node = only;
    }
    node
}

/// Puts what the groups of one that start here hold in the end in their place, and says whether there were any.
fn collapse_chain<E>(node: &mut Node<E>, marks: bool) -> bool {
    let mut n_collapsed = 0;
    // What was said of the groups that are taken away, outermost first.
    let mut left_behind: Vec<Box<Extras<E>>> = Vec::new();
    while let Slot::Rich(rich) = &mut node.0
        && let Kind::Group { children, .. } = &mut rich.kind
        && let Children::One(_) = children
        && let Children::One([only]) = children.take()
    {
        if let Some(extras) = rich.extras.take() {
            n_collapsed += extras.said.collapsed;
            left_behind.push(extras);
        }
        n_collapsed += 1;
        *node = only;
    }
    while let Some(nearest) = left_behind.pop() {
        node.extras_mut().inherit(*nearest);
    }
    if n_collapsed > 0 && marks {
        node.extras_mut().said.collapsed += n_collapsed;
    }
    n_collapsed > 0
}

impl<E> Extras<E> {
    /// Takes over what was said of a group around, without giving up anything of its own.
    pub(crate) fn inherit(&mut self, outer: Self) {
        let said = &mut self.said;
        said.notes.extend(outer.said.notes);
        said.marks.extend(outer.said.marks);
        said.origin = said.origin.take().or(outer.said.origin);
        match (&said.cause, outer.said.cause) {
            (None, cause) => said.cause = cause,
            (Some(_), Some(second)) => said.notes.push(format!("also caused by: {second}").into()),
            (Some(_), None) => {}
        }
        self.contexts.extend(outer.contexts);
    }
}
