//! The hasher of a cache that is given none.

use std::{fmt, hash::BuildHasher};

use hashbrown::DefaultHashBuilder;

/// Hashes keys quickly, with a seed of its own for each process.
///
/// It withstands keys that collide by chance. Where an attacker chooses the keys and can measure times,
/// give the cache [`std::hash::RandomState`] with
/// [`CacheOptions::hasher`](crate::CacheOptions::hasher).
///
/// # Examples
///
/// ```
/// use trionics_cache::{ContextCache, FastHash};
///
/// let cache: ContextCache<u64, String> = ContextCache::new();
/// let same: ContextCache<u64, String, trionics_errgroup::AnyError, FastHash> = cache;
/// assert!(same.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct FastHash {
    build: DefaultHashBuilder,
}

impl BuildHasher for FastHash {
    type Hasher = <DefaultHashBuilder as BuildHasher>::Hasher;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        self.build.build_hasher()
    }
}

impl fmt::Debug for FastHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastHash").finish_non_exhaustive()
    }
}
