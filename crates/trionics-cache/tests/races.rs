//! Moments that only fall together if everything is polled by hand.

mod common;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use common::{Cache, Word, errors};
use futures::channel::oneshot;
use trionics_cache::maybe_open_context;
use trionics_errgroup::Failure;
use trionics_gather::{AsyncContext, Slot, acm};

/// A future that is polled when the test says so.
struct Task<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> Task<'a, T> {
    fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self(Box::pin(future))
    }

    fn poll(&mut self) -> Poll<T> {
        self.0
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    #[track_caller]
    fn waits(&mut self) {
        // What it wakes in itself is done, too.
        for _ in 0..10 {
            assert!(self.poll().is_pending(), "it has ended");
        }
    }

    #[track_caller]
    fn ends(&mut self) -> T {
        for _ in 0..10 {
            if let Poll::Ready(value) = self.poll() {
                return value;
            }
        }
        panic!("it waits");
    }
}

/// A context whose set-up ends with what is sent, and whose exit awaits nothing.
fn told(outcome: oneshot::Receiver<Result<(), Word>>) -> impl FnOnce() -> Told + Send + 'static {
    move || Told(outcome)
}

/// The context made by [`told`].
struct Told(oneshot::Receiver<Result<(), Word>>);

impl AsyncContext for Told {
    type Value = usize;
    type Error = Word;
    type Run = Pin<Box<dyn Future<Output = Result<(), Failure<Word>>> + Send>>;

    fn run(self, slot: Slot<usize>) -> Self::Run {
        Box::pin(async move {
            self.0.await.unwrap().map_err(Failure::leaf)?;
            slot.provide(1).await;
            Ok(())
        })
    }
}

fn at_once() -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
    acm(|slot: Slot<usize>| async move {
        slot.provide(2).await;
        Ok(())
    })
}

/// Holds the key until `leave` is set.
fn hold<'a, C>(
    cache: &'a Cache,
    make: impl FnOnce() -> C + Send + 'static,
    leave: &'a AtomicBool,
) -> Task<'a, Result<(bool, usize), Failure<Word>>>
where
    C: AsyncContext<Value = usize, Error = Word> + 'a,
    C::Run: Send + 'static,
{
    Task::new(maybe_open_context(
        cache,
        "a",
        make,
        async move |hit, value| {
            std::future::poll_fn(|cx| {
                if leave.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            Ok((hit, *value))
        },
    ))
}

/// A user that comes after the last one has gone, before the service has seen that, while the set-up can
/// go on: it gets a resource of its own and is not cancelled with the unwanted one.
#[test]
fn a_set_up_that_is_being_stopped_takes_no_users() {
    let (cache, leave) = (Cache::new(), AtomicBool::new(false));
    let (sender, receiver) = oneshot::channel();
    let mut service = Task::new(cache.serve());
    let mut opener = hold(&cache, told(receiver), &leave);
    opener.waits();
    service.waits();
    sender.send(Ok(())).unwrap();
    drop(opener);
    let mut late = hold(&cache, at_once, &leave);
    late.waits();
    for _ in 0..5 {
        service.waits();
        late.waits();
    }
    leave.store(true, Ordering::SeqCst);
    let _leaving = late.poll();
    service.waits();
    assert_eq!(late.ends().unwrap(), (false, 2));
    cache.close();
    service.ends().unwrap();
}

/// A set-up has failed; a waiting user is dropped before the opener has heard: the opener still hears.
#[test]
fn a_dropped_user_takes_no_failure_with_it() {
    let (cache, leave) = (Cache::new(), AtomicBool::new(false));
    let (sender, receiver) = oneshot::channel();
    let mut service = Task::new(cache.serve());
    let mut opener = hold(&cache, told(receiver), &leave);
    let mut other = hold(&cache, at_once, &leave);
    opener.waits();
    other.waits();
    service.waits();
    sender.send(Err("e")).unwrap();
    service.waits();
    drop(other);
    assert_eq!(errors(&opener.ends().unwrap_err()), ["e"]);
    service.waits();
    cache.close();
    service.ends().unwrap();
}

/// A set-up has failed, and its opener is dropped before hearing: the service's outcome tells it.
#[test]
fn the_service_hears_what_nobody_else_did() {
    for opener_first in [true, false] {
        let (cache, leave) = (Cache::new(), AtomicBool::new(false));
        let (sender, receiver) = oneshot::channel();
        let mut service = Task::new(cache.serve());
        let mut opener = hold(&cache, told(receiver), &leave);
        let mut other = hold(&cache, at_once, &leave);
        opener.waits();
        other.waits();
        service.waits();
        sender.send(Err("e")).unwrap();
        service.waits();
        if opener_first {
            drop(opener);
            drop(other);
        } else {
            drop(other);
            drop(opener);
        }
        assert_eq!(errors(&service.ends().unwrap_err()), ["e"]);
    }
}

/// The value goes before the exit begins.
#[test]
fn the_value_is_dropped_before_the_exit() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let n_dropped = Arc::new(AtomicUsize::new(0));
    let cache = trionics_cache::ContextCache::<u8, Counted, Word>::new();
    let mut service = Task::new(cache.serve());
    let make = {
        let n_dropped = Arc::clone(&n_dropped);
        move || {
            acm(move |slot: Slot<Counted>| async move {
                slot.provide(Counted(Arc::clone(&n_dropped))).await;
                assert_eq!(n_dropped.load(Ordering::SeqCst), 1);
                Ok(())
            })
        }
    };
    let mut used = Task::new(maybe_open_context(&cache, 1, make, async |_hit, _value| {
        Ok(())
    }));
    for _ in 0..5 {
        if let Poll::Ready(outcome) = used.poll() {
            outcome.unwrap();
            break;
        }
        service.waits();
    }
    assert_eq!(n_dropped.load(Ordering::SeqCst), 1);
    cache.close();
    service.ends().unwrap();
}
