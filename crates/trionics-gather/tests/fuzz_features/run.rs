//! Turns a program into a future of the library's, which tells the world what it does.

use std::{
    any::Any,
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt as _;
use trionics_errgroup::Failure;
use trionics_gather::{acm, with_context};
use trionics_nursery::{
    CancelScope, ChildEnded, Nursery, NurseryOptions, TaskStatus, anchor, branch, cancel_requested,
    checkpoint, is_cancel_requested, open_nursery, shield, sleep,
};

use crate::{
    program::{Node, Options, Report, Slot, WithHandle},
    world::{BoxFuture, NurseryEntry, OnExecutor, Outcome, Tag, World, lock},
};

/// Where a part of a program runs.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) world: Arc<World>,
    /// The innermost context whose block this is.
    pub(crate) context: Option<usize>,
}

/// Set once a child's future has gone.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// An exit that is to run.
struct Exit {
    world: Arc<World>,
    id: usize,
    has_ended: bool,
}

impl Drop for Exit {
    fn drop(&mut self) {
        let mut state = self.world.state();
        state.open.remove(&self.id);
        if self.has_ended {
            state.n_exits += 1;
        } else {
            state.n_lost += 1;
        }
        let (id, ended) = (self.id, self.has_ended);
        state
            .log
            .push(format!("context {id} has gone, its exit ended: {ended}"));
    }
}

/// Panics when it is dropped, unless something panics already.
struct Bomb(Option<Arc<World>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(world) = self.0.take()
            && !std::thread::panicking()
        {
            // Who drops it may be foreign, and drop the payload, too.
            world.state().foreign = true;
            resume_unwind(world.new_panic());
        }
    }
}

/// A failure without a cause of the program's own is as good as success.
fn settled(outcome: Outcome) -> Outcome {
    match outcome {
        Err(failure) if failure.errors().next().is_some() => Err(failure),
        _ => Ok(()),
    }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("not text")
}

/// What a frame without a value of its own says where nothing is cancelled: rule 5.
pub(crate) fn is_borrowed_and_stopped(payload: &(dyn Any + Send)) -> bool {
    text_of(payload).contains("was stopped by a cancellation")
}

async fn turns(n_turns: usize) {
    let mut left = n_turns;
    poll_fn(|cx: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Place {
    fn gate(&self, gate: usize) -> impl Future<Output = ()> + Send + use<> {
        let world = Arc::clone(&self.world);
        poll_fn(move |cx| world.poll_gate(gate, cx))
    }

    fn scope(&self, slot: Slot, grace: Option<u64>) -> CancelScope {
        let scope = CancelScope::new();
        if let Some(grace) = grace {
            scope.set_exit_grace(Duration::from_millis(grace));
        }
        self.world.state().scopes.insert(slot, scope.clone());
        scope
    }

    /// A child that is polled by somebody else than this place: no context waits for it.
    fn apart(&self) -> Self {
        Self {
            context: None,
            ..self.clone()
        }
    }

    /// What a nursery is given.
    fn child(&self, entry: &NurseryEntry, node: Node, end: &ChildEnd) -> BoxFuture<Outcome> {
        let (child, gone) = self.child_to_be(node, end);
        lock(&entry.children).push(gone);
        child
    }

    /// As `child`, for a nursery that has yet to take it; with the flag that it has gone.
    fn child_to_be(&self, node: Node, end: &ChildEnd) -> (BoxFuture<Outcome>, Arc<AtomicBool>) {
        let gone = Gone(Arc::default());
        let has_gone = Arc::clone(&gone.0);
        let (place, end) = (self.apart(), end.clone());
        let child = Box::pin(async move {
            let _gone = gone;
            let outcome = place.run(node).await;
            place.world.given(&outcome, true);
            *lock(&end.0) = Some(outcome.is_ok());
            outcome
        });
        (child, has_gone)
    }

    /// Starts a child from outside.
    pub(crate) fn soon(&self, slot: Slot, node: Node) {
        if let Some(entry) = self.world.nursery(slot) {
            let child = self.child(&entry, node, &ChildEnd::default());
            // Whether it is refused or not, its future is the nursery's or comes back.
            drop(entry.nursery.try_start_soon(child));
        }
    }

    /// The future of a part of the program.
    pub(crate) fn run(&self, node: Node) -> BoxFuture<Outcome> {
        let place = self.clone();
        let world = Arc::clone(&self.world);
        match node {
            Node::Gate(gate) => {
                let waits = self.gate(gate);
                Box::pin(waits.map(Ok))
            }
            Node::Turns(n_turns) => Box::pin(turns(n_turns).map(Ok)),
            Node::Sleep(milliseconds) => {
                Box::pin(sleep(Duration::from_millis(milliseconds)).map(Ok))
            }
            Node::CancelRequested => Box::pin(async {
                cancel_requested().await;
                Ok(())
            }),
            Node::Never => Box::pin(pending()),
            Node::Fail => Box::pin(async move {
                let tag = world.new_id();
                world.note(format!("failure {tag}"));
                Err(Failure::leaf(Tag(tag)))
            }),
            Node::Panic => Box::pin(async move {
                world.saw("panic");
                resume_unwind(world.new_panic())
            }),
            Node::PanicInDrop(gate) => Box::pin(async move {
                let mut bomb = Bomb(Some(Arc::clone(&world)));
                poll_fn(|cx| world.poll_gate(gate, cx)).await;
                bomb.0 = None;
                Ok(())
            }),
            Node::Cancel(slot) => Box::pin(async move {
                world.cancel(slot);
                Ok(())
            }),
            Node::Sequence(nodes) => Box::pin(async move {
                for node in nodes {
                    place.run(node).await?;
                }
                Ok(())
            }),
            Node::Join(nodes) => Box::pin(place.join(nodes)),
            Node::Select(nodes) => Box::pin(async move {
                let branches = nodes.into_iter().map(|node| place.run(node));
                let selected = AssertUnwindSafe(futures::future::select_all(branches))
                    .catch_unwind()
                    .await;
                // Before the others are dropped.
                place.world.state().foreign = true;
                match selected {
                    Ok((outcome, _, _others)) => outcome,
                    Err(payload) => resume_unwind(payload),
                }
            }),
            Node::Shield(body) => Box::pin(async move { shield(place.run(*body)).await }),
            Node::Branch(body) => Box::pin(async move { branch(place.run(*body)).await }),
            Node::Scope(slot, grace, body) => Box::pin(async move {
                let scope = place.scope(slot, grace);
                let outcome = scope.run(place.run(*body)).await;
                if scope.is_caught() != outcome.is_err() && scope.is_cancelled() {
                    place.world.violate(format!("`is_caught` of slot {slot}"));
                }
                outcome.unwrap_or(Ok(()))
            }),
            Node::Nursery(slot, options, body, children) => {
                Box::pin(place.nursery(slot, options, *body, children))
            }
            Node::Context(set_up, block, exit) => Box::pin(place.context(*set_up, *block, *exit)),
            Node::Soon(slot, child) => Box::pin(async move {
                place.soon(slot, *child);
                Ok(())
            }),
            Node::WhenFree(slot, child) => Box::pin(place.when_free(slot, *child)),
            Node::Spawn(slot, on_executor, child, how) => {
                Box::pin(place.spawn(slot, on_executor, *child, how))
            }
            Node::Block(slot, fails) => Box::pin(async move {
                place.block(slot, fails);
                Ok(())
            }),
            Node::Start(slot, or_cancel, before, report, after) => {
                Box::pin(place.start(slot, or_cancel, *before, report, *after))
            }
            Node::Anchor(slot, body) => Box::pin(place.anchor(slot, *body)),
            Node::Move(first, second, n_polls, body) => {
                Box::pin(place.carry_over(first, second, n_polls, *body))
            }
        }
    }

    async fn join(self, nodes: Vec<Node>) -> Outcome {
        let world = &self.world;
        let branches = nodes.into_iter().map(|node| {
            let branch = AssertUnwindSafe(self.run(node)).catch_unwind();
            async move {
                let outcome = branch.await;
                // What the join holds is lost with it: that is the program's own doing.
                if let Err(payload) = &outcome {
                    world.heard_panic(&**payload);
                }
                outcome
            }
        });
        let mut failures = Vec::new();
        let mut panic = None;
        for outcome in futures::future::join_all(branches).await {
            match outcome {
                Ok(outcome) => failures.extend(outcome.err()),
                Err(payload) => panic = panic.or(Some(payload)),
            }
        }
        if let Some(payload) = panic {
            world.goes_on(&*payload);
            resume_unwind(payload);
        }
        match Failure::group("some branches failed", failures) {
            Ok(failure) => Err(failure),
            Err(_) => Ok(()),
        }
    }

    async fn nursery(
        self,
        slot: Slot,
        options: Options,
        body: Node,
        children: Vec<Node>,
    ) -> Outcome {
        let mut builder = NurseryOptions::new();
        if let Some(limit) = options.limit {
            builder = builder.limit(limit);
        }
        if options.supervises {
            builder = builder.supervise();
        }
        if options.shielded {
            builder = builder.shield();
        }
        if let Some(grace) = options.grace {
            builder = builder.exit_grace(Duration::from_millis(grace));
        }
        let all_children: Arc<Mutex<Vec<Arc<AtomicBool>>>> = Arc::default();
        let (place, entered) = (self.clone(), Arc::clone(&all_children));
        let opened = builder.open(async move |nursery: Nursery<'static, Tag>| {
            let world = &place.world;
            let scope = nursery.cancel_scope();
            world.state().scopes.insert(slot, scope);
            let entry = NurseryEntry {
                nursery,
                children: entered,
            };
            world.state().nurseries.insert(slot, entry.clone());
            for child in children {
                let child = place.child(&entry, child, &ChildEnd::default());
                entry.nursery.start_soon(child);
            }
            drop(entry);
            let outcome = place.run(body).await;
            world.given(&outcome, true);
            outcome
        });
        let ended = AssertUnwindSafe(opened).catch_unwind().await;
        if !lock(&all_children)
            .iter()
            .all(|gone| gone.load(Ordering::SeqCst))
        {
            self.world.violate(format!(
                "the nursery {slot} has returned before a child has gone"
            ));
        }
        match ended {
            Ok(outcome) => {
                self.world.given(&outcome, false);
                settled(outcome)
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    async fn context(self, set_up: Node, block: Node, exit: Node) -> Outcome {
        let world = Arc::clone(&self.world);
        let id = world.new_id();
        let inside = Self {
            context: Some(id),
            ..self.clone()
        };
        let place = self.clone();
        let context = acm(async move |slot: trionics_gather::Slot<()>| {
            let world = Arc::clone(&place.world);
            let run = async {
                place.run(set_up).await?;
                world.state().open.insert(id, place.context);
                let mut pending = Exit {
                    world: Arc::clone(&world),
                    id,
                    has_ended: false,
                };
                slot.provide(()).await;
                world.exit_begins(id);
                let ended = AssertUnwindSafe(place.run(exit)).catch_unwind().await;
                pending.has_ended = true;
                world.saw("exit");
                drop(pending);
                ended.unwrap_or_else(|payload| resume_unwind(payload))
            };
            let outcome = run.await;
            world.given(&outcome, true);
            outcome
        });
        let outcome = with_context(context, async move |()| {
            let outcome = inside.run(block).await;
            inside.world.given(&outcome, true);
            outcome
        })
        .await;
        world.given(&outcome, false);
        settled(outcome)
    }

    /// A call that panics if the nursery has closed.
    fn unless_closed<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(value) => Some(value),
            Err(payload) => {
                if !text_of(&*payload).contains("has closed") {
                    resume_unwind(payload);
                }
                self.world.saw("closed");
                None
            }
        }
    }

    async fn when_free(self, slot: Slot, child: Node) -> Outcome {
        let Some(entry) = self.world.nursery(slot) else {
            return Ok(());
        };
        let (child, gone) = self.child_to_be(child, &ChildEnd::default());
        let started = AssertUnwindSafe(entry.nursery.start_soon_when_free(child))
            .catch_unwind()
            .await;
        lock(&entry.children).push(gone);
        let _ = self.unless_closed(|| started.unwrap_or_else(|payload| resume_unwind(payload)));
        Ok(())
    }

    async fn spawn(self, slot: Slot, on_executor: bool, child: Node, how: WithHandle) -> Outcome {
        let Some(entry) = self.world.nursery(slot) else {
            return Ok(());
        };
        let end = ChildEnd::default();
        let child = self.child(&entry, child, &end);
        let executor = OnExecutor(Arc::clone(&self.world.executor));
        let Some(handle) = self.unless_closed(|| {
            if on_executor {
                self.world.saw("executor child");
                entry.nursery.spawn_on(&executor, child)
            } else {
                entry.nursery.spawn(child)
            }
        }) else {
            return Ok(());
        };
        drop(entry);
        match how {
            WithHandle::Drop => return Ok(()),
            WithHandle::Wait => {}
            WithHandle::Cancel(n_turns) => {
                turns(n_turns).await;
                if handle.cancel("not needed") {
                    self.world.saw("handle cancelled");
                }
            }
        }
        let told = handle.await;
        let ended = *lock(&end.0);
        let agrees = match told {
            Ok(()) => ended == Some(true),
            Err(ChildEnded::Failed) => ended == Some(false),
            // A drop may have panicked after the child had returned.
            Err(_) => true,
        };
        if !agrees {
            self.world
                .violate(format!("a handle says {told:?}, its child {ended:?}"));
        }
        Ok(())
    }

    fn block(&self, slot: Slot, fails: bool) {
        let Some(entry) = self.world.nursery(slot) else {
            return;
        };
        let gone = Gone(Arc::default());
        lock(&entry.children).push(Arc::clone(&gone.0));
        let world = Arc::clone(&self.world);
        let pool = OnExecutor(Arc::clone(&self.world.executor));
        let _ = self.unless_closed(|| {
            entry.nursery.spawn_blocking_on(&pool, move || {
                let _gone = gone;
                let outcome: Outcome = if fails {
                    Err(Failure::leaf(Tag(world.new_id())))
                } else {
                    Ok(())
                };
                world.given(&outcome, true);
                outcome
            })
        });
    }

    async fn start(
        self,
        slot: Slot,
        or_cancel: bool,
        before: Node,
        report: Report,
        after: Node,
    ) -> Outcome {
        let Some(entry) = self.world.nursery(slot) else {
            return Ok(());
        };
        let world = &self.world;
        let gone = Gone(Arc::default());
        let has_gone = Arc::clone(&gone.0);
        let reported = Arc::new(AtomicBool::new(false));
        let (place, has_reported) = (self.apart(), Arc::clone(&reported));
        let task = async move |status: TaskStatus<u8>| {
            let _gone = gone;
            let run = async {
                place.run(before).await?;
                let kept = match report {
                    Report::Started => {
                        has_reported.store(true, Ordering::SeqCst);
                        status.started(7);
                        None
                    }
                    Report::Dropped => None,
                    Report::Kept => Some(status),
                };
                let outcome = place.run(after).await;
                drop(kept);
                outcome
            };
            let outcome = run.await;
            place.world.given(&outcome, true);
            outcome
        };
        let started = if or_cancel {
            entry.nursery.start_or_cancel(task)
        } else {
            entry.nursery.start(task)
        };
        match started.await {
            Ok(value) => {
                lock(&entry.children).push(has_gone);
                world.saw("started");
                if value != 7 || !reported.load(Ordering::SeqCst) {
                    world.violate("a start returned before the report");
                }
                Ok(())
            }
            Err(failure) => {
                world.saw("not started");
                if !has_gone.load(Ordering::SeqCst) {
                    world.violate("a start failed, and its child is still there");
                }
                let outcome = Err(failure);
                world.given(&outcome, false);
                settled(outcome)
            }
        }
    }

    async fn anchor(self, slot: Slot, body: Node) -> Outcome {
        let mut guest = Box::pin(anchor(self.run(body)));
        let scope = self.scope(slot, None);
        match scope.run(guest.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.world.saw("host cancelled");
                self.borrowed(guest).await
            }
        }
    }

    /// Awaits what may have been stopped in another place.
    async fn borrowed(&self, work: impl Future<Output = Outcome>) -> Outcome {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(payload) if is_borrowed_and_stopped(&*payload) => Ok(()),
            Err(payload) => resume_unwind(payload),
        }
    }

    async fn carry_over(self, first: Slot, second: Slot, n_polls: usize, body: Node) -> Outcome {
        let mut work = self.run(body);
        let scope = self.scope(first, None);
        let mut left = n_polls;
        let early = scope
            .run(poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }))
            .await;
        if let Ok(Some(outcome)) = early {
            return outcome;
        }
        self.world.saw("moved");
        if is_cancel_requested() {
            // Rule 8: the scope may park without polling what is half done, which goes with it.
            self.world.state().foreign = true;
        }
        let scope = self.scope(second, None);
        let moved = scope.run(self.borrowed(work)).await;
        moved.unwrap_or(Ok(()))
    }
}

/// Whether a child has returned a value or a failure.
#[derive(Clone, Default)]
struct ChildEnd(Arc<Mutex<Option<bool>>>);

/// So that the root has an await of each kind.
pub(crate) async fn whole(place: Place, root: Node) -> Outcome {
    checkpoint().await;
    let outcome = open_nursery(async |_: Nursery<'_, Tag>| place.run(root).await).await;
    settled(outcome)
}
