//! The queues of those who wait, and how outcomes come to them.

use std::{
    sync::Arc,
    task::{Poll, Waker},
};

use super::{Core, State, place::Phase, set_up::RunContext};
use crate::{
    cycle::Edge,
    effects::{Effect, Effects},
    tenure::Tenure,
    ticket::{Outcome, Ticket},
};

impl<K, T, E> State<K, T, E> {
    /// Puts a ticket at the end of a place's queue.
    pub(super) fn queue(
        &mut self,
        at: usize,
        run: Option<RunContext<T, E>>,
        waker: Option<Waker>,
        edge: Option<Edge>,
    ) -> usize {
        let serial = self.new_number();
        let id = self
            .tickets
            .insert(Ticket::new(at, serial, run, waker, edge));
        self.places[at].line.push(id, &mut self.tickets);
        id
    }

    /// Gives a ticket its outcome.
    pub(super) fn deliver(
        &mut self,
        id: usize,
        outcome: Outcome<K, T, E>,
        effects: &mut Effects<K, T, E>,
    ) {
        let ticket = &mut self.tickets[id];
        let at = ticket.place;
        if ticket.is_queued() {
            self.places[at].line.remove(id, &mut self.tickets);
        }
        self.n_undelivered += usize::from(outcome.is_trouble());
        let ticket = &mut self.tickets[id];
        effects.wake(ticket.waker.take());
        effects.extend(
            ticket
                .edge
                .take()
                .and_then(|edge| edge.cut())
                .map(Effect::Tag),
        );
        ticket.outcome = Some(outcome);
    }

    /// Who in the queue of a place has the miss, or hears of the failure: the first who does not only look.
    pub(super) fn opener(&self, at: usize) -> Option<usize> {
        let first = self.places[at].line.first();
        let mut next = first;
        while let Some(id) = next {
            let ticket = &self.tickets[id];
            if !ticket.only_looks {
                return Some(id);
            }
            next = ticket.next();
        }
        first
    }

    /// Gives everybody in the queue of a place a share; returns how many they were.
    ///
    /// No share is left over: it would count as a user until it is dropped.
    pub(super) fn hand_out(
        &mut self,
        at: usize,
        tenure: Arc<Tenure<K, T, E>>,
        all_hit: bool,
        effects: &mut Effects<K, T, E>,
    ) -> usize {
        let n_users = self.places[at].line.len();
        effects.reserve_wakes(n_users);
        let opener = self.opener(at).filter(|_| !all_hit);
        let shares = std::iter::repeat_n(tenure, n_users);
        let mut next = self.places[at].line.take_all();
        for share in shares {
            if let Some(id) = next {
                let hit = opener != Some(id);
                next = self.tickets[id].leave_line();
                self.deliver(id, Outcome::Lease(share, hit), effects);
            }
        }
        n_users
    }

    /// Tells everybody in the queue of a place that it is closed, or to ask again.
    pub(super) fn dismiss_all(&mut self, at: usize, effects: &mut Effects<K, T, E>) {
        while let Some(id) = self.places[at].line.first() {
            let outcome = if self.closed {
                Outcome::Closed
            } else {
                Outcome::Again(self.tickets[id].run.take())
            };
            self.deliver(id, outcome, effects);
        }
    }
}

impl<K, T, E> Core<K, T, E> {
    /// A ticket's outcome, with which the ticket is used up.
    pub(crate) fn poll_ticket(&self, id: usize, waker: &Waker) -> Poll<Outcome<K, T, E>> {
        let mut new_waker = None;
        loop {
            // Both are dropped after the lock; no more than that comes of most polls.
            let (_replaced, _ticket);
            let mut state = self.lock();
            let ticket = &mut state.tickets[id];
            if let Some(outcome) = ticket.outcome.take() {
                _ticket = state.tickets.remove(id);
                let service = if outcome.is_trouble() {
                    state.n_undelivered -= 1;
                    state.service_if_closed()
                } else {
                    None
                };
                drop(state);
                if let Some(service) = service {
                    service.wake();
                }
                return Poll::Ready(outcome);
            }
            if let Some(known) = &ticket.waker
                && known.will_wake(waker)
            {
                return Poll::Pending;
            }
            if let Some(new_waker) = new_waker.take() {
                _replaced = ticket.waker.replace(new_waker);
                drop(state);
                return Poll::Pending;
            }
            drop(state);
            // It is the executor's code.
            new_waker = Some(waker.clone());
        }
    }

    /// Whoever has the ticket does not wait any more.
    pub(crate) fn withdraw(&self, id: usize) {
        self.change(|state, effects| {
            let ticket = &mut state.tickets[id];
            let at = ticket.place;
            effects.extend(
                ticket
                    .edge
                    .take()
                    .and_then(|edge| edge.cut())
                    .map(Effect::Tag),
            );
            if let Some(outcome) = ticket.outcome.take() {
                effects.drop_ticket(state.tickets.remove(id));
                match outcome {
                    Outcome::Failed(trouble) | Outcome::Over(Some(trouble)) => {
                        state.n_undelivered -= 1;
                        self.leave_unheard(state, trouble, effects);
                    }
                    outcome => effects.push(Effect::Outcome(outcome)),
                }
                return;
            }
            if !ticket.is_queued() {
                if let Some(place) = state.places.get_mut(at)
                    && place.listener == Some(id)
                {
                    place.listener = None;
                }
                effects.drop_ticket(state.tickets.remove(id));
                return;
            }
            let was_first = state.places[at].line.first() == Some(id);
            state.places[at].line.remove(id, &mut state.tickets);
            effects.drop_ticket(state.tickets.remove(id));
            let place = &mut state.places[at];
            let is_empty = place.line.first().is_none();
            match place.phase {
                Phase::Opening { unwanted: false }
                    if is_empty || (was_first && self.settings.restarts) =>
                {
                    place.phase = Phase::Opening { unwanted: true };
                    effects.extend(place.host.clone().map(Effect::Stop));
                }
                Phase::WithoutRoom if is_empty => {
                    let number = place.generation;
                    state.without_room.remove(&number);
                    state.remove_place(at, &self.index, effects);
                }
                Phase::Requested if is_empty => {
                    state.n_alive -= 1;
                    state.remove_place(at, &self.index, effects);
                    state.admit(self.settings.capacity, effects);
                }
                _ => {}
            }
        });
    }
}
