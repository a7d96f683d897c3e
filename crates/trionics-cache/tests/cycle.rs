//! Set-ups and exits that wait for each other are told so at once; others are not.

mod common;

use std::{future::Future, time::Duration};

use common::{Notes, Resource, Word, now, seconds, user};
use futures::{future::BoxFuture, join};
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{Nursery, in_current_scope, open_nursery, spawn_with, testing};

type Cache = ContextCache<Word, usize, Word>;

/// A context that opens other keys of `cache` in its set-up, one after the other.
#[derive(Clone)]
struct Needs {
    cache: Cache,
    /// What each key needs.
    map: &'static [(Word, &'static [Word])],
    /// Seconds before it asks.
    after: u64,
}

impl Needs {
    fn open(&self, key: Word) -> BoxFuture<'static, Result<(), Failure<Word>>> {
        let needs = self.clone();
        Box::pin(async move {
            let cache = needs.cache.clone();
            let make = move || needs.context(key);
            maybe_open_context(&cache, key, make, async |_hit, _value| {
                seconds(1).await;
                Ok(())
            })
            .await
        })
    }

    fn context(
        self,
        key: Word,
    ) -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
        acm(move |slot: Slot<usize>| async move {
            seconds(self.after).await;
            let known = self.map.iter().find(|(name, _)| *name == key);
            for needed in known.map_or(&[][..], |(_, needed)| needed) {
                self.open(needed).await?;
            }
            slot.provide(1).await;
            Ok(())
        })
    }
}

fn needs(map: &'static [(Word, &'static [Word])]) -> Needs {
    Needs {
        cache: ContextCache::new(),
        map,
        after: 1,
    }
}

/// Runs `body` beside the service, and checks that nothing is left.
#[track_caller]
fn served<R>(cache: &Cache, body: impl Future<Output = R>) -> R {
    common::served(cache, body)
}

#[track_caller]
fn path<T: std::fmt::Debug>(outcome: Result<T, Failure<Word>>) -> Vec<String> {
    let failure = outcome.expect_err("it is a cycle");
    match failure.as_library() {
        Some(LibraryFailure::Cycle { path }) => path.iter().map(ToString::to_string).collect(),
        _ => panic!("{failure:?}"),
    }
}

/// C-013: a context that opens its own key is told at once.
#[test]
fn a_key_that_needs_itself_is_told() {
    let it = needs(&[("a", &["a"])]);
    served(&it.cache.clone(), async {
        assert_eq!(path(it.open("a").await), ["\"a\""]);
        assert_eq!(now(), 1);
    });
}

/// C-013: a cycle through other keys is told with all that are on its way, in order.
#[test]
fn a_cycle_through_other_keys_is_shown() {
    let it = needs(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
    served(&it.cache.clone(), async {
        let failure = it.open("a").await;
        assert_eq!(path(failure), ["\"c\"", "\"a\"", "\"b\""]);
        assert_eq!(now(), 3);
    });
}

/// C-013: two tasks that open two keys crosswise.
#[test]
fn a_crosswise_cycle_is_told() {
    let it = needs(&[("a", &["b"]), ("b", &["a"])]);
    served(&it.cache.clone(), async {
        let (one, two) = join!(it.open("a"), it.open("b"));
        assert_eq!(path(one).len(), 2);
        assert_eq!(path(two).len(), 2);
        assert_eq!(now(), 2);
    });
}

/// Keys that need the same one, one after the other or at once, are no cycle.
#[test]
fn a_diamond_is_no_cycle() {
    let it = needs(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"])]);
    served(&it.cache.clone(), async {
        let (a, b, c) = join!(it.open("a"), it.open("b"), it.open("c"));
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
    });
}

/// A set-up that has stopped to wait does not count: b may wait for a, which has given b up and goes on.
#[test]
fn a_wait_that_is_over_is_forgotten() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let a = {
            let (cache, notes) = (cache.clone(), notes.clone());
            move || {
                acm(move |slot: Slot<usize>| async move {
                    let b = user(&cache, "b", Resource::new("b", &notes), 0, 1);
                    assert!(common::dropped_after(2, Box::pin(b)).await.is_none());
                    seconds(18).await;
                    slot.provide(1).await;
                    Ok(())
                })
            }
        };
        let b = {
            let (cache, notes) = (cache.clone(), notes.clone());
            move || {
                acm(move |slot: Slot<usize>| async move {
                    seconds(9).await;
                    let a = user(&cache, "a", Resource::new("a", &notes), 0, 1).await?;
                    slot.provide(a.value).await;
                    Ok(())
                })
            }
        };
        let (b, a) = join!(
            maybe_open_context(&cache, "b", b, async |_hit, _value| Ok(now())),
            maybe_open_context(&cache, "a", a, async |_hit, _value| Ok(now())),
        );
        assert_eq!((a.unwrap(), b.unwrap()), (20, 21));
    });
}

/// An exit that opens its own key waits for itself, and is told.
#[test]
fn an_exit_that_needs_its_own_key_is_told() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let (inner, notes) = (cache.clone(), notes.clone());
        let make = move || {
            acm(move |slot: Slot<usize>| async move {
                slot.provide(1).await;
                user(&inner, "a", Resource::new("a", &notes), 0, 1).await?;
                Ok(())
            })
        };
        let used = maybe_open_context(&cache, "a", make, async |_hit, _value| Ok(())).await;
        assert_eq!(path(used), ["\"a\""]);
    });
}

/// A user's block may open its key and others whose set-ups need it: they hit.
#[test]
fn users_are_not_set_ups() {
    let it = needs(&[("b", &["a"])]);
    served(&it.cache.clone(), async {
        let make = {
            let it = it.clone();
            move || it.context("a")
        };
        let used = maybe_open_context(&it.cache, "a", make, async |_hit, _value| {
            it.open("a").await?;
            it.open("b").await
        });
        used.await.unwrap();
    });
}

/// Two caches that need each other.
#[test]
fn a_cycle_through_two_caches_is_told() {
    let one: Cache = ContextCache::options().name("one").build();
    let two: Cache = ContextCache::options().name("two").build();
    let cycle = served(&one.clone(), async {
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(two.serve());
            fn make(this: Cache, other: Cache) -> BoxFuture<'static, Result<(), Failure<Word>>> {
                Box::pin(async move {
                    let (next, back) = (other.clone(), this.clone());
                    let context = move || {
                        acm(move |slot: Slot<usize>| async move {
                            make(next, back).await?;
                            slot.provide(1).await;
                            Ok(())
                        })
                    };
                    maybe_open_context(&this, "a", context, async |_hit, _value| Ok(())).await
                })
            }
            let cycle = make(one.clone(), two.clone()).await;
            two.close();
            Ok(cycle)
        })
        .await
        .unwrap()
    });
    assert_eq!(path(cycle), ["two[\"a\"]", "one[\"a\"]"]);
}

/// What opens the key runs in a nursery, in a child on an executor, and in a carried future.
#[test]
fn who_opens_what_is_known_through_the_tree() {
    for way in 0..4 {
        let cache = Cache::new();
        // Threads take part, so no virtual clock.
        let served = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            let inner = cache.clone();
            let make = move || {
                acm(move |slot: Slot<usize>| async move {
                    let opening = async move {
                        let never = || {
                            acm(|slot: Slot<usize>| async move {
                                slot.provide(1).await;
                                Ok(())
                            })
                        };
                        inner.open("a", never).await.map(drop)
                    };
                    let on_executor = spawn_with(|task| {
                        std::thread::spawn(move || futures::executor::block_on(task));
                    });
                    match way {
                        0 => opening.await?,
                        1 => {
                            let (opened, ()) = join!(opening, async {});
                            opened?;
                        }
                        2 => {
                            let outcome = open_nursery(async |n: Nursery<'_, Word>| {
                                n.start_soon_on(&on_executor, opening);
                                Ok(())
                            })
                            .await;
                            return Err(outcome.unwrap_err().into_leaves().next().unwrap());
                        }
                        _ => {
                            let carried = in_current_scope(opening);
                            let thread =
                                std::thread::spawn(|| futures::executor::block_on(carried));
                            thread.join().unwrap().unwrap()?;
                        }
                    }
                    slot.provide(1).await;
                    Ok(())
                })
            };
            let opened = cache.open("a", make).await.map(drop);
            assert_eq!(path(opened), ["\"a\""], "way {way}");
            cache.close();
            Ok(())
        });
        futures::executor::block_on(served).unwrap();
    }
}

/// A bare task hides what it opens: the set-up waits, as is documented, until it is stopped.
#[test]
fn a_bare_task_hides_what_it_opens() {
    let cache = Cache::new();
    testing::run(async {
        let stopped = common::cancelled_after(50, async {
            let inner = cache.clone();
            let make = move || {
                acm(move |slot: Slot<usize>| async move {
                    // As a bare `tokio::spawn` would run it: outside the tree.
                    let mut opening = Box::pin(async move {
                        let never = || {
                            acm(|slot: Slot<usize>| async move {
                                slot.provide(1).await;
                                Ok(())
                            })
                        };
                        inner.open("a", never).await.map(drop)
                    });
                    std::future::poll_fn(|cx| {
                        trionics_nursery::outside(|| opening.as_mut().poll(cx))
                    })
                    .await?;
                    slot.provide(1).await;
                    Ok(())
                })
            };
            join!(cache.serve(), cache.open("a", make)).0
        })
        .await;
        assert!(stopped.is_none());
        assert_eq!(testing::elapsed(), Duration::from_secs(50));
    });
}
