//! Entering contexts in a nursery of the caller's.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{CancelReason, Cancelled, Failure, LibraryFailure};
use trionics_nursery::{
    CancelScope, LocalNursery, Nursery, RunScope,
    internal::{Block, RETURNS_ONCE, cancel_scope, is_cancelled, scope_at},
};

use crate::{
    context::BlockEnd, held::Holding, limit::Limit, options::GatherOptions, set::ContextSet,
};

/// Enters all contexts of `set` concurrently as children of `nursery`, and returns their values with a
/// guard.
///
/// The contexts stay entered until the [guard](GatherGuard) is dropped. Then their exits begin,
/// concurrently; the nursery waits for them, this call and the guard's drop do not. Nothing of the
/// nursery is closed, cancelled or shielded here.
///
/// A nursery with a limit on its children needs room for the whole set.
///
/// # Errors
///
/// A failure of a set-up, and any later one, is the nursery's, which is cancelled by it as by that of any
/// child. This call then never returns where it is cancelled with the nursery; where it is not, it gives
/// a `Cancelled` failure, once. The contexts that had entered are left.
/// An empty set is refused with [`LibraryFailure::EmptySet`], a nursery that has closed with
/// [`LibraryFailure::Closed`].
///
/// # Cancel safety
///
/// If it is dropped before it returns, contexts that had entered are left and the set-ups of the others
/// are cancelled, as children of the nursery.
///
/// # Examples
///
/// ```
/// use trionics_gather::{Slot, acm, gather_contexts_in};
/// use trionics_nursery::{Failure, Nursery, open_nursery};
///
/// async fn connection(name: &'static str, slot: Slot<String>) -> Result<(), Failure> {
///     slot.provide(format!("connected to {name}")).await;
///     Ok(())
/// }
///
/// # futures::executor::block_on(async {
/// let outcome = open_nursery(async |n: Nursery<'_>| {
///     let contexts = ["a", "b"].map(|name| acm(move |slot| connection(name, slot)));
///     let (greetings, guard) = gather_contexts_in(&n, contexts).await?;
///     assert_eq!(greetings, ["connected to a", "connected to b"]);
///     drop(guard); // both are left now; the nursery waits for their exits
///     Ok(())
/// })
/// .await;
/// assert!(outcome.is_ok());
/// # });
/// ```
#[track_caller]
pub fn gather_contexts_in<N, S>(nursery: &N, set: S) -> EnterIn<N, S>
where
    S: ContextSet,
    N: HostNursery<InChild<S::Child>> + Clone,
{
    GatherOptions::new().gather_in(nursery, set)
}

/// A nursery that contexts can be entered in: a [`Nursery`], where they are `Send`, or a
/// [`LocalNursery`].
#[diagnostic::on_unimplemented(
    message = "contexts of this kind cannot be entered in `{Self}`",
    label = "not a nursery that takes these contexts",
    note = "a `Nursery` takes contexts that are `Send`, a `LocalNursery` takes any; both outlive no borrow that the contexts hold"
)]
pub trait HostNursery<C>: sealed::Sealed {
    #[doc(hidden)]
    fn start_context(&self, location: &'static Location<'static>, child: C) -> Result<(), C>;
}

pub(crate) mod sealed {
    use trionics_nursery::CancelScope;

    pub trait Sealed {
        /// The nursery's own scope.
        fn scope(&self) -> CancelScope;
    }
}

impl<E> sealed::Sealed for Nursery<'_, E> {
    fn scope(&self) -> CancelScope {
        self.cancel_scope()
    }
}

impl<'env, E, C> HostNursery<C> for Nursery<'env, E>
where
    C: Future<Output = Result<(), Failure<E>>> + Send + 'env,
{
    fn start_context(&self, location: &'static Location<'static>, child: C) -> Result<(), C> {
        self.__try_start_at(location, child)
            .map_err(|closed| closed.future)
    }
}

impl<E> sealed::Sealed for LocalNursery<'_, E> {
    fn scope(&self) -> CancelScope {
        self.cancel_scope()
    }
}

impl<'env, E, C> HostNursery<C> for LocalNursery<'env, E>
where
    C: Future<Output = Result<(), Failure<E>>> + 'env,
{
    fn start_context(&self, location: &'static Location<'static>, child: C) -> Result<(), C> {
        self.__try_start_at(location, child)
            .map_err(|closed| closed.future)
    }
}

/// The future of [`gather_contexts_in`].
#[must_use = "futures do nothing unless polled"]
pub struct EnterIn<N, S: ContextSet> {
    location: &'static Location<'static>,
    phase: Phase<N, S>,
}

// Nothing is pinned here: the contexts run in the nursery.
impl<N, S: ContextSet> Unpin for EnterIn<N, S> {}

enum Phase<N, S: ContextSet> {
    Fresh {
        nursery: N,
        set: S,
        limit: Option<Arc<Limit>>,
    },
    Entering(Entering<S>),
    Done,
}

/// Contexts that set up in a nursery; to drop it is to leave them.
struct Entering<S: ContextSet> {
    block: Block,
    scopes: Vec<CancelScope>,
    shelves: Option<S::Shelves>,
    location: &'static Location<'static>,
}

impl<S: ContextSet> Drop for Entering<S> {
    fn drop(&mut self) {
        if self.shelves.is_none() {
            return;
        }
        self.block.end(BlockEnd::Cancelled);
        // Where a context has provided, its exit is a shield by now.
        for scope in &self.scopes {
            cancel_scope(scope, Cancelled::__new(CancelReason::Closed, self.location));
        }
    }
}

impl<N, S: ContextSet> EnterIn<N, S> {
    pub(crate) fn new(
        location: &'static Location<'static>,
        limit: Option<Arc<Limit>>,
        nursery: N,
        set: S,
    ) -> Self {
        Self {
            location,
            phase: Phase::Fresh {
                nursery,
                set,
                limit,
            },
        }
    }
}

impl<N, S> Future for EnterIn<N, S>
where
    S: ContextSet,
    N: HostNursery<InChild<S::Child>>,
{
    type Output = Result<(S::Values, GatherGuard), Failure<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.phase, Phase::Done) {
                Phase::Fresh {
                    nursery,
                    set,
                    limit,
                } => {
                    if set.n_contexts() == 0 {
                        return Poll::Ready(Err(Failure::library(LibraryFailure::EmptySet)));
                    }
                    let entering = start(this.location, limit, &nursery, set)?;
                    this.phase = Phase::Entering(entering);
                }
                Phase::Entering(mut entering) => {
                    return match entering.block.poll_provided(cx) {
                        Poll::Ready(Ok(())) => {
                            // Before the values are collected: a panic there must not look like a set-up's end.
                            let guard = GatherGuard {
                                block: entering.block.clone(),
                            };
                            let shelves = entering.shelves.take().expect("taken once");
                            Poll::Ready(Ok((S::collect(shelves), guard)))
                        }
                        Poll::Ready(Err(cancelled)) if !is_cancelled() => {
                            drop(entering);
                            Poll::Ready(Err(Failure::cancelled(cancelled)))
                        }
                        // The code around is going to be dropped where it stands.
                        _ => {
                            this.phase = Phase::Entering(entering);
                            Poll::Pending
                        }
                    };
                }
                Phase::Done => panic!(
                    "the `gather_contexts_in` at {} was polled after it had completed; {RETURNS_ONCE}",
                    this.location
                ),
            }
        }
    }
}

/// Starts the contexts as children of `nursery`.
fn start<N, S>(
    location: &'static Location<'static>,
    limit: Option<Arc<Limit>>,
    nursery: &N,
    set: S,
) -> Result<Entering<S>, Failure<S::Error>>
where
    S: ContextSet,
    N: HostNursery<InChild<S::Child>>,
{
    let n_contexts = set.n_contexts();
    let block = Block::new(location, n_contexts);
    let mut holding = Holding::new(&block, location).limited(limit);
    holding.tells_block = true;
    // All of them are made before the first one starts.
    let mut children = Vec::with_capacity(n_contexts);
    let shelves = set.hold(&holding, &mut children);
    let mut entering = Entering {
        block,
        scopes: Vec::with_capacity(n_contexts),
        shelves: Some(shelves),
        location,
    };
    for child in children {
        let scope = scope_at(location);
        let run = InChild::new(&scope, child);
        if nursery.start_context(location, run).is_err() {
            return Err(Failure::library(LibraryFailure::Closed {
                what: "the nursery".into(),
            }));
        }
        entering.scopes.push(scope);
    }
    Ok(entering)
}

pin_project! {
    /// A context as a child of a nursery that it can leave, in a scope of its own.
    #[doc(hidden)]
    #[must_use = "futures do nothing unless polled"]
    pub struct InChild<C> {
        #[pin]
        run: RunScope<C>,
    }
}

impl<C: Future> InChild<C> {
    pub(crate) fn new(scope: &CancelScope, context: C) -> Self {
        Self {
            run: scope.run(context),
        }
    }
}

impl<C, E> Future for InChild<C>
where
    C: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Its scope is cancelled when nobody waits for the value any more.
        let ended = ready!(self.project().run.poll(cx));
        Poll::Ready(ended.unwrap_or(Ok(())))
    }
}

impl<C> fmt::Debug for InChild<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InChild").finish_non_exhaustive()
    }
}

impl<N, S: ContextSet> fmt::Debug for EnterIn<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnterIn")
            .field("called_at", &self.location)
            .finish_non_exhaustive()
    }
}

/// Keeps the contexts of [`gather_contexts_in`] entered; dropping it lets their exits begin.
///
/// An exit is told [`Completed`](BlockEnd::Completed), or [`Panicked`](BlockEnd::Panicked) if the guard
/// is dropped by a panic, or [`Cancelled`](BlockEnd::Cancelled) if the values had been
/// [recalled](Self::recalled); [`leave`](Self::leave) tells what you choose. A guard does not know that the code which
/// holds it has failed, or was stopped by a scope of its own: where an exit must know, as that of a transaction, use
/// [`gather_contexts`](crate::gather_contexts), or keep the guard outside of that code and `leave`.
///
/// A nursery that is cancelled waits for the guards of its contexts, as it waits for everything that is
/// in use: drop the guard. Code inside the nursery does so when it unwinds; code elsewhere is told by
/// [`recalled`](Self::recalled). A guard that is forgotten keeps its nursery for ever.
#[must_use = "the contexts are left as soon as the guard is dropped"]
pub struct GatherGuard {
    block: Block,
}

impl GatherGuard {
    /// Lets the exits begin, and tells them how the use of their values ended.
    pub fn leave(self, how: BlockEnd) {
        self.block.end(how);
    }

    /// Waits until the values are needed back: a context, or the nursery, was cancelled, or a context has
    /// ended before its time.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{FutureExt as _, future::{Either, select}};
    /// use trionics_gather::{Slot, acm, gather_contexts_in};
    /// use trionics_nursery::{CancelScope, Failure, Nursery, open_nursery};
    ///
    /// # futures::executor::block_on(async {
    /// let outcome = open_nursery(async |n: Nursery<'_>| {
    ///     let feed = acm(async |slot: Slot<&str>| {
    ///         slot.provide("quotes").await;
    ///         Ok(())
    ///     });
    ///     let (_feed, mut guard) = gather_contexts_in(&n, (feed,)).await?;
    ///     assert!(guard.recalled().now_or_never().is_none());
    ///     n.cancel("shut down");
    ///     let why = guard.recalled().await;
    ///     Ok(why.to_string())
    /// })
    /// .await;
    /// assert_eq!(outcome.unwrap(), "cancelled: shut down");
    /// # });
    /// ```
    pub fn recalled(&mut self) -> impl Future<Output = Cancelled> + Send + '_ {
        poll_fn(|cx| self.block.poll_cancelled(cx))
    }
}

impl Drop for GatherGuard {
    fn drop(&mut self) {
        self.block.end(if std::thread::panicking() {
            BlockEnd::Panicked
        } else if self.block.is_cancelled() {
            BlockEnd::Cancelled
        } else {
            BlockEnd::Completed
        });
    }
}

impl fmt::Debug for GatherGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherGuard").finish_non_exhaustive()
    }
}
