//! What a program can do wrong with contexts panics with the caller's line and the way out.

use std::pin::pin;

use futures::FutureExt;
use trionics_gather::{
    ExitStack, GatherOptions, Slot, acm, gather_contexts, gather_contexts_in, join, null_context,
    open_exit_stack, race, with_context,
};
use trionics_nursery::{CancelScope, Failure, Nursery, open_nursery};

mod common;
use common::{
    Drawer, Notes, RETURNS_ONCE, Word, blames, ends, names, never, panic_of, pause, polled_on,
    quick,
};
use testkit::here;

#[test]
fn what_is_asked_for_in_vain_blames_the_caller() {
    blames(here!(), "1 or more", || GatherOptions::new().limit(0));
    blames(here!(), "at least one", || {
        drop(race(Vec::<std::future::Ready<()>>::new()));
    });
}

#[test]
fn a_push_on_a_stack_that_has_been_left_blames_the_caller() {
    let kept = Drawer::new();
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        kept.put(stack);
        Ok(())
    }))
    .unwrap();
    let stack = kept.take();
    blames(here!(), "push while its body runs", || {
        stack.push(async |_| Ok(()))
    });
}

#[test]
fn what_was_stopped_and_is_polled_elsewhere_names_its_place() {
    let cancelled = || {
        let scope = CancelScope::new();
        scope.cancel("enough");
        scope
    };
    let place = here!();
    let mut racing = pin!(race([never()]));
    ends(cancelled().run(racing.as_mut())).unwrap_err();
    names(
        place,
        "put a cancel scope inside it",
        &panic_of(|| ends(racing)),
    );
    let place = here!();
    let mut joined = pin!(join([never()]));
    ends(cancelled().run(joined.as_mut())).unwrap_err();
    names(
        place,
        "put a cancel scope inside it",
        &panic_of(|| ends(joined)),
    );
}

#[test]
fn what_is_polled_on_names_its_place() {
    let notes = Notes::new();
    let place = here!();
    let text = polled_on(with_context(quick("a", &notes), async |_| Ok(())));
    names(place, RETURNS_ONCE, &text);
    let place = here!();
    let text = polled_on(gather_contexts([quick("a", &notes)], async |_| Ok(())));
    names(place, RETURNS_ONCE, &text);
    let place = here!();
    let text = polled_on(race([pause()]));
    names(place, RETURNS_ONCE, &text);
    let place = here!();
    let text = polled_on(join([pause()]));
    names(place, RETURNS_ONCE, &text);
}

#[test]
fn a_context_that_waits_twice_for_its_block_is_told_where_it_was_entered() {
    let context = acm(async |slot: Slot<()>| {
        let mut provided = pin!(slot.provide(()));
        provided.as_mut().await;
        provided.await;
        Ok::<(), Failure<Word>>(())
    });
    let place = here!();
    let entered = with_context(context, async |()| Ok(()));
    names(place, RETURNS_ONCE, &panic_of(|| ends(entered)));
}

#[test]
fn what_belongs_to_a_nursery_or_a_stack_and_is_polled_on_names_its_place() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let place = here!();
        let mut entering = gather_contexts_in(&n, [null_context(7)]);
        let (_values, guard) = (&mut entering).await?;
        names(place, RETURNS_ONCE, &panic_of(|| entering.now_or_never()));
        drop(guard);
        Ok(())
    }))
    .unwrap();
    ends(open_exit_stack(async |stack: ExitStack<'_, Word>| {
        let place = here!();
        let mut entering = pin!(stack.enter(null_context(7)));
        assert_eq!(entering.as_mut().await, Ok(7));
        names(place, RETURNS_ONCE, &panic_of(|| entering.now_or_never()));
        Ok(())
    }))
    .unwrap();
}
