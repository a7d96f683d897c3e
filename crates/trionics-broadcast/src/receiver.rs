//! The subscription: receiving, subscribing, closing.

use std::{
    fmt,
    future::Future,
    mem,
    ops::Deref,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};

use crate::{
    broadcast::Broadcast,
    channel::{Channel, Delivery, Reader, Start, Step},
    error::{CapacityError, Lagged, TryRecvError},
    handle::{CloseHandle, Closed, WeakBroadcastReceiver},
    skip::SkipLagged,
};

/// Makes `source` receivable by many: the receiver that is returned, and each [`subscribe`](BroadcastReceiver::subscribe)d from it, gets every value.
///
/// The last `max_buffer_size` values are kept for subscribers that are slower than the fastest; a subscriber that falls further behind
/// is told [`Lagged`] and goes on with the oldest value kept. The source is polled by whichever subscriber asks first for a value that is not
/// there yet, never by a task of its own.
///
/// # Errors
///
/// If `max_buffer_size` is zero or larger than [`MAX_BUFFER_SIZE`](crate::MAX_BUFFER_SIZE); the error gives the source back.
///
/// # Examples
///
/// ```
/// use futures::{executor::block_on, stream};
/// use trionics_broadcast::broadcast_receiver;
///
/// let mut first = broadcast_receiver(stream::iter(["a", "b"]), 16)?;
/// let mut second = first.subscribe();
/// block_on(async {
///     assert_eq!(first.recv().await, Some(Ok("a")));
///     assert_eq!(second.recv().await, Some(Ok("a")));
///     assert_eq!(second.recv().await, Some(Ok("b")));
///     assert_eq!(second.recv().await, None);
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn broadcast_receiver<S: Stream>(
    source: S,
    max_buffer_size: usize,
) -> Result<BroadcastReceiver<S>, CapacityError<S>> {
    Broadcast::new(max_buffer_size).share(source)
}

/// A subscription to a source that is shared by many.
///
/// Each subscription is for one task, which needs it mutably to receive. Dropping it ends the subscription; dropping the last one drops
/// the source and the values kept.
pub struct BroadcastReceiver<S: Stream> {
    pub(crate) channel: Arc<Channel<S>>,
    pub(crate) reader: Reader<S::Item>,
    /// Whether the handle was given up and has nothing left to do when dropped.
    is_given_up: bool,
}

impl<S: Stream> BroadcastReceiver<S> {
    pub(crate) fn start(source: S, settings: Broadcast) -> Self {
        let channel = Arc::new(Channel::new(source, settings));
        let reader = channel
            .join(Start::Now, false)
            .expect("a first handle needs no other");
        Self::new(channel, reader)
    }

    pub(crate) fn new(channel: Arc<Channel<S>>, reader: Reader<S::Item>) -> Self {
        Self {
            channel,
            reader,
            is_given_up: false,
        }
    }

    fn join(&self, start: Start) -> Self {
        let reader = self.channel.join(start, false).expect("this handle is one");
        Self::new(Arc::clone(&self.channel), reader)
    }

    /// Subscribes from now: the new subscription gets every value that is taken from the source from here on, whatever this one has still to read.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut early = broadcast_receiver(stream::iter(1..=3), 16)?;
    /// block_on(early.recv());
    /// let mut late = early.subscribe();
    /// assert_eq!(block_on(late.recv()), Some(Ok(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&self) -> Self {
        self.join(Start::Now)
    }

    /// Subscribes from the oldest value kept, at most a window ago; without any, from now.
    ///
    /// What a sole subscriber has received was never kept, unless [`Broadcast::keep_for_latecomers`] asks for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut first = broadcast_receiver(stream::iter(0..), 2)?;
    /// let _second = first.subscribe();
    /// for _ in 0..5 {
    ///     block_on(first.recv());
    /// }
    /// let mut late = first.subscribe_from_oldest();
    /// assert_eq!(block_on(late.recv()), Some(Ok(3)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe_from_oldest(&self) -> Self {
        self.join(Start::Oldest)
    }

    /// Receives the next value, `Some(Err(_))` if values were lost, or `None` once the source has ended (or this subscription was
    /// closed) and there is nothing left to read.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what the source was doing stays in the source, and the next receive, by whomever, gets it.
    ///
    /// # Panics
    ///
    /// If the source panics, in the one receive that polls it; for everybody else it has ended. If the value's `clone` panics:
    /// this subscription has then lost that value, and nothing else has happened. The same if the drop of an old value panics that
    /// the receive makes room for.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut numbers = broadcast_receiver(stream::iter([1, 2]), 16)?;
    /// let mut sum = 0;
    /// block_on(async {
    ///     while let Some(item) = numbers.recv().await {
    ///         match item {
    ///             Ok(number) => sum += number,
    ///             Err(lagged) => panic!("{lagged}"),
    ///         }
    ///     }
    /// });
    /// assert_eq!(sum, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Recv<'_, S>
    where
        S::Item: Clone,
    {
        Recv(Waiting(self))
    }

    /// Receives like [`recv`](Self::recv), without cloning: the value is lent where it lies.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// struct NotClone(u32);
    ///
    /// let mut first = broadcast_receiver(stream::iter([NotClone(7)]), 16)?;
    /// let mut second = first.subscribe();
    /// assert_eq!(block_on(first.recv_ref()).unwrap()?.0, 7);
    /// assert_eq!(block_on(second.recv_ref()).unwrap()?.0, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv_ref(&mut self) -> RecvRef<'_, S> {
        RecvRef {
            receiver: Some(self),
            location: Location::caller(),
        }
    }

    /// Polls for what [`recv`](Self::recv) gives, for futures and streams written by hand.
    ///
    /// The task that polled last is woken, until something was received or the subscription is dropped.
    #[inline]
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<S::Item, Lagged>>>
    where
        S::Item: Clone,
    {
        if let Some(value) = self.channel.next_value(&mut self.reader) {
            return Poll::Ready(Some(Ok(value.clone())));
        }
        self.poll_slowly(context)
    }

    fn poll_slowly(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<S::Item, Lagged>>>
    where
        S::Item: Clone,
    {
        if let Some(value) = self.channel.next_value_after_wake(&mut self.reader) {
            return Poll::Ready(Some(Ok(value.clone())));
        }
        self.channel
            .poll_receive(&mut self.reader, context)
            .map(|delivery| {
                delivery.map(|delivery| match delivery {
                    Delivery::Slot(index) => Ok(self.channel.take(&mut self.reader, index)),
                    Delivery::Moved(value) => Ok(value),
                    Delivery::Lost(count) => Err(Lagged::new(count)),
                })
            })
    }

    /// What there is to be received, still in its place.
    pub(crate) fn poll_delivery(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Delivery<S::Item>>> {
        self.channel.poll_receive(&mut self.reader, context)
    }

    /// Lends what was found by the last poll.
    pub(crate) fn lend(
        &self,
        delivery: Delivery<S::Item>,
    ) -> Result<ValueRef<'_, S::Item>, Lagged> {
        match delivery {
            Delivery::Slot(index) => Ok(ValueRef(Place::Lent(self.reader.value(index)))),
            Delivery::Moved(value) => Ok(ValueRef(Place::Owned(value))),
            Delivery::Lost(count) => Err(Lagged::new(count)),
        }
    }

    /// Receives what is already there; never asks the source.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if everything was read, [`Lagged`](TryRecvError::Lagged) if values were lost, and
    /// [`Closed`](TryRecvError::Closed) at the end.
    ///
    /// # Panics
    ///
    /// If the value's `clone` panics: this subscription has then lost that value.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::{TryRecvError, broadcast_receiver};
    ///
    /// let mut first = broadcast_receiver(stream::iter([1, 2]), 16)?;
    /// let mut second = first.subscribe();
    /// block_on(first.recv());
    /// assert_eq!(second.try_recv(), Ok(1));
    /// assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<S::Item, TryRecvError>
    where
        S::Item: Clone,
    {
        if let Some(value) = self.channel.next_value(&mut self.reader) {
            return Ok(value.clone());
        }
        match self.channel.advance(&mut self.reader) {
            Step::Slot(index) => Ok(self.channel.take(&mut self.reader, index)),
            Step::Lost(count) => Err(Lagged::new(count).into()),
            Step::Empty => Err(TryRecvError::Empty),
            Step::End => Err(TryRecvError::Closed),
        }
    }

    /// How many values were published that this subscription has neither received nor been told to have lost.
    ///
    /// More than the window means that the next receive says [`Lagged`].
    pub fn len(&self) -> usize {
        if self.is_closed() {
            return 0;
        }
        let behind = self.channel.published().saturating_sub(self.reader.cursor);
        usize::try_from(behind).unwrap_or(usize::MAX)
    }

    /// Whether this subscription has read all there is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of values that are kept for slow subscribers.
    pub fn max_buffer_size(&self) -> usize {
        self.channel.window as usize
    }

    /// Whether this subscription was closed; its receives then give the end.
    pub fn is_closed(&self) -> bool {
        self.reader.member.is_closed()
    }

    /// Ends this subscription: its receives give the end from here on, others go on. A second time has no effect.
    pub fn close(&mut self) {
        self.channel.unpark(&mut self.reader);
        self.reader.forget_block();
        self.channel.close(&self.reader.member);
    }

    /// A handle that closes this subscription from elsewhere.
    pub fn close_handle(&self) -> CloseHandle<S> {
        CloseHandle::new(self)
    }

    /// A handle that keeps neither the broadcast nor a subscription open.
    pub fn downgrade(&self) -> WeakBroadcastReceiver<S> {
        WeakBroadcastReceiver::new(&self.channel)
    }

    /// Waits until the broadcast is over: the source has ended, or nobody is subscribed any more.
    ///
    /// It does not ask the source: somebody has to be receiving. What was published can still be received afterwards.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, join, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut receiver = broadcast_receiver(stream::iter([1]), 16)?;
    /// let closed = receiver.closed();
    /// block_on(async {
    ///     join!(closed, async { while receiver.recv().await.is_some() {} });
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closed(&self) -> Closed<S> {
        self.downgrade().closed()
    }

    /// Whether the source has ended, or has panicked; values may be left to read.
    pub fn has_ended(&self) -> bool {
        self.channel.has_ended()
    }

    /// Whether the source has ended by a panic.
    pub fn has_panicked(&self) -> bool {
        self.channel.has_panicked()
    }

    /// A number that tells this subscription from all others of the same source.
    pub fn id(&self) -> u64 {
        self.reader.member.id
    }

    /// How many values this subscription has been told to have lost so far.
    pub fn n_lost(&self) -> u64 {
        self.reader.member.lost()
    }

    /// Receives without being told of losses: what was lost is skipped, and counted.
    ///
    /// # Cancel safety
    ///
    /// What receives from it can be dropped at any time without losing anything.
    pub fn skip_lagged(self) -> SkipLagged<Self> {
        SkipLagged::new(self)
    }

    /// Gives this handle up and returns the source if it was the last, for instance to say goodbye on it.
    ///
    /// Of several threads that do this with the last handles, exactly one gets the source. Values that nobody has read are dropped.
    /// The source is pinned; one that is `Unpin` comes out with `*Pin::into_inner(source)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::Pin;
    ///
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut first = broadcast_receiver(stream::iter(1..), 16)?;
    /// let second = first.subscribe();
    /// block_on(first.recv());
    /// assert!(first.into_source().is_none());
    /// let source = second.into_source().expect("the last handle");
    /// assert_eq!(block_on(futures::StreamExt::next(&mut *Pin::into_inner(source))), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_source(mut self) -> Option<Pin<Box<S>>> {
        self.is_given_up = true;
        self.channel.give_up(&mut self.reader)
    }
}

impl<S: Stream> Drop for BroadcastReceiver<S> {
    fn drop(&mut self) {
        if !mem::replace(&mut self.is_given_up, true) {
            drop(self.channel.give_up(&mut self.reader));
        }
    }
}

/// Yields what [`recv`](BroadcastReceiver::recv) gives; a lag is an item, and the stream goes on after it.
impl<S: Stream> Stream for BroadcastReceiver<S>
where
    S::Item: Clone,
{
    type Item = Result<S::Item, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context)
    }
}

impl<S: Stream> FusedStream for BroadcastReceiver<S>
where
    S::Item: Clone,
{
    fn is_terminated(&self) -> bool {
        self.is_closed() || (self.channel.has_ended() && self.is_empty())
    }
}

/// Nothing in a receiver is pinned: the source is boxed.
impl<S: Stream> Unpin for BroadcastReceiver<S> {}

impl<S: Stream> fmt::Debug for BroadcastReceiver<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BroadcastReceiver")
            .field("len", &self.len())
            .field("max_buffer_size", &self.max_buffer_size())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A receiver that is parked no longer once this is dropped.
pub(crate) struct Waiting<'a, S: Stream>(pub(crate) &'a mut BroadcastReceiver<S>);

impl<S: Stream> Drop for Waiting<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.0.channel.unpark(&mut self.0.reader);
    }
}

/// The future of [`BroadcastReceiver::recv`].
#[must_use = "futures do nothing unless polled"]
pub struct Recv<'a, S: Stream>(Waiting<'a, S>);

impl<S: Stream> Future for Recv<'_, S>
where
    S::Item: Clone,
{
    type Output = Option<Result<S::Item, Lagged>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.0.poll_recv(context)
    }
}

impl<S: Stream> fmt::Debug for Recv<'_, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Recv").field(&self.0.0).finish()
    }
}

/// The future of [`BroadcastReceiver::recv_ref`].
#[must_use = "futures do nothing unless polled"]
pub struct RecvRef<'a, S: Stream> {
    /// Taken when the value is handed out, which then borrows from it.
    receiver: Option<&'a mut BroadcastReceiver<S>>,
    /// Where it was called.
    location: &'static Location<'static>,
}

impl<'a, S: Stream> Future for RecvRef<'a, S> {
    type Output = Option<Result<ValueRef<'a, S::Item>, Lagged>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(receiver) = self.receiver.take() else {
            panic!(
                "the `recv_ref` at {} was polled after it had completed; a future returns once: keep what it has \
                 returned, and leave it out of the `select!` or the loop that polls it again",
                self.location
            );
        };
        let Poll::Ready(delivery) = receiver.poll_delivery(context) else {
            self.receiver = Some(receiver);
            return Poll::Pending;
        };
        Poll::Ready(delivery.map(|delivery| receiver.lend(delivery)))
    }
}

impl<S: Stream> Drop for RecvRef<'_, S> {
    fn drop(&mut self) {
        drop(self.receiver.take().map(Waiting));
    }
}

impl<S: Stream> fmt::Debug for RecvRef<'_, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("RecvRef")
            .field(&self.receiver)
            .finish()
    }
}

/// A value that was received without cloning it; the next receive needs it gone.
///
/// While it is there, and until the next receive, the subscription keeps the values beside it alive, at most 32.
#[derive(Debug)]
pub struct ValueRef<'a, T>(Place<'a, T>);

#[derive(Debug)]
enum Place<'a, T> {
    Lent(&'a T),
    /// A sole subscriber was given the value itself.
    Owned(T),
}

impl<T> Deref for ValueRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Place::Lent(value) => value,
            Place::Owned(value) => value,
        }
    }
}

impl<T: Clone> ValueRef<'_, T> {
    /// The value itself, cloned if others may still read it.
    pub fn into_owned(self) -> T {
        match self.0 {
            Place::Lent(value) => value.clone(),
            Place::Owned(value) => value,
        }
    }
}
