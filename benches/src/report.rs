//! The reports: `report.json` for programs, `report.md` for people.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    figures::Figure,
    measure::{Measured, Outcome},
    statistics::Spread,
    suite::{Case, OURS},
};

/// All that has been measured so far. It is written again after each case, so that an interruption costs one case.
#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
    preface: Vec<String>,
    planned: usize,
    entries: Vec<Entry>,
}

/// A case with its figures.
#[derive(Debug)]
struct Entry {
    group: String,
    case: String,
    per: &'static str,
    fair: &'static str,
    outcome: Outcome,
}

impl Report {
    /// An empty report, written to `folder` at once: what is there from an earlier run must not pass for this one.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn begin(folder: &Path, preface: Vec<String>, planned: usize) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let report = Self {
            folder: folder.to_owned(),
            preface,
            planned,
            entries: Vec::new(),
        };
        report.write()?;
        Ok(report)
    }

    /// Adds what came out of a case, and writes the files.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn add(&mut self, group: &str, case: &Case, outcome: Outcome) -> io::Result<()> {
        self.entries.push(Entry {
            group: group.to_owned(),
            case: case.name().to_owned(),
            per: case.per(),
            fair: case.fair(),
            outcome,
        });
        self.write()
    }

    /// Whether any subject panicked.
    pub fn has_failures(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| !entry.outcome.failed.is_empty())
    }

    fn write(&self) -> io::Result<()> {
        replace(&self.folder.join("report.json"), &self.json())?;
        replace(&self.folder.join("report.md"), &self.markdown())
    }

    /// An array with an object per subject.
    pub fn json(&self) -> String {
        let mut objects = Vec::new();
        for entry in &self.entries {
            for measured in &entry.outcome.measured {
                let [median, low, high] = json_spread(measured.nanoseconds, 3);
                let mut object = format!(
                    "{{\"group\": {}, \"case\": {}, \"subject\": {}, \"median_ns\": {median}, \"low_ns\": {low}, \
                     \"high_ns\": {high}, \"per\": {}",
                    quoted(&entry.group),
                    quoted(&entry.case),
                    quoted(measured.subject),
                    quoted(entry.per),
                );
                if measured.subject != OURS {
                    let [median, low, high] = json_spread(measured.ratio, 5);
                    let ratio = format!(
                        ", \"ratio\": {median}, \"ratio_low\": {low}, \"ratio_high\": {high}"
                    );
                    object.push_str(&ratio);
                }
                if !measured.figures.is_empty() {
                    let figures: Vec<_> = measured
                        .figures
                        .iter()
                        .map(|(name, figure)| match figure {
                            Figure::Number(number) => format!("{}: {number:.3}", quoted(name)),
                            Figure::Text(text) => format!("{}: {}", quoted(name), quoted(text)),
                        })
                        .collect();
                    object.push_str(&format!(", \"figures\": {{{}}}", figures.join(", ")));
                }
                object.push('}');
                objects.push(object);
            }
        }
        if objects.is_empty() {
            "[]\n".to_owned()
        } else {
            format!("[\n  {}\n]\n", objects.join(",\n  "))
        }
    }

    /// Per group a table of the medians, side by side, and one of the spreads.
    pub fn markdown(&self) -> String {
        let mut text = "# Measurements\n\n".to_owned();
        for fact in &self.preface {
            text.push_str(&format!("- {fact}\n"));
        }
        if self.entries.len() < self.planned {
            let done = self.entries.len();
            text.push_str(&format!(
                "- **Not complete: {done} of {} cases were measured.**\n",
                self.planned
            ));
        }
        text.push_str(EXPLANATION);

        let mut groups: Vec<&str> = self
            .entries
            .iter()
            .map(|entry| entry.group.as_str())
            .collect();
        groups.dedup();
        for group in groups {
            let entries: Vec<_> = self
                .entries
                .iter()
                .filter(|entry| entry.group == group)
                .collect();
            text.push_str(&format!("\n## {group}\n\n"));
            text.push_str(&medians(&entries));
            text.push('\n');
            for entry in &entries {
                text.push_str(&format!("- {}: {}.\n", entry.case, entry.fair));
            }
            text.push('\n');
            text.push_str(&spreads(&entries));
            for entry in &entries {
                text.push_str(&figures(entry));
            }
            for entry in &entries {
                for (subject, message) in &entry.outcome.failed {
                    let message = message.lines().next().unwrap_or_default();
                    text.push_str(&format!(
                        "\n**{subject} failed in {}**: {message}\n",
                        entry.case
                    ));
                }
            }
        }
        text
    }
}

const EXPLANATION: &str = "
Times are medians over the rounds, in nanoseconds per unit. A ratio is the time of trionics divided by the peer's in the same
round, the median over the rounds: below 1 trionics is the faster one. The spread is from the 10th to the 90th percentile.
Compare within a row only, and trust ratios more than times.
";

/// Median, low and high as JSON numbers, or nulls.
fn json_spread(spread: Option<Spread>, digits: usize) -> [String; 3] {
    match spread {
        Some(Spread { low, median, high }) => {
            [median, low, high].map(|number| format!("{number:.digits$}"))
        }
        None => ["null"; 3].map(str::to_owned),
    }
}

/// A row per case, a column per subject.
fn medians(entries: &[&Entry]) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for entry in entries {
        let measured = entry
            .outcome
            .measured
            .iter()
            .map(|measured| measured.subject);
        for subject in measured.chain(entry.outcome.failed.iter().map(|(subject, _)| *subject)) {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
    }
    let mut rows = vec![
        ["case", "per"]
            .into_iter()
            .chain(subjects.iter().copied())
            .map(str::to_owned)
            .collect(),
    ];
    for entry in entries {
        let mut row = vec![entry.case.clone(), entry.per.to_owned()];
        for subject in &subjects {
            let measured = entry
                .outcome
                .measured
                .iter()
                .find(|measured| measured.subject == *subject);
            row.push(match measured {
                Some(Measured {
                    nanoseconds: Some(nanoseconds),
                    ratio: Some(ratio),
                    ..
                }) => {
                    format!(
                        "{} (ratio {})",
                        figure(nanoseconds.median),
                        figure(ratio.median)
                    )
                }
                Some(Measured {
                    nanoseconds: Some(nanoseconds),
                    ..
                }) => figure(nanoseconds.median),
                Some(Measured {
                    nanoseconds: None, ..
                }) => "–".to_owned(),
                None if entry
                    .outcome
                    .failed
                    .iter()
                    .any(|(failed, _)| failed == subject) =>
                {
                    "failed".to_owned()
                }
                None => "–".to_owned(),
            });
        }
        rows.push(row);
    }
    table(&rows)
}

/// A row per case and subject.
fn spreads(entries: &[&Entry]) -> String {
    let header = [
        "case", "subject", "median", "low", "high", "ratio", "low", "high",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for entry in entries {
        for measured in &entry.outcome.measured {
            let Some(Spread { low, median, high }) = measured.nanoseconds else {
                continue;
            };
            let mut row = vec![
                entry.case.clone(),
                measured.subject.to_owned(),
                figure(median),
                figure(low),
                figure(high),
            ];
            match measured.ratio {
                Some(Spread { low, median, high }) => {
                    row.extend([figure(median), figure(low), figure(high)])
                }
                None => row.extend(["", "", ""].map(str::to_owned)),
            }
            rows.push(row);
        }
    }
    table(&rows)
}

/// What is said of the subjects beside their times: a row per subject, numbers with the ratio of ours to theirs.
fn figures(entry: &Entry) -> String {
    let mut names: Vec<&str> = Vec::new();
    for measured in &entry.outcome.measured {
        for (name, _) in measured.figures.iter() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let ours = entry
        .outcome
        .measured
        .iter()
        .find(|measured| measured.subject == OURS);
    let mut rows = vec![
        [entry.case.as_str()]
            .into_iter()
            .chain(names.iter().copied())
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    ];
    for measured in &entry.outcome.measured {
        let mut row = vec![measured.subject.to_owned()];
        for name in &names {
            let our_own = ours.and_then(|ours| ours.figures.get(name));
            row.push(match (measured.figures.get(name), our_own) {
                (None, _) => "–".to_owned(),
                (Some(Figure::Text(text)), _) => text.clone(),
                (Some(Figure::Number(theirs)), Some(Figure::Number(ours)))
                    if measured.subject != OURS && *theirs != 0.0 =>
                {
                    format!("{} (ratio {})", figure(*theirs), figure(ours / theirs))
                }
                (Some(Figure::Number(number)), _) => figure(*number),
            });
        }
        rows.push(row);
    }
    format!("\n{}", table(&rows))
}

/// A Markdown table, its columns as wide in the text as they need to be. The first row is the header.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            write!(
                text,
                "| {}{} ",
                cell.replace('|', "\\|"),
                " ".repeat(width - cell.chars().count())
            )
            .expect("writing to a string does not fail");
        }
        text.push_str("|\n");
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&format!("|{}|\n", rules.join("|")));
        }
    }
    text
}

/// Three digits that matter.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a file in one go: whoever reads it meanwhile sees the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    fn report() -> Report {
        let flat = |median| Spread {
            low: median / 2.0,
            median,
            high: median * 2.0,
        };
        let outcome = Outcome {
            rounds: 3,
            measured: vec![
                Measured {
                    subject: "trionics",
                    nanoseconds: Some(flat(80.0)),
                    ratio: None,
                    figures: Figures::new().number("bytes", 96.0),
                },
                Measured {
                    subject: "peer",
                    nanoseconds: Some(flat(400.0)),
                    ratio: Some(flat(0.2)),
                    figures: Figures::new()
                        .number("bytes", 192.0)
                        .text("cleanup ran", "no"),
                },
            ],
            failed: vec![("other", "out of luck\nat length".to_owned())],
        };
        let entry = Entry {
            group: "group".to_owned(),
            case: "a \"case\"".to_owned(),
            per: "child",
            fair: "it is",
            outcome,
        };
        Report {
            folder: PathBuf::new(),
            preface: vec!["a machine".to_owned()],
            planned: 2,
            entries: vec![entry],
        }
    }

    #[test]
    fn json_has_an_object_per_subject_and_ratios_for_peers() {
        let expected = r#"[
  {"group": "group", "case": "a \"case\"", "subject": "trionics", "median_ns": 80.000, "low_ns": 40.000, "high_ns": 160.000, "per": "child", "figures": {"bytes": 96.000}},
  {"group": "group", "case": "a \"case\"", "subject": "peer", "median_ns": 400.000, "low_ns": 200.000, "high_ns": 800.000, "per": "child", "ratio": 0.20000, "ratio_low": 0.10000, "ratio_high": 0.40000, "figures": {"bytes": 192.000, "cleanup ran": "no"}}
]
"#;
        assert_eq!(report().json(), expected);
    }

    #[test]
    fn a_report_of_nothing_is_valid_json() {
        assert_eq!(
            Report {
                entries: Vec::new(),
                ..report()
            }
            .json(),
            "[]\n"
        );
    }

    #[test]
    fn markdown_shows_medians_side_by_side() {
        let text = report().markdown();
        let lines: Vec<_> = text.lines().collect();
        for expected in [
            "- a machine",
            "- **Not complete: 1 of 2 cases were measured.**",
            "| case     | per   | trionics | peer              | other  |",
            "| a \"case\" | child | 80.0     | 400 (ratio 0.200) | failed |",
            "- a \"case\": it is.",
            "| a \"case\" | peer     | 400    | 200  | 800  | 0.200 | 0.100 | 0.400 |",
            "| peer     | 192 (ratio 0.500) | no          |",
            "**other failed in a \"case\"**: out of luck",
        ] {
            assert!(lines.contains(&expected), "{expected}\nis not in\n{text}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quoted("a\n\\\u{1}"), r#""a\u000a\\\u0001""#);
    }
}
