//! Whether the crates can replace those of the last release.

use std::process::Command;

use crate::workspace;

/// The step that compares; the tool is not a part of cargo.
pub(crate) const TOOL: &str = "semver-checks";

/// The tag of the last release, if there is one.
pub(crate) fn last_release() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"])
        .current_dir(workspace())
        .output()
        .ok()?;
    let tag = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !tag.is_empty()).then_some(tag)
}
