//! The service: where the resources live, whoever uses them.

use std::{
    future::{Future, pending, poll_fn},
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use trionics_errgroup::Failure;
use trionics_gather::{Slot, acm, with_context};
use trionics_nursery::{CancelScope, Nursery, open_nursery, shield};

use crate::{
    cache::{ContextCache, Request, Shared},
    generation::{Generation, Trouble},
};

impl<K, T, E> ContextCache<K, T, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    /// Runs the cache's resources, until the cache is closed and the last of them is torn down.
    ///
    /// Start it as a child of the nursery that is to own the resources. Keys that are opened before it
    /// runs wait for it.
    ///
    /// # Errors
    ///
    /// Failures of set-ups and exits that no user stayed to hear of.
    ///
    /// # Panics
    ///
    /// If the cache has been served before; with a panic that no user stayed to hear of.
    ///
    /// # Cancel safety
    ///
    /// When its scope is cancelled the cache closes at once, the users' blocks are cancelled, and each
    /// resource is torn down once its users have left. If it is dropped from outside, the resources are dropped
    /// at once; users who wait are told that the cache is closed.
    ///
    /// # Examples
    ///
    /// See [`ContextCache`].
    #[track_caller]
    pub fn serve(&self) -> impl Future<Output = Result<(), Failure<E>>> + Send + use<K, T, E> {
        let shared = Arc::clone(self.shared());
        let first = !std::mem::replace(&mut shared.lock().is_served, true);
        assert!(
            first,
            "this cache is being served already: call `serve` once, and clone the cache"
        );
        // Made here, so that a service that is dropped before its first poll closes the cache, too.
        let closer = Closer { shared };
        async move {
            let closer = closer;
            let shared = &closer.shared;
            open_nursery(async |n: Nursery<'_, E>| {
                // Exits may take their time; what is opened meanwhile must not wait for them.
                let _refuser = Refuser { shared };
                while let Some(work) = next(shared).await {
                    match work {
                        Work::SetUp(request) => n.start_soon(live(Arc::clone(shared), request)),
                        Work::Unheard(trouble) => return Err(trouble.into_failure()),
                    }
                }
                Ok(())
            })
            .await
        }
    }
}

enum Work<K, T, E> {
    SetUp(Request<K, T, E>),
    Unheard(Trouble<E>),
}

/// What the service has to do next; `None` when the cache is closed and nothing is left.
async fn next<K, T, E>(shared: &Shared<K, T, E>) -> Option<Work<K, T, E>> {
    poll_fn(|cx| {
        let waker = cx.waker().clone();
        let (work, replaced) = {
            let mut state = shared.lock();
            if let Some(trouble) = state.unheard.pop() {
                (Poll::Ready(Some(Work::Unheard(trouble))), None)
            } else if let Some(request) = state.requests.pop_front() {
                (Poll::Ready(Some(Work::SetUp(request))), None)
            } else if state.closed && state.generations.is_empty() {
                (Poll::Ready(None), None)
            } else {
                (Poll::Pending, state.service.replace(waker))
            }
        };
        drop(replaced);
        work
    })
    .await
}

/// One generation, from its set-up to the end of its exit.
async fn live<K, T, E>(
    shared: Arc<Shared<K, T, E>>,
    request: Request<K, T, E>,
) -> Result<(), Failure<E>>
where
    K: Eq + Hash,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    let Request {
        key,
        generation,
        run,
    } = request;
    let finisher = Finisher {
        shared,
        key: Some(key),
        generation: Arc::clone(&generation),
    };
    if generation.is_left() {
        // Who wanted it has gone before it was begun.
        drop(finisher);
        return Ok(());
    }
    // In an async block, so that a panic of the user's `make` comes out of a poll.
    let context = acm(async |slot: Slot<T>| run(slot).await);
    let used = with_context(context, async |value| {
        generation.set_open(value);
        until_left(&generation).await;
        Ok(())
    });
    let trouble = match catch_panic(generation.set_up.run(used)).await {
        Ok(Ok(Ok(()))) => None,
        // Nobody waited any more, and the set-up has unwound.
        Ok(Err(_cancelled)) => None,
        Ok(Ok(Err(failure))) => Some(Trouble::Failure(failure)),
        Err(payload) => Some(Trouble::Panic(payload)),
    };
    match finisher.finish(trouble) {
        Some(unheard) => Err(unheard.into_failure()),
        None => Ok(()),
    }
}

/// Waits until the last user has left; a cancellation makes them leave, and waits for it: no use after
/// the exit.
async fn until_left<T, E>(generation: &Generation<T, E>) {
    let evicts = EvictOnDrop { generation };
    // Stopped by itself, before the shield beside it is over.
    let scope = CancelScope::new();
    let mut stopped = pin!(scope.run(async move {
        let _evicts = evicts;
        pending::<()>().await;
    }));
    let mut left = pin!(shield(generation.wait_left()));
    poll_fn(|cx| {
        // Does not return: nobody cancels its scope but those around it.
        let _pending = stopped.as_mut().poll(cx);
        left.as_mut().poll(cx)
    })
    .await;
}

/// Makes the users leave when the frame that holds it is stopped.
struct EvictOnDrop<'a, T, E> {
    generation: &'a Generation<T, E>,
}

impl<T, E> Drop for EvictOnDrop<'_, T, E> {
    fn drop(&mut self) {
        self.generation.evict();
    }
}

/// Yields a panic of `future` as a value.
async fn catch_panic<F: Future>(future: F) -> std::thread::Result<F::Output> {
    let mut future = pin!(Some(future));
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future: Pin<&mut F> = future
                .as_mut()
                .as_pin_mut()
                .expect("not polled after its end");
            future.poll(cx)
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await
}

/// Takes a generation out of the cache once its exit is over, also where it was stopped.
struct Finisher<K: Eq + Hash, T, E> {
    shared: Arc<Shared<K, T, E>>,
    key: Option<K>,
    generation: Arc<Generation<T, E>>,
}

impl<K: Eq + Hash, T, E> Finisher<K, T, E> {
    fn finish(mut self, trouble: Option<Trouble<E>>) -> Option<Trouble<E>> {
        let panicked = self.forget();
        self.generation.finish(trouble).or(panicked)
    }

    /// Removes the key.
    fn forget(&mut self) -> Option<Trouble<E>> {
        let key = self.key.take()?;
        let generation = &self.generation;
        let (removed, panicked) = self.shared.change(|state| {
            // A key's `Hash` and `Eq` are the user's; where they panic the place is found without them.
            match catch_unwind(AssertUnwindSafe(|| state.generations.remove_entry(&key))) {
                Ok(removed) => (removed, None),
                Err(payload) => {
                    state
                        .generations
                        .retain(|_key, known| !Arc::ptr_eq(known, generation));
                    (None, Some(Trouble::Panic(payload)))
                }
            }
        });
        drop(removed);
        panicked
    }
}

impl<K: Eq + Hash, T, E> Drop for Finisher<K, T, E> {
    fn drop(&mut self) {
        if self.key.is_some() {
            // The service was stopped or dropped, or the set-up was not wanted.
            self.generation.evict();
            let panicked = self.forget();
            self.generation.finish(None);
            if let Some(trouble) = panicked {
                self.shared.change(|state| state.unheard.push(trouble));
            }
        }
    }
}

/// Closes the cache when the service takes no more orders, for whatever reason.
struct Refuser<'a, K, T, E> {
    shared: &'a Shared<K, T, E>,
}

impl<K, T, E> Drop for Refuser<'_, K, T, E> {
    fn drop(&mut self) {
        let requests = self.shared.change(|state| {
            state.closed = true;
            std::mem::take(&mut state.requests)
        });
        for request in &requests {
            request.generation.evict();
            request.generation.finish(None);
        }
    }
}

/// Leaves nothing behind when the service ends, for whatever reason.
struct Closer<K, T, E> {
    shared: Arc<Shared<K, T, E>>,
}

impl<K, T, E> Drop for Closer<K, T, E> {
    fn drop(&mut self) {
        drop(Refuser {
            shared: &self.shared,
        });
        let generations = self
            .shared
            .change(|state| std::mem::take(&mut state.generations));
        for generation in generations.values() {
            generation.evict();
            generation.finish(None);
        }
    }
}
