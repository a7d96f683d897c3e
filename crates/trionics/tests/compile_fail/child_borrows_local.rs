//! A child borrows a local of the nursery's body, which ends before the child does.

use trionics::{Failure, Nursery, open_nursery};

async fn total() -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        let names = vec!["one", "two"];
        n.start_soon(async {
            println!("{}", names.len());
            Ok(())
        });
        Ok(())
    })
    .await
}

fn main() {
    drop(total());
}
