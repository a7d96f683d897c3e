//! A nursery that is opened and never awaited.
#![deny(unused_must_use)]

use trionics::{Failure, Nursery, open_nursery};

async fn run() -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        n.start_soon(async { Ok(()) });
        Ok(())
    });
    Ok(())
}

fn main() {
    drop(run());
}
