//! Who shares what with whom: keys, hits and misses.

mod common;

use common::{Cache, Notes, Resource, Seen, now, seconds, served, user};
use futures::{future::join_all, join};
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_errgroup::Failure;
use trionics_gather::{Slot, acm};
use trionics_nursery::{Nursery, open_nursery, testing};

/// C-001: ten open the key at once; it is set up once, and one is told that it was no hit.
#[test]
fn ten_users_at_once_share_one_set_up() {
    let (cache, notes) = (Cache::new(), Notes::new());
    let seen = served(&cache, async {
        join_all((0..10).map(|_| user(&cache, "a", Resource::new("a", &notes), 0, 5))).await
    });
    let seen: Vec<Seen> = seen.into_iter().map(Result::unwrap).collect();
    assert_eq!(seen.iter().filter(|seen| !seen.hit).count(), 1);
    assert!(seen.iter().all(|seen| seen.value == 1 && seen.entered == 1));
    assert_eq!(
        notes.take(),
        ["a sets up", "a exits: Completed", "a is gone"]
    );
}

/// C-001: a user that comes when the value is there gets it at once.
#[test]
fn a_late_user_hits() {
    let (cache, notes) = (Cache::new(), Notes::new());
    let (first, late) = served(&cache, async {
        let resource = Resource::new("a", &notes);
        join!(
            user(&cache, "a", resource.clone(), 0, 10),
            user(&cache, "a", resource, 4, 1),
        )
    });
    assert!(!first.unwrap().hit);
    let late = late.unwrap();
    assert!(late.hit);
    assert_eq!((late.entered, late.returned), (4, 5));
}

/// C-002: nothing is made before the first user, nor by making a use that is not entered.
#[test]
fn nothing_is_made_before_the_first_user() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes);
        let unused = cache.context("a", move || resource.context());
        seconds(3).await;
        drop(unused);
        seconds(3).await;
        assert_eq!(notes.take(), [""; 0]);
        assert_eq!(cache.len(), 0);
        user(&cache, "a", Resource::new("a", &notes), 0, 1)
            .await
            .unwrap();
        assert_eq!(notes.n_set_ups(), 1);
    });
}

/// C-003: with the same key the first opener's context is used, and the other's `make` is not called.
#[test]
fn the_first_openers_context_is_used() {
    let (cache, notes) = (Cache::new(), Notes::new());
    let (first, second) = served(&cache, async {
        join!(
            user(&cache, "key", Resource::new("mine", &notes), 0, 3),
            user(
                &cache,
                "key",
                Resource::new("yours", &notes).make_panics("it was called"),
                1,
                1
            ),
        )
    });
    assert_eq!(first.unwrap().value, second.unwrap().value);
    assert_eq!(
        notes.take(),
        ["mine sets up", "mine exits: Completed", "mine is gone"]
    );
}

/// C-004: keys have users of their own: b comes and goes while a is held, and coming again is a miss.
#[test]
fn keys_are_counted_apart() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let (a, b) = join!(
            user(&cache, "a", Resource::new("a", &notes), 0, 20),
            async {
                let first = user(&cache, "b", Resource::new("b", &notes), 2, 1).await;
                assert_eq!(cache.len(), 1);
                assert_eq!(
                    notes.take(),
                    ["a sets up", "b sets up", "b exits: Completed", "b is gone"]
                );
                (
                    first.unwrap(),
                    user(&cache, "b", Resource::new("b", &notes), 0, 1)
                        .await
                        .unwrap(),
                )
            }
        );
        assert!(!b.0.hit && !b.1.hit);
        assert_ne!(b.0.value, b.1.value);
        assert_eq!(a.unwrap().returned, 22);
    });
}

/// C-005: a slow set-up and a slow exit of one key hold up no other.
#[test]
fn a_slow_key_holds_up_no_other() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let slow = Resource::new("a", &notes).set_up_takes(50).exit_takes(50);
        let quick = Resource::new("b", &notes);
        let (a, during_set_up, during_exit) = join!(
            user(&cache, "a", slow, 0, 1),
            user(&cache, "b", quick.clone(), 10, 1),
            user(&cache, "b", quick, 60, 1),
        );
        assert_eq!(during_set_up.unwrap().returned, 13);
        assert_eq!(during_exit.unwrap().returned, 63);
        assert_eq!(a.unwrap().returned, 101);
    });
}

/// C-007: a key that looks empty is a key.
#[test]
fn empty_keys_are_keys() {
    async fn open_twice<K>(key: K)
    where
        K: Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static,
    {
        let cache: ContextCache<K, u32, &str> = ContextCache::new();
        open_nursery(async |n: Nursery<'_, &'static str>| {
            n.start_soon(cache.serve());
            let make = |value: u32| {
                move || {
                    acm(move |slot: Slot<u32>| async move {
                        slot.provide(value).await;
                        Ok(())
                    })
                }
            };
            maybe_open_context(&cache, key.clone(), make(1), async |hit, _value| {
                assert!(!hit);
                maybe_open_context(&cache, key, make(2), async |hit, value| {
                    assert_eq!((hit, *value), (true, 1));
                    Ok(())
                })
                .await
            })
            .await?;
            cache.close();
            Ok(())
        })
        .await
        .unwrap();
    }
    testing::run(async {
        open_twice(0_u8).await;
        open_twice("").await;
        open_twice(()).await;
        open_twice(None::<u8>).await;
    });
}

/// C-009: what makes keys of arguments may fold several into one, and is not asked again to leave.
#[test]
fn a_key_may_stand_for_several_arguments() {
    let (cache, notes) = (Cache::new(), Notes::new());
    let n_calls = std::cell::Cell::new(0);
    let key_of = |number: u32| {
        n_calls.set(n_calls.get() + 1);
        // Asked a second time about the same number it would say something else.
        if number % 2 == 1 && n_calls.get() <= 2 {
            "odd"
        } else {
            "even"
        }
    };
    served(&cache, async {
        let use_of = |number| user(&cache, key_of(number), Resource::new("a", &notes), 0, 5);
        let (one, three) = join!(use_of(1), use_of(3));
        assert!(!one.unwrap().hit && three.unwrap().hit);
        assert_eq!((n_calls.get(), cache.len()), (2, 0));
    });
}

/// C-011: one task opens the key twice, nested: leaving the inner use tears nothing down.
#[test]
fn uses_are_counted_and_not_tasks() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let outer = Resource::new("a", &notes);
        maybe_open_context(
            &cache,
            "a",
            move || outer.context(),
            async |hit, value| {
                assert!(!hit);
                let inner = user(&cache, "a", Resource::new("a", &notes), 0, 1).await?;
                assert!(inner.hit);
                assert_eq!((inner.value, inner.returned), (*value, now()));
                assert_eq!(notes.take(), ["a sets up"]);
                seconds(1).await;
                assert_eq!(notes.take(), [""; 0]);
                Ok(())
            },
        )
        .await
        .unwrap();
        assert_eq!(notes.take(), ["a exits: Completed", "a is gone"]);
    });
}

/// C-014: the opener makes the fan-out, which the others find by the hit flag; each generation has one.
#[test]
fn one_user_of_each_generation_is_the_opener() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        for generation in 1..=3 {
            let seen = join_all((0..10).map(|n| {
                let resource = Resource::new("a", &notes);
                user(&cache, "a", resource, n % 3, 10 - n)
            }))
            .await;
            let seen: Vec<Seen> = seen.into_iter().map(Result::unwrap).collect();
            assert_eq!(seen.iter().filter(|seen| !seen.hit).count(), 1);
            assert!(seen.iter().all(|seen| seen.value == generation));
            assert!(cache.is_empty());
        }
    });
}

/// The value is what the context provided; taking it out clones it if others share it.
#[test]
fn the_value_can_be_taken_out() {
    let cache: ContextCache<u8, String> = ContextCache::new();
    testing::run(async {
        open_nursery(async |n: Nursery<'_>| {
            n.start_soon(cache.serve());
            let make = || {
                acm(|slot: Slot<String>| async move {
                    slot.provide("a value".to_owned()).await;
                    Ok::<(), Failure>(())
                })
            };
            let taken = maybe_open_context(&cache, 1, make, async |_hit, value| {
                assert_eq!(value.len(), 7);
                assert!(!value.cache_hit());
                Ok(value.into_inner())
            })
            .await?;
            assert_eq!(taken, "a value");
            cache.close();
            Ok(())
        })
        .await
        .unwrap();
    });
}
