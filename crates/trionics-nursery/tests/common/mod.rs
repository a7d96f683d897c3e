//! What the tests of several crates share.
#![allow(
    unused_imports,
    unreachable_pub,
    reason = "each test file uses its part"
)]

pub use testkit::*;
