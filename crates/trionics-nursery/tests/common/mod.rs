//! What the tests of several crates share.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test file uses its part"
)]

use std::panic::Location;

pub use testkit::*;
use trionics_nursery::internal;

/// What a context of the crate for contexts knows of its block, for a context without a value.
pub struct Invited {
    block: internal::Block,
    place: internal::ContextPlace,
    location: &'static Location<'static>,
}

impl Invited {
    /// For the code that runs now.
    #[track_caller]
    pub fn here(block: &internal::Block) -> Self {
        let place = internal::ContextPlace::default();
        place.settle();
        Self {
            block: block.clone(),
            place,
            location: Location::caller(),
        }
    }
}

impl internal::Invitation for Invited {
    fn block(&self) -> &internal::Block {
        &self.block
    }

    fn place(&self) -> &internal::ContextPlace {
        &self.place
    }

    fn host(&self) -> Option<&internal::Host> {
        None
    }

    fn leave(&mut self) {}

    fn location(&self) -> &'static Location<'static> {
        self.location
    }
}
