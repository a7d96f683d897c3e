//! What the models are made of: threads that poll when woken, gates, a clock that stands still.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};
use trionics_nursery::{BoxSleep, Clock, Failure, Settings, Spawner, live_frames, shield};

/// How many schedules each model explores, of each kind.
const SCHEDULES: usize = 4_000;

/// The number of live frames is the whole process's.
static ONE_AT_A_TIME: StdMutex<()> = StdMutex::new(());

/// Explores `model` on random schedules, and on schedules with few preemptions at random places.
///
/// A model in which a wake is lost deadlocks, which the checker reports.
pub(crate) fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let checked = move || {
        let before = live_frames();
        model();
        assert_eq!(live_frames(), before, "a frame is left over");
    };
    shuttle::check_random(checked.clone(), SCHEDULES);
    shuttle::check_pct(checked, SCHEDULES, 3);
}

/// Wakes a thread that waits in [`block_on`].
pub(crate) struct Unparker(thread::Thread);

impl Unparker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(thread::current()))
    }
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls when woken, and only then.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Unparker::new());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

/// Polls when woken, `n_polls` times at most; then drops the future.
pub(crate) fn block_on_for<F: Future>(future: F, n_polls: usize) -> Option<F::Output> {
    let waker = Waker::from(Unparker::new());
    let mut future = Box::pin(future);
    for poll in 0..n_polls {
        if poll > 0 {
            thread::park();
        }
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
    }
    None
}

/// With a clock on which no patience ends: what is to be woken must be woken by what it waits for.
pub(crate) fn patiently<F: Future>(future: F) -> F::Output {
    block_on(Settings::new().clock(StandingClock).run(future))
}

struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, _: Instant) -> BoxSleep {
        Box::pin(pending())
    }
}

/// Ends once it was opened, from whichever thread.
#[derive(Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The waker of the last poll, for whoever wants to keep it.
    pub(crate) fn take_waker(&self) -> Option<Waker> {
        self.waker.lock().unwrap().take()
    }

    pub(crate) fn wait(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let gate = Arc::clone(self);
        poll_fn(move |cx| {
            let replaced = gate.waker.lock().unwrap().replace(cx.waker().clone());
            drop(replaced);
            if gate.open.load(Ordering::SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }
}

/// Counts what happens.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts when it is dropped.
pub(crate) struct CountDrop(pub(crate) Count);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Waits for ever, with an exit that waits for the gate and is then counted.
pub(crate) async fn with_exit(gate: impl Future<Output = ()>, exits: Count) {
    shield(async {
        gate.await;
        exits.add();
    })
    .await;
    pending().await
}

/// A thread for each task.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<Mutex<Vec<thread::JoinHandle<()>>>>);

impl Threads {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn join(&self) {
        let handles = std::mem::take(&mut *self.0.lock().unwrap());
        for handle in handles {
            handle.join().unwrap();
        }
    }

    pub(crate) fn run(&self, run: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().push(thread::spawn(run));
    }
}

impl Spawner for Threads {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.run(move || block_on(task));
    }
}

impl trionics_nursery::SpawnBlocking for Threads {
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.run(work);
    }
}

/// A thread for each task, which drops the task after so many polls.
pub(crate) struct Quitters {
    pub(crate) threads: Threads,
    pub(crate) n_polls: usize,
}

impl Spawner for Quitters {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let n_polls = self.n_polls;
        self.threads.run(move || {
            block_on_for(task, n_polls);
        });
    }
}

/// Polls once, with a waker that nobody hears.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether a nursery was cancelled, and nothing else went wrong in it.
pub(crate) fn is_lone_cancelled<E>(failure: &Failure<E>) -> bool {
    failure.is_all_cancelled()
}
