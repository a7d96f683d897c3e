//! The erased leaf.

use alloc::boxed::Box;
use core::error::Error;
use core::{fmt, iter};

#[cfg(feature = "anyhow")]
use crate::convert::Anyhow;
#[cfg(feature = "eyre")]
use crate::convert::Eyre;

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

    /// Takes over an error that is boxed already. One that was a [`Failure`](crate::Failure) before it was boxed is a tree again
    /// by [`Failure::from_boxed`](crate::Failure::from_boxed), and by that only.
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

    /// The error as a boxed trait object.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// assert!(AnyError::new(std::fmt::Error).into_boxed().is::<std::fmt::Error>());
    /// ```
    pub fn into_boxed(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }

    /// Whether the error is a `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// assert!(AnyError::new(std::fmt::Error).is::<std::fmt::Error>());
    /// ```
    pub fn is<T: Error + Send + Sync + 'static>(&self) -> bool {
        self.downcast_ref::<T>().is_some()
    }

    /// The error, if it is a `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// assert!(AnyError::new(std::fmt::Error).downcast_ref::<std::num::ParseIntError>().is_none());
    /// ```
    pub fn downcast_ref<T: Error + Send + Sync + 'static>(&self) -> Option<&T> {
        let found = self.0.downcast_ref();
        #[cfg(feature = "anyhow")]
        let found = found.or_else(|| self.0.downcast_ref::<Anyhow>()?.0.downcast_ref());
        #[cfg(feature = "eyre")]
        let found = found.or_else(|| self.0.downcast_ref::<Eyre>()?.0.downcast_ref());
        found
    }

    /// The error itself, if it is a `T`.
    ///
    /// # Errors
    ///
    /// Gives `self` back if it is something else.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::AnyError;
    ///
    /// assert!(AnyError::new(std::fmt::Error).downcast::<std::fmt::Error>().is_ok());
    /// ```
    pub fn downcast<T: Error + Send + Sync + 'static>(self) -> Result<T, Self> {
        let error = match self.0.downcast() {
            Ok(error) => return Ok(*error),
            Err(error) => error,
        };
        #[cfg(feature = "anyhow")]
        let error = match error.downcast::<Anyhow>() {
            Ok(wrapper) => return wrapper.0.downcast().map_err(Self::from),
            Err(error) => error,
        };
        #[cfg(feature = "eyre")]
        let error = match error.downcast::<Eyre>() {
            Ok(wrapper) => return wrapper.0.downcast().map_err(Self::from),
            Err(error) => error,
        };
        Err(Self(error))
    }
}

/// The error and its sources, one a line; with `{:#?}`, the error's own `Debug`.
impl fmt::Debug for AnyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if formatter.alternate() {
            fmt::Debug::fmt(self.as_error(), formatter)
        } else {
            write!(formatter, "{self:#}")
        }
    }
}

/// The error in its own words; with `{:#}`, its sources too, one a line.
impl fmt::Display for AnyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !formatter.alternate() {
            return fmt::Display::fmt(self.as_error(), formatter);
        }
        let error = self.as_error();
        write!(formatter, "{error}")?;
        for source in sources(error.source()) {
            write!(formatter, "\ncaused by: {source}")?;
        }
        Ok(())
    }
}

/// An error's source, the source of that, and so on; behind too many of them, a word that there are more.
pub(crate) fn sources<'a>(
    first: Option<&'a (dyn Error + 'static)>,
) -> impl Iterator<Item = Source<'a>> {
    let all = iter::successors(first, |&error| error.source());
    let numbered = all.take(MAX_SOURCES + 1).enumerate();
    numbered.map(|(number, error)| match number {
        MAX_SOURCES => Source::LeftOut,
        _ => Source::Error(error),
    })
}

/// What is printed of a chain of sources.
pub(crate) enum Source<'a> {
    Error(&'a (dyn Error + 'static)),
    LeftOut,
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => fmt::Display::fmt(error, formatter),
            Self::LeftOut => formatter.write_str("more, which are left out"),
        }
    }
}

/// How many sources of one error are printed. A chain that never ends would be a mistake of the error's author.
const MAX_SOURCES: usize = 32;
