//! What a user coming from a peer expects: behaviors that the test suites of trio, anyio, asyncio, tokio, Kotlin, Swift,
//! moro and the futures crates pin down for themselves, asked of this crate.
//!
//! Each test says whose expectation it is. Where the rules of this crate differ on purpose, the test shows the difference.

mod common;

#[path = "expectations/deadlines.rs"]
mod deadlines;
#[path = "expectations/executors.rs"]
mod executors;
#[path = "expectations/nurseries.rs"]
mod nurseries;
#[path = "expectations/scopes.rs"]
mod scopes;
#[path = "expectations/starts.rs"]
mod starts;
