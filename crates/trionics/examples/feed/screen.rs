//! What the program shows: messages, and below them one line of progress.
//!
//! On a terminal the progress line is drawn over and over in its place; elsewhere its states are lines of their own.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use trionics::{Failure, sleep};

/// Makes a terminal forget the line that it is in.
const ERASE: &str = "\r\x1b[2K";

/// Shows a message that stays.
pub(crate) fn say(message: impl Display) {
    let mut out = stdout().lock();
    let erase = if out.is_terminal() { ERASE } else { "" };
    // There is nobody to tell that nobody looks.
    let _ = writeln!(out, "{erase}{message}");
}

/// Shows how things stand, in place of how they stood, for ever.
pub(crate) async fn show_progress(state: impl Display) -> Result<(), Failure> {
    let is_terminal = stdout().is_terminal();
    let pace = Duration::from_millis(if is_terminal { 100 } else { 1000 });
    let mut shown = String::new();
    loop {
        sleep(pace).await;
        let state = state.to_string();
        if state == shown {
            continue;
        }
        if is_terminal {
            let mut out = stdout().lock();
            let _ = write!(out, "{ERASE}{state}").and_then(|()| out.flush());
        } else {
            say(&state);
        }
        shown = state;
    }
}
