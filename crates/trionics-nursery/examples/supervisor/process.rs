//! A shell at the other end of two pipes, from its start to its reaping.

use std::{io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use trionics_nursery::{CancelScope, Failure, cancel_requested, shield, sleep};

use crate::ledger::Ledger;

/// A running shell.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) id: u32,
}

/// Starts a process, runs `work` with it, and reaps it, whatever happens in between.
///
/// The whole is a shield, so that a cancellation cannot cut off the end; the work is run in a scope that
/// follows the cancellation, so that it can.
pub(crate) async fn life<W>(ledger: &Ledger, script: &str, work: W) -> Result<(), Failure>
where
    W: AsyncFnOnce(&mut Process) -> io::Result<()>,
{
    shield(async {
        let mut process = Process::start(script)?;
        ledger.started(process.id);
        let worked = CancelScope::new()
            .run_until(cancel_requested(), work(&mut process))
            .await;
        let reaped = process.reap(ledger, worked.is_err()).await;
        worked.unwrap_or(Ok(()))?;
        reaped?;
        Ok(())
    })
    .await
}

impl Process {
    fn start(script: &str) -> io::Result<Self> {
        // A terminal's ctrl-c goes to the shells, too; theirs is to wait until they are told.
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("trap '' INT; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the process has no pipes");
        Ok(Self {
            input: child.stdin.take().ok_or_else(gone)?,
            output: BufReader::new(child.stdout.take().ok_or_else(gone)?).lines(),
            id: child.id().ok_or_else(gone)?,
            child,
        })
    }

    /// The next line that the process says; `None` once it has gone.
    pub(crate) async fn hear(&mut self) -> io::Result<Option<String>> {
        self.output.next_line().await
    }

    /// Says a line and hears the answer; `None` if the process has gone.
    pub(crate) async fn ask(&mut self, line: &str) -> io::Result<Option<String>> {
        match self.input.write_all(format!("{line}\n").as_bytes()).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
            Err(error) => Err(error),
            Ok(()) => self.hear().await,
        }
    }

    /// Waits until the process ends by itself.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        while self.hear().await?.is_some() {}
        Ok(())
    }

    /// Tells the process to stop if it still runs, and waits until it is gone; kills it if it does not go.
    async fn reap(mut self, ledger: &Ledger, was_stopped: bool) -> io::Result<()> {
        let goodbye = async {
            let mut heard = self.ask("stop").await?;
            while let Some(line) = heard {
                if line == "bye" {
                    return Ok(true);
                }
                heard = self.hear().await?;
            }
            Ok::<_, io::Error>(false)
        };
        let said_bye = CancelScope::new()
            .run_until(sleep(Duration::from_secs(3)), goodbye)
            .await;
        if said_bye.is_err() {
            self.child.start_kill()?;
        }
        let status = self.child.wait().await?;
        ledger.reaped(
            self.id,
            status,
            was_stopped,
            matches!(said_bye, Ok(Ok(true))),
        );
        Ok(())
    }
}
