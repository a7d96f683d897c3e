//! A context from its set-up to the end of its exit, as a child of the gathering nursery.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Failure, FailureMark, LibraryFailure};
use trionics_nursery::internal::{Block, ContextPlace};

use crate::{
    context::{AsyncContext, Slot},
    delivery::{Delivery, Parcel},
};

/// What the contexts of one gathering share.
#[derive(Clone, Debug)]
pub struct Holding {
    pub(crate) block: Block,
    pub(crate) location: &'static Location<'static>,
    /// The block's failure, for the exits that fail while it is on its way out.
    pub(crate) block_failure: Arc<OnceLock<FailureMark>>,
}

impl Holding {
    pub(crate) fn new(block: &Block, location: &'static Location<'static>) -> Self {
        Self {
            block: block.clone(),
            location,
            block_failure: Arc::default(),
        }
    }
}

pin_project! {
    /// Runs one context and checks that it keeps to the protocol.
    pub struct Held<R, V> {
        #[pin]
        run: Option<R>,
        parcel: Arc<Parcel<V>>,
        holding: Holding,
        place: ContextPlace,
        settled: bool,
        // It has returned or panicked.
        over: bool,
    }

    impl<R, V> PinnedDrop for Held<R, V> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.settled && !*this.over && this.parcel.is_sent() {
                this.place.report_dropped(this.holding.location);
            }
        }
    }
}

/// The life of a context of type `C`.
pub(crate) type HeldOf<C> = Held<<C as AsyncContext>::Run, <C as AsyncContext>::Value>;

/// The value of a context of type `C`, on its way.
pub(crate) type ParcelOf<C> = Arc<Parcel<<C as AsyncContext>::Value>>;

/// Prepares a context; its value arrives in the parcel.
pub(crate) fn hold<C: AsyncContext>(context: C, holding: &Holding) -> (HeldOf<C>, ParcelOf<C>) {
    let (delivery, parcel, place) = Delivery::new(holding.block.clone(), holding.location);
    let run = context.run(Slot::new(delivery));
    let held = Held {
        run: Some(run),
        parcel: Arc::clone(&parcel),
        holding: holding.clone(),
        place,
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
            Ok(()) if !this.holding.block.has_ended() => {
                Err(Failure::library(LibraryFailure::ContextEnded))
            }
            Err(failure) => Err(match this.holding.block_failure.get() {
                Some(mark) if this.parcel.is_sent() => failure.with_context_at(mark.clone()),
                _ => failure,
            }),
            Ok(()) => Ok(()),
        })
    }
}

impl<R, V> fmt::Debug for Held<R, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
