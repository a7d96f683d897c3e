//! Children that run elsewhere, on an executor or on a thread that may be blocked, and the nursery's
//! wait for them.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{ChildEnded, Failure};

use self::line::{End, Line};
use super::{
    Member,
    child::Share,
    handle::{ChildHandle, ValueState},
    shared::Shared,
    spawner::{SpawnBlocking, Spawner},
};
use crate::{
    current::{self, Current},
    frame::{Frame, Step, drop_body},
    node::Node,
    report::FrameKind,
    scope::Name,
};

mod away;
mod line;

pub(crate) use self::{away::Away, line::Remote};

/// A child that has been put on an executor.
pub(super) struct Remotely<V, E> {
    line: Share<Line<V, E>>,
}

impl<V: Send + 'static, E: Send + 'static> Remotely<V, E> {
    pub(super) fn into_handle(self) -> ChildHandle<V> {
        ChildHandle::to_executor(self.line.into_part(|line| line as _))
    }
}

/// Puts `child` on the executor as a child of the nursery, unless that has closed.
pub(super) fn put_on_executor<N, V, E, C>(
    shared: &Shared<N>,
    name: Option<Name>,
    location: &'static Location<'static>,
    spawner: &impl Spawner,
    child: C,
    value: ValueState<V>,
) -> Option<Remotely<V, E>>
where
    N: ?Sized + Future<Output = Result<(), Failure<E>>>,
    C: Future<Output = Result<V, Failure<E>>> + Send + 'static,
    V: Send + 'static,
    E: Send + 'static,
{
    let away = shared.queue().away();
    let admitted = shared.limit().is_none();
    let line = Line::new(away, name.clone(), location, value, admitted);
    let placed = shared.place(name, location, line, |line| {
        away.add(line);
    });
    let (line, handle) = placed.map_err(|line| line.refuse()).ok()?;
    if away.nursery().shows_children() {
        line.node_unless_over();
    }
    let task = OnExecutor {
        body: Some(child),
        frame: None,
        line,
        was_polled: false,
        over: false,
    };
    let _outside = current::clear();
    spawner.spawn(task);
    Some(Remotely { line: handle })
}

pin_project! {
    /// The child as the executor sees it.
    pub(super) struct OnExecutor<V, E, C> {
        #[pin]
        body: Option<C>,
        // Made once the child has got a node.
        frame: Option<Box<Frame>>,
        line: Share<Line<V, E>>,
        was_polled: bool,
        over: bool,
    }

    impl<V, E, C> PinnedDrop for OnExecutor<V, E, C> {
        fn drop(this: Pin<&mut Self>) {
            if !this.over {
                this.end(Err(ChildEnded::Cancelled), End::Gone);
            }
        }
    }
}

/// What one poll of a child came to, beside `Pending`.
type Outcome<V, E> = (Result<V, ChildEnded>, End<E>);

impl<V, E, C> OnExecutor<V, E, C> {
    /// The child is over: its future and its place go, its handle and its nursery hear of it.
    fn end(self: Pin<&mut Self>, value: Result<V, ChildEnded>, mut end: End<E>) {
        let mut this = self.project();
        *this.over = true;
        if let Err(payload) = drop_body(this.body.as_mut()) {
            end = End::Panicked(payload);
        }
        if let Some(mut frame) = this.frame.take() {
            frame.finish();
        }
        this.line.end(value, end, this.line.member());
    }
}

impl<V, E, C> OnExecutor<V, E, C>
where
    C: Future<Output = Result<V, Failure<E>>>,
{
    /// Polls the child, which has no node as far as is known, and looks what has become of it.
    fn poll_bare(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step<C::Output> {
        let mut this = self.project();
        let line = &*this.line;
        let body = this.body.as_mut().as_pin_mut();
        let body = body.expect("a running child has its body");
        if let Poll::Ready(result) = line.as_current(|| body.poll(cx)) {
            return Step::Ready(result);
        }
        line.register(cx.waker(), !*this.was_polled);
        *this.was_polled = true;
        // A node that is made after this look is made by somebody who wakes the child then.
        match line.known_node() {
            Some(node) => {
                let frame = this.frame.insert(new_frame(node));
                frame.after_pending(this.body, 0, cx)
            }
            None if line.is_cancelled() => Step::Stopped,
            None => Step::Pending,
        }
    }

    /// Polls the child once.
    fn poll_once(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Outcome<V, E>> {
        let this = self.as_mut().project();
        if this.frame.is_none()
            && let Some(node) = this.line.known_node()
        {
            *this.frame = Some(new_frame(node));
        }
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let this = self.as_mut().project();
            match this.frame {
                Some(frame) => frame.poll_once(this.body, cx),
                None => self.as_mut().poll_bare(cx),
            }
        }));
        Some(match caught {
            // The nursery may have said so during the poll, when no waker was there to be woken.
            Ok(Step::Pending) if self.line.is_dismissed() => stopped(),
            Ok(Step::Pending) => return None,
            Ok(Step::Ready(Ok(value))) => (Ok(value), End::Returned(Ok(()))),
            Ok(Step::Ready(Err(failure))) => (Err(ChildEnded::Failed), End::Returned(Err(failure))),
            Ok(Step::Stopped) => stopped(),
            Err(payload) => panicked(payload),
        })
    }
}

fn new_frame(node: &Arc<Node>) -> Box<Frame> {
    Box::new(Frame::on_executor(Arc::clone(node)))
}

fn stopped<V, E>() -> Outcome<V, E> {
    (Err(ChildEnded::Cancelled), End::Stopped)
}

fn panicked<V, E>(payload: Box<dyn Any + Send>) -> Outcome<V, E> {
    (Err(ChildEnded::Panicked), End::Panicked(payload))
}

impl<V, E, C> Future for OnExecutor<V, E, C>
where
    C: Future<Output = Result<V, Failure<E>>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let line = &self.line;
        assert!(
            !self.over,
            "an executor polled a {} after it had completed; drop a task that has returned",
            line.describe()
        );
        if !line.is_admitted() {
            line.register(cx.waker(), false);
            if !line.is_admitted() && !line.is_dismissed() {
                return Poll::Pending;
            }
        }
        let outcome = if line.is_dismissed() {
            Some(stopped())
        } else {
            self.as_mut().poll_once(cx)
        };
        let Some((value, end)) = outcome else {
            return Poll::Pending;
        };
        self.end(value, end);
        Poll::Ready(())
    }
}

/// The nursery's half of work that blocks: hands it to the pool at its first poll, and waits for it.
///
/// Dropped before the end of the work, it dismisses it.
pub(super) struct Blocking<S, W, V, E> {
    start: Option<(S, OnThread<W, V, E>)>,
    line: Arc<Line<V, E>>,
    member: Member,
}

/// Prepares work that blocks.
pub(super) fn blocking<S, W, V, E>(
    pool: S,
    work: W,
    member: &Member,
    away: &Arc<Away>,
) -> Blocking<S, W, V, E> {
    member.set_elsewhere();
    let (name, location) = (member.name().cloned(), member.location());
    let line = Line::new(away, name, location, ValueState::awaited(), true);
    let line = Arc::new(line);
    let work = OnThread {
        work: Some(work),
        line: Arc::clone(&line),
        member: member.clone(),
    };
    Blocking {
        start: Some((pool, work)),
        line,
        member: member.clone(),
    }
}

impl<S, W, V: Send + 'static, E: Send + 'static> Blocking<S, W, V, E> {
    pub(super) fn handle(&self) -> ChildHandle<V> {
        ChildHandle::to_thread(Arc::clone(&self.line) as _)
    }
}

impl<S, W, V, E> Unpin for Blocking<S, W, V, E> {}

impl<S, W, V, E> Future for Blocking<S, W, V, E>
where
    S: SpawnBlocking,
    W: FnOnce() -> Result<V, Failure<E>> + Send + 'static,
    V: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((pool, work)) = this.start.take() {
            // From now on it is waited for.
            work.line.node_unless_over();
            let _outside = current::clear();
            pool.spawn_blocking(move || work.run());
        }
        this.line.poll_end(&this.member)
    }
}

impl<S, W, V, E> Drop for Blocking<S, W, V, E> {
    fn drop(&mut self) {
        self.line.part();
    }
}

/// Work that blocks, on its way to a thread and there.
struct OnThread<W, V, E> {
    work: Option<W>,
    line: Arc<Line<V, E>>,
    member: Member,
}

impl<W, V, E> OnThread<W, V, E>
where
    W: FnOnce() -> Result<V, Failure<E>>,
{
    fn run(mut self) {
        let node = self.line.node_unless_over();
        let node = node.expect("what has not run is not over");
        // To wait for a thread is to wait: what was cancelled meanwhile does not begin.
        if !node.begin_on_thread() {
            self.end(stopped());
            return;
        }
        // What runs on the thread may ask whether it is wanted, but nothing inside is stopped: whoever
        // blocks on it could not be dropped.
        let shield = Node::new(FrameKind::Shield, self.member.location());
        shield.attach(Some(node), true);
        let outcome = {
            let mut slot = Some(Current::Node(Arc::clone(&shield)));
            let _entered = current::enter(&mut slot);
            let work = self.work.take().expect("it runs once");
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(value)) => (Ok(value), End::Returned(Ok(()))),
                Ok(Err(failure)) => (Err(ChildEnded::Failed), End::Returned(Err(failure))),
                Err(payload) => panicked(payload),
            }
        };
        shield.retire();
        self.end(outcome);
    }
}

impl<W, V, E> OnThread<W, V, E> {
    fn end(&mut self, (value, mut end): Outcome<V, E>) {
        let _outside = current::clear();
        let work = self.work.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(work))) {
            end = End::Panicked(payload);
        }
        self.line.end(value, end, &self.member);
    }
}

impl<W, V, E> Drop for OnThread<W, V, E> {
    fn drop(&mut self) {
        // The pool has dropped it uncalled.
        if self.work.is_some() {
            self.end((Err(ChildEnded::Cancelled), End::Gone));
        }
    }
}
