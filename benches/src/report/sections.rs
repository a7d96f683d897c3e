//! What both documents say, group by group.

use crate::{
    measure::Measured,
    report::{
        Entry, Report,
        numbers::{figure, grouped, time},
        table::Table,
    },
    statistics::Spread,
    suite::OURS,
    targets,
};

/// How to read the tables.
pub(super) const EXPLANATION: &str = "\
Times are medians over the rounds, per unit of work. \
A ratio is the time of trionics divided by the peer's in the same round, the median over the rounds: below 1 trionics is the faster one. \
Low and high are the 10th and the 90th percentile. \
Compare within a row only, and trust ratios more than times.";

/// The machine, and what the report is not.
pub(super) fn facts(report: &Report) -> Vec<String> {
    let head = &report.head;
    let mut facts = head.facts.clone();
    if !head.filters.is_empty() {
        let filters: Vec<_> = head
            .filters
            .iter()
            .map(|filter| format!("`{filter}`"))
            .collect();
        facts.push(format!(
            "Only what {} picks: {} of {} cases.",
            filters.join(", "),
            head.planned,
            head.existing
        ));
    }
    if !report.is_complete() {
        facts.push(format!(
            "**Not complete: {} of {} cases were measured.**",
            report.entries.len(),
            head.planned
        ));
    }
    facts
}

/// The targets of what has been measured, and a line that counts them.
pub(super) fn targets(report: &Report) -> (Table, String) {
    let mut table = Table::new([
        "group", "case", "against", "at most", "measured", "low", "high", "verdict",
    ]);
    let rows = report.rows();
    let (mut n_held, mut n_missed, mut n_unknown) = (0, 0, 0);
    for target in targets::all() {
        let Some(judged) = target.judge(&rows) else {
            n_unknown += 1;
            continue;
        };
        if judged.is_held() {
            n_held += 1;
        } else {
            n_missed += 1;
        }
        let Spread { low, median, high } = judged.measured;
        table.row(vec![
            target.group.to_owned(),
            target.case.clone(),
            target.of.to_string(),
            figure(target.at_most),
            figure(median),
            figure(low),
            figure(high),
            judged.verdict(),
        ]);
    }
    let mut summary = format!("{n_held} held, {n_missed} missed");
    if n_unknown > 0 {
        summary.push_str(&format!(", {n_unknown} not measured in this run"));
    }
    (table, format!("{summary}."))
}

/// A row per case, a column per subject.
pub(super) fn medians(entries: &[&Entry]) -> Table {
    let entries: Vec<_> = entries.iter().filter(|entry| has_turns(entry)).collect();
    let mut subjects: Vec<&str> = Vec::new();
    for entry in &entries {
        let measured = entry
            .outcome
            .measured
            .iter()
            .filter(|measured| measured.nanoseconds.is_some())
            .map(|measured| measured.subject);
        for subject in measured.chain(entry.outcome.failed.iter().map(|(subject, _)| *subject)) {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
    }
    let mut table = Table::new(["case", "per"].into_iter().chain(subjects.iter().copied()));
    for entry in entries {
        let mut row = vec![entry.case.clone(), entry.per.to_owned()];
        row.extend(subjects.iter().map(|subject| median(entry, subject)));
        table.row(row);
    }
    table
}

/// Whether a case has times, or would have them if nobody had failed.
fn has_turns(entry: &Entry) -> bool {
    entry.has_times() || entry.outcome.measured.is_empty()
}

fn median(entry: &Entry, subject: &str) -> String {
    let outcome = &entry.outcome;
    if outcome.failed.iter().any(|(failed, _)| *failed == subject) {
        return "failed".to_owned();
    }
    let measured = outcome
        .measured
        .iter()
        .find(|measured| measured.subject == subject);
    match measured {
        Some(Measured {
            nanoseconds: Some(nanoseconds),
            ratio,
            ..
        }) => {
            let ratio = ratio.map(|ratio| format!(" (ratio {})", figure(ratio.median)));
            time(nanoseconds.median) + &ratio.unwrap_or_default()
        }
        _ => "–".to_owned(),
    }
}

/// What is compared and why that is fair: a line per text, with the cases that it is about.
pub(super) fn fairness(entries: &[&Entry]) -> Vec<(String, &'static str)> {
    let mut lines: Vec<(Vec<&str>, &'static str)> = Vec::new();
    for entry in entries {
        match lines.iter_mut().find(|(_, fair)| *fair == entry.fair) {
            Some((cases, _)) => cases.push(&entry.case),
            None => lines.push((vec![&entry.case], entry.fair)),
        }
    }
    lines
        .into_iter()
        .map(|(cases, fair)| match cases[..] {
            [case] => (case.to_owned(), fair),
            [first, second] => (format!("{first}; {second}"), fair),
            [first, ..] => (format!("{first}, and {} like it", cases.len() - 1), fair),
            [] => unreachable!("a line has a case"),
        })
        .collect()
}

/// A row per case and subject.
pub(super) fn spreads(entries: &[&Entry]) -> Table {
    let mut table = Table::new([
        "case", "subject", "median", "low", "high", "ratio", "low", "high", "rounds",
    ]);
    for entry in entries {
        for measured in &entry.outcome.measured {
            let Some(Spread { low, median, high }) = measured.nanoseconds else {
                continue;
            };
            let mut row = vec![
                entry.case.clone(),
                measured.subject.to_owned(),
                time(median),
                time(low),
                time(high),
            ];
            row.extend(match measured.ratio {
                Some(Spread { low, median, high }) => [median, low, high].map(figure),
                None => ["", "", ""].map(str::to_owned),
            });
            row.push(entry.outcome.rounds.to_string());
            table.row(row);
        }
    }
    table
}

/// What is said of a case's subjects beside their times: a row per subject, numbers with the ratio of ours to theirs.
pub(super) fn figures(entry: &Entry) -> Option<Table> {
    use crate::figures::Figure::{Number, Text};

    let measured = &entry.outcome.measured;
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in measured.iter().flat_map(|measured| measured.figures.iter()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let ours = measured.iter().find(|measured| measured.subject == OURS);
    let mut table = Table::new(
        [entry.case.as_str()]
            .into_iter()
            .chain(names.iter().copied()),
    );
    for measured in measured {
        let mut row = vec![measured.subject.to_owned()];
        row.extend(names.iter().map(|name| {
            let our_own = ours.and_then(|ours| ours.figures.get(name));
            match (measured.figures.get(name), our_own) {
                (None, _) => "–".to_owned(),
                (Some(Text(text)), _) => text.clone(),
                (Some(Number(theirs)), Some(Number(ours)))
                    if measured.subject != OURS && *theirs > 0.0 =>
                {
                    format!("{} (ratio {})", grouped(*theirs), figure(ours / theirs))
                }
                (Some(Number(number)), _) => grouped(*number),
            }
        }));
        table.row(row);
    }
    Some(table)
}

/// Who failed in which case, and the first line of why.
pub(super) fn failures<'entry>(
    entries: &'entry [&Entry],
) -> impl Iterator<Item = (&'static str, &'entry str, &'entry str)> {
    entries.iter().flat_map(|entry| {
        entry.outcome.failed.iter().map(|(subject, message)| {
            let message = message.lines().next().unwrap_or_default();
            (*subject, entry.case.as_str(), message)
        })
    })
}
