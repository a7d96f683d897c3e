//! Users on other threads than the service.

mod common;

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use common::Word;
use futures::executor::block_on;
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{Nursery, checkpoint, open_nursery};

const N_KEYS: usize = 3;
const N_THREADS: usize = 4;
const N_OPENS: usize = 300;

/// What happens to one key.
#[derive(Debug, Default)]
struct Tally {
    is_alive: AtomicBool,
    n_set_ups: AtomicUsize,
    n_exits: AtomicUsize,
    n_misses: AtomicUsize,
}

fn context(
    tally: Arc<Tally>,
) -> impl AsyncContext<Value = Arc<Tally>, Error = Word, Run: Send + 'static> {
    acm(move |slot: Slot<Arc<Tally>>| async move {
        assert!(
            !tally.is_alive.swap(true, Ordering::SeqCst),
            "two generations of a key"
        );
        tally.n_set_ups.fetch_add(1, Ordering::SeqCst);
        checkpoint().await;
        slot.provide(Arc::clone(&tally)).await;
        checkpoint().await;
        tally.n_exits.fetch_add(1, Ordering::SeqCst);
        tally.is_alive.store(false, Ordering::SeqCst);
        Ok(())
    })
}

/// Threads open and leave a few keys at random: never two generations of a key, each with one opener, each
/// torn down once, and no use after the exit.
#[test]
fn users_may_be_on_other_threads() {
    let cache: ContextCache<usize, Arc<Tally>, Word> = ContextCache::new();
    let tallies: Vec<Arc<Tally>> = (0..N_KEYS).map(|_| Arc::default()).collect();
    let barrier = Barrier::new(N_THREADS);
    thread::scope(|threads| {
        for seed in 0..N_THREADS {
            let (cache, tallies, barrier) = (cache.clone(), &tallies, &barrier);
            threads.spawn(move || {
                barrier.wait();
                for turn in 0..N_OPENS {
                    let key = (seed * 7 + turn * 5 + turn / 3) % N_KEYS;
                    let tally = Arc::clone(&tallies[key]);
                    block_on(maybe_open_context(
                        &cache,
                        key,
                        move || context(tally),
                        async |hit, tally| {
                            if !hit {
                                tally.n_misses.fetch_add(1, Ordering::SeqCst);
                            }
                            for _ in 0..turn % 4 {
                                assert!(tally.is_alive.load(Ordering::SeqCst));
                                checkpoint().await;
                            }
                            assert!(tally.is_alive.load(Ordering::SeqCst));
                            Ok(())
                        },
                    ))
                    .unwrap();
                }
            });
        }
        // The last handle of the threads closes the cache.
        let service = cache.serve();
        drop(cache);
        block_on(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(service);
            Ok(())
        }))
        .unwrap();
    });
    let mut n_set_ups = 0;
    for tally in &tallies {
        let begun = tally.n_set_ups.load(Ordering::SeqCst);
        assert!(!tally.is_alive.load(Ordering::SeqCst));
        assert_eq!(tally.n_exits.load(Ordering::SeqCst), begun);
        assert_eq!(tally.n_misses.load(Ordering::SeqCst), begun);
        n_set_ups += begun;
    }
    assert!(n_set_ups >= N_KEYS);
}

/// Futures of a service and of a use can be sent to another thread, on tokio too.
#[test]
fn service_and_users_run_on_tokio() {
    let cache: ContextCache<usize, Arc<Tally>, Word> = ContextCache::new();
    let tally: Arc<Tally> = Arc::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let service = tokio::spawn(cache.serve());
        let users: Vec<_> = (0..50)
            .map(|_| {
                let (cache, tally) = (cache.clone(), Arc::clone(&tally));
                tokio::spawn(async move {
                    maybe_open_context(
                        &cache,
                        0,
                        move || context(tally),
                        |hit, tally| async move {
                            tokio::task::yield_now().await;
                            assert!(tally.is_alive.load(Ordering::SeqCst));
                            Ok(hit)
                        },
                    )
                    .await
                })
            })
            .collect();
        let mut n_misses = 0;
        for user in users {
            n_misses += usize::from(!user.await.unwrap().unwrap());
        }
        assert_eq!(n_misses, tally.n_set_ups.load(Ordering::SeqCst));
        drop(cache);
        service.await.unwrap().unwrap();
    });
    assert_eq!(
        tally.n_exits.load(Ordering::SeqCst),
        tally.n_set_ups.load(Ordering::SeqCst)
    );
}
