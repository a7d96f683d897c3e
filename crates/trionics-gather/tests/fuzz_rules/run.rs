//! Turns a program into a future of the library's.

use std::{
    future::{Future, pending, poll_fn},
    panic::resume_unwind,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use trionics_errgroup::{Cancelled, Failure};
use trionics_gather::{BlockEnd, Slot as ContextSlot, acm, gather_contexts, with_context};
use trionics_nursery::{
    ChildEnded, Nursery, Settings, cancel_requested, checkpoint, in_current_scope,
    is_cancel_requested, open_nursery, shield, sleep,
};

use crate::{
    model::{Ended, FrameId, Kind, ProbeId, Role, Seen, Wait},
    program::{Joiner, Node},
    world::{BoxFuture, NurseryEntry, Outcome, Probe, Tag, World, see_outcome},
};

/// Where a part of a program runs.
#[derive(Clone)]
pub(crate) struct Place {
    world: Arc<World>,
    probe: Option<ProbeId>,
    /// The innermost contexts that have yet to provide, from the outside in.
    contexts: Vec<Arc<Provider>>,
}

/// A context that has yet to provide.
struct Provider {
    slot: Mutex<Option<ContextSlot<usize>>>,
    index: usize,
    block: FrameId,
}

impl Place {
    pub(crate) fn root(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            probe: None,
            contexts: Vec::new(),
        }
    }

    fn below(&self, probe: ProbeId) -> Self {
        Self {
            probe: Some(probe),
            ..self.clone()
        }
    }

    fn probe_id(&self, role: Role) -> ProbeId {
        self.world.probe_id(role, self.probe)
    }

    /// Leaves of the program.
    fn leaf<F>(&self, wait: Wait, future: F) -> BoxFuture<Outcome>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let id = self.probe_id(Role::Wait(wait));
        Box::pin(Probe::new(&self.world, id, future, see_outcome))
    }

    fn code<F, M>(&self, role: Role, make: M) -> Probe<Outcome>
    where
        F: Future<Output = Outcome> + Send + 'static,
        M: FnOnce(Self) -> F,
    {
        let id = self.probe_id(role);
        let future = make(self.below(id));
        Probe::new(&self.world, id, future, see_outcome)
    }

    /// The body of a frame, as the program's code inside `outside`.
    fn inside(&self, outside: ProbeId, frame: FrameId, node: Node) -> Probe<Outcome> {
        self.below(outside).code(
            Role::Inside(frame),
            |place| async move { place.run(node).await },
        )
    }

    fn run_later(&self, node: Node) -> BoxFuture<Outcome> {
        self.run(node)
    }

    /// The future of a part of the program.
    pub(crate) fn run(&self, node: Node) -> BoxFuture<Outcome> {
        let world = Arc::clone(&self.world);
        match node {
            Node::Ready => self.leaf(Wait::Turn, async { Ok(()) }),
            Node::Gate(gate) => self.leaf(Wait::Gate(gate), async move {
                poll_fn(|cx| world.poll_gate(gate, cx)).await;
                Ok(())
            }),
            Node::Turns(n_turns) => self.leaf(Wait::Turn, turns(n_turns)),
            Node::Checkpoint => self.leaf(Wait::Turn, async {
                checkpoint().await;
                Ok(())
            }),
            Node::CancelRequested => self.leaf(Wait::Request, async {
                cancel_requested().await;
                Ok(())
            }),
            Node::AskRequested => self.leaf(Wait::Turn, async move {
                world.model().asked_requested(is_cancel_requested());
                Ok(())
            }),
            Node::Sleep(milliseconds) => self.sleep(Duration::from_millis(milliseconds)),
            Node::Never => self.leaf(Wait::Never, pending()),
            Node::Fail => self.leaf(
                Wait::Turn,
                async move { Err(Failure::leaf(world.new_tag())) },
            ),
            Node::Panic => self.leaf(Wait::Turn, async move { resume_unwind(world.new_panic()) }),
            Node::PanicInDrop(gate) => self.leaf(Wait::Gate(gate), async move {
                let bomb = Bomb {
                    world: Some(Arc::clone(&world)),
                };
                poll_fn(|cx| world.poll_gate(gate, cx)).await;
                bomb.defuse();
                Ok(())
            }),
            Node::Cancel(slot) => self.leaf(Wait::Turn, async move {
                world.cancel(slot);
                Ok(())
            }),
            Node::Start(slot, child) => {
                let place = self.clone();
                self.leaf(Wait::Turn, async move {
                    place.start(slot, *child);
                    Ok(())
                })
            }
            Node::Spawn(slot, child) => Box::pin(self.spawn(slot, *child)),
            Node::Sequence(nodes) => Box::pin(self.code(Role::Plain, |place| async move {
                for node in nodes {
                    place.run(node).await?;
                }
                Ok(())
            })),
            Node::Repeat(n_times, node) => Box::pin(self.code(Role::Plain, |place| async move {
                for _ in 0..n_times {
                    place.run((*node).clone()).await?;
                }
                Ok(())
            })),
            Node::Join(joiner, nodes) => Box::pin(self.code(Role::Plain, |place| async move {
                let branches = nodes.into_iter().map(|node| place.run_later(node));
                match joiner {
                    Joiner::All => join(branches.collect()).await,
                    Joiner::Woken => join_woken(branches.collect()).await,
                }
            })),
            Node::Select(nodes) => Box::pin(self.code(Role::Foreign, |place| async move {
                let branches = nodes.into_iter().map(|node| place.run_later(node));
                select(branches.collect()).await
            })),
            Node::Hold(held, n_polls, then) => {
                Box::pin(self.code(Role::Foreign, |place| place.hold(*held, n_polls, *then)))
            }
            Node::Catch(node) => Box::pin(self.code(Role::Plain, |place| async move {
                let _ = place.run(*node).await;
                Ok(())
            })),
            Node::Scope(slot, body) => Box::pin(self.scope(slot, *body)),
            Node::Settings(body) => {
                let (frame, id) = self.outside(Kind::Settings);
                let body = self.inside(id, frame, *body);
                let future = Settings::new().run(body);
                Box::pin(Probe::new(&world, id, future, see_outcome))
            }
            Node::Shield(body) => {
                let (frame, id) = self.outside(Kind::Shield);
                let body = self.inside(id, frame, *body);
                Box::pin(Probe::new(&world, id, shield(body), see_outcome))
            }
            Node::Carry(body) => {
                let place = self.clone();
                Box::pin(async move { flatten(place.carry(*body).await) })
            }
            Node::Ship(body) => self.ship(*body),
            Node::Nursery(slot, body, children) => self.nursery(slot, *body, children),
            Node::With(context, block) => self.with(*context, *block),
            Node::Gather(contexts, block) => self.gather(contexts, *block),
            Node::Provide => self.provide(),
        }
    }

    fn outside(&self, kind: Kind) -> (FrameId, ProbeId) {
        let frame = self.world.frame(kind, None);
        (frame, self.probe_id(Role::Outside(frame)))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<Outcome> {
        let id = self.probe_id(Role::Plain);
        let world = Arc::clone(&self.world);
        let future = async move {
            let until = {
                let mut model = world.model();
                let until = model.now + duration;
                model.set_role(id, Role::Wait(Wait::Until(until)));
                until
            };
            sleep(duration).await;
            let now = world.model().now;
            if now < until {
                world.model().violate("a sleep ended early");
            }
            Ok(())
        };
        Box::pin(Probe::new(&self.world, id, future, see_outcome))
    }

    fn scope(&self, slot: usize, body: Node) -> impl Future<Output = Outcome> + use<> {
        let (key, scope) = self.world.enter_scope(slot);
        let (frame, id) = self.outside(Kind::Scope);
        self.world.model().set_scope(frame, key);
        let body = self.inside(id, frame, body);
        let run = Probe::new(&self.world, id, scope.run(body), see_scope);
        let world = Arc::clone(&self.world);
        async move {
            let outcome = run.await;
            if scope.is_caught() && (outcome.is_ok() || !scope.is_cancelled()) {
                let message = format!("`is_caught` of slot {slot} is wrong");
                world.model().violate(message);
            }
            flatten(outcome)
        }
    }

    fn carry(&self, body: Node) -> Probe<Result<Outcome, Cancelled>> {
        let current = self.world.model().current();
        let frame = self.world.frame(Kind::Carried, current);
        let id = self.probe_id(Role::Outside(frame));
        let body = self.inside(id, frame, body);
        Probe::new(&self.world, id, in_current_scope(body), see_scope)
    }

    fn ship(&self, body: Node) -> BoxFuture<Outcome> {
        let place = Self {
            probe: None,
            contexts: Vec::new(),
            ..self.clone()
        };
        self.leaf(Wait::Turn, async move {
            let shipped = place.carry(body);
            place.world.add_task(Box::pin(async move {
                let _ = shipped.await;
            }));
            Ok(())
        })
    }

    fn nursery(&self, slot: usize, body: Node, children: Vec<Node>) -> BoxFuture<Outcome> {
        let (frame, id) = self.outside(Kind::Nursery);
        let key = self.world.model().new_scope();
        self.world.model().set_scope(frame, key);
        let place = self.below(id);
        let opened = open_nursery(move |nursery: Nursery<'static, Tag>| {
            let entry = NurseryEntry {
                frame,
                probe: id,
                nursery,
            };
            let body_frame = place.world.frame(Kind::Body, Some(frame));
            let body = place.inside(id, body_frame, body);
            place.world.add_nursery(slot, key, entry);
            for child in children {
                place.start(slot, child);
            }
            body
        });
        Box::pin(Probe::new(&self.world, id, opened, see_outcome))
    }

    /// A child of a nursery, as the model knows it.
    fn child(&self, entry: &NurseryEntry, node: Node) -> (FrameId, Probe<Outcome>) {
        let place = Self {
            contexts: Vec::new(),
            ..self.clone()
        };
        let frame = self.world.frame(Kind::Child, Some(entry.frame));
        (frame, place.inside(entry.probe, frame, node))
    }

    pub(crate) fn start(&self, slot: usize, node: Node) {
        let Some(entry) = self.world.nursery(slot) else {
            return;
        };
        let must_refuse = self.world.model().is_closed(entry.frame);
        let (frame, child) = self.child(&entry, node);
        self.world.model().offers(frame);
        let refused = entry.nursery.try_start_soon(child);
        let is_refused = refused.is_err();
        let mut model = self.world.model();
        model.answered(frame, !is_refused);
        if is_refused != must_refuse && !model.has_threads {
            model.violate(format!(
                "a nursery refused a child: {is_refused}, it had closed: {must_refuse}"
            ));
        }
        drop(model);
    }

    fn spawn(&self, slot: usize, node: Node) -> Probe<Outcome> {
        let id = self.probe_id(Role::Plain);
        let place = self.clone();
        let future = async move {
            let world = &place.world;
            let Some(entry) = world.nursery(slot) else {
                return Ok(());
            };
            if world.model().is_closed(entry.frame) {
                return Ok(());
            }
            let (frame, child) = place.child(&entry, node);
            world.model().set_role(id, Role::Wait(Wait::Child(frame)));
            let told = match entry.nursery.spawn(child).await {
                Ok(()) => Ended::Value,
                Err(ChildEnded::Failed) => Ended::Failed,
                Err(ChildEnded::Panicked) => Ended::Panicked,
                Err(_) => Ended::Cancelled,
            };
            let mut model = world.model();
            model.handle_said(frame, told);
            Ok(())
        };
        Probe::new(&self.world, id, future, see_outcome)
    }

    /// What `acm` is given: the context's whole life.
    fn context(
        &self,
        gather: FrameId,
        block: FrameId,
        index: usize,
        node: Node,
    ) -> impl FnOnce(ContextSlot<usize>) -> Probe<Outcome> + use<> {
        let frame = self.world.frame(Kind::Context, Some(gather));
        self.world.model().set_block(frame, block);
        let mut place = self.clone();
        move |slot| {
            place.contexts.push(Arc::new(Provider {
                slot: Mutex::new(Some(slot)),
                index,
                block,
            }));
            let outside = place.probe.expect("below the gather");
            place.inside(outside, frame, node)
        }
    }

    fn with(&self, context: Node, block: Node) -> BoxFuture<Outcome> {
        let (gather, id) = self.outside(Kind::Gather);
        self.world.model().set_with(gather);
        let place = self.below(id);
        let block_frame = self.world.frame(Kind::Block, Some(gather));
        let context = place.context(gather, block_frame, 0, context);
        let run = with_context(acm(context), move |value| {
            place.check_values(&[value], 1);
            place.inside(id, block_frame, block)
        });
        Box::pin(Probe::new(&self.world, id, run, see_outcome))
    }

    fn gather(&self, contexts: Vec<Node>, block: Node) -> BoxFuture<Outcome> {
        let (gather, id) = self.outside(Kind::Gather);
        let place = self.below(id);
        let block_frame = self.world.frame(Kind::Block, Some(gather));
        let n_contexts = contexts.len();
        let contexts: Vec<_> = contexts
            .into_iter()
            .enumerate()
            .map(|(index, context)| acm(place.context(gather, block_frame, index, context)))
            .collect();
        let run = gather_contexts(contexts, move |values: Vec<usize>| {
            place.check_values(&values, n_contexts);
            place.inside(id, block_frame, block)
        });
        Box::pin(Probe::new(&self.world, id, run, see_outcome))
    }

    fn check_values(&self, values: &[usize], n_contexts: usize) {
        if !values.iter().copied().eq(0..n_contexts) {
            let message = format!("{n_contexts} contexts gave {values:?}");
            self.world.model().violate(message);
        }
    }

    fn provide(&self) -> BoxFuture<Outcome> {
        let taken = self.contexts.iter().rev().find_map(|provider| {
            let slot = provider.slot.lock().expect("not poisoned").take();
            slot.map(|slot| (slot, Arc::clone(provider)))
        });
        let Some((slot, provider)) = taken else {
            return Box::pin(async { Ok(()) });
        };
        let (frame, id) = self.outside(Kind::Provide);
        self.world.model().set_block(frame, provider.block);
        let provide = Probe::new(&self.world, id, slot.provide(provider.index), see_block_end);
        Box::pin(async move {
            provide.await;
            Ok(())
        })
    }

    fn hold(self, held: Node, n_polls: usize, then: Node) -> BoxFuture<Outcome> {
        Box::pin(async move {
            let id = self.probe_id(Role::Plain);
            let future = self.below(id).run(held);
            let mut held = Box::pin(Probe::new(&self.world, id, future, see_outcome));
            let mut left = n_polls;
            let held_end = poll_fn(|cx| match held.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending if left > 1 => {
                    left -= 1;
                    Poll::Pending
                }
                Poll::Pending => Poll::Ready(None),
            })
            .await;
            match held_end {
                Some(outcome) => outcome?,
                None => self.world.model().hold_back(id),
            }
            self.run(then).await
        })
    }
}

fn flatten(outcome: Result<Outcome, Cancelled>) -> Outcome {
    outcome.unwrap_or(Ok(()))
}

fn see_scope(outcome: &Result<Outcome, Cancelled>) -> Seen {
    match outcome {
        Ok(outcome) => see_outcome(outcome),
        Err(cancelled) => Seen::Stopped(cancelled.reason().to_string()),
    }
}

fn see_block_end(end: &BlockEnd) -> Seen {
    Seen::BlockEnd(match end {
        BlockEnd::Completed => Ended::Value,
        BlockEnd::Failed => Ended::Failed,
        BlockEnd::Cancelled => Ended::Cancelled,
        BlockEnd::Panicked => Ended::Panicked,
        other => panic!("the model does not know {other:?}"),
    })
}

async fn turns(n_turns: usize) -> Outcome {
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
    Ok(())
}

/// Panics when it is dropped, unless something panics already.
struct Bomb {
    world: Option<Arc<World>>,
}

impl Bomb {
    fn defuse(mut self) {
        self.world = None;
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(world) = self.world.take()
            && !std::thread::panicking()
        {
            resume_unwind(world.new_panic());
        }
    }
}

fn collect(failures: Vec<Failure<Tag>>) -> Outcome {
    match Failure::group("some branches failed", failures) {
        Ok(failure) => Err(failure),
        Err(_) => Ok(()),
    }
}

async fn join(branches: Vec<BoxFuture<Outcome>>) -> Outcome {
    let outcomes = futures::future::join_all(branches).await;
    collect(outcomes.into_iter().filter_map(Result::err).collect())
}

async fn join_woken(branches: Vec<BoxFuture<Outcome>>) -> Outcome {
    let mut branches: FuturesUnordered<_> = branches.into_iter().collect();
    let mut failures = Vec::new();
    while let Some(outcome) = branches.next().await {
        failures.extend(outcome.err());
    }
    collect(failures)
}

async fn select(mut branches: Vec<BoxFuture<Outcome>>) -> Outcome {
    poll_fn(|cx| {
        for branch in &mut branches {
            if let Poll::Ready(outcome) = branch.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}
