//! A context that provides a second value.

use trionics::{Failure, Slot};

async fn connect(slot: Slot<i32>) -> Result<(), Failure> {
    slot.provide(1).await;
    slot.provide(2).await;
    Ok(())
}

fn main() {
    let _connect = connect;
}
