//! How a value gets from a context to the block.

use std::{
    fmt,
    panic::Location,
    sync::{Arc, Mutex, PoisonError},
};

use trionics_nursery::internal::{Block, ContextPlace, Guest};

use crate::limit::Turn;

/// One context's side of the hand-over.
pub(crate) struct Delivery<V> {
    parcel: Arc<Parcel<V>>,
    block: Block,
    place: ContextPlace,
    /// The turn to set up, which ends here.
    turn: Option<Arc<Turn>>,
    location: &'static Location<'static>,
}

impl<V> Delivery<V> {
    pub(crate) fn new(
        block: Block,
        turn: Option<Arc<Turn>>,
        location: &'static Location<'static>,
    ) -> (Self, Arc<Parcel<V>>, ContextPlace) {
        let parcel = Arc::new(Parcel::awaited());
        let place = ContextPlace::default();
        let delivery = Self {
            parcel: Arc::clone(&parcel),
            block,
            place: place.clone(),
            turn,
            location,
        };
        (delivery, parcel, place)
    }

    /// What waits for the block.
    pub(crate) fn guest(&self) -> Guest {
        Guest::new(self.block.clone(), self.place.clone(), self.location)
    }

    /// Puts the value where the block finds it, and says where that is.
    pub(crate) fn deliver(self, value: V) -> Arc<Parcel<V>> {
        self.parcel.deliver(value);
        if let Some(turn) = &self.turn {
            turn.end();
        }
        self.parcel
    }
}

/// A value on its way to the block.
pub struct Parcel<V> {
    state: Mutex<ParcelState<V>>,
}

enum ParcelState<V> {
    Awaited,
    Delivered(V),
    Taken,
}

impl<V> Parcel<V> {
    pub(crate) fn awaited() -> Self {
        Self {
            state: Mutex::new(ParcelState::Awaited),
        }
    }

    pub(crate) fn deliver(&self, value: V) {
        self.put(ParcelState::Delivered(value));
    }

    fn put(&self, state: ParcelState<V>) -> ParcelState<V> {
        std::mem::replace(
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            state,
        )
    }

    /// The value; the block asks once, when every context has provided.
    pub(crate) fn take_delivered(&self) -> V {
        match self.put(ParcelState::Taken) {
            ParcelState::Delivered(value) => value,
            ParcelState::Awaited | ParcelState::Taken => {
                unreachable!("the block starts when all values are there")
            }
        }
    }

    /// The value, if it is there and was not taken.
    pub(crate) fn try_take(&self) -> Option<V> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, ParcelState::Delivered(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, ParcelState::Taken) {
            ParcelState::Delivered(value) => Some(value),
            ParcelState::Awaited | ParcelState::Taken => None,
        }
    }

    /// Drops the value if the block never came to take it: the exit is to find it gone.
    pub(crate) fn discard(&self) {
        let discarded = self.put(ParcelState::Taken);
        drop(discarded);
    }

    /// The context has called `provide`, and the future was polled.
    pub(crate) fn is_sent(&self) -> bool {
        !matches!(
            *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            ParcelState::Awaited
        )
    }
}

impl<V> fmt::Debug for Parcel<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("is_sent", &self.is_sent())
            .finish_non_exhaustive()
    }
}
