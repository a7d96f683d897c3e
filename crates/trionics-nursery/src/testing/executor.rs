//! The executor: one thread, first woken first polled, time moves when nothing else can.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::VirtualClock;
use crate::{Settings, current};

thread_local! {
    static EXECUTOR: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// Runs `future`, and whatever it spawns, to the end of `future`, on a virtual clock.
///
/// Tasks that were [`spawn`]ed and have not ended by then are dropped.
///
/// # Panics
///
/// If `future` waits, every task waits, and no timer is left: a deadlock. Also if called inside itself.
/// A panic of a task is resumed here.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{sleep, testing};
///
/// testing::run(async {
///     sleep(Duration::from_secs(86_400)).await;
///     assert_eq!(testing::elapsed(), Duration::from_secs(86_400));
/// });
/// ```
///
/// What can never go on is an error and does not hang:
///
/// ```should_panic
/// trionics_nursery::testing::run(std::future::pending::<()>());
/// ```
pub fn run<F: Future>(future: F) -> F::Output {
    let executor = Rc::new(Executor::new());
    let _installed = Installed::new(&executor);
    let root = Arc::new(TaskWaker {
        queue: Arc::clone(&executor.queue),
        id: ROOT,
        queued: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&root));
    waker.wake_by_ref();
    let clock = executor.clock.clone();
    let mut future = std::pin::pin!(Settings::new().clock(clock).run(future));
    loop {
        while let Some(woken) = executor.queue.pop() {
            woken.queued.store(false, Ordering::Release);
            if woken.id == ROOT {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    return output;
                }
            } else {
                executor.poll(&woken);
            }
        }
        if !executor.clock.advance_to_next() {
            panic!(
                "deadlock: the test's future and its {} tasks all wait, and no timer is left to wake \
                 one of them",
                executor.tasks.borrow().iter().flatten().count()
            );
        }
    }
}

/// Starts a task on the executor of [`run`]; it leaves the scope tree, as a bare `tokio::spawn` does.
///
/// The task goes on when the returned handle is dropped.
///
/// # Panics
///
/// Outside [`run`].
///
/// # Examples
///
/// ```
/// use trionics_nursery::testing;
///
/// testing::run(async {
///     let answer = testing::spawn(async { 42 }).await;
///     assert_eq!(answer, 42);
/// });
/// ```
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let executor = Executor::current("spawn");
    let result = Rc::new(TaskResult {
        value: RefCell::new(None),
        waiter: Cell::new(None),
    });
    let sent = Rc::clone(&result);
    let future = Settings::new().clock(executor.clock.clone()).run(future);
    executor.start(Box::pin(async move {
        let value = future.await;
        *sent.value.borrow_mut() = Some(value);
        if let Some(waiter) = sent.waiter.take() {
            waiter.wake();
        }
    }));
    Task { result }
}

/// How far the virtual clock of [`run`] has moved.
///
/// # Panics
///
/// Outside [`run`].
#[must_use]
pub fn elapsed() -> Duration {
    Executor::current("elapsed").clock.elapsed()
}

/// Waits for the value of a task; dropping it lets the task go on.
pub struct Task<T> {
    result: Rc<TaskResult<T>>,
}

struct TaskResult<T> {
    value: RefCell<Option<T>>,
    waiter: Cell<Option<Waker>>,
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.result.value.borrow_mut().take() {
            return Poll::Ready(value);
        }
        let replaced = self.result.waiter.replace(Some(cx.waker().clone()));
        drop(replaced);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// The id of the future given to [`run`].
const ROOT: usize = usize::MAX;

struct Executor {
    queue: Arc<Queue>,
    clock: VirtualClock,
    /// `None` while it is polled and after it has ended.
    tasks: RefCell<Vec<Option<TaskSlot>>>,
}

struct TaskSlot {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

impl Executor {
    fn new() -> Self {
        Self {
            queue: Arc::default(),
            clock: VirtualClock::new(),
            tasks: RefCell::default(),
        }
    }

    fn current(asked: &str) -> Rc<Self> {
        EXECUTOR
            .with(|executor| executor.borrow().clone())
            .unwrap_or_else(|| panic!("`testing::{asked}` was called outside `testing::run`"))
    }

    fn start(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        let mut tasks = self.tasks.borrow_mut();
        let waker = Waker::from(Arc::new(TaskWaker {
            queue: Arc::clone(&self.queue),
            id: tasks.len(),
            queued: AtomicBool::new(false),
        }));
        waker.wake_by_ref();
        tasks.push(Some(TaskSlot { future, waker }));
    }

    fn poll(&self, woken: &TaskWaker) {
        let task = self.tasks.borrow_mut()[woken.id].take();
        if let Some(mut task) = task {
            let _outside = current::clear();
            if task
                .future
                .as_mut()
                .poll(&mut Context::from_waker(&task.waker))
                .is_pending()
            {
                self.tasks.borrow_mut()[woken.id] = Some(task);
            }
        }
    }
}

/// The executor of this thread, until dropped.
struct Installed;

impl Installed {
    fn new(executor: &Rc<Executor>) -> Self {
        EXECUTOR.with(|current| {
            let mut current = current.borrow_mut();
            assert!(current.is_none(), "`testing::run` was called inside itself");
            *current = Some(Rc::clone(executor));
        });
        Self
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let executor = EXECUTOR.with(|current| current.borrow_mut().take());
        if let Some(executor) = executor {
            // Tasks may own handles to the executor's tasks: end them all here.
            let tasks = executor.tasks.take();
            drop(tasks);
        }
    }
}

/// Which tasks were woken, in that order.
#[derive(Default)]
struct Queue {
    woken: Mutex<VecDeque<Arc<TaskWaker>>>,
}

impl Queue {
    fn pop(&self) -> Option<Arc<TaskWaker>> {
        self.woken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn push(&self, task: Arc<TaskWaker>) {
        self.woken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(task);
    }
}

struct TaskWaker {
    queue: Arc<Queue>,
    id: usize,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.push(Arc::clone(self));
        }
    }
}
