//! What is done to a key by its name: giving its resource up, and beginning its idle time anew.

use std::{hash::Hash, mem};

use super::{Core, place::Phase};

impl<K, T, E> Core<K, T, E>
where
    K: Eq + Hash,
{
    /// Forgets a key's resource: users keep it, an idle one is torn down, and the next open makes
    /// another.
    pub(crate) fn invalidate(&self, hash: u64, key: &K) -> bool {
        self.change(|state, effects| {
            let Some(at) = self.index.place(hash, key) else {
                return false;
            };
            let place = &mut state.places[at];
            match place.phase {
                Phase::Open { .. } if !place.is_evicted => {}
                Phase::Idle { since, .. } => {
                    state.idle.remove(&since);
                    state.end_idle(at, effects);
                    // The next one waits for the exit: nobody uses this one.
                    return true;
                }
                Phase::Opening { unwanted: false } => {}
                _ => return false,
            }
            place.supersede();
            effects.drop_key(self.index.remove(place.hash, at));
            true
        })
    }

    /// Begins a key's idle time anew. False if nothing is there.
    pub(crate) fn touch(&self, hash: u64, key: &K) -> bool {
        self.change(|state, effects| {
            let Some(at) = self.index.place(hash, key) else {
                return false;
            };
            let number = state.new_number();
            let place = &mut state.places[at];
            match &mut place.phase {
                Phase::Idle { since, .. } => {
                    let before = mem::replace(since, number);
                    effects.nudge(place.host.as_ref());
                    state.idle.remove(&before);
                    state.idle.insert(number, at);
                    true
                }
                Phase::Open { .. } => true,
                _ => false,
            }
        })
    }
}
