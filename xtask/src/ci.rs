//! `cargo xtask ci`: every check, in order of what it costs.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Trouble,
    checks::{EXAMPLES, Example, MODELS, SANITIZED, Sanitized},
    crates::of_published,
    public_api, semver,
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
        Step::nightly_cargo(
            DOCS_RS,
            "documentation builds as docs.rs builds it, with a badge for each feature",
            &format!("doc{} --all-features --no-deps", of_published()),
        )
        .env("RUSTDOCFLAGS", "--cfg docsrs")
        .env("CARGO_TARGET_DIR", target().join("docs-rs")),
        // Nothing but the library is checked, and features of dev-dependencies do not leak into it (resolver 3): no
        // need for `--no-dev-deps`, which rewrites the manifests while it runs.
        Step::cargo(
            FEATURES,
            "each feature of each crate alone, and each pair",
            "hack check --workspace --ignore-private --feature-powerset --depth 2",
        )
        .env("RUSTFLAGS", deny_warnings())
        .env("CARGO_TARGET_DIR", target().join("features")),
        Step::xtask(
            "dependencies",
            "what the crates bring in is used, is licensed for everybody, and is what the READMEs say",
            "dependencies",
        ),
        Step::xtask(
            PUBLIC_API,
            "the public items are those listed in docs/public-api",
            "public-api --check",
        ),
        Step::xtask(
            "package",
            "the packages contain what they need, and build against each other in the order of release",
            "package",
        ),
        Step::cargo(
            SEMVER,
            "what the last release promised is still there",
            &format!(
                "{} check-release{} --baseline-rev {}",
                semver::TOOL,
                of_published(),
                semver::last_release().unwrap_or_default()
            ),
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
    for Sanitized { name, package } in SANITIZED {
        steps.push(
            Step::nightly_cargo(
                format!("{SANITIZE}{name}"),
                "tests under AddressSanitizer, which looks for leaks, too",
                &format!("test --package {package} --lib --tests --target {SANITIZED_TARGET}"),
            )
            .env("RUSTFLAGS", "-Zsanitizer=address --cfg trionics_sanitize")
            .env("ASAN_OPTIONS", "detect_leaks=1")
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
const DOCS_RS: &str = "docs-rs";
const PUBLIC_API: &str = "public-api";
const SEMVER: &str = "semver";
const EXAMPLE: &str = "example-";
const SANITIZE: &str = "sanitize-";
/// Named, because build scripts and macros are otherwise sanitized, too, and then do not load.
const SANITIZED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Whether a step can be run here.
enum Readiness {
    Ready,
    /// It cannot, for this reason, and that is no failure.
    Skip(String),
}

/// What has to be there before the step's own command runs, and does not count towards its limit.
fn prepare(step: &str) -> Result<Readiness, String> {
    match step {
        PUBLIC_API => Ok(public_api::obstacle().map_or(Readiness::Ready, Readiness::Skip)),
        SEMVER => Ok(look_for_last_release()),
        DOCS_RS => Ok(look_for_nightly()),
        _ if step.starts_with(SANITIZE) => Ok(look_for_sanitizer()),
        _ => prepare_to_run(step).map(|()| Readiness::Ready),
    }
}

/// There is something to compare with once there has been a release. The tool takes long to build, so it is only then asked for.
fn look_for_last_release() -> Readiness {
    if semver::last_release().is_none() {
        return Readiness::Skip("there is no release yet: no tag `v…`".to_owned());
    }
    if is_there(cargo().args([semver::TOOL, "--version"])) {
        return Readiness::Ready;
    }
    let installed = Step::cargo(
        "",
        "",
        "install cargo-semver-checks --locked --version ^0.51",
    )
    .limit(Duration::from_secs(12 * 60))
    .run();
    match installed {
        Ok(()) => Readiness::Ready,
        Err(reason) => Readiness::Skip(format!(
            "cargo-semver-checks could not be installed: {reason}"
        )),
    }
}

/// The sanitizer comes with the nightly toolchain, for this target.
fn look_for_sanitizer() -> Readiness {
    if !cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    )) {
        return Readiness::Skip("this is not x86_64-unknown-linux-gnu".to_owned());
    }
    look_for_nightly()
}

fn look_for_nightly() -> Readiness {
    if is_there(nightly_cargo().arg("--version")) {
        Readiness::Ready
    } else {
        Readiness::Skip(
            "there is no nightly toolchain: `rustup toolchain install nightly`".to_owned(),
        )
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
pub(crate) fn deny_warnings() -> String {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    format!("{flags} -D warnings").trim().to_owned()
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
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
