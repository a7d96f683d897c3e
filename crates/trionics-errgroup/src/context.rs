//! What was being handled when a failure arose.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::node::{Attached, Kind, Slot, Target};
use crate::{Failure, Node};

/// A failure that was being handled when another one arose.
///
/// An error need not be `Clone`, and when a body fails and its exit fails too, both stand in one group.
/// So a context is either kept inside the node that it explains, or it refers by its [`FailureMark`] to a node in another
/// place, usually the one beside. Moving, splitting, collapsing and mapping keep such a reference; it leads nowhere
/// once the node that it refers to has been taken out of the tree.
///
/// # Examples
///
/// See [`FailureMark`].
pub struct FailureContext<'a, E>(&'a Attached<E>);

/// How a context relates to the node that it explains.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{ContextRelation, Failure};
///
/// let failure = Failure::leaf("gave up").with_handled(Failure::leaf("would block"));
/// assert!(failure.contexts().all(|context| context.relation() == ContextRelation::Handled));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContextRelation {
    /// The context was on its way out when the node arose, so the node may mask it.
    Pending,
    /// The context had been dealt with: it explains the node, and never comes out again.
    Handled,
    /// The context is the cancellation that masked the node.
    MaskedBy,
}

/// A reference to a node in another place.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::Failure;
///
/// let mut read = Failure::leaf("read failed");
/// let close = Failure::leaf("close failed").with_context_at(read.mark());
/// let both = Failure::group("feed", [read, close])?;
///
/// let context = both.children()[1].context().unwrap();
/// assert_eq!(context.find_in(&both).and_then(|node| node.as_leaf()), Some(&"read failed"));
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
#[derive(Clone)]
pub struct FailureMark(
    /// Only its address counts. It is not zero-sized, so that the address is its own.
    Arc<u8>,
);

impl<'a, E> FailureContext<'a, E> {
    /// How the context relates to its node.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, ContextRelation};
    ///
    /// let failure = Failure::leaf("close failed").with_context(Failure::leaf("read failed"));
    /// assert_eq!(failure.context().unwrap().relation(), ContextRelation::Pending);
    /// ```
    pub fn relation(&self) -> ContextRelation {
        self.0.relation
    }

    /// The context, if it is kept in the node that it explains.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::leaf("close failed").with_context(Failure::leaf("read failed"));
    /// assert_eq!(failure.context().unwrap().node().unwrap().as_leaf(), Some(&"read failed"));
    /// ```
    pub fn node(&self) -> Option<&'a Node<E>> {
        match &self.0.target {
            Target::Owned(node) => Some(node),
            Target::Elsewhere(_) => None,
        }
    }

    /// The reference to the context, if it is in another place.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::leaf("close failed").with_context(Failure::leaf("read failed"));
    /// assert!(failure.context().unwrap().mark().is_none());
    /// ```
    pub fn mark(&self) -> Option<&'a FailureMark> {
        match &self.0.target {
            Target::Owned(_) => None,
            Target::Elsewhere(mark) => Some(mark),
        }
    }

    /// The context, wherever in the tree it is.
    ///
    /// # Examples
    ///
    /// See [`FailureMark`].
    pub fn find_in(&self, tree: &'a Node<E>) -> Option<&'a Node<E>> {
        match &self.0.target {
            Target::Owned(node) => Some(node),
            Target::Elsewhere(mark) => tree.find_marked(mark),
        }
    }
}

impl<E> Clone for FailureContext<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for FailureContext<'_, E> {}

impl<E: fmt::Debug> fmt::Debug for FailureContext<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("FailureContext");
        shown.field("relation", &self.relation());
        match &self.0.target {
            Target::Owned(node) => shown.field("node", node),
            Target::Elsewhere(mark) => shown.field("mark", mark),
        };
        shown.finish()
    }
}

impl FailureMark {
    pub(crate) fn new() -> Self {
        Self(Arc::new(0))
    }

    /// What the mark is sorted by in a table of marks.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl PartialEq for FailureMark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for FailureMark {}

impl fmt::Debug for FailureMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FailureMark({:#x})", self.address())
    }
}

impl<E> Failure<E> {
    /// Says what was on its way out when this failure arose, for instance the body's failure when an exit failed.
    ///
    /// If this failure is a `Cancelled`, it *masks* the context, and
    /// [`maybe_raise_from_masking_exc`](crate::maybe_raise_from_masking_exc) brings the context out again.
    /// Further contexts are further away.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::leaf("close failed").with_context(Failure::leaf("read failed"));
    /// assert_eq!(failure.leaves().count(), 1);
    /// assert_eq!(failure.contexts().count(), 1);
    /// ```
    #[must_use]
    pub fn with_context(mut self, context: Self) -> Self {
        self.0
            .attach(ContextRelation::Pending, Target::Owned(*context.0));
        self
    }

    /// Says what had been dealt with when this failure arose: it explains the failure and never comes out again.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, ContextRelation};
    ///
    /// let failure = Failure::leaf("gave up waiting").with_handled(Failure::leaf("would block"));
    /// assert_eq!(failure.context().unwrap().relation(), ContextRelation::Handled);
    /// ```
    #[must_use]
    pub fn with_handled(mut self, handled: Self) -> Self {
        self.0
            .attach(ContextRelation::Handled, Target::Owned(*handled.0));
        self
    }

    /// Says that what was on its way out when this failure arose is in another place, where it bears the mark.
    ///
    /// # Examples
    ///
    /// See [`FailureMark`].
    #[must_use]
    pub fn with_context_at(mut self, mark: FailureMark) -> Self {
        self.0
            .attach(ContextRelation::Pending, Target::Elsewhere(mark));
        self
    }

    /// The mark under which other nodes can refer to this one.
    ///
    /// # Examples
    ///
    /// See [`FailureMark`].
    pub fn mark(&mut self) -> FailureMark {
        self.0.mark()
    }
}

impl<E> Node<E> {
    /// What was being handled when the node arose, nearest first.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let failure = Failure::leaf(3).with_context(Failure::leaf(2)).with_context(Failure::leaf(1));
    /// assert!(failure.contexts().filter_map(|context| context.node()?.as_leaf()).eq(&[2, 1]));
    /// ```
    pub fn contexts(
        &self,
    ) -> impl ExactSizeIterator<Item = FailureContext<'_, E>> + DoubleEndedIterator {
        self.attached().iter().map(FailureContext)
    }

    /// What was being handled when the node arose; the nearest, if there are several.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).context().is_none());
    /// ```
    pub fn context(&self) -> Option<FailureContext<'_, E>> {
        self.attached().first().map(FailureContext)
    }

    /// The node in this tree, contexts included, that bears the mark.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let mut failure = Failure::leaf(1);
    /// let mark = failure.mark();
    /// assert!(failure.find_marked(&mark).is_some());
    /// assert!(Failure::leaf(1).find_marked(&mark).is_none());
    /// ```
    pub fn find_marked(&self, mark: &FailureMark) -> Option<&Self> {
        let mut pending = alloc::vec![self];
        while let Some(node) = pending.pop() {
            if node.marks().contains(mark) {
                return Some(node);
            }
            pending.extend(node.children());
            pending.extend(node.contexts().filter_map(|context| context.node()));
        }
        None
    }

    pub(crate) fn attached(&self) -> &[Attached<E>] {
        self.extras().map_or(&[], |extras| &extras.contexts)
    }

    pub(crate) fn attach(&mut self, relation: ContextRelation, target: Target<E>) {
        let contexts = &mut self.extras_mut().contexts;
        contexts.push(Attached { relation, target });
    }

    pub(crate) fn marks(&self) -> &[FailureMark] {
        self.extras().map_or(&[], |extras| &extras.said.marks)
    }

    pub(crate) fn mark(&mut self) -> FailureMark {
        let marks = &mut self.extras_mut().said.marks;
        match marks.first() {
            Some(mark) => mark.clone(),
            None => {
                let mark = FailureMark::new();
                marks.push(mark.clone());
                mark
            }
        }
    }

    /// The children of a group to be changed where they stand, for operations that keep each child's place.
    pub(crate) fn children_mut(&mut self) -> &mut [Self] {
        match &mut self.0 {
            Slot::Rich(rich) => match &mut rich.kind {
                Kind::Group { children, .. } => children.as_mut_slice(),
                _ => &mut [],
            },
            Slot::Leaf(_) => &mut [],
        }
    }

    /// The contexts that are kept in the node, to be changed where they stand.
    pub(crate) fn attached_mut(&mut self) -> &mut Vec<Attached<E>> {
        &mut self.extras_mut().contexts
    }
}
