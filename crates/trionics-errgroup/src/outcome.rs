//! The operations on failures, on a result and around a future.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::collapse::Ignore;
use crate::unmask::KeepPair;
use crate::{Collapse, Failure, Unmask};

/// The operations on the failure in a result.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, OutcomeExt};
///
/// let outcome: Result<u32, Failure<&str>> = Ok(1);
/// assert_eq!(outcome.collapse_eg().absorb_cancelled().unwrap(), Some(1));
/// ```
pub trait OutcomeExt: Sized {
    /// What the result holds when nothing failed.
    type Value;
    /// The errors in the failure.
    type Leaf;

    /// Takes away every group of one; see [`collapse_eg`](crate::collapse_eg).
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, OutcomeExt};
    ///
    /// let outcome = Err::<(), _>(Failure::group("nursery", [Failure::leaf(1)])?);
    /// assert_eq!(outcome.collapse_eg().unwrap_err().as_leaf(), Some(&1));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    fn collapse_eg(self) -> Self {
        self.collapse_eg_with(&Collapse::new())
    }

    /// Takes away groups of one as the collapse says.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Collapse, Failure, OutcomeExt};
    ///
    /// let outcome = Err::<(), _>(Failure::group("nursery", [Failure::leaf(1)])?);
    /// let collapse = Collapse::new().ignore(|node| node.as_leaf() == Some(&1));
    /// assert!(outcome.collapse_eg_with(&collapse).unwrap_err().is_group());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    fn collapse_eg_with(self, collapse: &Collapse<Self::Leaf, impl Ignore<Self::Leaf>>) -> Self;

    /// Brings out what cancellations mask; see [`maybe_raise_from_masking_exc`](crate::maybe_raise_from_masking_exc).
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, OutcomeExt};
    ///
    /// let outcome: Result<u32, Failure> = Ok(1);
    /// assert_eq!(outcome.maybe_raise_from_masking_exc().unwrap(), 1);
    /// ```
    fn maybe_raise_from_masking_exc(self) -> Self {
        self.maybe_raise_from_masking_exc_with(&Unmask::new())
    }

    /// Brings out what cancellations mask, as the unmasking says.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, OutcomeExt, Unmask};
    ///
    /// let outcome: Result<u32, Failure> = Ok(1);
    /// let unmask = Unmask::new().keep_type::<std::fmt::Error>();
    /// assert_eq!(outcome.maybe_raise_from_masking_exc_with(&unmask).unwrap(), 1);
    /// ```
    fn maybe_raise_from_masking_exc_with(
        self,
        unmask: &Unmask<Self::Leaf, impl KeepPair<Self::Leaf>>,
    ) -> Self;

    /// Turns an outcome that was only cancelled into `Ok(None)`.
    ///
    /// # Errors
    ///
    /// Whatever failed, without the `Cancelled`s around it. A failure that one of them masks comes out.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, OutcomeExt};
    ///
    /// let outcome: Result<u32, Failure<&str>> = Err(Failure::leaf("no route"));
    /// assert!(outcome.absorb_cancelled().is_err());
    /// ```
    fn absorb_cancelled(self) -> Result<Option<Self::Value>, Failure<Self::Leaf>>;
}

impl<T, E> OutcomeExt for Result<T, Failure<E>> {
    type Value = T;
    type Leaf = E;

    fn collapse_eg_with(self, collapse: &Collapse<E, impl Ignore<E>>) -> Self {
        self.map_err(|failure| collapse.apply(failure))
    }

    fn maybe_raise_from_masking_exc_with(self, unmask: &Unmask<E, impl KeepPair<E>>) -> Self {
        self.map_err(|failure| unmask.apply(failure))
    }

    fn absorb_cancelled(self) -> Result<Option<T>, Failure<E>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(failure) => failure.absorb_cancelled().map_or(Ok(None), Err),
        }
    }
}

/// The operations around a future that gives such a result.
///
/// They need no runtime. Where two are combined, the one that is written first works first.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, OutcomeFutureExt};
///
/// async fn nursery() -> Result<u32, Failure<&'static str>> {
///     Err(Failure::group("nursery", [Failure::leaf("no route")]).unwrap())
/// }
///
/// async fn caller() -> Result<u32, Failure<&'static str>> {
///     nursery().maybe_raise_from_masking_exc().collapse_eg().await
/// }
/// # use std::{pin::pin, task::{Context, Poll, Waker}};
/// # let Poll::Ready(outcome) = pin!(caller()).poll(&mut Context::from_waker(Waker::noop())) else { panic!() };
/// # assert!(outcome.unwrap_err().is_leaf());
/// ```
pub trait OutcomeFutureExt:
    Future<Output = Result<Self::Value, Failure<Self::Leaf>>> + Sized
{
    /// What the future gives when nothing failed.
    type Value;
    /// The errors in the failure.
    type Leaf;

    /// Takes away every group of one; see [`collapse_eg`](crate::collapse_eg).
    ///
    /// # Cancel safety
    ///
    /// As the future itself.
    ///
    /// # Examples
    ///
    /// See [`OutcomeFutureExt`].
    fn collapse_eg(self) -> CollapseEg<Self, Self::Leaf> {
        self.collapse_eg_with(Collapse::new())
    }

    /// Takes away groups of one as the collapse says.
    ///
    /// # Cancel safety
    ///
    /// As the future itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Collapse, Failure, OutcomeFutureExt};
    ///
    /// async fn caller() -> Result<u32, Failure<u8>> {
    ///     async { Err(Failure::leaf(1)) }.collapse_eg_with(Collapse::new().unmarked()).await
    /// }
    /// # drop(caller());
    /// ```
    fn collapse_eg_with<I: Ignore<Self::Leaf>>(
        self,
        collapse: Collapse<Self::Leaf, I>,
    ) -> CollapseEg<Self, Self::Leaf, I> {
        CollapseEg {
            future: self,
            collapse,
        }
    }

    /// Brings out what cancellations mask; see [`maybe_raise_from_masking_exc`](crate::maybe_raise_from_masking_exc).
    ///
    /// # Cancel safety
    ///
    /// As the future itself.
    ///
    /// # Examples
    ///
    /// See [`OutcomeFutureExt`].
    fn maybe_raise_from_masking_exc(self) -> MaybeRaise<Self, Self::Leaf> {
        self.maybe_raise_from_masking_exc_with(Unmask::new())
    }

    /// Brings out what cancellations mask, as the unmasking says.
    ///
    /// # Cancel safety
    ///
    /// As the future itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, OutcomeFutureExt, Unmask};
    ///
    /// async fn caller() -> Result<u32, Failure> {
    ///     let unmask = Unmask::new().keep_type::<std::fmt::Error>();
    ///     async { Ok(1) }.maybe_raise_from_masking_exc_with(unmask).await
    /// }
    /// # drop(caller());
    /// ```
    fn maybe_raise_from_masking_exc_with<K: KeepPair<Self::Leaf>>(
        self,
        unmask: Unmask<Self::Leaf, K>,
    ) -> MaybeRaise<Self, Self::Leaf, K> {
        MaybeRaise {
            future: self,
            unmask,
        }
    }

    /// Turns an outcome that was only cancelled into `Ok(None)`.
    ///
    /// # Cancel safety
    ///
    /// As the future itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Failure, OutcomeFutureExt};
    ///
    /// async fn caller() -> Result<Option<u32>, Failure> {
    ///     async { Ok(1) }.absorb_cancelled().await
    /// }
    /// # drop(caller());
    /// ```
    fn absorb_cancelled(self) -> AbsorbCancelled<Self> {
        AbsorbCancelled { future: self }
    }
}

impl<F, T, E> OutcomeFutureExt for F
where
    F: Future<Output = Result<T, Failure<E>>>,
{
    type Value = T;
    type Leaf = E;
}

pin_project! {
    /// The future of [`OutcomeFutureExt::collapse_eg`].
    #[derive(Clone, Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct CollapseEg<F, E, I = crate::NothingIgnored> {
        #[pin]
        future: F,
        collapse: Collapse<E, I>,
    }
}

impl<F, T, E, I> Future for CollapseEg<F, E, I>
where
    F: Future<Output = Result<T, Failure<E>>>,
    I: Ignore<E>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(context));
        Poll::Ready(outcome.collapse_eg_with(this.collapse))
    }
}

pin_project! {
    /// The future of [`OutcomeFutureExt::maybe_raise_from_masking_exc`].
    #[derive(Clone, Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct MaybeRaise<F, E, K = crate::NoPairKept> {
        #[pin]
        future: F,
        unmask: Unmask<E, K>,
    }
}

impl<F, T, E, K> Future for MaybeRaise<F, E, K>
where
    F: Future<Output = Result<T, Failure<E>>>,
    K: KeepPair<E>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(context));
        Poll::Ready(outcome.maybe_raise_from_masking_exc_with(this.unmask))
    }
}

pin_project! {
    /// The future of [`OutcomeFutureExt::absorb_cancelled`].
    #[derive(Clone, Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct AbsorbCancelled<F> {
        #[pin]
        future: F,
    }
}

impl<F, T, E> Future for AbsorbCancelled<F>
where
    F: Future<Output = Result<T, Failure<E>>>,
{
    type Output = Result<Option<T>, Failure<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project()
            .future
            .poll(context)
            .map(OutcomeExt::absorb_cancelled)
    }
}
