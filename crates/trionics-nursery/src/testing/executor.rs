//! The executor: one thread, first woken first polled unless shuffled, time moves when nothing else can.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::{VirtualClock, blocked::Waiting, random::Random};
use crate::{Settings, current, node::Node, settings::WithSettings, tree::TaskTree};

thread_local! {
    static EXECUTOR: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// Runs `future`, and whatever it spawns, to the end of `future`, on a virtual clock.
///
/// What was woken first is polled first, each time the same. [`for_each_seed`](super::for_each_seed) tries
/// other orders. Tasks that were [`spawn`]ed and have not ended by then are dropped.
///
/// # Panics
///
/// If `future` waits, every task waits, and no timer is left: a deadlock. The message shows the
/// [task tree](crate::TaskTree). Also if called inside itself. A panic of a task is resumed here.
///
/// Threads of other executors are not waited for: what only they can wake counts as blocked.
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
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    run_in_order(None, future)
}

/// Runs as [`run`] does, in the order that is drawn with `seed`, or first woken first polled.
#[track_caller]
pub(super) fn run_in_order<F: Future>(seed: Option<u64>, future: F) -> F::Output {
    let executor = Rc::new(Executor::new(seed));
    let _installed = Installed::new(&executor);
    let root = Arc::new(TaskWaker {
        queue: Arc::clone(&executor.queue),
        id: ROOT,
        queued: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&root));
    waker.wake_by_ref();
    let mut future = std::pin::pin!(executor.on_clock(future));
    let node = Arc::clone(future.node());
    loop {
        while let Some(woken) = executor.next() {
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
        if !executor.release_waiting() && !executor.clock.advance_to_next() {
            executor.deadlock(node);
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
/// # Cancel safety
///
/// Dropping the task's handle lets the task go on. No scope around the call reaches it.
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
#[track_caller]
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
    let future = executor.on_clock(future);
    let node = Arc::clone(future.node());
    let future = Box::pin(async move {
        let value = future.await;
        *sent.value.borrow_mut() = Some(value);
        if let Some(waiter) = sent.waiter.take() {
            waiter.wake();
        }
    });
    executor.start(future, node);
    Task { result }
}

/// How far the virtual clock of [`run`] has moved.
///
/// # Panics
///
/// Outside [`run`].
#[must_use]
#[track_caller]
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

pub(super) struct Executor {
    queue: Arc<Queue>,
    clock: VirtualClock,
    /// Draws the order, unless it is first woken first polled.
    random: Option<Random>,
    /// Who waits until everything else is blocked.
    waiting: RefCell<Vec<Arc<Waiting>>>,
    /// `None` while it is polled and after it has ended.
    tasks: RefCell<Vec<Option<TaskSlot>>>,
}

struct TaskSlot {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
    /// The task's place in the task tree.
    node: Arc<Node>,
}

impl Executor {
    fn new(seed: Option<u64>) -> Self {
        Self {
            queue: Arc::default(),
            clock: VirtualClock::new(),
            random: seed.map(Random::new),
            waiting: RefCell::default(),
            tasks: RefCell::default(),
        }
    }

    #[track_caller]
    pub(super) fn current(asked: &str) -> Rc<Self> {
        // No closure: it would be blamed in place of the caller.
        match Self::try_current() {
            Some(executor) => executor,
            None => panic!(
                "`testing::{asked}` was called outside `testing::run`; run the test's future inside it"
            ),
        }
    }

    fn try_current() -> Option<Rc<Self>> {
        EXECUTOR
            .try_with(|executor| executor.borrow().clone())
            .ok()
            .flatten()
    }

    #[track_caller]
    fn on_clock<F: Future>(&self, future: F) -> WithSettings<F> {
        Settings::new()
            .clock(self.clock.clone())
            .track_tasks(true)
            .run(future)
    }

    /// A task that was woken.
    fn next(&self) -> Option<Arc<TaskWaker>> {
        let mut woken = self.queue.lock();
        let index = match &self.random {
            Some(random) if !woken.is_empty() => random.below(woken.len()),
            _ => 0,
        };
        woken.remove(index)
    }

    pub(super) fn seed(&self) -> Option<u64> {
        Some(self.random.as_ref()?.seed())
    }

    pub(super) fn wait_until_blocked(&self, waiting: &Arc<Waiting>) {
        self.waiting.borrow_mut().push(Arc::clone(waiting));
    }

    /// Everything is blocked: wakes those who wait for just that; false if nobody does.
    fn release_waiting(&self) -> bool {
        let waiting = self.waiting.take();
        let mut released = false;
        for waiting in waiting {
            released |= waiting.release();
        }
        released
    }

    #[track_caller]
    fn deadlock(&self, root: Arc<Node>) -> ! {
        let mut roots = vec![root];
        let tasks = self.tasks.borrow();
        roots.extend(tasks.iter().flatten().map(|task| Arc::clone(&task.node)));
        panic!(
            "deadlock: the test's future and its {} tasks all wait, and no timer is left to wake one of \
             them\n{}",
            roots.len() - 1,
            TaskTree::of(roots)
        );
    }

    fn start(&self, future: Pin<Box<dyn Future<Output = ()>>>, node: Arc<Node>) {
        let mut tasks = self.tasks.borrow_mut();
        let waker = Waker::from(Arc::new(TaskWaker {
            queue: Arc::clone(&self.queue),
            id: tasks.len(),
            queued: AtomicBool::new(false),
        }));
        waker.wake_by_ref();
        tasks.push(Some(TaskSlot {
            future,
            waker,
            node,
        }));
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

/// Whether this thread runs a test with a seed.
pub(crate) fn is_shuffled() -> bool {
    Executor::try_current().is_some_and(|executor| executor.random.is_some())
}

/// Brings what a nursery has to poll into the order of the run's seed, if it has one.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    if items.len() > 1
        && let Some(executor) = Executor::try_current()
        && let Some(random) = &executor.random
    {
        random.shuffle(items);
    }
}

/// The executor of this thread, until dropped.
struct Installed;

impl Installed {
    #[track_caller]
    fn new(executor: &Rc<Executor>) -> Self {
        let outer = EXECUTOR.with(|current| {
            let mut current = current.borrow_mut();
            let outer = current.is_some();
            current.get_or_insert_with(|| Rc::clone(executor));
            outer
        });
        assert!(
            !outer,
            "`testing::run` was called inside itself; await the future instead, or `testing::spawn` it"
        );
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
            // Those who were woken and are polled no more are in the queue, and have it.
            let woken = std::mem::take(&mut *executor.queue.lock());
            drop(woken);
        }
    }
}

/// Which tasks were woken, in that order.
#[derive(Default)]
struct Queue {
    woken: Mutex<VecDeque<Arc<TaskWaker>>>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<TaskWaker>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.queue.lock().push_back(Arc::clone(self));
        }
    }
}
