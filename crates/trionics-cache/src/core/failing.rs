//! Who hears of what went wrong: the opener, all who waited, or the service.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use trionics_errgroup::Failure;

use super::{Core, State};
use crate::{
    effects::{Effect, Effects},
    ticket::Outcome,
    trouble::Trouble,
};

impl<K, T, E> Core<K, T, E> {
    /// A set-up has failed: its opener is told, or everybody who waited.
    #[allow(clippy::type_complexity, reason = "an out parameter of one caller")]
    pub(super) fn fail(
        &self,
        state: &mut State<K, T, E>,
        at: usize,
        trouble: Trouble<E>,
        shared: &mut Option<(Failure<E>, Vec<(usize, u64)>)>,
        effects: &mut Effects<K, T, E>,
    ) -> Option<Trouble<E>> {
        let Some(opener) = state.opener(at) else {
            return Some(trouble);
        };
        match trouble {
            Trouble::Failure(failure) if self.settings.share_failure.is_some() => {
                let mut all = Vec::new();
                let mut next = Some(opener);
                while let Some(id) = next {
                    state.places[at].line.remove(id, &mut state.tickets);
                    all.push((id, state.tickets[id].serial));
                    next = state.places[at].line.first();
                }
                *shared = Some((failure, all));
            }
            trouble => state.deliver(opener, Outcome::Failed(trouble), effects),
        }
        None
    }

    /// Gives copies of a failure to all these tickets, the original to the first that is still there.
    pub(super) fn share(&self, failure: Failure<E>, all: Vec<(usize, u64)>) {
        let copy = self.settings.share_failure.expect("it is shared");
        let mut outcomes: Vec<Outcome<K, T, E>> = all
            .iter()
            .skip(1)
            .map(
                |_| match catch_unwind(AssertUnwindSafe(|| copy(&failure))) {
                    Ok(copy) => Outcome::Copy(copy),
                    Err(payload) => Outcome::Failed(Trouble::Panic(payload)),
                },
            )
            .collect();
        let mut original = Some(Trouble::Failure(failure));
        self.change(|state, effects| {
            for (id, serial) in all {
                let is_there = state
                    .tickets
                    .get(id)
                    .is_some_and(|ticket| ticket.serial == serial);
                let mut next = || match original.take() {
                    Some(original) => Some(Outcome::Failed(original)),
                    None => outcomes.pop(),
                };
                if is_there && let Some(outcome) = next() {
                    state.deliver(id, outcome, effects);
                }
            }
            if let Some(original) = original {
                self.leave_unheard(state, original, effects);
            }
            effects.extend(outcomes.into_iter().map(Effect::Outcome));
        });
    }

    pub(super) fn leave_unheard(
        &self,
        state: &mut State<K, T, E>,
        trouble: Trouble<E>,
        effects: &mut Effects<K, T, E>,
    ) {
        if state.is_over {
            effects.push(Effect::TooLate(trouble));
        } else {
            state.unheard.push(trouble);
            state.wake_service(effects);
        }
    }

    /// What no user heard so far.
    pub(crate) fn take_unheard(&self) -> Vec<Trouble<E>> {
        mem::take(&mut self.lock().unheard)
    }

    /// A failure that was delivered to somebody who is not the one to hear of it.
    pub(crate) fn put_back(&self, trouble: Trouble<E>) {
        self.change(|state, effects| self.leave_unheard(state, trouble, effects));
    }
}
