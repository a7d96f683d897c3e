//! Handling the parts of a failure, each by its own handler.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::{mem, slice};

use crate::node::{Children, Kind, Slot};
use crate::{Failure, Node};

/// What became of the failures that a handler was shown.
///
/// # Examples
///
/// See [`Catch`].
#[derive(Debug)]
pub enum Handled<E> {
    /// They are dealt with.
    Done,
    /// They go on as if there had been no handler.
    PassOn,
    /// They are dealt with, but that failed: this failure goes on, with them as a [handled](crate::ContextRelation::Handled) context.
    Failed(Failure<E>),
}

/// An outcome whose failures are shown to one handler after the other, like an exception to the `except*` clauses of a `try`.
///
/// A leaf belongs to the first handler whose condition holds for it or for a group around it. A handler is called at
/// most once, with a group of references to all that is its own, nested as it was; a failure that is no group is shown in a
/// group of one without a message. Nothing is taken apart before [`finish`](Self::finish).
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Catch, Failure, Handled};
///
/// let outcome: Result<u8, Failure<u32>> = Err(Failure::group_of("feed", [1, 2, 3, 4])?);
/// let left = Catch::new(outcome)
///     .on(|node| node.as_leaf() == Some(&1), |_| Handled::Done)
///     .on(
///         |node| node.as_leaf().is_some_and(|number| number % 2 == 0),
///         |even| {
///             assert!(even.errors().copied().eq(&[2, 4]));
///             Handled::Done
///         },
///     )
///     .finish("could not handle everything");
/// assert!(left.unwrap_err().errors().eq(&[3]));
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
#[must_use = "what is left comes out of `finish`"]
pub struct Catch<T, E> {
    outcome: Result<T, Failure<E>>,
    /// For each leaf, in order, what has become of it.
    fates: Vec<Fate>,
    /// What handlers failed with, by their numbers.
    failed: Vec<Failure<E>>,
}

/// What has become of a leaf.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No handler has claimed it.
    Open,
    /// A handler has looked at it, and passed it on.
    PassedOn,
    Done,
    /// The handler that failed with the failure of this number has dealt with it.
    Failed(usize),
    /// The handler that is being called has claimed it.
    Claimed,
}

impl<T, E> Catch<T, E> {
    /// Begins to handle what failed, if anything did.
    ///
    /// # Examples
    ///
    /// See [`Catch`].
    pub fn new(outcome: Result<T, Failure<E>>) -> Self {
        let n_leaves = match &outcome {
            Ok(_) => 0,
            Err(failure) => failure.leaves().count(),
        };
        Self {
            outcome,
            fates: alloc::vec![Fate::Open; n_leaves],
            failed: Vec::new(),
        }
    }

    /// Shows the handler everything for which the condition holds and that no handler before it was shown.
    ///
    /// As in [`Failure::split`], the condition is asked about a group before its children.
    ///
    /// # Examples
    ///
    /// See [`Catch`].
    pub fn on(
        mut self,
        condition: impl FnMut(&Node<E>) -> bool,
        handler: impl FnOnce(Failure<&E>) -> Handled<E>,
    ) -> Self {
        let Err(failure) = &self.outcome else {
            return self;
        };
        claim(failure, &mut self.fates, condition);
        let Some(shown) = references(failure, &self.fates) else {
            return self;
        };
        let fate = match handler(shown) {
            Handled::Done => Fate::Done,
            Handled::PassOn => Fate::PassedOn,
            Handled::Failed(failure) => {
                self.failed.push(failure);
                Fate::Failed(self.failed.len() - 1)
            }
        };
        for claimed in &mut self.fates {
            if *claimed == Fate::Claimed {
                *claimed = fate;
            }
        }
        self
    }

    /// Ends the handling: `None` if something failed and all of it has been dealt with.
    ///
    /// # Errors
    ///
    /// What is left, in its groups and with all that was said of them. What handlers failed with comes out too: alone if
    /// there is nothing else, or in a group with this message.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Catch, Failure, Handled};
    ///
    /// let failure = Failure::leaf("no route");
    /// let all_done = Catch::new(Err::<u8, _>(failure)).on(|_| true, |_| Handled::Done);
    /// assert_eq!(all_done.finish("").unwrap(), None);
    /// ```
    pub fn finish(self, message: impl Into<Cow<'static, str>>) -> Result<Option<T>, Failure<E>> {
        let mut left = match self.outcome {
            Ok(value) => return Ok(Some(value)),
            Err(failure) => Some(failure),
        };
        let mut fates = self.fates;
        let mut failures = Vec::new();
        for (number, failed) in self.failed.into_iter().enumerate() {
            let handled = take(&mut left, &mut fates, Fate::Failed(number));
            failures.push(match handled {
                Some(handled) => failed.with_handled(handled),
                None => failed,
            });
        }
        drop(take(&mut left, &mut fates, Fate::Done));
        failures.extend(left);
        if failures.len() == 1 {
            return Err(failures.remove(0));
        }
        Failure::group(message, failures).map_or(Ok(None), Err)
    }
}

impl<T: fmt::Debug, E: fmt::Debug> fmt::Debug for Catch<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Catch")
            .field("outcome", &self.outcome)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Takes the leaves of this fate out of the tree, and their fates out of the list.
fn take<E>(tree: &mut Option<Failure<E>>, fates: &mut Vec<Fate>, fate: Fate) -> Option<Failure<E>> {
    let mut n_leaves = 0;
    let (taken, left) = tree.take()?.split(|node| {
        let is_leaf = node.is_leaf();
        n_leaves += usize::from(is_leaf);
        is_leaf && fates[n_leaves - 1] == fate
    });
    fates.retain(|other| *other != fate);
    *tree = left;
    taken
}

/// Claims the open leaves for which, or for a group around which, the condition holds.
fn claim<E>(root: &Node<E>, fates: &mut [Fate], mut condition: impl FnMut(&Node<E>) -> bool) {
    let mut fates = fates.iter_mut();
    let mut pending = alloc::vec![root];
    while let Some(node) = pending.pop() {
        if condition(node) {
            for fate in fates.by_ref().take(node.leaves().count()) {
                if *fate == Fate::Open {
                    *fate = Fate::Claimed;
                }
            }
        } else if node.is_leaf() {
            fates.next();
        } else {
            pending.extend(node.children().iter().rev());
        }
    }
}

/// A group some of whose children are being referred to.
struct Referring<'a, E> {
    group: &'a Node<E>,
    ahead: slice::Iter<'a, Node<E>>,
    children: Vec<Node<&'a E>>,
}

impl<'a, E> Referring<'a, E> {
    fn new(group: &'a Node<E>, children: &'a [Node<E>]) -> Self {
        Self {
            group,
            ahead: children.iter(),
            children: Vec::new(),
        }
    }

    fn finish(self) -> Option<Node<&'a E>> {
        if self.children.is_empty() {
            return None;
        }
        let message = match &self.group.0 {
            Slot::Rich(rich) => match &rich.kind {
                Kind::Group { message, .. } => message.clone(),
                _ => Cow::Borrowed(""),
            },
            Slot::Leaf(_) => Cow::Borrowed(""),
        };
        let children = Children::from_vec(self.children);
        let mut node = Node::rich(Kind::Group { message, children });
        if self.group.is_group() {
            say_the_same(&mut node, self.group);
        }
        Some(node)
    }
}

/// A group of references to the claimed leaves, nested as they are.
fn references<'a, E>(root: &'a Node<E>, fates: &[Fate]) -> Option<Failure<&'a E>> {
    let mut fates = fates.iter();
    let mut enclosing: Vec<Referring<'a, E>> = Vec::new();
    let mut current = match root.children() {
        [] => Referring::new(root, slice::from_ref(root)),
        children => Referring::new(root, children),
    };
    loop {
        match current.ahead.next() {
            Some(child) if child.is_group() => {
                let inner = Referring::new(child, child.children());
                enclosing.push(mem::replace(&mut current, inner));
            }
            Some(leaf) => {
                if fates.next() == Some(&Fate::Claimed) {
                    current.children.push(reference(leaf));
                }
            }
            None => {
                let done = current.finish();
                match enclosing.pop() {
                    Some(around) => current = around,
                    None => return done.map(Failure::from_node),
                }
                current.children.extend(done);
            }
        }
    }
}

fn reference<E>(leaf: &Node<E>) -> Node<&E> {
    let mut node = match (leaf.as_leaf(), leaf.as_cancelled(), leaf.as_library()) {
        (Some(error), _, _) => Node(Slot::Leaf(error)),
        (_, Some(cancelled), _) => Node::rich(Kind::Cancelled(cancelled.clone())),
        (_, _, Some(failure)) => Node::rich(Kind::Library(failure.clone())),
        (None, None, None) => unreachable!("a leaf is one of the three"),
    };
    say_the_same(&mut node, leaf);
    node
}

/// Says of a reference what was said of the node, but for its contexts.
fn say_the_same<'a, E>(reference: &mut Node<&'a E>, node: &'a Node<E>) {
    if let Some(extras) = node.extras() {
        reference.extras_mut().said = extras.said.clone();
    }
}
