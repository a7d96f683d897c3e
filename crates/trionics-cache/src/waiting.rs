//! The wait for an outcome.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{core::Core, ticket::Outcome};

/// Waits for the outcome of a ticket; dropped before, it gives the ticket up.
pub(crate) struct Waiting<'a, K, T, E> {
    core: &'a Core<K, T, E>,
    ticket: Option<usize>,
}

impl<'a, K, T, E> Waiting<'a, K, T, E> {
    pub(crate) fn new(core: &'a Core<K, T, E>, ticket: usize) -> Self {
        Self {
            core,
            ticket: Some(ticket),
        }
    }

    /// The wait of the last user, if `leave` gives it a ticket; also where `leave` panics, the ticket is given up.
    pub(crate) fn leaving<R>(
        core: &'a Core<K, T, E>,
        leave: impl FnOnce(&mut Option<usize>) -> R,
    ) -> (R, Option<Self>) {
        let mut waiting = Self { core, ticket: None };
        let left = leave(&mut waiting.ticket);
        let waiting = waiting.ticket.is_some().then_some(waiting);
        (left, waiting)
    }
}

impl<K, T, E> Future for Waiting<'_, K, T, E> {
    type Output = Outcome<K, T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ticket = this.ticket.expect("not polled after its end");
        let polled = this.core.poll_ticket(ticket, cx.waker());
        if polled.is_ready() {
            this.ticket = None;
        }
        polled
    }
}

impl<K, T, E> Drop for Waiting<'_, K, T, E> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.withdraw(ticket);
        }
    }
}
