//! Measures the groups and writes the reports; `cargo xtask bench` calls it.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a command line tool talks on standard output"
)]

use std::{
    env, fs, io,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use trionics_benches::{
    Case, Group,
    alone::{self, ALONE},
    budget::Budget,
    groups, interrupt, machine,
    measure::{Plan, hangs, measure},
    options::{Options, select},
    report::{
        Head, Report,
        row::{self, Row},
    },
};

/// For figures that one quotes.
const FULL: Plan = Plan {
    rounds: 101,
    least: 11,
    turn: Duration::from_millis(20),
};
const FULL_TIME: Duration = Duration::from_secs(50 * 60);

/// For a first look.
const QUICK: Plan = Plan {
    rounds: 21,
    least: 5,
    turn: Duration::from_millis(8),
};
const QUICK_TIME: Duration = Duration::from_secs(7 * 60);

/// A subject that does not come back for so long will not come back.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let groups = groups::all();
    if let Some((ALONE, names)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return alone_in_this_process(&groups, names);
    }
    match run(&groups, &arguments) {
        Ok(code) => code,
        Err(Trouble::Usage(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
        Err(Trouble::Output(error)) => {
            eprintln!("the reports could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why nothing, or not all, was measured.
enum Trouble {
    /// The arguments make no sense.
    Usage(String),
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn alone_in_this_process(groups: &[Group], names: &[String]) -> ExitCode {
    match alone::run(groups, names) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn run(groups: &[Group], arguments: &[String]) -> Result<ExitCode, Trouble> {
    let options = Options::parse(arguments).map_err(Trouble::Usage)?;
    let selected = select(groups, &options.filters).map_err(Trouble::Usage)?;
    if options.list {
        list(&selected);
        return Ok(ExitCode::SUCCESS);
    }
    // Before the long wait, not after it.
    let earlier = match &options.against {
        Some(name) => Some((name, earlier(&options, name).map_err(Trouble::Usage)?)),
        None => None,
    };
    let n_existing = groups.iter().map(|group| group.cases().len()).sum();
    let mut report = Report::begin(&options.folder, head(&options, selected.len(), n_existing))?;
    interrupt::listen();
    thread::spawn(end_when_a_subject_hangs);
    measure_all(&selected, &options, &mut report)?;

    let mut has_slower = false;
    if let Some((name, rows)) = earlier {
        has_slower = report.compare(name, &rows)?.has_slower();
    }
    println!("\n{}", report.markdown());
    println!(
        "Written to {}: report.json, report.md, report.html, and a chart per group",
        options.folder.display()
    );
    if let Some(name) = &options.save {
        if report.is_complete() {
            report.save(&options.saved(name))?;
            println!("Kept as `{name}`: `--against {name}` compares with it");
        } else {
            eprintln!("not kept as `{name}`, as it is not complete");
        }
    }
    if interrupt::is_requested() {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    if report.has_failures() {
        eprintln!("some subjects failed");
        return Ok(ExitCode::FAILURE);
    }
    if has_slower {
        eprintln!("some cases got slower");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn list(selected: &[(&Group, &Case)]) {
    for (group, case) in selected {
        let subjects: Vec<_> = case
            .subjects()
            .iter()
            .map(|subject| subject.name())
            .collect();
        println!("{}/{}: {}", group.name(), case.name(), subjects.join(", "));
    }
}

/// The figures of a run that was kept.
fn earlier(options: &Options, name: &str) -> Result<Vec<Row>, String> {
    let path = options.saved(name).join("report.json");
    let text = fs::read_to_string(&path).map_err(|_| {
        let names = options.saved_names();
        match names.is_empty() {
            true => {
                format!("no run was kept as `{name}`, nor any other: `--save {name}` keeps one")
            }
            false => format!(
                "no run was kept as `{name}`; there are {}",
                names.join(", ")
            ),
        }
    })?;
    row::parse(&text).map_err(|error| format!("{} is no report: {error}", path.display()))
}

fn head(options: &Options, n_selected: usize, n_existing: usize) -> Head {
    let (plan, _) = plan(options);
    let mut facts = machine::description();
    facts.push(format!(
        "{} rounds, each subject's turn about {} ms; fewer rounds, but {} at least, where iterations are long{}",
        plan.rounds,
        plan.turn.as_millis(),
        plan.least,
        match options.quick {
            true => ". A quick look, no figures to quote",
            false => "",
        }
    ));
    Head {
        facts,
        filters: options.filters.clone(),
        planned: n_selected,
        existing: n_existing,
    }
}

fn plan(options: &Options) -> (Plan, Duration) {
    match options.quick {
        true => (QUICK, QUICK_TIME),
        false => (FULL, FULL_TIME),
    }
}

/// Measures the cases one after the other, until somebody interrupts.
fn measure_all(
    selected: &[(&Group, &Case)],
    options: &Options,
    report: &mut Report,
) -> io::Result<()> {
    let (plan, time) = plan(options);
    let mut budget = Budget::new(time, plan, selected.iter().map(|(_, case)| *case));
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
        let allotted = budget.allotted(started.elapsed());
        let outcome = measure(group.name(), case, plan, allotted, &interrupt::is_requested);
        let Some(outcome) = outcome else { break };
        let n_rounds = outcome.rounds;
        report.add(group, case, outcome)?;
        budget.case_is_done();
        eprintln!(
            "{:.1} s, {n_rounds} rounds; about {} left",
            case_started.elapsed().as_secs_f64(),
            in_words(budget.time_left(started.elapsed()))
        );
        if interrupt::is_requested() {
            break;
        }
    }
    Ok(())
}

fn in_words(time: Duration) -> String {
    match time.as_secs_f64().round() as u64 {
        seconds @ ..100 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

/// Nothing can stop a thread that hangs. What was measured before is on disk.
fn end_when_a_subject_hangs() {
    loop {
        thread::sleep(Duration::from_secs(1));
        if let Some(what) = hangs(PATIENCE) {
            eprintln!(
                "\n{what} has not come back for {} s; giving up. The reports hold the cases before it.",
                PATIENCE.as_secs()
            );
            process::exit(3);
        }
    }
}
