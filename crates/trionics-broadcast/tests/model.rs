//! Random histories against a model that has nothing but a plain queue for each subscriber.

mod common;

use std::{collections::VecDeque, task::Poll, thread};

use proptest::prelude::*;
use trionics_broadcast::{Broadcast, BroadcastReceiver, TryRecvError, broadcast_receiver};

use self::common::{Feed, Feeder, Task, feed, poll};

#[derive(Debug, Clone)]
enum Step {
    /// Feeds so many values, with one wake.
    Send(u8),
    End,
    /// Polls one receive of this subscriber, which is then dropped.
    Receive(usize),
    /// Polls, and stays parked.
    Park(usize),
    TryReceive(usize),
    /// Receives all there is.
    Drain(usize),
    Subscribe(usize),
    Close(usize),
    CloseFromElsewhere(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..64_usize;
    prop_oneof![
        8 => (0..9_u8).prop_map(Step::Send),
        1 => Just(Step::End),
        12 => index.clone().prop_map(Step::Receive),
        4 => index.clone().prop_map(Step::Park),
        4 => index.clone().prop_map(Step::TryReceive),
        3 => index.clone().prop_map(Step::Drain),
        3 => index.clone().prop_map(Step::Subscribe),
        1 => index.clone().prop_map(Step::Close),
        1 => index.clone().prop_map(Step::CloseFromElsewhere),
        2 => index.prop_map(Step::Drop),
    ]
}

/// What a subscriber must be given.
#[derive(Debug, PartialEq)]
enum Expected {
    Value(u32),
    Lost(u64),
    Nothing,
    End,
}

/// The model: every subscriber has a queue of its own, which is cut to the window when it reads.
struct Model {
    source: VecDeque<u32>,
    has_ended: bool,
    /// The source was asked after its end.
    end_was_found: bool,
    window: usize,
    waits_for_slowest: bool,
}

struct Subscriber {
    receiver: BroadcastReceiver<Feed<u32>>,
    task: Task,
    queue: VecDeque<u32>,
    is_closed: bool,
    /// Whether it has parked since the last value, and must be woken by one.
    is_parked: bool,
    n_lost: u64,
}

impl Subscriber {
    fn new(receiver: BroadcastReceiver<Feed<u32>>) -> Self {
        Self {
            receiver,
            task: Task::new(),
            queue: VecDeque::new(),
            is_closed: false,
            is_parked: false,
            n_lost: 0,
        }
    }
}

impl Model {
    fn receive(
        &mut self,
        subscribers: &mut [Subscriber],
        index: usize,
        may_pull: bool,
    ) -> Expected {
        let of = &mut subscribers[index];
        if of.is_closed {
            return Expected::End;
        }
        if of.queue.len() > self.window {
            let excess = of.queue.len() - self.window;
            of.queue.drain(..excess);
            of.n_lost += excess as u64;
            return Expected::Lost(excess as u64);
        }
        if let Some(value) = of.queue.pop_front() {
            return Expected::Value(value);
        }
        if self.end_was_found {
            return Expected::End;
        }
        if !may_pull {
            return Expected::Nothing;
        }
        let is_full = subscribers
            .iter()
            .any(|of| !of.is_closed && of.queue.len() >= self.window);
        if self.waits_for_slowest && is_full {
            return Expected::Nothing;
        }
        match self.source.pop_front() {
            Some(value) => {
                for of in subscribers.iter_mut().filter(|of| !of.is_closed) {
                    of.queue.push_back(value);
                }
                self.receive(subscribers, index, false)
            }
            None if self.has_ended => {
                self.end_was_found = true;
                Expected::End
            }
            None => Expected::Nothing,
        }
    }
}

fn seen(polled: Poll<Option<Result<u32, trionics_broadcast::Lagged>>>) -> Expected {
    match polled {
        Poll::Ready(Some(Ok(value))) => Expected::Value(value),
        Poll::Ready(Some(Err(lagged))) => Expected::Lost(lagged.count()),
        Poll::Ready(None) => Expected::End,
        Poll::Pending => Expected::Nothing,
    }
}

fn seen_at_once(tried: Result<u32, TryRecvError>) -> Expected {
    match tried {
        Ok(value) => Expected::Value(value),
        Err(TryRecvError::Lagged(lagged)) => Expected::Lost(lagged.count()),
        Err(TryRecvError::Closed) => Expected::End,
        Err(TryRecvError::Empty) => Expected::Nothing,
    }
}

fn replay(window: usize, waits_for_slowest: bool, steps: Vec<Step>) {
    let (feeder, source) = feed();
    let mut settings = Broadcast::new(window);
    if waits_for_slowest {
        settings = settings.wait_for_slowest();
    }
    let mut subscribers = vec![Subscriber::new(settings.share(source).unwrap())];
    let mut model = Model {
        source: VecDeque::new(),
        has_ended: false,
        end_was_found: false,
        window,
        waits_for_slowest,
    };
    let mut n_sent = 0;
    for step in steps {
        let n = subscribers.len();
        match step {
            Step::Send(_) if model.has_ended => {}
            Step::Send(count) => {
                let values = n_sent..n_sent + u32::from(count);
                n_sent = values.end;
                model.source.extend(values.clone());
                feeder.send_all(values);
                if count > 0 {
                    check_wakes(&mut subscribers);
                }
            }
            Step::End => {
                model.has_ended = true;
                feeder.end();
                check_wakes(&mut subscribers);
            }
            Step::Receive(index) => {
                let expected = model.receive(&mut subscribers, index % n, true);
                let of = &mut subscribers[index % n];
                of.is_parked = false;
                let mut polled = of.task.try_once(&mut of.receiver);
                if polled.is_pending() && of.task.wakes.take() > 0 {
                    polled = of.task.try_once(&mut of.receiver);
                }
                assert_eq!(seen(polled), expected);
            }
            Step::Park(index) => {
                let expected = model.receive(&mut subscribers, index % n, true);
                let of = &mut subscribers[index % n];
                let mut polled = of.task.poll(&mut of.receiver);
                if polled.is_pending() && of.task.wakes.take() > 0 {
                    polled = of.task.poll(&mut of.receiver);
                }
                of.is_parked = polled.is_pending();
                assert_eq!(seen(polled), expected);
            }
            Step::TryReceive(index) => {
                let expected = model.receive(&mut subscribers, index % n, false);
                let tried = subscribers[index % n].receiver.try_recv();
                assert_eq!(seen_at_once(tried), expected);
            }
            Step::Drain(index) => loop {
                let expected = model.receive(&mut subscribers, index % n, true);
                let of = &mut subscribers[index % n];
                let polled = seen(poll(&mut of.receiver));
                assert_eq!(polled, expected);
                if matches!(polled, Expected::Nothing | Expected::End) {
                    of.is_parked = false;
                    break;
                }
            },
            Step::Subscribe(index) => {
                let receiver = subscribers[index % n].receiver.subscribe();
                subscribers.push(Subscriber::new(receiver));
            }
            Step::Close(index) => {
                let of = &mut subscribers[index % n];
                of.receiver.close();
                of.is_closed = true;
                of.queue.clear();
            }
            Step::CloseFromElsewhere(index) => {
                let of = &mut subscribers[index % n];
                of.receiver.close_handle().close();
                of.is_closed = true;
                of.queue.clear();
            }
            Step::Drop(_) if n == 1 => {}
            Step::Drop(index) => drop(subscribers.swap_remove(index % n)),
        }
        for of in &mut subscribers {
            assert_eq!(of.receiver.len(), of.queue.len());
            assert_eq!(of.receiver.n_lost(), of.n_lost);
            assert!(!waits_for_slowest || of.n_lost == 0);
        }
        let statistics = subscribers[0].receiver.statistics();
        assert_eq!(
            statistics.n_pulls as usize + feeder.n_left(),
            n_sent as usize
        );
        let n_open = subscribers.iter().filter(|of| !of.is_closed).count();
        assert_eq!(statistics.subscribers.len(), n_open);
        assert_eq!(statistics.puller, None);
    }
}

/// Whoever has parked and could go on has been woken.
fn check_wakes(subscribers: &mut [Subscriber]) {
    let is_blocked = subscribers
        .iter()
        .any(|of| !of.is_closed && of.queue.len() >= of.receiver.max_buffer_size());
    for of in subscribers {
        if of.is_parked && !of.is_closed && !is_blocked {
            assert!(
                of.task.wakes.take() > 0,
                "a parked subscriber was not woken"
            );
            of.is_parked = false;
        }
    }
}

/// Received and lost values of one subscriber on one of two threads.
struct Tally {
    /// No value before this one is expected, and at the latest this one after it.
    earliest: u64,
    latest: u64,
    /// The next value, once the first was seen.
    next: Option<u64>,
    n_lost_before_first: u64,
}

impl Tally {
    fn lost(&mut self, count: u64) {
        match &mut self.next {
            Some(next) => *next += count,
            None => self.n_lost_before_first += count,
        }
    }

    fn value(&mut self, value: u64) {
        match self.next {
            Some(next) => assert_eq!(value, next),
            None => {
                let first = value - self.n_lost_before_first;
                assert!(
                    (self.earliest..=self.latest).contains(&first),
                    "joined elsewhere"
                );
            }
        }
        self.next = Some(value + 1);
    }

    /// Received + lost = broadcast since it joined.
    fn end(&self, total: u64) {
        match self.next {
            Some(next) => assert_eq!(next, total),
            None => {
                let first = total - self.n_lost_before_first;
                assert!((self.earliest..=self.latest).contains(&first));
            }
        }
    }
}

fn run_thread(
    feeder: &Feeder<u32>,
    first: BroadcastReceiver<Feed<u32>>,
    steps: &[Step],
    send: impl Fn(&Feeder<u32>, u8),
) -> Vec<(BroadcastReceiver<Feed<u32>>, Tally)> {
    let tally = Tally {
        earliest: 0,
        latest: 0,
        next: None,
        n_lost_before_first: 0,
    };
    let mut subscribers = vec![(first, tally)];
    for step in steps {
        let n = subscribers.len();
        let receive = |(receiver, tally): &mut (BroadcastReceiver<_>, Tally)| {
            match seen(poll(receiver)) {
                Expected::Value(value) => tally.value(value.into()),
                Expected::Lost(count) => tally.lost(count),
                Expected::Nothing | Expected::End => return false,
            }
            true
        };
        match step {
            Step::Send(count) => send(feeder, *count),
            Step::End => {}
            Step::Receive(index) | Step::Park(index) | Step::TryReceive(index) => {
                receive(&mut subscribers[index % n]);
            }
            Step::Drain(index) => {
                for _ in 0..50 {
                    if !receive(&mut subscribers[index % n]) {
                        break;
                    }
                }
            }
            Step::Subscribe(index) => {
                let of = &subscribers[index % n].0;
                let earliest = of.statistics().n_pulls;
                let receiver = of.subscribe();
                // A pull under way may be counted after the subscription is made and belong before it.
                let latest = of.statistics().n_pulls + 1;
                let tally = Tally {
                    earliest: earliest.saturating_sub(1),
                    latest,
                    next: None,
                    n_lost_before_first: 0,
                };
                subscribers.push((receiver, tally));
            }
            Step::Drop(index) | Step::Close(index) | Step::CloseFromElsewhere(index) => {
                if n > 1 {
                    subscribers.swap_remove(index % n);
                }
            }
        }
    }
    subscribers
}

fn windows() -> impl Strategy<Value = usize> {
    prop_oneof![1..6_usize, Just(31), Just(64), Just(65)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    /// On one thread every single answer is known: each subscriber is given what its queue says, and its losses exactly.
    #[test]
    fn one_thread_does_what_queues_do(window in windows(), steps in prop::collection::vec(step(), 1..200)) {
        replay(window, false, steps);
    }

    /// The same, when a full window waits for the slowest.
    #[test]
    fn one_thread_that_waits_for_the_slowest(window in windows(), steps in prop::collection::vec(step(), 1..200)) {
        replay(window, true, steps);
    }

    /// On two threads: in order, no duplicates, and received + lost = broadcast since it joined, for every subscriber.
    #[test]
    fn two_threads_lose_nothing_untold(
        window in windows(),
        steps in prop::collection::vec(step(), 1..150),
        other_steps in prop::collection::vec(step(), 1..150),
    ) {
        let (feeder, source) = feed();
        let first = broadcast_receiver(source, window).unwrap();
        let second = first.subscribe();
        let n_sent = std::sync::Mutex::new(0_u32);
        let send = |feeder: &Feeder<u32>, count: u8| {
            let mut n_sent = n_sent.lock().unwrap();
            let values = *n_sent..*n_sent + u32::from(count);
            *n_sent = values.end;
            feeder.send_all(values);
        };
        let mut all = thread::scope(|scope| {
            let other = scope.spawn(|| run_thread(&feeder, second, &other_steps, send));
            let mut all = run_thread(&feeder, first, &steps, send);
            all.extend(other.join().unwrap());
            all
        });
        feeder.end();
        let total = u64::from(*n_sent.lock().unwrap());
        // One may have to yield to all the others, as often as there are blocks.
        for _ in 0..all.len() {
            for (receiver, tally) in &mut all {
                loop {
                    match seen(poll(receiver)) {
                        Expected::Value(value) => tally.value(value.into()),
                        Expected::Lost(count) => tally.lost(count),
                        Expected::Nothing => break,
                        Expected::End => break,
                    }
                }
            }
        }
        for (mut receiver, tally) in all {
            prop_assert_eq!(seen(poll(&mut receiver)), Expected::End);
            tally.end(total);
        }
    }
}
