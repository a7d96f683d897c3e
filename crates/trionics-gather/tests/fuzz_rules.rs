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
#[path = "fuzz_rules/random.rs"]
mod random;
#[path = "fuzz_rules/run.rs"]
mod run;
#[path = "fuzz_rules/shrink.rs"]
mod shrink;
#[path = "fuzz_rules/world.rs"]
mod world;

use crate::{
    driver::{Manner, drive},
    model::Coverage,
    program::{Program, Shapes},
    random::Random,
    shrink::shrink,
};

const DEFAULT_CASES: u64 = 4_000;

/// One program and how it is driven, from a seed.
fn case(seed: u64) -> (Program, Manner, Random) {
    // The low part of the seed is the case's number: the first cases are small.
    let largest = 3 + usize::try_from((seed & 0xffff) / 60).unwrap_or(0).min(40);
    let mut random = Random::new(seed);
    let size = 2 + random.below(largest);
    let shapes = Shapes {
        foreign_drops: random.chance(40),
        tasks: random.chance(20),
        panics: random.chance(30),
        panics_in_drops: false,
    };
    let manner = Manner {
        has_clock: true,
        fresh_wakers: random.chance(50),
        drops_midway: random.chance(8),
        n_actions: 4 + random.below(2 * size),
    };
    let program = Program::random(&mut random, size, shapes);
    (program, manner, random)
}

fn check(seed: u64) -> Result<Coverage, String> {
    let (program, manner, random) = case(seed);
    let violation = match drive(&program, manner, &mut random.clone()) {
        Ok(coverage) => return Ok(coverage),
        Err(violation) => violation,
    };
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
        "TRIONICS_FUZZ_SEED={seed}\n{manner:?}\n{program:?}\nviolation: {}\n\nsmaller: {small:?}\n{}\nviolation: {}",
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

#[test]
fn rules_hold_in_random_programs() {
    if let Some(seed) = number("TRIONICS_FUZZ_SEED") {
        if let Err(report) = check(seed) {
            panic!("{report}");
        }
        return;
    }
    let start = number("TRIONICS_FUZZ_START").unwrap_or(0);
    for index in 0..number("TRIONICS_FUZZ_CASES").unwrap_or(DEFAULT_CASES) {
        if let Err(report) = check((start << 16) + index) {
            panic!("{report}");
        }
    }
}
