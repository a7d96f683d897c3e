//! Fan-out of any [`Stream`] to any number of tasks on any threads: no pump task, and the fastest subscriber loses nothing.
#![forbid(unsafe_code)]

mod channel;
mod error;
mod loom;
mod receiver;
mod signal;

pub use self::{
    error::{BroadcastError, CapacityError, Lagged, MAX_BUFFER_SIZE, TryRecvError},
    receiver::{BroadcastReceiver, Recv, RecvRef, ValueRef, broadcast_receiver},
};

#[cfg(doc)]
use futures_core::Stream;
