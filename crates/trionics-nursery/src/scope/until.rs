//! A scope that follows a signal from elsewhere.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled};

use super::{CancelScope, RunScope};
use crate::frame::drop_body;

pin_project! {
    /// The future of [`CancelScope::run_until`].
    #[must_use = "futures do nothing unless polled"]
    pub struct RunUntil<S, F> {
        #[pin]
        run: RunScope<F>,
        // Gone once it is of no more interest.
        #[pin]
        signal: Option<S>,
        scope: CancelScope,
        location: &'static Location<'static>,
        // The signal's panic, to be resumed once the exits have run.
        panic: Option<Box<dyn Any + Send>>,
    }
}

impl<S, F> RunUntil<S, F> {
    pub(super) fn new(
        scope: CancelScope,
        signal: S,
        run: RunScope<F>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            run,
            signal: Some(signal),
            scope,
            location,
            panic: None,
        }
    }
}

impl<S: Future, F: Future> Future for RunUntil<S, F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let polled = this.run.as_mut().poll(cx);
        if polled.is_ready() || this.run.is_stopped() {
            let dropped = drop_body(this.signal);
            return match this.panic.take().map_or(dropped, Err) {
                Ok(()) => polled,
                Err(payload) => resume_unwind(payload),
            };
        }
        let Some(signal) = this.signal.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let heard = if this.scope.node.is_effective() {
            Ok(Poll::Ready(()))
        } else {
            catch_unwind(AssertUnwindSafe(|| signal.poll(cx).map(drop)))
        };
        if let Ok(Poll::Pending) = heard {
            return Poll::Pending;
        }
        let dropped = drop_body(this.signal);
        *this.panic = heard.err().or(dropped.err());
        // Wakes this task, which polled the scope a moment ago.
        this.scope.cancel_for(CancelReason::Signal, this.location);
        Poll::Pending
    }
}

impl<S, F> fmt::Debug for RunUntil<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunUntil")
            .field("scope", &self.scope)
            .field("signal_came", &self.signal.is_none())
            .finish_non_exhaustive()
    }
}
