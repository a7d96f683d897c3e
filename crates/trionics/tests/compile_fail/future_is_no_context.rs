//! A future where a context is asked for.

use trionics::{Failure, with_context};

async fn connect() -> Result<String, Failure> {
    Ok("connection".to_owned())
}

async fn run() -> Result<usize, Failure> {
    with_context(connect(), async |connection: String| Ok(connection.len())).await
}

fn main() {
    drop(run());
}
