//! Sources that are not streams: an async `receive` function.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

/// Makes a stream of what an async `receive` function returns, until it returns `None`.
///
/// The call that is under way lives in the stream, not in whoever polls it. As the source of a
/// [`broadcast_receiver`](crate::broadcast_receiver) it therefore loses nothing when a subscriber that waits is dropped, even if
/// dropping the function's own future would lose a value.
///
/// # Cancel safety
///
/// The call that is under way is dropped with the stream; a call for the next item that is dropped leaves it where it is.
///
/// # Examples
///
/// ```
/// use futures::{channel::mpsc, executor::block_on};
/// use trionics_broadcast::{broadcast_receiver, receive_stream};
///
/// let (sender, mut queue) = mpsc::unbounded();
/// let mut first = broadcast_receiver(receive_stream(async move || queue.recv().await.ok()), 16)?;
/// let mut second = first.subscribe();
/// sender.unbounded_send(1)?;
/// drop(sender);
/// block_on(async {
///     assert_eq!(first.recv().await, Some(Ok(1)));
///     assert_eq!(second.recv().await, Some(Ok(1)));
///     assert_eq!(second.recv().await, None);
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn receive_stream<T, F>(receive: F) -> impl Stream<Item = T> + use<T, F>
where
    F: AsyncFnMut() -> Option<T>,
{
    Receiving {
        step: async |mut receive: F| receive().await.map(|value| (value, receive)),
        idle: Some(receive),
        running: Box::pin(None),
    }
}

struct Receiving<F, Step, Call> {
    step: Step,
    /// The function, while it is not being called; none after the end.
    idle: Option<F>,
    /// The call under way, which owns the function.
    running: Pin<Box<Option<Call>>>,
}

/// What has to stay in place is boxed.
impl<F, Step, Call> Unpin for Receiving<F, Step, Call> {}

impl<T, F, Step, Call> Stream for Receiving<F, Step, Call>
where
    Step: FnMut(F) -> Call,
    Call: Future<Output = Option<(T, F)>>,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if let Some(receive) = this.idle.take() {
            this.running.set(Some((this.step)(receive)));
        }
        let Some(call) = this.running.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let received = ready!(call.poll(context));
        this.running.set(None);
        Poll::Ready(received.map(|(value, receive)| {
            this.idle = Some(receive);
            value
        }))
    }
}
