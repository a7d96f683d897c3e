//! The same, with a reference that is moved into the child.

use trionics::{Failure, Nursery, open_nursery};

async fn print(names: &[&str]) -> Result<(), Failure> {
    println!("{}", names.len());
    Ok(())
}

async fn total() -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        let names = vec!["one", "two"];
        n.start_soon(print(&names));
        Ok(())
    })
    .await
}

fn main() {
    drop(total());
}
