//! The nursery's own frame, which it gets when it has to.

use std::sync::Arc;

use super::Inner;
use crate::{
    current,
    frame::{Frame, report_at},
    report::Report,
};

impl<C: ?Sized, T, E> Inner<C, T, E> {
    /// It is polled in no frame, and nobody has asked for its node.
    #[inline]
    pub(super) fn may_be_bare(&self) -> bool {
        #[cfg(feature = "task-tree")]
        if crate::tree::tracks_all() {
            return false;
        }
        #[cfg(feature = "tracing")]
        if crate::trace::hears_of_nurseries() {
            return false;
        }
        self.crew.queue().known_nursery().is_none() && current::with(|current| current.is_none())
    }

    #[inline(never)]
    pub(super) fn make_frame(&mut self) {
        let node = Arc::clone(self.crew.queue().nursery());
        self.frame = Some(Frame::new(node));
    }

    /// Takes its place in the tree if it has got a node in the meantime; no frame is current.
    #[inline]
    pub(super) fn adopt_node(&mut self) {
        if self.frame.is_none() && self.crew.queue().known_nursery().is_some() {
            self.frame();
        }
    }

    /// The frame, made now if need be; it is polled in no other one then.
    pub(super) fn frame(&mut self) -> &mut Frame {
        if self.frame.is_none() {
            self.make_frame();
            let _outside = current::clear();
            let frame = self.frame.as_mut().expect("just made");
            frame.settle();
            frame.begin_poll();
            self.bare = None;
        }
        self.frame.as_mut().expect("made above")
    }

    /// The nursery is over.
    #[inline]
    pub(super) fn end_frame(&mut self) {
        self.bare = None;
        if let Some(frame) = &mut self.frame {
            frame.finish();
        }
    }

    #[inline]
    pub(super) fn is_effective(&self) -> bool {
        let node = self.crew.queue().known_nursery();
        node.is_some_and(|node| node.is_effective())
    }

    pub(super) fn is_outer_cancelled(&self) -> bool {
        let node = self.crew.queue().known_nursery();
        node.is_some_and(|node| node.is_outer_cancelled())
    }

    pub(super) fn report(&self, what: &Report) {
        report_at(self.crew.queue().known_nursery(), what);
    }
}
