//! The erased leaf.

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;

/// Any error at all, the default leaf of a [`Failure`](crate::Failure).
///
/// It does not implement [`Error`] itself, so that `?` can turn every error into one.
/// What is inside can be asked for by its type, as with `dyn Error`.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::AnyError;
///
/// let error = AnyError::new("x".parse::<u8>().unwrap_err());
/// assert!(error.is::<std::num::ParseIntError>());
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// ```
pub struct AnyError(
    /// Two words, with a niche that lets a node in a group be two words as well.
    Box<dyn Error + Send + Sync>,
);

impl AnyError {
    /// Erases the type of an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// assert_eq!(AnyError::new(std::fmt::Error).to_string(), std::fmt::Error.to_string());
    /// ```
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    /// Takes over an error that is boxed already.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// let boxed: Box<dyn std::error::Error + Send + Sync> = "no route".into();
    /// assert_eq!(AnyError::from_boxed(boxed).to_string(), "no route");
    /// ```
    pub fn from_boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        Self(error)
    }
    /// The error as a trait object.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// assert!(AnyError::new(std::fmt::Error).as_error().source().is_none());
    /// ```
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// Whether the error is a `T`.
    pub fn is<T: Error + 'static>(&self) -> bool {
        self.0.is::<T>()
    }

    /// The error, if it is a `T`.
    pub fn downcast_ref<T: Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    /// The error itself, if it is a `T`.
    ///
    /// # Errors
    ///
    /// Gives `self` back if it is something else.
    pub fn downcast<T: Error + 'static>(self) -> Result<T, Self> {
        self.0.downcast().map(|error| *error).map_err(Self)
    }
}

impl fmt::Debug for AnyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}
