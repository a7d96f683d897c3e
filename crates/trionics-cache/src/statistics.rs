//! What a cache has done so far, and what it holds.

/// A snapshot made by [`ContextCache::statistics`](crate::ContextCache::statistics).
///
/// # Examples
///
/// ```
/// use trionics_cache::{ContextCache, Statistics};
///
/// let cache: ContextCache<&str, u8> = ContextCache::new();
/// assert_eq!(cache.statistics(), Statistics::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Uses that found the resource there, or being set up by another one. Those through a slot are added
    /// when the slot does not hit, or is dropped.
    pub hits: u64,
    /// Uses that set a resource up.
    pub misses: u64,
    /// Set-ups that were begun.
    pub opens: u64,
    /// Set-ups and exits that failed or panicked.
    pub failures: u64,
    /// Resources that were set up and have been torn down, well or not.
    pub teardowns: u64,
    /// How many users there are, of all resources.
    pub users: usize,
    /// How many wait for a resource to be set up.
    pub waiting: usize,
    /// Resources that are to be set up, or are being set up.
    pub opening: usize,
    /// Resources in use.
    pub in_use: usize,
    /// Resources that are kept although nobody uses them.
    pub idle: usize,
    /// Resources that are being torn down.
    pub leaving: usize,
}
