//! All of several futures, each of which unwinds by itself.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use trionics_errgroup::{Cancelled, Failure};
use trionics_nursery::internal::{BodyEnd, RawEnd, RawNursery, open_children};

pub use self::set::{Join, TryJoin};

mod set;

/// Runs futures side by side, and returns all of their outputs.
///
/// Takes a tuple of up to twelve different futures, an array or a `Vec`; the outputs come in the same
/// kind of collection and in the order of the futures. Unlike those of a foreign `join!`, its branches
/// unwind each by itself: a shield in one of them does not delay the end of its neighbors. Only what was woken is polled.
///
/// # Panics
///
/// A panic of one of the futures cancels the others, and is resumed here once they have unwound.
/// Also panics if it was stopped by a cancellation and is then polled where nothing is cancelled: it has no
/// value to return.
///
/// # Cancel safety
///
/// If a scope around it is cancelled, all of the futures unwind; it then stays pending until the
/// enclosing frame drops it. If it is dropped from outside, all of them are dropped at once, and exits
/// that had not run are reported.
///
/// # Examples
///
/// ```
/// use trionics_gather::join;
/// use trionics_nursery::checkpoint;
///
/// # futures::executor::block_on(async {
/// let (number, text) = join((
///     async {
///         checkpoint().await;
///         7
///     },
///     async { "seven" },
/// ))
/// .await;
/// assert_eq!((number, text), (7, "seven"));
/// # });
/// ```
#[track_caller]
pub fn join<S: Join>(futures: S) -> impl Future<Output = S::Outputs> + use<S> {
    let location = Location::caller();
    let mut kept = None;
    let nursery = open_children(location, |children| {
        kept = Some(futures.branches(&mut |branch| children.add(branch)));
        ready(BodyEnd::Value(()))
    });
    Joining {
        nursery,
        kept,
        collect: move |end: RawEnd<(), Infallible>, kept| match end {
            RawEnd::Value(()) => S::collect(kept),
            RawEnd::Cancelled(cancelled) => stopped(location, &cancelled),
            RawEnd::Failed(failures) => unreachable!("no branch fails: {failures:?}"),
        },
    }
}

fn stopped(location: &Location<'_>, cancelled: &Cancelled) -> ! {
    panic!(
        "the join at {location} was stopped by a cancellation ({cancelled}) and then polled outside the cancelled \
         scope, where it has no value to return; put a cancel scope inside it, or poll it inside the \
         scope only"
    )
}

/// Like [`join`], for futures that can fail: the first failure cancels the others.
///
/// # Errors
///
/// A group of all failures in the order in which they happened, however few; values are dropped then.
///
/// # Panics
///
/// A panic of one of the futures cancels the others, and is resumed here once they have unwound.
///
/// # Cancel safety
///
/// As [`join`]; a failure is returned although a scope around is cancelled.
///
/// # Examples
///
/// ```
/// use trionics_gather::try_join;
/// use trionics_nursery::Failure;
///
/// # futures::executor::block_on(async {
/// let outcome = try_join((async { Ok::<_, Failure>(7) }, async { Ok("seven") })).await;
/// assert_eq!(outcome.unwrap(), (7, "seven"));
/// let outcome = try_join((
///     async { Err::<(), _>(Failure::text("no")) },
///     std::future::pending::<Result<(), _>>(),
/// ))
/// .await;
/// assert_eq!(outcome.unwrap_err().leaves().count(), 1);
/// # });
/// ```
#[track_caller]
pub fn try_join<S: TryJoin>(
    futures: S,
) -> impl Future<Output = Result<S::Values, Failure<S::Error>>> + use<S> {
    let mut kept = None;
    let nursery = open_children(Location::caller(), |children| {
        kept = Some(futures.branches(&mut |branch| children.add(branch)));
        ready(BodyEnd::Value(()))
    });
    Joining {
        nursery,
        kept,
        collect: |end, kept| match end {
            RawEnd::Value(()) => Ok(S::collect(kept)),
            RawEnd::Failed(failures) => {
                Err(Failure::group("joined futures failed", failures).expect("there is a failure"))
            }
            RawEnd::Cancelled(cancelled) => Err(Failure::cancelled(cancelled)),
        },
    }
}

pin_project! {
    struct Joining<C, K, E, F> {
        #[pin]
        nursery: RawNursery<C, Ready<BodyEnd<(), E>>, (), E>,
        kept: Option<K>,
        collect: F,
    }
}

impl<C, K, E, R, F> Future for Joining<C, K, E, F>
where
    C: Future<Output = Result<(), Failure<E>>>,
    F: Fn(RawEnd<(), E>, K) -> R,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.project();
        let end = ready!(this.nursery.poll(cx));
        let kept = this.kept.take().expect("a nursery ends once");
        Poll::Ready((this.collect)(end, kept))
    }
}
