//! What is on a stack, whose turn it is, and how it is moved to another stack.

use std::{
    fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Cancelled, Failure, FailureMark};
use trionics_nursery::{
    CancelScope,
    internal::{Block, move_scope, scope_at},
    outside,
};

use crate::{
    context::{AsyncContext, BlockEnd},
    delivery::Shelf,
    gather_in::InChild,
    held::{HeldOf, Holding, ShelfOf, hold},
};

/// A stack; `B` is how a context is stored.
///
/// A stack's lock and an entry's lock are never held together.
pub(super) struct Shared<B> {
    /// The user's block, and what its exits are told of it.
    holding: Holding,
    state: Mutex<StackState<B>>,
}

struct StackState<B> {
    /// The last one is left first.
    entries: Vec<Layer<B>>,
    /// The one whose exit runs now.
    exiting: Option<Arc<Entry<B>>>,
    /// How the block and the exits after it have ended; from then on entries are left.
    unwinding: Option<BlockEnd>,
    /// The failure of the last exit that has failed.
    exit_failure: Option<FailureMark>,
}

struct Layer<B> {
    entry: Arc<Entry<B>>,
    /// What became of those that were right above it and have gone before their turn.
    above: Outcome,
}

impl<B> Layer<B> {
    fn new(entry: &Arc<Entry<B>>) -> Self {
        Self {
            entry: Arc::clone(entry),
            above: Outcome::Returned,
        }
    }
}

impl<B> StackState<B> {
    /// Something above the entry that is left next has come to its end.
    fn note(&mut self, outcome: Outcome) {
        self.unwinding = self.unwinding.map(|how| outcome.on_top_of(how));
        if let Outcome::Failed(mark) = outcome {
            self.exit_failure = Some(mark);
        }
    }

    /// Takes an entry out that is not the one whose exit runs.
    fn remove(&mut self, entry: &Arc<Entry<B>>, outcome: Outcome) -> Option<Layer<B>> {
        let index = self
            .entries
            .iter()
            .rposition(|layer| Arc::ptr_eq(&layer.entry, entry))?;
        let mut removed = self.entries.remove(index);
        if let Some(below) = index.checked_sub(1).and_then(|at| self.entries.get_mut(at)) {
            let above = mem::replace(&mut removed.above, Outcome::Returned);
            below.above.add(above);
            below.above.add(outcome);
        }
        Some(removed)
    }
}

impl<B> Shared<B> {
    pub(super) fn new(holding: Holding) -> Self {
        Self {
            holding,
            state: Mutex::new(StackState {
                entries: Vec::new(),
                exiting: None,
                unwinding: None,
                exit_failure: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, StackState<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn block_end(&self) -> Option<BlockEnd> {
        self.holding.block.ended()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Puts an entry on top; false if the stack is being left.
    pub(super) fn push(&self, entry: &Arc<Entry<B>>) -> bool {
        let mut state = self.lock();
        if state.unwinding.is_some() {
            return false;
        }
        state.entries.push(Layer::new(entry));
        true
    }

    /// The block has ended: the entries are left, one after another.
    pub(super) fn unwind(&self, how: BlockEnd) {
        self.lock().unwinding.get_or_insert(how);
        self.leave_next();
    }

    fn leave_next(&self) {
        let next = {
            let mut state = self.lock();
            if state.unwinding.is_none() || state.exiting.is_some() {
                return;
            }
            let Some(layer) = state.entries.pop() else {
                return;
            };
            state.note(layer.above);
            state.exiting = Some(Arc::clone(&layer.entry));
            state.unwinding.map(|how| (layer.entry, how))
        };
        if let Some((entry, how)) = next {
            entry.block.end(how);
        }
    }

    /// What an exit that fails now finds on its way out.
    fn pending_failure(&self) -> Option<FailureMark> {
        let exit_failure = self.lock().exit_failure.clone();
        exit_failure.or_else(|| self.holding.block_failure().cloned())
    }

    /// An entry's context is over, in its turn or before; those below are told what became of its exit.
    fn gone(&self, entry: &Arc<Entry<B>>, outcome: Outcome) {
        let (exited, removed) = {
            let mut state = self.lock();
            match state.exiting.take_if(|exiting| Arc::ptr_eq(exiting, entry)) {
                Some(exited) => {
                    state.note(outcome);
                    (Some(exited), None)
                }
                None => (None, state.remove(entry, outcome)),
            }
        };
        drop((exited, removed));
        self.leave_next();
    }

    /// Moves the entries onto `onto`, whose nursery has the scope `new_scope` and takes carriers with
    /// `start`.
    pub(super) fn move_all(
        &self,
        onto: &Arc<Self>,
        new_scope: &CancelScope,
        mut start: impl FnMut(Carrier<B>) -> bool,
    ) -> usize {
        if std::ptr::eq(self, &raw const **onto) {
            return 0;
        }
        let entries = {
            let mut state = self.lock();
            if state.unwinding.is_some() {
                return 0;
            }
            mem::take(&mut state.entries)
        };
        let mut kept = Vec::new();
        let mut n_moved = 0;
        for layer in entries {
            let entry = &layer.entry;
            // One that has been cancelled unwinds here.
            if entry.block.is_cancelled() || !onto.push(entry) {
                kept.push(layer);
            } else if entry.move_to(onto, new_scope, &mut start) {
                n_moved += 1;
            } else {
                onto.gone(entry, Outcome::Returned);
                kept.push(layer);
            }
        }
        self.put_back(kept);
        n_moved
    }

    /// Puts entries back below what has been put on the stack meanwhile.
    fn put_back(&self, mut entries: Vec<Layer<B>>) {
        let kept: Vec<_> = entries
            .iter()
            .map(|layer| Arc::clone(&layer.entry))
            .collect();
        {
            let mut state = self.lock();
            entries.append(&mut state.entries);
            state.entries = entries;
        }
        // What has gone meanwhile has not found itself on the stack.
        for entry in kept.iter().filter(|entry| entry.lock().is_gone) {
            self.gone(entry, Outcome::Returned);
        }
        self.leave_next();
    }
}

/// A context on a stack.
pub(super) struct Entry<B> {
    /// Ends when it is the context's turn to exit.
    pub(super) block: Block,
    /// Keeps the context's frames together when it moves.
    scope: CancelScope,
    holding: Holding,
    state: Mutex<EntryState<B>>,
}

struct EntryState<B> {
    /// The stack it is on; none during the set-up.
    owner: Option<Arc<Shared<B>>>,
    /// Which of its carriers counts.
    home: u64,
    /// The context, while it is not being polled.
    child: Option<B>,
    /// It has returned or panicked.
    is_over: bool,
    /// It has been dropped.
    is_gone: bool,
    /// Wakes the carrier.
    waker: Option<Waker>,
}

impl<B> Entry<B> {
    /// An entry that is on no stack yet.
    pub(super) fn new(location: &'static Location<'static>) -> Arc<Self> {
        let block = Block::new(location, 1);
        Arc::new(Self {
            holding: Holding::new(&block, location),
            block,
            scope: scope_at(location),
            state: Mutex::new(EntryState {
                owner: None,
                home: 0,
                child: None,
                is_over: false,
                is_gone: false,
                waker: None,
            }),
        })
    }

    /// An entry without a set-up, for the stack `shared`.
    pub(super) fn handed_over(
        location: &'static Location<'static>,
        shared: &Arc<Shared<B>>,
        child: impl FnOnce(&Arc<Self>) -> B,
    ) -> Arc<Self> {
        let entry = Self::new(location);
        let child = child(&entry);
        entry.hand_over(shared, child);
        entry
    }

    fn lock(&self) -> MutexGuard<'_, EntryState<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry's context, ready to be polled.
    pub(super) fn child<C: AsyncContext>(
        self: &Arc<Self>,
        context: C,
    ) -> (InChild<EntryChild<HeldOf<C>, B>>, ShelfOf<C>) {
        let shelf = Shelf::new(&self.holding, 1);
        let held = hold(context, &shelf, 0, None);
        let child = EntryChild {
            held,
            leaving: Leaving {
                entry: Arc::clone(self),
                outcome: Outcome::Returned,
            },
        };
        (InChild::new(&self.scope, child), shelf)
    }

    /// The context belongs to the stack `owner` from now on.
    pub(super) fn hand_over(&self, owner: &Arc<Shared<B>>, child: B) {
        let mut state = self.lock();
        state.owner = Some(Arc::clone(owner));
        state.child = Some(child);
    }

    /// The stack has not taken it after all.
    pub(super) fn take_back(&self) -> Option<B> {
        let (owner, child) = {
            let mut state = self.lock();
            (state.owner.take(), state.child.take())
        };
        drop(owner);
        child
    }

    /// What runs in the context's scope belongs to the scope `new_scope` from now on.
    pub(super) fn move_scope(&self, new_scope: &CancelScope) {
        move_scope(&self.scope, new_scope);
    }

    /// Moves to a stack that has put it on top; false if it has gone, or if it stays because that
    /// stack's nursery has closed.
    fn move_to(
        self: &Arc<Self>,
        onto: &Arc<Shared<B>>,
        new_scope: &CancelScope,
        start: &mut impl FnMut(Carrier<B>) -> bool,
    ) -> bool {
        let (old_owner, old_carrier) = {
            let mut state = self.lock();
            if state.is_gone {
                return false;
            }
            state.home += 1;
            (state.owner.replace(Arc::clone(onto)), state.waker.take())
        };
        // At once: what happens to the old stack from now on is not the context's any more.
        self.move_scope(new_scope);
        if start(Carrier::new(self)) {
            wake(old_carrier);
            return true;
        }
        let given_up = {
            let mut state = self.lock();
            state.home -= 1;
            state.waker = old_carrier;
            mem::replace(&mut state.owner, old_owner)
        };
        drop(given_up);
        // Its frames find their old place at their next poll.
        false
    }

    /// A failure of the context's, with the one that it finds on its way out.
    fn in_context<E>(&self, failure: Failure<E>) -> Failure<E> {
        let owner = self.lock().owner.clone();
        match owner.and_then(|owner| owner.pending_failure()) {
            Some(mark) => failure.with_context_at(mark),
            None => failure,
        }
    }

    /// Something in the context was cancelled: nobody may use its value any longer.
    fn recall(&self, why: &Cancelled) {
        let owner = self.lock().owner.clone();
        match owner {
            Some(owner) => {
                let holding = &owner.holding;
                holding.block.cancel(why.reason().clone(), why.location());
            }
            None => self.block.end(BlockEnd::Cancelled),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        outside(|| waker.wake());
    }
}

pin_project! {
    /// A context that tells its stack when its block is to unwind, and when it is gone.
    pub(super) struct EntryChild<H, B> {
        #[pin]
        held: H,
        // Dropped after the context.
        leaving: Leaving<B>,
    }
}

impl<H, B, E> Future for EntryChild<H, B>
where
    H: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Stays so if the poll panics.
        this.leaving.outcome = Outcome::Panicked;
        let polled = this.held.poll(cx);
        this.leaving.outcome = Outcome::Returned;
        let entry = &this.leaving.entry;
        match polled {
            Poll::Pending => {
                if let Poll::Ready(why) = entry.block.poll_cancelled(cx) {
                    entry.recall(&why);
                }
                Poll::Pending
            }
            Poll::Ready(Err(failure)) => {
                let mut failure = entry.in_context(failure);
                this.leaving.outcome = Outcome::Failed(failure.mark());
                Poll::Ready(Err(failure))
            }
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        }
    }
}

/// What became of a context, as far as those below it on the stack are concerned.
enum Outcome {
    Returned,
    Failed(FailureMark),
    Panicked,
}

impl Outcome {
    /// Something else came to its end in the same place.
    fn add(&mut self, other: Self) {
        match (&self, &other) {
            (Self::Panicked, _) | (_, Self::Returned) => {}
            _ => *self = other,
        }
    }

    /// How the block has ended for those below, if it had ended like `how` for this one.
    fn on_top_of(&self, how: BlockEnd) -> BlockEnd {
        match (self, how) {
            (Self::Returned, how) => how,
            (_, BlockEnd::Panicked) | (Self::Panicked, _) => BlockEnd::Panicked,
            (Self::Failed(_), _) => BlockEnd::Failed,
        }
    }
}

struct Leaving<B> {
    entry: Arc<Entry<B>>,
    outcome: Outcome,
}

impl<B> Drop for Leaving<B> {
    fn drop(&mut self) {
        let owner = {
            let mut state = self.entry.lock();
            state.is_gone = true;
            state.owner.take()
        };
        if let Some(owner) = owner {
            let outcome = mem::replace(&mut self.outcome, Outcome::Returned);
            owner.gone(&self.entry, outcome);
        }
    }
}

/// Polls an entry's context as a child of its stack's nursery, until the entry moves on.
pub struct Carrier<B> {
    entry: Arc<Entry<B>>,
    home: u64,
}

impl<B> Carrier<B> {
    pub(super) fn new(entry: &Arc<Entry<B>>) -> Self {
        Self {
            home: entry.lock().home,
            entry: Arc::clone(entry),
        }
    }

    /// The context, from a carrier that no nursery has taken.
    pub(super) fn into_child(self) -> Option<B> {
        self.entry.lock().child.take()
    }
}

impl<B, E> Future for Carrier<B>
where
    B: Future<Output = Result<(), Failure<E>>> + Unpin,
{
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        let (child, replaced) = {
            let mut state = self.entry.lock();
            if state.is_over || state.home != self.home {
                drop(state);
                return Poll::Ready(Ok(()));
            }
            (state.child.take(), state.waker.replace(waker))
        };
        drop(replaced);
        // If it is being polled by the carrier before this one, that one wakes.
        let Some(mut child) = child else {
            return Poll::Pending;
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut child).poll(cx)));
        let (has_moved, next) = {
            let mut state = self.entry.lock();
            state.child = Some(child);
            state.is_over = !matches!(polled, Ok(Poll::Pending));
            let has_moved = state.home != self.home;
            (has_moved, if has_moved { state.waker.take() } else { None })
        };
        wake(next);
        match polled {
            Ok(Poll::Pending) if has_moved => Poll::Ready(Ok(())),
            Ok(polled) => polled,
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl<B> fmt::Debug for Carrier<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").finish_non_exhaustive()
    }
}

impl<B> Drop for Carrier<B> {
    fn drop(&mut self) {
        let child = {
            let mut state = self.entry.lock();
            if state.home == self.home || state.is_over {
                state.child.take()
            } else {
                None
            }
        };
        drop(child);
    }
}
