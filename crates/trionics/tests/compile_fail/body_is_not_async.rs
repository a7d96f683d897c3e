//! The body is a closure without `async`.

use trionics::{Failure, Nursery, open_nursery};

async fn run() -> Result<(), Failure> {
    open_nursery(|n: Nursery<'_>| {
        n.start_soon(async { Ok(()) });
        Ok(())
    })
    .await
}

fn main() {
    drop(run());
}
