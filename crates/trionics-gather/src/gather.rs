//! Entering contexts, running a block with their values, and leaving them.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_nursery::internal::{Block, BodyEnd, RawEnd, open_children};

use crate::{
    context::AsyncContext,
    delivery::Shelf,
    held::{Holding, hold},
    limit::Limit,
    set::ContextSet,
};

/// Enters all contexts of `set` concurrently, runs `body` with their values, and leaves them
/// concurrently.
///
/// The values come in the same kind of collection and in the order of the contexts. The body starts
/// once every context has provided. When it has ended, for whatever reason, each exit runs to its end,
/// shielded from cancellation and from the others' failures; then the call returns.
///
/// # Errors
///
/// A group of all failures: of set-ups, of the body, of exits. A set-up that fails cancels the other
/// set-ups, and contexts that had entered are left; a context that ends while the body runs cancels the
/// body. An empty set is refused with [`LibraryFailure::EmptySet`], and the body is not run.
///
/// # Panics
///
/// A panic of a context or the body is resumed here, after the exits have run.
///
/// # Cancel safety
///
/// If a scope around it is cancelled: set-ups are stopped, contexts that had entered wait for the body
/// to unwind and are then left to the end of their exits; the call then stays pending until the
/// enclosing frame drops it, unless something has failed, which it returns. The code after the call
/// is cancelled, too: what has to be said of a failed exit is said in the exit, or in the report hook.
/// If it is dropped from outside, everything is dropped at once, and each exit that had not run is
/// reported.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::Failure;
/// use trionics_gather::{Slot, acm, gather_contexts};
///
/// async fn connection(name: &'static str, slot: Slot<String>) -> Result<(), Failure> {
///     slot.provide(format!("connected to {name}")).await;
///     // say goodbye here: it is sent in any case
///     Ok(())
/// }
///
/// # futures::executor::block_on(async {
/// let contexts: Vec<_> =
///     ["a", "b"].map(|name| acm(move |slot| connection(name, slot))).into_iter().collect();
/// let greetings = gather_contexts(contexts, async |connections: Vec<String>| Ok(connections)).await;
/// assert_eq!(greetings.unwrap(), ["connected to a", "connected to b"]);
/// # });
/// ```
#[track_caller]
pub fn gather_contexts<S, T, F, Fut>(
    set: S,
    body: F,
) -> impl Future<Output = Result<T, Failure<S::Error>>> + use<S, T, F, Fut>
where
    S: ContextSet,
    F: FnOnce(S::Values) -> Fut,
    Fut: Future<Output = Result<T, Failure<S::Error>>>,
{
    gather(Location::caller(), None, set, body)
}

/// [`gather_contexts`] with what the options say.
pub(crate) fn gather<S, T, F, Fut>(
    location: &'static Location<'static>,
    limit: Option<Arc<Limit>>,
    set: S,
    body: F,
) -> impl Future<Output = Result<T, Failure<S::Error>>> + use<S, T, F, Fut>
where
    S: ContextSet,
    F: FnOnce(S::Values) -> Fut,
    Fut: Future<Output = Result<T, Failure<S::Error>>>,
{
    let n_contexts = set.n_contexts();
    let nursery = (n_contexts > 0).then(|| {
        let block = Block::new(location, n_contexts);
        let holding = Holding::new(&block, location).limited(limit);
        open_children(location, |children| {
            let shelves = set.hold(&holding, children);
            let run = block.clone().run(move || body(S::collect(shelves)));
            GatherBody { run, holding }
        })
        .running(&block)
    });
    Gather {
        nursery,
        on_failures: group_always,
    }
}

/// Enters one context, runs `body` with its value, and leaves it.
///
/// The exit runs to its end however the body ended. As [`gather_contexts`] of one, except that a single
/// failure comes out as it is, not in a group.
///
/// # Errors
///
/// The failure of set-up, body or exit; a group if there are several.
///
/// # Panics
///
/// A panic of the context or the body is resumed here, after the exit has run.
///
/// # Cancel safety
///
/// As [`gather_contexts`].
///
/// # Examples
///
/// An exit that awaits runs although the scope around is cancelled:
///
/// ```
/// use trionics_errgroup::Failure;
/// use trionics_gather::{Slot, acm, with_context};
/// use trionics_nursery::{CancelScope, checkpoint};
///
/// # futures::executor::block_on(async {
/// let mut said_goodbye = false;
/// let session = acm(async |slot: Slot<()>| {
///     slot.provide(()).await;
///     checkpoint().await; // an await on the way out
///     said_goodbye = true;
///     Ok::<(), Failure>(())
/// });
/// let scope = CancelScope::new();
/// let outcome = scope
///     .run(with_context(session, async |()| {
///         scope.cancel("shut down");
///         std::future::pending::<Result<(), Failure>>().await
///     }))
///     .await;
/// assert!(outcome.is_err() && said_goodbye);
/// # });
/// ```
#[track_caller]
pub fn with_context<C, T, F, Fut>(
    context: C,
    body: F,
) -> impl Future<Output = Result<T, Failure<C::Error>>> + use<C, T, F, Fut>
where
    C: AsyncContext,
    F: FnOnce(C::Value) -> Fut,
    Fut: Future<Output = Result<T, Failure<C::Error>>>,
{
    let location = Location::caller();
    let block = Block::new(location, 1);
    let holding = Holding::new(&block, location);
    let nursery = open_children(location, |children| {
        let shelf = Shelf::new(&holding, 1);
        children.add_with(|host| hold(context, &shelf, 0, Some(host)));
        let run = block.clone().run(move || body(shelf.take_one()));
        GatherBody { run, holding }
    })
    .running(&block);
    Gather {
        nursery: Some(nursery),
        on_failures: group_several,
    }
}

fn group_always<E>(failures: Vec<Failure<E>>) -> Failure<E> {
    Failure::group("gathered contexts failed", failures).expect("there is a failure")
}

pub(crate) fn group_several<E>(mut failures: Vec<Failure<E>>) -> Failure<E> {
    if failures.len() == 1
        && let Some(failure) = failures.pop()
    {
        return failure;
    }
    Failure::group("a context and its block failed", failures).expect("there is a failure")
}

pin_project! {
    /// The body of the gathering nursery: the block, once all values are there.
    pub(crate) struct GatherBody<R> {
        #[pin]
        pub(crate) run: R,
        pub(crate) holding: Holding,
    }
}

impl<R, T, E> Future for GatherBody<R>
where
    R: Future<Output = Result<Result<T, Failure<E>>, trionics_errgroup::Cancelled>>,
{
    type Output = BodyEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.run.poll(cx)) {
            Ok(Ok(value)) => BodyEnd::Value(value),
            Ok(Err(mut failure)) => {
                // The exits have yet to run: what they fail with finds this one pending.
                this.holding.note_failure(failure.mark());
                BodyEnd::Failed(failure)
            }
            Err(cancelled) => BodyEnd::Cancelled(cancelled),
        })
    }
}

pin_project! {
    /// Turns the end of the gathering nursery into the outcome.
    pub(crate) struct Gather<N, E> {
        #[pin]
        pub(crate) nursery: Option<N>,
        pub(crate) on_failures: fn(Vec<Failure<E>>) -> Failure<E>,
    }
}

impl<N, T, E> Future for Gather<N, E>
where
    N: Future<Output = RawEnd<T, E>>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(nursery) = this.nursery.as_pin_mut() else {
            return Poll::Ready(Err(Failure::library(LibraryFailure::EmptySet)));
        };
        Poll::Ready(match ready!(nursery.poll(cx)) {
            RawEnd::Value(value) => Ok(value),
            RawEnd::Failed(failures) => Err((this.on_failures)(failures)),
            RawEnd::Cancelled(cancelled) => {
                Err((this.on_failures)(vec![Failure::cancelled(cancelled)]))
            }
        })
    }
}
