//! The workspace's automation: `cargo xtask ci` checks everything, `cargo xtask bench` measures.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a command line tool talks on standard output"
)]

mod bench;
mod checks;
mod ci;
mod step;

use std::{env, path::PathBuf, process::ExitCode};

const USAGE: &str = "\
The workspace's automation.

Usage:
  cargo xtask ci [STEP…] [--keep-going] [--list]
      Run every check, or only the steps that are named.
        --keep-going   go on after a step that failed
        --list         name the steps and end

  cargo xtask bench [FILTER…] [--quick] [--save NAME] [--against NAME] [--list]
      Measure this library beside its peers: under an hour for everything, under
      ten minutes with --quick. Writes report.json, report.md, report.html and a
      chart per group to target/bench, also when it is interrupted, and prints
      the tables.
        FILTER         a group, or a part of `group/case`; several add up
        --quick        fewer and shorter rounds: a first look, no figures to quote
        --save NAME    keep the reports as target/bench/saved/NAME
        --against NAME say what got slower since that run by more than the noise,
                       and end with exit code 1 if anything did
        --list         name the groups, cases and subjects and end

  cargo xtask help
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let wants_help = rest
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    let outcome = match command.as_str() {
        "help" | "--help" | "-h" => Err(Trouble::Help),
        _ if wants_help => Err(Trouble::Help),
        "ci" => ci::run(rest),
        "bench" => bench::run(rest),
        unknown => Err(Trouble::Usage(format!(
            "there is no command `{unknown}`; there are `ci`, `bench` and `help`"
        ))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(Trouble::Usage(message)) => {
            eprintln!("xtask: {message}\nTry `cargo xtask help`.");
            ExitCode::from(2)
        }
        Err(Trouble::Failed(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command did not succeed.
enum Trouble {
    /// The arguments ask for the usage text.
    Help,
    /// The arguments make no sense.
    Usage(String),
    /// Something that was run has failed, and has said why.
    Failed(String),
}

/// The folder that holds the workspace's manifest.
fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is where it was built")
}
