//! A tokio runtime where its handle is asked for.

use tokio::runtime::Runtime;
use trionics::{Failure, Nursery, open_nursery};

async fn run(runtime: &Runtime) -> Result<i32, Failure> {
    open_nursery(async |n: Nursery<'_>| {
        let five = n.spawn_on(runtime, async { Ok(5) });
        Ok(five.await?)
    })
    .await
}

fn main() {
    drop(run(&Runtime::new().unwrap()));
}
