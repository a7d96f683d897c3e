//! `cargo xtask ci`: every check, in order of what it costs.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    Trouble,
    checks::{EXAMPLES, Example, MODELS, SANITIZED, Sanitized},
    step::{Step, cargo, nightly_cargo, seconds},
    workspace,
};

/// Runs the steps that are named, or all.
pub(crate) fn run(arguments: &[String]) -> Result<(), Trouble> {
    let options = Options::parse(arguments)?;
    let mut steps = steps();
    if options.list {
        for step in &steps {
            println!("{:<16}{}", step.name, step.purpose);
        }
        return Ok(());
    }
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| steps.iter().all(|step| step.name != **name))
    {
        let known: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        return Err(Trouble::Usage(format!(
            "there is no step `{unknown}`; there are {}",
            known.join(", ")
        )));
    }
    if !options.only.is_empty() {
        steps.retain(|step| options.only.contains(&step.name));
    }

    let started = Instant::now();
    let count = steps.len();
    let mut summary = Vec::new();
    let mut failed = Vec::new();
    for (index, step) in steps.iter_mut().enumerate() {
        println!(
            "\n==> [{}/{count}] {}: {}",
            index + 1,
            step.name,
            step.purpose
        );
        let step_started = Instant::now();
        let outcome = prepare(&step.name).and_then(|readiness| match readiness {
            Readiness::Ready => step.run().map(|()| "ok".to_owned()),
            Readiness::Skip(reason) => Ok(format!("skipped ({reason})")),
        });
        let duration = seconds(step_started.elapsed());
        let verdict = match &outcome {
            Ok(verdict) => verdict.clone(),
            Err(reason) => format!("FAILED ({reason})"),
        };
        println!("<== {}: {verdict}, {duration}", step.name);
        summary.push(format!("{:<16}{duration:>14}  {verdict}", step.name));
        if outcome.is_err() {
            failed.push(step.name.clone());
            if !options.keep_going {
                break;
            }
        }
    }

    println!("\n{}", summary.join("\n"));
    println!("{:<16}{:>14}", "together", seconds(started.elapsed()));
    if failed.is_empty() {
        println!("\nAll is well.");
        return Ok(());
    }
    let left_out = count - summary.len();
    let remark = if left_out == 0 {
        String::new()
    } else {
        format!(" ({left_out} more not run)")
    };
    Err(Trouble::Failed(format!(
        "failed: {}{remark}",
        failed.join(", ")
    )))
}

/// What the command line asks for.
#[derive(Default)]
struct Options {
    only: Vec<String>,
    keep_going: bool,
    list: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, Trouble> {
        let mut options = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--keep-going" => options.keep_going = true,
                "--list" => options.list = true,
                flag if flag.starts_with('-') => {
                    return Err(Trouble::Usage(format!(
                        "`cargo xtask ci` has no option `{flag}`"
                    )));
                }
                name => options.only.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

/// All steps: what is cheap and often wrong comes first.
fn steps() -> Vec<Step> {
    let mut steps = vec![
        Step::cargo("fmt", "the code is formatted", "fmt --all --check"),
        Step::cargo(
            "clippy",
            "no warning, in any target, with all features",
            "clippy --workspace --all-targets --all-features -- -D warnings",
        ),
        Step::cargo(
            "test",
            "unit and integration tests",
            "test --workspace --all-features --lib --bins --tests --no-fail-fast",
        ),
        Step::cargo(
            "doctest",
            "examples in documentation, README.md, docs/",
            "test --workspace --all-features --doc --no-fail-fast",
        ),
        Step::cargo(
            "doc",
            "documentation builds without a warning",
            "doc --workspace --all-features --no-deps",
        )
        .env("RUSTDOCFLAGS", "-D warnings"),
        // Nothing but the library is checked, and features of dev-dependencies do not leak into it (resolver 3): no
        // need for `--no-dev-deps`, which rewrites the manifests while it runs.
        Step::cargo(
            FEATURES,
            "each feature of each crate alone, and each pair",
            "hack check --workspace --ignore-private --feature-powerset --depth 2",
        )
        .env("RUSTFLAGS", deny_warnings())
        .env("CARGO_TARGET_DIR", target().join("features")),
        // Without the build of each package: cargo keeps what it unpacked for that under the version number, and builds it
        // again where the version has not changed. The tests see to it that no crate includes files from outside.
        Step::cargo(
            "package",
            "the crates can be packaged",
            "package --workspace --exclude xtask --exclude trionics-benches --allow-dirty --no-verify",
        ),
        Step::cargo(
            "examples",
            "all examples build",
            "build --workspace --all-features --examples",
        ),
    ];
    for model in MODELS {
        let mut step = Step::cargo(format!("model-{}", model.name), model.purpose, model.args)
            .env("CARGO_TARGET_DIR", target().join("models"));
        for (name, value) in model.env {
            step = step.env(name, value);
        }
        steps.push(step);
    }
    for Sanitized {
        name,
        package,
        options,
    } in SANITIZED
    {
        steps.push(
            Step::nightly_cargo(
                format!("{SANITIZE}{name}"),
                "tests under AddressSanitizer",
                &format!("test --package {package} --lib --tests --target {SANITIZED_TARGET}"),
            )
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env("ASAN_OPTIONS", options)
            .env("CARGO_TARGET_DIR", target().join("sanitized")),
        );
    }
    for example in EXAMPLES {
        let Example {
            name,
            package,
            args,
            ..
        } = example;
        let arguments = format!("run --release --package {package} --example {name} -- {args}");
        steps.push(
            Step::cargo(
                format!("{EXAMPLE}{}", example.name),
                example.purpose,
                &arguments,
            )
            .limit(example.limit),
        );
    }
    steps
}

const FEATURES: &str = "features";
const EXAMPLE: &str = "example-";
const SANITIZE: &str = "sanitize-";
/// Named, because build scripts and macros are otherwise sanitized, too, and then do not load.
const SANITIZED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Whether a step can be run here.
enum Readiness {
    Ready,
    /// It cannot, for this reason, and that is no failure.
    Skip(&'static str),
}

/// What has to be there before the step's own command runs, and does not count towards its limit.
fn prepare(step: &str) -> Result<Readiness, String> {
    if step.starts_with(SANITIZE) {
        return Ok(look_for_sanitizer());
    }
    prepare_to_run(step).map(|()| Readiness::Ready)
}

/// The sanitizer comes with the nightly toolchain, for this target.
fn look_for_sanitizer() -> Readiness {
    if !cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    )) {
        return Readiness::Skip("this is not x86_64-unknown-linux-gnu");
    }
    if is_there(nightly_cargo().arg("--version")) {
        Readiness::Ready
    } else {
        Readiness::Skip("there is no nightly toolchain: `rustup toolchain install nightly`")
    }
}

/// Whether a command can be started, and ends well.
fn is_there(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn prepare_to_run(step: &str) -> Result<(), String> {
    if step == FEATURES {
        return install_cargo_hack();
    }
    match EXAMPLES
        .iter()
        .find(|example| step.strip_prefix(EXAMPLE) == Some(example.name))
    {
        Some(example) => build(example),
        None => Ok(()),
    }
}

/// Installs `cargo hack`, unless it is there.
fn install_cargo_hack() -> Result<(), String> {
    if is_there(cargo().args(["hack", "--version"])) {
        return Ok(());
    }
    Step::cargo("", "", "install cargo-hack --locked --version ^0.6")
        .run()
        .map_err(|reason| format!("cargo-hack could not be installed: {reason}"))
}

/// Builds an example without running it.
fn build(example: &Example) -> Result<(), String> {
    let Example { name, package, .. } = example;
    Step::cargo(
        "",
        "",
        &format!("build --release --package {package} --example {name}"),
    )
    .run()
    .map_err(|reason| format!("it does not build: {reason}"))
}

/// The compiler flags that are in force already, and warnings denied.
fn deny_warnings() -> String {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    format!("{flags} -D warnings").trim().to_owned()
}

/// The folder that cargo builds into.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_names_are_unique() {
        let mut names: Vec<_> = steps().into_iter().map(|step| step.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }

    #[test]
    fn an_unknown_step_is_answered_with_those_that_exist() {
        let Err(Trouble::Usage(message)) = run(&["clipy".to_owned()]) else {
            panic!("it was accepted")
        };
        assert!(
            message.contains("`clipy`") && message.contains("clippy, test"),
            "{message}"
        );
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let Err(Trouble::Usage(message)) = run(&["--fast".to_owned()]) else {
            panic!("it was accepted")
        };
        assert!(message.contains("--fast"), "{message}");
    }
}
