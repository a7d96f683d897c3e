//! Ticks at a regular pace, and what becomes of those that nobody takes in time.

use std::time::Duration;

use trionics_nursery::{
    Interval, MissedTickBehavior, checkpoint, interval, interval_at, move_on_after, now, sleep,
    testing,
};

mod common;
use common::{ends, panic_of};

const SECOND: Duration = Duration::from_secs(1);

/// Takes ticks, each after a pause; gives the seconds at which they were taken and were due.
async fn ticks(interval: &mut Interval, pauses: &[u64]) -> Vec<(u64, u64)> {
    let start = now() - testing::elapsed();
    let mut taken = Vec::new();
    for pause in pauses {
        sleep(Duration::from_secs(*pause)).await;
        let due = interval.tick().await;
        taken.push((testing::elapsed().as_secs(), (due - start).as_secs()));
    }
    taken
}

#[test]
fn the_first_tick_is_at_once_and_the_others_keep_their_marks() {
    testing::run(async {
        let mut interval = interval(10 * SECOND);
        let taken = ticks(&mut interval, &[0, 3, 9, 0]).await;
        assert_eq!(taken, [(0, 0), (10, 10), (20, 20), (30, 30)]);
        assert_eq!(interval.period(), 10 * SECOND);
    });
}

#[test]
fn an_interval_can_begin_later_or_have_begun_already() {
    testing::run(async {
        let mut later = interval_at(now() + 4 * SECOND, 10 * SECOND);
        assert_eq!(ticks(&mut later, &[0, 0]).await, [(4, 4), (14, 14)]);
        let mut begun = interval_at(now() - 14 * SECOND, 10 * SECOND);
        assert_eq!(
            ticks(&mut begun, &[0, 0, 0]).await,
            [(14, 0), (14, 10), (20, 20)]
        );
    });
}

#[test]
fn missed_ticks_come_in_a_burst_or_are_delayed_or_skipped() {
    for (behavior, expected) in [
        (
            MissedTickBehavior::Burst,
            [(35, 10), (35, 20), (35, 30), (40, 40), (50, 50)],
        ),
        (
            MissedTickBehavior::Delay,
            [(35, 10), (45, 45), (55, 55), (65, 65), (75, 75)],
        ),
        (
            MissedTickBehavior::Skip,
            [(35, 10), (40, 40), (50, 50), (60, 60), (70, 70)],
        ),
    ] {
        testing::run(async {
            let mut interval = interval(10 * SECOND);
            interval.set_missed_tick_behavior(behavior);
            assert_eq!(interval.missed_tick_behavior(), behavior);
            interval.tick().await;
            let taken = ticks(&mut interval, &[35, 0, 0, 0, 0]).await;
            assert_eq!(taken, expected, "{behavior:?}");
        });
    }
}

/// A tick that is late, but not by a whole period, delays the next one only where that was asked for.
#[test]
fn a_tick_that_is_a_little_late() {
    for (behavior, next) in [
        (MissedTickBehavior::Burst, 20),
        (MissedTickBehavior::Delay, 23),
        (MissedTickBehavior::Skip, 20),
    ] {
        testing::run(async {
            let mut interval = interval(10 * SECOND);
            interval.set_missed_tick_behavior(behavior);
            interval.tick().await;
            let taken = ticks(&mut interval, &[13, 0]).await;
            assert_eq!(taken, [(13, 10), (next, next)], "{behavior:?}");
        });
    }
}

#[test]
fn a_tick_that_is_given_up_on_is_not_lost() {
    testing::run(async {
        let mut interval = interval(10 * SECOND);
        interval.tick().await;
        for _ in 0..3 {
            assert_eq!(move_on_after(2 * SECOND, interval.tick()).await, None);
        }
        assert_eq!(ticks(&mut interval, &[0]).await, [(10, 10)]);
    });
}

#[test]
fn an_interval_is_reset() {
    testing::run(async {
        let mut interval = interval(10 * SECOND);
        interval.tick().await;
        sleep(7 * SECOND).await;
        interval.reset();
        assert_eq!(ticks(&mut interval, &[0]).await, [(17, 17)]);
        interval.reset_immediately();
        assert_eq!(ticks(&mut interval, &[0, 0]).await, [(17, 17), (27, 27)]);
        interval.reset_at(now() + 100 * SECOND);
        assert_eq!(ticks(&mut interval, &[0]).await, [(127, 127)]);
    });
}

#[test]
fn an_endless_period_ticks_once() {
    testing::run(async {
        let mut interval = interval(Duration::MAX);
        interval.tick().await;
        assert_eq!(move_on_after(1000 * SECOND, interval.tick()).await, None);
    });
}

#[test]
fn misuse_is_told_clearly() {
    assert!(panic_of(|| interval(Duration::ZERO)).contains("period of zero"));
    let panic = panic_of(|| {
        ends(async {
            let mut interval = interval(SECOND);
            checkpoint().await;
            interval.tick().await;
        });
    });
    assert!(
        panic.contains("with_clock") && panic.contains(file!()),
        "{panic}"
    );
}
