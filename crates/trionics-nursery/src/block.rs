//! For the sibling crates: the block that uses contexts, and the contexts that wait for it.
//!
//! A block counts as inside every frame that has provided a value to it: each of them holds a *guest*
//! node, live as long as the block may run. A guest that is cancelled cancels the block; a block that
//! has ended turns everything from the guest out to its context into a shield for the exit.
//!
//! A context that is a child of the nursery whose body runs the block needs no such node: what cancels the one cancels
//! the other, and the nursery has both in its hands. The child is *marked* as a guest instead.

use std::{
    fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use slab::Slab;
use trionics_errgroup::{CancelReason, Cancelled};

use crate::{
    current::{self, Current},
    frame::{Frame, RETURNS_ONCE, Step, drop_body, report_at},
    host::Host,
    node::Node,
    nursery::Member,
    report::{FrameInfo, FrameKind, Report},
    sync::{AtomicU32, AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    wake::{WakeList, wake_outside},
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
    location: &'static Location<'static>,
    /// The block's own scope, made when it is needed; none where a nursery's body is the block.
    node: OnceLock<Arc<Node>>,
    /// The body of a nursery that does nothing but run the block: its place is the block's.
    body: OnceLock<Member>,
    /// The child that ends the block; it is no future of ours then.
    host: Option<Host>,
    /// How the block ended, as a number; [`NOT_ENDED`] before. Set under the lock of `guests`.
    ended: AtomicU32,
    /// How many contexts have yet to provide.
    missing: AtomicUsize,
    /// The guests that have a node.
    guests: Mutex<Slab<GuestSeat>>,
}

const NOT_ENDED: u32 = 0;

struct GuestSeat {
    node: Arc<Node>,
    context: Arc<Node>,
}

impl Block {
    /// A block that needs the values of `n_contexts` contexts.
    #[must_use]
    pub fn new(location: &'static Location<'static>, n_contexts: usize) -> Self {
        Self::with(location, n_contexts, None)
    }

    /// The use of one context that `host` runs and whose block it ends; what concerns it wakes the child.
    #[must_use]
    pub fn hosted(location: &'static Location<'static>, host: Host) -> Self {
        Self::with(location, 1, Some(host))
    }

    fn with(location: &'static Location<'static>, n_contexts: usize, host: Option<Host>) -> Self {
        Self {
            shared: Arc::new(Shared {
                location,
                node: OnceLock::new(),
                body: OnceLock::new(),
                host,
                ended: AtomicU32::new(NOT_ENDED),
                missing: AtomicUsize::new(n_contexts),
                guests: Mutex::new(Slab::new()),
            }),
        }
    }

    /// The child that ends the block, if it has one.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.shared.host.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<GuestSeat>> {
        lock(&self.shared.guests)
    }

    /// The block is run by the body of a nursery, which does nothing else.
    pub(crate) fn run_by(&self, body: &Member) {
        let _ = self.shared.body.set(body.clone());
    }

    /// The block's scope, made now if need be; none once a body that is the block is over.
    fn node(&self) -> Option<Arc<Node>> {
        match self.shared.body.get() {
            Some(body) => body.node_unless_over(),
            None => Some(Arc::clone(self.own_node())),
        }
    }

    fn own_node(&self) -> &Arc<Node> {
        let location = self.shared.location;
        self.shared.node.get_or_init(|| {
            let node = Node::new(FrameKind::Block, location);
            if let Some(host) = self.host() {
                node.register(&host.member.waker());
            }
            node
        })
    }

    fn known_node(&self) -> Option<&Arc<Node>> {
        match self.shared.body.get() {
            Some(body) => body.known_node(),
            None => self.shared.node.get(),
        }
    }

    /// What cancels the block or provides the last value from now on wakes; whoever wakes a body has it polled in any case.
    fn register(&self, cx: &mut Context<'_>) {
        if self.shared.body.get().is_none() {
            self.own_node().register(cx.waker());
        }
    }

    /// Waits until every context has provided its value; says why if the block is cancelled before.
    pub fn poll_provided(&self, cx: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        // Registered first: a cancellation or the last value after the look below wakes.
        self.register(cx);
        if self.shared.missing.load(Ordering::SeqCst) == 0 {
            return Poll::Ready(Ok(()));
        }
        self.look_cancelled().map(Err)
    }

    /// Waits until the block is cancelled, by a context that needs its value back for instance.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        self.register(cx);
        self.look_cancelled()
    }

    /// Whether the block is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.known_node()
            .is_some_and(|node| node.is_own_cancelled())
    }

    fn look_cancelled(&self) -> Poll<Cancelled> {
        match self.known_node() {
            Some(node) if node.is_own_cancelled() => Poll::Ready(node.cancelled_or_closed()),
            _ => Poll::Pending,
        }
    }

    /// How the block has ended, once it has or will never begin.
    #[must_use]
    #[inline]
    pub fn ended(&self) -> Option<BlockEnd> {
        match self.shared.ended.load(Ordering::Acquire) {
            NOT_ENDED => None,
            1 => Some(BlockEnd::Completed),
            2 => Some(BlockEnd::Failed),
            3 => Some(BlockEnd::Cancelled),
            _ => Some(BlockEnd::Panicked),
        }
    }

    /// One context more has provided, before the block has ended; true if it was the last one.
    fn note_provided(&self) -> bool {
        self.shared.missing.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// All contexts have provided.
    fn wake(&self) {
        match (self.shared.body.get(), self.host()) {
            (Some(body), _) => body.wake(),
            (None, Some(host)) => host.member.wake(),
            (None, None) => wake_outside(self.own_node().take_waker()),
        }
    }

    /// The block has ended, or never begins: the exits may run.
    pub fn end(&self, how: BlockEnd) {
        let guests = {
            let mut guests = self.lock();
            if self.ended().is_some() {
                return;
            }
            let how = match how {
                BlockEnd::Completed => 1,
                BlockEnd::Failed => 2,
                BlockEnd::Cancelled => 3,
                BlockEnd::Panicked => 4,
            };
            self.shared.ended.store(how, Ordering::Release);
            mem::take(&mut *guests)
        };
        if guests.is_empty() {
            return;
        }
        let mut wakers = WakeList::new();
        for (_, guest) in guests {
            // First the shields, then the guest goes: in between nothing strikes.
            guest.node.begin_exit(&guest.context);
            wakers.push(guest.node.take_waker());
            guest.node.retire();
        }
        wakers.wake_all();
    }

    /// The block that its host ends has ended: what follows in the context is its exit.
    pub fn end_hosted(&self) {
        self.end(BlockEnd::Completed);
        if let Some(host) = self.host()
            && host.member.is_guest()
        {
            host.member.begin_exit();
        }
    }

    /// Cancels the block alone.
    pub fn cancel(&self, reason: CancelReason, location: &'static Location<'static>) {
        let cancelled = Cancelled::__new(reason, location);
        match self.shared.body.get() {
            Some(body) => body.cancel(cancelled),
            None => self.own_node().request(cancelled),
        };
    }

    /// For the sibling crates: runs `make`'s future as the block once every context has provided; yields how it ended.
    pub fn run<M: MakeBlock>(self, make: M) -> RunBlock<M, M::Future> {
        RunBlock {
            future: None,
            phase: BlockPhase::Waiting { make },
            frame: None,
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
        // None where a nursery's body is the block.
        frame: Option<Frame>,
        block: Block,
    }

    impl<M, F> PinnedDrop for RunBlock<M, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = drop_body(this.future.as_mut());
            // A nursery whose body it is drops it to stop it.
            this.block.end(match dropped {
                Ok(()) => BlockEnd::Cancelled,
                Err(_) => BlockEnd::Panicked,
            });
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
                        mem::replace(this.phase, BlockPhase::Running)
                    else {
                        unreachable!("looked at above");
                    };
                    // The block's frame begins with the call, so that it is where a frame made in it goes.
                    if block.shared.body.get().is_none() {
                        let frame = Frame::new(Arc::clone(block.own_node()));
                        this.frame.insert(frame).settle();
                    }
                    let made = {
                        let _entered = this.frame.as_mut().map(Frame::enter);
                        catch_unwind(AssertUnwindSafe(|| make.make()))
                    };
                    match made {
                        Ok(future) => this.future.set(Some(future)),
                        Err(payload) => {
                            end_frame(this.frame);
                            *this.phase = BlockPhase::Done;
                            block.end(BlockEnd::Panicked);
                            resume_unwind(payload);
                        }
                    }
                }
            }
        }
        if let BlockPhase::Running = this.phase {
            let future = this.future.as_mut();
            let step = catch_unwind(AssertUnwindSafe(|| match this.frame {
                Some(frame) => frame.poll_once(future, cx),
                None => poll_as_body(future, cx),
            }));
            match step {
                Ok(Step::Pending) => return Poll::Pending,
                Ok(Step::Ready(output)) => {
                    *this.phase = BlockPhase::Done;
                    block.end(output.block_end());
                    return Poll::Ready(Ok(output));
                }
                Ok(Step::Stopped) => {
                    let frame = this.frame.as_ref();
                    let cancelled = frame.map(Frame::stopped_by);
                    end_frame(this.frame);
                    *this.phase = BlockPhase::Stopped(cancelled.expect("only a frame stops"));
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
            _ => panic!(
                "the block of a {} was polled after it had completed; {RETURNS_ONCE}",
                FrameInfo::new(FrameKind::Block, None, block.shared.location)
            ),
        }
    }
}

/// Polls a block that is the body of a nursery, which does the rest.
fn poll_as_body<F: Future>(
    mut future: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Step<F::Output> {
    let running = future.as_mut().as_pin_mut();
    match running.expect("a running block has its future").poll(cx) {
        Poll::Pending => Step::Pending,
        Poll::Ready(output) => {
            if let Err(payload) = drop_body(future) {
                resume_unwind(payload);
            }
            Step::Ready(output)
        }
    }
}

fn end_frame(frame: &mut Option<Frame>) {
    if let Some(frame) = frame {
        frame.finish();
    }
}

impl<M, F> fmt::Debug for RunBlock<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBlock").finish_non_exhaustive()
    }
}

/// A context's own place in the tree: known from its first poll on, or when it has to be.
#[derive(Default)]
pub struct ContextPlace {
    node: OnceLock<Arc<Node>>,
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
                Some(node),
                &Report::Dropped(FrameInfo::new(FrameKind::Context, None, location)),
            );
        }
    }
}

impl fmt::Debug for ContextPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextPlace").finish_non_exhaustive()
    }
}

/// Says for which block a guest waits, and to which context it belongs.
pub trait Invitation {
    /// The block that uses the value.
    fn block(&self) -> &Block;

    /// The context's place.
    fn place(&self) -> &ContextPlace;

    /// The child that runs the context, if the body of the same nursery runs the block.
    fn host(&self) -> Option<&Host>;

    /// The guest has gone.
    fn leave(&mut self);

    /// Where the contexts are entered.
    fn location(&self) -> &'static Location<'static>;
}

/// Waits, inside a context, for the block that uses its value to end.
#[must_use = "futures do nothing unless polled"]
pub struct Guest<I: Invitation> {
    invitation: I,
    phase: GuestPhase,
}

enum GuestPhase {
    Fresh,
    /// Its host is marked.
    Marked,
    /// It has a node under its context's.
    Seated {
        node: Arc<Node>,
        key: usize,
    },
    /// Outside any frame: nothing can cancel the context either, and the block's end is all.
    Placeless,
    Done,
}

impl<I: Invitation> Guest<I> {
    /// A guest that has yet to sit down.
    pub fn new(invitation: I) -> Self {
        Self {
            invitation,
            phase: GuestPhase::Fresh,
        }
    }

    /// What it was given.
    pub fn invitation(&self) -> &I {
        &self.invitation
    }
}

impl<I: Invitation + Unpin> Future for Guest<I> {
    type Output = BlockEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BlockEnd> {
        let this = self.get_mut();
        match &this.phase {
            GuestPhase::Fresh => {
                let (is_marked, block) = (this.mark_host(cx), this.invitation.block());
                let is_last = if is_marked {
                    this.phase = GuestPhase::Marked;
                    // A host that ends the block itself looks after this very poll.
                    block.note_provided() && block.host().is_none()
                } else {
                    this.sit_down(true)
                };
                if is_last {
                    this.invitation.block().wake();
                }
            }
            // It has come to be polled by something else than its host, which cannot wake that.
            GuestPhase::Marked if !this.is_polled_by_host(cx) => {
                this.sit_down(false);
                this.unmark_host();
            }
            GuestPhase::Marked | GuestPhase::Seated { .. } | GuestPhase::Placeless => {}
            GuestPhase::Done => panic!(
                "the `provide` of a context at {} was polled after it had completed; {RETURNS_ONCE}",
                this.invitation.location()
            ),
        }
        if let GuestPhase::Seated { node, .. } = &this.phase {
            node.note_poll();
            node.register(cx.waker());
        }
        match this.invitation.block().ended() {
            Some(end) => {
                this.phase = GuestPhase::Done;
                this.invitation.leave();
                Poll::Ready(end)
            }
            None => Poll::Pending,
        }
    }
}

impl<I: Invitation> Guest<I> {
    /// The host itself is the current frame, and the waker of this poll is its own.
    fn is_polled_by_host(&self, cx: &Context<'_>) -> bool {
        self.invitation.host().is_some_and(|host| {
            host.member.is_polled_with(cx.waker())
                && current::with(
                    |current| matches!(current, Some(Current::Member(member)) if member.is_same(&host.member)),
                )
        })
    }

    /// Marks the host instead of sitting down, where that will do.
    fn mark_host(&self, cx: &Context<'_>) -> bool {
        if !self.is_polled_by_host(cx) || self.invitation.block().ended().is_some() {
            return false;
        }
        let Some(host) = self.invitation.host() else {
            return false;
        };
        #[cfg(feature = "tracing")]
        if crate::trace::hears_of_exits() {
            return false;
        }
        host.member.set_guest();
        true
    }
}

impl<I: Invitation> Guest<I> {
    /// Hangs a node under the context, which stays live as long as the block may run.
    ///
    /// With `provides`, the context has provided only now; true if it was the last one. A block that has ended does not hear
    /// of it: the exit begins at once.
    fn sit_down(&mut self, provides: bool) -> bool {
        let around = current::node();
        let invitation = &self.invitation;
        let (block, place) = (invitation.block(), invitation.place());
        if let Some(host) = invitation.host()
            && let Some(node) = host.member.node_unless_over()
        {
            let _ = place.node.set(node);
        }
        let seat = place.node.get().cloned().or_else(|| around.clone());
        let seat = seat.map(|context| {
            let parent = match around {
                Some(around) if around.is_inside(&context) => around,
                _ => Arc::clone(&context),
            };
            let (kind, location) = (FrameKind::Provide, invitation.location());
            let node = match block.node() {
                Some(block) => Node::with_follower(kind, location, block),
                // It has ended, as the look below finds.
                None => Node::new(kind, location),
            };
            node.attach(Some(parent), true);
            if let Some(body) = block.shared.body.get() {
                // It has yet to leave a waker where it may have got its place only now.
                body.wake();
            }
            GuestSeat { node, context }
        });
        self.phase = GuestPhase::Placeless;
        let mut guests = block.lock();
        if block.ended().is_some() {
            drop(guests);
            if let Some(seat) = seat {
                seat.node.begin_exit(&seat.context);
                seat.node.retire();
            }
            return false;
        }
        if let Some(seat) = seat {
            let node = Arc::clone(&seat.node);
            let key = guests.insert(seat);
            self.phase = GuestPhase::Seated { node, key };
        }
        provides && block.note_provided()
    }

    fn unmark_host(&self) -> bool {
        let host = self.invitation.host();
        host.is_some_and(|host| host.member.clear_guest())
    }
}

impl<I: Invitation> Drop for Guest<I> {
    fn drop(&mut self) {
        let block = self.invitation.block();
        let is_gone_early = match &self.phase {
            GuestPhase::Fresh | GuestPhase::Placeless | GuestPhase::Done => false,
            GuestPhase::Marked => block.ended().is_none() && self.unmark_host(),
            GuestPhase::Seated { node, key } => {
                let gone = {
                    let mut guests = block.lock();
                    // The block's end takes all guests at once.
                    if block.ended().is_none() {
                        guests.try_remove(*key)
                    } else {
                        None
                    }
                };
                if gone.is_some() {
                    block.cancel(CancelReason::ContextEnded, self.invitation.location());
                    node.retire();
                }
                false
            }
        };
        if is_gone_early {
            block.cancel(CancelReason::ContextEnded, self.invitation.location());
            if let Some(host) = self.invitation.host() {
                host.member.wake();
            }
        }
    }
}

impl<I: Invitation> fmt::Debug for Guest<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}
