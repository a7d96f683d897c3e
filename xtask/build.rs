//! Collects the documents that are compiled as doctests: the README, `docs/*.md`, and each crate's README unless the crate
//! includes it itself. None of them is inside this package, so no package can break by leaving them out.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let docs = workspace.join("docs");
    let mut documents = vec![workspace.join("README.md")];
    documents.extend(
        entries(&docs)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|it| it == "md")),
    );
    let mut watched = vec![workspace.join("Cargo.toml"), docs];
    for package in entries(&workspace.join("crates"))? {
        let root = package.join("src/lib.rs");
        let includes_its_readme =
            fs::read_to_string(&root).is_ok_and(|text| text.contains("README.md"));
        if !includes_its_readme {
            documents.push(package.join("README.md"));
        }
        watched.push(root);
    }
    documents.retain(|document| document.is_file());

    let mut modules = String::new();
    for document in &documents {
        let name = document
            .strip_prefix(&workspace)
            .unwrap_or(document)
            .display()
            .to_string();
        let module = name
            .to_lowercase()
            .replace(|char: char| !char.is_ascii_alphanumeric(), "_");
        writeln!(
            modules,
            "/// {name}\n#[doc = include_str!({document:?})]\npub mod {module} {{}}"
        )
        .expect("writing to a string does not fail");
    }
    // A file that is not there would make the script run every time.
    for path in watched
        .iter()
        .chain(&documents)
        .filter(|path| path.exists())
    {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let output = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&output).join("documents.rs"), modules)
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
