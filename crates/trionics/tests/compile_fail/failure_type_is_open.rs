//! Nothing says what the nursery's failures are.

use trionics::open_nursery;

fn main() {
    let _outcome = open_nursery(async |n| {
        n.start_soon(async { Ok(()) });
        Ok(())
    });
}
