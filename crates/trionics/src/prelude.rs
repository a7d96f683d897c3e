//! What a program needs, in one line: `use trionics::prelude::*;`.
//!
//! Names that you define or import yourself come before those of the prelude, so that nothing of yours is hidden.
//!
//! ```
//! use trionics::prelude::*;
//!
//! let sum = futures::executor::block_on(open_nursery(async |n: Nursery<'_>| {
//!     let one = n.spawn(async { Ok(1) });
//!     let two = n.spawn(async { Ok(2) });
//!     Ok(one.await? + two.await?)
//! }));
//! assert_eq!(sum.unwrap(), 3);
//! ```

#[cfg(feature = "errgroup")]
#[doc(no_inline)]
pub use trionics_errgroup::{
    AnyError, CancelReason, Cancelled, Failure, OutcomeExt, OutcomeFutureExt, assert_failure,
    collapse_eg,
};

#[cfg(feature = "async-io")]
#[doc(no_inline)]
pub use trionics_nursery::AsyncIoClock;
#[cfg(feature = "tokio")]
#[doc(no_inline)]
pub use trionics_nursery::TokioClock;
#[cfg(feature = "testing")]
#[doc(no_inline)]
pub use trionics_nursery::testing;
#[cfg(feature = "nursery")]
#[doc(no_inline)]
pub use trionics_nursery::{
    CancelScope, ChildEnded, ChildHandle, LocalNursery, Nursery, NurseryOptions, Settings,
    TaskStatus, TooSlow, anchor, branch, cancel_requested, checkpoint, fail_after, fail_at,
    in_current_scope, interval, is_cancel_requested, maybe_open_nursery, move_on_after, move_on_at,
    now, open_local_nursery, open_nursery, set_report_hook, shield, sleep, sleep_until, with_clock,
};
#[cfg(feature = "task-tree")]
#[doc(no_inline)]
pub use trionics_nursery::{PrintTree, task_tree};

#[cfg(feature = "gather")]
#[doc(no_inline)]
pub use trionics_gather::{
    AsyncContext, BlockEnd, ExitStack, GatherOptions, Slot, acm, acm_pair, finally,
    gather_contexts, gather_contexts_in, join, null_context, nursery_context, open_exit_stack,
    race, race_ok, try_join, try_race, with_context,
};

#[cfg(feature = "cache")]
#[doc(no_inline)]
pub use trionics_cache::{
    CacheValue, ContextCache, Lease, LeaseEnd, WhenFull, maybe_open_context, maybe_open_default,
    serve_default,
};

#[cfg(feature = "broadcast")]
#[doc(no_inline)]
pub use trionics_broadcast::{
    Broadcast, BroadcastReceiver, Lagged, TryBroadcastReceiver, broadcast_receiver,
    try_broadcast_receiver,
};
