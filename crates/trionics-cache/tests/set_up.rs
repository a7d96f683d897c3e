//! Set-ups that fail, panic, or that their opener does not wait for.

mod common;

use common::{
    Cache, NoteOnDrop, Notes, Resource, Word, cancelled_after, dropped_after, errors, panic_of,
    seconds, served, user,
};
use futures::{join, poll};
use trionics_cache::maybe_open_context;
use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{Slot, acm};
use trionics_nursery::{Nursery, checkpoint, open_nursery, testing};

/// C-026: the opener gets the failure, nothing is remembered, and the next open is a fresh miss.
#[test]
fn a_failed_set_up_is_not_remembered() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let broken = Resource::new("a", &notes).set_up_fails("e");
        let failure = user(&cache, "a", broken, 0, 1).await.unwrap_err();
        assert_eq!(failure.into_leaf().unwrap(), "e");
        assert!(cache.is_empty());
        let again = user(&cache, "a", Resource::new("a", &notes), 0, 1).await;
        assert!(!again.unwrap().hit);
    });
}

/// The set-up fails: its opener is told, and the next in the queue tries with its own context.
#[test]
fn the_next_in_the_queue_tries() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let (first, second, third, fourth) = join!(
            user(
                &cache,
                "a",
                Resource::new("1", &notes).set_up_fails("one"),
                0,
                1
            ),
            user(
                &cache,
                "a",
                Resource::new("2", &notes).set_up_fails("two"),
                0,
                1
            ),
            user(&cache, "a", Resource::new("3", &notes), 0, 1),
            user(&cache, "a", Resource::new("4", &notes), 0, 1),
        );
        assert_eq!(errors(&first.unwrap_err()), ["one"]);
        assert_eq!(errors(&second.unwrap_err()), ["two"]);
        let (third, fourth) = (third.unwrap(), fourth.unwrap());
        assert!(!third.hit && fourth.hit);
        assert_eq!((third.value, fourth.value), (3, 3));
        assert_eq!(
            notes.take(),
            [
                "1 sets up",
                "2 sets up",
                "3 sets up",
                "3 exits: Completed",
                "3 is gone"
            ]
        );
    });
}

/// Who is next in the queue tries although nobody polls it, and stays before those who poll sooner or come
/// later; once the value is there, all who wait have it, polled or not.
#[test]
fn nobody_overtakes_the_next_in_the_queue() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let open = |name: Word, fails: bool| {
            let resource = Resource::new(name, &notes);
            let resource = if fails {
                resource.set_up_fails(name)
            } else {
                resource
            };
            Box::pin(cache.open("a", move || resource.context()))
        };
        let (mut first, mut second, mut third) =
            (open("1", true), open("2", false), open("3", false));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        // The service runs; those who wait are not polled.
        seconds(1).await;
        checkpoint().await;
        assert_eq!(notes.take(), ["1 sets up", "2 sets up"]);
        let mut late = open("late", false);
        assert!(poll!(&mut late).is_pending());
        assert!(poll!(&mut third).is_pending());
        seconds(1).await;
        checkpoint().await;
        let statistics = cache.statistics();
        assert_eq!((statistics.users, statistics.waiting), (3, 0));
        let (second, third, late) = (second.await, third.await, late.await);
        let (second, third, late) = (second.unwrap(), third.unwrap(), late.unwrap());
        assert!(!second.cache_hit() && third.cache_hit() && late.cache_hit());
        assert_eq!((*second, *third, *late), (2, 2, 2));
        assert_eq!(errors(&first.await.unwrap_err()), ["1"]);
        assert!(notes.take().is_empty());
    });
}

/// C-029: what a failing set-up had acquired is released once, before its failure is told.
#[test]
fn a_failing_set_up_releases_what_it_had() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = {
            let notes = notes.clone();
            move || {
                acm(move |_slot: Slot<usize>| async move {
                    let inner = Resource::new("part", &notes).exit_takes(5).context();
                    trionics_gather::with_context(inner, async |_part| Err(Failure::leaf("e")))
                        .await
                })
            }
        };
        let outcome: Result<(), _> =
            maybe_open_context(&cache, "a", make, async |_hit, _value| Ok(())).await;
        notes.add("the opener is told");
        assert_eq!(errors(&outcome.unwrap_err()), ["e"]);
        assert_eq!(
            notes.take(),
            [
                "part sets up",
                "part exits: Failed",
                "part is gone",
                "the opener is told"
            ]
        );
    });
}

/// A context that provides nothing fails in the opener; the next one tries.
#[test]
fn a_context_that_provides_nothing_is_a_failed_set_up() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = || acm(|_slot: Slot<usize>| async { Ok(()) });
        let (first, second) = join!(
            maybe_open_context(&cache, "a", make, async |_hit, _value| Ok(())),
            user(&cache, "a", Resource::new("a", &notes), 0, 1),
        );
        let failure = first.unwrap_err();
        assert_eq!(failure.as_library(), Some(&LibraryFailure::NotProvided));
        assert!(!second.unwrap().hit);
    });
}

/// The opener goes in mid-set-up while others wait: the set-up goes on, and one of them is the opener.
#[test]
fn the_set_up_goes_on_for_those_who_wait() {
    for cancelled in [true, false] {
        let (cache, notes) = (Cache::new(), Notes::new());
        served(&cache, async {
            let resource = Resource::new("a", &notes).set_up_takes(10);
            let opener = async {
                let opener = user(&cache, "a", resource.clone(), 0, 1);
                let seen = if cancelled {
                    cancelled_after(4, opener).await
                } else {
                    dropped_after(4, opener).await
                };
                assert_eq!(common::now(), 4);
                seen
            };
            let (gone, second, third) = join!(
                opener,
                user(&cache, "a", resource.clone(), 1, 1),
                user(&cache, "a", resource.clone(), 2, 1),
            );
            assert!(gone.is_none());
            let (second, third) = (second.unwrap(), third.unwrap());
            assert_eq!((second.entered, third.entered), (10, 10));
            assert_ne!(second.hit, third.hit);
            assert_eq!(notes.n_set_ups(), 1);
        });
    }
}

/// The opener goes, and the set-up that goes on for another one fails: that one is told.
#[test]
fn who_becomes_the_opener_hears_of_the_failure() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let broken = Resource::new("a", &notes)
            .set_up_takes(10)
            .set_up_fails("e");
        let (gone, second, third) = join!(
            dropped_after(4, user(&cache, "a", broken.clone(), 0, 1)),
            user(&cache, "a", broken, 1, 1),
            user(&cache, "a", Resource::new("a", &notes), 2, 1),
        );
        assert!(gone.is_none());
        assert_eq!(errors(&second.unwrap_err()), ["e"]);
        assert_eq!(third.unwrap().value, 2);
    });
}

/// The opener goes in mid-set-up and nobody waits: the set-up is cancelled and unwound.
#[test]
fn a_set_up_that_nobody_waits_for_is_unwound() {
    for cancelled in [true, false] {
        let (cache, notes) = (Cache::new(), Notes::new());
        served(&cache, async {
            let opener = user(
                &cache,
                "a",
                Resource::new("a", &notes).set_up_takes(10),
                0,
                1,
            );
            let seen = if cancelled {
                cancelled_after(4, opener).await
            } else {
                dropped_after(4, opener).await
            };
            assert!(seen.is_none());
            seconds(1).await;
            assert_eq!(notes.take(), ["a sets up", "a unwinds"]);
            assert!(cache.is_empty());
            let again = user(&cache, "a", Resource::new("a", &notes), 0, 1).await;
            assert_eq!(again.unwrap().entered, 6);
        });
    }
}

/// A waiting user that is not the opener goes: nobody else is concerned.
#[test]
fn a_waiting_user_may_go() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).set_up_takes(10);
        let (opener, gone) = join!(
            user(&cache, "a", resource.clone(), 0, 1),
            dropped_after(4, user(&cache, "a", resource.clone(), 1, 1)),
        );
        assert!(gone.is_none());
        let opener = opener.unwrap();
        assert_eq!((opener.entered, opener.returned), (10, 12));
    });
}

/// A user that comes while an unwanted set-up unwinds waits for its end and is a fresh opener.
#[test]
fn a_stopped_set_up_is_joined_by_nobody() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let slow_to_stop = {
            let notes = notes.clone();
            move || {
                acm(move |_slot: Slot<usize>| async move {
                    let part = Resource::new("part", &notes).exit_takes(20).context();
                    trionics_gather::with_context(part, async |_part| {
                        seconds(1000).await;
                        Ok(())
                    })
                    .await
                })
            }
        };
        let (gone, late) = join!(
            dropped_after(
                4,
                maybe_open_context(&cache, "a", slow_to_stop, async |_hit, _value| Ok(())),
            ),
            user(&cache, "a", Resource::new("a", &notes), 10, 1),
        );
        assert!(gone.is_none());
        let late = late.unwrap();
        assert_eq!((late.hit, late.entered), (false, 4 + 20 + 1));
    });
}

/// The last one who waits goes in the moment in which the set-up is done, and another one comes: that
/// one is not given a resource that is on its way out.
#[test]
fn a_stopped_set_up_that_succeeds_is_torn_down() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).set_up_takes(4).exit_takes(3);
        // All of it happens at four seconds, in each order that the turns of the tasks give.
        let (_gone, late) = join!(
            dropped_after(4, user(&cache, "a", resource.clone(), 0, 1)),
            user(&cache, "a", resource.clone(), 4, 10),
        );
        let late = late.unwrap();
        assert_eq!(late.returned, late.entered + 10 + 3);
        let notes = notes.take();
        let n_gone = notes.iter().filter(|note| *note == "a is gone").count();
        let n_unwound = notes.iter().filter(|note| *note == "a unwinds").count();
        let n_set_up = notes.iter().filter(|note| *note == "a sets up").count();
        assert_eq!(n_gone + n_unwound, n_set_up, "{notes:?}");
    });
}

/// A user that is gone before the service has begun the set-up: nothing is made.
#[test]
fn a_set_up_that_was_not_begun_is_not_made() {
    let (cache, notes) = (Cache::new(), Notes::new());
    testing::run(async {
        let early = user(&cache, "a", Resource::new("a", &notes), 0, 1);
        assert!(dropped_after(1, early).await.is_none());
        open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            let seen = user(&cache, "a", Resource::new("a", &notes), 1, 1).await?;
            assert_eq!((seen.hit, seen.value), (false, 1));
            cache.close();
            Ok(())
        })
        .await
        .unwrap();
    });
    assert_eq!(
        notes.take(),
        ["a sets up", "a exits: Completed", "a is gone"]
    );
}

/// A panic of `make` is resumed in the opener; the service lives, and the next in the queue tries.
#[test]
fn a_panic_of_make_is_the_openers() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let (other, first, second) = join!(
            user(&cache, "other", Resource::new("other", &notes), 0, 50),
            panic_of(user(
                &cache,
                "a",
                Resource::new("a", &notes).make_panics("in make"),
                2,
                1
            )),
            user(&cache, "a", Resource::new("a", &notes), 2, 1),
        );
        assert_eq!(first.map(drop).unwrap_err(), "in make");
        assert!(!second.unwrap().hit);
        assert_eq!(other.unwrap().returned, 52);
    });
}

/// A panic of a set-up is resumed in the opener; the service lives, and the next in the queue tries.
#[test]
fn a_panic_of_a_set_up_is_the_openers() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let (other, first, second) = join!(
            user(&cache, "other", Resource::new("other", &notes), 0, 50),
            panic_of(user(
                &cache,
                "a",
                Resource::new("a", &notes).set_up_panics("in the set-up"),
                2,
                1
            )),
            user(&cache, "a", Resource::new("a", &notes), 2, 1),
        );
        assert_eq!(first.map(drop).unwrap_err(), "in the set-up");
        assert!(!second.unwrap().hit);
        assert_eq!(other.unwrap().returned, 52);
    });
}

/// The context fails by itself while it is used: its users are cancelled, and the last one is told.
#[test]
fn a_context_that_fails_while_it_is_used_cancels_its_users() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let make = {
            let notes = notes.clone();
            move || {
                acm(move |slot: Slot<usize>| async move {
                    let outcome = open_nursery(async |n: Nursery<'_, Word>| {
                        n.start_soon(async {
                            seconds(3).await;
                            Err(Failure::leaf("in the background"))
                        });
                        slot.provide(1).await;
                        notes.add("exits");
                        Ok(())
                    })
                    .await;
                    notes.add("is gone");
                    outcome
                })
            }
        };
        let hold = |make| {
            maybe_open_context(&cache, "a", make, async |_hit, _value| {
                let _held = NoteOnDrop(Some((notes.clone(), "a user is stopped".to_owned())));
                seconds(100).await;
                Ok(())
            })
        };
        let (first, second) = join!(hold(make.clone()), hold(make));
        assert_eq!(common::now(), 3);
        let told: Vec<_> = [first.unwrap_err(), second.unwrap_err()]
            .iter()
            .flat_map(errors)
            .collect();
        assert_eq!(told, ["in the background"]);
        assert_eq!(
            notes.take(),
            ["a user is stopped", "a user is stopped", "exits", "is gone"]
        );
    });
}

/// An opener that goes after its set-up has failed, and before it was told: the handler hears of it, once.
/// The next in the queue tries already, and is not to fail for it.
#[test]
fn a_failure_whose_opener_has_gone_is_the_handlers() {
    let (heard, notes) = (Notes::new(), Notes::new());
    let hears = heard.clone();
    let cache: Cache = Cache::options()
        .on_unheard_failure(move |failure| hears.add(errors(&failure).concat()))
        .build();
    served(&cache, async {
        let open = |resource: Resource| Box::pin(cache.open("a", move || resource.context()));
        let mut first = open(Resource::new("1", &notes).set_up_fails("e"));
        let mut second = open(Resource::new("2", &notes));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        seconds(1).await;
        checkpoint().await;
        assert_eq!(notes.take(), ["1 sets up", "2 sets up"]);
        drop(first);
        assert_eq!(*second.await.unwrap(), 2);
        assert_eq!(heard.take(), ["e"]);
    });
    assert!(heard.take().is_empty());
}

/// A failed set-up whose opener is told, and a user that waited with it and is dropped at the same
/// moment: the failure is the opener's, and the service does not hear of it.
#[test]
fn a_user_that_goes_takes_no_failure_with_it() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let broken = Resource::new("a", &notes).set_up_takes(4).set_up_fails("e");
        for _turn in 0..2 {
            let (opener, _other) = join!(
                user(&cache, "a", broken.clone(), 0, 1),
                dropped_after(4, user(&cache, "a", broken.clone(), 0, 1)),
            );
            assert_eq!(errors(&opener.unwrap_err()), ["e"]);
            let (_other, opener) = join!(
                dropped_after(4, user(&cache, "a", broken.clone(), 1, 1)),
                user(&cache, "a", broken.clone(), 0, 1)
            );
            assert_eq!(errors(&opener.unwrap_err()), ["e"]);
            seconds(20).await;
        }
    });
}
