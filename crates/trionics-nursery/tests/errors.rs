//! The conformance rows on errors, named by their IDs.

use std::{error::Error, fmt, sync::Mutex};

use trionics_errgroup::collapse_eg;
use trionics_nursery::{
    CancelScope, ChildEnded, Failure, Nursery, cancel_requested, open_nursery, shield,
};

mod common;
use common::{Drawer, Gate, Notes, Probe, Word, ends, errors, lone_cancelled, never, pause};

/// N-026, adapted 23
#[test]
fn the_very_error_comes_out_in_a_group_of_one() {
    #[derive(Debug)]
    struct Unique(Box<u32>);
    for from_body in [true, false] {
        let error = Unique(Box::new(7));
        let address = std::ptr::from_ref(&*error.0);
        let error = Mutex::new(Some(error));
        let failure = ends(open_nursery(async |n: Nursery<'_, Unique>| {
            let error = error.lock().unwrap().take().unwrap();
            if from_body {
                return Err::<(), _>(error.into());
            }
            n.start_soon(async move { Err(error.into()) });
            Ok(())
        }))
        .unwrap_err();
        assert!(failure.is_group());
        let mut leaves = failure.into_leaves();
        let leaf = leaves.next().unwrap().into_leaf().expect("an error");
        assert!(leaves.next().is_none());
        assert!(std::ptr::eq(&*leaf.0, address) && *leaf.0 == 7);
    }
}

/// N-027
#[test]
fn the_outcome_is_a_group_however_few_have_failed() {
    for n_failing in 1..4_usize {
        let failure = ends(open_nursery(async |n: Nursery<'_, usize>| {
            for i in 0..n_failing {
                n.start_soon(async move {
                    shield(pause()).await;
                    Err(i.into())
                });
            }
            Ok(())
        }))
        .unwrap_err();
        assert!(failure.is_group());
        assert_eq!(failure.children().len(), n_failing);
    }
}

/// N-028
#[test]
fn body_and_children_that_fail_are_all_heard() {
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            pause().await;
            Err("child".into())
        });
        pause().await;
        Err::<(), _>("body".into())
    }))
    .unwrap_err();
    let mut words = errors(&failure);
    words.sort_unstable();
    assert_eq!(words, ["body", "child"]);
}

/// N-028, the second failure long after the stopping began
#[test]
fn a_failure_after_the_stopping_began_is_heard() {
    let gate = Gate::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async { Err("first".into()) });
        let wait = gate.wait();
        n.start_soon(async move {
            shield(async {
                cancel_requested().await;
                wait.await;
            })
            .await;
            Err("second".into())
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    gate.open();
    assert_eq!(errors(&probe.ends().unwrap_err()), ["first", "second"]);
}

/// N-029
#[test]
fn failures_stand_in_the_order_in_which_they_happened() {
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        for (ticks, word) in [(3, "third"), (1, "first"), (2, "second")] {
            n.start_soon(async move {
                shield(async {
                    for _ in 0..ticks {
                        pause().await;
                    }
                })
                .await;
                Err(word.into())
            });
        }
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["first", "second", "third"]);
}

/// N-030
#[test]
fn a_failing_child_wakes_and_stops_a_parked_body_and_stands_alone() {
    let gate = Gate::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            gate.wait().await;
            Err("child".into())
        });
        never().await;
        Ok(())
    }));
    probe.waits();
    gate.open();
    let failure = probe.ends().unwrap_err();
    assert_eq!(errors(&failure), ["child"]);
    assert_eq!(failure.leaves().count(), 1, "{failure:?}");
}

/// N-034
#[test]
fn siblings_that_were_stopped_leave_nothing_in_the_group() {
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..5 {
            n.start_soon(async {
                CancelScope::new().run(never()).await.ok();
                Ok(())
            });
        }
        n.start_soon(async {
            pause().await;
            Err("the one".into())
        });
        never().await;
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(errors(&failure), ["the one"]);
    assert!(!failure.has_cancelled(), "{failure:?}");
}

/// N-035
#[test]
fn children_that_notice_a_request_and_return_close_the_nursery_without_error() {
    let scope = Drawer::new();
    let outcome = ends(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        n.start_soon(shield(async {
            cancel_requested().await;
            Ok(())
        }));
        pause().await;
        n.cancel("please stop");
        Ok("value")
    }));
    assert_eq!(outcome, Ok("value"));
    let scope = scope.take();
    assert!(scope.is_cancelled() && !scope.is_caught());
}

/// N-036
#[test]
fn an_inner_nurserys_group_is_one_node_of_the_outer_one() {
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            open_nursery(async |inner: Nursery<'_, Word>| {
                inner.start_soon(async { Err("deep".into()) });
                Ok(())
            })
            .await
        });
        Ok(())
    }))
    .unwrap_err();
    let [inner] = failure.children() else {
        panic!("{failure:?}");
    };
    assert!(inner.is_group());
    assert_eq!(inner.children().len(), 1);
    assert_eq!(collapse_eg(failure).into_leaf().unwrap(), "deep");
}

/// N-039
#[test]
fn the_chain_of_causes_ends() {
    #[derive(Debug)]
    struct Top(Bottom);
    #[derive(Debug)]
    struct Bottom;
    impl fmt::Display for Top {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("top")
        }
    }
    impl fmt::Display for Bottom {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bottom")
        }
    }
    impl Error for Top {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    impl Error for Bottom {}
    let failure = ends(open_nursery(async |n: Nursery<'_, Top>| {
        for _ in 0..2 {
            n.start_soon(async {
                shield(pause()).await;
                Err(Top(Bottom).into())
            });
        }
        Ok(())
    }))
    .unwrap_err();
    let group: &dyn Error = &failure;
    let chain = std::iter::successors(group.source(), |&error| error.source());
    assert!(chain.take(100).count() <= 2, "it never ends");
}

/// N-042
#[test]
fn one_bad_item_of_a_borrowed_list_ends_the_check() {
    let all = |items: &[i32]| {
        ends(open_nursery(async |n: Nursery<'_, String>| {
            for item in items {
                n.start_soon(async move {
                    if *item < 0 {
                        return Err(format!("{item} is negative").into());
                    }
                    if *item > 100 {
                        // A slow one.
                        never().await;
                    }
                    Ok(())
                });
            }
            Ok(())
        }))
    };
    all(&[1, 2, 3]).unwrap();
    let failure = all(&[1, 1_000, -2, 1_000]).unwrap_err();
    let said: Vec<_> = failure.errors().map(String::as_str).collect();
    assert_eq!(said, ["-2 is negative"]);
}

/// N-065, as the handle tells it
#[test]
fn a_handle_tells_how_its_child_ended_and_the_nursery_has_the_failure() {
    let ended = Drawer::new();
    let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let handle = n.spawn(async { Err::<(), _>("failed".into()) });
        ended.put(shield(handle).await);
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(ended.take(), Err(ChildEnded::Failed));
    assert_eq!(errors(&failure), ["failed"]);
}

/// N-071: a nursery that was itself cancelled
#[test]
fn a_cancelled_nursery_gives_a_lone_cancelled_or_the_errors_alone() {
    for fails in [false, true] {
        let scope = Drawer::new();
        let failure = ends(open_nursery(async |n: Nursery<'_, Word>| {
            scope.put(n.cancel_scope());
            for i in 0..3 {
                n.start_soon(async move {
                    if fails && i == 1 {
                        shield(pause()).await;
                        return Err("while it unwound".into());
                    }
                    never().await;
                    Ok(())
                });
            }
            n.cancel("asked for");
            never().await;
            Ok(())
        }))
        .unwrap_err();
        if fails {
            assert_eq!(errors(&failure), ["while it unwound"]);
            assert!(!failure.has_cancelled(), "{failure:?}");
        } else {
            let cancelled = lone_cancelled(&failure);
            assert_eq!(cancelled.reason().to_string(), "asked for");
            assert_eq!(scope.take().cancelled().as_ref(), Some(cancelled));
        }
    }
}

/// N-071: `Cancelled` leaves that someone passes on
#[test]
fn a_cancelled_that_is_passed_on_as_a_failure_stays_what_it_is() {
    let failure = ends(open_nursery(async |_: Nursery<'_, Word>| {
        let inner = CancelScope::new();
        inner.cancel("inner");
        let cancelled = inner.run(never()).await.unwrap_err();
        Err::<(), _>(Failure::cancelled(cancelled))
    }))
    .unwrap_err();
    assert_eq!(lone_cancelled(&failure).reason().to_string(), "inner");
    assert!(failure.absorb_cancelled().is_none());
}

/// The erased default takes `?` from any error
#[test]
fn the_erased_failure_takes_any_error_by_the_question_mark() {
    let notes = Notes::new();
    let failure = ends(open_nursery(async |n: Nursery<'_>| {
        n.start_soon(async {
            let _guard = notes.on_drop("child");
            shield(pause()).await;
            let _number: u8 = "x".parse()?;
            Ok(())
        });
        String::from_utf8(vec![0xff])?;
        Ok(())
    }))
    .unwrap_err();
    assert!(failure.find::<std::num::ParseIntError>().is_some());
    assert!(failure.find::<std::string::FromUtf8Error>().is_some());
    assert_eq!(notes.take(), ["child"]);
}
