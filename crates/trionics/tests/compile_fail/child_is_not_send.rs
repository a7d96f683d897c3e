//! A child of a `Nursery` keeps an `Rc` over an await.

use std::rc::Rc;

use trionics::{Failure, Nursery, checkpoint, open_nursery};

async fn count() -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        n.start_soon(async {
            let counter = Rc::new(5);
            checkpoint().await;
            println!("{counter}");
            Ok(())
        });
        Ok(())
    })
    .await
}

fn main() {
    drop(count());
}
