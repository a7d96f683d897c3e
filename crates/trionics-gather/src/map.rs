//! Contexts whose value is changed on its way to the block.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Cancelled, Failure};
use trionics_nursery::internal::{
    Block, BlockOutput, BodyEnd, MakeBlock, RawEnd, RawNursery, RunBlock, open_children,
};

use crate::{
    context::{AsyncContext, BlockEnd, Provide, Slot},
    delivery::Shelf,
    gather::group_several,
    held::{HeldOf, Holding, ShelfOf, hold},
};

/// The context made by [`AsyncContext::map`].
///
/// It is a context over a context: its own block, in the middle, hands the changed value on.
#[must_use = "a context does nothing until it is entered"]
pub struct Map<C, F> {
    context: C,
    change: F,
    location: &'static Location<'static>,
}

impl<C, F> Map<C, F> {
    pub(crate) fn new(context: C, change: F, location: &'static Location<'static>) -> Self {
        Self {
            context,
            change,
            location,
        }
    }
}

impl<C, F, U> AsyncContext for Map<C, F>
where
    C: AsyncContext,
    F: FnOnce(C::Value) -> U,
{
    type Value = U;
    type Error = C::Error;
    type Run = RunMap<C, F, U>;

    fn run(self, slot: Slot<U>) -> Self::Run {
        let block = Block::new(self.location, 1);
        let holding = Holding::new(&block, self.location);
        let shelf = Shelf::new(&holding, 1);
        let nursery = open_children(self.location, |children| {
            children.add_with(|host| hold(self.context, &shelf, 0, Some(host)));
            Relay {
                run: block.clone().run(MakeRelay {
                    shelf,
                    change: self.change,
                    slot,
                }),
            }
        });
        RunMap {
            nursery: nursery.running(&block),
        }
    }
}

impl<C, F> fmt::Debug for Map<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").finish_non_exhaustive()
    }
}

pin_project! {
    /// The life of a [`Map`].
    #[doc(hidden)]
    pub struct RunMap<C: AsyncContext, F, U> {
        #[pin]
        nursery: RawNursery<HeldOf<C>, Relay<C, F, U>, (), C::Error>,
    }
}

impl<C, F, U> Future for RunMap<C, F, U>
where
    C: AsyncContext,
    F: FnOnce(C::Value) -> U,
{
    type Output = Result<(), Failure<C::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.project().nursery.poll(cx)) {
            RawEnd::Failed(failures) => Err(group_several(failures)),
            // A context that has left its block alone has no failure of its own, mapped or not.
            RawEnd::Value(()) | RawEnd::Cancelled(_) => Ok(()),
        })
    }
}

impl<C: AsyncContext, F, U> fmt::Debug for RunMap<C, F, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunMap").finish_non_exhaustive()
    }
}

pin_project! {
    /// The block in the middle, as the body of the nursery in the middle.
    struct Relay<C: AsyncContext, F, U> {
        #[pin]
        run: RunBlock<MakeRelay<C, F, U>, ProvideOn<U>>,
    }
}

impl<C, F, U> Future for Relay<C, F, U>
where
    C: AsyncContext,
    F: FnOnce(C::Value) -> U,
{
    type Output = BodyEnd<(), C::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended: Result<PassedOn, Cancelled> = ready!(self.project().run.poll(cx));
        Poll::Ready(match ended {
            Ok(PassedOn(_)) => BodyEnd::Value(()),
            Err(cancelled) => BodyEnd::Cancelled(cancelled),
        })
    }
}

/// Changes the value and hands it on.
struct MakeRelay<C: AsyncContext, F, U> {
    shelf: ShelfOf<C>,
    change: F,
    slot: Slot<U>,
}

impl<C, F, U> MakeBlock for MakeRelay<C, F, U>
where
    C: AsyncContext,
    F: FnOnce(C::Value) -> U,
{
    type Future = ProvideOn<U>;

    fn make(self) -> ProvideOn<U> {
        ProvideOn {
            provide: self.slot.provide((self.change)(self.shelf.take_one())),
        }
    }
}

pin_project! {
    /// Waits for the user's block, and ends as it has ended.
    struct ProvideOn<U> {
        #[pin]
        provide: Provide<U>,
    }
}

impl<U> Future for ProvideOn<U> {
    type Output = PassedOn;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PassedOn> {
        self.project().provide.poll(cx).map(PassedOn)
    }
}

/// How the user's block ended, for the exit of the context that is mapped.
#[derive(Debug)]
struct PassedOn(BlockEnd);

impl BlockOutput for PassedOn {
    fn block_end(&self) -> BlockEnd {
        self.0
    }
}
