//! What became of each process, written down to be checked.

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitStatus,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::service::MAX_RESTARTS;

#[derive(Default)]
pub(crate) struct Ledger {
    processes: Mutex<BTreeMap<u32, Option<End>>>,
    restarts: Mutex<BTreeMap<&'static str, usize>>,
    n_jobs: AtomicUsize,
    n_jobs_now: AtomicUsize,
    most_jobs: AtomicUsize,
}

struct End {
    status: ExitStatus,
    /// It ran when the program was shut down.
    was_stopped: bool,
    said_bye: bool,
}

impl Ledger {
    pub(crate) fn started(&self, id: u32) {
        let replaced = self.processes.lock().unwrap().insert(id, None);
        assert!(
            !matches!(replaced, Some(None)),
            "process {id} was not reaped and started again"
        );
    }

    pub(crate) fn reaped(&self, id: u32, status: ExitStatus, was_stopped: bool, said_bye: bool) {
        let end = End {
            status,
            was_stopped,
            said_bye,
        };
        self.processes.lock().unwrap().insert(id, Some(end));
    }

    pub(crate) fn restarted(&self, service: &'static str) {
        *self.restarts.lock().unwrap().entry(service).or_default() += 1;
    }

    /// A job runs for as long as the guard is kept.
    pub(crate) fn job(&self) -> impl Drop {
        struct Job<'a>(&'a Ledger);
        impl Drop for Job<'_> {
            fn drop(&mut self) {
                self.0.n_jobs_now.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.n_jobs.fetch_add(1, Ordering::SeqCst);
        let now = self.n_jobs_now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_jobs.fetch_max(now, Ordering::SeqCst);
        Job(self)
    }

    /// The jobs are over, one service was restarted, and another as often as it may be.
    pub(crate) fn has_seen_enough(&self, n_jobs: usize) -> bool {
        let restarts = self.restarts.lock().unwrap();
        let n_ended = self.n_jobs.load(Ordering::SeqCst) - self.n_jobs_now.load(Ordering::SeqCst);
        n_ended == n_jobs
            && restarts.contains_key("moody")
            && restarts.get("doomed") == Some(&MAX_RESTARTS)
    }

    /// Says what happened, and whether it was right.
    pub(crate) fn holds(&self, jobs_at_once: usize, n_jobs: usize) -> bool {
        let processes = self.processes.lock().unwrap();
        let ends: Vec<_> = processes.values().flatten().collect();
        let restarts = self.restarts.lock().unwrap();
        let n_stopped = ends.iter().filter(|end| end.was_stopped).count();
        let n_goodbyes = ends
            .iter()
            .filter(|end| end.was_stopped && end.said_bye)
            .count();
        let n_crashed = ends
            .iter()
            .filter(|end| end.status.code() == Some(3))
            .count();
        let n_left = processes
            .keys()
            .filter(|id| Path::new(&format!("/proc/{id}")).exists())
            .count();
        let (n_run, most) = (
            self.n_jobs.load(Ordering::SeqCst),
            self.most_jobs.load(Ordering::SeqCst),
        );
        println!(
            "  {} processes started, {} reaped, {n_left} left; {n_stopped} told to stop, {n_goodbyes} said \
             goodbye; {n_crashed} crashed, {} restarts; {n_run} jobs, {most} at once",
            processes.len(),
            ends.len(),
            restarts.values().sum::<usize>(),
        );
        let all = [
            (
                "each process was reaped",
                ends.len() == processes.len() && n_left == 0,
            ),
            (
                "what ran was told to stop and said goodbye",
                n_stopped > 0 && n_goodbyes == n_stopped,
            ),
            (
                "crashed services were restarted",
                restarts.contains_key("moody") && restarts.get("doomed") == Some(&MAX_RESTARTS),
            ),
            ("the crashes were seen", n_crashed >= 5),
            ("all jobs ran", n_run == n_jobs),
            ("the limit held and was reached", most == jobs_at_once),
        ];
        for (what, _) in all.iter().filter(|(_, held)| !held) {
            println!("  NOT TRUE: {what}");
        }
        all.iter().all(|(_, held)| *held)
    }
}
