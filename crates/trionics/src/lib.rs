//! Structured concurrency on any executor, in which cancellation runs your async cleanup.
#![forbid(unsafe_code)]

#[cfg(feature = "errgroup")]
#[doc(inline)]
pub use trionics_errgroup as errgroup;

#[cfg(feature = "nursery")]
#[doc(inline)]
pub use trionics_nursery as nursery;

#[cfg(feature = "gather")]
#[doc(inline)]
pub use trionics_gather as gather;

#[cfg(feature = "cache")]
#[doc(inline)]
pub use trionics_cache as cache;

#[cfg(feature = "broadcast")]
#[doc(inline)]
pub use trionics_broadcast as broadcast;
