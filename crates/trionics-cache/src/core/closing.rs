//! The end of the cache, and of its service.

use std::mem;

use super::{Core, place::Phase};
use crate::{effects::Effect, sync::Ordering};

impl<K, T, E> Core<K, T, E> {
    /// The cache closes with its last handle.
    pub(crate) fn remove_handle(&self) {
        if self.n_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    /// Refuses further opens; idle resources are torn down.
    pub(crate) fn close(&self) {
        self.change(|state, effects| {
            if mem::replace(&mut state.closed, true) {
                return;
            }
            effects.extend(self.index.clear().into_iter().map(Effect::Key));
            for (_, place) in &mut state.places {
                place.supersede();
            }
            while let Some((_, at)) = state.idle.pop_first() {
                state.end_idle(at, effects);
            }
            while let Some((_, at)) = state.without_room.pop_first() {
                state.dismiss_all(at, effects);
                state.remove_place(at, &self.index, effects);
            }
            state.wake_service(effects);
        });
    }

    /// The service begins no further set-up, and what is open wants to end.
    pub(crate) fn refuse(&self) {
        self.close();
        self.change(|state, effects| {
            state.is_ending = true;
            state.requests.clear();
            let requested: Vec<_> = state
                .places
                .iter()
                .filter(|(_, place)| matches!(place.phase, Phase::Requested))
                .map(|(at, _)| at)
                .collect();
            for at in requested {
                state.n_alive -= 1;
                state.dismiss_all(at, effects);
                state.remove_place(at, &self.index, effects);
            }
            let open: Vec<_> = state
                .places
                .iter()
                .filter(|(_, place)| matches!(place.phase, Phase::Open { .. }) && !place.is_evicted)
                .map(|(at, _)| at)
                .collect();
            for at in open {
                self.evict_place(state, at, effects);
            }
        });
    }

    /// The service is gone, and nothing of it must be left.
    pub(crate) fn end_service(&self) {
        self.refuse();
        loop {
            let next = self
                .lock()
                .places
                .iter()
                .next()
                .map(|(at, place)| (at, place.generation));
            let Some((at, generation)) = next else {
                break;
            };
            self.evict(at, generation);
            self.over(at, generation, None);
        }
        self.change(|state, effects| {
            state.is_over = true;
            let unheard = mem::take(&mut state.unheard);
            effects.extend(unheard.into_iter().map(Effect::TooLate));
        });
    }
}
