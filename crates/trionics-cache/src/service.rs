//! The service: where the resources live, whoever uses them.

use std::{
    future::{Future, poll_fn},
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use trionics_errgroup::Failure;
use trionics_gather::{Slot, acm, with_context};
use trionics_nursery::{Nursery, cancel_requested, open_nursery, shield};

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
    /// When its scope is cancelled the cache closes, the users' blocks are cancelled, and each resource
    /// is torn down once its users have left. If it is dropped from outside, the resources are dropped
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
        async move {
            let closer = Closer { shared };
            let shared = &closer.shared;
            open_nursery(async |n: Nursery<'_, E>| {
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
    let context = acm(|slot: Slot<T>| run(slot));
    let used = with_context(context, async |value| {
        generation.set_open(value);
        // A cancelled service cancels the users and waits for them: no use after the exit.
        shield(until_left(&generation)).await;
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

/// Waits until the last user has left; a cancellation makes them leave.
async fn until_left<T, E>(generation: &Generation<T, E>) {
    let mut left = pin!(generation.wait_left());
    let mut requested = pin!(cancel_requested());
    let mut evicted = false;
    poll_fn(|cx| {
        if !evicted && requested.as_mut().poll(cx).is_ready() {
            evicted = true;
            generation.evict();
        }
        left.as_mut().poll(cx)
    })
    .await;
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
        self.forget();
        self.generation.finish(trouble)
    }

    /// Removes the key.
    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            let removed = self
                .shared
                .change(|state| state.generations.remove_entry(&key));
            drop(removed);
        }
    }
}

impl<K: Eq + Hash, T, E> Drop for Finisher<K, T, E> {
    fn drop(&mut self) {
        if self.key.is_some() {
            // The service was stopped or dropped.
            self.generation.evict();
            self.forget();
            self.generation.finish(None);
        }
    }
}

/// Closes the cache when the service ends, for whatever reason.
struct Closer<K, T, E> {
    shared: Arc<Shared<K, T, E>>,
}

impl<K, T, E> Drop for Closer<K, T, E> {
    fn drop(&mut self) {
        let (requests, generations) = self.shared.change(|state| {
            state.closed = true;
            (
                std::mem::take(&mut state.requests),
                std::mem::take(&mut state.generations),
            )
        });
        for request in requests {
            request.generation.evict();
            request.generation.finish(None);
        }
        drop(generations);
    }
}
