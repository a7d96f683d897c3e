//! `cargo xtask public-api`: what each crate promises, item by item, in `docs/public-api/`.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    Trouble,
    ci::target,
    crates::{PUBLISHED, rust_version},
    step::Step,
    workspace,
};

/// Writes the listings, or with `--check` compares them with those in the repository.
pub(crate) fn run(arguments: &[String]) -> Result<(), Trouble> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            return Err(Trouble::Usage(
                "`cargo xtask public-api` takes nothing but `--check`".to_owned(),
            ));
        }
    };
    if let Some(reason) = obstacle() {
        return Err(Trouble::Failed(reason));
    }
    let written = listings(check).map_err(Trouble::Failed)?;
    if !check {
        return Ok(());
    }
    let mut stale = Vec::new();
    for (name, listing) in PUBLISHED.iter().zip(written) {
        let kept = fs::read_to_string(kept(name)).unwrap_or_default();
        let fresh = fs::read_to_string(&listing)
            .map_err(|error| Trouble::Failed(format!("{}: {error}", listing.display())))?;
        let changes = changes(&kept, &fresh);
        if !changes.is_empty() {
            stale.push(format!("{name}:\n  {}", changes.join("\n  ")));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Trouble::Failed(format!(
        "the public API is not what docs/public-api says:\n{}\n\
         If that is meant, run `cargo xtask public-api` and commit what it writes.",
        stale.join("\n")
    )))
}

/// Why there can be no listing here: rustdoc's format belongs to one compiler version.
pub(crate) fn obstacle() -> Option<String> {
    let wanted = match rust_version() {
        Ok(wanted) => wanted,
        Err(reason) => return Some(reason),
    };
    let found = Command::new("rustdoc")
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let is_it = found
        .strip_prefix("rustdoc ")
        .is_some_and(|version| version.starts_with(&format!("{wanted}.")));
    (!is_it).then(|| {
        format!(
            "the listing is made with Rust {wanted}, this is `{}`",
            found.trim()
        )
    })
}

/// Has rustdoc describe the crates, and turns the descriptions into lists.
fn listings(check: bool) -> Result<Vec<PathBuf>, String> {
    let build = target().join("public-api");
    let mut arguments = String::from("run --quiet --package api-listing --");
    let mut written = Vec::new();
    for name in PUBLISHED {
        Step::cargo(
            "",
            "",
            &format!("rustdoc --quiet --package {name} --lib --all-features -- -Zunstable-options --output-format json"),
        )
        // The format is unstable, and pinned together with the compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &build)
        .run()?;
        let description = build
            .join("doc")
            .join(format!("{}.json", name.replace('-', "_")));
        let listing = if check {
            build.join(format!("{name}.txt"))
        } else {
            kept(name)
        };
        arguments += &format!(" {} {}", description.display(), listing.display());
        written.push(listing);
    }
    Step::cargo("", "", &arguments).run()?;
    Ok(written)
}

/// The listing that is under review.
fn kept(name: &str) -> PathBuf {
    workspace().join(format!("docs/public-api/{name}.txt"))
}

/// The lines that went and came.
fn changes(old: &str, new: &str) -> Vec<String> {
    let missing = |from: &str, to: &str, mark: &str| -> Vec<String> {
        let there: std::collections::HashSet<_> = to.lines().collect();
        from.lines()
            .filter(|line| !there.contains(line))
            .map(|line| format!("{mark} {line}"))
            .collect()
    };
    let mut changes = missing(old, new, "-");
    changes.extend(missing(new, old, "+"));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_what_went_and_what_came() {
        assert_eq!(changes("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
        assert!(changes("a\nb\n", "a\nb\n").is_empty());
    }
}
