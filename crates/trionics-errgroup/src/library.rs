//! Failures of the library's own, each of which says what to do about it.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::any::Any;
use core::error::Error;
use core::fmt;

/// A failure that the library itself reports, for any leaf type.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, LibraryFailure};
///
/// let failure: Failure = Failure::library(LibraryFailure::Closed { what: "the nursery".into() });
/// assert_eq!(
///     failure.to_string(),
///     "the nursery is closed: start the work before it finishes, or keep it open for longer",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LibraryFailure {
    /// A child that was started with a status ended without reporting that it had started.
    NotStarted,
    /// Something that needs at least one element was given none.
    EmptySet,
    /// Work was given to something that takes none any more.
    Closed {
        /// What is closed, as the subject of a sentence.
        what: Cow<'static, str>,
    },
    /// Something that holds a limited number has no place left.
    Full {
        /// What is full, as the subject of a sentence.
        what: Cow<'static, str>,
    },
    /// Resources that need each other in a circle.
    Cycle {
        /// The resources, in the order in which they were asked for; the first is needed by the last.
        path: Vec<Cow<'static, str>>,
    },
    /// A context ended without providing its value.
    NotProvided,
    /// A context ended while its value was still needed.
    ContextEnded,
    /// What a child was awaited for will not come.
    ///
    /// A nursery leaves this out of its failures where it has the child's own.
    ChildEnded(ChildEnded),
    /// Frames were still running when the grace period of a cancelled scope was over.
    OutOfGrace {
        /// What was dropped where it stood.
        names: Vec<Cow<'static, str>>,
    },
}

impl fmt::Display for LibraryFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => formatter.write_str(
                "the child ended before it reported that it had started: call `started` on every path to success, or return the failure",
            ),
            Self::EmptySet => formatter.write_str("the set is empty: give at least one element, or skip the call"),
            Self::Closed { what } => {
                write!(formatter, "{what} is closed: start the work before it finishes, or keep it open for longer")
            }
            Self::Full { what } => {
                write!(formatter, "{what} is full: leave something first, give it more room, or let it wait for room")
            }
            Self::Cycle { path } => {
                for name in path {
                    write!(formatter, "`{name}` needs ")?;
                }
                match path.first() {
                    Some(first) => write!(formatter, "`{first}`")?,
                    None => formatter.write_str("a resource needs itself")?,
                }
                formatter.write_str(": open one of them outside, and pass it in")
            }
            Self::NotProvided => formatter
                .write_str("the context ended without providing a value: call `provide` on every path to success, or return the failure"),
            Self::ContextEnded => formatter
                .write_str("the context ended while its value was in use: open it again, or look for its own failure beside this one"),
            Self::ChildEnded(ended) => ended.fmt(formatter),
            Self::OutOfGrace { names } => {
                formatter.write_str("still running when the grace period was over, and dropped: ")?;
                for (index, name) in names.iter().enumerate() {
                    formatter.write_str(if index == 0 { "" } else { ", " })?;
                    formatter.write_str(name)?;
                }
                formatter.write_str("; give the exits more time, or bound what they wait for")
            }
        }
    }
}

impl Error for LibraryFailure {}

impl LibraryFailure {
    /// The library's own failure that `error` is, if it is one: `?` keeps it what it is.
    pub(crate) fn of<X: Any>(error: &X) -> Option<Self> {
        let error: &dyn Any = error;
        let failure = error.downcast_ref::<Self>().cloned();
        failure.or_else(|| error.downcast_ref::<ChildEnded>().copied().map(Self::from))
    }

    /// The error that people look for by its type.
    pub(crate) fn as_error(&self) -> &(dyn Error + 'static) {
        match self {
            Self::ChildEnded(ended) => ended,
            other => other,
        }
    }
}

/// Why a child gave no value; the failure itself is the nursery's.
///
/// `?` may pass it on: a nursery leaves it out where it has the child's own failure, and who passes on
/// that a child was cancelled, and is cancelled together with it, counts as stopped.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{ChildEnded, Failure};
///
/// let failure = Failure::new(ChildEnded::Cancelled);
/// assert_eq!(failure.to_string(), "the child was cancelled");
/// assert!(failure.as_library().is_some() && failure.is::<ChildEnded>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildEnded {
    /// It failed.
    Failed,
    /// A cancellation stopped it, or its nursery was dropped.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl fmt::Display for ChildEnded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Failed => "the child failed; its nursery has the failure",
            Self::Cancelled => "the child was cancelled",
            Self::Panicked => "the child panicked; its nursery resumes the panic",
        })
    }
}

impl Error for ChildEnded {}

impl From<ChildEnded> for LibraryFailure {
    fn from(ended: ChildEnded) -> Self {
        Self::ChildEnded(ended)
    }
}

/// The error of building a group from no failures at all.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{EmptyGroup, Failure};
///
/// assert_eq!(Failure::<String>::group("nobody failed", []), Err(EmptyGroup));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EmptyGroup;

impl fmt::Display for EmptyGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a group needs at least one failure: return success where nothing failed")
    }
}

impl Error for EmptyGroup {}
