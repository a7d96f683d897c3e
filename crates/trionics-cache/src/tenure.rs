//! The value of an open resource, shared by those who use it.
//!
//! The users *are* the shares of one `Arc`: to join is to upgrade a weak one, which fails once the last
//! user has left, and to leave is to drop one. So leaving takes no lock, unless it is the last.
//!
//! Tenures are allocated several at a time, so that they lie side by side: with many keys in use, what a
//! hit costs is whether the count and the value are in the processor's caches, and their pages in its
//! tables.

use std::sync::Arc;

use crate::identity::Identity;

pub(crate) struct Tenure<K, T, E> {
    /// From the beginning until the last user leaves.
    value: Option<T>,
    identity: Option<Arc<Identity<K, T, E>>>,
}

impl<K, T, E> Tenure<K, T, E> {
    #[inline]
    pub(crate) fn value(&self) -> &T {
        self.value.as_ref().expect("it is in use")
    }

    #[inline]
    pub(crate) fn identity(&self) -> &Arc<Identity<K, T, E>> {
        self.identity.as_ref().expect("it is in use")
    }

    /// The value, for the last user, who must see to what becomes of it.
    pub(crate) fn end(mut self) -> (T, Arc<Identity<K, T, E>>) {
        match (self.value.take(), self.identity.take()) {
            (Some(value), Some(identity)) => (value, identity),
            _ => unreachable!("it is in use"),
        }
    }
}

impl<K, T, E> Drop for Tenure<K, T, E> {
    fn drop(&mut self) {
        if let (Some(value), Some(identity)) = (self.value.take(), self.identity.take()) {
            identity.core.last_left(&identity, value, None);
        }
    }
}

/// Tenures that have yet to begin.
pub(crate) struct Spares<K, T, E> {
    spares: Vec<Arc<Tenure<K, T, E>>>,
}

impl<K, T, E> Spares<K, T, E> {
    /// What is allocated at once, where there are at least as many keys.
    const MOST: usize = 64;

    pub(crate) fn new() -> Self {
        Self { spares: Vec::new() }
    }

    /// Begins a tenure; `n_alive` says how many resources there are.
    pub(crate) fn begin(
        &mut self,
        value: T,
        identity: Arc<Identity<K, T, E>>,
        n_alive: usize,
    ) -> Arc<Tenure<K, T, E>> {
        let (value, identity) = (Some(value), Some(identity));
        let n_more = if self.spares.is_empty() {
            (n_alive / 2).min(Self::MOST)
        } else {
            0
        };
        if n_more > 0 {
            let more = || {
                Arc::new(Tenure {
                    value: None,
                    identity: None,
                })
            };
            self.spares
                .extend(std::iter::repeat_with(more).take(n_more));
        }
        match self.spares.pop() {
            Some(mut tenure) => {
                let new = Arc::get_mut(&mut tenure).expect("nobody shares it yet");
                (new.value, new.identity) = (value, identity);
                tenure
            }
            None => Arc::new(Tenure { value, identity }),
        }
    }
}
