//! `cargo xtask bench`: builds the measuring program in release mode and runs it.

use crate::{Trouble, step::cargo, workspace};

/// Builds, measures, and leaves the reports in `target/bench`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Trouble> {
    for argument in arguments {
        if argument.starts_with('-') && !["--quick", "--list"].contains(&argument.as_str()) {
            return Err(Trouble::Usage(format!(
                "`cargo xtask bench` has no option `{argument}`"
            )));
        }
    }
    let status = cargo()
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
        .env_remove("RUST_LIB_BACKTRACE")
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
