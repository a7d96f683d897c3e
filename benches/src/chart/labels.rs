//! Labels beside each other: how much room a text needs, and how to keep texts apart.

/// About the width of a text, in pixels: rather too much than too little, as nobody knows the reader's font.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.58
}

/// Moves labels apart that want to be at these places: each gets one of its own, at least `apart` from the next, between
/// `first` and `last` where there is room, in the order of what they want, and as near to it as that allows.
pub(super) fn keep_apart(wanted: &[f64], apart: f64, first: f64, last: f64) -> Vec<f64> {
    /// Neighbors that touch each other: the first one's place is the mean of what each would want it to be.
    struct Block {
        sum: f64,
        count: usize,
    }

    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));

    let limit = |place: f64, count: usize| {
        let last = last - (count - 1) as f64 * apart;
        place.min(last).max(first)
    };
    let start = |block: &Block| limit(block.sum / block.count as f64, block.count);
    let mut blocks: Vec<Block> = Vec::new();
    for index in &order {
        blocks.push(Block {
            sum: wanted[*index],
            count: 1,
        });
        while let [.., one, other] = &blocks[..] {
            if start(one) + one.count as f64 * apart <= start(other) {
                break;
            }
            let sum = one.sum + other.sum - other.count as f64 * one.count as f64 * apart;
            let count = one.count + other.count;
            blocks.truncate(blocks.len() - 2);
            blocks.push(Block { sum, count });
        }
    }

    let mut places = vec![0.0; wanted.len()];
    let mut next = order.into_iter();
    for block in &blocks {
        for (step, index) in next.by_ref().take(block.count).enumerate() {
            places[index] = start(block) + step as f64 * apart;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_room_stay_where_they_want_to_be() {
        assert_eq!(
            keep_apart(&[50.0, 10.0, 30.0], 15.0, 0.0, 100.0),
            [50.0, 10.0, 30.0]
        );
        assert!(keep_apart(&[], 15.0, 0.0, 100.0).is_empty());
    }

    #[test]
    fn labels_at_one_place_spread_around_it() {
        assert_eq!(
            keep_apart(&[50.0, 50.0, 50.0], 10.0, 0.0, 100.0),
            [40.0, 50.0, 60.0]
        );
        assert_eq!(
            keep_apart(&[99.0, 100.0, 98.0], 10.0, 0.0, 100.0),
            [90.0, 100.0, 80.0]
        );
        assert_eq!(keep_apart(&[0.0, 1.0], 10.0, 0.0, 100.0), [0.0, 10.0]);
    }

    #[test]
    fn any_labels_are_apart_in_order_and_inside() {
        let mut state = 1_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        for _ in 0..2_000 {
            let count = (random() * 15.0) as usize;
            let width = 0.01 + random();
            let wanted: Vec<_> = (0..count)
                .map(|_| 200.0 * (0.5 + width * (random() - 0.5)))
                .collect();
            let places = keep_apart(&wanted, 13.0, 0.0, 200.0);
            for (one, place) in places.iter().enumerate() {
                assert!(
                    (-1e-6..=200.0 + 1e-6).contains(place),
                    "{wanted:?}: {places:?}"
                );
                for (other, other_place) in places.iter().enumerate() {
                    if wanted[one] < wanted[other] {
                        assert!(place + 13.0 <= other_place + 1e-6, "{wanted:?}: {places:?}");
                    }
                }
            }
        }
    }
}
