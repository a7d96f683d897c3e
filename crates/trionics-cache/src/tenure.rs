//! The value of an open resource, shared by those who use it.
//!
//! The users *are* the shares of one `Arc`: to join is to upgrade a weak one, which fails once the last
//! user has left, and to leave is to drop one. So leaving takes no lock, unless it is the last.

use std::sync::Arc;

use crate::{core::Core, identity::Identity};

pub(crate) struct Tenure<K, T, E> {
    /// There until the last user leaves.
    value: Option<T>,
    pub(crate) core: Arc<Core<K, T, E>>,
    pub(crate) identity: Arc<Identity<K>>,
    pub(crate) place: usize,
    pub(crate) generation: u64,
}

impl<K, T, E> Tenure<K, T, E> {
    pub(crate) fn new(
        value: T,
        core: Arc<Core<K, T, E>>,
        identity: Arc<Identity<K>>,
        place: usize,
        generation: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            value: Some(value),
            core,
            identity,
            place,
            generation,
        })
    }

    #[inline]
    pub(crate) fn value(&self) -> &T {
        self.value.as_ref().expect("it is in use")
    }

    /// The value, for the last user, who must see to what becomes of it.
    pub(crate) fn take_value(&mut self) -> Option<T> {
        self.value.take()
    }
}

impl<K, T, E> Drop for Tenure<K, T, E> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.core
                .last_left(self.place, self.generation, value, None);
        }
    }
}
