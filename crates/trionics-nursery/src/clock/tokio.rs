//! The clock of a tokio runtime.

use std::time::Instant;

use super::{BoxSleep, Clock};

/// Takes the time and the timers from the tokio runtime that polls.
///
/// It follows `tokio::time::pause` and `advance`.
///
/// # Panics
///
/// Its timers panic, as tokio's do, when made or polled outside a runtime whose time is enabled.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{TokioClock, sleep, with_clock};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
/// # runtime.block_on(async {
/// with_clock(TokioClock, async {
///     sleep(Duration::from_secs(60)).await;
/// })
/// .await;
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxSleep {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}
