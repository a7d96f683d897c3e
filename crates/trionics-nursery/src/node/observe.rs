//! Nodes for children that would otherwise have none, because somebody watches.

use super::Node;

impl Node {
    /// Whether somebody wants to see each child of this nursery, also one that has no frame inside.
    pub(crate) fn shows_children(&self) -> bool {
        #[cfg(feature = "task-tree")]
        if self.is_tracked() {
            return true;
        }
        #[cfg(feature = "tracing")]
        if crate::trace::hears_of_children() {
            return true;
        }
        false
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn trace(&self) -> &crate::trace::Trace {
        &self.trace
    }
}
