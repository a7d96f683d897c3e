//! What comes of a context that does not keep to the protocol, in each way of entering it: the table in the
//! crate's documentation.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use futures::FutureExt as _;
use trionics_errgroup::LibraryFailure;
use trionics_gather::{
    AsyncContext as _, BoxContext, ExitStack, Slot, acm, gather_contexts, gather_contexts_in,
    open_exit_stack, with_context,
};
use trionics_nursery::{CancelReason, CancelScope, Failure, Nursery, open_nursery};

mod common;
use common::{Notes, Probe, Reports, Word, ends, errors, never, pause, text};

type Outcome = Result<(), Failure<Word>>;

/// What a context does against the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misdeed {
    NeverProvides,
    DropsItsSlot,
    FailsInSetUp,
    PanicsInSetUp,
    EndsInUse,
    FailsInUse,
    PanicsInUse,
    /// It stops waiting for the block, and then awaits something, as an exit would.
    LeavesItsBlockAlone,
    FailsInExit,
    PanicsInExit,
}

const ALL: [Misdeed; 10] = [
    Misdeed::NeverProvides,
    Misdeed::DropsItsSlot,
    Misdeed::FailsInSetUp,
    Misdeed::PanicsInSetUp,
    Misdeed::EndsInUse,
    Misdeed::FailsInUse,
    Misdeed::PanicsInUse,
    Misdeed::LeavesItsBlockAlone,
    Misdeed::FailsInExit,
    Misdeed::PanicsInExit,
];

async fn misbehave(misdeed: Misdeed, notes: &Notes, slot: Slot<Word>) -> Outcome {
    pause().await;
    match misdeed {
        Misdeed::NeverProvides => Ok(()),
        Misdeed::DropsItsSlot => {
            drop(slot);
            pause().await;
            Ok(())
        }
        Misdeed::FailsInSetUp => Err("failed".into()),
        Misdeed::PanicsInSetUp => panic!("panicked"),
        Misdeed::FailsInExit => {
            slot.provide("value").await;
            pause().await;
            Err("failed".into())
        }
        Misdeed::PanicsInExit => {
            slot.provide("value").await;
            pause().await;
            panic!("panicked")
        }
        Misdeed::EndsInUse
        | Misdeed::FailsInUse
        | Misdeed::PanicsInUse
        | Misdeed::LeavesItsBlockAlone => {
            let mut provide = Box::pin(slot.provide("value"));
            while notes.len() < 2 {
                assert!((&mut provide).now_or_never().is_none());
                pause().await;
            }
            match misdeed {
                Misdeed::FailsInUse => Err("failed".into()),
                Misdeed::PanicsInUse => panic!("panicked"),
                Misdeed::LeavesItsBlockAlone => {
                    drop(provide);
                    for _ in 0..50 {
                        pause().await;
                    }
                    notes.add("cleaned up");
                    Ok(())
                }
                _ => Ok(()),
            }
        }
    }
}

type Run<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;
type Way = for<'a> fn(BoxContext<'a, Word, Word>, &'a Notes) -> Run<'a>;

/// The block of each way: waits for ever if the context is to end during it.
async fn block(misdeed_ends_it: bool, notes: &Notes) -> Outcome {
    let _guard = notes.on_drop("block is gone");
    notes.add("block");
    if misdeed_ends_it {
        never().await;
    }
    Ok(())
}

/// A well-behaved neighbor.
async fn neighbor(notes: &Notes, slot: Slot<()>) -> Outcome {
    notes.add("neighbor enters");
    slot.provide(()).await;
    pause().await;
    notes.add("neighbor has exited");
    Ok(())
}

/// What went wrong, whatever the shape of the tree.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Failed,
    NotProvided,
    ContextEnded,
    Cancelled,
    Panicked,
}

fn see(outcome: std::thread::Result<Outcome>) -> Seen {
    match outcome {
        Err(payload) => {
            assert_eq!(text(&*payload), "panicked");
            Seen::Panicked
        }
        Ok(Ok(())) => Seen::Nothing,
        Ok(Err(failure)) => {
            let leaves: Vec<_> = failure.leaves().collect();
            assert_eq!(leaves.len(), 1, "{failure:?}");
            if let Some(cancelled) = leaves[0].as_cancelled() {
                assert_eq!(*cancelled.reason(), CancelReason::ContextEnded);
                return Seen::Cancelled;
            }
            match leaves[0].as_library() {
                Some(LibraryFailure::NotProvided) => Seen::NotProvided,
                Some(LibraryFailure::ContextEnded) => Seen::ContextEnded,
                _ => {
                    assert_eq!(errors(&failure), ["failed"]);
                    Seen::Failed
                }
            }
        }
    }
}

fn ends_the_block(misdeed: Misdeed) -> bool {
    matches!(
        misdeed,
        Misdeed::EndsInUse
            | Misdeed::FailsInUse
            | Misdeed::PanicsInUse
            | Misdeed::LeavesItsBlockAlone
    )
}

fn expected(misdeed: Misdeed) -> Seen {
    match misdeed {
        Misdeed::NeverProvides | Misdeed::DropsItsSlot => Seen::NotProvided,
        Misdeed::FailsInSetUp | Misdeed::FailsInUse | Misdeed::FailsInExit => Seen::Failed,
        Misdeed::PanicsInSetUp | Misdeed::PanicsInUse | Misdeed::PanicsInExit => Seen::Panicked,
        Misdeed::EndsInUse => Seen::ContextEnded,
        Misdeed::LeavesItsBlockAlone => Seen::Cancelled,
    }
}

/// The ways of entering, each with a neighbor that has to exit whatever happens.
fn ways(misdeed_ends_it: bool) -> [(&'static str, Way); 5] {
    // A function pointer captures nothing.
    macro_rules! ways {
        ($ends:literal) => {
            [
                ("with_context", |context, notes| {
                    Box::pin(with_context(
                        acm(|slot| neighbor(notes, slot)),
                        async |()| with_context(context, async |_| block($ends, notes).await).await,
                    ))
                }),
                ("mapped", |context, notes| {
                    Box::pin(with_context(
                        acm(|slot| neighbor(notes, slot)),
                        async |()| {
                            let context = context.map(str::len).map(|n| n + 1);
                            with_context(context, async |_| block($ends, notes).await).await
                        },
                    ))
                }),
                ("gather_contexts", |context, notes| {
                    let neighbor = acm(|slot| neighbor(notes, slot)).map(|()| "neighbor");
                    Box::pin(gather_contexts((neighbor, context), async |_| {
                        block($ends, notes).await
                    }))
                }),
                ("gather_contexts_in", |context, notes| {
                    Box::pin(open_nursery(async move |n: Nursery<'_, Word>| {
                        let neighbor = acm(|slot| neighbor(notes, slot));
                        let (_, guard) = gather_contexts_in(&n, (neighbor, context)).await?;
                        block($ends, notes).await?;
                        drop(guard);
                        Ok(())
                    }))
                }),
                ("open_exit_stack", |context, notes| {
                    Box::pin(open_exit_stack(async move |stack: ExitStack<'_, Word>| {
                        stack.enter(acm(|slot| neighbor(notes, slot))).await?;
                        stack.enter(context).await?;
                        block($ends, notes).await
                    }))
                }),
            ]
        };
    }
    if misdeed_ends_it {
        ways!(true)
    } else {
        ways!(false)
    }
}

#[test]
fn each_misdeed_has_one_outcome_in_each_way_of_entering() {
    for misdeed in ALL {
        for (name, way) in ways(ends_the_block(misdeed)) {
            let (notes, reports) = (Notes::new(), Reports::new());
            let context = acm(|slot| misbehave(misdeed, &notes, slot)).boxed();
            let run = way(context, &notes);
            let outcome = catch_unwind(AssertUnwindSafe(|| ends(reports.settings().run(run))));
            // In a nursery of the caller's nobody but the context itself ends it.
            let is_in_nursery = name == "gather_contexts_in";
            let expected = match expected(misdeed) {
                Seen::Cancelled if is_in_nursery => Seen::ContextEnded,
                expected => expected,
            };
            assert_eq!(see(outcome), expected, "{misdeed:?} in {name}");
            let notes = notes.take();
            let has = |note: &str| notes.iter().filter(|other| *other == note).count();
            assert_eq!(
                has("neighbor has exited"),
                has("neighbor enters"),
                "{misdeed:?} in {name}"
            );
            assert_eq!(has("neighbor enters"), 1, "{misdeed:?} in {name}");
            let runs = usize::from(
                ends_the_block(misdeed)
                    || matches!(misdeed, Misdeed::FailsInExit | Misdeed::PanicsInExit),
            );
            assert_eq!(has("block"), runs, "{misdeed:?} in {name}: {notes:?}");
            assert_eq!(has("block is gone"), runs, "{misdeed:?} in {name}");
            // The block in the middle of a mapped context ends well, and cancels nothing.
            let is_cut_off =
                misdeed == Misdeed::LeavesItsBlockAlone && !is_in_nursery && name != "mapped";
            if misdeed == Misdeed::LeavesItsBlockAlone {
                assert_eq!(has("cleaned up"), usize::from(!is_cut_off), "in {name}");
            }
            // What is cut off is never cut off silently.
            assert_eq!(
                !reports.take().is_empty(),
                is_cut_off,
                "{misdeed:?} in {name}"
            );
        }
    }
}

/// A context that hangs is cancelled like any code before it has provided, and waited for in its exit
#[test]
fn a_context_that_hangs_can_be_cancelled_in_its_set_up_and_is_waited_for_in_its_exit() {
    for (name, way) in ways(false) {
        let (scope, notes) = (CancelScope::new(), Notes::new());
        let hangs = acm(async |slot: Slot<Word>| {
            let _guard = notes.on_drop("set-up dropped");
            never().await;
            slot.provide("value").await;
            Ok(())
        });
        let mut probe = Probe::new(scope.run(way(hangs.boxed(), &notes)));
        probe.waits();
        scope.cancel("stop");
        assert!(probe.ends().is_err(), "{name}");
        assert!(
            notes.take().contains(&"set-up dropped".to_owned()),
            "{name}"
        );
        drop(probe);

        let (scope, reports) = (CancelScope::new(), Reports::new());
        let hangs = acm(async |slot: Slot<Word>| {
            slot.provide("value").await;
            never().await;
            Ok(())
        });
        let run = reports
            .settings()
            .run(scope.run(way(hangs.boxed(), &notes)));
        let mut probe = Probe::new(run);
        probe.waits();
        scope.cancel("stop");
        probe.waits();
        // A grace period, or its end, is the way out.
        scope.end_exit_grace();
        let _ = probe.settle();
        assert!(
            reports
                .take()
                .iter()
                .any(|report| matches!(report, trionics_nursery::Report::OutOfGrace(_))),
            "{name}"
        );
    }
}
