//! Bringing out the failures that a cancellation masks.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::marker::PhantomData;

use crate::node::{Attached, Target};
use crate::rebuild::{Done, Rebuild, rebuild};
use crate::{AnyError, ContextRelation, Failure, Node};

/// Brings out, in its place, every failure that a cancellation masks.
///
/// A failure is masked when it was on its way out, a teardown was then cancelled, and what came out is the `Cancelled`
/// (or a group of nothing but `Cancelled`s) with the failure as its pending [context](Failure::with_context).
/// The failure takes the place of the `Cancelled`, which becomes a context of the failure's own; see [`Node::masked_by`].
/// It does so at any depth, through several `Cancelled`s in a row, and for each of several in a group.
/// A failure that [had been dealt with](Failure::with_handled) never comes out, and a `Cancelled` that masks none stays.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, maybe_raise_from_masking_exc};
/// # use trionics_errgroup::{CancelReason, Cancelled};
///
/// # let cancelled = Cancelled::__new(CancelReason::Deadline, std::panic::Location::caller());
/// let failure = Failure::cancelled(cancelled).with_context(Failure::leaf("read failed"));
/// let unmasked = maybe_raise_from_masking_exc(failure);
/// assert_eq!(unmasked.as_leaf(), Some(&"read failed"));
/// assert!(unmasked.masked_by().unwrap().is_cancelled());
/// ```
pub fn maybe_raise_from_masking_exc<E>(failure: Failure<E>) -> Failure<E> {
    Unmask::new().apply(failure)
}

/// A failure and the cancellation that masks it.
///
/// # Examples
///
/// See [`Unmask::report`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Masked<'a, E> {
    /// The `Cancelled`, or a group of them, that is in the failure's place.
    pub masker: &'a Node<E>,
    /// The failure that would come out.
    pub failure: &'a Node<E>,
}

/// An unmasking that spares some pairs, or only reports.
///
/// # Examples
///
/// A lock that was busy is no failure worth knowing about when the wait for it was cancelled:
///
/// ```
/// use trionics_errgroup::{Failure, Unmask};
/// # use trionics_errgroup::{CancelReason, Cancelled};
///
/// # let cancelled = Cancelled::__new(CancelReason::Deadline, std::panic::Location::caller());
/// let failure = Failure::cancelled(cancelled).with_context(Failure::leaf("would block"));
///
/// let unmask = Unmask::new().keep_pair(|_, masked| masked.as_leaf() == Some(&"would block"));
/// assert!(unmask.report(&failure).is_empty());
/// assert!(unmask.apply(failure).is_cancelled());
/// ```
#[must_use = "an unmasking does nothing until it is applied"]
pub struct Unmask<E, K = NoPairKept> {
    kept: K,
    errors: PhantomData<fn(&E)>,
}

/// Which pairs of a cancellation and a failure are not to be unmasked; [`Unmask`] implements it on the way.
pub trait KeepPair<E> {
    /// Whether the failure is to stay masked by this `Cancelled`, or group of them.
    fn keeps(&self, masker: &Node<E>, masked: &Node<E>) -> bool;
}

/// The condition of [`Unmask::keep_type`].
type PairCondition = fn(&Node<AnyError>, &Node<AnyError>) -> bool;

/// The empty list of pairs not to unmask.
#[derive(Clone, Copy, Debug)]
pub struct NoPairKept;

/// A list of pairs not to unmask, with one more entry.
#[derive(Clone, Copy)]
pub struct PairKept<K, P> {
    others: K,
    condition: P,
}

impl<E> KeepPair<E> for NoPairKept {
    fn keeps(&self, _: &Node<E>, _: &Node<E>) -> bool {
        false
    }
}

impl<E, K: KeepPair<E>, P: Fn(&Node<E>, &Node<E>) -> bool> KeepPair<E> for PairKept<K, P> {
    fn keeps(&self, masker: &Node<E>, masked: &Node<E>) -> bool {
        (self.condition)(masker, masked) || self.others.keeps(masker, masked)
    }
}

impl<K: fmt::Debug, P> fmt::Debug for PairKept<K, P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("PairKept");
        shown.field("others", &self.others).finish_non_exhaustive()
    }
}

impl<E> Unmask<E> {
    /// An unmasking that spares nothing.
    ///
    /// # Examples
    ///
    /// See [`Unmask`].
    pub fn new() -> Self {
        Self {
            kept: NoPairKept,
            errors: PhantomData,
        }
    }
}

impl<E> Default for Unmask<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E, K> Unmask<E, K> {
    /// Leaves a failure masked if the condition holds for what masks it and for the failure, in this order.
    ///
    /// From then on the failure counts as [dealt with](ContextRelation::Handled), so that nothing brings it out later.
    ///
    /// # Examples
    ///
    /// See [`Unmask`].
    pub fn keep_pair<P: Fn(&Node<E>, &Node<E>) -> bool>(
        self,
        condition: P,
    ) -> Unmask<E, PairKept<K, P>> {
        Unmask {
            kept: PairKept {
                others: self.kept,
                condition,
            },
            errors: PhantomData,
        }
    }
}

impl<K> Unmask<AnyError, K> {
    /// Leaves a failure masked if it holds errors of type `T` and nothing else.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, Unmask};
    /// # use trionics_errgroup::{CancelReason, Cancelled};
    ///
    /// # let cancelled = Cancelled::__new(CancelReason::Deadline, std::panic::Location::caller());
    /// let failure = Failure::cancelled(cancelled).with_context(Failure::new(std::fmt::Error));
    /// assert!(Unmask::new().keep_type::<std::fmt::Error>().apply(failure).is_cancelled());
    /// ```
    pub fn keep_type<T: Error + Send + Sync + 'static>(
        self,
    ) -> Unmask<AnyError, PairKept<K, PairCondition>> {
        self.keep_pair(|_, masked| masked.leaves().all(Node::is::<T>))
    }
}

impl<E, K: KeepPair<E>> Unmask<E, K> {
    /// Brings out what is masked; a failure in which nothing is comes back as it was.
    ///
    /// # Examples
    ///
    /// See [`Unmask`].
    pub fn apply(&self, failure: Failure<E>) -> Failure<E> {
        if may_mask(&failure) {
            Failure::from_node(rebuild(*failure.0, &mut BringOut(&self.kept)))
        } else {
            failure
        }
    }

    /// Says what [`apply`](Self::apply) would bring out, and changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, Unmask};
    /// # use trionics_errgroup::{CancelReason, Cancelled};
    ///
    /// # let cancelled = Cancelled::__new(CancelReason::Deadline, std::panic::Location::caller());
    /// let failure = Failure::cancelled(cancelled).with_context(Failure::leaf("read failed"));
    /// let report = Unmask::new().report(&failure);
    /// assert_eq!(report[0].failure.as_leaf(), Some(&"read failed"));
    /// assert!(failure.is_cancelled());
    /// ```
    pub fn report<'a>(&self, failure: &'a Node<E>) -> Vec<Masked<'a, E>> {
        if may_mask(failure) {
            report(failure, &self.kept)
        } else {
            Vec::new()
        }
    }
}

impl<E, K: Clone> Clone for Unmask<E, K> {
    fn clone(&self) -> Self {
        Self {
            kept: self.kept.clone(),
            errors: PhantomData,
        }
    }
}

impl<E, K: fmt::Debug> fmt::Debug for Unmask<E, K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Unmask");
        shown.field("kept", &self.kept).finish()
    }
}

impl<E> Node<E> {
    /// The failures that cancellations in this tree mask, each with what masks it.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).masked().is_empty());
    /// ```
    pub fn masked(&self) -> Vec<Masked<'_, E>> {
        Unmask::new().report(self)
    }

    /// The cancellation that masked this failure before it was brought out.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// assert!(Failure::leaf(1).masked_by().is_none());
    /// ```
    pub fn masked_by(&self) -> Option<&Self> {
        let mut contexts = self.contexts();
        contexts
            .find(|context| context.relation() == ContextRelation::MaskedBy)?
            .node()
    }
}

/// Whether anything in the tree that could mask has something that it could mask.
fn may_mask<E>(root: &Node<E>) -> bool {
    let mut pending = alloc::vec![root];
    while let Some(node) = pending.pop() {
        let could_mask = node.is_group() || node.is_cancelled();
        for context in node.contexts() {
            if context.relation() == ContextRelation::Pending
                && let Some(inner) = context.node()
            {
                if could_mask {
                    return true;
                }
                pending.push(inner);
            }
        }
        pending.extend(node.children());
    }
    false
}

struct BringOut<'a, K>(&'a K);

impl<E, K: KeepPair<E>> Rebuild<E> for BringOut<'_, K> {
    type To = E;

    fn error(&mut self, error: E) -> E {
        error
    }

    fn node(&mut self, done: Done<E>) -> Done<E> {
        if done.is_real || !done.real_contexts.contains(&true) {
            return done;
        }
        let mut masker = done.node;
        let mut nearest = None;
        for (index, is_real) in done.real_contexts.into_iter().enumerate() {
            let context = &masker.attached()[index];
            if is_real
                && context.relation == ContextRelation::Pending
                && let Target::Owned(masked) = &context.target
            {
                if !self.0.keeps(&masker, masked) {
                    nearest = Some(index);
                    break;
                }
                masker.attached_mut()[index].relation = ContextRelation::Handled;
            }
        }
        let Some(nearest) = nearest else {
            return Done {
                node: masker,
                is_real: false,
                real_contexts: Vec::new(),
            };
        };
        let contexts = masker.attached_mut();
        let mut further = contexts.split_off(nearest).into_iter();
        let mut node = match further.next() {
            Some(Attached {
                target: Target::Owned(masked),
                ..
            }) => masked,
            _ => unreachable!("a failure was found in this place just before"),
        };
        // What was on its way out before the failure that comes out is that failure's context.
        let (pending, other): (Vec<_>, Vec<_>) =
            further.partition(|context| context.relation == ContextRelation::Pending);
        contexts.extend(other);
        let contexts = node.attached_mut();
        contexts.extend(pending);
        contexts.push(Attached {
            relation: ContextRelation::MaskedBy,
            target: Target::Owned(masker),
        });
        Done {
            node,
            is_real: true,
            real_contexts: Vec::new(),
        }
    }
}

/// A node that is being looked into.
struct Looking<'a, E> {
    node: &'a Node<E>,
    /// How many of its children and then of its contexts have been looked into.
    n_seen: usize,
    /// Whether a leaf in it is anything but a `Cancelled`, or would be.
    is_real: bool,
    /// What would come out in its place: the nearest of its contexts that would.
    comes_out: Option<&'a Node<E>>,
    /// Whether it stands in the tree, and not in a context.
    is_in_place: bool,
}

fn report<'a, E, K: KeepPair<E>>(root: &'a Node<E>, kept: &K) -> Vec<Masked<'a, E>> {
    let mut found = Vec::new();
    let mut enclosing: Vec<Looking<'a, E>> = Vec::new();
    let mut current = Looking::new(root, true);
    loop {
        if let Some(next) = current.next() {
            enclosing.push(core::mem::replace(&mut current, next));
            continue;
        }
        if let Some(failure) = current.comes_out.filter(|_| current.is_in_place) {
            found.push(Masked {
                masker: current.node,
                failure,
            });
        }
        let Some(around) = enclosing.pop() else {
            return found;
        };
        let inner = core::mem::replace(&mut current, around);
        let is_real = inner.is_real || inner.comes_out.is_some();
        if current.n_seen <= current.node.children().len() {
            current.is_real |= is_real;
        } else if is_real && !current.is_real && current.comes_out.is_none() {
            let failure = inner.comes_out.unwrap_or(inner.node);
            if !kept.keeps(current.node, failure) {
                current.comes_out = Some(failure);
            }
        }
    }
}

impl<'a, E> Looking<'a, E> {
    fn new(node: &'a Node<E>, is_in_place: bool) -> Self {
        Self {
            node,
            n_seen: 0,
            is_real: node.is_leaf() && !node.is_cancelled(),
            comes_out: None,
            is_in_place,
        }
    }

    /// The next child or pending context to be looked into.
    fn next(&mut self) -> Option<Self> {
        let children = self.node.children();
        if let Some(child) = children.get(self.n_seen) {
            self.n_seen += 1;
            return Some(Self::new(child, self.is_in_place));
        }
        loop {
            let context = self.node.attached().get(self.n_seen - children.len())?;
            self.n_seen += 1;
            if context.relation == ContextRelation::Pending
                && let Target::Owned(node) = &context.target
            {
                return Some(Self::new(node, false));
            }
        }
    }
}
