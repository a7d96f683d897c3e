//! Children that run elsewhere, on an executor or on a thread that may be blocked, and the nursery's
//! wait for them.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure};

use super::{
    member::Member,
    spawner::{SpawnBlocking, Spawner},
};
use crate::{
    current::{self, Current},
    frame::{Frame, Step, drop_body},
    node::Node,
    report::FrameKind,
    sync::{AtomicBool, Mutex, Ordering, lock},
    wake::wake_outside,
};

/// What the child and the nursery's wait for it share.
struct Line<E> {
    /// The child's place, live until the executor has dropped the child.
    node: Arc<Node>,
    member: Member,
    /// The nursery has room for the child: it may run.
    admitted: AtomicBool,
    /// How the child ended, until the nursery takes it.
    end: Mutex<Option<End<E>>>,
}

enum End<E> {
    Returned(Result<(), Failure<E>>),
    Panicked(Box<dyn Any + Send>),
    /// A cancellation has stopped it, or its nursery has.
    Stopped,
    /// It was dropped without anybody having asked for it.
    Gone,
}

impl<E> Line<E> {
    fn new(member: &Member, nursery: &Arc<Node>, admitted: bool) -> Arc<Self> {
        let name = member.name().map(Arc::clone);
        let node = Node::on_executor(nursery, member.location(), name);
        member.put_on_executor(Arc::clone(&node));
        Arc::new(Self {
            node,
            member: member.clone(),
            admitted: AtomicBool::new(admitted),
            end: Mutex::new(None),
        })
    }

    /// The child is the nursery's: from now on it is waited for.
    fn hang_up(&self, nursery: &Arc<Node>) {
        self.node.attach(Some(Arc::clone(nursery)), true);
    }

    fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    fn admit(&self) {
        if !self.is_admitted() {
            self.admitted.store(true, Ordering::Release);
            wake_outside(self.node.take_waker());
        }
    }

    /// The child is gone, and its place, too.
    fn deliver(&self, end: End<E>) {
        let replaced = lock(&self.end).replace(end);
        debug_assert!(replaced.is_none(), "a child ends once");
        self.member.wake();
    }

    /// The nursery's look at whether the child has ended.
    fn poll_end(&self) -> Poll<Result<(), Failure<E>>> {
        let end = lock(&self.end).take();
        Poll::Ready(match end {
            None => return Poll::Pending,
            Some(End::Returned(result)) => result,
            Some(End::Panicked(payload)) => resume_unwind(payload),
            Some(End::Gone) if !self.node.is_effective() => Err(Failure::cancelled(
                Cancelled::__new(CancelReason::ExecutorShutDown, self.member.location()),
            )),
            Some(End::Gone | End::Stopped) => {
                self.node.set_stopped();
                Ok(())
            }
        })
    }
}

/// The nursery's wait for a child that runs elsewhere; dropped before its end, it dismisses the child.
pub(super) struct Join<E> {
    line: Arc<Line<E>>,
    over: bool,
}

impl<E> Join<E> {
    fn new(line: &Arc<Line<E>>) -> Self {
        Self {
            line: Arc::clone(line),
            over: false,
        }
    }
}

impl<E> Future for Join<E> {
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.line.admit();
        // Stays so if a panic is resumed.
        this.over = true;
        let polled = this.line.poll_end();
        this.over = polled.is_ready();
        polled
    }
}

impl<E> Drop for Join<E> {
    fn drop(&mut self) {
        if !self.over {
            self.line.node.dismiss();
        }
    }
}

/// A child that is ready to be put on an executor.
pub(super) struct ForExecutor<F, E> {
    child: F,
    line: Arc<Line<E>>,
}

/// Splits `child` into what the nursery polls and what an executor is to run.
pub(super) fn for_executor<F, E>(
    child: F,
    member: &Member,
    nursery: &Arc<Node>,
    admitted: bool,
) -> (Join<E>, ForExecutor<F, E>) {
    let line = Line::new(member, nursery, admitted);
    (Join::new(&line), ForExecutor { child, line })
}

impl<F, E> ForExecutor<F, E>
where
    F: Future<Output = Result<(), Failure<E>>> + Send + 'static,
    E: Send + 'static,
{
    /// Puts the child on the executor, once the nursery has taken its half in.
    pub(super) fn spawn_on(self, nursery: &Arc<Node>, spawner: &impl Spawner) {
        self.line.hang_up(nursery);
        let task = OnExecutor {
            body: Some(self.child),
            frame: Frame::on_executor(Arc::clone(&self.line.node)),
            line: self.line,
        };
        let _outside = current::clear();
        spawner.spawn(task);
    }
}

pin_project! {
    /// The child as the executor sees it.
    struct OnExecutor<F, E> {
        #[pin]
        body: Option<F>,
        frame: Frame,
        line: Arc<Line<E>>,
    }

    impl<F, E> PinnedDrop for OnExecutor<F, E> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !this.frame.is_done() {
                let dropped = drop_body(this.body);
                this.frame.finish();
                this.line.deliver(match dropped {
                    Ok(()) => End::Gone,
                    Err(payload) => End::Panicked(payload),
                });
            }
        }
    }
}

impl<F, E> Future for OnExecutor<F, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let line = this.line;
        let node = &line.node;
        assert!(
            !this.frame.is_done(),
            "an executor polled a {} after it had completed; drop a task that has returned",
            node.info()
        );
        if !line.is_admitted() {
            node.register(cx.waker());
            if !line.is_admitted() && !node.is_dismissed() {
                return Poll::Pending;
            }
        }
        let end = if node.is_dismissed() {
            Some(End::Stopped)
        } else {
            let (frame, body) = (&mut *this.frame, this.body.as_mut());
            match catch_unwind(AssertUnwindSafe(|| frame.poll_once(body, cx))) {
                // The nursery may have said so during the poll, when no waker was there to be woken.
                Ok(Step::Pending) => node.is_dismissed().then_some(End::Stopped),
                Ok(Step::Ready(result)) => Some(End::Returned(result)),
                Ok(Step::Stopped) => Some(End::Stopped),
                Err(payload) => Some(End::Panicked(payload)),
            }
        };
        let Some(mut end) = end else {
            return Poll::Pending;
        };
        if let Err(payload) = drop_body(this.body) {
            end = End::Panicked(payload);
        }
        this.frame.finish();
        line.deliver(end);
        Poll::Ready(())
    }
}

/// The nursery's half of work that blocks: hands it to the pool at its first poll, and waits for it.
pub(super) struct Blocking<S, F, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    start: Option<(S, OnThread<F, E>)>,
    nursery: Arc<Node>,
    join: Join<E>,
}

/// Prepares work that blocks, as a future that is ready at its first poll.
pub(super) fn blocking<S, F, E>(
    pool: S,
    work: F,
    member: &Member,
    nursery: &Arc<Node>,
) -> Blocking<S, F, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    let line = Line::new(member, nursery, true);
    let join = Join::new(&line);
    let work = OnThread {
        work: Some(work),
        line,
    };
    Blocking {
        start: Some((pool, work)),
        nursery: Arc::clone(nursery),
        join,
    }
}

impl<S, F, E> Unpin for Blocking<S, F, E> where F: Future<Output = Result<(), Failure<E>>> {}

impl<S, F, E> Future for Blocking<S, F, E>
where
    S: SpawnBlocking,
    F: Future<Output = Result<(), Failure<E>>> + Send + 'static,
    E: Send + 'static,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((pool, work)) = this.start.take() {
            work.line.hang_up(&this.nursery);
            let _outside = current::clear();
            pool.spawn_blocking(move || work.run());
        }
        Pin::new(&mut this.join).poll(cx)
    }
}

/// Work that blocks, on its way to a thread and there.
struct OnThread<F, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    /// Ready at its first poll; taken by then.
    work: Option<F>,
    line: Arc<Line<E>>,
}

impl<F, E> OnThread<F, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    fn run(mut self) {
        let node = Arc::clone(&self.line.node);
        // To wait for a thread is to wait: what was cancelled meanwhile does not begin.
        if !node.begin_on_thread() {
            self.end(End::Stopped);
            return;
        }
        // What runs on the thread may ask whether it is wanted, but nothing inside is stopped: whoever
        // blocks on it could not be dropped.
        let shield = Node::new(FrameKind::Shield, self.line.member.location());
        shield.attach(Some(node), true);
        let end = {
            let mut slot = Some(Current::Node(Arc::clone(&shield)));
            let _entered = current::enter(&mut slot);
            let mut work = pin!(self.work.take());
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let work = work.as_mut().as_pin_mut().expect("it runs once");
                work.poll(&mut Context::from_waker(Waker::noop()))
            }));
            match (polled, drop_body(work)) {
                (Ok(Poll::Ready(result)), Ok(())) => End::Returned(result),
                (Ok(Poll::Pending), _) => unreachable!("work that blocks does not wait"),
                (Err(payload), _) | (_, Err(payload)) => End::Panicked(payload),
            }
        };
        shield.retire();
        self.end(end);
    }

    fn end(&mut self, mut end: End<E>) {
        let _outside = current::clear();
        let work = self.work.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(work))) {
            end = End::Panicked(payload);
        }
        self.line.node.retire_from_executor();
        self.line.deliver(end);
    }
}

impl<F, E> Drop for OnThread<F, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    fn drop(&mut self) {
        // The pool has dropped it uncalled.
        if self.work.is_some() {
            self.end(End::Gone);
        }
    }
}
