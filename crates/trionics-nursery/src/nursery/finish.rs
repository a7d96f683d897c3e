//! Ending a nursery early with a value.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, pending},
    panic::Location,
    sync::Arc,
};

use trionics_errgroup::CancelReason;

use crate::{
    scope::CancelScope,
    sync::{Mutex, MutexGuard, lock},
};

/// Ends its nursery with a value; see [`NurseryOptions::open_finishing`](crate::NurseryOptions::open_finishing).
///
/// The first value wins, the body's among them; later ones are dropped.
pub struct Finish<T> {
    slot: Arc<FinishSlot<T>>,
    scope: CancelScope,
}

/// Where the first value is kept.
pub(crate) struct FinishSlot<T> {
    value: Mutex<Option<T>>,
}

impl<T> FinishSlot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            value: Mutex::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        lock(&self.value)
    }

    /// Keeps the first value; gives a later one back.
    pub(crate) fn offer(&self, value: T) -> Option<T> {
        let mut kept = self.lock();
        match &*kept {
            Some(_) => Some(value),
            None => {
                *kept = Some(value);
                None
            }
        }
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.lock().take()
    }
}

impl<T> Finish<T> {
    pub(super) fn new(slot: Arc<FinishSlot<T>>, scope: CancelScope) -> Self {
        Self { slot, scope }
    }

    /// Ends the nursery with `value`: its body and its children are cancelled, exits included.
    ///
    /// Does not return: the caller is stopped at this await, as a part of the nursery. Outside the
    /// nursery it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// The value is given when it is first polled.
    #[track_caller]
    pub fn finish(&self, value: T) -> impl Future<Output = Infallible> + use<T> {
        let location = Location::caller();
        let (slot, scope) = (Arc::clone(&self.slot), self.scope.clone());
        async move {
            let late = slot.offer(value);
            drop(late);
            scope.cancel_for(CancelReason::Finished, location);
            pending().await
        }
    }
}

impl<T> Clone for Finish<T> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            scope: self.scope.clone(),
        }
    }
}

impl<T> fmt::Debug for Finish<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finish").finish_non_exhaustive()
    }
}
