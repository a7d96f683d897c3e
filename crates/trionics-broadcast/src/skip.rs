//! Receiving without being told of losses one by one.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream, TryStream};

use crate::{
    error::{BroadcastError, Lagged},
    fallible::TryBroadcastReceiver,
    receiver::BroadcastReceiver,
};

/// A subscription that skips what it has lost, and counts it; made by [`BroadcastReceiver::skip_lagged`] and
/// [`TryBroadcastReceiver::skip_lagged`].
///
/// It yields values, those of a fallible source as results, whose error is the source's and comes last.
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
pub struct SkipLagged<R> {
    receiver: R,
    n_skipped: u64,
}

impl<R> SkipLagged<R> {
    pub(crate) fn new(receiver: R) -> Self {
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
    pub async fn recv(&mut self) -> Option<R::Item>
    where
        R: Receive,
    {
        loop {
            match self.receiver.receive().await? {
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
    pub fn get_ref(&self) -> &R {
        &self.receiver
    }

    /// The subscription inside; losses that are told by receiving from it directly are not counted here.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.receiver
    }

    /// Gives back the subscription, which tells its losses again.
    pub fn into_inner(self) -> R {
        self.receiver
    }
}

impl<R: Receive> Stream for SkipLagged<R> {
    type Item = R::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<R::Item>> {
        loop {
            match ready!(self.receiver.poll_receive(context)) {
                Some(Err(lagged)) => self.n_skipped += lagged.count(),
                Some(Ok(value)) => return Poll::Ready(Some(value)),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<R: Receive + FusedStream> FusedStream for SkipLagged<R> {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

/// What can be told of losses, and can therefore skip them; not for others to implement.
pub trait Receive: Unpin {
    /// What is received if nothing is lost.
    type Item;

    #[doc(hidden)]
    fn receive(&mut self) -> impl Future<Output = Option<Result<Self::Item, Lagged>>>;

    #[doc(hidden)]
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Self::Item, Lagged>>>;
}

impl<S: Stream> Receive for BroadcastReceiver<S>
where
    S::Item: Clone,
{
    type Item = S::Item;

    fn receive(&mut self) -> impl Future<Output = Option<Result<S::Item, Lagged>>> {
        self.recv()
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<S::Item, Lagged>>> {
        self.poll_recv(context)
    }
}

impl<S: TryStream> Receive for TryBroadcastReceiver<S>
where
    S::Ok: Clone,
{
    type Item = Result<S::Ok, Arc<S::Error>>;

    async fn receive(&mut self) -> Option<Result<Self::Item, Lagged>> {
        self.recv().await.map(loss_apart)
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Self::Item, Lagged>>> {
        self.poll_recv(context).map(|item| item.map(loss_apart))
    }
}

/// The failure is received as values are; a loss is not.
fn loss_apart<T, E>(item: Result<T, BroadcastError<E>>) -> Result<Result<T, Arc<E>>, Lagged> {
    match item {
        Ok(value) => Ok(Ok(value)),
        Err(BroadcastError::Source(error)) => Ok(Err(error)),
        Err(BroadcastError::Lagged(lagged)) => Err(lagged),
    }
}
