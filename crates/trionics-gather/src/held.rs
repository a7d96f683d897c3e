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
use trionics_nursery::internal::{Block, Host, Invitation as _};

use crate::{
    context::{AsyncContext, Slot},
    delivery::{Delivery, Shelf},
    limit::Limit,
};

/// What the contexts of one gathering share.
#[derive(Clone)]
pub struct Holding {
    pub(crate) block: Block,
    pub(crate) location: &'static Location<'static>,
    /// The block's failure, for the exits that fail while it is on its way out; none where no block of ours runs.
    pub(crate) block_failure: Option<Arc<OnceLock<FailureMark>>>,
    /// A context that ends before it has provided cancels the block, which no nursery of ours runs.
    pub(crate) tells_block: bool,
    /// How many may set up at once.
    pub(crate) limit: Option<Arc<Limit>>,
}

impl Holding {
    pub(crate) fn new(block: &Block, location: &'static Location<'static>) -> Self {
        Self {
            block: block.clone(),
            location,
            block_failure: Some(Arc::default()),
            tells_block: false,
            limit: None,
        }
    }

    /// For a context whose block is no future of ours.
    pub(crate) fn hosted(block: Block, location: &'static Location<'static>) -> Self {
        Self {
            block,
            location,
            block_failure: None,
            tells_block: false,
            limit: None,
        }
    }

    /// What the block has failed with.
    pub(crate) fn block_failure(&self) -> Option<&FailureMark> {
        self.block_failure.as_ref()?.get()
    }

    /// The block has failed: the exits that fail from now on find this.
    pub(crate) fn note_failure(&self, mark: FailureMark) {
        if let Some(block_failure) = &self.block_failure {
            let _first = block_failure.set(mark);
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
        pub(crate) delivery: Delivery<V>,
        // Its place is known, or its nursery knows what it owes.
        settled: bool,
        // It has returned or panicked.
        over: bool,
    }

    impl<R, V> PinnedDrop for Held<R, V> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let delivery = this.delivery;
            if let Some(turn) = delivery.turn() {
                turn.end();
            }
            if !delivery.is_sent() {
                let holding = delivery.holding();
                if holding.tells_block {
                    let reason = CancelReason::ContextEnded;
                    holding.block.cancel(reason, holding.location);
                }
            } else if *this.settled && !*this.over {
                delivery.place().report_dropped(delivery.location());
            }
        }
    }
}

/// The life of a context of type `C`.
pub(crate) type HeldOf<C> = Held<<C as AsyncContext>::Run, <C as AsyncContext>::Value>;

/// The values of contexts of type `C`, on their way.
pub(crate) type ShelfOf<C> = Arc<Shelf<<C as AsyncContext>::Value>>;

/// Prepares the context whose value arrives on `shelf`, at `index`.
///
/// `host` is the child that will run it, if the block runs in the body of the same nursery.
pub(crate) fn hold<C: AsyncContext>(
    context: C,
    shelf: &ShelfOf<C>,
    index: usize,
    host: Option<Host>,
) -> HeldOf<C> {
    let slot = Delivery::new(shelf, index, host);
    let settled = slot.host().is_some();
    let run = context.run(Slot::new(slot));
    Held {
        run: Some(run),
        delivery: Delivery::new(shelf, index, None),
        settled,
        over: false,
    }
}

impl<R, V, E> Future for Held<R, V>
where
    R: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let delivery = &*this.delivery;
        if let Some(turn) = delivery.turn() {
            ready!(turn.poll(cx));
        }
        if !std::mem::replace(this.settled, true) {
            delivery.place().settle();
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
        let holding = delivery.holding();
        Poll::Ready(match result {
            Ok(()) if !delivery.is_sent() => Err(Failure::library(LibraryFailure::NotProvided)),
            Ok(()) if holding.block.ended().is_none() => {
                Err(Failure::library(LibraryFailure::ContextEnded))
            }
            Err(failure) => Err(match holding.block_failure() {
                Some(mark) if delivery.is_sent() => failure.with_context_at(mark.clone()),
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
