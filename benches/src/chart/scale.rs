//! Logarithmic scales, with ticks at 1, 2 and 5 times the powers of ten.

/// From numbers to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The decimal logarithms of the numbers at both ends.
    from: f64,
    to: f64,
    /// The pixels at both ends; they may go down.
    start: f64,
    end: f64,
}

impl Scale {
    /// A scale that goes over all these numbers, from tick to tick.
    pub(super) fn from_tick_to_tick(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let positive = numbers.filter(|number| *number > 0.0);
        let least = positive.clone().fold(f64::INFINITY, f64::min);
        let most = positive.fold(0.0, f64::max);
        if least > most {
            return Self::between(1.0, 10.0);
        }
        let (from, to) = (tick_below(least), tick_above(most));
        // All the same number: one tick more on both sides.
        if to / from < 1.5 {
            return Self::between(tick_below(from * 0.9), tick_above(to * 1.1));
        }
        Self::between(from, to)
    }

    /// A scale that goes over all these numbers, and little further.
    pub(super) fn close_around(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let least = numbers.clone().fold(f64::INFINITY, f64::min);
        let most = numbers.fold(0.0, f64::max);
        Self::between(least / 1.05, most * 1.05)
    }

    fn between(from: f64, to: f64) -> Self {
        Self {
            from: from.log10(),
            to: to.log10(),
            start: 0.0,
            end: 1.0,
        }
    }

    /// The same from one pixel to another.
    pub(super) fn on(self, start: f64, end: f64) -> Self {
        Self { start, end, ..self }
    }

    /// The pixel of a number; what is not positive is at the beginning.
    pub(super) fn pixel(self, number: f64) -> f64 {
        let logarithm = number.max(f64::MIN_POSITIVE).log10();
        let part = ((logarithm - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start + part * (self.end - self.start)
    }

    /// The ticks on the scale, at least `apart` pixels from each other: 1, 2 and 5, or 1 alone, or every second power of
    /// ten, and so on, times the powers of ten.
    pub(super) fn ticks(self, apart: f64) -> Vec<f64> {
        let decade = (self.end - self.start).abs() / (self.to - self.from);
        let (steps, every): (&[f64], i32) = if decade * 2_f64.log10() >= apart {
            (&[1.0, 2.0, 5.0], 1)
        } else if decade * 3_f64.log10() >= apart {
            (&[1.0, 3.0], 1)
        } else {
            (&[1.0], (apart / decade).ceil().max(1.0) as i32)
        };
        let near = 1e-9;
        let powers = (self.from - near).floor() as i32..=(self.to + near).ceil() as i32;
        powers
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|tick| {
                let logarithm = tick.log10();
                logarithm >= self.from - near && logarithm <= self.to + near
            })
            .collect()
    }
}

/// The greatest of 1, 2, 5, 10 … that is not above a number.
fn tick_below(number: f64) -> f64 {
    let power = 10_f64.powf(number.log10().floor());
    let steps = [10.0, 5.0, 2.0, 1.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|tick| *tick <= number * (1.0 + 1e-9))
        .unwrap_or(power)
}

/// The least of 1, 2, 5, 10 … that is not below a number.
fn tick_above(number: f64) -> f64 {
    let power = 10_f64.powf(number.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|tick| *tick >= number * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(numbers: &[f64]) -> Scale {
        Scale::from_tick_to_tick(numbers.iter().copied())
    }

    fn assert_ticks(scale: Scale, apart: f64, expected: &[f64]) {
        let ticks = scale.ticks(apart);
        let are_same = ticks.len() == expected.len()
            && ticks
                .iter()
                .zip(expected)
                .all(|(tick, expected)| (tick / expected - 1.0).abs() < 1e-9);
        assert!(are_same, "{ticks:?} are not {expected:?}");
    }

    #[test]
    fn ends_are_at_ticks() {
        assert_ticks(
            over(&[3.0, 70.0]).on(0.0, 500.0),
            20.0,
            &[2.0, 5.0, 10.0, 20.0, 50.0, 100.0],
        );
        assert_ticks(
            over(&[10.0, 50.0]).on(0.0, 500.0),
            20.0,
            &[10.0, 20.0, 50.0],
        );
        assert_ticks(over(&[0.03, 0.04]).on(0.0, 500.0), 20.0, &[0.02, 0.05]);
    }

    #[test]
    fn there_are_two_ticks_at_least() {
        for number in [0.001, 0.7, 1.0, 2.0, 3.0, 99.0, 1e9] {
            let ticks = over(&[number]).on(0.0, 300.0).ticks(30.0);
            assert!(ticks.len() >= 2, "{number}: {ticks:?}");
            assert!(
                ticks[0] <= number && number <= ticks[ticks.len() - 1],
                "{number}: {ticks:?}"
            );
        }
    }

    #[test]
    fn ticks_thin_out_where_room_is_short() {
        let wide = over(&[1.0, 1e6]);
        assert_ticks(
            wide.on(0.0, 300.0),
            40.0,
            &[1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6],
        );
        assert_ticks(wide.on(0.0, 300.0), 60.0, &[1.0, 100.0, 1e4, 1e6]);
        for pixels in [50.0, 100.0, 200.0, 400.0] {
            let scale = wide.on(0.0, pixels);
            let places: Vec<_> = scale
                .ticks(30.0)
                .into_iter()
                .map(|tick| scale.pixel(tick))
                .collect();
            assert!(
                places
                    .windows(2)
                    .all(|pair| pair[1] - pair[0] >= 30.0 - 1e-6),
                "{places:?}"
            );
        }
    }

    #[test]
    fn pixels_go_with_the_logarithm_and_may_go_down() {
        let scale = over(&[1.0, 100.0]).on(300.0, 100.0);
        for (number, pixel) in [
            (1.0, 300.0),
            (10.0, 200.0),
            (100.0, 100.0),
            (0.0, 300.0),
            (1e9, 100.0),
        ] {
            assert!((scale.pixel(number) - pixel).abs() < 1e-9, "{number}");
        }
    }

    #[test]
    fn nothing_to_go_over_is_a_scale_too() {
        assert!(over(&[]).ticks(0.1).len() >= 2);
        assert!(over(&[0.0]).pixel(0.0).is_finite());
    }
}
