//! What must not be done says so: polling on, entering twice, sleeping without a clock.

use std::time::{Duration, Instant};

use trionics_nursery::{
    CancelScope, Nursery, Settings, in_current_scope, now, open_nursery, shield, sleep,
    sleep_until, testing,
};

mod common;
use common::{Drawer, Probe, Word, ends, never, panic_and_place, panic_of, pause};

#[test]
fn a_future_that_is_polled_after_it_has_returned_says_so() {
    fn again<T>(future: impl Future<Output = T>) -> String {
        let mut probe = Probe::new(future);
        probe.ends();
        panic_of(|| probe.poll())
    }
    let cancelled = CancelScope::new();
    cancelled.cancel("stop");
    for (what, message) in [
        ("scope", again(CancelScope::new().run(pause()))),
        ("scope", again(cancelled.run(never()))),
        ("shield", again(shield(pause()))),
        (
            "nursery",
            again(open_nursery(|_: Nursery<'_, Word>| async { Ok(()) })),
        ),
        (
            "nursery",
            again(open_nursery(|_: Nursery<'_, Word>| async {
                Err::<(), _>("failed".into())
            })),
        ),
        ("settings", again(Settings::new().run(pause()))),
        ("carried", again(in_current_scope(pause()))),
    ] {
        assert!(
            message.contains(what) && message.contains("completed"),
            "{what}: {message}"
        );
        assert!(
            message.contains("misuse.rs"),
            "it names the place: {message}"
        );
    }
}

#[test]
fn a_future_that_is_polled_after_its_panic_says_so() {
    let mut probe = Probe::new(shield(async { panic!("first") }));
    assert_eq!(probe.panics(), "first");
    assert!(panic_of(|| probe.poll()).contains("completed"));
    let mut probe = Probe::new(open_nursery(async |_: Nursery<'_, Word>| {
        pause().await;
        if true {
            panic!("first");
        }
        Ok(())
    }));
    assert_eq!(probe.panics(), "first");
    assert!(panic_of(|| probe.poll()).contains("completed"));
}

#[test]
fn a_handle_that_is_polled_after_it_has_given_its_value_says_so() {
    let handle = Drawer::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        handle.put(n.spawn(async { Ok(7) }));
        Ok(())
    }))
    .unwrap();
    let mut probe = Probe::new(handle.take());
    assert_eq!(probe.ends(), Ok(7));
    assert!(panic_of(|| probe.poll()).contains("handle"));
}

#[test]
fn a_scope_can_be_entered_once() {
    let scope = CancelScope::new();
    // A run that was never polled has not entered.
    drop(scope.run(pause()));
    ends(scope.run(pause())).unwrap();
    let mut second = Probe::new(scope.run(pause()));
    let message = second.panics();
    assert!(message.contains("second time"), "{message}");
    assert!(message.contains("misuse.rs"), "{message}");
    // Nor at the same time, and the first one is not disturbed.
    let scope = CancelScope::new();
    let mut first = Probe::new(scope.run(pause()));
    assert!(first.poll().is_pending());
    assert!(
        Probe::new(scope.run(pause()))
            .panics()
            .contains("second time")
    );
    first.ends().unwrap();
}

#[test]
fn a_nurserys_own_scope_cannot_be_entered() {
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let scope = n.cancel_scope();
        scope.run(pause()).await.unwrap();
        Ok(())
    }));
    let message = probe.panics();
    assert!(message.contains("second time"), "{message}");
}

#[test]
fn a_panic_of_a_closed_nursery_blames_the_caller() {
    let nursery = ends(open_nursery(async |n: Nursery<'_, Word>| Ok(n))).unwrap();
    let line = line!() + 1;
    let at = panic_and_place(|| nursery.start_soon(async { Ok(()) }));
    assert_eq!(at.1, (file!().to_owned(), line));
    let line = line!() + 1;
    let at = panic_and_place(|| nursery.spawn(async { Ok(()) }));
    assert_eq!(at.1, (file!().to_owned(), line));
}

#[test]
fn without_a_clock_time_says_what_to_do() {
    let line = line!() + 1;
    let at = panic_and_place(|| now());
    assert_eq!(at.1, (file!().to_owned(), line));
    for message in [
        panic_of(|| now()),
        panic_of(|| ends(sleep(Duration::ZERO))),
        panic_of(|| ends(sleep_until(Instant::now()))),
        panic_of(|| ends(CancelScope::new().run(sleep(Duration::ZERO)))),
    ] {
        assert!(
            message.contains("clock") && message.contains("with_clock"),
            "{message}"
        );
        assert!(
            message.contains("misuse.rs"),
            "it names the place: {message}"
        );
    }
}

#[test]
fn the_deterministic_executor_refuses_what_cannot_be() {
    let message = panic_of(|| testing::run(never()));
    assert!(message.contains("deadlock"), "{message}");
    let message = panic_of(|| testing::run(async { testing::run(async {}) }));
    assert!(message.contains("inside itself"), "{message}");
    let message = panic_of(|| testing::spawn(async {}));
    assert!(message.contains("outside"), "{message}");
    let message = panic_of(testing::elapsed);
    assert!(message.contains("outside"), "{message}");
    // None of this leaves an executor behind.
    assert_eq!(testing::run(async { 7 }), 7);
}

#[test]
fn futures_that_are_never_polled_do_nothing() {
    let scope = CancelScope::new();
    drop(scope.run(async { panic!("polled") }));
    drop(shield(async { panic!("polled") }));
    drop(open_nursery(
        |_: Nursery<'_, Word>| -> std::future::Ready<Result<(), _>> { panic!("called") },
    ));
    drop(in_current_scope(async { panic!("polled") }));
    drop(Settings::new().run(async { panic!("polled") }));
    ends(scope.run(pause())).unwrap();
}
