//! What a key's resource is known by: to its users, in messages, and in the search for cycles.

use std::sync::Arc;

use trionics_nursery::internal::Tag;

use crate::{
    core::Core,
    sync::{AtomicU64, Ordering, ProcessOrdering, ProcessU64},
};

/// Counts the identities of this process.
static NEXT_ID: ProcessU64 = ProcessU64::new(1);

/// How often a key of any cache has ceased to lead where it led.
///
/// Who remembers a way looks at this one number, and further only if it has changed.
static N_SUPERSEDED: Apart<ProcessU64> = Apart(ProcessU64::new(0));

/// On a cache line of its own: it is read often and seldom changed.
#[repr(align(64))]
struct Apart<T>(T);

/// Changes after a key has ceased to lead where it led.
#[inline]
pub(crate) fn n_superseded() -> u64 {
    N_SUPERSEDED.0.load(ProcessOrdering::Acquire)
}

/// One life of a key in a cache, at one place.
pub(crate) struct Identity<K, T, E> {
    pub(crate) core: Arc<Core<K, T, E>>,
    pub(crate) key: K,
    id: u64,
    /// Set when it gets the place.
    place: usize,
    /// The generation to which the users belong, if there are any: the place begins another one only when nobody has
    /// a share of the last. Changed under the lock of the core's state.
    generation: AtomicU64,
    /// The last generation to which the key does not lead any more; they are numbered upwards.
    superseded: AtomicU64,
    /// The last generation whose users were asked to leave.
    detached: AtomicU64,
}

impl<K, T, E> Identity<K, T, E> {
    pub(crate) fn new(core: Arc<Core<K, T, E>>, key: K) -> Arc<Self> {
        Arc::new(Self {
            core,
            key,
            id: NEXT_ID.fetch_add(1, ProcessOrdering::Relaxed),
            place: usize::MAX,
            generation: AtomicU64::new(0),
            superseded: AtomicU64::new(0),
            detached: AtomicU64::new(0),
        })
    }

    /// A new one gets its place.
    pub(crate) fn settle(identity: &mut Arc<Self>, place: usize) {
        Arc::get_mut(identity).expect("a new one").place = place;
    }

    #[inline]
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// The generation of whoever has a share.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Another generation begins, under the lock of the core's state.
    pub(crate) fn begin(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Who remembers this generation must not join it any more. Under the lock of the core's state.
    pub(crate) fn supersede(&self, generation: u64) {
        self.superseded.store(generation, Ordering::Release);
        N_SUPERSEDED.0.fetch_add(1, ProcessOrdering::Release);
    }

    /// The users of this generation are asked to leave. Under the lock of the core's state.
    pub(crate) fn detach(&self, generation: u64) {
        self.supersede(generation);
        self.detached.store(generation, Ordering::Release);
    }

    pub(crate) fn is_superseded(&self, generation: u64) -> bool {
        self.superseded.load(Ordering::Acquire) >= generation
    }

    pub(crate) fn is_detached(&self, generation: u64) -> bool {
        self.detached.load(Ordering::Acquire) >= generation
    }
}

impl<K, T, E> Tag for Identity<K, T, E>
where
    K: Send + Sync,
    T: Send + Sync,
    E: Send,
{
    fn id(&self) -> u64 {
        self.id
    }

    fn name(&self) -> String {
        let settings = &self.core.settings;
        let key = (settings.describe)(&self.key);
        match &settings.name {
            Some(name) => format!("{name}[{key}]"),
            None => key,
        }
    }
}
