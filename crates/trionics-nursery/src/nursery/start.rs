//! Starting a child and waiting until it says that it has started.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Failure, LibraryFailure};

use super::{
    child::{Child, Fits},
    shared::{Closed, Shared},
};
use crate::{
    current,
    frame::RETURNS_ONCE,
    scope::{CancelScope, Name, RunScope},
    sync::{Mutex, MutexGuard, lock},
    wake::wake_outside,
};

/// With which a child reports that it has started, and hands a value to whoever waits for it.
///
/// Dropping it without a report ends the start with a failure, and cancels the child.
///
/// # Examples
///
/// A task that takes a status can also be run directly:
///
/// ```
/// use trionics_nursery::{Failure, TaskStatus};
///
/// async fn serve(status: TaskStatus<u16>) -> Result<(), Failure> {
///     status.started(8080);
///     Ok(())
/// }
///
/// # futures::executor::block_on(async {
/// serve(TaskStatus::ignored()).await.unwrap();
/// # });
/// ```
#[must_use = "call `started` once the child is ready"]
pub struct TaskStatus<V> {
    slot: Option<Arc<StatusSlot<V>>>,
}

impl<V> TaskStatus<V> {
    /// A status that nobody listens to.
    pub fn ignored() -> Self {
        Self { slot: None }
    }

    /// Reports that the child has started: the waiting `start` returns `value`, and at the child's next
    /// pending await it goes over to the nursery.
    pub fn started(mut self, value: V) {
        if let Some(slot) = self.slot.take() {
            slot.report(Report::Started(value));
        }
    }
}

impl<V> Drop for TaskStatus<V> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.report(Report::Dropped);
        }
    }
}

impl<V> fmt::Debug for TaskStatus<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStatus")
            .field("ignored", &self.slot.is_none())
            .finish()
    }
}

struct StatusSlot<V> {
    state: Mutex<StatusState<V>>,
}

struct StatusState<V> {
    report: Report<V>,
    waker: Option<Waker>,
}

enum Report<V> {
    Awaited,
    Started(V),
    Dropped,
    /// `start` has returned the value.
    Taken,
}

impl<V> StatusSlot<V> {
    fn lock(&self) -> MutexGuard<'_, StatusState<V>> {
        lock(&self.state)
    }

    fn report(&self, report: Report<V>) {
        let (replaced, waker) = {
            let mut state = self.lock();
            (
                std::mem::replace(&mut state.report, report),
                state.waker.take(),
            )
        };
        drop(replaced);
        wake_outside(waker);
    }

    fn register(&self, waker: Waker) {
        let replaced = self.lock().waker.replace(waker);
        drop(replaced);
    }

    fn is_started(&self) -> bool {
        matches!(self.lock().report, Report::Started(_))
    }

    fn is_dropped(&self) -> bool {
        matches!(self.lock().report, Report::Dropped)
    }

    fn take_value(&self) -> Option<V> {
        let mut state = self.lock();
        if !matches!(state.report, Report::Started(_)) {
            return None;
        }
        match std::mem::replace(&mut state.report, Report::Taken) {
            Report::Started(value) => Some(value),
            _ => unreachable!("looked at above"),
        }
    }
}

pin_project! {
    /// The child, from its first poll by the caller to its last one by the nursery.
    pub(super) struct Starting<F, V, E> {
        #[pin]
        run: RunScope<F>,
        slot: Arc<StatusSlot<V>>,
        // An end in the very poll of the report, which is the nursery's to hear of.
        deferred: Option<Deferred<E>>,
    }
}

type Deferred<E> = Result<Result<(), Failure<E>>, Box<dyn Any + Send>>;

impl<F, V, E> Future for Starting<F, V, E>
where
    F: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(deferred) = this.deferred.take() {
            return Poll::Ready(deferred.unwrap_or_else(|payload| resume_unwind(payload)));
        }
        let run = this.run;
        let ended = match catch_unwind(AssertUnwindSafe(|| run.poll(cx))) {
            Ok(polled) => match ready!(polled) {
                Ok(result) => Ok(result),
                // Its status was dropped, and it has unwound.
                Err(_cancelled) => Ok(Ok(())),
            },
            Err(payload) => Err(payload),
        };
        if this.slot.is_started() && !current::is_cancelled() {
            *this.deferred = Some(ended);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(ended.unwrap_or_else(|payload| resume_unwind(payload)))
    }
}

/// Makes the child and the future that starts it.
pub(super) fn start<C, V, E, F>(
    shared: &Shared<C>,
    name: Option<Name>,
    location: &'static Location<'static>,
    or_cancel: bool,
    task: impl FnOnce(TaskStatus<V>) -> F,
) -> Start<C, V>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
    F: Future<Output = Result<(), Failure<E>>>,
    Starting<F, V, E>: Fits<C>,
{
    let slot = Arc::new(StatusSlot {
        state: Mutex::new(StatusState {
            report: Report::Awaited,
            waker: None,
        }),
    });
    let future = task(TaskStatus {
        slot: Some(Arc::clone(&slot)),
    });
    let scope = CancelScope::starting(location, name.clone());
    let run = scope.run(future);
    let child = shared.hold(
        name,
        location,
        Starting {
            run,
            slot: Arc::clone(&slot),
            deferred: None,
        },
    );
    Start {
        shared: shared.clone(),
        child: Some(child),
        slot,
        scope,
        counted: false,
        stopped: false,
        or_cancel,
        location,
    }
}

/// The future of [`Nursery::start`](crate::Nursery::start) and
/// [`Nursery::start_or_cancel`](crate::Nursery::start_or_cancel).
#[must_use = "futures do nothing unless polled"]
pub struct Start<C: ?Sized, V> {
    shared: Shared<C>,
    child: Option<Child<C>>,
    slot: Arc<StatusSlot<V>>,
    /// Stops a child that has dropped its status.
    scope: CancelScope,
    /// The nursery stays open for this start.
    counted: bool,
    /// A cancellation of the caller has stopped the child.
    stopped: bool,
    or_cancel: bool,
    /// Where it was called.
    location: &'static Location<'static>,
}

impl<C: ?Sized, V> Unpin for Start<C, V> {}

impl<C, V, E> Future for Start<C, V>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<V, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(child) = &mut this.child else {
            if this.or_cancel && current::is_cancelled() {
                return Poll::Pending;
            }
            panic!(
                "the `start` at {} was polled after it had completed; {RETURNS_ONCE}",
                this.location
            );
        };
        if !this.counted && !this.stopped {
            if !this.shared.begin_start() {
                this.drop_child();
                return Poll::Ready(Err(closed()));
            }
            this.counted = true;
        }
        this.slot.register(cx.waker().clone());
        match Pin::new(child).poll(cx) {
            Poll::Ready(result) => {
                this.drop_child();
                let value = this.slot.take_value();
                this.uncount();
                match (result, value) {
                    (Err(failure), _) => Poll::Ready(Err(failure)),
                    (Ok(()), Some(value)) => Poll::Ready(Ok(value)),
                    (Ok(()), None) => this.not_started(),
                }
            }
            Poll::Pending if this.slot.is_started() => {
                // A caller that is being cancelled keeps the child: it unwinds with the caller.
                if current::is_cancelled() {
                    this.uncount_stopped();
                    return Poll::Pending;
                }
                let (Some(child), Some(value)) = (this.child.take(), this.slot.take_value()) else {
                    unreachable!("looked at above");
                };
                // What runs inside it leaves the caller now, however long the child may have to queue.
                this.scope.move_under(this.shared.queue().nursery());
                let handed = this.shared.push(child);
                this.uncount();
                match handed {
                    Ok(()) => Poll::Ready(Ok(value)),
                    Err(Closed(child)) => {
                        let _outside = current::clear();
                        drop(child);
                        Poll::Ready(Err(closed()))
                    }
                }
            }
            Poll::Pending => {
                if this.slot.is_dropped() {
                    this.scope.cancel("its status was dropped without a report");
                }
                this.uncount_stopped();
                Poll::Pending
            }
        }
    }
}

impl<C: ?Sized, V> Start<C, V> {
    fn not_started<E>(&self) -> Poll<Result<V, Failure<E>>> {
        if self.or_cancel {
            // The cancellation is what counts; the child merely ended because of it.
            if current::is_cancelled() {
                return Poll::Pending;
            }
            let nursery = self.shared.queue().nursery();
            if nursery.is_effective() {
                return Poll::Ready(Err(Failure::cancelled(nursery.cancelled_or_closed())));
            }
        }
        Poll::Ready(Err(Failure::library(LibraryFailure::NotStarted)))
    }

    fn drop_child(&mut self) {
        let _outside = current::clear();
        self.child = None;
    }

    /// A child that a cancellation of the caller has stopped is not waited for: the code around the start
    /// may be waiting for the nursery.
    fn uncount_stopped(&mut self) {
        if self.scope.is_parked() {
            self.stopped = true;
            self.uncount();
        }
    }

    fn uncount(&mut self) {
        if std::mem::replace(&mut self.counted, false) {
            self.shared.end_start();
        }
    }
}

fn closed<E>() -> Failure<E> {
    Failure::library(LibraryFailure::Closed {
        what: "the nursery".into(),
    })
}

impl<C: ?Sized, V> Drop for Start<C, V> {
    fn drop(&mut self) {
        self.drop_child();
        self.uncount();
    }
}

impl<C: ?Sized, V> fmt::Debug for Start<C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field(
                "name",
                &self.child.as_ref().and_then(|child| child.member().name()),
            )
            .finish_non_exhaustive()
    }
}
