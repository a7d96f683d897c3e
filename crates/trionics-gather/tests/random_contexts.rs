//! Random programs of sets, stacks, races and joins of contexts that complete, fail, panic, die or hang,
//! cancelled at a random step.
//!
//! `TRIONICS_PROGRAMS` says how many are run (4000 unless set), `TRIONICS_SEED` runs that one alone. What must be true of each
//! run is in `check.rs`, which knows the program and the log and nothing of the library.

use std::{
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
};

use trionics_nursery::{CancelScope, live_frames};

#[path = "random_contexts/check.rs"]
mod check;
mod common;
#[path = "random_contexts/program.rs"]
mod program;
#[path = "random_contexts/run.rs"]
mod run;

use check::{Outcome, check};
use common::{Probe, Reports, text};
use program::{Program, Random};
use run::{World, run_block};

/// How often a program is polled at most.
const MOST_POLLS: usize = 5_000;

/// Runs a program; gives what came out, and whether it was cancelled.
fn run(program: &Program, world: &Arc<World>, reports: &Reports) -> (Outcome, bool) {
    let scope = CancelScope::new();
    let mut probe = Probe::new(
        reports
            .settings()
            .run(scope.run(run_block(world, &program.block))),
    );
    let mut is_cancelled = false;
    for step in 0..MOST_POLLS {
        if program.cancel_at == Some(step) {
            is_cancelled = true;
            scope.cancel("at a random step");
        }
        if step > 0 && !probe.is_woken() {
            assert!(!is_cancelled, "cancelled, and it hangs");
            is_cancelled = true;
            scope.cancel("it waits for ever");
            if !probe.is_woken() {
                panic!("the cancellation has woken nobody");
            }
        }
        let polled = catch_unwind(AssertUnwindSafe(|| probe.poll()));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Ok(Ok(value)))) => return (Outcome::Value(value), is_cancelled),
            Ok(Poll::Ready(Ok(Err(failure)))) => {
                return (Outcome::of_failure(&failure), is_cancelled);
            }
            Ok(Poll::Ready(Err(_))) => return (Outcome::Cancelled, is_cancelled),
            Err(payload) => return (Outcome::Panic(text(&*payload)), is_cancelled),
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn every_entered_context_exits_once_in_an_allowed_order_and_every_failure_is_heard_once() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let seeds = match number("TRIONICS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TRIONICS_PROGRAMS").unwrap_or(4_000),
    };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut seen = check::Seen::default();
    let (mut n_bad, mut worst) = (0, None);
    for seed in seeds.clone() {
        let program = Program::random(&mut Random::new(seed));
        let (world, reports) = (Arc::new(World::default()), Reports::new());
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            let (outcome, is_cancelled) = run(&program, &world, &reports);
            let log = world.take();
            let log_text = format!("{log:?}");
            check(
                &program,
                &log,
                &outcome,
                is_cancelled,
                &reports.take(),
                &mut seen,
            )
            .map_err(|why| format!("{why}\noutcome: {outcome:?}\nlog: {log_text}"))
        }));
        let verdict = verdict
            .unwrap_or_else(|payload| Err(format!("{}\nlog: {:?}", text(&*payload), world.take())));
        let frames = live_frames();
        let why = match verdict {
            Err(why) => why,
            Ok(()) if frames > 0 => "live frames are left behind".to_owned(),
            Ok(()) => continue,
        };
        let text = format!("TRIONICS_SEED={seed}: {why}\nprogram: {program:?}");
        n_bad += 1;
        // The shortest one is the easiest to read.
        if worst
            .as_ref()
            .is_none_or(|other: &String| text.len() < other.len())
        {
            worst = Some(text);
        }
        // What it has left behind would count against the next one.
        if frames > 0 {
            break;
        }
    }
    panic::set_hook(hook);
    if let Some(text) = worst {
        panic!("{n_bad} programs went wrong, among them {text}");
    }
    if seeds.end - seeds.start >= 4_000 {
        seen.is_everything();
    }
}
