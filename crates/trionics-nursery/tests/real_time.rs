//! The one test that waits for real time: the clocks of tokio and async-io are in step with the world's.

use std::{
    future::{Future, pending},
    pin::Pin,
    time::{Duration, Instant},
};

use trionics_nursery::{
    AsyncIoClock, Clock, TokioClock, move_on_after, now, sleep, sleep_until, with_clock,
};

const SHORT: Duration = Duration::from_millis(20);

async fn measure() {
    let (start, world) = (now(), Instant::now());
    sleep(SHORT).await;
    assert!(world.elapsed() >= SHORT && now() - start >= SHORT, "early");
    sleep_until(start + 2 * SHORT).await;
    assert!(world.elapsed() >= 2 * SHORT, "early");
    let world = Instant::now();
    assert_eq!(move_on_after(SHORT, pending::<()>()).await, None);
    assert!(world.elapsed() >= SHORT, "early");
    // Nothing real is known of a machine that is busy, except that it gets there.
    assert!(start.elapsed() < Duration::from_secs(60), "very late");
}

#[test]
fn neither_sleeps_nor_deadlines_end_early() {
    fn on(clock: impl Clock) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(with_clock(clock, measure()))
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(on(TokioClock));
    smol::block_on(on(AsyncIoClock));
    futures::executor::block_on(on(AsyncIoClock));
}
