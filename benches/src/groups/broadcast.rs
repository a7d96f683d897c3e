//! One source for many tasks: what a delivered item costs.

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use fork_stream::StreamExt as _;
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    task::{ArcWake, AtomicWaker},
};
use postage::{sink::Sink as _, stream::Stream as _};
use stream_broadcast::StreamBroadcastExt as _;
use tokio::{
    runtime::{self, Runtime},
    sync::{broadcast, mpsc, oneshot},
};
use tokio_stream::wrappers::BroadcastStream;
use trionics::broadcast_receiver;

use crate::{Case, Group, OURS, figures::Figures};

/// Values kept for slow subscribers, where a subject has such a window.
const WINDOW: usize = 64;

/// The group `broadcast`.
pub(super) fn group() -> Group {
    let mut group = Group::new("broadcast");
    for burst in [1, 64] {
        for n_subscribers in [1, 4, 16, 64, 256, 1024] {
            group = group.case(fan_out::<u64>(Plan {
                n_subscribers,
                burst,
                n_threads: 1,
            }));
        }
    }
    for burst in [1, 64] {
        group = group.case(fan_out::<Arc<[u8; 256]>>(Plan {
            n_subscribers: 64,
            burst,
            n_threads: 1,
        }));
        for n_subscribers in [64, 256] {
            group = group.case(fan_out::<u64>(Plan {
                n_subscribers,
                burst,
                n_threads: 2,
            }));
        }
    }
    group
        .case(drain_by_recv())
        .case(drain_by_try_recv())
        .case(leader_pull())
        .case(sole_subscriber())
        .case(free_running())
}

/// What is sent.
trait Payload: Clone + Send + Sync + Unpin + 'static {
    const NAME: &'static str;

    fn new(number: u64) -> Self;

    /// Whether this is the value made of this number.
    fn is(&self, number: u64) -> bool;
}

impl Payload for u64 {
    const NAME: &'static str = "u64";

    fn new(number: u64) -> Self {
        number
    }

    fn is(&self, number: u64) -> bool {
        *self == number
    }
}

impl Payload for Arc<[u8; 256]> {
    const NAME: &'static str = "Arc<[u8; 256]>";

    fn new(number: u64) -> Self {
        Self::new([number as u8; 256])
    }

    fn is(&self, number: u64) -> bool {
        self[0] == number as u8
    }
}

#[derive(Clone, Copy)]
struct Plan {
    n_subscribers: usize,
    burst: usize,
    n_threads: usize,
}

impl Plan {
    /// How many bursts make an iteration that is long enough to be measured.
    fn n_rounds(self) -> usize {
        (16_384 / (self.n_subscribers * self.burst)).max(1)
    }
}

/// A subject, wired up: how to send, and one task for each subscriber, and for a pump if it needs one.
struct Wiring<T> {
    send: Box<dyn FnMut(T) + Send>,
    tasks: Vec<BoxFuture<'static, ()>>,
}

/// Counts the subscribers that have received a whole burst.
#[derive(Default)]
struct Round {
    n_left: AtomicUsize,
    driver: AtomicWaker,
}

/// A subscriber's own count.
struct Tally {
    round: Arc<Round>,
    burst: usize,
    n_left: usize,
    next: u64,
}

impl Tally {
    fn new(round: &Arc<Round>, plan: Plan) -> Self {
        Self {
            round: round.clone(),
            burst: plan.burst,
            n_left: plan.burst,
            next: 0,
        }
    }

    fn received<T: Payload>(&mut self, value: &T) {
        assert!(value.is(self.next), "a value is missing");
        self.next += 1;
        self.n_left -= 1;
        if self.n_left == 0 {
            self.n_left = self.burst;
            if self.round.n_left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.round.driver.wake();
            }
        }
    }
}

type Wire<T> = fn(&Arc<Round>, Plan) -> Wiring<T>;

fn fan_out<T: Payload>(plan: Plan) -> Case {
    let Plan {
        n_subscribers,
        burst,
        n_threads,
    } = plan;
    let series = format!(
        "bursts of {burst}, {}, {n_threads} thread{}",
        T::NAME,
        if n_threads == 1 { "" } else { "s" }
    );
    let mut case = Case::new(
        format!("{n_subscribers} subscribers, {series}"),
        "delivered item",
        (n_subscribers * burst * plan.n_rounds()) as u64,
        "tokio tasks on a current-thread runtime per thread; a burst is sent when all have received the one before; a window of 64 where there is one; fork_stream is left out where it hangs: bursts of 1 to more than one subscriber, and two threads",
    )
    .sized(series, n_subscribers as u64, "subscribers");
    let mut subjects: Vec<(&'static str, Wire<T>)> = vec![
        (OURS, ours),
        ("tokio", tokio_direct),
        ("tokio, pump", tokio_pump),
        ("BroadcastStream", tokio_stream),
        ("async-broadcast, overflow", async_broadcast_overflow),
        ("async-broadcast", async_broadcast_waiting),
        ("postage", postage),
        ("stream-broadcast", stream_broadcast),
        ("stream_shared", stream_shared),
        ("floor", floor),
    ];
    // With more than one subscriber, fork_stream hangs when a fork is polled again before the others have read.
    if n_subscribers == 1 || (burst > 1 && n_threads == 1) {
        subjects.push(("fork_stream", fork));
    }
    for (name, wire) in subjects {
        case = case.subject(name, move || {
            let mut driver = Driver::new(plan, wire);
            move || driver.run()
        });
    }
    case
}

/// Sends bursts, and waits for each.
struct Driver<T> {
    plan: Plan,
    round: Arc<Round>,
    send: Box<dyn FnMut(T) + Send>,
    next: u64,
    /// Runs its share of the tasks while the driver waits.
    runtime: Runtime,
    /// Ends the second thread when dropped.
    _second: Option<oneshot::Sender<()>>,
}

impl<T: Payload> Driver<T> {
    fn new(plan: Plan, wire: Wire<T>) -> Self {
        let round = Arc::new(Round::default());
        let Wiring { send, mut tasks } = wire(&round, plan);
        let runtime = one_thread();
        let second = (plan.n_threads == 2).then(|| {
            let (stop, stopped) = oneshot::channel::<()>();
            let elsewhere = tasks.split_off(tasks.len() / 2);
            thread::spawn(move || {
                let runtime = one_thread();
                for task in elsewhere {
                    runtime.spawn(task);
                }
                let _ = runtime.block_on(stopped);
            });
            stop
        });
        for task in tasks {
            runtime.spawn(task);
        }
        Self {
            plan,
            round,
            send,
            next: 0,
            runtime,
            _second: second,
        }
    }

    fn run(&mut self) {
        let Self {
            plan,
            round,
            send,
            next,
            runtime,
            ..
        } = self;
        runtime.block_on(async {
            for _ in 0..plan.n_rounds() {
                round.n_left.store(plan.n_subscribers, Ordering::Release);
                for _ in 0..plan.burst {
                    send(T::new(*next));
                    *next += 1;
                }
                poll_fn(|context| {
                    round.driver.register(context.waker());
                    match round.n_left.load(Ordering::Acquire) {
                        0 => Poll::Ready(()),
                        _ => Poll::Pending,
                    }
                })
                .await;
            }
        });
    }
}

fn one_thread() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().build();
    runtime.expect("the system gives what a runtime needs")
}

/// The same queue for every subject that wraps a stream, and for the pump.
struct Queue<T>(mpsc::UnboundedReceiver<T>);

impl<T> Stream for Queue<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

fn queue<T: Payload>() -> (Box<dyn FnMut(T) + Send>, Queue<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let send = move |value| assert!(sender.send(value).is_ok(), "the queue is open");
    (Box::new(send), Queue(receiver))
}

/// One task that receives from each of these streams.
fn receive_each<T, S>(
    streams: impl IntoIterator<Item = S>,
    round: &Arc<Round>,
    plan: Plan,
) -> Vec<BoxFuture<'static, ()>>
where
    T: Payload,
    S: Stream<Item = T> + Send + Unpin + 'static,
{
    streams
        .into_iter()
        .map(|mut stream| {
            let mut tally = Tally::new(round, plan);
            async move {
                while let Some(value) = stream.next().await {
                    tally.received(&value);
                }
            }
            .boxed()
        })
        .collect()
}

/// So many of a kind, of which the first is this one.
fn copies<R>(first: R, n: usize, copy: impl Fn(&R) -> R) -> Vec<R> {
    let mut all: Vec<_> = (1..n).map(|_| copy(&first)).collect();
    all.push(first);
    all
}

fn ours<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (send, source) = queue();
    let first = broadcast_receiver(source, WINDOW).expect("the window is possible");
    let tasks = copies(first, plan.n_subscribers, |first| first.subscribe())
        .into_iter()
        .map(|mut receiver| {
            let mut tally = Tally::new(round, plan);
            async move {
                while let Some(item) = receiver.recv().await {
                    tally.received(&item.expect("nothing is lost"));
                }
            }
            .boxed()
        })
        .collect();
    Wiring { send, tasks }
}

fn tokio_receivers<T: Payload>(
    sender: &broadcast::Sender<T>,
    round: &Arc<Round>,
    plan: Plan,
) -> Vec<BoxFuture<'static, ()>> {
    (0..plan.n_subscribers)
        .map(|_| {
            let mut receiver = sender.subscribe();
            let mut tally = Tally::new(round, plan);
            async move {
                loop {
                    match receiver.recv().await {
                        Ok(value) => tally.received(&value),
                        Err(broadcast::error::RecvError::Closed) => break,
                        Err(lagged) => panic!("{lagged}"),
                    }
                }
            }
            .boxed()
        })
        .collect()
}

fn tokio_direct<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (sender, _) = broadcast::channel(WINDOW);
    let tasks = tokio_receivers(&sender, round, plan);
    Wiring {
        send: Box::new(move |value| assert!(sender.send(value).is_ok())),
        tasks,
    }
}

fn tokio_pump<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (send, mut source) = queue();
    let (sender, _) = broadcast::channel(WINDOW);
    let mut tasks = tokio_receivers(&sender, round, plan);
    let pump = async move {
        while let Some(value) = source.next().await {
            assert!(sender.send(value).is_ok());
        }
    };
    tasks.insert(0, pump.boxed());
    Wiring { send, tasks }
}

fn tokio_stream<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (sender, _) = broadcast::channel(WINDOW);
    let streams = (0..plan.n_subscribers).map(|_| {
        let stream = BroadcastStream::new(sender.subscribe());
        stream.map(|item| item.expect("nothing is lost"))
    });
    let tasks = receive_each(streams.collect::<Vec<_>>(), round, plan);
    Wiring {
        send: Box::new(move |value| assert!(sender.send(value).is_ok())),
        tasks,
    }
}

fn async_broadcast<T: Payload>(round: &Arc<Round>, plan: Plan, overflow: bool) -> Wiring<T> {
    let (mut sender, first) = async_broadcast::broadcast(WINDOW);
    sender.set_overflow(overflow);
    let tasks = copies(first, plan.n_subscribers, Clone::clone)
        .into_iter()
        .map(|mut receiver| {
            let mut tally = Tally::new(round, plan);
            async move {
                loop {
                    match receiver.recv_direct().await {
                        Ok(value) => tally.received(&value),
                        Err(async_broadcast::RecvError::Closed) => break,
                        Err(lagged) => panic!("{lagged}"),
                    }
                }
            }
            .boxed()
        })
        .collect();
    Wiring {
        send: Box::new(move |value| assert!(sender.try_broadcast(value).is_ok())),
        tasks,
    }
}

fn async_broadcast_overflow<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    async_broadcast(round, plan, true)
}

fn async_broadcast_waiting<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    async_broadcast(round, plan, false)
}

fn postage<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (mut sender, first) = postage::broadcast::channel(WINDOW);
    let tasks = copies(first, plan.n_subscribers, Clone::clone)
        .into_iter()
        .map(|mut receiver| {
            let mut tally = Tally::new(round, plan);
            async move {
                while let Some(value) = receiver.recv().await {
                    tally.received(&value);
                }
            }
            .boxed()
        })
        .collect();
    Wiring {
        send: Box::new(move |value| assert!(sender.try_send(value).is_ok())),
        tasks,
    }
}

fn stream_broadcast<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (send, source) = queue();
    let first = source.fuse().broadcast_lossy(WINDOW);
    let streams = copies(first, plan.n_subscribers, |first| first.re_subscribe());
    let streams = streams.into_iter().map(|stream| {
        Box::pin(stream.map(|(n_missed, value)| {
            assert_eq!(n_missed, 0, "nothing is lost");
            value
        }))
    });
    let tasks = receive_each(streams, round, plan);
    Wiring { send, tasks }
}

fn stream_shared<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (send, source) = queue();
    let first = stream_shared::SharedStream::new(source);
    let streams = copies(first, plan.n_subscribers, Clone::clone);
    let tasks = receive_each(streams.into_iter().map(Box::pin), round, plan);
    Wiring { send, tasks }
}

fn fork<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let (send, source) = queue();
    let streams = copies(source.fork(), plan.n_subscribers, Clone::clone);
    let tasks = receive_each(streams.into_iter().map(Box::pin), round, plan);
    Wiring { send, tasks }
}

/// The least that can be done: a slot for each value, and a list of wakers under a mutex.
struct Floor<T> {
    /// As many slots as a burst has values.
    slots: Vec<Mutex<Option<T>>>,
    n_sent: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

fn floor<T: Payload>(round: &Arc<Round>, plan: Plan) -> Wiring<T> {
    let shared = Arc::new(Floor {
        slots: (0..plan.burst).map(|_| Mutex::new(None)).collect(),
        n_sent: AtomicUsize::new(0),
        wakers: Mutex::new(Vec::new()),
    });
    let tasks = (0..plan.n_subscribers)
        .map(|_| {
            let shared = shared.clone();
            let mut tally = Tally::new(round, plan);
            let mut n_read = 0;
            poll_fn(move |context| {
                loop {
                    while n_read < shared.n_sent.load(Ordering::Acquire) {
                        let slot = &shared.slots[n_read % shared.slots.len()];
                        let value = slot.lock().expect("nobody panics").clone();
                        tally.received(&value.expect("the slot is filled"));
                        n_read += 1;
                    }
                    let mut wakers = shared.wakers.lock().expect("nobody panics");
                    if n_read == shared.n_sent.load(Ordering::Acquire) {
                        wakers.push(context.waker().clone());
                        return Poll::Pending;
                    }
                }
            })
            .boxed()
        })
        .collect();
    let send = move |value| {
        let n_sent = shared.n_sent.load(Ordering::Relaxed);
        *shared.slots[n_sent % shared.slots.len()]
            .lock()
            .expect("nobody panics") = Some(value);
        shared.n_sent.store(n_sent + 1, Ordering::Release);
        let mut wakers = std::mem::take(&mut *shared.wakers.lock().expect("nobody panics"));
        for waker in wakers.drain(..) {
            waker.wake();
        }
        let mut kept = shared.wakers.lock().expect("nobody panics");
        if kept.capacity() < wakers.capacity() && kept.is_empty() {
            *kept = wakers;
        }
    };
    Wiring {
        send: Box::new(send),
        tasks,
    }
}

/// Subscribers that drain one after the other.
const N_DRAINING: usize = 16;

/// Times `drain` alone, with the window filled anew before each.
fn timed<R>(
    mut fill: impl FnMut() -> R + 'static,
    mut drain: impl FnMut(R) -> R + 'static,
) -> impl FnMut(u64) -> Duration {
    move |iterations| {
        let mut spent = Duration::ZERO;
        for _ in 0..iterations {
            let filled = fill();
            let started = Instant::now();
            let left = drain(filled);
            spent += started.elapsed();
            drop(left);
        }
        spent
    }
}

/// What a future that need not wait gives.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing is to be waited for"),
    }
}

/// A waker as costly as an executor's: cloning it counts.
fn noop() -> &'static Waker {
    struct Nothing;
    impl ArcWake for Nothing {
        fn wake_by_ref(_: &Arc<Self>) {}
    }
    thread_local! {
        static WAKER: &'static Waker = Box::leak(Box::new(futures::task::waker(Arc::new(Nothing))));
    }
    WAKER.with(|waker| *waker)
}

/// A source that is always ready.
struct Numbers(u64);

impl Stream for Numbers {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        self.0 += 1;
        Poll::Ready(Some(self.0))
    }
}

fn numbers() -> Numbers {
    Numbers(0)
}

fn drain_case(name: &'static str) -> Case {
    Case::new(
        name,
        "item",
        (N_DRAINING * WINDOW) as u64,
        "16 subscribers empty a full window of 64, one after the other; filling it is not measured",
    )
}

fn tokio_filled() -> impl FnMut() -> Vec<broadcast::Receiver<u64>> {
    let (sender, _) = broadcast::channel(WINDOW);
    move || {
        let receivers = (0..N_DRAINING).map(|_| sender.subscribe()).collect();
        for number in 0..WINDOW as u64 {
            sender.send(number).expect("there are receivers");
        }
        receivers
    }
}

fn with_tokio(case: Case) -> Case {
    case.timed_subject("tokio, recv().await", || {
        timed(tokio_filled(), |mut receivers| {
            for receiver in &mut receivers {
                for _ in 0..WINDOW {
                    now(receiver.recv()).expect("the window is full");
                }
            }
            receivers
        })
    })
    .timed_subject("tokio, try_recv", || {
        timed(tokio_filled(), |mut receivers| {
            for receiver in &mut receivers {
                for _ in 0..WINDOW {
                    receiver.try_recv().expect("the window is full");
                }
            }
            receivers
        })
    })
    .timed_subject("async-broadcast, try_recv", || {
        let (sender, first) = async_broadcast::broadcast(WINDOW);
        let first = first.deactivate();
        timed(
            move || {
                let receivers: Vec<_> = (0..N_DRAINING).map(|_| first.activate_cloned()).collect();
                for number in 0..WINDOW as u64 {
                    sender.try_broadcast(number).expect("there is room");
                }
                receivers
            },
            |mut receivers| {
                for receiver in &mut receivers {
                    for _ in 0..WINDOW {
                        receiver.try_recv().expect("the window is full");
                    }
                }
                receivers
            },
        )
    })
    .timed_subject("fork_stream", || {
        timed(
            || {
                let mut all = copies(numbers().fork(), N_DRAINING + 1, Clone::clone);
                for _ in 0..WINDOW {
                    now(all[0].next());
                }
                all
            },
            |mut all| {
                for receiver in &mut all[1..] {
                    for _ in 0..WINDOW {
                        now(receiver.next()).expect("the window is full");
                    }
                }
                all
            },
        )
    })
}

fn ours_filled() -> impl FnMut() -> Vec<trionics::BroadcastReceiver<Numbers>> {
    let mut leader = broadcast_receiver(numbers(), WINDOW).expect("the window is possible");
    move || {
        let receivers: Vec<_> = (0..N_DRAINING).map(|_| leader.subscribe()).collect();
        for _ in 0..WINDOW {
            assert!(now(leader.recv()).is_some());
        }
        receivers
    }
}

fn drain_by_recv() -> Case {
    let case = drain_case("drain, ours by recv().await").timed_subject(OURS, || {
        timed(ours_filled(), |mut receivers| {
            for receiver in &mut receivers {
                for _ in 0..WINDOW {
                    let item = now(receiver.recv()).expect("the window is full");
                    item.expect("nothing is lost");
                }
            }
            receivers
        })
    });
    with_tokio(case)
}

fn drain_by_try_recv() -> Case {
    let case = drain_case("drain, ours by try_recv").timed_subject(OURS, || {
        timed(ours_filled(), |mut receivers| {
            for receiver in &mut receivers {
                for _ in 0..WINDOW {
                    receiver.try_recv().expect("the window is full");
                }
            }
            receivers
        })
    });
    with_tokio(case)
}

/// How many values a turn of a leader pulls.
const N_PULLED: usize = 1024;

fn leader_pull() -> Case {
    let case = |name, fair| Case::new(name, "item", N_PULLED as u64, fair);
    case(
        "leader pull",
        "one of two subscribers pulls from a source that is always ready, in a window with room; the other is new for each iteration",
    )
    .subject(OURS, || {
        let mut leader = broadcast_receiver(numbers(), 2 * N_PULLED).expect("a possible window");
        move || {
            let other = leader.subscribe();
            for _ in 0..N_PULLED {
                assert!(now(leader.recv()).is_some());
            }
            other
        }
    })
    .subject("stream-broadcast", || {
        let mut leader = Box::pin(numbers().fuse().broadcast_lossy(2 * N_PULLED));
        move || {
            let other = leader.re_subscribe();
            for _ in 0..N_PULLED {
                assert!(now(leader.next()).is_some());
            }
            drop(other);
        }
    })
    .subject("fork_stream", || {
        let mut leader = numbers().fork();
        move || {
            let other = leader.clone();
            for _ in 0..N_PULLED {
                assert!(now(leader.next()).is_some());
            }
            drop(other);
        }
    })
    .subject("stream_shared", || {
        let mut leader = stream_shared::SharedStream::new(numbers());
        move || {
            let other = leader.clone();
            for _ in 0..N_PULLED {
                assert!(now(leader.next()).is_some());
            }
            drop(other);
        }
    })
}

fn sole_subscriber() -> Case {
    Case::new(
        "sole subscriber",
        "item",
        N_PULLED as u64,
        "the only subscriber pulls from a source that is always ready; the floor is the source itself",
    )
    .subject(OURS, || {
        let mut sole = broadcast_receiver(numbers(), WINDOW).expect("the window is possible");
        move || {
            for _ in 0..N_PULLED {
                assert!(now(sole.recv()).is_some());
            }
        }
    })
    .subject("stream-broadcast", || {
        let mut sole = Box::pin(numbers().fuse().broadcast_lossy(WINDOW));
        move || {
            for _ in 0..N_PULLED {
                assert!(now(sole.next()).is_some());
            }
        }
    })
    .subject("fork_stream", || {
        let mut sole = numbers().fork();
        move || {
            for _ in 0..N_PULLED {
                assert!(now(sole.next()).is_some());
            }
        }
    })
    .subject("stream_shared", || {
        let mut sole = stream_shared::SharedStream::new(numbers());
        move || {
            for _ in 0..N_PULLED {
                assert!(now(sole.next()).is_some());
            }
        }
    })
    .subject("floor", || {
        let mut source = numbers();
        move || {
            for _ in 0..N_PULLED {
                // Or the compiler adds the numbers up without a loop.
                assert!(black_box(now(source.next())).is_some());
            }
        }
    })
}

/// Values that a producer has ready before anybody reads.
const N_READY: u64 = 4096;
/// Who reads them.
const N_READERS: usize = 8;

fn free_running() -> Case {
    Case::new(
        "free-running producer",
        "value and reader",
        N_READY * N_READERS as u64,
        "8 tasks of one thread read a queue that is full from the start, in a window of 64; it is asserted that nobody loses a value with trionics, and that the pump loses at least 30 %",
    )
    .subject(OURS, || {
        || assert_eq!(share_lost(ours_free_running(full_queue())), 0.0)
    })
    .subject("tokio, pump", || {
        || assert!(share_lost(pump_free_running(full_queue())) > 0.3)
    })
    .figures(OURS, || lost(ours_free_running(full_queue())))
    .figures("tokio, pump", || lost(pump_free_running(full_queue())))
}

fn lost(tasks: Vec<BoxFuture<'static, u64>>) -> Figures {
    Figures::new().number("values lost, %", 100.0 * share_lost(tasks))
}

/// A queue that is full from the start: whoever pumps it never has to wait.
fn full_queue() -> Queue<u64> {
    let (mut send, queue) = queue();
    (0..N_READY).for_each(&mut send);
    queue
}

fn ours_free_running(
    source: impl Stream<Item = u64> + Send + 'static,
) -> Vec<BoxFuture<'static, u64>> {
    let first = broadcast_receiver(source, WINDOW).expect("the window is possible");
    let receivers = copies(first, N_READERS, |first| first.subscribe()).into_iter();
    let count = |mut receiver: trionics::BroadcastReceiver<_>| {
        async move {
            let mut n_received = 0;
            while let Some(item) = receiver.recv().await {
                n_received += u64::from(item.is_ok());
            }
            n_received
        }
        .boxed()
    };
    receivers.map(count).collect()
}

/// The pump comes first; it counts nothing.
fn pump_free_running(mut source: Queue<u64>) -> Vec<BoxFuture<'static, u64>> {
    let (sender, _) = broadcast::channel(WINDOW);
    let receivers: Vec<_> = (0..N_READERS).map(|_| sender.subscribe()).collect();
    let pump = async move {
        while let Some(value) = source.next().await {
            assert!(sender.send(value).is_ok());
        }
        0
    };
    let count = |mut receiver: broadcast::Receiver<u64>| {
        async move {
            let mut n_received = 0;
            loop {
                match receiver.recv().await {
                    Ok(_) => n_received += 1,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return n_received,
                }
            }
        }
        .boxed()
    };
    [pump.boxed()]
        .into_iter()
        .chain(receivers.into_iter().map(count))
        .collect()
}

/// Runs tasks that count what they receive; the share that none of them has received.
fn share_lost(tasks: Vec<BoxFuture<'static, u64>>) -> f64 {
    let n_received: u64 = one_thread().block_on(async {
        // Spawned from within, so that all wait in the one queue that the runtime works off in turns.
        let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        let counts = futures::future::join_all(tasks).await;
        counts
            .into_iter()
            .map(|count| count.expect("no task panics"))
            .sum()
    });
    1.0 - n_received as f64 / (N_READY * N_READERS as u64) as f64
}

#[cfg(test)]
mod tests {
    //! What a timing cannot show: how much is lost when the producer never waits, in other windows and with other tasks around.

    use super::*;

    #[test]
    fn a_free_running_producer_loses_nothing_where_a_pump_loses_half() {
        assert_eq!(share_lost(ours_free_running(full_queue())), 0.0);
        let lost = share_lost(pump_free_running(full_queue()));
        assert!(lost > 0.4, "the pump lost {lost}");
    }

    /// A source without tokio's budget, and bystanders that are always ready to run.
    #[test]
    fn bystanders_change_nothing() {
        let source = futures::stream::iter(0..N_READY);
        let mut tasks = ours_free_running(source);
        for _ in 0..3 {
            let idle = async {
                for _ in 0..1000 {
                    tokio::task::yield_now().await;
                }
                0
            };
            tasks.insert(N_READERS / 2, idle.boxed());
        }
        assert_eq!(share_lost(tasks), 0.0);
    }
}
