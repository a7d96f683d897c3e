//! For the sibling crates: a nursery of children that are all known at the start.

use std::{future::Future, panic::Location};

use trionics_errgroup::Failure;

use super::{BodyEnd, RawNursery, RawOptions};
use crate::{host::Host, nursery::child::Crew};

/// For the sibling crates: takes children in before their nursery is polled.
pub struct Enlist<'a, C: ?Sized> {
    crew: &'a mut Crew<C>,
    location: &'static Location<'static>,
}

impl<C: Future> Enlist<'_, C> {
    /// One child more.
    pub fn add(&mut self, future: C) {
        self.add_with(|_| future);
    }

    /// One child more, whose future may provide to the block that the nursery's body runs.
    pub fn add_with(&mut self, make: impl FnOnce(Host) -> C) {
        self.crew.queue().count.add(false);
        self.crew
            .enlist(self.location, |member| make(Host::new(member.clone())));
    }
}

impl<C: ?Sized> std::fmt::Debug for Enlist<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enlist").finish_non_exhaustive()
    }
}

/// For the sibling crates: children that all exist when the nursery opens, and a body beside them.
///
/// `make` enlists the children and makes the body.
pub fn open_children<C, B, T, E>(
    location: &'static Location<'static>,
    make: impl FnOnce(&mut Enlist<'_, C>) -> B,
) -> RawNursery<C, B, T, E>
where
    C: Future<Output = Result<(), Failure<E>>>,
    B: Future<Output = BodyEnd<T, E>>,
{
    RawNursery::new(location, RawOptions::default(), |crew| {
        let body = make(&mut Enlist {
            crew: &mut *crew,
            location,
        });
        // The children first: a body that waits for them finds what they do in their first polls.
        crew.put_off_body();
        body
    })
}
