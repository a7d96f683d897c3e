//! What a key's resource is known by: to its users, in messages, and in the search for cycles.

use std::sync::Arc;

use trionics_nursery::internal::Tag;

use crate::sync::{ProcessOrdering, ProcessU64};

/// Counts the identities of this process.
static NEXT_ID: ProcessU64 = ProcessU64::new(1);

/// One life of a key in a cache.
pub(crate) struct Identity<K> {
    pub(crate) key: K,
    id: u64,
    /// Writes the key.
    describe: fn(&K) -> String,
    cache_name: Option<Arc<str>>,
}

impl<K> Identity<K> {
    pub(crate) fn new(
        key: K,
        describe: fn(&K) -> String,
        cache_name: Option<Arc<str>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            id: NEXT_ID.fetch_add(1, ProcessOrdering::Relaxed),
            describe,
            cache_name,
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl<K: Send + Sync> Tag for Identity<K> {
    fn id(&self) -> u64 {
        self.id
    }

    fn name(&self) -> String {
        let key = (self.describe)(&self.key);
        match &self.cache_name {
            Some(name) => format!("{name}[{key}]"),
            None => key,
        }
    }
}
