//! The server: accepts clients, opens the upstreams that each of them wants, and passes the ticks on.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::timeout;
use trionics::{
    CacheValue, Failure, Nursery, cancel_requested, collapse_eg, gather_contexts, open_nursery,
    shield,
};

use crate::counters::Counters;
use crate::net::{accept, listen};
use crate::protocol::{Incoming, Malformed, Message, Outgoing, Request, Symbol};
use crate::screen::say;
use crate::upstream::{Quotes, Tick, Ticks, Upstreams};

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
        let listener = listen(address)?;
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
                    if let Err(failure) = self.attend(socket).await {
                        say(format_args!("client {peer}: {failure}"));
                    }
                    Ok(())
                });
            }
        })
        .await
    }

    /// Serves one client.
    async fn attend(&self, socket: TcpStream) -> Result<(), Failure> {
        let (reader, writer) = socket.into_split();
        let mut client = Client {
            incoming: Incoming::new(reader),
            outgoing: Outgoing::new(writer),
        };
        while let Some(symbols) = client.wishes().await? {
            let contexts: Vec<_> = symbols
                .into_iter()
                .map(|symbol| self.upstreams.open(symbol))
                .collect();
            let served = gather_contexts(contexts, async |quotes: Vec<_>| {
                Ok(self.deliver(&mut client, &quotes).await)
            });
            match served.await {
                Ok(delivered) => return Ok(delivered?),
                Err(failure) => {
                    client.outgoing.push(error(collapse_eg(failure)));
                }
            }
        }
        Ok(())
    }

    /// Passes the ticks on to one client, until it has had enough or the server closes.
    async fn deliver(&self, client: &mut Client, quotes: &[CacheValue<Quotes>]) -> io::Result<()> {
        // A cancellation must not cut a line in two, and the client is to have a BYE.
        // So it does not come as a drop here, in the shield, but as an event.
        shield(async {
            let mut desk = Desk::open(&self.counters, &mut client.outgoing, quotes);
            loop {
                select! {
                    passed_on = desk.pass_on() => {
                        passed_on?;
                        break;
                    }
                    request = client.incoming.next() => match request? {
                        Some(request) => desk.answer(request).await,
                        None => return Err(io::Error::other("it hung up")),
                    },
                    () = cancel_requested() => {
                        desk.close(|_| true).await;
                        break;
                    }
                }
            }
            match timeout(FAREWELL, desk.outgoing.finish()).await {
                Ok(finished) => finished,
                Err(_) => Err(io::Error::other("it does not take its last lines")),
            }
        })
        .await
    }
}

/// A client's connection.
struct Client {
    incoming: Incoming<OwnedReadHalf>,
    outgoing: Outgoing<OwnedWriteHalf>,
}

impl Client {
    /// The symbols that the client wants, or `None` when it has hung up.
    async fn wishes(&mut self) -> io::Result<Option<Vec<Symbol>>> {
        loop {
            self.outgoing.flush().await?;
            match self.incoming.next().await? {
                None => return Ok(None),
                Some(Ok(Request::Subscribe(symbols))) => return Ok(Some(symbols)),
                Some(Ok(Request::Unsubscribe(_))) => self.outgoing.push(error("SUBSCRIBE first")),
                Some(Err(malformed)) => self.outgoing.push(error(malformed)),
            }
        }
    }
}

/// Where the ticks for one client are written down.
struct Desk<'a> {
    counters: &'a Counters,
    outgoing: &'a mut Outgoing<OwnedWriteHalf>,
    subscriptions: Vec<Subscription<'a>>,
}

impl<'a> Desk<'a> {
    /// When so many bytes are written down, they are sent before there are more.
    const BATCH: usize = 4096;

    fn open(
        counters: &'a Counters,
        outgoing: &'a mut Outgoing<OwnedWriteHalf>,
        opened: &'a [CacheValue<Quotes>],
    ) -> Self {
        let mut desk = Desk {
            counters,
            outgoing,
            subscriptions: Vec::new(),
        };
        for quotes in opened {
            let subscription = Subscription::new(quotes);
            let (symbol, first) = (quotes.symbol(), subscription.next);
            desk.write_down(&Message::From { symbol, first });
            desk.subscriptions.push(subscription);
            counters.cache_hits.add(quotes.cache_hit().into());
        }
        desk
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

    async fn answer(&mut self, request: Result<Request, Malformed>) {
        match request {
            Ok(Request::Unsubscribe(symbols)) => {
                self.close(|symbol| symbols.contains(&symbol)).await
            }
            Ok(Request::Subscribe(_)) => self.outgoing.push(error("UNSUBSCRIBE from all first")),
            Err(malformed) => self.outgoing.push(error(malformed)),
        }
    }

    /// Takes leave of the client for some symbols: writes down what has come in for them, to the last tick, and a `BYE`.
    async fn close(&mut self, is_meant: impl Fn(Symbol) -> bool) {
        let meant = self
            .subscriptions
            .extract_if(.., |open| is_meant(open.quotes.symbol()));
        for mut subscription in meant.collect::<Vec<_>>() {
            let (symbol, last) = (subscription.quotes.symbol(), subscription.quotes.last());
            while subscription.next <= last {
                let message = poll_fn(|context| subscription.poll_message(context)).await;
                self.write_down(&message);
            }
            self.write_down(&Message::Bye { symbol, last });
        }
    }

    /// Writes down what has come in for all subscriptions, up to a full batch.
    fn poll_write_down(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The others first the next time, should this one fill the batch alone.
        self.subscriptions.rotate_left(1);
        let mut subscriptions = mem::take(&mut self.subscriptions);
        subscriptions.retain_mut(|subscription| {
            while self.outgoing.len() < Self::BATCH
                && let Poll::Ready(message) = subscription.poll_message(context)
            {
                self.write_down(&message);
                if message.is_last() {
                    return false;
                }
            }
            true
        });
        self.subscriptions = subscriptions;
        if self.outgoing.len() > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn write_down(&mut self, message: &Message) {
        match message {
            Message::Tick { .. } => self.counters.ticks_out.add(1),
            Message::Lost { count, .. } => self.counters.told_lost.add(*count),
            _ => {}
        }
        self.outgoing.push(message);
    }
}

/// A client's subscription to one symbol.
struct Subscription<'a> {
    quotes: &'a Quotes,
    ticks: Ticks,
    /// The number of the tick that is to be told next.
    next: u64,
}

impl<'a> Subscription<'a> {
    fn new(quotes: &'a Quotes) -> Self {
        // No tick can come in between these two: all tasks of the server run on this thread.
        let (next, ticks) = (quotes.last() + 1, quotes.subscribe());
        Subscription {
            quotes,
            ticks,
            next,
        }
    }

    /// What the client is to be told next.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        let symbol = self.quotes.symbol();
        self.ticks
            .poll_recv(context)
            .map(|received| match received {
                Some(Ok(Tick { number, price })) => {
                    self.next = number + 1;
                    Message::Tick {
                        symbol,
                        number,
                        price,
                    }
                }
                Some(Err(lagged)) => {
                    self.next += lagged.count();
                    Message::Lost {
                        symbol,
                        count: lagged.count(),
                    }
                }
                None => Message::Down {
                    symbol,
                    last: self.quotes.last(),
                },
            })
    }
}

fn error(what: impl Display) -> Message {
    Message::Error(what.to_string())
}
