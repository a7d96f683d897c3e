//! The part of `docs/benchmarks.md` that a run replaces, and the charts beside it.

use std::{fs, io, path::Path};

use crate::report::{Report, replace, sections, table::plain};

const BEGIN: &str =
    "<!-- What follows up to the end mark is written by `cargo xtask bench --publish`. -->";
const END: &str = "<!-- The end of what is written by `cargo xtask bench --publish`. -->";

/// Puts the report's facts, charts, medians and targets into `benchmarks.md` in the folder, and the charts into `benchmarks/`.
pub(super) fn publish(report: &Report, folder: &Path) -> io::Result<()> {
    let page = folder.join("benchmarks.md");
    let text = fs::read_to_string(&page)?;
    let text = between_marks(&text, &part(report)).ok_or_else(|| {
        io::Error::other(format!(
            "{} has no marks between which figures could go",
            page.display()
        ))
    })?;
    let charts = folder.join("benchmarks");
    fs::create_dir_all(&charts)?;
    for (group, chart) in report.charts() {
        replace(&charts.join(format!("{group}.svg")), &chart)?;
    }
    replace(&page, &text)
}

/// What stands between the marks.
fn part(report: &Report) -> String {
    let mut text = "## The latest figures\n\n".to_owned();
    for fact in sections::facts(report) {
        text.push_str(&format!("- {fact}\n"));
    }
    for (group, entries) in report.groups() {
        text.push_str(&format!("\n### {group}\n"));
        if entries.iter().any(|entry| entry.has_times()) {
            text.push_str(&format!(
                "\n![Times of the group {group}, by size and subject](benchmarks/{group}.svg)\n"
            ));
            text.push_str(&format!("\n{}", sections::medians(&entries).markdown()));
        }
        text.push_str("\nWhat is compared, and why that is fair:\n\n");
        for (cases, fair) in sections::fairness(&entries) {
            text.push_str(&format!("- {}: {}.\n", plain(&cases), plain(fair)));
        }
        for table in entries.iter().filter_map(|entry| sections::figures(entry)) {
            text.push_str(&format!("\n{}", table.markdown()));
        }
    }
    let (targets, summary) = sections::targets(report);
    text.push_str(&format!(
        "\n## Targets\n\nOf our own {summary}\nA target is held narrowly, or missed narrowly, where the limit is within the spread.\n\n{}",
        targets.markdown()
    ));
    text
}

/// The text with something else between its marks; nothing if it has none.
fn between_marks(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{part}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_replaced() {
        let text = format!("# Title\n\n{BEGIN}\nold\n{END}\n\n## More\n");
        let first = between_marks(&text, "new\n").expect("it has marks");
        assert_eq!(
            first,
            format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\n## More\n")
        );
        assert_eq!(between_marks(&first, "new\n"), Some(first));
    }

    #[test]
    fn a_text_without_marks_is_left_alone() {
        for text in ["", BEGIN, END, &format!("{END}{BEGIN}")] {
            assert_eq!(between_marks(text, "new"), None);
        }
    }

    #[test]
    fn the_page_has_its_marks() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
        let text = fs::read_to_string(page).expect("the page is there");
        assert!(between_marks(&text, "").is_some());
    }
}
