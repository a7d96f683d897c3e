//! Which generations may begin: those that have room, in the order of their coming.

use super::{State, place::Phase};
use crate::{effects::Effects, options::WhenFull};

impl<K, T, E> State<K, T, E> {
    /// Asks for a new generation of a place.
    pub(super) fn request(
        &mut self,
        at: usize,
        limits: (usize, WhenFull),
        effects: &mut Effects<K, T, E>,
    ) {
        let number = self.new_number();
        let (capacity, when_full) = limits;
        let place = &mut self.places[at];
        place.generation = number;
        place.identity.begin(number);
        place.has_opened = false;
        place.is_evicted = false;
        place.waits_for_blocks_only = false;
        if self.n_alive < capacity && self.without_room.is_empty() {
            self.give_room(at, number, effects);
            return;
        }
        place.phase = Phase::WithoutRoom;
        self.without_room.insert(number, at);
        self.admit(capacity, effects);
        if when_full == WhenFull::EvictIdle
            && !self.without_room.is_empty()
            && let Some((_, idle)) = self.idle.pop_first()
        {
            self.end_idle(idle, effects);
        }
    }

    /// Lets places that wait for room have what there is.
    pub(super) fn admit(&mut self, capacity: usize, effects: &mut Effects<K, T, E>) {
        while self.n_alive < capacity
            && let Some((number, at)) = self.without_room.pop_first()
        {
            self.give_room(at, number, effects);
        }
    }

    fn give_room(&mut self, at: usize, number: u64, effects: &mut Effects<K, T, E>) {
        self.n_alive += 1;
        self.places[at].phase = Phase::Requested;
        self.requests.push_back((at, number));
        self.wake_service(effects);
    }
}
