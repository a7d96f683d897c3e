//! The end of a generation: its users are asked to leave, its exit is over, or it was stopped.

use std::{mem, sync::Weak};

use super::{Core, State, place::Phase};
use crate::{
    effects::{Effect, Effects},
    ticket::Outcome,
    trouble::Trouble,
};

impl<K, T, E> Core<K, T, E> {
    /// The context wants to end: nobody joins, and who is there is asked to leave.
    pub(crate) fn evict(&self, at: usize, generation: u64) {
        self.change(|state, effects| {
            if state.place(at, generation).is_some() {
                self.evict_place(state, at, effects);
            }
        });
    }

    pub(super) fn evict_place(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        effects: &mut Effects<K, T, E>,
    ) {
        let place = &mut state.places[at];
        place.is_evicted = true;
        place.identity.detach(place.generation);
        for (_, block) in &place.blocks {
            effects.push(Effect::Cancel(block.clone()));
        }
        effects.nudge(place.host.as_ref());
        match &place.phase {
            Phase::Open { .. } if place.indexed => {
                self.index.set_open(place.hash, at, Weak::new());
            }
            Phase::Idle { since, .. } => {
                let since = *since;
                state.idle.remove(&since);
                state.end_idle(at, effects);
            }
            _ => {}
        }
    }

    /// Set-up and exit are over. Returns what went wrong if no user will hear of it.
    pub(crate) fn over(
        &self,
        at: usize,
        generation: u64,
        trouble: Option<Trouble<E>>,
    ) -> Option<Trouble<E>> {
        let mut shared = None;
        let unheard = self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                return trouble;
            };
            let phase = mem::replace(&mut place.phase, Phase::Over);
            let has_opened = place.has_opened;
            if matches!(phase, Phase::Requested | Phase::WithoutRoom) {
                if let Phase::WithoutRoom = phase {
                    state.without_room.remove(&generation);
                    state.n_alive += 1;
                }
            } else {
                state.n_failures += u64::from(trouble.is_some());
                state.n_teardowns += u64::from(has_opened);
            }
            state.n_alive -= 1;
            let unheard = match phase {
                Phase::Opening { unwanted: false } => match trouble {
                    Some(trouble) => self.fail(state, at, trouble, &mut shared, effects),
                    None => None,
                },
                phase => {
                    if let Phase::Idle { value, since } = phase {
                        state.idle.remove(&since);
                        effects.push(Effect::Value(value));
                    }
                    match state.places[at].listener.take() {
                        Some(id) => {
                            state.deliver(id, Outcome::Over(trouble), effects);
                            None
                        }
                        None => trouble,
                    }
                }
            };
            let place = &state.places[at];
            if state.closed || !place.indexed || place.gave_users_up {
                state.dismiss_all(at, effects);
            }
            let place = &mut state.places[at];
            if place.line.first().is_some() {
                effects.extend(place.host.take().map(Effect::Host));
                if !place.blocks.is_empty() {
                    effects.push(Effect::Blocks(mem::take(&mut place.blocks)));
                }
                state.request(at, self.limits(), effects);
            } else {
                state.remove_place(at, &self.index, effects);
            }
            state.admit(self.settings.capacity, effects);
            unheard
        });
        if let Some((failure, all)) = shared {
            self.share(failure, all);
        }
        unheard
    }

    /// A generation's child is gone before its end. Without a set-up that nobody wanted any more, the service is stopped or
    /// dropped, and nobody is to try after this one.
    pub(crate) fn stopped(&self, at: usize, generation: u64) {
        let was_unwanted = self.lock().place(at, generation).is_some_and(|place| {
            matches!(place.phase, Phase::Opening { unwanted: true }) && !place.is_evicted
        });
        if !was_unwanted {
            self.close();
            self.evict(at, generation);
        }
        self.over(at, generation, None);
    }
}
