//! Fan-out of any [`Stream`] to any number of tasks on any threads: no pump task, and the fastest subscriber loses nothing.
#![forbid(unsafe_code)]

mod broadcast;
mod error;
mod fallible;
mod handle;
mod receiver;
mod skip;
mod source;
mod statistics;

mod channel;
mod signal;

mod loom;

pub use self::{
    broadcast::Broadcast,
    error::{BroadcastError, CapacityError, Lagged, MAX_BUFFER_SIZE, TryRecvError},
    fallible::{TryBroadcastReceiver, try_broadcast_receiver},
    handle::{CloseHandle, Closed, WeakBroadcastReceiver},
    receiver::{BroadcastReceiver, Recv, RecvRef, ValueRef, broadcast_receiver},
    skip::SkipLagged,
    source::receive_stream,
    statistics::{Statistics, SubscriberStatistics},
};

#[cfg(doc)]
use futures_core::Stream;
