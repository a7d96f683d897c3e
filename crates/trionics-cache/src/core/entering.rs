//! Asking for a key: to share its value, to wait in its queue, or to set it up.

use std::{hash::Hash, sync::Arc, task::Waker, time::Duration};

use slab::Slab;
use trionics_nursery::internal::Tag;

use super::{
    Core, State,
    place::{Phase, Place},
    set_up::RunContext,
};
use crate::{
    cycle::{Cycle, Edge},
    effects::{Effect, Effects},
    identity::Identity,
    index::SeenAt,
    options::WhenFull,
    tenure::Tenure,
    ticket::Line,
};

/// Who asks for a key. What is used is taken.
pub(crate) struct Seeker<'a, T, E> {
    /// Its context, unless it only looks.
    pub(crate) run: Option<RunContext<T, E>>,
    /// What it belongs to.
    pub(crate) inside: Option<&'a Arc<dyn Tag>>,
    /// Whom to wake, if that is known.
    pub(crate) waker: Option<Waker>,
}

impl<'a, T, E> Seeker<'a, T, E> {
    /// One that sets nothing up.
    pub(crate) fn looking(inside: Option<&'a Arc<dyn Tag>>) -> Self {
        Self {
            run: None,
            inside,
            waker: None,
        }
    }
}

/// A key that comes alive.
pub(crate) struct Newcomer<K, T, E> {
    pub(crate) key: K,
    pub(crate) identity: Arc<Identity<K, T, E>>,
    pub(crate) keep_alive: Duration,
}

/// What came of asking for a key.
pub(crate) enum Entered<K, T, E> {
    Lease(Arc<Tenure<K, T, E>>),
    /// Wait for the ticket.
    Wait(usize),
    /// The key is not there; ask again with a newcomer.
    Absent,
    Closed,
    Full,
    Cycle(Cycle),
}

impl<K, T, E> Core<K, T, E>
where
    K: Eq + Hash,
{
    /// Asks for a key: shares its value, or waits in its queue, or sets it up.
    ///
    /// `seen_at` is the place at which it may be.
    pub(crate) fn enter(
        &self,
        hash: u64,
        key: &K,
        seen_at: SeenAt,
        newcomer: &mut Option<Newcomer<K, T, E>>,
        seeker: &mut Seeker<'_, T, E>,
    ) -> Entered<K, T, E> {
        if newcomer.is_none() {
            // Nothing comes of it that would have to wait until the lock is released.
            let mut state = self.lock();
            return match self.seek(&state, hash, key, seen_at) {
                Ok(at) => self.join(&mut state, at, seeker),
                Err(entered) => entered,
            };
        }
        self.ask(
            |state, effects| match self.seek(state, hash, key, seen_at) {
                Ok(at) => self.join(state, at, seeker),
                Err(Entered::Absent) => match newcomer.take() {
                    Some(newcomer) => self.settle(state, hash, newcomer, true, seeker, effects),
                    None => Entered::Absent,
                },
                Err(entered) => entered,
            },
        )
    }

    /// The key's place, if it is alive.
    fn seek(
        &self,
        state: &State<K, T, E>,
        hash: u64,
        key: &K,
        seen_at: SeenAt,
    ) -> Result<usize, Entered<K, T, E>> {
        if state.closed {
            return Err(Entered::Closed);
        }
        let is_there = |at: &usize| {
            let place = state.places.get(*at);
            place.is_some_and(|it| it.indexed && it.hash == hash && it.identity.key == *key)
        };
        let seen_at = seen_at.place().filter(is_there);
        seen_at
            .or_else(|| self.index.place(hash, key))
            .ok_or(Entered::Absent)
    }

    /// Shares what is alive, or waits in its queue.
    fn join(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        seeker: &mut Seeker<'_, T, E>,
    ) -> Entered<K, T, E> {
        let place = &mut state.places[at];
        match &place.phase {
            Phase::Open { tenure } if !place.is_evicted => {
                if let Some(tenure) = tenure.upgrade() {
                    state.n_hits += 1;
                    return Entered::Lease(tenure);
                }
            }
            Phase::Idle { .. } => return Entered::Lease(self.revive(state, at)),
            // Who only looks does not wait for a resource that is on its way out.
            Phase::Leaving { .. } | Phase::Opening { unwanted: true } if seeker.run.is_none() => {
                return Entered::Absent;
            }
            _ => {}
        }
        self.wait(state, at, seeker)
    }

    pub(super) fn settle(
        &self,
        state: &mut State<K, T, E>,
        hash: u64,
        mut newcomer: Newcomer<K, T, E>,
        indexed: bool,
        seeker: &mut Seeker<'_, T, E>,
        effects: &mut Effects<K, T, E>,
    ) -> Entered<K, T, E> {
        let (capacity, when_full) = self.limits();
        if when_full == WhenFull::Refuse && state.n_alive >= capacity {
            effects.drop_key(Some(newcomer.key));
            effects.push(Effect::Identity(newcomer.identity));
            return Entered::Full;
        }
        let entry = state.places.vacant_entry();
        let at = entry.key();
        Identity::settle(&mut newcomer.identity, at);
        entry.insert(Place {
            identity: newcomer.identity,
            hash,
            indexed,
            keep_alive: newcomer.keep_alive,
            generation: 0,
            phase: Phase::Over,
            line: Line::default(),
            host: None,
            has_opened: false,
            is_evicted: false,
            waits_for_blocks_only: false,
            listener: None,
            gave_users_up: false,
            blocks: Slab::new(),
        });
        if indexed {
            self.index.insert(newcomer.key, hash, at);
        } else {
            effects.drop_key(Some(newcomer.key));
        }
        let entered = self.wait(state, at, seeker);
        state.request(at, (capacity, when_full), effects);
        entered
    }

    fn wait(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        seeker: &mut Seeker<'_, T, E>,
    ) -> Entered<K, T, E> {
        let edge = match seeker
            .inside
            .map(|tag| Edge::try_new(tag, state.places[at].identity.id()))
        {
            None => None,
            Some(Ok(edge)) => Some(edge),
            Some(Err(cycle)) => return Entered::Cycle(cycle),
        };
        Entered::Wait(state.queue(at, seeker.run.take(), seeker.waker.take(), edge))
    }
}
