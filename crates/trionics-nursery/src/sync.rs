//! Locks, atomics and thread-locals: those of `std`, or those of the model checker.
//!
//! `Arc` and `Weak` are always those of `std`, which [`std::task::Wake`] asks for.

#[cfg(not(trionics_shuttle))]
pub(crate) use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        },
    },
    thread_local,
};

#[cfg(trionics_shuttle)]
pub(crate) use shuttle::{
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        },
    },
    thread_local,
};

use std::sync::{PoisonError, TryLockError};

/// Locks, also where a panic has passed while the lock was held: what it protects is never left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks unless it is locked.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Counters of the whole process. Threads are ordered by one of them alone, that of cancellations on their way; a model
/// does not switch threads at these, but at the locks that are taken before and after.
///
/// They outlive the executions of a model, whose own atomics belong to one execution each.
pub(crate) use std::sync::atomic::{AtomicU64 as ProcessU64, AtomicUsize as ProcessUsize};
