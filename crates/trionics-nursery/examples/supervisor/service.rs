//! A service: a process that is asked for something again and again, and restarted when it crashes.

use std::{error::Error, fmt, io, time::Duration};

use trionics_nursery::{Failure, TaskStatus, checkpoint, sleep};

use crate::{
    ledger::Ledger,
    process::{Process, life},
};

/// How often in a row a service may be restarted before it has answered a few questions.
pub(crate) const MAX_RESTARTS: usize = 3;
const A_FEW: u32 = 5;

/// What to run.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// The process ends by itself after so many questions.
    crashes_after: Option<u32>,
    is_ever_ready: bool,
}

/// A service was restarted too often.
#[derive(Debug)]
pub(crate) struct GaveUp {
    pub(crate) service: &'static str,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` was given up after {MAX_RESTARTS} restarts",
            self.service
        )
    }
}

impl Error for GaveUp {}

impl Service {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            crashes_after: None,
            is_ever_ready: true,
        }
    }

    pub(crate) fn crashing_after(mut self, n_questions: u32) -> Self {
        self.crashes_after = Some(n_questions);
        self
    }

    pub(crate) fn never_ready(mut self) -> Self {
        self.is_ever_ready = false;
        self
    }

    /// Keeps the service running; reports its first process once that is ready.
    pub(crate) async fn run(self, status: TaskStatus<u32>, ledger: &Ledger) -> Result<(), Failure> {
        let mut status = Some(status);
        let mut n_restarts = 0;
        loop {
            let mut n_answers = 0;
            life(ledger, &self.script(), async |process: &mut Process| {
                self.work(process, &mut status, &mut n_answers).await
            })
            .await?;
            // If it was not a crash, it was a cancellation, which stops the service here.
            checkpoint().await;
            if n_answers >= A_FEW {
                n_restarts = 0;
            } else if n_restarts == MAX_RESTARTS {
                return Err(GaveUp { service: self.name }.into());
            }
            n_restarts += 1;
            ledger.restarted(self.name);
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn script(&self) -> String {
        let crash = match self.crashes_after {
            Some(n_questions) => format!("[ $n -lt {n_questions} ] || exit 3;"),
            None => String::new(),
        };
        let ready = if self.is_ever_ready {
            "echo ready;"
        } else {
            ""
        };
        format!(
            "{ready} n=0; while read -r line; do \
             if [ \"$line\" = stop ]; then echo bye; exit 0; fi; \
             {crash} n=$((n + 1)); echo \"$line is done\"; done"
        )
    }

    /// Asks and hears answers, until the process has gone.
    async fn work(
        &self,
        process: &mut Process,
        status: &mut Option<TaskStatus<u32>>,
        n_answers: &mut u32,
    ) -> io::Result<()> {
        if process.hear().await?.as_deref() != Some("ready") {
            return Ok(());
        }
        if let Some(status) = status.take() {
            status.started(process.id);
        }
        loop {
            let question = format!("question {n_answers}");
            let Some(answer) = process.ask(&question).await? else {
                return Ok(());
            };
            if answer != format!("{question} is done") {
                return Err(io::Error::other(format!(
                    "`{}` answers {answer:?}",
                    self.name
                )));
            }
            *n_answers += 1;
            sleep(Duration::from_millis(10)).await;
        }
    }
}
