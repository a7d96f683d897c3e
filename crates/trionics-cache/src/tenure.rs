//! The value of an open resource, shared by those who use it.
//!
//! The users *are* the shares of one `Arc`: to join is to upgrade a weak one, which fails once the last
//! user has left, and to leave is to drop one. So leaving takes no lock, unless it is the last.

use std::sync::Arc;

use crate::{
    core::Core,
    identity::Identity,
    sync::{AtomicU8, Ordering},
};

/// The key does not lead here any more.
const SUPERSEDED: u8 = 1;
/// The service wants to end: users are asked to leave.
const DETACHED: u8 = 2;

pub(crate) struct Tenure<K, T, E> {
    /// There until the last user leaves.
    value: Option<T>,
    pub(crate) core: Arc<Core<K, T, E>>,
    pub(crate) identity: Arc<Identity<K>>,
    pub(crate) place: usize,
    pub(crate) generation: u64,
    /// [`SUPERSEDED`], [`DETACHED`]; set once and for all, under the lock of the core's state.
    flags: AtomicU8,
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
            flags: AtomicU8::new(0),
        })
    }

    #[inline]
    pub(crate) fn value(&self) -> &T {
        self.value.as_ref().expect("it is in use")
    }

    /// Those who have kept a share of it for the next time must not use that.
    pub(crate) fn supersede(&self) {
        self.flags.fetch_or(SUPERSEDED, Ordering::Release);
    }

    pub(crate) fn detach(&self) {
        self.flags
            .fetch_or(SUPERSEDED | DETACHED, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_superseded(&self) -> bool {
        self.flags.load(Ordering::Acquire) & SUPERSEDED != 0
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.flags.load(Ordering::Acquire) & DETACHED != 0
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
