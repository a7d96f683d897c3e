#![doc = "[guide]: crate::guide\n\n"]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod prelude;

// Pages to be read. They are tested where they lie, in the workspace's `docs`.
#[cfg(all(doc, not(doctest)))]
pub mod guide;

#[cfg(feature = "errgroup")]
#[doc(inline)]
pub use trionics_errgroup as errgroup;
#[cfg(feature = "errgroup")]
#[doc(no_inline)]
pub use trionics_errgroup::{
    AnyError, CancelReason, Cancelled, EmptyGroup, Failure, LibraryFailure, OutcomeExt,
    OutcomeFutureExt, assert_failure, collapse_eg, get_collapsed_eg, is_multi_cancelled,
    maybe_raise_from_masking_exc,
};

#[cfg(feature = "nursery")]
#[doc(inline)]
pub use trionics_nursery as nursery;
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
    CancelScope, ChildEnded, ChildHandle, Clock, LocalNursery, Nursery, NurseryClosed,
    NurseryOptions, Report, Settings, Spawner, TaskStatus, TooSlow, anchor, branch,
    cancel_requested, checkpoint, fail_after, fail_at, in_current_scope, interval,
    is_cancel_requested, live_frames, maybe_open_nursery, move_on_after, move_on_at, now,
    open_local_nursery, open_nursery, outside, set_report_hook, shield, sleep, sleep_until,
    spawn_with, with_clock,
};
#[cfg(feature = "task-tree")]
#[doc(no_inline)]
pub use trionics_nursery::{PrintTree, TaskTree, task_tree};

#[cfg(feature = "gather")]
#[doc(inline)]
pub use trionics_gather as gather;
#[cfg(feature = "gather")]
#[doc(no_inline)]
pub use trionics_gather::{
    Acm, AsyncContext, BlockEnd, ContextSet, ExitStack, GatherGuard, GatherOptions, Slot, acm,
    acm_pair, finally, gather_contexts, gather_contexts_in, join, null_context, nursery_context,
    open_exit_stack, race, race_ok, try_join, try_race, with_context,
};

#[cfg(feature = "cache")]
#[doc(inline)]
pub use trionics_cache as cache;
#[cfg(feature = "cache")]
#[doc(no_inline)]
pub use trionics_cache::{
    CacheValue, ContextCache, KeySlot, Lease, LeaseEnd, WhenFull, maybe_open_context,
    maybe_open_default, serve_default,
};

#[cfg(feature = "broadcast")]
#[doc(inline)]
pub use trionics_broadcast as broadcast;
#[cfg(feature = "broadcast")]
#[doc(no_inline)]
pub use trionics_broadcast::{
    Broadcast, BroadcastReceiver, CapacityError, Lagged, TryBroadcastReceiver, broadcast_receiver,
    try_broadcast_receiver,
};
