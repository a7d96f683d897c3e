//! Who waits, and what for: the set of parked tasks, and the waker that the source is polled with.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, atomic::Ordering},
    task::{Wake, Waker},
    thread,
};

use crate::loom::{AtomicU8, AtomicU64, AtomicUsize, Mutex, lock};

/// Nothing is outstanding: whoever is caught up may poll the source.
pub(crate) const IDLE: u8 = 0;
/// Somebody is inside the source's poll.
pub(crate) const POLLING: u8 = 1;
/// The source was woken while somebody was inside its poll.
pub(crate) const WOKEN: u8 = 2;
/// The source said `Pending` and has not woken us since: polling it again is useless.
pub(crate) const ARMED: u8 = 3;
/// The window is full and waits for the slowest subscriber.
pub(crate) const BLOCKED: u8 = 4;

/// What the source's waker reaches; it owns nothing of the channel, so that a source that keeps its waker keeps no values alive.
///
/// Invariant S1: while a task is parked in `waiting`, the state is `ARMED` or `BLOCKED`, or somebody holds the source's lock,
/// and will look at `waiting` after its release, or somebody who has changed the state is about to call [`WaitSet::wake_all`].
#[derive(Debug)]
pub(crate) struct Signal {
    state: AtomicU8,
    /// Subscribers that wait for a value.
    pub(crate) waiting: WaitSet,
    /// Tasks that wait for the end only.
    pub(crate) closing: WaitSet,
}

impl Signal {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(IDLE),
            waiting: WaitSet::new(),
            closing: WaitSet::new(),
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    /// Whether somebody is inside the source's poll.
    #[inline]
    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.state(), POLLING | WOKEN)
    }

    /// Called by the holder of the source's lock only. A wake that comes between is either seen by the next
    /// [`Signal::finish_pending`], or no longer matters.
    #[inline]
    pub(crate) fn set_state(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }

    /// The source said `Pending`: returns whether it has asked meanwhile to be polled again.
    #[inline]
    pub(crate) fn finish_pending(&self) -> bool {
        let armed =
            self.state
                .compare_exchange(POLLING, ARMED, Ordering::AcqRel, Ordering::Acquire);
        if armed.is_err() {
            self.set_state(IDLE);
        }
        armed.is_err()
    }

    /// The slowest subscriber has moved: returns whether the window was waiting for it.
    pub(crate) fn unblock(&self) -> bool {
        self.state
            .compare_exchange(BLOCKED, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        loop {
            let (next, was_armed) = match state {
                ARMED => (IDLE, true),
                POLLING => (WOKEN, false),
                _ => return,
            };
            match self
                .state
                .compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                // Somebody has armed it and is parked by now, as a rule.
                Ok(_) if was_armed => return self.waiting.wake_parked(),
                Ok(_) => return,
                Err(actual) => state = actual,
            }
        }
    }
}

/// Wakers of parked tasks, at most one for each owner of a [`Ticket`].
///
/// No waker is cloned, dropped or woken while its lock is held.
#[derive(Debug)]
pub(crate) struct WaitSet {
    /// Whether `Waiters::n_parked` is more than zero, so that nobody locks in order to wake nobody: as a number, 0 or 1.
    ///
    /// Only ever changed (under the lock), and before waking only ever read, by read-modify-writes. Of two of these the later one sees
    /// what was done before the earlier: either who wakes sees that somebody has parked, or whoever was the first to park since sees what
    /// is announced; and so do those who park after that one, through the lock. (Leaving it set across wakes would be one step less, but then
    /// who wakes may read a state from before somebody has parked: the model has found that task asleep.)
    has_parked: AtomicUsize,
    /// Mirrors `Waiters::epoch`, so that the owner of an outdated ticket needs no lock.
    epoch: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Grows by one whenever everybody is woken; a ticket of an earlier epoch is void.
    epoch: u64,
    /// Number of wakers in `parked`.
    n_parked: usize,
    /// Places in `parked` that were given up in this epoch.
    vacant: Vec<usize>,
    parked: Vec<Option<(u64, Waker)>>,
    /// The emptied list of an earlier epoch, kept for its memory.
    spare: Vec<Option<(u64, Waker)>>,
}

/// A place in a [`WaitSet`].
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<Place>);

#[derive(Debug, Clone, Copy)]
struct Place {
    epoch: u64,
    index: usize,
}

impl Ticket {
    /// Whether there may be a place to be given up.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

impl Waiters {
    fn take_place(&mut self, waiter: (u64, Waker)) -> usize {
        match self.vacant.pop() {
            Some(index) => {
                self.parked[index] = Some(waiter);
                index
            }
            None => {
                self.parked.push(Some(waiter));
                self.parked.len() - 1
            }
        }
    }
}

impl WaitSet {
    pub(crate) fn new() -> Self {
        Self {
            has_parked: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            waiters: Mutex::new(Waiters::default()),
        }
    }

    /// Parks the task of `waker`; what it waits for must be looked at again afterwards.
    pub(crate) fn register(&self, ticket: &mut Ticket, owner: u64, waker: &Waker) {
        let waker = waker.clone();
        let mut waiters = lock(&self.waiters);
        let replaced = match ticket.0 {
            Some(place) if place.epoch == waiters.epoch => {
                waiters.parked[place.index].replace((owner, waker))
            }
            _ => {
                let index = waiters.take_place((owner, waker));
                ticket.0 = Some(Place {
                    epoch: waiters.epoch,
                    index,
                });
                None
            }
        };
        if replaced.is_none() {
            waiters.n_parked += 1;
            if waiters.n_parked == 1 {
                self.has_parked.swap(1, Ordering::AcqRel);
            }
        }
        drop(waiters);
        drop(replaced);
    }

    /// Whether everybody was woken since this place was taken; it is then given up.
    #[inline]
    pub(crate) fn has_woken(&self, ticket: &mut Ticket) -> bool {
        let has_woken = ticket
            .0
            .is_some_and(|place| place.epoch != self.epoch.load(Ordering::Acquire));
        if has_woken {
            ticket.0 = None;
        }
        has_woken
    }

    /// Gives the place up, if it is still taken.
    #[inline]
    pub(crate) fn cancel(&self, ticket: &mut Ticket) {
        if let Some(place) = ticket.0.take()
            && place.epoch == self.epoch.load(Ordering::Acquire)
        {
            self.vacate(place);
        }
    }

    #[cold]
    fn vacate(&self, place: Place) {
        let mut waiters = lock(&self.waiters);
        let mut removed = None;
        if place.epoch == waiters.epoch {
            removed = waiters.parked[place.index].take();
            waiters.vacant.push(place.index);
            if removed.is_some() {
                self.one_less(&mut waiters);
            }
        }
        drop(waiters);
        drop(removed);
    }

    /// Whether anybody is parked: of those who park later, each sees what was done before this call.
    #[inline]
    pub(crate) fn has_parked(&self) -> bool {
        self.has_parked.fetch_add(0, Ordering::AcqRel) > 0
    }

    /// A waker was taken out of its place.
    fn one_less(&self, waiters: &mut Waiters) {
        waiters.n_parked -= 1;
        if waiters.n_parked == 0 {
            self.has_parked.swap(0, Ordering::AcqRel);
        }
    }

    /// Wakes everybody who is parked, each once; what they wait for must have been done before.
    #[inline]
    pub(crate) fn wake_all(&self) {
        if self.has_parked() {
            self.wake_parked();
        }
    }

    pub(crate) fn wake_parked(&self) {
        let mut waiters = lock(&self.waiters);
        waiters.epoch += 1;
        waiters.vacant.clear();
        self.epoch.store(waiters.epoch, Ordering::Release);
        waiters.n_parked = 0;
        self.has_parked.swap(0, Ordering::AcqRel);
        if waiters.parked.len() == 1 {
            let waiter = waiters.parked.pop().flatten();
            drop(waiters);
            resume(wake_each(waiter.into_iter()));
            return;
        }
        let spare = mem::take(&mut waiters.spare);
        let mut batch = mem::replace(&mut waiters.parked, spare);
        drop(waiters);
        let panic = wake_each(batch.drain(..).flatten());
        let mut waiters = lock(&self.waiters);
        if waiters.spare.capacity() < batch.capacity() {
            mem::swap(&mut waiters.spare, &mut batch);
        }
        drop(waiters);
        resume(panic);
    }

    /// Wakes the task that is parked for `owner`, if there is one. Its place stays taken until its ticket is given up.
    pub(crate) fn wake_owner(&self, owner: u64) {
        let mut waiters = lock(&self.waiters);
        let removed = waiters
            .parked
            .iter_mut()
            .find(|parked| matches!(parked, Some((parked, _)) if *parked == owner))
            .and_then(Option::take);
        if removed.is_some() {
            self.one_less(&mut waiters);
        }
        drop(waiters);
        if let Some((_, waker)) = removed {
            waker.wake();
        }
    }

    /// The owners of all places.
    pub(crate) fn owners(&self) -> Vec<u64> {
        let waiters = lock(&self.waiters);
        waiters
            .parked
            .iter()
            .flatten()
            .map(|(owner, _)| *owner)
            .collect()
    }
}

/// Wakes all, although wakers may panic: one task's waker must not cost the others their wake. Returns the first panic.
fn wake_each(waiters: impl Iterator<Item = (u64, Waker)>) -> Option<Box<dyn Any + Send>> {
    let mut wakers = waiters.map(|(_, waker)| waker);
    let mut first_panic = None;
    while let Err(payload) =
        catch_unwind(AssertUnwindSafe(|| wakers.by_ref().for_each(Waker::wake)))
    {
        first_panic.get_or_insert(payload);
    }
    first_panic
}

fn resume(panic: Option<Box<dyn Any + Send>>) {
    if let Some(payload) = panic
        && !thread::panicking()
    {
        resume_unwind(payload);
    }
}
