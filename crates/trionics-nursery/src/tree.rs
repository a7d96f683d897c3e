//! The live task tree: what runs, since when, and why it is being stopped.

use std::{
    fmt,
    iter::FusedIterator,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use trionics_errgroup::Cancelled;

use crate::{
    node::Node,
    report::{FrameInfo, FrameKind},
    scope::CancelScope,
};

mod draw;
mod print;
pub(crate) mod roots;
mod snapshot;

pub use self::print::{PrintTree, PrintingTree};
pub(crate) use self::snapshot::{Look, Times};

/// Takes a snapshot of everything that runs below the roots that are tracked.
///
/// A part of the program is tracked if it runs in [`Settings::track_tasks`](crate::Settings::track_tasks),
/// or if it was begun after [`track_all_tasks`]. What is not tracked costs nothing and is not seen from
/// here; [`CancelScope::task_tree`] looks at any scope, tracked or not.
///
/// Takes time in proportion to the number of frames. The program goes on meanwhile, on other threads, so
/// the picture is not of one instant: a frame that moves just then may be missing. No code of the user's
/// runs but the clocks', and that with no lock held.
///
/// # Examples
///
/// ```
/// use trionics_nursery::{Nursery, NurseryOptions, Settings, checkpoint, task_tree};
///
/// # futures::executor::block_on(async {
/// let program = NurseryOptions::new().name("server").open(async |n: Nursery<'_>| {
///     n.named("pinger").start_soon(async {
///         checkpoint().await;
///         checkpoint().await;
///         Ok(())
///     });
///     checkpoint().await;
///     let tree = task_tree();
///     assert!(tree.iter().any(|task| task.name() == Some("pinger")));
///     println!("{tree}");
///     Ok(())
/// });
/// Settings::new().track_tasks(true).run(program).await.unwrap();
/// # });
/// ```
#[must_use]
pub fn task_tree() -> TaskTree {
    TaskTree::of(roots::all())
}

/// Tracks all roots that are begun from now on, or no longer does: see [`task_tree`].
///
/// A root is a frame that is first polled outside any other: a nursery in a task of its own, for instance.
/// For one part of the program there is [`Settings::track_tasks`](crate::Settings::track_tasks).
///
/// # Examples
///
/// ```
/// trionics_nursery::track_all_tasks(true);
/// ```
pub fn track_all_tasks(track: bool) {
    TRACK_ALL.store(track, Ordering::Relaxed);
}

static TRACK_ALL: AtomicBool = AtomicBool::new(false);

pub(crate) fn tracks_all() -> bool {
    TRACK_ALL.load(Ordering::Relaxed)
}

impl CancelScope {
    /// Takes a snapshot of the scope and everything that runs in it.
    ///
    /// In a part of the program that is not tracked, the children of a nursery are seen only if a frame is
    /// open inside them: until then they have no place in the tree. See [`task_tree`].
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_nursery::{CancelScope, TaskState, shield};
    ///
    /// # futures::executor::block_on(async {
    /// let scope = CancelScope::named("outer");
    /// scope
    ///     .run(shield(async {
    ///         scope.cancel("stop");
    ///         let tree = scope.task_tree();
    ///         let states: Vec<_> = tree.iter().map(|task| task.state()).collect();
    ///         assert_eq!(states, [TaskState::Cancelling, TaskState::Shielded]);
    ///     }))
    ///     .await
    ///     .unwrap();
    /// # });
    /// ```
    #[must_use]
    pub fn task_tree(&self) -> TaskTree {
        TaskTree::of(vec![Arc::clone(self.node())])
    }
}

/// A snapshot of what runs, as a list of roots with what is inside each; [`Display`](fmt::Display) draws it.
#[derive(Clone, Debug, Default)]
pub struct TaskTree {
    /// From the outside in, each frame before what is inside it.
    tasks: Vec<TaskInfo>,
}

impl TaskTree {
    pub(crate) fn of(roots: Vec<Arc<Node>>) -> Self {
        Self {
            tasks: snapshot::take(roots),
        }
    }

    /// Each frame, followed by what is inside it; [`TaskInfo::depth`] says how deep it is.
    pub fn iter(&self) -> Tasks<'_> {
        Tasks {
            tasks: self.tasks.iter(),
        }
    }

    /// How many frames there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether nothing runs, or nothing is tracked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The first frame that was given this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&TaskInfo> {
        self.iter().find(|task| task.name() == Some(name))
    }
}

impl<'a> IntoIterator for &'a TaskTree {
    type Item = &'a TaskInfo;
    type IntoIter = Tasks<'a>;

    fn into_iter(self) -> Tasks<'a> {
        self.iter()
    }
}

/// The iterator of [`TaskTree::iter`].
#[derive(Clone, Debug)]
pub struct Tasks<'a> {
    tasks: std::slice::Iter<'a, TaskInfo>,
}

impl<'a> Iterator for Tasks<'a> {
    type Item = &'a TaskInfo;

    fn next(&mut self) -> Option<&'a TaskInfo> {
        self.tasks.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.tasks.size_hint()
    }
}

impl ExactSizeIterator for Tasks<'_> {}

impl FusedIterator for Tasks<'_> {}

/// What a frame was doing when the snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It has not been polled yet.
    NotStarted,
    /// It runs, or waits for something of its own.
    Running,
    /// It is being stopped: its scope, or one around it, is cancelled.
    Cancelling,
    /// A scope around it is cancelled, and a shield keeps that out.
    Shielded,
    /// It runs the exit of an async context.
    Exiting,
    /// It was stopped, and waits to be dropped with the code around it.
    Parked,
    /// It was given up on, because nobody polled it.
    Abandoned,
    /// It is over.
    Ended,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "not started",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Shielded => "shielded",
            Self::Exiting => "exiting",
            Self::Parked => "parked",
            Self::Abandoned => "abandoned",
            Self::Ended => "ended",
        })
    }
}

/// One frame of a [`TaskTree`].
#[derive(Clone, Debug)]
pub struct TaskInfo {
    frame: FrameInfo,
    depth: usize,
    state: TaskState,
    waits_inside: bool,
    is_cancelled_itself: bool,
    cancelled: Option<Cancelled>,
    cancelled_for: Option<Duration>,
    time_left: Option<Duration>,
    age: Option<Duration>,
}

impl TaskInfo {
    /// What sort of frame it is.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        self.frame.kind()
    }

    /// The name it was given, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.frame.name()
    }

    /// Where in the program it was opened.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.frame.location()
    }

    /// How many frames of the snapshot are around it; a root has none.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// What it was doing.
    #[must_use]
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// Whether it is being stopped, and waits for a frame inside to end first.
    #[must_use]
    pub fn waits_inside(&self) -> bool {
        self.waits_inside
    }

    /// Why and from where it was cancelled, if it was.
    #[must_use]
    pub fn cancelled(&self) -> Option<&Cancelled> {
        self.cancelled.as_ref()
    }

    /// Whether its own scope was cancelled, and not merely one around it.
    #[must_use]
    pub fn is_cancelled_itself(&self) -> bool {
        self.is_cancelled_itself
    }

    /// How long ago the cancellation was asked for that stops it; known where tasks are tracked.
    #[must_use]
    pub fn cancelled_for(&self) -> Option<Duration> {
        self.cancelled_for
    }

    /// How much time is left until its own deadline, if it has one.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// How long ago it was first polled; known where tasks are tracked.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}
