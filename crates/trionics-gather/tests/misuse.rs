//! Contexts at their limits: polled on, cut off in every phase, very many, and on several threads.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
};

use trionics_gather::{Acm, BlockEnd, Provide, Slot, acm, gather_contexts, with_context};
use trionics_nursery::{CancelScope, Failure, is_cancel_requested, live_frames};

mod common;
use common::{
    Drawer, Gate, Notes, OnDrop, Probe, Wakes, Word, ends, errors, never, panic_of, pause, quick,
};

macro_rules! assert_impl {
    ($type:ty: $($bound:tt)+) => {
        const _: fn() = || {
            fn check<T: ?Sized + $($bound)+>() {}
            check::<$type>();
        };
    };
}

assert_impl!(Slot<u32>: Send + Sync + Unpin + std::fmt::Debug);
assert_impl!(Provide<u32>: Future + Send + std::fmt::Debug);
assert_impl!(BlockEnd: Send + Sync + Unpin + Copy + std::panic::UnwindSafe + std::hash::Hash);
// What is not sent may be not sendable: a value is made and used on one task.
assert_impl!(Acm<Rc<()>, fn()>: Send + Sync + Unpin);

#[test]
fn a_value_need_not_be_sendable() {
    let context = acm(async |slot: Slot<Rc<u32>>| {
        slot.provide(Rc::new(7)).await;
        Ok::<(), Failure<Word>>(())
    });
    assert_eq!(ends(with_context(context, async |value| Ok(*value))), Ok(7));
}

#[test]
fn what_is_polled_after_it_has_returned_panics() {
    let notes = Notes::new();
    let mut probe = Probe::new(with_context(quick("a", &notes), async |_| Ok(())));
    probe.ends().unwrap();
    assert!(panic_of(|| probe.poll()).contains("completed"));
    let mut probe = Probe::new(gather_contexts([quick("a", &notes)], async |_| {
        Err::<(), _>("failed".into())
    }));
    probe.ends().unwrap_err();
    assert!(panic_of(|| probe.poll()).contains("completed"));
}

#[test]
fn the_last_waker_counts() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let (first_wakes, first) = Wakes::new();
    let (last_wakes, last) = Wakes::new();
    let mut probe = Probe::new(scope.run(with_context(quick("a", &notes), async |_| {
        never().await;
        Ok(())
    })));
    for waker in [&first, &first, &last] {
        assert!(probe.poll_with(waker).is_pending());
    }
    first_wakes.take();
    last_wakes.take();
    scope.cancel("stop");
    assert!(last_wakes.take() > 0);
    assert_eq!(first_wakes.count(), 0);
    let mut polled = probe.poll_with(&last);
    while polled.is_pending() {
        assert!(last_wakes.take() > 0, "a wake is lost");
        polled = probe.poll_with(&last);
    }
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

#[test]
fn a_block_that_is_cancelled_by_a_drop_of_its_own() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let handle = scope.clone();
    let outcome = ends(scope.run(async {
        let done = with_context(quick("a", &notes), async |_| {
            let _guard = OnDrop::new(move || {
                handle.cancel("by a drop");
            });
            pause().await;
            Ok(7)
        })
        .await;
        notes.add("the value was there");
        pause().await;
        done
    }));
    assert!(outcome.is_err());
    assert_eq!(
        notes.take(),
        [
            "a enters",
            "a sees Completed",
            "a has exited",
            "the value was there"
        ]
    );
}

#[test]
fn no_frame_is_current_while_a_stopped_block_is_dropped() {
    let scope = CancelScope::new();
    let notes = Notes::new();
    let outcome = ends(scope.run(with_context(quick("a", &notes), async |_| {
        let seen = notes.clone();
        let _guard = OnDrop::new(move || {
            seen.add(format!("requested: {}", is_cancel_requested()));
            let inner = with_context(quick("in a drop", &seen), async |_| Ok(()));
            ends(inner).unwrap();
        });
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(notes.take()[1], "requested: false");
}

#[test]
fn one_context_and_ten_thousand() {
    let exits = AtomicUsize::new(0);
    let context = |i: usize| {
        let exits = &exits;
        acm(async move |slot: Slot<usize>| {
            pause().await;
            slot.provide(i).await;
            pause().await;
            exits.fetch_add(1, Ordering::SeqCst);
            Ok::<(), Failure<Word>>(())
        })
    };
    for n in [1, 10_000] {
        let contexts: Vec<_> = (0..n).map(context).collect();
        let sum = ends(gather_contexts(contexts, async |values| {
            assert!(values.iter().copied().eq(0..n));
            Ok(values.len())
        }));
        assert_eq!(sum, Ok(n));
        assert_eq!(exits.swap(0, Ordering::SeqCst), n);
    }
    // Cancelled while all of them are in use.
    let scope = CancelScope::new();
    let contexts: Vec<_> = (0..10_000).map(context).collect();
    let outcome = ends(scope.run(gather_contexts(contexts, async |_| {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(exits.load(Ordering::SeqCst), 10_000);
}

#[test]
fn ten_thousand_failing_exits() {
    let contexts: Vec<_> = (0..10_000)
        .map(|i| {
            acm(async move |slot: Slot<()>| {
                slot.provide(()).await;
                Err(i.into())
            })
        })
        .collect();
    let failure = ends(gather_contexts(contexts, async |_| Ok(()))).unwrap_err();
    assert!(errors(&failure).into_iter().eq(0..10_000));
}

#[test]
fn five_hundred_nested_contexts_are_left_from_the_inside_out() {
    fn nest<'a>(
        depth: usize,
        scope: &'a CancelScope,
        notes: &'a Notes,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Failure<Word>>> + Send + 'a>> {
        Box::pin(async move {
            if depth == 500 {
                scope.cancel("stop");
                never().await;
            }
            let context = acm(async |slot: Slot<()>| {
                slot.provide(()).await;
                pause().await;
                notes.add(depth.to_string());
                Ok(())
            });
            with_context(context, async |()| nest(depth + 1, scope, notes).await).await
        })
    }
    thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(|| {
            let (scope, notes) = (CancelScope::new(), Notes::new());
            assert!(ends(scope.run(nest(0, &scope, &notes))).is_err());
            let expected: Vec<_> = (0..500)
                .rev()
                .map(|depth: usize| depth.to_string())
                .collect();
            assert_eq!(notes.take(), expected);
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_cancellation_from_another_thread_at_any_moment_runs_every_exit_once() {
    for round in 0..300 {
        let scope = CancelScope::new();
        let canceller = scope.clone();
        let thread = thread::spawn(move || {
            for _ in 0..round % 7 {
                thread::yield_now();
            }
            canceller.cancel("from another thread")
        });
        let (entered, exited) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let contexts: Vec<_> = (0..4)
            .map(|_| {
                acm(async |slot: Slot<()>| {
                    pause().await;
                    entered.fetch_add(1, Ordering::SeqCst);
                    slot.provide(()).await;
                    pause().await;
                    exited.fetch_add(1, Ordering::SeqCst);
                    Ok::<(), Failure<Word>>(())
                })
            })
            .collect();
        let outcome =
            futures::executor::block_on(scope.run(gather_contexts(contexts, async |_| {
                never().await;
                Ok(())
            })));
        thread.join().unwrap();
        assert!(outcome.is_err());
        assert_eq!(
            entered.load(Ordering::SeqCst),
            exited.load(Ordering::SeqCst)
        );
    }
}

#[test]
fn provide_may_be_polled_from_another_task_than_the_context() {
    // The slot leaves its context; the block still belongs to the context.
    let (away, notes) = (Drawer::new(), Notes::new());
    let done = Gate::new();
    let scope = CancelScope::new();
    let context = acm(async |slot: Slot<Word>| {
        away.put(slot.provide("from elsewhere"));
        done.wait().await;
        notes.add("context ends");
        Ok::<(), Failure<Word>>(())
    });
    let mut home = Probe::new(scope.run(with_context(context, async |value| {
        notes.add(value);
        Ok(7)
    })));
    home.waits();
    let mut provide = Probe::new(away.take());
    assert!(provide.poll().is_pending());
    assert!(home.is_woken());
    home.waits();
    assert_eq!(provide.ends(), BlockEnd::Completed);
    done.open();
    assert_eq!(home.ends().unwrap(), Ok(7));
    assert_eq!(notes.take(), ["from elsewhere", "context ends"]);
}

#[test]
fn nothing_keeps_a_value_alive() {
    let value = Arc::new(());
    let given = Arc::clone(&value);
    let scope = CancelScope::new();
    let context = acm(async |slot: Slot<Arc<()>>| {
        slot.provide(given).await;
        pause().await;
        Ok::<(), Failure<Word>>(())
    });
    let outcome = ends(scope.run(with_context(context, async |_value| {
        assert!(live_frames() >= 3);
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(Arc::strong_count(&value), 1);
}
