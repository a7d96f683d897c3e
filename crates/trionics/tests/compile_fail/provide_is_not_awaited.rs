//! A context that does not wait for its block.
#![deny(unused_must_use)]

use trionics::{Failure, Slot};

async fn connect(slot: Slot<i32>) -> Result<(), Failure> {
    slot.provide(1);
    Ok(())
}

fn main() {
    let _connect = connect;
}
