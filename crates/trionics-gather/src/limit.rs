//! How many contexts may set up at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use trionics_nursery::{internal::is_cancelled, outside};

/// Lets so many in at once, in the order of their coming.
pub(crate) struct Limit {
    state: Mutex<State>,
}

struct State {
    /// How many more may come in at once.
    free: usize,
    /// Who waits, in the order of their coming.
    waiting: BTreeMap<u64, Waker>,
    /// Who was let in and has yet to notice.
    let_in: BTreeSet<u64>,
    next_ticket: u64,
}

impl Limit {
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: at_once,
                waiting: BTreeMap::new(),
                let_in: BTreeSet::new(),
                next_ticket: 0,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is done, or has given up a place that was given to it.
    fn pass_on(&self) {
        let next = {
            let mut state = self.lock();
            let next = state.waiting.pop_first();
            match &next {
                Some((ticket, _)) => {
                    state.let_in.insert(*ticket);
                }
                None => state.free += 1,
            }
            next
        };
        if let Some((_, waker)) = next {
            outside(|| waker.wake());
        }
    }
}

/// One context's turn to set up.
pub(crate) struct Turn {
    limit: Arc<Limit>,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy)]
enum Phase {
    Fresh,
    Waiting(u64),
    SettingUp,
    Over,
}

impl Turn {
    pub(crate) fn new(limit: &Arc<Limit>) -> Self {
        Self {
            limit: Arc::clone(limit),
            phase: Mutex::new(Phase::Fresh),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn; ready at each call once it has come.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Only the context itself moves on to `SettingUp`.
        let phase = *self.lock();
        let waker = match phase {
            Phase::SettingUp | Phase::Over => return Poll::Ready(()),
            // It has waited, and is going to be dropped at this await.
            Phase::Waiting(_) if is_cancelled() => return Poll::Pending,
            Phase::Fresh | Phase::Waiting(_) => cx.waker().clone(),
        };
        let mut state = self.limit.lock();
        let (next, replaced) = match phase {
            Phase::Fresh if state.free > 0 => {
                state.free -= 1;
                (Phase::SettingUp, Some(waker))
            }
            Phase::Waiting(ticket) if state.let_in.remove(&ticket) => {
                (Phase::SettingUp, Some(waker))
            }
            Phase::Waiting(ticket) => (phase, state.waiting.insert(ticket, waker)),
            _ => {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                (Phase::Waiting(ticket), state.waiting.insert(ticket, waker))
            }
        };
        drop(state);
        drop(replaced);
        *self.lock() = next;
        match next {
            Phase::SettingUp => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// The set-up is over, or never comes to be; the next one may begin. Only the first call counts.
    pub(crate) fn end(&self) {
        let phase = std::mem::replace(&mut *self.lock(), Phase::Over);
        match phase {
            Phase::Fresh | Phase::Over => {}
            Phase::SettingUp => self.limit.pass_on(),
            Phase::Waiting(ticket) => {
                let (removed, was_let_in) = {
                    let mut state = self.limit.lock();
                    (state.waiting.remove(&ticket), state.let_in.remove(&ticket))
                };
                drop(removed);
                if was_let_in {
                    self.limit.pass_on();
                }
            }
        }
    }
}
