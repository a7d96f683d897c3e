//! What a program shares with its driver, and what must hold of it.

use std::{
    any::Any,
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use trionics_errgroup::Failure;
use trionics_nursery::{
    CancelScope, Nursery, Report, SpawnBlocking, Spawner, testing::VirtualClock,
};

use crate::program::Slot;

/// A failure of the program's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) usize);

pub(crate) type Outcome = Result<(), Failure<Tag>>;
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A nursery that is or was open.
#[derive(Clone)]
pub(crate) struct NurseryEntry {
    pub(crate) nursery: Nursery<'static, Tag>,
    /// Whether its children have gone, each by a flag.
    pub(crate) children: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) scopes: HashMap<Slot, CancelScope>,
    pub(crate) nurseries: HashMap<Slot, NurseryEntry>,
    gates: Vec<(bool, Vec<Waker>)>,
    n_ids: usize,
    /// The failures that the library has and has not given out again.
    pub(crate) held: HashSet<usize>,
    /// The panics that nobody has heard of yet.
    pub(crate) panics: HashSet<String>,
    /// How many failures the hook was told of.
    pub(crate) n_told: usize,
    /// Contexts between the end of the set-up and that of the exit, with the one around.
    pub(crate) open: HashMap<usize, Option<usize>>,
    /// Exits that were dropped.
    pub(crate) n_lost: usize,
    pub(crate) n_exits: usize,
    pub(crate) reports: Vec<String>,
    /// Something was dropped from outside, by the program or its driver.
    pub(crate) foreign: bool,
    /// Frames were given up: nobody polled them, or their grace was over.
    pub(crate) given_up: bool,
    pub(crate) violation: Option<String>,
    pub(crate) log: Vec<String>,
    pub(crate) seen: HashSet<&'static str>,
}

pub(crate) struct World {
    state: Mutex<State>,
    pub(crate) clock: VirtualClock,
    pub(crate) executor: Arc<Executor>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(n_gates: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                gates: (0..n_gates).map(|_| (false, Vec::new())).collect(),
                ..State::default()
            }),
            clock: VirtualClock::new(),
            executor: Arc::default(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn note(&self, note: impl Into<String>) {
        self.state().log.push(note.into());
    }

    pub(crate) fn saw(&self, what: &'static str) {
        self.state().seen.insert(what);
    }

    pub(crate) fn violate(&self, message: impl Into<String>) {
        let message = message.into();
        let mut state = self.state();
        state.log.push(format!("!!! {message}"));
        state.violation.get_or_insert(message);
    }

    pub(crate) fn new_id(&self) -> usize {
        let mut state = self.state();
        state.n_ids += 1;
        state.n_ids
    }

    pub(crate) fn new_panic(&self) -> Box<dyn Any + Send> {
        let message = format!("panic {}", self.new_id());
        self.state().panics.insert(message.clone());
        self.note(message.clone());
        Box::new(message)
    }

    /// The program has got a panic in its hands.
    pub(crate) fn heard_panic(&self, payload: &(dyn Any + Send)) {
        if let Some(message) = payload.downcast_ref::<String>() {
            self.state().panics.remove(message);
        }
    }

    /// The program lets a panic go on.
    pub(crate) fn goes_on(&self, payload: &(dyn Any + Send)) {
        if let Some(message) = payload.downcast_ref::<String>()
            && message.starts_with("panic ")
        {
            self.state().panics.insert(message.clone());
        }
    }

    pub(crate) fn cancel(&self, slot: Slot) {
        let scope = self.state().scopes.get(&slot).cloned();
        if let Some(scope) = scope {
            self.note(format!("cancel {slot}"));
            scope.cancel(format!("slot {slot}"));
        }
    }

    pub(crate) fn open_gate(&self, gate: usize) {
        self.note(format!("open gate {gate}"));
        let wakers = {
            let gate = &mut self.state().gates[gate];
            gate.0 = true;
            std::mem::take(&mut gate.1)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    pub(crate) fn poll_gate(&self, gate: usize, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let gate = &mut self.state().gates[gate];
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1.push(waker);
        Poll::Pending
    }

    pub(crate) fn nursery(&self, slot: Slot) -> Option<NurseryEntry> {
        self.state().nurseries.get(&slot).cloned()
    }

    pub(crate) fn told(&self, report: &Report) {
        let mut state = self.state();
        state.log.push(format!("report: {report}"));
        match report {
            Report::FailedUnderCancellation { failures, .. }
            | Report::FailuresBehindPanic { failures, .. } => state.n_told += failures,
            Report::LaterPanic { message, .. } => {
                state.panics.remove(message);
            }
            Report::NotPolled(_) | Report::OutOfGrace(_) => {
                state.given_up = true;
                state.reports.push(report.to_string());
            }
            other => state.reports.push(other.to_string()),
        }
    }

    /// The library is given a failure, or gives it out.
    pub(crate) fn given(&self, outcome: &Outcome, to_library: bool) {
        let Err(failure) = outcome else { return };
        let mut state = self.state();
        for tag in failure.errors() {
            if to_library {
                state.held.insert(tag.0);
            } else {
                state.held.remove(&tag.0);
            }
        }
        let direction = if to_library { "in" } else { "out" };
        let tags: Vec<_> = failure.errors().map(|tag| tag.0).collect();
        state.log.push(format!("failures {tags:?} go {direction}"));
    }

    /// An exit begins: what was entered inside has gone.
    pub(crate) fn exit_begins(&self, id: usize) {
        let mut state = self.state();
        state.log.push(format!("exit {id} begins"));
        let is_inside = |mut around: Option<usize>| {
            while let Some(other) = around {
                if other == id {
                    return true;
                }
                around = state.open.get(&other).copied().flatten();
            }
            false
        };
        let inner = state
            .open
            .iter()
            .find(|(_, around)| is_inside(**around))
            .map(|(inner, _)| *inner);
        drop(state);
        if let Some(inner) = inner {
            self.violate(format!(
                "the exit of context {id} begins before that of {inner} inside has ended"
            ));
        }
    }
}

// An executor that is run by hand, or by threads.

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(crate) struct Executor {
    queue: Arc<Mutex<VecDeque<usize>>>,
    tasks: Mutex<Vec<Task>>,
    /// How many tasks have panicked in the executor's hands.
    pub(crate) n_panics: AtomicUsize,
}

struct Task {
    /// `None` while it is polled and when it is over.
    future: Option<TaskFuture>,
    is_over: bool,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: usize,
    is_queued: AtomicBool,
    queue: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            lock(&self.queue).push_back(self.id);
        }
    }
}

impl Executor {
    pub(crate) fn add(&self, future: TaskFuture) {
        let mut tasks = lock(&self.tasks);
        let waker = Arc::new(TaskWaker {
            id: tasks.len(),
            is_queued: AtomicBool::new(false),
            queue: Arc::clone(&self.queue),
        });
        tasks.push(Task {
            future: Some(future),
            is_over: false,
            waker: Arc::clone(&waker),
        });
        drop(tasks);
        waker.wake();
    }

    /// Polls one of the tasks that were woken, at a random place in the queue; false if there is none.
    pub(crate) fn poll_one(&self, place: usize) -> bool {
        let id = {
            let mut queue = lock(&self.queue);
            if queue.is_empty() {
                return false;
            }
            let place = place % queue.len();
            queue.remove(place).expect("in the queue")
        };
        self.poll(id);
        true
    }

    pub(crate) fn poll(&self, id: usize) {
        let (future, waker) = {
            let mut tasks = lock(&self.tasks);
            let Some(task) = tasks.get_mut(id) else {
                return;
            };
            if task.is_over {
                return;
            }
            (task.future.take(), Arc::clone(&task.waker))
        };
        let Some(mut future) = future else {
            // Another thread polls it: later.
            lock(&self.queue).push_back(id);
            std::thread::yield_now();
            return;
        };
        waker.is_queued.store(false, Ordering::SeqCst);
        let waker = Waker::from(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        if !matches!(polled, Ok(Poll::Pending)) {
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
            if polled.is_err() || dropped.is_err() {
                self.n_panics.fetch_add(1, Ordering::SeqCst);
            }
            lock(&self.tasks)[id].is_over = true;
        } else {
            let mut tasks = lock(&self.tasks);
            if tasks[id].is_over {
                // It was to be dropped meanwhile.
                drop(tasks);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
            } else {
                tasks[id].future = Some(future);
            }
        }
    }

    /// Whether no task is woken.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.queue).is_empty()
    }

    pub(crate) fn n_tasks(&self) -> usize {
        lock(&self.tasks).len()
    }

    pub(crate) fn is_over(&self, id: usize) -> bool {
        lock(&self.tasks)[id].is_over
    }

    pub(crate) fn are_all_over(&self) -> bool {
        lock(&self.tasks).iter().all(|task| task.is_over)
    }

    /// Drops a task where it stands.
    pub(crate) fn drop_task(&self, id: usize) {
        let future = {
            let mut tasks = lock(&self.tasks);
            tasks[id].is_over = true;
            tasks[id].future.take()
        };
        // A drop from outside hears of a panic in there.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    }
}

/// A spawner of the world's executor.
#[derive(Clone)]
pub(crate) struct OnExecutor(pub(crate) Arc<Executor>);

impl Spawner for OnExecutor {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.add(Box::pin(task));
    }
}

impl SpawnBlocking for OnExecutor {
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.0.add(Box::pin(async { work() }));
    }
}
