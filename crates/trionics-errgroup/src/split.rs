//! Selecting parts of a tree.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;
use core::mem;

use crate::node::{Attached, Children, Extras, IntoChildren, Kind, Rich, Slot, Target};
use crate::{AnyError, Failure, Node};

impl<E> Failure<E> {
    /// Parts the tree into what the condition holds for, and the rest.
    ///
    /// The condition is asked about a group before its children, and a group for which it holds is taken whole.
    /// Both halves keep the order of the leaves, the nesting, and each group's message, name, notes and cause; groups
    /// that became empty vanish, groups of one stay. Each leaf is in exactly one half, and none is copied:
    /// a group's contexts stay with the rest, and the other half refers to them.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let inner = Failure::group("inner", [Failure::leaf(1), Failure::leaf(2)])?;
    /// let outer = Failure::group("outer", [inner, Failure::leaf(3)])?;
    ///
    /// let (odd, rest) = outer.split(|node| node.as_leaf().is_some_and(|error| error % 2 == 1));
    /// assert!(odd.unwrap().errors().eq(&[1, 3]));
    /// assert!(rest.unwrap().children()[0].errors().eq(&[2]));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn split(self, condition: impl FnMut(&Node<E>) -> bool) -> (Option<Self>, Option<Self>) {
        split_node(self, condition, Keep::Rest)
    }

    /// The part of the tree for which the condition holds: the first half of a [`split`](Self::split).
    ///
    /// The rest is dropped, so contexts stay with the groups that are left.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::leaf(1), Failure::leaf(2)])?;
    /// assert!(group.subgroup(|node| node.as_leaf() == Some(&3)).is_none());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn subgroup(self, condition: impl FnMut(&Node<E>) -> bool) -> Option<Self> {
        split_node(self, condition, Keep::Matching).0
    }
}

impl Failure<AnyError> {
    /// Parts the tree into the errors of type `T`, and the rest.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let not_a_number = "x".parse::<u8>().unwrap_err();
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error), Failure::new(not_a_number)])?;
    /// let (parsing, rest) = group.split_by_type::<std::num::ParseIntError>();
    /// assert_eq!(parsing.unwrap().leaves().count(), 1);
    /// assert!(rest.unwrap().find::<std::fmt::Error>().is_some());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn split_by_type<T: Error + Send + Sync + 'static>(self) -> (Option<Self>, Option<Self>) {
        self.split(Node::is::<T>)
    }

    /// The errors of type `T`, in the groups in which they stand.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
    /// assert!(group.subgroup_by_type::<std::num::ParseIntError>().is_none());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn subgroup_by_type<T: Error + Send + Sync + 'static>(self) -> Option<Self> {
        self.subgroup(Node::is::<T>)
    }
}

/// Which half keeps what cannot be in both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Matching,
    Rest,
}

/// A group that is being parted.
struct Parting<E> {
    /// The group without its children.
    shell: Box<Rich<E>>,
    /// The children that are still to be asked about.
    ahead: IntoChildren<E>,
    matching: Vec<Node<E>>,
    rest: Vec<Node<E>>,
}

fn split_node<E>(
    failure: Failure<E>,
    mut condition: impl FnMut(&Node<E>) -> bool,
    keep: Keep,
) -> (Option<Failure<E>>, Option<Failure<E>>) {
    if condition(&failure) {
        return (Some(failure), None);
    }
    let mut current = match failure.0.0 {
        Slot::Rich(rich) if rich.is_group() => Parting::new(rich),
        slot => return (None, Some(Failure::from_node(Node(slot)))),
    };
    let mut enclosing: Vec<Parting<E>> = Vec::new();
    loop {
        if let Some(child) = current.ahead.next() {
            if condition(&child) {
                current.matching.push(child);
                continue;
            }
            match child.0 {
                Slot::Rich(rich) if rich.is_group() => {
                    enclosing.push(mem::replace(&mut current, Parting::new(rich)));
                }
                slot => current.rest.push(Node(slot)),
            }
        } else {
            let (matching, rest) = current.finish(keep);
            match enclosing.pop() {
                Some(around) => current = around,
                None => {
                    return (
                        matching.map(Failure::from_node),
                        rest.map(Failure::from_node),
                    );
                }
            }
            current.matching.extend(matching);
            current.rest.extend(rest);
        }
    }
}

impl<E> Parting<E> {
    fn new(mut shell: Box<Rich<E>>) -> Self {
        let ahead = shell.take_children().into_iter();
        Self {
            shell,
            ahead,
            matching: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Makes the halves, at least one of which holds something. A group that is not parted stays what it was.
    fn finish(mut self, keep: Keep) -> (Option<Node<E>>, Option<Node<E>>) {
        let twin = if self.matching.is_empty() || self.rest.is_empty() {
            None
        } else {
            Some(self.shell.twin())
        };
        let put = |mut shell: Box<Rich<E>>, nodes| {
            shell.put_children(Children::from_vec(nodes));
            Some(Node(Slot::Rich(shell)))
        };
        match (twin, keep) {
            (None, _) if self.rest.is_empty() => (put(self.shell, self.matching), None),
            (None, _) => (None, put(self.shell, self.rest)),
            (Some(twin), Keep::Rest) => (put(twin, self.matching), put(self.shell, self.rest)),
            (Some(twin), Keep::Matching) => (put(self.shell, self.matching), put(twin, self.rest)),
        }
    }
}

impl<E> Rich<E> {
    /// A group like this one, without children, that refers to the contexts that stay in this one.
    fn twin(&mut self) -> Box<Self> {
        let message = match &self.kind {
            Kind::Group { message, .. } => message.clone(),
            _ => Cow::Borrowed(""),
        };
        let mut twin = Self::new(Kind::Group {
            message,
            children: Children::EMPTY,
        });
        twin.extras = self.extras.as_mut().map(|extras| {
            Box::new(Extras {
                said: extras.said.clone(),
                contexts: extras
                    .contexts
                    .iter_mut()
                    .map(Attached::reference)
                    .collect(),
            })
        });
        twin
    }
}

impl<E> Attached<E> {
    fn reference(&mut self) -> Self {
        let mark = match &mut self.target {
            Target::Owned(node) => node.mark(),
            Target::Elsewhere(mark) => mark.clone(),
        };
        Self {
            relation: self.relation,
            target: Target::Elsewhere(mark),
        }
    }
}
