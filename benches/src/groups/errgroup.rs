//! Trees of errors: what they cost to build, to take apart, and when nothing fails.

use std::{
    error::Error,
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

use error_stack::{IntoReport, Report};
use exn::{ErrorExt, Exn};
use trionics::errgroup::{AnyError, Failure, collapse_eg};

use crate::{Case, Group, OURS};

/// The group `errgroup`.
pub(super) fn group() -> Group {
    Group::new("errgroup")
        .case(build(1))
        .case(build(10))
        .case(build(1_000))
        .case(build_of_failures(10))
        .case(split())
        .case(collapse())
        .case(happy_path())
}

/// What fails everywhere: an error of one word, so that boxing it allocates.
#[derive(Debug)]
struct Refused(u64);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {} was refused", self.0)
    }
}

impl Error for Refused {}

/// What the groups of the peers are called by, where a message has to be an error.
#[derive(Debug)]
struct Batch;

impl fmt::Display for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a batch failed")
    }
}

impl Error for Batch {}

type Boxed = Box<dyn Error + Send + Sync>;

/// The function that fails, once for each way to return the error. None is inlined: an error comes from elsewhere.
#[inline(never)]
fn connect(number: u64) -> Result<(), Refused> {
    Err(Refused(black_box(number)))
}

macro_rules! connect_as {
    ($name:ident, $error:ty, $convert:expr) => {
        #[inline(never)]
        fn $name(number: u64) -> Result<(), $error> {
            connect(number).map_err($convert)
        }
    };
}

connect_as!(connect_boxed, Boxed, Boxed::from);
connect_as!(connect_any, AnyError, AnyError::new);
connect_as!(connect_failure, Failure, Failure::new);
connect_as!(connect_anyhow, anyhow::Error, anyhow::Error::from);
connect_as!(connect_exn, Exn<Refused>, ErrorExt::raise);
connect_as!(connect_stack, Report<Refused>, IntoReport::into_report);
connect_as!(connect_rootcause, rootcause::Report, |error| {
    rootcause::Report::new_sendsync(error).into_dynamic()
});

/// The errors of as many calls, in the order of the calls.
fn errors<E>(n_calls: u64, call: fn(u64) -> Result<(), E>) -> impl Iterator<Item = E> {
    (0..n_calls).map(move |number| call(number).expect_err("every call fails"))
}

fn build_rootcause(n_errors: u64) -> rootcause::Report {
    let collection: rootcause::report_collection::ReportCollection =
        errors(n_errors, connect_rootcause).collect();
    collection.context("a batch failed").into_dynamic()
}

fn build_stack(n_errors: u64) -> Report<[Refused]> {
    let group: Option<Report<[Refused]>> = errors(n_errors, connect_stack).collect();
    group.expect("there is an error")
}

fn build_failure(n_errors: u64) -> Failure {
    Failure::group("a batch failed", errors(n_errors, connect_failure)).expect("there is an error")
}

fn build(n_errors: u64) -> Case {
    Case::new(
        format!("group of {n_errors}"),
        "error",
        n_errors,
        "calls that fail with a boxed error, their errors in a group with a message, dropped; Vec and anyhow's chain keep no tree",
    )
    .sized("group of boxed errors", n_errors, "errors")
    .subject(OURS, move || {
        move || Failure::group_of("a batch failed", errors(n_errors, connect_any))
    })
    .subject("Vec<Box<dyn Error>>", move || {
        move || errors(n_errors, connect_boxed).collect::<Vec<_>>()
    })
    .subject("exn", move || {
        move || Exn::raise_all(Batch, errors(n_errors, connect_exn))
    })
    .subject("error-stack", move || {
        move || build_stack(n_errors).change_context(Batch)
    })
    .subject("rootcause", move || move || build_rootcause(n_errors))
    .subject("anyhow", move || {
        move || {
            let mut all = errors(n_errors, connect_anyhow);
            let first = all.next().expect("there is an error");
            all.fold(first, |chain, next| chain.context(next))
        }
    })
}

/// The same where each call returns a failure of its own, as the children of a nursery do.
fn build_of_failures(n_errors: u64) -> Case {
    Case::new(
        format!("group of {n_errors} failures"),
        "error",
        n_errors,
        "each call makes a failure, a report or a box with `?`, and these are put in a group; the first ones could be trees themselves",
    )
    .subject(OURS, move || move || build_failure(n_errors))
    .subject("Vec<Box<dyn Error>>", move || {
        move || errors(n_errors, connect_boxed).collect::<Vec<_>>()
    })
    .subject("exn", move || {
        move || Exn::raise_all(Batch, errors(n_errors, connect_exn))
    })
    .subject("error-stack", move || {
        move || build_stack(n_errors).change_context(Batch)
    })
    .subject("rootcause", move || move || build_rootcause(n_errors))
}

const LEAVES: u64 = 1_000;

fn split() -> Case {
    Case::new(
        "split of 1000 leaves",
        "error",
        LEAVES,
        "every third error out of a group, both halves groups, dropped; building is not measured; exn and error-stack cannot be taken apart, anyhow keeps no group",
    )
    .timed_subject(OURS, || {
        timed(
            || build_failure(LEAVES),
            |group| {
                group.split(|node| node.downcast_ref::<Refused>().is_some_and(|error| error.0 % 3 == 0))
            },
        )
    })
    .timed_subject("Vec<Box<dyn Error>>", || {
        timed(
            || errors(LEAVES, connect_boxed).collect::<Vec<_>>(),
            |all| -> (Vec<Boxed>, Vec<Boxed>) {
                all.into_iter()
                    .partition(|error| error.downcast_ref::<Refused>().is_some_and(|error| error.0 % 3 == 0))
            },
        )
    })
    .timed_subject("rootcause", || {
        timed(
            || build_rootcause(LEAVES),
            |report| {
                let mut matching = rootcause::report_collection::ReportCollection::new_sendsync();
                let mut rest = rootcause::report_collection::ReportCollection::new_sendsync();
                for child in report.children() {
                    let is_third = child
                        .downcast_current_context::<Refused>()
                        .is_some_and(|error| error.0 % 3 == 0);
                    if is_third { &mut matching } else { &mut rest }.push(child.clone_arc());
                }
                drop(report);
                (matching.context("a batch failed"), rest.context("a batch failed"))
            },
        )
    })
}

/// Measures the work and the drop of its result, not the preparation.
fn timed<Prepared, Outcome>(
    prepare: impl Fn() -> Prepared,
    work: impl Fn(Prepared) -> Outcome,
) -> impl FnMut(u64) -> Duration {
    move |iterations| {
        let mut elapsed = Duration::ZERO;
        for _ in 0..iterations {
            let prepared = black_box(prepare());
            let started = Instant::now();
            drop(black_box(work(prepared)));
            elapsed += started.elapsed();
        }
        elapsed
    }
}

const LEVELS: u64 = 1_000;

fn collapse() -> Case {
    Case::new(
        "collapse of 1000 levels",
        "level",
        LEVELS,
        "an error in as many groups of one, built, reduced to the error, dropped; the peers can only be asked for the innermost error; a Vec has no levels",
    )
    .subject(OURS, || {
        || {
            let mut failure = connect_failure(1).expect_err("the call fails");
            for _ in 0..LEVELS {
                failure = Failure::group("a level failed", [failure]).expect("there is an error");
            }
            let error = collapse_eg(failure);
            assert!(error.downcast_ref::<Refused>().is_some());
            error
        }
    })
    .subject("exn", || {
        || {
            let mut chain = connect_exn(1).expect_err("the call fails").raise(Batch);
            for _ in 1..LEVELS {
                chain = chain.raise(Batch);
            }
            let mut innermost = chain.frame();
            while let [inner] = innermost.children() {
                innermost = inner;
            }
            assert!(innermost.error().is::<Refused>());
            chain
        }
    })
    .subject("error-stack", || {
        || {
            let mut chain = connect_stack(1).expect_err("the call fails").change_context(Batch);
            for _ in 1..LEVELS {
                chain = chain.change_context(Batch);
            }
            assert!(chain.downcast_ref::<Refused>().is_some());
            chain
        }
    })
    .subject("rootcause", || {
        || {
            let mut chain = connect_rootcause(1).expect_err("the call fails");
            for _ in 0..LEVELS {
                chain = chain.context("a level failed").into_dynamic();
            }
            let innermost = chain.iter_reports().last().expect("there is an error");
            assert!(innermost.downcast_current_context::<Refused>().is_some());
            chain
        }
    })
    .subject("anyhow", || {
        || {
            let mut chain = connect_anyhow(1).expect_err("the call fails");
            for _ in 0..LEVELS {
                chain = chain.context("a level failed");
            }
            assert!(chain.root_cause().is::<Refused>());
            chain
        }
    })
}

const CALLS: u64 = 8;

/// As many nested calls, none inlined, each with a `?`; the innermost one has an error of its own to convert.
macro_rules! nested_calls {
    ($name:ident, $error:ty, $convert:expr) => {
        mod $name {
            use super::*;

            #[inline(never)]
            fn listen(port: u64) -> Result<(), Refused> {
                if black_box(port) == 0 { Err(Refused(port)) } else { Ok(()) }
            }

            #[inline(never)]
            fn call_1(port: u64) -> Result<(), $error> {
                listen(port).map_err($convert)?;
                Ok(())
            }

            nested_calls!(@call $error, call_2 call_1, call_3 call_2, call_4 call_3, call_5 call_4, call_6 call_5, call_7 call_6, call_8 call_7);

            pub(super) fn run() {
                call_8(black_box(80)).expect("nothing fails");
            }
        }
    };
    (@call $error:ty, $($outer:ident $inner:ident),*) => {
        $(
            #[inline(never)]
            fn $outer(port: u64) -> Result<(), $error> {
                $inner(port)?;
                black_box(port);
                Ok(())
            }
        )*
    };
}

nested_calls!(calls_failure, Failure, Failure::new);
nested_calls!(calls_boxed, Boxed, Boxed::from);
nested_calls!(calls_anyhow, anyhow::Error, anyhow::Error::from);
nested_calls!(calls_exn, Exn<Refused>, ErrorExt::raise);
nested_calls!(calls_stack, Report<Refused>, IntoReport::into_report);
nested_calls!(calls_rootcause, rootcause::Report, |error| {
    rootcause::Report::new_sendsync(error).into_dynamic()
});

fn happy_path() -> Case {
    Case::new(
        "happy path of 8 calls",
        "call",
        CALLS,
        "nested calls with `?` of which none fails; none is inlined",
    )
    .subject(OURS, || calls_failure::run)
    .subject("Box<dyn Error>", || calls_boxed::run)
    .subject("anyhow", || calls_anyhow::run)
    .subject("exn", || calls_exn::run)
    .subject("error-stack", || calls_stack::run)
    .subject("rootcause", || calls_rootcause::run)
}
