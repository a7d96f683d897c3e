//! The conformance rows on the life of a nursery and its children, named by their IDs.

use std::{
    cell::Cell,
    future::poll_fn,
    marker::PhantomPinned,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use trionics_nursery::{CancelScope, Nursery, checkpoint, open_nursery};

mod common;
use common::{Drawer, Gate, Notes, Probe, Word, ends, errors, never, panic_of, pause};

/// N-001
#[test]
fn the_value_waits_for_the_children() {
    let gates = [Gate::new(), Gate::new()];
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for gate in &gates {
            n.start_soon(async {
                gate.wait().await;
                Ok(())
            });
        }
        Ok("value")
    }));
    probe.waits();
    gates[1].open();
    probe.waits();
    gates[0].open();
    assert_eq!(probe.ends(), Ok("value"));
}

/// N-002
#[test]
fn a_child_that_fails_after_the_body_has_returned_takes_the_value_away() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            gate.wait().await;
            Err("late".into())
        });
        Ok(notes.on_drop("value"))
    }));
    probe.waits();
    assert_eq!(notes.len(), 0);
    gate.open();
    let failure = probe.ends().err().expect("a failure");
    assert_eq!(errors(&failure), ["late"]);
    assert_eq!(notes.take(), ["value"]);
}

/// N-003
#[test]
fn the_body_and_the_children_take_turns() {
    const ROUNDS: usize = 5;
    let steps: [AtomicUsize; 3] = Default::default();
    let walk = async |i: usize| {
        for _ in 0..ROUNDS {
            steps[i].fetch_add(1, Ordering::SeqCst);
            checkpoint().await;
        }
    };
    let walk = &walk;
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for i in [1, 2] {
            let steps = &steps;
            n.start_soon(async move {
                for _ in 0..ROUNDS {
                    steps[i].fetch_add(1, Ordering::SeqCst);
                    checkpoint().await;
                }
                Ok(())
            });
        }
        walk(0).await;
        Ok(())
    }));
    while probe.poll().is_pending() {
        let now = steps.each_ref().map(|steps| steps.load(Ordering::SeqCst));
        let (least, most) = (now.iter().min().unwrap(), now.iter().max().unwrap());
        assert!(most - least <= 1, "{now:?}");
        assert!(probe.is_woken());
    }
}

/// N-004
#[test]
fn a_body_that_waits_for_room_in_a_queue_is_served_by_its_child() {
    let received = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let (mut sender, receiver) = mpsc::channel(0);
        let received = n.spawn(async move { Ok(receiver.collect::<Vec<u32>>().await) });
        for i in 0..100 {
            sender.send(i).await.unwrap();
        }
        drop(sender);
        Ok(received.await.unwrap())
    }));
    assert_eq!(received.unwrap(), (0..100).collect::<Vec<_>>());
}

/// N-005
#[test]
fn starting_a_child_does_not_poll_it() {
    let notes = Notes::new();
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            notes.add("child");
            Ok(())
        });
        let _handle = n.spawn(async {
            notes.add("child with a handle");
            Ok(())
        });
        assert_eq!(notes.len(), 0);
        pause().await;
        assert_eq!(notes.take(), ["child", "child with a handle"]);
        Ok(())
    }))
    .unwrap();
}

/// N-007
#[test]
fn a_closed_nursery_refuses_children() {
    let notes = Notes::new();
    let nursery = ends(open_nursery(async |n: Nursery<'_, Word>| Ok(n))).unwrap();
    let guard = notes.on_drop("refused future dropped");
    let refused = nursery
        .try_start_soon(async move {
            let _guard = guard;
            unreachable!("it is never polled");
        })
        .unwrap_err();
    assert!(refused.to_string().contains("closed"), "{refused}");
    assert_eq!(notes.len(), 0, "the future comes back");
    drop(refused);
    assert_eq!(notes.take(), ["refused future dropped"]);
    let guard = notes.on_drop("refused future dropped");
    let message = panic_of(|| {
        nursery.start_soon(async move {
            let _guard = guard;
            Ok(())
        });
    });
    assert!(message.contains("closed"), "{message}");
    assert_eq!(notes.take(), ["refused future dropped"]);
    let message = panic_of(|| nursery.spawn(async { Ok(()) }));
    assert!(message.contains("closed"), "{message}");
}

/// N-007, for a nursery that was dropped
#[test]
fn a_nursery_that_was_dropped_refuses_children() {
    let handle = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        handle.put(n);
        never().await;
        Ok(())
    }));
    probe.waits();
    let nursery = handle.take();
    nursery.start_soon(async { Ok(()) });
    probe.cut();
    assert!(nursery.try_start_soon(async { Ok(()) }).is_err());
}

/// N-008; the compile-time half is a doctest
#[test]
fn children_borrow_what_was_declared_outside() {
    let words = vec!["a".to_owned(), "bc".to_owned()];
    let total = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        for word in &words {
            n.start_soon(async {
                pause().await;
                total.fetch_add(word.len(), Ordering::SeqCst);
                Ok(())
            });
        }
        Ok(())
    }))
    .unwrap();
    assert_eq!(total.into_inner(), 3);
    assert_eq!(words.len(), 2);
}

/// N-009
#[test]
fn a_handle_delivers_the_value_however_late() {
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let handle = n.spawn(async { Ok("value") });
        for _ in 0..100 {
            pause().await;
        }
        assert!(handle.is_finished());
        assert_eq!(handle.await, Ok("value"));
        Ok(())
    }))
    .unwrap();
}

/// N-009
#[test]
fn a_child_whose_handle_was_dropped_runs_on_and_is_waited_for() {
    let (gate, notes) = (Gate::new(), Notes::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        drop(n.spawn(async {
            gate.wait().await;
            notes.add("to its end");
            Ok("nobody listens")
        }));
        Ok(())
    }));
    probe.waits();
    gate.open();
    probe.ends().unwrap();
    assert_eq!(notes.take(), ["to its end"]);
}

/// N-010
#[test]
fn a_child_starts_a_child_and_awaits_it() {
    let got = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let inner = n.clone();
        let child = n.spawn(async move {
            let grandchild = inner.spawn(async {
                pause().await;
                Ok(7)
            });
            Ok(grandchild.await.unwrap() + 1)
        });
        Ok(child.await.unwrap())
    }));
    assert_eq!(got, Ok(8));
}

/// N-011
#[test]
fn a_dropped_nursery_drops_the_body_and_then_each_child_once() {
    let notes = Notes::new();
    let data = String::from("borrowed");
    {
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            let _guard = notes.on_drop("body");
            for i in 0..3 {
                let guard = notes.on_drop(&format!("child {i}"));
                let data = &data;
                n.start_soon(async move {
                    let _guard = guard;
                    never().await;
                    drop(data.clone());
                    Ok(())
                });
            }
            // One that has not been polled yet.
            pause().await;
            let guard = notes.on_drop("new child");
            n.start_soon(async move {
                let _guard = guard;
                Ok(())
            });
            never().await;
            Ok(())
        }));
        assert!(probe.poll().is_pending());
        probe.cut();
        assert_eq!(notes.take(), ["body", "child 0", "child 1", "child 2"]);
    }
    assert_eq!(notes.len(), 0);
}

/// N-011, with a child that was started from outside and not yet taken in
#[test]
fn a_dropped_nursery_drops_children_that_wait_to_be_taken_in() {
    let (notes, handle) = (Notes::new(), Drawer::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        handle.put(n);
        never().await;
        Ok(())
    }));
    probe.waits();
    let guard = notes.on_drop("waiting child");
    handle.take().start_soon(async move {
        let _guard = guard;
        Ok(())
    });
    assert!(probe.is_woken(), "a child from outside wakes the nursery");
    probe.cut();
    assert_eq!(notes.take(), ["waiting child"]);
}

/// N-014
#[test]
fn a_child_is_polled_once_per_poll_and_only_when_woken() {
    let polls: [AtomicUsize; 3] = Default::default();
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for (polls, gate) in polls.iter().zip(&gates) {
            n.start_soon(async move {
                let mut wait = gate.wait();
                poll_fn(|cx| {
                    polls.fetch_add(1, Ordering::SeqCst);
                    let polled = Pin::new(&mut wait).poll(cx);
                    // Woken several times within one poll.
                    if polled.is_ready() {
                        cx.waker().wake_by_ref();
                        cx.waker().wake_by_ref();
                    }
                    polled
                })
                .await;
                never().await;
                Ok(())
            });
        }
        Ok(())
    }));
    let counts = || polls.each_ref().map(|polls| polls.load(Ordering::SeqCst));
    probe.waits();
    assert_eq!(counts(), [1, 1, 1]);
    for _ in 0..3 {
        assert!(probe.poll().is_pending());
    }
    assert_eq!(counts(), [1, 1, 1], "nobody was woken");
    gates[1].open();
    probe.waits();
    assert_eq!(counts(), [1, 2, 1]);
}

/// N-014, N-015: within one poll of the nursery
#[test]
fn a_child_that_wakes_itself_at_every_poll_lets_the_others_have_their_turn() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let stop = AtomicBool::new(false);
    let sibling = AtomicUsize::new(0);
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            poll_fn(|cx| {
                counted.fetch_add(1, Ordering::SeqCst);
                cx.waker().wake_by_ref();
                if stop.load(Ordering::SeqCst) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            Ok(())
        });
        n.start_soon(async {
            while !stop.load(Ordering::SeqCst) {
                sibling.fetch_add(1, Ordering::SeqCst);
                pause().await;
            }
            Ok(())
        });
        for _ in 0..50 {
            pause().await;
        }
        stop.store(true, Ordering::SeqCst);
        Ok(())
    }));
    let mut rounds = 0;
    while probe.poll().is_pending() {
        rounds += 1;
        assert!(rounds < 200, "the others never get their turn");
        assert!(probe.is_woken());
        assert!(
            polls.load(Ordering::SeqCst) <= rounds,
            "polled twice in one poll"
        );
    }
    assert!(sibling.load(Ordering::SeqCst) >= 49);
}

/// N-016
#[test]
fn a_thousand_children_that_become_ready_together_are_all_collected() {
    let (gate, done) = (Gate::new(), AtomicUsize::new(0));
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..1_000 {
            n.start_soon(async {
                gate.wait().await;
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
        }
        Ok(())
    }));
    probe.waits();
    gate.open();
    let before = probe.n_polls();
    probe.ends().unwrap();
    assert!(
        probe.n_polls() - before > 1,
        "neighbors on the executor get their turn"
    );
    assert_eq!(done.load(Ordering::SeqCst), 1_000);
}

/// N-017
#[test]
fn children_do_not_move() {
    struct Pinned {
        address: Cell<usize>,
        _pinned: PhantomPinned,
    }
    impl Future for Pinned {
        type Output = ();
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let here = std::ptr::from_ref(&*self).addr();
            let known = self.address.replace(here);
            assert!(known == 0 || known == here, "the future has moved");
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let polls = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        let stop = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&stop);
        let polls = &polls;
        n.start_soon(async move {
            let pinned = Pinned {
                address: Cell::new(0),
                _pinned: PhantomPinned,
            };
            let mut pinned = std::pin::pin!(pinned);
            poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                let _ = pinned.as_mut().poll(cx);
                if watched.load(Ordering::SeqCst) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            Ok(())
        });
        for _ in 0..10 {
            for _ in 0..10 {
                n.start_soon(async {
                    pause().await;
                    Ok(())
                });
            }
            pause().await;
        }
        stop.store(true, Ordering::SeqCst);
        Ok(())
    }))
    .unwrap();
    assert!(polls.into_inner() > 5);
}

/// N-022
#[test]
fn a_body_that_fails_without_an_await_under_a_cancelled_scope_has_failed_and_no_more() {
    let outer = CancelScope::new();
    let outcome = ends(outer.run(async {
        outer.cancel("just now");
        open_nursery(async |_: Nursery<'_, Word>| Err::<(), _>("failed".into())).await
    }));
    let failure = outcome.expect("no await was pending").unwrap_err();
    assert!(failure.is_group());
    assert_eq!(errors(&failure), ["failed"]);
    assert_eq!(failure.leaves().count(), 1);
}

/// N-023
#[test]
fn a_nursery_without_children_is_over_at_once_and_a_drained_one_can_be_filled_again() {
    let mut probe = Probe::new(open_nursery(async |_: Nursery<'_, Word>| Ok(7)));
    assert!(matches!(probe.poll(), Poll::Ready(Ok(7))));
    let total = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..3 {
            let child = n.spawn(async {
                pause().await;
                total.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            child.await.unwrap();
            for _ in 0..5 {
                pause().await;
            }
        }
        Ok(())
    }))
    .unwrap();
    assert_eq!(total.into_inner(), 3);
}

/// N-023: the last child fills it again although the body is over
#[test]
fn a_last_child_may_start_another_one_as_it_ends() {
    let total = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        fn start<'env>(n: Nursery<'env, Word>, left: usize, total: &'env AtomicUsize) {
            let again = n.clone();
            n.start_soon(async move {
                pause().await;
                total.fetch_add(1, Ordering::SeqCst);
                if left > 0 {
                    start(again, left - 1, total);
                }
                Ok(())
            });
        }
        start(n, 9, &total);
        Ok(())
    }))
    .unwrap();
    assert_eq!(total.into_inner(), 10);
}

/// Adapted 32: a child is gone when its future was dropped, too
#[test]
fn a_childs_future_is_dropped_before_the_nursery_returns_and_when_the_child_ends() {
    let (notes, gate) = (Notes::new(), Gate::new());
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        let guard = notes.on_drop("future dropped");
        let mut done = false;
        n.start_soon(poll_fn(move |_| {
            let _guard = &guard;
            assert!(!std::mem::replace(&mut done, true), "polled after its end");
            Poll::Ready(Ok(()))
        }));
        gate.wait().await;
        Ok(())
    }));
    probe.waits();
    assert_eq!(notes.take(), ["future dropped"]);
    gate.open();
    probe.ends().unwrap();
}
