//! `Send`, `Sync` and `Unpin` of every public type and future, checked by the compiler.

use std::{marker::PhantomPinned, panic::UnwindSafe, pin::Pin, rc::Rc};

use trionics_nursery::{
    AsyncIoClock, BoxSleep, BoxTask, CancelRequested, CancelScope, Checkpoint, ChildEnded,
    ChildHandle, Clock, EffectiveDeadline, FailAfter, FrameInfo, FrameKind, InCurrentScope,
    Interval, MoveOn, Nursery, NurseryClosed, OnCancel, OpenNursery, PrintTree, PrintingTree,
    Report, RunScope, RunUntil, Settings, Shield, Sleep, SpawnWith, TaskInfo, TaskState, TaskTree,
    TokioClock, TooSlow, WaitCancelled, WithSettings,
    testing::{Task, VirtualClock, WaitAllBlocked},
};

type Sendable = Pin<Box<dyn Future<Output = Result<(), trionics_nursery::Failure<u32>>> + Send>>;
type Local = Pin<Box<dyn Future<Output = Result<(), trionics_nursery::Failure<u32>>>>>;
type NotUnpin = PhantomPinned;
type NotSend = Rc<()>;
type Open<E, Fut> = OpenNursery<'static, (), E, fn(Nursery<'static, E>) -> Fut, Fut>;

macro_rules! assert_impl {
    ($type:ty: $($bound:tt)+) => {
        const _: fn() = || {
            fn check<T: ?Sized + $($bound)+>() {}
            check::<$type>();
        };
    };
}

/// Two ways to find `ambiguous` on a type that implements the trait do not compile.
macro_rules! assert_not_impl {
    ($type:ty: $bound:path) => {
        const _: fn() = || {
            trait IsAmbiguous<A> {
                fn ambiguous() {}
            }
            impl<T: ?Sized> IsAmbiguous<()> for T {}
            #[allow(dead_code, reason = "only its type matters")]
            struct Other;
            impl<T: ?Sized + $bound> IsAmbiguous<Other> for T {}
            let _ = <$type as IsAmbiguous<_>>::ambiguous;
        };
    };
}

// Handles and values.
assert_impl!(CancelScope: Send + Sync + Unpin + Clone + Eq + std::hash::Hash + std::fmt::Debug);
assert_impl!(Nursery<'static, u32>: Send + Sync + Unpin + Clone + std::fmt::Debug);
assert_impl!(Nursery<'static>: Send + Sync + Unpin);
// A handle passes futures on, never failures.
assert_impl!(Nursery<'static, NotSend>: Send + Sync);
assert_impl!(ChildHandle<u32>: Send + Sync + Unpin + std::fmt::Debug);
assert_impl!(ChildHandle<NotUnpin>: Unpin);
assert_not_impl!(ChildHandle<NotSend>: Send);
assert_impl!(ChildEnded: Send + Sync + Unpin + Copy + UnwindSafe + std::error::Error);
assert_impl!(NurseryClosed<Sendable>: Send + Unpin + std::error::Error);
assert_impl!(FrameInfo: Send + Sync + Unpin + Clone + UnwindSafe);
assert_impl!(FrameKind: Send + Sync + Unpin + Copy + UnwindSafe);
assert_impl!(Report: Send + Sync + Unpin + Clone + UnwindSafe);
assert_impl!(Settings: Send + Sync + Unpin + Clone);
assert_impl!(VirtualClock: Clock + Send + Sync + Unpin + Clone);
assert_impl!(TokioClock: Clock + Send + Sync + Unpin + Copy);
assert_impl!(AsyncIoClock: Clock + Send + Sync + Unpin + Copy);
assert_impl!(TooSlow: Send + Sync + Unpin + Clone + Eq + std::error::Error);
assert_impl!(EffectiveDeadline: Send + Sync + Unpin + Copy + UnwindSafe);
assert_impl!(Interval: Send + Unpin + std::fmt::Debug);
assert_impl!(TaskTree: Send + Sync + Unpin + Clone + std::fmt::Display);
assert_impl!(TaskInfo: Send + Sync + Unpin + Clone + std::fmt::Display);
assert_impl!(TaskState: Send + Sync + Unpin + Copy + UnwindSafe);
assert_impl!(PrintTree: Send + Unpin + std::fmt::Debug);
assert_impl!(dyn Clock: Send + Sync);

// Futures: `Send` where what they run is.
assert_impl!(RunScope<Sendable>: Future + Send + Unpin);
assert_not_impl!(RunScope<Local>: Send);
assert_not_impl!(RunScope<NotUnpin>: Unpin);
assert_impl!(RunUntil<Sendable, Sendable>: Future + Send + Unpin);
assert_not_impl!(RunUntil<Local, Sendable>: Send);
assert_not_impl!(RunUntil<Sendable, Local>: Send);
assert_impl!(WaitCancelled: Future + Send + Sync + Unpin);
assert_impl!(OnCancel: Send + Sync + Unpin);
assert_impl!(BoxTask: Future + Send + Unpin);
assert_impl!(SpawnWith<fn(BoxTask)>: Send + Sync + Unpin + Copy);
assert_impl!(Shield<Sendable>: Future + Send + Unpin);
assert_not_impl!(Shield<Local>: Send);
assert_not_impl!(Shield<NotUnpin>: Unpin);
assert_impl!(InCurrentScope<Sendable>: Future + Send + Unpin);
assert_not_impl!(InCurrentScope<Local>: Send);
assert_not_impl!(InCurrentScope<NotUnpin>: Unpin);
assert_impl!(WithSettings<Sendable>: Future + Send + Unpin);
assert_not_impl!(WithSettings<Local>: Send);
assert_not_impl!(WithSettings<NotUnpin>: Unpin);
assert_impl!(Open<u32, Sendable>: Future + Send + Unpin);
assert_not_impl!(Open<u32, Local>: Send);
assert_not_impl!(OpenNursery<'static, (), u32, fn(), NotUnpin>: Unpin);
assert_impl!(CancelRequested: Future + Send + Sync + Unpin);
assert_impl!(Checkpoint: Future + Send + Sync + Unpin + UnwindSafe);
assert_impl!(Sleep: Future + Send + Unpin);
assert_impl!(BoxSleep: Future + Send + Unpin);
assert_impl!(MoveOn<Sendable>: Future + Send + Unpin);
assert_not_impl!(MoveOn<Local>: Send);
assert_not_impl!(MoveOn<NotUnpin>: Unpin);
assert_impl!(FailAfter<Sendable>: Future + Send + Unpin);
assert_not_impl!(FailAfter<Local>: Send);
assert_not_impl!(FailAfter<NotUnpin>: Unpin);
assert_impl!(PrintingTree<Sendable>: Future + Send + Unpin);
assert_not_impl!(PrintingTree<Local>: Send);
// It is awaited in children that are sent.
assert_impl!(WaitAllBlocked: Future + Send + Sync + Unpin);
// The deterministic executor stays on its thread.
assert_not_impl!(Task<u32>: Send);
assert_impl!(Task<u32>: Future + Unpin);

/// The futures of async functions of this crate, as a user's `tokio::spawn` sees them.
#[test]
fn what_the_functions_return_can_be_sent_and_printed() {
    fn sent<F: Send + std::fmt::Debug>(future: F) -> String {
        format!("{future:?}")
    }
    let scope = CancelScope::new();
    for shown in [
        sent(scope.run(std::future::ready(()))),
        sent(trionics_nursery::shield(std::future::ready(()))),
        sent(trionics_nursery::in_current_scope(std::future::ready(()))),
        sent(trionics_nursery::cancel_requested()),
        sent(trionics_nursery::checkpoint()),
        sent(trionics_nursery::sleep(std::time::Duration::ZERO)),
        sent(Settings::new().run(std::future::ready(()))),
        sent(trionics_nursery::move_on_after(
            std::time::Duration::ZERO,
            std::future::ready(()),
        )),
        sent(trionics_nursery::fail_after(
            std::time::Duration::ZERO,
            std::future::ready(()),
        )),
        sent(PrintTree::new().run(std::future::ready(()))),
        sent(trionics_nursery::testing::wait_all_blocked()),
        sent(trionics_nursery::open_nursery(
            |_: Nursery<'_, u32>| -> Sendable { Box::pin(async { Ok(()) }) },
        )),
    ] {
        assert!(!shown.is_empty());
        assert!(!shown.contains("0x"), "an address: {shown}");
    }
}
