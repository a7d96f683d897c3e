//! What can be said to a subscriber instead of a value, and why a channel cannot be made.

use std::{
    convert::Infallible,
    error, fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The largest window that [`broadcast_receiver`](crate::broadcast_receiver) accepts.
pub const MAX_BUFFER_SIZE: usize = u32::MAX as usize;

/// A subscriber was more than the window behind and has lost its oldest unread values; the next receive gives the oldest one kept.
///
/// This is never the end: the end is `None`.
///
/// # Examples
///
/// ```
/// use futures::{StreamExt, executor::block_on, stream};
/// use trionics_broadcast::broadcast_receiver;
///
/// let mut fast = broadcast_receiver(stream::iter(0..10), 4)?;
/// let mut slow = fast.subscribe();
/// block_on(async {
///     for _ in 0..10 {
///         fast.recv().await;
///     }
///     let lagged = slow.recv().await.unwrap().unwrap_err();
///     assert_eq!(lagged.count(), 6);
///     assert_eq!(slow.recv().await, Some(Ok(6)));
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "values were lost"]
pub struct Lagged {
    count: u64,
}

impl Lagged {
    pub(crate) fn new(count: u64) -> Self {
        Self { count }
    }

    /// How many values this subscriber has lost since the last value or `Lagged` it was given: exact, and never zero.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Lagged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "subscriber lagged behind and lost {} value(s); the broadcast goes on",
            self.count
        )
    }
}

impl error::Error for Lagged {}

/// Why `try_recv` gives no value.
///
/// For a source that can fail ([`TryBroadcastReceiver::try_recv`](crate::TryBroadcastReceiver::try_recv)), `F` is its failure. For
/// others ([`BroadcastReceiver::try_recv`](crate::BroadcastReceiver::try_recv)) there is none, and a `match` needs no arm for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TryRecvError<F = Infallible> {
    /// The subscriber has read all there is; the source was not asked.
    Empty,
    /// The subscriber has lost values; more are there to be read.
    Lagged(Lagged),
    /// The source has ended and everything was read, or the subscription was closed.
    Closed,
    /// The source has failed and everything was read; told once, then comes [`Closed`](Self::Closed).
    Source(F),
}

impl<F> fmt::Display for TryRecvError<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("no value is waiting for this subscriber"),
            Self::Lagged(lagged) => lagged.fmt(formatter),
            Self::Closed => formatter.write_str("the broadcast has ended for this subscriber"),
            Self::Source(_) => formatter.write_str("the source of the broadcast failed"),
        }
    }
}

impl<F: error::Error + 'static> error::Error for TryRecvError<F> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Source(failure) => Some(failure),
            _ => None,
        }
    }
}

impl<F> From<Lagged> for TryRecvError<F> {
    fn from(lagged: Lagged) -> Self {
        Self::Lagged(lagged)
    }
}

/// What a subscriber of a fallible source can be told instead of a value.
///
/// See [`try_broadcast_receiver`](crate::try_broadcast_receiver).
#[derive(Debug)]
pub enum BroadcastError<E> {
    /// The subscriber has lost values; the broadcast goes on.
    Lagged(Lagged),
    /// The source has failed; every subscriber is told the same error, once, after everything it had still to read.
    Source(Arc<E>),
}

impl<E> Clone for BroadcastError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Lagged(lagged) => Self::Lagged(*lagged),
            Self::Source(error) => Self::Source(Arc::clone(error)),
        }
    }
}

impl<E: fmt::Display> fmt::Display for BroadcastError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged(lagged) => lagged.fmt(formatter),
            Self::Source(_) => formatter.write_str("the source of the broadcast failed"),
        }
    }
}

impl<E: error::Error + 'static> error::Error for BroadcastError<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Lagged(_) => None,
            Self::Source(error) => Some(&**error),
        }
    }
}

impl<E> From<Lagged> for BroadcastError<E> {
    fn from(lagged: Lagged) -> Self {
        Self::Lagged(lagged)
    }
}

/// A window of this size cannot be had: it was zero, or larger than [`MAX_BUFFER_SIZE`].
///
/// # Examples
///
/// ```
/// use futures::stream;
/// use trionics_broadcast::broadcast_receiver;
///
/// let refused = broadcast_receiver(stream::iter([1, 2, 3]), 0).unwrap_err();
/// assert_eq!(refused.requested(), 0);
/// let source = refused.into_source();
/// assert!(broadcast_receiver(source, 16).is_ok());
/// ```
pub struct CapacityError<S> {
    /// Never locked: in a mutex the error is `Sync` although most boxed streams are not, so that `?` takes it wherever errors
    /// have to be.
    source: Mutex<S>,
    requested: usize,
}

impl<S> CapacityError<S> {
    pub(crate) fn new(source: S, requested: usize) -> Self {
        Self {
            source: Mutex::new(source),
            requested,
        }
    }

    /// The size that was asked for.
    pub fn requested(&self) -> usize {
        self.requested
    }

    /// Gives the source back, untouched.
    pub fn into_source(self) -> S {
        self.source
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for CapacityError<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CapacityError")
            .field("requested", &self.requested)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for CapacityError<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "a broadcast window must hold from 1 to {MAX_BUFFER_SIZE} values, not {}",
            self.requested
        )
    }
}

impl<S> error::Error for CapacityError<S> {}
