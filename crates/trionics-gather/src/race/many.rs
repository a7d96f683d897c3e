//! A race of many futures: a nursery, whose body waits for the winner and then cancels it.

use std::{
    convert::Infallible,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure};
use trionics_nursery::{
    internal::{BodyEnd, RawEnd, open_children},
    outside,
};

use super::{RaceResult, Rules, Score};

/// Runs the race.
pub(super) fn race<F: Future>(
    location: &'static Location<'static>,
    futures: Vec<F>,
    rules: Rules<F::Output>,
) -> impl Future<Output = RaceResult<F::Output>> {
    let contest = Arc::new(Contest {
        state: Mutex::new(ContestState {
            score: Score::new(rules),
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
            location,
        }
    });
    Many { nursery, contest }
}

pin_project! {
    struct Many<N, O> {
        #[pin]
        nursery: N,
        contest: Arc<Contest<O>>,
    }
}

impl<N, O> Future for Many<N, O>
where
    N: Future<Output = RawEnd<(), Infallible>>,
{
    type Output = RaceResult<O>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let cancelled = match this.nursery.poll(cx) {
            Poll::Ready(RawEnd::Cancelled(cancelled)) => Some(cancelled),
            Poll::Ready(RawEnd::Value(()) | RawEnd::Failed(_)) => None,
            // Under an outer cancellation the nursery would park; but a race that is over has its result.
            Poll::Pending if this.contest.is_over() => None,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(this.contest.result(cancelled))
    }
}

/// What the branches of one race share.
struct Contest<O> {
    state: Mutex<ContestState<O>>,
}

struct ContestState<O> {
    score: Score<O>,
    /// How many branches have not ended.
    n_running: usize,
    /// A branch has panicked, which the nursery resumes.
    has_panicked: bool,
    /// Wakes the nursery's body.
    waker: Option<Waker>,
}

impl<O> Contest<O> {
    fn lock(&self) -> MutexGuard<'_, ContestState<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, output: O) {
        let (dropped, waker) = {
            let mut state = self.lock();
            let dropped = state.score.note(output);
            let waker = if state.score.has_winner() {
                state.waker.take()
            } else {
                None
            };
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

    fn result(&self, cancelled: Option<Cancelled>) -> RaceResult<O> {
        let mut state = self.lock();
        match cancelled {
            Some(cancelled) if !state.score.has_winner() => RaceResult::Cancelled(cancelled),
            _ => state.score.take(),
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
    struct Branch<F, O> {
        #[pin]
        future: F,
        // Dropped after the future.
        runner: Runner<O>,
    }
}

struct Runner<O> {
    contest: Arc<Contest<O>>,
    /// Stays so when a poll panics.
    is_polling: bool,
}

impl<O> Drop for Runner<O> {
    fn drop(&mut self) {
        self.contest
            .end(self.is_polling || std::thread::panicking());
    }
}

impl<F: Future> Future for Branch<F, F::Output> {
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
struct Referee<O> {
    contest: Arc<Contest<O>>,
    location: &'static Location<'static>,
}

impl<O> Future for Referee<O> {
    type Output = BodyEnd<(), Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        let (polled, replaced) = {
            let mut state = self.contest.lock();
            if state.score.has_winner() {
                let cancelled = Cancelled::__new(CancelReason::Finished, self.location);
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
