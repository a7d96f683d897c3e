//! For the sibling crates: what the running code belongs to, inherited down the tree.

use std::{fmt, sync::Arc};

use crate::current::{self, Current};

/// Something that code runs for, such as a shared resource that is being set up.
pub trait Tag: Send + Sync {
    /// A number that no other tag of this process has.
    fn id(&self) -> u64;

    /// What it is called in messages.
    fn name(&self) -> String;
}

impl fmt::Debug for dyn Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tag").field(&self.id()).finish()
    }
}

/// What the code that runs now belongs to.
#[must_use]
pub fn current_tag() -> Option<Arc<dyn Tag>> {
    current::with(|current| current.and_then(Current::tag))
}
