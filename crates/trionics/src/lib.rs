#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "errgroup")]
#[doc(inline)]
pub use trionics_errgroup as errgroup;
#[cfg(feature = "errgroup")]
#[doc(no_inline)]
pub use trionics_errgroup::*;

#[cfg(feature = "nursery")]
#[doc(inline)]
pub use trionics_nursery as nursery;
#[cfg(feature = "nursery")]
#[doc(no_inline)]
pub use trionics_nursery::*;

#[cfg(feature = "gather")]
#[doc(inline)]
pub use trionics_gather as gather;
#[cfg(feature = "gather")]
#[doc(no_inline)]
pub use trionics_gather::*;

#[cfg(feature = "cache")]
#[doc(inline)]
pub use trionics_cache as cache;
#[cfg(feature = "cache")]
#[doc(no_inline)]
pub use trionics_cache::*;

#[cfg(feature = "broadcast")]
#[doc(inline)]
pub use trionics_broadcast as broadcast;
#[cfg(feature = "broadcast")]
#[doc(no_inline)]
pub use trionics_broadcast::*;
