//! `report.md`.

use crate::report::{Report, sections};

/// The whole report.
pub(super) fn document(report: &Report) -> String {
    let mut text = "# Measurements\n\n".to_owned();
    for fact in sections::facts(report) {
        text.push_str(&format!("- {fact}\n"));
    }
    // One sentence per line, as in all documents here.
    text.push_str(&format!(
        "\n{}\n",
        sections::EXPLANATION.replace(". ", ".\n")
    ));

    let (targets, summary) = sections::targets(report);
    if !targets.is_empty() {
        text.push_str(&format!(
            "\n## Targets\n\n{summary}\n\n{}",
            targets.markdown()
        ));
    }
    if let Some(comparison) = &report.comparison {
        text.push_str(&format!("\n## Against `{}`\n\n", comparison.name()));
        for line in comparison.lines() {
            text.push_str(&format!("- {line}\n"));
        }
    }
    for (group, entries) in report.groups() {
        text.push_str(&format!("\n## {group}\n"));
        text.push_str(&format!(
            "\n![The chart of the group {group}]({group}.svg)\n"
        ));
        let tables = [sections::medians(&entries), sections::spreads(&entries)];
        let [medians, spreads] = tables.map(|table| match table.is_empty() {
            true => String::new(),
            false => format!("\n{}", table.markdown()),
        });
        text.push_str(&medians);
        text.push_str("\nWhat is compared, and why that is fair:\n\n");
        for (cases, fair) in sections::fairness(&entries) {
            text.push_str(&format!("- {cases}: {fair}.\n"));
        }
        for table in entries.iter().filter_map(|entry| sections::figures(entry)) {
            text.push_str(&format!("\n{}", table.markdown()));
        }
        text.push_str(&spreads);
        for (subject, case, message) in sections::failures(&entries) {
            text.push_str(&format!("\n**{subject} failed in {case}**: {message}\n"));
        }
    }
    text
}
