//! What a program can do wrong panics with the caller's line and the way out.

use std::{pin::pin, time::Duration};

use futures::FutureExt;
#[cfg(feature = "task-tree")]
use trionics_nursery::PrintTree;
use trionics_nursery::{
    CancelScope, ChildHandle, Nursery, NurseryOptions, branch, in_current_scope, interval,
    maybe_open_nursery, move_on_after, now, open_nursery, shield, sleep, testing,
};

mod common;
use common::{RETURNS_ONCE, Word, blames, ends, names, never, panic_of, pause, polled_on};
use testkit::here;

#[test]
fn what_is_asked_for_in_vain_blames_the_caller() {
    blames(here!(), "1 or more", || NurseryOptions::new().limit(0));
    blames(here!(), "a longer one", || interval(Duration::ZERO));
    blames(here!(), "with_clock", || now());
    blames(here!(), "run the test's future inside it", || {
        testing::spawn(async {})
    });
    blames(here!(), "run the test's future inside it", || {
        testing::elapsed()
    });
    blames(here!(), "no timer is left", || testing::run(never()));
    blames(here!(), "await the future instead", || {
        testing::run(async { testing::run(async {}) })
    });
}

#[cfg(feature = "task-tree")]
#[test]
fn a_printer_without_patience_blames_the_caller() {
    let scope = CancelScope::new();
    blames(here!(), "above zero", || {
        PrintTree::new().when_slow(&scope, Duration::ZERO)
    });
}

#[test]
fn a_nursery_that_has_closed_blames_the_caller() {
    let n = ends(open_nursery(async |n: Nursery<'_, Word>| Ok(n))).unwrap();
    let way_out = "start children while it is open";
    blames(here!(), way_out, || n.start_soon(async { Ok(()) }));
    blames(here!(), way_out, || n.spawn(async { Ok(()) }));
    let place = here!();
    let late = n.start_soon_when_free(async { Ok(()) });
    names(place, way_out, &panic_of(|| ends(late)));
}

#[test]
fn a_time_without_a_clock_names_its_place() {
    let second = Duration::from_secs(1);
    for text in [
        panic_of(|| ends(sleep(second))),
        panic_of(|| ends(move_on_after(second, never()))),
        panic_of(|| ends(interval(second).tick())),
    ] {
        names((file!(), line!() - 4), "with_clock", &text);
    }
}

#[test]
fn a_scope_that_is_entered_twice_names_its_place() {
    let place = here!();
    let scope = CancelScope::new();
    ends(scope.run(pause())).unwrap();
    let text = panic_of(|| ends(scope.run(pause())));
    names(place, "make a new scope for each run", &text);
}

#[test]
fn what_was_stopped_and_is_polled_elsewhere_names_its_place() {
    let scope = CancelScope::new();
    let place = here!();
    let mut work = pin!(branch(never()));
    scope.cancel("enough");
    ends(scope.run(work.as_mut())).unwrap_err();
    let text = panic_of(|| ends(work));
    names(place, "put a cancel scope inside it", &text);
}

#[test]
fn what_is_polled_on_names_its_place() {
    let place = here!();
    let text = polled_on(CancelScope::new().run(pause()));
    names(place, RETURNS_ONCE, &text);
    let place = here!();
    let text = polled_on(shield(pause()));
    names(place, RETURNS_ONCE, &text);
    let place = here!();
    let text = polled_on(in_current_scope(pause()));
    names(place, RETURNS_ONCE, &text);
    let place = here!();
    let text = polled_on(open_nursery(async |_: Nursery<'_, Word>| Ok(())));
    names(place, RETURNS_ONCE, &text);
}

/// They need their nursery open.
#[test]
fn what_belongs_to_a_nursery_and_is_polled_on_names_its_place() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let place = here!();
        let mut handle: ChildHandle<_> = n.spawn(async { Ok(7) });
        assert_eq!((&mut handle).await, Ok(7));
        names(place, RETURNS_ONCE, &panic_of(|| handle.now_or_never()));

        let place = here!();
        let mut start = n.start(async |status| {
            status.started(7);
            Ok(())
        });
        assert_eq!((&mut start).await, Ok(7));
        names(place, RETURNS_ONCE, &panic_of(|| start.now_or_never()));

        let place = here!();
        let mut queued = n.start_soon_when_free(async { Ok(()) });
        (&mut queued).await;
        names(place, RETURNS_ONCE, &panic_of(|| queued.now_or_never()));

        let place = here!();
        let mut again = pin!(maybe_open_nursery(&n, async |_| Ok(())));
        again.as_mut().await.unwrap();
        names(place, RETURNS_ONCE, &panic_of(|| again.now_or_never()));
        Ok(())
    }))
    .unwrap();
}
