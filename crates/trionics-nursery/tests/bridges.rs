//! Scopes that follow a signal from elsewhere, and scopes as tokens for code elsewhere.

use std::{
    future::{pending, poll_fn, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use trionics_nursery::{
    CancelReason, CancelScope, Nursery, cancel_requested, open_nursery, shield, sleep, testing,
};

mod common;
use common::{Drawer, Gate, Notes, Probe, Word, never, panic_of, pause};

mod run_until {
    use super::*;

    #[test]
    fn the_signal_cancels_the_scope_and_exits_run() {
        let (signal, notes) = (Gate::new(), Notes::new());
        let scope = CancelScope::new();
        let mut probe = Probe::new(scope.run_until(signal.wait(), async {
            shield(async {
                cancel_requested().await;
                pause().await;
                notes.add("exit");
            })
            .await;
            never().await;
        }));
        probe.waits();
        signal.open();
        let cancelled = probe.ends().unwrap_err();
        assert_eq!(cancelled.reason(), &CancelReason::Signal);
        assert!(cancelled.location().file().ends_with("bridges.rs"));
        assert_eq!(notes.take(), ["exit"]);
        assert!(scope.is_caught());
    }

    /// N-049: what is ready in the same poll counts.
    #[test]
    fn a_future_that_is_ready_wins_over_a_signal_that_is() {
        let mut probe = Probe::new(CancelScope::new().run_until(ready(()), ready(5)));
        assert_eq!(probe.ends(), Ok(5));
        let mut probe = Probe::new(CancelScope::new().run_until(ready(()), async {
            pause().await;
            5
        }));
        assert_eq!(
            probe.ends(),
            Ok(5),
            "it was woken in the poll in which the signal came"
        );
        let mut probe = Probe::new(CancelScope::new().run_until(ready(()), never()));
        assert!(probe.ends().is_err());
    }

    #[test]
    fn the_signal_is_not_polled_again_once_it_came_or_does_not_matter() {
        let n_polls = &AtomicUsize::new(0);
        let signal = |ends| {
            poll_fn(move |_| {
                n_polls.fetch_add(1, Ordering::SeqCst);
                if ends { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        let gate = Gate::new();
        let scope = CancelScope::new();
        let mut probe = Probe::new(scope.run_until(signal(true), shield(gate.wait())));
        for _ in 0..5 {
            assert!(probe.poll().is_pending());
        }
        assert_eq!(n_polls.swap(0, Ordering::SeqCst), 1);
        gate.open();
        probe.ends().unwrap();

        // Cancelled for another reason.
        let gate = Gate::new();
        let scope = CancelScope::new();
        let mut probe = Probe::new(scope.run_until(signal(false), shield(gate.wait())));
        probe.waits();
        scope.cancel("by hand");
        n_polls.store(0, Ordering::SeqCst);
        for _ in 0..5 {
            assert!(probe.poll().is_pending());
        }
        assert_eq!(n_polls.load(Ordering::SeqCst), 0);
        gate.open();
        probe.ends().unwrap();
        assert_eq!(scope.cancelled().unwrap().reason().to_string(), "by hand");
    }

    /// Rule 5: an outer cancellation is not this scope's to hear of.
    #[test]
    fn under_an_outer_cancellation_it_parks() {
        let outer = CancelScope::new();
        let notes = Notes::new();
        let mut probe = Probe::new(outer.run(async {
            let _ = CancelScope::new().run_until(pending::<()>(), never()).await;
            notes.add("went on");
        }));
        probe.waits();
        outer.cancel("outer");
        assert_eq!(probe.ends().unwrap_err().reason().to_string(), "outer");
        assert!(notes.take().is_empty());
    }

    #[test]
    fn a_signal_that_panics_lets_the_exits_run_first() {
        let (gate, notes) = (Gate::new(), Notes::new());
        let signal = async {
            pause().await;
            panic!("a broken signal");
        };
        let mut probe = Probe::new(CancelScope::new().run_until(signal, async {
            shield(gate.wait()).await;
            notes.add("exit");
            never().await;
        }));
        probe.waits();
        assert!(notes.take().is_empty());
        gate.open();
        assert_eq!(probe.panics(), "a broken signal");
        assert_eq!(notes.take(), ["exit"]);
    }

    /// Rule 12: a panic outranks parking.
    #[test]
    fn a_signal_that_panics_is_heard_under_an_outer_cancellation() {
        let outer = CancelScope::new();
        let signal = async {
            pause().await;
            outer.cancel("outer");
            panic!("a broken signal");
        };
        let mut probe = Probe::new(outer.run(CancelScope::new().run_until(signal, never())));
        assert_eq!(probe.panics(), "a broken signal");
    }

    #[test]
    fn a_signal_may_be_a_sleep_on_the_scopes_clock() {
        testing::run(async {
            let outcome = CancelScope::new()
                .run_until(sleep(Duration::from_secs(5)), never())
                .await;
            assert!(outcome.is_err());
            assert_eq!(testing::elapsed(), Duration::from_secs(5));
        });
    }

    #[test]
    fn a_token_of_tokios_is_a_signal() {
        let token = CancellationToken::new();
        let mut probe = Probe::new(CancelScope::new().run_until(token.cancelled(), never()));
        probe.waits();
        thread::scope(|threads| {
            threads.spawn(|| token.cancel());
        });
        assert!(probe.ends().is_err());
    }

    #[test]
    fn dropped_before_its_end_it_drops_both() {
        let notes = Notes::new();
        let (body, signal) = (notes.on_drop("body"), notes.on_drop("signal"));
        let mut probe = Probe::new(CancelScope::new().run_until(
            async {
                let _signal = signal;
                never().await
            },
            async {
                let _body = body;
                never().await
            },
        ));
        probe.waits();
        probe.cut();
        assert_eq!(notes.take(), ["body", "signal"]);
    }

    #[test]
    fn a_scope_is_entered_once() {
        let scope = CancelScope::new();
        common::ends(scope.run(ready(()))).unwrap();
        let message = panic_of(|| common::ends(scope.run_until(pending::<()>(), ready(()))));
        assert!(message.contains("entered a second time"), "{message}");
    }
}

mod wait_cancelled {
    use super::*;

    #[test]
    fn it_is_woken_by_the_scopes_cancellation() {
        let scope = CancelScope::new();
        let mut probe = Probe::new(scope.wait_cancelled());
        probe.waits();
        scope.cancel("closing time");
        assert!(probe.is_woken());
        assert_eq!(probe.ends().reason().to_string(), "closing time");
        assert_eq!(
            common::ends(scope.wait_cancelled()).reason().to_string(),
            "closing time"
        );
    }

    #[test]
    fn it_is_woken_by_a_cancellation_further_out_unless_a_shield_is_in_between() {
        let (outer, scope, shielded) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
        shielded.set_shielded(true);
        let mut probe = Probe::new(
            outer.run(async { futures::join!(scope.run(never()), shielded.run(never())) }),
        );
        probe.waits();
        let mut waits = Probe::new(scope.wait_cancelled());
        let mut waits_behind_a_shield = Probe::new(shielded.wait_cancelled());
        waits.waits();
        waits_behind_a_shield.waits();
        outer.cancel("outer");
        assert_eq!(waits.ends().reason().to_string(), "outer");
        waits_behind_a_shield.waits();
        shielded.set_shielded(false);
        assert_eq!(waits_behind_a_shield.ends().reason().to_string(), "outer");
    }

    /// What the code after the scope is cancelled by does not concern a scope that has ended.
    #[test]
    fn a_scope_that_has_ended_is_not_cancelled_by_what_comes_after() {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let waits = Drawer::new();
        let mut probe = Probe::new(outer.run(async {
            inner
                .run(async {
                    let mut wait = Probe::new(inner.wait_cancelled());
                    wait.waits();
                    waits.put(wait);
                })
                .await
                .unwrap();
            never().await;
        }));
        probe.waits();
        outer.cancel("later");
        assert!(probe.ends().is_err());
        waits.take().waits();
    }

    /// It is nobody's frame: a cancelled scope does not wait for it.
    #[test]
    fn nobody_waits_for_it() {
        let scope = CancelScope::new();
        let mut waits = Probe::new(scope.wait_cancelled());
        let mut probe = Probe::new(scope.run(never()));
        probe.waits();
        waits.waits();
        scope.cancel("stop");
        probe.ends().unwrap_err();
        waits.ends();
    }

    #[test]
    fn a_nurserys_scope_can_be_waited_for_from_another_thread() {
        let heard = Drawer::new();
        let outcome = futures::executor::block_on(open_nursery(async |n: Nursery<'_, Word>| {
            let wait = n.cancel_scope().wait_cancelled();
            heard.put(thread::spawn(|| {
                futures::executor::block_on(wait).reason().to_string()
            }));
            n.cancel("enough");
            Ok(())
        }));
        outcome.unwrap();
        assert_eq!(heard.take().join().unwrap(), "enough");
    }
}

mod on_cancel {
    use super::*;

    #[test]
    fn the_callback_is_called_once_with_the_reason() {
        let (scope, notes) = (CancelScope::new(), Notes::new());
        let noted = notes.clone();
        let guard = scope.on_cancel(move |cancelled| noted.add(cancelled.to_string()));
        let mut probe = Probe::new(scope.run(never()));
        probe.waits();
        assert!(notes.take().is_empty());
        scope.cancel("closing time");
        assert_eq!(notes.take(), ["cancelled: closing time"]);
        probe.ends().unwrap_err();
        drop(guard);
        assert!(notes.take().is_empty());
    }

    #[test]
    fn a_scope_that_is_cancelled_calls_back_at_once() {
        let (scope, notes) = (CancelScope::new(), Notes::new());
        scope.cancel("before");
        let noted = notes.clone();
        let _guard = scope.on_cancel(move |cancelled| noted.add(cancelled.to_string()));
        assert_eq!(notes.take(), ["cancelled: before"]);
    }

    #[test]
    fn a_guard_that_is_dropped_takes_the_callback_back() {
        let (scope, notes) = (CancelScope::new(), Notes::new());
        let (noted, gone) = (notes.clone(), notes.on_drop("dropped"));
        let guard = scope.on_cancel(move |_| {
            let _gone = gone;
            noted.add("called");
        });
        drop(guard);
        assert_eq!(notes.take(), ["dropped"]);
        scope.cancel("stop");
        assert!(notes.take().is_empty());
    }

    /// The end of the scope wakes the callback's place, and it is not taken for a cancellation.
    #[test]
    fn a_scope_that_ends_calls_nobody_and_lets_the_callback_go() {
        let (outer, inner, notes) = (CancelScope::new(), CancelScope::new(), Notes::new());
        let (noted, gone) = (notes.clone(), notes.on_drop("dropped"));
        let guard = inner.on_cancel(move |_| {
            let _gone = gone;
            noted.add("called");
        });
        let mut probe = Probe::new(outer.run(async {
            inner.run(pause()).await.unwrap();
            notes.add("after");
            never().await;
        }));
        probe.waits();
        assert_eq!(notes.take(), ["dropped", "after"]);
        outer.cancel("later");
        probe.ends().unwrap_err();
        assert!(notes.take().is_empty());
        drop(guard);
    }

    /// The callback may call back in.
    #[test]
    fn a_callback_may_cancel_look_and_listen() {
        let (scope, other, notes) = (CancelScope::new(), CancelScope::new(), Notes::new());
        let (noted, handle, further) = (notes.clone(), scope.clone(), other.clone());
        let _guard = scope.on_cancel(move |_| {
            assert!(handle.is_cancelled() && !handle.cancel("again"));
            further.cancel("in turn");
            let _guard = handle.on_cancel(move |_| noted.add("called inside"));
        });
        scope.cancel("first");
        assert!(other.is_cancelled());
        assert_eq!(notes.take(), ["called inside"]);
    }

    #[test]
    fn a_callback_that_panics_does_so_in_the_one_who_cancels_and_the_others_are_told() {
        let (scope, notes) = (CancelScope::new(), Notes::new());
        let noted = notes.clone();
        let _guards = [
            scope.on_cancel(|_| panic!("a broken callback")),
            scope.on_cancel(move |_| noted.add("told")),
        ];
        assert_eq!(panic_of(|| scope.cancel("stop")), "a broken callback");
        assert_eq!(notes.take(), ["told"]);
    }

    #[test]
    fn nothing_is_kept_by_a_scope_and_its_callback() {
        let (scope, kept) = (CancelScope::new(), Arc::new(()));
        let held = Arc::clone(&kept);
        let guard = scope.on_cancel(move |_| drop(held));
        drop((scope, guard));
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[test]
    fn a_token_of_tokios_follows_a_scope() {
        let (scope, token) = (CancelScope::new(), CancellationToken::new());
        let _guard = scope.on_cancel({
            let token = token.clone();
            move |_| token.cancel()
        });
        let child = token.child_token();
        let mut foreign = Probe::new(child.cancelled());
        foreign.waits();
        scope.cancel("closing time");
        foreign.ends();
    }
}
