//! Contexts whose nursery's body runs their block, and whose `provide` gets to another thread.

use std::{
    future::{Future, pending, poll_fn},
    panic::Location,
    pin::Pin,
    task::Poll,
};

use trionics_errgroup::{CancelReason, Failure};
use trionics_nursery::{
    CancelScope,
    internal::{
        Block, BlockEnd, BodyEnd, ContextPlace, Guest, Host, Invitation, RawEnd, open_children,
    },
};

use crate::tools::{Count, Gate, Threads, block_on, explore, patiently};

struct Invited {
    block: Block,
    place: ContextPlace,
    host: Option<Host>,
    location: &'static Location<'static>,
}

impl Invitation for Invited {
    fn block(&self) -> &Block {
        &self.block
    }

    fn place(&self) -> &ContextPlace {
        &self.place
    }

    fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    fn leave(&mut self) {
        self.host = None;
    }

    fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

/// What a context awaits while the block runs.
type Provide = Pin<Box<Guest<Invited>>>;

/// Runs a block with one context, which gets its `provide` after the first poll of it.
async fn with_one<C>(
    body: impl Future<Output = Result<(), Failure<()>>>,
    context: impl FnOnce(Provide) -> C,
) -> RawEnd<(), ()>
where
    C: Future<Output = Result<(), Failure<()>>>,
{
    let location = Location::caller();
    let block = Block::new(location, 1);
    let nursery = open_children(location, |children| {
        children.add_with(|host| {
            let mut provide = Box::pin(Guest::new(Invited {
                block: block.clone(),
                place: ContextPlace::default(),
                host: Some(host),
                location,
            }));
            async move {
                // With the child's own waker.
                poll_fn(|cx| {
                    assert!(provide.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                context(provide).await
            }
        });
        let run = block.clone().run(|| body);
        async move {
            match run.await {
                Ok(Ok(())) => BodyEnd::Value(()),
                Ok(Err(failure)) => BodyEnd::Failed(failure),
                Err(cancelled) => BodyEnd::Cancelled(cancelled),
            }
        }
    });
    nursery.running(&block).await
}

/// It is dropped there: the block is cancelled, and then the context is.
#[test]
fn a_provide_is_dropped_on_another_thread() {
    explore(|| {
        let threads = Threads::new();
        let end = patiently(with_one(pending(), |provide| {
            threads.run(move || drop(provide));
            pending()
        }));
        let RawEnd::Cancelled(cancelled) = end else {
            panic!("it was cancelled: {end:?}");
        };
        assert_eq!(*cancelled.reason(), CancelReason::ContextEnded);
        threads.join();
    });
}

/// It is polled there while the block ends here, and a scope around may be cancelled: it returns, and the exit runs.
#[test]
fn a_provide_is_polled_on_another_thread_while_the_block_ends() {
    for is_cancelled in [false, true] {
        explore(move || {
            let (threads, scope) = (Threads::new(), CancelScope::new());
            let (gate, ended, exits) = (Gate::new(), Gate::new(), Count::new());
            threads.run({
                let gate = gate.clone();
                move || gate.open()
            });
            if is_cancelled {
                let scope = scope.clone();
                threads.run(move || {
                    scope.cancel("on another thread");
                });
            }
            let body = async {
                gate.wait().await;
                Ok(())
            };
            let context = |provide: Provide| {
                threads.run({
                    let ended = ended.clone();
                    move || {
                        let how = block_on(provide);
                        assert!(is_cancelled || how == BlockEnd::Completed, "{how:?}");
                        ended.open();
                    }
                });
                async {
                    ended.wait().await;
                    exits.add();
                    Ok(())
                }
            };
            let outcome = patiently(scope.run(with_one(body, context)));
            assert!(
                is_cancelled || matches!(outcome, Ok(RawEnd::Value(()))),
                "{outcome:?}"
            );
            assert_eq!(exits.get(), 1);
            threads.join();
        });
    }
}
