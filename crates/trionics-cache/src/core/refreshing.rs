//! Setting a key up apart, beside the resource to which it leads until then.

use std::{hash::Hash, sync::Arc};

use trionics_nursery::internal::Tag;

use super::{
    Core,
    entering::{Entered, Newcomer, Seeker},
    place::Phase,
    set_up::RunContext,
};
use crate::tenure::Tenure;

impl<K, T, E> Core<K, T, E>
where
    K: Eq + Hash,
{
    /// Sets up a key of its own, to which nobody comes until it is [promoted](Self::promote).
    pub(crate) fn enter_apart(
        &self,
        hash: u64,
        newcomer: Newcomer<K, T, E>,
        run: RunContext<T, E>,
        inside: Option<&Arc<dyn Tag>>,
    ) -> Entered<K, T, E> {
        let mut seeker = Seeker {
            run: Some(run),
            ..Seeker::looking(inside)
        };
        self.ask(|state, effects| {
            if state.closed {
                return Entered::Closed;
            }
            self.settle(state, hash, newcomer, false, &mut seeker, effects)
        })
    }

    /// Lets the key lead to a resource that was set up apart. False: the cache is closed.
    pub(crate) fn promote(&self, key: K, hash: u64, tenure: &Arc<Tenure<K, T, E>>) -> bool {
        self.change(|state, effects| {
            if state.closed {
                effects.drop_key(Some(key));
                return false;
            }
            let identity = tenure.identity();
            let new = identity.place();
            if state
                .place(new, identity.generation())
                .is_none_or(|place| place.is_evicted)
            {
                // It has ended by itself meanwhile, and replaces nothing.
                effects.drop_key(Some(key));
                return true;
            }
            match self.index.place(hash, &key) {
                Some(old) => {
                    self.index.redirect(hash, old, new);
                    let place = &mut state.places[old];
                    place.supersede();
                    if let Phase::Idle { since, .. } = place.phase {
                        state.idle.remove(&since);
                        state.end_idle(old, effects);
                    }
                    effects.drop_key(Some(key));
                    match state.places[old].phase {
                        // Who waits there has nothing to wait for.
                        Phase::WithoutRoom => {
                            let number = state.places[old].generation;
                            state.without_room.remove(&number);
                            state.dismiss_all(old, effects);
                            state.remove_place(old, &self.index, effects);
                        }
                        Phase::Leaving { .. } | Phase::Opening { unwanted: true } => {
                            state.dismiss_all(old, effects);
                        }
                        Phase::Open { .. } if state.places[old].is_evicted => {
                            state.dismiss_all(old, effects);
                        }
                        _ => {}
                    }
                }
                None => self.index.insert(key, hash, new),
            }
            if let Some(place) = state.place(new, identity.generation()) {
                place.indexed = true;
                self.index.set_open(hash, new, Arc::downgrade(tenure));
            }
            true
        })
    }
}
