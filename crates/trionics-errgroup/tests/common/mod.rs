//! What the tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    error::Error,
    fmt,
    panic::Location,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use trionics_errgroup::{CancelReason, Cancelled, Failure, Node};

/// An error that is neither `Clone` nor an `Error`, and that can be told from every other one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unique {
    pub(crate) name: &'static str,
    pub(crate) number: u64,
}

impl Unique {
    pub(crate) fn new(name: &'static str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name, number }
    }
}

/// An error with a chain of sources below it.
#[derive(Debug)]
pub(crate) struct Chained {
    pub(crate) text: &'static str,
    pub(crate) source: Option<Box<Chained>>,
}

impl Chained {
    pub(crate) fn new(texts: &[&'static str]) -> Self {
        let mut chain: Option<Box<Self>> = None;
        for text in texts.iter().rev() {
            let source = chain.take();
            chain = Some(Box::new(Self { text, source }));
        }
        *chain.expect("a chain has at least one text")
    }
}

impl fmt::Display for Chained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text)
    }
}

impl Error for Chained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[track_caller]
pub(crate) fn cancelled(reason: CancelReason) -> Cancelled {
    Cancelled::__new(reason, Location::caller())
}

#[track_caller]
pub(crate) fn stopped<E>() -> Failure<E> {
    Failure::cancelled(Cancelled::__new(CancelReason::Deadline, Location::caller()))
}

pub(crate) fn group<E, const N: usize>(
    message: &'static str,
    failures: [Failure<E>; N],
) -> Failure<E> {
    Failure::group(message, failures).expect("the tests build no empty group")
}

/// The names of the errors, in order.
pub(crate) fn names(node: &Node<Unique>) -> Vec<&'static str> {
    node.errors().map(|error| error.name).collect()
}

/// A leaf with this name.
pub(crate) fn leaf(name: &'static str) -> Failure<Unique> {
    Failure::leaf(Unique::new(name))
}

/// How deep the trees are that must not overflow the stack.
pub(crate) const DEEP: usize = 150_000;

/// Runs the test on a stack of 2 MiB.
pub(crate) fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(test)
        .expect("a thread can be started")
        .join()
        .expect("the test on the small stack passes");
}

/// A leaf inside as many groups of one.
pub(crate) fn chain<E>(innermost: Failure<E>, n_levels: usize) -> Failure<E> {
    (0..n_levels).fold(innermost, |inner, _| group("level", [inner]))
}
