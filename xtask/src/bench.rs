//! `cargo xtask bench`: builds the measuring program in release mode and runs it.

use std::process::Command;

use crate::{Trouble, step::cargo, workspace};

/// The measuring program's options, and whether a value follows.
const OPTIONS: &[(&str, bool)] = &[
    ("--quick", false),
    ("--list", false),
    ("--save", true),
    ("--against", true),
];

/// Builds, measures, and leaves the reports in `target/bench`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Trouble> {
    check(arguments)?;
    let mut cargo = cargo();
    cargo
        .args([
            "run",
            "--release",
            "--package",
            "trionics-benches",
            "--bin",
            "measure",
            "--",
        ])
        .arg("--out")
        .arg(workspace().join("target/bench"))
        .args(arguments)
        // Some peers capture a backtrace with every error where this is set: it would be all that is measured.
        .env_remove("RUST_BACKTRACE")
        .env_remove("RUST_LIB_BACKTRACE");
    become_it(cargo)
}

/// What the measuring program would refuse is refused before it is built.
fn check(arguments: &[String]) -> Result<(), Trouble> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if !argument.starts_with('-') {
            continue;
        }
        let Some((_, has_value)) = OPTIONS.iter().find(|(name, _)| name == argument) else {
            let names: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
            return Err(Trouble::Usage(format!(
                "`cargo xtask bench` has no option `{argument}`; there are {}",
                names.join(", ")
            )));
        };
        if *has_value && arguments.next().is_none_or(|value| value.starts_with('-')) {
            return Err(Trouble::Usage(format!("`{argument}` wants a name")));
        }
    }
    Ok(())
}

/// Runs a command in place of this program. Ctrl-c then reaches one program only, the one that measures, and nobody
/// returns to the shell before that has written its reports. Its exit code is the whole's.
#[cfg(unix)]
fn become_it(mut command: Command) -> Result<(), Trouble> {
    use std::os::unix::process::CommandExt as _;

    let error = command.exec();
    Err(Trouble::Failed(format!(
        "cargo could not be started: {error}"
    )))
}

/// Runs a command and waits for it.
#[cfg(not(unix))]
fn become_it(mut command: Command) -> Result<(), Trouble> {
    let status = command
        .status()
        .map_err(|error| Trouble::Failed(format!("cargo could not be started: {error}")))?;
    match status.code() {
        Some(0) => Ok(()),
        // The measuring program has said what is wrong with its arguments.
        Some(2) => Err(Trouble::Usage("nothing was measured".to_owned())),
        _ => Err(Trouble::Failed(format!(
            "the measuring ended with {status}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(arguments: &[&str]) -> Option<String> {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        match check(&arguments) {
            Ok(()) => None,
            Err(Trouble::Usage(message) | Trouble::Failed(message)) => Some(message),
            Err(Trouble::Help) => panic!("nobody asked for help"),
        }
    }

    #[test]
    fn what_the_program_understands_is_passed_on() {
        for arguments in [
            &[][..],
            &["nursery", "--quick", "race"],
            &["--save", "new", "--against", "old", "--list"],
        ] {
            assert_eq!(complaint(arguments), None);
        }
    }

    #[test]
    fn what_it_does_not_is_refused_at_once() {
        for (arguments, expected) in [
            (
                &["--quik"][..],
                "has no option `--quik`; there are --quick, --list, --save, --against",
            ),
            (&["--out", "x"], "has no option `--out`"),
            (&["nursery", "--save"], "`--save` wants a name"),
            (&["--against", "--quick"], "`--against` wants a name"),
        ] {
            let complaint = complaint(arguments).expect("it makes no sense");
            assert!(complaint.contains(expected), "{complaint}");
        }
    }
}
