//! A table, for both kinds of documents.

use std::fmt::Write as _;

use crate::chart::escaped;

/// Rows below a header, all of the same length.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<Cell: Into<String>>(header: impl IntoIterator<Item = Cell>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.header.len(), "a cell for each column");
        self.rows.push(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its columns are as wide in the text as they need to be.
    pub(super) fn markdown(&self) -> String {
        let all = || [&self.header].into_iter().chain(&self.rows);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| all().map(|row| cell(&row[column]).chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for (index, row) in all().enumerate() {
            for (content, width) in row.iter().zip(&widths) {
                let content = cell(content);
                let space = " ".repeat(width - content.chars().count());
                write!(text, "| {content}{space} ").expect("writing to a string does not fail");
            }
            text.push_str("|\n");
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
                text.push_str(&format!("|{}|\n", rules.join("|")));
            }
        }
        text
    }

    pub(super) fn html(&self) -> String {
        let row = |cells: &[String], tag: &str| {
            let cells: String = cells
                .iter()
                .map(|cell| {
                    let class = match cell.as_str() {
                        verdict if verdict.starts_with("held") => " class=\"held\"",
                        verdict if verdict.starts_with("missed") => " class=\"missed\"",
                        _ => "",
                    };
                    format!("<{tag}{class}>{}</{tag}>", escaped(cell))
                })
                .collect();
            format!("<tr>{cells}</tr>\n")
        };
        let rows: String = self.rows.iter().map(|cells| row(cells, "td")).collect();
        format!(
            "<div class=\"wide\"><table>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
            row(&self.header, "th")
        )
    }
}

/// Text within a Markdown table: a bar would end the cell, an angle bracket begin a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["subject", "verdict"]);
        table.row(vec!["Box<F> | B".to_owned(), "held".to_owned()]);
        table.row(vec!["µ".to_owned(), "missed, by little".to_owned()]);
        table
    }

    #[test]
    fn markdown_is_aligned_and_escaped() {
        let expected = "\
| subject      | verdict           |
|--------------|-------------------|
| Box\\<F> \\| B | held              |
| µ            | missed, by little |
";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn html_marks_verdicts() {
        let html = table().html();
        for expected in [
            "<tr><th>subject</th><th>verdict</th></tr>",
            "<td>Box&lt;F&gt; | B</td><td class=\"held\">held</td>",
            "<td class=\"missed\">missed, by little</td>",
        ] {
            assert!(html.contains(expected), "{html}");
        }
    }
}
