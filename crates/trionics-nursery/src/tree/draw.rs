//! Drawing a task tree with lines, one frame per line.

use std::{fmt, time::Duration};

use super::{TaskInfo, TaskState, TaskTree};

/// Frames further in than this are drawn here, with their depth as a number.
const DEEPEST: usize = 32;

impl fmt::Display for TaskTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing that is tracked runs");
        }
        // Whether a frame has a later sibling is known from below.
        let mut has_later = Vec::new();
        let mut margins = Vec::with_capacity(self.tasks.len());
        for task in self.tasks.iter().rev() {
            has_later.resize(task.depth + 1, false);
            margins.push(margin(task.depth, &has_later));
            has_later[task.depth] = true;
        }
        for (index, (task, margin)) in self.tasks.iter().zip(margins.iter().rev()).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{margin}{task}")?;
        }
        Ok(())
    }
}

/// What stands before a frame: lines for the frames around it that have later siblings, and its own.
fn margin(depth: usize, has_later: &[bool]) -> String {
    let mut margin = String::new();
    for (level, has_later) in has_later.iter().enumerate().take(DEEPEST + 1).skip(1) {
        margin.push_str(match (level == depth, has_later) {
            (false, true) => "│  ",
            (false, false) => "   ",
            (true, true) => "├─ ",
            (true, false) => "└─ ",
        });
    }
    if depth > DEEPEST {
        margin.push_str(&format!("({depth}) "));
    }
    margin
}

/// One line, without a margin.
impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        if let Some(name) = self.name() {
            write!(f, " `{name}`")?;
        }
        write!(f, ": {}", self.state)?;
        if let Some(cancelled) = &self.cancelled {
            match (self.state, self.cancelled_for.map(Rounded)) {
                (TaskState::Cancelling, Some(duration)) => write!(f, " for {duration}")?,
                (TaskState::Cancelling, None) => {}
                (_, Some(duration)) => write!(f, ", cancelled {duration} ago")?,
                (_, None) => f.write_str(", cancelled")?,
            }
            write!(f, " ({}", cancelled.reason())?;
            // What is further in has it from here.
            if self.is_cancelled_itself {
                write!(f, ", from {}", cancelled.location())?;
            }
            f.write_str(")")?;
        }
        if self.waits_inside {
            f.write_str(", waits for what is inside")?;
        }
        if let Some(duration) = self.time_left {
            write!(f, ", {} to its deadline", Rounded(duration))?;
        }
        if let Some(age) = self.age {
            write!(f, ", {} old", Rounded(age))?;
        }
        write!(f, ", at {}", self.location())
    }
}

/// A duration to the millisecond.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write!(f, "{:?}", Duration::from_millis(millis))
    }
}
