//! Handles to children that return a value.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use trionics_errgroup::Failure;

use crate::wake::wake_outside;

/// Waits for the value of a child that was started with [`Nursery::spawn`](crate::Nursery::spawn).
///
/// Dropping it lets the child run on; the nursery waits for the child all the same.
///
/// # Errors
///
/// [`ChildEnded`] if the child gave no value. What went wrong is in the nursery's own outcome.
///
/// # Panics
///
/// If polled again after it has returned.
///
/// # Cancel safety
///
/// Nothing is lost when a future that awaits `&mut handle` is dropped: the value stays for later.
#[must_use = "await the handle for the child's value, or use `start_soon`"]
pub struct ChildHandle<V> {
    slot: Arc<Slot<V>>,
}

/// Why a child gave no value; the failure itself is the nursery's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildEnded {
    /// It failed.
    Failed,
    /// A cancellation stopped it, or its nursery was dropped.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl fmt::Display for ChildEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the child failed; its nursery has the failure",
            Self::Cancelled => "the child was cancelled",
            Self::Panicked => "the child panicked; its nursery resumes the panic",
        })
    }
}

impl Error for ChildEnded {}

struct Slot<V> {
    state: Mutex<SlotState<V>>,
}

enum SlotState<V> {
    Running(Option<Waker>),
    Ended(Result<V, ChildEnded>),
    Taken,
}

impl<V> Slot<V> {
    fn lock(&self) -> MutexGuard<'_, SlotState<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores how the child ended, once.
    fn end(&self, result: Result<V, ChildEnded>) {
        let waker = {
            let mut state = self.lock();
            let SlotState::Running(waker) = &mut *state else {
                return;
            };
            let waker = waker.take();
            *state = SlotState::Ended(result);
            waker
        };
        wake_outside(waker);
    }
}

impl<V> ChildHandle<V> {
    /// Whether the child has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(*self.slot.lock(), SlotState::Running(_))
    }
}

impl<V> Future for ChildHandle<V> {
    type Output = Result<V, ChildEnded>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut new_waker = None;
        loop {
            let mut state = self.slot.lock();
            match &mut *state {
                SlotState::Running(Some(waker)) if waker.will_wake(cx.waker()) => {
                    return Poll::Pending;
                }
                SlotState::Running(waker) => {
                    if let Some(new) = new_waker.take() {
                        let replaced = waker.replace(new);
                        drop(state);
                        drop(replaced);
                        return Poll::Pending;
                    }
                }
                SlotState::Ended(_) => {
                    let ended = std::mem::replace(&mut *state, SlotState::Taken);
                    drop(state);
                    let SlotState::Ended(result) = ended else {
                        unreachable!("matched above")
                    };
                    return Poll::Ready(result);
                }
                SlotState::Taken => {
                    drop(state);
                    panic!("a child's handle was polled after it had returned the child's value");
                }
            }
            drop(state);
            new_waker = Some(cx.waker().clone());
        }
    }
}

impl<V> fmt::Debug for ChildHandle<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildHandle")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// Splits `child` into what the nursery runs and what waits for its value.
pub(super) fn with_handle<V, C>(child: C) -> (Spawned<V, C>, ChildHandle<V>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(SlotState::Running(None)),
    });
    (
        Spawned {
            child,
            ender: Ender {
                slot: Arc::clone(&slot),
            },
        },
        ChildHandle { slot },
    )
}

pin_project! {
    /// A child whose value goes to a handle.
    pub(super) struct Spawned<V, C> {
        #[pin]
        child: C,
        ender: Ender<V>,
    }
}

/// Tells the handle when the child goes without a word.
struct Ender<V> {
    slot: Arc<Slot<V>>,
}

impl<V> Drop for Ender<V> {
    fn drop(&mut self) {
        self.slot.end(Err(ChildEnded::Cancelled));
    }
}

impl<V, E, C: Future<Output = Result<V, Failure<E>>>> Future for Spawned<V, C> {
    type Output = Result<(), Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        struct OnPanic<'a, V>(&'a Slot<V>);
        impl<V> Drop for OnPanic<'_, V> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.end(Err(ChildEnded::Panicked));
                }
            }
        }
        let this = self.project();
        let slot = &*this.ender.slot;
        let on_panic = OnPanic(slot);
        let polled = this.child.poll(cx);
        std::mem::forget(on_panic);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(value)) => {
                slot.end(Ok(value));
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(failure)) => {
                slot.end(Err(ChildEnded::Failed));
                Poll::Ready(Err(failure))
            }
        }
    }
}
