//! Rules 3, 6, 7, 11 and 12 of the design again, with contexts nested five deep and with contexts that hold
//! nurseries.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
};

use trionics_gather::{
    AsyncContext as _, BoxContext, ExitStack, Slot, acm, gather_contexts, nursery_context,
    open_exit_stack, with_context,
};
use trionics_nursery::{CancelScope, Failure, Nursery, Report, open_nursery, shield};

mod common;
use common::{Gate, Notes, Probe, Reports, Word, ends, errors, never, pause, text};

const DEPTH: usize = 5;
const NAMES: [Word; DEPTH] = ["one", "two", "three", "four", "five"];

type Outcome = Result<(), Failure<Word>>;
type Block<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// What a context of the tests does in its exit, besides taking an await.
#[derive(Clone, Copy, Debug, Default)]
struct Exit {
    fails: bool,
    panics: bool,
}

/// How a test goes on.
#[derive(Clone, Default)]
struct Test {
    notes: Notes,
    exit: Exit,
    /// The exits wait for it.
    gate: Gate,
    /// The scope around everything.
    scope: Arc<Mutex<CancelScope>>,
}

impl Test {
    fn new(exit: Exit) -> Self {
        let test = Self {
            exit,
            ..Self::default()
        };
        test.gate.open();
        test
    }

    fn scope(&self) -> CancelScope {
        self.scope.lock().unwrap().clone()
    }

    async fn leave(&self, name: Word) -> Outcome {
        self.gate.wait().await;
        pause().await;
        self.notes.add(format!("{name} has exited"));
        assert!(!self.exit.panics, "{name}");
        if self.exit.fails {
            return Err(name.into());
        }
        Ok(())
    }

    /// A plain context.
    fn plain(&self, name: Word) -> BoxContext<'_, (), Word> {
        acm(async move |slot: Slot<()>| {
            slot.provide(()).await;
            self.leave(name).await
        })
        .boxed()
    }

    /// A context that holds a nursery with a background task, which has a context of its own.
    fn with_nursery(&self, name: Word) -> BoxContext<'_, (), Word> {
        acm(async move |slot: Slot<()>| {
            open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    let background = acm(async |slot: Slot<()>| {
                        slot.provide(()).await;
                        pause().await;
                        self.notes.add("background has exited");
                        Ok(())
                    });
                    with_context(background, async |()| {
                        never().await;
                        Ok(())
                    })
                    .await
                });
                slot.provide(()).await;
                n.cancel("the block has ended");
                // Only the body of the nursery runs the exit.
                shield(self.leave(name)).await
            })
            .await
            .map_err(|failure| {
                let mut errors = failure.into_children().unwrap();
                errors.pop().unwrap()
            })
        })
        .boxed()
    }
}

/// A kind of context.
type Kind = for<'a> fn(&'a Test, Word) -> BoxContext<'a, (), Word>;
/// Nests contexts of a kind, and runs a block with them.
type Nest = for<'a> fn(&'a Test, Kind, Block<'a>) -> Block<'a>;

const KINDS: [(&str, Kind); 4] = [
    ("plain", |test, name| test.plain(name)),
    ("with a nursery", |test, name| test.with_nursery(name)),
    ("mapped", |test, name| test.plain(name).map(|()| ()).boxed()),
    ("mapped, with a nursery", |test, name| {
        test.with_nursery(name).map(|()| ()).boxed()
    }),
];

const NESTS: [(&str, Nest); 4] = [
    ("with_context", |test, kind, block| {
        fn deeper<'a>(test: &'a Test, kind: Kind, depth: usize, block: Block<'a>) -> Block<'a> {
            Box::pin(async move {
                if depth == DEPTH {
                    return block.await;
                }
                with_context(kind(test, NAMES[depth]), async |()| {
                    deeper(test, kind, depth + 1, block).await
                })
                .await
            })
        }
        deeper(test, kind, 0, block)
    }),
    ("gather_contexts", |test, kind, block| {
        fn deeper<'a>(test: &'a Test, kind: Kind, depth: usize, block: Block<'a>) -> Block<'a> {
            Box::pin(async move {
                if depth == DEPTH {
                    return block.await;
                }
                gather_contexts(
                    (kind(test, NAMES[depth]), nursery_context()),
                    async |((), n): ((), Nursery<'a, Word>)| {
                        n.start_soon(async {
                            never().await;
                            Ok(())
                        });
                        deeper(test, kind, depth + 1, block).await
                    },
                )
                .await
            })
        }
        deeper(test, kind, 0, block)
    }),
    ("open_exit_stack", |test, kind, block| {
        Box::pin(open_exit_stack(async move |stack: ExitStack<'_, Word>| {
            for name in NAMES {
                stack.enter(kind(test, name)).await?;
            }
            block.await
        }))
    }),
    ("a context over a context", |test, kind, block| {
        fn over<'a>(test: &'a Test, kind: Kind, depth: usize) -> BoxContext<'a, (), Word> {
            acm(async move |slot: Slot<()>| {
                with_context(kind(test, NAMES[depth]), async |()| {
                    if depth + 1 == DEPTH {
                        slot.provide(()).await;
                        return Ok(());
                    }
                    with_context(over(test, kind, depth + 1), async |()| {
                        slot.provide(()).await;
                        Ok(())
                    })
                    .await
                })
                .await
            })
            .boxed()
        }
        Box::pin(with_context(over(test, kind, 0), async |()| block.await))
    }),
];

/// Runs `check` for all ways of nesting all kinds of contexts.
fn for_all(exit: Exit, mut check: impl FnMut(&str, Test, Nest, Kind)) {
    for (nest_name, nest) in NESTS {
        for (kind_name, kind) in KINDS {
            let name = format!("{kind_name}, {nest_name}");
            check(&name, Test::new(exit), nest, kind);
        }
    }
}

/// The exits that were noted, in order.
fn exits(test: &Test) -> Vec<String> {
    let mut notes = test.notes.take();
    notes.retain(|note| !note.starts_with("background"));
    notes
}

fn inside_out() -> Vec<String> {
    NAMES
        .iter()
        .rev()
        .map(|name| format!("{name} has exited"))
        .collect()
}

/// Rules 3 and 7: exits run from the inside out, each to its end, however the block ends and however often the
/// scope is cancelled
#[test]
fn exits_run_from_the_inside_out_and_are_shielded() {
    for way in ["value", "failure", "cancelled", "panic"] {
        for_all(Exit::default(), |name, test, nest, kind| {
            let scope = test.scope();
            let block: Block<'_> = Box::pin(async {
                pause().await;
                match way {
                    "value" => Ok(()),
                    "failure" => Err("block".into()),
                    "cancelled" => {
                        test.scope().cancel("stop");
                        never().await;
                        unreachable!()
                    }
                    _ => panic!("block"),
                }
            });
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let mut probe = Probe::new(scope.run(nest(&test, kind, block)));
                loop {
                    if let std::task::Poll::Ready(outcome) = probe.poll() {
                        return outcome;
                    }
                    if way == "cancelled" && scope.is_cancelled() {
                        scope.cancel("stop again");
                    }
                    assert!(probe.is_woken(), "{name}: it hangs");
                }
            }));
            match (way, outcome) {
                ("value", Ok(Ok(Ok(())))) | ("cancelled", Ok(Err(_))) => {}
                ("failure", Ok(Ok(Err(failure)))) => {
                    assert_eq!(errors(&failure), ["block"], "{name}");
                }
                ("panic", Err(payload)) => assert_eq!(text(&*payload), "block", "{name}"),
                (_, outcome) => panic!("{name}, {way}: {outcome:?}"),
            }
            assert_eq!(exits(&test), inside_out(), "{name}, {way}");
        });
    }
}

/// Rule 7: an exit that waits is waited for, whatever is cancelled meanwhile
#[test]
fn a_waiting_exit_keeps_everything_around_it_entered() {
    for_all(Exit::default(), |name, mut test, nest, kind| {
        test.gate = Gate::new();
        let scope = test.scope();
        let block: Block<'_> = Box::pin(async {
            never().await;
            Ok(())
        });
        let mut probe = Probe::new(scope.run(nest(&test, kind, block)));
        probe.waits();
        scope.cancel("stop");
        probe.waits();
        scope.cancel("stop again");
        probe.waits();
        assert!(exits(&test).is_empty(), "{name}");
        test.gate.open();
        assert!(probe.ends().is_err(), "{name}");
        assert_eq!(exits(&test), inside_out(), "{name}");
    });
}

/// Rule 6: all failures are heard, those on the way out of a cancellation, too
#[test]
fn every_failing_exit_is_heard_once() {
    let fails = Exit {
        fails: true,
        ..Exit::default()
    };
    for cancelled in [false, true] {
        for_all(fails, |name, test, nest, kind| {
            let (scope, reports) = (test.scope(), Reports::new());
            let block: Block<'_> = Box::pin(async {
                if cancelled {
                    test.scope().cancel("stop");
                    never().await;
                }
                Err("block".into())
            });
            let outcome = ends(reports.settings().run(scope.run(nest(&test, kind, block))));
            let failure = outcome
                .expect("a failure outranks a cancellation")
                .unwrap_err();
            let mut heard = errors(&failure);
            assert_eq!(failure.leaves().count(), heard.len(), "{name}: {failure:?}");
            let mut all: Vec<_> = NAMES.to_vec();
            if !cancelled {
                all.push("block");
            }
            heard.sort_unstable();
            all.sort_unstable();
            assert_eq!(heard, all, "{name}");
            assert_eq!(exits(&test), inside_out(), "{name}");
            let unexpected = reports
                .take()
                .into_iter()
                .find(|report| !matches!(report, Report::FailedUnderCancellation { .. }));
            assert!(unexpected.is_none(), "{name}: {unexpected:?}");
        });
    }
}

/// Rule 11: a foreign drop is reported for each exit that had not run
#[test]
fn a_foreign_drop_reports_each_of_them() {
    for_all(Exit::default(), |name, test, nest, kind| {
        let reports = Reports::new();
        let block: Block<'_> = Box::pin(async {
            never().await;
            Ok(())
        });
        let mut probe = Probe::new(reports.settings().run(nest(&test, kind, block)));
        probe.waits();
        probe.cut();
        let n_dropped = reports
            .take()
            .iter()
            .filter(|report| matches!(report, Report::Dropped(_)))
            .count();
        assert!(n_dropped >= DEPTH, "{name}: {n_dropped}");
        assert!(exits(&test).is_empty(), "{name}");
    });
}

/// Rule 12: a panic anywhere lets every exit around it run, and the first payload is resumed
#[test]
fn a_panic_lets_every_exit_run_and_the_first_one_is_resumed() {
    let panics = Exit {
        panics: true,
        ..Exit::default()
    };
    for in_block in [false, true] {
        for_all(panics, |name, test, nest, kind| {
            let reports = Reports::new();
            let block: Block<'_> = Box::pin(async {
                pause().await;
                assert!(!in_block, "block");
                Ok(())
            });
            let mut probe = Probe::new(reports.settings().run(nest(&test, kind, block)));
            let first = if in_block { "block" } else { "five" };
            assert_eq!(probe.panics(), first, "{name}");
            assert_eq!(exits(&test), inside_out(), "{name}");
            let later = reports
                .take()
                .iter()
                .filter(|report| matches!(report, Report::LaterPanic { .. }))
                .count();
            assert_eq!(later, if in_block { 5 } else { 4 }, "{name}");
        });
    }
}

/// Rules 3 and 7: a background task that fails in the middle unwinds everything inside first
#[test]
fn a_background_task_that_fails_in_the_middle_unwinds_what_is_inside_first() {
    for failing in 0..DEPTH {
        let (test, gate) = (Test::new(Exit::default()), Gate::new());
        fn deeper<'a>(test: &'a Test, gate: &'a Gate, depth: usize, failing: usize) -> Block<'a> {
            Box::pin(async move {
                if depth == DEPTH {
                    gate.open();
                    never().await;
                }
                with_context(test.plain(NAMES[depth]), async |()| {
                    if depth != failing {
                        return deeper(test, gate, depth + 1, failing).await;
                    }
                    with_context(nursery_context(), async |n: Nursery<'a, Word>| {
                        n.start_soon(async {
                            gate.wait().await;
                            Err("background".into())
                        });
                        deeper(test, gate, depth + 1, failing).await
                    })
                    .await
                })
                .await
            })
        }
        let failure = ends(deeper(&test, &gate, 0, failing)).unwrap_err();
        assert_eq!(errors(&failure), ["background"]);
        assert_eq!(failure.leaves().count(), 1, "{failure:?}");
        assert_eq!(exits(&test), inside_out());
    }
}
