//! A deterministic executor with a virtual clock, for tests.
//!
//! [`run`] drives a future and whatever it [`spawn`]s on the calling thread. Time stands still while
//! anything can run; when everything waits, the [`VirtualClock`] jumps to the next timer. A test of an
//! hour's timeouts takes no time, and takes the same turns each time.

mod clock;
mod executor;

pub use self::{
    clock::VirtualClock,
    executor::{Task, elapsed, run, spawn},
};
