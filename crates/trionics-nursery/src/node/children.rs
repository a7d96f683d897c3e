//! The frames directly inside one: mostly none or one, which needs no room of its own.

use std::sync::Arc;

use slab::Slab;

use super::Node;

#[derive(Default)]
pub(super) struct Children {
    /// The one with key 0.
    first: Option<Arc<Node>>,
    /// The others, at their keys less one; made for the second child.
    others: Option<Box<Slab<Arc<Node>>>>,
}

impl Children {
    /// Takes a child in; returns the key by which it can be taken out.
    #[inline]
    pub(super) fn insert(&mut self, child: Arc<Node>) -> usize {
        if self.first.is_none() {
            self.first = Some(child);
            return 0;
        }
        self.insert_other(child)
    }

    fn insert_other(&mut self, child: Arc<Node>) -> usize {
        self.others.get_or_insert_default().insert(child) + 1
    }

    /// Takes out the child with this key.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[inline]
    pub(super) fn remove(&mut self, key: usize) -> Arc<Node> {
        let removed = match key {
            0 => self.first.take(),
            _ => self
                .others
                .as_mut()
                .and_then(|others| others.try_remove(key - 1)),
        };
        removed.expect("a child is at its key")
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.as_ref().is_none_or(|others| others.is_empty())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        let others = self.others.iter().flat_map(|others| others.iter());
        self.first.iter().chain(others.map(|(_, child)| child))
    }

    /// Takes all of them out.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Node>> {
        let mut all: Vec<_> = self.first.take().into_iter().collect();
        if let Some(others) = self.others.take() {
            all.extend(others.into_iter().map(|(_, child)| child));
        }
        all
    }
}
