//! A cell without a lock, in which a model finds whoever comes while another is there.

use std::cell::UnsafeCell;

#[cfg(trionics_shuttle)]
use crate::sync::{AtomicBool, Ordering};

/// What one place at a time may use; which one that is, others have agreed on.
#[derive(Default)]
pub(super) struct Exclusive<T> {
    value: UnsafeCell<T>,
    /// The model changes threads where this is looked at, as a machine may do anywhere.
    #[cfg(trionics_shuttle)]
    is_used: AtomicBool,
}

impl<T> Exclusive<T> {
    /// # Safety
    ///
    /// Nobody else uses it until this returns.
    #[inline]
    pub(super) unsafe fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(trionics_shuttle)]
        let _used = Used::new(&self.is_used);
        // SAFETY: the caller's.
        use_it(unsafe { &mut *self.value.get() })
    }
}

#[cfg(trionics_shuttle)]
struct Used<'a>(&'a AtomicBool);

#[cfg(trionics_shuttle)]
impl<'a> Used<'a> {
    fn new(is_used: &'a AtomicBool) -> Self {
        let was_used = is_used.swap(true, Ordering::SeqCst);
        assert!(!was_used, "two use the same thing at once");
        Self(is_used)
    }
}

#[cfg(trionics_shuttle)]
impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
