//! Shapes in which people will write contexts: that each compiles is the point, that it runs comes with it.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

use trionics_gather::{Acm, AsyncContext, BlockEnd, Slot, acm, gather_contexts, with_context};
use trionics_nursery::{AnyError, CancelScope, Failure, Nursery, checkpoint, open_nursery};

mod common;
use common::{Notes, Word, ends, never, pause};

fn on_tokio<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(future).await.unwrap() })
}

/// A connection that has to be closed with awaits.
#[derive(Clone, Debug)]
struct Feed {
    addr: String,
    log: Arc<Notes>,
}

impl Feed {
    async fn connect(addr: &str, log: &Arc<Notes>) -> Result<Self, std::io::Error> {
        checkpoint().await;
        if addr.is_empty() {
            return Err(std::io::Error::other("no address"));
        }
        Ok(Self {
            addr: addr.to_owned(),
            log: Arc::clone(log),
        })
    }

    async fn unsubscribe(&self) -> Result<(), std::num::ParseIntError> {
        checkpoint().await;
        self.log.add(format!("unsubscribed {}", self.addr));
        Ok(())
    }
}

async fn open_feed(addr: &str, log: &Arc<Notes>, slot: Slot<Feed>) -> Result<(), Failure> {
    let feed = Feed::connect(addr, log).await?;
    slot.provide(feed.clone()).await;
    feed.unsubscribe().await?;
    Ok(())
}

#[test]
fn a_vector_of_contexts_made_from_an_async_function() {
    let log = Arc::new(Notes::new());
    let addrs = ["one".to_owned(), "two".to_owned()];
    let outcome: Result<usize, Failure> = ends(async {
        let contexts: Vec<_> = addrs
            .iter()
            .map(|addr| acm(|slot| open_feed(addr, &log, slot)))
            .collect();
        let n = gather_contexts(contexts, async |feeds| {
            assert_eq!(feeds[0].addr, "one");
            Ok(feeds.iter().map(|feed: &Feed| feed.addr.len()).sum())
        })
        .await?;
        Ok(n)
    });
    assert_eq!(outcome.unwrap(), 6);
    assert_eq!(log.take(), ["unsubscribed one", "unsubscribed two"]);
}

#[test]
fn tokio_spawn_of_contexts_that_borrow_the_blocks_locals() {
    let notes = on_tokio(async {
        let log = Arc::new(Notes::new());
        let addrs = ["one", "two", "three"].map(str::to_owned);
        let total = gather_contexts(
            addrs
                .each_ref()
                .map(|addr| acm(|slot| open_feed(addr, &log, slot))),
            async |feeds| {
                checkpoint().await;
                // Contexts in the block, too, with a nursery between.
                open_nursery(async |n: Nursery<'_>| {
                    for feed in &feeds {
                        let log = Arc::clone(&log);
                        n.start_soon(async move {
                            with_context(acm(|slot| open_feed("inner", &log, slot)), async |_| {
                                checkpoint().await;
                                assert!(!feed.addr.is_empty());
                                Ok(())
                            })
                            .await
                        });
                    }
                    Ok(feeds.len())
                })
                .await
            },
        )
        .await
        .unwrap();
        assert_eq!(total, 3);
        log.take()
    });
    assert_eq!(notes.len(), 6);
    assert_eq!(notes[..3], ["unsubscribed inner"; 3]);
}

#[test]
fn the_question_mark_in_set_up_body_and_exit() {
    let log = Arc::new(Notes::new());
    let failure = ends(with_context(
        acm(|slot| open_feed("", &log, slot)),
        async |_| Ok(()),
    ))
    .unwrap_err();
    assert!(failure.find::<std::io::Error>().is_some());
    let failure = ends(with_context(
        acm(|slot| open_feed("one", &log, slot)),
        async |_| {
            let number: u8 = "x".parse()?;
            Ok(number)
        },
    ))
    .unwrap_err();
    assert!(failure.find::<std::num::ParseIntError>().is_some());
    assert_eq!(log.take(), ["unsubscribed one"]);
}

#[test]
fn a_function_that_returns_a_context() {
    fn feed<'a>(
        addr: &'a str,
        log: &'a Arc<Notes>,
    ) -> impl AsyncContext<Value = Feed, Error = AnyError> + use<'a> {
        acm(move |slot| open_feed(addr, log, slot))
    }
    let log = Arc::new(Notes::new());
    let pair = (feed("one", &log), feed("two", &log));
    let names = ends(gather_contexts(pair, async |(one, two)| {
        Ok(one.addr + &two.addr)
    }));
    assert_eq!(names.unwrap(), "onetwo");
}

#[test]
fn a_type_of_ones_own_is_a_context() {
    struct Transaction {
        name: Word,
        log: Notes,
    }
    impl AsyncContext for Transaction {
        type Value = Word;
        type Error = Word;
        type Run = Pin<Box<dyn Future<Output = Result<(), Failure<Word>>> + Send>>;

        fn run(self, slot: Slot<Word>) -> Self::Run {
            Box::pin(async move {
                self.log.add("begin");
                match slot.provide(self.name).await {
                    BlockEnd::Completed => self.log.add("commit"),
                    _ => self.log.add("roll back"),
                }
                Ok(())
            })
        }
    }
    let log = Notes::new();
    let transaction = || Transaction {
        name: "transfer",
        log: log.clone(),
    };
    // As a member of a set beside others, and sent to another thread.
    let whole = with_context(transaction(), async |name| Ok(name));
    assert_eq!(on_tokio(whole), Ok("transfer"));
    ends(gather_contexts([transaction()], async |_| {
        Err::<(), _>("no money".into())
    }))
    .unwrap_err();
    assert_eq!(log.take(), ["begin", "commit", "begin", "roll back"]);
}

#[test]
fn a_context_over_a_context() {
    let log = Arc::new(Notes::new());
    let outer = acm(async |slot: Slot<String>| {
        with_context(acm(|slot| open_feed("base", &log, slot)), async |feed| {
            slot.provide(feed.addr + ", and more").await;
            pause().await;
            log.add("the upper exit");
            Ok(())
        })
        .await
    });
    let value = ends(with_context(outer, async |value| Ok(value)));
    assert_eq!(value.unwrap(), "base, and more");
    assert_eq!(log.take(), ["the upper exit", "unsubscribed base"]);
}

#[test]
fn a_context_over_a_context_unwinds_in_order_when_it_is_cancelled() {
    let scope = CancelScope::new();
    let log = Arc::new(Notes::new());
    let outer = acm(async |slot: Slot<()>| {
        with_context(acm(|slot| open_feed("base", &log, slot)), async |_| {
            slot.provide(()).await;
            pause().await;
            log.add("the upper exit");
            Ok(())
        })
        .await
    });
    let outcome = ends(scope.run(with_context(outer, async |()| {
        scope.cancel("stop");
        never().await;
        Ok(())
    })));
    assert!(outcome.is_err());
    assert_eq!(log.take(), ["the upper exit", "unsubscribed base"]);
}

#[test]
fn a_recursive_chain_of_contexts() {
    fn chain<'a>(
        left: &'a [String],
        log: &'a Arc<Notes>,
    ) -> Pin<Box<dyn Future<Output = Result<usize, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let Some((first, rest)) = left.split_first() else {
                return Ok(0);
            };
            with_context(acm(|slot| open_feed(first, log, slot)), async |feed| {
                Ok(feed.addr.len() + chain(rest, log).await?)
            })
            .await
        })
    }
    let log = Arc::new(Notes::new());
    let addrs: Vec<_> = (0..20).map(|i| i.to_string()).collect();
    let copy = Arc::clone(&log);
    let total = on_tokio(async move { chain(&addrs, &copy).await.unwrap() });
    assert_eq!(total, 30);
    let notes = log.take();
    assert_eq!(notes.len(), 20);
    assert_eq!(notes[0], "unsubscribed 19");
}

#[test]
fn a_body_as_a_closure_that_returns_a_block_or_calls_a_function() {
    async fn body(feeds: Vec<Feed>, extra: &str) -> Result<String, Failure> {
        checkpoint().await;
        Ok(feeds[0].addr.clone() + extra)
    }
    let log = Arc::new(Notes::new());
    let extra = String::from("!");
    let contexts = || vec![acm(|slot| open_feed("one", &log, slot))];
    let one = ends(gather_contexts(contexts(), |feeds| body(feeds, &extra)));
    let two = ends(gather_contexts(contexts(), |feeds: Vec<Feed>| async move {
        Ok(feeds.len())
    }));
    assert_eq!((one.unwrap(), two.unwrap()), ("one!".to_owned(), 1));
}

#[test]
fn a_value_that_borrows_from_the_caller() {
    let table = HashMap::from([("a", 1), ("b", 2)]);
    let context = acm(async |slot: Slot<&u32>| {
        slot.provide(&table["b"]).await;
        Ok::<(), Failure<Word>>(())
    });
    let found: &u32 = ends(with_context(context, async |value| Ok(value))).unwrap();
    assert_eq!(*found, 2);
}

#[test]
fn the_type_of_a_context_can_be_named() {
    type Run = fn(Slot<u32>) -> Pin<Box<dyn Future<Output = Result<(), Failure<Word>>>>>;
    fn provide(slot: Slot<u32>) -> Pin<Box<dyn Future<Output = Result<(), Failure<Word>>>>> {
        Box::pin(async move {
            slot.provide(7).await;
            Ok(())
        })
    }
    let contexts: [Acm<u32, Run>; 2] = [acm(provide), acm(provide)];
    assert_eq!(
        ends(gather_contexts(contexts, async |[a, b]| Ok(a + b))),
        Ok(14)
    );
}
