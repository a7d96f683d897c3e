//! Memory that threads do not share by accident.

use std::ops::Deref;

/// Keeps what it holds on cache lines of its own.
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
