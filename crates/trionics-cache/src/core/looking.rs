//! Looking at what there is.

use std::{hash::Hash, sync::Arc};

use super::{Core, place::Phase};
use crate::{identity::Identity, statistics::Statistics};

impl<K, T, E> Core<K, T, E> {
    pub(crate) fn len(&self) -> usize {
        self.lock().places.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn identities(&self) -> Vec<Arc<Identity<K, T, E>>> {
        self.lock()
            .places
            .iter()
            .filter(|(_, place)| place.indexed)
            .map(|(_, place)| Arc::clone(&place.identity))
            .collect()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let state = self.lock();
        let mut statistics = Statistics {
            hits: state.n_hits + self.index.n_hits(),
            misses: state.n_misses,
            opens: state.n_opens,
            failures: state.n_failures,
            teardowns: state.n_teardowns,
            ..Statistics::default()
        };
        for (_, place) in &state.places {
            match &place.phase {
                Phase::WithoutRoom | Phase::Requested | Phase::Opening { .. } => {
                    statistics.opening += 1;
                }
                Phase::Open { tenure } => {
                    statistics.in_use += 1;
                    statistics.users += tenure.strong_count();
                }
                Phase::Idle { .. } => statistics.idle += 1,
                Phase::Leaving { .. } | Phase::Over => statistics.leaving += 1,
            }
            statistics.waiting += place.line.len();
        }
        statistics
    }
}

impl<K, T, E> Core<K, T, E>
where
    K: Eq + Hash,
{
    /// How many use a key's value.
    pub(crate) fn users(&self, hash: u64, key: &K) -> usize {
        let state = self.lock();
        match self
            .index
            .place(hash, key)
            .map(|at| &state.places[at].phase)
        {
            Some(Phase::Open { tenure }) => tenure.strong_count(),
            _ => 0,
        }
    }
}
