//! Handles that are not subscriptions: to close one, to find the broadcast again, to wait for its end.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{
    channel::{Channel, Member, Start},
    receiver::BroadcastReceiver,
    signal::{Signal, Ticket},
};

/// Closes one subscription from elsewhere.
///
/// Made by [`BroadcastReceiver::close_handle`]; keeps nothing alive.
pub struct CloseHandle<S: Stream> {
    channel: Weak<Channel<S>>,
    member: Arc<Member>,
}

impl<S: Stream> CloseHandle<S> {
    pub(crate) fn new(receiver: &BroadcastReceiver<S>) -> Self {
        Self {
            channel: Arc::downgrade(&receiver.channel),
            member: Arc::clone(&receiver.reader.member),
        }
    }

    /// Ends the subscription: its receives give the end, also one that is waiting now. Others go on; a second time has no effect.
    ///
    /// If the subscription is being polled on another thread at this moment, that poll may still give a value. A value that it takes from
    /// the source reaches the others in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut receiver = broadcast_receiver(stream::pending::<u8>(), 16)?;
    /// receiver.close_handle().close();
    /// assert_eq!(block_on(receiver.recv()), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        if let Some(channel) = self.channel.upgrade() {
            channel.close(&self.member);
            channel.signal.waiting.wake_owner(self.member.id);
        }
    }

    /// Whether the subscription was closed or dropped.
    pub fn is_closed(&self) -> bool {
        self.member.is_closed()
    }
}

impl<S: Stream> Clone for CloseHandle<S> {
    fn clone(&self) -> Self {
        Self {
            channel: Weak::clone(&self.channel),
            member: Arc::clone(&self.member),
        }
    }
}

impl<S: Stream> fmt::Debug for CloseHandle<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CloseHandle")
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Finds a broadcast again as long as somebody has a receiver of it; keeps neither the source nor a value alive.
///
/// Made by [`BroadcastReceiver::downgrade`].
///
/// # Examples
///
/// ```
/// use futures::{executor::block_on, stream};
/// use trionics_broadcast::broadcast_receiver;
///
/// let receiver = broadcast_receiver(stream::iter([1]), 16)?;
/// let weak = receiver.downgrade();
/// let mut another = weak.subscribe().expect("there is a receiver");
/// drop(receiver);
/// assert_eq!(block_on(another.recv()), Some(Ok(1)));
/// drop(another);
/// assert!(weak.subscribe().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WeakBroadcastReceiver<S: Stream> {
    channel: Weak<Channel<S>>,
    signal: Arc<Signal>,
}

impl<S: Stream> WeakBroadcastReceiver<S> {
    pub(crate) fn new(channel: &Arc<Channel<S>>) -> Self {
        Self {
            channel: Arc::downgrade(channel),
            signal: Arc::clone(&channel.signal),
        }
    }

    /// Subscribes from now, unless all receivers were given up.
    pub fn subscribe(&self) -> Option<BroadcastReceiver<S>> {
        self.join(Start::Now)
    }

    /// Subscribes from the oldest value kept, unless all receivers were given up.
    pub fn subscribe_from_oldest(&self) -> Option<BroadcastReceiver<S>> {
        self.join(Start::Oldest)
    }

    /// Waits until the broadcast is over; see [`BroadcastReceiver::closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn closed(&self) -> Closed<S> {
        Closed {
            weak: self.clone(),
            ticket: Ticket::default(),
        }
    }

    fn join(&self, start: Start) -> Option<BroadcastReceiver<S>> {
        let channel = self.channel.upgrade()?;
        let reader = channel.join(start, true)?;
        Some(BroadcastReceiver::new(channel, reader))
    }

    fn is_over(&self) -> bool {
        self.channel
            .upgrade()
            .is_none_or(|channel| channel.has_ended() || channel.n_open() == 0)
    }
}

impl<S: Stream> Clone for WeakBroadcastReceiver<S> {
    fn clone(&self) -> Self {
        Self {
            channel: Weak::clone(&self.channel),
            signal: Arc::clone(&self.signal),
        }
    }
}

impl<S: Stream> fmt::Debug for WeakBroadcastReceiver<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WeakBroadcastReceiver")
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

/// The future of [`BroadcastReceiver::closed`]; borrows nothing.
///
/// # Cancel safety
///
/// Dropping it has no effect.
#[must_use = "futures do nothing unless polled"]
pub struct Closed<S: Stream> {
    weak: WeakBroadcastReceiver<S>,
    ticket: Ticket,
}

impl<S: Stream> Future for Closed<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.weak.is_over() {
            let closing = &this.weak.signal.closing;
            closing.register(&mut this.ticket, 0, context.waker());
            if !this.weak.is_over() {
                return Poll::Pending;
            }
        }
        this.weak.signal.closing.cancel(&mut this.ticket);
        Poll::Ready(())
    }
}

/// Nothing in it is pinned.
impl<S: Stream> Unpin for Closed<S> {}

impl<S: Stream> Drop for Closed<S> {
    fn drop(&mut self) {
        self.weak.signal.closing.cancel(&mut self.ticket);
    }
}

impl<S: Stream> fmt::Debug for Closed<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Closed")
            .field(&self.weak.is_over())
            .finish()
    }
}
