//! A panel with a row per subject, for a case that stands alone.

use crate::{
    chart::{
        first_number, flat,
        labels::text_width,
        scale::Scale,
        style::Styles,
        svg::{Anchor, Svg, TEXT_SIZE},
    },
    report::{
        Entry,
        numbers::{grouped, time},
    },
    statistics::Spread,
};

/// The subjects of a case, the fastest one on top.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) title: String,
    /// What the numbers are.
    axis: String,
    /// Writes a number with its unit.
    name: fn(f64) -> String,
    rows: Vec<(&'static str, Spread)>,
}

const ROW_HEIGHT: f64 = 19.0;
/// Right of the plot, where the numbers are.
const NUMBER_ROOM: f64 = 62.0;
const BELOW: f64 = 40.0;
/// Ticks are so far apart at least, and more where their names are long.
const TICKS_APART: f64 = 44.0;

impl Rows {
    /// The times of a case, or else the first of its figures that is a number; none if it has neither.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let measured = &entry.outcome.measured;
        let (axis, name, mut rows): (_, fn(f64) -> String, Vec<_>) = if entry.has_times() {
            let rows = measured
                .iter()
                .filter_map(|measured| Some((measured.subject, measured.nanoseconds?)));
            (format!("time per {}", entry.per), time, rows.collect())
        } else {
            let (figure, _) = measured
                .iter()
                .find_map(|measured| first_number(measured.figures.iter()))?;
            let rows = measured.iter().filter_map(|measured| {
                let (_, number) =
                    first_number(measured.figures.iter().filter(|(name, _)| *name == figure))?;
                Some((measured.subject, flat(number)))
            });
            (figure.to_owned(), grouped, rows.collect())
        };
        rows.sort_by(|one: &(_, Spread), other| one.1.median.total_cmp(&other.1.median));
        Some(Self {
            title: entry.case.clone(),
            axis,
            name,
            rows,
        })
    }

    pub(super) fn height(&self) -> f64 {
        self.rows.len() as f64 * ROW_HEIGHT + BELOW
    }

    pub(super) fn draw(&self, svg: &mut Svg, styles: &Styles, left: f64, top: f64, width: f64) {
        let label_width = self
            .rows
            .iter()
            .map(|(subject, _)| text_width(subject, TEXT_SIZE))
            .fold(0.0, f64::max);
        let (plot_left, plot_right) = (left + label_width + 14.0, left + width - NUMBER_ROOM);
        let bottom = top + self.rows.len() as f64 * ROW_HEIGHT;
        let numbers = self
            .rows
            .iter()
            .flat_map(|(_, spread)| [spread.low, spread.median, spread.high]);
        let scale = Scale::from_tick_to_tick(numbers).on(plot_left + 6.0, plot_right - 6.0);

        let widest = scale
            .ticks(TICKS_APART)
            .into_iter()
            .map(|tick| text_width(&(self.name)(tick), TEXT_SIZE) + 6.0)
            .fold(TICKS_APART, f64::max);
        for tick in scale.ticks(widest) {
            let x = scale.pixel(tick);
            svg.grid((x, top), (x, bottom));
            svg.axis((x, bottom), (x, bottom + 4.0));
            svg.soft(x, bottom + 16.0, &(self.name)(tick), Anchor::Middle);
        }
        svg.axis((plot_left, bottom), (plot_right, bottom));
        svg.soft(
            (plot_left + plot_right) / 2.0,
            bottom + 32.0,
            &self.axis,
            Anchor::Middle,
        );
        for (index, (subject, spread)) in self.rows.iter().enumerate() {
            let style = styles.get(subject);
            let y = top + (index as f64 + 0.5) * ROW_HEIGHT;
            let x = scale.pixel(spread.median);
            svg.name(plot_left - 8.0, y + 3.8, subject, Anchor::End, style);
            svg.line((plot_left, y), (x, y), "#cccccc", 1.0, "2 3");
            svg.line(
                (scale.pixel(spread.low), y),
                (scale.pixel(spread.high), y),
                style.color,
                style.thickness,
                "",
            );
            svg.marker(x, y, style);
            svg.soft(
                plot_right + 6.0,
                y + 3.8,
                &(self.name)(spread.median),
                Anchor::Start,
            );
        }
    }
}
