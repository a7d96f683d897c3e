//! Prints a tree of failures: what a service that was shut down in the middle of its work might report.
//!
//! ```sh
//! cargo run -p trionics-errgroup --example tree            # as wide as the text
//! cargo run -p trionics-errgroup --example tree -- 60      # for a terminal of 60 columns
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::{env, error::Error, fmt, io, io::IsTerminal, panic::Location};

use trionics_errgroup::{
    CancelReason, Cancelled, Failure, LibraryFailure, Teardown, collapse_eg,
    maybe_raise_from_masking_exc,
};

/// An error with a source, as most are.
#[derive(Debug)]
struct FeedError {
    doing: &'static str,
    source: io::Error,
}

impl fmt::Display for FeedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "could not {}", self.doing)
    }
}

impl Error for FeedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// An error whose source has a source.
#[derive(Debug)]
struct SettingsError(FeedError);

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the settings are unusable")
    }
}

impl Error for SettingsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn io_error(doing: &'static str, kind: io::ErrorKind) -> FeedError {
    let source = io::Error::from(kind);
    FeedError { doing, source }
}

/// A nursery gives one to whom it cancels; here we play the nursery.
#[track_caller]
fn stopped(reason: CancelReason) -> Failure {
    Failure::cancelled(Cancelled::__new(reason, Location::caller()))
}

/// A body that fails, and a teardown of which one step fails too.
fn read_feed() -> Result<(), Failure> {
    let body = Err(io_error("read the feed", io::ErrorKind::ConnectionReset))
        .map_err(|error| Failure::new(error).with_note("after 1 024 messages"));
    let mut teardown = Teardown::after(body);
    teardown.run(|pending| {
        let error = Failure::new(io_error("unsubscribe", io::ErrorKind::BrokenPipe));
        Err(match pending {
            Some(failure) => error.with_note(format!("on the way out because of: {failure}")),
            None => error,
        })
    });
    teardown.finish("the feed failed")
}

fn service() -> Result<(), Failure> {
    let settings = SettingsError(io_error("read settings.toml", io::ErrorKind::NotFound));
    let reload = collapse_eg(Failure::group("reload", [Failure::new(settings)])?);
    let masked = stopped(CancelReason::Deadline).with_context(Failure::new(io_error(
        "flush the log",
        io::ErrorKind::StorageFull,
    )));
    let children = [
        read_feed()
            .expect_err("the feed fails")
            .with_note("the broker had announced its maintenance")
            .with_origin("feed"),
        stopped(CancelReason::ChildFailed {
            child: Some("feed".into()),
        })
        .with_origin("clock"),
        maybe_raise_from_masking_exc(masked).with_origin("log"),
        reload.with_origin("settings"),
        Failure::library(LibraryFailure::Closed {
            what: "the nursery".into(),
        })
        .with_origin("late"),
    ];
    Err(Failure::group("the service failed", children)?
        .with_note("on the third start since noon")
        .with_origin("main"))
}

fn main() {
    let failure = service().expect_err("the service fails");
    let mut tree = failure.tree();
    if let Some(columns) = env::args().nth(1).and_then(|text| text.parse().ok()) {
        tree = tree.columns(columns);
    }
    if io::stdout().is_terminal() {
        tree = tree.colored();
    }
    println!("{failure}\n\n{tree}");
}
