//! Shapes in which people will write nurseries: that each compiles is the point, that it runs comes with it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::FutureExt as _;
use trionics_nursery::{
    CancelScope, Failure, Nursery, checkpoint, in_current_scope, open_nursery, shield,
};

mod common;
use common::{Word, ends, errors, never, pause};

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

fn require_send<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn an_async_closure_by_name() {
    let data = [1, 2, 3];
    let outcome: Result<usize, Failure<Word>> = ends(open_nursery(async |n| {
        n.start_soon(async {
            pause().await;
            assert_eq!(data.len(), 3);
            Ok(())
        });
        Ok(data.len())
    }));
    assert_eq!(outcome, Ok(3));
}

#[test]
fn a_closure_that_returns_an_async_move_block() {
    let data = [1, 2, 3];
    let borrowed = &data;
    let outcome = ends(open_nursery(|n: Nursery<'_, Word>| async move {
        n.start_soon(async move {
            pause().await;
            assert_eq!(borrowed.len(), 3);
            Ok(())
        });
        Ok(borrowed.len())
    }));
    assert_eq!(outcome, Ok(3));
}

#[test]
fn a_closure_that_calls_an_async_function() {
    async fn work<'env>(n: Nursery<'env, Word>, data: &'env [u32]) -> Result<u32, Failure<Word>> {
        let sum = n.spawn(async move { Ok(data.iter().sum()) });
        Ok(sum.await.unwrap())
    }
    let data = [1, 2, 3];
    assert_eq!(ends(open_nursery(|n| work(n, &data))), Ok(6));
}

#[test]
fn tokio_spawn_of_a_nursery_that_borrows_the_blocks_locals() {
    let total = on_tokio(async {
        let table = vec![1_usize, 2, 3];
        let total = AtomicUsize::new(0);
        open_nursery(async |n: Nursery<'_, Word>| {
            for number in &table {
                n.start_soon(async {
                    tokio::task::yield_now().await;
                    total.fetch_add(*number, Ordering::SeqCst);
                    Ok(())
                });
            }
            tokio::task::yield_now().await;
            Ok(())
        })
        .await
        .unwrap();
        total.into_inner() + table.len()
    });
    assert_eq!(total, 9);
}

#[test]
fn tokio_spawn_of_nested_nurseries() {
    let total = on_tokio(async {
        let rows = vec![vec![1_usize, 2], vec![3, 4]];
        let counter = AtomicUsize::new(0);
        let total = &counter;
        open_nursery(async |outer: Nursery<'_, Word>| {
            for row in &rows {
                outer.start_soon(async move {
                    open_nursery(async |inner: Nursery<'_, Word>| {
                        for number in row {
                            inner.start_soon(async {
                                tokio::task::yield_now().await;
                                total.fetch_add(*number, Ordering::SeqCst);
                                Ok(())
                            });
                        }
                        Ok(())
                    })
                    .await
                });
            }
            open_nursery(async |inner: Nursery<'_, Word>| {
                // A child of the outer nursery, started in the inner one's body.
                outer.start_soon(async {
                    total.fetch_add(100, Ordering::SeqCst);
                    Ok(())
                });
                inner.start_soon(async { Ok(()) });
                Ok(())
            })
            .await
        })
        .await
        .unwrap();
        counter.into_inner()
    });
    assert_eq!(total, 110);
}

#[test]
fn a_trait_method_that_returns_a_sendable_future() {
    trait Service {
        fn serve(&self, name: &str) -> impl Future<Output = Result<usize, Failure<Word>>> + Send;
    }
    struct Counter {
        base: usize,
    }
    impl Service for Counter {
        #[allow(clippy::manual_async_fn, reason = "the shape under test")]
        fn serve(&self, name: &str) -> impl Future<Output = Result<usize, Failure<Word>>> + Send {
            async move {
                let total = AtomicUsize::new(self.base);
                open_nursery(async |n: Nursery<'_, Word>| {
                    n.start_soon(async {
                        checkpoint().await;
                        total.fetch_add(name.len(), Ordering::SeqCst);
                        Ok(())
                    });
                    Ok(())
                })
                .await?;
                Ok(total.into_inner())
            }
        }
    }
    async fn twice(service: impl Service + Sync) -> Result<usize, Failure<Word>> {
        Ok(service.serve("one").await? + service.serve("three").await?)
    }
    let total = on_tokio(async { twice(Counter { base: 10 }).await.unwrap() });
    assert_eq!(total, 28);
}

#[test]
fn a_helper_that_takes_the_handle_and_a_borrow() {
    async fn helper<'env>(n: Nursery<'env, Word>, text: &'env str) -> usize {
        n.start_soon(async move {
            checkpoint().await;
            assert!(!text.is_empty());
            Ok(())
        });
        text.len()
    }
    let length = on_tokio(async {
        let text = String::from("borrowed");
        open_nursery(async |n: Nursery<'_, Word>| {
            let first = helper(n.clone(), &text).await;
            Ok(first + helper(n, &text[..2]).await)
        })
        .await
        .unwrap()
    });
    assert_eq!(length, 10);
}

#[test]
fn a_helper_that_takes_the_handle_by_reference() {
    fn start_many<'env>(n: &Nursery<'env, Word>, count: &'env AtomicUsize) {
        for _ in 0..3 {
            n.start_soon(async {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
        }
    }
    let count = AtomicUsize::new(0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        start_many(&n, &count);
        start_many(&n, &count);
        Ok(())
    }))
    .unwrap();
    assert_eq!(count.into_inner(), 6);
}

#[test]
fn select_in_the_body() {
    let which = on_tokio(async {
        open_nursery(async |n: Nursery<'_, Word>| {
            let quick = n.spawn(async { Ok("quick") });
            n.start_soon(async {
                checkpoint().await;
                Ok(())
            });
            tokio::select! {
                value = quick => Ok(value.unwrap()),
                () = std::future::pending() => Ok("never"),
            }
        })
        .await
        .unwrap()
    });
    assert_eq!(which, "quick");
    let which = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let mut quick = n.spawn(async { Ok("quick") }).fuse();
        futures::select_biased! {
            () = never().fuse() => Ok("never"),
            value = quick => Ok(value.unwrap()),
        }
    }));
    assert_eq!(which, Ok("quick"));
}

#[test]
fn a_recursive_child() {
    fn visit<'env>(n: Nursery<'env, Word>, depth: usize, visited: &'env AtomicUsize) {
        let again = n.clone();
        n.start_soon(async move {
            checkpoint().await;
            visited.fetch_add(1, Ordering::SeqCst);
            if depth > 0 {
                visit(again.clone(), depth - 1, visited);
                visit(again, depth - 1, visited);
            }
            Ok(())
        });
    }
    let visited = on_tokio(async {
        let visited = AtomicUsize::new(0);
        open_nursery(async |n: Nursery<'_, Word>| {
            visit(n, 5, &visited);
            Ok(())
        })
        .await
        .unwrap();
        visited.into_inner()
    });
    assert_eq!(visited, 63);
}

#[test]
fn a_generic_function_that_is_given_the_body() {
    async fn with_service<'env, T, E, F, Fut>(
        running: &'env AtomicUsize,
        body: F,
    ) -> Result<T, Failure<E>>
    where
        E: Send + 'env,
        F: FnOnce(Nursery<'env, E>) -> Fut,
        Fut: Future<Output = Result<T, Failure<E>>>,
    {
        open_nursery(async |n: Nursery<'env, E>| {
            n.start_soon(async {
                running.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            body(n).await
        })
        .await
    }
    let outcome = on_tokio(async {
        let running = AtomicUsize::new(0);
        let value = with_service(&running, async |n: Nursery<'_, Word>| {
            let child = n.spawn(async { Ok(7) });
            Ok(child.await.unwrap())
        })
        .await;
        (value.unwrap(), running.into_inner())
    });
    assert_eq!(outcome, (7, 1));
}

#[test]
fn mutable_borrows() {
    let (mut left, mut right, mut body) = (vec![1], vec![2], 0);
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        n.start_soon(async {
            pause().await;
            left.push(10);
            Ok(())
        });
        n.start_soon(async {
            pause().await;
            right.push(20);
            Ok(())
        });
        body += 1;
        Ok(())
    }))
    .unwrap();
    assert_eq!((left, right, body), (vec![1, 10], vec![2, 20], 1));

    let mut parts = [1, 2, 3, 4];
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        for part in &mut parts {
            n.start_soon(async move {
                pause().await;
                *part *= 2;
                Ok(())
            });
        }
        Ok(())
    }))
    .unwrap();
    assert_eq!(parts, [2, 4, 6, 8]);
}

#[test]
fn a_body_that_returns_a_borrow_of_the_callers_data() {
    let table = HashMap::from([("a", "first".to_owned()), ("b", "second".to_owned())]);
    let found: &str = ends(open_nursery(async |n: Nursery<'_, Word>| {
        let child = n.spawn(async { Ok(table["b"].as_str()) });
        Ok(child.await.unwrap())
    }))
    .unwrap();
    assert_eq!(found, "second");
}

#[test]
fn the_failures_type_inferred_from_an_annotated_result() {
    let outcome: Result<(), Failure<String>> = ends(open_nursery(async |n| {
        n.start_soon(async { Err("owned".to_owned().into()) });
        Ok(())
    }));
    let failure = outcome.unwrap_err();
    assert_eq!(failure.errors().collect::<Vec<_>>(), ["owned"]);

    async fn inferred() -> Result<usize, Failure<Word>> {
        open_nursery(async |n| {
            let child = n.spawn(async { Ok(7) });
            n.start_soon(async {
                checkpoint().await;
                Ok(())
            });
            Ok(child.await.unwrap())
        })
        .await
    }
    assert_eq!(ends(inferred()), Ok(7));
}

#[test]
fn the_question_mark_on_errors_trees_and_handles() {
    async fn load(text: &str) -> Result<u32, std::num::ParseIntError> {
        pause().await;
        text.parse()
    }
    async fn inner(text: &str) -> Result<u32, Failure> {
        open_nursery(async |n: Nursery<'_>| {
            let number = n.spawn(async { Ok(load(text).await?) });
            Ok(number.await?)
        })
        .await
    }
    async fn outer(texts: &[&str]) -> Result<u32, Failure> {
        let total = Mutex::new(0);
        open_nursery(async |n: Nursery<'_>| {
            for text in texts {
                n.start_soon(async {
                    let number = inner(text).await?;
                    *total.lock().unwrap() += number;
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        Ok(total.into_inner().unwrap())
    }
    assert_eq!(ends(outer(&["1", "2"])).unwrap(), 3);
    let failure = ends(outer(&["1", "x"])).unwrap_err();
    assert!(failure.find::<std::num::ParseIntError>().is_some());
    let boxed: Box<dyn std::error::Error + Send + Sync> = failure.into();
    assert!(!boxed.to_string().is_empty());
}

#[test]
fn a_failure_type_of_ones_own() {
    #[derive(Debug, PartialEq)]
    enum Trouble {
        Parse(std::num::ParseIntError),
        Empty,
    }
    impl From<std::num::ParseIntError> for Trouble {
        fn from(error: std::num::ParseIntError) -> Self {
            Self::Parse(error)
        }
    }
    fn parse(text: &str) -> Result<u32, Trouble> {
        if text.is_empty() {
            return Err(Trouble::Empty);
        }
        Ok(text.parse()?)
    }
    let failure = ends(open_nursery(async |n: Nursery<'_, Trouble>| {
        n.start_soon(async {
            shield(pause()).await;
            parse("x")?;
            Ok(())
        });
        parse("")?;
        Ok(())
    }))
    .unwrap_err();
    assert!(matches!(
        failure.errors().collect::<Vec<_>>()[..],
        [Trouble::Empty, Trouble::Parse(_)]
    ));
}

#[test]
fn nurseries_in_boxed_futures_streams_and_joins() {
    let one: futures::future::BoxFuture<'_, Result<u32, Failure<Word>>> =
        Box::pin(open_nursery(|_| async { Ok(1) }));
    let two = open_nursery(|_| async { Ok::<_, Failure<Word>>(2) }).boxed();
    let (one, two) = ends(futures::future::join(one, two));
    assert_eq!((one, two), (Ok(1), Ok(2)));
    let failing = [1, 2, 3].map(|i| {
        open_nursery(async move |_: Nursery<'_, u32>| if i == 2 { Err(i.into()) } else { Ok(i) })
    });
    let failure = ends(futures::future::try_join_all(failing)).unwrap_err();
    assert_eq!(errors(&failure), [2]);
}

#[test]
fn everything_is_sendable_when_its_parts_are() {
    let scope = CancelScope::new();
    let text = String::from("borrowed");
    let whole = require_send(async {
        scope
            .run(shield(async {
                let carried = in_current_scope(checkpoint());
                carried.await.unwrap();
                open_nursery(async |n: Nursery<'_, Word>| {
                    let child = n.spawn(async { Ok(text.len()) });
                    Ok(child.await.unwrap())
                })
                .await
            }))
            .await
    });
    assert_eq!(ends(whole).unwrap(), Ok(8));
}

#[test]
fn a_handle_may_be_sent_to_another_thread() {
    let total = AtomicUsize::new(0);
    let outcome = futures::executor::block_on(open_nursery(async |n: Nursery<'_, Word>| {
        std::thread::scope(|threads| {
            for _ in 0..4 {
                let n = n.clone();
                let total = &total;
                threads.spawn(move || {
                    for _ in 0..25 {
                        n.start_soon(async {
                            checkpoint().await;
                            total.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        });
                    }
                });
            }
        });
        Ok(())
    }));
    outcome.unwrap();
    assert_eq!(total.into_inner(), 100);
}
