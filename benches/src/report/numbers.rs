//! Numbers as people read them.

/// Three digits that matter.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => grouped(value),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A time in nanoseconds, with the unit in which it is short: `69.3 ns`, `1.20 µs`.
pub(crate) fn time(nanoseconds: f64) -> String {
    let (unit, name) = match nanoseconds {
        time if time < 999.5 => (1.0, "ns"),
        time if time < 999.5e3 => (1e3, "µs"),
        time if time < 999.5e6 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let number = figure(nanoseconds / unit);
    // A round number is a tick's, or looks like one.
    let number = match number.contains('.') {
        true if is_round(nanoseconds / unit) => number.trim_end_matches('0').trim_end_matches('.'),
        _ => &number,
    };
    format!("{number} {name}")
}

/// A number with as few digits as it has, its thousands set apart: `100 000`.
pub(crate) fn grouped(value: f64) -> String {
    if value.abs() < 1000.0 {
        return if is_round(value) {
            format!("{value}")
        } else {
            figure(value)
        };
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    if value < 0.0 {
        text.insert(0, '-');
    }
    text
}

/// Whether a number is 1, 2, 3 or 5 times a power of ten, or a whole one, but for how floating numbers are.
fn is_round(value: f64) -> bool {
    let is_whole = |value: f64| (value - value.round()).abs() < 1e-9 * value.abs().max(1e-3);
    let first = value / 10_f64.powf(value.abs().log10().floor());
    is_whole(value) || is_whole(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_matter() {
        for (value, expected) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (0.5, "0.500"),
            (0.9996, "1.00"),
            (1.234, "1.23"),
            (9.996, "10.0"),
            (99.96, "100"),
            (123.4, "123"),
            (1234.4, "1 234"),
            (-1.5, "-1.50"),
        ] {
            assert_eq!(figure(value), expected);
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (value, expected) in [
            (0.1, "0.1 ns"),
            (0.123, "0.123 ns"),
            (20.000000000000004, "20 ns"),
            (69.34, "69.3 ns"),
            (999.4, "999 ns"),
            (999.6, "1.00 µs"),
            (1000.0, "1 µs"),
            (1_204.0, "1.20 µs"),
            (5e6, "5 ms"),
            (1.5e9, "1.50 s"),
            (6e10, "60 s"),
        ] {
            assert_eq!(time(value), expected);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.2, "0.2"),
            (96.5, "96.5"),
            (1000.0, "1 000"),
            (100_000.0, "100 000"),
            (-1_234_567.0, "-1 234 567"),
        ] {
            assert_eq!(grouped(value), expected);
        }
    }
}
