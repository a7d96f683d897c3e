//! Starting a child only when it can run at once.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{member::Member, shared::Shared};

/// The future of [`Nursery::start_soon_when_free`](crate::Nursery::start_soon_when_free).
#[must_use = "futures do nothing unless polled"]
pub struct StartWhenFree<C> {
    shared: Arc<Shared<C>>,
    member: Arc<Member>,
    child: Option<C>,
    ticket: Option<u64>,
}

impl<C> Unpin for StartWhenFree<C> {}

impl<C> StartWhenFree<C> {
    pub(super) fn new(shared: &Arc<Shared<C>>, member: Arc<Member>, child: C) -> Self {
        Self {
            shared: Arc::clone(shared),
            member,
            child: Some(child),
            ticket: None,
        }
    }
}

impl<C> Future for StartWhenFree<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        assert!(
            this.child.is_some(),
            "`start_soon_when_free` was polled after it had completed"
        );
        ready!(this.shared.poll_push_when_free(
            &mut this.ticket,
            &this.member,
            &mut this.child,
            cx
        ));
        assert!(
            this.child.is_none(),
            "`start_soon_when_free` on a nursery that has closed: its body and its children had all ended; \
             start children while it is open"
        );
        Poll::Ready(())
    }
}

impl<C> Drop for StartWhenFree<C> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.give_up_room(ticket);
        }
    }
}

impl<C> fmt::Debug for StartWhenFree<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartWhenFree")
            .field("name", &self.member.name())
            .finish_non_exhaustive()
    }
}
