//! Collects the documents that are compiled as doctests: the README, `docs/*.md`, and each crate's README unless the crate
//! includes it itself. None of them is inside a package, so no package can break by leaving them out.

use std::{env, fmt::Write as _, fs, io, path::Path, path::PathBuf};

fn main() -> io::Result<()> {
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("..")
        .canonicalize()?;
    let mut documents = vec![workspace.join("README.md")];
    documents.extend(
        entries(&workspace.join("docs"))?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|it| it == "md")),
    );
    for package in entries(&workspace.join("crates"))? {
        let root = package.join("src/lib.rs");
        println!("cargo::rerun-if-changed={}", root.display());
        let includes_its_readme =
            fs::read_to_string(&root).is_ok_and(|text| text.contains("README.md"));
        if !includes_its_readme {
            documents.push(package.join("README.md"));
        }
    }

    let mut modules = String::new();
    for (index, document) in documents.iter().enumerate() {
        println!("cargo::rerun-if-changed={}", document.display());
        if document.is_file() {
            let name = document
                .strip_prefix(&workspace)
                .unwrap_or(document)
                .display()
                .to_string();
            writeln!(
                modules,
                "/// {name}\n#[doc = include_str!({document:?})]\npub mod document_{index} {{}}"
            )
            .expect("writing to a string does not fail");
        }
    }
    for folder in ["docs", "crates"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(folder).display()
        );
    }
    fs::write(
        Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("documents.rs"),
        modules,
    )
}

/// What is in a folder, sorted; nothing if there is no such folder.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
