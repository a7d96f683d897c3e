//! What could not be told to anybody's code: the hook that hears of it.

use std::{
    any::{Any, type_name},
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
};

use crate::current;

/// What sort of frame something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameKind {
    /// A [`CancelScope`](crate::CancelScope) that was entered.
    Scope,
    /// A [`shield`](crate::shield).
    Shield,
    /// A nursery, from its opening to the end of its last child.
    Nursery,
    /// The body of a nursery.
    Body,
    /// A child of a nursery.
    Child,
    /// An async context, from its set-up to the end of its exit.
    Context,
    /// The block that uses the value of a context.
    Block,
    /// A context that waits for its block to end.
    Provide,
    /// A part of the program with [`Settings`](crate::Settings) of its own.
    Settings,
    /// A future that carries its scope along, made by [`in_current_scope`](crate::in_current_scope).
    Carried,
    /// A future that keeps its scope, made by [`anchor`](crate::anchor).
    Anchor,
    /// A branch of a foreign combinator, made by [`branch`](crate::branch).
    Branch,
    /// A [`cancel_requested`](crate::cancel_requested) that waits.
    CancelRequested,
}

impl FrameKind {
    /// A child or the body of a nursery.
    pub(crate) fn is_member(self) -> bool {
        matches!(self, Self::Child | Self::Body)
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scope => "cancel scope",
            Self::Shield => "shield",
            Self::Nursery => "nursery",
            Self::Body => "nursery body",
            Self::Child => "child",
            Self::Context => "context",
            Self::Block => "block",
            Self::Provide => "provided value",
            Self::Settings => "settings",
            Self::Carried => "carried future",
            Self::Anchor => "anchored future",
            Self::Branch => "branch",
            Self::CancelRequested => "wait for a cancellation",
        })
    }
}

/// Which frame a [`Report`] speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrameInfo {
    kind: FrameKind,
    name: Option<Arc<str>>,
    location: &'static Location<'static>,
}

impl FrameInfo {
    /// For the sibling crates, whose frames report themselves.
    #[doc(hidden)]
    #[must_use]
    pub fn new(
        kind: FrameKind,
        name: Option<Arc<str>>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            kind,
            name,
            location,
        }
    }

    /// What sort of frame it is.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// The name it was given, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where in the program it was made.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

impl fmt::Display for FrameInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} `{name}` made at {}", self.kind, self.location),
            None => write!(f, "{} made at {}", self.kind, self.location),
        }
    }
}

/// Something that happened where no code could be told of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Report {
    /// A foreign `select!`, `timeout` or `abort` dropped a frame before its exit had run to its end.
    Dropped(FrameInfo),
    /// A cancelled frame waited for this one, which nobody polled for a whole patience.
    NotPolled(FrameInfo),
    /// The grace period of a cancelled scope was used up while this frame was still running.
    OutOfGrace(FrameInfo),
    /// A failure is being returned into code that is itself cancelled and may never read it.
    FailedUnderCancellation {
        /// The nursery that returns it, or what stands in for one.
        frame: FrameInfo,
        /// How many failures it returns.
        failures: usize,
        /// Their type.
        type_name: &'static str,
    },
    /// Failures that had been collected when a panic took their place.
    FailuresBehindPanic {
        /// The nursery that had collected them.
        frame: FrameInfo,
        /// How many there were.
        failures: usize,
        /// Their type.
        type_name: &'static str,
    },
    /// A panic after the first one, which is the one that is resumed.
    LaterPanic {
        /// The frame in which it happened.
        frame: FrameInfo,
        /// The panic's message where it was text.
        message: String,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped(frame) => write!(
                f,
                "abandoned: {frame} was dropped from outside before its exit had run; use a cancel \
                 scope in place of the `select!`, `timeout` or `abort` that dropped it"
            ),
            Self::NotPolled(frame) => write!(
                f,
                "abandoned: {frame} was cancelled, but nobody polled it any more, so that its exit \
                 could not run"
            ),
            Self::OutOfGrace(frame) => write!(
                f,
                "abandoned: {frame} was still running when the grace period of a cancelled scope \
                 around it was over"
            ),
            Self::FailedUnderCancellation {
                frame,
                failures,
                type_name,
            } => write!(
                f,
                "{frame} returns {failures} failure(s) of type {type_name} into code that is being \
                 cancelled"
            ),
            Self::FailuresBehindPanic {
                frame,
                failures,
                type_name,
            } => write!(
                f,
                "{frame} had collected {failures} failure(s) of type {type_name} when it resumed a panic"
            ),
            Self::LaterPanic { frame, message } => {
                write!(
                    f,
                    "{frame} saw a further panic, which is not resumed: {message}"
                )
            }
        }
    }
}

/// The function that hears of [`Report`]s.
pub(crate) type Hook = Arc<dyn Fn(&Report) + Send + Sync>;

static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

/// Sets the function that hears of [`Report`]s, for the whole process; returns nothing and replaces
/// the one set before.
///
/// Until a hook is set, reports go to standard error, a line each. A part of the program can have a
/// hook of its own: [`Settings::on_report`](crate::Settings::on_report).
///
/// # Panics
///
/// A panic in the hook is caught and ignored: reports are also made while a panic unwinds.
///
/// # Examples
///
/// ```
/// trionics_nursery::set_report_hook(|report| eprintln!("my program: {report}"));
/// ```
pub fn set_report_hook(hook: impl Fn(&Report) + Send + Sync + 'static) {
    let hook: Hook = Arc::new(hook);
    let replaced = HOOK
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(hook);
    drop(replaced);
}

/// Tells `hook`, else the process's hook, else standard error.
pub(crate) fn report(hook: Option<&Hook>, report: &Report) {
    let hook = match hook {
        Some(hook) => Some(Arc::clone(hook)),
        None => HOOK.read().unwrap_or_else(PoisonError::into_inner).clone(),
    };
    let _outside = current::clear();
    #[cfg(feature = "tracing")]
    crate::trace::reported(report);
    let told = catch_unwind(AssertUnwindSafe(|| match hook {
        Some(hook) => hook(report),
        None => eprintln!("trionics: {report}"),
    }));
    // A second panic while one unwinds would end the process.
    if let Err(payload) = told {
        drop_payload(payload);
    }
}

/// Drops the payload of a panic that is not resumed. It is the user's, and might panic again; that panic's is left alone.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    let _outside = current::clear();
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// For the sibling crates: a failure of type `E` is about to be returned from what was opened at `location`, without a
/// nursery; the hook hears of it if the code around is being cancelled.
pub fn report_failure<E>(location: &'static Location<'static>) {
    if !current::is_cancelled() {
        return;
    }
    let around = current::nearest_node().and_then(|node| node.environment());
    let hook = around.as_ref().and_then(|around| around.hook.as_ref());
    let failed = Report::FailedUnderCancellation {
        frame: FrameInfo::new(FrameKind::Nursery, None, location),
        failures: 1,
        type_name: type_name::<E>(),
    };
    report(hook, &failed);
}

/// The text of a panic's payload.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is not text".to_owned())
}
