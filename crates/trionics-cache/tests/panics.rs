//! What a program can do wrong with a cache panics with the caller's line and the way out.

use futures::FutureExt;
use testkit::{RETURNS_ONCE, blames, here, names, panic_of};
use trionics_cache::{ContextCache, WhenFull, close_default, serve_default};
use trionics_errgroup::Failure;
use trionics_gather::{Slot, acm};
use trionics_nursery::{Nursery, open_nursery, testing};

#[test]
fn what_is_asked_for_in_vain_blames_the_caller() {
    let options = ContextCache::<u8, u8>::options();
    blames(here!(), "room for one", || {
        options.capacity(0, WhenFull::Wait)
    });
    let cache: ContextCache<u8, u8> = ContextCache::new();
    let _service = cache.serve();
    blames(here!(), "clone the cache", || drop(cache.serve()));
    let _default = serve_default();
    blames(here!(), "in the root nursery", || drop(serve_default()));
    close_default();
}

#[test]
fn an_open_that_is_polled_on_names_its_place() {
    let context = || {
        acm(async |slot: Slot<u8>| {
            slot.provide(7).await;
            Ok::<(), Failure>(())
        })
    };
    let cache: ContextCache<u8, u8> = ContextCache::new();
    testing::run(open_nursery(async |n: Nursery<'_>| {
        n.start_soon(cache.serve());
        let mut leases = Vec::new();
        // A miss and a hit.
        for cache_hit in [false, true] {
            let place = here!();
            let mut open = cache.open(1, context);
            let lease = (&mut open).await?;
            names(place, RETURNS_ONCE, &panic_of(|| open.now_or_never()));
            assert_eq!(lease.cache_hit(), cache_hit);
            leases.push(lease);
        }
        cache.close();
        Ok(())
    }))
    .unwrap();
}
