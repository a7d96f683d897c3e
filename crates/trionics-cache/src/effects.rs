//! What a change of the state sets off, once its lock is released.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::Waker,
};

use trionics_nursery::{CancelScope, internal::Tag};

use crate::{
    core::{Core, Place},
    few::Few,
    identity::Identity,
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
    garbage: Few<Garbage<K, T, E>, 2>,
    /// What went wrong when the service was gone already.
    pub(crate) too_late: Vec<Trouble<E>>,
}

/// What is dropped outside the lock, because its drop is the program's code, or comes back to the cache.
#[allow(dead_code, reason = "kept to be dropped")]
pub(crate) enum Garbage<K, T, E> {
    Value(T),
    Ticket(Ticket<K, T, E>),
    Outcome(Outcome<K, T, E>),
    Key(K),
    Identity(Arc<Identity<K>>),
    Tag(Arc<dyn Tag>),
    Place(Place<K, T, E>),
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

    pub(crate) fn drop_later(&mut self, garbage: impl IntoIterator<Item = Garbage<K, T, E>>) {
        self.garbage.extend(garbage);
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
        let mut guarded = |effect: &mut dyn FnMut()| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(effect)) {
                panicked.get_or_insert(payload);
            }
        };
        for (scope, reason) in self.cancelled.drain(..) {
            guarded(&mut || {
                scope.cancel(reason);
            });
        }
        for (at, generation, value) in mem::replace(&mut self.leaving, Few::new()) {
            let mut value = Some(value);
            guarded(&mut || drop(value.take()));
            guarded(&mut || self.core.release(at, generation));
        }
        for waker in mem::replace(&mut self.wakers, Few::new()) {
            let mut waker = Some(waker);
            guarded(&mut || {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            });
        }
        for garbage in mem::replace(&mut self.garbage, Few::new()) {
            let mut garbage = Some(garbage);
            guarded(&mut || drop(garbage.take()));
        }
        if let Some(handler) = &self.core.settings.handler {
            for trouble in self.too_late.drain(..) {
                let mut trouble = Some(trouble);
                guarded(&mut || {
                    if let Some(Trouble::Failure(failure)) = trouble.take() {
                        handler(failure);
                    }
                });
            }
        }
        if let Some(payload) = panicked
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}
