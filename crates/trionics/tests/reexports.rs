//! Every crate is reachable through the umbrella, as a module and at the root, and both names mean the same.

use std::any::TypeId;

/// Fails unless both are one type.
fn same<A: 'static, B: 'static>() {
    assert_eq!(TypeId::of::<A>(), TypeId::of::<B>());
}

#[cfg(feature = "errgroup")]
#[test]
fn errgroup() {
    same::<trionics::errgroup::Failure, trionics::Failure>();
    same::<trionics::Failure, trionics::Failure<trionics::errgroup::AnyError>>();
    let _: fn(trionics::Failure<u8>) -> trionics::Failure<u8> = trionics::collapse_eg;
    same::<trionics::errgroup::Cancelled, trionics::Cancelled>();
    same::<trionics::errgroup::LibraryFailure, trionics::LibraryFailure>();
}

#[cfg(feature = "nursery")]
#[test]
fn nursery() {
    same::<trionics::nursery::CancelScope, trionics::CancelScope>();
    same::<trionics::nursery::Nursery<'static, u8>, trionics::Nursery<'static, u8>>();
    let opened = trionics::open_nursery(async |nursery: trionics::Nursery<'_, u8>| {
        nursery.start_soon(trionics::shield(async { Ok(()) }));
        trionics::checkpoint().await;
        Ok(7)
    });
    assert!(futures::executor::block_on(opened).is_ok_and(|value| value == 7));
}

#[cfg(feature = "gather")]
#[test]
fn gather() {
    same::<trionics::gather::Slot<u8>, trionics::Slot<u8>>();
    let contexts: Vec<_> = (0..3)
        .map(|number| {
            trionics::acm(async move |slot: trionics::Slot<i32>| {
                slot.provide(number).await;
                Ok(())
            })
        })
        .collect();
    let sum = trionics::gather_contexts(
        contexts,
        async |numbers: Vec<i32>| -> Result<i32, trionics::Failure> { Ok(numbers.iter().sum()) },
    );
    assert!(futures::executor::block_on(sum).is_ok_and(|sum| sum == 3));
}

#[cfg(feature = "broadcast")]
#[test]
fn broadcast() {
    same::<trionics::broadcast::Lagged, trionics::Lagged>();
    let source = futures::stream::iter([1, 2, 3]);
    let mut receiver = trionics::broadcast_receiver(source, 4).expect("four is a capacity");
    assert_eq!(futures::executor::block_on(receiver.recv()), Some(Ok(1)));
}

#[cfg(feature = "cache")]
#[test]
fn cache() {
    same::<trionics::cache::ContextCache<u8, u8, u8>, trionics::ContextCache<u8, u8, u8>>();
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_clock() {
    same::<trionics::nursery::TokioClock, trionics::TokioClock>();
}

#[cfg(feature = "testing")]
#[test]
fn testing() {
    assert_eq!(trionics::testing::run(async { 7 }), 7);
}

#[cfg(all(feature = "cache", feature = "broadcast"))]
#[test]
fn prelude() {
    use trionics::prelude;

    same::<prelude::CancelScope, trionics::CancelScope>();
    same::<prelude::Failure, trionics::Failure>();
    same::<prelude::Slot<u8>, trionics::Slot<u8>>();
    same::<prelude::ContextCache<u8, u8>, trionics::ContextCache<u8, u8>>();
    same::<prelude::Lagged, trionics::Lagged>();
}

/// Names that a program imports itself come before those of the prelude.
#[cfg(feature = "gather")]
#[test]
fn prelude_hides_nothing() {
    use futures::future::{join, ready};
    use trionics::prelude::*;

    assert_eq!(futures::executor::block_on(race((ready(1),))), 1);
    assert_eq!(
        futures::executor::block_on(join(ready(1), ready(2))),
        (1, 2)
    );
}
