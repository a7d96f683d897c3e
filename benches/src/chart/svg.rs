//! The elements of a picture, and where its texts are.

use std::fmt::Write as _;

use crate::chart::{
    labels::text_width,
    style::{Marker, Style},
};

/// A picture that is being drawn.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
    /// The room that each text takes.
    #[cfg(test)]
    texts: Vec<(String, Room)>,
}

/// The room that something takes in the picture.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Where a text is, seen from its anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// The size of all small texts.
pub(super) const TEXT_SIZE: f64 = 11.0;
const TEXT_COLOR: &str = "#222222";
const SOFT_COLOR: &str = "#555555";

impl Svg {
    pub(super) fn new(width: f64) -> Self {
        Self {
            width,
            height: 0.0,
            body: String::new(),
            #[cfg(test)]
            texts: Vec::new(),
        }
    }

    pub(super) fn set_height(&mut self, height: f64) {
        self.height = height;
    }

    /// The whole as a file.
    pub(super) fn finish(&self, description: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n",
            width = self.width,
            height = self.height,
            title = escaped(description),
            body = self.body,
        )
    }

    /// The name of the picture.
    pub(super) fn title(&mut self, x: f64, y: f64, text: &str) {
        self.write(x, y, text, Anchor::Start, 20.0, TEXT_COLOR, true);
    }

    /// The name of a panel, as small as it needs to be.
    pub(super) fn heading(&mut self, x: f64, y: f64, text: &str, room: f64) {
        let size = (room / text_width(text, 1.0)).clamp(7.0, 13.0);
        self.write(x, y, text, Anchor::Start, size, TEXT_COLOR, true);
    }

    /// The name of a subject.
    pub(super) fn name(&mut self, x: f64, y: f64, text: &str, anchor: Anchor, style: Style) {
        self.write(x, y, text, anchor, TEXT_SIZE, TEXT_COLOR, style.is_ours);
    }

    /// Anything that explains: ticks, axes, numbers.
    pub(super) fn soft(&mut self, x: f64, y: f64, text: &str, anchor: Anchor) {
        self.write(x, y, text, anchor, TEXT_SIZE, SOFT_COLOR, false);
    }

    pub(super) fn note(&mut self, x: f64, y: f64, text: &str) {
        self.soft(x, y, text, Anchor::Start);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "each is one attribute, and all are named by those above"
    )]
    fn write(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        anchor: Anchor,
        size: f64,
        color: &str,
        is_bold: bool,
    ) {
        let name = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        #[cfg(test)]
        self.texts
            .push((text.to_owned(), Room::of_text(x, y, text, anchor, size)));
        let weight = if is_bold { " font-weight=\"bold\"" } else { "" };
        self.element(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.1}\" fill=\"{color}\" text-anchor=\"{name}\"{weight}>{}</text>",
            escaped(text)
        ));
    }

    /// A line of the grid.
    pub(super) fn grid(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line(from, to, "#e4e4e4", 1.0, "");
    }

    /// An axis.
    pub(super) fn axis(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line(from, to, "#888888", 1.0, "");
    }

    pub(super) fn line(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        color: &str,
        thickness: f64,
        dashes: &str,
    ) {
        self.path(&[from, to], color, thickness, dashes);
    }

    /// A line from point to point.
    pub(super) fn path(
        &mut self,
        points: &[(f64, f64)],
        color: &str,
        thickness: f64,
        dashes: &str,
    ) {
        let dashes = match dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        self.element(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{thickness}\" stroke-linejoin=\"round\"{dashes}/>",
            listed(points)
        ));
    }

    /// A light area.
    pub(super) fn area(&mut self, points: &[(f64, f64)], color: &str) {
        self.element(format_args!(
            "<polygon points=\"{}\" fill=\"{color}\" fill-opacity=\"0.15\"/>",
            listed(points)
        ));
    }

    /// A point of a subject.
    pub(super) fn marker(&mut self, x: f64, y: f64, style: Style) {
        let radius = if style.is_ours { 4.5 } else { 3.3 };
        let color = style.color;
        let polygon = |points: &[(f64, f64)]| {
            let points: Vec<_> = points
                .iter()
                .map(|(across, down)| (x + across * radius, y + down * radius))
                .collect();
            format!("<polygon points=\"{}\" fill=\"{color}\"/>", listed(&points))
        };
        let text = match style.marker {
            Marker::Circle => {
                format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\"/>")
            }
            Marker::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Marker::Up => polygon(&[(0.0, -1.3), (1.2, 0.9), (-1.2, 0.9)]),
            Marker::Diamond => polygon(&[(0.0, -1.4), (1.2, 0.0), (0.0, 1.4), (-1.2, 0.0)]),
            Marker::Down => polygon(&[(0.0, 1.3), (1.2, -0.9), (-1.2, -0.9)]),
        };
        self.element(format_args!("{text}"));
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a string does not fail");
    }

    #[cfg(test)]
    pub(super) fn texts(&self) -> &[(String, Room)] {
        &self.texts
    }

    #[cfg(test)]
    pub(super) fn height(&self) -> f64 {
        self.height
    }
}

#[cfg(test)]
impl Room {
    fn of_text(x: f64, y: f64, text: &str, anchor: Anchor, size: f64) -> Self {
        let width = text_width(text, size);
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        Self {
            left,
            top: y - 0.8 * size,
            right: left + width,
            bottom: y + 0.25 * size,
        }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

fn listed(points: &[(f64, f64)]) -> String {
    let points: Vec<_> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    points.join(" ")
}

/// Text as it stands in XML and HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
