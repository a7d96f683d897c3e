//! Polls a program by hand and disturbs it.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use trionics_nursery::live_frames;

use crate::{
    model::{Coverage, PATIENCE},
    program::{Node, Program},
    random::Random,
    run::Place,
    world::{BoxFuture, World},
};

/// How a program is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) has_clock: bool,
    /// Each poll comes with a waker of its own, and the ones before are dead.
    pub(crate) fresh_wakers: bool,
    /// The driver drops the program in the middle.
    pub(crate) drops_midway: bool,
    /// The things happen on another thread while the program runs.
    pub(crate) has_threads: bool,
    /// How many things happen before the driver cancels everything.
    pub(crate) n_actions: usize,
}

/// What went wrong, with everything that happened.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) message: String,
    pub(crate) log: String,
}

impl Violation {
    /// Whether both break the same rule, as far as the message tells.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let start = |message: &str| -> String {
            message
                .chars()
                .filter(|letter| !letter.is_ascii_digit())
                .take(24)
                .collect()
        };
        start(&self.message) == start(&other.message)
    }
}

/// Which tasks were woken, in that order.
#[derive(Default)]
struct Queue {
    woken: Mutex<VecDeque<usize>>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the wakers of a task have in common.
struct TaskState {
    id: usize,
    queue: Arc<Queue>,
    is_queued: AtomicBool,
    /// Which waker is the task's last one.
    generation: AtomicU64,
}

impl TaskState {
    fn wake(&self) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            self.queue.lock().push_back(self.id);
        }
    }
}

struct TaskWaker {
    task: Arc<TaskState>,
    generation: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.generation == self.task.generation.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

struct Task {
    state: Arc<TaskState>,
    waker: Waker,
    future: Option<BoxFuture<()>>,
}

/// Runs one program on one thread.
struct Driver {
    world: Arc<World>,
    manner: Manner,
    queue: Arc<Queue>,
    tasks: Vec<Task>,
    polls_left: usize,
}

impl Driver {
    fn add_task(&mut self, future: BoxFuture<()>) {
        let state = Arc::new(TaskState {
            id: self.tasks.len(),
            queue: Arc::clone(&self.queue),
            is_queued: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        });
        state.wake();
        let waker = Waker::from(Arc::new(TaskWaker {
            task: Arc::clone(&state),
            generation: 0,
        }));
        self.tasks.push(Task {
            state,
            waker,
            future: Some(future),
        });
    }

    fn poll(&mut self, id: usize) {
        let task = &mut self.tasks[id];
        let Some(future) = &mut task.future else {
            return;
        };
        if self.manner.fresh_wakers {
            let generation = task.state.generation.fetch_add(1, Ordering::SeqCst) + 1;
            task.waker = Waker::from(Arc::new(TaskWaker {
                task: Arc::clone(&task.state),
                generation,
            }));
        }
        let mut cx = Context::from_waker(&task.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        if !matches!(polled, Ok(Poll::Pending)) {
            let future = task.future.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        }
        for task in self.world.take_tasks() {
            self.add_task(task);
        }
    }

    /// Polls what is woken until nothing is, or so many times.
    fn run(&mut self, most: usize) {
        self.polls_left = self.polls_left.max(2_000);
        for _ in 0..most {
            let Some(id) = self.queue.lock().pop_front() else {
                break;
            };
            if self.polls_left == 0 {
                self.world.model().violate("it spins");
                return;
            }
            self.polls_left -= 1;
            self.tasks[id]
                .state
                .is_queued
                .store(false, Ordering::SeqCst);
            self.poll(id);
            if self.world.model().violation().is_some() {
                return;
            }
        }
    }

    fn settle(&mut self) {
        self.polls_left = 2_000;
        self.run(usize::MAX);
        let mut model = self.world.model();
        if model.violation().is_none() {
            model.check_rest();
        }
    }

    fn advance(&self, duration: Duration) {
        if let Some(clock) = &self.world.clock {
            self.world
                .model()
                .note(format!("the clock advances by {duration:?}"));
            clock.advance(duration);
            self.world.model().now = clock.elapsed();
        }
    }

    /// Advances in small steps, so that each timer finds the program at its time.
    fn let_pass(&mut self, duration: Duration) {
        let mut left = duration;
        while !left.is_zero() && !self.failed() {
            let step = left.min(PATIENCE / 2);
            self.advance(step);
            self.run(usize::MAX);
            left -= step;
        }
    }

    fn is_done(&self) -> bool {
        self.tasks.iter().all(|task| task.future.is_none())
    }

    /// What was shipped from under a shield may wait for ever once the program has ended.
    fn only_strays_are_left(&self) -> bool {
        self.tasks[0].future.is_none()
    }

    fn failed(&self) -> bool {
        self.world.model().violation().is_some()
    }

    fn act(&mut self, random: &mut Random, program: &Program) {
        match random.below(12) {
            0..=6 => disturb(&self.world, random, program),
            7 | 8 => {
                let milliseconds = [1, 40, 100, 250][random.below(4)];
                self.let_pass(Duration::from_millis(milliseconds));
            }
            9 => {
                let task = random.below(self.tasks.len());
                self.world
                    .model()
                    .note(format!("task {task} is polled unasked"));
                self.poll(task);
            }
            _ => self.run(1),
        }
    }

    /// As `act`, so many times, on a thread of its own.
    fn act_elsewhere(&mut self, random: &mut Random, program: &Program, n_actions: usize) {
        let world = Arc::clone(&self.world);
        let has_ended = AtomicBool::new(false);
        // Polls that nobody asked for meet more of what the other thread does.
        let n_unasked = random.below(30);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..n_actions {
                    for _ in 0..random.below(40) {
                        std::hint::spin_loop();
                    }
                    if random.chance(30) {
                        thread::yield_now();
                    }
                    disturb(&world, random, program);
                }
                has_ended.store(true, Ordering::SeqCst);
            });
            self.polls_left = 100_000;
            for _ in 0..n_unasked {
                self.poll(0);
            }
            while !has_ended.load(Ordering::SeqCst) {
                for _ in 0..100 {
                    self.run(1);
                }
                thread::yield_now();
            }
        });
    }

    fn finish(&mut self, program: &Program) {
        self.world
            .model()
            .note("the end: all gates open, everything cancelled");
        for gate in 0..program.n_gates {
            self.world.open_gate(gate);
        }
        self.settle();
        for slot in (0..program.n_slots).rev() {
            self.world.cancel(slot);
        }
        self.settle();
        for _ in 0..60 {
            if self.is_done() || self.failed() || self.only_strays_are_left() {
                return;
            }
            // Nurseries that have only now been opened.
            for slot in (0..program.n_slots).rev() {
                self.world.cancel(slot);
            }
            self.advance(PATIENCE / 2);
            if !self.manner.has_clock {
                for task in 0..self.tasks.len() {
                    self.poll(task);
                }
            }
            self.settle();
        }
        if !self.is_done() && !self.only_strays_are_left() {
            self.world.model().violate("it hangs");
        }
    }
}

/// Something that any thread can do to the program.
fn disturb(world: &Arc<World>, random: &mut Random, program: &Program) {
    match random.below(7) {
        0..=3 => world.open_gate(random.below(program.n_gates)),
        4 | 5 => world.cancel(random.below(program.n_slots)),
        _ => {
            let slot = random.below(program.n_slots);
            let gate = random.below(program.n_gates);
            let child = match random.below(4) {
                0 => Node::Gate(gate),
                1 => Node::Checkpoint,
                2 => Node::Cancel(random.below(program.n_slots)),
                _ => Node::Shield(Box::new(Node::Gate(gate))),
            };
            world
                .model()
                .note(format!("start {child:?} in slot {slot}"));
            Place::root(world).start(slot, child);
        }
    }
}

/// Runs a program; returns what it came across.
pub(crate) fn drive(
    program: &Program,
    manner: Manner,
    random: &mut Random,
) -> Result<Coverage, Violation> {
    let frames_before = live_frames();
    let world = World::new(program.n_gates, manner.has_clock);
    for slot in 0..program.n_slots {
        if random.chance(30) {
            world.prepare_scope(slot);
        }
    }
    let settings = world.settings();
    let place = Place::root(&world);
    let root = program.root.clone();
    let run = settings.run(async move { place.run(root).await });
    let mut driver = Driver {
        world: Arc::clone(&world),
        manner,
        queue: Arc::default(),
        tasks: Vec::new(),
        polls_left: 0,
    };
    driver.add_task(Box::pin(async move {
        let _ = run.await;
    }));
    world.model().has_threads = manner.has_threads;
    if manner.has_threads {
        driver.act_elsewhere(random, program, manner.n_actions);
    }
    let n_actions = if manner.has_threads {
        0
    } else {
        manner.n_actions
    };
    for _ in 0..n_actions {
        if random.chance(80) {
            driver.settle();
        }
        if driver.is_done() || driver.failed() {
            break;
        }
        driver.act(random, program);
    }
    if manner.drops_midway && !driver.failed() {
        world.model().note("the driver drops everything");
    } else if !driver.failed() {
        driver.settle();
        driver.finish(program);
    }
    let tasks = std::mem::take(&mut driver.tasks);
    let has_failed = driver.failed();
    for task in tasks {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
    }
    let _ = catch_unwind(AssertUnwindSafe(|| world.clear()));
    drop(driver);
    let mut model = world.model();
    if !has_failed {
        model.check_end();
        let frames_after = live_frames();
        if frames_after != frames_before {
            model.violate(format!(
                "{frames_after} frames are live at the end, there were {frames_before}"
            ));
        }
    }
    match model.violation() {
        None => Ok(model.seen),
        Some(message) => Err(Violation {
            message: message.to_owned(),
            log: model.to_string(),
        }),
    }
}
