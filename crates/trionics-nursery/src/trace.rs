//! What the crate `tracing` hears: a span per scope, nursery and child, and events.

use std::sync::OnceLock;

use tracing::{Level, Span, level_filters::LevelFilter, span::EnteredSpan};
use trionics_errgroup::Cancelled;

use crate::{
    node::Node,
    report::{FrameInfo, FrameKind, Report},
};

/// The span of a frame, made when the frame is first polled: in the span that is current then.
#[derive(Default)]
pub(crate) struct Trace {
    span: OnceLock<Span>,
}

impl Trace {
    /// Enters the frame's span for one poll.
    pub(crate) fn enter(&self, node: &Node) -> Option<EnteredSpan> {
        let span = self.span.get_or_init(|| new_span(&node.info()));
        (!span.is_none()).then(|| span.clone().entered())
    }

    fn span(&self) -> &Span {
        static NONE: OnceLock<Span> = OnceLock::new();
        self.span
            .get()
            .unwrap_or_else(|| NONE.get_or_init(Span::none))
    }
}

/// Somebody may want to hear of nurseries.
pub(crate) fn hears_of_nurseries() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// Somebody wants to hear of the children of nurseries.
pub(crate) fn hears_of_children() -> bool {
    tracing::enabled!(target: "runtime::trionics", Level::TRACE, { kind, task.name, loc.file, loc.line, loc.col })
}

/// Somebody wants to hear when an exit begins.
pub(crate) fn hears_of_exits() -> bool {
    tracing::enabled!(target: "trionics_nursery", Level::DEBUG)
}

fn new_span(frame: &FrameInfo) -> Span {
    let (name, location) = (frame.name(), frame.location());
    match frame.kind() {
        // A span of this name, with these fields, is a task to the tokio-console.
        FrameKind::Child => tracing::trace_span!(
            target: "runtime::trionics",
            "runtime.spawn",
            kind = "child",
            task.name = name,
            loc.file = location.file(),
            loc.line = location.line(),
            loc.col = location.column(),
        ),
        FrameKind::Nursery => tracing::debug_span!(
            target: "trionics_nursery",
            "nursery",
            name,
            %location,
        ),
        FrameKind::Scope => tracing::debug_span!(
            target: "trionics_nursery",
            "scope",
            name,
            %location,
        ),
        _ => Span::none(),
    }
}

/// A scope was cancelled that had not been.
pub(crate) fn cancelled(node: &Node, cancelled: &Cancelled) {
    tracing::debug!(
        target: "trionics_nursery",
        parent: node.trace().span(),
        frame = %node.info(),
        reason = %cancelled.reason(),
        location = %cancelled.location(),
        "cancelled"
    );
}

/// The exit of an async context begins.
pub(crate) fn exit_begins(node: &Node) {
    tracing::debug!(
        target: "trionics_nursery",
        parent: node.trace().span(),
        frame = %node.info(),
        "exit"
    );
}

/// Something was abandoned, or could not be told to anybody's code.
pub(crate) fn reported(report: &Report) {
    tracing::warn!(target: "trionics_nursery", "{report}");
}
