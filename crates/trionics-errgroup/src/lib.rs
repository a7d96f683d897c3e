//! Trees of typed errors in which nothing is lost and nothing is masked.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod any_error;
mod cancelled;
mod collapse;
mod failure;
mod leaves;
mod library;
mod node;
mod show;

pub use any_error::AnyError;
pub use cancelled::{CancelReason, Cancelled};
pub use collapse::collapse_eg;
pub use failure::Failure;
pub use leaves::Leaves;
pub use library::{EmptyGroup, LibraryFailure};
pub use node::{Mark, Node, Relation};
