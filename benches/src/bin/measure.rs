//! Measures the groups and writes the reports; `cargo xtask bench` calls it.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a command line tool talks on standard output"
)]

use std::{
    env,
    error::Error,
    path::PathBuf,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use trionics_benches::{
    Case, Group,
    alone::{self, ALONE},
    groups, machine,
    measure::{Plan, hangs, measure},
    report::Report,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let groups = groups::all();
    if arguments.first().is_some_and(|argument| argument == ALONE) {
        return match alone::run(&groups, &arguments[1..]) {
            Ok(said) => {
                println!("{said}");
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("{message}");
                ExitCode::from(2)
            }
        };
    }
    let selected = Options::parse(&arguments)
        .and_then(|options| Ok((select(&groups, &options.filters)?, options)));
    let (selected, options) = match selected {
        Ok(selected) => selected,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for (group, case) in selected {
            let subjects: Vec<_> = case
                .subjects()
                .iter()
                .map(|subject| subject.name())
                .collect();
            println!("{}/{}: {}", group.name(), case.name(), subjects.join(", "));
        }
        return ExitCode::SUCCESS;
    }
    match run(&selected, &options) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => {
            eprintln!("some subjects failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the reports could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// For figures that one quotes.
const FULL: Plan = Plan {
    rounds: 101,
    least: 11,
    turn: Duration::from_millis(20),
};

/// For a first look.
const QUICK: Plan = Plan {
    rounds: 21,
    least: 5,
    turn: Duration::from_millis(8),
};

/// Measures the cases one after the other; tells whether a subject failed.
fn run(selected: &[(&Group, &Case)], options: &Options) -> Result<bool, Box<dyn Error>> {
    let plan = if options.quick { QUICK } else { FULL };
    let mut preface = machine::description();
    preface.push(format!(
        "{} rounds, each subject's turn about {} ms{}",
        plan.rounds,
        plan.turn.as_millis(),
        if options.quick {
            "; a quick look, no figures to quote"
        } else {
            ""
        }
    ));
    let mut report = Report::begin(&options.folder, preface, selected.len())?;
    thread::spawn(|| end_when_a_subject_hangs(Duration::from_secs(120)));

    let started = Instant::now();
    for (index, (group, case)) in selected.iter().enumerate() {
        eprint!(
            "[{}/{}] {}/{} … ",
            index + 1,
            selected.len(),
            group.name(),
            case.name()
        );
        let case_started = Instant::now();
        let outcome = measure(group.name(), case, plan, Duration::MAX, &|| false);
        report.add(group.name(), case, outcome.unwrap_or_default())?;
        let left = started
            .elapsed()
            .mul_f64((selected.len() - index - 1) as f64 / (index + 1) as f64);
        eprintln!(
            "{:.1} s, about {:.0} s left",
            case_started.elapsed().as_secs_f64(),
            left.as_secs_f64()
        );
    }

    println!("\n{}", report.markdown());
    println!(
        "Written: {}/report.json and report.md",
        options.folder.display()
    );
    Ok(report.has_failures())
}

/// Nothing can stop a thread that hangs. What was measured before is on disk.
fn end_when_a_subject_hangs(limit: Duration) {
    loop {
        thread::sleep(Duration::from_secs(1));
        if let Some(what) = hangs(limit) {
            eprintln!(
                "\n{what} has not come back for {} s; giving up. The reports hold the cases before it.",
                limit.as_secs()
            );
            process::exit(3);
        }
    }
}

/// What the command line asks for.
struct Options {
    filters: Vec<String>,
    quick: bool,
    list: bool,
    folder: PathBuf,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        let mut options = Self {
            filters: Vec::new(),
            quick: false,
            list: false,
            folder,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--out" => options.folder = arguments.next().ok_or("--out wants a folder")?.into(),
                flag if flag.starts_with('-') => {
                    return Err(format!("there is no option `{flag}`"));
                }
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Ok(options)
    }
}

/// The cases that some filter picks: the name of a group picks all of it, other text whatever has it in `group/case`.
fn select<'groups>(
    groups: &'groups [Group],
    filters: &[String],
) -> Result<Vec<(&'groups Group, &'groups Case)>, String> {
    let all: Vec<_> = groups
        .iter()
        .flat_map(|group| group.cases().iter().map(move |case| (group, case)))
        .collect();
    let picks = |filter: &str, group: &Group, case: &Case| {
        if groups.iter().any(|group| group.name() == filter) {
            group.name() == filter
        } else {
            format!("{}/{}", group.name(), case.name())
                .to_lowercase()
                .contains(&filter.to_lowercase())
        }
    };
    for filter in filters {
        if !all.iter().any(|(group, case)| picks(filter, group, case)) {
            let known: Vec<_> = all
                .iter()
                .map(|(group, case)| format!("  {}/{}", group.name(), case.name()))
                .collect();
            return Err(format!(
                "nothing is called `{filter}`; there are\n{}",
                known.join("\n")
            ));
        }
    }
    Ok(all
        .into_iter()
        .filter(|(group, case)| {
            filters.is_empty() || filters.iter().any(|filter| picks(filter, group, case))
        })
        .collect())
}
