//! What goes wrong beside failures: panics, and exits that are cut off.

use std::{any::Any, panic::resume_unwind, pin::Pin};

use trionics_errgroup::{CancelReason, Cancelled, Failure};

use super::{Inner, run::drop_child};
use crate::{
    frame::{Grace, drop_body},
    nursery::member::Member,
    report::{FrameInfo, FrameKind, Report, drop_payload, panic_message},
};

/// Why a nursery has no value.
pub(super) struct Trouble<E> {
    pub(super) failures: Vec<Failure<E>>,
    pub(super) panic: Option<Box<dyn Any + Send>>,
    pub(super) stopped_by: Option<Cancelled>,
    pub(super) grace: Grace,
    /// What was still running when the grace period was over.
    pub(super) out_of_grace: Vec<FrameInfo>,
}

impl<E> Default for Trouble<E> {
    fn default() -> Self {
        Self {
            failures: Vec::new(),
            panic: None,
            stopped_by: None,
            grace: Grace::default(),
            out_of_grace: Vec::new(),
        }
    }
}

impl<C: ?Sized, T, E> Inner<C, T, E> {
    #[cold]
    pub(super) fn trouble(&mut self) -> &mut Trouble<E> {
        self.trouble.get_or_insert_default()
    }

    /// Drops the children that were removed.
    pub(super) fn drop_removed(&mut self) {
        while let Some(member) = self.crew.first_removed() {
            self.report_owed_exit(&member);
            let dropped = self.crew.next_removed().map_or(Ok(()), drop_child);
            self.crew.queue().count.collected();
            if let Err((payload, info)) = dropped {
                self.panicked(payload, info);
            }
        }
    }

    /// A context is dropped after it has provided and before its exit has run.
    fn report_owed_exit(&self, member: &Member) {
        if !member.owes_exit() {
            return;
        }
        let at = |kind| FrameInfo::new(kind, None, member.location());
        let has_node = member.known_node().is_some();
        let node = member
            .known_node()
            .or_else(|| self.crew.queue().known_nursery());
        if !node.is_some_and(|node| node.is_abandoned()) {
            self.report(&Report::Dropped(at(FrameKind::Context)));
            return;
        }
        // Who gave the nursery up knew nothing of what has no node.
        if !has_node {
            self.report(&Report::NotPolled(member.info()));
        }
        if member.is_guest() {
            self.report(&Report::NotPolled(at(FrameKind::Provide)));
        }
    }

    /// Drops the child that was removed, whose future is gone; what it was.
    pub(super) fn drop_removed_info(&mut self) -> FrameInfo {
        let child = self.crew.next_removed().expect("a child was removed");
        let info = child.member().info();
        drop(child);
        self.crew.queue().count.collected();
        info
    }

    /// The first panic is kept to be resumed, and cancels the nursery; the hook hears of later ones.
    pub(super) fn panicked(&mut self, payload: Box<dyn Any + Send>, frame: FrameInfo) {
        let first = &mut self.trouble().panic;
        if first.is_some() {
            let message = panic_message(&*payload);
            self.report(&Report::LaterPanic { frame, message });
            drop_payload(payload);
            return;
        }
        *first = Some(payload);
        self.crew.queue().nursery().request(Cancelled::__new(
            CancelReason::ChildPanicked,
            frame.location(),
        ));
    }

    /// Drops everything at once: the body first, then the children.
    pub(super) fn clear<B>(&mut self, body: Pin<&mut Option<B>>) {
        if self.crew.is_closed() {
            return;
        }
        let mut first_panic = drop_body(body).err();
        let mut note = |panic: Option<Box<dyn Any + Send>>| match (&first_panic, panic) {
            (Some(_), Some(later)) => drop_payload(later),
            (_, Some(first)) => first_panic = Some(first),
            (_, None) => {}
        };
        self.crew.end_body();
        self.crew.remove_all(|_| true);
        self.crew
            .for_each_removed(|member| self.report_owed_exit(member));
        note(self.crew.drop_all_removed());
        self.crew.close();
        note(self.crew.drop_all_removed());
        self.crew.queue().tell_closed();
        if let (None, Some(node)) = (&self.frame, self.crew.queue().known_nursery()) {
            node.retire();
        }
        if let Some(payload) = first_panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}
