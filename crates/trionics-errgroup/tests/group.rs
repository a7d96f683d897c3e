//! Building groups, and what can be seen of them.

mod common;

use std::{error::Error, fmt, io, num::ParseIntError};

use common::{Chained, Unique, cancelled, chain, group, leaf, names, stopped};
use trionics_errgroup::{AnyError, CancelReason, EmptyGroup, Failure, LibraryFailure, Node};

/// E-001: a group of nothing is an error, not an empty group.
#[test]
fn no_group_of_nothing() {
    let nothing: [Failure<Unique>; 0] = [];
    assert!(matches!(Failure::group("nobody", nothing), Err(EmptyGroup)));
    assert!(EmptyGroup.to_string().contains("return success"));
    let derived = leaf("a").derive(Vec::<Failure<u8>>::new());
    assert!(matches!(derived, Err(EmptyGroup)));
}

/// E-002: children keep their order, and the lists that go in and come out are not shared.
#[test]
fn children_keep_their_order() {
    let mut list: Vec<_> = ["a", "b", "c"].into_iter().map(leaf).collect();
    let built = Failure::group("list", list.drain(..)).unwrap();
    list.push(leaf("d"));
    let mut shown: Vec<&Node<Unique>> = built.children().iter().collect();
    shown.reverse();
    shown.pop();
    assert_eq!(names(&built), ["a", "b", "c"]);
    assert_eq!(built.children().len(), 3);
    let taken = built.into_children().unwrap();
    let again: Vec<_> = taken
        .into_iter()
        .map(|child| child.into_leaf().unwrap().name)
        .collect();
    assert_eq!(again, ["a", "b", "c"]);
}

/// E-003: groups nest, and building flattens and drops nothing. (The same value twice cannot be expressed.)
#[test]
fn groups_nest() {
    let nested = group(
        "outer",
        [
            leaf("a"),
            group("middle", [group("inner", [leaf("b")]), leaf("c")]),
            leaf("d"),
        ],
    );
    let children = nested.children();
    assert_eq!(children.len(), 3);
    assert_eq!(children[1].message(), Some("middle"));
    assert_eq!(children[1].children()[0].message(), Some("inner"));
    assert_eq!(
        children[1].children()[0].children()[0]
            .as_leaf()
            .unwrap()
            .name,
        "b"
    );
    assert_eq!(names(&nested), ["a", "b", "c", "d"]);
    let equal = Failure::group("twice", [Failure::leaf(1), Failure::leaf(1)]).unwrap();
    assert_eq!(equal.leaves().count(), 2);
}

/// E-004: the line counts the direct children, and one is one.
#[test]
fn the_line_counts_direct_children() {
    let four = Failure::group(
        "nested",
        [
            Failure::group("x", [Failure::leaf("a"), Failure::leaf("b")]).unwrap(),
            Failure::group("y", [Failure::leaf("c")]).unwrap(),
            Failure::leaf("d"),
            Failure::leaf("e"),
        ],
    )
    .unwrap();
    assert_eq!(four.to_string(), "nested (4 sub-errors)");
    assert_eq!(four.children()[1].to_string(), "y (1 sub-error)");
    assert_eq!(four.children()[2].to_string(), "d");
}

/// E-005: `{:?}` shows the whole tree, each leaf and each message once.
#[test]
fn debug_shows_the_whole_tree_once() {
    let tree = group(
        "outer",
        [leaf("first"), group("inner", [leaf("second"), stopped()])],
    );
    let text = format!("{tree:?}");
    for once in [
        "outer",
        "inner",
        "\"first\"",
        "\"second\"",
        "the deadline passed",
    ] {
        assert_eq!(text.matches(once).count(), 1, "{once} in {text}");
    }
    assert!(text.contains("outer (2 sub-errors)\n├─ Unique {"), "{text}");
    let erased = group(
        "outer",
        [Failure::new(Chained::new(&["a", "because of b"]))],
    );
    assert_eq!(
        format!("{erased:?}"),
        "outer (1 sub-error)\n╰─ a\n     caused by: because of b"
    );
    let pretty = format!("{tree:#?}");
    assert!(pretty.contains("name: \"first\",\n"), "{pretty}");
}

/// E-007: leaves come depth first and from left to right, groups do not come.
#[test]
fn leaves_come_in_order() {
    let tree = group(
        "0",
        [
            group("1", [leaf("a"), group("2", [leaf("b")])]),
            stopped(),
            leaf("c"),
            group("3", [group("4", [leaf("d")])]),
        ],
    );
    assert!(tree.leaves().all(Node::is_leaf));
    let seen: Vec<_> = tree
        .leaves()
        .map(|leaf| leaf.as_leaf().map_or("stopped", |error| error.name))
        .collect();
    assert_eq!(seen, ["a", "b", "stopped", "c", "d"]);
    assert_eq!(names(&tree), ["a", "b", "c", "d"]);
    let mut leaves = tree.leaves();
    assert_eq!(leaves.clone().count(), 5);
    assert_eq!(leaves.by_ref().count(), 5);
    assert!(leaves.next().is_none());
    let taken: Vec<_> = tree.into_leaves().collect();
    assert_eq!(taken.len(), 5);
    assert!(taken[2].is_cancelled());
}

/// E-008: on the way, each leaf's groups can be had, outermost first.
#[test]
fn leaves_come_with_their_path() {
    let tree = group(
        "0",
        [
            group("1", [leaf("a"), group("2", [leaf("b")])]),
            leaf("c"),
            group("3", [leaf("d")]),
        ],
    );
    let mut leaves = tree.leaves();
    assert_eq!(leaves.path().len(), 0);
    let mut paths = Vec::new();
    while leaves.next().is_some() {
        let path: Vec<_> = leaves.path().filter_map(Node::message).collect();
        paths.push(path.join("/"));
    }
    assert_eq!(paths, ["0/1", "0/1/2", "0", "0/3"]);
    let lone = leaf("alone");
    let mut leaves = lone.leaves();
    assert!(leaves.next().is_some());
    assert_eq!(leaves.path().len(), 0);
}

/// E-010: a leaf keeps its cause chain wherever it is moved.
#[test]
fn a_leaf_keeps_its_sources() {
    let tree = group(
        "outer",
        [
            Failure::new(Chained::new(&["top", "middle", "bottom"])),
            Failure::new(io::Error::other("other")),
        ],
    );
    let (chained, _) = group("around", [tree]).split_by_type::<Chained>();
    let alone = trionics_errgroup::collapse_eg(chained.unwrap());
    let error = alone.into_leaf().unwrap().downcast::<Chained>().unwrap();
    let middle = error.source().unwrap();
    assert_eq!(middle.to_string(), "middle");
    assert_eq!(middle.source().unwrap().to_string(), "bottom");
    assert!(middle.source().unwrap().source().is_none());
}

/// E-018: a derived group has the message and the name, but not the notes, the contexts or the cause.
#[test]
fn derive_keeps_what_the_group_is() {
    let original = group("reload", [leaf("a")])
        .with_origin("settings")
        .with_note("a note")
        .with_context(leaf("b"))
        .with_cause(fmt::Error);
    let derived = original
        .derive([Failure::leaf(1), Failure::leaf(2)])
        .unwrap();
    assert_eq!(derived.message(), Some("reload"));
    assert_eq!(derived.origin(), Some("settings"));
    assert_eq!(derived.notes().len(), 0);
    assert_eq!(derived.contexts().len(), 0);
    assert!(derived.cause().is_none());
    assert!(derived.errors().eq(&[1, 2]));
}

/// N-039: a group's source is its cause if one was set, else its first error; the chain ends.
#[test]
fn the_source_of_a_group_ends() {
    let chained = || Failure::<Chained>::leaf(Chained::new(&["top", "bottom"]));
    let plain = group(
        "inner",
        [stopped(), group("deeper", [chained(), chained()])],
    );
    let mut chain = Vec::new();
    let mut next: Option<&dyn Error> = Some(&plain);
    while let Some(error) = next {
        chain.push(error.to_string());
        assert!(chain.len() < 10, "the chain of sources does not end");
        next = error.source();
    }
    assert_eq!(chain, ["inner (2 sub-errors)", "top", "bottom"]);

    let caused = plain.with_cause(fmt::Error);
    assert!(caused.source().unwrap().is::<fmt::Error>());
    assert_eq!(chained().source().unwrap().to_string(), "bottom");
    let only_stopped: Failure<Chained> = group("stopped", [stopped()]);
    assert!(only_stopped.source().is_none());
    let erased = group("erased", [Failure::new(Chained::new(&["top", "bottom"]))]);
    assert_eq!(
        Node::<AnyError>::source(&erased).unwrap().to_string(),
        "top"
    );
}

/// `?` takes an error and a tree, for a typed leaf, for the erased one, and for one that is no `Error`.
#[test]
fn question_mark_takes_errors_and_trees() {
    fn typed(fail: bool) -> Result<(), Failure<ParseIntError>> {
        if fail {
            "x".parse::<u8>()?;
        }
        Err(group(
            "typed",
            [Failure::leaf("".parse::<u8>().unwrap_err())],
        ))?
    }
    fn erased(fail: bool) -> Result<(), Failure> {
        if fail {
            Err(io::Error::other("erased"))?;
        }
        Err(group("erased", [Failure::new(fmt::Error)]))?
    }
    fn neither_clone_nor_error(fail: bool) -> Result<(), Failure<Unique>> {
        if fail {
            Err(Unique::new("bare"))?;
        }
        Err(chain(leaf("deep"), 2))?
    }
    assert!(typed(true).unwrap_err().is_leaf());
    assert_eq!(typed(false).unwrap_err().message(), Some("typed"));
    assert!(erased(true).unwrap_err().is::<io::Error>());
    assert_eq!(erased(false).unwrap_err().message(), Some("erased"));
    assert_eq!(
        neither_clone_nor_error(true)
            .unwrap_err()
            .as_leaf()
            .unwrap()
            .name,
        "bare"
    );
    assert_eq!(
        neither_clone_nor_error(false).unwrap_err().children().len(),
        1
    );
}

/// The very same value comes back, whatever is said about it.
#[test]
fn leaves_give_back_the_same_value() {
    let allocation = Box::new(1);
    let address = &raw const *allocation;
    let failure = Failure::leaf(allocation)
        .with_note("a note")
        .with_origin("here");
    let moved = group("moved", [failure]);
    let back = moved.into_leaves().next().unwrap().into_leaf().unwrap();
    assert_eq!(&raw const *back, address);
    let grouped = group("not a leaf", [Failure::leaf(1)]);
    assert_eq!(
        grouped.into_leaf().unwrap_err().message(),
        Some("not a leaf")
    );
    assert!(stopped::<u8>().into_leaf().unwrap_err().is_cancelled());
    assert!(Failure::leaf(1).into_children().unwrap_err().is_leaf());
}

/// A failure is one pointer wide, and so is a result that holds nothing else; an erased leaf in a group is two.
#[test]
fn sizes() {
    let pointer = size_of::<usize>();
    assert_eq!(size_of::<Failure>(), pointer);
    assert_eq!(size_of::<Failure<[u64; 100]>>(), pointer);
    assert_eq!(size_of::<Result<(), Failure>>(), pointer);
    assert_eq!(size_of::<Result<(), Failure<String>>>(), pointer);
    assert_eq!(size_of::<Option<Failure>>(), pointer);
    assert_eq!(size_of::<Node<AnyError>>(), 2 * pointer);
    assert_eq!(size_of::<Node<Box<u8>>>(), 2 * pointer);
    assert_eq!(size_of::<Node<String>>(), size_of::<String>());
}

/// Every kind of node answers for itself only.
#[test]
fn kinds_are_told_apart() {
    let library: Failure<u8> = Failure::library(LibraryFailure::EmptySet);
    let nodes = [
        Failure::leaf(7),
        stopped(),
        library,
        group("group", [Failure::leaf(1)]),
    ];
    let answers: Vec<_> = nodes
        .iter()
        .map(|node| {
            (
                node.as_leaf().is_some(),
                node.is_cancelled(),
                node.as_library().is_some(),
                node.is_group(),
                node.message().is_some(),
                node.children().len(),
            )
        })
        .collect();
    assert_eq!(
        answers,
        [
            (true, false, false, false, false, 0),
            (false, true, false, false, false, 0),
            (false, false, true, false, false, 0),
            (false, false, false, true, true, 1),
        ]
    );
}

/// A cancellation says why and where, and clones of it are the same one.
#[test]
fn a_cancelled_says_why_and_where() {
    let line = line!() + 1;
    let given = cancelled(CancelReason::ChildFailed {
        child: Some("feed".into()),
    });
    assert_eq!(given.location().line(), line);
    assert_eq!(given.location().file(), file!());
    assert_eq!(given.to_string(), "cancelled: child `feed` failed");
    assert_eq!(given.clone(), given);
    assert!(format!("{given:?}").contains("group.rs"));
    let failure: Failure<u8> = Failure::cancelled(given.clone());
    assert_eq!(failure.as_cancelled(), Some(&given));
    assert_eq!(failure.to_string(), given.to_string());
    assert_eq!(size_of_val(&given), size_of::<usize>());
}

/// The library's own failures say what to do.
#[test]
fn library_failures_say_what_to_do() {
    let cycle = LibraryFailure::Cycle {
        path: vec!["a".into(), "b".into()],
    };
    assert_eq!(
        cycle.to_string(),
        "`a` needs `b` needs `a`: open one of them outside, and pass it in"
    );
    let all = [
        (LibraryFailure::NotStarted, "call `started`"),
        (LibraryFailure::EmptySet, "give at least one element"),
        (
            LibraryFailure::Closed {
                what: "the cache".into(),
            },
            "the cache is closed: start the work before",
        ),
        (
            LibraryFailure::Full {
                what: "the cache".into(),
            },
            "the cache is full: leave something first",
        ),
        (
            LibraryFailure::Cycle { path: vec![] },
            "open one of them outside",
        ),
        (LibraryFailure::NotProvided, "call `provide`"),
        (LibraryFailure::ContextEnded, "open it again"),
        (
            LibraryFailure::OutOfGrace {
                names: vec!["feed".into(), "log".into()],
            },
            "dropped: feed, log; give the exits more time",
        ),
    ];
    for (failure, advice) in all {
        assert!(failure.to_string().contains(advice), "{failure}");
    }
}

/// Errors can be changed where they stand, also under notes and in inner groups.
#[test]
fn errors_can_be_changed_in_place() {
    let mut tree = group(
        "outer",
        [
            Failure::leaf(1).with_note("noted"),
            stopped(),
            group("inner", [Failure::leaf(2)]),
        ],
    );
    for error in tree.errors_mut() {
        *error *= 10;
    }
    assert!(tree.errors().eq(&[10, 20]));
    assert!(tree.children()[0].notes().eq(["noted"]));
}

/// `map` keeps everything but the errors, those in contexts included.
#[test]
fn map_keeps_everything_else() {
    let mut first = Failure::leaf(1).with_note("first").with_origin("task");
    let mark = first.mark();
    let tree = group(
        "outer",
        [
            first.with_handled(Failure::leaf(2)),
            stopped(),
            Failure::leaf(3).with_context_at(mark),
        ],
    )
    .with_cause(fmt::Error)
    .with_context(group("context", [Failure::leaf(4)]));
    let mapped = tree.map(|number| number.to_string());
    assert!(mapped.errors().eq(["1", "3"]));
    let children = mapped.children();
    assert!(children[0].notes().eq(["first"]));
    assert_eq!(children[0].origin(), Some("task"));
    assert_eq!(
        children[0]
            .context()
            .unwrap()
            .node()
            .unwrap()
            .as_leaf()
            .unwrap(),
        "2"
    );
    assert!(children[1].is_cancelled());
    let reference = children[2].context().unwrap().find_in(&mapped).unwrap();
    assert_eq!(reference.as_leaf().unwrap(), "1");
    assert!(mapped.cause().is_some());
    let context = mapped.context().unwrap().node().unwrap();
    assert_eq!(
        (
            context.message(),
            context.children()[0].as_leaf().unwrap().as_str()
        ),
        (Some("context"), "4")
    );
}

/// `flatten` keeps the leaves, and what was said of the groups but for their messages.
#[test]
fn flatten_keeps_leaves_and_contexts() {
    let inner = group("inner", [leaf("a"), leaf("b").with_origin("own")])
        .with_origin("task")
        .with_note("inner note")
        .with_context(leaf("context"));
    let tree = group("outer", [group("middle", [inner]), leaf("c")]).with_note("outer note");
    let flat = tree.flatten();
    assert_eq!(names(&flat), ["a", "b", "c"]);
    assert_eq!(flat.children().len(), 3);
    assert_eq!(flat.message(), Some("outer"));
    assert!(flat.notes().eq(["outer note", "inner note"]));
    assert_eq!(flat.contexts().len(), 1);
    let origins: Vec<_> = flat.children().iter().map(Node::origin).collect();
    assert_eq!(origins, [Some("task"), Some("own"), None]);
    assert_eq!(flat.origin(), None);
    assert!(leaf("alone").flatten().is_leaf());
}

/// Trees are equal by shape and content; references are equal if they lead to the same place.
#[test]
fn trees_compare() {
    let build = |number: u64, note: &'static str, message: &'static str| {
        let mut first = Failure::leaf(number).with_note(note);
        let mark = first.mark();
        group(message, [first, Failure::leaf(2).with_context_at(mark)])
            .with_context(Failure::leaf(3))
    };
    assert_eq!(build(1, "note", "group"), build(1, "note", "group"));
    assert_ne!(build(9, "note", "group"), build(1, "note", "group"));
    assert_ne!(build(1, "other", "group"), build(1, "note", "group"));
    assert_ne!(build(1, "note", "other"), build(1, "note", "group"));
    assert_ne!(
        build(1, "note", "group"),
        build(1, "note", "group").with_context(Failure::leaf(3))
    );
    assert_ne!(
        build(1, "note", "group").with_origin("a"),
        build(1, "note", "group")
    );
    assert_ne!(
        build(1, "note", "group").with_cause(fmt::Error),
        build(1, "note", "group")
    );
    assert_ne!(group("x", [Failure::leaf(1)]), Failure::leaf(1));
    assert_ne!(
        Failure::leaf(1).with_context(Failure::leaf(2)),
        Failure::leaf(1).with_handled(Failure::leaf(2))
    );

    let refer_to = |index: usize| {
        let mut leaves = [Failure::leaf(1), Failure::leaf(1)];
        let mark = leaves[index].mark();
        let [first, second] = leaves;
        group("g", [first, second, Failure::leaf(2).with_context_at(mark)])
    };
    assert_eq!(refer_to(0), refer_to(0));
    assert_ne!(refer_to(0), refer_to(1));
}

/// References in a copy lead to nodes of the copy, and those to nodes elsewhere still lead there.
#[test]
fn copies_refer_to_themselves() {
    let mut elsewhere = Failure::leaf(0);
    let outside = elsewhere.mark();
    let mut first = Failure::leaf(1).with_note("noted").with_origin("task");
    let inside = first.mark();
    let original = group(
        "g",
        [
            first,
            Failure::leaf(2)
                .with_context_at(inside.clone())
                .with_context_at(outside)
                .with_handled(Failure::leaf(3)),
        ],
    )
    .with_cause(fmt::Error);
    let copy = original.clone();
    assert_eq!(copy, original);
    let contexts: Vec<_> = copy.children()[1].contexts().collect();
    let found = contexts[0].find_in(&copy).unwrap();
    assert!(std::ptr::eq(found, &copy.children()[0]));
    assert!(copy.find_marked(&inside).is_none());
    assert!(contexts[1].find_in(&elsewhere).is_some());
    assert_eq!(contexts[2].node().unwrap().as_leaf(), Some(&3));
    assert!(copy.cause().is_some());
}

/// An erased failure goes through `Box<dyn Error>` and comes back whole.
#[test]
fn boxes_give_the_tree_back() {
    fn main_function() -> Result<(), Box<dyn Error>> {
        Err(group("outer", [Failure::new(fmt::Error)]))?
    }
    assert_eq!(
        main_function().unwrap_err().to_string(),
        "outer (1 sub-error)"
    );

    let tree = group(
        "outer",
        [Failure::new(Chained::new(&["top", "bottom"])).with_note("kept")],
    );
    let boxed: Box<dyn Error + Send + Sync> = tree.into();
    assert_eq!(boxed.source().unwrap().to_string(), "top");
    assert!(format!("{boxed:?}").contains("note: kept"));
    let back = Failure::from_boxed(boxed);
    assert!(back.children()[0].notes().eq(["kept"]));
    assert!(Failure::from_boxed("plain".into()).is_leaf());
    let bare: Box<dyn Error> = Failure::new(fmt::Error).into();
    assert!(bare.is::<fmt::Error>());
    let noted: Box<dyn Error> = Failure::new(fmt::Error).with_note("kept").into();
    assert!(format!("{noted:?}").ends_with("note: kept"));
}

/// Dropping a tree drops each error once, whatever is around it.
#[test]
fn each_error_is_dropped_once() {
    use std::{cell::Cell, rc::Rc};
    struct Counted(Rc<Cell<usize>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let count = Rc::new(Cell::new(0));
    let leaf = || Failure::leaf(Counted(Rc::clone(&count)));
    let tree = group(
        "outer",
        [
            leaf()
                .with_note("note")
                .with_context(group("context", [leaf(), leaf()])),
            group(
                "inner",
                [leaf(), group("innermost", [leaf()]).with_handled(leaf())],
            ),
        ],
    );
    assert_eq!(count.get(), 0);
    drop(tree);
    assert_eq!(count.get(), 6);
}
