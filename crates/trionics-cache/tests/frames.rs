//! What a resource in use costs in the scope tree; alone in its process, as frames are counted for all of it.

use trionics_cache::{ContextCache, Lease};
use trionics_errgroup::Failure;
use trionics_gather::{Slot, acm};
use trionics_nursery::{Nursery, checkpoint, live_frames, open_nursery};

async fn open(cache: &ContextCache<u8, u8>, key: u8) -> Result<Lease<u8, u8>, Failure> {
    let make = move || {
        acm(move |slot: Slot<u8>| async move {
            checkpoint().await;
            slot.provide(key).await;
            checkpoint().await;
            Ok(())
        })
    };
    cache.open(key, make).await
}

/// A resource has no frame of its own unless one opens inside its set-up.
#[test]
fn a_resource_in_use_is_no_frame() {
    // The test executor would give each child a place that the task tree can show.
    let outcome = futures::executor::block_on(open_nursery(async |n: Nursery<'_>| {
        let cache = ContextCache::new();
        n.start_soon(cache.serve());
        let first = open(&cache, 0).await?;
        let before = live_frames();
        let mut others = Vec::new();
        for key in 1..10 {
            others.push(open(&cache, key).await?);
        }
        assert_eq!(live_frames(), before);
        first.close().await?;
        for other in others {
            other.close().await?;
        }
        Ok(())
    }));
    outcome.unwrap();
}
