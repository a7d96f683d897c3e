//! Async contexts for Rust: set-up and teardown that run to their end, entered and exited concurrently.
//!
//! A [context](AsyncContext) sets something up, lends it to a block, and tears it down afterwards, with
//! awaits on both sides. Its exit runs however the block ended: with a value, with a failure, with a
//! panic, or stopped by the cancellation of a scope around it. That is what `Drop` cannot do.
//!
//! ```
//! use trionics_errgroup::Failure;
//! use trionics_gather::{Slot, acm, with_context};
//!
//! async fn feed(name: &str, slot: Slot<usize>) -> Result<(), Failure> {
//!     let feed = name.len();         // connect, with as many awaits as it takes
//!     slot.provide(feed).await;      // the block runs here
//!     // unsubscribe, with as many awaits as it takes: always runs
//!     Ok(())
//! }
//!
//! # futures::executor::block_on(async {
//! let doubled = with_context(acm(|slot| feed("quotes", slot)), async |feed| Ok(feed * 2)).await;
//! assert_eq!(doubled.unwrap(), 12);
//! # });
//! ```
//!
//! # What is here
//!
//! | to … | there is |
//! |---|---|
//! | make a context | [`acm`] from an async function, [`acm_pair`] from a set-up and an exit, [`null_context`] from a plain value, [`nursery_context`] from a nursery, or a type of your own: [`AsyncContext`] |
//! | change one | [`AsyncContext::map`], [`boxed`](AsyncContext::boxed), [`boxed_local`](AsyncContext::boxed_local) |
//! | enter one | [`with_context`] |
//! | enter several at once | [`gather_contexts`]; a few at a time: [`GatherOptions::limit`] |
//! | enter them in a nursery that is there | [`gather_contexts_in`] |
//! | enter them one after another, at run time | [`open_exit_stack`] |
//! | run futures side by side | [`join`], [`try_join`], [`race`], [`try_race`], [`race_ok`] |
//! | clean up after a block | [`finally`] |
//!
//! # How a context can end
//!
//! | what it does | outcome |
//! |---|---|
//! | hangs in set-up | waits; a cancellation stops it, and it owes no exit |
//! | fails in set-up | its failure; the block is not run |
//! | returns without having provided | [`NotProvided`]; the block is not run |
//! | fails while the block runs | the block is cancelled; its failure |
//! | returns while the block runs | the block is cancelled; [`ContextEnded`] |
//! | drops its [`provide`](Slot::provide) while the block runs | the block is cancelled, and then the context is, unless it has returned by then; a `Cancelled` failure whose reason says so, and a report of what was cut off |
//! | fails in its exit | its failure, beside the block's if that has failed too |
//! | hangs in its exit | waits; only a grace period ends it, and reports it |
//! | panics in set-up, in use or in its exit | the block is cancelled, other exits run, then the panic is resumed |
//! | is dropped from outside before its exit has run | reported to the hook of `trionics-nursery` |
//!
//! The same holds in each way of entering it. In [`gather_contexts_in`] the outcome is the nursery's, and a
//! failing set-up on an [`ExitStack`] is the caller's.
//!
//! [`NotProvided`]: trionics_errgroup::LibraryFailure::NotProvided
//! [`ContextEnded`]: trionics_errgroup::LibraryFailure::ContextEnded
//!
//! # When not to use it
//!
//! For a resource whose teardown needs no await, `Drop` is simpler.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod boxed;
mod context;
mod delivery;
mod exit_stack;
mod finally;
mod gather;
mod gather_in;
mod held;
mod join;
mod limit;
mod map;
mod null_context;
mod nursery_context;
mod options;
mod pair;
mod race;
mod set;
mod tenancy;

pub use crate::{
    boxed::{BoxContext, LocalBoxContext},
    context::{Acm, AsyncContext, BlockEnd, Provide, Slot, acm},
    exit_stack::{Enter, ExitStack, LocalExitStack, open_exit_stack, open_local_exit_stack},
    finally::finally,
    gather::{gather_contexts, with_context},
    gather_in::{EnterIn, GatherGuard, HostNursery, gather_contexts_in},
    join::{Join, TryJoin, join, try_join},
    map::Map,
    null_context::{NullContext, null_context},
    nursery_context::{NurseryContext, local_nursery_context, nursery_context},
    options::GatherOptions,
    pair::{AcmPair, acm_pair},
    race::{Race, race, race_ok, try_race},
    set::ContextSet,
};

/// What the sibling crates build on. Not part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::tenancy::{Tenancy, TenancyOf, let_out};
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
