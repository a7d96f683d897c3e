//! A small supervisor of real processes: shells that answer on their pipes.
//!
//! Services start and say when they are ready; one keeps crashing and is restarted, one crashes too often
//! and is given up, one never gets ready. Beside them runs a queue of jobs, three at a time. The whole is
//! shut down twice: after a time, and by a ctrl-c, which it sends to itself. Whatever happens, each process
//! that runs is told to stop, says goodbye, and is reaped; the example counts, and fails if one is missing.
//!
//! ```sh
//! cargo run -p trionics-nursery --example supervisor
//! ```
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::{future::Future, process::ExitCode, time::Duration};

use tokio::process::Command;
use trionics_nursery::{
    CancelScope, Failure, Nursery, NurseryOptions, Report, Settings, TokioClock, live_frames, sleep,
};

mod ledger;
mod process;
mod service;

use crate::{
    ledger::Ledger,
    process::Process,
    service::{GaveUp, Service},
};

/// How many jobs run at once.
const JOBS_AT_ONCE: usize = 3;
const N_JOBS: usize = 12;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let settings = Settings::new()
        .clock(TokioClock)
        .on_report(|report| match report {
            // The service that is given up: its failure is looked at below.
            Report::FailedUnderCancellation { .. } => {}
            report => println!("  REPORT: {report}"),
        });
    let held = runtime.block_on(settings.run(async {
        let by_time = act("shut down after a time", std::future::ready(())).await;
        let by_ctrl_c = act("shut down by ctrl-c", interrupt_this_process()).await;
        by_time && by_ctrl_c
    }));
    if held && live_frames() == 0 {
        println!("Every process was told to stop, said goodbye, and was reaped.");
        ExitCode::SUCCESS
    } else {
        println!("FAILED; frames left: {}", live_frames());
        ExitCode::FAILURE
    }
}

/// Sends what a terminal sends for ctrl-c, and waits until it has arrived.
async fn interrupt_this_process() {
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .expect("a signal handler");
    let id = std::process::id().to_string();
    let sent = Command::new("/bin/sh")
        .args(["-c", &format!("kill -INT {id}")])
        .status()
        .await;
    assert!(sent.is_ok_and(|status| status.success()), "`kill` works");
    interrupts.recv().await;
}

/// Runs the supervisor for a time and then until `shut_down` is ready, and checks what became of its processes.
async fn act(title: &str, shut_down: impl Future<Output = ()>) -> bool {
    println!("{title}:");
    let ledger = Ledger::default();
    let program = CancelScope::named(title.to_owned());
    program.set_exit_grace(Duration::from_secs(10));
    let shut_down = async {
        sleep(Duration::from_secs(1)).await;
        // A slow machine needs longer to show everything.
        while !ledger.has_seen_enough(N_JOBS) {
            sleep(Duration::from_millis(10)).await;
        }
        shut_down.await;
    };
    let outcome = program.run_until(shut_down, supervise(&ledger)).await;
    let failures = match outcome {
        Ok(Err(failure)) => failure,
        outcome => {
            println!(
                "  it should fail with the service that was given up, and comes to {outcome:?}"
            );
            return false;
        }
    };
    let given_up: Vec<_> = failures
        .errors()
        .filter_map(|error| error.downcast_ref::<GaveUp>())
        .map(|gave_up| gave_up.service)
        .collect();
    println!("  failures: {failures:#}");
    given_up == ["doomed"] && failures.leaves().count() == 1 && ledger.holds(JOBS_AT_ONCE, N_JOBS)
}

/// The supervisor itself.
async fn supervise(ledger: &Ledger) -> Result<(), Failure> {
    NurseryOptions::new()
        .name("services")
        .supervise() // one that is given up does not end the others
        .open(async |n: Nursery<'_>| {
            for service in [
                Service::new("steady"),
                Service::new("moody").crashing_after(8),
                Service::new("doomed").crashing_after(1),
            ] {
                let name = service.name;
                let id = n
                    .named(name)
                    .start(|status| service.run(status, ledger))
                    .await?;
                println!("  {name} is ready as process {id}");
            }
            // A start that takes too long is called off, and its process reaped like any other.
            let mute = Service::new("mute").never_ready();
            let called_off = CancelScope::new()
                .run_until(
                    sleep(Duration::from_millis(100)),
                    n.named("mute").start(|status| mute.run(status, ledger)),
                )
                .await;
            assert!(called_off.is_err(), "it is never ready");
            n.named("jobs").start_soon(run_jobs(ledger));
            Ok(())
        })
        .await
}

/// Runs the jobs, a few at a time.
async fn run_jobs(ledger: &Ledger) -> Result<(), Failure> {
    NurseryOptions::new()
        .limit(JOBS_AT_ONCE)
        .open(async |n: Nursery<'_>| {
            for _ in 0..N_JOBS {
                n.start_soon_when_free(process::life(
                    ledger,
                    "i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done",
                    async |job: &mut Process| {
                        let _job = ledger.job();
                        job.end().await
                    },
                ))
                .await;
            }
            Ok(())
        })
        .await
}
