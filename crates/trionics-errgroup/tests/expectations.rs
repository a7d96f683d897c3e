//! What users of other error trees and groups expect, where no other test of ours says it.

mod common;

use std::{
    error::Error,
    fmt::{self, Write as _},
    io,
    num::ParseIntError,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use common::{Chained, Unique, cancelled, group, leaf, names, stopped};
use trionics_errgroup::{
    AnyError, CancelReason, Catch, Collapse, EmptyGroup, Failure, Handled, LibraryFailure, Node,
    OutcomeExt, Unmask, collapse_eg, get_collapsed_eg, is_multi_cancelled,
    maybe_raise_from_masking_exc,
};

fn not_a_number() -> ParseIntError {
    "x".parse::<u8>().unwrap_err()
}

/// Counts its drops, and may panic in one.
#[derive(Debug)]
struct Dropping {
    number: usize,
    dropped: Arc<Mutex<Vec<usize>>>,
    panics: bool,
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.dropped.lock().unwrap().push(self.number);
        assert!(!self.panics, "leaf {}", self.number);
    }
}

type Dropped = Arc<Mutex<Vec<usize>>>;

fn dropping(number: usize, dropped: &Dropped, panics: bool) -> Failure<Dropping> {
    Failure::leaf(Dropping {
        number,
        dropped: Arc::clone(dropped),
        panics,
    })
}

fn sorted(dropped: &Dropped) -> Vec<usize> {
    let mut numbers = dropped.lock().unwrap().clone();
    numbers.sort_unstable();
    numbers
}

/// Go's `errors.Join`: joining outcomes takes those that failed, in order, and joining none is no failure.
#[test]
fn outcomes_can_be_joined() {
    fn join<T>(outcomes: Vec<Result<T, Failure<Unique>>>) -> Result<(), Failure<Unique>> {
        let failures = outcomes.into_iter().filter_map(Result::err);
        Failure::group("joined", failures).map_or(Ok(()), Err)
    }
    assert!(join(vec![Ok(1), Ok(2)]).is_ok());
    let failed = join(vec![Ok(1), Err(leaf("a")), Ok(3), Err(leaf("b"))]).unwrap_err();
    assert_eq!(
        (names(&failed), failed.children().len()),
        (vec!["a", "b"], 2)
    );
    // A group in a group stays one, as `errors.Join` of joined errors does.
    let nested = join::<u8>(vec![Err(failed), Err(leaf("c"))]).unwrap_err();
    assert_eq!(
        (names(&nested), nested.children().len()),
        (vec!["a", "b", "c"], 2)
    );
    let empty = Failure::<Unique>::group("none", []).unwrap_err();
    assert_eq!(empty, EmptyGroup);
    assert!(!empty.to_string().is_empty() && Error::source(&empty).is_none());
}

/// A list that panics while a group is being built from it: what was taken is dropped once, the rest stays with its owner.
#[test]
fn a_group_that_is_not_finished_leaks_nothing() {
    for at in 0..4 {
        let dropped = Dropped::default();
        let built = catch_unwind(AssertUnwindSafe(|| {
            let failures = (0..4).map(|number| {
                assert_ne!(number, at, "the list panics");
                dropping(number, &dropped, false)
            });
            Failure::group("never", failures)
        }));
        assert!(built.is_err());
        assert_eq!(sorted(&dropped), (0..at).collect::<Vec<_>>());
    }
}

/// A leaf whose drop panics: all others are dropped, each once, however the tree is nested.
#[test]
fn a_leaf_whose_drop_panics_keeps_no_other_alive() {
    for at in 0..6 {
        let dropped = Dropped::default();
        let make = |number| dropping(number, &dropped, number == at);
        let inner = group("inner", [make(1), group("innermost", [make(2), make(3)])]);
        let tree = group("outer", [make(0), inner, make(4).with_context(make(5))]);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(tree))).is_err());
        assert_eq!(sorted(&dropped), [0, 1, 2, 3, 4, 5], "{at}");
    }
}

/// Python's `split` with a condition that raises: the tree goes, each leaf dropped once.
#[test]
fn a_condition_that_panics_leaks_nothing() {
    for at in 0..8 {
        let dropped = Dropped::default();
        let make = |number| dropping(number, &dropped, false);
        let inner = group("inner", [make(1), make(2)]).with_note("noted");
        let tree = group("outer", [make(0), inner, make(3).with_context(make(4))]);
        let mut n_asked = 0;
        let parted = catch_unwind(AssertUnwindSafe(|| {
            tree.split(|node| {
                n_asked += 1;
                assert_ne!(n_asked, at + 1, "the condition panics");
                node.as_leaf().is_some_and(|leaf| leaf.number % 2 == 0)
            })
        }));
        // Two groups and four leaves are asked about.
        assert_eq!((parted.is_err(), n_asked), (at < 6, (at + 1).min(6)));
        drop(parted);
        assert_eq!(sorted(&dropped), [0, 1, 2, 3, 4]);
    }
}

/// Python: the notes of the two halves are lists of their own; one added to a half is not in the other.
#[test]
fn the_halves_of_a_split_have_notes_of_their_own() {
    let tree = group("outer", [leaf("a"), leaf("b")]).with_note("both");
    let (first, second) = tree.split(|node| node.as_leaf().is_some_and(|it| it.name == "a"));
    let first = first.unwrap().with_note("first").with_origin("one");
    let second = second.unwrap();
    assert!(first.notes().eq(["both", "first"]));
    assert!(second.notes().eq(["both"]));
    assert_eq!((first.origin(), second.origin()), (Some("one"), None));
    assert_eq!(
        (first.message(), second.message()),
        (Some("outer"), Some("outer"))
    );
}

/// Python: splitting again by the same condition parts nothing, and putting the halves' leaves together is the whole, for every
/// subset of the leaves.
#[test]
fn a_split_is_final() {
    for mask in 0..32_u32 {
        let make = |index: usize| leaf(["a", "b", "c", "d", "e"][index]);
        let inner = group("inner", [make(1), group("one", [make(2)])]);
        let tree = group("outer", [make(0), inner, group("last", [make(3), make(4)])]);
        let mut numbers: Vec<_> = tree.errors().map(|error| error.number).collect();
        numbers.sort_unstable();
        let wanted = |node: &Node<Unique>| {
            node.as_leaf().is_some_and(|error| {
                let index = usize::from(error.name.as_bytes()[0] - b'a');
                mask & (1 << index) != 0
            })
        };
        let (first, second) = tree.split(wanted);
        let n_first = first.as_ref().map_or(0, |half| half.errors().count());
        assert_eq!(n_first, mask.count_ones() as usize);
        let again = first.map(|half| half.split(wanted));
        let other = second.map(|half| half.split(wanted));
        assert!(again.as_ref().is_none_or(|(_, rest)| rest.is_none()));
        assert!(
            other
                .as_ref()
                .is_none_or(|(matching, _)| matching.is_none())
        );
        let first = again.and_then(|(half, _)| half);
        let second = other.and_then(|(_, half)| half);
        let mut together: Vec<_> = [&first, &second]
            .into_iter()
            .flatten()
            .flat_map(|half| half.errors().map(|error| error.number))
            .collect();
        together.sort_unstable();
        assert_eq!(together, numbers);
    }
}

/// Python's `except*` over cancellations: a `Cancelled` and the library's own failures are leaves like others for a condition, and
/// are no errors of any type.
#[test]
fn a_cancellation_is_a_leaf_and_no_error() {
    let failure: Failure = group(
        "nursery",
        [
            stopped(),
            Failure::new(not_a_number()),
            Failure::library(LibraryFailure::EmptySet),
        ],
    );
    assert_eq!((failure.leaves().count(), failure.errors().count()), (3, 1));
    assert!(failure.find::<LibraryFailure>().is_some());
    let (numbers, rest) = failure.split_by_type::<ParseIntError>();
    assert_eq!(numbers.unwrap().leaves().count(), 1);
    let (stops, library) = rest.unwrap().split_cancelled();
    let stops = stops.unwrap();
    assert!(is_multi_cancelled(&stops) && stops.errors().next().is_none());
    assert!(stops.source().is_none());
    let library = library.unwrap();
    assert!(!library.has_cancelled() && !is_multi_cancelled(&library));
    assert!(library.absorb_cancelled().is_some());
}

/// trio, tractor: a group that holds nothing but a `Cancelled` collapses to it, and is then no group of them any more; a whole tree
/// of them is absorbed, and with an error beside them only that is left.
#[test]
fn trees_of_nothing_but_cancellations() {
    let nested = || -> Failure<Unique> {
        group(
            "a",
            [stopped(), group("b", [stopped(), group("c", [stopped()])])],
        )
    };
    assert!(is_multi_cancelled(&nested()) && nested().is_all_cancelled());
    assert!(Err::<u8, _>(nested()).absorb_cancelled().unwrap().is_none());
    let lone = collapse_eg(group("a", [group("b", [stopped::<Unique>()])]));
    assert!(lone.is_cancelled() && lone.is_all_cancelled() && !is_multi_cancelled(&lone));
    assert!(Err::<u8, _>(lone).absorb_cancelled().unwrap().is_none());
    let mixed = group("d", [nested(), leaf("e")]);
    assert!(!is_multi_cancelled(&mixed) && mixed.has_cancelled());
    let left = Err::<u8, _>(mixed).absorb_cancelled().unwrap_err();
    assert_eq!(
        (names(&left), left.leaves().count(), left.message()),
        (vec!["e"], 1, Some("d"))
    );
}

/// A `Cancelled` that masks an error is no mere cancellation where it is absorbed, at whatever depth.
#[test]
fn nothing_masked_is_absorbed() {
    for n_levels in 0..4 {
        let masking = stopped().with_context(leaf("masked"));
        let tree = common::chain(group("beside", [stopped(), masking]), n_levels);
        assert!(is_multi_cancelled(&tree));
        let left = Err::<u8, _>(tree).absorb_cancelled().unwrap_err();
        assert_eq!(names(&left), ["masked"]);
    }
}

/// Collapsing and unmasking are idempotent, and in whatever order they are used the same leaves come out.
#[test]
fn collapsing_and_unmasking_twice_is_once() {
    let tree = || {
        let masking = stopped().with_context(group("masked", [leaf("m")]));
        group(
            "a",
            [group("b", [group("c", [leaf("x")]), group("d", [masking])])],
        )
    };
    let once = collapse_eg(tree());
    let text = once
        .tree_with(|error, out| write!(out, "{}", error.name))
        .to_string();
    let (n_once, inner) = (once.n_collapsed(), once.children()[0].n_collapsed());
    let twice = get_collapsed_eg(once).unwrap_err();
    assert_eq!(
        (twice.n_collapsed(), twice.children()[0].n_collapsed()),
        (n_once, inner)
    );
    let again = twice
        .tree_with(|error, out| write!(out, "{}", error.name))
        .to_string();
    assert_eq!(again, text);
    let bring_out = |failure| collapse_eg(maybe_raise_from_masking_exc(failure));
    let one_way = bring_out(tree());
    let other_way = bring_out(maybe_raise_from_masking_exc(collapse_eg(tree())));
    assert_eq!(
        (names(&one_way), names(&other_way)),
        (vec!["x", "m"], vec!["x", "m"])
    );
    let before = names(&one_way);
    assert_eq!(names(&bring_out(one_way)), before);
}

/// tractor's ignore list: several entries are an "or", one for a group that is never met changes nothing, and what is inside a
/// larger group is not asked about.
#[test]
fn an_ignore_list_has_several_entries() {
    let collapse = Collapse::new()
        .ignore_type::<io::Error>()
        .ignore_type::<fmt::Error>()
        .ignore(Node::is_cancelled);
    let kept = [
        Failure::new(io::Error::other("busy")),
        Failure::new(fmt::Error),
        stopped(),
    ];
    for failure in kept {
        let failure = group("a", [group("b", [failure])]);
        assert_eq!(collapse.apply(failure).message(), Some("a"));
    }
    let goes = group("a", [Failure::new(not_a_number())]);
    assert!(collapse.apply(goes).is::<ParseIntError>());
    let wide = group("a", [group("b", [Failure::new(fmt::Error)]), stopped()]);
    assert!(collapse.apply(wide).children()[0].is::<fmt::Error>());
}

/// tractor's list of pairs not to unmask: what is kept stays readable, in each of several places, and others come out.
#[test]
fn a_list_of_pairs_spares_some_of_several() {
    let masking = |name| stopped().with_context(leaf(name));
    let tree = || {
        group(
            "all",
            [
                masking("busy"),
                masking("x"),
                masking("empty"),
                masking("y"),
            ],
        )
    };
    let unmask = Unmask::<Unique>::new()
        .keep_pair(|_, masked| masked.as_leaf().is_some_and(|error| error.name == "busy"))
        .keep_pair(|masker, masked| masker.is_cancelled() && names(masked) == ["empty"]);
    let whole = tree();
    let reported: Vec<_> = unmask
        .report(&whole)
        .iter()
        .map(|it| names(it.failure))
        .collect();
    assert_eq!(reported, [["x"], ["y"]]);
    let out = unmask.apply(whole);
    assert_eq!((names(&out), out.children().len()), (vec!["x", "y"], 4));
    assert_eq!(
        out.children()[0].context().unwrap().node().map(names),
        Some(vec!["busy"])
    );
    // What was spared once is dealt with.
    assert_eq!(names(&maybe_raise_from_masking_exc(out)), ["x", "y"]);
}

/// exceptiongroup's `catch`: handlers are not called where nothing failed, a handler that claims everything leaves nothing to later
/// ones, and one that panics takes the failure with it.
#[test]
fn handlers_are_called_only_for_what_is_theirs() {
    let never = |_: Failure<&Unique>| -> Handled<Unique> { panic!("it is called") };
    let fine = Catch::new(Ok::<_, Failure<Unique>>(5)).on(|_| true, never);
    assert_eq!(fine.finish("").unwrap(), Some(5));
    let tree = group("a", [leaf("x"), group("b", [leaf("y"), stopped()])]);
    let mut seen = Vec::new();
    let done = Catch::new(Err::<u8, _>(tree))
        .on(|_| false, never)
        .on(
            |_| true,
            |all| {
                seen.extend(all.errors().map(|error| error.name));
                Handled::Done
            },
        )
        .on(|_| true, never);
    assert!(done.finish("").unwrap().is_none());
    assert_eq!(seen, ["x", "y"]);
    let dropped = Dropped::default();
    let failing = Catch::new(Err::<u8, _>(dropping(1, &dropped, false)));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        failing
            .on(|_| true, |_| panic!("the handler panics"))
            .finish("")
    }));
    assert!(panicked.is_err());
    assert_eq!(sorted(&dropped), [1]);
}

/// anyhow, eyre: a chain of causes from an error to its root can be walked through the standard trait, also out of a box, and ends.
#[test]
fn the_standard_chain_is_walked_to_its_root() {
    fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
        std::iter::successors(Some(error), |&error| error.source())
            .map(ToString::to_string)
            .collect()
    }
    let chained = || Chained::new(&["outer", "middle", "root"]);
    let typed = Failure::leaf(chained());
    assert_eq!(texts(&typed), ["outer", "middle", "root"]);
    let in_group = group("feed", [Failure::leaf(chained())]);
    assert_eq!(
        texts(&in_group),
        ["feed (1 sub-error)", "outer", "middle", "root"]
    );
    let caused = Failure::leaf(Chained::new(&["alone"])).with_cause(chained());
    assert_eq!(texts(&caused), ["alone", "outer", "middle", "root"]);
    // The error's own source comes first; the cause that was set is in the tree.
    let both = Failure::leaf(chained()).with_cause(fmt::Error);
    assert_eq!(texts(&both), ["outer", "middle", "root"]);
    let boxed: Box<dyn Error + Send + Sync> = group("feed", [Failure::new(chained())]).into();
    assert_eq!(
        texts(&*boxed),
        ["feed (1 sub-error)", "outer", "middle", "root"]
    );
    let bare: Box<dyn Error + Send + Sync> = Failure::new(chained()).into();
    assert!(bare.downcast_ref::<Chained>().is_some());
}

/// `Box<dyn Error>` callers: a tree goes through a box and comes out whole, notes, contexts, cancellations and all.
#[test]
fn a_tree_goes_through_a_box() {
    fn boxes() -> Result<(), Box<dyn Error + Send + Sync>> {
        let inner: Failure = group("inner", [stopped(), Failure::new(fmt::Error)]);
        let context = Failure::new(not_a_number());
        Err(group("outer", [inner.with_note("noted")]).with_context(context))?
    }
    let boxed = boxes().unwrap_err();
    assert_eq!(boxed.to_string(), "outer (1 sub-error)");
    let failure = Failure::from_boxed(boxed);
    assert_eq!(failure.leaves().count(), 2);
    assert!(failure.has_cancelled() && failure.children()[0].notes().eq(["noted"]));
    assert!(
        failure
            .context()
            .unwrap()
            .node()
            .unwrap()
            .is::<ParseIntError>()
    );
    // A bare `Cancelled`, too.
    let boxed: Box<dyn Error + Send + Sync> = stopped::<AnyError>().into();
    assert!(Failure::from_boxed(boxed).is_cancelled());
}

/// anyhow's `downcast`: by value the very error comes back, of another type the failure does; groups are no error of any type.
#[test]
fn a_leaf_is_downcast_by_value() {
    let failure = Failure::new(Chained::new(&["a", "b"])).with_note("noted");
    let error = failure.into_leaf().unwrap();
    let error = error.downcast::<fmt::Error>().unwrap_err();
    assert_eq!(
        error.downcast::<Chained>().unwrap().source.unwrap().text,
        "b"
    );
    let failure: Failure = group("feed", [Failure::new(fmt::Error)]);
    assert!(!failure.is::<fmt::Error>() && failure.downcast_ref::<fmt::Error>().is_none());
    assert!(failure.find::<fmt::Error>().is_some() && failure.find::<ParseIntError>().is_none());
    assert!(failure.into_leaf().is_err());
}

/// A typed tree that `?` puts into an erased one is one error there, as any error is; `erase` keeps its shape, and what was only
/// cancelled stays that.
#[test]
fn a_typed_tree_is_erased_by_name() {
    fn typed() -> Result<(), Failure<ParseIntError>> {
        Err(group("typed", [Failure::leaf(not_a_number()), stopped()]))
    }
    fn by_question_mark() -> Result<(), Failure> {
        Ok(typed()?)
    }
    fn by_name() -> Result<(), Failure> {
        typed().map_err(Failure::erase)
    }
    let one = by_question_mark().unwrap_err();
    assert!(one.is_leaf() && !one.has_cancelled());
    let inside = one.downcast_ref::<Failure<ParseIntError>>().unwrap();
    assert_eq!(inside.leaves().count(), 2);
    let whole = by_name().unwrap_err();
    assert!(whole.has_cancelled() && whole.find::<ParseIntError>().is_some());
    assert_eq!(whole.message(), Some("typed"));
}

/// error-stack's attachments, Python's notes: any text, in the order in which they were added, on any node, and each is printed once.
#[test]
fn notes_stay_in_order_on_every_kind_of_node() {
    let kinds: [Failure; 4] = [
        Failure::new(fmt::Error),
        group("feed", [Failure::text("x")]),
        stopped(),
        Failure::library(LibraryFailure::NotProvided),
    ];
    for failure in kinds {
        let noted = (0..20).fold(failure, |failure, number| {
            failure.with_note(format!("<{number}>"))
        });
        let expected: Vec<_> = (0..20).map(|number| format!("<{number}>")).collect();
        assert!(noted.notes().eq(expected.iter().map(String::as_str)));
        assert!(noted.notes().next_back() == Some("<19>") && noted.notes().len() == 20);
        let text = noted.tree().to_string();
        let places: Vec<_> = expected
            .iter()
            .map(|note| text.find(note).unwrap())
            .collect();
        assert!(places.is_sorted());
        assert!(expected.iter().all(|note| text.matches(note).count() == 1));
        // The line does not have them.
        assert!(!noted.to_string().contains('<'));
    }
}

/// A group without a message begins with its count, and not with a blank.
#[test]
fn a_group_without_a_message_has_a_clean_line() {
    let failure: Failure<u8> = Failure::group_of("", [1, 2]).unwrap();
    assert_eq!(failure.to_string(), "(2 sub-errors)");
    assert_eq!(
        format!("{failure:#}").lines().next(),
        Some("(2 sub-errors)")
    );
    let derived = Failure::leaf(1).derive([Failure::leaf(2)]).unwrap();
    assert_eq!(derived.to_string(), "(1 sub-error)");
}

/// A chain of sources that is longer than what is printed says that there are more.
#[test]
fn what_is_left_out_of_a_long_chain_is_said() {
    let texts: Vec<&'static str> = (0..40).map(|n| &*format!("cause {n}").leak()).collect();
    for (n_texts, is_cut) in [(33, false), (34, true), (40, true)] {
        let failure = Failure::new(Chained::new(&texts[..n_texts]));
        for text in [
            failure.tree().to_string(),
            format!("{failure:#}"),
            format!("{failure:?}"),
        ] {
            assert!(
                text.contains("cause 32") && !text.contains("cause 33"),
                "{text}"
            );
            assert_eq!(text.contains("more"), is_cut, "{text}");
        }
    }
}

/// Any width, depth and number of children prints something, ends, and panics for nobody: texts of no width, of double width, with
/// line breaks, and nothing at all.
#[test]
fn trees_print_within_absurd_limits() {
    let texts = [
        "",
        "\n\n",
        "a\tb",
        "日本語の長い長い長いテキスト",
        "e\u{301}\u{301}",
        "\u{200b}",
        "\u{1b}[31mred",
        "word word word",
    ];
    let leaves = || texts.map(Failure::text);
    let tree: Failure = Failure::group(
        "",
        leaves().into_iter().chain([group("日本語", leaves())
            .with_note("")
            .with_note("\r\nnote")]),
    )
    .unwrap()
    .with_origin("")
    .with_context(Failure::text("\n"));
    for n_columns in [0, 1, 2, 3, 7, 80, usize::MAX] {
        for n_levels in [0, 1, 2, usize::MAX] {
            for n_children in [0, 1, usize::MAX] {
                let shown = tree
                    .tree()
                    .columns(n_columns)
                    .max_depth(n_levels)
                    .max_children(n_children);
                for text in [
                    shown.to_string(),
                    shown.ascii().to_string(),
                    shown.colored().to_string(),
                ] {
                    assert!(text.lines().count() >= 1 && text.len() < 100_000);
                }
                assert!(!shown.to_string().contains('\u{1b}'));
            }
        }
    }
    for text in [
        format!("{tree:>50}"),
        format!("{tree:.3}"),
        format!("{tree:#?}"),
        format!("{tree:5?}"),
    ] {
        assert!(!text.is_empty());
    }
}

/// A writer that fails: printing stops with its error, at whichever byte, and panics for nobody.
#[test]
fn a_writer_that_fails_stops_the_printing() {
    struct Limited(usize);
    impl fmt::Write for Limited {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let failure = group("feed", [Failure::new(Chained::new(&["a", "b"])), stopped()])
        .with_note("noted")
        .with_context(Failure::text("context"));
    let length = failure.tree().to_string().len();
    for n_bytes in 0..length {
        assert!(write!(Limited(n_bytes), "{}", failure.tree()).is_err());
        assert!(write!(Limited(n_bytes), "{failure:#}").is_err());
    }
    assert!(write!(Limited(length), "{}", failure.tree()).is_ok());
}

/// A million leaves side by side: built, asked, parted, collapsed, flattened and dropped in time that grows with their number.
#[test]
fn a_million_leaves_side_by_side() {
    const N: usize = 1_000_000;
    let wide = Failure::group_of("wide", 0..N).unwrap();
    assert_eq!((wide.children().len(), wide.leaves().count()), (N, N));
    let (even, odd) = wide.split(|node| node.as_leaf().is_some_and(|number| number % 2 == 0));
    let both = group("both", [even.unwrap(), odd.unwrap()]);
    let both = get_collapsed_eg(both).unwrap_err().flatten();
    assert!(both.errors().take(3).eq(&[0, 2, 4]));
    let show = |number: &usize, out: &mut fmt::Formatter<'_>| write!(out, "{number}");
    let text = both.tree_with(show).max_children(3).to_string();
    assert!(text.lines().count() < 8 && text.contains("999"), "{text}");
    assert_eq!(both.into_leaves().filter(|leaf| leaf.is_leaf()).count(), N);
}

/// Two trees are equal by what they are and say, whichever way they were made; a note, a name, an order or a level more and they are not.
#[test]
fn equality_sees_everything() {
    let tree = || {
        let inner = Failure::group_of("inner", [1, 2]).unwrap().with_note("n");
        group(
            "outer",
            [inner, Failure::leaf(3).with_context(Failure::leaf(4))],
        )
    };
    assert_eq!(tree(), tree());
    assert_eq!(tree(), tree().clone());
    assert_eq!(tree(), tree().map(|number| number));
    let others = [
        tree().with_note("more"),
        tree().with_origin("task"),
        tree().with_cause(fmt::Error),
        tree().with_context(Failure::leaf(5)),
        group("outer", [tree()]),
        tree().flatten(),
        tree().map(|number| number + 1),
        group("outer", [Failure::leaf(3)]),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, tree(), "{index}");
        assert_eq!(*other, other.clone(), "{index}");
    }
    let reason = || Failure::<u8>::cancelled(cancelled(CancelReason::Deadline));
    assert_ne!(
        reason(),
        Failure::cancelled(cancelled(CancelReason::Closed))
    );
}

/// A function given to a tree that panics half-way: each error is dropped once, whether it was replaced already or not.
#[test]
fn a_map_that_panics_leaks_nothing() {
    for at in 0..4 {
        let dropped = Dropped::default();
        let make = |number| dropping(number, &dropped, false);
        let tree = group(
            "outer",
            [make(0), group("inner", [make(1), make(2)]), make(3)],
        );
        let mut n_calls = 0;
        let mapped = catch_unwind(AssertUnwindSafe(|| {
            tree.map(|error| {
                n_calls += 1;
                assert_ne!(error.number, at, "the function panics");
                error
            })
        }));
        assert!(mapped.is_err());
        assert_eq!((n_calls, sorted(&dropped)), (at + 1, vec![0, 1, 2, 3]));
    }
}

/// Errors that are shared, borrowed, or `!Send`, and a type that is compared by a panicking `PartialEq`, are leaves like any.
#[test]
fn any_type_is_a_leaf() {
    let text = String::from("borrowed");
    let borrowed: Failure<&str> = Failure::group_of("feed", [&*text, "static"]).unwrap();
    assert_eq!(borrowed.errors().map(|it| it.len()).sum::<usize>(), 14);
    let local = std::rc::Rc::new(5);
    let shared = group(
        "feed",
        [Failure::leaf(local.clone()), Failure::leaf(local.clone())],
    );
    assert_eq!(std::rc::Rc::strong_count(&local), 3);
    drop(collapse_eg(shared));
    assert_eq!(std::rc::Rc::strong_count(&local), 1);
    let calls: Failure<Box<dyn Fn() -> u8>> = Failure::leaf(Box::new(|| 7));
    assert_eq!(calls.as_leaf().unwrap()(), 7);
    let nothing: Failure<()> = Failure::group_of("units", [(), ()]).unwrap();
    assert_eq!(nothing.flatten().into_leaves().count(), 2);
}

/// A drop of a leaf that builds, prints and drops failures of its own.
#[test]
fn a_leafs_drop_may_use_failures() {
    struct Busy(Arc<AtomicUsize>, AtomicBool);
    impl Drop for Busy {
        fn drop(&mut self) {
            if !self.1.load(Ordering::SeqCst) {
                let again = Self(Arc::clone(&self.0), AtomicBool::new(true));
                drop(group("inside", [Failure::leaf(again), stopped()]));
            }
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let n_drops = Arc::new(AtomicUsize::new(0));
    let busy = |_| Failure::leaf(Busy(Arc::clone(&n_drops), AtomicBool::new(false)));
    let wide = Failure::group("wide", (0..100).map(busy)).unwrap();
    drop(group("outer", [wide.with_note("noted"), stopped()]));
    assert_eq!(n_drops.load(Ordering::SeqCst), 200);
}
