//! The engine of a nursery: a body and children that are polled, stopped and collected together.
use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Cancelled, Failure};

use super::{child::Crew, finish::FinishSlot, member::Queue};
use crate::{
    block::Block,
    deadline::{self, Limit},
    frame::{Frame, RETURNS_ONCE},
    node::{CountedLive, Node},
    scope::Name,
};

mod end;
mod enlist;
mod place;
mod run;
mod trouble;

pub use self::enlist::{Enlist, open_children};
use self::trouble::Trouble;

/// How many members one poll of a nursery polls at most before it lets its neighbors run.
const POLLS_AT_ONCE: usize = 256;

/// What a nursery does beyond the ordinary.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawOptions {
    pub(crate) name: Option<Name>,
    pub(crate) shielded: bool,
    /// How many children run at once at most.
    pub(crate) limit: Option<usize>,
    /// A child's failure does not cancel the others.
    pub(crate) supervises: bool,
    /// How long what still runs may take, from the moment the nursery is effectively cancelled.
    pub(crate) grace: Option<Duration>,
    /// When the nursery cancels itself, and where that was asked for.
    pub(crate) limit_in_time: Option<(Limit, &'static Location<'static>)>,
}

impl RawOptions {
    /// Something is asked for that a node keeps.
    fn asks_for_node(&self) -> bool {
        self.name.is_some() || self.shielded || self.grace.is_some() || self.limit_in_time.is_some()
    }
}

/// How the body of a nursery ended.
#[derive(Debug)]
pub enum BodyEnd<T, E> {
    /// It returned a value.
    Value(T),
    /// It failed.
    Failed(Failure<E>),
    /// It was stopped by a cancellation of its own.
    Cancelled(Cancelled),
}

/// How a nursery ended.
#[derive(Debug)]
pub enum RawEnd<T, E> {
    /// The body's value, and no failure anywhere.
    Value(T),
    /// All failures, in the order in which they happened.
    Failed(Vec<Failure<E>>),
    /// Cancelled, without a failure and without a value.
    Cancelled(Cancelled),
}

/// Everything of a nursery but its body's future.
struct Inner<C: ?Sized, T, E> {
    /// Made for the first poll if that is in a frame, else when the nursery has got a node.
    frame: Option<Frame>,
    /// It is running, and has no frame.
    bare: Option<CountedLive>,
    crew: Crew<C>,
    value: Option<T>,
    /// Where a value comes from that ends the nursery early; the first one counts.
    finish: Option<Arc<FinishSlot<T>>>,
    /// A cancellation from further out has stopped the body or a child.
    stopped_by_outer: bool,
    /// The members that need no further poll have been dropped since the nursery was cancelled.
    swept: bool,
    /// The block that the body runs, if the children are its contexts.
    block: Option<Block>,
    supervises: bool,
    limit: usize,
    /// Made when something does not go well.
    trouble: Option<Box<Trouble<E>>>,
}

pin_project! {
    /// A nursery whose children are stored as `C`.
    #[must_use = "futures do nothing unless polled"]
    pub struct RawNursery<C: ?Sized, B, T, E> {
        #[pin]
        body: Option<B>,
        // The one of the crew in `inner`.
        queue: Arc<Queue>,
        inner: Inner<C, T, E>,
    }

    impl<C: ?Sized, B, T, E> PinnedDrop for RawNursery<C, B, T, E> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.inner.clear(this.body);
        }
    }
}

impl<C: ?Sized, B, T, E> RawNursery<C, B, T, E> {
    /// `make` gets the crew, for a body that starts children.
    pub(crate) fn new(
        location: &'static Location<'static>,
        options: RawOptions,
        make: impl FnOnce(&mut Crew<C>) -> B,
    ) -> Self {
        let node = options.asks_for_node().then(|| {
            // Its scope is the nursery's: nothing else runs in it.
            let is_entered = options.limit_in_time.is_none();
            let node = Node::of_nursery(location, options.name.clone(), is_entered);
            if let Some((limit, location)) = options.limit_in_time {
                // Before it counts as entered: a timeout begins with the first poll.
                node.set_limit(limit, location);
                node.try_enter();
            }
            if options.shielded {
                node.set_shielded(true);
            }
            if let Some(grace) = options.grace {
                node.set_grace(grace);
            }
            node
        });
        let mut crew = Crew::new(Queue::new(node, options.limit, options.name, location));
        Self {
            body: Some(make(&mut crew)),
            queue: Arc::clone(crew.queue()),
            inner: Inner {
                frame: None,
                bare: None,
                crew,
                value: None,
                finish: None,
                stopped_by_outer: false,
                swept: false,
                block: None,
                supervises: options.supervises,
                limit: options.limit.unwrap_or(usize::MAX),
                trouble: None,
            },
        }
    }

    /// A value may also come through `finish`, and ends the nursery then.
    pub(crate) fn finished_by(mut self, finish: Option<Arc<FinishSlot<T>>>) -> Self {
        self.inner.finish = finish;
        self
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.queue.location()
    }

    pub(crate) fn name(&self) -> Option<Name> {
        self.inner.crew.body_member().name().cloned()
    }
}

impl<C: ?Sized, B, T, E> std::fmt::Debug for RawNursery<C, B, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawNursery")
            .field("opened_at", &self.location())
            .finish_non_exhaustive()
    }
}

impl<C, B, T, E> Future for RawNursery<C, B, T, E>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
    B: Future<Output = BodyEnd<T, E>>,
{
    type Output = RawEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut body, inner) = (this.body, this.inner);
        if inner.frame.is_none() && !inner.may_be_bare() {
            inner.make_frame();
        }
        let mut in_force = None;
        match &mut inner.frame {
            Some(frame) => {
                if frame.is_stopped() {
                    frame.settle();
                    return frame.absorb_or_park(cx).map(RawEnd::Cancelled);
                }
                assert!(
                    !frame.is_done(),
                    "a {} was polled after it had completed; {RETURNS_ONCE}",
                    frame.node().info()
                );
                if !frame.settle() {
                    let cancelled = frame.stopped_by();
                    inner.clear(body);
                    let frame = inner.frame();
                    frame.mark_stopped(cancelled);
                    return frame.absorb_or_park(cx).map(RawEnd::Cancelled);
                }
                inner.bare = None;
                frame.begin_poll();
                in_force = deadline::begin_poll(frame.node());
            }
            None => {
                assert!(
                    !inner.crew.is_closed(),
                    "a {} was polled after it had completed; {RETURNS_ONCE}",
                    this.queue.info()
                );
                inner.bare.get_or_insert_with(CountedLive::new);
            }
        }
        // Children and body have spans inside.
        #[cfg(feature = "tracing")]
        let _span = this
            .queue
            .known_nursery()
            .and_then(|node| node.trace().enter(node));
        let polling = inner.crew.begin_poll(this.queue);
        if inner.run(body.as_mut()) {
            return inner.finish(cx);
        }
        drop(in_force);
        if let Some(frame) = &mut inner.frame {
            frame.watch_deadline(cx);
            if !frame.node().is_effective() {
                if let Some(trouble) = &mut inner.trouble {
                    trouble.grace.reset();
                }
            } else if inner.is_out_of_grace(cx) {
                inner.give_up(body);
                if inner.is_finished() {
                    return inner.finish(cx);
                }
            }
        }
        // What is woken from here on, on this thread too, comes by way of the stack.
        let has_more = inner.crew.has_more(inner.room());
        drop(polling);
        // Nobody need wake a nursery that is polled again at once.
        if has_more || !inner.crew.sleep(cx.waker()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<C: ?Sized, B, T, E> RawNursery<C, B, T, E> {
    /// Says which block the body runs, if the children that have a [`Host`] are its contexts.
    pub fn running(mut self, block: &Block) -> Self {
        block.run_by(self.inner.crew.body_member());
        self.inner.block = Some(block.clone());
        self
    }
}
