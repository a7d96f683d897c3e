//! An open on its way: it asks for a key, and waits until it has it.

use std::{
    hash::Hash,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use trionics_errgroup::Failure;
use trionics_nursery::internal::{current_tag, is_cancelled};

use crate::{
    core::{Core, Entered, RunContext, Seeker},
    index::SeenAt,
    lease::Lease,
    ticket::Outcome,
};

/// Joins the key's generation or begins one, and waits until it is open; dropped before, it gives its
/// place in the queue up.
pub(crate) struct Asking<'a, K, T, E> {
    core: &'a Arc<Core<K, T, E>>,
    key: K,
    hash: u64,
    seen_at: SeenAt,
    /// The context, while no ticket has it.
    run: Option<RunContext<T, E>>,
    ticket: Option<usize>,
    /// The cache has closed.
    is_refused: bool,
}

impl<'a, K, T, E> Asking<'a, K, T, E> {
    pub(crate) fn new(
        core: &'a Arc<Core<K, T, E>>,
        (hash, seen_at): (u64, SeenAt),
        key: K,
        run: RunContext<T, E>,
    ) -> Self {
        Self {
            core,
            key,
            hash,
            seen_at,
            run: Some(run),
            ticket: None,
            is_refused: false,
        }
    }
}

impl<K, T, E> Asking<'_, K, T, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Lease<K, T, E>, Failure<E>>> {
        loop {
            if self.is_refused {
                // Who is cancelled together with the service is stopped here, and has not failed.
                return match is_cancelled() {
                    true => Poll::Pending,
                    false => Poll::Ready(Err(self.core.closed())),
                };
            }
            let outcome = match self.ticket {
                Some(ticket) => match self.core.poll_ticket(ticket, cx.waker()) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => return Poll::Pending,
                },
                None => match self.ask(cx)? {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => return Poll::Pending,
                },
            };
            self.ticket = None;
            return Poll::Ready(match outcome {
                Outcome::Lease(tenure, cache_hit) => Ok(Lease::new(tenure, cache_hit)),
                Outcome::Failed(trouble) => Err(trouble.into_failure()),
                Outcome::Copy(failure) => Err(failure),
                Outcome::Again(Some(run)) => {
                    self.run = Some(run);
                    continue;
                }
                _ => {
                    self.is_refused = true;
                    continue;
                }
            });
        }
    }

    /// Asks for the key: the outcome is there, or a ticket for it.
    fn ask(&mut self, cx: &mut Context<'_>) -> Result<Poll<Outcome<K, T, E>>, Failure<E>> {
        let inside = current_tag();
        let core = self.core;
        let seen_at = mem::replace(&mut self.seen_at, SeenAt::NOWHERE);
        let mut newcomer = match seen_at.place() {
            Some(_) => None,
            None => Some(core.newcomer(self.key.clone())),
        };
        let mut seeker = Seeker {
            run: self.run.take(),
            inside: inside.as_ref(),
            // Cloned before the lock is taken: it is the executor's code.
            waker: Some(cx.waker().clone()),
        };
        let entered = loop {
            match core.enter(self.hash, &self.key, seen_at, &mut newcomer, &mut seeker) {
                Entered::Absent => newcomer = Some(core.newcomer(self.key.clone())),
                entered => break entered,
            }
        };
        self.run = seeker.run;
        Ok(match entered {
            Entered::Wait(ticket) => {
                self.ticket = Some(ticket);
                Poll::Pending
            }
            entered => Poll::Ready(core.at_once(entered)?),
        })
    }
}

impl<K, T, E> Drop for Asking<'_, K, T, E> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.withdraw(ticket);
        }
    }
}
