//! Starting a child only when it can run at once.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{
    child::{Child, Fits},
    shared::Shared,
};
use crate::{frame::RETURNS_ONCE, scope::Name};

/// The future of [`Nursery::start_soon_when_free`](crate::Nursery::start_soon_when_free).
#[must_use = "futures do nothing unless polled"]
pub struct StartWhenFree<C: ?Sized> {
    shared: Shared<C>,
    child: Option<Child<C>>,
    ticket: Option<u64>,
    /// Where it was called.
    location: &'static Location<'static>,
}

impl<C: ?Sized> Unpin for StartWhenFree<C> {}

impl<C: ?Sized> StartWhenFree<C> {
    pub(super) fn new<F: Fits<C>>(
        shared: &Shared<C>,
        name: Option<Name>,
        location: &'static Location<'static>,
        future: F,
    ) -> Self
    where
        C: Future,
    {
        Self {
            child: Some(shared.hold(name, location, future)),
            shared: shared.clone(),
            ticket: None,
            location,
        }
    }
}

impl<C: ?Sized> Future for StartWhenFree<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        assert!(
            this.child.is_some(),
            "the `start_soon_when_free` at {} was polled after it had completed; {RETURNS_ONCE}",
            this.location
        );
        ready!(
            this.shared
                .poll_push_when_free(&mut this.ticket, &mut this.child, cx)
        );
        assert!(
            this.child.is_none(),
            "`start_soon_when_free` at {} on a nursery that has closed: its body and its children had all \
             ended; start children while it is open",
            this.location
        );
        Poll::Ready(())
    }
}

impl<C: ?Sized> Drop for StartWhenFree<C> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.give_up_room(ticket);
        }
    }
}

impl<C: ?Sized> fmt::Debug for StartWhenFree<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartWhenFree")
            .field(
                "name",
                &self.child.as_ref().and_then(|child| child.member().name()),
            )
            .finish_non_exhaustive()
    }
}
