//! A key's place, and what its generation is at.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use slab::Slab;
use trionics_nursery::{CancelScope, internal::Host};

use super::State;
use crate::{
    effects::{Effect, Effects},
    identity::Identity,
    index::Index,
    tenure::Tenure,
    ticket::Line,
};

/// A key's place.
pub(crate) struct Place<K, T, E> {
    pub(crate) identity: Arc<Identity<K, T, E>>,
    pub(super) hash: u64,
    /// The index leads here.
    pub(super) indexed: bool,
    pub(super) keep_alive: Duration,
    pub(super) generation: u64,
    pub(super) phase: Phase<K, T, E>,
    pub(super) line: Line,
    /// The child that runs the generation, from soon after its beginning.
    pub(crate) host: Option<Host>,
    /// The value was provided.
    pub(super) has_opened: bool,
    /// The context or the service wants to end: nobody joins, and who is there is asked to leave.
    pub(super) is_evicted: bool,
    /// The time for leases to be left is over.
    pub(super) waits_for_blocks_only: bool,
    /// The ticket of the last user, who waits for the end of the exit.
    pub(super) listener: Option<usize>,
    /// The exit did not wait for users: they have shares yet when it is over.
    pub(super) gave_users_up: bool,
    /// Users' blocks, which are cancelled when the place is evicted.
    pub(crate) blocks: Slab<CancelScope>,
}

pub(super) enum Phase<K, T, E> {
    /// The cache is full.
    WithoutRoom,
    /// The service has yet to begin the set-up.
    Requested,
    /// `unwanted`: the set-up has been cancelled; who comes waits for its end.
    Opening {
        unwanted: bool,
    },
    Open {
        tenure: Weak<Tenure<K, T, E>>,
    },
    Idle {
        value: T,
        since: u64,
    },
    /// The last user has left. `released`: the value is dropped and the exit may begin.
    Leaving {
        released: bool,
    },
    Over,
}

/// What a generation's task finds when it looks after its users.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    InUse,
    /// Nobody uses it; the number is that of this idle time.
    Idle(u64, Duration),
    /// Users were asked to leave.
    Detached,
    /// The last user has left: the exit may begin.
    Left,
}

impl<K, T, E> Place<K, T, E> {
    pub(super) fn usage(&self) -> Usage {
        match self.phase {
            Phase::Idle { since, .. } => Usage::Idle(since, self.keep_alive),
            Phase::Leaving { released: false } => Usage::InUse,
            Phase::Open { .. } if self.waits_for_blocks_only => Usage::InUse,
            Phase::Open { .. } if self.is_evicted => Usage::Detached,
            Phase::Open { .. } => Usage::InUse,
            _ => Usage::Left,
        }
    }

    /// The exit may begin once the value is dropped.
    pub(super) fn let_go(&mut self, at: usize, value: T, effects: &mut Effects<K, T, E>) {
        if mem::needs_drop::<T>() {
            self.phase = Phase::Leaving { released: false };
            effects.push(Effect::Leave(at, self.generation, value));
        } else {
            self.phase = Phase::Leaving { released: true };
            effects.nudge(self.host.as_ref());
        }
    }

    /// The key does not lead here any more.
    pub(super) fn supersede(&mut self) {
        self.indexed = false;
        self.identity.supersede(self.generation);
    }

    /// The exit may begin although there are leases, unless there are blocks.
    pub(super) fn go_on_without_leases(&mut self) -> bool {
        let goes_on = self.blocks.is_empty() && matches!(self.phase, Phase::Open { .. });
        if goes_on {
            self.phase = Phase::Leaving { released: true };
            self.gave_users_up = true;
        }
        goes_on
    }
}

impl<K, T, E> State<K, T, E> {
    /// The place, if it still has this generation.
    pub(super) fn place(&mut self, at: usize, generation: u64) -> Option<&mut Place<K, T, E>> {
        self.places
            .get_mut(at)
            .filter(|place| place.generation == generation)
    }

    /// A place that nobody waits for and that has nothing left.
    pub(super) fn remove_place(
        &mut self,
        at: usize,
        index: &Index<K, T, E>,
        effects: &mut Effects<K, T, E>,
    ) {
        let place = self.places.remove(at);
        if place.indexed {
            effects.drop_key(index.remove(place.hash, at));
        }
        effects.drop_place(place);
        if self.closed {
            self.wake_service(effects);
        }
    }
}
