//! A panel with a line per subject, over the sizes of a series.

use crate::{
    chart::{
        labels::{keep_apart, text_width},
        scale::Scale,
        style::{Styles, is_floor, is_ours},
        svg::{Anchor, Svg, TEXT_SIZE},
    },
    report::{
        Entry,
        numbers::{grouped, time},
    },
    statistics::Spread,
};

/// The lines of a series of cases.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) title: String,
    /// What the sizes count.
    of: &'static str,
    /// What times are divided by.
    per: &'static str,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    subject: &'static str,
    /// Sizes and times, the smallest size first.
    points: Vec<(u64, Spread)>,
}

/// Labels at the lines' ends are so far apart.
const LABEL_HEIGHT: f64 = 14.0;
/// Left of the vertical axis, where its ticks are named.
const TICK_ROOM: f64 = 52.0;
/// Between the lines' ends and their labels.
const LEADER: f64 = 22.0;
/// Above the plot, where the vertical axis is named, and below it.
const ABOVE: f64 = 20.0;
const BELOW: f64 = 40.0;

impl Lines {
    /// The lines of cases that have a place in the same series.
    pub(super) fn of(entries: &[&Entry]) -> Self {
        let mut panel = Self {
            title: String::new(),
            of: "",
            per: "",
            lines: Vec::new(),
        };
        for entry in entries {
            let Some(place) = &entry.place else { continue };
            panel.title.clone_from(&place.series);
            panel.of = place.of;
            panel.per = entry.per;
            for measured in &entry.outcome.measured {
                let Some(time) = measured.nanoseconds else {
                    continue;
                };
                let known = panel
                    .lines
                    .iter()
                    .position(|line| line.subject == measured.subject);
                let index = known.unwrap_or_else(|| {
                    panel.lines.push(Line {
                        subject: measured.subject,
                        points: Vec::new(),
                    });
                    panel.lines.len() - 1
                });
                panel.lines[index].points.push((place.size, time));
            }
        }
        for line in &mut panel.lines {
            line.points.sort_by_key(|(size, _)| *size);
        }
        // The later ones are drawn over the earlier ones.
        panel
            .lines
            .sort_by_key(|line| (is_ours(line.subject), !is_floor(line.subject)));
        panel
    }

    fn plot_height(&self) -> f64 {
        (self.lines.len() as f64 * LABEL_HEIGHT).max(210.0)
    }

    pub(super) fn height(&self) -> f64 {
        ABOVE + self.plot_height() + BELOW
    }

    pub(super) fn draw(&self, svg: &mut Svg, styles: &Styles, left: f64, top: f64, width: f64) {
        let label_width = self
            .lines
            .iter()
            .map(|line| text_width(line.subject, TEXT_SIZE) + 12.0)
            .fold(0.0, f64::max);
        let (plot_left, plot_right) = (left + TICK_ROOM, left + width - label_width - LEADER);
        let (plot_top, plot_bottom) = (top + ABOVE, top + ABOVE + self.plot_height());

        let points = || self.lines.iter().flat_map(|line| &line.points);
        let sizes = Scale::close_around(points().map(|(size, _)| *size as f64))
            .on(plot_left + 8.0, plot_right - 8.0);
        let times = Scale::from_tick_to_tick(points().map(|(_, time)| time.median))
            .on(plot_bottom, plot_top);

        svg.soft(
            left,
            top + 10.0,
            &format!("time per {}", self.per),
            Anchor::Start,
        );
        for tick in times.ticks(18.0) {
            let y = times.pixel(tick);
            svg.grid((plot_left, y), (plot_right, y));
            svg.soft(plot_left - 6.0, y + 3.5, &time(tick), Anchor::End);
        }
        self.name_sizes(svg, sizes, plot_top, plot_bottom);
        svg.axis((plot_left, plot_bottom), (plot_right, plot_bottom));
        svg.soft(
            (plot_left + plot_right) / 2.0,
            plot_bottom + 33.0,
            self.of,
            Anchor::Middle,
        );

        for line in &self.lines {
            let style = styles.get(line.subject);
            let at = |pick: fn(&Spread) -> f64| {
                line.points
                    .iter()
                    .map(move |(size, time)| (sizes.pixel(*size as f64), times.pixel(pick(time))))
            };
            if style.is_ours {
                let band: Vec<_> = at(|time| time.low)
                    .chain(at(|time| time.high).collect::<Vec<_>>().into_iter().rev())
                    .collect();
                svg.area(&band, style.color);
            }
            let medians: Vec<_> = at(|time| time.median).collect();
            svg.path(&medians, style.color, style.thickness, style.dashes);
            for (x, y) in medians {
                svg.marker(x, y, style);
            }
        }

        // The names at the lines' ends, kept apart, each with a thin line to its own.
        let ends: Vec<_> = self
            .lines
            .iter()
            .filter_map(|line| line.points.last())
            .map(|(size, time)| (sizes.pixel(*size as f64), times.pixel(time.median)))
            .collect();
        let wanted: Vec<_> = ends.iter().map(|(_, y)| *y).collect();
        let half = LABEL_HEIGHT / 2.0;
        let places = keep_apart(&wanted, LABEL_HEIGHT, plot_top + half, plot_bottom - half);
        for ((line, end), y) in self.lines.iter().zip(ends).zip(places) {
            let style = styles.get(line.subject);
            let x = plot_right + LEADER;
            let elbow = (plot_right.max(end.0), end.1);
            // Dots are no part of the line: it may end before the largest size.
            let leader = [end, elbow, (x - 8.0, y), (x, y)];
            svg.path(&leader, style.color, 0.8, "1 3");
            svg.marker(x, y, style);
            svg.name(x + 9.0, y + 3.8, line.subject, Anchor::Start, style);
        }
    }

    /// Names the sizes that occur, as far as there is room.
    fn name_sizes(&self, svg: &mut Svg, sizes: Scale, plot_top: f64, plot_bottom: f64) {
        let mut all: Vec<u64> = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(size, _)| *size))
            .collect();
        all.sort_unstable();
        all.dedup();
        let mut free_from = f64::NEG_INFINITY;
        for size in all {
            let x = sizes.pixel(size as f64);
            svg.grid((x, plot_top), (x, plot_bottom));
            svg.axis((x, plot_bottom), (x, plot_bottom + 4.0));
            let name = grouped(size as f64);
            let half = text_width(&name, TEXT_SIZE) / 2.0;
            if x - half >= free_from {
                svg.soft(x, plot_bottom + 17.0, &name, Anchor::Middle);
                free_from = x + half + 4.0;
            }
        }
    }
}
