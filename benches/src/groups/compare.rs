//! Whole programs, each written with tokio alone and with trionics: what each costs, how long it is, and whether it cleans up.
//!
//! Every program stands in a file of its own, and only these files are counted. What both sides of a comparison need (the
//! peers on the other side of the sockets, lines over a socket, a connection that can ask and say goodbye) is beside them
//! and belongs to neither. A program runs on a current-thread runtime, and its peer on another thread. The peer keeps the
//! books: each connection that was ever made is to end with a spoken goodbye, although the program is stopped in the midst
//! of its work.

use std::{
    fmt,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use crate::{Case, Group, OURS, allocations, figures::Figures, support::Host};

mod connection;
mod connections;
mod crawl;
mod feed;
mod floor;
mod peer;
mod site;
mod wire;

/// The group `compare`.
pub(super) fn group() -> Group {
    Group::new("compare")
        .case(feed::case())
        .case(crawl::case())
        .case(connections::case())
}

/// How a program is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Tokio,
    Trionics,
}

impl With {
    #[cfg(test)]
    const BOTH: [With; 2] = [With::Tokio, With::Trionics];
}

/// What came out of a run of a program.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// From the program's first step to its last, its cleanup included.
    time: Duration,
    goodbyes: Goodbyes,
}

/// How many connections said goodbye, of those that there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goodbyes {
    said: usize,
    of: usize,
}

impl fmt::Display for Goodbyes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Goodbyes { said, of } = self;
        write!(formatter, "{said} of {of}")
    }
}

/// The source of a program in both ways.
#[derive(Clone, Copy, Debug)]
struct Sources {
    tokio: &'static str,
    trionics: &'static str,
}

/// Adds both ways to a case, of which a run lasts a good part of a second.
fn compared(
    case: Case,
    sources: Sources,
    run: impl Fn(&Host, With) -> Run + Copy + 'static,
) -> Case {
    let ways = [
        (OURS, With::Trionics, sources.trionics),
        ("tokio", With::Tokio, sources.tokio),
    ];
    ways.into_iter().fold(case, |case, (name, with, source)| {
        case.timed_subject(name, move || {
            let host = Host::tokio();
            move |iterations| (0..iterations).map(|_| run(&host, with).time).sum()
        })
        .figures(name, move || {
            let host = Host::tokio();
            let (run, counted) = allocations::count(|| run(&host, with));
            Figures::new()
                .number("peak memory, KiB", counted.peak_bytes as f64 / 1024.0)
                .number("lines of code", n_lines_of_code(source) as f64)
                .text("goodbyes when cancelled", run.goodbyes.to_string())
        })
    })
}

/// Runs a program, and says how long it took.
///
/// # Panics
///
/// If it does not end: whatever a program waits for comes at once or never.
fn timed<T>(host: &Host, program: impl Future<Output = T>) -> (T, Duration) {
    host.run(async {
        let started = Instant::now();
        let ended = timeout(Duration::from_secs(60), program).await;
        (ended.expect("the program ends"), started.elapsed())
    })
}

/// The lines that are neither blank nor comments.
fn n_lines_of_code(source: &str) -> usize {
    let lines = source.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_code_are_counted() {
        let source = "//! A module.\n\nuse std::fmt; // and a comment\n\n    /// An item.\n    fn f() {\n        // Nothing.\n    }\n";
        assert_eq!(n_lines_of_code(source), 3);
    }
}
