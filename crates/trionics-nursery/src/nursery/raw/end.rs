//! The end of a nursery: failures that cancel it, who is swept, who is given up on, and what it returns.

use std::{
    any::type_name,
    future::Future,
    panic::{Location, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use trionics_errgroup::{CancelReason, Cancelled, Failure, LibraryFailure};

use super::{
    Inner, RawEnd,
    run::{Ended, OtherEnd, may_be_dropped_unpolled},
    trouble::Trouble,
};
use crate::{
    nursery::{
        handle::{forget_echoes, is_echo_of_cancellation},
        member::Member,
    },
    report::{FrameInfo, Report},
};

impl<C, T, E> Inner<C, T, E>
where
    C: ?Sized + Future<Output = Result<(), Failure<E>>>,
{
    /// Once the block has ended, its guests' exits begin, before anything else happens here.
    pub(super) fn begin_exits(&mut self) {
        if self
            .block
            .as_ref()
            .is_some_and(|block| block.ended().is_some())
        {
            self.block = None;
            self.crew.for_each(|member| {
                if member.is_guest() {
                    member.begin_exit();
                    member.wake();
                }
            });
        }
    }

    /// A child's last turn is over.
    #[inline]
    pub(super) fn child_ended(&mut self, ended: Ended<E>) {
        match ended {
            Ended::Well => self.crew.queue().count.collected(),
            Ended::Otherwise(end) => self.child_ended_otherwise(end),
        }
    }

    /// As [`child_ended`](Self::child_ended), for a child that was removed.
    #[cold]
    fn child_ended_otherwise(&mut self, end: OtherEnd<E>) {
        match end {
            OtherEnd::Failed(failure) => {
                let info = self.drop_removed_info();
                self.fail(failure, &info);
            }
            OtherEnd::Strike => {
                self.note_stop();
                self.drop_removed();
            }
            OtherEnd::Panicked(payload) => {
                // A context that has panicked is over.
                self.crew.for_each_removed(Member::forgive_exit);
                let info = self.crew.removed_infos().pop();
                self.panicked(payload, info.expect("a child was removed"));
                self.drop_removed();
            }
            OtherEnd::PanickedInDrop(result, payload) => {
                let info = self.drop_removed_info();
                self.panicked(payload, info.clone());
                if let Err(failure) = result {
                    self.fail(failure, &info);
                }
            }
        }
    }

    /// A child has failed.
    fn fail(&mut self, failure: Failure<E>, child: &FrameInfo) {
        if self.is_stop(&failure) {
            self.note_stop();
            return;
        }
        self.trouble().failures.push(failure);
        if !self.supervises {
            let location = child.location();
            let child = child.name().map(|name| name.to_owned().into());
            self.cancel(CancelReason::ChildFailed { child }, location);
        }
    }

    /// Whoever failed has only heard of the cancellation.
    pub(super) fn is_stop(&self, failure: &Failure<E>) -> bool {
        is_echo_of_cancellation(failure) && self.is_effective()
    }

    pub(super) fn note_stop(&mut self) {
        self.stopped_by_outer |= self.is_outer_cancelled();
    }

    pub(super) fn cancel(&self, reason: CancelReason, location: &'static Location<'static>) {
        self.crew
            .queue()
            .nursery()
            .request(Cancelled::__new(reason, location));
    }

    /// The nursery is cancelled, and has not looked who need not be polled any more.
    #[inline]
    pub(super) fn is_to_be_swept(&self) -> bool {
        !self.swept && self.is_effective()
    }

    /// Drops, once per cancellation, the members that would only say `Pending`.
    #[inline]
    pub(super) fn sweep<B>(&mut self, body: Pin<&mut Option<B>>) {
        let is_effective = self.is_effective();
        if is_effective && !self.swept {
            self.sweep_now(body);
        }
        self.swept = is_effective;
    }

    #[cold]
    fn sweep_now<B>(&mut self, body: Pin<&mut Option<B>>) {
        if self.crew.has_body() && may_be_dropped_unpolled(&self.crew.body()) {
            self.note_stop();
            self.drop_body(body);
        }
        self.crew.remove_all(may_be_dropped_unpolled);
        if self.crew.has_removed() {
            self.note_stop();
            self.drop_removed();
        }
    }

    #[inline]
    pub(super) fn is_finished(&mut self) -> bool {
        if !self.crew.is_empty() {
            return false;
        }
        if self.crew.is_closed() {
            return true;
        }
        let closed = self.crew.close_if_empty();
        if closed {
            self.crew.queue().tell_closed();
        }
        closed
    }

    /// Whether the nursery, which is cancelled, gives up on what still runs.
    #[cold]
    pub(super) fn is_out_of_grace(&mut self, cx: &mut Context<'_>) -> bool {
        let trouble = self.trouble.get_or_insert_default();
        trouble.grace.is_over(self.crew.queue().nursery(), cx) && self.dismiss_executor_children()
    }

    /// The grace period is over: executors drop the children that they poll. False while one of them runs.
    fn dismiss_executor_children(&mut self) -> bool {
        let (dismissed, some_run) = self.crew.queue().nursery().dismiss_inside();
        for frame in &dismissed {
            self.report(&Report::OutOfGrace(frame.clone()));
        }
        self.trouble().out_of_grace.extend(dismissed);
        !some_run
    }

    /// The grace period is over: what still runs is dropped where it stands, and named.
    pub(super) fn give_up<B>(&mut self, body: Pin<&mut Option<B>>) {
        self.note_stop();
        let node = Arc::clone(self.crew.queue().nursery());
        let mut given_up = Vec::new();
        if self.crew.has_body() {
            given_up.push(self.crew.body_member().info());
        }
        self.crew.remove_all(|_| true);
        self.crew.for_each_removed(Member::forgive_exit);
        given_up.extend(self.crew.removed_infos());
        let inside = node.abandon_inside();
        given_up.extend(inside.into_iter().filter(|frame| !frame.kind().is_member()));
        for frame in &given_up {
            self.report(&Report::OutOfGrace(frame.clone()));
        }
        self.trouble().out_of_grace.extend(given_up);
        if self.crew.has_body() {
            self.drop_body(body);
        }
        self.drop_removed();
        self.crew.close();
        self.drop_removed();
        self.crew.queue().tell_closed();
    }

    pub(super) fn finish(&mut self, cx: &mut Context<'_>) -> Poll<RawEnd<T, E>> {
        self.adopt_node();
        let outer_cancelled = self.is_outer_cancelled();
        let mut value = self
            .value
            .take()
            .or_else(|| self.finish.as_ref().and_then(|finish| finish.take()));
        let mut stopped_by = None;
        if let Some(trouble) = self.trouble.take() {
            stopped_by = trouble.stopped_by.clone();
            let failures = self.failures_of(*trouble, &mut value, outer_cancelled);
            if !failures.is_empty() {
                self.end_frame();
                return Poll::Ready(RawEnd::Failed(failures));
            }
        }
        if let Some(value) = value
            && !(outer_cancelled && self.stopped_by_outer)
        {
            self.end_frame();
            return Poll::Ready(RawEnd::Value(value));
        }
        let frame = self.frame();
        let cancelled = stopped_by.unwrap_or_else(|| frame.node().cancelled_or_closed());
        frame.mark_stopped(cancelled);
        frame.absorb_or_park(cx).map(RawEnd::Cancelled)
    }

    /// The failures with which the nursery ends; resumes a panic.
    #[cold]
    fn failures_of(
        &mut self,
        trouble: Trouble<E>,
        value: &mut Option<T>,
        outer_cancelled: bool,
    ) -> Vec<Failure<E>> {
        let info = self.crew.queue().info();
        let mut failures = trouble.failures;
        if !trouble.out_of_grace.is_empty() {
            let names = trouble
                .out_of_grace
                .iter()
                .map(|frame| frame.to_string().into())
                .collect();
            failures.push(Failure::library(LibraryFailure::OutOfGrace { names }));
        }
        forget_echoes(&mut failures);
        if let Some(payload) = trouble.panic {
            if !failures.is_empty() {
                self.report(&Report::FailuresBehindPanic {
                    frame: info,
                    failures: failures.len(),
                    type_name: type_name::<E>(),
                });
            }
            self.end_frame();
            drop((value.take(), failures));
            resume_unwind(payload);
        }
        if !failures.is_empty() && outer_cancelled {
            self.report(&Report::FailedUnderCancellation {
                frame: info,
                failures: failures.len(),
                type_name: type_name::<E>(),
            });
        }
        failures
    }
}
