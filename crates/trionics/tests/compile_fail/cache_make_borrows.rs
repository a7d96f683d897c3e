//! What makes a cache's resource borrows from its first user.

use trionics::{ContextCache, Failure, Slot, acm, maybe_open_context};

async fn connect(name: &str, slot: Slot<String>) -> Result<(), Failure> {
    slot.provide(format!("connection to {name}")).await;
    Ok(())
}

async fn run(cache: &ContextCache<String, String>, name: &str) -> Result<(), Failure> {
    let make = || acm(|slot| connect(name, slot));
    maybe_open_context(cache, name.to_owned(), make, async |_hit, _connection| Ok(())).await
}

fn main() {
    drop(run(&ContextCache::new(), "db"));
}
