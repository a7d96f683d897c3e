//! Pieces of work, and the hosts that run it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::{self, Runtime};

/// A future that is pending once, wakes itself, and is ready when it is polled again.
#[derive(Debug, Default)]
pub struct YieldOnce {
    has_yielded: bool,
}

impl YieldOnce {
    /// One that has been pending already: ready when it is polled first.
    pub fn spent() -> Self {
        Self { has_yielded: true }
    }
}

/// [`YieldOnce`], to be awaited.
pub fn yield_once() -> YieldOnce {
    YieldOnce::default()
}

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.has_yielded {
            return Poll::Ready(());
        }
        self.has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What polls a future to its end: the same one for all subjects of a case, unless a subject can only run on its own.
#[derive(Debug)]
pub enum Host {
    /// `futures::executor::block_on`: polls, and parks the thread in between.
    Plain,
    /// tokio's current-thread runtime with its timers and sockets, as `#[tokio::main]` makes it.
    Tokio(Runtime),
}

impl Host {
    /// A new tokio runtime of one thread.
    ///
    /// # Panics
    ///
    /// If the system cannot give what a runtime needs.
    pub fn tokio() -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        Self::Tokio(runtime.expect("the system gives what a runtime needs"))
    }

    /// Runs a future to its end.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Plain => futures::executor::block_on(future),
            Self::Tokio(runtime) => runtime.block_on(future),
        }
    }
}
