//! Contexts that are entered one after another, at run time, and left in the reverse order.

use std::{
    fmt,
    future::{Future, ready},
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{AnyError, Failure};
use trionics_nursery::{
    LocalNursery, Nursery,
    internal::{Block, BodyEnd, open_local_with, open_with},
};

use crate::{
    context::{AsyncContext, BlockEnd},
    gather::{Gather, GatherBody, group_several},
    held::Holding,
    pair::acm_pair,
};

mod enter;
mod entry;
mod pushed;

pub use self::enter::Enter;
use self::{
    entry::{Carrier, Entry, Shared},
    pushed::Pushed,
};

/// Runs `body` with a stack on which it puts contexts, and leaves them in the reverse order.
///
/// [`ExitStack::enter`] enters a context and returns its value; [`ExitStack::push`] takes an async
/// exit. When the body has ended, for whatever reason, the exits run one after another, last in first
/// out, each to its end, shielded from cancellation and from each other's failures; then the call
/// returns. Each is told how what is above it has ended: as the body has, unless an exit, or a context that
/// ended before its turn, has failed or panicked meanwhile, just as in nested blocks.
///
/// It is for contexts whose number or kind is known only at run time, as Python's `AsyncExitStack` is.
/// Contexts that do not depend on each other are entered faster with
/// [`gather_contexts`](crate::gather_contexts).
///
/// # Errors
///
/// The failure of the body, of a context that ended while the body ran, which cancels the body, or of an exit; a group
/// if there are several. A failing exit has as its context what had failed last: an exit above it, or the body. None
/// can suppress what failed before it.
///
/// # Panics
///
/// A panic of the body or a context is resumed here, after the exits have run.
///
/// # Cancel safety
///
/// If a scope around it is cancelled, the body unwinds, and then the exits run. Without a failure the
/// call then stays pending until the enclosing frame drops it. If it is dropped from outside,
/// everything is dropped at once, and each exit that had not run is reported.
///
/// # Examples
///
/// ```
/// use trionics_gather::{ExitStack, Slot, acm, open_exit_stack};
/// use trionics_nursery::Failure;
///
/// async fn connection(n: usize, slot: Slot<usize>) -> Result<(), Failure> {
///     slot.provide(n).await;
///     Ok(()) // close it, with as many awaits as it takes
/// }
///
/// # futures::executor::block_on(async {
/// let sum = open_exit_stack(async |stack: ExitStack<'_>| {
///     let mut sum = 0;
///     for n in 0..4 {
///         // Each may be made from what the one before it has given.
///         sum += stack.enter(acm(move |slot| connection(n + sum, slot))).await?;
///     }
///     Ok(sum)
/// })
/// .await;
/// assert_eq!(sum.unwrap(), 11);
/// # });
/// ```
#[track_caller]
pub fn open_exit_stack<'env, T, E, F, Fut>(
    body: F,
) -> impl Future<Output = Result<T, Failure<E>>> + use<'env, T, E, F, Fut>
where
    F: FnOnce(ExitStack<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    let location = Location::caller();
    Gather {
        nursery: Some(open_with(location, move |nursery| {
            open(location, move |shared| body(ExitStack { nursery, shared }))
        })),
        on_failures: group_several,
    }
}

/// Runs `body` with a stack for contexts that need not be `Send`; otherwise as [`open_exit_stack`].
///
/// # Errors
///
/// As [`open_exit_stack`].
///
/// # Panics
///
/// As [`open_exit_stack`].
///
/// # Cancel safety
///
/// As [`open_exit_stack`].
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use trionics_gather::{LocalExitStack, null_context, open_local_exit_stack};
///
/// # futures::executor::block_on(async {
/// let outcome = open_local_exit_stack(async |stack: LocalExitStack<'_>| {
///     Ok(*stack.enter(null_context(Rc::new(7))).await?)
/// })
/// .await;
/// assert_eq!(outcome.unwrap(), 7);
/// # });
/// ```
#[track_caller]
pub fn open_local_exit_stack<'env, T, E, F, Fut>(
    body: F,
) -> impl Future<Output = Result<T, Failure<E>>> + use<'env, T, E, F, Fut>
where
    F: FnOnce(LocalExitStack<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    let location = Location::caller();
    Gather {
        nursery: Some(open_local_with(location, move |nursery| {
            open(location, move |shared| {
                body(LocalExitStack { nursery, shared })
            })
        })),
        on_failures: group_several,
    }
}

/// The body of a stack's nursery.
fn open<B, T, E, F, Fut>(
    location: &'static Location<'static>,
    body: F,
) -> impl Future<Output = BodyEnd<T, E>>
where
    F: FnOnce(Arc<Shared<B>>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    let block = Block::new(location, 0);
    let holding = Holding::new(&block, location);
    let shared = Arc::new(Shared::new(holding.clone()));
    let for_body = Arc::clone(&shared);
    StackBody {
        block: GatherBody {
            run: block.run(move || body(for_body)),
            holding,
        },
        unwinds: Unwinds { shared },
    }
}

pin_project! {
    /// The user's block. When it has ended, however it has, the exits begin.
    struct StackBody<R, B> {
        #[pin]
        block: GatherBody<R>,
        // Dropped after the block.
        unwinds: Unwinds<B>,
    }
}

impl<R, B> Future for StackBody<R, B>
where
    GatherBody<R>: Future,
{
    type Output = <GatherBody<R> as Future>::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.block.poll(cx);
        // Also while it is pending: a block that was stopped waits to be dropped.
        if let Some(how) = this.unwinds.shared.block_end() {
            this.unwinds.shared.unwind(how);
        }
        polled
    }
}

struct Unwinds<B> {
    shared: Arc<Shared<B>>,
}

impl<B> Drop for Unwinds<B> {
    fn drop(&mut self) {
        let how = self.shared.block_end().unwrap_or(BlockEnd::Cancelled);
        self.shared.unwind(how);
    }
}

/// A context on a stack, as it is stored.
type BoxChild<'env, E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send + 'env>>;

/// A context on a local stack, as it is stored.
type LocalBoxChild<'env, E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + 'env>>;

/// A handle to an open stack of contexts: see [`open_exit_stack`].
///
/// A clone is a handle to the same stack. A handle may outlive the stack; then it takes nothing any more.
pub struct ExitStack<'env, E = AnyError> {
    nursery: Nursery<'env, E>,
    shared: Arc<Shared<BoxChild<'env, E>>>,
}

/// A handle to an open stack whose contexts need not be `Send`: see [`open_local_exit_stack`].
///
/// Otherwise it is as [`ExitStack`].
pub struct LocalExitStack<'env, E = AnyError> {
    nursery: LocalNursery<'env, E>,
    shared: Arc<Shared<LocalBoxChild<'env, E>>>,
}

/// The methods of both kinds of stacks, which differ in what they ask of a context.
macro_rules! stack_methods {
    ($Stack:ident, $Nursery:ident, $Child:ident $(, $send:ident)?) => {
        impl<'env, E: 'env> $Stack<'env, E> {
            /// Enters `context` and returns its value; the context is left when the stack is.
            ///
            /// During the set-up the context obeys the caller's scope. From then on it belongs to the
            /// stack: it is polled beside the body, can hold background tasks, and if it ends before its turn,
            /// the body is cancelled.
            ///
            /// # Errors
            ///
            /// The failure of the set-up, as it is: the stack does not hear of it, and what was
            /// entered before stays entered.
            /// [`NotProvided`](trionics_errgroup::LibraryFailure::NotProvided) if the context returned
            /// without a value, [`ContextEnded`](trionics_errgroup::LibraryFailure::ContextEnded) if it
            /// provided and returned at once. [`Closed`](trionics_errgroup::LibraryFailure::Closed) if
            /// the stack is being left or has been; the context has then been left, too.
            ///
            /// # Panics
            ///
            /// A panic of the set-up is resumed here.
            ///
            /// # Cancel safety
            ///
            /// If the caller is cancelled during the set-up, the set-up unwinds with it; a context that
            /// has provided by then is left, its exit shielded. If the future is dropped, so is the context.
            #[track_caller]
            pub fn enter<C>(&self, context: C) -> Enter<$Nursery<'env, E>, $Child<'env, E>, C::Value>
            where
                C: AsyncContext<Error = E>,
                C::Run: $($send +)? 'env,
                C::Value: $($send +)? 'env,
            {
                let nursery = self.nursery.clone();
                Enter::new(Location::caller(), nursery, &self.shared, context, |child| {
                    Box::pin(child)
                })
            }

            /// Puts an async exit on the stack; it is called when its turn comes, with how the body, and what is above
            /// the exit, has ended.
            ///
            /// # Panics
            ///
            /// If the stack is being left or has been.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use trionics_gather::", stringify!($Stack), ";")]
            /// use trionics_nursery::checkpoint;
            #[doc = concat!("# use trionics_gather::", stack_methods!(@open $Stack), " as open_exit_stack;")]
            ///
            /// # futures::executor::block_on(async {
            /// let log = std::sync::Mutex::new(Vec::new());
            #[doc = concat!("let outcome = open_exit_stack(async |stack: ", stringify!($Stack), "<'_>| {")]
            ///     for name in ["first", "second"] {
            ///         let log = &log;
            ///         stack.push(async move |end| {
            ///             checkpoint().await;
            ///             log.lock().unwrap().push(format!("{name} {end:?}"));
            ///             Ok(())
            ///         });
            ///     }
            ///     Ok(())
            /// })
            /// .await;
            /// assert!(outcome.is_ok());
            /// assert_eq!(*log.lock().unwrap(), ["second Completed", "first Completed"]);
            /// # });
            /// ```
            #[track_caller]
            pub fn push<X, Fut>(&self, exit: X)
            where
                X: FnOnce(BlockEnd) -> Fut $(+ $send)? + 'env,
                Fut: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
                $(E: $send,)?
            {
                let location = Location::caller();
                let context = acm_pair(ready(Ok(((), ()))), |(), end| exit(end));
                let child = |entry: &Arc<Entry<$Child<'env, E>>>| {
                    let (child, _parcel) = entry.child(context);
                    Box::pin(Pushed::new(location, child)) as $Child<'env, E>
                };
                let entry = Entry::handed_over(location, &self.shared, child);
                let carrier = Carrier::new(&entry);
                // Where it is refused, the carrier drops the exit.
                if !self.shared.push(&entry) || self.nursery.__try_start_at(location, carrier).is_err() {
                    panic!(
                        "`push` on an exit stack that is being left or has been; push while its body \
                         runs"
                    );
                }
            }

            /// Moves everything onto another stack, on top of what is there and in the same order, and
            /// returns how many contexts and exits it has moved.
            ///
            /// For contexts that are entered together or not at all: they are put on a stack of their own,
            /// which leaves them if one fails, and moved out of it when all have been entered. It is
            /// `pop_all` of Python's `AsyncExitStack`.
            ///
            /// Contexts that have been cancelled stay, as does everything when the other stack has been
            /// left.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use trionics_gather::{", stringify!($Stack), ", Slot, acm};")]
            #[doc = concat!("# use trionics_gather::", stack_methods!(@open $Stack), " as open_exit_stack;")]
            /// use trionics_nursery::Failure;
            ///
            /// async fn connection(n: usize, slot: Slot<usize>) -> Result<(), Failure> {
            ///     slot.provide(n).await;
            ///     Ok(())
            /// }
            ///
            /// # futures::executor::block_on(async {
            #[doc = concat!("let outcome = open_exit_stack(async |outer: ", stringify!($Stack), "<'_>| {")]
            #[doc = concat!("    open_exit_stack(async |inner: ", stringify!($Stack), "<'_>| {")]
            ///         for n in 0..3 {
            ///             inner.enter(acm(move |slot| connection(n, slot))).await?; // or none of them
            ///         }
            ///         Ok(inner.pop_all(&outer))
            ///     })
            ///     .await
            ///     // All three are still open here.
            /// })
            /// .await;
            /// assert_eq!(outcome.unwrap(), 3);
            /// # });
            /// ```
            #[track_caller]
            pub fn pop_all(&self, onto: &Self) -> usize {
                let location = Location::caller();
                let new_scope = onto.nursery.cancel_scope();
                self.shared.move_all(&onto.shared, &new_scope, |carrier| {
                    onto.nursery.__try_start_at(location, carrier).is_ok()
                })
            }

            /// How many contexts and exits are on the stack.
            #[must_use]
            pub fn len(&self) -> usize {
                self.shared.len()
            }

            /// Whether nothing is on the stack.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl<E> Clone for $Stack<'_, E> {
            fn clone(&self) -> Self {
                Self {
                    nursery: self.nursery.clone(),
                    shared: Arc::clone(&self.shared),
                }
            }
        }

        impl<E> fmt::Debug for $Stack<'_, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Stack))
                    .field("len", &self.shared.len())
                    .finish_non_exhaustive()
            }
        }
    };
    (@open ExitStack) => { "open_exit_stack" };
    (@open LocalExitStack) => { "open_local_exit_stack" };
}

stack_methods!(ExitStack, Nursery, BoxChild, Send);
stack_methods!(LocalExitStack, LocalNursery, LocalBoxChild);
