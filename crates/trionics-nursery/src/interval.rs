//! Ticks at a regular pace.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::Location,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use crate::{
    clock::{Sleep, current_clock, no_clock, saturating_add, sleep_until},
    current,
};

/// Ticks every `period` on the clock of the scope around; the first tick is at once.
///
/// # Panics
///
/// If `period` is zero. The first tick panics if no clock is set; the message says how to set one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{interval, testing};
///
/// testing::run(async {
///     let mut interval = interval(Duration::from_secs(10));
///     interval.tick().await; // at once
///     interval.tick().await;
///     interval.tick().await;
///     assert_eq!(testing::elapsed(), Duration::from_secs(20));
/// });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval::new(None, period, Location::caller())
}

/// Ticks every `period` on the clock of the scope around; the first tick is at `start`.
///
/// # Panics
///
/// As [`interval`].
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval::new(Some(start), period, Location::caller())
}

/// Ticks that are later than this are late: a timer is not exact.
const TOLERANCE: Duration = Duration::from_millis(5);

/// What an [`Interval`] does when a tick comes late, because nobody had asked for it in time.
///
/// Ticks are due at 0, 10, 20, 30 and so on; somebody who has taken the one at 10 comes back at 35:
///
/// ```text
/// behavior   taken at          then
/// Burst      35, 35, 40        every 10, on the marks: none is lost
/// Delay      35, 45, 55        every 10, from the late one on
/// Skip       35, 40, 50        every 10, on the marks: those that were missed are lost
/// ```
///
/// They are those of tokio's `MissedTickBehavior`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissedTickBehavior {
    /// Tick without a pause until all missed ticks are made up for.
    #[default]
    Burst,
    /// The next tick is one period after the late one.
    Delay,
    /// The next tick is at the next multiple of the period since the beginning.
    Skip,
}

/// Ticks at a regular pace: see [`interval`].
///
/// Dropping it ends it.
pub struct Interval {
    period: Duration,
    behavior: MissedTickBehavior,
    /// When the next tick is due; unknown before the first one is asked for.
    next: Option<Instant>,
    /// Ends when the next tick is due.
    sleep: Option<Sleep>,
    location: &'static Location<'static>,
}

impl Interval {
    #[track_caller]
    fn new(start: Option<Instant>, period: Duration, location: &'static Location<'static>) -> Self {
        assert!(
            !period.is_zero(),
            "an interval with a period of zero would tick without end; give a longer one"
        );
        Self {
            period,
            behavior: MissedTickBehavior::default(),
            next: start,
            sleep: None,
            location,
        }
    }

    /// Waits for the next tick, and returns when it was due.
    ///
    /// # Panics
    ///
    /// If no clock is set; the message says how to set one.
    ///
    /// # Cancel safety
    ///
    /// No tick is lost when it is dropped: the next call waits for the same one.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// As [`tick`](Self::tick), for code that polls by hand.
    ///
    /// # Panics
    ///
    /// If no clock is set; the message says how to set one.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(clock) = current_clock() else {
            no_clock(self.location)
        };
        let due = *self.next.get_or_insert_with(|| clock.now());
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(due));
        ready!(std::pin::Pin::new(sleep).poll(cx));
        self.drop_sleep();
        self.next = Some(self.after(due, clock.now()));
        Poll::Ready(due)
    }

    /// When the tick after the one at `due`, which was taken at `now`, is due.
    fn after(&self, due: Instant, now: Instant) -> Instant {
        let next = saturating_add(due, self.period);
        if now <= saturating_add(due, TOLERANCE) {
            return next;
        }
        match self.behavior {
            MissedTickBehavior::Burst => next,
            MissedTickBehavior::Delay => saturating_add(now, self.period),
            MissedTickBehavior::Skip => {
                let since_mark = now.duration_since(due).as_nanos() % self.period.as_nanos();
                let since_mark = Duration::from_nanos_u128(since_mark);
                saturating_add(now, self.period - since_mark)
            }
        }
    }

    /// Lets the next tick come one period from now.
    ///
    /// # Panics
    ///
    /// If no clock is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{interval, sleep, testing};
    ///
    /// testing::run(async {
    ///     let mut interval = interval(Duration::from_secs(10));
    ///     interval.tick().await;
    ///     sleep(Duration::from_secs(4)).await;
    ///     interval.reset();
    ///     interval.tick().await;
    ///     assert_eq!(testing::elapsed(), Duration::from_secs(14));
    /// });
    /// ```
    #[track_caller]
    pub fn reset(&mut self) {
        self.reset_at(saturating_add(crate::clock::now(), self.period));
    }

    /// Lets the next tick come at once.
    ///
    /// # Panics
    ///
    /// If no clock is set.
    #[track_caller]
    pub fn reset_immediately(&mut self) {
        self.reset_at(crate::clock::now());
    }

    /// Lets the next tick come at `instant`.
    pub fn reset_at(&mut self, instant: Instant) {
        self.drop_sleep();
        self.next = Some(instant);
    }

    /// The time from one tick to the next.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What happens when a tick comes late.
    #[must_use]
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.behavior
    }

    /// Chooses what happens when a tick comes late; [`MissedTickBehavior::Burst`] unless set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{MissedTickBehavior, interval, sleep, testing};
    ///
    /// testing::run(async {
    ///     let mut interval = interval(Duration::from_secs(10));
    ///     interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ///     interval.tick().await;
    ///     sleep(Duration::from_secs(35)).await;
    ///     interval.tick().await; // the one of 10 s, late; those of 20 s and 30 s are lost
    ///     interval.tick().await;
    ///     assert_eq!(testing::elapsed(), Duration::from_secs(40));
    /// });
    /// ```
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.behavior = behavior;
    }

    fn drop_sleep(&mut self) {
        let _outside = current::clear();
        self.sleep = None;
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("period", &self.period)
            .field("missed_tick_behavior", &self.behavior)
            .field("made_at", &format_args!("{}", self.location))
            .finish_non_exhaustive()
    }
}
