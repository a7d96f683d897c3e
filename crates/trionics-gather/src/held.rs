//! A context from its set-up to the end of its exit, as a child of the gathering nursery.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Failure, FailureMark, LibraryFailure};
use trionics_nursery::internal::{Block, ContextPlace};

use crate::{
    context::{AsyncContext, Slot},
    delivery::{Delivery, Parcel},
    limit::{Limit, Turn},
};

/// What the contexts of one gathering share.
#[derive(Clone)]
pub struct Holding {
    pub(crate) block: Block,
    pub(crate) location: &'static Location<'static>,
    /// The block's failure, for the exits that fail while it is on its way out.
    pub(crate) block_failure: Arc<OnceLock<FailureMark>>,
    /// A context that ends before it has provided cancels the block, which no nursery of ours runs.
    pub(crate) tells_block: bool,
    /// How many may set up at once.
    limit: Option<Arc<Limit>>,
}

impl Holding {
    pub(crate) fn new(block: &Block, location: &'static Location<'static>) -> Self {
        Self {
            block: block.clone(),
            location,
            block_failure: Arc::default(),
            tells_block: false,
            limit: None,
        }
    }

    /// For a context whose exit begins by itself, in the light of the same failure.
    pub(crate) fn with_block(&self, block: &Block, location: &'static Location<'static>) -> Self {
        Self {
            block_failure: Arc::clone(&self.block_failure),
            ..Self::new(block, location)
        }
    }

    pub(crate) fn limited(mut self, limit: Option<Arc<Limit>>) -> Self {
        self.limit = limit;
        self
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").finish_non_exhaustive()
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
        turn: Option<Arc<Turn>>,
        settled: bool,
        // It has returned or panicked.
        over: bool,
    }

    impl<R, V> PinnedDrop for Held<R, V> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(turn) = this.turn {
                turn.end();
            }
            if !this.parcel.is_sent() {
                if this.holding.tells_block {
                    let reason = CancelReason::ContextEnded;
                    this.holding.block.cancel(reason, this.holding.location);
                }
            } else if *this.settled && !*this.over {
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
    let turn = holding.limit.as_ref().map(Turn::new);
    let (delivery, parcel, place) =
        Delivery::new(holding.block.clone(), turn.clone(), holding.location);
    let run = context.run(Slot::new(delivery));
    let held = Held {
        run: Some(run),
        parcel: Arc::clone(&parcel),
        holding: holding.clone(),
        place,
        turn,
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
        if let Some(turn) = this.turn {
            ready!(turn.poll(cx));
        }
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
            Ok(()) if this.holding.block.ended().is_none() => {
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
