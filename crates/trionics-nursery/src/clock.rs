//! Where the time comes from: the [`Clock`] trait, and sleeping on the clock of the scope around.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::current;

#[cfg(feature = "async-io")]
mod async_io;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "async-io")]
pub use self::async_io::AsyncIoClock;
#[cfg(feature = "tokio")]
pub use self::tokio::TokioClock;

/// What [`Clock::sleep_until`] returns.
pub type BoxSleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time and timers.
///
/// Set it once, around the whole program, with [`with_clock`](crate::with_clock) or
/// [`Settings::clock`](crate::Settings::clock); every scope inside inherits it.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
/// use trionics_nursery::{BoxSleep, Clock};
///
/// /// A clock whose timers never end.
/// struct Stopped(Instant);
///
/// impl Clock for Stopped {
///     fn now(&self) -> Instant {
///         self.0
///     }
///     fn sleep_until(&self, _deadline: Instant) -> BoxSleep {
///         Box::pin(std::future::pending())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no clock",
    label = "not a `Clock`",
    note = "there are `TokioClock` with the feature `tokio`, `AsyncIoClock` with `async-io`, and a virtual clock in `testing`"
)]
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Instant;

    /// A future that ends once [`now`](Self::now) is not before `deadline`.
    fn sleep_until(&self, deadline: Instant) -> BoxSleep;
}

/// `start` plus `duration`, or a time that never comes.
pub(crate) fn saturating_add(start: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
    start
        .checked_add(duration)
        .or_else(|| start.checked_add(FAR))
        .unwrap_or(start)
}

pub(crate) fn current_clock() -> Option<Arc<dyn Clock>> {
    current::nearest_node()?.environment()?.clock.clone()
}

/// Returns the time on the clock of the scope around.
///
/// # Panics
///
/// If no clock is set; the message says how to set one.
///
/// # Examples
///
/// ```
/// # trionics_nursery::testing::run(async {
/// use std::time::Duration;
/// use trionics_nursery::{now, sleep};
///
/// let before = now();
/// sleep(Duration::from_secs(5)).await;
/// assert_eq!(now() - before, Duration::from_secs(5));
/// # });
/// ```
#[must_use]
#[track_caller]
pub fn now() -> Instant {
    match current_clock() {
        Some(clock) => clock.now(),
        None => no_clock(Location::caller()),
    }
}

/// Waits for `duration`, counted from this call, on the clock of the scope around.
///
/// A duration too long for the clock waits for ever, as far as anybody will notice. A duration of zero is over at once:
/// to be stopped, or to let others run, await a [`checkpoint`](crate::checkpoint).
///
/// # Panics
///
/// When polled, if no clock is set; the message says how to set one.
///
/// # Cancel safety
///
/// Nothing is lost when it is dropped.
///
/// # Examples
///
/// ```
/// # trionics_nursery::testing::run(async {
/// use std::time::Duration;
/// trionics_nursery::sleep(Duration::from_millis(20)).await;
/// # });
/// ```
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    let location = Location::caller();
    match current_clock() {
        Some(clock) => Sleep {
            state: SleepState::started(&clock, saturating_add(clock.now(), duration)),
            location,
        },
        None => Sleep {
            state: SleepState::After(duration),
            location,
        },
    }
}

/// Waits until `deadline` on the clock of the scope around.
///
/// # Panics
///
/// When polled, if no clock is set; the message says how to set one.
///
/// # Cancel safety
///
/// Nothing is lost when it is dropped.
///
/// # Examples
///
/// ```
/// # trionics_nursery::testing::run(async {
/// use std::time::Duration;
/// use trionics_nursery::{now, sleep_until};
///
/// let deadline = now() + Duration::from_secs(1);
/// sleep_until(deadline).await;
/// assert!(now() >= deadline);
/// # });
/// ```
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    let location = Location::caller();
    match current_clock() {
        Some(clock) => Sleep {
            state: SleepState::started(&clock, deadline),
            location,
        },
        None => Sleep {
            state: SleepState::Until(deadline),
            location,
        },
    }
}

#[track_caller]
pub(crate) fn no_clock(location: &'static Location<'static>) -> ! {
    panic!(
        "no clock is set for the code at {location}: run the program inside \
         `trionics_nursery::with_clock(clock, future)`, for instance with the `TokioClock` of the \
         feature `tokio` or the `AsyncIoClock` of the feature `async-io`, or a test inside `trionics_nursery::testing::run`"
    )
}

/// The future of [`sleep`] and [`sleep_until`].
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    state: SleepState,
    location: &'static Location<'static>,
}

enum SleepState {
    /// Made where there was no clock: counts from the first poll.
    After(Duration),
    Until(Instant),
    Sleeping(BoxSleep),
}

impl SleepState {
    fn started(clock: &Arc<dyn Clock>, deadline: Instant) -> Self {
        Self::Sleeping(clock.sleep_until(deadline))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let deadline = match &mut this.state {
            SleepState::Sleeping(sleep) => return sleep.as_mut().poll(cx),
            SleepState::After(duration) => Err(*duration),
            SleepState::Until(deadline) => Ok(*deadline),
        };
        let Some(clock) = current_clock() else {
            no_clock(this.location)
        };
        let deadline = deadline.unwrap_or_else(|duration| saturating_add(clock.now(), duration));
        let mut sleep = clock.sleep_until(deadline);
        let polled = sleep.as_mut().poll(cx);
        this.state = SleepState::Sleeping(sleep);
        polled
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleep")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}
