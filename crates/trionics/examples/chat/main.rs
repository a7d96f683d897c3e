//! A chat server with rooms, in which everybody is told goodbye.
//!
//! A room is opened by its first member and torn down after its last: that is the cache. What is said
//! in it reaches all members, and a slow one is told what it has lost: that is the broadcast. Each
//! client is a child of a nursery, and when the server is cancelled, each takes its leave.
//!
//! ```sh
//! cargo run -p trionics --example chat                       # checks itself
//! cargo run -p trionics --example chat -- serve 127.0.0.1:7000   # serves, until ctrl-c
//! ```
//!
//! # The protocol
//!
//! Lines of UTF-8 over TCP, of at most 1024 bytes. A client sends:
//!
//! | line | effect |
//! | --- | --- |
//! | `JOIN room name` | enters a room under a name; leaves the room it was in |
//! | `PART` | leaves the room |
//! | `QUIT` | leaves the room and the server |
//! | any other | is said in the room |
//!
//! The server sends:
//!
//! | line | meaning |
//! | --- | --- |
//! | `JOINED room name` | somebody has come; to see one's own name is to be inside |
//! | `SAID room name text` | somebody has said something |
//! | `PARTED room name` | somebody has left; to see one's own name is to be outside |
//! | `LOST n` | the client has read too slowly, and `n` lines stood here |
//! | `ERROR text` | the last command had no effect |
//! | `BYE text` | the last line: the connection ends, and why |
//!
//! All members of a room hear the same lines in the same order.

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

mod check;
mod journal;
mod protocol;
mod room;
mod server;
mod wire;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use tokio::signal::ctrl_c;
use trionics::prelude::*;

use crate::journal::Journal;

/// How long the server may take to say goodbye once it is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves at `address` until ctrl-c.
async fn serve(address: SocketAddr) -> Result<(), Failure> {
    let journal = Journal::new(tokio::io::stdout());
    let listener = server::listen(address)?;
    journal
        .write(format!("listening on {}", listener.local_addr()?))
        .await?;

    let root = CancelScope::named("chat");
    root.set_exit_grace(GRACE);
    match root
        .run_until(ctrl_c(), server::serve(listener, journal.clone()))
        .await
    {
        Ok(ended) => ended, // it has failed
        Err(cancelled) => Ok(journal.write(cancelled.to_string()).await?),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [] => check::run().await,
        [verb, address] if verb == "serve" => match address.parse() {
            Ok(address) => with_clock(TokioClock, serve(address)).await,
            Err(error) => Err(Failure::text(format!("{address}: {error}"))),
        },
        _ => Err(Failure::text("usage: chat [serve ADDRESS]")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}
