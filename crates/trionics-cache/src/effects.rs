//! What a change of the state sets off, once its lock is released.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Weak},
    task::Waker,
};

use slab::Slab;
use trionics_nursery::{CancelScope, internal::Tag};

use crate::{
    core::{Core, Place, RunContext},
    cycle::Edge,
    few::Few,
    identity::Identity,
    tenure::Tenure,
    ticket::{Outcome, Ticket},
    trouble::Trouble,
};

/// Dropped after the lock, it cancels and wakes; what has to be dropped is dropped with it.
pub(crate) struct Effects<'a, K, T, E> {
    core: &'a Core<K, T, E>,
    /// What is cancelled, and why: set-ups that nobody waits for, blocks of users who have to leave.
    cancelled: Vec<(CancelScope, &'static str)>,
    /// Woken in order.
    pub(crate) wakers: Few<Waker, 2>,
    /// Values whose exits begin when they have been dropped.
    pub(crate) leaving: Few<(usize, u64, T), 1>,
    garbage: Few<Garbage<K, T, E>, 4>,
    /// What went wrong when the service was gone already.
    pub(crate) too_late: Vec<Trouble<E>>,
}

/// What is dropped outside the lock, because its drop is the program's code, or comes back to the cache.
#[allow(dead_code, reason = "kept to be dropped")]
pub(crate) enum Garbage<K, T, E> {
    Value(T),
    Past(Weak<Tenure<K, T, E>>),
    Run(RunContext<T, E>),
    Outcome(Outcome<K, T, E>),
    Key(K),
    Identity(Arc<Identity<K>>),
    Tag(Arc<dyn Tag>),
    Blocks(Slab<CancelScope>),
    Scope(CancelScope),
    Waker(Waker),
    Trouble(Trouble<E>),
}

impl<'a, K, T, E> Effects<'a, K, T, E> {
    pub(crate) fn new(core: &'a Core<K, T, E>) -> Self {
        Self {
            core,
            cancelled: Vec::new(),
            wakers: Few::new(),
            leaving: Few::new(),
            garbage: Few::new(),
            too_late: Vec::new(),
        }
    }

    /// Cancels a set-up that nobody waits for.
    pub(crate) fn cancel_unwanted(&mut self, scope: CancelScope) {
        let reason = "nobody waits for this resource any more";
        self.cancelled.push((scope, reason));
    }

    /// Cancels the block of a user who has to leave.
    pub(crate) fn cancel_block(&mut self, scope: CancelScope) {
        self.cancelled
            .push((scope, "the shared resource is closing"));
    }

    fn is_empty(&self) -> bool {
        self.wakers.is_empty()
            && self.garbage.is_empty()
            && self.cancelled.is_empty()
            && self.leaving.is_empty()
            && self.too_late.is_empty()
    }

    /// Wakes after the lock.
    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakers.push(waker);
        }
    }

    /// Drops after the lock.
    #[inline]
    pub(crate) fn drop_later(&mut self, garbage: impl IntoIterator<Item = Garbage<K, T, E>>) {
        for garbage in garbage {
            self.garbage.push(garbage);
        }
    }

    /// Drops what a ticket holds, after the lock.
    pub(crate) fn drop_ticket(&mut self, ticket: Ticket<K, T, E>) {
        self.drop_later(ticket.run.map(Garbage::Run));
        self.drop_later(ticket.waker.map(Garbage::Waker));
        self.drop_later(ticket.outcome.map(Garbage::Outcome));
        self.drop_later(ticket.edge.and_then(Edge::cut).map(Garbage::Tag));
    }

    /// Drops what a place holds, after the lock.
    pub(crate) fn drop_place(&mut self, place: Place<K, T, E>) {
        let Place {
            identity,
            set_up,
            blocks,
            task,
            phase,
            ..
        } = place;
        self.drop_later([Garbage::Identity(identity)]);
        self.drop_later(set_up.map(Garbage::Scope));
        if !blocks.is_empty() {
            self.drop_later([Garbage::Blocks(blocks)]);
        }
        self.drop_later(task.map(Garbage::Waker));
        self.drop_later(phase.into_garbage());
    }
}

impl<K, T, E> Drop for Effects<'_, K, T, E> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.take_place();
        }
    }
}

impl<K, T, E> Effects<'_, K, T, E> {
    fn take_place(&mut self) {
        // A panic of one of these must not keep the others from their effect.
        let mut panicked = None;
        let panicked = &mut panicked;
        for (scope, reason) in self.cancelled.drain(..) {
            guard(panicked, || {
                scope.cancel(reason);
            });
        }
        let core = self.core;
        self.leaving.take_each(|(at, generation, value)| {
            guard(panicked, || drop(value));
            guard(panicked, || core.release(at, generation));
        });
        self.wakers
            .take_each(|waker| guard(panicked, || waker.wake()));
        self.garbage
            .take_each(|garbage| guard(panicked, || drop(garbage)));
        if let Some(handler) = &core.settings.handler {
            for trouble in self.too_late.drain(..) {
                guard(panicked, || {
                    if let Trouble::Failure(failure) = trouble {
                        handler(failure);
                    }
                });
            }
        }
        if let Some(payload) = panicked.take()
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

/// Runs `effect`, and keeps the first panic.
#[inline]
fn guard(panicked: &mut Option<Box<dyn Any + Send>>, effect: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(effect)) {
        panicked.get_or_insert(payload);
    }
}
