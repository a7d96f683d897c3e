//! Settings that are seldom needed.

use futures_core::{Stream, TryStream};

use crate::{
    error::{CapacityError, MAX_BUFFER_SIZE},
    fallible::TryBroadcastReceiver,
    receiver::BroadcastReceiver,
};

/// How a source is to be shared, where [`broadcast_receiver`](crate::broadcast_receiver) does not do.
///
/// # Examples
///
/// ```
/// use futures::stream;
/// use trionics_broadcast::Broadcast;
///
/// let receiver = Broadcast::new(16).wait_for_slowest().share(stream::iter([1, 2, 3]))?;
/// # drop(receiver);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast {
    pub(crate) max_buffer_size: usize,
    pub(crate) waits_for_slowest: bool,
    pub(crate) keeps_for_latecomers: bool,
}

impl Broadcast {
    /// A window of `max_buffer_size` values, and everything else as in [`broadcast_receiver`](crate::broadcast_receiver).
    pub fn new(max_buffer_size: usize) -> Self {
        Self {
            max_buffer_size,
            waits_for_slowest: false,
            keeps_for_latecomers: false,
        }
    }

    /// Nobody lags: while a subscriber is a full window behind, the source is not polled, and the others wait.
    ///
    /// The danger: one subscription that is open and not being read stops all others for ever, the original handle included. Two subscriptions that
    /// one task reads in turns can wait for each other. Close or drop what is not read, and use this only where all
    /// subscribers are known.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{FutureExt, executor::block_on, stream};
    /// use trionics_broadcast::Broadcast;
    ///
    /// let mut fast = Broadcast::new(2).wait_for_slowest().share(stream::iter(0..))?;
    /// let mut slow = fast.subscribe();
    /// assert_eq!(block_on(fast.recv()), Some(Ok(0)));
    /// assert_eq!(block_on(fast.recv()), Some(Ok(1)));
    /// assert_eq!(fast.recv().now_or_never(), None);
    /// assert_eq!(block_on(slow.recv()), Some(Ok(0)));
    /// assert_eq!(block_on(fast.recv()), Some(Ok(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wait_for_slowest(mut self) -> Self {
        self.waits_for_slowest = true;
        self
    }

    /// The window is filled also while there is only one subscriber, so that
    /// [`subscribe_from_oldest`](BroadcastReceiver::subscribe_from_oldest) finds what that one has received.
    ///
    /// Without this, a sole subscriber is given the values themselves; with it, it is given clones.
    #[must_use]
    pub fn keep_for_latecomers(mut self) -> Self {
        self.keeps_for_latecomers = true;
        self
    }

    /// Refuses a window that cannot be had.
    pub(crate) fn check<S>(self, source: S) -> Result<S, CapacityError<S>> {
        if (1..=MAX_BUFFER_SIZE).contains(&self.max_buffer_size) {
            Ok(source)
        } else {
            Err(CapacityError::new(source, self.max_buffer_size))
        }
    }

    /// Shares `source`; see [`broadcast_receiver`](crate::broadcast_receiver).
    ///
    /// # Errors
    ///
    /// If the size of the window is zero or larger than [`MAX_BUFFER_SIZE`](crate::MAX_BUFFER_SIZE); the error gives the source back.
    pub fn share<S: Stream>(self, source: S) -> Result<BroadcastReceiver<S>, CapacityError<S>> {
        Ok(BroadcastReceiver::start(self.check(source)?, self))
    }

    /// Shares a fallible `source`; see [`try_broadcast_receiver`](crate::try_broadcast_receiver).
    ///
    /// # Errors
    ///
    /// If the size of the window is zero or larger than [`MAX_BUFFER_SIZE`](crate::MAX_BUFFER_SIZE); the error gives the source back.
    pub fn try_share<S: TryStream>(
        self,
        source: S,
    ) -> Result<TryBroadcastReceiver<S>, CapacityError<S>> {
        TryBroadcastReceiver::open(source, self)
    }
}
