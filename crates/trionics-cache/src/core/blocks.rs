//! The blocks of users, which are cancelled when the resource wants to end.

use trionics_nursery::CancelScope;

use super::Core;
use crate::effects::Effect;

impl<K, T, E> Core<K, T, E> {
    /// The block of a user, which is cancelled if the place is evicted.
    pub(crate) fn add_block(
        &self,
        at: usize,
        generation: u64,
        block: &CancelScope,
    ) -> Option<usize> {
        self.change(|state, effects| {
            let place = state.place(at, generation)?;
            if place.is_evicted {
                effects.push(Effect::Cancel(block.clone()));
            }
            Some(place.blocks.insert(block.clone()))
        })
    }

    pub(crate) fn remove_block(&self, at: usize, generation: u64, id: usize) {
        self.change(|state, effects| {
            if let Some(place) = state.place(at, generation) {
                effects.extend((place.blocks.try_remove(id)).map(Effect::Scope));
                if place.waits_for_blocks_only && place.go_on_without_leases() {
                    effects.nudge(place.host.as_ref());
                }
            }
        });
    }
}
