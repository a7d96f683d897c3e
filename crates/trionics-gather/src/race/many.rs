//! A race of many futures: a nursery, whose body waits for the winner and then cancels it.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    mem,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure};
use trionics_nursery::{
    internal::{BodyEnd, RawEnd, RawNursery, open_children},
    outside,
};

use super::rules::{Rules, Score};

pin_project! {
    /// The future of a race in a nursery.
    pub struct Many<F: Future, R: Rules<F::Output>> {
        #[pin]
        nursery: RawNursery<Branch<F, R>, Referee<F::Output, R>, (), Infallible>,
        contest: Arc<Contest<F::Output, R>>,
    }
}

impl<F: Future, R: Rules<F::Output>> Many<F, R> {
    pub(super) fn new(
        location: &'static Location<'static>,
        futures: impl ExactSizeIterator<Item = F>,
    ) -> Self {
        let contest = Arc::new(Contest {
            location,
            state: Mutex::new(ContestState {
                score: Score::default(),
                n_running: futures.len(),
                has_panicked: false,
                waker: None,
            }),
        });
        let nursery = open_children(location, |children| {
            for future in futures {
                children.add(Branch {
                    future,
                    runner: Runner {
                        contest: Arc::clone(&contest),
                        is_polling: false,
                    },
                });
            }
            Referee {
                contest: Arc::clone(&contest),
            }
        });
        Self { nursery, contest }
    }
}

impl<F: Future, R: Rules<F::Output>> Future for Many<F, R> {
    type Output = R::Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let cancelled = match this.nursery.poll(cx) {
            Poll::Ready(RawEnd::Cancelled(cancelled)) => Some(cancelled),
            Poll::Ready(RawEnd::Value(()) | RawEnd::Failed(_)) => None,
            // Under an outer cancellation the nursery would park; but a race that is over has its result.
            Poll::Pending if this.contest.is_over() => None,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(this.contest.outcome(cancelled))
    }
}

impl<F: Future, R: Rules<F::Output>> fmt::Debug for Many<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Many").finish_non_exhaustive()
    }
}

/// What the branches of one race share.
struct Contest<O, R: Rules<O>> {
    location: &'static Location<'static>,
    state: Mutex<ContestState<O, R>>,
}

struct ContestState<O, R: Rules<O>> {
    score: Score<O, R>,
    /// How many branches have not ended.
    n_running: usize,
    /// A branch has panicked, which the nursery resumes.
    has_panicked: bool,
    /// Wakes the nursery's body.
    waker: Option<Waker>,
}

impl<O, R: Rules<O>> Contest<O, R> {
    fn lock(&self) -> MutexGuard<'_, ContestState<O, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, output: O) {
        let (dropped, waker) = {
            let mut state = self.lock();
            let (wins, dropped) = state.score.note(output, false);
            let waker = if wins { state.waker.take() } else { None };
            (dropped, waker)
        };
        drop(dropped);
        wake(waker);
    }

    fn end(&self, has_panicked: bool) {
        let waker = {
            let mut state = self.lock();
            state.n_running -= 1;
            state.has_panicked |= has_panicked;
            if state.n_running == 0 {
                state.waker.take()
            } else {
                None
            }
        };
        wake(waker);
    }

    /// There is a winner, and the others have unwound.
    fn is_over(&self) -> bool {
        let state = self.lock();
        state.score.has_winner() && state.n_running == 0 && !state.has_panicked
    }

    fn outcome(&self, cancelled: Option<Cancelled>) -> R::Outcome {
        let score = {
            let mut state = self.lock();
            mem::take(&mut state.score)
        };
        match cancelled {
            Some(cancelled) if !score.has_winner() => R::cancelled(cancelled, self.location),
            _ => score.outcome(),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        outside(|| waker.wake());
    }
}

pin_project! {
    /// One future of a race.
    struct Branch<F: Future, R: Rules<F::Output>> {
        #[pin]
        future: F,
        // Dropped after the future.
        runner: Runner<F::Output, R>,
    }
}

struct Runner<O, R: Rules<O>> {
    contest: Arc<Contest<O, R>>,
    /// Stays so when a poll panics.
    is_polling: bool,
}

impl<O, R: Rules<O>> Drop for Runner<O, R> {
    fn drop(&mut self) {
        self.contest
            .end(self.is_polling || std::thread::panicking());
    }
}

impl<F: Future, R: Rules<F::Output>> Future for Branch<F, R> {
    type Output = Result<(), Failure<Infallible>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.runner.is_polling = true;
        let polled = this.future.poll(cx);
        this.runner.is_polling = false;
        polled.map(|output| {
            this.runner.contest.finish(output);
            Ok(())
        })
    }
}

/// The body of the nursery.
struct Referee<O, R: Rules<O>> {
    contest: Arc<Contest<O, R>>,
}

impl<O, R: Rules<O>> Future for Referee<O, R> {
    type Output = BodyEnd<(), Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        let (polled, replaced) = {
            let mut state = self.contest.lock();
            if state.score.has_winner() {
                let cancelled = Cancelled::__new(CancelReason::Finished, self.contest.location);
                (Poll::Ready(BodyEnd::Cancelled(cancelled)), Some(waker))
            } else if state.n_running == 0 {
                (Poll::Ready(BodyEnd::Value(())), Some(waker))
            } else {
                (Poll::Pending, state.waker.replace(waker))
            }
        };
        drop(replaced);
        polled
    }
}
