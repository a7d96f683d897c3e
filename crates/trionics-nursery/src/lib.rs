//! Structured concurrency in which cancellation runs your async cleanup: nurseries, cancel scopes,
//! shields.
//!
//! A task started in a [nursery](open_nursery) ends before the block that opened it does. If one fails,
//! the others are cancelled; and to cancel is not to drop: the code unwinds from the inside out, and
//! what has to be awaited on the way out (a shielded section, the exit of an async context) runs to its
//! end. All of it is plain futures, for any executor.
//!
//! ```
//! use trionics_nursery::{CancelScope, Nursery, checkpoint, open_nursery, shield};
//!
//! # futures::executor::block_on(async {
//! let scope = CancelScope::new();
//! let mut said_goodbye = false;
//! let outcome = scope
//!     .run(async {
//!         shield(async {
//!             scope.cancel("the user has seen enough");
//!             checkpoint().await;      // not stopped here: the shield runs to its end
//!             said_goodbye = true;
//!         })
//!         .await;
//!         checkpoint().await;          // stopped here
//!         unreachable!();
//!     })
//!     .await;
//! assert!(outcome.is_err() && said_goodbye);
//! # });
//! ```
//!
//! # What cancels, and what is cancelled
//!
//! | what happens | effect |
//! |---|---|
//! | a [`CancelScope`] is cancelled | what runs in it unwinds, `run` returns `Err(Cancelled)` |
//! | its [deadline](CancelScope::set_deadline) passes | the same; [`move_on_after`] goes on, [`fail_after`] says [`TooSlow`] |
//! | a child of a nursery or its body fails or panics | the others unwind, `open_nursery` returns or panics |
//! | the signal comes that a scope [follows](CancelScope::run_until) | as if the scope had been cancelled |
//! | an enclosing scope is cancelled | everything inside unwinds and never returns to the code around it |
//! | a future is dropped by a foreign `select!` or `timeout` | it is gone at once; exits that had not run are [reported](set_report_hook) |
//!
//! A body that is ready in the poll in which it would have been stopped has returned, and a failure is
//! never lost to a cancellation.
//!
//! # Time
//!
//! Deadlines, [`sleep`] and [`interval`] take the time from a [`Clock`] that is chosen once, around the
//! whole program, by [`with_clock`] or [`Settings`]: that of tokio, that of async-io, or the virtual one of
//! [`testing`]. Where none is set, they panic with a message that says how to set one. What needs no time
//! needs no clock.
//!
//! # When not to use it
//!
//! Children of a nursery share its task, unless they are [put on an executor](Nursery::spawn_on). For a flag that any code may look at, a plain cancellation token
//! is enough.
//!
//! # Features
//!
//! * `tokio`: [`TokioClock`], the clock of a tokio runtime; its handles as [`Spawner`]s.
//! * `async-executor`: the executors that smol is built on as [`Spawner`]s.
//! * `futures`: what implements `futures::task::Spawn` as a [`Spawner`].
//! * `async-io`: [`AsyncIoClock`], the clock of async-io's reactor (smol, async-std).
//! * `task-tree`: [`task_tree`], a snapshot of what runs, and [`PrintTree`].
//! * `tracing`: a span per scope, nursery and child, and events for what is cancelled, exits and is
//!   abandoned, for the crate `tracing`; the tokio-console shows children as tasks, with their names.
//! * `testing`: [`testing`], a deterministic executor with a virtual clock.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod anchor;
mod block;
mod cancel_requested;
mod carried;
mod checkpoint;
mod clock;
mod current;
mod deadline;
mod fork;
mod frame;
mod host;
mod interval;
mod node;
mod nursery;
mod report;
mod scope;
mod settings;
mod shield;
mod sync;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tracing")]
mod trace;
#[cfg(feature = "task-tree")]
mod tree;
mod wake;

#[doc(no_inline)]
pub use trionics_errgroup::{AnyError, CancelReason, Cancelled, ChildEnded, Failure};

#[cfg(feature = "async-io")]
pub use crate::clock::AsyncIoClock;
#[cfg(feature = "tokio")]
pub use crate::clock::TokioClock;
#[cfg(feature = "futures")]
pub use crate::nursery::FuturesSpawner;
#[cfg(feature = "task-tree")]
pub use crate::tree::{
    PrintTree, PrintingTree, TaskInfo, TaskState, TaskTree, Tasks, task_tree, track_all_tasks,
};
pub use crate::{
    anchor::{Anchored, Branch, anchor, branch},
    cancel_requested::{CancelRequested, cancel_requested, is_cancel_requested},
    carried::{InCurrentScope, in_current_scope},
    checkpoint::{Checkpoint, checkpoint},
    clock::{BoxSleep, Clock, Sleep, now, sleep, sleep_until},
    current::outside,
    deadline::{
        EffectiveDeadline, FailAfter, MoveOn, TooSlow, current_effective_deadline, fail_after,
        fail_at, move_on_after, move_on_at,
    },
    interval::{Interval, MissedTickBehavior, interval, interval_at},
    node::live_frames,
    nursery::{
        BoxTask, ChildHandle, Finish, LocalNursery, MaybeOpenNursery, Nursery, NurseryClosed,
        NurseryOptions, NurserySource, OpenLocalNursery, OpenNursery, Results, ResultsSink,
        SpawnBlocking, SpawnWith, Spawner, Start, StartWhenFree, TaskStatus, WaitIdle,
        maybe_open_nursery, open_local_nursery, open_nursery, spawn_with,
    },
    report::{FrameInfo, FrameKind, Report, set_report_hook},
    scope::{CancelScope, OnCancel, RunScope, RunUntil, WaitCancelled},
    settings::{Settings, WithSettings, with_clock},
    shield::{Shield, shield},
};

/// What the sibling crates build on. Not part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::{
        block::{
            Block, BlockEnd, BlockOutput, ContextPlace, Guest, Invitation, MakeBlock, RunBlock,
        },
        current::{is_cancelled, refuses_frames},
        fork::{Decision, Fork, ForkEnd, Lane, LaneAnd, Lanes, Row, Standing, Visit},
        frame::RETURNS_ONCE,
        host::{Host, start_hosting},
        nursery::{
            open_local_with, open_with,
            raw::{BodyEnd, Enlist, RawEnd, RawNursery, open_children},
        },
        report::report_failure,
        scope::{cancel_scope, move_scope, scope_at},
        shield::{shield_at, shield_leaf},
        tag::{Tag, current_tag},
    };
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
