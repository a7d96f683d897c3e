//! Telling failures from cancellations.

use crate::{Failure, Node, maybe_raise_from_masking_exc};

/// Whether the failure is a group, at any depth, of nothing but `Cancelled`s.
///
/// A lone `Cancelled` is no group; [`Node::is_all_cancelled`] counts it in.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, is_multi_cancelled};
///
/// assert!(!is_multi_cancelled(&Failure::leaf(1)));
/// ```
pub fn is_multi_cancelled<E>(failure: &Node<E>) -> bool {
    failure.is_group() && failure.is_all_cancelled()
}

impl<E> Node<E> {
    /// Whether every leaf is a `Cancelled`, be it one or many.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(!Failure::leaf(1).is_all_cancelled());
    /// ```
    pub fn is_all_cancelled(&self) -> bool {
        self.leaves().all(Self::is_cancelled)
    }

    /// Whether any leaf is a `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(!Failure::leaf(1).has_cancelled());
    /// ```
    pub fn has_cancelled(&self) -> bool {
        self.leaves().any(Self::is_cancelled)
    }
}

impl<E> Failure<E> {
    /// Parts the tree into its `Cancelled`s and the rest.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let (cancelled, rest) = Failure::leaf(1).split_cancelled();
    /// assert!(cancelled.is_none() && rest.is_some());
    /// ```
    pub fn split_cancelled(self) -> (Option<Self>, Option<Self>) {
        self.split(Node::is_cancelled)
    }

    /// The `Cancelled`s, in the groups in which they stand.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).cancelled_part().is_none());
    /// ```
    pub fn cancelled_part(self) -> Option<Self> {
        self.subgroup(Node::is_cancelled)
    }

    /// Takes the `Cancelled`s out of the tree, but no failure with them: one that is masked comes out in its place.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).without_cancelled().is_some());
    /// ```
    pub fn without_cancelled(self) -> Option<Self> {
        maybe_raise_from_masking_exc(self).split_cancelled().1
    }

    /// Takes the cancellations out of an outcome: nothing is left of one that was only cancelled.
    ///
    /// Another name for [`without_cancelled`](Self::without_cancelled), for the place where a cancellation ends.
    /// On a result, [`OutcomeExt::absorb_cancelled`](crate::OutcomeExt::absorb_cancelled) gives `Ok(None)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).absorb_cancelled().is_some());
    /// ```
    pub fn absorb_cancelled(self) -> Option<Self> {
        self.without_cancelled()
    }
}
