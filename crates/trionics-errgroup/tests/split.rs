//! Splitting and selecting.

mod common;

use std::{fmt, io};

use common::{Chained, Unique, group, leaf, names, stopped};
use trionics_errgroup::{ContextRelation, Failure, Node};

fn is_named(name: &'static str) -> impl Fn(&Node<Unique>) -> bool {
    move |node| node.as_leaf().is_some_and(|error| error.name == name)
}

fn sample() -> Failure<Unique> {
    group(
        "outer",
        [
            leaf("a"),
            group(
                "middle",
                [group("inner", [leaf("b"), leaf("a")]), leaf("c")],
            ),
            group("lonely", [leaf("a")]),
            leaf("d"),
        ],
    )
}

/// The shape of a tree in a line.
fn shape(node: &Node<Unique>) -> String {
    match (node.as_leaf(), node.message()) {
        (Some(error), _) => error.name.to_owned(),
        (None, Some(message)) => {
            let children: Vec<_> = node.children().iter().map(shape).collect();
            format!("{message}[{}]", children.join(" "))
        }
        (None, None) => "stopped".to_owned(),
    }
}

/// E-011: where nothing matches there is no first half, and everything is in the second.
#[test]
fn nothing_matches() {
    let (matching, rest) = sample().split(is_named("z"));
    assert!(matching.is_none());
    assert_eq!(shape(&rest.unwrap()), shape(&sample()));
    assert!(sample().subgroup(is_named("z")).is_none());
    let (matching, rest) = leaf("a").split(is_named("z"));
    assert!(matching.is_none());
    assert_eq!(names(&rest.unwrap()), ["a"]);
}

/// The other end of E-011: where everything matches there is no second half, and the group is not rebuilt around it.
#[test]
fn everything_matches() {
    let (matching, rest) = sample().split(Node::is_leaf);
    assert_eq!(shape(&matching.unwrap()), shape(&sample()));
    assert!(rest.is_none());
    let (matching, rest) = leaf("a").split(is_named("a"));
    assert_eq!(names(&matching.unwrap()), ["a"]);
    assert!(rest.is_none());
}

/// E-013: halves keep messages, order and nesting; empty groups vanish, groups of one stay.
#[test]
fn halves_keep_the_shape() {
    let (matching, rest) = sample().split(is_named("a"));
    assert_eq!(
        shape(&matching.unwrap()),
        "outer[a middle[inner[a]] lonely[a]]"
    );
    assert_eq!(shape(&rest.unwrap()), "outer[middle[inner[b] c] d]");
}

/// E-014: each leaf is in one half, with multiplicity, in the original order; a selection is the first half.
#[test]
fn each_leaf_is_in_one_half() {
    let build = || group("g", [1, 2, 1, 3, 2, 1].map(Failure::leaf));
    let is_one = |node: &Node<i32>| node.as_leaf() == Some(&1);
    let (matching, rest) = build().split(is_one);
    assert!(matching.as_ref().unwrap().errors().eq(&[1, 1, 1]));
    assert!(rest.unwrap().errors().eq(&[2, 3, 2]));
    assert_eq!(build().subgroup(is_one), matching);
}

/// E-015: a group is asked about before its children, and taken whole without asking them.
#[test]
fn groups_are_asked_first() {
    let mut asked = Vec::new();
    let (matching, rest) = sample().split(|node| {
        asked.push(shape(node));
        node.message() == Some("inner")
    });
    assert_eq!(
        asked,
        [
            shape(&sample()).as_str(),
            "a",
            "middle[inner[b a] c]",
            "inner[b a]",
            "c",
            "lonely[a]",
            "a",
            "d",
        ]
    );
    assert_eq!(shape(&matching.unwrap()), "outer[middle[inner[b a]]]");
    assert_eq!(shape(&rest.unwrap()), "outer[a middle[c] lonely[a] d]");
}

/// E-021: splitting copies no error: each is the very same value afterwards.
#[test]
fn splitting_moves_the_errors() {
    let tree = sample();
    let numbers: Vec<_> = tree.errors().map(|error| error.number).collect();
    let (matching, rest) = tree.split(is_named("a"));
    let mut after: Vec<_> = [matching.unwrap(), rest.unwrap()]
        .into_iter()
        .flat_map(Failure::into_leaves)
        .map(|leaf| leaf.into_leaf().unwrap().number)
        .collect();
    after.sort_unstable();
    assert_eq!(after, numbers);
}

/// Both halves keep notes, name and cause; contexts stay in the rest, and the first half refers to them.
#[test]
fn halves_keep_what_was_said() {
    let build = || {
        group("g", [leaf("a"), leaf("b")])
            .with_note("noted")
            .with_origin("task")
            .with_cause(fmt::Error)
            .with_context(leaf("context"))
            .with_handled(leaf("handled"))
    };
    let (matching, rest) = build().split(is_named("a"));
    let (matching, rest) = (matching.unwrap(), rest.unwrap());
    for half in [&matching, &rest] {
        assert!(half.notes().eq(["noted"]));
        assert_eq!(half.origin(), Some("task"));
        assert!(half.cause().unwrap().is::<fmt::Error>());
        let relations: Vec<_> = half.contexts().map(|context| context.relation()).collect();
        assert_eq!(
            relations,
            [ContextRelation::Pending, ContextRelation::Handled]
        );
    }
    let kept = rest.context().unwrap().node().unwrap();
    assert_eq!(kept.as_leaf().unwrap().name, "context");
    let reference = matching.context().unwrap();
    assert!(reference.node().is_none());
    assert!(reference.find_in(&matching).is_none());
    assert_eq!(
        reference.find_in(&rest).unwrap().as_leaf().unwrap().name,
        "context"
    );

    let selected = build().subgroup(is_named("a")).unwrap();
    assert_eq!(
        selected
            .context()
            .unwrap()
            .node()
            .unwrap()
            .as_leaf()
            .unwrap()
            .name,
        "context"
    );
    assert!(selected.contexts().all(|context| context.node().is_some()));
}

/// A reference to a sibling holds within a half, and leads nowhere once the sibling is in the other.
#[test]
fn references_survive_a_split() {
    let build = || {
        let mut first = leaf("a");
        let mark = first.mark();
        group("g", [first, leaf("b").with_context_at(mark), leaf("c")])
    };
    let (rest, matching) = build().split(is_named("c"));
    let both = matching.unwrap();
    let context = both.children()[1].context().unwrap();
    assert_eq!(context.find_in(&both).unwrap().as_leaf().unwrap().name, "a");
    drop(rest);
    let (first, others) = build().split(is_named("a"));
    let others = others.unwrap();
    let context = others.children()[0].context().unwrap();
    assert!(context.find_in(&others).is_none());
    assert!(context.find_in(&first.unwrap()).is_some());
}

/// By type, erased leaves are parted by what they were.
#[test]
fn erased_leaves_are_parted_by_type() {
    let build = || {
        group(
            "g",
            [
                Failure::new(fmt::Error),
                group("inner", [Failure::new(io::Error::other("io")), stopped()]),
                Failure::new(Chained::new(&["chained"])).with_note("noted"),
            ],
        )
    };
    let (io, rest) = build().split_by_type::<io::Error>();
    assert_eq!(io.unwrap().children()[0].message(), Some("inner"));
    let rest = rest.unwrap();
    assert!(rest.find::<io::Error>().is_none());
    assert_eq!(rest.leaves().count(), 3);
    let noted = build().subgroup_by_type::<Chained>().unwrap();
    assert!(noted.children()[0].notes().eq(["noted"]));
    assert_eq!(noted.find::<Chained>().unwrap().text, "chained");
}
