//! A market-data server that fans a few exchange connections out to many clients, and takes leave of each of them.
//!
//! It shows the five crates at work on real sockets:
//!
//! - [`server`]: a *nursery* holds one task for each client, and a client's symbols are opened concurrently, with
//!   `gather_contexts`;
//! - [`upstream`]: a connection to the exchange is an async context, from `SUBSCRIBE` to the answer to `UNSUBSCRIBE`;
//!   a *context cache* shares it among all who want it, and a *broadcast* fans its ticks out and tells the slow what
//!   they lost;
//! - failures come as trees, of which a client is told the essence.
//!
//! Everything ends in the same way, whether one client leaves or the root scope is cancelled in mid-traffic: from the
//! inside to the outside, each client gets its last ticks and a `BYE`, and each upstream is unsubscribed from.
//!
//! Without arguments the program starts an exchange, the server and fifty clients, cancels the server while the ticks
//! are flowing, and then proves from the clients' books that nobody was cheated ([`rehearsal`], [`proof`]).
//! The [`protocol`] is lines of text, so `nc` is a client too: see `feed --help`.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "it is a program for the command line")]

mod client;
mod counters;
mod exchange;
mod ledger;
mod net;
mod options;
mod proof;
mod protocol;
mod rehearsal;
mod screen;
mod server;
mod tape;
mod upstream;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::ctrl_c;
use trionics::{CancelScope, Failure, Nursery, TokioClock, open_nursery, with_clock};

use crate::counters::Counters;
use crate::exchange::Exchange;
use crate::options::{Mode, Options, USAGE};
use crate::rehearsal::{ANY_PORT, rehearse};
use crate::screen::{say, show_progress};
use crate::server::Server;
use crate::tape::Tape;

fn main() -> ExitCode {
    let arguments = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned());
    let Options { mode, rate } = match Options::parse(arguments) {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("feed: {mistake}; `feed --help` shows what there is");
            return ExitCode::from(2);
        }
    };
    // The children of a nursery share its task, so a second worker thread would have nothing to do.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            match mode {
                Mode::Rehearse {
                    n_clients,
                    at_least,
                } => rehearse(n_clients, at_least, rate).await,
                Mode::Serve { address, upstream } => {
                    with_clock(TokioClock, serve(address, upstream, rate))
                        .await
                        .map(|()| true)
                }
                Mode::Replay { address } => with_clock(TokioClock, replay(address, rate))
                    .await
                    .map(|()| true),
                Mode::Help => {
                    say(USAGE);
                    Ok(true)
                }
            }
        })
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("feed: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves real clients until ctrl-c.
async fn serve(
    address: SocketAddr,
    upstream: Option<SocketAddr>,
    rate: u32,
) -> Result<(), Failure> {
    let tape = Tape::load();
    let counters = Arc::new(Counters::default());
    let exchange = match upstream {
        Some(_) => None,
        None => Some(Exchange::open(ANY_PORT, &tape, rate)?),
    };
    let upstream = match &exchange {
        Some(exchange) => exchange.address()?,
        None => upstream.expect("one of both is there"),
    };
    let server = Server::open(address, upstream, counters.clone())?;
    say(format_args!(
        "serving on {} from {upstream}; ctrl-c ends it",
        server.address()?
    ));

    open_nursery(async |tasks: Nursery<'_>| {
        if let Some(exchange) = &exchange {
            tasks.start_soon(exchange.serve());
        }
        tasks.start_soon(show_progress(&counters));
        until_ctrl_c(server.serve()).await?;
        tasks.cancel("the server has ended");
        say(&counters);
        Ok(())
    })
    .await
}

/// Replays the tape to real subscribers until ctrl-c.
async fn replay(address: SocketAddr, rate: u32) -> Result<(), Failure> {
    let tape = Tape::load();
    let exchange = Exchange::open(address, &tape, rate)?;
    say(format_args!(
        "replaying on {}; ctrl-c ends it",
        exchange.address()?
    ));
    until_ctrl_c(exchange.serve()).await
}

/// Runs the service until ctrl-c cancels it; a second ctrl-c waits for nothing.
async fn until_ctrl_c(service: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let root = CancelScope::new();
    open_nursery(async |tasks: Nursery<'_>| {
        tasks.start_soon(async {
            ctrl_c().await?;
            say("closing; ctrl-c again stops at once");
            root.cancel("ctrl-c");
            ctrl_c().await?;
            std::process::exit(130);
        });
        let ended = root.run(service).await;
        tasks.cancel("the service has ended");
        ended.unwrap_or(Ok(()))
    })
    .await
}
