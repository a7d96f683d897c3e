//! The server: accepts clients, opens the upstreams that each of them wants, and passes the ticks on.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::timeout;
use trionics::{Failure, Nursery, cancel_requested, gather_contexts, open_nursery, shield};

use crate::counters::Counters;
use crate::net::{accept, listen};
use crate::protocol::{Incoming, Malformed, Message, Outgoing, Request, Symbol};
use crate::screen::say;
use crate::upstream::{OpenFeed, Quotes, Tick, Ticks, Upstreams};

/// How many bytes the kernel may hold for a client that does not read.
///
/// It would take megabytes, and the client would be sent the prices of last minute.
/// With little in the kernel, a slow client is soon told of its loss, and then gets fresh ticks.
const SEND_BUFFER: u32 = 4 * 1024;

/// How long a client may take for its last lines before the server hangs up.
const FAREWELL: Duration = Duration::from_secs(10);

/// A server that fans the ticks of an exchange out to its clients.
pub(crate) struct Server {
    listener: TcpListener,
    upstreams: Upstreams,
    counters: Arc<Counters>,
}

impl Server {
    pub(crate) fn open(
        address: SocketAddr,
        exchange: SocketAddr,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let listener = listen(address, Some(SEND_BUFFER))?;
        let upstreams = Upstreams::new(exchange, counters.clone());
        Ok(Server {
            listener,
            upstreams,
            counters,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves clients until it is cancelled, and has then taken leave of each of them and of the exchange.
    pub(crate) async fn serve(&self) -> Result<(), Failure> {
        open_nursery(async |tasks: Nursery<'_>| {
            tasks.start_soon(self.upstreams.serve());
            loop {
                let (socket, peer) = accept(&self.listener).await;
                tasks.start_soon(async move {
                    let _connected = self.counters.clients.hold();
                    // One client's trouble is not the others'.
                    if let Err(failure) = self.attend(&mut Client::new(socket, peer)).await {
                        say(format_args!("client {peer}: {}", in_one_line(&failure)));
                    }
                    Ok(())
                });
            }
        })
        .await
    }

    /// Serves one client, until it has had enough or the server closes.
    async fn attend(&self, client: &mut Client) -> Result<(), Failure> {
        while let Some(symbols) = client.wishes().await? {
            let upstreams: Vec<_> = symbols
                .into_iter()
                .map(|symbol| self.upstreams.open(symbol))
                .collect();
            let served = gather_contexts(upstreams, async |quotes: Vec<_>| {
                Ok(self.deliver(client, &quotes).await)
            });
            match served.await {
                Ok(delivered) => return Ok(delivered?),
                Err(failure) => client.refuse(in_one_line(&failure)),
            }
        }
        Ok(())
    }

    /// Passes the ticks on to one client, until it has had enough or the server closes.
    async fn deliver(&self, client: &mut Client, quotes: &[OpenFeed]) -> io::Result<()> {
        // A cancellation must not cut a line in two, and the client is to have a BYE.
        // So it does not come as a drop here, in the shield, but as an event.
        shield(async {
            let Client {
                peer,
                incoming,
                outgoing,
            } = client;
            let mut desk = Desk::open(&self.counters, outgoing, quotes);
            loop {
                select! {
                    passed_on = desk.pass_on() => {
                        passed_on?;
                        break;
                    }
                    request = incoming.next(), if desk.has_room() => match request? {
                        Some(request) => desk.answer(request).await,
                        None => return Err(io::Error::other("it has hung up")),
                    },
                    () = cancel_requested() => {
                        desk.close(|_| true).await;
                        break;
                    }
                }
            }
            match timeout(FAREWELL, outgoing.finish()).await {
                Ok(finished) => finished,
                Err(_) => {
                    say(format_args!(
                        "client {peer}: it does not take its last lines"
                    ));
                    Ok(())
                }
            }
        })
        .await
    }
}

/// A client's connection.
struct Client {
    peer: SocketAddr,
    incoming: Incoming<OwnedReadHalf>,
    outgoing: Outgoing<OwnedWriteHalf>,
}

impl Client {
    fn new(socket: TcpStream, peer: SocketAddr) -> Self {
        let (reader, writer) = socket.into_split();
        let (incoming, outgoing) = (Incoming::new(reader), Outgoing::new(writer));
        Client {
            peer,
            incoming,
            outgoing,
        }
    }

    /// The symbols that the client wants, or `None` when it has hung up.
    async fn wishes(&mut self) -> io::Result<Option<Vec<Symbol>>> {
        loop {
            self.outgoing.flush().await?;
            match self.incoming.next().await? {
                None => return Ok(None),
                Some(Ok(Request::Subscribe(symbols))) => return Ok(Some(symbols)),
                Some(Ok(Request::Unsubscribe(_))) => self.refuse("SUBSCRIBE first"),
                Some(Err(malformed)) => self.refuse(malformed),
            }
        }
    }

    fn refuse(&mut self, reason: impl Display) {
        self.outgoing.push(Message::Error(reason.to_string()));
    }
}

/// Where the ticks for one client are written down.
struct Desk<'a> {
    outgoing: &'a mut Outgoing<OwnedWriteHalf>,
    subscriptions: Vec<Subscription<'a>>,
}

impl<'a> Desk<'a> {
    /// When so many bytes are written down, they are sent before there are more.
    const BATCH: usize = 4096;

    fn open(
        counters: &'a Counters,
        outgoing: &'a mut Outgoing<OwnedWriteHalf>,
        opened: &'a [OpenFeed],
    ) -> Self {
        let subscriptions: Vec<_> = opened
            .iter()
            .map(|quotes| Subscription::new(quotes, counters))
            .collect();
        for Subscription { quotes, next, .. } in &subscriptions {
            outgoing.push(Message::From {
                symbol: quotes.symbol(),
                first: *next,
            });
        }
        counters
            .cache_hits
            .add(opened.iter().filter(|quotes| quotes.cache_hit()).count() as u64);
        Desk {
            outgoing,
            subscriptions,
        }
    }

    /// Sends all that comes in, until there is no subscription left.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what is written down and not sent yet waits for the next call.
    async fn pass_on(&mut self) -> io::Result<()> {
        loop {
            self.outgoing.flush().await?;
            if self.subscriptions.is_empty() {
                return Ok(());
            }
            poll_fn(|context| self.poll_write_down(context)).await;
        }
    }

    /// Whether there is room for answers: a client that only asks and never reads is not listened to.
    fn has_room(&self) -> bool {
        self.outgoing.len() < 4 * Self::BATCH
    }

    async fn answer(&mut self, request: Result<Request, Malformed>) {
        let refusal = match request {
            Ok(Request::Unsubscribe(symbols)) => {
                return self.close(|symbol| symbols.contains(&symbol)).await;
            }
            Ok(Request::Subscribe(_)) => "UNSUBSCRIBE from all first".to_owned(),
            Err(malformed) => malformed.to_string(),
        };
        self.outgoing.push(Message::Error(refusal));
    }

    /// Takes leave of the client for some symbols: writes down what has come in for them, to the last tick, and a `BYE`.
    async fn close(&mut self, is_meant: impl Fn(Symbol) -> bool) {
        let subscriptions = mem::take(&mut self.subscriptions).into_iter();
        let (meant, others): (Vec<_>, _) =
            subscriptions.partition(|subscription| is_meant(subscription.quotes.symbol()));
        self.subscriptions = others;
        for mut subscription in meant {
            let (symbol, last) = (subscription.quotes.symbol(), subscription.quotes.last());
            while subscription.next <= last {
                let message = poll_fn(|context| subscription.poll_message(context)).await;
                self.outgoing.push(message);
            }
            self.outgoing.push(Message::Bye { symbol, last });
        }
    }

    /// Writes down what has come in for all subscriptions, up to a full batch.
    fn poll_write_down(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.subscriptions.retain_mut(|subscription| {
            while self.outgoing.len() < Self::BATCH
                && let Poll::Ready(message) = subscription.poll_message(context)
            {
                self.outgoing.push(&message);
                if message.is_last() {
                    return false;
                }
            }
            true
        });
        if self.outgoing.len() == 0 {
            return Poll::Pending;
        }
        // The others first the next time, should this one have filled the batch.
        if let [_, _, ..] = self.subscriptions[..] {
            self.subscriptions.rotate_left(1);
        }
        Poll::Ready(())
    }
}

/// A client's subscription to one symbol.
struct Subscription<'a> {
    quotes: &'a Quotes,
    ticks: Ticks,
    /// The number of the tick that is to be told next.
    next: u64,
    counters: &'a Counters,
}

impl<'a> Subscription<'a> {
    fn new(quotes: &'a Quotes, counters: &'a Counters) -> Self {
        // No tick can come in between these two: all tasks of the server run on this thread.
        let (next, ticks) = (quotes.last() + 1, quotes.subscribe());
        Subscription {
            quotes,
            ticks,
            next,
            counters,
        }
    }

    /// What the client is to be told next.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        let symbol = self.quotes.symbol();
        let message = match ready!(self.ticks.poll_recv(context)) {
            Some(Ok(Tick { number, price })) => {
                self.counters.ticks_out.add(1);
                self.next = number + 1;
                Message::Tick {
                    symbol,
                    number,
                    price,
                }
            }
            Some(Err(lagged)) => {
                let count = lagged.count();
                self.counters.told_lost.add(count);
                self.next += count;
                Message::Lost { symbol, count }
            }
            None => Message::Down {
                symbol,
                last: self.quotes.last(),
            },
        };
        Poll::Ready(message)
    }
}

/// A tree of failures for somebody who reads a line: what went wrong at its leaves.
fn in_one_line(failure: &Failure) -> String {
    let leaves: Vec<_> = failure.leaves().map(ToString::to_string).collect();
    leaves.join("; ")
}
