//! Uses of keys among other contexts: gathered, nested in set-ups, entered one by one.

mod common;

use common::{Cache, Notes, Resource, Word, cancelled_after, errors, now, seconds, served, user};
use futures::join;
use trionics_cache::{CacheValue, maybe_open_context};
use trionics_errgroup::Failure;
use trionics_gather::{AsyncContext, Slot, acm, gather_contexts, with_context};
use trionics_nursery::testing;

/// A use of `key`.
fn open(
    cache: &Cache,
    key: Word,
    resource: Resource,
) -> impl AsyncContext<Value = CacheValue<Word, usize, Word>, Error = Word> + use<> {
    cache.context(key, move || resource.context())
}

/// A use is a context: it is entered with the value and the hit flag.
#[test]
fn a_use_is_a_context() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let outer = open(&cache, "a", Resource::new("a", &notes));
        with_context(outer, async |outer| {
            let inner = open(&cache, "a", Resource::new("a", &notes));
            with_context(inner, async |inner| {
                assert!(!outer.cache_hit() && inner.cache_hit());
                assert_eq!((*outer, *inner), (1, 1));
                assert_eq!(
                    format!("{inner:?}"),
                    "CacheValue { value: 1, cache_hit: true }"
                );
                Ok(())
            })
            .await
        })
        .await
        .unwrap();
    });
}

/// Several keys are opened at once, one of them open already, and left at once; values come in order.
#[test]
fn several_keys_are_gathered() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let (held, gathered) = join!(
            user(&cache, "b", Resource::new("b", &notes), 0, 50),
            async {
                seconds(3).await;
                let uses: Vec<_> = ["a", "b", "c"]
                    .map(|key| {
                        let resource = Resource::new(key, &notes).set_up_takes(10).exit_takes(10);
                        open(&cache, key, resource)
                    })
                    .into();
                gather_contexts(uses, async |values: Vec<CacheValue<Word, usize, Word>>| {
                    assert_eq!((now(), cache.len()), (13, 3));
                    Ok(values.iter().map(CacheValue::cache_hit).collect::<Vec<_>>())
                })
                .await
            },
        );
        assert_eq!(gathered.unwrap(), [false, true, false]);
        assert_eq!(held.unwrap().returned, 52);
        let notes = notes.take();
        assert_eq!(notes[..3], ["b sets up", "a sets up", "c sets up"]);
        assert_eq!(notes[7..], ["b exits: Completed", "b is gone"]);
    });
}

/// C-011: the same key twice in one gathering is one resource with two uses.
#[test]
fn one_key_is_gathered_twice() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let uses = ["a", "a"].map(|key| open(&cache, key, Resource::new(key, &notes)));
        let hits = gather_contexts(uses, async |values: [CacheValue<Word, usize, Word>; 2]| {
            Ok(values.map(|value| value.cache_hit()))
        })
        .await
        .unwrap();
        assert_ne!(hits[0], hits[1]);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}

/// One of several keys fails in its set-up: the others are left and torn down, and the block never runs.
#[test]
fn a_failing_key_leaves_the_others() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let uses = vec![
            open(&cache, "a", Resource::new("a", &notes)),
            open(
                &cache,
                "b",
                Resource::new("b", &notes).set_up_takes(5).set_up_fails("e"),
            ),
            open(&cache, "c", Resource::new("c", &notes).set_up_takes(100)),
        ];
        let outcome: Result<(), _> = gather_contexts(uses, async |_values| Ok(())).await;
        assert_eq!(errors(&outcome.unwrap_err()), ["e"]);
        assert_eq!(now(), 6);
        assert!(cache.is_empty());
        let mut notes = notes.take();
        assert_eq!(notes.drain(..3).count(), 3);
        notes.sort();
        assert_eq!(notes, ["a exits: Completed", "a is gone", "c unwinds"]);
    });
}

/// A gathering that is cancelled leaves all its keys, and waits for the exits it has caused.
#[test]
fn a_cancelled_gathering_leaves_all_keys() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let uses =
            ["a", "b"].map(|key| open(&cache, key, Resource::new(key, &notes).exit_takes(8)));
        let outcome = cancelled_after(
            5,
            gather_contexts(uses, async |_values| {
                seconds(1000).await;
                Ok(())
            }),
        )
        .await;
        assert!(outcome.is_none());
        assert_eq!(now(), 5 + 8);
        assert!(cache.is_empty());
    });
}

/// A context for a key that holds another key for as long as it lives.
fn holder(
    cache: &Cache,
    name: Word,
    inner: Word,
    notes: &Notes,
) -> impl FnOnce() -> InnerUse + Send + 'static {
    let (cache, notes) = (cache.clone(), notes.clone());
    move || InnerUse {
        cache,
        name,
        inner,
        notes,
    }
}

/// The context made by [`holder`].
struct InnerUse {
    cache: Cache,
    name: Word,
    inner: Word,
    notes: Notes,
}

impl AsyncContext for InnerUse {
    type Value = usize;
    type Error = Word;
    type Run = futures::future::BoxFuture<'static, Result<(), Failure<Word>>>;

    fn run(self, slot: Slot<usize>) -> Self::Run {
        Box::pin(async move {
            let Self {
                cache,
                name,
                inner,
                notes,
            } = self;
            let used = cache.context(inner, {
                let resource = Resource::new(inner, &notes);
                move || resource.context()
            });
            with_context(used, async |value: CacheValue<Word, usize, Word>| {
                let found = if value.cache_hit() { "finds" } else { "opens" };
                notes.add(format!("{name} {found} {inner}"));
                slot.provide(*value).await;
                seconds(5).await;
                notes.add(format!("{name} is gone"));
                Ok(())
            })
            .await
        })
    }
}

/// C-012: a set-up opens another key, which is new.
#[test]
fn a_set_up_opens_a_new_key() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = holder(&cache, "outer", "inner", &notes);
        maybe_open_context(&cache, "outer", make, async |hit, _value| {
            assert!(!hit);
            assert_eq!(cache.len(), 2);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(
            notes.take(),
            [
                "inner sets up",
                "outer opens inner",
                "outer is gone",
                "inner exits: Completed",
                "inner is gone"
            ]
        );
    });
}

/// C-012: a set-up opens another key, which is open; a user of that key outlives it.
#[test]
fn a_set_up_finds_an_open_key() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = holder(&cache, "outer", "inner", &notes);
        let (held, outer) = join!(
            user(&cache, "inner", Resource::new("inner", &notes), 0, 50),
            async {
                seconds(3).await;
                maybe_open_context(&cache, "outer", make, async |_hit, value| Ok(*value)).await
            }
        );
        assert_eq!((outer.unwrap(), held.unwrap().value), (1, 1));
        assert_eq!(
            notes.take(),
            [
                "inner sets up",
                "outer finds inner",
                "outer is gone",
                "inner exits: Completed",
                "inner is gone"
            ]
        );
    });
}

/// The service is cancelled: a resource goes before the one it was built on.
#[test]
fn nested_keys_are_torn_down_from_the_outside() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let make = holder(&cache, "outer", "inner", &notes);
        let (_service, held) = join!(
            cancelled_after(10, cache.serve()),
            maybe_open_context(&cache, "outer", make, async |_hit, _value| {
                seconds(1000).await;
                Ok(())
            }),
        );
        assert!(held.unwrap_err().is_all_cancelled());
        assert!(cache.is_empty());
        assert_eq!(
            notes.take(),
            [
                "inner sets up",
                "outer opens inner",
                "outer is gone",
                "inner exits: Completed",
                "inner is gone"
            ]
        );
    });
}

/// A context in a gathering that is no use of the cache fails: the uses are left like any context.
#[test]
fn a_use_is_gathered_with_other_contexts() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let other = acm(async |slot: Slot<Word>| {
            slot.provide("other").await;
            Err(Failure::leaf("the other's exit"))
        });
        let used = open(&cache, "a", Resource::new("a", &notes));
        let outcome = gather_contexts((used, other), async |(value, other)| {
            assert_eq!((*value, other), (1, "other"));
            Ok(())
        })
        .await;
        assert_eq!(errors(&outcome.unwrap_err()), ["the other's exit"]);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}
