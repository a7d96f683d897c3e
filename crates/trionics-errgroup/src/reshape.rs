//! Other errors in the same tree, the same errors in another tree.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::error::Error;
use core::mem;

use crate::node::{Children, IntoChildren, Slot};
use crate::rebuild::{Done, Rebuild, rebuild};
use crate::{AnyError, Failure};

impl<E> Failure<E> {
    /// Replaces every error in the tree, those in contexts included; everything else stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::leaf(1).with_note("first"), Failure::leaf(2)])?;
    /// let mapped = group.map(|number| format!("error {number}"));
    /// assert!(mapped.errors().eq(["error 1", "error 2"]));
    /// assert!(mapped.children()[0].notes().eq(["first"]));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn map<E2>(self, replace: impl FnMut(E) -> E2) -> Failure<E2> {
        Failure::from_node(rebuild(*self.0, &mut Map(replace)))
    }

    /// Erases the type of every error in the tree, so that trees of different types can stand in one.
    ///
    /// A `?` alone would take a tree of typed errors for one error, as it would any other: its groups and its `Cancelled`s are then
    /// found only by who asks for that very type.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// fn typed() -> Result<(), Failure<std::fmt::Error>> {
    ///     Err(std::fmt::Error)?
    /// }
    ///
    /// fn erased() -> Result<(), Failure> {
    ///     typed().map_err(Failure::erase)
    /// }
    /// assert!(erased().unwrap_err().is::<std::fmt::Error>());
    /// ```
    pub fn erase(self) -> Failure
    where
        E: Error + Send + Sync + 'static,
    {
        self.map(AnyError::new)
    }

    /// Puts all leaves into the outermost group, in their order.
    ///
    /// The messages of the inner groups vanish; what else was said of them goes to the outermost group, and their
    /// names to the leaves inside that have none.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Failure;
    ///
    /// let inner = Failure::group("inner", [Failure::leaf(1), Failure::leaf(2)])?;
    /// let outer = Failure::group("outer", [inner, Failure::leaf(3)])?;
    /// assert_eq!(outer.flatten().children().len(), 3);
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    #[must_use]
    pub fn flatten(mut self) -> Self {
        let Slot::Rich(root) = &mut self.0.0 else {
            return self;
        };
        if !root.is_group() {
            return self;
        }
        let mut leaves = Vec::new();
        let mut enclosing: Vec<Flattening<E>> = Vec::new();
        let mut current = Flattening {
            origin: None,
            ahead: root.take_children().into_iter(),
        };
        loop {
            let Some(mut child) = current.ahead.next() else {
                match enclosing.pop() {
                    Some(around) => current = around,
                    None => break,
                }
                continue;
            };
            match &mut child.0 {
                Slot::Rich(group) if group.is_group() => {
                    let mut origin = current.origin.clone();
                    if let Some(mut extras) = group.extras.take() {
                        origin = extras.said.origin.take().or(origin);
                        root.extras.get_or_insert_default().inherit(*extras);
                    }
                    let ahead = group.take_children().into_iter();
                    enclosing.push(mem::replace(&mut current, Flattening { origin, ahead }));
                }
                _ => {
                    if let Some(origin) = &current.origin
                        && child.origin().is_none()
                    {
                        child.extras_mut().said.origin = Some(origin.clone());
                    }
                    leaves.push(child);
                }
            }
        }
        root.put_children(Children::from_vec(leaves));
        self
    }
}

/// A group whose leaves are being taken out.
struct Flattening<E> {
    /// The name of the nearest inner group around that has one.
    origin: Option<Cow<'static, str>>,
    ahead: IntoChildren<E>,
}

struct Map<F>(F);

impl<E, E2, F: FnMut(E) -> E2> Rebuild<E> for Map<F> {
    type To = E2;

    fn error(&mut self, error: E) -> E2 {
        (self.0)(error)
    }

    fn node(&mut self, done: Done<E2>) -> Done<E2> {
        done
    }
}
