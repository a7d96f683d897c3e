//! A step: one command with a name, a heading, a limit, and a duration.

use std::{
    env,
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// One command of a run.
pub(crate) struct Step {
    /// How the summary and `cargo xtask ci NAME` call it.
    pub(crate) name: String,
    /// What is checked, in a few words.
    pub(crate) purpose: String,
    command: Command,
    limit: Duration,
}

impl Step {
    /// A step that calls cargo, with arguments between spaces, in the workspace's folder.
    pub(crate) fn cargo(
        name: impl Into<String>,
        purpose: impl Into<String>,
        arguments: &str,
    ) -> Self {
        Self::command(cargo(), name, purpose, arguments)
    }

    /// The same with the nightly toolchain's cargo.
    pub(crate) fn nightly_cargo(
        name: impl Into<String>,
        purpose: impl Into<String>,
        arguments: &str,
    ) -> Self {
        Self::command(nightly_cargo(), name, purpose, arguments)
    }

    /// Another command of this program.
    pub(crate) fn xtask(
        name: impl Into<String>,
        purpose: impl Into<String>,
        arguments: &str,
    ) -> Self {
        let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
        command.current_dir(crate::workspace());
        Self::command(command, name, purpose, arguments)
    }

    fn command(
        mut command: Command,
        name: impl Into<String>,
        purpose: impl Into<String>,
        arguments: &str,
    ) -> Self {
        command.args(arguments.split_whitespace());
        Self {
            name: name.into(),
            purpose: purpose.into(),
            command,
            limit: Duration::from_secs(20 * 60),
        }
    }

    /// Sets a variable of the command's environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Stops the command, and fails, when it has run for so long: a step that hangs is named, too.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    ///
    /// Why it failed, in a few words; what it had to say is on the terminal already.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        println!("    {}", self.line());
        let mut child = self
            .command
            .spawn()
            .map_err(|error| format!("could not be started: {error}"))?;
        match wait(&mut child, self.limit)
            .map_err(|error| format!("could not be waited for: {error}"))?
        {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(status.to_string()),
            None => Err(format!(
                "still running after {}, stopped",
                seconds(self.limit)
            )),
        }
    }

    /// The command as one would type it.
    fn line(&self) -> String {
        let mut words: Vec<String> = self
            .command
            .get_envs()
            .filter_map(|(name, value)| {
                Some(format!(
                    "{}={:?}",
                    name.to_string_lossy(),
                    value?.to_string_lossy()
                ))
            })
            .collect();
        let program = self.command.get_program();
        words.push(match Path::new(program).file_stem() {
            Some(name) if name == "rustup" => "rustup".to_owned(),
            Some(name) if name == "xtask" => "cargo xtask".to_owned(),
            _ => "cargo".to_owned(),
        });
        words.extend(
            self.command
                .get_args()
                .map(|argument| argument.to_string_lossy().into_owned()),
        );
        words.join(" ")
    }
}

/// The cargo that runs us, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace());
    command
}

/// The cargo of the nightly toolchain, whether or not there is one, in the workspace's folder.
pub(crate) fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo"])
        .current_dir(crate::workspace());
    command
}

/// A duration as a person reads it.
pub(crate) fn seconds(duration: Duration) -> String {
    let total = duration.as_secs_f64();
    if total < 60.0 {
        format!("{total:.1} s")
    } else {
        format!("{} min {:02} s", total as u64 / 60, total as u64 % 60)
    }
}

/// Waits for the end of a process, or stops it and returns nothing.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_step_that_hangs_is_stopped() {
        let mut step = Step::cargo("hang", "", "").limit(Duration::ZERO);
        step.command = Command::new("cat");
        step.command.stdin(Stdio::piped());
        assert!(
            step.run()
                .is_err_and(|reason| reason.contains("still running"))
        );
    }

    #[test]
    fn a_step_fails_with_its_command() {
        let mut step = Step::cargo("false", "", "");
        step.command = Command::new("false");
        assert!(
            step.run()
                .is_err_and(|reason| reason.contains("exit status: 1"))
        );
    }
}
