//! Nothing, one, and a great many: children, nested scopes, frames that unwind at the same time.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use trionics_nursery::{
    CancelScope, InCurrentScope, Nursery, checkpoint, in_current_scope, open_nursery, shield,
};

mod common;
use common::{Drawer, Gate, Notes, Probe, Word, ends, lone_cancelled, never, pause};

const MANY: usize = 100_000;

#[test]
fn no_child_and_one_child() {
    assert_eq!(
        ends(open_nursery(|_: Nursery<'_, Word>| async { Ok(0) })),
        Ok(0)
    );
    let one = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let child = n.spawn(async { Ok(1) });
        Ok(child.await.unwrap())
    }));
    assert_eq!(one, Ok(1));
}

#[test]
fn a_hundred_thousand_children_end() {
    let total = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..MANY {
            n.start_soon(async {
                checkpoint().await;
                total.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
        }
        Ok(())
    }))
    .unwrap();
    assert_eq!(total.into_inner(), MANY);
}

#[test]
fn a_hundred_thousand_children_are_stopped() {
    let token = Arc::new(());
    let scope = Drawer::new();
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        scope.put(n.cancel_scope());
        for _ in 0..MANY {
            let token = Arc::clone(&token);
            n.start_soon(async move {
                let _token = token;
                never().await;
                Ok(())
            });
        }
        Ok(())
    }));
    probe.waits();
    scope.take().cancel("all of you");
    // A value was there, so that it is what comes out.
    probe.ends().unwrap();
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_hundred_thousand_children_unwind_through_their_exits() {
    let (gate, exits) = (Gate::new(), AtomicUsize::new(0));
    let scope = CancelScope::new();
    let mut probe = Probe::new(scope.run(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..MANY {
            n.start_soon(async {
                let _ = CancelScope::new()
                    .run(async {
                        shield(gate.wait()).await;
                        exits.fetch_add(1, Ordering::SeqCst);
                        never().await;
                    })
                    .await;
                Ok(())
            });
        }
        Ok(())
    })));
    probe.waits();
    scope.cancel("all of you");
    probe.waits();
    gate.open();
    assert!(probe.ends().is_err());
    assert_eq!(exits.load(Ordering::SeqCst), MANY);
}

#[test]
fn a_hundred_thousand_children_fail() {
    let failure = ends(open_nursery(async |n: Nursery<'_, usize>| {
        for i in 0..MANY {
            n.start_soon(async move {
                shield(pause()).await;
                Err(i.into())
            });
        }
        Ok(())
    }))
    .unwrap_err();
    assert_eq!(failure.children().len(), MANY);
    assert!(failure.errors().copied().eq(0..MANY));
}

/// `depth` scopes around `inside`.
fn nest<'a>(
    scopes: &'a [CancelScope],
    inside: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    scopes.iter().rev().fold(inside, |inside, scope| {
        Box::pin(async move {
            let _ = scope.run(inside).await;
        })
    })
}

/// With a stack that holds the nested polls themselves, which are the user's.
fn with_a_large_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_thousand_nested_scopes() {
    with_a_large_stack(|| {
        for cancelled in [0, 500, 999] {
            let scopes: Vec<_> = (0..1_000).map(|_| CancelScope::new()).collect();
            let notes = Notes::new();
            let inside = notes.clone();
            let mut probe = Probe::new(nest(
                &scopes,
                Box::pin(async move {
                    let _guard = inside.on_drop("inside");
                    shield(pause()).await;
                    never().await;
                }),
            ));
            probe.waits();
            scopes[cancelled].cancel("stop");
            probe.ends();
            assert_eq!(notes.take(), ["inside"]);
            for (depth, scope) in scopes.iter().enumerate() {
                assert_eq!(scope.is_caught(), depth == cancelled);
            }
        }
    });
}

#[test]
fn a_thousand_nested_scopes_are_dropped_from_outside() {
    with_a_large_stack(|| {
        let scopes: Vec<_> = (0..1_000).map(|_| CancelScope::new()).collect();
        let mut probe = Probe::new(nest(&scopes, Box::pin(never())));
        probe.waits();
        probe.cut();
    });
}

#[test]
fn a_chain_of_frames_that_is_deeper_than_any_stack() {
    // Each frame is made inside the one before, and polled by nobody but this test: only the tree is deep.
    type Carried = InCurrentScope<Pin<Box<dyn Future<Output = ()>>>>;
    fn link(next: &Drawer<Carried>) -> Carried {
        let next = next.clone();
        in_current_scope(Box::pin(async move {
            next.put(link(&next));
            never().await;
        }))
    }
    for (from_the_inside, depth) in [(true, 1_000), (false, 100_000)] {
        let (scope, next) = (CancelScope::new(), Drawer::new());
        let first = next.clone();
        let mut root = Probe::new(scope.run(async move {
            first.put(link(&first));
            never().await;
        }));
        root.waits();
        let mut frames = Vec::new();
        for _ in 0..depth {
            let mut frame = Box::pin(next.take());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(frame.as_mut().poll(&mut cx).is_pending());
            frames.push(frame);
        }
        scope.cancel("the whole chain");
        if from_the_inside {
            while let Some(mut frame) = frames.pop() {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(frame.as_mut().poll(&mut cx).is_ready());
            }
        } else {
            drop(frames);
        }
        // The last one has the drawer in which it is.
        drop(next.take());
        assert!(root.ends().is_err());
    }
}

#[test]
fn a_deep_tree_of_nurseries() {
    fn grow<'env>(
        depth: usize,
        leaves: &'env AtomicUsize,
    ) -> Pin<Box<dyn Future<Output = Result<(), trionics_nursery::Failure<Word>>> + Send + 'env>>
    {
        Box::pin(open_nursery(async move |n: Nursery<'env, Word>| {
            if depth == 0 {
                leaves.fetch_add(1, Ordering::SeqCst);
                never().await;
            }
            for _ in 0..3 {
                n.start_soon(grow(depth - 1, leaves));
            }
            Ok(())
        }))
    }
    let leaves = AtomicUsize::new(0);
    let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(grow(7, &leaves));
        while leaves.load(Ordering::SeqCst) < 3_usize.pow(7) {
            pause().await;
        }
        n.cancel("all of them");
        never().await;
        Ok(())
    }));
    lone_cancelled(&probe.ends().unwrap_err());
}

#[test]
fn a_scope_that_is_opened_again_and_again_costs_nothing_in_the_end() {
    let outer = CancelScope::new();
    ends(outer.run(async {
        for i in 0..MANY {
            let scope = CancelScope::new();
            if i % 2 == 0 {
                scope.cancel("stop");
            }
            assert_eq!(scope.run(checkpoint()).await.is_err(), i % 2 == 0);
        }
    }))
    .unwrap();
}
