//! Many children in one nursery: what opening it, starting them, running them and waiting for them costs.

use futures::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use tokio::task::JoinSet;
use trionics::{Nursery, open_nursery};

use crate::{
    Case, Group, OURS,
    support::{Host, yield_once},
};

/// The group `nursery`.
pub(super) fn group() -> Group {
    Group::new("nursery")
        .case(children_that_yield(
            "1000 children, one yield, plain host",
            "open, start, run, join; all on futures::executor::block_on, but JoinSet on the tokio runtime that it needs",
            || Host::Plain,
        ))
        .case(children_that_yield(
            "1000 children, one yield, tokio host",
            "the same, all on tokio's current-thread runtime with its drivers",
            Host::tokio,
        ))
}

const CHILDREN: u64 = 1_000;

/// Children of one type that yield once and end well. FuturesUnordered gets boxed ones, as a set of different children would.
fn children_that_yield(name: &'static str, fair: &'static str, host: fn() -> Host) -> Case {
    Case::new(name, "child", CHILDREN, fair)
        .subject(OURS, move || {
            let host = host();
            move || {
                host.run(open_nursery(async |nursery: Nursery<'_>| {
                    for _ in 0..CHILDREN {
                        nursery.start_soon(async {
                            yield_once().await;
                            Ok(())
                        });
                    }
                    Ok(())
                }))
                .expect("no child fails");
            }
        })
        .subject("FuturesUnordered", move || {
            let host = host();
            move || {
                host.run(async {
                    let mut children: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
                    for _ in 0..CHILDREN {
                        children.push(yield_once().boxed());
                    }
                    while children.next().await.is_some() {}
                })
            }
        })
        .subject("JoinSet", || {
            let host = Host::tokio();
            move || {
                host.run(async {
                    let mut children = JoinSet::new();
                    for _ in 0..CHILDREN {
                        children.spawn(yield_once());
                    }
                    while let Some(outcome) = children.join_next().await {
                        outcome.expect("no child panics");
                    }
                })
            }
        })
        .subject("moro", move || {
            let host = host();
            move || {
                host.run(async {
                    let scope = moro::async_scope!(|scope| {
                        for _ in 0..CHILDREN {
                            scope.spawn(yield_once());
                        }
                    });
                    scope.await
                })
            }
        })
}
