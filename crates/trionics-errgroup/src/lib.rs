//! Trees of typed errors in which nothing is lost and nothing is masked.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod any_error;
mod cancellation;
mod cancelled;
mod collapse;
mod compare;
mod context;
mod convert;
mod failure;
mod leaves;
mod library;
mod matching;
mod node;
mod outcome;
mod rebuild;
mod reshape;
#[cfg(feature = "serde")]
mod serialize;
mod show;
mod split;
mod teardown;
mod text;
mod tree;
mod unmask;

pub use any_error::AnyError;
pub use cancellation::is_multi_cancelled;
pub use cancelled::{CancelReason, Cancelled};
pub use collapse::{Collapse, Ignore, Ignored, NothingIgnored, collapse_eg, get_collapsed_eg};
pub use context::{ContextRelation, FailureContext, FailureMark};
pub use failure::Failure;
pub use leaves::Leaves;
pub use library::{EmptyGroup, LibraryFailure};
pub use matching::{Expected, Mismatch};
pub use node::Node;
pub use outcome::{AbsorbCancelled, CollapseEg, MaybeRaise, OutcomeExt, OutcomeFutureExt};
pub use teardown::Teardown;
pub use tree::{LeafError, Tree};
pub use unmask::{KeepPair, Masked, NoPairKept, PairKept, Unmask, maybe_raise_from_masking_exc};

#[doc(hidden)]
pub use matching::internal as __matching;
