//! Locks and atomics: those of `std`, or those of the model checker.

#[cfg(not(trionics_shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

#[cfg(trionics_shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use std::sync::PoisonError;

/// Locks, also where a key's `Eq` has panicked while the lock was held: it has changed nothing by then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks of the whole process, which outlive the executions of a model.
pub(crate) use std::sync::{
    Mutex as ProcessMutex,
    atomic::{AtomicU64 as ProcessU64, Ordering as ProcessOrdering},
};
