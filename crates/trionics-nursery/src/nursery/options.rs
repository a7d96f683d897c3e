//! How a nursery is to behave.

use std::{
    future::Future,
    panic::Location,
    sync::Arc,
    time::{Duration, Instant},
};

use trionics_errgroup::Failure;

use super::{
    LocalNursery, Nursery,
    finish::{Finish, FinishSlot},
    open::{Open, OpenLocalNursery, OpenNursery},
    raw::RawOptions,
};
use crate::deadline::Limit;

/// Options for a new nursery.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{Nursery, NurseryOptions};
///
/// # futures::executor::block_on(async {
/// let outcome = NurseryOptions::new()
///     .name("downloads")
///     .limit(8)
///     .supervise()
///     .open(async |n: Nursery<'_>| {
///         n.start_soon(async { Err(std::fmt::Error.into()) });
///         n.start_soon(async { Ok(()) }); // runs, although its sibling has failed
///         Ok(())
///     })
///     .await;
/// assert_eq!(outcome.unwrap_err().leaves().count(), 1);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until a nursery is opened with them"]
pub struct NurseryOptions {
    raw: RawOptions,
}

impl NurseryOptions {
    /// The options of [`open_nursery`](crate::open_nursery).
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn into_raw(self) -> RawOptions {
        self.raw
    }

    /// Names the nursery, for its failures, reports and task trees.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.raw.name = Some(name.into());
        self
    }

    /// Keeps cancellations of the scopes around it from the nursery, its body and its children.
    ///
    /// It is still cancelled by its own scope and by failures of its own.
    pub fn shield(mut self) -> Self {
        self.raw.shielded = true;
        self
    }

    /// Lets `limit` children run at once at most; the others queue in the order of their start.
    ///
    /// # Panics
    ///
    /// If `limit` is zero: no child could ever run.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(
            limit > 0,
            "a nursery with a limit of 0 would never run a child; give a limit of 1 or more"
        );
        self.raw.limit = Some(limit);
        self
    }

    /// Collects the failures of children and lets the other children go on.
    ///
    /// The outcome is a group of all failures all the same. A failing body, and a panic, still cancel.
    pub fn supervise(mut self) -> Self {
        self.raw.supervises = true;
        self
    }

    /// Limits how long exits and shields inside may go on once the nursery is effectively cancelled.
    ///
    /// What still runs then is dropped where it stands, reported to the hook, and named by a failure
    /// ([`OutOfGrace`](trionics_errgroup::LibraryFailure::OutOfGrace)) in the outcome. Needs a clock.
    /// [`CancelScope::end_exit_grace`](crate::CancelScope::end_exit_grace) of the nursery's scope cuts
    /// the period short.
    ///
    /// # Panics
    ///
    /// The nursery's future panics when the period is to begin and no clock is set.
    pub fn exit_grace(mut self, period: Duration) -> Self {
        self.raw.grace = Some(period);
        self
    }

    /// Lets the nursery cancel itself at `deadline`.
    ///
    /// It can be moved while the nursery runs: [`CancelScope::set_deadline`](crate::CancelScope::set_deadline)
    /// of its [scope](Nursery::cancel_scope).
    ///
    /// # Panics
    ///
    /// The nursery's future panics if no clock is set.
    #[track_caller]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.raw.limit_in_time = Some((Limit::At(deadline), Location::caller()));
        self
    }

    /// Lets the nursery cancel itself when it has run for `timeout`, counted from its first poll.
    ///
    /// # Panics
    ///
    /// The nursery's future panics if no clock is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use trionics_nursery::{CancelReason, Nursery, NurseryOptions, sleep, testing};
    ///
    /// testing::run(async {
    ///     let outcome = NurseryOptions::new()
    ///         .timeout(Duration::from_secs(5))
    ///         .open(async |n: Nursery<'_>| {
    ///             n.start_soon(async { Ok(sleep(Duration::from_secs(60)).await) });
    ///             Ok(n.wait_idle().await)
    ///         })
    ///         .await;
    ///     let failure = outcome.unwrap_err();
    ///     let cancelled = failure.leaves().next().unwrap().as_cancelled().unwrap();
    ///     assert_eq!(*cancelled.reason(), CancelReason::Deadline);
    /// });
    /// ```
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.limit_in_time = Some((Limit::After(timeout), Location::caller()));
        self
    }

    /// Opens a nursery with these options: see [`open_nursery`](crate::open_nursery).
    ///
    /// # Errors
    ///
    /// As [`open_nursery`](crate::open_nursery).
    ///
    /// # Panics
    ///
    /// As [`open_nursery`](crate::open_nursery).
    ///
    /// # Cancel safety
    ///
    /// As [`open_nursery`](crate::open_nursery).
    #[track_caller]
    pub fn open<'env, T, E, F, Fut>(self, body: F) -> OpenNursery<'env, T, E, F, Fut>
    where
        F: FnOnce(Nursery<'env, E>) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
    {
        Open::new(
            Location::caller(),
            self.raw,
            None,
            Nursery::from_shared,
            body,
        )
    }

    /// Opens a nursery whose children need not be `Send`: see
    /// [`open_local_nursery`](crate::open_local_nursery).
    ///
    /// # Errors
    ///
    /// As [`open_nursery`](crate::open_nursery).
    ///
    /// # Panics
    ///
    /// As [`open_nursery`](crate::open_nursery).
    ///
    /// # Cancel safety
    ///
    /// As [`open_nursery`](crate::open_nursery).
    #[track_caller]
    pub fn open_local<'env, T, E, F, Fut>(self, body: F) -> OpenLocalNursery<'env, T, E, F, Fut>
    where
        F: FnOnce(LocalNursery<'env, E>) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
    {
        Open::new(
            Location::caller(),
            self.raw,
            None,
            LocalNursery::from_shared,
            body,
        )
    }

    /// Opens a nursery that any of its tasks can end early with a value.
    ///
    /// # Errors
    ///
    /// As [`open_nursery`](crate::open_nursery); a value given to [`Finish`] counts as the body's.
    ///
    /// # Panics
    ///
    /// As [`open_nursery`](crate::open_nursery).
    ///
    /// # Cancel safety
    ///
    /// As [`open_nursery`](crate::open_nursery).
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::{Finish, Nursery, NurseryOptions};
    ///
    /// # futures::executor::block_on(async {
    /// let found = NurseryOptions::new()
    ///     .open_finishing(async |n: Nursery<'_>, finish: Finish<usize>| {
    ///         for (index, word) in ["hay", "needle", "hay"].into_iter().enumerate() {
    ///             let finish = finish.clone();
    ///             n.start_soon(async move {
    ///                 if word == "needle" {
    ///                     finish.finish(index).await;
    ///                 }
    ///                 Ok(())
    ///             });
    ///         }
    ///         n.wait_idle().await;
    ///         Ok(usize::MAX)
    ///     })
    ///     .await;
    /// assert_eq!(found.unwrap(), 1);
    /// # });
    /// ```
    #[track_caller]
    pub fn open_finishing<'env, T, E, F, Fut>(
        self,
        body: F,
    ) -> impl Future<Output = Result<T, Failure<E>>> + use<'env, T, E, F, Fut>
    where
        F: FnOnce(Nursery<'env, E>, Finish<T>) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
    {
        let slot = FinishSlot::new();
        let for_body = Arc::clone(&slot);
        Open::new(
            Location::caller(),
            self.raw,
            Some(slot),
            Nursery::from_shared,
            move |n: Nursery<'env, E>| {
                let finish = Finish::new(for_body, n.cancel_scope());
                body(n, finish)
            },
        )
    }
}
