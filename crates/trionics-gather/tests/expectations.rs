//! What a user coming from a peer expects: behaviors that the test suites of Python's contextlib, tractor, trio, tokio, the
//! futures crates and futures-concurrency pin down for themselves, asked of this crate.
//!
//! Each test says whose expectation it is. Where the rules of this crate differ on purpose, the test shows the difference.

mod common;

#[path = "expectations/combinators.rs"]
mod combinators;
#[path = "expectations/contexts.rs"]
mod contexts;
#[path = "expectations/exit_stacks.rs"]
mod exit_stacks;
