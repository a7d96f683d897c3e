//! Which keys lead where: the part of a cache that a hit looks at.
//!
//! Of the program's code only a key's `Eq` runs under its lock. Hashes are computed before and kept, so
//! that growing calls nobody, and an entry is removed by its place, not by comparing keys.

use std::{
    hash::Hash,
    sync::{Arc, Weak},
};

use hashbrown::{Equivalent, HashTable};

use crate::{
    sync::{Mutex, MutexGuard, lock},
    tenure::Tenure,
};

/// A key, and its place in the cache.
struct Entry<K, T, E> {
    key: K,
    hash: u64,
    place: usize,
    /// The value that is in use; dangling where there is none to be shared at once.
    open: Weak<Tenure<K, T, E>>,
}

struct Table<K, T, E> {
    entries: HashTable<Entry<K, T, E>>,
    hits: u64,
}

/// The keys that are alive.
pub(crate) struct Index<K, T, E> {
    table: Mutex<Table<K, T, E>>,
}

impl<K, T, E> Index<K, T, E> {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::new(Table {
                entries: HashTable::new(),
                hits: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<K, T, E>> {
        lock(&self.table)
    }

    /// A share of the key's value if it is in use.
    #[inline]
    pub(crate) fn hit<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Tenure<K, T, E>>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut table = self.lock();
        let entry = table
            .entries
            .find(hash, |entry| key.equivalent(&entry.key))?;
        let tenure = entry.open.upgrade()?;
        table.hits += 1;
        Some(tenure)
    }

    /// The key's place.
    pub(crate) fn place<Q>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let table = self.lock();
        let entry = table
            .entries
            .find(hash, |entry| key.equivalent(&entry.key))?;
        Some(entry.place)
    }

    /// Lets a key that is not there lead to `place`.
    pub(crate) fn insert(&self, key: K, hash: u64, place: usize) {
        let entry = Entry {
            key,
            hash,
            place,
            open: Weak::new(),
        };
        self.lock()
            .entries
            .insert_unique(hash, entry, |entry| entry.hash);
    }

    /// Lets the key that leads to `old` lead to `new`.
    pub(crate) fn redirect(&self, hash: u64, old: usize, new: usize) {
        if let Some(entry) = self
            .lock()
            .entries
            .find_mut(hash, |entry| entry.place == old)
        {
            entry.place = new;
            entry.open = Weak::new();
        }
    }

    /// Sets what a hit shares.
    pub(crate) fn set_open(&self, hash: u64, place: usize, open: Weak<Tenure<K, T, E>>) {
        if let Some(entry) = self
            .lock()
            .entries
            .find_mut(hash, |entry| entry.place == place)
        {
            entry.open = open;
        }
    }

    /// Forgets the key that leads to `place`; it is to be dropped outside all locks.
    #[must_use]
    pub(crate) fn remove(&self, hash: u64, place: usize) -> Option<K> {
        let mut table = self.lock();
        let entry = table
            .entries
            .find_entry(hash, |entry| entry.place == place)
            .ok()?;
        Some(entry.remove().0.key)
    }

    /// Forgets all keys; they are to be dropped outside all locks.
    #[must_use]
    pub(crate) fn clear(&self) -> Vec<K> {
        let entries = std::mem::take(&mut self.lock().entries);
        entries.into_iter().map(|entry| entry.key).collect()
    }

    pub(crate) fn n_hits(&self) -> u64 {
        self.lock().hits
    }
}
