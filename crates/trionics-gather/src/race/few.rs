//! A race of few futures, which are polled in place.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_nursery::internal::{Decision, Fork, ForkEnd, Lanes};

use super::{RaceResult, Rules, Score};

pin_project! {
    pub(super) struct Few<L: Lanes> {
        #[pin]
        lanes: L,
        fork: Fork,
        score: Score<L::Output>,
    }

    impl<L: Lanes> PinnedDrop for Few<L> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.fork.clear(this.lanes);
        }
    }
}

impl<L: Lanes> Few<L> {
    pub(super) fn new(
        location: &'static Location<'static>,
        lanes: L,
        rules: Rules<L::Output>,
    ) -> Self {
        Self {
            lanes,
            fork: Fork::new(location),
            score: Score::new(rules),
        }
    }
}

impl<L: Lanes> Future for Few<L> {
    type Output = RaceResult<L::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let score = this.score;
        let end = ready!(this.fork.poll(this.lanes, cx, |output| {
            let had_winner = score.has_winner();
            drop(score.note(output));
            if score.has_winner() && !had_winner {
                Decision::Finished
            } else {
                Decision::GoOn
            }
        }));
        // Under a cancellation, too, a race that is over has its result.
        if let ForkEnd::Stopped = end
            && !score.has_winner()
        {
            return this.fork.stop(cx).map(RaceResult::Cancelled);
        }
        this.fork.finish();
        Poll::Ready(score.take())
    }
}
