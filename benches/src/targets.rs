//! What we want to reach: at most so much of a peer's time, or of a figure. Reports say which targets are held.

use std::fmt;

use crate::{figures::Figure, report::row::Row, statistics::Spread, suite::OURS};

/// A limit for one of our figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The group of the case.
    pub group: &'static str,
    /// The case within the group.
    pub case: String,
    /// What is limited.
    pub of: Of,
    /// The limit; reaching it is holding it.
    pub at_most: f64,
}

/// What a target limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The ratio of our time to this peer's, the median over the rounds.
    Peer(&'static str),
    /// A figure of ours that is no time.
    Figure(&'static str),
}

impl fmt::Display for Of {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(name) | Self::Figure(name) => formatter.write_str(name),
        }
    }
}

/// All targets, group by group.
pub fn all() -> Vec<Target> {
    let mut targets = Targets(Vec::new());
    errgroup(&mut targets);
    nursery(&mut targets);
    gather(&mut targets);
    cache(&mut targets);
    broadcast(&mut targets);
    targets.0
}

fn errgroup(targets: &mut Targets) {
    let mut of = |case: &str, limits: &[(&'static str, f64)]| targets.add("errgroup", case, limits);
    const VEC: &str = "Vec<Box<dyn Error>>";
    // First among the crates that keep a tree, in every case.
    const FIRST: [(&str, f64); 3] = [("exn", 1.0), ("error-stack", 1.0), ("rootcause", 1.0)];

    of("group of 1", &[(VEC, 2.2)]);
    of("group of 10", &[(VEC, 1.4)]);
    of("group of 1000", &[(VEC, 1.4)]);
    for case in [
        "group of 1",
        "group of 10",
        "group of 1000",
        "group of 10 failures",
        "collapse of 1000 levels",
        "happy path of 8 calls",
    ] {
        of(case, &FIRST);
    }
    of("split of 1000 leaves", &[("rootcause", 1.0)]);
    of("happy path of 8 calls", &[("Box<dyn Error>", 1.0)]);
}

fn nursery(targets: &mut Targets) {
    let mut of = |case: &str, limits: &[(&'static str, f64)]| targets.add("nursery", case, limits);
    const UNORDERED: &str = "FuturesUnordered<Box>";

    for work in ["ready", "one yield"] {
        for host in ["plain host", "tokio host"] {
            let case = |children: &str| format!("{children}, {work}, {host}");
            of(&case("1 child"), &[(UNORDERED, 1.0)]);
            of(&case("10 children"), &[(UNORDERED, 1.0)]);
            of(
                &case("1000 children"),
                &[(UNORDERED, 0.75), ("JoinSet", 0.25), ("moro", 0.25)],
            );
            of(&case("100000 children"), &[(UNORDERED, 1.0)]);
        }
    }
    of("a random wake among 10000", &[(UNORDERED, 1.1)]);
    of("cancelling 10000", &[("JoinSet", 0.3)]);
    for place in ["one thread", "2 threads"] {
        of(
            &format!("1000 children on tokio, {place}"),
            &[("JoinSet", 1.15)],
        );
    }
    // A child's own future is 16 bytes. The few allocations of the set itself are shared out among its thousand children.
    for (figure, at_most) in [
        ("bytes per child", 112.0 + 16.0),
        ("allocations per child", 1.01),
    ] {
        targets.figure(
            "nursery",
            "memory of 1000 pending children",
            figure,
            at_most,
        );
    }
}

fn gather(targets: &mut Targets) {
    targets.add(
        "gather",
        "1000 contexts, one yield on each side",
        &[("join_all twice", 1.4)],
    );
    targets.add("gather", "race of 2", &[("select", 1.5)]);
}

fn cache(targets: &mut Targets) {
    let mut of = |case: &str, limits: &[(&'static str, f64)]| targets.add("cache", case, limits);

    for keys in ["1 key", "10000 keys"] {
        let hit = format!("warm hit and release, {keys}");
        of(
            &format!("{hit}, 1 thread"),
            &[("moka get", 0.15), ("dashmap", 0.8)],
        );
        of(
            &format!("{hit}, 2 threads"),
            &[("moka get", 0.25), ("dashmap", 1.3)],
        );
        of(
            &format!("warm hit by slot, {keys}, 1 thread"),
            &[("dashmap", 0.3)],
        );
    }
    of(
        "cold cycle",
        &[("literal port", 0.3), ("moka, miss and invalidate", 0.2)],
    );
    of(
        "1000 openers of one key",
        &[("tokio OnceCell in a map", 0.9)],
    );
}

fn broadcast(targets: &mut Targets) {
    let mut of =
        |case: &str, limits: &[(&'static str, f64)]| targets.add("broadcast", case, limits);
    const ASYNC_BROADCAST: [&str; 2] = ["async-broadcast", "async-broadcast, overflow"];
    // Those that wrap a stream, as ours does.
    const WRAPPERS: [&str; 3] = ["stream-broadcast", "fork_stream", "stream_shared"];

    for subscribers in [64, 256, 1024] {
        let burst =
            |length: u32| format!("{subscribers} subscribers, bursts of {length}, u64, 1 thread");
        of(&burst(1), &[("tokio", 0.75)]);
        of(&burst(64), &[("tokio", 0.3)]);
        for peer in ASYNC_BROADCAST {
            of(&burst(1), &[(peer, 0.65)]);
            of(&burst(64), &[(peer, 0.45)]);
        }
        of(
            &burst(64),
            &[("stream-broadcast", 0.65), ("fork_stream", 0.65)],
        );
    }
    for length in [1, 64] {
        let alone = format!("1 subscribers, bursts of {length}, u64, 1 thread");
        of(&alone, &[("tokio, pump", 0.75)]);
        for peer in WRAPPERS {
            of(&alone, &[(peer, 1.0)]);
        }
        of(
            &format!("64 subscribers, bursts of {length}, u64, 2 threads"),
            &[("tokio", 0.6)],
        );
    }
    for peer in WRAPPERS {
        of("sole subscriber", &[(peer, 1.0)]);
    }
    of(
        "drain, ours by recv().await",
        &[("tokio, recv().await", 0.25)],
    );
    of("drain, ours by try_recv", &[("tokio, try_recv", 0.85)]);
    targets.figure("broadcast", "free-running producer", "values lost, %", 0.0);
}

/// A list that grows.
struct Targets(Vec<Target>);

impl Targets {
    /// Limits for ratios to some peers of a case.
    fn add(&mut self, group: &'static str, case: &str, limits: &[(&'static str, f64)]) {
        for (peer, at_most) in limits {
            self.0.push(Target {
                group,
                case: case.to_owned(),
                of: Of::Peer(peer),
                at_most: *at_most,
            });
        }
    }

    /// A limit for a figure of ours.
    fn figure(&mut self, group: &'static str, case: &str, name: &'static str, at_most: f64) {
        self.0.push(Target {
            group,
            case: case.to_owned(),
            of: Of::Figure(name),
            at_most,
        });
    }
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The ratio with its spread; a figure has none.
    pub measured: Spread,
    at_most: f64,
}

impl Target {
    /// Holds the target against what was measured; nothing if that was not.
    pub fn judge(&self, rows: &[Row]) -> Option<Judged> {
        let subject = match self.of {
            Of::Peer(peer) => peer,
            Of::Figure(_) => OURS,
        };
        let row = rows.iter().find(|row| {
            row.group == self.group && row.case == self.case && row.subject == subject
        })?;
        let measured = match self.of {
            Of::Peer(_) => row.ratio?,
            Of::Figure(name) => match row.figures.get(name)? {
                Figure::Number(number) => Spread {
                    low: *number,
                    median: *number,
                    high: *number,
                },
                Figure::Text(_) => return None,
            },
        };
        Some(Judged {
            measured,
            at_most: self.at_most,
        })
    }
}

impl Judged {
    /// Whether the median is at most the limit.
    pub fn is_held(&self) -> bool {
        self.measured.median <= self.at_most
    }

    /// `held` or `missed`, and whether the limit is within the spread.
    pub fn verdict(&self) -> String {
        let word = if self.is_held() { "held" } else { "missed" };
        let Spread { low, high, .. } = self.measured;
        if low <= self.at_most && self.at_most <= high && low < high {
            format!("{word}, narrowly")
        } else {
            word.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::Figures, groups};

    #[test]
    fn every_target_is_of_something_that_is_measured() {
        let groups = groups::all();
        for target in all() {
            let case = groups
                .iter()
                .filter(|group| group.name() == target.group)
                .flat_map(|group| group.cases())
                .find(|case| case.name() == target.case)
                .unwrap_or_else(|| panic!("no case for {target:?}"));
            let subject = match target.of {
                Of::Peer(peer) => peer,
                Of::Figure(_) => OURS,
            };
            let has_subject = case
                .subjects()
                .iter()
                .any(|candidate| candidate.name() == subject);
            assert!(has_subject, "nobody for {target:?}");
        }
    }

    #[test]
    fn no_target_is_there_twice() {
        let all = all();
        for (index, target) in all.iter().enumerate() {
            let same = |other: &&Target| {
                (other.group, &other.case, other.of) == (target.group, &target.case, target.of)
            };
            assert_eq!(all[index + 1..].iter().find(same), None);
        }
    }

    fn row(subject: &str, ratio: Option<[f64; 3]>, figures: Figures) -> Row {
        Row {
            group: "group".to_owned(),
            case: "case".to_owned(),
            subject: subject.to_owned(),
            rounds: 0,
            nanoseconds: None,
            per: "child".to_owned(),
            ratio: ratio.map(|[low, median, high]| Spread { low, median, high }),
            figures,
        }
    }

    fn judge(of: Of, at_most: f64) -> Option<String> {
        let target = Target {
            group: "group",
            case: "case".to_owned(),
            of,
            at_most,
        };
        let rows = [
            row(
                OURS,
                None,
                Figures::new().number("bytes", 96.0).text("safe", "yes"),
            ),
            row(
                "peer",
                Some([0.7, 0.75, 0.9]),
                Figures::new().number("bytes", 1.0),
            ),
            row("silent", None, Figures::new()),
        ];
        Some(target.judge(&rows)?.verdict())
    }

    #[test]
    fn a_ratio_is_held_up_to_the_limit() {
        for (at_most, verdict) in [
            (1.0, "held"),
            (0.8, "held, narrowly"),
            (0.75, "held, narrowly"),
            (0.74, "missed, narrowly"),
            (0.6, "missed"),
        ] {
            assert_eq!(judge(Of::Peer("peer"), at_most).as_deref(), Some(verdict));
        }
    }

    #[test]
    fn a_figure_is_ours() {
        assert_eq!(judge(Of::Figure("bytes"), 96.0).as_deref(), Some("held"));
        assert_eq!(judge(Of::Figure("bytes"), 95.0).as_deref(), Some("missed"));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        for of in [
            Of::Peer("silent"),
            Of::Peer("nobody"),
            Of::Figure("safe"),
            Of::Figure("none"),
        ] {
            assert_eq!(judge(of, 1.0), None, "{of:?}");
        }
    }
}
