//! Sources that can fail.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream, TryStream};

use crate::{
    broadcast::Broadcast,
    error::{BroadcastError, CapacityError, Lagged},
    receiver::BroadcastReceiver,
    statistics::Statistics,
};

/// Shares a source that can fail: its first error ends the broadcast, and every subscriber is told it.
///
/// Each subscriber gets the error once, after everything it had still to read, and then the end; so do those who subscribe later. An error
/// can therefore not be lost by a subscriber that lags. The error need not be `Clone`.
///
/// A source that goes on after an error is better shared by [`broadcast_receiver`](crate::broadcast_receiver), as a stream of results.
///
/// # Errors
///
/// If `max_buffer_size` is zero or larger than [`MAX_BUFFER_SIZE`](crate::MAX_BUFFER_SIZE); the error gives the source back.
///
/// # Examples
///
/// ```
/// use std::io;
///
/// use futures::{executor::block_on, stream};
/// use trionics_broadcast::{BroadcastError, try_broadcast_receiver};
///
/// let lines = stream::iter([Ok("one"), Err(io::Error::other("gone"))]);
/// let mut first = try_broadcast_receiver(lines, 16)?;
/// let mut second = first.subscribe();
/// block_on(async {
///     for receiver in [&mut first, &mut second] {
///         assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
///         match receiver.recv().await {
///             Some(Err(BroadcastError::Source(error))) => assert_eq!(error.to_string(), "gone"),
///             other => panic!("{other:?}"),
///         }
///         assert!(receiver.recv().await.is_none());
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn try_broadcast_receiver<S: TryStream>(
    source: S,
    max_buffer_size: usize,
) -> Result<TryBroadcastReceiver<S>, CapacityError<S>> {
    TryBroadcastReceiver::open(source, Broadcast::new(max_buffer_size))
}

/// What a receive from a fallible source gives.
type Received<S> = Option<Result<<S as TryStream>::Ok, BroadcastError<<S as TryStream>::Error>>>;

/// A subscription to a fallible source that is shared by many; see [`try_broadcast_receiver`].
pub struct TryBroadcastReceiver<S: TryStream> {
    receiver: BroadcastReceiver<UntilFailure<S>>,
    failure: Arc<OnceLock<Arc<S::Error>>>,
    /// Whether this subscription has been told the failure.
    is_told: bool,
}

impl<S: TryStream> TryBroadcastReceiver<S> {
    pub(crate) fn open(source: S, settings: Broadcast) -> Result<Self, CapacityError<S>> {
        let source = settings.check(source)?;
        let failure = Arc::new(OnceLock::new());
        let source = UntilFailure {
            source: Box::pin(source),
            failure: Arc::clone(&failure),
        };
        Ok(Self::new(
            BroadcastReceiver::start(source, settings),
            failure,
        ))
    }

    fn new(
        receiver: BroadcastReceiver<UntilFailure<S>>,
        failure: Arc<OnceLock<Arc<S::Error>>>,
    ) -> Self {
        Self {
            receiver,
            failure,
            is_told: false,
        }
    }

    /// Subscribes from now; see [`BroadcastReceiver::subscribe`].
    pub fn subscribe(&self) -> Self {
        Self::new(self.receiver.subscribe(), Arc::clone(&self.failure))
    }

    /// Subscribes from the oldest value kept; see [`BroadcastReceiver::subscribe_from_oldest`].
    pub fn subscribe_from_oldest(&self) -> Self {
        Self::new(
            self.receiver.subscribe_from_oldest(),
            Arc::clone(&self.failure),
        )
    }

    /// Receives the next value, a loss, the source's failure, or `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Panics
    ///
    /// As [`BroadcastReceiver::recv`].
    pub async fn recv(&mut self) -> Option<Result<S::Ok, BroadcastError<S::Error>>>
    where
        S::Ok: Clone,
    {
        let item = self.receiver.recv().await;
        self.or_failure(item)
    }

    /// Polls for what [`recv`](Self::recv) gives.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Received<S>>
    where
        S::Ok: Clone,
    {
        let item = ready!(self.receiver.poll_recv(context));
        Poll::Ready(self.or_failure(item))
    }

    /// At the end comes the failure, if there was one, once.
    fn or_failure<T>(
        &mut self,
        item: Option<Result<T, Lagged>>,
    ) -> Option<Result<T, BroadcastError<S::Error>>> {
        if let Some(item) = item {
            return Some(item.map_err(BroadcastError::Lagged));
        }
        if self.is_told || self.is_closed() {
            return None;
        }
        let failure = self.failure()?;
        self.is_told = true;
        Some(Err(BroadcastError::Source(failure)))
    }

    /// The error with which the source has failed, if it has, whether or not this subscription has been told.
    pub fn failure(&self) -> Option<Arc<S::Error>> {
        self.failure.get().cloned()
    }

    /// How many published values this subscription has neither received nor been told to have lost.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether this subscription has read all values there are.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Whether this subscription was closed.
    pub fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }

    /// Ends this subscription; see [`BroadcastReceiver::close`].
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// Takes a snapshot of the broadcast.
    pub fn statistics(&self) -> Statistics {
        self.receiver.statistics()
    }

    /// Gives this handle up and returns the source if it was the last; see [`BroadcastReceiver::into_source`].
    pub fn into_source(self) -> Option<Pin<Box<S>>> {
        let source = self.receiver.into_source()?;
        Some(Pin::into_inner(source).source)
    }
}

/// Yields what [`recv`](TryBroadcastReceiver::recv) gives.
impl<S: TryStream> Stream for TryBroadcastReceiver<S>
where
    S::Ok: Clone,
{
    type Item = Result<S::Ok, BroadcastError<S::Error>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context)
    }
}

impl<S: TryStream> FusedStream for TryBroadcastReceiver<S>
where
    S::Ok: Clone,
{
    fn is_terminated(&self) -> bool {
        let may_tell = !self.is_told && !self.is_closed() && self.failure.get().is_some();
        self.receiver.is_terminated() && !may_tell
    }
}

/// Nothing in a receiver is pinned: the source is boxed.
impl<S: TryStream> Unpin for TryBroadcastReceiver<S> {}

impl<S: TryStream> fmt::Debug for TryBroadcastReceiver<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TryBroadcastReceiver")
            .field("receiver", &self.receiver)
            .field("has_failed", &self.failure.get().is_some())
            .finish_non_exhaustive()
    }
}

/// Ends at the first error, and leaves it where all subscribers find it.
struct UntilFailure<S: TryStream> {
    /// Boxed once more, so that it can be given back.
    source: Pin<Box<S>>,
    failure: Arc<OnceLock<Arc<S::Error>>>,
}

impl<S: TryStream> Stream for UntilFailure<S> {
    type Item = S::Ok;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Ok>> {
        match ready!(self.source.as_mut().try_poll_next(context)) {
            Some(Ok(value)) => Poll::Ready(Some(value)),
            Some(Err(error)) => {
                // Set before the channel announces the end. The source is not polled again, so nobody else sets it.
                let _ = self.failure.set(Arc::new(error));
                Poll::Ready(None)
            }
            None => Poll::Ready(None),
        }
    }
}
