//! Nurseries: who is waited for, who fails, in which order, and how often somebody is polled and woken.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures::{FutureExt as _, StreamExt as _, poll, stream::FuturesUnordered};
use trionics_nursery::{
    CancelReason, CancelScope, ChildEnded, Failure, Finish, LocalNursery, Nursery, NurseryOptions,
    checkpoint, maybe_open_nursery, open_local_nursery, open_nursery, shield,
};

use crate::common::{
    Drawer, Gate, Notes, OnDrop, Probe, Word, ends, errors, lone_cancelled, never, panic_of, pause,
};

/// An open nursery that waits for `end`, and its handle.
fn opened<'a>(
    options: NurseryOptions,
    end: &Gate,
) -> (Probe<'a, Result<(), Failure<Word>>>, Nursery<'a, Word>) {
    let (handle, end) = (Drawer::new(), end.clone());
    let to = handle.clone();
    let mut nursery = Probe::new(options.open(async move |n: Nursery<'a, Word>| {
        to.put(n);
        end.wait().await;
        Ok(())
    }));
    nursery.waits();
    (nursery, handle.take())
}

/// FuturesUnordered: children that are added to a parked set wake it once, however many they are.
#[test]
fn children_started_from_outside_wake_the_nursery_once() {
    let end = Gate::new();
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    for _ in 0..10 {
        n.start_soon(async { Ok(()) });
    }
    assert_eq!(nursery.n_wakes(), 1);
    nursery.waits();
    assert_eq!(n.n_children(), 0);
    end.open();
    nursery.ends().unwrap();
}

/// FuturesUnordered: ten children woken between two polls wake the task once, and are polled once each.
#[test]
fn children_woken_together_wake_the_nursery_once() {
    let (end, gate, n_polls) = (Gate::new(), Gate::new(), AtomicUsize::new(0));
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    for _ in 0..10 {
        n.start_soon(async {
            let mut waits = gate.wait();
            std::future::poll_fn(|cx| {
                n_polls.fetch_add(1, Ordering::Relaxed);
                waits.poll_unpin(cx)
            })
            .await;
            Ok(())
        });
    }
    nursery.waits();
    assert_eq!(n_polls.swap(0, Ordering::Relaxed), 10);
    gate.open();
    assert_eq!(nursery.n_wakes(), 1);
    let n_polls_before = nursery.n_polls();
    nursery.waits();
    assert_eq!(n_polls.load(Ordering::Relaxed), 10);
    assert!(nursery.n_polls() - n_polls_before <= 2, "no spinning");
    end.open();
    nursery.ends().unwrap();
}

/// tokio's JoinSet: waiting for children that wait costs nothing: a poll that finds nobody woken wakes nobody.
#[test]
fn a_nursery_of_waiting_children_does_not_wake_itself() {
    let end = Gate::new();
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    for _ in 0..3 {
        n.start_soon(never().map(Ok));
    }
    nursery.waits();
    for _ in 0..3 {
        assert!(nursery.poll().is_pending());
        assert_eq!(nursery.n_wakes(), 0);
    }
}

/// async_nursery and moro: one child hands its value to another over a channel, whichever was started first.
#[test]
fn children_that_wait_for_each_other_end_in_both_orders() {
    for first_waits in [true, false] {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
            let waits = async { receiver.await.map_err(|_| "closed".into()) };
            let sends = async {
                sender.send(7).unwrap();
                Ok(())
            };
            let handle = if first_waits {
                let handle = n.spawn(waits);
                n.start_soon(sends);
                handle
            } else {
                n.start_soon(sends);
                n.spawn(waits)
            };
            Ok(handle.await.unwrap())
        }));
        assert_eq!(outcome.unwrap(), 7);
    }
}

/// anyio: a child that fails while the body is in a shielded part lets it finish that part, and its error alone comes out.
#[test]
fn a_failing_child_lets_the_body_finish_its_shielded_part() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            pause().await;
            Err("child".into())
        });
        shield(gate.wait()).await;
        notes.add("finished");
        never().await;
        Ok(())
    }));
    task.waits();
    gate.open();
    assert_eq!(errors(&task.ends().unwrap_err()), ["child"]);
    assert_eq!(notes.take(), ["finished"]);
}

/// asyncio's TaskGroup: three children and the body that fail in one and the same poll are four errors, in the order in
/// which they failed.
#[test]
fn failures_of_one_poll_are_all_there_in_their_order() {
    let gate = Gate::new();
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for name in ["first", "second", "third"] {
            let gate = &gate;
            n.start_soon(async move {
                gate.wait().await;
                Err(name.into())
            });
        }
        gate.wait().await;
        Err::<(), _>("body".into())
    }));
    task.waits();
    gate.open();
    let failure = match task.poll() {
        std::task::Poll::Ready(outcome) => outcome.unwrap_err(),
        std::task::Poll::Pending => task.ends().unwrap_err(),
    };
    let mut failed = errors(&failure);
    assert_eq!(failed.len(), 4);
    failed.retain(|word| *word != "body");
    assert_eq!(failed, ["first", "second", "third"]);
}

/// asyncio's TaskGroup: a group within a group, both of which fail while an outer cancel is under way: every error comes out.
#[test]
fn nested_nurseries_that_fail_during_an_outer_cancel_lose_nothing() {
    let scope = CancelScope::new();
    async fn fails_late(name: Word) -> Result<(), Failure<Word>> {
        shield(pause()).await;
        let result: Result<(), Failure<Word>> = shield(async { Err(name.into()) }).await;
        result
    }
    let mut task = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(fails_late("inner child"));
            fails_late("inner body").await
        }));
        fails_late("outer body").await
    })));
    assert!(task.poll().is_pending());
    scope.cancel("stop");
    let failure = task.ends().unwrap().unwrap_err();
    let mut failed = errors(&failure);
    failed.sort_unstable();
    assert_eq!(failed, ["inner body", "inner child", "outer body"]);
}

/// tokio's JoinSet, `abort_all` and then `join_next`: whoever waits in a shielded part is told of each child, those that
/// had finished by their values.
#[test]
fn after_a_cancel_a_shielded_body_learns_how_each_child_ended() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let handles: Vec<_> = (0..10)
            .map(|number| {
                n.spawn(async move {
                    if number >= 5 {
                        never().await;
                    }
                    Ok(number)
                })
            })
            .collect();
        pause().await;
        pause().await;
        n.cancel("enough");
        let mut ended = Vec::new();
        shield(async {
            for handle in handles {
                ended.push(handle.await);
            }
        })
        .await;
        Ok(ended)
    }));
    let ended = outcome.unwrap();
    for (number, end) in ended.into_iter().enumerate() {
        let expected = if number < 5 {
            Ok(number)
        } else {
            Err(ChildEnded::Cancelled)
        };
        assert_eq!(end, expected);
    }
}

/// tokio's JoinSet and FuturesUnordered: an empty set yields `None` at once, goes on when it is filled, and says `None` again.
#[test]
fn results_end_and_begin_again() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (sink, mut results) = n.results();
        for round in 0..3 {
            assert_eq!(poll!(results.next()), std::task::Poll::Ready(None));
            assert_eq!(results.n_running(), 0);
            n.spawn_into(&sink, async move {
                pause().await;
                Ok(round)
            });
            assert_eq!(results.n_running(), 1);
            assert!(poll!(results.next()).is_pending());
            assert_eq!(results.next().await, Some(Ok(round)));
        }
        Ok(())
    }));
    outcome.unwrap();
}

/// tokio's JoinSet: a set that is awaited while children are started by other children goes on until the last one.
#[test]
fn results_include_what_children_start_later() {
    fn grow<'env>(
        n: Nursery<'env, Word>,
        sink: Arc<trionics_nursery::ResultsSink<u32>>,
        number: u32,
    ) {
        let again = n.clone();
        n.spawn_into(&Arc::clone(&sink), async move {
            pause().await;
            if number < 5 {
                grow(again, sink, number + 1);
            }
            Ok(number)
        });
    }
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (sink, results) = n.results();
        grow(n.clone(), Arc::new(sink), 0);
        Ok(results.map(Result::unwrap).collect::<Vec<_>>().await)
    }));
    assert_eq!(outcome.unwrap(), [0, 1, 2, 3, 4, 5]);
}

/// Kotlin's supervisorScope: a failing child leaves its siblings alone, a failing body stops them, and all is reported.
#[test]
fn a_supervising_nursery_whose_body_fails_stops_the_rest() {
    let notes = Notes::new();
    let failure = ends(
        NurseryOptions::new()
            .supervise()
            .open(async |n: Nursery<'_, Word>| {
                n.start_soon(async { Err("child".into()) });
                let notes = &notes;
                n.start_soon(async move {
                    let _guard = notes.on_drop("stopped");
                    pause().await;
                    pause().await;
                    notes.add("was left alone");
                    never().await;
                    Ok(())
                });
                for _ in 0..5 {
                    pause().await;
                }
                Err::<(), _>("body".into())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["child", "body"]);
    assert_eq!(notes.take(), ["was left alone", "stopped"]);
}

/// Kotlin: a supervising nursery inside a plain one keeps a failure to itself until it ends; then it is the outer one's.
#[test]
fn a_supervising_nursery_holds_a_failure_back_from_the_outer_one_until_it_ends() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut task =
        Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(NurseryOptions::new().supervise().open(
                async |inner: Nursery<'_, Word>| {
                    inner.start_soon(async { Err("inner child".into()) });
                    gate.wait().await;
                    notes.add("inner body");
                    Ok(())
                },
            ));
            let _guard = notes.on_drop("outer body stopped");
            never().await;
            Ok(())
        }));
    task.waits();
    assert!(notes.take().is_empty());
    gate.open();
    assert_eq!(errors(&task.ends().unwrap_err()), ["inner child"]);
    assert_eq!(notes.take(), ["inner body", "outer body stopped"]);
}

/// Kotlin's and trio's limiters: a place is free when the child that had it has ended, its exit included, not when it is
/// cancelled.
#[test]
fn a_cancelled_child_keeps_its_place_until_its_exit_is_over() {
    let (end, gate, notes) = (Gate::new(), Gate::new(), Notes::new());
    let (mut nursery, n) = opened(NurseryOptions::new().limit(1), &end);
    let first = n.spawn(async {
        let mut exit = std::pin::pin!(shield(gate.wait()));
        exit.as_mut().await;
        never().await;
        Ok(())
    });
    n.start_soon(async {
        notes.add("second");
        Ok(())
    });
    nursery.waits();
    assert_eq!(n.n_children(), 2);
    first.cancel("make room");
    nursery.waits();
    assert!(notes.take().is_empty(), "the first one is still unwinding");
    gate.open();
    nursery.waits();
    assert_eq!(notes.take(), ["second"]);
    assert_eq!(ends(first), Err(ChildEnded::Cancelled));
    end.open();
    nursery.ends().unwrap();
}

/// A limit, and a nursery that fails while others queue: those that queue run to their first await, and hang nobody.
#[test]
fn a_failure_under_a_limit_ends_those_that_queue() {
    let notes = Notes::new();
    let failure = ends(
        NurseryOptions::new()
            .limit(1)
            .open(async |n: Nursery<'_, Word>| {
                let notes = &notes;
                n.start_soon(async {
                    pause().await;
                    Err("first".into())
                });
                for index in 0..3 {
                    n.start_soon(async move {
                        let _guard = notes.on_drop(&format!("{index} dropped"));
                        notes.add(format!("{index} began"));
                        never().await;
                        Ok(())
                    });
                }
                never().await;
                Ok(())
            }),
    )
    .unwrap_err();
    assert_eq!(errors(&failure), ["first"]);
    let expected = [
        "0 began",
        "0 dropped",
        "1 began",
        "1 dropped",
        "2 began",
        "2 dropped",
    ];
    assert_eq!(notes.take(), expected);
}

/// moro: a job that ends the outer scope from inside an inner one stops both, and the value is the outer one's.
#[test]
fn finishing_the_outer_of_two_nurseries_from_the_inner_one() {
    let notes = Notes::new();
    let outcome = ends(NurseryOptions::new().open_finishing(
        async |n: Nursery<'_, Word>, outer: Finish<&'static str>| {
            let notes = &notes;
            n.start_soon(async move {
                let _ = NurseryOptions::new()
                    .open_finishing(async |n: Nursery<'_, Word>, _inner: Finish<()>| {
                        n.start_soon(async {
                            let _guard = notes.on_drop("leaf");
                            pause().await;
                            match outer.finish("from the leaf").await {}
                        });
                        let _guard = notes.on_drop("inner body");
                        never().await;
                        Ok(())
                    })
                    .await;
                notes.add("not reached");
                Ok(())
            });
            let _guard = notes.on_drop("outer body");
            never().await;
            Ok("from the body")
        },
    ));
    assert_eq!(outcome.unwrap(), "from the leaf");
    let mut dropped = notes.take();
    dropped.sort();
    assert_eq!(dropped, ["inner body", "leaf", "outer body"]);
}

/// moro: the value that ends the scope comes from a thread that has the handle, between two polls.
#[test]
fn a_nursery_is_finished_from_a_thread() {
    let finish = Drawer::new();
    let to = finish.clone();
    let mut task = Probe::new(NurseryOptions::new().open_finishing(
        async |_n: Nursery<'_, Word>, finish: Finish<u32>| {
            to.put(finish);
            never().await;
            Ok(0)
        },
    ));
    task.waits();
    let finish: Finish<u32> = finish.take();
    thread::spawn(move || assert!(finish.finish(7).now_or_never().is_none()))
        .join()
        .unwrap();
    assert!(task.is_woken());
    assert_eq!(task.ends().unwrap(), 7);
}

/// Swift's task groups: a child added to a cancelled group begins, learns at once that it is not wanted, and may return a value.
#[test]
fn a_child_added_to_a_cancelled_nursery_may_still_give_its_value() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel("stop");
        let handle = n.spawn(async { Ok(trionics_nursery::is_cancel_requested()) });
        Ok(shield(handle).await.unwrap())
    }));
    assert!(outcome.unwrap());
}

/// Swift: the value of a body that returns after it has cancelled the group is the group's.
#[test]
fn a_body_that_cancels_its_children_and_returns_gives_its_value() {
    let notes = Notes::new();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let notes = &notes;
        for index in 0..3 {
            n.start_soon(async move {
                let _guard = notes.on_drop(&format!("{index}"));
                never().await;
                Ok(())
            });
        }
        pause().await;
        n.cancel("no longer needed");
        Ok("value")
    }));
    assert_eq!(outcome.unwrap(), "value");
    assert_eq!(notes.take().len(), 3);
}

/// Swift's discarding group: thousands of short children, one after the other, leave nothing behind.
#[test]
fn children_that_have_ended_leave_nothing_behind() {
    let tracker = Arc::new(());
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..10_000 {
            let its_own = Arc::clone(&tracker);
            n.start_soon(async move {
                let _tracker = its_own;
                Ok(())
            });
            pause().await;
            assert!(Arc::strong_count(&tracker) <= 2);
        }
        Ok(())
    }));
    outcome.unwrap();
    assert_eq!(Arc::strong_count(&tracker), 1);
}

/// A child that keeps the handle to itself, and one that keeps its nursery's, are freed with the nursery.
#[test]
fn children_that_hold_their_own_handles_are_freed() {
    let tracker = Arc::new(());
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let own = Drawer::new();
        let (its_own, of_nursery, its_tracker) = (own.clone(), n.clone(), Arc::clone(&tracker));
        let handle = n.spawn(async move {
            let _kept = (&its_own, &of_nursery);
            pause().await;
            Ok(its_tracker)
        });
        own.put(handle);
        Ok(())
    }))
    .unwrap();
    assert_eq!(Arc::strong_count(&tracker), 1);
}

/// tokio's JoinHandle: a value that nobody fetches is dropped with its handle, wherever that is, and not before.
#[test]
fn an_unfetched_value_lives_as_long_as_its_handle() {
    let (notes, kept) = (Notes::new(), Drawer::new());
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let value = notes.on_drop("kept value");
        kept.put(n.spawn(async move { Ok(value) }));
        let value = notes.on_drop("unwanted value");
        drop(n.spawn(async move { Ok(value) }));
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["unwanted value"]);
    thread::spawn(move || drop(kept)).join().unwrap();
    assert_eq!(notes.take(), ["kept value"]);
}

/// tokio, a task whose output panics when it is dropped: with no handle left, the panic is the nursery's, as any of a child.
#[test]
fn the_panic_of_an_unwanted_values_drop_is_a_panic_of_the_child() {
    let notes = Notes::new();
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        drop(n.spawn(async {
            pause().await;
            Ok(OnDrop::new(|| panic!("unwanted")))
        }));
        let _guard = notes.on_drop("body stopped");
        never().await;
        Ok(())
    }));
    assert_eq!(task.panics(), "unwanted");
    assert_eq!(notes.take(), ["body stopped"]);
}

/// FuturesUnordered inside a nursery's body and the other way round: both are driven.
#[test]
fn nurseries_in_an_unordered_set() {
    let set: FuturesUnordered<_> = (0..20)
        .map(|number| {
            open_nursery(async move |n: Nursery<'_, Word>| {
                let handle = n.spawn(async move {
                    for _ in 0..number % 5 {
                        pause().await;
                    }
                    Ok(number)
                });
                Ok(handle.await.unwrap())
            })
        })
        .collect();
    let mut numbers: Vec<_> = ends(set.map(Result::unwrap).collect());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

/// trio, `nursery.cancel_scope.shield`: a nursery that raises its shield while an outer cancel waits for its body finishes
/// its children, and lowering it stops them.
#[test]
fn a_nursery_that_raises_its_shield_in_cancelled_code_keeps_its_children() {
    let (outer, notes, gate) = (CancelScope::new(), Notes::new(), Gate::new());
    outer.cancel("before");
    let mut task = Probe::new(outer.run(open_nursery(async |n: Nursery<'_, Word>| {
        n.cancel_scope().set_shielded(true);
        n.start_soon(async {
            gate.wait().await;
            notes.add("child");
            Ok(())
        });
        gate.wait().await;
        notes.add("body");
        n.cancel_scope().set_shielded(false);
        never().await;
        Ok(())
    })));
    task.waits();
    gate.open();
    assert!(task.ends().is_err());
    let mut notes = notes.take();
    notes.sort();
    assert_eq!(notes, ["body", "child"]);
}

/// trio: cancelling a nursery twice, from its child and from outside at once, is one cancellation.
#[test]
fn the_first_of_two_cancels_of_a_nursery_is_the_reason() {
    let end = Gate::new();
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let again = n.clone();
    n.start_soon(async move {
        assert!(!again.cancel("second"));
        never().await;
        Ok(())
    });
    assert!(n.cancel("first"));
    let failure = nursery.ends().unwrap_err();
    assert_eq!(
        lone_cancelled(&failure).reason(),
        &CancelReason::Explicit("first".into())
    );
}

/// tractor's `maybe_open_nursery`: the block may start children in a nursery that is passed down three levels, and only the
/// one that opened it waits.
#[test]
fn a_nursery_handed_down_three_levels_is_waited_for_at_the_top() {
    async fn level<'env>(
        given: Option<Nursery<'env, Word>>,
        depth: u32,
        notes: &'env Notes,
        gate: &'env Gate,
    ) -> Result<(), Failure<Word>> {
        maybe_open_nursery(given, async |n: Nursery<'env, Word>| {
            n.start_soon(async move {
                gate.wait().await;
                notes.add(format!("child {depth}"));
                Ok(())
            });
            if depth < 3 {
                Box::pin(level(Some(n), depth + 1, notes, gate)).await?;
            }
            notes.add(format!("block {depth}"));
            Ok(())
        })
        .await
    }
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut task = Probe::new(level(None, 1, &notes, &gate));
    task.waits();
    assert_eq!(notes.take(), ["block 3", "block 2", "block 1"]);
    gate.open();
    task.ends().unwrap();
    assert_eq!(notes.take(), ["child 1", "child 2", "child 3"]);
}

/// tokio's LocalSet: children that are not `Send` share an `Rc` and see each other's writes in order.
#[test]
fn local_children_share_what_cannot_be_sent() {
    let cell = Rc::new(Cell::new(0));
    ends(open_local_nursery(async |n: LocalNursery<'_, Word>| {
        for step in 1..=3 {
            let cell = Rc::clone(&cell);
            n.start_soon(async move {
                for _ in 0..step {
                    checkpoint().await;
                }
                cell.set(cell.get() * 10 + step);
                Ok(())
            });
        }
        n.wait_idle().await;
        assert_eq!(cell.get(), 123);
        Ok(())
    }))
    .unwrap();
    assert_eq!(Rc::strong_count(&cell), 1);
}

/// A body that gives its handle to a thread, which starts children until the nursery refuses; each that was taken runs.
#[test]
fn a_thread_starts_children_until_the_nursery_closes() {
    let n_run = AtomicUsize::new(0);
    let n_taken = thread::scope(|threads| {
        let (to_thread, from_body) = std::sync::mpsc::channel::<Nursery<'_, Word>>();
        let n_run = &n_run;
        let thread = threads.spawn(move || {
            let n = from_body.recv().unwrap();
            let mut n_taken = 0;
            while n
                .try_start_soon(async move {
                    n_run.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
                .is_ok()
            {
                n_taken += 1;
            }
            n_taken
        });
        futures::executor::block_on(open_nursery(async move |n: Nursery<'_, Word>| {
            to_thread.send(n).unwrap();
            for _ in 0..100 {
                pause().await;
            }
            Ok(())
        }))
        .unwrap();
        thread.join().unwrap()
    });
    assert_eq!(n_run.load(Ordering::SeqCst), n_taken);
}

/// A child whose `Drop` waits for nobody but looks at its nursery: counts and questions may be asked from there.
#[test]
fn a_drop_may_ask_its_nursery() {
    let notes = Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..2 {
            let (of_nursery, notes) = (n.clone(), notes.clone());
            n.start_soon(async move {
                let _guard = OnDrop::new(move || {
                    notes.add(format!("{}", of_nursery.n_children()));
                    let _text = format!("{of_nursery:?}");
                    let _scope = of_nursery.cancel_scope().is_cancelled();
                    let _idle = of_nursery.wait_idle().now_or_never();
                });
                pause().await;
                Ok(())
            });
        }
        Ok(())
    }))
    .unwrap();
    assert_eq!(notes.take(), ["2", "1"]);
}

/// A nursery that is dropped half-way and unwinds a panic at once: both are dropped, and the panic is the caller's own.
#[test]
fn a_nursery_dropped_by_a_panic_around_it_drops_its_children() {
    let notes = Notes::new();
    let text = panic_of(|| {
        let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let notes = &notes;
            n.start_soon(async move {
                let _guard = notes.on_drop("child");
                never().await;
                Ok(())
            });
            let _guard = notes.on_drop("body");
            never().await;
            Ok(())
        }));
        task.waits();
        panic!("around");
    });
    assert_eq!(text, "around");
    assert_eq!(notes.take(), ["body", "child"]);
}

/// trio, a nursery in a shielded `finally`: it is waited for with its children, and what fails afterwards is heard, too.
#[test]
fn a_child_that_fails_and_one_that_needs_long_to_unwind() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut task = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let notes = &notes;
        n.start_soon(async {
            shield(open_nursery(async |n: Nursery<'_, Word>| {
                n.start_soon(async {
                    gate.wait().await;
                    notes.add("unwound");
                    Ok(())
                });
                Ok(())
            }))
            .await?;
            Err("after the shield".into())
        });
        n.start_soon(async {
            pause().await;
            Err("first".into())
        });
        Ok(())
    }));
    task.waits();
    gate.open();
    assert_eq!(
        errors(&task.ends().unwrap_err()),
        ["first", "after the shield"]
    );
    assert_eq!(notes.take(), ["unwound"]);
}

/// trio's CapacityLimiter and tokio's Semaphore: of several who wait for room, a place that becomes free wakes the first.
#[test]
fn a_free_place_wakes_one_of_those_who_wait_for_room() {
    let (end, gates) = (Gate::new(), [Gate::new(), Gate::new()]);
    let (mut nursery, n) = opened(NurseryOptions::new().limit(2), &end);
    for gate in &gates {
        n.start_soon(gate.wait().map(Ok));
    }
    nursery.waits();
    let mut waiters: Vec<_> = (0..3)
        .map(|_| {
            let mut waiter = Probe::new(n.start_soon_when_free(never().map(Ok)));
            waiter.waits();
            waiter
        })
        .collect();
    let woken =
        |waiters: &[Probe<'_, ()>]| -> Vec<_> { waiters.iter().map(Probe::n_wakes).collect() };
    gates[0].open();
    nursery.waits();
    assert_eq!(woken(&waiters), [1, 0, 0]);
    // The one that was woken passes its turn on when it goes.
    waiters[0].cut();
    assert_eq!(woken(&waiters), [1, 1, 0]);
    waiters[1].ends();
    gates[1].open();
    nursery.waits();
    waiters[2].ends();
    assert_eq!(n.n_children(), 2);
    nursery.cut();
}

/// moro: a value that ends the nursery after it was cancelled is its value; one that comes after a failure is not.
#[test]
fn a_value_that_ends_a_cancelled_nursery_counts_and_one_that_ends_a_failed_one_does_not() {
    for fails in [false, true] {
        let outcome = ends(NurseryOptions::new().open_finishing(
            async |n: Nursery<'_, Word>, finish: Finish<u32>| {
                n.start_soon(async move { if fails { Err("child".into()) } else { Ok(()) } });
                if !fails {
                    n.cancel("stop");
                }
                shield(pause()).await;
                match finish.finish(7).await {}
            },
        ));
        match outcome {
            Ok(value) => assert_eq!((value, fails), (7, false)),
            Err(failure) => assert_eq!((errors(&failure), fails), (vec!["child"], true)),
        }
    }
}

/// tokio's `JoinHandle::is_finished` and `abort`: a child that is unwinding has not finished, and cancelling it again is none.
#[test]
fn a_child_that_is_unwinding_has_not_finished() {
    let (end, gate) = (Gate::new(), Gate::new());
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let mut handle = n.named("unwinds").spawn(async {
        shield(gate.wait()).await;
        never().await;
        Ok(())
    });
    nursery.waits();
    assert_eq!(handle.name(), Some("unwinds"));
    assert!(handle.cancel("stop"));
    assert!(!handle.cancel("again"));
    nursery.waits();
    assert!(!handle.is_finished() && (&mut handle).now_or_never().is_none());
    gate.open();
    nursery.waits();
    assert!(handle.is_finished() && !handle.cancel("too late"));
    assert_eq!(handle.now_or_never(), Some(Err(ChildEnded::Cancelled)));
    end.open();
    nursery.ends().unwrap();
}

/// Values that borrow what was declared outside may be taken out of the nursery, by handles that outlive it.
#[test]
fn handles_bring_borrowed_values_out_of_the_nursery() {
    let text = "one two three".to_owned();
    let handles = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let words: Vec<_> = text
            .split(' ')
            .map(|word| n.spawn(async move { Ok(word) }))
            .collect();
        Ok(words)
    }))
    .unwrap();
    let words: Vec<_> = handles
        .into_iter()
        .map(|handle| ends(handle).unwrap())
        .collect();
    assert_eq!(words, ["one", "two", "three"]);
}

/// A listener of the nursery's scope that starts a child while the nursery is being cancelled: the child begins there.
#[test]
fn a_listener_may_start_a_child_in_the_nursery_that_is_being_cancelled() {
    let (end, notes) = (Gate::new(), Notes::new());
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let nursery_of_listener: Nursery<'static, Word> = n.clone();
    let for_child = notes.clone();
    let _listening = n.cancel_scope().on_cancel(move |_| {
        nursery_of_listener.start_soon(async move {
            for_child.add("began");
            never().await;
            Ok(())
        });
    });
    n.cancel("stop");
    lone_cancelled(&nursery.ends().unwrap_err());
    assert_eq!(notes.take(), ["began"]);
}

/// A child that waits for its nursery to be idle waits for itself, until it is stopped.
#[test]
fn a_child_that_waits_for_idleness_waits_for_itself() {
    let (end, notes) = (Gate::new(), Notes::new());
    let (mut nursery, n) = opened(NurseryOptions::new(), &end);
    let again = n.clone();
    let for_child = notes.clone();
    n.start_soon(async move {
        again.wait_idle().await;
        for_child.add("idle");
        Ok(())
    });
    end.open();
    nursery.waits();
    n.cancel("stop");
    // The body has returned, and its value stands.
    nursery.ends().unwrap();
    assert!(notes.take().is_empty());
}

/// tokio's channels: a body, and a child, that has returned is dropped at once with all that it holds, so that whoever reads
/// a channel to its end, comes to it.
#[test]
fn what_has_returned_lets_go_of_what_it_holds() {
    let outcome = ends(open_nursery(|n: Nursery<'_, Word>| {
        let (of_body, mut receiver) = futures::channel::mpsc::unbounded::<u32>();
        let of_child = of_body.clone();
        // Futures that hold something to their own end, as an async block would not.
        n.start_soon(std::future::poll_fn(move |_| {
            of_child.unbounded_send(1).unwrap();
            std::task::Poll::Ready(Ok(()))
        }));
        let total = n.spawn(async move {
            let mut total = 0;
            while let Some(number) = receiver.next().await {
                total += number;
            }
            Ok(total)
        });
        let mut total = Some(total);
        std::future::poll_fn(move |_| {
            of_body.unbounded_send(2).unwrap();
            std::task::Poll::Ready(Ok(total.take().unwrap()))
        })
    }));
    assert_eq!(ends(outcome.unwrap()).unwrap(), 3);
}

/// tokio's JoinSet after `abort_all`: the stream of results tells of each child, those that had ended first.
#[test]
fn results_tell_of_each_child_after_a_cancel() {
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (sink, mut results) = n.results();
        for number in 0..6 {
            n.spawn_into(&sink, async move {
                if number % 2 == 1 {
                    never().await;
                }
                Ok(number)
            });
        }
        pause().await;
        n.cancel("enough");
        let mut told = Vec::new();
        shield(async {
            while let Some(result) = results.next().await {
                told.push(result);
            }
        })
        .await;
        Ok(told)
    }));
    let cancelled = Err(ChildEnded::Cancelled);
    assert_eq!(
        outcome.unwrap(),
        [Ok(0), Ok(2), Ok(4), cancelled, cancelled, cancelled]
    );
}

/// Kotlin's supervisorScope and moro's `terminate`: a failure that was held back outranks the value that ends the nursery.
#[test]
fn a_supervising_nursery_that_is_finished_still_reports_its_failures() {
    let outcome = ends(NurseryOptions::new().supervise().open_finishing(
        async |n: Nursery<'_, Word>, finish: Finish<u32>| {
            n.start_soon(async { Err("held back".into()) });
            n.wait_idle().await;
            match finish.finish(7).await {}
        },
    ));
    assert_eq!(errors(&outcome.unwrap_err()), ["held back"]);
}

/// trio: a body that waits in a nested nursery for a child of the outer one, which fails: the inner nursery unwinds with its
/// children, and the failure comes out once.
#[test]
fn a_body_that_waits_further_in_is_stopped_by_a_failing_child() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |outer: Nursery<'_, Word>| {
        let fails = outer.spawn(async {
            pause().await;
            Err::<(), _>("outer child".into())
        });
        open_nursery(async |inner: Nursery<'_, Word>| {
            inner.start_soon(async {
                let _guard = notes.on_drop("inner child");
                shield(pause()).await;
                never().await;
                Ok(())
            });
            let _ = fails.await;
            never().await;
            Ok(())
        })
        .await
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["outer child"]);
    assert_eq!(failure.leaves().count(), 1);
    assert_eq!(notes.take(), ["inner child"]);
}
