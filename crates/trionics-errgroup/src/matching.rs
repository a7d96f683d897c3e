//! Matching failures in tests, one to one and in any order.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::{AnyError, Node};

/// Asserts that a failure is the one that is described, its children in any order.
///
/// | expectation | matches |
/// | --- | --- |
/// | `pattern`, `pattern if condition` | an error that the pattern matches |
/// | `is Type` | an erased error of this type |
/// | `text "no route"` | an error that prints so |
/// | `cancelled`, `library`, `any` | a `Cancelled`, a failure of the library's own, whatever there is |
/// | `[a, b]` | a group with exactly these children, each of them once |
/// | `"feed" [a, b]` | such a group with this message |
/// | `flatten [a, b]` | a group with exactly these leaves, however they are nested |
/// | `unwrapped [a]` | such a group, or `a` without a group |
///
/// The words can be combined, as in `flatten unwrapped "feed" [a]`. An error that several expectations match is given to
/// the one that leaves a partner for every other, if there is any such way. [`Expected`] is the same without a macro.
///
/// # Panics
///
/// Panics with a list of what is missing and a list of what is there beside if the failure is another one.
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Failure, assert_failure};
///
/// let inner = Failure::group("inner", [Failure::leaf(Some(3)), Failure::leaf(None)])?;
/// let outer = Failure::group("outer", [inner, Failure::leaf(Some(5))])?;
///
/// assert_failure!(outer, [Some(5), [None, Some(1..=3)]]);
/// assert_failure!(outer, "outer" [any, "inner" [any, Some(number) if number % 2 == 1]]);
/// assert_failure!(outer, flatten [None, Some(_), Some(_)]);
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
///
/// ```should_panic
/// # use trionics_errgroup::{Failure, assert_failure};
/// assert_failure!(Failure::leaf(1), [1]);
/// ```
#[macro_export]
macro_rules! assert_failure {
    ($actual:expr, $($expected:tt)+) => {{
        let actual = &$actual;
        let errors = $crate::__matching::errors_of(actual);
        let expected = $crate::__expected_list!(errors, [], $($expected)+);
        $crate::__matching::assert_one(actual, expected);
    }};
}

/// Turns a list of expectations into an array of `Expected`.
#[doc(hidden)]
#[macro_export]
macro_rules! __expected_list {
    ($errors:ident, [$($done:expr,)*], ) => { [$($done,)*] };
    ($errors:ident, [$($done:expr,)*], cancelled $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)* $crate::Expected::cancelled(),], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], library $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)* $crate::Expected::library(),], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], any $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)* $crate::Expected::any(),], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], flatten unwrapped $($message:literal)? [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)*
            $crate::__expected_group!($errors, [$($message)?], $($inner)*).flattened().or_unwrapped(),
        ], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], flatten $($message:literal)? [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)*
            $crate::__expected_group!($errors, [$($message)?], $($inner)*).flattened(),
        ], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], unwrapped $($message:literal)? [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)*
            $crate::__expected_group!($errors, [$($message)?], $($inner)*).or_unwrapped(),
        ], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)*
            $crate::__expected_group!($errors, [], $($inner)*),
        ], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], $message:literal [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)*
            $crate::__expected_group!($errors, [$message], $($inner)*),
        ], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], is $type:ty $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)* $crate::Expected::of_type::<$type>(),], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], text $text:literal $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)* $crate::__matching::text($errors, $text),], $($($rest)*)?)
    };
    ($errors:ident, [$($done:expr,)*], $pattern:pat $(if $condition:expr)? $(, $($rest:tt)*)?) => {
        $crate::__expected_list!($errors, [$($done,)*
            $crate::__matching::error(
                $errors,
                ::core::concat!(::core::stringify!($pattern) $(, " if ", ::core::stringify!($condition))?),
                |error| ::core::matches!(error, $pattern $(if $condition)?),
            ),
        ], $($($rest)*)?)
    };
}

/// Turns what a group is to hold into an `Expected`.
#[doc(hidden)]
#[macro_export]
macro_rules! __expected_group {
    ($errors:ident, [$($message:literal)?], $($inner:tt)*) => {
        $crate::Expected::group($crate::__expected_list!($errors, [], $($inner)*))$(.with_message($message))?
    };
}

/// What a failure in a test should be; see [`assert_failure!`](crate::assert_failure).
///
/// # Examples
///
/// ```
/// use trionics_errgroup::{Expected, Failure};
///
/// let group = Failure::group("feed", [Failure::leaf(1), Failure::leaf(2)])?;
/// let odd = || Expected::error("odd", |error| error % 2 == 1);
///
/// let mismatch = Expected::group([odd(), odd()]).check(&group).unwrap_err();
/// assert_eq!(mismatch.missing(), ["odd"]);
/// assert_eq!(mismatch.extra(), ["2"]);
/// # Ok::<(), trionics_errgroup::EmptyGroup>(())
/// ```
#[must_use = "an expectation does nothing until it is checked"]
pub struct Expected<'a, E> {
    what: What<'a, E>,
}

enum What<'a, E> {
    Any,
    Cancelled,
    Library,
    Error {
        description: Cow<'static, str>,
        holds: Box<dyn Fn(&E) -> bool + 'a>,
    },
    Group {
        message: Option<Cow<'static, str>>,
        children: Vec<Expected<'a, E>>,
        /// Whether the leaves are compared and not the children.
        is_flattened: bool,
        /// Whether the only child may stand there alone.
        may_be_unwrapped: bool,
    },
}

/// Says in what a failure is not the one that was expected.
///
/// # Examples
///
/// See [`Expected`].
#[derive(Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where the difference is: the messages of the groups around, outermost first.
    path: Vec<String>,
    missing: Vec<String>,
    extra: Vec<String>,
}

impl<'a, E> Expected<'a, E> {
    /// Whatever there is.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// assert!(Expected::any().check(&Failure::leaf(1)).is_ok());
    /// ```
    pub fn any() -> Self {
        Self { what: What::Any }
    }

    /// A `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// assert!(Expected::cancelled().check(&Failure::leaf(1)).is_err());
    /// ```
    pub fn cancelled() -> Self {
        Self {
            what: What::Cancelled,
        }
    }

    /// A failure of the library's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// assert!(Expected::library().check(&Failure::leaf(1)).is_err());
    /// ```
    pub fn library() -> Self {
        Self {
            what: What::Library,
        }
    }

    /// An error for which the condition holds.
    ///
    /// # Examples
    ///
    /// See [`Expected`].
    pub fn error(
        description: impl Into<Cow<'static, str>>,
        holds: impl Fn(&E) -> bool + 'a,
    ) -> Self {
        Self {
            what: What::Error {
                description: description.into(),
                holds: Box::new(holds),
            },
        }
    }

    /// A group with exactly these children, in any order.
    ///
    /// # Examples
    ///
    /// See [`Expected`].
    pub fn group(children: impl IntoIterator<Item = Self>) -> Self {
        Self {
            what: What::Group {
                message: None,
                children: children.into_iter().collect(),
                is_flattened: false,
                may_be_unwrapped: false,
            },
        }
    }

    /// Wants the group to have this message. Nothing but a group has one.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// let group = Failure::group("feed", [Failure::leaf(1)])?;
    /// assert!(Expected::group([Expected::any()]).with_message("food").check(&group).is_err());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn with_message(mut self, wanted: impl Into<Cow<'static, str>>) -> Self {
        if let What::Group { message, .. } = &mut self.what {
            *message = Some(wanted.into());
        }
        self
    }

    /// Compares the leaves of the group, however they are nested, and not its children.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// let nested = Failure::group("outer", [Failure::group("inner", [Failure::leaf(1)])?])?;
    /// let expected = Expected::group([Expected::error("one", |error| *error == 1)]);
    /// assert!(expected.flattened().check(&nested).is_ok());
    /// # Ok::<(), trionics_errgroup::EmptyGroup>(())
    /// ```
    pub fn flattened(mut self) -> Self {
        if let What::Group { is_flattened, .. } = &mut self.what {
            *is_flattened = true;
        }
        self
    }

    /// Takes the only child of the group without the group as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// let expected = Expected::group([Expected::error("one", |error| *error == 1)]);
    /// assert!(expected.or_unwrapped().check(&Failure::leaf(1)).is_ok());
    /// ```
    pub fn or_unwrapped(mut self) -> Self {
        if let What::Group {
            may_be_unwrapped, ..
        } = &mut self.what
        {
            *may_be_unwrapped = true;
        }
        self
    }

    /// Compares a failure with the expectation.
    ///
    /// # Errors
    ///
    /// Says what is missing and what is there beside.
    ///
    /// # Examples
    ///
    /// See [`Expected`].
    pub fn check(&self, actual: &Node<E>) -> Result<(), Mismatch>
    where
        E: fmt::Debug,
    {
        let mut path = Vec::new();
        let (mut expected, mut actual) = (self, actual);
        loop {
            let (missing, extra) = match expected.candidates(actual) {
                Some((wanted, found)) => pair(wanted, &found),
                None if expected.matches(actual) => return Ok(()),
                None => (alloc::vec![expected], alloc::vec![actual]),
            };
            match (&*missing, &*extra) {
                ([], []) => return Ok(()),
                // One group that is not quite the expected one: the difference is inside.
                (&[wanted], &[found])
                    if wanted.candidates(found).is_some() && !core::ptr::eq(wanted, expected) =>
                {
                    path.extend(actual.message().map(String::from));
                    (expected, actual) = (wanted, found);
                }
                _ => {
                    path.extend(actual.message().map(String::from));
                    return Err(Mismatch {
                        path,
                        missing: missing.iter().map(ToString::to_string).collect(),
                        extra: extra.iter().map(|node| format!("{node:?}")).collect(),
                    });
                }
            }
        }
    }

    /// What is compared one to one if this is a group and the failure could be it.
    fn candidates<'n>(&self, actual: &'n Node<E>) -> Option<(&[Self], Vec<&'n Node<E>>)> {
        let What::Group {
            message,
            children,
            is_flattened,
            may_be_unwrapped,
        } = &self.what
        else {
            return None;
        };
        if !actual.is_group() {
            let is_unwrapped = *may_be_unwrapped && children.len() == 1;
            return is_unwrapped.then(|| (&**children, alloc::vec![actual]));
        }
        if message.is_some() && message.as_deref() != actual.message() {
            return None;
        }
        let found = if *is_flattened {
            actual.leaves().collect()
        } else {
            actual.children().iter().collect()
        };
        Some((children, found))
    }

    /// Whether the failure is the expected one. As deep as the expectation, which somebody wrote down.
    fn matches(&self, actual: &Node<E>) -> bool {
        match &self.what {
            What::Any => true,
            What::Cancelled => actual.is_cancelled(),
            What::Library => actual.as_library().is_some(),
            What::Error { holds, .. } => actual.as_leaf().is_some_and(holds),
            What::Group { .. } => self.candidates(actual).is_some_and(|(wanted, found)| {
                wanted.len() == found.len() && pair(wanted, &found).0.is_empty()
            }),
        }
    }
}

impl Expected<'_, AnyError> {
    /// An erased error of type `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use trionics_errgroup::{Expected, Failure};
    ///
    /// let expected = Expected::of_type::<std::fmt::Error>();
    /// assert!(expected.check(&Failure::new(std::fmt::Error)).is_ok());
    /// ```
    pub fn of_type<T: Error + Send + Sync + 'static>() -> Self {
        let description = format!("is {}", core::any::type_name::<T>());
        Self::error(description, AnyError::is::<T>)
    }
}

/// Pairs expectations with failures so that as many as possible have a partner, and gives those that have none.
fn pair<'e, 'n, 'a, E>(
    wanted: &'e [Expected<'a, E>],
    found: &[&'n Node<E>],
) -> (Vec<&'e Expected<'a, E>>, Vec<&'n Node<E>>) {
    let suitable: Vec<Vec<usize>> = wanted
        .iter()
        .map(|expected| {
            let numbered = found.iter().enumerate();
            numbered
                .filter(|(_, node)| expected.matches(node))
                .map(|(number, _)| number)
                .collect()
        })
        .collect();
    // Who has whom, by number.
    let mut partner_of_found: Vec<Option<usize>> = alloc::vec![None; found.len()];
    let mut missing = Vec::new();
    for (number, expected) in wanted.iter().enumerate() {
        if !find_partner(number, &suitable, &mut partner_of_found) {
            missing.push(expected);
        }
    }
    let extra = found
        .iter()
        .zip(&partner_of_found)
        .filter(|(_, partner)| partner.is_none());
    (missing, extra.map(|(node, _)| *node).collect())
}

/// Finds a partner for one more expectation; others may get another one for it, but none loses its own.
fn find_partner(
    start: usize,
    suitable: &[Vec<usize>],
    partner_of_found: &mut [Option<usize>],
) -> bool {
    // From whom each failure was reached. Breadth first, so that the stack stays as it is.
    let mut reached_from: Vec<Option<usize>> = alloc::vec![None; partner_of_found.len()];
    let mut partner_of_start_or: Vec<Option<usize>> = alloc::vec![None; suitable.len()];
    let mut waiting = VecDeque::from([start]);
    while let Some(seeker) = waiting.pop_front() {
        for &candidate in &suitable[seeker] {
            if reached_from[candidate].is_some() {
                continue;
            }
            reached_from[candidate] = Some(seeker);
            if let Some(rival) = partner_of_found[candidate] {
                partner_of_start_or[rival] = Some(candidate);
                waiting.push_back(rival);
                continue;
            }
            // Everybody on the way moves on to the one that was found for them.
            let mut free = candidate;
            while let Some(seeker) = reached_from[free] {
                partner_of_found[free] = Some(seeker);
                match partner_of_start_or[seeker] {
                    Some(given_up) => free = given_up,
                    None => break,
                }
            }
            return true;
        }
    }
    false
}

impl<E> fmt::Display for Expected<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Any => formatter.write_str("any"),
            What::Cancelled => formatter.write_str("cancelled"),
            What::Library => formatter.write_str("library"),
            What::Error { description, .. } => formatter.write_str(description),
            What::Group {
                message,
                children,
                is_flattened,
                may_be_unwrapped,
            } => {
                if *is_flattened {
                    formatter.write_str("flatten ")?;
                }
                if *may_be_unwrapped {
                    formatter.write_str("unwrapped ")?;
                }
                if let Some(message) = message {
                    write!(formatter, "{message:?} ")?;
                }
                formatter.write_str("[")?;
                for (number, child) in children.iter().enumerate() {
                    let comma = if number == 0 { "" } else { ", " };
                    write!(formatter, "{comma}{child}")?;
                }
                formatter.write_str("]")
            }
        }
    }
}

impl<E> fmt::Debug for Expected<'_, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Expected({self})")
    }
}

impl Mismatch {
    /// What was expected and is not there.
    ///
    /// # Examples
    ///
    /// See [`Expected`].
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// What is there and was not expected.
    ///
    /// # Examples
    ///
    /// See [`Expected`].
    pub fn extra(&self) -> &[String] {
        &self.extra
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not the expected failure")?;
        if !self.path.is_empty() {
            write!(formatter, ", in {:?}", self.path.join(" > "))?;
        }
        for (title, list) in [("missing", &self.missing), ("extra", &self.extra)] {
            write!(formatter, "\n{title}:")?;
            if list.is_empty() {
                formatter.write_str(" nothing")?;
            }
            for text in list {
                write!(formatter, "\n  - {}", text.replace('\n', "\n    "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Error for Mismatch {}

#[doc(hidden)]
pub mod internal {
    //! What the macro needs: functions through which the type of the errors is known before a pattern is looked at.

    use core::fmt;
    use core::marker::PhantomData;

    use crate::{Expected, Node};

    pub type Errors<E> = PhantomData<fn(&E)>;

    pub fn errors_of<E>(_: &Node<E>) -> Errors<E> {
        PhantomData
    }

    pub fn error<'a, E>(
        _: Errors<E>,
        description: &'static str,
        holds: impl Fn(&E) -> bool + 'a,
    ) -> Expected<'a, E> {
        Expected::error(description, holds)
    }

    pub fn text<'a, E: fmt::Display>(_: Errors<E>, text: &'static str) -> Expected<'a, E> {
        let description = alloc::format!("text {text:?}");
        Expected::error(description, move |error| alloc::format!("{error}") == text)
    }

    #[track_caller]
    pub fn assert_one<E: fmt::Debug>(actual: &Node<E>, [expected]: [Expected<'_, E>; 1]) {
        if let Err(mismatch) = expected.check(actual) {
            panic!("{mismatch}\nexpected: {expected}\nactual:\n{actual:?}");
        }
    }
}
