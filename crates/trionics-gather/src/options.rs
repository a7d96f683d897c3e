//! How a set of contexts is to be entered.

use std::{future::Future, panic::Location};

use trionics_errgroup::Failure;

use crate::{
    gather::gather,
    gather_in::{EnterIn, HostNursery, InChild},
    limit::Limit,
    set::ContextSet,
};

/// Options for entering a set of contexts.
///
/// # Examples
///
/// At most two connections are set up at the same time:
///
/// ```
/// use trionics_gather::{GatherOptions, Slot, acm};
/// use trionics_nursery::{Failure, checkpoint};
///
/// async fn connection(n: usize, slot: Slot<usize>) -> Result<(), Failure> {
///     checkpoint().await; // connect
///     slot.provide(n).await;
///     Ok(())
/// }
///
/// # futures::executor::block_on(async {
/// let contexts: Vec<_> = (0..10).map(|n| acm(move |slot| connection(n, slot))).collect();
/// let sum = GatherOptions::new()
///     .limit(2)
///     .gather(contexts, async |numbers: Vec<usize>| Ok(numbers.iter().sum::<usize>()))
///     .await;
/// assert_eq!(sum.unwrap(), 45);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until contexts are gathered with them"]
pub struct GatherOptions {
    limit: Option<usize>,
}

impl GatherOptions {
    /// The options of [`gather_contexts`](crate::gather_contexts).
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `limit` contexts set up at once at most, in the order of the set.
    ///
    /// All of them are entered at the same time once they are, so set-ups must not wait for each other.
    /// Exits are not limited.
    ///
    /// # Panics
    ///
    /// If `limit` is zero: no context could ever be entered.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        assert!(
            limit > 0,
            "with a limit of 0 no context could ever be entered; give a limit of 1 or more"
        );
        self.limit = Some(limit);
        self
    }

    /// Enters `set`, runs `body` and leaves `set` with these options: see
    /// [`gather_contexts`](crate::gather_contexts).
    ///
    /// # Errors
    ///
    /// As [`gather_contexts`](crate::gather_contexts).
    ///
    /// # Panics
    ///
    /// As [`gather_contexts`](crate::gather_contexts).
    ///
    /// # Cancel safety
    ///
    /// As [`gather_contexts`](crate::gather_contexts).
    #[track_caller]
    pub fn gather<S, T, F, Fut>(
        self,
        set: S,
        body: F,
    ) -> impl Future<Output = Result<T, Failure<S::Error>>> + use<S, T, F, Fut>
    where
        S: ContextSet,
        F: FnOnce(S::Values) -> Fut,
        Fut: Future<Output = Result<T, Failure<S::Error>>>,
    {
        gather(Location::caller(), self.limit.map(Limit::new), set, body)
    }

    /// Enters `set` in a nursery of the caller's with these options: see
    /// [`gather_contexts_in`](crate::gather_contexts_in).
    ///
    /// # Errors
    ///
    /// As [`gather_contexts_in`](crate::gather_contexts_in).
    ///
    /// # Cancel safety
    ///
    /// As [`gather_contexts_in`](crate::gather_contexts_in).
    #[track_caller]
    pub fn gather_in<N, S>(self, nursery: &N, set: S) -> EnterIn<N, S>
    where
        S: ContextSet,
        N: HostNursery<InChild<S::Child>> + Clone,
    {
        EnterIn::new(
            Location::caller(),
            self.limit.map(Limit::new),
            nursery.clone(),
            set,
        )
    }
}
