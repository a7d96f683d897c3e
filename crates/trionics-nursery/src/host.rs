//! For the sibling crates: the child of a nursery that runs a context.

use std::{any::Any, borrow::Cow, fmt, future::Future, mem, panic::Location, sync::Arc};

use trionics_errgroup::{CancelReason, Cancelled, Failure};

use crate::{
    current,
    frame::report_at,
    nursery::{Member, Nursery},
    report::{Report, panic_message},
    tag::Tag,
};

/// The child of a nursery that runs a context.
///
/// The block that the context provides to runs in the body of the same nursery, or is the child's own to end: then
/// [`Block::hosted`](crate::internal::Block::hosted) made it.
pub struct Host {
    pub(crate) member: Member,
}

impl Host {
    pub(crate) fn new(member: Member) -> Self {
        Self { member }
    }

    /// Has the child polled once more; nothing happens once it is over.
    pub fn wake(&self) {
        self.member.wake();
    }

    /// Cancels the child alone; nothing happens once it is over.
    #[track_caller]
    pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) {
        let reason = CancelReason::Explicit(reason.into());
        self.member
            .cancel(Cancelled::__new(reason, Location::caller()));
    }
}

impl Host {
    /// Tells the hook of a panic that came after another one; while the child is being polled.
    pub fn report_later_panic(&self, payload: Box<dyn Any + Send>) {
        let later = Report::LaterPanic {
            frame: self.member.info(),
            message: panic_message(&*payload),
        };
        report_at(current::nearest_node().as_ref(), &later);
        // Its `Drop` is the user's and might panic again.
        mem::forget(payload);
    }
}

impl Clone for Host {
    fn clone(&self) -> Self {
        Self::new(self.member.clone())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Starts a child that runs for `tag`, a context with a block that is its own to end; further tags inside excepted.
///
/// If the nursery has closed, what `make` makes is dropped.
#[track_caller]
pub fn start_hosting<'env, E, C>(
    nursery: &Nursery<'env, E>,
    tag: Arc<dyn Tag>,
    make: impl FnOnce(Host) -> C,
) where
    C: Future<Output = Result<(), Failure<E>>> + Send + 'env,
{
    let refused = nursery.shared.start(None, Location::caller(), |member| {
        member.set_tag(tag);
        make(Host::new(member.clone()))
    });
    drop(refused);
}
