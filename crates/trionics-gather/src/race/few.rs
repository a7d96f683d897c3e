//! A race of few futures, which are polled in place.

use std::{
    fmt,
    future::Future,
    mem,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_nursery::internal::{Decision, Fork, ForkEnd, Lanes, Standing};

use super::rules::{Rules, Score};

pin_project! {
    /// The future of a race that is polled in place.
    pub struct Few<L: Lanes, R: Rules<L::Output>> {
        #[pin]
        lanes: L,
        fork: Fork,
        score: Score<L::Output, R>,
    }

    impl<L: Lanes, R: Rules<L::Output>> PinnedDrop for Few<L, R> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.fork.clear(this.lanes);
        }
    }
}

impl<L: Lanes, R: Rules<L::Output>> Few<L, R> {
    #[inline]
    pub(super) fn new(location: &'static Location<'static>, lanes: L) -> Self {
        Self {
            lanes,
            fork: Fork::new(location),
            score: Score::default(),
        }
    }
}

impl<L: Lanes, R: Rules<L::Output>> Future for Few<L, R> {
    type Output = R::Outcome;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let score = this.score;
        let end = ready!(this.fork.poll(this.lanes, cx, |output, standing| {
            match score.note(output, standing == Standing::Ahead).0 {
                true => Decision::Finished,
                false => Decision::GoOn,
            }
        }));
        // Under a cancellation, too, a race that is over has its result.
        if let ForkEnd::Stopped = end
            && !score.has_winner()
        {
            let cancelled = ready!(this.fork.stop(cx));
            return Poll::Ready(R::cancelled(cancelled, this.fork.location()));
        }
        this.fork.finish();
        Poll::Ready(mem::take(score).outcome())
    }
}

impl<L: Lanes, R: Rules<L::Output>> fmt::Debug for Few<L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Few").finish_non_exhaustive()
    }
}
