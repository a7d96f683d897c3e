//! The clock of async-io's reactor, which is that of smol and async-std.

use std::time::Instant;

use async_io::Timer;

use super::{BoxSleep, Clock};

/// Takes the time from the system and the timers from async-io's reactor.
///
/// It works under any executor: where none drives the reactor, a thread of async-io's own does.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{AsyncIoClock, move_on_after, with_clock};
///
/// let outcome = smol::block_on(with_clock(AsyncIoClock, async {
///     move_on_after(Duration::from_millis(1), std::future::pending::<()>()).await
/// }));
/// assert_eq!(outcome, None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncIoClock;

impl Clock for AsyncIoClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxSleep {
        let timer = Timer::at(deadline);
        Box::pin(async move {
            timer.await;
        })
    }
}
