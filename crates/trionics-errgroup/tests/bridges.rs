//! To and from the error types of others.
#![cfg(any(feature = "anyhow", feature = "eyre", feature = "serde"))]

mod common;

/// `anyhow::Error` is a leaf that keeps its sources and its types, and a failure is an `anyhow::Error`.
#[test]
#[cfg(feature = "anyhow")]
fn anyhow_goes_both_ways() {
    use anyhow::Context as _;
    use trionics_errgroup::{AnyError, Failure};

    fn theirs() -> anyhow::Result<()> {
        Err(std::fmt::Error).context("while writing")
    }
    fn ours() -> Result<(), Failure> {
        theirs().map_err(AnyError::from)?;
        Ok(())
    }
    fn theirs_again() -> anyhow::Result<()> {
        ours()?;
        Ok(())
    }
    let failure = ours().unwrap_err();
    assert_eq!(failure.to_string(), "while writing");
    assert_eq!(
        failure.source().unwrap().to_string(),
        std::fmt::Error.to_string()
    );
    assert!(failure.is::<std::fmt::Error>());
    assert!(format!("{failure:#}").contains("caused by: an error"));
    let back = failure.into_leaf().unwrap().downcast::<std::fmt::Error>();
    assert!(back.is_ok());
    let other = ours()
        .unwrap_err()
        .into_leaf()
        .unwrap()
        .downcast::<std::num::ParseIntError>();
    assert!(other.unwrap_err().is::<std::fmt::Error>());

    let through = theirs_again().unwrap_err();
    assert_eq!(
        through.chain().count(),
        2,
        "the report is given back, not wrapped again"
    );
    assert!(through.is::<std::fmt::Error>());
    let noted = anyhow::Error::from(ours().unwrap_err().with_note("noted"));
    assert!(format!("{noted:#?}").contains("note: noted"));
    assert!(Failure::from_anyhow(noted).notes().eq(["noted"]));
    assert!(Failure::from_anyhow(theirs().unwrap_err()).is::<std::fmt::Error>());
    let group = Failure::group("group", [Failure::new(std::fmt::Error)]).unwrap();
    let report = anyhow::Error::from(group);
    assert_eq!(report.to_string(), "group (1 sub-error)");
    assert!(report.source().is_some());
}

/// The same for `eyre::Report`.
#[test]
#[cfg(feature = "eyre")]
fn eyre_goes_both_ways() {
    use eyre::WrapErr as _;
    use trionics_errgroup::{AnyError, Failure};

    fn theirs() -> eyre::Result<()> {
        Err(std::fmt::Error).wrap_err("while writing")
    }
    fn ours() -> Result<(), Failure> {
        theirs().map_err(AnyError::from)?;
        Ok(())
    }
    fn theirs_again() -> eyre::Result<()> {
        ours()?;
        Ok(())
    }
    let failure = ours().unwrap_err();
    assert_eq!(failure.to_string(), "while writing");
    assert!(failure.is::<std::fmt::Error>());
    assert!(
        failure
            .into_leaf()
            .unwrap()
            .downcast::<std::fmt::Error>()
            .is_ok()
    );
    let through = theirs_again().unwrap_err();
    assert_eq!(through.chain().count(), 2);
    assert!(through.is::<std::fmt::Error>());
    let noted = eyre::Report::from(ours().unwrap_err().with_note("noted"));
    assert_eq!(noted.chain().count(), 2);
    assert!(Failure::from_eyre(noted).notes().eq(["noted"]));
    assert!(Failure::from_eyre(theirs().unwrap_err()).is::<std::fmt::Error>());
    let group = Failure::group("group", [Failure::new(std::fmt::Error)]).unwrap();
    assert_eq!(eyre::Report::from(group).chain().count(), 2);
}

/// A tree is a flat list in which each node names its parent.
#[test]
#[cfg(feature = "serde")]
fn trees_serialize_as_lists() {
    use common::{Chained, cancelled};
    use serde_json::json;
    use trionics_errgroup::{CancelReason, Failure, LibraryFailure, collapse_eg};

    let mut read = Failure::new(Chained::new(&["read failed", "reset"])).with_origin("reader");
    let mark = read.mark();
    let close = Failure::new(Chained::new(&["close failed"]))
        .with_context_at(mark)
        .with_handled(Failure::new(std::fmt::Error));
    let location = cancelled(CancelReason::Deadline);
    let tree = Failure::group(
        "feed",
        [
            read,
            Failure::cancelled(location.clone()),
            collapse_eg(Failure::group("inner", [close]).unwrap()),
            Failure::library(LibraryFailure::EmptySet).with_note("noted"),
        ],
    )
    .unwrap()
    .with_cause(std::fmt::Error);
    let message = std::fmt::Error.to_string();
    let expected = json!([
        {"role": "root", "kind": "group", "message": "feed", "cause": message},
        {"parent": 0, "role": "child", "kind": "error", "origin": "reader",
            "error": {"message": "read failed", "sources": ["reset"]}},
        {"parent": 0, "role": "child", "kind": "cancelled", "cancelled":
            {"reason": "deadline", "text": "the deadline passed", "location": location.location().to_string()}},
        {"parent": 0, "role": "child", "kind": "error", "collapsed": 1,
            "error": {"message": "close failed", "sources": []}},
        {"parent": 3, "role": "pending", "kind": "reference", "at": 1},
        {"parent": 3, "role": "handled", "kind": "error", "error": {"message": message, "sources": []}},
        {"parent": 0, "role": "child", "kind": "library", "notes": ["noted"], "library":
            {"failure": "empty_set", "text": LibraryFailure::EmptySet.to_string()}},
    ]);
    assert_eq!(serde_json::to_value(&tree).unwrap(), expected);
    let typed = Failure::group("typed", [Failure::leaf(7)]).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap()[1]["error"], json!(7));
}
