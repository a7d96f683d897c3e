//! Races and joins, as the futures crates and futures-concurrency have them.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc, future::LocalBoxFuture};
use trionics_gather::{finally, join, race, race_ok, try_join, try_race};
use trionics_nursery::{CancelScope, Failure, move_on_after, shield, sleep, testing};

use crate::common::{Gate, Notes, OnDrop, Probe, Reports, Word, ends, errors, never, pause};

type Outcome<T = ()> = Result<T, Failure<Word>>;

const SECOND: Duration = Duration::from_secs(1);

async fn after<T>(rounds: usize, output: T) -> T {
    for _ in 0..rounds {
        pause().await;
    }
    output
}

/// futures' `join_all` and `try_join_all`: of nothing they are ready at once with nothing.
#[test]
fn a_join_of_nothing_is_ready_with_nothing() {
    assert_eq!(
        ends(join(Vec::<std::future::Ready<u8>>::new())),
        Vec::<u8>::new()
    );
    let none: [std::future::Ready<u8>; 0] = [];
    assert_eq!(ends(join(none)), [0_u8; 0]);
    let none: Vec<std::future::Ready<Outcome<u8>>> = Vec::new();
    assert_eq!(ends(try_join(none)).unwrap(), Vec::<u8>::new());
}

/// futures-concurrency: `race_ok` and `try_race` of nothing fail, as there is nothing to succeed.
#[test]
fn a_race_to_succeed_of_nothing_fails() {
    let none = || Vec::<std::future::Ready<Outcome<u8>>>::new();
    assert!(ends(race_ok(none())).unwrap_err().as_library().is_some());
    assert!(ends(try_race(none())).unwrap_err().as_library().is_some());
}

/// futures' `select_all`: a loser that is ready in the poll in which another has won is not polled, or its output dropped;
/// in either case the first one in order wins, in all sizes of sets.
#[test]
fn the_first_in_order_wins_among_those_that_are_ready() {
    for n_futures in [1, 2, 30, 31, 100] {
        for first_ready in [0, n_futures / 2, n_futures - 1] {
            let futures: Vec<_> = (0..n_futures)
                .map(|index| async move {
                    if index < first_ready {
                        never().await;
                    }
                    pause().await;
                    index
                })
                .collect();
            assert_eq!(ends(race(futures)), first_ready, "of {n_futures}");
        }
    }
}

/// futures: dropping a race or a join half-way drops every future in it once.
#[test]
fn dropping_half_way_drops_every_future_once() {
    for n_futures in [3_usize, 64] {
        for is_race in [false, true] {
            let n_dropped = AtomicUsize::new(0);
            let futures: Vec<_> = (0..n_futures)
                .map(|_| {
                    let guard = OnDrop::new(|| {
                        n_dropped.fetch_add(1, Ordering::SeqCst);
                    });
                    async move {
                        let _guard = guard;
                        never().await;
                    }
                })
                .collect();
            let mut task = if is_race {
                Probe::new(race(futures))
            } else {
                Probe::new(join(futures).map(|_| ()))
            };
            task.waits();
            assert_eq!(n_dropped.load(Ordering::SeqCst), 0);
            task.cut();
            assert_eq!(n_dropped.load(Ordering::SeqCst), n_futures);
        }
    }
}

/// futures' `join!`: a finished branch's future is dropped or kept, but never polled again, while the others go on.
#[test]
fn a_finished_branch_is_not_polled_again() {
    let gate = Gate::new();
    let n_polls = AtomicUsize::new(0);
    let quick = std::future::poll_fn(|_| {
        assert_eq!(n_polls.fetch_add(1, Ordering::SeqCst), 0);
        Poll::Ready(1)
    });
    let mut task = Probe::new(join((quick, gate.wait().map(|()| 2))));
    task.waits();
    task.poll().is_ready().then(|| panic!("it waits"));
    gate.open();
    assert_eq!(task.ends(), (1, 2));
}

/// futures' `try_join!`: the first failure ends it before the others are ready; several in one poll are all heard.
#[test]
fn a_failure_ends_a_try_join_and_those_of_one_poll_are_all_heard() {
    let dropped = Notes::new();
    let waits = async {
        let _guard = dropped.on_drop("waiting branch");
        never().await;
        Ok(())
    };
    let failure = ends(try_join((
        waits,
        after(1, Outcome::<()>::Err("one".into())),
    )))
    .unwrap_err();
    assert_eq!(errors(&failure), ["one"]);
    assert_eq!(dropped.take(), ["waiting branch"]);
    let both = [
        after(1, Outcome::<()>::Err("one".into())),
        after(1, Err("two".into())),
    ];
    assert_eq!(errors(&ends(try_join(both)).unwrap_err()), ["one", "two"]);
}

/// futures-concurrency: values of branches that had succeeded before another failed are dropped, once.
#[test]
fn the_values_of_a_failed_try_join_are_dropped() {
    let notes = Notes::new();
    let value = notes.on_drop("value");
    let failure = ends(try_join((
        async { Outcome::Ok(value) },
        after(2, Outcome::<()>::Err("failed".into())),
    )))
    .err()
    .unwrap();
    assert_eq!(errors(&failure), ["failed"]);
    assert_eq!(notes.take(), ["value"]);
}

/// tokio's `select!` polls nobody once a branch has won; a race polls the losers that can go on once more, so that they
/// unwind, and a receiver among them takes its message along. `select!` and `move_on_after` keep it.
#[test]
fn a_loser_that_is_ready_takes_its_message_along_unless_it_is_in_a_select() {
    enum With {
        Race,
        Select,
        Limit,
    }
    for (with, is_kept) in [
        (With::Race, false),
        (With::Select, true),
        (With::Limit, true),
    ] {
        testing::run(async {
            let (first_sender, mut first) = mpsc::unbounded();
            let (second_sender, mut second) = mpsc::unbounded();
            first_sender.unbounded_send(1).unwrap();
            second_sender.unbounded_send(2).unwrap();
            let won = match with {
                With::Race => race((first.next(), second.next())).await,
                With::Select => futures::select_biased! {
                    won = first.next() => won,
                    won = second.next() => won,
                },
                With::Limit => move_on_after(Duration::ZERO, first.next()).await.unwrap(),
            };
            assert_eq!(won, Some(1));
            let left = move_on_after(SECOND, second.next()).await;
            assert_eq!(left.is_some(), is_kept);
        });
    }
}

/// tokio's `select!` and a timeout at the same instant: the branch that stands first wins, both ways round.
#[test]
fn a_race_against_a_sleep_of_the_same_length() {
    testing::run(async {
        let work = || async {
            sleep(SECOND).await;
            "work"
        };
        let limit = || async {
            sleep(SECOND).await;
            "limit"
        };
        assert_eq!(race((work(), limit())).await, "work");
        assert_eq!(race((limit(), work())).await, "limit");
        assert_eq!(testing::elapsed(), 2 * SECOND);
    });
}

/// futures' `select_ok`: an error after a success that came first is nothing; errors before it are forgotten.
#[test]
fn a_success_forgets_the_failures_before_it() {
    let outcome = ends(race_ok([
        after(1, Outcome::Err("early".into())),
        after(2, Ok("success")),
        after(3, Err("late".into())),
    ]));
    assert_eq!(outcome.unwrap(), "success");
    let failure = ends(race_ok([
        after(3, Outcome::<()>::Err("third".into())),
        after(1, Err("first".into())),
        after(2, Err("second".into())),
    ]))
    .unwrap_err();
    assert_eq!(errors(&failure), ["first", "second", "third"]);
}

/// A race in an exit of a cancelled scope: the losers unwind there, and the exit goes on with the winner's value.
#[test]
fn races_and_joins_in_a_cleanup_of_cancelled_code() {
    let (scope, notes) = (CancelScope::new(), Notes::new());
    let work = finally(
        async {
            scope.cancel("stop");
            never().await;
            Outcome::Ok(())
        },
        async |_end| {
            let won = race((after(2, "won"), async {
                finally(never().map(Ok::<(), Failure<Word>>), async |end| {
                    pause().await;
                    notes.add(format!("loser {end:?}"));
                    Ok(())
                })
                .await
                .unwrap();
                "lost"
            }))
            .await;
            notes.add(won);
            let both = join((after(1, 1), after(2, 2))).await;
            notes.add(format!("{both:?}"));
            Ok(())
        },
    );
    assert!(ends(scope.run(work)).is_err());
    assert_eq!(notes.take(), ["loser Cancelled", "won", "(1, 2)"]);
}

/// A loser whose `Drop` panics, beside one whose exit has to run: the exit runs, and the panic comes out.
#[test]
fn a_loser_that_panics_in_its_drop_lets_the_others_unwind() {
    let notes = Notes::new();
    let mut task = Probe::new(race((
        async {
            let _guard = OnDrop::new(|| panic!("by a loser"));
            never().await;
        },
        async {
            let _ = finally(never().map(Ok::<(), Failure<Word>>), async |_| {
                pause().await;
                notes.add("unwound");
                Ok(())
            })
            .await;
        },
        after(1, ()),
    )));
    assert_eq!(task.panics(), "by a loser");
    assert_eq!(notes.take(), ["unwound"]);
}

/// A branch of a join that panics can be caught around the join, after its neighbors have unwound.
#[test]
fn the_panic_of_a_branch_is_caught_around_its_join() {
    let notes = Notes::new();
    ends(async {
        let joined = join((
            async {
                pause().await;
                panic!("in a branch");
            },
            async {
                shield(after(3, ())).await;
                notes.add("shield over");
                never().await;
            },
        ));
        let caught = AssertUnwindSafe(joined).catch_unwind().await;
        assert!(Result::<((), ()), _>::is_err(&caught));
        notes.add("goes on");
        pause().await;
    });
    assert_eq!(notes.take(), ["shield over", "goes on"]);
}

/// trio: a limit around a join stops all branches, each unwinds by itself, and the limit returns after the slowest.
#[test]
fn a_limit_around_a_join_waits_for_the_slowest_exit() {
    testing::run(async {
        let unwinds = |seconds: u32| {
            finally(never().map(Ok::<(), Failure<Word>>), async move |_| {
                sleep(seconds * SECOND).await;
                Ok(())
            })
        };
        let joined = move_on_after(SECOND, join([unwinds(2), unwinds(4), unwinds(1)])).await;
        assert!(joined.is_none());
        assert_eq!(testing::elapsed(), 5 * SECOND);
    });
}

/// futures-concurrency and FuturesUnordered: of many branches only the woken ones are polled, and the task is woken once for
/// several.
#[test]
fn of_many_branches_the_woken_ones_alone_are_polled() {
    let gates: Vec<_> = (0..100).map(|_| Gate::new()).collect();
    let n_polls: Vec<_> = (0..100).map(|_| AtomicUsize::new(0)).collect();
    let branches: Vec<_> = gates
        .iter()
        .zip(&n_polls)
        .map(|(gate, n_polls)| {
            let mut waits = gate.wait();
            std::future::poll_fn(move |cx| {
                n_polls.fetch_add(1, Ordering::SeqCst);
                waits.poll_unpin(cx)
            })
        })
        .collect();
    let mut task = Probe::new(join(branches));
    task.waits();
    for gate in &gates[10..13] {
        gate.open();
    }
    assert_eq!(task.n_wakes(), 1);
    task.waits();
    for (index, n_polls) in n_polls.iter().enumerate() {
        let expected = if (10..13).contains(&index) { 2 } else { 1 };
        assert_eq!(n_polls.load(Ordering::SeqCst), expected, "branch {index}");
    }
    gates.iter().for_each(Gate::open);
    assert_eq!(task.ends().len(), 100);
}

/// trio, `try`/`finally` nested three deep in which every part fails: all are heard, the cause of each next to it.
#[test]
fn nested_cleanups_that_all_fail_are_all_heard() {
    let work = finally(
        finally(
            finally(async { Err::<(), _>("body".into()) }, async |_| {
                Outcome::Err("inner".into())
            }),
            async |_| Outcome::Err("middle".into()),
        ),
        async |_| Outcome::Err("outer".into()),
    );
    let failure = ends(work).unwrap_err();
    assert_eq!(errors(&failure), ["body", "inner", "middle", "outer"]);
}

/// trio: a cleanup that panics after a failing body: the panic comes out, and the failure is reported.
#[test]
fn a_cleanup_that_panics_outranks_the_bodys_failure() {
    let reports = Reports::new();
    let work = finally(
        async { Err::<(), Failure<Word>>("body".into()) },
        async |_| panic!("cleanup"),
    );
    let mut task = Probe::new(reports.settings().run(work));
    assert_eq!(task.panics(), "cleanup");
    assert!(
        reports
            .take()
            .iter()
            .any(|report| report.to_string().contains("fail"))
    );
}

/// A cleanup that is called and panics before there is a future is a panicking cleanup; the body's value is dropped.
#[test]
fn a_cleanup_that_panics_when_it_is_called() {
    let notes = Notes::new();
    let value = notes.on_drop("value");
    let mut task = Probe::new(
        finally(
            async { Outcome::Ok(value) },
            |_| -> std::future::Ready<Outcome> { panic!("when called") },
        )
        .map(|_| ()),
    );
    assert_eq!(task.panics(), "when called");
    drop(task);
    assert_eq!(notes.take(), ["value"]);
}

/// futures: a join of joins and a race of races are driven through one waker, and end in the polls that they must.
#[test]
fn combinators_nested_in_each_other() {
    let output = ends(join((
        race((after(2, 1), after(1, 2))),
        join([after(1, 3), after(3, 4)]),
        race([
            race([after(2, 5), after(4, 6)]),
            race([after(3, 7), after(1, 8)]),
        ]),
    )));
    assert_eq!(output, (2, [3, 4], 8));
}

/// tokio's `select!` with a cancelled scope among the branches: the scope's own cancellation is that branch's outcome.
#[test]
fn a_cancelled_scope_wins_a_race_as_any_other_branch() {
    let scope = CancelScope::new();
    let mut task = Probe::new(race((
        scope.run(never()).map(|outcome| outcome.is_err()),
        after(1_000, false),
    )));
    task.poll().is_ready().then(|| panic!("it waits"));
    scope.cancel("stop");
    assert!(task.ends());
}

/// futures-concurrency: a race of few and a race of many futures tell the same story, of everybody in it.
#[test]
fn races_of_few_and_of_many_do_the_same() {
    #[derive(Clone, Copy, Debug)]
    enum Kind {
        /// Waits for what never comes; its exit takes two awaits.
        Unwinds,
        /// Is ready in its second poll.
        Wins,
        /// Is always woken, and never ready.
        Busy,
        /// Is ready in its third poll.
        Late,
        /// Waits, and holds nothing.
        Waits,
        /// Fails, where failures count, in its second poll.
        Fails,
    }
    fn run(kinds: &[Kind], n_futures: usize, is_ok: bool) -> (Vec<String>, Vec<String>) {
        let notes = Notes::new();
        let futures: Vec<_> = (0..n_futures)
            .map(|index| {
                let (kind, notes) = (kinds.get(index).copied(), &notes);
                async move {
                    let _guard = kind.map(|_| notes.on_drop(&format!("{index} dropped")));
                    match kind {
                        Some(Kind::Unwinds) => {
                            finally(never().map(Outcome::Ok), async |end| {
                                notes.add(format!("{index} sees {end:?}"));
                                pause().await;
                                pause().await;
                                notes.add(format!("{index} has unwound"));
                                Ok(())
                            })
                            .await?;
                        }
                        Some(Kind::Wins) => pause().await,
                        Some(Kind::Busy) => loop {
                            notes.add(format!("{index} is polled"));
                            pause().await;
                        },
                        Some(Kind::Late) => {
                            pause().await;
                            pause().await;
                        }
                        Some(Kind::Fails) => {
                            pause().await;
                            return Err("failed".into());
                        }
                        Some(Kind::Waits) | None => never().await,
                    }
                    notes.add(format!("{index} returns"));
                    Ok(index)
                }
            })
            .collect();
        let outcome = if is_ok {
            ends(race_ok(futures))
        } else {
            ends(try_race(futures))
        };
        let outcome = match outcome {
            Ok(index) => vec![format!("{index} has won")],
            Err(failure) => errors(&failure).into_iter().map(str::to_owned).collect(),
        };
        // How often a loser is polled on its way out, so that it may return there, and when it goes, is not promised.
        let mut story = notes.take();
        story.retain(|note| !note.ends_with("is polled") && !note.ends_with("returns"));
        story.sort();
        (outcome, story)
    }
    let stories: &[&[Kind]] = &[
        &[Kind::Wins, Kind::Busy, Kind::Waits],
        &[Kind::Busy, Kind::Wins, Kind::Busy],
        &[Kind::Unwinds, Kind::Wins, Kind::Late],
        &[Kind::Late, Kind::Wins, Kind::Unwinds],
        &[Kind::Wins, Kind::Wins, Kind::Fails],
        &[Kind::Fails, Kind::Wins, Kind::Unwinds],
        &[Kind::Fails, Kind::Late, Kind::Waits],
        &[Kind::Unwinds, Kind::Busy, Kind::Late],
    ];
    for story in stories {
        for is_ok in [false, true] {
            let (few, many) = (run(story, 3, is_ok), run(story, 40, is_ok));
            assert_eq!(few, many, "{story:?}, {is_ok}");
        }
    }
}

/// tokio's channels: a branch that has returned is dropped with all that it holds, in joins and races of few and of many, so
/// that a neighbor, or a loser on its way out, that reads a channel to its end comes to it.
#[test]
fn a_branch_that_has_returned_lets_go_of_what_it_holds() {
    for n_idle in [0, 50] {
        for is_race in [false, true] {
            let notes = Notes::new();
            let (sender, mut receiver) = mpsc::unbounded::<Word>();
            let returns = std::future::poll_fn(move |_| {
                sender.unbounded_send("sent").unwrap();
                Poll::Ready(())
            });
            let reads = async {
                let _ = finally(never().map(Outcome::Ok), async |_| {
                    while let Some(word) = receiver.next().await {
                        notes.add(word);
                    }
                    Ok(())
                })
                .await;
            };
            let mut branches: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
            if is_race {
                branches.push(Box::pin(reads));
            } else {
                branches.push(Box::pin(async {
                    let _ = move_on_now(reads).await;
                }));
            }
            branches.push(Box::pin(returns));
            if is_race {
                branches.extend((0..n_idle).map(|_| never().boxed_local()));
                ends(race(branches));
            } else {
                branches.extend((0..n_idle).map(|_| pause().boxed_local()));
                ends(join(branches));
            }
            assert_eq!(notes.take(), ["sent"], "{n_idle}, {is_race}");
        }
    }
}

/// Runs `future` in a scope that is cancelled.
async fn move_on_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let scope = CancelScope::new();
    scope.cancel("now");
    scope.run(future).await.ok()
}
