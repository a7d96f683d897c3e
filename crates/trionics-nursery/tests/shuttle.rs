//! Model checks: the races between threads that the tree and a nursery's children live with.
//!
//! They run the production code on the model checker's locks and atomics, on random schedules:
//! `RUSTFLAGS="--cfg trionics_shuttle" cargo test -p trionics-nursery --release --test shuttle`.
//! They go through the public interface only, so that what is inside can be rewritten under them.
#![cfg(trionics_shuttle)]
#![allow(
    clippy::unit_arg,
    reason = "children that only wait are short that way"
)]

#[path = "shuttle/children.rs"]
mod children;
#[path = "shuttle/contexts.rs"]
mod contexts;
#[path = "shuttle/deadlines.rs"]
mod deadlines;
#[path = "shuttle/executors.rs"]
mod executors;
#[path = "shuttle/places.rs"]
mod places;
#[path = "shuttle/scopes.rs"]
mod scopes;
#[path = "shuttle/starts.rs"]
mod starts;
#[path = "shuttle/tools.rs"]
mod tools;
#[path = "shuttle/wakes.rs"]
mod wakes;
