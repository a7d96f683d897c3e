//! A subject of a case as one flat row: what `report.json` is made of.

use crate::{
    figures::{Figure, Figures},
    json::{Value, quoted},
    statistics::Spread,
    suite::OURS,
};

/// What is known of a subject in a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The group.
    pub group: String,
    /// The case within the group.
    pub case: String,
    /// [`OURS`] or a peer's name.
    pub subject: String,
    /// How many rounds its times are the median of.
    pub rounds: usize,
    /// Nanoseconds per unit.
    pub nanoseconds: Option<Spread>,
    /// The unit.
    pub per: String,
    /// For a peer: our time divided by its time in the same round.
    pub ratio: Option<Spread>,
    /// What is said of it beside its times.
    pub figures: Figures,
}

/// The rows as a JSON array with an object per line.
pub(super) fn json(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "[]\n".to_owned();
    }
    let objects: Vec<_> = rows.iter().map(object).collect();
    format!("[\n  {}\n]\n", objects.join(",\n  "))
}

fn object(row: &Row) -> String {
    let mut fields = vec![
        ("group", quoted(&row.group)),
        ("case", quoted(&row.case)),
        ("subject", quoted(&row.subject)),
    ];
    fields.extend(spread(TIMES, row.nanoseconds, 3));
    fields.push(("per", quoted(&row.per)));
    if row.subject != OURS {
        fields.extend(spread(RATIOS, row.ratio, 5));
    }
    if row.nanoseconds.is_some() {
        fields.push(("rounds", row.rounds.to_string()));
    }
    if !row.figures.is_empty() {
        let figures = row.figures.iter().map(|(name, figure)| match figure {
            Figure::Number(number) => (name, format!("{number:.3}")),
            Figure::Text(text) => (name, quoted(text)),
        });
        fields.push(("figures", braced(figures)));
    }
    braced(fields.into_iter())
}

/// The names of a spread's three numbers.
const TIMES: [&str; 3] = ["median_ns", "low_ns", "high_ns"];
const RATIOS: [&str; 3] = ["ratio", "ratio_low", "ratio_high"];

fn spread(
    names: [&'static str; 3],
    spread: Option<Spread>,
    digits: usize,
) -> [(&'static str, String); 3] {
    let numbers = spread.map(|spread| [spread.median, spread.low, spread.high]);
    let mut index = 0;
    names.map(|name| {
        let number = numbers.map(|numbers| numbers[index]);
        index += 1;
        let text = number.map_or("null".to_owned(), |number| format!("{number:.digits$}"));
        (name, text)
    })
}

fn braced<'name>(fields: impl Iterator<Item = (&'name str, String)>) -> String {
    let fields: Vec<_> = fields
        .map(|(name, value)| format!("{}: {value}", quoted(name)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// Reads a `report.json`.
///
/// # Errors
///
/// If the text is not of that kind; says what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Row>, String> {
    let Value::List(objects) = Value::parse(text)? else {
        return Err("it is no list".to_owned());
    };
    objects.iter().map(row).collect()
}

fn row(object: &Value) -> Result<Row, String> {
    let text = |name: &str| {
        let text = object.get(name).and_then(Value::text);
        text.map(str::to_owned)
            .ok_or(format!("an object has no text `{name}`"))
    };
    let spread = |names: [&str; 3]| {
        let [median, low, high] = names.map(|name| object.get(name).and_then(Value::number));
        Some(Spread {
            low: low?,
            median: median?,
            high: high?,
        })
    };
    let mut figures = Figures::new();
    if let Some(Value::Object(fields)) = object.get("figures") {
        for (name, value) in fields {
            figures = match value {
                Value::Number(number) => figures.number(name, *number),
                Value::Text(text) => figures.text(name, text),
                _ => {
                    return Err(format!(
                        "the figure `{name}` is neither a number nor a text"
                    ));
                }
            };
        }
    }
    Ok(Row {
        group: text("group")?,
        case: text("case")?,
        subject: text("subject")?,
        rounds: object
            .get("rounds")
            .and_then(Value::number)
            .unwrap_or_default() as usize,
        nanoseconds: spread(TIMES),
        per: text("per")?,
        ratio: spread(RATIOS),
        figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_report_is_refused() {
        for (text, expected) in [
            ("{}", "it is no list"),
            ("[{\"group\": 1}]", "an object has no text `group`"),
            ("[", "character 2 begins no value"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }
}
