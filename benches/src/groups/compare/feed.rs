//! A feed server: one stream of ticks from an exchange, passed on to 200 clients, each of which gets a goodbye.

use std::{fmt, io, time::Duration};

use ::tokio::net::TcpListener;
use ::trionics::{CancelScope, TokioClock, with_clock};

use super::{
    Run, Sources, With, compared,
    floor::{Floor, Trade},
    peer::listen,
    timed,
    wire::Incoming,
};
use crate::{Case, support::Host};

mod tokio;
mod trionics;

/// How many ticks are kept for clients that are slower than the fastest.
const WINDOW: usize = 1024;

/// How long the clients may take for their last lines.
const GRACE: Duration = Duration::from_secs(10);

/// What a client is told.
enum Message {
    Hello,
    Tick(u64),
    Lost(u64),
    /// With the number of the last tick that the client was sent.
    Bye(u64),
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Hello => write!(formatter, "HELLO"),
            Message::Tick(number) => write!(formatter, "TICK {number}"),
            Message::Lost(count) => write!(formatter, "LOST {count}"),
            Message::Bye(last) => write!(formatter, "BYE {last}"),
        }
    }
}

/// The exchange's next tick, or `None` if it says `BYE`.
async fn next_tick(incoming: &mut Incoming) -> io::Result<Option<u64>> {
    let line = incoming.expect().await?;
    match line.strip_prefix("TICK ") {
        Some(number) => number.parse().map(Some).map_err(io::Error::other),
        None if line == "BYE" => Ok(None),
        None => Err(io::Error::other(line.to_owned())),
    }
}

const TRADE: Trade = Trade {
    n_clients: 200,
    n_batches: 100,
    ticks_per_batch: 32,
};

/// The case.
pub(super) fn case() -> Case {
    let Trade {
        n_clients,
        n_batches,
        ticks_per_batch,
    } = TRADE;
    let case = Case::new(
        format!("feed server, {n_clients} clients"),
        "tick and client",
        (n_clients * n_batches * ticks_per_batch) as u64,
        "pass each tick on to every client, batch after batch, stop in the midst of another batch, say goodbye to every client and to the exchange; the same sockets, lines, batches and runtime; the tokio program is a task per client, a pump into its broadcast channel, and a token",
    )
    .lasting(Duration::from_millis(600));
    let sources = Sources {
        tokio: include_str!("feed/tokio.rs"),
        trionics: include_str!("feed/trionics.rs"),
    };
    compared(case, sources, |host, with| {
        serve_and_stop(host, with, TRADE)
    })
}

/// Serves the clients of a floor, and stops when all have got all batches but the last.
pub(super) fn serve_and_stop(host: &Host, with: With, trade: Trade) -> Run {
    let (listener, address) = listen(host).expect("there is a free port");
    let floor = Floor::open(host, trade, address);
    let ((), time) = timed(host, async {
        let listener = TcpListener::from_std(listener).expect("a runtime is around");
        let stop = floor.in_full_flight();
        match with {
            With::Tokio => {
                let served = tokio::serve(listener, floor.exchange(), stop).await;
                served.expect("it is stopped, and nothing fails");
            }
            With::Trionics => {
                let server = with_clock(TokioClock, trionics::serve(listener, floor.exchange()));
                let stopped = CancelScope::new().run_until(stop.cancelled(), server).await;
                stopped.expect_err("it is stopped, and nothing fails");
            }
        }
    });
    let books = floor.close();
    assert_eq!(
        books.n_ticks,
        trade.n_clients * trade.n_batches * trade.ticks_per_batch
    );
    Run {
        time,
        goodbyes: books.goodbyes,
    }
}

#[cfg(test)]
mod tests {
    use ::tokio::{join, net::TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::groups::compare::{Goodbyes, wire::lines};

    #[test]
    fn a_server_that_is_stopped_takes_leave_of_all() {
        let host = Host::tokio();
        for with in With::BOTH {
            for (n_clients, n_batches, ticks_per_batch) in [(1, 1, 1), (10, 20, 7), (100, 3, 64)] {
                let trade = Trade {
                    n_clients,
                    n_batches,
                    ticks_per_batch,
                };
                let Goodbyes { said, of } = serve_and_stop(&host, with, trade).goodbyes;
                assert_eq!((said, of), (n_clients + 1, n_clients + 1), "{with:?}");
            }
        }
    }

    #[test]
    fn a_server_whose_exchange_goes_away_takes_leave_of_its_clients_and_fails() {
        let host = Host::tokio();
        for with in With::BOTH {
            let (listener, address) = listen(&host).expect("there is a free port");
            let (exchange, exchange_address) = listen(&host).expect("there is a free port");
            let subscribed = CancellationToken::new();
            let exchange = async {
                let exchange = TcpListener::from_std(exchange)?;
                let (mut incoming, mut outgoing) = lines(exchange.accept().await?.0)?;
                assert_eq!(incoming.expect().await?, "SUBSCRIBE");
                subscribed.cancelled().await;
                outgoing.send("TICK 1").await
            };
            let client = async {
                let (mut incoming, mut outgoing) = lines(TcpStream::connect(address).await?)?;
                outgoing.send("SUBSCRIBE").await?;
                assert_eq!(incoming.expect().await?, "HELLO");
                subscribed.cancel();
                assert_eq!(incoming.expect().await?, "TICK 1");
                assert_eq!(incoming.expect().await?, "BYE 1");
                incoming.next().await.map(|line| line.map(str::to_owned))
            };
            timed(&host, async {
                let listener = TcpListener::from_std(listener).expect("a runtime is around");
                let server = async {
                    match with {
                        With::Tokio => {
                            let token = CancellationToken::new();
                            format!(
                                "{:?}",
                                tokio::serve(listener, exchange_address, token).await
                            )
                        }
                        With::Trionics => {
                            let server = trionics::serve(listener, exchange_address);
                            format!("{:?}", with_clock(TokioClock, server).await)
                        }
                    }
                };
                let (served, sent, received) = join!(server, exchange, client);
                assert!(served.contains("hung up"), "{with:?}: {served}");
                sent.expect("the exchange's socket works");
                assert_eq!(received.expect("the client's socket works"), None);
            });
        }
    }
}
