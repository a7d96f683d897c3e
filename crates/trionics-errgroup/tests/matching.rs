//! The matcher for tests.

mod common;

use std::{fmt, io, panic};

use common::{Chained, group, stopped};
use trionics_errgroup::{Expected, Failure, LibraryFailure, assert_failure};

fn exactly(number: i32) -> Expected<'static, i32> {
    Expected::error(number.to_string(), move |error| *error == number)
}

fn any_error() -> Expected<'static, i32> {
    Expected::error("any error", |_| true)
}

fn numbers(list: &[i32]) -> Failure<i32> {
    Failure::group_of("g", list.iter().copied()).unwrap()
}

/// E-054: one to one in any order; what is missing, surplus or used twice is a mismatch that names both lists.
#[test]
fn one_to_one_in_any_order() {
    let pair = || Expected::group([exactly(1), exactly(2)]);
    assert!(pair().check(&numbers(&[1, 2])).is_ok());
    assert!(pair().check(&numbers(&[2, 1])).is_ok());
    let lists = |list: &[i32]| {
        let mismatch = pair().check(&numbers(list)).unwrap_err();
        (mismatch.missing().join(" "), mismatch.extra().join(" "))
    };
    let texts = |missing: &str, extra: &str| (missing.to_owned(), extra.to_owned());
    assert_eq!(lists(&[1]), texts("2", ""));
    assert_eq!(lists(&[1, 2, 3]), texts("", "3"));
    assert_eq!(lists(&[1, 1]), texts("2", "1"));
    assert_eq!(lists(&[3, 4]), texts("1 2", "3 4"));
    assert_eq!(lists(&[1, 2, 2]), texts("", "2"));
    let around = Expected::group([pair()]);
    assert!(around.check(&group("g", [numbers(&[2, 1])])).is_ok());
    assert!(around.check(&group("g", [numbers(&[1, 2, 3])])).is_err());
    assert!(around.check(&group("g", [numbers(&[1])])).is_err());
    let text = pair().check(&numbers(&[1, 3])).unwrap_err().to_string();
    assert_eq!(
        text,
        "not the expected failure, in \"g\"\nmissing:\n  - 2\nextra:\n  - 3"
    );
}

/// E-055: nesting must match unless flattening is asked for, and a bare error is no group of one unless that is; each alone.
#[test]
fn nesting_must_match() {
    let one = || Expected::group([exactly(1)]);
    let nested = group("outer", [numbers(&[1])]);
    let bare = Failure::leaf(1);
    assert!(one().check(&nested).is_err());
    assert!(one().check(&bare).is_err());
    assert!(one().flattened().check(&nested).is_ok());
    assert!(one().flattened().check(&bare).is_err());
    assert!(one().or_unwrapped().check(&bare).is_ok());
    assert!(one().or_unwrapped().check(&nested).is_err());
    assert!(one().or_unwrapped().check(&numbers(&[1])).is_ok());
    assert!(one().flattened().or_unwrapped().check(&bare).is_ok());
    assert!(one().flattened().or_unwrapped().check(&nested).is_ok());
    let two = Expected::group([exactly(1), exactly(1)]).or_unwrapped();
    assert!(two.check(&bare).is_err());
    assert!(exactly(1).check(&numbers(&[1])).is_err());
}

/// E-056: a match is found if there is one, whatever the order in which the expectations are tried.
#[test]
fn the_matching_is_not_greedy() {
    let three = || Expected::group([any_error(), any_error(), exactly(7)]);
    for list in [[7, 7, 1], [7, 1, 7], [1, 7, 7], [7, 1, 2]] {
        assert!(three().check(&numbers(&list)).is_ok(), "{list:?}");
    }
    assert!(three().check(&numbers(&[1, 2, 3])).is_err());
    let at_most =
        |most: i32| Expected::error(format!("at most {most}"), move |error| *error <= most);
    let ladder = Expected::group((0..40).rev().map(at_most));
    assert!(ladder.check(&numbers(&(0..40).collect::<Vec<_>>())).is_ok());
    let ladder = Expected::group((0..40).map(at_most));
    assert!(
        ladder
            .check(&numbers(&(0..40).rev().collect::<Vec<_>>()))
            .is_ok()
    );
    let ladder = Expected::group((0..40).map(at_most));
    let mut one_too_big: Vec<_> = (0..40).collect();
    one_too_big[0] = 40;
    let mismatch = ladder.check(&numbers(&one_too_big)).unwrap_err();
    assert_eq!(
        (mismatch.missing().len(), mismatch.extra()),
        (1, &["40".to_owned()][..])
    );
}

/// The difference is named where it is, not at the top.
#[test]
fn the_difference_is_named_where_it_is() {
    let actual = group(
        "outer",
        [group("inner", [numbers(&[1, 2])]), Failure::leaf(3)],
    );
    let expected = Expected::group([
        exactly(3),
        Expected::group([Expected::group([exactly(1), exactly(9)])]),
    ]);
    let text = expected.check(&actual).unwrap_err().to_string();
    assert_eq!(
        text,
        "not the expected failure, in \"outer > inner > g\"\nmissing:\n  - 9\nextra:\n  - 2"
    );
    let renamed = Expected::group([
        exactly(3),
        Expected::group([Expected::any()]).with_message("x"),
    ]);
    let mismatch = renamed.check(&actual).unwrap_err();
    assert_eq!(mismatch.missing(), ["\"x\" [any]"]);
    assert!(mismatch.extra()[0].starts_with("inner (1 sub-error)"));
}

/// The macro has a word for everything.
#[test]
fn the_macro_describes_everything() {
    let tree = group(
        "outer",
        [
            Failure::new(fmt::Error).with_note("noted"),
            stopped(),
            group(
                "inner",
                [
                    Failure::library(LibraryFailure::EmptySet),
                    Failure::new(Chained::new(&["x"])),
                ],
            ),
        ],
    );
    assert_failure!(tree, [any, any, any]);
    assert_failure!(&tree, [cancelled, is fmt::Error, [library, is Chained]]);
    assert_failure!(tree, "outer" ["inner" [text "x", library], any, cancelled,]);
    assert_failure!(tree, flatten [library, cancelled, is Chained, is fmt::Error]);
    assert_failure!(tree.children()[0], is fmt::Error);
    assert_failure!(tree.children()[0], unwrapped [is fmt::Error]);
    assert_failure!(tree.children()[2], flatten "inner" [library, any]);
    assert_failure!(tree.children()[2], unwrapped "inner" [any, any]);
    assert_failure!(group("g", [numbers(&[1])]), flatten unwrapped "g" [1]);

    #[derive(Debug)]
    enum Trouble {
        Refused { port: u16 },
        Lost(io::Error),
    }
    let typed = Failure::group_of(
        "g",
        [
            Trouble::Refused { port: 80 },
            Trouble::Lost(io::Error::other("x")),
        ],
    )
    .unwrap();
    assert_failure!(
        typed,
        [
            Trouble::Lost(error) if error.kind() == io::ErrorKind::Other,
            Trouble::Refused { port } if *port == 80,
        ]
    );
    assert_failure!(numbers(&[1, 2, 3]), [2 | 3, 1, 2..=3]);
}

/// The panic says what is missing, what is extra and what was there, at the line of the assertion.
#[test]
fn the_panic_says_what_differs() {
    let payload = panic::catch_unwind(|| {
        assert_failure!(numbers(&[1, 2]), [1, 5]);
    })
    .unwrap_err();
    let text = payload.downcast_ref::<String>().unwrap();
    assert!(
        text.contains(
            "missing:\n  - 5\nextra:\n  - 2\nexpected: [1, 5]\nactual:\ng (2 sub-errors)"
        ),
        "{text}"
    );
}
