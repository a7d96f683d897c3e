//! The service: where the resources live, whoever uses them.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use trionics_errgroup::Failure;
use trionics_nursery::{Nursery, internal::start_hosting, open_nursery};

use crate::{
    cache::ContextCache,
    core::{Begun, Core, Work},
    generation::Generation,
    trouble::Trouble,
};

impl<K, T, E, S> ContextCache<K, T, E, S>
where
    K: Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    /// Runs the cache's resources, until the cache is closed and the last of them is torn down.
    ///
    /// Start it as a child of the nursery that is to own the resources, with
    /// [`start_soon`](Nursery::start_soon) or, to have set-ups and exits run elsewhere, with
    /// [`start_soon_on`](Nursery::start_soon_on) an executor. Keys that are opened before it runs wait for
    /// it.
    ///
    /// # Errors
    ///
    /// Failures of set-ups and exits that no user stayed to hear of, unless there is a
    /// [handler](crate::CacheOptions::on_unheard_failure) for them.
    ///
    /// # Panics
    ///
    /// If the cache has been served before; with a panic that no user stayed to hear of.
    ///
    /// # Cancel safety
    ///
    /// When its scope is cancelled the cache closes at once, the users' blocks are cancelled, leases are
    /// marked [detached](crate::Lease::is_detached), and each resource is torn down once its users have
    /// left. If it is dropped from outside, the resources are dropped at once; users who wait are told
    /// that the cache is closed.
    ///
    /// # Examples
    ///
    /// On a thread pool:
    ///
    /// ```
    /// use futures::executor::ThreadPool;
    /// use trionics_cache::ContextCache;
    /// use trionics_errgroup::Failure;
    /// use trionics_gather::{Slot, acm};
    /// use trionics_nursery::{Nursery, open_nursery, spawn_with};
    ///
    /// let pool = ThreadPool::builder().pool_size(1).create().unwrap();
    /// let on_pool = spawn_with(|task| pool.spawn_ok(task));
    /// # futures::executor::block_on(async {
    /// let cache: ContextCache<u8, u8> = ContextCache::new();
    /// open_nursery(async |n: Nursery<'_>| {
    ///     n.start_soon_on(&on_pool, cache.serve());
    ///     let context = || acm(async |slot: Slot<u8>| {
    ///         slot.provide(1).await;
    ///         Ok::<(), Failure>(())
    ///     });
    ///     assert_eq!(*cache.open(1, context).await?, 1);
    ///     cache.close();
    ///     Ok(())
    /// })
    /// .await
    /// .unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn serve(&self) -> impl Future<Output = Result<(), Failure<E>>> + Send + use<K, T, E, S> {
        let core = Arc::clone(self.core());
        assert!(
            core.begin_service(),
            "this cache is being served already: call `serve` once, and clone the cache"
        );
        // Made here, so that a service that is dropped before its first poll closes the cache, too.
        let closer = Closer { core };
        async move {
            let closer = closer;
            let core = &closer.core;
            open_nursery(async |n: Nursery<'_, E>| {
                // Exits may take their time; what is opened meanwhile must not wait for them.
                let _refuser = Refuser { core };
                let mut begun = None;
                loop {
                    match next(core, &mut begun).await {
                        Work::SetUp(set_up) => {
                            let tag = Arc::clone(&set_up.identity);
                            start_hosting(&n, tag, |host| {
                                begun = Some(Begun {
                                    place: set_up.identity.place(),
                                    generation: set_up.generation,
                                    host: host.clone(),
                                });
                                Generation::new(set_up, host)
                            });
                        }
                        Work::Unheard(troubles) => core.tell(troubles)?,
                        Work::Nothing => return Ok(()),
                    }
                }
            })
            .await
        }
    }
}

impl<K, T, E> Core<K, T, E> {
    /// Tells the handler what no user heard, or gives it back for the service's outcome.
    pub(crate) fn tell(&self, troubles: Vec<Trouble<E>>) -> Result<(), Failure<E>> {
        let mut failures = Vec::new();
        let mut panicked = None;
        for trouble in troubles {
            match (trouble, &self.settings.handler) {
                (Trouble::Failure(failure), Some(handler)) => {
                    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| handler(failure))) {
                        panicked.get_or_insert(payload);
                    }
                }
                (Trouble::Failure(failure), None) => failures.push(failure),
                (Trouble::Panic(payload), _) => {
                    panicked.get_or_insert(payload);
                }
            }
        }
        if let Some(payload) = panicked {
            resume_unwind(payload);
        }
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Failure::group("no user heard of these", failures).expect("there are some")),
        }
    }
}

/// What the service has to do next.
async fn next<K, T, E>(core: &Core<K, T, E>, begun: &mut Option<Begun>) -> Work<K, T, E> {
    // A waker is cloned before the lock is taken: it is the executor's code.
    poll_fn(|cx| core.poll_work(begun, cx.waker().clone())).await
}

/// Closes the cache when the service takes no more orders, for whatever reason.
struct Refuser<'a, K, T, E> {
    core: &'a Core<K, T, E>,
}

impl<K, T, E> Drop for Refuser<'_, K, T, E> {
    fn drop(&mut self) {
        self.core.refuse();
    }
}

/// Leaves nothing behind when the service ends, for whatever reason.
struct Closer<K, T, E> {
    core: Arc<Core<K, T, E>>,
}

impl<K, T, E> Drop for Closer<K, T, E> {
    fn drop(&mut self) {
        self.core.end_service();
    }
}
