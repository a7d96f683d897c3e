//! A value in use: from the first user to the last, and the idle time after that.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    Core, State,
    place::{Phase, Usage},
};
use crate::{
    effects::{Effect, Effects},
    identity::Identity,
    lease::LeaseEnd,
    tenure::Tenure,
    ticket::Ticket,
};

impl<K, T, E> Core<K, T, E> {
    pub(super) fn set_in_use(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        value: T,
    ) -> Arc<Tenure<K, T, E>> {
        let place = &mut state.places[at];
        let identity = Arc::clone(&place.identity);
        let tenure = state.spares.begin(value, identity, state.n_alive);
        let weak = Arc::downgrade(&tenure);
        if place.indexed {
            self.index.set_open(place.hash, at, Weak::clone(&weak));
        }
        place.phase = Phase::Open { tenure: weak };
        tenure
    }

    /// Gives an idle resource a user again.
    pub(super) fn revive(&self, state: &mut State<K, T, E>, at: usize) -> Arc<Tenure<K, T, E>> {
        let phase = &mut state.places[at].phase;
        let Phase::Idle { value, since } = mem::replace(phase, Phase::Over) else {
            unreachable!("the caller has looked");
        };
        state.idle.remove(&since);
        state.n_hits += 1;
        self.set_in_use(state, at, value)
    }

    /// The last user of a generation has left; with `listener`, that one waits for the exit's end.
    pub(crate) fn last_left(
        &self,
        identity: &Identity<K, T, E>,
        value: T,
        listener: Option<&mut Option<usize>>,
    ) -> LeaseEnd {
        let (at, generation) = (identity.place(), identity.generation());
        self.change(|state, effects| {
            let (closed, full) = (state.closed, !state.without_room.is_empty());
            let Some(place) = state
                .place(at, generation)
                .filter(|place| matches!(place.phase, Phase::Open { .. }))
            else {
                // The exit did not wait.
                effects.push(Effect::Value(value));
                return LeaseEnd::TornDown;
            };
            let keeps =
                place.keep_alive > Duration::ZERO && place.indexed && !place.is_evicted && !closed;
            if keeps && place.line.first().is_some() {
                // Who came in this moment has it.
                let tenure = self.set_in_use(state, at, value);
                let users = state.hand_out(at, tenure, true, effects);
                state.n_hits += users as u64;
                return LeaseEnd::StillUsed { users };
            }
            if keeps && !full {
                effects.nudge(place.host.as_ref());
                let hash = place.hash;
                let since = state.new_number();
                state.places[at].phase = Phase::Idle { value, since };
                state.idle.insert(since, at);
                self.index.set_open(hash, at, Weak::new());
                return LeaseEnd::KeptIdle;
            }
            place.let_go(at, value, effects);
            if let Some(listener) = listener {
                let serial = state.new_number();
                let id = state
                    .tickets
                    .insert(Ticket::new(at, serial, None, None, None));
                state.places[at].listener = Some(id);
                *listener = Some(id);
            }
            LeaseEnd::TornDown
        })
    }

    /// The value is dropped: the exit may begin.
    pub(crate) fn release(&self, at: usize, generation: u64) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation)
                && let Phase::Leaving { released } = &mut place.phase
            {
                *released = true;
                effects.nudge(place.host.as_ref());
            }
        });
    }

    /// The idle time with this number is over.
    pub(crate) fn expire(&self, at: usize, generation: u64, number: u64) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation)
                && let Phase::Idle { since, .. } = place.phase
                && since == number
            {
                state.idle.remove(&since);
                state.end_idle(at, effects);
            }
        });
    }

    /// The exit waits no longer for leases whose holders were asked to leave, but still for blocks.
    pub(crate) fn give_up_leases(&self, at: usize, generation: u64) {
        self.change(|state, _| {
            if let Some(place) = state.place(at, generation)
                && place.is_evicted
            {
                place.waits_for_blocks_only = true;
                place.go_on_without_leases();
            }
        });
    }

    /// A generation's users, as its own task sees them.
    pub(crate) fn usage(&self, at: usize, generation: u64) -> Usage {
        let mut state = self.lock();
        (state.place(at, generation)).map_or(Usage::Left, |place| place.usage())
    }
}

impl<K, T, E> State<K, T, E> {
    /// Begins the end of a resource that is in `Idle`; its entry among the idle ones is gone.
    pub(super) fn end_idle(&mut self, at: usize, effects: &mut Effects<K, T, E>) {
        let place = &mut self.places[at];
        if let Phase::Idle { .. } = place.phase
            && let Phase::Idle { value, .. } =
                mem::replace(&mut place.phase, Phase::Leaving { released: false })
        {
            place.let_go(at, value, effects);
        }
    }
}
