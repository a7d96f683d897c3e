//! Children on whatever implements the `Spawn` trait of the `futures` crates.

use std::future::Future;

use futures_task::{FutureObj, Spawn};

use super::Spawner;

/// Lets a nursery put children on an executor that implements `futures::task::Spawn`.
///
/// # Examples
///
/// ```
/// use futures::executor::ThreadPool;
/// use trionics_nursery::{FuturesSpawner, Nursery, open_nursery};
///
/// let pool = FuturesSpawner(ThreadPool::new().unwrap());
/// # futures::executor::block_on(async {
/// let answer = open_nursery(async |n: Nursery<'_>| Ok(n.spawn_on(&pool, async { Ok(42) }).await?)).await;
/// assert_eq!(answer.unwrap(), 42);
/// # });
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
#[derive(Clone, Copy, Debug)]
pub struct FuturesSpawner<S>(pub S);

#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl<S: Spawn> Spawner for FuturesSpawner<S> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // An executor that refuses the task has dropped it, and the nursery has been told by that.
        let _ = self.0.spawn_obj(FutureObj::new(Box::new(task)));
    }
}
