//! Who is woken, how often, and that no code of the user runs where it could do harm.

mod common;

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{Stream, StreamExt, executor::LocalPool, stream, task::LocalSpawnExt};
use trionics_broadcast::{BroadcastReceiver, WeakBroadcastReceiver, broadcast_receiver};

use self::common::{Feed, Feeder, Task, Wakes, drain, feed, lost, next, poll, value};

/// B-049: a value wakes those who are parked, each once, and nobody else.
#[test]
fn only_the_parked_are_woken_and_once() {
    let (feeder, source) = feed();
    let mut parked = broadcast_receiver(source, 8).unwrap();
    let mut busy = parked.subscribe();
    let mut moved_on = parked.subscribe();
    let tasks = [Task::new(), Task::new(), Task::new()];
    assert!(tasks[2].poll(&mut moved_on).is_pending());
    feeder.send(0);
    assert_eq!(tasks[2].wakes.take(), 1);
    for (receiver, task) in [&mut parked, &mut busy, &mut moved_on]
        .into_iter()
        .zip(&tasks)
    {
        assert_eq!(task.poll(receiver), Poll::Ready(Some(Ok(0))));
    }
    assert!(tasks[0].poll(&mut parked).is_pending());
    feeder.send_all([1, 2, 3]);
    assert_eq!(drain(&mut busy), [1, 2, 3]);
    let wakes: Vec<_> = tasks.iter().map(|task| task.wakes.take()).collect();
    assert_eq!(wakes, [1, 0, 0]);
}

/// B-049: a thousand pending polls leave one waker, whose task is woken once; so does a thousand moves to other tasks.
#[test]
fn a_thousand_pending_polls_leave_one_waker() {
    let (feeder, source) = feed();
    let mut receiver = broadcast_receiver(source, 8).unwrap();
    let _other = receiver.subscribe();
    let tasks: Vec<_> = (0..1000).map(|_| Task::new()).collect();
    for task in &tasks {
        assert!(task.poll(&mut receiver).is_pending());
        assert!(task.poll(&mut receiver).is_pending());
    }
    let held = tasks
        .iter()
        .filter(|task| Arc::strong_count(&task.wakes) > 2)
        .count();
    assert_eq!(held, 1);
    assert_eq!(feeder.n_polls(), 1);
    feeder.send(1);
    let wakes: usize = tasks.iter().map(|task| task.wakes.take()).sum();
    assert_eq!(wakes, 1);
    assert!(tasks.iter().all(|task| Arc::strong_count(&task.wakes) == 2));
}

/// B-052: those who wait again at once are not woken again by the same value: waking N costs N.
#[test]
fn waking_many_costs_as_many_wakes() {
    const N: usize = 500;
    let (feeder, source) = feed();
    let mut receivers = vec![broadcast_receiver(source, 8).unwrap()];
    receivers.extend((1..N).map(|_| receivers[0].subscribe()).collect::<Vec<_>>());
    let receivers = Arc::new(Mutex::new(receivers));
    /// Polls its receiver at once, inside the wake.
    struct Inline {
        index: usize,
        receivers: Arc<Mutex<Vec<BroadcastReceiver<Feed<u32>>>>>,
        n_wakes: Arc<AtomicUsize>,
        n_values: Arc<AtomicUsize>,
    }
    impl Wake for Inline {
        fn wake(self: Arc<Self>) {
            self.n_wakes.fetch_add(1, Ordering::SeqCst);
            let waker = Waker::from(self.clone());
            let mut receivers = self.receivers.lock().unwrap();
            let receiver = &mut receivers[self.index];
            while receiver
                .poll_recv(&mut Context::from_waker(&waker))
                .is_ready()
            {
                self.n_values.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let (n_wakes, n_values) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for index in 0..N {
        let waker = Waker::from(Arc::new(Inline {
            index,
            receivers: receivers.clone(),
            n_wakes: n_wakes.clone(),
            n_values: n_values.clone(),
        }));
        let mut receivers = receivers.lock().unwrap();
        assert!(
            receivers[index]
                .poll_recv(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    // The feed's own lock is free while it wakes, so that the first woken takes the value, and parks again, inside the wake.
    for round in 1..=3 {
        feeder.send(round as u32);
        assert_eq!(n_wakes.load(Ordering::SeqCst), round * N);
        assert_eq!(n_values.load(Ordering::SeqCst), round * N);
    }
    receivers.lock().unwrap().clear();
}

/// B-056 and the grace yield: with values always ready, on one thread, nobody starves and nobody who reads loses anything.
#[test]
fn a_source_that_is_always_ready_starves_nobody() {
    for n_receivers in [2, 3, 16] {
        for window in [1, 2, 3, 64, 100] {
            let first = broadcast_receiver(stream::iter(0..2000), window).unwrap();
            let mut receivers: Vec<_> = (1..n_receivers).map(|_| first.subscribe()).collect();
            receivers.push(first);
            let mut pool = LocalPool::new();
            let received = std::rc::Rc::new(RefCell::new(Vec::new()));
            for receiver in receivers {
                let received = received.clone();
                let task = async move {
                    let values: Vec<_> = receiver.map(Result::unwrap).collect().await;
                    received.borrow_mut().push(values.len());
                };
                pool.spawner().spawn_local(task).unwrap();
            }
            pool.run();
            assert_eq!(*received.borrow(), vec![2000; n_receivers]);
        }
    }
}

/// The grace is given once: a subscriber that does not read costs the others a yield per block, and then loses.
#[test]
fn a_stuck_subscriber_is_waited_for_once() {
    let mut fast = broadcast_receiver(stream::iter(0..10), 1).unwrap();
    let mut stuck = fast.subscribe();
    let task = Task::new();
    assert_eq!(task.poll(&mut fast), Poll::Ready(Some(Ok(0))));
    assert!(task.poll(&mut fast).is_pending());
    assert_eq!(task.wakes.take(), 1);
    // Made while a value is held back: starts behind it.
    let mut newcomer = fast.subscribe();
    assert_eq!(task.poll(&mut fast), Poll::Ready(Some(Ok(1))));
    assert!(newcomer.is_empty());
    for expected in 2..10 {
        assert_eq!(task.poll(&mut fast), Poll::Ready(Some(Ok(expected))));
        assert_eq!(newcomer.try_recv(), Ok(expected));
    }
    assert_eq!(task.wakes.take(), 0);
    assert_eq!(lost(&mut stuck), 9);
}

/// A value held back for a grace is not lost when its holder goes away, nor given to a subscription that was made after it was taken.
#[test]
fn a_value_held_back_finds_its_readers() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 1).unwrap();
    let mut second = first.subscribe();
    let task = Task::new();
    feeder.send_all([1, 2]);
    assert_eq!(task.poll(&mut first), Poll::Ready(Some(Ok(1))));
    assert!(task.poll(&mut first).is_pending());
    assert_eq!(feeder.n_left(), 0);
    let mut third = first.subscribe();
    drop(first);
    assert_eq!(value(&mut second), 1);
    assert_eq!(value(&mut second), 2);
    assert!(poll(&mut third).is_pending());
    feeder.send(3);
    assert_eq!(value(&mut third), 3);
    assert_eq!(value(&mut second), 3);
}

/// The same, when only the newcomer is left: it gets what is taken after it has come.
#[test]
fn a_value_held_back_for_nobody_is_dropped() {
    let (feeder, source) = feed::<Arc<u32>>();
    let mut first = broadcast_receiver(source, 1).unwrap();
    let second = first.subscribe();
    let task = Task::new();
    let held = Arc::new(2);
    feeder.send_all([Arc::new(1), held.clone()]);
    assert!(task.poll(&mut first).is_ready());
    assert!(task.poll(&mut first).is_pending());
    let mut newcomer = second.subscribe();
    drop((first, second));
    assert!(poll(&mut newcomer).is_pending());
    assert_eq!(Arc::strong_count(&held), 1);
    feeder.send(Arc::new(3));
    assert_eq!(*value(&mut newcomer), 3);
}

/// B-057: a sole subscriber causes no clone; with others, each causes one; reading by reference causes none.
#[test]
fn clones_are_made_only_for_those_who_need_one() {
    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::SeqCst);
            Self(self.0.clone())
        }
    }
    let n_clones = Arc::new(AtomicUsize::new(0));
    let counted = n_clones.clone();
    let source = stream::repeat_with(move || Counted(counted.clone()));
    let mut first = broadcast_receiver(source, 4).unwrap();
    for _ in 0..10 {
        value(&mut first);
    }
    assert_eq!(n_clones.load(Ordering::SeqCst), 0);
    let mut second = first.subscribe();
    value(&mut first);
    value(&mut second);
    assert_eq!(n_clones.swap(0, Ordering::SeqCst), 2);
    {
        let task = Task::new();
        for receiver in [&mut first, &mut second] {
            match task.poll_future(pin!(receiver.recv_ref())) {
                Poll::Ready(Some(Ok(lent))) => drop(lent),
                other => panic!("{other:?}"),
            };
        }
    }
    drop(second);
    value(&mut first);
    assert_eq!(n_clones.load(Ordering::SeqCst), 0);
}

/// A `Clone` that panics costs its subscriber that value, and nobody anything else, the puller included.
#[test]
fn a_panicking_clone_costs_one_value() {
    #[derive(Debug, PartialEq)]
    struct Fragile(u32);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 1, "on purpose");
            Self(self.0)
        }
    }
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let task = Task::new();
    assert!(task.poll(&mut second).is_pending());
    feeder.send_all([Fragile(0), Fragile(1), Fragile(2)]);
    for receiver in [&mut first, &mut second] {
        assert_eq!(value(receiver), Fragile(0));
        assert!(catch_unwind(AssertUnwindSafe(|| poll(receiver))).is_err());
        assert_eq!(value(receiver), Fragile(2));
        assert_eq!(receiver.n_lost(), 0);
    }
    assert_eq!(task.wakes.take(), 1);
}

/// A waker that panics does not cost the others their wake.
#[test]
fn a_panicking_waker_costs_nobody_a_wake() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    let waker = Waker::from(Arc::new(Panics));
    assert!(
        first
            .poll_recv(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let task = Task::new();
    assert!(task.poll(&mut second).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| feeder.send(1))).is_err());
    assert_eq!(task.wakes.take(), 1);
    assert_eq!(value(&mut second), 1);
    assert_eq!(value(&mut first), 1);
}

/// Goes back into the broadcast wherever the user's code runs, which would deadlock under any of its locks.
fn reenter(weak: &Mutex<Option<WeakBroadcastReceiver<Feed<Reentrant>>>>) {
    let Some(weak) = weak.lock().unwrap().clone() else {
        return;
    };
    if let Some(mut receiver) = weak.subscribe() {
        let (_, waker) = Wakes::new();
        let statistics = receiver.statistics();
        assert!(!statistics.subscribers.is_empty());
        let _ = receiver.poll_recv(&mut Context::from_waker(&waker));
        receiver.close_handle().close();
    }
}

type Weakly = Arc<Mutex<Option<WeakBroadcastReceiver<Feed<Reentrant>>>>>;

#[derive(Debug)]
struct Reentrant(Weakly, Arc<AtomicUsize>);

impl Clone for Reentrant {
    fn clone(&self) -> Self {
        reenter(&self.0);
        Self(self.0.clone(), self.1.clone())
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        reenter(&self.0);
    }
}

/// Wakers and values that go back into the broadcast when they are cloned, woken or dropped: none of it happens under a lock.
#[test]
fn no_foreign_code_runs_under_a_lock() {
    let weak = Weakly::default();
    let n_dropped = Arc::new(AtomicUsize::new(0));
    struct Reenters(Weakly);
    impl Wake for Reenters {
        fn wake(self: Arc<Self>) {
            reenter(&self.0);
        }
    }
    impl Drop for Reenters {
        fn drop(&mut self) {
            reenter(&self.0);
        }
    }
    let (feeder, source): (Feeder<Reentrant>, _) = feed();
    let mut first = broadcast_receiver(source, 2).unwrap();
    let mut second = first.subscribe();
    let mut stuck = first.subscribe();
    *weak.lock().unwrap() = Some(first.downgrade());
    for round in 0..20 {
        for receiver in [&mut first, &mut second] {
            let waker = Waker::from(Arc::new(Reenters(weak.clone())));
            let _ = receiver.poll_recv(&mut Context::from_waker(&waker));
        }
        feeder.send_all((0..3).map(|_| Reentrant(weak.clone(), n_dropped.clone())));
        if round % 3 == 0 {
            let _ = next(&mut stuck);
        }
        while let Poll::Ready(Some(item)) = poll(&mut first) {
            drop(item);
        }
        while let Poll::Ready(Some(item)) = poll(&mut second) {
            drop(item);
        }
        drop(second);
        second = first.subscribe_from_oldest();
    }
    drop((second, stuck));
    feeder.send(Reentrant(weak.clone(), n_dropped.clone()));
    let _ = poll(&mut first);
    drop(first);
    assert!(n_dropped.load(Ordering::SeqCst) >= 61);
    assert!(!feeder.is_alive());
}

/// A waker of the source that outlives the broadcast keeps neither source nor values alive, and may still be woken.
#[test]
fn the_waker_of_the_source_owns_nothing() {
    let kept = Arc::new(Mutex::new(None));
    let (keep, value) = (kept.clone(), Arc::new(1));
    let in_source = value.clone();
    let source = stream::poll_fn(move |context| {
        *keep.lock().unwrap() = Some(context.waker().clone());
        let _ = &in_source;
        Poll::<Option<u32>>::Pending
    });
    let mut receiver = broadcast_receiver(source, 4).unwrap();
    assert!(poll(&mut receiver).is_pending());
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
    let waker = kept.lock().unwrap().take().unwrap();
    waker.wake();
}

/// A closed sibling, or a thousand, makes nobody spin: the rest is woken by values only.
#[test]
fn closed_siblings_make_nobody_spin() {
    let (feeder, source) = feed();
    let mut receiver = broadcast_receiver(source, 4).unwrap();
    let mut siblings: Vec<_> = (0..1000).map(|_| receiver.subscribe()).collect();
    let task = Task::new();
    let others = Task::new();
    for sibling in &mut siblings {
        assert!(others.poll(sibling).is_pending());
    }
    assert!(task.poll(&mut receiver).is_pending());
    for sibling in siblings.iter_mut().skip(500) {
        sibling.close();
    }
    siblings.truncate(500);
    siblings.clear();
    assert_eq!(task.wakes.take(), 0);
    assert_eq!(receiver.statistics().n_waiting, 1);
    assert_eq!(feeder.n_polls(), 1);
    feeder.send(1);
    assert_eq!((task.wakes.take(), others.wakes.take()), (1, 0));
    assert_eq!(task.poll(&mut receiver), Poll::Ready(Some(Ok(1))));
}

/// The value that is lent stays readable while others go on and it leaves the window.
#[test]
fn a_lent_value_outlives_the_window() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 1).unwrap();
    let mut second = first.subscribe();
    feeder.send_all(0..10);
    let task = Task::new();
    let lent = match task.poll_future(pin!(first.recv_ref())) {
        Poll::Ready(Some(Ok(lent))) => lent,
        other => panic!("{other:?}"),
    };
    assert_eq!(drain(&mut second).len(), 10);
    assert_eq!(*lent, 0);
    assert_eq!(lent.into_owned(), 0);
    assert_eq!(lost(&mut first), 8);
}

/// The type system keeps two tasks out of one subscription; a stream combinator works on it as on any stream.
#[test]
fn a_receiver_is_a_stream() {
    fn is_stream<S: Stream<Item = Result<u32, trionics_broadcast::Lagged>> + Unpin>(_: &S) {}
    let receiver = broadcast_receiver(stream::iter(0..4), 4).unwrap();
    is_stream(&receiver);
    let even: Vec<_> = futures::executor::block_on(
        receiver
            .map(Result::unwrap)
            .filter(|n| std::future::ready(n % 2 == 0))
            .collect(),
    );
    assert_eq!(even, [0, 2]);
}
