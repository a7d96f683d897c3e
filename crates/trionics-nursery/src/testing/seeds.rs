//! Runs of the same test in many orders, and again in the one that failed.

use std::{env, future::Future};

use super::executor::{Executor, run_in_order};

/// The variable that chooses a single seed.
const SEED: &str = "TRIONICS_SEED";
/// The variable that chooses how many seeds are tried.
const SEEDS: &str = "TRIONICS_SEEDS";

/// Runs a test in many orders: once for each seed from 0 to `n_seeds - 1`.
///
/// Among the tasks that could run, and among the children of each nursery, a seed chooses whom to poll next.
/// The same seed gives the same run. A run that panics prints its seed to standard error:
///
/// ```text
/// this run had the seed 17; `TRIONICS_SEED=17` runs it alone
/// ```
///
/// With that variable set, only that seed is run. `TRIONICS_SEEDS=100000` tries that many instead of
/// `n_seeds`. Polling order inside a foreign combinator, a `join!` or a `FuturesUnordered`, is its own.
///
/// # Panics
///
/// With the panic of the first run that panics. If a variable does not hold a number.
///
/// # Examples
///
/// Two children, and nobody promises which of them is first:
///
/// ```should_panic
/// use std::sync::Mutex;
/// use trionics_nursery::{Nursery, open_nursery, testing};
///
/// testing::for_each_seed(200, || async {
///     let seen = Mutex::new(Vec::new());
///     open_nursery(async |n: Nursery<'_>| {
///         n.start_soon(async { Ok(seen.lock().unwrap().push("first")) });
///         n.start_soon(async { Ok(seen.lock().unwrap().push("second")) });
///         Ok(())
///     })
///     .await
///     .unwrap();
///     assert_eq!(*seen.lock().unwrap(), ["first", "second"]);
/// });
/// ```
#[track_caller]
pub fn for_each_seed<F, Fut>(n_seeds: u64, mut test: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    if let Some(seed) = number(SEED) {
        return run_with_seed(seed, test());
    }
    for seed in 0..number(SEEDS).unwrap_or(n_seeds) {
        run_with_seed(seed, test());
    }
}

/// Runs as [`run`](super::run) does, in the order that `seed` chooses; a panic prints the seed.
///
/// # Panics
///
/// As [`run`](super::run).
///
/// # Examples
///
/// ```
/// use trionics_nursery::testing;
///
/// let sum = testing::run_with_seed(17, async {
///     let one = testing::spawn(async { 1 });
///     let two = testing::spawn(async { 2 });
///     one.await + two.await
/// });
/// assert_eq!(sum, 3);
/// ```
#[track_caller]
pub fn run_with_seed<F: Future>(seed: u64, future: F) -> F::Output {
    let _told = TellSeed(seed);
    run_in_order(Some(seed), future)
}

/// The seed of the run, if it has one: for choices that a test makes by itself.
///
/// # Panics
///
/// Outside [`run`](super::run) and its kin.
///
/// # Examples
///
/// ```
/// use trionics_nursery::testing;
///
/// testing::run_with_seed(17, async { assert_eq!(testing::seed(), Some(17)) });
/// testing::run(async { assert_eq!(testing::seed(), None) });
/// ```
#[must_use]
#[track_caller]
pub fn seed() -> Option<u64> {
    Executor::current("seed").seed()
}

struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("this run had the seed {seed}; `{SEED}={seed}` runs it alone");
        }
    }
}

#[track_caller]
fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    let Ok(number) = value.trim().parse() else {
        panic!("the variable {variable} must hold a number from 0 to 2^64 - 1, not {value:?}")
    };
    Some(number)
}

/// Makes tests of async functions, each run in 200 orders by [`testing::for_each_seed`](for_each_seed).
///
/// # Examples
///
/// ```
/// # #![allow(unused)]
/// use std::time::Duration;
/// use trionics_nursery::{move_on_after, sleep};
///
/// trionics_nursery::seeded_tests! {
///     #[test]
///     async fn an_hour_is_too_long() {
///         let outcome = move_on_after(Duration::from_secs(1), sleep(Duration::from_secs(3600)));
///         assert!(outcome.await.is_none());
///     }
/// }
/// # fn main() {}
/// ```
#[allow(
    clippy::test_attr_in_doctest,
    reason = "the attribute is what a user writes"
)]
#[macro_export]
macro_rules! seeded_tests {
    ($($(#[$meta:meta])* $vis:vis async fn $name:ident() $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name() {
            $crate::testing::for_each_seed(200, || async $body);
        }
    )*};
}
