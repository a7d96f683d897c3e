//! The crates that are published, and what their manifests say.

use std::{fs, path::PathBuf};

use crate::workspace;

/// In the order of release: each depends only on crates before it.
pub(crate) const PUBLISHED: &[&str] = &[
    "trionics-broadcast",
    "trionics-errgroup",
    "trionics-nursery",
    "trionics-gather",
    "trionics-cache",
    "trionics",
];

/// The arguments that name them all to cargo.
pub(crate) fn of_published() -> String {
    PUBLISHED
        .iter()
        .map(|name| format!(" --package {name}"))
        .collect()
}

/// The folder of a published crate.
pub(crate) fn folder(name: &str) -> PathBuf {
    workspace().join("crates").join(name)
}

/// The version that all crates have.
pub(crate) fn version() -> Result<String, String> {
    value_in("workspace.package", "version")
}

/// The oldest compiler that will do, as `1.95`.
pub(crate) fn rust_version() -> Result<String, String> {
    value_in("workspace.package", "rust-version")
}

/// A text in the workspace's manifest.
fn value_in(section: &str, key: &str) -> Result<String, String> {
    let path = workspace().join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    entries(&text)
        .find(|entry| entry.section == section && entry.key == key)
        .map(|entry| entry.value.trim_matches('"').to_owned())
        .ok_or_else(|| format!("{} has no `{key}` in [{section}]", path.display()))
}

/// One line `key = value` of a manifest.
pub(crate) struct Entry<'a> {
    pub(crate) section: &'a str,
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
}

/// The entries of a manifest that is written in the usual way, an entry a line.
pub(crate) fn entries(manifest: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut section = "";
    manifest.lines().filter_map(move |line| {
        if let Some(rest) = line.strip_prefix('[') {
            section = rest
                .trim_end()
                .trim_end_matches(']')
                .trim_start_matches('[');
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let key = key.trim();
        let is_entry = !key.is_empty() && !key.starts_with('#') && !key.starts_with(' ');
        is_entry.then(|| Entry {
            section,
            key: key.split('.').next().unwrap_or(key),
            value: value.trim(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_is_published_unless_it_says_otherwise() {
        let mut folders: Vec<_> = fs::read_dir(workspace().join("crates"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                let manifest = fs::read_to_string(folder(name).join("Cargo.toml")).unwrap();
                !entries(&manifest).any(|entry| entry.key == "publish" && entry.value == "false")
            })
            .collect();
        folders.sort();
        let mut published = PUBLISHED.to_vec();
        published.sort();
        assert_eq!(folders, published);
    }

    #[test]
    fn a_manifest_is_read_line_by_line() {
        let manifest = "[package]\nname = \"a\"\n\n[dependencies]\n# b = \"1\"\nc.workspace = true\nd = { version = \"1\" }\n";
        let read: Vec<_> = entries(manifest)
            .map(|entry| (entry.section, entry.key, entry.value))
            .collect();
        assert_eq!(
            read,
            [
                ("package", "name", "\"a\""),
                ("dependencies", "c", "true"),
                ("dependencies", "d", "{ version = \"1\" }"),
            ]
        );
    }
}
