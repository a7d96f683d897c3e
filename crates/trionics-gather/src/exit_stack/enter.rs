//! Entering one context on a stack.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use trionics_errgroup::{Failure, LibraryFailure};
use trionics_nursery::{
    internal::{RETURNS_ONCE, is_cancelled},
    outside,
};

use super::entry::{Carrier, Entry, EntryChild, Shared};
use crate::{
    context::{AsyncContext, BlockEnd},
    delivery::Shelf,
    gather_in::{HostNursery, InChild},
    held::HeldOf,
};

/// The future of [`ExitStack::enter`](crate::ExitStack::enter).
#[must_use = "futures do nothing unless polled"]
pub struct Enter<N, B, V> {
    location: &'static Location<'static>,
    nursery: N,
    stack: Arc<Shared<B>>,
    entry: Arc<Entry<B>>,
    shelf: Arc<Shelf<V>>,
    /// The context, until the stack has it.
    child: Option<B>,
    /// The stack takes nothing any more, and the context is on its way out.
    refused: bool,
}

// The context is boxed.
impl<N, B, V> Unpin for Enter<N, B, V> {}

impl<N, B, V> Enter<N, B, V> {
    pub(super) fn new<C>(
        location: &'static Location<'static>,
        nursery: N,
        stack: &Arc<Shared<B>>,
        context: C,
        boxed: impl FnOnce(InChild<EntryChild<HeldOf<C>, B>>) -> B,
    ) -> Self
    where
        C: AsyncContext<Value = V>,
    {
        let entry = Entry::new(location);
        let (child, shelf) = entry.child(context);
        Self {
            location,
            nursery,
            stack: Arc::clone(stack),
            entry,
            shelf,
            child: Some(boxed(child)),
            refused: false,
        }
    }
}

impl<N, B, V, E> Future for Enter<N, B, V>
where
    N: HostNursery<Carrier<B>>,
    B: Future<Output = Result<(), Failure<E>>> + Unpin,
{
    type Output = Result<V, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let Some(child) = &mut this.child else {
                if is_cancelled() {
                    return Poll::Pending;
                }
                panic!(
                    "the `enter` at {} was polled after it had completed; {RETURNS_ONCE}",
                    this.location
                );
            };
            if let Poll::Ready(result) = Pin::new(child).poll(cx) {
                this.drop_child();
                return match result {
                    Err(failure) => Poll::Ready(Err(failure)),
                    Ok(()) if this.refused => Poll::Ready(Err(closed())),
                    // It has provided, and was left again, since the caller is being cancelled.
                    Ok(()) if is_cancelled() => Poll::Pending,
                    Ok(()) => Poll::Ready(Err(Failure::library(LibraryFailure::ContextEnded))),
                };
            }
            // A caller that is being cancelled keeps the context: it unwinds with the caller.
            if this.refused || is_cancelled() {
                return Poll::Pending;
            }
            match this.entry.block.poll_provided(cx) {
                Poll::Pending | Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
            if this.hand_over() {
                return Poll::Ready(Ok(this.shelf.take_one()));
            }
            this.refused = true;
            this.entry.block.end(BlockEnd::Cancelled);
        }
    }
}

impl<N, B, V> Enter<N, B, V>
where
    N: HostNursery<Carrier<B>>,
{
    /// Gives the context to the stack; false if the stack takes nothing any more.
    fn hand_over(&mut self) -> bool {
        let Some(child) = self.child.take() else {
            unreachable!("looked at by the caller");
        };
        self.entry.hand_over(&self.stack, child);
        if !self.stack.push(&self.entry) {
            self.child = self.entry.take_back();
            return false;
        }
        self.entry.move_scope(&self.nursery.scope());
        let carrier = Carrier::new(&self.entry);
        match self.nursery.start_context(self.location, carrier) {
            Ok(()) => true,
            // The body ended on another thread in this very moment, and nothing else was left to wait for.
            Err(carrier) => {
                self.child = carrier.into_child();
                false
            }
        }
    }
}

impl<N, B, V> Enter<N, B, V> {
    fn drop_child(&mut self) {
        outside(|| self.child = None);
    }
}

fn closed<E>() -> Failure<E> {
    Failure::library(LibraryFailure::Closed {
        what: "the exit stack".into(),
    })
}

impl<N, B, V> Drop for Enter<N, B, V> {
    fn drop(&mut self) {
        self.drop_child();
    }
}

impl<N, B, V> fmt::Debug for Enter<N, B, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enter")
            .field("called_at", &self.location)
            .finish_non_exhaustive()
    }
}
