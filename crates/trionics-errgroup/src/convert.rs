//! To and from the error types of others.

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;

use crate::node::Slot;
use crate::{AnyError, Failure, Node};

/// An error about which nothing else is known is that very error again; anything else becomes one whose
/// `Display` is a line and whose `Debug` is the tree.
impl From<Failure<AnyError>> for Box<dyn Error + Send + Sync> {
    fn from(failure: Failure<AnyError>) -> Self {
        match failure.0.0 {
            Slot::Leaf(error) => error.into_boxed(),
            slot @ Slot::Rich(_) => Box::new(Boxed(Failure::from_node(Node(slot)))),
        }
    }
}

impl From<Failure<AnyError>> for Box<dyn Error + Send> {
    fn from(failure: Failure<AnyError>) -> Self {
        Box::<dyn Error + Send + Sync>::from(failure)
    }
}

impl From<Failure<AnyError>> for Box<dyn Error> {
    fn from(failure: Failure<AnyError>) -> Self {
        Box::<dyn Error + Send + Sync>::from(failure)
    }
}

impl From<Box<dyn Error + Send + Sync>> for AnyError {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::from_boxed(error)
    }
}

impl Failure<AnyError> {
    /// Makes a failure out of a boxed error; one that was a failure before it was boxed is that failure again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::error::Error;
    /// use trionics_errgroup::Failure;
    ///
    /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
    /// let boxed: Box<dyn Error + Send + Sync> = group.into();
    /// assert_eq!(Failure::from_boxed(boxed).message(), Some("feed"));
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn from_boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => Self::leaf(AnyError::from_boxed(error)),
        }
    }
}

/// A failure as an error, which `Failure<AnyError>` must not be so that `?` can make one out of every error.
struct Boxed(Failure<AnyError>);

impl Error for Boxed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for Boxed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// Bridges to a type that wraps any error and is none itself.
#[cfg(any(feature = "anyhow", feature = "eyre"))]
macro_rules! bridge {
    ($report:ty, $wrapper:ident, $from:ident, $example:literal) => {
        /// Keeps the report whole, with its backtrace and its types.
        pub(crate) struct $wrapper(pub(crate) $report);

        impl Error for $wrapper {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.0.chain().nth(1)
            }
        }

        impl fmt::Debug for $wrapper {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        impl fmt::Display for $wrapper {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}", self.0)
            }
        }

        impl From<$report> for AnyError {
            fn from(report: $report) -> Self {
                Self::new($wrapper(report))
            }
        }

        impl Failure<AnyError> {
            /// Makes a failure out of a report; one that was a failure before it became a report is that failure again.
            ///
            /// # Examples
            ///
            /// ```
            /// use trionics_errgroup::Failure;
            ///
            /// let group = Failure::group("feed", [Failure::new(std::fmt::Error)])?;
            #[doc = $example]
            /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
            /// ```
            pub fn $from(report: $report) -> Self {
                match report.downcast::<Boxed>() {
                    Ok(boxed) => boxed.0,
                    Err(report) => Self::leaf(AnyError::from(report)),
                }
            }
        }

        impl From<Failure<AnyError>> for $report {
            fn from(failure: Failure<AnyError>) -> Self {
                match failure.0.0 {
                    // A report comes out as it went in.
                    Slot::Leaf(error) => match error.into_boxed().downcast::<$wrapper>() {
                        Ok(wrapper) => wrapper.0,
                        Err(error) => Self::new(Boxed(Failure::leaf(AnyError::from_boxed(error)))),
                    },
                    slot @ Slot::Rich(_) => Self::new(Boxed(Failure::from_node(Node(slot)))),
                }
            }
        }
    };
}

#[cfg(feature = "anyhow")]
bridge!(
    anyhow::Error,
    Anyhow,
    from_anyhow,
    "assert_eq!(Failure::from_anyhow(anyhow::Error::from(group)).message(), Some(\"feed\"));"
);
#[cfg(feature = "eyre")]
bridge!(
    eyre::Report,
    Eyre,
    from_eyre,
    "assert_eq!(Failure::from_eyre(eyre::Report::from(group)).message(), Some(\"feed\"));"
);
