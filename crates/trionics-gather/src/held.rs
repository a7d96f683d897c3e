//! A context from its set-up to the end of its exit, as a child of the gathering nursery.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_nursery::internal::{Block, ContextPlace};

use crate::{
    context::{AsyncContext, Slot},
    delivery::{Delivery, Parcel},
};

pin_project! {
    /// Runs one context and checks that it keeps to the protocol.
    pub struct Held<R, V> {
        #[pin]
        run: Option<R>,
        parcel: Arc<Parcel<V>>,
        block: Block,
        place: ContextPlace,
        location: &'static Location<'static>,
        settled: bool,
        // It has returned or panicked.
        over: bool,
    }

    impl<R, V> PinnedDrop for Held<R, V> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.settled && !*this.over && this.parcel.is_sent() {
                this.place.report_dropped(this.location);
            }
        }
    }
}

/// Prepares a context; its value arrives in the parcel.
pub(crate) fn hold<C: AsyncContext>(
    context: C,
    block: &Block,
    location: &'static Location<'static>,
) -> (Held<C::Run, C::Value>, Arc<Parcel<C::Value>>) {
    let (delivery, parcel, place) = Delivery::new(block.clone(), location);
    let run = context.run(Slot::new(delivery));
    let held = Held {
        run: Some(run),
        parcel: Arc::clone(&parcel),
        block: block.clone(),
        place,
        location,
        settled: false,
        over: false,
    };
    (held, parcel)
}

impl<R, V, E> Future for Held<R, V>
where
    R: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if !std::mem::replace(this.settled, true) {
            this.place.settle();
        }
        let run = this
            .run
            .as_mut()
            .as_pin_mut()
            .expect("a context is not polled after its end");
        // Stays so if the poll panics.
        *this.over = true;
        let Poll::Ready(result) = run.poll(cx) else {
            *this.over = false;
            return Poll::Pending;
        };
        this.run.set(None);
        Poll::Ready(match result {
            Ok(()) if !this.parcel.is_sent() => Err(Failure::library(LibraryFailure::NotProvided)),
            Ok(()) if !this.block.has_ended() => {
                Err(Failure::library(LibraryFailure::ContextEnded))
            }
            result => result,
        })
    }
}

impl<R, V> fmt::Debug for Held<R, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
