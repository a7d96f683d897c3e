//! What got slower since an earlier run, by more than the noise.
//!
//! A machine's speed drifts from run to run, so times of two runs cannot be compared. Ratios can: both subjects of a ratio
//! took turns in the same run. For each case the change is that of the ratio to each peer, and of these the median, so that one
//! peer that changed does not decide. The noise of a ratio is half of its spread over the rounds, from the 10th to the 90th
//! percentile, in both runs together. Only a change beyond the noise, and beyond [`LEAST`], counts.

use crate::{
    figures::Figure,
    report::{numbers::figure, row::Row},
    statistics::Spread,
    suite::OURS,
};

/// Smaller changes than this part come and go with where the linker and the system put things.
pub const LEAST: f64 = 0.08;
/// The same for times, where there is no peer to set them against.
pub const LEAST_OF_TIMES: f64 = 0.25;

/// How a run compares with an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    name: String,
    changes: Vec<Change>,
    /// Our cases that one of both runs lacks.
    n_lacking: usize,
}

/// How one of our figures has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `group/case`, and the figure if it is not the time.
    pub what: String,
    /// The new one divided by the old one, less 1: `0.2` is a fifth more.
    pub change: f64,
    /// By how much it changes by itself.
    pub noise: f64,
    /// What it is judged by.
    pub by: Judge,
}

/// What a change is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// So many ratios to peers, or to the floor.
    Ratios(usize),
    /// The times alone, as there is no peer.
    Times,
    /// A figure that is no time.
    Figure,
}

impl Change {
    /// Whether it got worse by more than the noise.
    pub fn is_slower(&self) -> bool {
        self.change > self.noise
    }

    /// Whether it got better by more than the noise, as a factor.
    pub fn is_faster(&self) -> bool {
        (1.0 + self.change).recip() - 1.0 > self.noise
    }
}

impl Comparison {
    /// Compares our cases that are in both runs.
    pub fn of(name: &str, earlier: &[Row], rows: &[Row]) -> Self {
        let mut comparison = Self {
            name: name.to_owned(),
            changes: Vec::new(),
            n_lacking: 0,
        };
        for new in rows.iter().filter(|row| row.subject == OURS) {
            let Some(old) = same(earlier, new) else {
                comparison.n_lacking += 1;
                continue;
            };
            comparison.changes.extend(time(old, new, earlier, rows));
            comparison.changes.extend(figures(old, new));
        }
        comparison.n_lacking += earlier
            .iter()
            .filter(|old| old.subject == OURS && same(rows, old).is_none())
            .count();
        comparison
    }

    /// What the earlier run is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether anything got worse by more than the noise.
    pub fn has_slower(&self) -> bool {
        self.changes.iter().any(Change::is_slower)
    }

    /// What has changed, the worst first, and how it was judged: a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by(|one, other| other.change.total_cmp(&one.change));
        let mut lines = Vec::new();
        let (mut n_slower, mut n_faster) = (0, 0);
        for change in changes {
            let word = if change.is_slower() {
                n_slower += 1;
                "**slower**"
            } else if change.is_faster() {
                n_faster += 1;
                "faster"
            } else {
                continue;
            };
            let word = match change.by {
                Judge::Figure if change.is_slower() => "**more**",
                Judge::Figure => "less",
                _ => word,
            };
            let by = match change.by {
                Judge::Ratios(1) => "by the ratio to its peer".to_owned(),
                Judge::Ratios(count) => format!("by the ratios to {count} peers"),
                Judge::Times => "by its time alone".to_owned(),
                Judge::Figure => "as counted".to_owned(),
            };
            lines.push(format!(
                "{word}: {}, {:+.0} %, noise {:.0} %, {by}",
                change.what,
                100.0 * change.change,
                100.0 * change.noise
            ));
        }
        let mut summary = format!(
            "{n_slower} slower, {n_faster} faster, {} the same within the noise",
            self.changes.len() - n_slower - n_faster
        );
        if self.n_lacking > 0 {
            summary.push_str(&format!("; {} cases are in one run only", self.n_lacking));
        }
        lines.insert(0, summary);
        lines.push(format!(
            "Judged by the ratios to the peers, as the machine's speed drifts between runs: the median of their changes counts where it \
             is beyond half of their spread in both runs together, and beyond {} %.",
            figure(100.0 * LEAST)
        ));
        lines
    }
}

/// The row of the same subject in the same case.
fn same<'rows>(rows: &'rows [Row], row: &Row) -> Option<&'rows Row> {
    rows.iter().find(|other| {
        other.group == row.group && other.case == row.case && other.subject == row.subject
    })
}

/// How our time in a case has changed, if both runs have it.
fn time(old: &Row, new: &Row, earlier: &[Row], rows: &[Row]) -> Option<Change> {
    let peers = rows
        .iter()
        .filter(|peer| peer.group == new.group && peer.case == new.case);
    let ratios: Vec<_> = peers
        .filter_map(|peer| Some((same(earlier, peer)?.ratio?, peer.ratio?)))
        .collect();
    let (pairs, least, by) = match ratios.len() {
        0 => {
            let times = vec![(old.nanoseconds?, new.nanoseconds?)];
            (times, LEAST_OF_TIMES, Judge::Times)
        }
        count => (ratios, LEAST, Judge::Ratios(count)),
    };
    let changes = pairs
        .iter()
        .map(|(old, new)| (new.median / old.median).ln());
    let noises = pairs
        .iter()
        .map(|(old, new)| half_spread(old).hypot(half_spread(new)));
    Some(Change {
        what: format!("{}/{}", new.group, new.case),
        change: median(changes).exp() - 1.0,
        noise: (median(noises).exp() - 1.0).max(least),
        by,
    })
}

/// How our figures that are no times have changed.
fn figures(old: &Row, new: &Row) -> Vec<Change> {
    let changes = new.figures.iter().filter_map(|(name, figure)| {
        let (Figure::Number(new_number), Some(Figure::Number(old_number))) =
            (figure, old.figures.get(name))
        else {
            return None;
        };
        let change = match (*old_number, *new_number) {
            (0.0, 0.0) => 0.0,
            (old, new) => new / old - 1.0,
        };
        Some(Change {
            what: format!("{}/{}, {name}", new.group, new.case),
            change,
            noise: LEAST,
            by: Judge::Figure,
        })
    });
    changes.collect()
}

/// Half of the way from low to high, on a logarithmic scale.
fn half_spread(spread: &Spread) -> f64 {
    (spread.high / spread.low).ln() / 2.0
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    Spread::of(numbers.collect()).median
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    /// A figure whose spread is so many percent to both sides.
    fn spread(median: f64, percent: f64) -> Option<Spread> {
        let part = 1.0 + percent / 100.0;
        Some(Spread {
            low: median / part,
            median,
            high: median * part,
        })
    }

    fn row(case: &str, subject: &str, nanoseconds: Option<Spread>, ratio: Option<Spread>) -> Row {
        Row {
            group: "group".to_owned(),
            case: case.to_owned(),
            subject: subject.to_owned(),
            nanoseconds,
            per: "op".to_owned(),
            ratio,
            figures: Figures::new(),
        }
    }

    /// A run in which our time is `time`, with ratios to some peers of a given spread.
    fn run(time: f64, ratios: &[f64], percent: f64) -> Vec<Row> {
        let peers = ["a", "b", "c", "d"];
        let mut rows = vec![row("case", OURS, spread(time, percent), None)];
        for (peer, ratio) in peers.into_iter().zip(ratios) {
            let theirs = spread(time / ratio, percent);
            rows.push(row("case", peer, theirs, spread(*ratio, percent)));
        }
        rows
    }

    fn judge(old: &[Row], new: &[Row]) -> (bool, bool) {
        let comparison = Comparison::of("old", old, new);
        let [change] = &comparison.changes[..] else {
            panic!("{comparison:?}")
        };
        assert_eq!(change.is_slower(), comparison.has_slower());
        (change.is_slower(), change.is_faster())
    }

    const SLOWER: (bool, bool) = (true, false);
    const FASTER: (bool, bool) = (false, true);
    const SAME: (bool, bool) = (false, false);

    #[test]
    fn a_change_beyond_the_noise_is_seen_both_ways() {
        let old = run(100.0, &[0.5, 0.8], 2.0);
        let new = run(130.0, &[0.65, 1.04], 2.0);
        assert_eq!(judge(&old, &new), SLOWER);
        assert_eq!(judge(&new, &old), FASTER);
        assert_eq!(judge(&old, &old), SAME);
    }

    #[test]
    fn a_machine_that_got_slower_is_not_our_fault() {
        let old = run(100.0, &[0.5, 0.8], 2.0);
        let new = run(300.0, &[0.5, 0.8], 2.0);
        assert_eq!(judge(&old, &new), SAME);
    }

    #[test]
    fn we_got_slower_while_the_machine_got_faster() {
        let old = run(100.0, &[0.5, 0.8], 2.0);
        let new = run(80.0, &[0.7, 1.1], 2.0);
        assert_eq!(judge(&old, &new), SLOWER);
    }

    #[test]
    fn a_change_within_the_spread_is_noise() {
        let old = run(100.0, &[0.5, 0.8], 20.0);
        let new = run(100.0, &[0.6, 0.96], 20.0);
        assert_eq!(judge(&old, &new), SAME);
        let new = run(100.0, &[0.7, 1.12], 20.0);
        assert_eq!(judge(&old, &new), SLOWER);
    }

    #[test]
    fn however_small_the_spread_some_percent_are_noise() {
        let old = run(100.0, &[0.5], 0.1);
        let new = run(100.0, &[0.5 * 1.07], 0.1);
        assert_eq!(judge(&old, &new), SAME);
        let new = run(100.0, &[0.5 * 1.09], 0.1);
        assert_eq!(judge(&old, &new), SLOWER);
    }

    #[test]
    fn one_peer_that_changed_does_not_decide() {
        let old = run(100.0, &[0.5, 0.8, 0.9], 2.0);
        let new = run(100.0, &[0.5, 0.8, 2.7], 2.0);
        assert_eq!(judge(&old, &new), SAME);
    }

    #[test]
    fn without_a_peer_times_are_judged_but_mildly() {
        let old = run(100.0, &[], 2.0);
        assert_eq!(judge(&old, &run(120.0, &[], 2.0)), SAME);
        assert_eq!(judge(&old, &run(130.0, &[], 2.0)), SLOWER);
    }

    #[test]
    fn figures_that_grow_count_as_slower() {
        let mut old = run(100.0, &[0.5], 2.0);
        let mut new = old.clone();
        old[0].figures = Figures::new().number("bytes", 96.0).text("safe", "yes");
        new[0].figures = Figures::new().number("bytes", 112.0).text("safe", "no");
        // A peer's memory is the peer's.
        old[1].figures = Figures::new().number("bytes", 1.0);
        new[1].figures = Figures::new().number("bytes", 100.0);
        let comparison = Comparison::of("old", &old, &new);
        assert!(comparison.has_slower());
        let lines = comparison.lines();
        assert_eq!(lines[0], "1 slower, 0 faster, 1 the same within the noise");
        assert_eq!(
            lines[1],
            "**more**: group/case, bytes, +17 %, noise 8 %, as counted"
        );
    }

    #[test]
    fn cases_of_one_run_only_are_counted_and_not_judged() {
        let mut old = run(100.0, &[0.5], 2.0);
        let mut new = old.clone();
        old.push(row("gone", OURS, spread(1.0, 1.0), None));
        new.push(row("new", OURS, spread(1.0, 1.0), None));
        let comparison = Comparison::of("old", &old, &new);
        assert!(!comparison.has_slower());
        assert_eq!(
            comparison.lines()[0],
            "0 slower, 0 faster, 1 the same within the noise; 2 cases are in one run only"
        );
    }
}
