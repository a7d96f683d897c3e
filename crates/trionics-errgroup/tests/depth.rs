//! No operation needs a stack as deep as the tree: 150 000 levels on 2 MiB, which a single recursion would overflow.

mod common;

use common::{DEEP, chain, group, on_a_small_stack, stopped};
use trionics_errgroup::{
    Failure, Node, collapse_eg, get_collapsed_eg, is_multi_cancelled, maybe_raise_from_masking_exc,
};

/// As many groups, each with an error beside the next group.
fn comb(n_levels: usize) -> Failure<usize> {
    (0..n_levels).fold(Failure::leaf(n_levels), |inner, level| {
        group("level", [Failure::leaf(level), inner])
    })
}

/// As many failures, each with the next one as its context.
fn contexts(n_levels: usize) -> Failure<usize> {
    (0..n_levels).fold(Failure::leaf(n_levels), |inner, level| {
        Failure::leaf(level).with_context(inner)
    })
}

#[test]
fn building_and_dropping() {
    on_a_small_stack(|| {
        drop(chain(Failure::leaf(1), DEEP));
        drop(comb(DEEP));
        drop(contexts(DEEP));
        drop(chain(contexts(DEEP), DEEP));
    });
}

/// Dropping a deep tree that is being taken apart is no deeper either.
#[test]
fn dropping_half_way() {
    on_a_small_stack(|| {
        let mut leaves = comb(DEEP).into_leaves();
        assert_eq!(
            leaves.next().and_then(|leaf| leaf.into_leaf().ok()),
            Some(DEEP - 1)
        );
        drop(leaves);
        let children = comb(DEEP).into_children().unwrap();
        drop(children);
    });
}

#[test]
fn iterating() {
    on_a_small_stack(|| {
        let mut tree = comb(DEEP);
        assert_eq!(tree.leaves().count(), DEEP + 1);
        let mut leaves = tree.leaves();
        assert!(leaves.by_ref().last().is_some());
        assert_eq!(leaves.path().len(), 0, "after the end there is no path");
        let mut leaves = tree.leaves();
        assert!(leaves.by_ref().nth(DEEP).is_some());
        assert_eq!(leaves.path().len(), DEEP);
        tree.errors_mut().for_each(|error| *error = 7);
        assert!(tree.errors().all(|error| *error == 7));
        assert_eq!(tree.into_leaves().count(), DEEP + 1);
    });
}

#[test]
fn splitting() {
    on_a_small_stack(|| {
        let is_even = |node: &Node<usize>| node.as_leaf().is_some_and(|level| level % 2 == 0);
        let (even, odd) = comb(DEEP).split(is_even);
        assert_eq!(even.unwrap().leaves().count(), DEEP / 2 + 1);
        assert_eq!(odd.unwrap().leaves().count(), DEEP / 2);
        assert!(chain(Failure::leaf(1), DEEP).subgroup(is_even).is_none());
        let chained = chain(Failure::leaf(2), DEEP).subgroup(is_even).unwrap();
        assert_eq!(chained.leaves().count(), 1);
        assert!(comb(DEEP).cancelled_part().is_none());
    });
}

#[test]
fn collapsing() {
    on_a_small_stack(|| {
        let leaf = collapse_eg(chain(Failure::leaf(1), DEEP));
        assert_eq!((leaf.as_leaf(), leaf.n_collapsed()), (Some(&1), DEEP));
        assert!(get_collapsed_eg(comb(DEEP)).is_err());
        let noted = (0..DEEP).fold(Failure::leaf(1), |inner, _| {
            group("level", [inner]).with_note("noted")
        });
        assert_eq!(collapse_eg(noted).notes().len(), DEEP);
    });
}

#[test]
fn comparing_and_copying() {
    on_a_small_stack(|| {
        assert!(comb(DEEP) == comb(DEEP));
        assert!(comb(DEEP) != comb(DEEP - 1));
        assert!(contexts(DEEP) == contexts(DEEP));
        assert!(comb(DEEP).clone() == comb(DEEP));
        assert!(contexts(DEEP).clone() == contexts(DEEP));
        assert!(chain(Failure::leaf(1), DEEP) != chain(Failure::leaf(2), DEEP));
    });
}

#[test]
fn mapping_and_flattening() {
    on_a_small_stack(|| {
        let mapped = comb(DEEP).map(|level| level as u32);
        assert_eq!(mapped.leaves().count(), DEEP + 1);
        let mapped = contexts(DEEP).map(|level| level as u32);
        assert!(mapped.as_leaf().is_some());
        let flat = comb(DEEP).flatten();
        assert_eq!(flat.children().len(), DEEP + 1);
    });
}

#[test]
fn unmasking() {
    on_a_small_stack(|| {
        let masked = (0..DEEP).fold(Failure::leaf(1), |inner, _| stopped().with_context(inner));
        assert_eq!(masked.masked().len(), 1);
        let raised = maybe_raise_from_masking_exc(masked);
        assert_eq!(raised.as_leaf(), Some(&1));
        let inside = chain(stopped().with_context(Failure::leaf(2)), DEEP);
        assert!(is_multi_cancelled(&inside));
        let left = inside.absorb_cancelled().unwrap();
        assert!(left.errors().eq(&[2]));
    });
}

#[test]
fn printing() {
    on_a_small_stack(|| {
        let tree = comb(DEEP);
        assert_eq!(tree.to_string(), "level (2 sub-errors)");
        let drawn = format!("{tree:#}");
        let left_out = format!(
            "… {} leaves in {} more levels left out",
            DEEP - 24 + 1,
            DEEP - 24
        );
        assert!(drawn.ends_with(&left_out), "{drawn}");
        assert!(format!("{tree:?}").contains("more levels left out"));
        assert!(format!("{:?}", contexts(DEEP)).contains("1 context left out"));
        let erased = chain(Failure::new(std::fmt::Error), DEEP);
        assert!(erased.tree().to_string().contains("left out"));
    });
}

#[test]
#[cfg(feature = "serde")]
fn serializing() {
    on_a_small_stack(|| {
        let json = serde_json::to_string(&comb(DEEP)).unwrap();
        assert_eq!(json.matches("\"kind\":\"error\"").count(), DEEP + 1);
        let json = serde_json::to_string(&contexts(DEEP)).unwrap();
        assert_eq!(json.matches("\"role\":\"pending\"").count(), DEEP);
    });
}

#[test]
fn finding() {
    on_a_small_stack(|| {
        let mut innermost = Failure::new(std::fmt::Error);
        let mark = innermost.mark();
        let deep = chain(innermost, DEEP);
        assert!(deep.find_marked(&mark).is_some());
        assert!(deep.find::<std::fmt::Error>().is_some());
        assert!(deep.source().is_some());
    });
}
