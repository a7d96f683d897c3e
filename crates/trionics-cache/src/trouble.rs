//! What went wrong in a set-up or an exit.

use std::any::Any;

use trionics_errgroup::Failure;

/// A failure or a panic on its way to whoever is to hear of it.
pub(crate) enum Trouble<E> {
    Failure(Failure<E>),
    Panic(Box<dyn Any + Send>),
}

impl<E> Trouble<E> {
    /// The failure; a panic is resumed.
    pub(crate) fn into_failure(self) -> Failure<E> {
        match self {
            Self::Failure(failure) => failure,
            Self::Panic(payload) => std::panic::resume_unwind(payload),
        }
    }
}
