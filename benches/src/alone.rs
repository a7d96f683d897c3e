//! A subject in a process of its own, for what only a whole process can tell: the peak of its memory.

use std::{env, fs, process::Command};

use crate::{figures::Figures, suite::Group};

/// The argument with which a measuring program starts itself for one subject; group, case and subject follow.
pub const ALONE: &str = "--alone";

/// Starts this program again with [`ALONE`], and returns what the process says of the subject.
///
/// # Errors
///
/// If the process cannot be started or fails.
pub fn figures(group: &str, case: &str, subject: &str) -> Result<Figures, String> {
    let program = env::current_exe().map_err(|error| format!("what runs here: {error}"))?;
    let output = Command::new(program)
        .args([ALONE, group, case, subject])
        .output()
        .map_err(|error| format!("a process of its own: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("alone in a process: {}", said.trim()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(match said.trim().parse::<f64>() {
        Ok(kibibytes) => Figures::new().number("peak memory, MiB", kibibytes / 1024.0),
        // The system does not tell.
        Err(_) => Figures::new(),
    })
}

/// What the process that [`figures`] starts does: one iteration of the subject. Returns what it is to print: by how much
/// the peak of the process's memory went up from before the set-up to the end, in KiB, or nothing if it is not known.
///
/// # Errors
///
/// If there is no such subject.
pub fn run(groups: &[Group], names: &[String]) -> Result<String, String> {
    let [group, case, subject] = names else {
        return Err(format!("{ALONE} wants a group, a case and a subject"));
    };
    let subject = groups
        .iter()
        .filter(|candidate| candidate.name() == group)
        .flat_map(Group::cases)
        .filter(|candidate| candidate.name() == case)
        .flat_map(|case| case.subjects())
        .find(|candidate| candidate.name() == subject)
        .ok_or_else(|| format!("there is no {group}/{case}: {subject}"))?;
    let before = peak();
    if let Some(mut turn) = subject.set_up() {
        turn(1);
    }
    Ok(match (before, peak()) {
        (Some(before), Some(after)) => (after - before).to_string(),
        _ => String::new(),
    })
}

/// The most memory that this process has had at once, in KiB, where the system tells it in Linux's way.
fn peak() -> Option<u64> {
    high_water_mark(&fs::read_to_string("/proc/self/status").ok()?)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Case, OURS};

    #[test]
    fn the_high_water_mark_is_read_from_the_status() {
        let status =
            "Name:\tmeasure\nVmPeak:\t   99999 kB\nVmHWM:\t    4321 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(high_water_mark(status), Some(4321));
        assert_eq!(high_water_mark("Name:\tmeasure\n"), None);
    }

    #[test]
    fn memory_that_is_touched_shows() {
        if peak().is_none() {
            return;
        }
        let case = Case::new("case", "op", 1, "")
            .subject(OURS, || || std::hint::black_box(vec![1_u8; 64 << 20]));
        let groups = [Group::new("group").case(case)];
        let names = ["group", "case", OURS].map(str::to_owned);
        let kibibytes: u64 = run(&groups, &names)
            .expect("it is there")
            .parse()
            .expect("a number");
        assert!(kibibytes > 60 << 10, "{kibibytes}");
    }

    #[test]
    fn who_is_not_there_is_named() {
        let names = ["group", "case", "nobody"].map(str::to_owned);
        assert_eq!(
            run(&[], &names).unwrap_err(),
            "there is no group/case: nobody"
        );
    }
}
