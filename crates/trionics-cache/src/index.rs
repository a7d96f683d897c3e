//! Which keys lead where: the part of a cache that a hit looks at.
//!
//! Of the program's code only a key's `Eq` runs under its locks. Hashes are computed before and kept, so
//! that growing calls nobody, and an entry is removed by its place, not by comparing keys.
//!
//! It is cut into shards by the hash, each with a lock of its own, so that threads seldom meet. An entry
//! is small, for what a hit costs with many keys is the memory that it touches.

use std::{
    hash::Hash,
    mem,
    sync::{Arc, Weak},
};

use hashbrown::{Equivalent, HashTable};

use crate::{
    sync::{Mutex, MutexGuard, lock},
    tenure::Tenure,
};

/// A power of two.
const N_SHARDS: usize = 16;

/// A key, and its place in the cache.
struct Entry<K, T, E> {
    key: K,
    hash: Folded,
    place: u32,
    /// The value that is in use; dangling where there is none to be shared at once.
    open: Weak<Tenure<K, T, E>>,
}

/// Half a hash, which is what an entry keeps of it.
#[derive(Clone, Copy)]
struct Folded(u32);

impl Folded {
    #[inline]
    fn new(hash: u64) -> Self {
        Self((hash ^ (hash >> 32)) as u32)
    }

    #[inline]
    fn shard(self) -> usize {
        self.0 as usize % N_SHARDS
    }

    /// Spread again, as a table needs the upper bits, too.
    #[inline]
    fn in_table(self) -> u64 {
        u64::from(self.0)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_right(4)
    }
}

/// Where a key was seen, if it was seen at all. It may have left since.
#[derive(Clone, Copy)]
pub(crate) struct SeenAt(u32);

impl SeenAt {
    pub(crate) const NOWHERE: Self = Self(u32::MAX);

    pub(crate) fn place(self) -> Option<usize> {
        (self.0 != Self::NOWHERE.0).then_some(self.0 as usize)
    }
}

/// A share, or where the key is.
type Look<K, T, E> = (Option<Arc<Tenure<K, T, E>>>, SeenAt);

struct Table<K, T, E> {
    entries: HashTable<Entry<K, T, E>>,
    hits: u64,
}

/// On cache lines of its own: threads that use different shards do not get in each other's way.
#[repr(align(64))]
struct Shard<K, T, E> {
    table: Mutex<Table<K, T, E>>,
}

/// The keys that are alive.
pub(crate) struct Index<K, T, E> {
    shards: [Shard<K, T, E>; N_SHARDS],
}

impl<K, T, E> Table<K, T, E> {
    fn of_place(&mut self, hash: Folded, place: usize) -> Option<&mut Entry<K, T, E>> {
        self.entries
            .find_mut(hash.in_table(), |entry| entry.place as usize == place)
    }
}

impl<K, T, E> Index<K, T, E> {
    pub(crate) fn new() -> Self {
        let shard = |_| Shard {
            table: Mutex::new(Table {
                entries: HashTable::new(),
                hits: 0,
            }),
        };
        Self {
            shards: std::array::from_fn(shard),
        }
    }

    #[inline]
    fn lock(&self, hash: Folded) -> MutexGuard<'_, Table<K, T, E>> {
        lock(&self.shards[hash.shard()].table)
    }

    /// A share of the key's value if it is in use.
    #[inline]
    pub(crate) fn hit<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Tenure<K, T, E>>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.look(hash, key).0
    }

    /// A share of the key's value if it is in use; else where the key is, if it is alive.
    #[inline]
    pub(crate) fn look<Q>(&self, hash: u64, key: &Q) -> Look<K, T, E>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = Folded::new(hash);
        let mut table = self.lock(hash);
        let Some(entry) = table
            .entries
            .find(hash.in_table(), |entry| key.equivalent(&entry.key))
        else {
            return (None, SeenAt::NOWHERE);
        };
        let Some(tenure) = entry.open.upgrade() else {
            return (None, SeenAt(entry.place));
        };
        table.hits += 1;
        (Some(tenure), SeenAt::NOWHERE)
    }

    /// The key's place.
    pub(crate) fn place<Q>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = Folded::new(hash);
        let table = self.lock(hash);
        let entry = table
            .entries
            .find(hash.in_table(), |entry| key.equivalent(&entry.key))?;
        Some(entry.place as usize)
    }

    /// Lets a key that is not there lead to `place`.
    pub(crate) fn insert(&self, key: K, hash: u64, place: usize) {
        let hash = Folded::new(hash);
        let entry = Entry {
            key,
            hash,
            place: narrow(place),
            open: Weak::new(),
        };
        self.lock(hash)
            .entries
            .insert_unique(hash.in_table(), entry, |entry| entry.hash.in_table());
    }

    /// Lets the key that leads to `old` lead to `new`.
    pub(crate) fn redirect(&self, hash: u64, old: usize, new: usize) {
        let hash = Folded::new(hash);
        if let Some(entry) = self.lock(hash).of_place(hash, old) {
            entry.place = narrow(new);
            entry.open = Weak::new();
        }
    }

    /// Sets what a hit shares.
    pub(crate) fn set_open(&self, hash: u64, place: usize, open: Weak<Tenure<K, T, E>>) {
        let hash = Folded::new(hash);
        if let Some(entry) = self.lock(hash).of_place(hash, place) {
            entry.open = open;
        }
    }

    /// Forgets the key that leads to `place`; it is to be dropped outside all locks.
    #[must_use]
    pub(crate) fn remove(&self, hash: u64, place: usize) -> Option<K> {
        let hash = Folded::new(hash);
        let mut table = self.lock(hash);
        let entry = table
            .entries
            .find_entry(hash.in_table(), |entry| entry.place as usize == place)
            .ok()?;
        Some(entry.remove().0.key)
    }

    /// Forgets all keys; they are to be dropped outside all locks.
    #[must_use]
    pub(crate) fn clear(&self) -> Vec<K> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            let entries = mem::take(&mut lock(&shard.table).entries);
            keys.extend(entries.into_iter().map(|entry| entry.key));
        }
        keys
    }

    pub(crate) fn n_hits(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| lock(&shard.table).hits)
            .sum()
    }
}

fn narrow(place: usize) -> u32 {
    let place = u32::try_from(place).ok();
    (place.filter(|&place| place < SeenAt::NOWHERE.0))
        .expect("a cache holds less than four billion keys")
}
