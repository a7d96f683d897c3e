//! Running what must run after a body, whatever came of the body.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::iter;

use crate::{Failure, Node};

/// The outcome of a body while what must run after it runs.
///
/// Each step of a teardown can see the failure that is on its way out, and a step that fails hides nothing: the
/// failures come out in one group, each later one with the one before as its context, or as one failure
/// with the earlier ones inside, as an exception in Python would.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, Teardown};
///
/// let body: Result<u32, Failure<&str>> = Err(Failure::leaf("read failed"));
/// let mut teardown = Teardown::after(body);
/// teardown.run(|pending| {
///     assert_eq!(pending.and_then(|failure| failure.as_leaf()), Some(&"read failed"));
///     Err(Failure::leaf("close failed"))
/// });
/// let failure = teardown.finish("feed").unwrap_err();
/// assert!(failure.errors().eq(&["read failed", "close failed"]));
///
/// let context = failure.children()[1].context().unwrap();
/// assert_eq!(context.find_in(&failure).unwrap().as_leaf(), Some(&"read failed"));
/// ```
#[derive(Debug)]
#[must_use = "the body's outcome is in it: call `finish`"]
pub struct Teardown<T, E> {
    /// What the body gave.
    body: Result<T, Failure<E>>,
    /// The failures of the steps so far.
    later: Vec<Failure<E>>,
}

impl<T, E> Teardown<T, E> {
    /// Begins the teardown of what a body used.
    ///
    /// # Examples
    ///
    /// See [`Teardown`].
    pub fn after(body: Result<T, Failure<E>>) -> Self {
        Self {
            body,
            later: Vec::new(),
        }
    }

    /// The failure that is on its way out: that of the last step that failed, or else that of the body.
    ///
    /// # Examples
    ///
    /// In async code the step is awaited where it stands, and what came of it recorded:
    ///
    /// ```
    /// use trionics_errgroup::{Failure, Node, Teardown};
    ///
    /// async fn say_goodbye(pending: Option<&Node<String>>) -> Result<(), Failure<String>> {
    ///     match pending {
    ///         Some(failure) => Err(format!("nobody to tell about {failure}").into()),
    ///         None => Ok(()),
    ///     }
    /// }
    ///
    /// async fn wind_up(body: Result<u32, Failure<String>>) -> Result<u32, Failure<String>> {
    ///     let mut teardown = Teardown::after(body);
    ///     let step = say_goodbye(teardown.pending()).await;
    ///     teardown.record(step);
    ///     teardown.finish("feed")
    /// }
    /// # drop(wind_up(Ok(1)));
    /// ```
    pub fn pending(&self) -> Option<&Node<E>> {
        let body = self.body.as_ref().err();
        self.later.last().or(body).map(|failure| &**failure)
    }

    /// Runs a step, which is handed the failure that is on its way out.
    ///
    /// # Examples
    ///
    /// See [`Teardown`].
    pub fn run(
        &mut self,
        step: impl FnOnce(Option<&Node<E>>) -> Result<(), Failure<E>>,
    ) -> &mut Self {
        let outcome = step(self.pending());
        self.record(outcome)
    }

    /// Records what came of a step.
    ///
    /// # Examples
    ///
    /// See [`pending`](Self::pending).
    pub fn record(&mut self, step: Result<(), Failure<E>>) -> &mut Self {
        self.later.extend(step.err());
        self
    }

    /// Ends the teardown. Several failures come out as one group, in the order in which they arose.
    ///
    /// # Errors
    ///
    /// A single failure comes out as it is. Of several, each but the first has the one before as its context.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, Teardown};
    ///
    /// let alone = Teardown::after(Err::<(), _>(Failure::leaf(1))).finish("feed").unwrap_err();
    /// assert!(alone.is_leaf());
    /// ```
    pub fn finish(self, message: impl Into<Cow<'static, str>>) -> Result<T, Failure<E>> {
        let mut failures = Vec::with_capacity(self.later.len() + 1);
        let value = match self.body {
            Ok(value) => Some(value),
            Err(failure) => {
                failures.push(failure);
                None
            }
        };
        for failure in self.later {
            let mark = failures.last_mut().map(Failure::mark);
            failures.push(match mark {
                Some(mark) => failure.with_context_at(mark),
                None => failure,
            });
        }
        match (failures.len(), value) {
            (0, Some(value)) => Ok(value),
            (1, _) => Err(failures.remove(0)),
            _ => match Failure::group(message, failures) {
                Ok(group) => Err(group),
                Err(_) => unreachable!("without failures there is a value"),
            },
        }
    }

    /// Ends the teardown as a chain: the last failure comes out, with the earlier ones as its pending contexts.
    ///
    /// If the last one is a `Cancelled`, [`maybe_raise_from_masking_exc`](crate::maybe_raise_from_masking_exc) brings
    /// out what it masks.
    ///
    /// # Errors
    ///
    /// The last failure, if there was any.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, Teardown};
    ///
    /// let mut teardown = Teardown::after(Err::<(), _>(Failure::leaf("read failed")));
    /// teardown.record(Err(Failure::leaf("close failed")));
    /// let failure = teardown.finish_last().unwrap_err();
    /// assert_eq!(failure.as_leaf(), Some(&"close failed"));
    /// assert_eq!(failure.context().unwrap().node().unwrap().as_leaf(), Some(&"read failed"));
    /// ```
    pub fn finish_last(self) -> Result<T, Failure<E>> {
        let (value, first) = match self.body {
            Ok(value) => (Some(value), None),
            Err(failure) => (None, Some(failure)),
        };
        let chain = iter::empty().chain(first).chain(self.later);
        match (
            chain.reduce(|context, failure| failure.with_context(context)),
            value,
        ) {
            (Some(failure), _) => Err(failure),
            (None, Some(value)) => Ok(value),
            (None, None) => unreachable!("without failures there is a value"),
        }
    }
}
