//! Trees as flat lists, so that no format and no reader has to follow their depth.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use serde::ser::{Serialize, SerializeSeq, SerializeStruct, Serializer};

use crate::any_error::sources;
use crate::list::{Entry, Item, list};
use crate::{AnyError, CancelReason, Cancelled, ContextRelation, Failure, LibraryFailure, Node};

/// A list of nodes, each after the one that it hangs on, whose place in the list is its `parent`.
///
/// Every node has a `role` (`root`, `child`, or the relation of a context: `pending`, `handled`, `masked_by`) and a `kind`
/// (`error`, `group`, `cancelled`, `library`, or `reference` for a context in another place, which is at `at`). Whatever is not there is left out.
impl<E: Serialize> Serialize for Node<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = list(self);
        let mut places = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            if let Item::Node(node) = entry.item {
                for mark in node.marks() {
                    places.entry(mark.address()).or_insert(place);
                }
            }
        }
        let mut list = serializer.serialize_seq(Some(entries.len()))?;
        for entry in &entries {
            list.serialize_element(&Numbered(entry, &places))?;
        }
        list.end()
    }
}

impl<E: Serialize> Serialize for Failure<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// The error's `message`, and those of its `sources`; behind 32 of them, a word that there are more.
impl Serialize for AnyError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let error = self.as_error();
        let sources: Vec<_> = sources(error.source())
            .map(|source| source.to_string())
            .collect();
        let mut fields = serializer.serialize_struct("AnyError", 2)?;
        fields.serialize_field("message", &self.to_string())?;
        fields.serialize_field("sources", &sources)?;
        fields.end()
    }
}

/// The `reason`, its `text`, and the `location`.
impl Serialize for Cancelled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Cancelled", 3)?;
        fields.serialize_field("reason", reason_name(self.reason()))?;
        fields.serialize_field("text", &self.reason().to_string())?;
        fields.serialize_field("location", &self.location().to_string())?;
        fields.end()
    }
}

/// The `failure`'s name, and its `text`.
impl Serialize for LibraryFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("LibraryFailure", 2)?;
        fields.serialize_field("failure", library_name(self))?;
        fields.serialize_field("text", &self.to_string())?;
        fields.end()
    }
}

/// An entry with the places to which references lead.
struct Numbered<'a, E>(&'a Entry<'a, E>, &'a BTreeMap<usize, usize>);

impl<E: Serialize> Serialize for Numbered<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(entry, places) = self;
        let node = match entry.item {
            Item::Node(node) => node,
            Item::Reference(mark) => {
                let mut fields = serializer.serialize_struct("Reference", 4)?;
                fields.serialize_field("parent", &entry.parent)?;
                fields.serialize_field("role", role_name(entry))?;
                fields.serialize_field("kind", "reference")?;
                fields.serialize_field("at", &places.get(&mark.address()))?;
                return fields.end();
            }
        };
        let has_parent = entry.parent.is_some();
        let has_notes = node.notes().len() > 0;
        let n_fields = 3
            + usize::from(has_parent)
            + usize::from(has_notes)
            + usize::from(node.origin().is_some())
            + usize::from(node.cause().is_some())
            + usize::from(node.n_collapsed() > 0);
        let mut fields = serializer.serialize_struct("Node", n_fields)?;
        if has_parent {
            fields.serialize_field("parent", &entry.parent)?;
        } else {
            fields.skip_field("parent")?;
        }
        fields.serialize_field("role", role_name(entry))?;
        if let Some(error) = node.as_leaf() {
            fields.serialize_field("kind", "error")?;
            fields.serialize_field("error", error)?;
        } else if let Some(cancelled) = node.as_cancelled() {
            fields.serialize_field("kind", "cancelled")?;
            fields.serialize_field("cancelled", cancelled)?;
        } else if let Some(failure) = node.as_library() {
            fields.serialize_field("kind", "library")?;
            fields.serialize_field("library", failure)?;
        } else {
            fields.serialize_field("kind", "group")?;
            fields.serialize_field("message", &node.message())?;
        }
        if let Some(origin) = node.origin() {
            fields.serialize_field("origin", origin)?;
        }
        if has_notes {
            fields.serialize_field("notes", &node.notes().collect::<Vec<_>>())?;
        }
        if let Some(cause) = node.cause() {
            fields.serialize_field("cause", &cause.to_string())?;
        }
        if node.n_collapsed() > 0 {
            fields.serialize_field("collapsed", &node.n_collapsed())?;
        }
        fields.end()
    }
}

fn role_name<E>(entry: &Entry<'_, E>) -> &'static str {
    match (entry.parent, entry.relation) {
        (None, _) => "root",
        (_, None) => "child",
        (_, Some(ContextRelation::Pending)) => "pending",
        (_, Some(ContextRelation::Handled)) => "handled",
        (_, Some(ContextRelation::MaskedBy)) => "masked_by",
    }
}

fn reason_name(reason: &CancelReason) -> &'static str {
    match reason {
        CancelReason::Explicit(_) => "explicit",
        CancelReason::Deadline => "deadline",
        CancelReason::ChildFailed { .. } => "child_failed",
        CancelReason::BodyFailed => "body_failed",
        CancelReason::ChildPanicked => "child_panicked",
        CancelReason::Finished => "finished",
        CancelReason::ContextEnded => "context_ended",
        CancelReason::Closed => "closed",
        CancelReason::Signal => "signal",
        CancelReason::ExecutorShutDown => "executor_shut_down",
    }
}

fn library_name(failure: &LibraryFailure) -> &'static str {
    match failure {
        LibraryFailure::NotStarted => "not_started",
        LibraryFailure::EmptySet => "empty_set",
        LibraryFailure::Closed { .. } => "closed",
        LibraryFailure::Full { .. } => "full",
        LibraryFailure::Cycle { .. } => "cycle",
        LibraryFailure::NotProvided => "not_provided",
        LibraryFailure::ContextEnded => "context_ended",
        LibraryFailure::ChildEnded(_) => "child_ended",
        LibraryFailure::OutOfGrace { .. } => "out_of_grace",
    }
}
