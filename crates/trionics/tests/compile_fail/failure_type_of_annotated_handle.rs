//! The handle says that failures are erased, the child fails with an error of its own.

use trionics::{Failure, Nursery, open_nursery};

async fn read() -> Result<(), std::io::Error> {
    Ok(())
}

async fn run() -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        n.start_soon(read());
        Ok(())
    })
    .await
}

fn main() {
    drop(run());
}
