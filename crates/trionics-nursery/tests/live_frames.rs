//! The count of live frames comes back to where it was. One test: the count is the process's.

use trionics_nursery::{
    CancelScope, Nursery, NurseryOptions, cancel_requested, in_current_scope, live_frames,
    open_nursery, shield,
};

mod common;
use common::{Drawer, Gate, Probe, Word, never, pause, poll_once};

#[test]
fn every_way_to_end_gives_the_count_back() {
    assert_eq!(live_frames(), 0);

    // Returned.
    let gate = Gate::new();
    let mut probe = Probe::new(CancelScope::new().run(shield(open_nursery(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                shield(gate.wait()).await;
                Ok(())
            });
            gate.wait().await;
            Ok(())
        },
    ))));
    assert_eq!(live_frames(), 0, "nothing was polled");
    probe.waits();
    // The scope, the shield, the nursery, the child and the shield in it; the body has opened no frame.
    assert_eq!(live_frames(), 5);
    gate.open();
    probe.ends().unwrap().unwrap();
    assert_eq!(live_frames(), 0);

    // Dropped from outside.
    let mut probe = Probe::new(CancelScope::new().run(CancelScope::new().run(never())));
    probe.waits();
    assert_eq!(live_frames(), 2);
    probe.cut();
    assert_eq!(live_frames(), 0);

    // Parked: pending, but no longer live.
    let scope = CancelScope::new();
    let gate = Gate::new();
    let mut probe = Probe::new(async {
        let mut borrowed = Box::pin(CancelScope::new().run(never()));
        assert!(scope.run(&mut borrowed).await.is_err());
        gate.wait().await;
        borrowed.await.unwrap_err();
    });
    probe.waits();
    scope.cancel("stop");
    probe.waits();
    assert_eq!(live_frames(), 0);
    gate.open();
    probe.ends();
    assert_eq!(live_frames(), 0);

    // Stopped, with a frame that was given up on and is polled again.
    let scope = CancelScope::new();
    let (moved, gate) = (Drawer::new(), Gate::new());
    let mut probe = Probe::new(scope.run(async {
        let mut forgotten = Box::pin(shield(gate.wait()));
        assert!(poll_once(&mut forgotten).await.is_none());
        moved.put(forgotten);
        never().await;
    }));
    probe.waits();
    scope.cancel("stop");
    assert!(probe.ends().is_err());
    assert_eq!(live_frames(), 0);
    let mut again = Probe::new(moved.take());
    again.waits();
    assert_eq!(live_frames(), 1);
    gate.open();
    again.ends();
    assert_eq!(live_frames(), 0);

    // Panicked.
    let mut probe = Probe::new(CancelScope::new().run(open_nursery(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                shield(pause()).await;
                panic!("in a child");
            });
            shield(pause()).await;
            never().await;
            Ok(())
        },
    )));
    assert_eq!(probe.panics(), "in a child");
    assert_eq!(live_frames(), 0);

    // Carried away, and gone with its task.
    let carried = Drawer::new();
    let mut home = Probe::new(CancelScope::new().run(async {
        carried.put(in_current_scope(cancel_requested()));
        pause().await;
    }));
    assert!(home.poll().is_pending());
    let mut away = Probe::new(carried.take());
    away.waits();
    assert_eq!(live_frames(), 2);
    home.ends().unwrap();
    assert_eq!(live_frames(), 1);
    away.cut();
    assert_eq!(live_frames(), 0);

    // Cancelled alone while it queued, and never polled.
    let mut probe = Probe::new(NurseryOptions::new().limit(1).open(
        async |n: Nursery<'_, Word>| {
            n.start_soon(async {
                never().await;
                Ok(())
            });
            n.spawn(async { Ok(()) }).cancel("not needed");
            never().await;
            Ok(())
        },
    ));
    probe.waits();
    probe.cut();
    assert_eq!(live_frames(), 0);
}
