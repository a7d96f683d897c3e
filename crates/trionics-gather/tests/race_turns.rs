//! The branches of a race that is polled in place take turns at being the first to be polled; a tie is the first one's all the same.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::Poll,
};

use futures::FutureExt as _;
use trionics_gather::{race, race_ok, try_race};
use trionics_nursery::{CancelScope, Failure, is_cancel_requested, shield};

mod common;
use common::{Notes, Probe, Word, errors, pause};

type Outcome<T> = Result<T, Failure<Word>>;

/// So many polls are looked at: far more than all of them beginning with the first branch.
const POLLS: usize = 60;

/// Ready with `output` in the poll number `at` (from 1) and later.
async fn ready_at<T>(at: usize, output: T) -> T {
    let mut n_polls = 0;
    poll_fn(|cx| {
        n_polls += 1;
        cx.waker().wake_by_ref();
        if n_polls >= at {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    output
}

/// As many things as a task may do in one poll, shared by all that runs in it.
struct Budget(Cell<usize>);

impl Budget {
    const ALL: usize = 128;

    /// Waits until there is something left for one thing to do.
    async fn spend(&self) {
        poll_fn(|cx| match self.0.get() {
            0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            left => {
                self.0.set(left - 1);
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Always has more to do than it may.
    async fn spend_all<T>(&self) -> T {
        loop {
            self.spend().await;
        }
    }
}

#[test]
fn a_branch_that_uses_up_the_budget_of_the_task_starves_no_other() {
    let budget = &Budget(Cell::new(0));
    let modest = || async {
        budget.spend().await;
        7
    };
    let last_of = |n: usize| -> Vec<_> {
        (1..n)
            .map(|_| budget.spend_all().left_future())
            .chain([modest().right_future()])
            .collect()
    };
    for mut race in [
        Probe::new(race((budget.spend_all(), modest()))),
        Probe::new(race((budget.spend_all(), budget.spend_all(), modest()))),
        Probe::new(race([
            budget.spend_all().boxed_local(),
            modest().boxed_local(),
        ])),
        Probe::new(race(last_of(3))),
        Probe::new(race(last_of(13))),
        Probe::new(race(last_of(30))),
    ] {
        let ended = (0..POLLS).find_map(|_| {
            budget.0.set(Budget::ALL);
            match race.poll() {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        });
        assert_eq!(ended, Some(7));
    }
}

#[test]
fn each_branch_is_the_first_as_often_as_the_others() {
    const N: usize = 5;
    let firsts = RefCell::new([0; N]);
    let is_first = Cell::new(true);
    let branches: Vec<_> = (0..N)
        .map(|index| {
            let (firsts, is_first) = (&firsts, &is_first);
            poll_fn(move |_| {
                if is_first.take() {
                    firsts.borrow_mut()[index] += 1;
                }
                Poll::<()>::Pending
            })
        })
        .collect();
    let mut probe = Probe::new(race(branches));
    let mut poll = || {
        is_first.set(true);
        assert!(probe.poll().is_pending());
    };
    // However many begin with the first.
    (0..POLLS).for_each(|_| poll());
    firsts.take();
    (0..10 * N).for_each(|_| poll());
    assert_eq!(firsts.take(), [10; N]);
}

#[test]
fn in_each_poll_every_branch_is_polled_once() {
    for n in [2, 3, 4, 7, 8, 30] {
        let polls = &RefCell::new(vec![0; n]);
        let branches: Vec<_> = (0..n)
            .map(|index| {
                poll_fn(move |_| {
                    polls.borrow_mut()[index] += 1;
                    Poll::<()>::Pending
                })
            })
            .collect();
        let mut probe = Probe::new(race(branches));
        for poll in 1..=POLLS {
            assert!(probe.poll().is_pending());
            assert_eq!(*polls.borrow(), vec![poll; n]);
        }
    }
}

/// Whoever is polled first, the one that stands first has won.
#[test]
fn of_several_that_are_ready_in_one_poll_the_first_wins_in_every_poll() {
    for at in 1..POLLS {
        let ends = |race: &mut Probe<'_, usize>| {
            (1..at).for_each(|_| assert!(race.poll().is_pending()));
            race.poll()
        };
        let later = usize::MAX;
        for (times, winner) in [
            ([at, at, at], 0),
            ([later, at, at], 1),
            ([later, later, at], 2),
            ([at, later, at], 0),
            ([at, at, later], 0),
        ] {
            let [one, two, three] = times;
            let tuple = (ready_at(one, 0), ready_at(two, 1), ready_at(three, 2));
            assert_eq!(
                ends(&mut Probe::new(race(tuple))),
                Poll::Ready(winner),
                "{times:?}"
            );
            let row: Vec<_> = (0..3).map(|index| ready_at(times[index], index)).collect();
            assert_eq!(
                ends(&mut Probe::new(race(row))),
                Poll::Ready(winner),
                "{times:?}"
            );
        }
    }
}

#[test]
fn a_tie_loses_no_failure_and_keeps_the_order() {
    for at in 1..POLLS {
        let both =
            |first: Outcome<u32>, second: Outcome<u32>| (ready_at(at, first), ready_at(at, second));
        let ended = |mut probe: Probe<'_, Outcome<u32>>| {
            (1..at).for_each(|_| assert!(probe.poll().is_pending()));
            let Poll::Ready(outcome) = probe.poll() else {
                panic!("both are ready in poll {at}");
            };
            outcome.map_err(|failure| errors(&failure))
        };
        let fail = |word| Err(Failure::leaf(word));
        assert_eq!(
            ended(Probe::new(try_race(both(fail("a"), fail("b"))))),
            Err(vec!["a", "b"])
        );
        assert_eq!(
            ended(Probe::new(try_race(both(Ok(1), fail("b"))))),
            Err(vec!["b"])
        );
        assert_eq!(
            ended(Probe::new(try_race(both(fail("a"), Ok(2))))),
            Err(vec!["a"])
        );
        assert_eq!(ended(Probe::new(race_ok(both(fail("a"), Ok(2))))), Ok(2));
        assert_eq!(ended(Probe::new(race_ok(both(Ok(1), Ok(2))))), Ok(1));
        let mut all = ended(Probe::new(race_ok(both(fail("a"), fail("b"))))).unwrap_err();
        all.sort_unstable();
        assert_eq!(all, ["a", "b"]);
    }
}

/// What is cancelled because another one has won must not win on its way out.
#[test]
fn a_branch_hears_of_the_decision_only_when_it_can_no_longer_win() {
    for at in 1..POLLS {
        let gives_up = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if is_cancel_requested() {
                Poll::Ready("gave up")
            } else {
                Poll::Pending
            }
        });
        let mut probe = Probe::new(race((gives_up, ready_at(at, "won"))));
        (1..at).for_each(|_| assert!(probe.poll().is_pending()));
        assert_eq!(probe.poll(), Poll::Ready("won"), "in poll {at}");
    }
}

#[test]
fn the_losers_unwind_whoever_is_polled_first() {
    for at in 1..POLLS {
        let notes = Notes::new();
        let loser = |name: Word| {
            let notes = notes.clone();
            async move {
                shield(ready_at(at + 3, ())).await;
                notes.add(name);
                pause().await;
                unreachable!("it is stopped at the await after its shield")
            }
        };
        let mut probe = Probe::new(race((loser("front"), ready_at(at, 7), loser("back"))));
        (1..at).for_each(|_| assert!(probe.poll().is_pending()));
        assert!(probe.poll().is_pending());
        assert_eq!(notes.len(), 0);
        assert_eq!(probe.ends(), 7);
        let mut unwound = notes.take();
        unwound.sort_unstable();
        assert_eq!(unwound, ["back", "front"]);
    }
}

#[test]
fn a_panic_lets_the_others_unwind_whoever_is_polled_first() {
    for at in 1..POLLS {
        for (front, back) in [(at, usize::MAX), (usize::MAX, at), (at, at)] {
            let notes = Notes::new();
            let panics = async |at, text: Word| {
                ready_at(at, ()).await;
                std::panic::panic_any(text)
            };
            let unwinds = async {
                shield(ready_at(at + 3, ())).await;
                notes.add("unwound");
                std::future::pending().await
            };
            let mut probe = Probe::new(race((
                panics(front, "front"),
                unwinds,
                panics(back, "back"),
            )));
            (1..at).for_each(|_| assert!(probe.poll().is_pending()));
            let text = probe.panics();
            assert!(
                (text == "front" && front == at) || (text == "back" && back == at),
                "{text}"
            );
            assert_eq!(notes.take(), ["unwound"]);
        }
    }
}

/// Rule 4
#[test]
fn a_winner_in_the_poll_of_the_cancellation_has_won_whoever_is_polled_first() {
    for at in 1..POLLS {
        let scope = CancelScope::new();
        let cancels = async {
            ready_at(at, ()).await;
            scope.cancel("stop");
            std::future::pending().await
        };
        let mut probe = Probe::new(scope.run(race((ready_at(at, 1), cancels, ready_at(at, 2)))));
        (1..at).for_each(|_| assert!(probe.poll().is_pending()));
        assert_eq!(probe.ends().ok(), Some(1), "in poll {at}");
    }
}
