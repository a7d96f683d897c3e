//! `cargo xtask dependencies`: what the crates bring in is used, is licensed for everybody, and is no more than their READMEs say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{
    Trouble,
    crates::{PUBLISHED, entries, folder},
    licenses::is_allowed,
    step::cargo,
    workspace,
};

/// Runs the three checks; `--write` corrects the READMEs instead of complaining about them.
pub(crate) fn run(arguments: &[String]) -> Result<(), Trouble> {
    let write = match arguments {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => {
            return Err(Trouble::Usage(
                "`cargo xtask dependencies` takes nothing but `--write`".to_owned(),
            ));
        }
    };
    let mut complaints = licenses().map_err(Trouble::Failed)?;
    complaints.extend(unused().map_err(Trouble::Failed)?);
    complaints.extend(counts(write).map_err(Trouble::Failed)?);
    if complaints.is_empty() {
        return Ok(());
    }
    Err(Trouble::Failed(complaints.join("\nxtask: ")))
}

/// Packages of the whole tree, for tests and tools and on any system, that may not be used by everybody.
fn licenses() -> Result<Vec<String>, String> {
    let tree = tree(&[
        "--workspace",
        "--edges=all",
        "--all-features",
        "--target=all",
        "--format={p}|{l}",
    ])?;
    let licenses: BTreeMap<_, _> = tree
        .iter()
        .filter_map(|line| line.split_once('|'))
        .collect();
    println!("{} packages in the tree", licenses.len());
    Ok(licenses
        .into_iter()
        .filter_map(|(package, license)| match is_allowed(license) {
            Ok(true) => None,
            Ok(false) => Some(format!("{package}: `{license}` is on no list of ours")),
            Err(reason) => Some(format!("{package}: {reason}")),
        })
        .collect())
}

/// Dependencies that are declared, and named nowhere in the code.
fn unused() -> Result<Vec<String>, String> {
    let mut folders: Vec<_> = PUBLISHED.iter().map(|name| folder(name)).collect();
    folders.extend(
        ["benches", "crates/testkit", "xtask", "xtask/api-listing"]
            .map(|name| workspace().join(name)),
    );
    let mut unused = Vec::new();
    for folder in folders {
        let manifest = read(&folder.join("Cargo.toml"))?;
        let mut library = String::new();
        append_code(&folder.join("src"), &mut library)?;
        let library_code = without_comments(&library);
        let mut everything = library;
        for part in ["tests", "examples", "benches"] {
            append_code(&folder.join(part), &mut everything)?;
        }
        everything += &fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        if folder.ends_with("xtask") {
            // Its doctests are the documents.
            append(&workspace().join("docs"), ".md", &mut everything)?;
            everything += &read(&workspace().join("README.md"))?;
        }
        for entry in entries(&manifest) {
            let is_for_tests = entry.section.ends_with("dev-dependencies");
            if !is_for_tests && !entry.section.ends_with("dependencies") {
                continue;
            }
            let text = if is_for_tests {
                &everything
            } else {
                &library_code
            };
            if !names(text, &entry.key.replace('-', "_")) {
                unused.push(format!(
                    "{}: `{}` in [{}] is used nowhere",
                    folder.display(),
                    entry.key,
                    entry.section
                ));
            }
        }
    }
    Ok(unused)
}

/// READMEs that do not say how many crates theirs brings in.
fn counts(write: bool) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for name in PUBLISHED {
        let line = sentence(name)?;
        let path = folder(name).join("README.md");
        let readme = read(&path)?;
        if readme.lines().any(|found| found == line) {
            continue;
        }
        let old = readme.lines().find(|found| found.starts_with(BEGINNING));
        match old {
            Some(old) if write => {
                let corrected = readme.replace(old, &line);
                fs::write(&path, corrected)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
            _ => wrong.push(format!(
                "{} has to say: {line}\n  (`cargo xtask dependencies --write` corrects a line that begins like this)",
                path.display()
            )),
        }
    }
    Ok(wrong)
}

/// How the line in a README begins.
const BEGINNING: &str = "With default features it brings in ";

/// What the README of a crate has to say.
fn sentence(name: &str) -> Result<String, String> {
    let tree = tree(&["--package", name, "--edges=normal", "--format={p}"])?;
    let mut others: BTreeSet<&str> = tree
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    others.remove(name);
    let noun = if others.len() == 1 { "crate" } else { "crates" };
    let list: Vec<_> = others.iter().map(|other| format!("`{other}`")).collect();
    Ok(format!(
        "{BEGINNING}{} {noun}: {}.",
        others.len(),
        list.join(", ")
    ))
}

/// The lines of `cargo tree`, without the marks of repetition.
fn tree(arguments: &[&str]) -> Result<Vec<String>, String> {
    let output = cargo()
        // A caller may have asked cargo for colours, which are no part of what it says.
        .args(["tree", "--quiet", "--color=never", "--prefix=none"])
        .args(arguments)
        .output()
        .map_err(|error| format!("cargo tree could not be started: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .filter(|line| !line.is_empty())
        .collect())
}

/// Whether a name stands in a text as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    })
}

/// Code without the lines that are comments.
fn without_comments(code: &str) -> String {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Appends all code below a folder, which need not be there.
fn append_code(folder: &Path, to: &mut String) -> Result<(), String> {
    append(folder, ".rs", to)
}

fn append(folder: &Path, ending: &str, to: &mut String) -> Result<(), String> {
    let Ok(found) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in found {
        let path = entry
            .map_err(|error| format!("{}: {error}", folder.display()))?
            .path();
        if path.is_dir() {
            append(&path, ending, to)?;
        } else if path.to_string_lossy().ends_with(ending) {
            *to += &read(&path)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_word() {
        assert!(names("use slab::Slab;", "slab"));
        assert!(names("::slab", "slab"));
        assert!(!names("use my_slab::Slab; slabs", "slab"));
    }

    #[test]
    fn comments_do_not_use_a_crate() {
        assert_eq!(without_comments("a\n  // slab\nb // c\n"), "a\nb // c\n");
    }
}
