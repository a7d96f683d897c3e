//! Fan-out of any `Stream` to any number of tasks on any threads: no pump task, and the fastest subscriber loses nothing.
//!
//! [`broadcast_receiver`] wraps a stream. Everybody who [subscribes](BroadcastReceiver::subscribe) gets every value that is taken from it from
//! then on, in order, or is told exactly how many were lost. There is no task in between: whoever asks first for a value that is not there yet
//! polls the stream, so that it is read as fast as the fastest subscriber reads, and not at all while nobody asks.
//!
//! ```
//! use futures::{StreamExt, executor::block_on, join, stream};
//! use trionics_broadcast::broadcast_receiver;
//!
//! let mut quotes = broadcast_receiver(stream::iter([101, 103, 102]), 64)?;
//! let watching = quotes.subscribe();
//! block_on(async {
//!     let highest = async {
//!         let mut highest = 0;
//!         while let Some(item) = quotes.recv().await {
//!             match item {
//!                 Ok(quote) => highest = highest.max(quote),
//!                 Err(lagged) => eprintln!("{} quotes were lost", lagged.count()),
//!             }
//!         }
//!         highest
//!     };
//!     let (highest, seen) = join!(highest, watching.collect::<Vec<_>>());
//!     assert_eq!(highest, 103);
//!     assert_eq!(seen, [Ok(101), Ok(103), Ok(102)]);
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a receive gives
//!
//! | the subscriber … | [`recv`](BroadcastReceiver::recv) gives |
//! | --- | --- |
//! | has values to read | the next one, without an await: `Some(Ok(value))` |
//! | has read everything | what the source gives next, as soon as it does |
//! | was overtaken by more than the window | `Some(Err(lagged))` once, with the exact number, and then the oldest value kept |
//! | has read everything, and the source has ended | `None`, however often it asks |
//! | was closed | `None` |
//!
//! # Who waits for whom
//!
//! | | the source is read | who lags | |
//! | --- | --- | --- | --- |
//! | [`broadcast_receiver`] | as fast as the fastest subscriber asks | is told what it has lost | nobody waits for the slow |
//! | [`skip_lagged`](BroadcastReceiver::skip_lagged) | the same | goes on with the oldest value kept | counts what it skips |
//! | [`wait_for_slowest`](Broadcast::wait_for_slowest) | as fast as the slowest asks | nobody | nothing is lost |
//!
//! # Lagging
//!
//! The last `max_buffer_size` values are kept, exactly that many. A subscriber that is further behind is told [`Lagged`] with the number it has
//! lost, once, and goes on with the oldest value kept. A receive gives `Option<Result<T, Lagged>>`, the same as the stream's item: `None` is the
//! end and nothing else, so a loop that ends with `None` cannot end by lagging. [`skip_lagged`](BroadcastReceiver::skip_lagged) skips and counts
//! instead of telling. [`Broadcast::wait_for_slowest`] makes the source wait instead of anybody losing values.
//!
//! Before a block of values is opened at the expense of a subscriber that has lost nothing yet, whoever is pulling yields to its executor once.
//! On one thread, subscribers that read therefore lose nothing, also if the source is always ready, as long as the executor runs ready tasks in
//! turns. (tokio does; but it may let tasks that were spawned from outside the runtime, and have not run yet, wait for some thirty turns.)
//!
//! # The end
//!
//! The end of the source is durable: each subscriber gets it after what it had still to read, and so does who subscribes later. A source that
//! panics has ended; the panic goes to the one receive that polled it. [`try_broadcast_receiver`] tells everybody the error of a source that fails.
//!
//! # Cancellation
//!
//! Every receive can be dropped at any time without losing anything, and a subscriber that waits, moves to another task, is dropped, leaked or never
//! polled again strands nobody: what the source was doing stays in the source, and its wake reaches all who wait.
//!
//! # Threads
//!
//! A subscription may be used on any thread if the source is [`Send`] and its values are [`Send`] and [`Sync`]: the source is polled by one
//! thread at a time, values are read by many at once. Values that are not `Sync` can be sent as `Arc<Mutex<T>>`. On one thread nothing is required.
//!
//! # Memory
//!
//! Values lie in blocks of at most 32, and of at most half the window. A block is dropped, with its values, once the window has left it: fewer than
//! two blocks are alive beside the window. Only a subscriber that stays in the middle of a block, and receives nothing for longer than the window,
//! keeps that one block until it is told its loss, closed or dropped (closed from elsewhere, until it sees that). The last subscription takes all
//! values, and the source, with it. Values go in the order in which they came. A sole subscriber is given the values themselves: no clone, nothing
//! kept. [`recv_ref`](BroadcastReceiver::recv_ref) never clones.
//!
//! The blocks are the one module with unsafe code, as pulling from a fast source was half as slow again without. It has its invariants numbered, its own
//! model, and the crate's tests run under AddressSanitizer, too.
//!
//! # When not to use it
//!
//! - If each value is for one task only, use a queue. If only the newest value counts, use a watch channel.
//! - If there is no source but a sender in your own program, and it must not wait for subscribers to ask, a channel with a sender such as tokio's
//!   `broadcast` fits better. An unbounded queue in front of [`broadcast_receiver`] does the same.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod receiver;

mod broadcast;
mod error;
mod fallible;
mod handle;
mod skip;
mod source;
mod statistics;

#[allow(unsafe_code, reason = "see there")]
mod block;
mod channel;
mod signal;

mod loom;

pub use self::{
    broadcast::Broadcast,
    error::{BroadcastError, CapacityError, Lagged, MAX_BUFFER_SIZE, TryRecvError},
    fallible::{
        Received, TryBroadcastReceiver, UntilFailure, WeakTryBroadcastReceiver,
        try_broadcast_receiver,
    },
    handle::{CloseHandle, Closed, WeakBroadcastReceiver},
    receiver::{BroadcastReceiver, Recv, RecvRef, ValueRef, broadcast_receiver},
    skip::SkipLagged,
    source::receive_stream,
    statistics::{Statistics, SubscriberStatistics},
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
