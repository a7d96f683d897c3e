//! The reports of a run: `report.json` for programs, `report.md`, a chart per group and `report.html` for people.

mod html;
mod markdown;
pub(crate) mod numbers;
pub mod row;
mod sections;
mod table;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Group,
    against::Comparison,
    chart,
    measure::Outcome,
    report::row::Row,
    suite::{Case, Place},
};

/// All that has been measured so far. Everything is written again after each case, so that an interruption costs one case.
#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
    head: Head,
    entries: Vec<Entry>,
    comparison: Option<Comparison>,
}

/// What is known before the first figure.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The machine, the versions, how it is measured: a line each.
    pub facts: Vec<String>,
    /// What was asked for; nothing if all was.
    pub filters: Vec<String>,
    /// How many cases this run is to measure.
    pub planned: usize,
    /// How many cases there are.
    pub existing: usize,
}

/// A case with its figures.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) group: String,
    pub(crate) case: String,
    pub(crate) per: &'static str,
    pub(crate) fair: &'static str,
    pub(crate) place: Option<Place>,
    pub(crate) outcome: Outcome,
}

impl Entry {
    /// The series that the case belongs to.
    pub(crate) fn series(&self) -> Option<&String> {
        self.place.as_ref().map(|place| &place.series)
    }

    pub(crate) fn has_times(&self) -> bool {
        self.outcome
            .measured
            .iter()
            .any(|measured| measured.nanoseconds.is_some())
    }
}

impl Report {
    /// An empty report, written to `folder` at once: what is there from an earlier run must not pass for this one.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn begin(folder: &Path, head: Head) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "svg") {
                fs::remove_file(path)?;
            }
        }
        let report = Self {
            folder: folder.to_owned(),
            head,
            entries: Vec::new(),
            comparison: None,
        };
        report.write()?;
        Ok(report)
    }

    /// Adds what came out of a case, and writes the files.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn add(&mut self, group: &Group, case: &Case, outcome: Outcome) -> io::Result<()> {
        self.entries.push(Entry {
            group: group.name().to_owned(),
            case: case.name().to_owned(),
            per: case.per(),
            fair: case.fair(),
            place: case.place().cloned(),
            outcome,
        });
        self.write()
    }

    /// Compares with an earlier run, and writes the files.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn compare(&mut self, name: &str, earlier: &[Row]) -> io::Result<&Comparison> {
        let comparison = Comparison::of(name, earlier, &self.rows());
        self.comparison = Some(comparison);
        self.write()?;
        Ok(self.comparison.as_ref().expect("it was just put there"))
    }

    /// Copies the files to a folder of their own, which is made anew.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        for (name, text) in self.files() {
            fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    /// Whether any subject panicked.
    pub fn has_failures(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| !entry.outcome.failed.is_empty())
    }

    /// Whether all cases have been measured.
    pub fn is_complete(&self) -> bool {
        self.entries.len() == self.head.planned
    }

    /// `report.md`: tables of all that was measured.
    pub fn markdown(&self) -> String {
        markdown::document(self)
    }

    /// `report.json`: an array with an object per subject.
    pub fn json(&self) -> String {
        row::json(&self.rows())
    }

    /// The measured subjects of all cases, one after the other.
    fn rows(&self) -> Vec<Row> {
        let rows = self.entries.iter().flat_map(|entry| {
            entry.outcome.measured.iter().map(|measured| Row {
                group: entry.group.clone(),
                case: entry.case.clone(),
                subject: measured.subject.to_owned(),
                nanoseconds: measured.nanoseconds,
                per: entry.per.to_owned(),
                ratio: measured.ratio,
                figures: measured.figures.clone(),
            })
        });
        rows.collect()
    }

    /// The groups that have been measured, each with its cases.
    fn groups(&self) -> Vec<(&str, Vec<&Entry>)> {
        let mut groups: Vec<(&str, Vec<&Entry>)> = Vec::new();
        for entry in &self.entries {
            match groups.last_mut() {
                Some((group, entries)) if *group == entry.group => entries.push(entry),
                _ => groups.push((&entry.group, vec![entry])),
            }
        }
        groups
    }

    /// All files with their names.
    fn files(&self) -> Vec<(String, String)> {
        let charts: Vec<_> = self
            .groups()
            .into_iter()
            .filter_map(|(group, entries)| Some((group, chart::draw(group, &entries)?)))
            .collect();
        let mut files = vec![
            ("report.json".to_owned(), self.json()),
            ("report.md".to_owned(), self.markdown()),
            ("report.html".to_owned(), html::document(self, &charts)),
        ];
        let charts = charts
            .into_iter()
            .map(|(group, chart)| (format!("{group}.svg"), chart));
        files.extend(charts);
        files
    }

    fn write(&self) -> io::Result<()> {
        for (name, text) in self.files() {
            replace(&self.folder.join(name), &text)?;
        }
        Ok(())
    }
}

/// Writes a file in one go: whoever reads it meanwhile sees the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{figures::Figures, measure::Measured, statistics::Spread};

    fn flat(median: f64) -> Spread {
        Spread {
            low: median / 2.0,
            median,
            high: median * 2.0,
        }
    }

    fn report() -> Report {
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
                    nanoseconds: Some(flat(4000.0)),
                    ratio: Some(flat(0.2)),
                    figures: Figures::new()
                        .number("bytes", 192.0)
                        .text("cleanup ran", "no"),
                },
                Measured {
                    subject: "silent",
                    nanoseconds: None,
                    ratio: None,
                    figures: Figures::new().text("cleanup ran", "no"),
                },
            ],
            failed: vec![("other", "out of luck\nat length".to_owned())],
        };
        let entry = Entry {
            group: "group".to_owned(),
            case: "a \"case\"".to_owned(),
            per: "child",
            fair: "it is",
            place: None,
            outcome,
        };
        let head = Head {
            facts: vec!["a machine".to_owned()],
            filters: vec!["group".to_owned()],
            planned: 2,
            existing: 9,
        };
        Report {
            folder: PathBuf::new(),
            head,
            entries: vec![entry],
            comparison: None,
        }
    }

    #[test]
    fn json_has_an_object_per_subject_and_ratios_for_peers() {
        let expected = r#"[
  {"group": "group", "case": "a \"case\"", "subject": "trionics", "median_ns": 80.000, "low_ns": 40.000, "high_ns": 160.000, "per": "child", "figures": {"bytes": 96.000}},
  {"group": "group", "case": "a \"case\"", "subject": "peer", "median_ns": 4000.000, "low_ns": 2000.000, "high_ns": 8000.000, "per": "child", "ratio": 0.20000, "ratio_low": 0.10000, "ratio_high": 0.40000, "figures": {"bytes": 192.000, "cleanup ran": "no"}},
  {"group": "group", "case": "a \"case\"", "subject": "silent", "median_ns": null, "low_ns": null, "high_ns": null, "per": "child", "ratio": null, "ratio_low": null, "ratio_high": null, "figures": {"cleanup ran": "no"}}
]
"#;
        assert_eq!(report().json(), expected);
    }

    #[test]
    fn json_is_read_back() {
        let report = report();
        assert_eq!(row::parse(&report.json()), Ok(report.rows()));
    }

    #[test]
    fn a_report_of_nothing_is_valid() {
        let report = Report {
            entries: Vec::new(),
            ..report()
        };
        assert_eq!(report.json(), "[]\n");
        assert!(report.markdown().contains("0 of 2 cases"));
        assert!(html::document(&report, &[]).contains("</html>"));
    }

    #[test]
    fn markdown_shows_medians_side_by_side() {
        let text = report().markdown();
        let lines: Vec<_> = text.lines().collect();
        for expected in [
            "- a machine",
            "- Only what `group` picks: 2 of 9 cases.",
            "- **Not complete: 1 of 2 cases were measured.**",
            "![The chart of the group group](group.svg)",
            "| case     | per   | trionics | peer               | other  |",
            "| a \"case\" | child | 80 ns    | 4 µs (ratio 0.200) | failed |",
            "- a \"case\": it is.",
            "| a \"case\" | peer     | 4 µs   | 2 µs  | 8 µs   | 0.200 | 0.100 | 0.400 |",
            "| peer     | 192 (ratio 0.500) | no          |",
            "**other failed in a \"case\"**: out of luck",
        ] {
            assert!(lines.contains(&expected), "{expected}\nis not in\n{text}");
        }
    }

    #[test]
    fn html_holds_tables_and_charts_in_one_file() {
        let report = report();
        let (_, html) = report
            .files()
            .into_iter()
            .find(|(name, _)| name == "report.html")
            .expect("there is one");
        for expected in [
            "<!doctype html>",
            "a machine",
            "<svg ",
            "<td>a &quot;case&quot;</td>",
            "4 µs (ratio 0.200)",
            "it is.",
            "out of luck",
        ] {
            assert!(html.contains(expected), "{expected}\nis not in\n{html}");
        }
        // Nothing is to be fetched from anywhere.
        for outside in ["<link", "<script", "src=", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn all_four_kinds_of_files_are_there_from_the_beginning_and_after_each_case() {
        let folder = std::env::temp_dir().join(format!("trionics-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("old.svg"), "<svg/>").unwrap();
        let names = || {
            let mut names: Vec<_> = folder
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let head = Head {
            planned: 1,
            ..report().head
        };
        let mut written = Report::begin(&folder, head).unwrap();
        assert_eq!(names(), ["report.html", "report.json", "report.md"]);
        assert!(!written.is_complete());

        let group = Group::new("group");
        let case = Case::new("case", "op", 1, "").lasting(Duration::from_secs(1));
        let outcome = report().entries.remove(0).outcome;
        written.add(&group, &case, outcome).unwrap();
        assert_eq!(
            names(),
            ["group.svg", "report.html", "report.json", "report.md"]
        );
        assert!(written.is_complete() && written.has_failures());

        let saved = folder.join("saved/name");
        written.save(&saved).unwrap();
        let json = fs::read_to_string(saved.join("report.json")).unwrap();
        assert_eq!(json, written.json());
        assert!(saved.join("group.svg").is_file());
        fs::remove_dir_all(folder).unwrap();
    }
}
