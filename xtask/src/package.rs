//! `cargo xtask package`: the packages as they would be published, built against each other.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::{
    Trouble,
    ci::{deny_warnings, target},
    crates::{PUBLISHED, of_published, version},
    step::Step,
    workspace,
};

/// Packages every crate, unpacks the packages, and builds each in order with nothing but the packages before it.
///
/// `cargo package` would do the same, but it keeps what it unpacked under the version number, and builds the old files against
/// the new ones where the version has not changed.
pub(crate) fn run(arguments: &[String]) -> Result<(), Trouble> {
    if !arguments.is_empty() {
        return Err(Trouble::Usage(
            "`cargo xtask package` takes no arguments".to_owned(),
        ));
    }
    check().map_err(Trouble::Failed)
}

fn check() -> Result<(), String> {
    let version = version()?;
    Step::cargo(
        "",
        "",
        &format!("package --allow-dirty --no-verify{}", of_published()),
    )
    .run()?;

    let folder = target().join("unpacked");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| about(&folder, error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| about(&folder, error))?;
    let mut manifest = String::from(
        "[workspace]\nresolver = \"3\"\nmembers = [\"trionics*\"]\n\n[patch.crates-io]\n",
    );
    for name in PUBLISHED {
        unpack(&folder, name, &version)?;
        let _ = writeln!(manifest, "{name} = {{ path = \"{name}-{version}\" }}");
    }
    let path = folder.join("Cargo.toml");
    fs::write(&path, manifest).map_err(|error| about(&path, error))?;
    // The same versions of everything else as in the other checks.
    let lock = folder.join("Cargo.lock");
    fs::copy(workspace().join("Cargo.lock"), &lock).map_err(|error| about(&lock, error))?;

    for name in PUBLISHED {
        build(&path, &format!("--package {name}"))?;
    }
    build(&path, "--workspace --all-features --lib --examples")
}

/// Unpacks a package, and sees to it that its papers are in it.
fn unpack(folder: &Path, name: &str, version: &str) -> Result<(), String> {
    let package = target().join(format!("package/{name}-{version}.crate"));
    // All files of a package have the same old time; with their own, cargo would take changed files for built ones.
    let status = Command::new("tar")
        .args(["-x", "-z", "-m", "-f"])
        .arg(&package)
        .arg("-C")
        .arg(folder)
        .status()
        .map_err(|error| format!("tar could not be started: {error}"))?;
    if !status.success() {
        return Err(format!("{} could not be unpacked", package.display()));
    }
    for paper in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        if !folder
            .join(format!("{name}-{version}"))
            .join(paper)
            .is_file()
        {
            return Err(format!("{paper} is not in the package of {name}"));
        }
    }
    Ok(())
}

/// Checks what is unpacked. The other crates in the tree were checked with the features, under the same flags.
fn build(manifest: &Path, what: &str) -> Result<(), String> {
    Step::cargo(
        "",
        "",
        &format!("check --manifest-path {} {what}", manifest.display()),
    )
    .env("RUSTFLAGS", deny_warnings())
    .env("CARGO_TARGET_DIR", target().join("features"))
    .run()
}

fn about(path: &Path, error: std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
