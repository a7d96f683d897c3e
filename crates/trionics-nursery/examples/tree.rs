//! A program that shows what it is doing: its task tree while it runs, and while it shuts down too slowly.
//!
//! The operator asks for the tree, then presses ctrl-c. Two things keep the program from ending at once:
//! an exit that takes its time, and a session that somebody has stopped polling.
#![allow(clippy::print_stdout, reason = "it is there to print")]

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{future::poll_immediate, join};
use tokio::sync::Notify;
use trionics_nursery::{
    CancelScope, Failure, Nursery, NurseryOptions, PrintTree, Report, Settings, TaskState,
    TaskTree, TokioClock, interval, shield, sleep,
};

type Session = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Where sessions go that are no longer polled, and should have been dropped.
type Attic = Arc<Mutex<Vec<Session>>>;

const MILLISECOND: Duration = Duration::from_millis(1);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let shutdown = CancelScope::named("program");
    let (asked, attic) = (Arc::new(Notify::new()), Attic::default());
    let printed = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&printed);
    let signal = Arc::clone(&asked);

    // One call: it prints when asked, and when the shutdown takes longer than it should.
    let program = PrintTree::new()
        .on(move || Arc::clone(&signal).notified_owned())
        .when_slow(&shutdown, 200 * MILLISECOND)
        .to(move |tree| {
            println!("{tree}\n");
            keep.lock().expect("nobody panics").push(tree.clone());
        })
        .run(shutdown.run(serve(Arc::clone(&attic))));

    let operator = async {
        sleep(50 * MILLISECOND).await;
        println!("The operator asks what is going on:\n");
        asked.notify_one();
        sleep(50 * MILLISECOND).await;
        println!("The operator presses ctrl-c.\n");
        shutdown.cancel("ctrl-c");
    };

    let settings = Settings::new()
        .clock(TokioClock)
        .on_report(|report: &Report| println!("Reported: {report}\n"));
    let (outcome, ()) = runtime.block_on(settings.run(async { join!(program, operator) }));
    println!(
        "The program has ended: {}",
        outcome.expect_err("it was cancelled")
    );
    check(&printed.lock().expect("nobody panics"));
}

/// A server that does nothing but wait, in several places.
async fn serve(attic: Attic) -> Result<(), Failure> {
    NurseryOptions::new()
        .name("server")
        .open(async |n: Nursery<'_>| {
            n.named("upstream").start_soon(async {
                let lost = CancelScope::named("connection");
                let _ = lost.run(std::future::pending::<()>()).await;
                Ok(())
            });
            n.named("feed").start_soon(async {
                // What has to be said on the way out is said in a shield.
                shield(async {
                    trionics_nursery::cancel_requested().await;
                    let unsubscribe = CancelScope::named("unsubscribe");
                    let _ = unsubscribe.run(sleep(300 * MILLISECOND)).await;
                })
                .await;
                Ok(())
            });
            n.named("listener").start_soon(listen(attic));
            let mut ticks = interval(10 * MILLISECOND);
            loop {
                ticks.tick().await;
            }
        })
        .await
}

/// Begins a session, and goes on without it: it lies in the attic, neither polled nor dropped.
async fn listen(attic: Attic) -> Result<(), Failure> {
    let session = NurseryOptions::new()
        .name("session")
        .open(async |n: Nursery<'_>| {
            n.named("reader").start_soon(async {
                shield(std::future::pending::<()>()).await;
                Ok(())
            });
            Ok(())
        });
    let mut session: Session = Box::pin(session);
    poll_immediate(&mut session).await;
    attic.lock().expect("nobody panics").push(session);
    pin!(std::future::pending::<()>()).await;
    Ok(())
}

/// What was shown is true.
fn check(printed: &[TaskTree]) {
    let [running, stopping] = printed else {
        panic!("{} trees were printed, not 2", printed.len());
    };
    let state = |tree: &TaskTree, name: &str| {
        let task = tree.find(name);
        task.map(trionics_nursery::TaskInfo::state)
    };
    for name in [
        "program",
        "server",
        "upstream",
        "connection",
        "feed",
        "reader",
    ] {
        assert_eq!(state(running, name), Some(TaskState::Running), "{name}");
    }
    assert_eq!(state(stopping, "program"), Some(TaskState::Cancelling));
    assert_eq!(state(stopping, "upstream"), None, "it has ended");
    assert_eq!(state(stopping, "unsubscribe"), Some(TaskState::Shielded));
    assert_eq!(state(stopping, "reader"), Some(TaskState::Abandoned));
}
