//! Two children change one variable.

use trionics::{Failure, Nursery, open_nursery};

async fn run() -> Result<i32, Failure> {
    let mut sum = 0;
    open_nursery(async |n: Nursery<'_>| {
        n.start_soon(async {
            sum += 1;
            Ok(())
        });
        n.start_soon(async {
            sum += 2;
            Ok(())
        });
        Ok(())
    })
    .await?;
    Ok(sum)
}

fn main() {
    drop(run());
}
