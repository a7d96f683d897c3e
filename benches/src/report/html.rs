//! `report.html`: tables and charts in one file that needs no other.

use crate::{
    chart::escaped,
    report::{Report, sections},
};

/// The whole report, with the charts of its groups.
pub(super) fn document(report: &Report, charts: &[(&str, String)]) -> String {
    let mut body = "<h1>Measurements</h1>\n<ul>\n".to_owned();
    for fact in sections::facts(report) {
        body.push_str(&format!("<li>{}</li>\n", inline(&fact)));
    }
    body.push_str(&format!(
        "</ul>\n<p>{}</p>\n",
        escaped(sections::EXPLANATION)
    ));

    let groups = report.groups();
    let links: Vec<_> = groups
        .iter()
        .map(|(group, _)| format!("<a href=\"#{group}\">{group}</a>"))
        .collect();
    body.push_str(&format!("<nav>{}</nav>\n", links.join(" · ")));

    let (targets, summary) = sections::targets(report);
    if !targets.is_empty() {
        body.push_str(&format!(
            "<h2>Targets</h2>\n<p>{}</p>\n{}",
            escaped(&summary),
            targets.html()
        ));
    }
    if let Some(comparison) = &report.comparison {
        body.push_str(&format!(
            "<h2>Against {}</h2>\n<ul>\n",
            escaped(comparison.name())
        ));
        for line in comparison.lines() {
            body.push_str(&format!("<li>{}</li>\n", inline(&line)));
        }
        body.push_str("</ul>\n");
    }
    for (group, entries) in groups {
        body.push_str(&format!("<h2 id=\"{group}\">{group}</h2>\n"));
        if let Some((_, chart)) = charts.iter().find(|(other, _)| *other == group) {
            body.push_str(&format!("<figure>\n{chart}</figure>\n"));
        }
        let medians = sections::medians(&entries);
        if !medians.is_empty() {
            body.push_str(&medians.html());
        }
        body.push_str("<p>What is compared, and why that is fair:</p>\n<ul>\n");
        for (cases, fair) in sections::fairness(&entries) {
            body.push_str(&format!(
                "<li><b>{}</b>: {}.</li>\n",
                escaped(&cases),
                escaped(fair)
            ));
        }
        body.push_str("</ul>\n");
        for table in entries.iter().filter_map(|entry| sections::figures(entry)) {
            body.push_str(&table.html());
        }
        for (subject, case, message) in sections::failures(&entries) {
            body.push_str(&format!(
                "<p class=\"missed\"><b>{} failed in {}</b>: {}</p>\n",
                escaped(subject),
                escaped(case),
                escaped(message)
            ));
        }
        let spreads = sections::spreads(&entries);
        if !spreads.is_empty() {
            body.push_str(&format!(
                "<details><summary>All figures of {group} with their spread</summary>\n{}</details>\n",
                spreads.html()
            ));
        }
    }
    format!("{HEAD}<body>\n{body}</body>\n</html>\n")
}

/// A line with Markdown's `code` and **strong** in it.
fn inline(line: &str) -> String {
    let mut text = String::new();
    for (index, part) in escaped(line).split("**").enumerate() {
        let part: String = part
            .split('`')
            .enumerate()
            .map(|(index, part)| match index % 2 {
                1 => format!("<code>{part}</code>"),
                _ => part.to_owned(),
            })
            .collect();
        match index % 2 {
            1 => text.push_str(&format!("<b>{part}</b>")),
            _ => text.push_str(&part),
        }
    }
    text
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Measurements of trionics</title>
<style>
  :root { color-scheme: light; }
  body { margin: 2rem auto; max-width: 1080px; padding: 0 1rem; background: #fff; color: #222;
    font: 15px/1.5 Helvetica, Arial, sans-serif; }
  h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; }
  figure { margin: 1rem 0; }
  figure svg { max-width: 100%; height: auto; }
  .wide { overflow-x: auto; margin: 1rem 0; }
  table { border-collapse: collapse; font-size: 13px; white-space: nowrap; font-variant-numeric: tabular-nums; }
  th, td { padding: 3px 10px; border-bottom: 1px solid #e4e4e4; text-align: left; }
  thead th { background: #f4f4f4; }
  .held { color: #117733; }
  .missed { color: #b00020; font-weight: bold; }
</style>
</head>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_strong_words_are_marked() {
        assert_eq!(
            inline("**a `b`** is `<c>` & d"),
            "<b>a <code>b</code></b> is <code>&lt;c&gt;</code> &amp; d"
        );
    }
}
