//! Handling the parts of a failure, each by its own handler.

mod common;

use common::{Unique, chain, group, leaf, names, stopped};
use trionics_errgroup::{Catch, ContextRelation, Failure, Handled, Node};

fn is_one_of<const N: usize>(wanted: [&'static str; N]) -> impl Fn(&Node<Unique>) -> bool {
    move |node| {
        node.as_leaf()
            .is_some_and(|error| wanted.contains(&error.name))
    }
}

fn sample() -> Failure<Unique> {
    group(
        "outer",
        [
            leaf("a"),
            group("inner", [leaf("b"), leaf("a"), leaf("c")]).with_note("noted"),
            leaf("d"),
        ],
    )
}

fn catch(failure: Failure<Unique>) -> Catch<u8, Unique> {
    Catch::new(Err(failure))
}

/// The names of what a handler is shown, with its groups.
fn shape(node: &Node<&Unique>) -> String {
    match (node.as_leaf(), node.message()) {
        (Some(error), _) => error.name.to_owned(),
        (None, Some(message)) => {
            let children: Vec<_> = node.children().iter().map(shape).collect();
            format!("{message}[{}]", children.join(" "))
        }
        (None, None) => "stopped".to_owned(),
    }
}

/// E-022: each leaf goes to the first handler that matches; each handler is called at most once, with the nesting kept.
#[test]
fn each_leaf_goes_to_its_first_handler() {
    let mut shown = Vec::new();
    let mut calls = Vec::new();
    let left = catch(sample())
        .on(is_one_of(["a"]), |part| {
            shown.push(shape(&part));
            calls.push(1);
            Handled::Done
        })
        .on(is_one_of(["z"]), |_| panic!("nothing is called so"))
        .on(is_one_of(["a", "b"]), |part| {
            assert!(part.children()[0].notes().eq(["noted"]));
            shown.push(shape(&part));
            Handled::Done
        })
        .on(
            |node| node.message() == Some("inner"),
            |part| {
                shown.push(shape(&part));
                Handled::Done
            },
        )
        .finish("left");
    assert_eq!(
        shown,
        ["outer[a inner[a]]", "outer[inner[b]]", "outer[inner[c]]"]
    );
    assert_eq!(calls, [1]);
    assert_eq!(names(&left.unwrap_err()), ["d"]);
}

/// E-023: a bare error is shown in a group of one, and comes out bare if nobody handles it.
#[test]
fn bare_errors_stay_bare() {
    let mut shown = String::new();
    let passed = catch(leaf("a"))
        .on(is_one_of(["a"]), |part| {
            shown = shape(&part);
            Handled::PassOn
        })
        .finish("left");
    assert_eq!(shown, "[a]");
    assert_eq!(passed.unwrap_err().as_leaf().unwrap().name, "a");
    let unhandled = catch(leaf("a"))
        .on(is_one_of(["b"]), |_| Handled::Done)
        .finish("left");
    assert!(unhandled.unwrap_err().is_leaf());
    let stopped = catch(stopped()).on(Node::is_cancelled, |part| {
        assert!(part.children()[0].is_cancelled());
        Handled::Done
    });
    assert!(stopped.finish("left").unwrap().is_none());
}

/// E-024: all handled is success; else the rest comes out, and the rest only.
#[test]
fn only_the_rest_comes_out() {
    let done = catch(sample())
        .on(|_| true, |_| Handled::Done)
        .finish("left");
    assert!(done.unwrap().is_none());
    let left = catch(sample())
        .on(is_one_of(["a", "d"]), |_| Handled::Done)
        .finish("left")
        .unwrap_err();
    assert_eq!(left.message(), Some("outer"));
    assert_eq!(names(&left), ["b", "c"]);
    assert!(left.children()[0].notes().eq(["noted"]));
    let success = Catch::<u8, Unique>::new(Ok(1)).on(|_| true, |_| panic!("nothing failed"));
    assert_eq!(success.finish("left").unwrap(), Some(1));
}

/// E-025: a handler that fails comes out alone if nothing else is left, with what it handled as its context.
#[test]
fn a_failing_handler_comes_out() {
    let failed = catch(sample())
        .on(|_| true, |_| Handled::Failed(leaf("h")))
        .finish("left")
        .unwrap_err();
    assert_eq!(failed.as_leaf().unwrap().name, "h");
    let context = failed.context().unwrap();
    assert_eq!(context.relation(), ContextRelation::Handled);
    assert_eq!(names(context.node().unwrap()), ["a", "b", "a", "c", "d"]);

    let both = catch(sample())
        .on(is_one_of(["a"]), |_| Handled::Failed(leaf("h")))
        .on(is_one_of(["b"]), |_| Handled::Failed(leaf("i")))
        .on(is_one_of(["d"]), |_| Handled::Done)
        .finish("left")
        .unwrap_err();
    assert_eq!(both.message(), Some("left"));
    assert_eq!(names(&both), ["h", "i", "c"]);
    let handled: Vec<_> = both.children()[..2]
        .iter()
        .map(|child| names(child.context().unwrap().node().unwrap()))
        .collect();
    assert_eq!(handled, [vec!["a", "a"], vec!["b"]]);
}

/// E-026: what a handler passes on comes out in its old place, without a group in between, and no later handler sees it.
#[test]
fn what_is_passed_on_keeps_its_place() {
    let original: Vec<_> = sample().errors().map(|error| error.name).collect();
    let passed = catch(sample().with_cause(std::fmt::Error))
        .on(is_one_of(["a", "c"]), |_| Handled::PassOn)
        .on(is_one_of(["a"]), |_| panic!("it was passed on already"))
        .finish("left")
        .unwrap_err();
    assert_eq!(names(&passed), original);
    assert_eq!(passed.message(), Some("outer"));
    assert!(passed.cause().is_some());
    let some = catch(sample())
        .on(is_one_of(["a"]), |_| Handled::PassOn)
        .on(is_one_of(["b"]), |_| Handled::Done)
        .finish("left")
        .unwrap_err();
    assert_eq!(names(&some), ["a", "a", "c", "d"]);
    assert_eq!(some.children()[1].message(), Some("inner"));
}

/// Handling needs no stack as deep as the tree either.
#[test]
fn deep_trees_are_handled() {
    common::on_a_small_stack(|| {
        let left = catch(chain(leaf("a"), common::DEEP))
            .on(is_one_of(["a"]), |part| {
                assert_eq!(part.errors().count(), 1);
                Handled::Failed(leaf("h"))
            })
            .finish("left");
        assert!(left.unwrap_err().is_leaf());
    });
}
