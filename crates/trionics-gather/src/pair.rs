//! Contexts made from a set-up and an exit that are written apart.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;

use crate::context::{AsyncContext, BlockEnd, Provide, Slot};

/// Makes a context from a set-up and an exit.
///
/// `enter` gives the block's value and what the exit needs; for a value that can be cloned that is
/// often the value itself, twice. `exit` is called once the block has ended, and is told how.
///
/// There is no await between the end of `enter` and the value: whatever `enter` has returned is exited.
/// [`acm`](crate::acm) is for what is easier to write in one piece.
///
/// # Examples
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use trionics_gather::{acm_pair, with_context};
/// use trionics_nursery::{Failure, checkpoint};
///
/// # futures::executor::block_on(async {
/// let log = Rc::new(RefCell::new(Vec::new()));
/// let session = acm_pair(
///     async {
///         checkpoint().await; // log in
///         Ok(("session", Rc::clone(&log)))
///     },
///     async |log: Rc<RefCell<Vec<String>>>, end| {
///         checkpoint().await; // log out
///         log.borrow_mut().push(format!("{end:?}"));
///         Ok(())
///     },
/// );
/// let outcome = with_context(session, async |name| Ok::<_, Failure>(name.len())).await;
/// assert_eq!(outcome.unwrap(), 7);
/// assert_eq!(*log.borrow(), ["Completed"]);
/// # });
/// ```
pub fn acm_pair<V, K, E, Enter, Exit, Fut>(
    enter: Enter,
    exit: Exit,
) -> AcmPair<V, K, Enter, Exit, Fut>
where
    Enter: Future<Output = Result<(V, K), Failure<E>>>,
    Exit: FnOnce(K, BlockEnd) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    AcmPair {
        enter,
        exit,
        types: PhantomData,
    }
}

/// The context made by [`acm_pair`].
#[must_use = "a context does nothing until it is entered"]
pub struct AcmPair<V, K, Enter, Exit, Fut> {
    enter: Enter,
    exit: Exit,
    types: PhantomData<fn(V, K) -> Fut>,
}

impl<V, K, E, Enter, Exit, Fut> AsyncContext for AcmPair<V, K, Enter, Exit, Fut>
where
    Enter: Future<Output = Result<(V, K), Failure<E>>>,
    Exit: FnOnce(K, BlockEnd) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    type Value = V;
    type Error = E;
    type Run = RunPair<V, K, Enter, Exit, Fut>;

    fn run(self, slot: Slot<V>) -> Self::Run {
        RunPair::Entering {
            enter: self.enter,
            then: Some((self.exit, slot)),
        }
    }
}

impl<V, K, Enter, Exit, Fut> fmt::Debug for AcmPair<V, K, Enter, Exit, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmPair").finish_non_exhaustive()
    }
}

pin_project! {
    /// The life of an [`AcmPair`].
    #[doc(hidden)]
    #[project = PairProjected]
    pub enum RunPair<V, K, Enter, Exit, Fut> {
        Entering {
            #[pin]
            enter: Enter,
            then: Option<(Exit, Slot<V>)>,
        },
        Provided {
            #[pin]
            provide: Provide<V>,
            then: Option<(Exit, K)>,
        },
        Leaving {
            #[pin]
            exit: Fut,
        },
    }
}

impl<V, K, E, Enter, Exit, Fut> Future for RunPair<V, K, Enter, Exit, Fut>
where
    Enter: Future<Output = Result<(V, K), Failure<E>>>,
    Exit: FnOnce(K, BlockEnd) -> Fut,
    Fut: Future<Output = Result<(), Failure<E>>>,
{
    type Output = Result<(), Failure<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const ONCE: &str = "each phase of a context is left once";
        loop {
            let next = match self.as_mut().project() {
                PairProjected::Entering { enter, then } => match ready!(enter.poll(cx)) {
                    Ok((value, kept)) => {
                        let (exit, slot) = then.take().expect(ONCE);
                        Self::Provided {
                            provide: slot.provide(value),
                            then: Some((exit, kept)),
                        }
                    }
                    Err(failure) => return Poll::Ready(Err(failure)),
                },
                PairProjected::Provided { provide, then } => {
                    let end = ready!(provide.poll(cx));
                    let (exit, kept) = then.take().expect(ONCE);
                    Self::Leaving {
                        exit: exit(kept, end),
                    }
                }
                PairProjected::Leaving { exit } => return exit.poll(cx),
            };
            self.set(next);
        }
    }
}

impl<V, K, Enter, Exit, Fut> fmt::Debug for RunPair<V, K, Enter, Exit, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunPair").finish_non_exhaustive()
    }
}
