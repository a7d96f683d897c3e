//! A function that wants a `Nursery` is given a `LocalNursery`.

use trionics::{Failure, LocalNursery, Nursery, open_local_nursery};

fn start(n: &Nursery<'_>) {
    n.start_soon(async { Ok(()) });
}

async fn run() -> Result<(), Failure> {
    open_local_nursery(async |n: LocalNursery<'_>| {
        start(&n);
        Ok(())
    })
    .await
}

fn main() {
    drop(run());
}
