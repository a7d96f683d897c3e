//! The primitives that the channel is built from: those of `std`, or those of the model checker under `cfg(trionics_loom)`.
//!
//! `Arc` and `Weak` are those of `std`, as `std::task::Wake` asks for, where nothing rests on their ordering; `CheckedArc` is for where it does.

use std::sync::{PoisonError, TryLockError};

#[cfg(not(trionics_loom))]
pub(crate) use std::sync::{
    Arc as CheckedArc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence},
};

#[cfg(trionics_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc as CheckedArc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence},
    },
};

/// Locks, whether or not a panic has passed through the lock: every critical section leaves its data consistent.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks if nobody holds the lock, whether or not a panic has passed through it.
#[inline]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Tells the model checker that this task asks again until another thread has moved on.
#[inline]
pub(crate) fn let_others_run() {
    #[cfg(trionics_loom)]
    loom::thread::yield_now();
}

/// A cell as the model checker's: what is done with the pointer is its caller's to justify.
#[cfg(not(trionics_loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(trionics_loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
