//! A deterministic executor with a virtual clock, for tests of programs of any sort.
//!
//! [`run`] drives a future and whatever it [`spawn`]s on the calling thread. Time stands still while
//! anything can run; when everything waits, the [`VirtualClock`] jumps to the next timer. A test of an
//! hour's timeouts takes no time, and takes the same turns each time.
//!
//! | a test wants to | it calls |
//! |---|---|
//! | run once, first woken first polled | [`run`] |
//! | find what depends on an order that nobody promised | [`for_each_seed`], [`seeded_tests!`](crate::seeded_tests) |
//! | run again in the order that failed | [`run_with_seed`], or `TRIONICS_SEED=… cargo test` |
//! | go on when everybody else is stuck, and not before | [`wait_all_blocked`] |
//! | know how much time has gone by | [`elapsed`] |
//!
//! A test that can never go on is an error that shows the task tree, and does not hang.
//!
//! What is tested may use any channel and any lock that needs no runtime: those of `futures`, of
//! `tokio::sync`, of `async-channel` and the like. Sockets and timers of a runtime do not work here; timers
//! are [`sleep`](crate::sleep) and its kin.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use trionics_nursery::{Nursery, open_nursery, sleep, testing};
//!
//! testing::for_each_seed(200, || async {
//!     let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
//!     let sum = open_nursery(async |n: Nursery<'_>| {
//!         for i in 1..=3 {
//!             let sender = sender.clone();
//!             n.start_soon(async move {
//!                 sleep(Duration::from_secs(i)).await;
//!                 sender.send(i).await?;
//!                 Ok(())
//!             });
//!         }
//!         drop(sender);
//!         let mut sum = 0;
//!         while let Some(i) = receiver.recv().await {
//!             sum += i;
//!         }
//!         Ok(sum)
//!     });
//!     assert_eq!(sum.await.unwrap(), 6);
//!     assert_eq!(testing::elapsed(), Duration::from_secs(3));
//! });
//! ```

mod blocked;
mod clock;
mod executor;
mod random;
mod seeds;

pub(crate) use self::executor::{is_shuffled, shuffle};
pub use self::{
    blocked::{WaitAllBlocked, wait_all_blocked},
    clock::VirtualClock,
    executor::{Task, elapsed, run, spawn},
    seeds::{for_each_seed, run_with_seed, seed},
};
