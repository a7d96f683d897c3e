//! What a part of the program that was stopped leaves behind.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;
use core::panic::Location;

/// The mark that a part of the program was stopped before it had finished.
///
/// Only the code that cancels makes one; everybody else is given one and may pass it on, keep it or look at it.
/// So a `Cancelled` in a tree always says the truth: where the cancellation was asked for, and why.
/// It deliberately does not implement [`Error`](core::error::Error): to be stopped is not to fail.
///
/// ```compile_fail,E0423
/// let forged = trionics_errgroup::Cancelled(unreachable!());
/// ```
///
/// ```compile_fail,E0277
/// fn wants_an_error(_: impl std::error::Error) {}
/// fn given(cancelled: trionics_errgroup::Cancelled) {
///     wants_an_error(cancelled);
/// }
/// ```
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{CancelReason, Failure};
///
/// fn ran_out_of_time<E>(failure: &Failure<E>) -> bool {
///     failure.as_cancelled().is_some_and(|cancelled| *cancelled.reason() == CancelReason::Deadline)
/// }
/// # assert!(!ran_out_of_time(&Failure::leaf(1)));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cancelled(
    /// Shared, so that a scope hands the same mark to each of its parts at the price of a counter.
    Arc<Request>,
);

/// What was asked for, where.
#[derive(PartialEq, Eq, Hash)]
struct Request {
    /// Set once, by whoever cancelled first.
    reason: CancelReason,
    /// The caller that cancelled, not the code that was stopped.
    location: &'static Location<'static>,
}

impl Cancelled {
    /// Why the cancellation was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{CancelReason, Cancelled};
    ///
    /// fn worth_a_retry(cancelled: &Cancelled) -> bool {
    ///     matches!(cancelled.reason(), CancelReason::Deadline)
    /// }
    /// # let given = Cancelled::__new(CancelReason::Deadline, std::panic::Location::caller());
    /// # assert!(worth_a_retry(&given));
    /// ```
    pub fn reason(&self) -> &CancelReason {
        &self.0.reason
    }

    /// Where the cancellation was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::Cancelled;
    ///
    /// fn to_log(cancelled: &Cancelled) -> String {
    ///     format!("{cancelled}, asked for at {}", cancelled.location())
    /// }
    /// # let here = std::panic::Location::caller();
    /// # let given = Cancelled::__new(trionics_errgroup::CancelReason::Closed, here);
    /// # assert!(to_log(&given).contains(".rs:"));
    /// ```
    pub fn location(&self) -> &'static Location<'static> {
        self.0.location
    }

    #[doc(hidden)]
    pub fn __new(reason: CancelReason, location: &'static Location<'static>) -> Self {
        Self(Arc::new(Request { reason, location }))
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cancelled")
            .field("reason", self.reason())
            .field("location", &format_args!("{}", self.location()))
            .finish()
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cancelled: {}", self.reason())
    }
}

/// Why a part of the program was cancelled.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::CancelReason;
///
/// let reason = CancelReason::ChildFailed { child: Some("feed".into()) };
/// assert_eq!(reason.to_string(), "child `feed` failed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody asked for it, in these words.
    Explicit(Cow<'static, str>),
    /// A deadline passed.
    Deadline,
    /// A child of the same nursery failed.
    ChildFailed {
        /// The child's name, where it had one.
        child: Option<Cow<'static, str>>,
    },
    /// The body of the nursery failed.
    BodyFailed,
    /// A child of the same nursery panicked.
    ChildPanicked,
    /// The work was done, so what still ran on its behalf was stopped.
    Finished,
    /// The context that provided the value in use came to its end.
    ContextEnded,
    /// What the work belonged to was closed.
    Closed,
    /// The signal came that the scope follows.
    Signal,
    /// The executor dropped the work before it had ended.
    ExecutorShutDown,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explicit(text) => formatter.write_str(text),
            Self::Deadline => formatter.write_str("the deadline passed"),
            Self::ChildFailed { child: Some(name) } => write!(formatter, "child `{name}` failed"),
            Self::ChildFailed { child: None } => formatter.write_str("a child failed"),
            Self::BodyFailed => formatter.write_str("the body failed"),
            Self::ChildPanicked => formatter.write_str("a child panicked"),
            Self::Finished => formatter.write_str("the work was finished"),
            Self::ContextEnded => formatter.write_str("the context in use ended"),
            Self::Closed => formatter.write_str("it was closed"),
            Self::Signal => formatter.write_str("the signal came that it follows"),
            Self::ExecutorShutDown => formatter.write_str("its executor has dropped it"),
        }
    }
}
