//! The body asks for a `Nursery`, the function gives a `LocalNursery`.

use trionics::{Failure, Nursery, open_local_nursery};

async fn run() -> Result<(), Failure> {
    open_local_nursery(async |n: Nursery<'_>| {
        n.start_soon(async { Ok(()) });
        Ok(())
    })
    .await
}

fn main() {
    drop(run());
}
