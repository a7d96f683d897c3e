//! What a tree looks like.

mod common;

use std::{error::Error, fmt};

use common::{Chained, cancelled, group, stopped};
use trionics_errgroup::{
    CancelReason, Collapse, Failure, LibraryFailure, maybe_raise_from_masking_exc,
};

#[track_caller]
fn assert_text(actual: impl fmt::Display, expected: &str) {
    let actual = actual.to_string();
    assert_eq!(
        actual,
        expected.trim_start_matches('\n'),
        "\nactual:\n{actual}\n"
    );
}

/// A line without the place of a cancellation, which is a line number in this file.
fn without_places(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.split_once(" (asked for at ") {
            Some((before, _)) => before,
            None => line,
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// Everything that can be said is said once, in its place.
#[test]
fn everything_is_shown() {
    let mut read = Failure::new(Chained::new(&[
        "read failed",
        "connection reset",
        "code 104",
    ]));
    let mark = read.mark();
    let exit = Failure::new(Chained::new(&["close failed"]))
        .with_context_at(mark)
        .with_handled(Failure::new(Chained::new(&["was busy"])));
    let tree = group(
        "feed",
        [
            read.with_origin("reader"),
            Failure::cancelled(cancelled(CancelReason::Explicit("shutting down".into()))),
            group("closing", [exit]).with_note("first\nsecond"),
            Failure::library(LibraryFailure::EmptySet),
        ],
    )
    .with_origin("main")
    .with_note("at noon")
    .with_cause(Chained::new(&["power cut", "storm"]));
    let expected = "
feed (4 sub-errors) [main]
│  caused by: power cut
│  caused by: storm
│  note: at noon
├─ #1 read failed [reader]
│    caused by: connection reset
│    caused by: code 104
├─ cancelled: shutting down
├─ closing (1 sub-error)
│  │  note: first
│  │  second
│  ╰─ close failed
│     ├╌ while handling: #1
│     ╰╌ after dealing with: was busy
╰─ the set is empty: give at least one element, or skip the call";
    assert_text(without_places(&tree.tree().to_string()), expected);
    assert_text(without_places(&format!("{tree:#}")), expected);
    let places = tree.tree().to_string();
    assert_eq!(
        places
            .matches(&format!("(asked for at {}:", file!()))
            .count(),
        1
    );
}

/// A failure that came out from behind a cancellation says so, and a collapsed one how far it collapsed.
#[test]
fn marks_are_shown() {
    let raised = maybe_raise_from_masking_exc(stopped().with_context(Failure::new(fmt::Error)));
    let expected = "
an error occurred when formatting an argument
╰╌ masked by: cancelled: the deadline passed";
    assert_text(
        without_places(&raised.tree().to_string()),
        expected.trim_start(),
    );
    let nested = || group("outer", [group("inner", [Failure::new(fmt::Error)])]);
    let expected = "
an error occurred when formatting an argument
  note: collapsed out of 2 groups of one";
    assert_text(Collapse::new().apply(nested()).tree(), expected);
    assert_text(
        Collapse::new().unmarked().apply(nested()).tree(),
        "an error occurred when formatting an argument",
    );
}

/// The one line does not repeat the source, for typed and erased errors, leaves and groups.
#[test]
fn the_line_does_not_repeat_the_source() {
    let typed = Failure::<Chained>::leaf(Chained::new(&["top", "bottom"]));
    assert_eq!(typed.to_string(), "top");
    assert_eq!(typed.source().unwrap().to_string(), "bottom");
    let group = group("group", [Failure::new(Chained::new(&["top", "bottom"]))]);
    assert_eq!(group.to_string(), "group (1 sub-error)");
    let boxed: Box<dyn Error> = group.into();
    assert_eq!(boxed.to_string(), "group (1 sub-error)");
    assert_eq!(boxed.source().unwrap().to_string(), "top");
}

/// A typed error's sources are in its tree.
#[test]
fn typed_errors_show_their_sources() {
    let tree = group(
        "group",
        [Failure::<Chained>::leaf(Chained::new(&["top", "bottom"]))],
    );
    assert_text(
        tree.tree(),
        "group (1 sub-error)\n╰─ top\n     caused by: bottom",
    );
}

/// An error that is no `Error` prints by its `Display`, or by a function.
#[test]
fn other_errors_show_themselves() {
    let tree = group(
        "group",
        [Failure::leaf("plain"), Failure::leaf("two\nlines")],
    );
    assert_text(
        format!("{tree:#}"),
        "group (2 sub-errors)\n├─ plain\n╰─ two\n     lines",
    );
    assert_text(
        tree.tree_with(|text, out| write!(out, "<{text}>")).ascii(),
        "group (2 sub-errors)\n|- <plain>\n`- <two\n     lines>",
    );
}

/// Limits leave out what they say.
#[test]
fn limits_say_what_they_leave_out() {
    let wide = Failure::group_of(
        "wide",
        (0..100).map(|_| trionics_errgroup::AnyError::new(fmt::Error)),
    )
    .unwrap();
    let text = wide.tree().max_children(2).to_string();
    assert_eq!(text.lines().count(), 4);
    assert!(
        text.ends_with("╰─ … 98 more children with 98 leaves left out"),
        "{text}"
    );
    assert_eq!(wide.tree().to_string().lines().count(), 34);
    assert!(
        wide.tree()
            .max_children(0)
            .to_string()
            .ends_with("100 more children with 100 leaves left out")
    );

    let nested = group(
        "0",
        [
            group(
                "1",
                [group(
                    "2",
                    [Failure::new(fmt::Error), Failure::new(fmt::Error)],
                )],
            ),
            Failure::new(fmt::Error),
        ],
    );
    let expected = "
0 (2 sub-errors)
├─ 1 (1 sub-error)
│  ╰─ … 2 leaves in 2 more levels left out
╰─ an error occurred when formatting an argument";
    assert_text(nested.tree().max_depth(1), expected);
    let all = nested
        .tree()
        .max_depth(usize::MAX)
        .max_children(usize::MAX)
        .to_string();
    assert!(!all.contains("left out"), "{all}");
}

/// Lines are broken between words, and none is wider than the terminal, unless a word is.
#[test]
fn lines_fit_the_terminal() {
    let text = "one two three four five six seven eight nine ten eleven twelve";
    let tree = group(
        "a message that is itself too long for the terminal that it is printed on",
        [
            Failure::new(Chained::new(&[text, text])).with_note(text),
            group(
                "inner",
                [Failure::new(Chained::new(&[
                    "日本語のとても長いエラーメッセージがここにあります",
                ]))],
            ),
        ],
    );
    let drawn = tree.tree().columns(40).to_string();
    for line in drawn.lines() {
        let width: usize = line
            .chars()
            .map(|c| if c > '\u{2fff}' { 2 } else { 1 })
            .sum();
        assert!(width <= 40, "{width} columns in {line:?}");
    }
    for word in text.split(' ') {
        assert_eq!(drawn.matches(word).count(), 3, "{word} in\n{drawn}");
    }
    let narrow = tree.tree().columns(1).to_string();
    assert!(
        narrow.lines().count() < 60,
        "there is always room for some text\n{narrow}"
    );
    let expected = "
one two three four five six
  seven eight nine ten eleven
  twelve
  note: one two three four five
  six";
    let short = Failure::new(Chained::new(&[text])).with_note("one two three four five six");
    assert_text(short.tree().columns(32), expected);
}

/// Colors are escape sequences around the same text, and only if they are asked for.
#[test]
fn colors_change_no_text() {
    let tree = group(
        "group",
        [
            Failure::new(Chained::new(&["top", "bottom"])).with_note("noted"),
            stopped(),
        ],
    );
    let plain = tree.tree().to_string();
    assert!(!plain.contains('\u{1b}'));
    let colored = tree.tree().colored().to_string();
    assert_ne!(colored, plain);
    let mut stripped = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
    assert_eq!(
        colored.matches("\u{1b}[0m").count() * 2,
        colored.matches("\u{1b}[").count()
    );
}

/// The text of an error cannot take over the terminal.
#[test]
fn control_characters_are_harmless() {
    let tree = group(
        "group",
        [Failure::leaf("\u{1b}[31mred\u{7}\ttab\r\nline\u{202e}")],
    );
    assert_text(
        format!("{tree:#}"),
        "group (1 sub-error)\n╰─ \\u{1b}[31mred\\u{7}    tab\n     line\\u{202e}",
    );
}

/// References to nodes that are gone say so.
#[test]
fn lost_references_say_so() {
    let mut gone = Failure::new(fmt::Error);
    let tree = group(
        "group",
        [Failure::new(fmt::Error).with_context_at(gone.mark())],
    );
    assert!(
        tree.tree()
            .to_string()
            .ends_with("╰╌ while handling: a failure that is not in this tree")
    );
}

/// A chain of sources that never ends is cut.
#[test]
fn endless_sources_end() {
    #[derive(Debug)]
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("endless")
        }
    }
    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }
    let failure = Failure::new(Endless);
    for text in [
        failure.tree().to_string(),
        format!("{failure:#}"),
        format!("{failure:?}"),
    ] {
        assert_eq!(text.lines().count(), 34);
        assert!(text.ends_with("caused by: more, which are left out"));
    }
}

/// An error whose `Display` fails keeps none of the others from being printed.
#[test]
fn failing_displays_are_survived() {
    struct Fails;
    impl fmt::Display for Fails {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    let tree = group(
        "group",
        [
            Failure::leaf(Fails),
            Failure::leaf(Fails).with_note("noted"),
        ],
    );
    assert!(format!("{tree:#}").contains("note: noted"));
}
