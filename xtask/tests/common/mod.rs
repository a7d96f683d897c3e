//! Where the files are that are looked at.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is there")
}

/// All files below a folder whose name ends so; hidden folders, build output and links are left out.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The folder of each crate that is published.
pub(crate) fn crates() -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join("crates")).expect("the crates are there");
    let folders: Vec<_> = entries
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    assert!(folders.len() >= 6, "{folders:?}");
    folders
}
