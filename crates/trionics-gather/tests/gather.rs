//! The conformance rows of `gather_contexts`, named by their IDs, and what holds for one context alike.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use trionics_errgroup::{LibraryFailure, collapse_eg};
use trionics_gather::{BlockEnd, Slot, acm, gather_contexts, with_context};
use trionics_nursery::{CancelScope, Failure, checkpoint};

mod common;
use common::{
    Gate, Notes, Probe, Reports, Word, ends, errors, never, pause, poll_once, quick, resource, text,
};

/// A context whose set-up takes `rounds` awaits.
fn slow<'a>(
    name: Word,
    rounds: usize,
    notes: &'a Notes,
) -> impl trionics_gather::AsyncContext<Value = Word, Error = Word> + use<'a> {
    acm(async move |slot: Slot<Word>| {
        for _ in 0..rounds {
            pause().await;
        }
        notes.add(format!("{name} has entered"));
        let end = slot.provide(name).await;
        notes.add(format!("{name} sees {end:?}"));
        Ok(())
    })
}

// Entering.

/// G-001
#[test]
fn the_values_come_in_the_order_of_the_contexts() {
    let notes = Notes::new();
    let contexts = vec![
        slow("first", 2, &notes),
        slow("second", 3, &notes),
        slow("third", 1, &notes),
    ];
    let values = ends(gather_contexts(contexts, async |values| {
        assert_eq!(
            notes.take(),
            [
                "third has entered",
                "first has entered",
                "second has entered"
            ]
        );
        Ok(values)
    }));
    assert_eq!(values.unwrap(), ["first", "second", "third"]);
}

/// G-001, for the other kinds of sets
#[test]
fn arrays_give_arrays_and_tuples_give_tuples() {
    let notes = Notes::new();
    let [a, b]: [Word; 2] = ends(gather_contexts(
        [slow("a", 2, &notes), slow("b", 0, &notes)],
        async |values| Ok(values),
    ))
    .unwrap();
    assert_eq!((a, b), ("a", "b"));
    let number = acm(async |slot: Slot<u32>| {
        slot.provide(7).await;
        Ok(())
    });
    let text = acm(async |slot: Slot<String>| {
        pause().await;
        slot.provide("seven".to_owned()).await;
        Ok(())
    });
    let (number, text, word, (c,)) = ends(gather_contexts(
        (number, text, slow("word", 1, &notes)),
        async |(number, text, word)| {
            let (c,) = gather_contexts((slow("c", 1, &notes),), async |one| Ok(one)).await?;
            Ok((number, text, word, (c,)))
        },
    ))
    .unwrap();
    assert_eq!((number, &*text, word, c), (7, "seven", "word", "c"));
}

/// G-001, for the largest tuple
#[test]
fn twelve_contexts_of_different_types_can_be_gathered() {
    macro_rules! context {
        ($value:expr) => {
            acm(async |slot| {
                slot.provide($value).await;
                Ok::<(), Failure<Word>>(())
            })
        };
    }
    let set = (
        context!(0_u8),
        context!(1_u16),
        context!(2_u32),
        context!(3_u64),
        context!(4_i8),
        context!(5_i16),
        context!(6_i32),
        context!(7_i64),
        context!("8"),
        context!('9'),
        context!(true),
        context!(()),
    );
    let values = ends(gather_contexts(set, async |values| Ok(values))).unwrap();
    assert_eq!(values, (0, 1, 2, 3, 4, 5, 6, 7, "8", '9', true, ()));
}

/// G-002
#[test]
fn all_set_ups_are_under_way_together() {
    let (ping, pong) = (Gate::new(), Gate::new());
    let one = acm(async |slot: Slot<()>| {
        ping.open();
        pong.wait().await;
        slot.provide(()).await;
        Ok::<(), Failure<Word>>(())
    });
    let other = acm(async |slot: Slot<()>| {
        ping.wait().await;
        pong.open();
        slot.provide(()).await;
        Ok(())
    });
    // In either order.
    assert_eq!(ends(gather_contexts((one, other), async |_| Ok(7))), Ok(7));
}

/// G-003
#[test]
fn the_body_starts_when_every_context_has_entered() {
    let (notes, gate) = (Notes::new(), Gate::new());
    let late = acm(async |slot: Slot<Word>| {
        gate.wait().await;
        slot.provide("late").await;
        Ok(())
    });
    let mut probe = Probe::new(gather_contexts(
        (slow("early", 0, &notes), late),
        async |_| {
            notes.add("body");
            Ok(())
        },
    ));
    probe.waits();
    assert_eq!(notes.take(), ["early has entered"]);
    gate.open();
    probe.ends().unwrap();
    assert_eq!(notes.take()[0], "body");
}

/// G-004
#[test]
fn empty_values_count_as_entered() {
    let unit = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        Ok::<(), Failure<Word>>(())
    });
    let zero = acm(async |slot: Slot<u32>| {
        slot.provide(0).await;
        Ok(())
    });
    let no = acm(async |slot: Slot<bool>| {
        slot.provide(false).await;
        Ok(())
    });
    let empty = acm(async |slot: Slot<String>| {
        slot.provide(String::new()).await;
        Ok(())
    });
    let none = acm(async |slot: Slot<Option<u32>>| {
        slot.provide(None).await;
        Ok(())
    });
    let set = (unit, zero, no, empty, none);
    let values = ends(gather_contexts(set, async |values| Ok(values)));
    assert_eq!(values.unwrap(), ((), 0, false, String::new(), None));
}

/// G-006
#[test]
fn set_ups_without_an_await_start_the_body_too() {
    let notes = Notes::new();
    for rounds in [[0, 0], [0, 1], [1, 0]] {
        let set = rounds.map(|rounds| slow("it", rounds, &notes));
        let outcome = ends(gather_contexts(set, async |values| Ok(values)));
        assert_eq!(outcome.unwrap(), ["it", "it"]);
    }
}

/// G-007
#[test]
fn an_empty_set_is_refused_at_once() {
    let notes = Notes::new();
    let mut contexts = vec![quick("never entered", &notes)];
    contexts.clear();
    let mut probe = Probe::new(gather_contexts(contexts, async |_| {
        notes.add("body");
        Ok(())
    }));
    let failure = match probe.poll() {
        std::task::Poll::Ready(outcome) => outcome.unwrap_err(),
        std::task::Poll::Pending => panic!("it waits"),
    };
    let leaves: Vec<_> = failure.leaves().collect();
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[0].as_library(), Some(&LibraryFailure::EmptySet));
    assert_eq!(notes.len(), 0);
}

/// G-009
#[test]
fn what_was_gathered_second_has_exited_before_the_first_begins_to_exit() {
    let (notes, gate) = (Notes::new(), Gate::new());
    let opened = Gate::new();
    opened.open();
    let mut probe = Probe::new(gather_contexts(
        [resource("outer", &notes, &opened)],
        async |[outer]| {
            let inner = [resource("inner", &notes, &gate)];
            gather_contexts(inner, async |[inner]| Ok((outer, inner))).await
        },
    ));
    probe.waits();
    assert_eq!(
        notes.take(),
        ["outer enters", "inner enters", "inner sees Completed"]
    );
    gate.open();
    assert_eq!(probe.ends(), Ok(("outer", "inner")));
    assert_eq!(
        notes.take(),
        [
            "inner has exited",
            "outer sees Completed",
            "outer has exited"
        ]
    );
}

// Failure while entering.

/// G-012
#[test]
fn two_failing_set_ups_are_both_heard() {
    let notes = Notes::new();
    let fails = |rounds: usize, word: Word| {
        acm(async move |_: Slot<()>| {
            // Not to be stopped by the other's failure.
            trionics_nursery::shield(async {
                for _ in 0..rounds {
                    pause().await;
                }
            })
            .await;
            Err(word.into())
        })
    };
    let failure = ends(gather_contexts(
        vec![fails(2, "second"), fails(1, "first")],
        async |_| {
            notes.add("body");
            Ok(())
        },
    ))
    .unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["first", "second"]);
    assert_eq!(notes.len(), 0);
}

/// G-012, G-023: one fails, one has entered, one is entering
#[test]
fn a_failing_set_up_leaves_what_has_entered_and_stops_what_is_entering() {
    let notes = Notes::new();
    let fails = acm(async |_: Slot<()>| {
        pause().await;
        Err("no route".into())
    });
    let entering = acm(async |slot: Slot<()>| {
        let _guard = notes.on_drop("entering dropped");
        never().await;
        slot.provide(()).await;
        notes.add("never");
        Ok(())
    });
    let failure = ends(gather_contexts(
        (quick("entered", &notes), fails, entering),
        async |_| {
            notes.add("body");
            Ok(())
        },
    ))
    .unwrap_err();
    assert_eq!(errors(&failure), ["no route"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(
        notes,
        [
            "entered enters",
            "entered has exited",
            "entered sees Cancelled",
            "entering dropped"
        ]
    );
}

/// G-013
#[test]
fn cancelled_while_some_have_entered_and_some_are_entering() {
    let scope = CancelScope::new();
    let (notes, exit) = (Notes::new(), Gate::new());
    let entering = acm(async |slot: Slot<()>| {
        let _guard = notes.on_drop("entering dropped");
        never().await;
        slot.provide(()).await;
        Ok(())
    });
    let mut probe = Probe::new(scope.run(gather_contexts(
        (resource("entered", &notes, &exit), entering),
        async |_| {
            notes.add("body");
            Ok(())
        },
    )));
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    let mut so_far = notes.take();
    so_far.sort();
    assert_eq!(
        so_far,
        [
            "entered enters",
            "entered sees Cancelled",
            "entering dropped"
        ]
    );
    exit.open();
    assert!(probe.ends().is_err());
    assert!(scope.is_caught());
    assert_eq!(notes.take(), ["entered has exited"]);
}

// Leaving.

/// G-014
#[test]
fn after_a_body_that_returned_the_contexts_see_a_normal_end_and_are_waited_for() {
    let (notes, exits) = (Notes::new(), [Gate::new(), Gate::new()]);
    let mut probe = Probe::new(gather_contexts(
        [
            resource("a", &notes, &exits[0]),
            resource("b", &notes, &exits[1]),
        ],
        async |_| Ok(7),
    ));
    probe.waits();
    assert_eq!(
        notes.take(),
        [
            "a enters",
            "b enters",
            "a sees Completed",
            "b sees Completed"
        ]
    );
    exits[1].open();
    probe.waits();
    exits[0].open();
    assert_eq!(probe.ends(), Ok(7));
    assert_eq!(notes.take(), ["b has exited", "a has exited"]);
}

/// G-016
#[test]
fn after_a_body_that_failed_every_exit_runs_to_its_end_and_is_not_told_the_error() {
    let (notes, exit) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(gather_contexts(
        [resource("a", &notes, &exit), resource("b", &notes, &exit)],
        async |_| Err::<(), _>("body".into()),
    ));
    probe.waits();
    notes.take();
    exit.open();
    let failure = probe.ends().unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["body"]);
    assert_eq!(failure.leaves().count(), 1);
    assert_eq!(notes.take(), ["a has exited", "b has exited"]);
}

/// G-016, adapted 22: the four endings
#[test]
fn an_exit_is_told_how_the_block_ended() {
    type Block = fn(CancelScope) -> futures::future::BoxFuture<'static, Result<(), Failure<Word>>>;
    let cases: [(Block, BlockEnd); 4] = [
        (|_| Box::pin(async { Ok(()) }), BlockEnd::Completed),
        (
            |_| Box::pin(async { Err("failed".into()) }),
            BlockEnd::Failed,
        ),
        (
            |scope| {
                Box::pin(async move {
                    scope.cancel("stop");
                    checkpoint().await;
                    Ok(())
                })
            },
            BlockEnd::Cancelled,
        ),
        (
            |_| Box::pin(async { panic!("panicked") }),
            BlockEnd::Panicked,
        ),
    ];
    for (block, expected) in cases {
        let scope = CancelScope::new();
        let mut seen = None;
        let context = acm(async |slot: Slot<()>| {
            seen = Some(slot.provide(()).await);
            Ok(())
        });
        let _ = catch_unwind(AssertUnwindSafe(|| {
            ends(scope.run(with_context(context, async |()| block(scope.clone()).await)))
        }));
        assert_eq!(seen, Some(expected));
    }
}

/// G-019
#[test]
fn a_successful_exit_suppresses_neither_the_bodys_nor_a_siblings_error() {
    let notes = Notes::new();
    let failing_exit = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        Err("sibling".into())
    });
    let failure = ends(gather_contexts(
        (quick("swallows", &notes), failing_exit),
        async |_| Err::<(), _>("body".into()),
    ))
    .unwrap_err();
    assert_eq!(errors(&failure), ["body", "sibling"]);
}

/// G-022
#[test]
fn a_failing_body_comes_out_bare_when_collapsed() {
    let notes = Notes::new();
    let failure = ends(gather_contexts(
        [quick("a", &notes), quick("b", &notes)],
        async |_| {
            pause().await;
            Err::<(), _>("the body's".into())
        },
    ))
    .unwrap_err();
    assert_eq!(collapse_eg(failure).into_leaf().unwrap(), "the body's");
    let failure = ends(with_context(quick("a", &notes), async |_| {
        Err::<(), _>("the body's".into())
    }))
    .unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "the body's");
}

/// G-023
#[test]
fn on_every_way_out_every_exit_runs_once() {
    for way in ["value", "error", "stop", "panic"] {
        let scope = CancelScope::new();
        let notes = Notes::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            ends(scope.run(gather_contexts(
                [quick("a", &notes), quick("b", &notes), quick("c", &notes)],
                async |_| {
                    pause().await;
                    match way {
                        "value" => Ok(7),
                        "error" => Err("error".into()),
                        "stop" => {
                            scope.cancel("stop");
                            pause().await;
                            Ok(8)
                        }
                        _ => panic!("panic"),
                    }
                },
            )))
        }));
        match (way, outcome) {
            ("value", Ok(Ok(Ok(7)))) | ("stop", Ok(Err(_))) => {}
            ("error", Ok(Ok(Err(failure)))) => assert_eq!(errors(&failure), ["error"]),
            ("panic", Err(payload)) => assert_eq!(text(&*payload), "panic"),
            (_, outcome) => panic!("{way}: {outcome:?}"),
        }
        let notes = notes.take();
        for name in ["a", "b", "c"] {
            let n_exits = notes
                .iter()
                .filter(|note| **note == format!("{name} has exited"))
                .count();
            assert_eq!(n_exits, 1, "{way}: {notes:?}");
        }
    }
}

/// Adapted 23: the same value comes out
#[test]
fn an_error_keeps_its_identity() {
    #[derive(Debug)]
    struct Unique(Box<u32>);
    let error = Unique(Box::new(7));
    let address = std::ptr::from_ref(&*error.0);
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        Ok(())
    });
    let failure = ends(with_context(context, async |()| Err::<(), _>(error.into()))).unwrap_err();
    let error = failure.into_leaf().unwrap();
    assert!(std::ptr::eq(&*error.0, address));
    assert_eq!(*error.0, 7);
}

/// The errors of an exit are told what was pending when they arose
#[test]
fn a_failing_exit_carries_the_bodys_failure_as_its_context() {
    let context = acm(async |slot: Slot<()>| {
        slot.provide(()).await;
        Err::<(), Failure<Word>>("b".into())
    });
    let failure = ends(with_context(context, async |()| Err::<(), _>("a".into()))).unwrap_err();
    assert_eq!(errors(&failure), ["a", "b"]);
    let [a, b] = failure.children() else {
        panic!("{failure:?}");
    };
    assert!(a.context().is_none());
    let handled = b.context().expect("`b` arose while `a` was handled");
    let handled = handled.node().or_else(|| handled.find_in(&failure));
    assert_eq!(handled.and_then(|node| node.as_leaf()), Some(&"a"));
}

// A context that does not keep to the protocol.

#[test]
fn a_context_that_ends_without_providing_is_a_failure_that_says_so() {
    let notes = Notes::new();
    let forgets = acm(async |_: Slot<()>| {
        pause().await;
        Ok::<(), Failure<Word>>(())
    });
    let failure = ends(with_context(forgets, async |()| {
        notes.add("block");
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.as_library(), Some(&LibraryFailure::NotProvided));
    assert_eq!(notes.len(), 0);
}

#[test]
fn a_context_that_ends_during_the_block_stops_it_and_says_so() {
    let notes = Notes::new();
    let leaves = acm(async |slot: Slot<Word>| {
        let mut provide = Box::pin(slot.provide("gone soon"));
        assert!(poll_once(&mut provide).await.is_none());
        Err("the context gave up".into())
    });
    let failure = ends(gather_contexts((leaves, quick("a", &notes)), async |_| {
        let _guard = notes.on_drop("block dropped");
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["the context gave up"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
    let notes = notes.take();
    assert_eq!(notes[..1], ["a enters"]);
    assert!(notes.contains(&"a has exited".to_owned()));
}

#[test]
fn a_slot_that_is_dropped_makes_the_block_impossible() {
    let notes = Notes::new();
    let drops = acm(async |slot: Slot<()>| {
        drop(slot);
        pause().await;
        Err::<(), Failure<Word>>("own reason".into())
    });
    let failure = ends(with_context(drops, async |()| {
        notes.add("block");
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.into_leaf().unwrap(), "own reason");
    assert_eq!(notes.len(), 0);
}

#[test]
fn a_context_may_provide_from_inside_a_foreign_combinator() {
    let notes = Notes::new();
    let context = acm(async |slot: Slot<()>| {
        let heartbeat = async {
            loop {
                pause().await;
            }
        };
        // The heartbeat beats while the block runs and ends with it.
        let provide = std::pin::pin!(slot.provide(()));
        let heartbeat = std::pin::pin!(heartbeat);
        futures::future::select(provide, heartbeat).await;
        pause().await;
        notes.add("exit");
        Ok::<(), Failure<Word>>(())
    });
    ends(with_context(context, async |()| {
        pause().await;
        pause().await;
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["exit"]);
}

// Values.

#[test]
fn a_value_that_was_provided_and_never_used_is_dropped() {
    let value = Arc::new(());
    let given = Arc::clone(&value);
    let provides = acm(async |slot: Slot<Arc<()>>| {
        slot.provide(given).await;
        Ok(())
    });
    let fails = acm(async |_: Slot<()>| {
        pause().await;
        Err::<(), Failure<Word>>("no".into())
    });
    let failure = ends(gather_contexts((provides, fails), async |_| Ok(()))).unwrap_err();
    assert_eq!(errors(&failure), ["no"]);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn the_block_has_dropped_its_values_before_the_exits_begin() {
    let value = Arc::new(());
    let given = Arc::clone(&value);
    let context = acm(async |slot: Slot<Arc<()>>| {
        slot.provide(given).await;
        assert_eq!(Arc::strong_count(&value), 1);
        Ok::<(), Failure<Word>>(())
    });
    ends(with_context(context, async |value| {
        pause().await;
        let _ = &value;
        Ok(())
    }))
    .unwrap();
}

#[test]
fn contexts_and_blocks_may_borrow() {
    let mut table = vec![1, 2, 3];
    let reports = Reports::new();
    let borrowed = &table;
    let context = acm(async |slot: Slot<&Vec<u32>>| {
        slot.provide(borrowed).await;
        pause().await;
        Ok::<(), Failure<Word>>(())
    });
    let sum = ends(reports.settings().run(with_context(context, async |table| {
        pause().await;
        Ok(table.iter().sum::<u32>())
    })));
    assert_eq!(sum, Ok(6));
    table.push(4);
    let context = acm(async |slot: Slot<&mut Vec<u32>>| {
        slot.provide(&mut table).await;
        Ok::<(), Failure<Word>>(())
    });
    ends(with_context(context, async |table| {
        table.push(5);
        Ok(())
    }))
    .unwrap();
    assert_eq!(table, [1, 2, 3, 4, 5]);
}

/// A value that no block came to take is gone when the exit begins.
#[test]
fn a_value_that_no_block_took_is_gone_before_the_exit() {
    let value = Arc::new(());
    let kept = Arc::clone(&value);
    let provides = acm(async move |slot: Slot<Arc<()>>| {
        let weak = Arc::downgrade(&value);
        slot.provide(value).await;
        assert_eq!(weak.strong_count(), 1);
        Ok(())
    });
    let fails = acm(async |_slot: Slot<()>| {
        checkpoint().await;
        Err(Failure::leaf("refused"))
    });
    let never = async |_values: (Arc<()>, ())| Ok::<(), Failure<&str>>(());
    let outcome = futures::executor::block_on(gather_contexts((provides, fails), never));
    assert_eq!(outcome.unwrap_err().errors().count(), 1);
    assert_eq!(Arc::strong_count(&kept), 1);
}
