//! A child that does not say whether it succeeded.

use trionics::{Failure, Nursery, checkpoint, open_nursery};

async fn run() -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        n.start_soon(async {
            checkpoint().await;
        });
        Ok(())
    })
    .await
}

fn main() {
    drop(run());
}
