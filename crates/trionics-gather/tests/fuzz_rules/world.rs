//! What a running program shares with its driver and with the model.

use std::{
    any::Any,
    collections::HashMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use trionics_errgroup::{Failure, Node};
use trionics_nursery::{CancelScope, FrameKind, Nursery, Report, Settings, testing::VirtualClock};

use crate::{
    model::{FrameId, Kind, Model, PATIENCE, ProbeId, Role, ScopeId, Seen, Shape, Told},
    program::Slot,
};

/// A failure of the program's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) usize);

pub(crate) type Outcome = Result<(), Failure<Tag>>;
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A running program.
pub(crate) struct World {
    model: Mutex<Model>,
    state: Mutex<State>,
    pub(crate) clock: Option<VirtualClock>,
}

#[derive(Default)]
struct State {
    scopes: HashMap<Slot, ScopeEntry>,
    nurseries: HashMap<Slot, NurseryEntry>,
    gates: Vec<Gate>,
    /// Tasks that the driver has yet to take.
    tasks: Vec<BoxFuture<()>>,
    n_tags: usize,
    n_panics: usize,
}

struct ScopeEntry {
    id: ScopeId,
    scope: CancelScope,
    is_entered: bool,
}

#[derive(Clone)]
pub(crate) struct NurseryEntry {
    pub(crate) frame: FrameId,
    pub(crate) probe: ProbeId,
    pub(crate) nursery: Nursery<'static, Tag>,
}

#[derive(Default)]
struct Gate {
    is_open: bool,
    wakers: Vec<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(n_gates: usize, has_clock: bool) -> Arc<Self> {
        Arc::new(Self {
            clock: has_clock.then(VirtualClock::new),
            model: Mutex::new(Model::new(n_gates, has_clock)),
            state: Mutex::new(State {
                gates: (0..n_gates).map(|_| Gate::default()).collect(),
                ..State::default()
            }),
        })
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    /// The settings of the program.
    pub(crate) fn settings(self: &Arc<Self>) -> Settings {
        let world = Arc::downgrade(self);
        let settings = Settings::new().patience(PATIENCE).on_report(move |report| {
            if let Some(world) = world.upgrade() {
                world.told(report);
            }
        });
        match &self.clock {
            Some(clock) => settings.clock(clock.clone()),
            None => settings,
        }
    }

    /// The scope of a slot, to be entered now.
    pub(crate) fn enter_scope(&self, slot: Slot) -> (ScopeId, CancelScope) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.scopes.get_mut(&slot)
            && !entry.is_entered
        {
            entry.is_entered = true;
            return (entry.id, entry.scope.clone());
        }
        let id = self.model().new_scope();
        let scope = CancelScope::new();
        let entry = ScopeEntry {
            id,
            scope: scope.clone(),
            is_entered: true,
        };
        state.scopes.insert(slot, entry);
        (id, scope)
    }

    /// Makes the scopes that can be cancelled before they are entered.
    pub(crate) fn prepare_scope(&self, slot: Slot) {
        let id = self.model().new_scope();
        let entry = ScopeEntry {
            id,
            scope: CancelScope::new(),
            is_entered: false,
        };
        lock(&self.state).scopes.insert(slot, entry);
    }

    pub(crate) fn add_nursery(&self, slot: Slot, id: ScopeId, entry: NurseryEntry) {
        let mut state = lock(&self.state);
        let scope = ScopeEntry {
            id,
            scope: entry.nursery.cancel_scope(),
            is_entered: true,
        };
        let old = (
            state.scopes.insert(slot, scope),
            state.nurseries.insert(slot, entry),
        );
        drop(state);
        drop(old);
    }

    pub(crate) fn nursery(&self, slot: Slot) -> Option<NurseryEntry> {
        lock(&self.state).nurseries.get(&slot).cloned()
    }

    /// Cancels what is in the slot, if there is anything.
    pub(crate) fn cancel(&self, slot: Slot) {
        let Some((id, scope)) = lock(&self.state)
            .scopes
            .get(&slot)
            .map(|entry| (entry.id, entry.scope.clone()))
        else {
            return;
        };
        let reason = format!("slot {slot}");
        self.model().cancel_begins(id, &reason);
        let was_first = scope.cancel(reason);
        self.model().cancel_ends(id, was_first);
    }

    pub(crate) fn open_gate(&self, gate: usize) {
        self.model().note(format!("open gate {gate}"));
        let wakers = {
            let mut state = lock(&self.state);
            let gate = &mut state.gates[gate];
            gate.is_open = true;
            std::mem::take(&mut gate.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
        // Only now must everybody know of it.
        self.model().opened_gates[gate] = true;
    }

    /// Waits for a gate.
    pub(crate) fn poll_gate(&self, gate: usize, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        let gate = &mut state.gates[gate];
        if gate.is_open {
            return Poll::Ready(());
        }
        gate.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn add_task(&self, task: BoxFuture<()>) {
        lock(&self.state).tasks.push(task);
    }

    pub(crate) fn take_tasks(&self) -> Vec<BoxFuture<()>> {
        std::mem::take(&mut lock(&self.state).tasks)
    }

    pub(crate) fn new_tag(&self) -> Tag {
        let mut state = lock(&self.state);
        state.n_tags += 1;
        Tag(state.n_tags)
    }

    pub(crate) fn new_panic(&self) -> Box<dyn Any + Send> {
        let mut state = lock(&self.state);
        state.n_panics += 1;
        Box::new(format!("panic {}", state.n_panics))
    }

    pub(crate) fn frame(&self, kind: Kind, parent: Option<FrameId>) -> FrameId {
        self.model().new_frame(kind, parent)
    }

    pub(crate) fn probe_id(&self, role: Role, parent: Option<ProbeId>) -> ProbeId {
        self.model().new_probe(role, parent)
    }

    pub(crate) fn told(&self, report: &Report) {
        let told = match report {
            Report::Dropped(frame) => match frame.kind() {
                FrameKind::Context => Told::DroppedContext,
                FrameKind::Shield => Told::DroppedShield,
                kind => Told::Dropped(kind.to_string()),
            },
            Report::NotPolled(_) => Told::NotPolled,
            Report::FailedUnderCancellation { failures, .. } => {
                Told::FailedUnderCancellation(*failures)
            }
            Report::FailuresBehindPanic { failures, .. } => Told::FailuresBehindPanic(*failures),
            Report::LaterPanic { message, .. } => Told::LaterPanic(message.clone()),
            other => Told::Dropped(other.to_string()),
        };
        self.model().told(told);
    }

    /// Breaks the circles.
    pub(crate) fn clear(&self) {
        let state = std::mem::take(&mut *lock(&self.state));
        drop(state);
    }
}

/// A future whose every poll and whose drop the model sees.
pub(crate) struct Probe<T> {
    id: ProbeId,
    world: Arc<World>,
    /// `None` once it has returned.
    future: Option<BoxFuture<T>>,
    see: fn(&T) -> Seen,
}

impl<T> Probe<T> {
    pub(crate) fn new(
        world: &Arc<World>,
        id: ProbeId,
        future: impl Future<Output = T> + Send + 'static,
        see: fn(&T) -> Seen,
    ) -> Self {
        Self {
            id,
            world: Arc::clone(world),
            future: Some(Box::pin(future)),
            see,
        }
    }
}

impl<T> Future for Probe<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        this.world.model().begin(this.id);
        let Some(future) = &mut this.future else {
            panic!("a probe is polled after it has returned");
        };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let polled = match polled {
            Ok(Poll::Pending) => {
                this.world.model().end(this.id, Seen::Pending);
                return Poll::Pending;
            }
            Ok(Poll::Ready(value)) => value,
            Err(payload) => {
                let message = panic_message(&*payload);
                this.world.model().end(this.id, Seen::Panicked(message));
                resume_unwind(payload)
            }
        };
        this.future = None;
        let seen = (this.see)(&polled);
        this.world.model().end(this.id, seen);
        Poll::Ready(polled)
    }
}

impl<T> Drop for Probe<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.world.model().drop_begins(self.id);
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
            let message = dropped
                .as_ref()
                .err()
                .map(|payload| panic_message(&**payload));
            self.world.model().drop_ends(self.id, message);
            if let Err(payload) = dropped {
                resume_unwind(payload);
            }
        }
    }
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    match payload.downcast_ref::<String>() {
        Some(message) => message.clone(),
        None => match payload.downcast_ref::<&str>() {
            Some(message) => (*message).to_owned(),
            None => "not text".to_owned(),
        },
    }
}

pub(crate) fn shape(failure: &Node<Tag>) -> Shape {
    if let Some(tag) = failure.as_leaf() {
        Shape::Tag(tag.0)
    } else if failure.is_cancelled() {
        Shape::Cancelled
    } else if failure.is_group() {
        Shape::Group(failure.children().iter().map(shape).collect())
    } else {
        Shape::Library
    }
}

pub(crate) fn see_outcome(outcome: &Outcome) -> Seen {
    match outcome {
        Ok(()) => Seen::Value,
        Err(failure) => Seen::Failed(shape(failure)),
    }
}
