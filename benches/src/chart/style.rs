//! How each subject is drawn: ours stands out, the floor steps back, and the peers can be told apart without seeing colors.

/// The look of a subject, the same in all panels of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Style {
    /// A color of a set that stays distinct for the color-blind.
    pub(super) color: &'static str,
    /// The thickness of its line.
    pub(super) thickness: f64,
    /// The dashes of its line; empty for a line without gaps.
    pub(super) dashes: &'static str,
    /// The shape of its points.
    pub(super) marker: Marker,
    /// Whether its name is set in bold.
    pub(super) is_ours: bool,
}

/// The shapes of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Up,
    Diamond,
    Down,
}

/// The subjects of a picture, with what sets them apart.
#[derive(Debug)]
pub(super) struct Styles {
    /// The peers, in the order in which they came.
    peers: Vec<&'static str>,
    /// Ours, and other ways to use ours.
    ours: Vec<&'static str>,
}

/// What all subjects but ours and the floor are colored with, as Paul Tol's "muted" set has them.
const COLORS: [&str; 7] = [
    "#332288", "#44aa99", "#aa4499", "#999933", "#88ccee", "#117733", "#882255",
];

const MARKERS: [Marker; 4] = [Marker::Square, Marker::Up, Marker::Diamond, Marker::Down];

const OUR_COLOR: &str = "#d55e00";
const FLOOR_COLOR: &str = "#777777";

impl Styles {
    pub(super) fn of(subjects: impl Iterator<Item = &'static str>) -> Self {
        let mut styles = Self {
            peers: Vec::new(),
            ours: Vec::new(),
        };
        for subject in subjects.filter(|subject| !is_floor(subject)) {
            let list = if is_ours(subject) {
                &mut styles.ours
            } else {
                &mut styles.peers
            };
            if !list.contains(&subject) {
                list.push(subject);
            }
        }
        styles
    }

    pub(super) fn get(&self, subject: &str) -> Style {
        if is_floor(subject) {
            return Style {
                color: FLOOR_COLOR,
                thickness: 1.5,
                dashes: "5 4",
                marker: Marker::Circle,
                is_ours: false,
            };
        }
        let index_in = |list: &[&str]| list.iter().position(|other| *other == subject).unwrap_or(0);
        if is_ours(subject) {
            let dashes = ["", "9 4", "3 3"];
            return Style {
                color: OUR_COLOR,
                thickness: 3.5,
                dashes: dashes[index_in(&self.ours) % dashes.len()],
                marker: Marker::Circle,
                is_ours: true,
            };
        }
        let index = index_in(&self.peers);
        Style {
            color: COLORS[index % COLORS.len()],
            thickness: 1.3,
            dashes: "",
            marker: MARKERS[index % MARKERS.len()],
            is_ours: false,
        }
    }
}

pub(super) fn is_ours(subject: &str) -> bool {
    subject.starts_with(crate::OURS)
}

pub(super) fn is_floor(subject: &str) -> bool {
    subject.starts_with("floor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_peers_as_there_may_be_look_different() {
        let names: Vec<&'static str> = vec![
            "trionics",
            "a",
            "b",
            "c",
            "d",
            "e",
            "f",
            "g",
            "h",
            "i",
            "j",
            "k",
            "l",
            "m",
            "n",
            "floor",
            "trionics, too",
        ];
        let styles = Styles::of(names.iter().copied());
        let looks: Vec<_> = names.iter().map(|name| styles.get(name)).collect();
        for (index, look) in looks.iter().enumerate() {
            assert!(!looks[index + 1..].contains(look), "{}", names[index]);
        }
        assert!(looks[0].thickness > looks[1].thickness);
        assert!(looks[0].dashes.is_empty() && !looks[15].dashes.is_empty());
    }
}
