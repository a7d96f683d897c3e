//! One shared async resource per key: the first user pays the set-up, later ones share it, and when the
//! last one leaves it is torn down, asynchronously, before that last user goes on.
//!
//! A resource is an [async context](trionics_gather::AsyncContext). A [`ContextCache`] runs it in a
//! [service](ContextCache::serve) of its own, so that it belongs to no user in particular, and runs its
//! exit in full, also when everything is being cancelled. See [`maybe_open_context`] for a block that
//! uses a key, and [`ContextCache::open`] for a use that composes with other contexts.
//!
//! Per key at most one generation is alive, from the first user's set-up to the end of the exit. An open
//! that comes during the exit waits for it and sets up anew. Keys do not hold each other up.
//!
//! # When not to use it
//!
//! For values that need no teardown, a map of `OnceCell`s or a cache crate is simpler. A resource that
//! opens its own key in its set-up or its exit waits for itself, until the service is cancelled in the
//! former case and without end in the latter; so do two that open each other's.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod cache;
mod generation;
mod service;

pub use crate::cache::{CacheValue, ContextCache, maybe_open_context};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
