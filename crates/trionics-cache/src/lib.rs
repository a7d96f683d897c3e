//! One shared async resource per key: the first user pays the set-up, later ones share it, and when the
//! last one leaves it is torn down, asynchronously, before that last user goes on.
//!
//! A resource is an [async context](trionics_gather::AsyncContext). A [`ContextCache`] runs it in a
//! [service](ContextCache::serve) of its own, so that it belongs to no user in particular, and runs its
//! exit in full, also when everything is being cancelled. [`maybe_open_context`] is a block that
//! uses a key, [`ContextCache::open`] gives a [`Lease`] that can be kept, [`ContextCache::context`] is a
//! use that composes with other contexts, and [`KeySlot`] is a shortcut for who comes often. Libraries that
//! are given no cache use that of the process: [`maybe_open_default`].
//!
//! Per key at most one generation is alive, from the first user's set-up to the end of the exit. An open
//! that comes during the exit waits for it and sets up anew. Keys do not hold each other up.
//!
//! # Set-ups that open keys
//!
//! A set-up may open other keys, of this or of another cache; so may an exit. If what it opens waits for it, directly or over other
//! keys and tasks, it is told so at once, by a [`LibraryFailure::Cycle`](trionics_errgroup::LibraryFailure::Cycle)
//! that names the keys on the way. Who opens what is known from the scope tree: through
//! nurseries, combinators, children on executors and carried futures. A bare `tokio::spawn` leaves
//! the tree, and a set-up that waits for such a task hides from the search: carry the scope along with
//! [`in_current_scope`](trionics_nursery::in_current_scope).
//!
//! # What happens to errors
//!
//! | what fails | who hears of it |
//! |---|---|
//! | a set-up | its opener; the next in the queue tries ([or all hear](CacheOptions::share_failures)) |
//! | a set-up whose opener has gone | the next in the queue, who is the opener now |
//! | a set-up whose opener goes when it has failed, before it was told | as an exit that nobody waits for: the next in the queue tries by then |
//! | an exit | the last user, if it [closes](Lease::close) its lease or uses a block |
//! | an exit that nobody waits for | the [handler](CacheOptions::on_unheard_failure), else the service's outcome |
//!
//! # When not to use it
//!
//! For values that need no teardown, a map of `OnceCell`s or a cache crate is simpler.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod asking;
mod block;
mod cache;
mod core;
mod cycle;
mod default;
mod effects;
mod few;
mod hash;
mod identity;
mod index;
mod lease;
mod open;
mod options;
mod service;
mod slot;
mod statistics;
mod sync;
mod tenure;
mod ticket;
mod trouble;
mod waiting;

pub use crate::{
    block::{CacheValue, maybe_open_context},
    cache::ContextCache,
    default::{
        DefaultValue, close_default, maybe_open_default, maybe_open_default_keyed, serve_default,
    },
    hash::FastHash,
    lease::{Lease, LeaseEnd},
    open::Open,
    options::{CacheOptions, WhenFull},
    slot::KeySlot,
    statistics::Statistics,
};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
