//! Every subscriber gets every value, and the source is asked no more than needed.

mod common;

use std::{task::Poll, thread};

use futures::{StreamExt, executor::block_on, stream};
use trionics_broadcast::broadcast_receiver;

use self::common::{Task, drain, feed, lost, next, poll, value};

/// B-001: ten subscriptions and the original handle see all of a thousand values, in order, once.
#[test]
fn every_subscriber_gets_every_value() {
    let original = broadcast_receiver(stream::iter(0..1000), 1000).unwrap();
    let mut receivers: Vec<_> = (0..10).map(|_| original.subscribe()).collect();
    receivers.push(original);
    for receiver in &mut receivers {
        assert_eq!(drain(receiver), (0..1000).collect::<Vec<_>>());
        assert_eq!(next(receiver), None);
    }
}

/// B-002: nothing is taken before somebody asks, and one ask takes one value.
#[test]
fn one_ask_takes_one_value() {
    let (feeder, source) = feed();
    feeder.send_all(0..5);
    let mut first = broadcast_receiver(source, 4).unwrap();
    let mut second = first.subscribe();
    assert_eq!(feeder.n_polls(), 0);
    assert_eq!(value(&mut first), 0);
    assert_eq!(feeder.n_left(), 4);
    assert_eq!(value(&mut second), 0);
    assert_eq!(feeder.n_left(), 4);
    assert_eq!(feeder.n_polls(), 1);
}

/// B-003: while the source is pending, it is polled by one subscriber only; the others wait for the same wake.
#[test]
fn a_pending_source_is_asked_once() {
    let (feeder, source) = feed();
    let mut receivers = vec![broadcast_receiver(source, 4).unwrap()];
    receivers.extend((0..9).map(|_| receivers[0].subscribe()).collect::<Vec<_>>());
    let tasks: Vec<_> = receivers.iter().map(|_| Task::new()).collect();
    for (receiver, task) in receivers.iter_mut().zip(&tasks) {
        assert!(task.poll(receiver).is_pending());
        assert!(task.poll(receiver).is_pending());
    }
    assert_eq!(feeder.n_polls(), 1);
    feeder.send(7);
    for (receiver, task) in receivers.iter_mut().zip(&tasks) {
        assert_eq!(task.wakes.take(), 1);
        assert_eq!(task.poll(receiver), Poll::Ready(Some(Ok(7))));
    }
    assert_eq!(feeder.n_polls(), 2);
}

/// B-004: the fastest never lags.
#[test]
fn the_fastest_never_lags() {
    let mut fast = broadcast_receiver(stream::iter(0..1000), 3).unwrap();
    let mut slow = fast.subscribe();
    assert_eq!(drain(&mut fast), (0..1000).collect::<Vec<_>>());
    assert_eq!(lost(&mut slow), 997);
}

/// B-005: a sole subscriber is passed through, also when it is the last one left.
#[test]
fn a_sole_subscriber_is_passed_through() {
    let (feeder, source) = feed();
    let mut receiver = broadcast_receiver(source, 2).unwrap();
    feeder.send_all(0..4);
    assert_eq!(value(&mut receiver), 0);
    let mut other = receiver.subscribe();
    assert_eq!(value(&mut receiver), 1);
    assert_eq!(value(&mut other), 1);
    assert_eq!(value(&mut other), 2);
    drop(receiver);
    assert_eq!(value(&mut other), 3);
    assert!(poll(&mut other).is_pending());
    feeder.send(4);
    assert_eq!(value(&mut other), 4);
}

/// B-006: a new subscription starts now, also when made from one with a backlog, or from one that has lost values.
#[test]
fn a_subscription_starts_now() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 2).unwrap();
    let mut slow = fast.subscribe();
    feeder.send_all(0..5);
    drain(&mut fast);
    let mut from_lagging = slow.subscribe();
    assert_eq!(lost(&mut slow), 3);
    let mut from_behind = slow.subscribe();
    assert!(poll(&mut from_lagging).is_pending());
    assert!(poll(&mut from_behind).is_pending());
    feeder.send(5);
    assert_eq!(value(&mut from_lagging), 5);
    assert_eq!(value(&mut from_behind), 5);
}

/// B-007: a subscription made while a sibling waits in the source gets the value that the sibling gets.
#[test]
fn a_subscription_made_during_a_pull_gets_its_value() {
    let (feeder, source) = feed();
    let mut first = broadcast_receiver(source, 2).unwrap();
    assert!(poll(&mut first).is_pending());
    let mut second = first.subscribe();
    feeder.send(1);
    assert_eq!(value(&mut first), 1);
    assert_eq!(value(&mut second), 1);
}

/// B-009: on several threads, each sees a strictly increasing sequence up to the end; received and lost add up.
#[test]
fn threads_see_increasing_sequences() {
    for window in [1, 2, 3, 64] {
        let original = broadcast_receiver(stream::iter(0..5_000_u64), window).unwrap();
        let receivers: Vec<_> = (0..4).map(|_| original.subscribe()).collect();
        drop(original);
        thread::scope(|scope| {
            for mut receiver in receivers {
                scope.spawn(move || {
                    let mut next = 0;
                    block_on(async {
                        while let Some(item) = receiver.next().await {
                            match item {
                                Ok(value) => {
                                    assert_eq!(value, next);
                                    next += 1;
                                }
                                Err(lagged) => next += lagged.count(),
                            }
                        }
                    });
                    assert_eq!(next, 5_000);
                });
            }
        });
    }
}
