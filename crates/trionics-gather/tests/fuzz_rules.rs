//! A fuzzer of the cancellation rules: random programs against a model of the rules.
//!
//! `TRIONICS_FUZZ_CASES` sets the number of programs, `TRIONICS_FUZZ_SEED` runs one of them again and shows what
//! happened.

#[path = "fuzz_rules/driver.rs"]
mod driver;
#[path = "fuzz_rules/model.rs"]
mod model;
#[path = "fuzz_rules/program.rs"]
mod program;
#[path = "fuzz_rules/race.rs"]
mod race;
#[path = "fuzz_rules/random.rs"]
mod random;
#[path = "fuzz_rules/run.rs"]
mod run;
#[path = "fuzz_rules/shrink.rs"]
mod shrink;
#[path = "fuzz_rules/world.rs"]
mod world;

use std::sync::{Mutex, PoisonError};

use crate::{
    driver::{Manner, drive},
    model::Coverage,
    program::{Program, Shapes},
    random::Random,
    shrink::shrink,
};

/// How many programs run on one thread, and how many are disturbed from another.
const DEFAULT_CASES: (u64, u64) = (4_000, 1_000);

/// The number of live frames is the whole process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// One program and how it is driven, from a seed.
fn case(seed: u64, has_threads: bool) -> (Program, Manner, Random) {
    // The low part of the seed is the case's number: the first cases are small.
    let largest = 3 + usize::try_from((seed & 0xffff) / 60).unwrap_or(0).min(40);
    let mut random = Random::new(seed);
    let size = 2 + random.below(largest);
    let shapes = Shapes {
        foreign_drops: random.chance(40),
        tasks: random.chance(20),
        panics: random.chance(30),
        panics_in_drops: random.chance(10),
    };
    let manner = Manner {
        has_clock: true,
        has_threads,
        fresh_wakers: random.chance(50),
        drops_midway: random.chance(8),
        n_actions: 4 + random.below(2 * size),
    };
    let program = Program::random(&mut random, size, shapes);
    (program, manner, random)
}

fn check(seed: u64, has_threads: bool) -> Result<Coverage, String> {
    let (program, manner, random) = case(seed, has_threads);
    let violation = match drive(&program, manner, &mut random.clone()) {
        Ok(coverage) => return Ok(coverage),
        Err(violation) => violation,
    };
    let run = format!("TRIONICS_FUZZ_SEED={seed}\n{manner:?}\n{program:?}");
    if has_threads {
        // Another run takes another course: there is nothing to compare with.
        return Err(format!(
            "{run}\n{}\nviolation: {}",
            violation.log, violation.message
        ));
    }
    let small = shrink(&program, |program| {
        match drive(program, manner, &mut random.clone()) {
            Ok(_) => false,
            Err(other) => other.is_like(&violation),
        }
    });
    let Err(shrunk) = drive(&small, manner, &mut random.clone()) else {
        unreachable!("it was seen to fail");
    };
    Err(format!(
        "{run}\nviolation: {}\n\nsmaller: {small:?}\n{}\nviolation: {}",
        violation.message, shrunk.log, shrunk.message
    ))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, it is {text:?}")),
    )
}

fn check_many(has_threads: bool, default_cases: u64) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = match number("TRIONICS_FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let start = number("TRIONICS_FUZZ_START").unwrap_or(0) << 16;
            start..start + number("TRIONICS_FUZZ_CASES").unwrap_or(default_cases)
        }
    };
    let mut coverage = Coverage::default();
    let is_full_run = seeds.end - seeds.start >= default_cases;
    for seed in seeds {
        match check(seed, has_threads) {
            Ok(seen) => coverage += seen,
            Err(report) => panic!("{report}"),
        }
    }
    if is_full_run {
        assert!(
            coverage.is_complete(),
            "something never happened: {coverage:?}"
        );
    }
}

#[test]
fn rules_hold_in_random_programs() {
    check_many(false, DEFAULT_CASES.0);
}

#[test]
fn rules_hold_while_another_thread_disturbs() {
    check_many(true, DEFAULT_CASES.1);
}

#[test]
fn no_cancellation_is_lost_while_its_scope_is_polled() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    race::cancel_while_polled(20_000);
}
