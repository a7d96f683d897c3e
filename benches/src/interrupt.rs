//! Ctrl-c: the first one ends the measuring in good order, the second one the program.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::{runtime, signal};

/// The exit code of a program that was interrupted.
pub const EXIT_CODE: u8 = 130;

static IS_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Listens from now on; without it, ctrl-c ends the program at once.
pub fn listen() {
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_io().build() else {
        return;
    };
    thread::spawn(move || {
        runtime.block_on(async {
            if signal::ctrl_c().await.is_err() {
                return;
            }
            IS_REQUESTED.store(true, Ordering::Relaxed);
            eprintln!("\ninterrupted: the turn that runs is the last one; once more ends at once");
            if signal::ctrl_c().await.is_ok() {
                process::exit(EXIT_CODE.into());
            }
        });
    });
}

/// Whether ctrl-c has been pressed.
pub fn is_requested() -> bool {
    IS_REQUESTED.load(Ordering::Relaxed)
}
