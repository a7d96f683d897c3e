//! Wakers that are collected under locks and woken after them.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::Waker,
};

use crate::settings::Environment;

/// Wakes with no frame current: a waker may poll things of its own.
#[inline]
pub(crate) fn wake_outside(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _outside = crate::current::clear();
        waker.wake();
    }
}

/// Wakers to wake once all locks are released.
#[derive(Default)]
pub(crate) struct WakeList {
    wakers: Vec<Waker>,
    environments: Vec<Arc<Environment>>,
}

impl WakeList {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    /// Keeps an environment until the locks are released: dropping it may run a user's `Drop`.
    pub(crate) fn drop_later(&mut self, environment: Option<Arc<Environment>>) {
        self.environments.extend(environment);
    }

    /// Wakes each of them; a waker that panics does not keep the others asleep.
    #[inline]
    pub(crate) fn wake_all(self) {
        if !self.wakers.is_empty() {
            self.wake_each();
        }
    }

    fn wake_each(self) {
        let mut panic: Option<Box<dyn Any + Send>> = None;
        for waker in self.wakers {
            // No frame is current while a waker runs: it may poll things of its own.
            let _outside = crate::current::clear();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                panic.get_or_insert(payload);
            }
        }
        if let Some(payload) = panic
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}
