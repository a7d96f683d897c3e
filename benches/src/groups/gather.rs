//! Contexts that are entered and left together, and races: what it costs that the losers and the exits unwind.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all, select, select_all},
    stream::{FuturesUnordered, StreamExt},
};
use futures_concurrency::future::Race as _;
use trionics::{Failure, Settings, Slot, acm, gather_contexts, race, with_context};

use crate::{
    Case, Group, OURS,
    figures::Figures,
    support::{Host, yield_once},
};

/// The group `gather`.
pub(super) fn group() -> Group {
    Group::new("gather")
        .case(one_context())
        .case(contexts::<1>())
        .case(contexts::<10>())
        .case(contexts::<1_000>())
        .case(memory_of_contexts())
        .case(race_of_two())
        .case(race_of_sixteen())
}

/// What a set-up gives and an exit needs.
#[derive(Clone, Copy)]
struct Resource(usize);

/// A set-up with one await.
async fn enter(index: usize) -> Resource {
    yield_once().await;
    Resource(index)
}

/// An exit with one await.
async fn leave(resource: Resource) -> usize {
    yield_once().await;
    resource.0
}

async fn live(index: usize, slot: Slot<Resource>) -> Result<(), Failure> {
    let resource = enter(index).await;
    slot.provide(resource).await;
    leave(resource).await;
    Ok(())
}

/// The sum that proves that all were entered.
const fn sum_of<const N: usize>() -> usize {
    N * (N - 1) / 2
}

/// One context, without a set.
fn one_context() -> Case {
    Case::new(
        "one context, with_context",
        "context",
        1,
        "enter, use the value, leave, with an await on each side; the peer is what one writes by hand",
    )
    .subject(OURS, || {
        || {
            let context = acm(|slot| live(1, slot));
            let made = Host::Plain.run(with_context(context, async |made: Resource| Ok(made.0)));
            assert_eq!(made.ok(), Some(1));
        }
    })
    .subject("one after the other", || {
        || {
            let made = Host::Plain.run(async { leave(enter(1).await).await });
            assert_eq!(made, 1);
        }
    })
}

/// `N` contexts that await once on each side. The peers do what one writes by hand, and what no cancellation may hit.
fn contexts<const N: usize>() -> Case {
    Case::new(
        format!("{N} contexts, one yield on each side"),
        "context",
        N as u64,
        "enter all, use the values, leave all; the peers run plain futures that no failure or cancellation may interrupt",
    )
    .sized("contexts, one yield on each side", N as u64, "contexts")
    .subject(OURS, || {
        || {
            let sum = Host::Plain.run(gather_contexts(
                (0..N)
                    .map(|index| acm(move |slot| live(index, slot)))
                    .collect::<Vec<_>>(),
                async |resources: Vec<Resource>| Ok(resources.iter().map(|made| made.0).sum()),
            ));
            assert_eq!(sum.ok(), Some(sum_of::<N>()));
        }
    })
    .subject("join_all twice", || {
        || {
            let sum: usize = Host::Plain.run(async {
                let resources = join_all((0..N).map(enter)).await;
                let sum = resources.iter().map(|made| made.0).sum();
                join_all(resources.into_iter().map(leave)).await;
                sum
            });
            assert_eq!(sum, sum_of::<N>());
        }
    })
    .subject("FuturesUnordered twice", || {
        || {
            let sum: usize = Host::Plain.run(async {
                let mut entering: FuturesUnordered<_> = (0..N).map(enter).collect();
                let mut resources = Vec::with_capacity(N);
                while let Some(resource) = entering.next().await {
                    resources.push(resource);
                }
                let sum = resources.iter().map(|made| made.0).sum();
                let mut leaving: FuturesUnordered<_> = resources.into_iter().map(leave).collect();
                while leaving.next().await.is_some() {}
                sum
            });
            assert_eq!(sum, sum_of::<N>());
        }
    })
}

/// What contexts hold while their block runs, and what futures hold that are about to be entered.
fn memory_of_contexts() -> Case {
    const CONTEXTS: usize = 1_000;
    Case::new(
        "memory of 1000 contexts",
        "context",
        CONTEXTS as u64,
        "all have been entered, and the block waits; of the peers, all are being entered, the only part that they hold. The \
         futures of the contexts are part of the figure",
    )
    .figures(OURS, || {
        Figures::held("context", CONTEXTS as u64, || {
            let contexts: Vec<_> = (0..CONTEXTS)
                .map(|index| acm(move |slot| live(index, slot)))
                .collect();
            let gathered = gather_contexts(contexts, async |_: Vec<Resource>| {
                pending::<Result<(), Failure>>().await
            });
            // It is dropped before its exits have run, as it says in reports.
            let mut gathered = Box::pin(Settings::new().on_report(|_| ()).run(gathered));
            // A nursery polls so many children at once and no more.
            for _ in 0..32 {
                assert!(polled(gathered.as_mut()).is_pending());
            }
            gathered
        })
    })
    .figures("join_all twice", || {
        Figures::held("context", CONTEXTS as u64, || {
            let mut entering = Box::pin(join_all((0..CONTEXTS).map(enter)));
            assert!(polled(entering.as_mut()).is_pending());
            entering
        })
    })
    .figures("FuturesUnordered twice", || {
        Figures::held("context", CONTEXTS as u64, || {
            let mut entering: FuturesUnordered<_> = (0..CONTEXTS).map(enter).collect();
            assert!(polled(pin!(entering.next())).is_pending());
            entering
        })
    })
}

fn polled<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Yields so often, and then gives the number.
async fn after(yields: usize) -> usize {
    for _ in 0..yields {
        yield_once().await;
    }
    yields
}

fn run_race(future: impl Future<Output = usize>) {
    assert_eq!(Host::Plain.run(future), 1);
}

fn race_of_two() -> Case {
    Case::new(
        "race of 2",
        "race",
        1,
        "the first yields once, the other for ever; the peers drop the loser, ours lets it unwind",
    )
    .subject(OURS, || || run_race(race((after(1), after(usize::MAX)))))
    .subject("select", || {
        || {
            run_race(async {
                let (one, other) = (pin!(after(1)), pin!(after(usize::MAX)));
                select(one, other).await.factor_first().0
            })
        }
    })
    .subject("futures-concurrency", || {
        || run_race((after(1), after(usize::MAX)).race())
    })
}

fn race_of_sixteen() -> Case {
    let sixteen = || (0..16).map(|index| after(if index == 7 { 1 } else { usize::MAX }));
    Case::new(
        "race of 16",
        "race",
        1,
        "one yields once, the others for ever; boxed for select_all, which needs it",
    )
    .subject(OURS, move || {
        move || run_race(race(sixteen().collect::<Vec<_>>()))
    })
    .subject("select_all", move || {
        move || {
            let boxed: Vec<BoxFuture<'_, usize>> = sixteen().map(FutureExt::boxed).collect();
            run_race(async { select_all(boxed).await.0 })
        }
    })
    .subject("futures-concurrency", move || {
        move || run_race(sixteen().collect::<Vec<_>>().race())
    })
}
