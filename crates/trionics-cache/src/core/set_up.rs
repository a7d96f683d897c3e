//! What the service has to do, and set-ups from their beginning to the value.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Poll, Waker},
};

use trionics_errgroup::Failure;
use trionics_gather::Slot;
use trionics_nursery::internal::Host;

use super::{
    Core, State,
    place::{Phase, Usage},
};
use crate::{
    effects::{Effect, Effects},
    identity::Identity,
    ticket::Outcome,
    trouble::Trouble,
};

/// The life of a context.
pub(crate) type ContextRun<E> = Pin<Box<dyn Future<Output = Result<(), Failure<E>>> + Send>>;

/// Makes the context and runs it.
pub(crate) type RunContext<T, E> = Box<dyn FnOnce(Slot<T>) -> ContextRun<E> + Send>;

/// A set-up that may begin.
pub(crate) struct SetUp<K, T, E> {
    pub(crate) run: RunContext<T, E>,
    /// What it runs for, and where.
    pub(crate) identity: Arc<Identity<K, T, E>>,
    pub(crate) generation: u64,
}

/// A set-up that has its child, where it is to be known.
pub(crate) struct Begun {
    pub(crate) place: usize,
    pub(crate) generation: u64,
    pub(crate) host: Host,
}

/// What the service has to do next.
pub(crate) enum Work<K, T, E> {
    SetUp(SetUp<K, T, E>),
    Unheard(Vec<Trouble<E>>),
    /// The cache is closed, and nothing is left.
    Nothing,
}

impl<K, T, E> Core<K, T, E> {
    /// Marks the cache as served; false if it was before.
    pub(crate) fn begin_service(&self) -> bool {
        !mem::replace(&mut self.lock().is_served, true)
    }

    /// What the service has to do next; `begun` is what came of the last set-up.
    pub(crate) fn poll_work(&self, begun: &mut Option<Begun>, waker: Waker) -> Poll<Work<K, T, E>> {
        self.change(|state, effects| {
            if let Some(begun) = begun.take() {
                state.note_begun(begun, effects);
            }
            if !state.unheard.is_empty() {
                return Poll::Ready(Work::Unheard(mem::take(&mut state.unheard)));
            }
            while let Some((at, generation)) = state.requests.pop_front() {
                if let Some(set_up) = self.begin(state, at, generation, effects) {
                    return Poll::Ready(Work::SetUp(set_up));
                }
            }
            if state.closed && state.places.is_empty() && state.n_undelivered == 0 {
                Poll::Ready(Work::Nothing)
            } else {
                effects.extend((state.service.replace(waker)).map(Effect::Waker));
                Poll::Pending
            }
        })
    }

    /// Begins a set-up, if somebody still wants it.
    fn begin(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        generation: u64,
        effects: &mut Effects<K, T, E>,
    ) -> Option<SetUp<K, T, E>> {
        let place = state.place(at, generation)?;
        if !matches!(place.phase, Phase::Requested) {
            return None;
        }
        while let Some(id) = state.places[at].line.first() {
            if let Some(run) = state.tickets[id].run.take() {
                state.n_opens += 1;
                let place = &mut state.places[at];
                place.phase = Phase::Opening { unwanted: false };
                return Some(SetUp {
                    run,
                    identity: Arc::clone(&place.identity),
                    generation,
                });
            }
            // It only looked.
            state.deliver(id, Outcome::Absent, effects);
        }
        state.n_alive -= 1;
        state.remove_place(at, &self.index, effects);
        state.admit(self.settings.capacity, effects);
        None
    }

    /// The set-up has given a value.
    pub(crate) fn set_open(&self, at: usize, generation: u64, value: T) -> Usage {
        self.change(|state, effects| {
            let Some(place) = state.place(at, generation) else {
                effects.push(Effect::Value(value));
                return Usage::Left;
            };
            place.has_opened = true;
            if matches!(place.phase, Phase::Opening { unwanted: false }) {
                let tenure = self.set_in_use(state, at, value);
                let n_users = state.hand_out(at, tenure, false, effects);
                state.n_misses += 1;
                state.n_hits += n_users as u64 - 1;
                if state.is_ending {
                    self.evict_place(state, at, effects);
                }
            } else {
                place.let_go(at, value, effects);
            }
            state.places[at].usage()
        })
    }
}

impl<K, T, E> State<K, T, E> {
    /// A generation has its child; what has become of it meanwhile concerns the child now.
    fn note_begun(&mut self, begun: Begun, effects: &mut Effects<K, T, E>) {
        let Begun {
            place,
            generation,
            host,
        } = begun;
        match self.place(place, generation) {
            Some(place) => {
                if let Phase::Opening { unwanted: true } = place.phase {
                    effects.push(Effect::Stop(host.clone()));
                }
                place.host = Some(host);
            }
            None => effects.push(Effect::Host(host)),
        }
    }
}
