//! Executors as a nursery sees them: something that runs what it is given.

use std::{future::Future, sync::Arc};

#[cfg(feature = "async-executor")]
mod async_executor;
#[cfg(feature = "futures")]
mod futures;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "futures")]
pub use self::futures::FuturesSpawner;

/// An executor that children are put on with [`Nursery::spawn_on`](crate::Nursery::spawn_on).
///
/// It is implemented for `tokio::runtime::Handle` (feature `tokio`), for `async_executor::Executor` and
/// `LocalExecutor` (feature `async-executor`), and through [`FuturesSpawner`] for what implements
/// `futures::task::Spawn` (feature `futures`). [`spawn_with`] makes one from a function.
///
/// # Examples
///
/// ```
/// use std::future::Future;
/// use trionics_nursery::{Nursery, Spawner, open_nursery};
///
/// /// A thread for each child.
/// struct Threads;
///
/// impl Spawner for Threads {
///     fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
///         std::thread::spawn(|| futures::executor::block_on(task));
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let sum = open_nursery(async |n: Nursery<'_>| {
///     let one = n.spawn_on(&Threads, async { Ok(1) });
///     let two = n.spawn_on(&Threads, async { Ok(2) });
///     Ok(one.await? + two.await?)
/// })
/// .await;
/// assert_eq!(sum.unwrap(), 3);
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no executor that a nursery could put a child on",
    label = "not a `Spawner`",
    note = "a tokio runtime is one by its `handle()`, with the feature `tokio`; an `Executor` of async-executor or smol with the feature `async-executor`",
    note = "what implements `futures::task::Spawn` is wrapped in a `FuturesSpawner`, with the feature `futures`; `spawn_with` makes one from a function"
)]
pub trait Spawner {
    /// Runs `task` to its end, whoever else is waiting for what.
    ///
    /// An executor that takes no more tasks, or that shuts down, drops the task: the nursery hears of it.
    /// One that keeps the task and neither polls nor drops it lets the nursery wait for ever.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
}

/// A pool of threads that may be blocked, for
/// [`Nursery::spawn_blocking_on`](crate::Nursery::spawn_blocking_on).
///
/// It is implemented for `tokio::runtime::Handle` (feature `tokio`).
///
/// # Examples
///
/// ```
/// use trionics_nursery::SpawnBlocking;
///
/// /// A thread for each piece of work.
/// struct Threads;
///
/// impl SpawnBlocking for Threads {
///     fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
///         std::thread::spawn(work);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no pool of threads that may be blocked",
    label = "not a `SpawnBlocking`",
    note = "a tokio runtime is one by its `handle()`, with the feature `tokio`"
)]
pub trait SpawnBlocking {
    /// Calls `work` on a thread that may be blocked.
    ///
    /// A pool that takes no more work, or that shuts down, drops it uncalled: the nursery hears of it.
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static);
}

impl<S: Spawner + ?Sized> Spawner for &S {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (**self).spawn(task);
    }
}

impl<S: Spawner + ?Sized> Spawner for Arc<S> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (**self).spawn(task);
    }
}

impl<S: SpawnBlocking + ?Sized> SpawnBlocking for &S {
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        (**self).spawn_blocking(work);
    }
}

impl<S: SpawnBlocking + ?Sized> SpawnBlocking for Arc<S> {
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        (**self).spawn_blocking(work);
    }
}

/// A task in the form that [`spawn_with`] hands on.
pub type BoxTask = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a [`Spawner`] from a function that runs a boxed task somewhere.
///
/// # Examples
///
/// The executor behind `smol::spawn`:
///
/// ```
/// use trionics_nursery::{Nursery, open_nursery, spawn_with};
///
/// let global = spawn_with(|task| smol::spawn(task).detach());
/// # smol::block_on(async {
/// let answer = open_nursery(async |n: Nursery<'_>| Ok(n.spawn_on(&global, async { Ok(42) }).await?)).await;
/// assert_eq!(answer.unwrap(), 42);
/// # });
/// ```
pub fn spawn_with<F: Fn(BoxTask)>(spawn: F) -> SpawnWith<F> {
    SpawnWith { spawn }
}

/// The spawner made by [`spawn_with`].
#[derive(Clone, Copy)]
pub struct SpawnWith<F> {
    spawn: F,
}

impl<F: Fn(BoxTask)> Spawner for SpawnWith<F> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.spawn)(Box::pin(task));
    }
}

impl<F> std::fmt::Debug for SpawnWith<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpawnWith").finish_non_exhaustive()
    }
}
