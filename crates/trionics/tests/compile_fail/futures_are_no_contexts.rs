//! Futures where contexts are asked for.

use trionics::{Failure, gather_contexts};

async fn connect() -> Result<String, Failure> {
    Ok("connection".to_owned())
}

async fn run() -> Result<(), Failure> {
    gather_contexts([connect(), connect()], async |_connections| Ok(())).await
}

fn main() {
    drop(run());
}
