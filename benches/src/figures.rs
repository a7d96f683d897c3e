//! What is said of a subject beside its times: memory, lines of code, whether its cleanup ran.

use crate::allocations;

/// Named figures of a subject, in the order in which they were added.
///
/// A name says the unit where there is one: `bytes per child`, `peak memory, MiB`, `lines of code`, `cleanup ran`. The
/// subjects of a case use the same names for the same things; numbers are set against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    entries: Vec<(String, Figure)>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// Less is better; reports show the ratio of our number to each peer's.
    Number(f64),
    /// Such as `yes` or `no`.
    Text(String),
}

impl Figures {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number of which less is better.
    ///
    /// # Panics
    ///
    /// If there is a figure of that name, or the number is not finite.
    #[must_use]
    pub fn number(mut self, name: impl Into<String>, value: f64) -> Self {
        assert!(value.is_finite(), "a figure is a number");
        self.insert(name.into(), Figure::Number(value));
        self
    }

    /// Adds a word or two.
    ///
    /// # Panics
    ///
    /// If there is a figure of that name.
    #[must_use]
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.insert(name.into(), Figure::Text(text.into()));
        self
    }

    /// What a value holds for each of the `units` that are in it, as `bytes per UNIT` and `allocations per UNIT`.
    ///
    /// `make` is called twice, and the second one counts: what the first one leaves behind in caches and thread-locals
    /// does not. It counts what this thread allocates; what `make` needs only on its way is not in it.
    pub fn held<T>(per: &str, units: u64, mut make: impl FnMut() -> T) -> Self {
        drop(make());
        let (value, counted) = allocations::count(make);
        drop(value);
        Self::new()
            .number(
                format!("bytes per {per}"),
                counted.held_bytes as f64 / units as f64,
            )
            .number(
                format!("allocations per {per}"),
                counted.held as f64 / units as f64,
            )
    }

    /// The figure of that name.
    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, figure)| figure)
    }

    /// All of them with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Figure)> {
        self.entries
            .iter()
            .map(|(name, figure)| (name.as_str(), figure))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds those of `other` behind its own.
    ///
    /// # Panics
    ///
    /// If both have a figure of the same name.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (name, figure) in other.entries {
            self.insert(name, figure);
        }
        self
    }

    fn insert(&mut self, name: String, figure: Figure) {
        assert!(self.get(&name).is_none(), "two figures `{name}`");
        self.entries.push((name, figure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_divided_by_the_units() {
        let figures = Figures::held("item", 10, || -> Vec<Box<[u8; 24]>> {
            (0..10).map(|_| Box::new([0; 24])).collect()
        });
        // A list of ten pointers, and ten boxes.
        let expected = Figures::new()
            .number("bytes per item", 32.0)
            .number("allocations per item", 1.1);
        assert_eq!(figures, expected);
    }

    #[test]
    fn what_is_made_once_for_all_is_not_held_by_the_second() {
        let mut once = None;
        let figures = Figures::held("item", 1, || {
            once.get_or_insert_with(|| vec![0_u8; 1000]);
        });
        assert_eq!(figures.get("bytes per item"), Some(&Figure::Number(0.0)));
    }

    #[test]
    #[should_panic(expected = "two figures `bytes`")]
    fn a_name_is_used_once() {
        let _ = Figures::new()
            .number("bytes", 1.0)
            .and(Figures::new().text("bytes", "many"));
    }
}
