//! Medians with their spread.

/// The median of some figures, and the tenth and the ninetieth percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A tenth of the figures is below.
    pub low: f64,
    /// Half of the figures is below.
    pub median: f64,
    /// A tenth of the figures is above.
    pub high: f64,
}

impl Spread {
    /// The spread of some figures.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn of(mut figures: Vec<f64>) -> Self {
        assert!(!figures.is_empty(), "no figures, no median");
        figures.sort_by(f64::total_cmp);
        Self {
            low: quantile(&figures, 0.1),
            median: quantile(&figures, 0.5),
            high: quantile(&figures, 0.9),
        }
    }
}

/// The value below which this part of the sorted figures lies, interpolated between its neighbors.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let position = part * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_zero_to_ten() {
        let spread = Spread::of((0..=10).rev().map(f64::from).collect());
        assert_eq!(
            spread,
            Spread {
                low: 1.0,
                median: 5.0,
                high: 9.0
            }
        );
    }

    #[test]
    fn an_even_count_is_interpolated() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn one_figure_is_its_own_spread() {
        assert_eq!(
            Spread::of(vec![7.0]),
            Spread {
                low: 7.0,
                median: 7.0,
                high: 7.0
            }
        );
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        assert_eq!(Spread::of(vec![1.0, 1.0, 1.0, 1.0, 1e9]).median, 1.0);
    }
}
