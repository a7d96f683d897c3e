//! Who hears of what went wrong: the opener, all who waited, or the service.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
        let Some(opener) = state.places[at].line.first() else {
            return Some(trouble);
        };
        match trouble {
            Trouble::Failure(failure) if self.settings.share_failure.is_some() => {
                let mut all = Vec::new();
                while let Some(id) = state.places[at].line.first() {
                    state.places[at].line.remove(id, &mut state.tickets);
                    all.push((id, state.tickets[id].serial));
                }
                *shared = Some((failure, all));
            }
            trouble => state.deliver(opener, Outcome::Failed(trouble), effects),
        }
        None
    }

    /// Gives copies of a failure to all these tickets, the original to the first.
    pub(super) fn share(&self, failure: Failure<E>, all: Vec<(usize, u64)>) {
        let copy = self.settings.share_failure.expect("it is shared");
        let mut troubles: Vec<Trouble<E>> = all
            .iter()
            .skip(1)
            .map(
                |_| match catch_unwind(AssertUnwindSafe(|| copy(&failure))) {
                    Ok(copy) => Trouble::Failure(copy),
                    Err(payload) => Trouble::Panic(payload),
                },
            )
            .collect();
        troubles.push(Trouble::Failure(failure));
        self.change(|state, effects| {
            let mut original_is_told = false;
            for (id, serial) in all {
                let is_there = state
                    .tickets
                    .get(id)
                    .is_some_and(|ticket| ticket.serial == serial);
                if is_there && let Some(trouble) = troubles.pop() {
                    original_is_told = true;
                    state.deliver(id, Outcome::Failed(trouble), effects);
                }
            }
            if !original_is_told && let Some(trouble) = troubles.pop() {
                self.leave_unheard(state, trouble, effects);
            }
            effects.extend(troubles.into_iter().map(Effect::Trouble));
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

    /// A failure that was delivered to somebody who is not the one to hear of it.
    pub(crate) fn put_back(&self, trouble: Trouble<E>) {
        self.change(|state, effects| self.leave_unheard(state, trouble, effects));
    }
}
