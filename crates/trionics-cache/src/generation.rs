//! One generation of a key's resource, from its set-up to the end of its exit.

use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use trionics_errgroup::Failure;
use trionics_gather::{
    Acm, acm,
    internal::{TenancyOf, let_out},
};
use trionics_nursery::{Sleep, internal::Host, outside, sleep};

use crate::{
    core::{RunContext, SetUp, Usage},
    identity::Identity,
    trouble::Trouble,
};

/// A child of the service's nursery, which leads a context from its set-up to the end of its exit, and lends its value to
/// the users in between.
///
/// The context comes first in each poll: what it says of its end is known before the users are looked after. While it
/// is in use it waits for the end of its tenancy, so no cancellation stops it before the users have left: no use after
/// the exit. Nor does a panic of what it sets off, such as the drop of the value.
pub(crate) struct Generation<K, T, E> {
    context: Life<T, E>,
    stage: Stage,
    /// How the context ended: what went wrong, if anything did.
    ended: Option<Option<Trouble<E>>>,
    /// The usage that it runs for, and the timer.
    timer: Option<(Usage, Pin<Box<Sleep>>)>,
    /// After the context: this is told of an end only when that is gone.
    finisher: Finisher<K, T, E>,
}

/// Nothing in it is pinned.
impl<K, T, E> Unpin for Generation<K, T, E> {}

enum Life<T, E> {
    Ordered(RunContext<T, E>, Host),
    Running(TenancyOf<Acm<T, RunContext<T, E>>>, Host),
    Gone,
}

/// What a generation's context is at.
enum Stage {
    SetUp,
    /// `evicted`: the users were asked to leave.
    InUse {
        evicted: bool,
    },
    Left,
}

impl<K, T, E> Generation<K, T, E> {
    /// A set-up that was ordered, to be run by `host`.
    pub(crate) fn new(set_up: SetUp<K, T, E>, host: Host) -> Self {
        Self {
            context: Life::Ordered(set_up.run, host),
            stage: Stage::SetUp,
            ended: None,
            timer: None,
            finisher: Finisher {
                identity: set_up.identity,
                generation: set_up.generation,
                is_over: false,
            },
        }
    }
}

impl<T, E> Life<T, E> {
    /// Polls the context; ready with what went wrong, if anything did, and the context is gone then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Trouble<E>>> {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if let Self::Ordered(..) = self
                && let Self::Ordered(run, host) = mem::replace(self, Self::Gone)
            {
                *self = Self::Running(let_out(acm(run), host.clone()), host);
            }
            match self {
                Self::Running(context, _) => Pin::new(context).poll(cx),
                Self::Ordered(..) | Self::Gone => Poll::Pending,
            }
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(result.err().map(Trouble::Failure)),
            Err(payload) => {
                self.drop_after_panic();
                Poll::Ready(Some(Trouble::Panic(payload)))
            }
        }
    }

    fn drop_after_panic(&mut self) {
        if let Self::Running(context, host) = mem::replace(self, Self::Gone) {
            let dropped = catch_unwind(AssertUnwindSafe(|| outside(|| drop(context))));
            if let Err(later) = dropped {
                host.report_later_panic(later);
            }
        }
    }

    fn take_value(&self) -> Option<T> {
        match self {
            Self::Running(context, _) => context.take_value(),
            Self::Ordered(..) | Self::Gone => None,
        }
    }

    fn is_wanted_back(&self) -> bool {
        match self {
            Self::Running(context, _) => context.is_wanted_back(),
            Self::Ordered(..) | Self::Gone => true,
        }
    }

    fn end_use(&self) {
        if let Self::Running(context, _) = self {
            context.end();
        }
    }
}

impl<K, T, E> Future for Generation<K, T, E> {
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if this.ended.is_none()
                && let Poll::Ready(trouble) = this.context.poll(cx)
            {
                this.ended = Some(trouble);
            }
            let Finisher {
                identity,
                generation,
                ..
            } = &this.finisher;
            let (core, at) = (&identity.core, identity.place());
            let mut usage = None;
            if let Stage::SetUp = this.stage
                && let Some(value) = this.context.take_value()
            {
                this.stage = Stage::InUse { evicted: false };
                usage = core.apart(|| core.set_open(at, *generation, value));
            }
            let Stage::InUse { evicted } = &mut this.stage else {
                let Some(trouble) = this.ended.take() else {
                    return Poll::Pending;
                };
                let own = this.finisher.finish(trouble);
                // The service may have ended otherwise, so that this is the last one to tell them.
                let core = &this.finisher.identity.core;
                let mut unheard = core.take_unheard();
                unheard.extend(own);
                return Poll::Ready(core.tell(unheard));
            };
            if !*evicted && (this.ended.is_some() || this.context.is_wanted_back()) {
                *evicted = true;
                core.apart(|| core.evict(at, *generation));
                usage = None;
            }
            ready!(this.poll_left(usage, cx));
            this.stage = Stage::Left;
            this.context.end_use();
        }
    }
}

impl<K, T, E> Generation<K, T, E> {
    /// Waits until nobody uses the generation any more, and its idle time is over; `usage` is what is known of that.
    fn poll_left(&mut self, mut usage: Option<Usage>, cx: &mut Context<'_>) -> Poll<()> {
        let (identity, generation) = (&self.finisher.identity, self.finisher.generation);
        let (core, at) = (&identity.core, identity.place());
        loop {
            let usage = (usage.take()).unwrap_or_else(|| core.usage(at, generation));
            let period = match usage {
                Usage::Left => return Poll::Ready(()),
                Usage::InUse => None,
                Usage::Idle(_, period) => Some(period),
                Usage::Detached => core.settings.lease_grace,
            };
            // For ever is for ever, also where there is no clock.
            let Some(period) = period.filter(|&period| period < Duration::MAX) else {
                self.timer = None;
                return Poll::Pending;
            };
            if self.timer.as_ref().is_none_or(|(known, _)| *known != usage) {
                self.timer = Some((usage, Box::pin(sleep(period))));
            }
            let Some((_, running)) = &mut self.timer else {
                return Poll::Pending;
            };
            ready!(running.as_mut().poll(cx));
            self.timer = None;
            core.apart(|| match usage {
                Usage::Idle(number, _) => core.expire(at, generation, number),
                _ => core.give_up_leases(at, generation),
            });
        }
    }
}

/// Ends a generation, also where it was stopped.
struct Finisher<K, T, E> {
    identity: Arc<Identity<K, T, E>>,
    generation: u64,
    is_over: bool,
}

impl<K, T, E> Finisher<K, T, E> {
    fn finish(&mut self, trouble: Option<Trouble<E>>) -> Option<Trouble<E>> {
        self.is_over = true;
        let identity = &self.identity;
        identity
            .core
            .over(identity.place(), self.generation, trouble)
    }
}

impl<K, T, E> Drop for Finisher<K, T, E> {
    fn drop(&mut self) {
        if !self.is_over {
            let identity = &self.identity;
            identity.core.stopped(identity.place(), self.generation);
        }
    }
}
