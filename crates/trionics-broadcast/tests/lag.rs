//! Who is more than the window behind is told exactly how much was lost, and goes on with the oldest value kept.

mod common;

use futures::{StreamExt, executor::block_on, stream};
use trionics_broadcast::{Broadcast, MAX_BUFFER_SIZE, TryRecvError, broadcast_receiver};

use self::common::{drain, feed, lost, next, poll, value};

/// B-010: one `Lagged`, then exactly the last N values, for windows around the sizes of blocks.
#[test]
fn lag_is_told_once_and_leaves_the_window() {
    for window in [1, 2, 3, 4, 5, 7, 31, 32, 33, 63, 64, 65, 127, 128, 200] {
        for excess in [1, 2, window - 1, window, window + 1, 3 * window + 5] {
            if excess == 0 {
                continue;
            }
            let total = window + excess;
            let mut fast = broadcast_receiver(stream::iter(0..total), window).unwrap();
            let mut slow = fast.subscribe();
            assert_eq!(drain(&mut fast).len(), total);
            assert_eq!(slow.len(), total);
            assert_eq!(lost(&mut slow), excess as u64, "window {window}");
            assert_eq!(drain(&mut slow), (excess..total).collect::<Vec<_>>());
            assert_eq!(next(&mut slow), None);
        }
    }
}

/// B-013: lost again before reading: the second count starts at the position that the first has left.
#[test]
fn a_second_lag_counts_from_the_first() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 3).unwrap();
    let mut slow = fast.subscribe();
    feeder.send_all(0..5);
    drain(&mut fast);
    assert_eq!(lost(&mut slow), 2);
    feeder.send_all(5..9);
    drain(&mut fast);
    assert_eq!(lost(&mut slow), 4);
    assert_eq!(drain(&mut slow), [6, 7, 8]);
    assert_eq!(slow.n_lost(), 6);
}

/// B-014: lost, caught up, lost again: the second count is about the new gap only.
#[test]
fn lag_after_catching_up_counts_the_new_gap() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 2).unwrap();
    let mut slow = fast.subscribe();
    for round in 0..3 {
        feeder.send_all(round * 5..round * 5 + 5);
        drain(&mut fast);
        assert_eq!(lost(&mut slow), 3);
        assert_eq!(drain(&mut slow), [round * 5 + 3, round * 5 + 4]);
    }
}

/// B-017: the original handle is a subscription like any other, from the beginning.
#[test]
fn the_original_handle_lags_too() {
    let mut original = broadcast_receiver(stream::iter(0..10), 4).unwrap();
    let mut fast = original.subscribe();
    drain(&mut fast);
    assert_eq!(lost(&mut original), 6);
    assert_eq!(drain(&mut original), [6, 7, 8, 9]);
}

/// B-018: exactly N behind is no lag, N + 1 is a lag of one.
#[test]
fn exactly_the_window_behind_is_no_lag() {
    for window in [1, 2, 3, 32, 64, 100] {
        let (feeder, source) = feed();
        let mut fast = broadcast_receiver(source, window).unwrap();
        let mut slow = fast.subscribe();
        let mut slower = fast.subscribe();
        feeder.send_all(0..window);
        drain(&mut fast);
        assert_eq!(value(&mut slow), 0);
        feeder.send(window);
        drain(&mut fast);
        assert_eq!(value(&mut slow), 1);
        assert_eq!(lost(&mut slower), 1);
        assert_eq!(value(&mut slower), 1);
    }
}

/// B-019: in a window of one, the newest value can always be received, also after the end.
#[test]
fn a_window_of_one_keeps_the_newest() {
    let mut fast = broadcast_receiver(stream::iter(0..3), 1).unwrap();
    let mut slow = fast.subscribe();
    drain(&mut fast);
    assert_eq!(next(&mut fast), None);
    assert_eq!(lost(&mut slow), 2);
    assert_eq!(value(&mut slow), 2);
    assert_eq!(next(&mut slow), None);
}

/// B-020: the window is exactly as large as asked for, not a power of two.
#[test]
fn the_window_is_exact() {
    let mut fast = broadcast_receiver(stream::iter(0..10), 3).unwrap();
    let mut slow = fast.subscribe();
    assert_eq!(fast.max_buffer_size(), 3);
    drain(&mut fast);
    assert_eq!(lost(&mut slow), 7);
    assert_eq!(drain(&mut slow), [7, 8, 9]);
}

/// B-021: a window of nothing, or of far too much, is refused, and the source comes back.
#[test]
fn impossible_windows_are_refused() {
    for size in [0, MAX_BUFFER_SIZE + 1, usize::MAX] {
        let refused = broadcast_receiver(stream::iter([1, 2]), size).unwrap_err();
        assert_eq!(refused.requested(), size);
        assert!(refused.to_string().contains(&size.to_string()));
        assert_eq!(block_on(refused.into_source().collect::<Vec<_>>()), [1, 2]);
    }
    let mut largest = broadcast_receiver(stream::iter([1, 2]), MAX_BUFFER_SIZE).unwrap();
    let mut other = largest.subscribe();
    assert_eq!(drain(&mut largest), [1, 2]);
    assert_eq!(drain(&mut other), [1, 2]);
}

/// B-022, B-045 of the adapted rows: without being told, a slow subscriber goes on with the oldest value kept; the loss is counted.
#[test]
fn skipping_counts_what_was_lost() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 3).unwrap();
    let mut slow = fast.subscribe().skip_lagged();
    feeder.send_all(0..10);
    drain(&mut fast);
    let first: Vec<_> = block_on(slow.by_ref().take(3).collect());
    assert_eq!(first, [7, 8, 9]);
    assert_eq!(slow.n_skipped(), 7);
    feeder.send_all(10..14);
    feeder.end();
    drain(&mut fast);
    assert_eq!(block_on(slow.recv()), Some(11));
    assert_eq!(slow.n_skipped(), 8);
    assert_eq!(block_on(slow.by_ref().collect::<Vec<_>>()), [12, 13]);
    assert_eq!(block_on(slow.recv()), None);
}

/// B-023: skipping belongs to one subscription.
#[test]
fn skipping_is_not_inherited() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 1).unwrap();
    let skipping = fast.subscribe().skip_lagged();
    let mut telling = skipping.get_ref().subscribe();
    feeder.send_all(0..3);
    drain(&mut fast);
    assert_eq!(lost(&mut telling), 2);
    assert_eq!(lost(&mut skipping.into_inner()), 2);
}

/// B-024: the length counts from the old position until the loss was told, so that it can be foreseen.
#[test]
fn length_foretells_the_loss() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 4).unwrap();
    let mut slow = fast.subscribe();
    assert!(slow.is_empty());
    feeder.send_all(0..10);
    drain(&mut fast);
    assert_eq!((fast.len(), slow.len()), (0, 10));
    assert_eq!(lost(&mut slow), 6);
    assert_eq!(slow.len(), 4);
    value(&mut slow);
    assert_eq!(slow.len(), 3);
}

/// B-047: without waiting: backlog, empty (the source is not asked), loss, end.
#[test]
fn try_recv_never_asks_the_source() {
    let (feeder, source) = feed();
    let mut fast = broadcast_receiver(source, 2).unwrap();
    let mut slow = fast.subscribe();
    feeder.send_all(0..3);
    assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(feeder.n_polls(), 0);
    value(&mut fast);
    assert_eq!(slow.try_recv(), Ok(0));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(feeder.n_left(), 2);
    feeder.send_all(3..5);
    feeder.end();
    drain(&mut fast);
    match slow.try_recv() {
        Err(TryRecvError::Lagged(lagged)) => assert_eq!(lagged.count(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(slow.try_recv(), Ok(3));
    assert_eq!(slow.try_recv(), Ok(4));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Closed));
}

/// From the oldest: as far back as the window reaches, and with the window of whoever comes later still exact.
#[test]
fn subscribing_from_the_oldest_gives_the_window() {
    for window in [1, 2, 3, 5, 32, 64, 65] {
        let (feeder, source) = feed();
        let mut fast = broadcast_receiver(source, window).unwrap();
        let _idle = fast.subscribe();
        let total = 3 * window + 1;
        feeder.send_all(0..total);
        drain(&mut fast);
        let mut late = fast.subscribe_from_oldest();
        assert_eq!(
            drain(&mut late),
            (total - window..total).collect::<Vec<_>>()
        );
        feeder.send(total);
        drain(&mut fast);
        assert_eq!(value(&mut late), total);
    }
}

/// From the oldest, with what a sole subscriber has received only if that was asked for; never with a hidden gap.
#[test]
fn what_a_sole_subscriber_took_is_kept_on_demand() {
    let (feeder, source) = feed();
    let mut sole = broadcast_receiver(source, 4).unwrap();
    let other = sole.subscribe();
    feeder.send_all(0..3);
    drain(&mut sole);
    drop(other);
    feeder.send_all(3..6);
    drain(&mut sole);
    assert!(poll(&mut sole.subscribe_from_oldest()).is_pending());

    let mut sole = Broadcast::new(4)
        .keep_for_latecomers()
        .share(stream::iter(0..6))
        .unwrap();
    drain(&mut sole);
    assert_eq!(drain(&mut sole.subscribe_from_oldest()), [2, 3, 4, 5]);
}

/// A loss reads as a loss, not as an end.
#[test]
fn a_loss_says_that_it_is_one() {
    let mut fast = broadcast_receiver(stream::iter(0..3), 1).unwrap();
    let mut slow = fast.subscribe();
    drain(&mut fast);
    let lagged = next(&mut slow).unwrap().unwrap_err();
    assert!(lagged.to_string().contains("lost 2"));
    assert!(lagged.to_string().contains("goes on"));
}
