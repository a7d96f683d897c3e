//! What a change of the state sets off, once its lock is released.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::Waker,
};

use slab::Slab;
use trionics_nursery::{
    CancelScope,
    internal::{Host, Tag},
};

use crate::{
    core::{Core, Place, RunContext},
    few::Few,
    identity::Identity,
    ticket::{Outcome, Ticket},
    trouble::Trouble,
};

/// Dropped after the lock; then they take place: wakes last, the others in order before them.
pub(crate) struct Effects<'a, K, T, E> {
    core: &'a Core<K, T, E>,
    others: Few<Effect<K, T, E>, 3>,
    wakes: Few<Wake, 2>,
}

/// Whom to wake.
enum Wake {
    Waker(Waker),
    /// A generation's child, which looks after its users then.
    Host(Host),
}

/// Something that must not happen under the lock, because it is the program's code, or comes back to the
/// cache. Most are just dropped.
#[allow(dead_code, reason = "some are kept to be dropped")]
pub(crate) enum Effect<K, T, E> {
    /// Cancels a set-up that nobody waits for.
    Stop(Host),
    /// Cancels the block of a user who has to leave.
    Cancel(CancelScope),
    /// Drops the value; then the exit may begin.
    Leave(usize, u64, T),
    /// Tells the handler what went wrong when the service was gone already.
    TooLate(Trouble<E>),
    Value(T),
    Run(RunContext<T, E>),
    Outcome(Outcome<K, T, E>),
    Key(K),
    Identity(Arc<Identity<K, T, E>>),
    Tag(Arc<dyn Tag>),
    Scope(CancelScope),
    Host(Host),
    Blocks(Slab<CancelScope>),
    Waker(Waker),
}

impl<'a, K, T, E> Effects<'a, K, T, E> {
    #[inline]
    pub(crate) fn new(core: &'a Core<K, T, E>) -> Self {
        Self {
            core,
            others: Few::new(),
            wakes: Few::new(),
        }
    }

    /// Makes room for so many wakes.
    pub(crate) fn reserve_wakes(&mut self, n_wakes: usize) {
        self.wakes.reserve(n_wakes);
    }

    #[inline]
    pub(crate) fn push(&mut self, effect: Effect<K, T, E>) {
        self.others.push(effect);
    }

    /// Drops a key.
    #[inline]
    pub(crate) fn drop_key(&mut self, key: Option<K>) {
        if mem::needs_drop::<K>() {
            self.extend(key.map(Effect::Key));
        }
    }

    #[inline]
    pub(crate) fn extend(&mut self, effects: impl IntoIterator<Item = Effect<K, T, E>>) {
        for effect in effects {
            self.push(effect);
        }
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakes.push(Wake::Waker(waker));
        }
    }

    /// Has a generation's child polled, if there is one.
    #[inline]
    pub(crate) fn nudge(&mut self, host: Option<&Host>) {
        if let Some(host) = host {
            self.wakes.push(Wake::Host(host.clone()));
        }
    }

    /// Drops what a ticket holds.
    pub(crate) fn drop_ticket(&mut self, ticket: Ticket<K, T, E>) {
        self.extend(ticket.run.map(Effect::Run));
        self.extend(ticket.waker.map(Effect::Waker));
        self.extend(ticket.outcome.map(Effect::Outcome));
        self.extend(ticket.edge.and_then(|edge| edge.cut()).map(Effect::Tag));
    }

    /// Drops what a place holds; by now it has no value.
    pub(crate) fn drop_place(&mut self, place: Place<K, T, E>) {
        self.push(Effect::Identity(place.identity));
        self.extend(place.host.map(Effect::Host));
        if !place.blocks.is_empty() {
            self.push(Effect::Blocks(place.blocks));
        }
    }
}

impl<K, T, E> Drop for Effects<'_, K, T, E> {
    #[inline]
    fn drop(&mut self) {
        if !(self.others.is_empty() && self.wakes.is_empty()) {
            self.take_place();
        }
    }
}

impl<K, T, E> Effects<'_, K, T, E> {
    fn take_place(&mut self) {
        // A panic of one of these must not keep the others from their effect.
        let mut first_panic = None;
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.take_each())) {
                Ok(()) => break,
                Err(payload) => {
                    first_panic.get_or_insert(payload);
                }
            }
        }
        if let Some(payload) = first_panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }

    /// Goes on where a panic has ended it.
    fn take_each(&mut self) {
        let core = self.core;
        self.others.take_each(|effect| effect.take_place(core));
        self.wakes.take_each(|wake| match wake {
            Wake::Waker(waker) => waker.wake(),
            Wake::Host(host) => host.wake(),
        });
    }
}

impl<K, T, E> Effect<K, T, E> {
    fn take_place(self, core: &Core<K, T, E>) {
        match self {
            Self::Leave(at, generation, value) => {
                let _released = Release {
                    core,
                    at,
                    generation,
                };
                drop(value);
            }
            Self::Stop(host) => host.cancel("nobody waits for this resource any more"),
            Self::Cancel(scope) => {
                scope.cancel("the shared resource is closing");
            }
            Self::TooLate(Trouble::Failure(failure)) => {
                if let Some(handler) = &core.settings.handler {
                    handler(failure);
                }
            }
            dropped => drop(dropped),
        }
    }
}

/// Lets the exit begin when it is dropped.
struct Release<'a, K, T, E> {
    core: &'a Core<K, T, E>,
    at: usize,
    generation: u64,
}

impl<K, T, E> Drop for Release<'_, K, T, E> {
    fn drop(&mut self) {
        self.core.release(self.at, self.generation);
    }
}
