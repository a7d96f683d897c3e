//! The last user tears down, waits for the exit, and hears of its failure.

mod common;

use common::{
    Cache, Notes, Resource, cancelled_after, dropped_after, errors, now, panic_of, seconds, served,
    user,
};
use futures::join;
use trionics_cache::maybe_open_context;
use trionics_errgroup::Failure;
use trionics_nursery::{Nursery, open_nursery, testing};

/// C-015: the last user gets control back when the exit is over, and not before.
#[test]
fn the_last_user_waits_for_the_exit() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(7);
        let seen = user(&cache, "a", resource, 0, 2).await.unwrap();
        assert_eq!(seen.returned, 1 + 2 + 7);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}

/// C-016: users that are not the last return at once, the opener too.
#[test]
fn other_users_return_at_once() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(7);
        let (opener, second, last) = join!(
            user(&cache, "a", resource.clone(), 0, 2),
            user(&cache, "a", resource.clone(), 0, 5),
            user(&cache, "a", resource, 0, 3600),
        );
        let (opener, second, last) = (opener.unwrap(), second.unwrap(), last.unwrap());
        assert!(!opener.hit && second.hit && last.hit);
        assert_eq!(opener.returned, 3);
        assert_eq!(second.returned, 6);
        assert_eq!(last.returned, 3608);
    });
}

/// C-018: a failing exit is heard by the last user alone.
#[test]
fn a_failing_exit_is_the_last_users() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_fails("x");
        let (opener, last) = join!(
            user(&cache, "a", resource.clone(), 0, 2),
            user(&cache, "a", resource, 0, 5),
        );
        assert!(opener.is_ok());
        assert_eq!(last.unwrap_err().into_leaf().unwrap(), "x");
        // Nothing is remembered.
        let again = user(&cache, "a", Resource::new("a", &notes), 0, 0).await;
        assert!(!again.unwrap().hit);
    });
}

/// C-019: an exit that fails with a group gives just that group.
#[test]
fn a_group_is_not_wrapped() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_fails_twice("x", "y");
        let failure = user(&cache, "a", resource, 0, 2).await.unwrap_err();
        assert_eq!(failure.message(), Some("two of them"));
        assert_eq!(errors(&failure), ["x", "y"]);
        assert_eq!(failure.children().len(), 2);
    });
}

/// C-022: the last user's block fails and the exit fails: both are told.
#[test]
fn the_blocks_failure_and_the_exits_are_both_told() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_fails("x");
        let make = move || resource.context();
        let failure = maybe_open_context(&cache, "a", make, async |_hit, _value| {
            seconds(1).await;
            Err::<(), _>(Failure::leaf("u"))
        })
        .await
        .unwrap_err();
        let mut told = errors(&failure);
        told.sort_unstable();
        assert_eq!(told, ["u", "x"]);
    });
}

/// C-023: a user's failure does not reach the context, whose exit sees a normal end.
#[test]
fn a_users_failure_does_not_reach_the_context() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes);
        let make = move || resource.context();
        let (failed, other) = join!(
            maybe_open_context(&cache, "a", make, async |_hit, _value| {
                Err::<(), _>(Failure::leaf("u"))
            }),
            user(&cache, "a", Resource::new("a", &notes), 0, 4),
        );
        assert_eq!(failed.unwrap_err().into_leaf().unwrap(), "u");
        assert_eq!(other.unwrap().returned, 6);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}

/// A user's panic is the user's: the others go on, and the exit sees a normal end.
#[test]
fn a_users_panic_is_its_own() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes);
        let make = move || resource.context();
        let (panicked, other) = join!(
            panic_of(maybe_open_context(
                &cache,
                "a",
                make,
                async |_hit, _value| -> Result<(), Failure<_>> {
                    seconds(1).await;
                    panic!("a user's")
                }
            )),
            user(&cache, "a", Resource::new("a", &notes), 0, 4),
        );
        assert_eq!(panicked.map(drop).unwrap_err(), "a user's");
        assert_eq!(other.unwrap().returned, 6);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}

/// C-025: a panic of the exit is resumed in the last user, once; the key is free again.
#[test]
fn a_panic_of_the_exit_is_resumed_in_the_last_user() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_panics("in the exit");
        let (first, last) = join!(
            user(&cache, "a", resource.clone(), 0, 1),
            panic_of(user(&cache, "a", resource, 0, 2)),
        );
        assert!(first.is_ok());
        assert_eq!(last.map(drop).unwrap_err(), "in the exit");
        let again = user(&cache, "a", Resource::new("a", &notes), 0, 0).await;
        assert!(!again.unwrap().hit);
    });
}

/// A user that is cancelled in its block, and is the last, still waits for the exit.
#[test]
fn a_cancelled_last_user_waits_for_the_exit() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(7);
        let seen = cancelled_after(3, user(&cache, "a", resource, 0, 100)).await;
        assert!(seen.is_none());
        assert_eq!(now(), 3 + 7);
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}

/// A user that is cancelled and is the last hears of the exit's failure: a cancellation loses no error.
#[test]
fn a_cancelled_last_user_hears_of_the_exits_failure() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_fails("x");
        let outcome = cancelled_after(3, user(&cache, "a", resource, 0, 100)).await;
        let failure = outcome.expect("a failure is returned").unwrap_err();
        assert_eq!(errors(&failure), ["x"]);
    });
}

/// A cancelled user that is not the last leaves at once, and the others keep the resource.
#[test]
fn a_cancelled_user_leaves_the_others_alone() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes);
        let (stopped, other) = join!(
            async {
                let seen = cancelled_after(3, user(&cache, "a", resource.clone(), 0, 100)).await;
                (seen.is_none(), now())
            },
            user(&cache, "a", resource.clone(), 2, 10),
        );
        assert_eq!(stopped, (true, 3));
        assert_eq!(other.unwrap().returned, 13);
    });
}

/// A user that is dropped from outside leaves at once; the service runs the exit.
#[test]
fn the_service_runs_the_exit_of_a_dropped_user() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(7);
        assert!(
            dropped_after(3, user(&cache, "a", resource, 0, 100))
                .await
                .is_none()
        );
        assert_eq!(now(), 3);
        assert_eq!(cache.len(), 1);
        seconds(8).await;
        assert!(cache.is_empty());
        assert_eq!(
            notes.take(),
            ["a sets up", "a exits: Completed", "a is gone"]
        );
    });
}

/// A last user that is dropped while it waits for the exit: the exit's failure is the service's.
#[test]
fn a_failure_that_no_user_hears_is_the_services() {
    for drop_at in [3, 6] {
        let (cache, notes) = (Cache::new(), Notes::new());
        let outcome = testing::run(open_nursery(async |n: Nursery<'_, common::Word>| {
            n.start_soon(cache.serve());
            let resource = Resource::new("a", &notes).exit_takes(7).exit_fails("x");
            // In its block, or in the exit.
            let dropped = dropped_after(drop_at, user(&cache, "a", resource, 0, 4)).await;
            assert!(dropped.is_none());
            seconds(100).await;
            Ok(())
        }));
        assert_eq!(errors(&outcome.unwrap_err()), ["x"]);
        assert!(cache.is_empty());
    }
}

/// C-032: an open during the exit waits for its end, and is then a fresh miss.
#[test]
fn an_open_during_the_exit_sets_up_anew() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(10);
        let (first, second, third) = join!(
            user(&cache, "a", resource.clone(), 0, 1),
            user(&cache, "a", resource.clone(), 5, 1),
            user(&cache, "a", resource, 6, 1),
        );
        let (first, second, third) = (first.unwrap(), second.unwrap(), third.unwrap());
        assert_eq!((first.value, first.returned), (1, 12));
        assert_eq!((second.value, second.entered, second.hit), (2, 13, false));
        assert_eq!((third.value, third.entered, third.hit), (2, 13, true));
        assert_eq!(
            notes.take(),
            [
                "a sets up",
                "a exits: Completed",
                "a is gone",
                "a sets up",
                "a exits: Completed",
                "a is gone"
            ]
        );
    });
}

/// C-032: the exit fails; who waited for its end is not told, and sets up anew.
#[test]
fn who_waits_for_a_failing_exit_sets_up_anew() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(10).exit_fails("x");
        let (first, second) = join!(
            user(&cache, "a", resource, 0, 1),
            user(&cache, "a", Resource::new("a", &notes), 5, 1),
        );
        assert_eq!(errors(&first.unwrap_err()), ["x"]);
        assert!(!second.unwrap().hit);
    });
}

/// C-032: one that waits for the exit's end gives up; the next one is not stranded.
#[test]
fn giving_up_while_waiting_for_the_exit_strands_nobody() {
    let (cache, notes) = (Cache::new(), Notes::new());
    served(&cache, async {
        let resource = Resource::new("a", &notes).exit_takes(10);
        let (_first, stopped, dropped, last) = join!(
            user(&cache, "a", resource.clone(), 0, 1),
            cancelled_after(7, user(&cache, "a", resource.clone(), 4, 1)),
            dropped_after(8, user(&cache, "a", resource.clone(), 5, 1)),
            user(&cache, "a", resource.clone(), 6, 1),
        );
        assert!(stopped.is_none() && dropped.is_none());
        let last = last.unwrap();
        assert_eq!((last.value, last.entered, last.hit), (2, 13, false));
    });
}
