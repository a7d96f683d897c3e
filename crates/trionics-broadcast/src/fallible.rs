//! Sources that can fail.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream, TryStream};

use crate::{
    broadcast::Broadcast,
    error::{BroadcastError, CapacityError, Lagged, TryRecvError},
    handle::{CloseHandle, Closed, WeakBroadcastReceiver},
    receiver::{BroadcastReceiver, ValueRef, Waiting},
    skip::SkipLagged,
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

/// What a receive from a fallible source gives: a value, a loss or the failure, or `None` at the end.
pub type Received<S> =
    Option<Result<<S as TryStream>::Ok, BroadcastError<<S as TryStream>::Error>>>;

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
        let receiver = self.receiver.subscribe_from_oldest();
        Self::new(receiver, Arc::clone(&self.failure))
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
    pub async fn recv(&mut self) -> Received<S>
    where
        S::Ok: Clone,
    {
        let item = self.receiver.recv().await;
        self.or_failure(item)
    }

    /// Receives like [`recv`](Self::recv), without cloning; see [`BroadcastReceiver::recv_ref`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_ref(
        &mut self,
    ) -> Option<Result<ValueRef<'_, S::Ok>, BroadcastError<S::Error>>> {
        let waiting = Waiting(&mut self.receiver);
        let found = poll_fn(|context| waiting.0.poll_delivery(context)).await;
        drop(waiting);
        match found {
            Some(delivery) => Some(self.receiver.lend(delivery).map_err(Into::into)),
            None => Some(Err(BroadcastError::Source(self.untold_failure()?))),
        }
    }

    /// Polls for what [`recv`](Self::recv) gives; see [`BroadcastReceiver::poll_recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Received<S>>
    where
        S::Ok: Clone,
    {
        let item = ready!(self.receiver.poll_recv(context));
        Poll::Ready(self.or_failure(item))
    }

    /// Receives what is already there; never asks the source.
    ///
    /// # Errors
    ///
    /// As [`BroadcastReceiver::try_recv`], and [`Source`](TryRecvError::Source) once, if the source has failed, after everything else was read.
    ///
    /// # Panics
    ///
    /// If the value's `clone` panics: this subscription has then lost that value.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::{TryRecvError, try_broadcast_receiver};
    ///
    /// let mut first = try_broadcast_receiver(stream::iter([Ok(1), Err("gone")]), 16)?;
    /// let mut second = first.subscribe();
    /// while block_on(first.recv()).is_some() {}
    /// assert_eq!(second.try_recv(), Ok(1));
    /// assert_eq!(second.try_recv(), Err(TryRecvError::Source("gone".into())));
    /// assert_eq!(second.try_recv(), Err(TryRecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<S::Ok, TryRecvError<Arc<S::Error>>>
    where
        S::Ok: Clone,
    {
        self.receiver.try_recv().map_err(|error| match error {
            TryRecvError::Empty => TryRecvError::Empty,
            TryRecvError::Lagged(lagged) => TryRecvError::Lagged(lagged),
            TryRecvError::Closed => self
                .untold_failure()
                .map_or(TryRecvError::Closed, TryRecvError::Source),
        })
    }

    /// At the end comes the failure, if there was one, once.
    fn or_failure(&mut self, item: Option<Result<S::Ok, Lagged>>) -> Received<S> {
        match item {
            Some(item) => Some(item.map_err(BroadcastError::Lagged)),
            None => Some(Err(BroadcastError::Source(self.untold_failure()?))),
        }
    }

    /// The failure, at the end, if there was one and this subscription is still to be told; then it has been told.
    fn untold_failure(&mut self) -> Option<Arc<S::Error>> {
        if self.is_told || self.is_closed() {
            return None;
        }
        let failure = self.failure()?;
        self.is_told = true;
        Some(failure)
    }

    /// The error with which the source has failed, if it has, whether or not this subscription has been told.
    pub fn failure(&self) -> Option<Arc<S::Error>> {
        self.failure.get().cloned()
    }

    /// How many values are there to be read; see [`BroadcastReceiver::len`]. A failure is not counted.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether this subscription has read all values there are.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// The number of values that are kept for slow subscribers.
    pub fn max_buffer_size(&self) -> usize {
        self.receiver.max_buffer_size()
    }

    /// Whether this subscription was closed.
    pub fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }

    /// Ends this subscription; see [`BroadcastReceiver::close`]. It is then told no failure either.
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// A handle that closes this subscription from elsewhere.
    pub fn close_handle(&self) -> CloseHandle<UntilFailure<S>> {
        self.receiver.close_handle()
    }

    /// A handle that keeps neither the broadcast nor a subscription open.
    pub fn downgrade(&self) -> WeakTryBroadcastReceiver<S> {
        WeakTryBroadcastReceiver {
            weak: self.receiver.downgrade(),
            failure: Arc::downgrade(&self.failure),
        }
    }

    /// Waits until the broadcast is over; see [`BroadcastReceiver::closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn closed(&self) -> Closed<UntilFailure<S>> {
        self.receiver.closed()
    }

    /// Whether the source has ended, failed or panicked; values may be left to read.
    pub fn has_ended(&self) -> bool {
        self.receiver.has_ended()
    }

    /// Whether the source has ended by a panic.
    pub fn has_panicked(&self) -> bool {
        self.receiver.has_panicked()
    }

    /// A number that tells this subscription from all others of the same source.
    pub fn id(&self) -> u64 {
        self.receiver.id()
    }

    /// How many values this subscription has been told to have lost so far.
    pub fn n_lost(&self) -> u64 {
        self.receiver.n_lost()
    }

    /// Receives without being told of losses: what was lost is skipped, and counted.
    ///
    /// # Cancel safety
    ///
    /// What receives from it can be dropped at any time without losing anything.
    pub fn skip_lagged(self) -> SkipLagged<Self> {
        SkipLagged::new(self)
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

/// Finds the broadcast of a fallible source again; see [`WeakBroadcastReceiver`].
///
/// Made by [`TryBroadcastReceiver::downgrade`].
pub struct WeakTryBroadcastReceiver<S: TryStream> {
    weak: WeakBroadcastReceiver<UntilFailure<S>>,
    /// Kept by the source, and so by every broadcast that is found again.
    failure: Weak<OnceLock<Arc<S::Error>>>,
}

impl<S: TryStream> WeakTryBroadcastReceiver<S> {
    /// Subscribes from now, unless all receivers were given up.
    pub fn subscribe(&self) -> Option<TryBroadcastReceiver<S>> {
        self.with_failure(self.weak.subscribe()?)
    }

    /// Subscribes from the oldest value kept, unless all receivers were given up.
    pub fn subscribe_from_oldest(&self) -> Option<TryBroadcastReceiver<S>> {
        self.with_failure(self.weak.subscribe_from_oldest()?)
    }

    /// Waits until the broadcast is over; see [`BroadcastReceiver::closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn closed(&self) -> Closed<UntilFailure<S>> {
        self.weak.closed()
    }

    fn with_failure(
        &self,
        receiver: BroadcastReceiver<UntilFailure<S>>,
    ) -> Option<TryBroadcastReceiver<S>> {
        Some(TryBroadcastReceiver::new(receiver, self.failure.upgrade()?))
    }
}

impl<S: TryStream> Clone for WeakTryBroadcastReceiver<S> {
    fn clone(&self) -> Self {
        Self {
            weak: self.weak.clone(),
            failure: Weak::clone(&self.failure),
        }
    }
}

impl<S: TryStream> fmt::Debug for WeakTryBroadcastReceiver<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("WeakTryBroadcastReceiver")
            .field(&self.weak)
            .finish()
    }
}

/// What a [`TryBroadcastReceiver`] shares: its source, up to the first error. Only a name in the types of handles.
///
/// Ends at the first error, and leaves it where all subscribers find it.
pub struct UntilFailure<S: TryStream> {
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

impl<S: TryStream> fmt::Debug for UntilFailure<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UntilFailure")
            .field("has_failed", &self.failure.get().is_some())
            .finish_non_exhaustive()
    }
}
