//! Trees of errors in which nothing is lost and nothing is masked.
//!
//! Work that is done concurrently fails in several places at once, and what must run after a failure can fail as well.
//! A [`Failure`] holds all of it: a single error, or a group of failures with a message, to any depth. It is one pointer wide,
//! `?` takes an error and a whole tree alike, and no operation gives up an error, copies one, or needs more
//! stack for a deeper tree.
//!
//! ```
//! use trionics_errgroup::{Failure, collapse_eg};
//!
//! fn port(text: &str) -> Result<u16, Failure> {
//!     Ok(text.parse::<u16>()?)
//! }
//!
//! fn ports(texts: &[&str]) -> Result<Vec<u16>, Failure> {
//!     let (ports, failures): (Vec<_>, Vec<_>) = texts.iter().map(|text| port(text)).partition(Result::is_ok);
//!     let failures = failures.into_iter().filter_map(Result::err);
//!     match Failure::group("some ports are no numbers", failures) {
//!         Ok(group) => Err(group),
//!         Err(_) => Ok(ports.into_iter().flatten().collect()),
//!     }
//! }
//!
//! let failure = ports(&["80", "http", "-1"]).unwrap_err();
//! assert_eq!(failure.to_string(), "some ports are no numbers (2 sub-errors)");
//! assert_eq!(
//!     format!("{failure:#}"),
//!     "some ports are no numbers (2 sub-errors)\n\
//!      ├─ invalid digit found in string\n\
//!      ╰─ invalid digit found in string",
//! );
//!
//! // One error alone comes out as that error.
//! let failure = collapse_eg(ports(&["80", "http"]).unwrap_err());
//! assert!(failure.is::<std::num::ParseIntError>());
//! ```
//!
//! # What is in a tree
//!
//! | node | what it is | asked by |
//! | --- | --- | --- |
//! | leaf | an error of type `E`, by default [`AnyError`] | [`as_leaf`](Node::as_leaf), [`downcast_ref`](Node::downcast_ref) |
//! | cancelled | a part that was stopped, why and by whom: [`Cancelled`] | [`as_cancelled`](Node::as_cancelled) |
//! | library | a [`LibraryFailure`], which says what to do | [`as_library`](Node::as_library) |
//! | group | a message and at least one node | [`message`](Node::message), [`children`](Node::children) |
//!
//! Every node can have notes, the name of the task or scope that it came from, a cause, and *contexts*: what was
//! being handled when it arose. As an error need not be `Clone`, a context is kept in the node that it explains, or
//! the node refers to it where it is, usually beside it in the same group; see [`FailureContext`].
//!
//! # What can be done with one
//!
//! | | |
//! | --- | --- |
//! | build | [`leaf`](Failure::leaf), [`group`](Failure::group), [`group_of`](Failure::group_of), [`derive`](Failure::derive), [`Teardown`] |
//! | look | [`leaves`](Node::leaves) with their paths, [`errors`](Node::errors), [`find`](Node::find) |
//! | part | [`split`](Failure::split), [`subgroup`](Failure::subgroup), [`split_by_type`](Failure::split_by_type), [`Catch`] |
//! | reshape | [`map`](Failure::map), [`erase`](Failure::erase), [`flatten`](Failure::flatten), [`into_leaves`](Failure::into_leaves), [`to_failure`](Node::to_failure) |
//! | un-nest | [`collapse_eg`], [`get_collapsed_eg`], [`Collapse`] |
//! | cancellation | [`is_multi_cancelled`], [`cancelled_part`](Failure::cancelled_part), [`without_cancelled`](Failure::without_cancelled), [`absorb_cancelled`](OutcomeExt::absorb_cancelled) |
//! | unmask | [`maybe_raise_from_masking_exc`], [`Unmask`], [`masked`](Node::masked) |
//! | print | `{}` is a line, `{:#}` and [`tree`](Node::tree) are the tree |
//! | test | [`assert_failure!`], [`Expected`] |
//!
//! Un-nesting and unmasking also come as methods on results ([`OutcomeExt`]) and around futures ([`OutcomeFutureExt`]).
//!
//! # When not to use it
//!
//! If at most one thing can fail at a time, `Box<dyn Error>` or `anyhow` say as much. If the errors are a plain list that nobody
//! nests, cancels or hands on, a `Vec` is cheaper.
//!
//! # Features
//!
//! - `std` (default): without it the crate is `no_std` and needs `alloc`.
//! - `anyhow`, `eyre`: `AnyError: From<anyhow::Error>`, for `.map_err(AnyError::from)?`, `anyhow::Error: From<Failure>`, for `?`,
//!   and `Failure::from_anyhow`, which gives a whole tree back. The same for `eyre`.
//! - `serde`: failures serialize as flat lists of nodes.
#![forbid(unsafe_code)]
#![no_std]
#![doc(test(attr(deny(warnings))))]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod any_error;
mod cancellation;
mod cancelled;
mod catch;
mod collapse;
mod compare;
mod context;
mod convert;
mod copy;
mod failure;
mod leaves;
mod library;
mod list;
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
pub use catch::{Catch, Handled};
pub use collapse::{Collapse, Ignore, Ignored, NothingIgnored, collapse_eg, get_collapsed_eg};
pub use context::{ContextRelation, FailureContext, FailureMark};
pub use failure::Failure;
pub use leaves::Leaves;
pub use library::{ChildEnded, EmptyGroup, LibraryFailure};
pub use matching::{Expected, Mismatch};
pub use node::Node;
pub use outcome::{AbsorbCancelled, CollapseEg, MaybeRaise, OutcomeExt, OutcomeFutureExt};
pub use teardown::Teardown;
pub use tree::{LeafError, Tree};
pub use unmask::{KeepPair, Masked, NoPairKept, PairKept, Unmask, maybe_raise_from_masking_exc};

#[doc(hidden)]
pub use matching::internal as __matching;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
