//! A clock that moves only when told to.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::clock::{BoxSleep, Clock};

/// A clock that moves only when told to.
///
/// A clone shows the same time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use trionics_nursery::{Clock as _, testing::VirtualClock};
///
/// let clock = VirtualClock::new();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now() - start, Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    elapsed: Duration,
    /// Who to wake, by time and by the order of asking.
    timers: BTreeMap<(Instant, u64), Option<Waker>>,
    next_id: u64,
}

impl VirtualClock {
    /// A clock that starts now and stands still.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                start: Instant::now(),
                state: Mutex::default(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the clock has moved since it was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    /// Moves the clock and wakes the timers that are due, in the order of their times.
    pub fn advance(&self, duration: Duration) {
        let due = {
            let mut state = self.lock();
            state.elapsed = state.elapsed.saturating_add(duration);
            let now = crate::clock::saturating_add(self.shared.start, state.elapsed);
            let later = state.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.timers, later)
        };
        for waker in due.into_values().flatten() {
            waker.wake();
        }
    }

    /// Moves the clock to the next timer and wakes it; false if there is none.
    pub fn advance_to_next(&self) -> bool {
        let next = {
            let state = self.lock();
            state.timers.first_key_value().map(|((time, _), _)| *time)
        };
        match next {
            Some(time) => {
                self.advance(time.saturating_duration_since(self.now()));
                true
            }
            None => false,
        }
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        crate::clock::saturating_add(self.shared.start, self.elapsed())
    }

    fn sleep_until(&self, deadline: Instant) -> BoxSleep {
        Box::pin(Timer {
            clock: self.clone(),
            deadline,
            id: None,
        })
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock")
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}

struct Timer {
    clock: VirtualClock,
    deadline: Instant,
    id: Option<u64>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let this = &mut *self;
        let replaced = {
            let mut state = this.clock.lock();
            let now = crate::clock::saturating_add(this.clock.shared.start, state.elapsed);
            if now >= this.deadline {
                drop(state);
                return Poll::Ready(());
            }
            let id = *this.id.get_or_insert_with(|| {
                state.next_id += 1;
                state.next_id
            });
            state.timers.insert((this.deadline, id), Some(waker))
        };
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let removed = self.clock.lock().timers.remove(&(self.deadline, id));
            drop(removed);
        }
    }
}
