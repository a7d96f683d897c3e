//! The floor around a feed server: an exchange that sends it ticks, and clients that check what they are sent.

use std::{cell::Cell, io, net::SocketAddr};

use futures::future::try_join_all;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Notify,
    try_join,
};
use tokio_util::sync::CancellationToken;

use super::{
    Goodbyes,
    peer::{Peer, listen},
    wire::lines,
};
use crate::support::Host;

/// How much is traded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trade {
    pub(super) n_clients: usize,
    /// The exchange sends ticks in batches, each when every client has got the one before.
    pub(super) n_batches: usize,
    pub(super) ticks_per_batch: usize,
}

/// A floor at work.
#[derive(Debug)]
pub(super) struct Floor {
    exchange: SocketAddr,
    in_full_flight: CancellationToken,
    peer: Peer<io::Result<Books>>,
}

/// What the floor has to say at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Books {
    /// Ticks that came to clients, each of them in its turn, without the last batch, which is cut short.
    pub(super) n_ticks: usize,
    /// Of the clients and the exchange.
    pub(super) goodbyes: Goodbyes,
}

impl Floor {
    /// Opens the exchange, and sends the clients to the server.
    pub(super) fn open(host: &Host, trade: Trade, server: SocketAddr) -> Self {
        let (listener, exchange) = listen(host).expect("there is a free port");
        let in_full_flight = CancellationToken::new();
        let traders = Traders {
            trade,
            in_full_flight: in_full_flight.clone(),
            n_ready: Cell::new(0),
            all_ready: Notify::new(),
            n_ticks: Cell::new(0),
            n_goodbyes: Cell::new(0),
        };
        let peer = Peer::start(async move |stop| {
            let listener = TcpListener::from_std(listener)?;
            let clients = (0..trade.n_clients).map(|_| traders.client(server));
            select! {
                ended = async { try_join!(traders.exchange(listener), try_join_all(clients)) } => {
                    ended?;
                }
                // Whoever is left was not taken leave of.
                () = stop.cancelled() => {}
            }
            Ok(Books {
                n_ticks: traders.n_ticks.get(),
                goodbyes: Goodbyes {
                    said: traders.n_goodbyes.get(),
                    of: trade.n_clients + 1,
                },
            })
        });
        Floor {
            exchange,
            in_full_flight,
            peer,
        }
    }

    pub(super) fn exchange(&self) -> SocketAddr {
        self.exchange
    }

    /// Cancelled when the clients have got all batches, and another one is on its way.
    pub(super) fn in_full_flight(&self) -> CancellationToken {
        self.in_full_flight.clone()
    }

    /// Closes the floor, once the server has ended.
    pub(super) fn close(self) -> Books {
        self.peer
            .finish()
            .expect("the server keeps to the protocol")
    }
}

/// The exchange and the clients, all on one thread.
struct Traders {
    trade: Trade,
    in_full_flight: CancellationToken,
    /// How many clients have what the exchange waits for: their subscription, then one batch after the other.
    n_ready: Cell<usize>,
    all_ready: Notify,
    n_ticks: Cell<usize>,
    n_goodbyes: Cell<usize>,
}

impl Traders {
    /// A client, from `SUBSCRIBE` to `BYE`.
    async fn client(&self, server: SocketAddr) -> io::Result<()> {
        let (mut incoming, mut outgoing) = lines(TcpStream::connect(server).await?)?;
        outgoing.send("SUBSCRIBE").await?;
        let greeting = incoming.expect().await?;
        if greeting != "HELLO" {
            return Err(unexpected(greeting));
        }
        self.is_ready();
        let Trade {
            n_batches,
            ticks_per_batch,
            ..
        } = self.trade;
        let mut last = 0;
        loop {
            let line = incoming.expect().await?;
            let (word, number) = line.split_once(' ').ok_or_else(|| unexpected(line))?;
            let number: usize = number.parse().map_err(|_| unexpected(line))?;
            match word {
                "TICK" if number == last + 1 => last = number,
                "BYE" if number == last => break,
                _ => return Err(unexpected(line)),
            }
            if last <= n_batches * ticks_per_batch {
                self.n_ticks.update(|count| count + 1);
                if last % ticks_per_batch == 0 {
                    self.is_ready();
                }
            }
        }
        if last < n_batches * ticks_per_batch {
            return Err(io::Error::other("the server has left too early"));
        }
        self.n_goodbyes.update(|count| count + 1);
        outgoing.leave_no_trace();
        Ok(())
    }

    fn is_ready(&self) {
        self.n_ready.update(|count| count + 1);
        if self.n_ready.get() == self.trade.n_clients {
            self.n_ready.set(0);
            self.all_ready.notify_one();
        }
    }

    /// The exchange, which has one subscriber: the server.
    async fn exchange(&self, listener: TcpListener) -> io::Result<()> {
        let (mut incoming, mut outgoing) = lines(listener.accept().await?.0)?;
        let request = incoming.expect().await?;
        if request != "SUBSCRIBE" {
            return Err(unexpected(request));
        }
        let mut last = 0;
        for batch in 0..=self.trade.n_batches {
            self.all_ready.notified().await;
            for _ in 0..self.trade.ticks_per_batch {
                last += 1;
                outgoing.push(format_args!("TICK {last}"));
            }
            outgoing.flush().await?;
            if batch == self.trade.n_batches {
                self.in_full_flight.cancel();
            }
        }
        let request = incoming.expect().await?;
        if request != "UNSUBSCRIBE" {
            return Err(unexpected(request));
        }
        // It is counted first: who has the answer finds it counted.
        self.n_goodbyes.update(|count| count + 1);
        outgoing.send("BYE").await
    }
}

fn unexpected(line: &str) -> io::Error {
    io::Error::other(format!("not what was expected: {line}"))
}
