//! What a program can do wrong panics with the caller's line and the way out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::{FutureExt, stream};
use trionics_broadcast::broadcast_receiver;

#[test]
fn a_receive_that_is_polled_on_names_its_place() {
    let mut receiver = broadcast_receiver(stream::iter([7]), 1).unwrap();
    let line = line!() + 1;
    let mut receive = receiver.recv_ref();
    assert_eq!(*(&mut receive).now_or_never().unwrap().unwrap().unwrap(), 7);
    let payload = catch_unwind(AssertUnwindSafe(|| receive.now_or_never().is_some())).unwrap_err();
    let text = payload.downcast::<String>().unwrap();
    assert!(text.contains(&format!("{}:{line}:", file!())), "{text}");
    assert!(text.contains("keep what it has returned"), "{text}");
}
