//! A fuzzer of everything that a nursery offers: starts, handles, children on executors and threads, anchors and moved
//! frames, limits and grace periods, failures and panics everywhere.
//!
//! It has no model of the rules, as `fuzz_rules` has. What it checks must hold in any program: every exit whose set-up
//! had succeeded ran once and after those inside, or is reported; every failure and panic comes out or is told to the
//! hook; a nursery has outlived its children; handles and starts tell the truth; nothing hangs, nothing spins, no frame is
//! left.
//!
//! `TRIONICS_FUZZ_CASES` sets the number of programs, `TRIONICS_FUZZ_SEED` runs one of them again.

#[path = "fuzz_features/program.rs"]
mod program;
#[allow(dead_code, reason = "the other fuzzer uses more of it")]
#[path = "fuzz_rules/random.rs"]
mod random;
#[path = "fuzz_features/run.rs"]
mod run;
#[path = "fuzz_features/world.rs"]
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures::FutureExt as _;
use trionics_nursery::{Settings, live_frames};

use crate::{
    program::{Generator, Node, Shapes},
    random::Random,
    run::{Place, is_borrowed_and_stopped, whole},
    world::World,
};

/// How many programs run on one thread, and how many on several.
const DEFAULT_CASES: (u64, u64) = (6_000, 1_500);

/// The number of live frames and the hook for panics are the whole process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static IS_QUIET: AtomicBool = AtomicBool::new(false);

struct Case {
    root: Node,
    n_slots: usize,
    n_gates: usize,
    n_actions: usize,
    drops_root: bool,
    drops_tasks: bool,
}

impl Case {
    fn new(seed: u64, random: &mut Random) -> Self {
        let largest = 3 + usize::try_from((seed & 0xffff) / 60).unwrap_or(0).min(40);
        let size = 2 + random.below(largest);
        let shapes = Shapes {
            foreign_drops: random.chance(20),
            panics: random.chance(30),
            panics_in_drops: random.chance(10),
            graces: random.chance(20),
            moves: random.chance(40),
        };
        let n_gates = 1 + size / 6;
        let mut generator = Generator {
            random,
            shapes,
            n_slots: 1,
            n_gates,
            moves: false,
        };
        let body = generator.node(size, false);
        let n_slots = generator.n_slots;
        Self {
            root: Node::Scope(0, None, Box::new(body)),
            n_slots,
            n_gates,
            n_actions: 4 + random.below(2 * size),
            drops_root: random.chance(6),
            drops_tasks: random.chance(6),
        }
    }
}

/// Something that any thread can do to the program.
fn disturb(world: &Arc<World>, case: &Case, random: &mut Random) {
    match random.below(8) {
        0..=3 => world.open_gate(random.below(case.n_gates)),
        4..=6 => world.cancel(random.below(case.n_slots)),
        _ => {
            let gate = Node::Gate(random.below(case.n_gates));
            let child = match random.below(3) {
                0 => gate,
                1 => Node::Fail,
                _ => Node::Shield(Box::new(gate)),
            };
            let place = Place {
                world: Arc::clone(world),
                context: None,
            };
            place.soon(random.below(case.n_slots), child);
        }
    }
}

/// Runs what is woken, on this thread or on others, until nothing is.
trait Engine {
    fn settle(&self, world: &World, random: &mut Random);
}

struct ByHand;

impl Engine for ByHand {
    fn settle(&self, world: &World, random: &mut Random) {
        for _ in 0..20_000 {
            if !world.executor.poll_one(random.below(3)) {
                return;
            }
        }
        world.violate("it spins");
    }
}

struct ByThreads {
    n_busy: Arc<AtomicUsize>,
    n_polls: Arc<AtomicUsize>,
}

impl Engine for ByThreads {
    fn settle(&self, world: &World, _: &mut Random) {
        let begun = self.n_polls.load(Ordering::SeqCst);
        while !(world.executor.is_idle()
            && self.n_busy.load(Ordering::SeqCst) == 0
            && world.executor.is_idle())
        {
            if self.n_polls.load(Ordering::SeqCst) - begun > 500_000 {
                world.violate("it spins");
                return;
            }
            thread::yield_now();
        }
    }
}

fn act(case: &Case, world: &Arc<World>, engine: &impl Engine, random: &mut Random) {
    for _ in 0..case.n_actions {
        if random.chance(70) {
            engine.settle(world, random);
        }
        match random.below(10) {
            0..=6 => disturb(world, case, random),
            7 => world.clock.advance(Duration::from_millis(40)),
            8 => world.executor.poll(random.below(world.executor.n_tasks())),
            _ if case.drops_tasks => {
                let task = random.below(world.executor.n_tasks());
                if task > 0 && !world.executor.is_over(task) {
                    world.note(format!("task {task} is dropped"));
                    world.state().foreign = true;
                    world.executor.drop_task(task);
                }
            }
            _ => {}
        }
    }
    if case.drops_root {
        world.state().foreign = true;
        world.note("the program is dropped");
        world.executor.drop_task(0);
    }
    for gate in 0..case.n_gates {
        world.open_gate(gate);
    }
    for _ in 0..80 {
        engine.settle(world, random);
        if world.executor.are_all_over() || world.state().violation.is_some() {
            return;
        }
        for slot in 0..case.n_slots {
            world.cancel(slot);
        }
        engine.settle(world, random);
        world.clock.advance(Duration::from_millis(50));
    }
    world.violate("it hangs");
}

/// Runs one program; returns what it came across, or what went wrong.
fn drive(seed: u64, n_threads: usize) -> Result<Vec<&'static str>, String> {
    let frames_before = live_frames();
    let mut random = Random::new(seed);
    let case = Case::new(seed, &mut random);
    let world = World::new(case.n_gates);
    let place = Place {
        world: Arc::clone(&world),
        context: None,
    };
    let settings = Settings::new()
        .clock(world.clock.clone())
        .patience(Duration::from_millis(100))
        .on_report({
            let world = Arc::downgrade(&world);
            move |report| {
                if let Some(world) = world.upgrade() {
                    world.told(report);
                }
            }
        });
    let root = settings.run(AssertUnwindSafe(whole(place, case.root.clone())).catch_unwind());
    let told = Arc::clone(&world);
    world.executor.add(Box::pin(async move {
        if let Err(payload) = root.await {
            told.heard_panic(&*payload);
            let is_known = payload
                .downcast_ref::<String>()
                .is_some_and(|text| text.starts_with("panic "));
            if !is_known && !is_borrowed_and_stopped(&*payload) {
                told.violate("an unknown panic comes out");
            }
        }
    }));
    if n_threads == 0 {
        act(&case, &world, &ByHand, &mut random);
    } else {
        let engine = ByThreads {
            n_busy: Arc::default(),
            n_polls: Arc::default(),
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|threads| {
            for _ in 0..n_threads {
                threads.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        engine.n_busy.fetch_add(1, Ordering::SeqCst);
                        let found = world.executor.poll_one(0);
                        engine.n_busy.fetch_sub(1, Ordering::SeqCst);
                        engine.n_polls.fetch_add(1, Ordering::SeqCst);
                        if !found {
                            thread::yield_now();
                        }
                    }
                });
            }
            let acted = catch_unwind(AssertUnwindSafe(|| {
                act(&case, &world, &engine, &mut random)
            }));
            is_over.store(true, Ordering::SeqCst);
            acted.expect("the driver does not panic");
        });
    }
    let (scopes, nurseries) = {
        let mut state = world.state();
        (
            std::mem::take(&mut state.scopes),
            std::mem::take(&mut state.nurseries),
        )
    };
    drop((scopes, nurseries));
    check(&world, frames_before);
    let state = world.state();
    match &state.violation {
        None => Ok(state.seen.iter().copied().collect()),
        Some(message) => Err(format!(
            "TRIONICS_FUZZ_SEED={seed}\n{:#?}\n{}\nviolation: {message}",
            case.root,
            state.log.join("\n")
        )),
    }
}

/// What must hold once everything is over.
fn check(world: &World, frames_before: usize) {
    let mut wrong = Vec::new();
    {
        let state = world.state();
        if state.violation.is_some() {
            return;
        }
        let is_excused = state.foreign || state.given_up;
        if !is_excused && state.n_lost > 0 {
            wrong.push(format!("{} exits did not run", state.n_lost));
        }
        if state.n_lost > state.reports.len() {
            wrong.push(format!(
                "{} exits did not run, and the reports are {:?}",
                state.n_lost, state.reports
            ));
        }
        if !is_excused && !state.reports.is_empty() {
            wrong.push(format!("reported without a reason: {:?}", state.reports));
        }
        if !is_excused && !state.held.is_empty() && state.n_told == 0 {
            wrong.push(format!("the failures {:?} are lost", state.held));
        }
        if !is_excused && !state.panics.is_empty() {
            wrong.push(format!("the panics {:?} are lost", state.panics));
        }
        if world.executor.n_panics.load(Ordering::SeqCst) > 0 {
            wrong.push("an executor is left with a panic".to_owned());
        }
        if !state.open.is_empty() {
            wrong.push(format!("the contexts {:?} are left", state.open));
        }
    }
    let frames = live_frames();
    if frames != frames_before {
        wrong.push(format!("{frames} frames are live, not {frames_before}"));
    }
    for message in wrong {
        world.violate(message);
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

fn check_many(n_threads: usize, default_cases: u64) {
    static HOOK: Once = Once::new();
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.load(Ordering::SeqCst) {
                usual(info);
            }
        }));
    });
    let seeds = match number("TRIONICS_FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let start = number("TRIONICS_FUZZ_START").unwrap_or(0) << 16;
            start..start + number("TRIONICS_FUZZ_CASES").unwrap_or(default_cases)
        }
    };
    let is_full_run = seeds.end - seeds.start >= default_cases;
    let mut seen = std::collections::BTreeSet::new();
    IS_QUIET.store(true, Ordering::SeqCst);
    let wrong = seeds
        .into_iter()
        .find_map(|seed| match drive(seed, n_threads) {
            Ok(saw) => {
                seen.extend(saw);
                None
            }
            Err(report) => Some(report),
        });
    IS_QUIET.store(false, Ordering::SeqCst);
    if let Some(report) = wrong {
        panic!("{report}");
    }
    let all = [
        "closed",
        "executor child",
        "exit",
        "handle cancelled",
        "host cancelled",
        "moved",
        "not started",
        "panic",
        "started",
    ];
    let missing: Vec<_> = all.iter().filter(|what| !seen.contains(*what)).collect();
    assert!(
        !is_full_run || missing.is_empty(),
        "never seen: {missing:?}"
    );
}

#[test]
fn nothing_is_lost_in_random_programs() {
    check_many(0, DEFAULT_CASES.0);
}

#[test]
fn nothing_is_lost_on_several_threads() {
    check_many(2, DEFAULT_CASES.1);
}
