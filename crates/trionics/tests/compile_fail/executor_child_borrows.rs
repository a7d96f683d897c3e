//! A child that is put on an executor borrows from outside the nursery.

use tokio::runtime::Handle;
use trionics::{Failure, Nursery, open_nursery};

async fn run(names: Vec<String>) -> Result<usize, Failure> {
    open_nursery(async |n: Nursery<'_>| {
        let length = n.spawn_on(&Handle::current(), async { Ok(names.len()) });
        Ok(length.await?)
    })
    .await
}

fn main() {
    drop(run(Vec::new()));
}
