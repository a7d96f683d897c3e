//! The primitives that the channel is built from: those of `std`, or those of the model checker under `cfg(trionics_loom)`.
//!
//! `Arc` and `Weak` are always those of `std`: `std::task::Wake` asks for them, and nothing here rests on their ordering.

use std::sync::{PoisonError, TryLockError};

#[cfg(not(trionics_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence},
};

#[cfg(trionics_loom)]
pub(crate) use self::checked::OnceLock;
#[cfg(trionics_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence},
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

#[cfg(trionics_loom)]
mod checked {
    //! A once cell whose publication the model checker can see.

    use std::sync::atomic::Ordering;

    use loom::sync::atomic::AtomicBool;

    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        is_set: AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self {
                is_set: AtomicBool::new(false),
                value: std::sync::OnceLock::new(),
            }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.is_set
                .load(Ordering::Acquire)
                .then(|| self.value.get())
                .flatten()
        }
    }
}
