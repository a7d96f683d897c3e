//! What a change of the state sets off, once its lock is released.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::Waker,
};

use slab::Slab;
use trionics_nursery::{CancelScope, internal::Tag};

use crate::{
    core::{Core, Place, RunContext},
    cycle::Edge,
    few::Few,
    identity::Identity,
    ticket::{Outcome, Ticket},
    trouble::Trouble,
};

/// Dropped after the lock; then they take place, in order.
pub(crate) struct Effects<'a, K, T, E> {
    core: &'a Core<K, T, E>,
    effects: Few<Effect<K, T, E>, 5>,
}

/// Something that must not happen under the lock, because it is the program's code, or comes back to the
/// cache. Most are just dropped.
#[allow(dead_code, reason = "some are kept to be dropped")]
pub(crate) enum Effect<K, T, E> {
    /// Wakes.
    Wake(Waker),
    /// Cancels a set-up that nobody waits for, or the block of a user who has to leave, and says why.
    Cancel(CancelScope, &'static str),
    /// Drops the value; then the exit may begin.
    Leave(usize, u64, T),
    /// Tells the handler what went wrong when the service was gone already.
    TooLate(Trouble<E>),
    Value(T),
    Run(RunContext<T, E>),
    Outcome(Outcome<K, T, E>),
    Key(K),
    Identity(Arc<Identity<K>>),
    Tag(Arc<dyn Tag>),
    Scope(CancelScope),
    Blocks(Slab<CancelScope>),
    Waker(Waker),
}

impl<'a, K, T, E> Effects<'a, K, T, E> {
    #[inline]
    pub(crate) fn new(core: &'a Core<K, T, E>) -> Self {
        Self {
            core,
            effects: Few::new(),
        }
    }

    /// Makes room for so many.
    pub(crate) fn reserve(&mut self, n_effects: usize) {
        self.effects.reserve(n_effects);
    }

    #[inline]
    pub(crate) fn push(&mut self, effect: Effect<K, T, E>) {
        self.effects.push(effect);
    }

    #[inline]
    pub(crate) fn extend(&mut self, effects: impl IntoIterator<Item = Effect<K, T, E>>) {
        for effect in effects {
            self.push(effect);
        }
    }

    /// Cancels a set-up that nobody waits for.
    pub(crate) fn cancel_unwanted(&mut self, scope: CancelScope) {
        let reason = "nobody waits for this resource any more";
        self.push(Effect::Cancel(scope, reason));
    }

    /// Cancels the block of a user who has to leave.
    pub(crate) fn cancel_block(&mut self, scope: CancelScope) {
        let reason = "the shared resource is closing";
        self.push(Effect::Cancel(scope, reason));
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.extend(waker.map(Effect::Wake));
    }

    /// Drops what a ticket holds.
    pub(crate) fn drop_ticket(&mut self, ticket: Ticket<K, T, E>) {
        self.extend(ticket.run.map(Effect::Run));
        self.extend(ticket.waker.map(Effect::Waker));
        self.extend(ticket.outcome.map(Effect::Outcome));
        self.extend(ticket.edge.and_then(Edge::cut).map(Effect::Tag));
    }

    /// Drops what a place holds; by now it has no value.
    pub(crate) fn drop_place(&mut self, place: Place<K, T, E>) {
        self.push(Effect::Identity(place.identity));
        self.extend(place.set_up.map(Effect::Scope));
        self.extend(place.task.map(Effect::Waker));
        if !place.blocks.is_empty() {
            self.push(Effect::Blocks(place.blocks));
        }
    }
}

impl<K, T, E> Drop for Effects<'_, K, T, E> {
    #[inline]
    fn drop(&mut self) {
        if !self.effects.is_empty() {
            self.take_place();
        }
    }
}

impl<K, T, E> Effects<'_, K, T, E> {
    fn take_place(&mut self) {
        // A panic of one of these must not keep the others from their effect.
        let mut panicked = None;
        let core = self.core;
        self.effects.take_each(|effect| match effect {
            Effect::Leave(at, generation, value) => {
                guard(&mut panicked, || drop(value));
                guard(&mut panicked, || core.release(at, generation));
            }
            effect => guard(&mut panicked, || match effect {
                Effect::Wake(waker) => waker.wake(),
                Effect::Cancel(scope, reason) => {
                    scope.cancel(reason);
                }
                Effect::TooLate(Trouble::Failure(failure)) => {
                    if let Some(handler) = &core.settings.handler {
                        handler(failure);
                    }
                }
                dropped => drop(dropped),
            }),
        });
        if let Some(payload) = panicked
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

/// Runs `effect`, and keeps the first panic.
#[inline]
pub(crate) fn guard(panicked: &mut Option<Box<dyn Any + Send>>, effect: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(effect)) {
        panicked.get_or_insert(payload);
    }
}
