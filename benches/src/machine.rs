//! What the figures were taken on: the machine, the compiler, the versions of the peers.

use std::{env, fs, path::Path, process::Command, thread};

/// A few lines of text, each a fact.
pub fn description() -> Vec<String> {
    let cores = thread::available_parallelism()
        .map_or_else(|_| "unknown".to_owned(), |count| count.to_string());
    let mut facts = vec![format!(
        "{} {}, {cores} cores, {}",
        env::consts::OS,
        env::consts::ARCH,
        processor()
    )];
    facts.extend(memory());
    facts.extend(load());
    facts.extend(compiler());
    facts.push("the system's allocator, for all subjects".to_owned());
    if ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"]
        .iter()
        .any(|name| env::var(name).is_ok_and(|value| value != "0"))
    {
        facts.push(
            "**`RUST_BACKTRACE` is set: what some peers spend on backtraces is in their times. `cargo xtask bench` unsets it.**"
                .to_owned(),
        );
    }
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    if let Ok(text) = fs::read_to_string(lock) {
        let versions = dependencies(&text, env!("CARGO_PKG_NAME"));
        if !versions.is_empty() {
            facts.push(format!("versions: {}", versions.join(", ")));
        }
    }
    facts
}

/// The processor's name, where the system tells it in Linux's way.
fn processor() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "a processor that has no name here".to_owned())
}

/// How much memory there is, where the system tells it in Linux's way.
fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!(
        "{:.1} GiB of memory",
        kibibytes / f64::from(1 << 20)
    ))
}

/// How busy the machine was, where the system tells it in Linux's way.
fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let average = text.split_whitespace().next()?;
    Some(format!(
        "load average at the start: {average} (other programs blur the figures)"
    ))
}

/// What the compiler says of itself.
fn compiler() -> Option<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

/// The dependencies of a package with their versions, from the text of a lock file.
fn dependencies(lock: &str, package: &str) -> Vec<String> {
    let packages: Vec<_> = lock.split("[[package]]").map(Entry::parse).collect();
    let Some(ours) = packages.iter().find(|entry| entry.name == package) else {
        return Vec::new();
    };
    ours.dependencies
        .iter()
        .map(
            |dependency| match packages.iter().find(|entry| entry.name == *dependency) {
                Some(entry) => format!("{} {}", entry.name, entry.version),
                // With several versions about, the lock file names the one that is meant.
                None => (*dependency).to_owned(),
            },
        )
        .collect()
}

/// A package of a lock file.
#[derive(Default)]
struct Entry<'text> {
    name: &'text str,
    version: &'text str,
    dependencies: Vec<&'text str>,
}

impl<'text> Entry<'text> {
    fn parse(text: &'text str) -> Self {
        let mut entry = Self::default();
        for line in text.lines() {
            let unquoted = |text: &'text str| text.trim_matches(|char| char == '"' || char == ',');
            if let Some(name) = line.strip_prefix("name = ") {
                entry.name = unquoted(name);
            } else if let Some(version) = line.strip_prefix("version = ") {
                entry.version = unquoted(version);
            } else if let Some(dependency) = line.strip_prefix(" \"") {
                entry.dependencies.push(unquoted(dependency));
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\n \"b\",\n \"c 3.1.0\",\n]\n\n\
            [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        assert_eq!(dependencies(lock, "a"), ["b 2.0.0", "c 3.1.0"]);
        assert!(dependencies(lock, "b").is_empty());
        assert!(dependencies(lock, "z").is_empty());
    }
}
