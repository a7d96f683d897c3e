//! For the sibling crates: a context whose value is used by somebody who is no future of ours.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;
use trionics_nursery::internal::{Block, Host};

use crate::{
    context::AsyncContext,
    delivery::Shelf,
    held::{Held, HeldOf, Holding, hold},
};

pin_project! {
    /// A context and the use of its value, which ends when it is told to.
    ///
    /// Its future sets up, waits for the end of the use, and tears down.
    #[must_use = "futures do nothing unless polled"]
    pub struct Tenancy<H> {
        #[pin]
        held: H,
    }
}

/// The life of a context of type `C` that is let out.
pub type TenancyOf<C> = Tenancy<HeldOf<C>>;

/// Prepares `context` to be polled by `host`, which looks after each poll whether the value is there, and whether it is
/// wanted back.
///
/// It is only the context itself whose cancellation is heard of here: the host has to know of that of its nursery.
#[track_caller]
pub fn let_out<C: AsyncContext>(context: C, host: Host) -> TenancyOf<C> {
    let location = Location::caller();
    let holding = Holding::hosted(Block::hosted(location, host), location);
    let shelf = Shelf::of_one(holding);
    Tenancy {
        held: hold(context, &shelf, 0, None),
    }
}

impl<R, V> Tenancy<Held<R, V>> {
    fn block(&self) -> &Block {
        &self.held.delivery.holding().block
    }

    /// The value, once it is provided; it is given once.
    #[must_use]
    pub fn take_value(&self) -> Option<V> {
        self.held.delivery.try_take()
    }

    /// The context needs its value back: it has dropped its `provide`, or a scope of its own in which it provides was
    /// cancelled.
    #[must_use]
    pub fn is_wanted_back(&self) -> bool {
        self.block().is_cancelled()
    }

    /// The value is not used any more, and dropped: the exit may begin.
    pub fn end(&self) {
        self.block().end_hosted();
    }
}

impl<H, E> Future for Tenancy<H>
where
    H: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().held.poll(cx)
    }
}

impl<H> fmt::Debug for Tenancy<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenancy").finish_non_exhaustive()
    }
}
