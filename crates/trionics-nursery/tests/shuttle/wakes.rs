//! Wakes against polls, and wakers that outlive what they would wake.

use std::{
    future::{Future as _, pending},
    sync::Arc,
    task::{Context, Waker},
};

use shuttle::thread;
use trionics_nursery::{Nursery, NurseryOptions, open_nursery};

use crate::tools::{
    Count, CountDrop, Gate, Threads, Unparker, block_on, explore, patiently, poll_once, with_exit,
};

#[test]
fn a_wake_during_a_poll_is_not_lost() {
    explore(|| {
        let gates = [Gate::new(), Gate::new()];
        let openers = gates.clone().map(|gate| thread::spawn(move || gate.open()));
        let outcome = block_on(open_nursery(async |n: Nursery<'_, ()>| {
            for gate in &gates {
                n.start_soon(async { Ok(gate.wait().await) });
            }
            Ok(())
        }));
        assert!(outcome.is_ok());
        for opener in openers {
            opener.join().unwrap();
        }
    });
}

/// A child that waits twice is woken the second time although the first wake is still on its way.
#[test]
fn the_second_wake_of_a_child_is_not_taken_for_the_first() {
    explore(|| {
        let gates = [Gate::new(), Gate::new()];
        let openers = gates.clone().map(|gate| thread::spawn(move || gate.open()));
        let outcome = block_on(open_nursery(async |n: Nursery<'_, ()>| {
            n.start_soon(async {
                gates[0].wait().await;
                gates[1].wait().await;
                Ok(())
            });
            Ok(())
        }));
        assert!(outcome.is_ok());
        for opener in openers {
            opener.join().unwrap();
        }
    });
}

/// A waker that another thread keeps, clones and wakes while and after its nursery ends wakes nobody and keeps nothing.
#[test]
fn a_waker_that_outlives_its_nursery_is_harmless() {
    explore(|| {
        let gate = Gate::new();
        let dropped = Count::new();
        let unparker = Unparker::new();
        let waker = Waker::from(unparker.clone());
        let mut nursery = Box::pin(open_nursery(async |n: Nursery<'static, ()>| {
            let (waits, inside) = (gate.wait(), CountDrop(dropped.clone()));
            n.start_soon(async move {
                waits.await;
                drop(inside);
                Ok(())
            });
            pending::<Result<(), _>>().await
        }));
        let polled = nursery.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let waker_of_child = gate.take_waker().expect("it waits");
        let late = thread::spawn(move || {
            let clone = waker_of_child.clone();
            waker_of_child.wake();
            clone.wake_by_ref();
            drop(clone);
        });
        drop(nursery);
        assert_eq!(dropped.get(), 1);
        late.join().unwrap();
        drop(waker);
        assert_eq!(Arc::strong_count(&unparker), 1, "something keeps the waker");
    });
}

/// A handle's value comes from one thread while another polls the handle.
#[test]
fn a_handle_hears_of_its_value() {
    explore(|| {
        let (gate, threads) = (Gate::new(), Threads::new());
        let opener = thread::spawn({
            let gate = gate.clone();
            move || gate.open()
        });
        let outcome = block_on(open_nursery(async |n: Nursery<'static, ()>| {
            let waits = gate.wait();
            let handle = n.spawn(async move {
                waits.await;
                Ok(7)
            });
            threads.run(move || assert_eq!(block_on(handle), Ok(7)));
            Ok(())
        }));
        assert!(outcome.is_ok());
        opener.join().unwrap();
        threads.join();
    });
}

/// A handle that another thread polls hears that its nursery was dropped.
#[test]
fn a_handle_hears_of_the_drop_of_its_nursery() {
    explore(|| {
        let threads = Threads::new();
        let mut nursery = Box::pin(open_nursery(async |n: Nursery<'static, ()>| {
            let handle = n.spawn(pending::<Result<(), _>>());
            threads.run(move || assert!(block_on(handle).is_err()));
            pending::<Result<(), _>>().await
        }));
        assert!(poll_once(nursery.as_mut()).is_pending());
        drop(nursery);
        threads.join();
    });
}

/// Whoever waits for room, or until there is no child, is woken when the child ends.
#[test]
fn room_and_idleness_are_heard_of() {
    explore(|| {
        let (gates, threads) = ([Gate::new(), Gate::new()], Threads::new());
        let ran = Count::new();
        let outcome = block_on(NurseryOptions::new().limit(1).open(
            async |n: Nursery<'static, ()>| {
                let waits = gates[0].wait();
                n.start_soon(async { Ok(waits.await) });
                threads.run({
                    let gate = gates[0].clone();
                    move || gate.open()
                });
                for _ in 0..2 {
                    let (n, ran) = (n.clone(), ran.clone());
                    threads.run(move || {
                        block_on(n.start_soon_when_free(async move { Ok(ran.add()) }))
                    });
                }
                threads.run({
                    let (n, gate) = (n.clone(), gates[1].clone());
                    move || {
                        block_on(n.wait_idle());
                        gate.open();
                    }
                });
                gates[1].wait().await;
                // The two may have come after it was idle.
                while ran.get() < 2 {
                    let waits = n.wait_idle();
                    waits.await;
                    trionics_nursery::checkpoint().await;
                    thread::yield_now();
                }
                Ok(())
            },
        ));
        assert!(outcome.is_ok());
        assert_eq!(ran.get(), 2);
        threads.join();
    });
}

/// One who waits for room gives up while room comes: the next one gets it.
#[test]
fn room_that_is_given_up_goes_to_the_next() {
    explore(|| {
        let (gates, threads) = ([Gate::new(), Gate::new()], Threads::new());
        let outcome = block_on(NurseryOptions::new().limit(1).open(
            async |n: Nursery<'static, ()>| {
                let waits = gates[0].wait();
                n.start_soon(async { Ok(waits.await) });
                let mut first = Box::pin(n.start_soon_when_free(async { Ok(()) }));
                assert!(poll_once(first.as_mut()).is_pending());
                threads.run({
                    let (n, gate) = (n.clone(), gates[1].clone());
                    move || block_on(n.start_soon_when_free(async move { Ok(gate.open()) }))
                });
                threads.run({
                    let gate = gates[0].clone();
                    move || gate.open()
                });
                threads.run(move || drop(first));
                gates[1].wait().await;
                Ok(())
            },
        ));
        assert!(outcome.is_ok());
        threads.join();
    });
}

/// A child that ends the nursery is told by a thread; the nursery ends in the same way on each schedule.
#[test]
fn what_fails_on_one_wake_stops_what_waits_for_another() {
    explore(|| {
        let gates = [Gate::new(), Gate::new()];
        let openers = gates.clone().map(|gate| thread::spawn(move || gate.open()));
        let exits = Count::new();
        let outcome = patiently(open_nursery(async |n: Nursery<'_, ()>| {
            n.start_soon(async {
                with_exit(gates[0].wait(), exits.clone()).await;
                Ok(())
            });
            n.start_soon(async {
                gates[1].wait().await;
                Err(().into())
            });
            Ok(())
        }));
        assert_eq!(outcome.unwrap_err().errors().count(), 1);
        assert_eq!(exits.get(), 1);
        for opener in openers {
            opener.join().unwrap();
        }
    });
}

/// Room for two comes at once, and the two who wait for it need each other: the first one passes the news on.
#[test]
fn room_for_two_is_passed_on() {
    explore(|| {
        let (first, threads) = ([Gate::new(), Gate::new()], Threads::new());
        let (meet, done) = ([Gate::new(), Gate::new()], [Gate::new(), Gate::new()]);
        let outcome = block_on(NurseryOptions::new().limit(2).open(
            async |n: Nursery<'static, ()>| {
                for gate in &first {
                    let waits = gate.wait();
                    n.start_soon(async { Ok(waits.await) });
                }
                for index in 0..2 {
                    let (n, own, done) = (n.clone(), meet[index].clone(), done[index].clone());
                    let other = meet[1 - index].wait();
                    threads.run(move || {
                        block_on(n.start_soon_when_free(async move {
                            own.open();
                            other.await;
                            done.open();
                            Ok(())
                        }));
                    });
                }
                let gates = first.clone();
                threads.run(move || gates.iter().for_each(|gate| gate.open()));
                done[0].wait().await;
                done[1].wait().await;
                Ok(())
            },
        ));
        assert!(outcome.is_ok());
        threads.join();
    });
}
