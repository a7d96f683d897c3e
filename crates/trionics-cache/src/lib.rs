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
//! ```
//! use trionics_cache::{ContextCache, maybe_open_context};
//! use trionics_errgroup::Failure;
//! use trionics_gather::{Slot, acm};
//! use trionics_nursery::{Nursery, open_nursery};
//!
//! async fn connect(name: &'static str, slot: Slot<String>) -> Result<(), Failure> {
//!     slot.provide(format!("connection to {name}")).await; // the users run here
//!     Ok(()) // say goodbye here, with as many awaits as it takes
//! }
//!
//! let cache: ContextCache<&str, String> = ContextCache::new();
//! let use_it = async || {
//!     let make = || acm(|slot| connect("db", slot));
//!     maybe_open_context(&cache, "db", make, async |cache_hit, connection| {
//!         assert_eq!(*connection, "connection to db");
//!         Ok(cache_hit)
//!     })
//!     .await
//! };
//! let hits = futures::executor::block_on(open_nursery(async |n: Nursery<'_>| {
//!     n.start_soon(cache.serve());
//!     let hits = futures::join!(use_it(), use_it());
//!     cache.close();
//!     Ok((hits.0?, hits.1?))
//! }));
//! assert_eq!(hits.unwrap(), (false, true)); // the second one shared it
//! ```
//!
//! # The life of a resource
//!
//! Per key at most one generation is alive, from the first user's set-up to the end of the exit. Keys do not hold each other up.
//!
//! | when somebody opens a key that is … | then |
//! |---|---|
//! | not there | it is set up, and the opener waits |
//! | being set up | the opener waits with the others |
//! | in use, or idle | it is shared, without an await |
//! | being torn down | the opener waits for the end, and it is set up anew |
//! | needed by what opens it | a failure says so, with the way round |
//!
//! | when … | then |
//! |---|---|
//! | the first user leaves before the others | the resource stays: it belongs to the service |
//! | the last user leaves | it is torn down before that user goes on, or [kept](CacheOptions::keep_alive) for a while |
//! | a user is cancelled while it waits | it leaves the queue; a set-up for nobody is cancelled and unwinds |
//! | the service is cancelled | users' blocks are cancelled, leases are marked, and the exit waits for them |
//! | the cache is [closed](ContextCache::close) | no more opens; the service ends with the last user |
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
mod generation;
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
