//! Nurseries: child tasks that cannot outlive the block that started them.

use std::{borrow::Cow, fmt, future::Future, panic::Location, sync::Arc};

use trionics_errgroup::{AnyError, Failure};

use crate::scope::{CancelScope, Name};

mod child;
mod finish;
mod handle;
mod maybe;
mod member;
mod open;
mod options;
pub(crate) mod raw;
mod remote;
mod results;
mod room;
mod shared;
mod spawner;
mod start;

#[cfg(feature = "futures")]
pub use self::spawner::FuturesSpawner;
use self::{
    child::Fits,
    handle::{Spawned, ValueState},
    remote::Remotely,
    shared::Shared,
};
pub(crate) use self::{
    child::{CurrentAway, CurrentMember},
    member::Member,
};
pub use self::{
    finish::Finish,
    handle::ChildHandle,
    maybe::{MaybeOpenNursery, NurserySource, maybe_open_nursery},
    open::{OpenLocalNursery, OpenNursery, open_local_with, open_with},
    options::NurseryOptions,
    results::{Results, ResultsSink},
    room::StartWhenFree,
    shared::WaitIdle,
    spawner::{BoxTask, SpawnBlocking, SpawnWith, Spawner, spawn_with},
    start::{Start, TaskStatus},
};

/// Opens a nursery, runs `body` with it, and returns once the body and every child have ended.
///
/// Children may borrow anything that outlives the call. They are polled by the nursery itself and share
/// its task. If the body or a child fails, the others are cancelled: each is stopped at its next
/// pending await, from the inside out, exits included. The nursery is a cancel scope of its own:
/// [`Nursery::cancel`].
///
/// The type of the failures is fixed by annotating the handle, `async |n: Nursery<'_>| …` for the
/// erased [`AnyError`], or by the result's type.
///
/// The semantics are those of trio's nurseries with strict exception groups.
///
/// # Errors
///
/// A group of all failures of the body and the children, however few, in the order in which they
/// happened; the body's value is dropped then. What only passes on that a child has failed
/// ([`ChildEnded`](crate::ChildEnded)) is left out where there is a failure of its own. A nursery that
/// was itself cancelled, and has neither a failure nor a value, returns a group whose only leaf is
/// [`Cancelled`](trionics_errgroup::Cancelled).
///
/// # Panics
///
/// A panic of the body or a child, or of their `Drop`, cancels the others, lets their exits run, and is
/// then resumed here with its payload.
///
/// # Cancel safety
///
/// If a scope around it is cancelled, body and children unwind. Without a failure it then stays pending
/// until the enclosing frame drops it; with one it returns it. If it is dropped from outside, the body
/// and then the children are dropped at once, and exits that had not run are reported.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{Nursery, checkpoint, open_nursery};
///
/// # fn main() -> Result<(), trionics_nursery::Failure> {
/// # futures::executor::block_on(async {
/// let words = ["start", "together", "end", "together"];
/// let letters = open_nursery(async |n: Nursery<'_>| {
///     let mut handles = Vec::new();
///     for word in &words {
///         handles.push(n.spawn(async move {
///             checkpoint().await;
///             Ok(word.len())
///         }));
///     }
///     let mut letters = 0;
///     for handle in handles {
///         letters += handle.await?;
///     }
///     Ok(letters)
/// })
/// .await?;
/// assert_eq!(letters, 24);
/// # Ok(())
/// # })
/// # }
/// ```
///
/// A borrow of something inside the body would not live long enough:
///
/// ```compile_fail,E0373
/// # use trionics_nursery::{Nursery, open_nursery};
/// # async fn f() {
/// let _ = open_nursery(async |n: Nursery<'_>| {
///     let local = 5;
///     n.start_soon(async { drop(&local); Ok(()) });
///     Ok(())
/// })
/// .await;
/// # }
/// ```
#[track_caller]
pub fn open_nursery<'env, T, E, F, Fut>(body: F) -> OpenNursery<'env, T, E, F, Fut>
where
    F: FnOnce(Nursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    NurseryOptions::new().open(body)
}

/// Opens a nursery whose children need not be `Send`; otherwise as [`open_nursery`].
///
/// The future it returns is not `Send` either: it stays on the thread of a `LocalSet`, a
/// `LocalExecutor`, a `block_on` and the like.
///
/// # Errors
///
/// As [`open_nursery`].
///
/// # Panics
///
/// As [`open_nursery`].
///
/// # Cancel safety
///
/// As [`open_nursery`].
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use trionics_nursery::{LocalNursery, open_local_nursery};
///
/// # futures::executor::block_on(async {
/// let count = Rc::new(Cell::new(0));
/// open_local_nursery(async |n: LocalNursery<'_>| {
///     for _ in 0..3 {
///         let count = Rc::clone(&count);
///         n.start_soon(async move { Ok(count.set(count.get() + 1)) });
///     }
///     Ok(())
/// })
/// .await
/// .unwrap();
/// assert_eq!(count.get(), 3);
/// # });
/// ```
#[track_caller]
pub fn open_local_nursery<'env, T, E, F, Fut>(body: F) -> OpenLocalNursery<'env, T, E, F, Fut>
where
    F: FnOnce(LocalNursery<'env, E>) -> Fut,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    NurseryOptions::new().open_local(body)
}

/// A child of a [`Nursery`], as it is stored.
type AnyChild<'env, E> = dyn Future<Output = Result<(), Failure<E>>> + Send + 'env;

/// A child of a [`LocalNursery`], as it is stored.
type AnyLocalChild<'env, E> = dyn Future<Output = Result<(), Failure<E>>> + 'env;

/// A handle to an open nursery, with which children are started.
///
/// A clone is a handle to the same nursery. A handle may be sent to other threads and may outlive the
/// nursery; then it starts nothing any more.
pub struct Nursery<'env, E = AnyError> {
    pub(crate) shared: Shared<AnyChild<'env, E>>,
    child_name: Option<Name>,
}

/// A handle to an open nursery whose children need not be `Send`: see [`open_local_nursery`].
///
/// Otherwise it is as [`Nursery`].
pub struct LocalNursery<'env, E = AnyError> {
    shared: Shared<AnyLocalChild<'env, E>>,
    child_name: Option<Name>,
}

/// The methods of both kinds of handles, which differ in what they ask of a child.
macro_rules! nursery_methods {
    ($Nursery:ident, $Child:ident $(, $send:ident)?) => {
        impl<'env, E> $Nursery<'env, E> {
            pub(crate) fn from_shared(shared: Shared<$Child<'env, E>>) -> Self {
                Self { shared, child_name: None }
            }

            /// Starts a child that runs until it ends or is cancelled; the nursery waits for it.
            ///
            /// Returns before the child is polled for the first time. A child that fails cancels its
            /// siblings and the body. A child started in a cancelled nursery runs to its first pending
            /// await.
            ///
            /// # Panics
            ///
            /// If the nursery has closed, which means that its body and all its children had ended.
            /// Where that can happen, use [`try_start_soon`](Self::try_start_soon).
            ///
            /// # Cancel safety
            ///
            /// A cancellation of the nursery unwinds the child, exits included.
            ///
            /// # Examples
            ///
            /// ```
            /// use trionics_nursery::{Nursery, open_nursery};
            ///
            /// # futures::executor::block_on(async {
            /// let outcome = open_nursery(async |n: Nursery<'_>| {
            ///     n.start_soon(async { Err(std::fmt::Error.into()) });
            ///     std::future::pending::<()>().await;
            ///     Ok(())
            /// })
            /// .await;
            /// let failure = outcome.unwrap_err();
            /// assert!(failure.leaves().next().unwrap().as_leaf().unwrap().is::<std::fmt::Error>());
            /// # });
            /// ```
            #[track_caller]
            pub fn start_soon<C>(&self, child: C)
            where
                C: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
            {
                if self.try_start_soon(child).is_err() {
                    panic!(
                        "`start_soon` on a nursery that has closed: its body and its children had all \
                         ended; start children while it is open, or use `try_start_soon`, which gives the \
                         future back"
                    );
                }
            }

            /// Like [`start_soon`](Self::start_soon), but gives the future back if the nursery has closed.
            ///
            /// # Errors
            ///
            /// [`NurseryClosed`], with the future.
            #[track_caller]
            pub fn try_start_soon<C>(&self, child: C) -> Result<(), NurseryClosed<C>>
            where
                C: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
            {
                self.__try_start_at(Location::caller(), child)
            }

            #[doc(hidden)]
            pub fn __try_start_at<C>(
                &self,
                location: &'static Location<'static>,
                child: C,
            ) -> Result<(), NurseryClosed<C>>
            where
                C: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
            {
                if self.shared.is_closed() {
                    return Err(NurseryClosed { future: child });
                }
                self.shared
                    .start(self.child_name.clone(), location, |_| child)
                    .map_err(|future| NurseryClosed { future })
            }

            /// Starts a child that returns a value, and returns a handle that waits for it.
            ///
            /// # Panics
            ///
            /// If the nursery has closed.
            ///
            /// # Cancel safety
            ///
            /// Dropping the handle loses the value only: the child runs on, and the nursery waits for it. A
            /// cancellation of the nursery unwinds the child, and the handle then gives
            /// [`ChildEnded::Cancelled`](crate::ChildEnded::Cancelled).
            ///
            /// # Examples
            ///
            /// ```
            /// use trionics_nursery::{Nursery, open_nursery};
            ///
            /// # futures::executor::block_on(async {
            /// let sum = open_nursery(async |n: Nursery<'_>| {
            ///     let one = n.spawn(async { Ok(1) });
            ///     let two = n.spawn(async { Ok(2) });
            ///     Ok(one.await? + two.await?)
            /// })
            /// .await;
            /// assert_eq!(sum.unwrap(), 3);
            /// # });
            /// ```
            #[track_caller]
            pub fn spawn<V, C>(&self, child: C) -> ChildHandle<V>
            where
                C: Future<Output = Result<V, Failure<E>>> $(+ $send)? + 'env,
                V: $($send +)? 'env,
            {
                let mut handle = None;
                self.start_or_panic("spawn", |member| {
                    let (child, its_handle) = handle::with_handle(child, member);
                    handle = Some(its_handle);
                    child
                });
                handle.expect("made with the child")
            }

            /// Puts a child on an executor, so that it runs in parallel; returns a handle that waits for
            /// its value.
            ///
            /// It is a child like any other: the nursery waits for it, cancels it, lets its exits run, and
            /// gets its failure or panic. It starts where it is put, without waiting for the nursery to be
            /// polled, unless the nursery has a [limit](NurseryOptions::limit). When an
            /// [exit grace](NurseryOptions::exit_grace) is over, the executor drops it at its next poll,
            /// and the nursery waits for that.
            ///
            /// An executor that drops it unasked, because it shuts down for instance, ends it: the handle
            /// gives [`ChildEnded::Cancelled`](crate::ChildEnded::Cancelled), and the nursery fails with a `Cancelled` for the reason
            /// [`ExecutorShutDown`](trionics_errgroup::CancelReason::ExecutorShutDown), unless the child
            /// was being cancelled anyway.
            ///
            /// If the nursery's future is dropped from outside, the child is dropped at its next poll, to
            /// which it is woken; nobody waits for it then.
            ///
            /// # Panics
            ///
            /// If the nursery has closed.
            ///
            /// # Cancel safety
            ///
            /// As [`spawn`](Self::spawn).
            ///
            /// # Examples
            ///
            /// ```
            /// use tokio::runtime::Handle;
            /// use trionics_nursery::{Nursery, open_nursery};
            ///
            /// # let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
            /// # runtime.block_on(async {
            /// let sum = open_nursery(async |n: Nursery<'_>| {
            ///     let runtime = Handle::current();
            ///     let one = n.spawn_on(&runtime, async { Ok(1) });
            ///     let two = n.spawn_on(&runtime, async { Ok(2) });
            ///     Ok(one.await? + two.await?)
            /// })
            /// .await;
            /// assert_eq!(sum.unwrap(), 3);
            /// # });
            /// ```
            #[track_caller]
            pub fn spawn_on<V, C>(&self, spawner: &impl Spawner, child: C) -> ChildHandle<V>
            where
                C: Future<Output = Result<V, Failure<E>>> + Send + 'static,
                V: Send + 'static,
                E: Send + 'static,
            {
                self.put_on("spawn_on", spawner, child, ValueState::awaited()).into_handle()
            }

            /// Puts a child on an executor and leaves it to the nursery; otherwise as
            /// [`spawn_on`](Self::spawn_on).
            ///
            /// # Panics
            ///
            /// If the nursery has closed.
            ///
            /// # Cancel safety
            ///
            /// A cancellation of the nursery unwinds the child where it runs.
            #[track_caller]
            pub fn start_soon_on<C>(&self, spawner: &impl Spawner, child: C)
            where
                C: Future<Output = Result<(), Failure<E>>> + Send + 'static,
                E: Send + 'static,
            {
                self.put_on("start_soon_on", spawner, child, ValueState::unwanted());
            }

            #[track_caller]
            fn put_on<V, C>(
                &self,
                called: &str,
                spawner: &impl Spawner,
                child: C,
                value: ValueState<V>,
            ) -> Remotely<V, E>
            where
                C: Future<Output = Result<V, Failure<E>>> + Send + 'static,
                V: Send + 'static,
                E: Send + 'static,
            {
                let (shared, name) = (&self.shared, self.child_name.clone());
                let location = Location::caller();
                match remote::put_on_executor(shared, name, location, spawner, child, value) {
                    Some(child) => child,
                    None => closed(called),
                }
            }

            /// Runs a function that blocks on a pool of threads; returns a handle that waits for its
            /// value.
            ///
            /// It is a child of the nursery, which always waits for its end, since a thread cannot be
            /// stopped: not even an exit grace cuts it short. The function may ask
            /// [`is_cancel_requested`](crate::is_cancel_requested); futures that it blocks on are shielded.
            /// Work that has not begun when it is cancelled does not begin. It goes to the pool when the
            /// nursery takes it in, and as far as its [limit](NurseryOptions::limit) allows.
            ///
            /// # Panics
            ///
            /// If the nursery has closed.
            ///
            /// # Cancel safety
            ///
            /// Dropping the handle loses the value only. A cancellation cannot stop a thread: the function can ask for it.
            ///
            /// # Examples
            ///
            /// ```
            /// use tokio::runtime::Handle;
            /// use trionics_nursery::{Nursery, is_cancel_requested, open_nursery};
            ///
            /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            /// # runtime.block_on(async {
            /// let primes = open_nursery(async |n: Nursery<'_>| {
            ///     let primes = n.spawn_blocking_on(&Handle::current(), || {
            ///         let is_prime = |number: &u32| (2..*number).all(|divisor| number % divisor != 0);
            ///         Ok((2..100).take_while(|_| !is_cancel_requested()).filter(is_prime).count())
            ///     });
            ///     Ok(primes.await?)
            /// })
            /// .await;
            /// assert_eq!(primes.unwrap(), 25);
            /// # });
            /// ```
            #[track_caller]
            pub fn spawn_blocking_on<V, S, W>(&self, pool: &S, work: W) -> ChildHandle<V>
            where
                S: SpawnBlocking + Clone $(+ $send)? + 'env,
                W: FnOnce() -> Result<V, Failure<E>> + Send + 'static,
                V: Send + 'static,
                E: Send + 'static,
            {
                let mut handle = None;
                let (pool, away) = (pool.clone(), self.shared.queue().away());
                self.start_or_panic("spawn_blocking_on", |member| {
                    let work = remote::blocking(pool, work, member, away);
                    handle = Some(work.handle());
                    work
                });
                handle.expect("made with the child")
            }

            /// Starts a child whose value goes to a stream of [`results`](Self::results).
            ///
            /// # Panics
            ///
            /// If the nursery has closed.
            ///
            /// # Cancel safety
            ///
            /// Dropping the stream of results loses the values only: the child runs on.
            #[track_caller]
            pub fn spawn_into<V, C>(&self, sink: &ResultsSink<V>, child: C)
            where
                C: Future<Output = Result<V, Failure<E>>> $(+ $send)? + 'env,
                V: $($send +)? 'env,
            {
                self.start_or_panic("spawn_into", |_| Spawned::new(child, sink.begin()));
            }

            /// A stream of the values of children, in the order in which the children end.
            ///
            /// It yields the values of those started with [`spawn_into`](Self::spawn_into) and the sink,
            /// and ends when none is left.
            ///
            /// # Examples
            ///
            /// ```
            /// use futures::StreamExt as _;
            /// use trionics_nursery::{Nursery, checkpoint, open_nursery};
            ///
            /// # futures::executor::block_on(async {
            /// let values = open_nursery(async |n: Nursery<'_>| {
            ///     let (sink, mut results) = n.results();
            ///     n.spawn_into(&sink, async {
            ///         checkpoint().await;
            ///         Ok("second")
            ///     });
            ///     n.spawn_into(&sink, async { Ok("first") });
            ///     let mut values = Vec::new();
            ///     while let Some(value) = results.next().await {
            ///         values.push(value?);
            ///     }
            ///     Ok(values)
            /// })
            /// .await;
            /// assert_eq!(values.unwrap(), ["first", "second"]);
            /// # });
            /// ```
            #[must_use]
            pub fn results<V>(&self) -> (ResultsSink<V>, Results<V>) {
                results::results()
            }

            /// Starts a child and waits until it reports that it has started; returns what it reports.
            ///
            /// Until the report the child is polled by the caller and obeys the caller's scope; from
            /// then on it is a child of the nursery like any other. The nursery stays open meanwhile.
            ///
            /// The semantics are those of trio's `Nursery.start`.
            ///
            /// # Errors
            ///
            /// The child's failure before the report, as it is: the nursery does not hear of it.
            /// [`NotStarted`](trionics_errgroup::LibraryFailure::NotStarted) if the child ends, or drops
            /// its status, without a report; a child that drops its status is cancelled first.
            /// [`Closed`](trionics_errgroup::LibraryFailure::Closed) if the nursery has closed.
            ///
            /// # Panics
            ///
            /// A panic of the child before the report is resumed here.
            ///
            /// # Cancel safety
            ///
            /// If the caller is cancelled before the report, the child unwinds with it; a value that is
            /// reported then is dropped. If the future is dropped, so is the child.
            ///
            /// # Examples
            ///
            /// ```
            /// use trionics_nursery::{Failure, Nursery, TaskStatus, open_nursery};
            ///
            /// async fn serve(status: TaskStatus<u16>) -> Result<(), Failure> {
            ///     status.started(8080); // bound, and ready for connections
            ///     Ok(())
            /// }
            ///
            /// # futures::executor::block_on(async {
            /// let port = open_nursery(async |n: Nursery<'_>| n.start(serve).await).await;
            /// assert_eq!(port.unwrap(), 8080);
            /// # });
            /// ```
            #[track_caller]
            pub fn start<V, F, C>(&self, task: F) -> Start<$Child<'env, E>, V>
            where
                F: FnOnce(TaskStatus<V>) -> C,
                C: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
                V: $($send +)? 'env,
                E: $($send +)? 'env,
            {
                start::start(&self.shared, self.child_name.clone(), Location::caller(), false, task)
            }

            /// Like [`start`](Self::start), except that a child which ends without a report because of a
            /// cancellation is a cancellation and not a failed start.
            ///
            /// # Errors
            ///
            /// As [`start`](Self::start); a `Cancelled` failure if the nursery was cancelled and the
            /// child ended without a report.
            ///
            /// # Panics
            ///
            /// As [`start`](Self::start).
            ///
            /// # Cancel safety
            ///
            /// As [`start`](Self::start).
            #[track_caller]
            pub fn start_or_cancel<V, F, C>(&self, task: F) -> Start<$Child<'env, E>, V>
            where
                F: FnOnce(TaskStatus<V>) -> C,
                C: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
                V: $($send +)? 'env,
                E: $($send +)? 'env,
            {
                start::start(&self.shared, self.child_name.clone(), Location::caller(), true, task)
            }

            /// Starts a child as soon as it can run at once, in a nursery with a
            /// [limit](NurseryOptions::limit); those who wait are served in order.
            ///
            /// # Panics
            ///
            /// If the nursery has closed.
            ///
            /// # Cancel safety
            ///
            /// If it is dropped before it returns, the child is dropped and was not started.
            ///
            /// # Examples
            ///
            /// ```
            /// use trionics_nursery::{Nursery, NurseryOptions, checkpoint};
            ///
            /// # futures::executor::block_on(async {
            /// let outcome = NurseryOptions::new()
            ///     .limit(2)
            ///     .open(async |n: Nursery<'_>| {
            ///         for _ in 0..100 {
            ///             n.start_soon_when_free(async { Ok(checkpoint().await) }).await;
            ///             assert!(n.n_children() <= 2);
            ///         }
            ///         Ok(())
            ///     })
            ///     .await;
            /// assert!(outcome.is_ok());
            /// # });
            /// ```
            #[track_caller]
            pub fn start_soon_when_free<C>(&self, child: C) -> StartWhenFree<$Child<'env, E>>
            where
                C: Future<Output = Result<(), Failure<E>>> $(+ $send)? + 'env,
            {
                StartWhenFree::new(&self.shared, self.child_name.clone(), Location::caller(), child)
            }

            /// A handle to the same nursery whose children are called `name`.
            #[must_use]
            pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
                Self { shared: self.shared.clone(), child_name: Some(name.into()) }
            }

            /// How many children have been started and have not ended.
            ///
            /// A child that is being [started](Self::start) counts from its report on.
            #[must_use]
            pub fn n_children(&self) -> usize {
                self.shared.n_children()
            }

            /// Waits until the nursery has no children, the body apart; at once if it has none.
            ///
            /// It can be filled and waited for again. Once it was idle this is over, also if a child
            /// is started before the caller gets to run. It is for the body and for code outside: a child would wait
            /// for itself.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost when it is dropped.
            ///
            /// # Examples
            ///
            /// ```
            /// use trionics_nursery::{Nursery, checkpoint, open_nursery};
            ///
            /// # futures::executor::block_on(async {
            /// let outcome = open_nursery(async |n: Nursery<'_>| {
            ///     n.start_soon(async { Ok(checkpoint().await) });
            ///     n.wait_idle().await;
            ///     Ok(n.n_children())
            /// })
            /// .await;
            /// assert_eq!(outcome.unwrap(), 0);
            /// # });
            /// ```
            pub fn wait_idle(&self) -> WaitIdle<$Child<'env, E>> {
                WaitIdle::new(&self.shared)
            }

            /// Cancels the nursery: its body and its children. False if it was cancelled before.
            #[track_caller]
            pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) -> bool {
                self.cancel_scope().cancel(reason)
            }

            /// The nursery's own scope, to be cancelled from elsewhere.
            #[must_use]
            pub fn cancel_scope(&self) -> CancelScope {
                CancelScope::of(Arc::clone(self.shared.queue().nursery()))
            }

            #[track_caller]
            fn start_or_panic<C>(&self, called: &str, make: impl FnOnce(&Member) -> C)
            where
                C: Fits<$Child<'env, E>>,
            {
                if self.shared.start(self.child_name.clone(), Location::caller(), make).is_err() {
                    closed(called);
                }
            }
        }

        impl<E> Clone for $Nursery<'_, E> {
            fn clone(&self) -> Self {
                Self { shared: self.shared.clone(), child_name: self.child_name.clone() }
            }
        }

        impl<E> fmt::Debug for $Nursery<'_, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let nursery = self.shared.queue().info();
                f.debug_struct(stringify!($Nursery))
                    .field("name", &nursery.name())
                    .field("opened_at", &format_args!("{}", nursery.location()))
                    .field("n_children", &self.n_children())
                    .field("limit", &self.shared.limit())
                    .field("closed", &self.shared.is_closed())
                    .finish()
            }
        }
    };
}

nursery_methods!(Nursery, AnyChild, Send);
nursery_methods!(LocalNursery, AnyLocalChild);

#[track_caller]
fn closed(called: &str) -> ! {
    panic!(
        "`{called}` on a nursery that has closed: its body and its children had all ended; start children while it \
         is open"
    )
}

/// A child was started on a nursery that had closed.
pub struct NurseryClosed<C> {
    /// The future, which was not polled.
    pub future: C,
}

impl<C> fmt::Debug for NurseryClosed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NurseryClosed").finish_non_exhaustive()
    }
}

impl<C> fmt::Display for NurseryClosed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the nursery has closed: its body and its children had all ended")
    }
}

impl<C> std::error::Error for NurseryClosed<C> {}
