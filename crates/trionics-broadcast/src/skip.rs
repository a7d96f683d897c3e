//! Receiving without being told of losses one by one.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};

use crate::receiver::BroadcastReceiver;

/// A subscription that skips what it has lost, and counts it; made by [`BroadcastReceiver::skip_lagged`].
///
/// Subscriptions made from the one inside are told their losses as usual.
///
/// # Examples
///
/// ```
/// use futures::{StreamExt, executor::block_on, stream};
/// use trionics_broadcast::broadcast_receiver;
///
/// let mut fast = broadcast_receiver(stream::iter(0..10), 4)?;
/// let mut slow = fast.subscribe().skip_lagged();
/// block_on(async {
///     while fast.recv().await.is_some() {}
///     assert_eq!(slow.recv().await, Some(6));
///     assert_eq!(slow.n_skipped(), 6);
///     assert_eq!(slow.next().await, Some(7));
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SkipLagged<S: Stream> {
    receiver: BroadcastReceiver<S>,
    n_skipped: u64,
}

impl<S: Stream> SkipLagged<S> {
    pub(crate) fn new(receiver: BroadcastReceiver<S>) -> Self {
        Self {
            receiver,
            n_skipped: 0,
        }
    }

    /// Receives the next value that is not lost, or `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Panics
    ///
    /// As [`BroadcastReceiver::recv`].
    pub async fn recv(&mut self) -> Option<S::Item>
    where
        S::Item: Clone,
    {
        loop {
            match self.receiver.recv().await? {
                Ok(value) => return Some(value),
                Err(lagged) => self.n_skipped += lagged.count(),
            }
        }
    }

    /// How many values were skipped so far.
    pub fn n_skipped(&self) -> u64 {
        self.n_skipped
    }

    /// The subscription inside.
    pub fn get_ref(&self) -> &BroadcastReceiver<S> {
        &self.receiver
    }

    /// The subscription inside; losses that are told by receiving from it directly are not counted here.
    pub fn get_mut(&mut self) -> &mut BroadcastReceiver<S> {
        &mut self.receiver
    }

    /// Gives back the subscription, which tells its losses again.
    pub fn into_inner(self) -> BroadcastReceiver<S> {
        self.receiver
    }
}

impl<S: Stream> Stream for SkipLagged<S>
where
    S::Item: Clone,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        loop {
            match self.receiver.poll_recv(context) {
                Poll::Ready(Some(Err(lagged))) => self.n_skipped += lagged.count(),
                Poll::Ready(Some(Ok(value))) => return Poll::Ready(Some(value)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: Stream> FusedStream for SkipLagged<S>
where
    S::Item: Clone,
{
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}
