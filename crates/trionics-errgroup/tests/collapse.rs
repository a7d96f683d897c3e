//! Collapsing.

mod common;

use std::{error::Error, fmt, pin::pin, task};

use common::{Chained, Unique, chain, group, leaf, names, stopped};
use trionics_errgroup::{
    Collapse, Failure, OutcomeExt, OutcomeFutureExt, collapse_eg, get_collapsed_eg,
};

/// E-027: a group of one, however deep, becomes its leaf, and the leaf's type can be matched.
#[test]
fn one_leaf_comes_out() {
    for n_levels in 1..6 {
        let failure = chain(Failure::new(fmt::Error), n_levels);
        let collapsed = collapse_eg(failure);
        assert!(collapsed.is::<fmt::Error>());
        assert_eq!(collapsed.n_collapsed(), n_levels);
        assert!(collapsed.into_leaf().unwrap().is::<fmt::Error>());
    }
    assert!(collapse_eg(chain(stopped::<u8>(), 3)).is_cancelled());
}

/// E-028: without a group of one anywhere it is the very same tree, and the question is answered with no.
#[test]
fn wide_groups_stay() {
    let wide = group("g", [leaf("a"), group("h", [leaf("b"), leaf("c")])]);
    let addresses = |failure: &Failure<Unique>| {
        let children = failure.children().iter();
        children.map(|child| &raw const *child).collect::<Vec<_>>()
    };
    let before = addresses(&wide);
    let same = get_collapsed_eg(wide).unwrap_err();
    assert_eq!(addresses(&same), before);
    assert_eq!(same.n_collapsed(), 0);
    assert!(same.children().iter().all(|child| child.n_collapsed() == 0));
    assert!(get_collapsed_eg(leaf("a")).unwrap_err().is_leaf());
}

/// E-029: inner groups of one go, although the outer one stays.
#[test]
fn inner_groups_of_one_go() {
    let nested = group(
        "outer",
        [group("x", [leaf("a")]), chain(leaf("b"), 3), leaf("c")],
    );
    let collapsed = get_collapsed_eg(nested).unwrap();
    assert_eq!(collapsed.message(), Some("outer"));
    assert!(collapsed.children().iter().all(|child| child.is_leaf()));
    assert_eq!(names(&collapsed), ["a", "b", "c"]);
    let counts: Vec<_> = collapsed
        .children()
        .iter()
        .map(|child| child.n_collapsed())
        .collect();
    assert_eq!(counts, [1, 3, 0]);
}

/// E-030: `[[E, F]]` becomes the inner group, and that counts as collapsed.
#[test]
fn an_inner_group_of_two_comes_out() {
    let collapsed =
        get_collapsed_eg(group("outer", [group("inner", [leaf("a"), leaf("b")])])).unwrap();
    assert_eq!(collapsed.message(), Some("inner"));
    assert_eq!(names(&collapsed), ["a", "b"]);
}

/// E-032: a group that would as a whole collapse to something on the ignore list is kept; inner ones are not asked about.
#[test]
fn what_is_ignored_stays_in_its_group() {
    let collapse = Collapse::new().ignore_type::<fmt::Error>();
    let kept = collapse.apply(chain(Failure::new(fmt::Error), 2));
    assert_eq!(kept.children()[0].children().len(), 1);
    assert_eq!(kept.n_collapsed(), 0);
    let other = collapse.apply(chain(Failure::new(Chained::new(&["x"])), 2));
    assert!(other.is::<Chained>());
    let inside = group(
        "outer",
        [chain(Failure::new(fmt::Error), 1), Failure::new(fmt::Error)],
    );
    assert!(collapse.apply(inside).children()[0].is_leaf());

    let stays = group("outer", [chain(Failure::leaf(1), 1), Failure::leaf(2)]);
    let no_groups = Collapse::new().ignore(|node| node.is_group());
    assert!(no_groups.apply(stays).children()[0].is_leaf());
    assert!(
        no_groups
            .get(group(
                "g",
                [group("h", [Failure::leaf(1), Failure::leaf(2)])]
            ))
            .is_err()
    );

    let two = Collapse::new()
        .ignore(|node| node.is_cancelled())
        .ignore_type::<fmt::Error>();
    assert!(two.apply(chain(stopped(), 1)).is_group());
    assert!(two.apply(chain(Failure::new(fmt::Error), 1)).is_group());
    assert!(two.get(chain(Failure::new(fmt::Error), 1)).is_err());
}

/// E-034: the leaf keeps its own cause, and the group that went is neither cause nor context.
#[test]
fn the_group_does_not_become_a_cause() {
    let failure = chain(Failure::new(Chained::new(&["top", "bottom"])), 3);
    let collapsed = collapse_eg(failure);
    let source = collapsed.source().unwrap();
    assert_eq!(source.to_string(), "bottom");
    assert!(source.source().is_none());
    assert_eq!(collapsed.contexts().len(), 0);
    let text = collapsed.tree().to_string();
    assert!(!text.contains("level"), "{text}");
    let caused = group(
        "g",
        [Failure::<Chained>::leaf(Chained::new(&["top", "bottom"]))],
    )
    .with_cause(fmt::Error);
    assert_eq!(collapse_eg(caused).source().unwrap().to_string(), "bottom");
}

/// E-037: groups collapse whoever made them, with or without a name, a note or an owner.
#[test]
fn all_groups_collapse_alike() {
    let by_hand = Failure::group_of("by hand", [1]).unwrap();
    let derived = by_hand.derive([Failure::leaf(1)]).unwrap();
    let named = group("nursery", [Failure::leaf(1)])
        .with_origin("task")
        .with_note("noted");
    for failure in [by_hand, derived, named] {
        assert_eq!(collapse_eg(failure).into_leaf().ok(), Some(1));
    }
}

/// Nothing that was said of a group is lost with it, and the marks can be switched off.
#[test]
fn what_was_said_goes_to_the_leaf() {
    let inner = group(
        "inner",
        [leaf("a").with_note("1").with_context(leaf("near"))],
    )
    .with_note("2")
    .with_origin("inner task")
    .with_context(leaf("far"));
    let outer = group("outer", [inner])
        .with_note("3")
        .with_origin("outer task")
        .with_cause(fmt::Error);
    let collapsed = collapse_eg(group("outermost", [outer]).with_cause(fmt::Error));
    assert!(collapsed.is_leaf());
    assert!(collapsed.notes().eq([
        "1",
        "2",
        "3",
        "also caused by: an error occurred when formatting an argument"
    ]));
    assert_eq!(collapsed.origin(), Some("inner task"));
    let contexts: Vec<_> = collapsed
        .contexts()
        .map(|context| context.node().unwrap().as_leaf().unwrap().name)
        .collect();
    assert_eq!(contexts, ["near", "far"]);
    assert!(collapsed.cause().unwrap().is::<fmt::Error>());
    assert_eq!(collapsed.n_collapsed(), 3);

    let unmarked = Collapse::new().unmarked().apply(chain(leaf("a"), 4));
    assert_eq!(unmarked.n_collapsed(), 0);
    let again = collapse_eg(group("again", [collapse_eg(chain(leaf("a"), 2))]));
    assert_eq!(again.n_collapsed(), 3);
    let through_groups = collapse_eg(group(
        "a",
        [collapse_eg(group(
            "b",
            [group("c", [leaf("x"), leaf("y")])],
        ))],
    ));
    assert_eq!(
        (through_groups.message(), through_groups.n_collapsed()),
        (Some("c"), 2)
    );
}

/// References to a group that went lead to what it held.
#[test]
fn references_lead_to_what_is_left() {
    let mut first = group("first", [leaf("a")]);
    let mark = first.mark();
    let tree = group("both", [first, leaf("b").with_context_at(mark)]);
    let collapsed = collapse_eg(tree);
    let context = collapsed.children()[1].context().unwrap();
    assert_eq!(
        context.find_in(&collapsed).unwrap().as_leaf().unwrap().name,
        "a"
    );
}

/// On a result and around a future it is the same, and success passes.
#[test]
fn results_and_futures_collapse() {
    let outcome: Result<u8, _> = Err(chain(leaf("a"), 2));
    assert!(outcome.collapse_eg().unwrap_err().is_leaf());
    let outcome: Result<u8, Failure<Unique>> = Ok(1);
    assert_eq!(outcome.collapse_eg().unwrap(), 1);

    let mut polls = 0;
    let future = std::future::poll_fn(move |_| {
        polls += 1;
        match polls {
            1 => task::Poll::Pending,
            _ => task::Poll::Ready(Err::<u8, _>(chain(leaf("a"), 2))),
        }
    });
    let mut future = pin!(future.collapse_eg_with(Collapse::new().unmarked()));
    let mut context = task::Context::from_waker(task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    let task::Poll::Ready(Err(failure)) = future.as_mut().poll(&mut context) else {
        panic!("the future is ready at its second poll")
    };
    assert!(failure.is_leaf());
    assert_eq!(failure.n_collapsed(), 0);
}
