//! For the sibling crates: the block that uses contexts, and the contexts that wait for it.
//!
//! A block counts as inside every frame that has provided a value to it: each of them holds a *guest*
//! node, live as long as the block may run. A guest that is cancelled cancels the block; a block that
//! has ended turns everything from the guest out to its context into a shield for the exit.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use slab::Slab;
use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    current,
    frame::{Frame, Step, report_at},
    node::Node,
    report::{FrameKind, Report},
    sync::{Mutex, MutexGuard, lock},
    wake::WakeList,
};

/// How the block that used a context's value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockEnd {
    /// It returned a value.
    Completed,
    /// It returned a failure.
    Failed,
    /// It was stopped by a cancellation, or never began because of one.
    Cancelled,
    /// It panicked.
    Panicked,
}

/// A block and the contexts it uses.
#[derive(Clone)]
pub struct Block {
    shared: Arc<Shared>,
}

struct Shared {
    /// The block's own scope.
    node: Arc<Node>,
    state: Mutex<State>,
}

struct State {
    ended: Option<BlockEnd>,
    guests: Slab<GuestSeat>,
    /// How many contexts have yet to provide.
    missing: usize,
}

struct GuestSeat {
    node: Arc<Node>,
    context: Arc<Node>,
}

impl Block {
    /// A block that needs the values of `n_contexts` contexts.
    #[must_use]
    pub fn new(location: &'static Location<'static>, n_contexts: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                node: Node::new(FrameKind::Block, location),
                state: Mutex::new(State {
                    ended: None,
                    guests: Slab::new(),
                    missing: n_contexts,
                }),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Waits until every context has provided its value; says why if the block is cancelled before.
    pub fn poll_provided(&self, cx: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        // Registered first: a cancellation or the last value after the look below wakes.
        self.shared.node.register(cx.waker());
        if self.lock().missing == 0 {
            return Poll::Ready(Ok(()));
        }
        self.look_cancelled().map(Err)
    }

    /// Waits until the block is cancelled, by a context that needs its value back for instance.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        self.shared.node.register(cx.waker());
        self.look_cancelled()
    }

    /// Whether the block is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.node.is_own_cancelled()
    }

    fn look_cancelled(&self) -> Poll<Cancelled> {
        if self.is_cancelled() {
            Poll::Ready(self.shared.node.cancelled_or_closed())
        } else {
            Poll::Pending
        }
    }

    /// How the block has ended, once it has or will never begin.
    #[must_use]
    pub fn ended(&self) -> Option<BlockEnd> {
        self.lock().ended
    }

    /// The block has ended, or never begins: the exits may run.
    pub fn end(&self, how: BlockEnd) {
        let guests = {
            let mut state = self.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(how);
            std::mem::take(&mut state.guests)
        };
        let mut wakers = WakeList::new();
        for (_, guest) in guests {
            // First the shields, then the guest goes: in between nothing strikes.
            guest.node.begin_exit(&guest.context);
            wakers.push(guest.node.take_waker());
            guest.node.retire();
        }
        wakers.wake_all();
    }

    /// Cancels the block alone.
    pub fn cancel(&self, reason: CancelReason, location: &'static Location<'static>) {
        self.shared.node.request(Cancelled::__new(reason, location));
    }

    /// For the sibling crates: runs `make`'s future as the block once every context has provided; yields how it ended.
    pub fn run<M: MakeBlock>(self, make: M) -> RunBlock<M, M::Future> {
        let frame = Frame::new(Arc::clone(&self.shared.node));
        RunBlock {
            future: None,
            phase: BlockPhase::Waiting { make },
            frame,
            block: self,
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").finish_non_exhaustive()
    }
}

enum BlockPhase<M> {
    Waiting {
        make: M,
    },
    Running,
    /// Stopped: by its own scope, or by one around it, whose frame will drop this future.
    Stopped(Cancelled),
    Done,
}

pin_project! {
    /// The future of [`Block::run`].
    ///
    /// It calls `end_with` on the block itself, in every case, also when it is dropped.
    #[must_use = "futures do nothing unless polled"]
    pub struct RunBlock<M, F> {
        #[pin]
        future: Option<F>,
        phase: BlockPhase<M>,
        frame: Frame,
        block: Block,
    }

    impl<M, F> PinnedDrop for RunBlock<M, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = crate::frame::drop_body(this.future.as_mut());
            this.block.end(BlockEnd::Cancelled);
            if let Err(payload) = dropped && !std::thread::panicking() {
                resume_unwind(payload);
            }
        }
    }
}

/// What makes a block's future from the values; a type of its own where a closure's cannot be named.
pub trait MakeBlock {
    /// The block's future.
    type Future: Future;

    /// Called once, inside the block's frame, when every context has provided.
    fn make(self) -> Self::Future;
}

impl<M, F> MakeBlock for M
where
    M: FnOnce() -> F,
    F: Future,
{
    type Future = F;

    fn make(self) -> F {
        self()
    }
}

/// An output that says how the block ended.
pub trait BlockOutput {
    /// Completed or failed.
    fn block_end(&self) -> BlockEnd;
}

impl<T, E> BlockOutput for Result<T, E> {
    fn block_end(&self) -> BlockEnd {
        if self.is_ok() {
            BlockEnd::Completed
        } else {
            BlockEnd::Failed
        }
    }
}

impl<M, F> Future for RunBlock<M, F>
where
    M: MakeBlock<Future = F>,
    F: Future<Output: BlockOutput>,
{
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let block = &*this.block;
        if let BlockPhase::Waiting { .. } = this.phase {
            match block.poll_provided(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(cancelled)) => {
                    block.end(BlockEnd::Cancelled);
                    *this.phase = BlockPhase::Stopped(cancelled);
                }
                Poll::Ready(Ok(())) => {
                    let BlockPhase::Waiting { make } =
                        std::mem::replace(this.phase, BlockPhase::Running)
                    else {
                        unreachable!("looked at above");
                    };
                    // The block's frame begins with the call, so that it is where a frame made in it goes.
                    this.frame.settle();
                    let made = {
                        let _entered = this.frame.enter();
                        catch_unwind(AssertUnwindSafe(|| make.make()))
                    };
                    match made {
                        Ok(future) => this.future.set(Some(future)),
                        Err(payload) => {
                            this.frame.finish();
                            *this.phase = BlockPhase::Done;
                            block.end(BlockEnd::Panicked);
                            resume_unwind(payload);
                        }
                    }
                }
            }
        }
        if let BlockPhase::Running = this.phase {
            let frame = &mut *this.frame;
            let future = this.future.as_mut();
            match catch_unwind(AssertUnwindSafe(|| frame.poll_once(future, cx))) {
                Ok(Step::Pending) => return Poll::Pending,
                Ok(Step::Ready(output)) => {
                    *this.phase = BlockPhase::Done;
                    block.end(output.block_end());
                    return Poll::Ready(Ok(output));
                }
                Ok(Step::Stopped) => {
                    let cancelled = this.frame.stopped_by();
                    this.frame.finish();
                    *this.phase = BlockPhase::Stopped(cancelled);
                    block.end(BlockEnd::Cancelled);
                }
                Err(payload) => {
                    *this.phase = BlockPhase::Done;
                    block.end(BlockEnd::Panicked);
                    resume_unwind(payload);
                }
            }
        }
        match this.phase {
            BlockPhase::Stopped(cancelled) => {
                if current::is_cancelled() {
                    return Poll::Pending;
                }
                let cancelled = cancelled.clone();
                *this.phase = BlockPhase::Done;
                Poll::Ready(Err(cancelled))
            }
            _ => panic!("a block was polled after it had completed"),
        }
    }
}

impl<M, F> fmt::Debug for RunBlock<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBlock").finish_non_exhaustive()
    }
}

/// A context's own place in the tree, known from its first poll on.
#[derive(Clone, Default)]
pub struct ContextPlace {
    node: Arc<OnceLock<Arc<Node>>>,
}

impl ContextPlace {
    /// The frame that is current now is the context's.
    pub fn settle(&self) {
        if let Some(node) = current::node() {
            let _ = self.node.set(node);
        }
    }

    /// The context was dropped after it had provided and before its exit had run.
    pub fn report_dropped(&self, location: &'static Location<'static>) {
        if let Some(node) = self.node.get()
            && !node.is_abandoned()
        {
            report_at(
                node,
                &Report::Dropped(crate::FrameInfo::new(FrameKind::Context, None, location)),
            );
        }
    }
}

impl fmt::Debug for ContextPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextPlace").finish_non_exhaustive()
    }
}

/// Waits, inside a context, for the block that uses its value to end.
#[must_use = "futures do nothing unless polled"]
pub struct Guest {
    block: Block,
    place: ContextPlace,
    location: &'static Location<'static>,
    phase: GuestPhase,
}

enum GuestPhase {
    Fresh,
    Waiting { node: Arc<Node>, key: usize },
    Done,
}

impl Guest {
    /// A guest of `block`, for the context at `place`.
    pub fn new(block: Block, place: ContextPlace, location: &'static Location<'static>) -> Self {
        Self {
            block,
            place,
            location,
            phase: GuestPhase::Fresh,
        }
    }
}

impl Future for Guest {
    type Output = BlockEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BlockEnd> {
        let this = self.get_mut();
        match &this.phase {
            GuestPhase::Fresh => this.sit_down(),
            GuestPhase::Waiting { .. } => {}
            GuestPhase::Done => panic!("`provide` was polled after it had completed"),
        }
        if let GuestPhase::Waiting { node, .. } = &this.phase {
            node.note_poll();
            node.register(cx.waker());
        }
        let ended = this.block.lock().ended;
        match ended {
            Some(end) => {
                this.phase = GuestPhase::Done;
                Poll::Ready(end)
            }
            None => Poll::Pending,
        }
    }
}

impl Guest {
    fn sit_down(&mut self) {
        let around = current::node();
        let Some(context) = self.place.node.get().cloned().or_else(|| around.clone()) else {
            // Outside any frame nothing can cancel the context either; the block's end is all.
            self.announce(None);
            return;
        };
        let parent = match around {
            Some(around) if around.is_inside(&context) => around,
            _ => Arc::clone(&context),
        };
        let node = Node::with_follower(
            FrameKind::Provide,
            self.location,
            Arc::clone(&self.block.shared.node),
        );
        node.attach(Some(parent), true);
        self.announce(Some((node, context)));
    }

    /// Tells the block that the value is there; too late, and the exit begins at once.
    fn announce(&mut self, place: Option<(Arc<Node>, Arc<Node>)>) {
        let (late, is_complete) = {
            let mut state = self.block.lock();
            let late = match (state.ended, place) {
                (None, place) => {
                    state.missing -= 1;
                    if let Some((node, context)) = place {
                        let key = state.guests.insert(GuestSeat {
                            node: Arc::clone(&node),
                            context,
                        });
                        self.phase = GuestPhase::Waiting { node, key };
                    }
                    None
                }
                (Some(_), place) => place,
            };
            (late, state.missing == 0)
        };
        if let Some((node, context)) = late {
            node.begin_exit(&context);
            node.retire();
        }
        if is_complete {
            let mut wakers = WakeList::new();
            wakers.push(self.block.shared.node.take_waker());
            wakers.wake_all();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let GuestPhase::Waiting { node, key } = &self.phase else {
            return;
        };
        let gone = {
            let mut state = self.block.lock();
            // The block's end takes all guests at once.
            if state.ended.is_none() {
                state.guests.try_remove(*key)
            } else {
                None
            }
        };
        if gone.is_some() {
            self.block.cancel(CancelReason::ContextEnded, self.location);
            node.retire();
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}
