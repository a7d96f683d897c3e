//! The service: where the resources live, whoever uses them.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use trionics_errgroup::Failure;
use trionics_gather::{
    Slot, acm,
    internal::{Tenancy, let_out},
};
use trionics_nursery::{
    CancelScope, Nursery, Sleep,
    internal::{Tag, set_tag},
    open_nursery, sleep,
};

use crate::{
    cache::ContextCache,
    core::{Core, Usage, Work},
    effects::guard,
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
                loop {
                    match next(core).await {
                        Work::SetUp(at, generation) => {
                            n.start_soon(live(Arc::clone(core), at, generation));
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
    fn tell(&self, troubles: Vec<Trouble<E>>) -> Result<(), Failure<E>> {
        let mut failures = Vec::new();
        let mut panicked = None;
        for trouble in troubles {
            match (trouble, &self.settings.handler) {
                (Trouble::Failure(failure), Some(handler)) => {
                    guard(&mut panicked, || handler(failure));
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
async fn next<K, T, E>(core: &Core<K, T, E>) -> Work<E> {
    // A waker is cloned before the lock is taken: it is the executor's code.
    poll_fn(|cx| core.poll_work(cx.waker().clone())).await
}

/// One generation, from its set-up to the end of its exit.
async fn live<K, T, E>(
    core: Arc<Core<K, T, E>>,
    at: usize,
    generation: u64,
) -> Result<(), Failure<E>>
where
    K: Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    let set_up = CancelScope::new();
    let Some((run, identity)) = core.begin(at, generation, &set_up) else {
        return Ok(());
    };
    let finisher = Finisher {
        core: &core,
        at,
        generation,
        is_over: false,
    };
    set_tag(&set_up, identity as Arc<dyn Tag>);
    // In an async block, so that a panic of the user's `make` comes out of a poll.
    let (context, tenancy) = let_out(acm(async |slot: Slot<T>| run(slot).await));
    let mut life = Life {
        core: &core,
        at,
        generation,
        tenancy,
        stage: Stage::SetUp,
        ended: None,
        timer: None,
    };
    // Moved once and polled where it is: it is the greater part of what a resource in use takes.
    let mut context = pin!(set_up.run(context));
    let outcome = poll_fn(|cx| life.poll(context.as_mut(), cx)).await;
    let trouble = match outcome {
        Ok(Ok(Ok(()))) => None,
        // Nobody waited any more, and the set-up has unwound.
        Ok(Err(_cancelled)) => None,
        Ok(Ok(Err(failure))) => Some(Trouble::Failure(failure)),
        Err(payload) => Some(Trouble::Panic(payload)),
    };
    let own = finisher.finish(trouble);
    // The service may have ended otherwise, so that this is the last one to tell them.
    let mut unheard = core.take_unheard();
    unheard.extend(own);
    core.tell(unheard)
}

/// Leads a context from its set-up to the end of its exit, and lends its value to the users in between.
///
/// The context comes first in each poll: what it says of its end or of a cancellation is known before the
/// users are looked after. While it is in use it waits for the end of its tenancy, so no cancellation
/// stops it before the users have left: no use after the exit. Nor does a panic of what it sets off, such as the drop of the value.
struct Life<'a, K, T, E, R> {
    core: &'a Arc<Core<K, T, E>>,
    at: usize,
    generation: u64,
    tenancy: Tenancy<T>,
    stage: Stage,
    /// How the context ended, a panic included.
    ended: Option<std::thread::Result<R>>,
    /// The usage that it runs for, and the timer.
    timer: Option<(Usage, Pin<Box<Sleep>>)>,
}

/// What a generation's context is at.
enum Stage {
    SetUp,
    /// `evicted`: the users were asked to leave.
    InUse {
        evicted: bool,
    },
    Left,
}

impl<K, T, E, R> Life<'_, K, T, E, R> {
    fn poll(
        &mut self,
        mut context: Pin<&mut impl Future<Output = R>>,
        cx: &mut Context<'_>,
    ) -> Poll<std::thread::Result<R>> {
        loop {
            if self.ended.is_none() {
                let polled = catch_unwind(AssertUnwindSafe(|| context.as_mut().poll(cx)));
                self.ended = match polled {
                    Ok(Poll::Pending) => None,
                    Ok(Poll::Ready(output)) => Some(Ok(output)),
                    Err(payload) => Some(Err(payload)),
                };
            }
            if let Stage::SetUp = self.stage
                && let Some(value) = self.tenancy.take_value()
            {
                self.stage = Stage::InUse { evicted: false };
                let core = self.core;
                core.apart(|| core.set_open(self.at, self.generation, value));
            }
            let Stage::InUse { evicted } = &mut self.stage else {
                return match self.ended.take() {
                    Some(end) => Poll::Ready(end),
                    None => Poll::Pending,
                };
            };
            if !*evicted && (self.ended.is_some() || self.tenancy.poll_notice(cx).is_ready()) {
                *evicted = true;
                let core = self.core;
                core.apart(|| core.evict(self.at, self.generation));
            }
            ready!(self.poll_left(cx));
            self.stage = Stage::Left;
            self.tenancy.end();
        }
    }

    /// Waits until nobody uses the generation any more, and its idle time is over.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (core, at, generation) = (self.core, self.at, self.generation);
        loop {
            let usage = core.poll_usage(at, generation, cx.waker().clone());
            let period = match usage {
                Usage::Left => return Poll::Ready(()),
                Usage::InUse => None,
                Usage::Idle(_, period) => Some(period),
                Usage::Detached => core.settings.lease_grace,
            };
            // For ever is for ever, also where there is no clock.
            let Some(period) = period.filter(|&period| period < Duration::MAX) else {
                self.timer = None;
                return Poll::Pending;
            };
            if self.timer.as_ref().is_none_or(|(known, _)| *known != usage) {
                self.timer = Some((usage, Box::pin(sleep(period))));
            }
            let Some((_, running)) = &mut self.timer else {
                return Poll::Pending;
            };
            ready!(running.as_mut().poll(cx));
            self.timer = None;
            core.apart(|| match usage {
                Usage::Idle(number, _) => core.expire(at, generation, number),
                _ => core.give_up_leases(at, generation),
            });
        }
    }
}

/// Ends a generation, also where it was stopped.
struct Finisher<'a, K, T, E> {
    core: &'a Core<K, T, E>,
    at: usize,
    generation: u64,
    is_over: bool,
}

impl<K, T, E> Finisher<'_, K, T, E> {
    fn finish(mut self, trouble: Option<Trouble<E>>) -> Option<Trouble<E>> {
        self.is_over = true;
        self.core.over(self.at, self.generation, trouble)
    }
}

impl<K, T, E> Drop for Finisher<'_, K, T, E> {
    fn drop(&mut self) {
        if !self.is_over {
            // The service is stopped or dropped: nobody is to try after this one.
            self.core.close();
            self.core.evict(self.at, self.generation);
            self.core.over(self.at, self.generation, None);
        }
    }
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
