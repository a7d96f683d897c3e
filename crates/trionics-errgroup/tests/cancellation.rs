//! Telling failures from cancellations, and bringing out what cancellations mask.

mod common;

use std::{
    pin::pin,
    task::{self, Poll},
};

use common::{Unique, chain, group, leaf, names, stopped};
use trionics_errgroup::{
    ContextRelation, Failure, LibraryFailure, Node, OutcomeExt, OutcomeFutureExt, Teardown, Unmask,
    is_multi_cancelled, maybe_raise_from_masking_exc,
};

fn library() -> Failure<Unique> {
    Failure::library(LibraryFailure::EmptySet)
}

/// E-038: nothing but `Cancelled`s at any depth, in a group, is yes; anything else is no.
#[test]
fn multi_cancelled_means_only_cancelled() {
    let stopped = || stopped::<Unique>();
    assert!(is_multi_cancelled(&group(
        "g",
        [
            stopped(),
            chain(stopped(), 3),
            group("h", [stopped(), stopped()])
        ]
    )));
    assert!(is_multi_cancelled(&chain(stopped(), 5)));
    assert!(!is_multi_cancelled(&group("g", [leaf("a"), leaf("b")])));
    assert!(!is_multi_cancelled(&stopped()));
    assert!(!is_multi_cancelled(&leaf("a")));
    assert!(!is_multi_cancelled(&group("g", [library()])));
    assert!(stopped().is_all_cancelled());
    assert!(!library().is_all_cancelled());
}

/// E-039: next to a real failure it is no; whether any is cancelled and which part it is are questions of their own.
#[test]
fn a_failure_beside_a_cancelled_counts() {
    let mixed = || {
        group(
            "g",
            [leaf("a"), group("h", [stopped(), leaf("b")]), stopped()],
        )
    };
    assert!(!is_multi_cancelled(&mixed()));
    assert!(!mixed().is_all_cancelled());
    assert!(mixed().has_cancelled());
    assert!(!leaf("a").has_cancelled());
    let part = mixed().cancelled_part().unwrap();
    assert!(is_multi_cancelled(&part));
    assert_eq!(part.leaves().count(), 2);
    assert_eq!(part.children()[0].message(), Some("h"));
    let (cancelled, rest) = mixed().split_cancelled();
    assert_eq!(cancelled.unwrap().leaves().count(), 2);
    assert_eq!(names(&rest.unwrap()), ["a", "b"]);
    assert_eq!(mixed().without_cancelled().unwrap().leaves().count(), 2);
    assert!(group("g", [stopped::<u8>()]).without_cancelled().is_none());
    assert!(leaf("a").cancelled_part().is_none());
}

/// E-041: what was on its way out when a cleanup was stopped comes out, with the `Cancelled` and a mark.
#[test]
fn a_masked_failure_comes_out() {
    let masked = leaf("a").with_note("noted");
    let number = masked.as_leaf().unwrap().number;
    let failure = stopped().with_context(masked);
    let raised = maybe_raise_from_masking_exc(failure);
    assert_eq!(raised.as_leaf().unwrap().number, number);
    assert!(raised.notes().eq(["noted"]));
    assert!(raised.masked_by().unwrap().is_cancelled());
    assert!(!raised.is_all_cancelled());

    let mut teardown = Teardown::after(Err::<(), _>(leaf("a")));
    teardown.record(Err(stopped()));
    let raised = teardown
        .finish_last()
        .maybe_raise_from_masking_exc()
        .unwrap_err();
    assert_eq!(raised.as_leaf().unwrap().name, "a");
    let raised = maybe_raise_from_masking_exc(stopped().with_context(library()));
    assert!(raised.as_library().is_some());
}

/// E-043: a plain failure, one with a context of its own, or success is left alone.
#[test]
fn plain_failures_pass() {
    for failure in [
        leaf("a"),
        group("g", [leaf("a"), stopped()]),
        leaf("a").with_context(leaf("b")),
        library(),
    ] {
        let before = (failure.leaves().count(), failure.contexts().len());
        let after = maybe_raise_from_masking_exc(failure);
        assert_eq!((after.leaves().count(), after.contexts().len()), before);
        assert!(after.masked_by().is_none());
        assert!(after.leaves().all(|leaf| leaf.masked_by().is_none()));
    }
    let success: Result<u8, Failure<Unique>> = Ok(1);
    assert_eq!(success.maybe_raise_from_masking_exc().unwrap(), 1);
}

/// E-047: to report only, the `Cancelled` goes on and what it masks can be read.
#[test]
fn masked_failures_can_be_reported() {
    let failure = group(
        "g",
        [
            stopped().with_context(stopped().with_context(leaf("a"))),
            group(
                "h",
                [
                    stopped(),
                    stopped().with_context(group("i", [leaf("b"), leaf("c")])),
                ],
            ),
            stopped().with_handled(leaf("d")),
            leaf("e").with_context(leaf("f")),
        ],
    );
    let report = failure.masked();
    let masked: Vec<_> = report.iter().map(|pair| names(pair.failure)).collect();
    assert_eq!(masked, [vec!["a"], vec!["b", "c"]]);
    assert!(report.iter().all(|pair| pair.masker.is_cancelled()));
    assert!(std::ptr::eq(report[0].masker, &failure.children()[0]));
    assert_eq!(names(&failure), ["e"]);
    let kept = Unmask::new().keep_pair(|_, masked| masked.is_leaf());
    assert_eq!(kept.report(&failure).len(), 1);
}

/// E-048: a `Cancelled` that masks a `Cancelled` stays one, without a mark.
#[test]
fn cancelled_behind_cancelled_stays() {
    let failure: Failure<Unique> = stopped()
        .with_context(stopped())
        .with_context(group("g", [stopped()]));
    assert!(failure.masked().is_empty());
    let after = maybe_raise_from_masking_exc(failure);
    assert!(after.is_cancelled());
    assert!(after.masked_by().is_none());
    assert_eq!(after.contexts().len(), 2);
    assert_eq!(
        after.context().unwrap().relation(),
        ContextRelation::Pending
    );
}

/// E-049: what had been dealt with before a wait was stopped never comes out, nor does a pair on the list.
#[test]
fn what_was_dealt_with_stays_in() {
    let busy = || stopped().with_handled(leaf("would block"));
    assert!(busy().masked().is_empty());
    assert!(maybe_raise_from_masking_exc(busy()).is_cancelled());
    assert!(busy().absorb_cancelled().is_none());
    let deeper = stopped().with_handled(stopped().with_context(leaf("old")));
    assert!(maybe_raise_from_masking_exc(deeper).is_cancelled());

    let unmask = Unmask::<Unique>::new().keep_pair(|masker, masked| {
        masker.is_cancelled()
            && masked
                .as_leaf()
                .is_some_and(|error| error.name == "would block")
    });
    let pending = || stopped().with_context(leaf("would block"));
    assert!(unmask.report(&pending()).is_empty());
    let kept = unmask.apply(pending());
    assert!(kept.is_cancelled());
    assert!(
        kept.absorb_cancelled().is_none(),
        "what was kept stays in for good"
    );
    let other = unmask.apply(stopped().with_context(leaf("other")));
    assert_eq!(names(&other), ["other"]);
    let behind = unmask.apply(pending().with_context(leaf("behind")));
    assert_eq!(names(&behind), ["behind"]);
}

/// E-053: through several stopped cleanups in a row, the failure comes out.
#[test]
fn a_failure_behind_several_cancelled_comes_out() {
    let nested = stopped().with_context(stopped().with_context(stopped().with_context(leaf("a"))));
    let raised = maybe_raise_from_masking_exc(nested);
    assert_eq!(raised.as_leaf().unwrap().name, "a");
    assert!(raised.masked_by().is_some());
    let listed = stopped().with_context(stopped()).with_context(leaf("b"));
    assert_eq!(names(&maybe_raise_from_masking_exc(listed)), ["b"]);
    let by_a_group = group("nursery", [stopped(), stopped()]).with_context(leaf("c"));
    let raised = maybe_raise_from_masking_exc(by_a_group);
    assert_eq!(names(&raised), ["c"]);
    assert!(is_multi_cancelled(raised.masked_by().unwrap()));
}

/// Every masked failure comes out in its place, several in a group and nested ones.
#[test]
fn several_come_out_in_place() {
    let tree = group(
        "outer",
        [
            leaf("a"),
            stopped().with_context(leaf("b")),
            group("inner", [stopped(), stopped().with_context(leaf("c"))]),
            stopped().with_context(group(
                "masked",
                [leaf("d"), stopped().with_context(leaf("e"))],
            )),
        ],
    )
    .with_note("noted");
    let raised = maybe_raise_from_masking_exc(tree);
    assert_eq!(names(&raised), ["a", "b", "c", "d", "e"]);
    assert!(raised.notes().eq(["noted"]));
    let children = raised.children();
    assert!(children[0].masked_by().is_none());
    assert!(children[1].masked_by().is_some());
    assert!(children[2].masked_by().is_none());
    assert!(children[2].children()[0].is_cancelled());
    assert_eq!(children[3].message(), Some("masked"));
    assert!(
        maybe_raise_from_masking_exc(raised).children()[1]
            .masked_by()
            .is_some()
    );
}

/// What was on its way out before the failure that comes out becomes that failure's context.
#[test]
fn earlier_failures_stay_behind_the_one_that_comes_out() {
    let failure = stopped()
        .with_context(leaf("near"))
        .with_context(leaf("far"));
    let raised = maybe_raise_from_masking_exc(failure);
    assert_eq!(names(&raised), ["near"]);
    let context = raised.context().unwrap();
    assert_eq!(context.relation(), ContextRelation::Pending);
    assert_eq!(context.node().unwrap().as_leaf().unwrap().name, "far");
}

/// A context of a group in which something failed explains it, and does not come out.
#[test]
fn a_failed_group_masks_nothing() {
    let failure = group("g", [leaf("a"), stopped()]).with_context(leaf("b"));
    assert!(failure.masked().is_empty());
    assert_eq!(names(&maybe_raise_from_masking_exc(failure)), ["a"]);
}

/// To absorb takes cancellations for success only where nothing failed, and brings out what they mask.
#[test]
fn absorbing_hides_no_failure() {
    let absorb = |failure: Failure<Unique>| Err::<u8, _>(failure).absorb_cancelled();
    assert!(absorb(stopped()).unwrap().is_none());
    assert!(
        absorb(group("g", [stopped(), chain(stopped(), 2)]))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        Ok::<_, Failure<Unique>>(1).absorb_cancelled().unwrap(),
        Some(1)
    );
    let mixed = absorb(group("g", [stopped(), leaf("a")])).unwrap_err();
    assert_eq!((mixed.leaves().count(), names(&mixed)), (1, vec!["a"]));
    let masked = absorb(group("g", [stopped().with_context(leaf("b")), stopped()])).unwrap_err();
    assert_eq!(names(&masked), ["b"]);
    assert!(absorb(library()).is_err());
    assert_eq!(
        names(
            &stopped()
                .with_context(leaf("c"))
                .without_cancelled()
                .unwrap()
        ),
        ["c"]
    );
}

/// Around a future it is the same, in the order in which it is written.
#[test]
fn futures_unmask_and_absorb() {
    let ready = |failure: Failure<Unique>| async { Err::<u8, _>(failure) };
    let mut context = task::Context::from_waker(task::Waker::noop());
    let Poll::Ready(outcome) = pin!(
        ready(chain(stopped().with_context(leaf("a")), 2))
            .maybe_raise_from_masking_exc()
            .collapse_eg()
    )
    .poll(&mut context) else {
        panic!("nothing is waited for")
    };
    assert_eq!(outcome.unwrap_err().as_leaf().unwrap().name, "a");
    let Poll::Ready(outcome) =
        pin!(ready(chain(stopped(), 2)).absorb_cancelled()).poll(&mut context)
    else {
        panic!("nothing is waited for")
    };
    assert!(outcome.unwrap().is_none());
}

/// A teardown hands each step what is on its way out, and its end hides nothing.
#[test]
fn a_teardown_hides_nothing() {
    let mut seen = Vec::new();
    let mut teardown = Teardown::after(Err::<u8, _>(leaf("body")));
    for step in ["first", "second", "third"] {
        teardown.run(|pending: Option<&Node<Unique>>| {
            seen.push(pending.map(|failure| failure.as_leaf().unwrap().name));
            if step == "second" {
                Ok(())
            } else {
                Err(leaf(step))
            }
        });
    }
    assert_eq!(seen, [Some("body"), Some("first"), Some("first")]);
    let failure = teardown.finish("feed").unwrap_err();
    assert_eq!(failure.message(), Some("feed"));
    assert_eq!(names(&failure), ["body", "first", "third"]);
    let behind: Vec<_> = failure
        .children()
        .iter()
        .map(|child| Some(child.context()?.find_in(&failure)?.as_leaf()?.name))
        .collect();
    assert_eq!(behind, [None, Some("body"), Some("first")]);

    assert_eq!(
        Teardown::<u8, Unique>::after(Ok(1)).finish("feed").unwrap(),
        1
    );
    let mut only_the_step = Teardown::after(Ok(1));
    only_the_step.run(|pending| {
        assert!(pending.is_none());
        Err(leaf("step"))
    });
    assert_eq!(
        only_the_step
            .finish("feed")
            .unwrap_err()
            .as_leaf()
            .unwrap()
            .name,
        "step"
    );
    assert_eq!(
        Teardown::<u8, Unique>::after(Ok(1)).finish_last().unwrap(),
        1
    );
}
