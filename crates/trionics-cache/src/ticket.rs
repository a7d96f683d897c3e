//! Those who wait for a key, and their queue.

use std::{sync::Arc, task::Waker};

use slab::Slab;
use trionics_errgroup::Failure;

use crate::{core::RunContext, cycle::Edge, tenure::Tenure, trouble::Trouble};

/// Somebody who waits: for a value, or for the end of an exit.
pub(crate) struct Ticket<K, T, E> {
    pub(crate) place: usize,
    /// Tells it apart from a later ticket with the same number.
    pub(crate) serial: u64,
    /// Its context, unless it only looks, or its turn has come.
    pub(crate) run: Option<RunContext<T, E>>,
    pub(crate) waker: Option<Waker>,
    pub(crate) outcome: Option<Outcome<K, T, E>>,
    /// It opens nothing: it takes what is there, and never the part of the opener.
    pub(crate) only_looks: bool,
    /// The wait as others see it that look for cycles; few have one.
    pub(crate) edge: Option<Box<Edge>>,
    queued: bool,
    previous: Neighbor,
    next: Neighbor,
}

/// Another ticket of the same queue, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Neighbor(u32);

impl Neighbor {
    const NONE: Self = Self(u32::MAX);

    fn new(id: usize) -> Self {
        let id = u32::try_from(id).ok().filter(|&id| id < u32::MAX);
        Self(id.expect("less than four billion wait for a cache"))
    }

    fn get(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::NONE)
    }
}

/// What came of the wait.
pub(crate) enum Outcome<K, T, E> {
    /// A share of the value, and whether it was a hit.
    Lease(Arc<Tenure<K, T, E>>, bool),
    /// The set-up failed, and this is the one to hear of it.
    Failed(Trouble<E>),
    /// A copy of a failure that another one hears.
    Copy(Failure<E>),
    /// The resource is not the key's any more: ask again, with the context if it was not used.
    Again(Option<RunContext<T, E>>),
    /// There is no value, and this one only looked.
    Absent,
    Closed,
    /// The exit is over.
    Over(Option<Trouble<E>>),
}

impl<K, T, E> Outcome<K, T, E> {
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Over(Some(_)))
    }
}

impl<K, T, E> Ticket<K, T, E> {
    pub(crate) fn new(
        place: usize,
        serial: u64,
        run: Option<RunContext<T, E>>,
        waker: Option<Waker>,
        edge: Option<Edge>,
    ) -> Self {
        Self {
            place,
            serial,
            only_looks: run.is_none(),
            run,
            waker,
            outcome: None,
            edge: edge.map(Box::new),
            queued: false,
            previous: Neighbor::NONE,
            next: Neighbor::NONE,
        }
    }

    /// Out of a line that is cleared as a whole; returns the next in it.
    pub(crate) fn leave_line(&mut self) -> Option<usize> {
        self.queued = false;
        self.previous = Neighbor::NONE;
        self.next.take().get()
    }

    /// The one behind it in its line.
    pub(crate) fn next(&self) -> Option<usize> {
        self.next.get()
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued
    }
}

/// The queue of a place: tickets that know their neighbors, so that any of them can leave at once.
pub(crate) struct Line {
    first: Neighbor,
    last: Neighbor,
    len: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            first: Neighbor::NONE,
            last: Neighbor::NONE,
            len: 0,
        }
    }
}

impl Line {
    pub(crate) fn first(&self) -> Option<usize> {
        self.first.get()
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Empties the line; returns the first, whose tickets [leave](Ticket::leave_line) one by one.
    pub(crate) fn take_all(&mut self) -> Option<usize> {
        std::mem::take(self).first()
    }

    pub(crate) fn push<K, T, E>(&mut self, id: usize, tickets: &mut Slab<Ticket<K, T, E>>) {
        let itself = Neighbor::new(id);
        let ticket = &mut tickets[id];
        ticket.queued = true;
        ticket.previous = self.last;
        match std::mem::replace(&mut self.last, itself).get() {
            Some(last) => tickets[last].next = itself,
            None => self.first = itself,
        }
        self.len += 1;
    }

    pub(crate) fn remove<K, T, E>(&mut self, id: usize, tickets: &mut Slab<Ticket<K, T, E>>) {
        let ticket = &mut tickets[id];
        ticket.queued = false;
        let (previous, next) = (ticket.previous.take(), ticket.next.take());
        match previous.get() {
            Some(previous) => tickets[previous].next = next,
            None => self.first = next,
        }
        match next.get() {
            Some(next) => tickets[next].previous = previous,
            None => self.last = previous,
        }
        self.len -= 1;
    }
}
