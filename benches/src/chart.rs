//! A group's chart: one picture of several panels, drawn by hand as SVG.
//!
//! Cases of a series become a panel with a line per subject, their sizes along the horizontal axis; any other case becomes a
//! panel with a row per subject. Both axes of numbers are logarithmic.

mod labels;
mod lines;
mod rows;
mod scale;
mod style;
mod svg;

pub(crate) use crate::chart::svg::escaped;
use crate::{
    chart::{lines::Lines, rows::Rows, style::Styles, svg::Svg},
    figures::Figure,
    report::Entry,
    statistics::Spread,
};

/// The whole picture's width, in pixels at its natural size.
const WIDTH: f64 = 1000.0;
/// Between the panels, and around them.
const GAP: f64 = 20.0;
/// Panels stand in two columns.
const PANEL_WIDTH: f64 = (WIDTH - 3.0 * GAP) / 2.0;
/// The head of the picture, and that of each panel.
const HEAD: f64 = 62.0;
const PANEL_HEAD: f64 = 26.0;

/// Draws the cases of a group; nothing if none of them has a number.
pub(crate) fn draw(group: &str, entries: &[&Entry]) -> Option<String> {
    Some(picture(group, entries)?.finish(&format!("Benchmarks of the group {group}")))
}

fn picture(group: &str, entries: &[&Entry]) -> Option<Svg> {
    let panels = panels(entries);
    if panels.is_empty() {
        return None;
    }
    let styles = Styles::of(entries.iter().flat_map(|entry| {
        entry
            .outcome
            .measured
            .iter()
            .map(|measured| measured.subject)
    }));
    let mut svg = Svg::new(WIDTH);
    svg.title(GAP, 28.0, group);
    svg.note(
        GAP,
        48.0,
        "Medians, lower is better, logarithmic axes. Bands and bars reach from the 10th to the 90th percentile of the rounds.",
    );
    // Each panel goes where the picture ends first.
    let mut ends = [HEAD; 2];
    for panel in &panels {
        let column = usize::from(ends[1] < ends[0]);
        let (left, top) = (GAP + column as f64 * (PANEL_WIDTH + GAP), ends[column]);
        svg.heading(left, top + 16.0, panel.title(), PANEL_WIDTH);
        panel.draw(&mut svg, &styles, left, top + PANEL_HEAD);
        ends[column] += PANEL_HEAD + panel.height() + GAP;
    }
    svg.set_height(ends[0].max(ends[1]));
    Some(svg)
}

/// A part of the picture with axes of its own.
#[derive(Debug)]
enum Panel {
    Lines(Lines),
    Rows(Rows),
}

impl Panel {
    fn title(&self) -> &str {
        match self {
            Self::Lines(lines) => &lines.title,
            Self::Rows(rows) => &rows.title,
        }
    }

    fn height(&self) -> f64 {
        match self {
            Self::Lines(lines) => lines.height(),
            Self::Rows(rows) => rows.height(),
        }
    }

    fn draw(&self, svg: &mut Svg, styles: &Styles, left: f64, top: f64) {
        match self {
            Self::Lines(lines) => lines.draw(svg, styles, left, top, PANEL_WIDTH),
            Self::Rows(rows) => rows.draw(svg, styles, left, top, PANEL_WIDTH),
        }
    }
}

/// The panels of some cases, each where its first case is.
fn panels(entries: &[&Entry]) -> Vec<Panel> {
    let mut panels = Vec::new();
    let mut series_done: Vec<&str> = Vec::new();
    for entry in entries {
        if let Some(place) = &entry.place {
            let alike: Vec<_> = entries
                .iter()
                .copied()
                .filter(|other| other.series() == Some(&place.series) && other.has_times())
                .collect();
            if alike.len() > 1 {
                if !series_done.contains(&place.series.as_str()) {
                    series_done.push(&place.series);
                    panels.push(Panel::Lines(Lines::of(&alike)));
                }
                continue;
            }
        }
        panels.extend(Rows::of(entry).map(Panel::Rows));
    }
    panels
}

/// What is drawn of a subject: a number with its spread.
fn flat(number: f64) -> Spread {
    Spread {
        low: number,
        median: number,
        high: number,
    }
}

/// The first number among a subject's figures, with its name.
fn first_number<'entry>(
    figures: impl Iterator<Item = (&'entry str, &'entry Figure)>,
) -> Option<(&'entry str, f64)> {
    let mut numbers = figures.filter_map(|(name, figure)| match figure {
        Figure::Number(number) => Some((name, *number)),
        Figure::Text(_) => None,
    });
    numbers.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        figures::Figures,
        measure::{Measured, Outcome},
        suite::Place,
    };

    const SUBJECTS: [&str; 14] = [
        "trionics",
        "trionics, by another way",
        "FuturesUnordered<Box>",
        "FuturesUnordered<F>",
        "futures-buffered<F>",
        "futures-buffered<Box>",
        "unicycle<Box>",
        "FutureGroup<Box>",
        "moro",
        "JoinSet, current thread",
        "FuturesUnordered<Box> + CancellationToken",
        "smol LocalExecutor",
        "async_nursery",
        "floor",
    ];

    /// Figures that look random and are the same each time.
    struct Random(u64);

    impl Random {
        fn next(&mut self, below: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % below
        }

        /// From next to nothing, as of work that was optimized away, to a minute.
        fn time(&mut self) -> f64 {
            10_f64.powf(self.next(1500) as f64 / 100.0 - 4.3)
        }
    }

    fn entry(case: &str, place: Option<(&str, u64)>, times: &[(&'static str, f64)]) -> Entry {
        let measured = times.iter().map(|(subject, time)| Measured {
            subject,
            nanoseconds: Some(Spread {
                low: time * 0.9,
                median: *time,
                high: time * 1.2,
            }),
            ratio: None,
            figures: Figures::new(),
        });
        Entry {
            group: "group".to_owned(),
            case: case.to_owned(),
            per: "child",
            fair: "",
            place: place.map(|(series, size)| Place {
                series: series.to_owned(),
                size,
                of: "children",
            }),
            outcome: Outcome {
                rounds: 3,
                measured: measured.collect(),
                failed: Vec::new(),
            },
        }
    }

    /// A group like the real ones, with random times.
    fn random_entries(seed: u64) -> Vec<Entry> {
        let mut random = Random(seed);
        let mut entries = Vec::new();
        let times = |random: &mut Random| {
            let n_subjects = 1 + random.next(14) as usize;
            // Half of the time all are close together: the hard case for labels.
            let (base, are_close) = (random.time(), random.next(2) == 0);
            SUBJECTS[..n_subjects]
                .iter()
                .map(|subject| {
                    let close = base * (1.0 + random.next(100) as f64 / 1000.0);
                    (*subject, if are_close { close } else { random.time() })
                })
                .collect::<Vec<_>>()
        };
        for series in ["ready", "one yield, tokio host"] {
            for size in [1, 10, 1_000, 100_000] {
                entries.push(entry(
                    &format!("{size} {series}"),
                    Some((series, size)),
                    &times(&mut random),
                ));
            }
        }
        for size in [1, 4, 16, 64, 256, 1024, 4096, 16384] {
            entries.push(entry(
                &format!("{size} subscribers"),
                Some(("subscribers", size)),
                &times(&mut random),
            ));
        }
        for case in ["cold cycle", "a scope alone", "another one"] {
            entries.push(entry(case, None, &times(&mut random)));
        }
        entries
    }

    #[test]
    fn no_two_texts_overlap_and_all_are_inside() {
        for seed in 0..200 {
            let entries = random_entries(seed);
            let entries: Vec<_> = entries.iter().collect();
            let svg = picture("group", &entries).expect("there is something to draw");
            let texts = svg.texts();
            for (index, (text, one)) in texts.iter().enumerate() {
                assert!(
                    one.left >= 0.0
                        && one.right <= WIDTH
                        && one.top >= 0.0
                        && one.bottom <= svg.height(),
                    "seed {seed}: `{text}` is outside: {one:?}"
                );
                for (other_text, other) in &texts[index + 1..] {
                    assert!(
                        !one.overlaps(other),
                        "seed {seed}: `{text}` at {one:?} and `{other_text}` at {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_series_is_one_panel_and_other_cases_have_their_own() {
        let entries = random_entries(1);
        let entries: Vec<_> = entries.iter().collect();
        let panels = panels(&entries);
        let titles: Vec<_> = panels.iter().map(Panel::title).collect();
        assert_eq!(
            titles,
            [
                "ready",
                "one yield, tokio host",
                "subscribers",
                "cold cycle",
                "a scope alone",
                "another one"
            ]
        );
        // One size alone is no line.
        assert!(matches!(super::panels(&entries[..1])[..], [Panel::Rows(_)]));
    }

    #[test]
    fn every_subject_is_named_in_its_panel() {
        let times: Vec<_> = SUBJECTS.iter().map(|subject| (*subject, 100.0)).collect();
        let entries = [
            entry("1", Some(("series", 1)), &times),
            entry("2", Some(("series", 2)), &times),
            entry("alone", None, &times),
        ];
        let entries: Vec<_> = entries.iter().collect();
        let svg = picture("group", &entries).expect("there is something to draw");
        for subject in SUBJECTS {
            let n_named = svg
                .texts()
                .iter()
                .filter(|(text, _)| text == subject)
                .count();
            assert_eq!(n_named, 2, "{subject}");
        }
    }

    #[test]
    fn figures_are_drawn_where_there_are_no_times() {
        let mut case = entry("memory", None, &[("trionics", 1.0), ("peer", 1.0)]);
        for (measured, bytes) in case.outcome.measured.iter_mut().zip([96.0, 0.0]) {
            measured.nanoseconds = None;
            measured.figures = Figures::new()
                .text("safe", "yes")
                .number("bytes per child", bytes);
        }
        let svg = draw("group", &[&case]).expect("there is something to draw");
        for text in ["bytes per child", ">96<", ">0<", "&gt;"] {
            assert_eq!(svg.contains(text), text != "&gt;", "{text}");
        }
        case.outcome.measured.clear();
        assert!(draw("group", &[&case]).is_none());
    }

    #[test]
    fn what_is_special_in_xml_is_escaped() {
        let case = entry("a < b & \"c\"", None, &[("Box<F>", 1.0)]);
        let svg = draw("group", &[&case]).expect("there is something to draw");
        assert!(
            svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains("Box&lt;F&gt;"),
            "{svg}"
        );
    }
}
