//! The connections to the exchange: one for each symbol that somebody wants, shared by all who want it.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use trionics::{
    AnyError, AsyncContext, BroadcastReceiver, CacheValue, ContextCache, Failure, Slot, acm,
    broadcast_receiver, shield,
};

use crate::counters::Counters;
use crate::protocol::{Incoming, Message, Outgoing, Request, Symbol};
use crate::screen::say;

/// How many ticks of a symbol are kept for the clients that are not as fast as the fastest.
const WINDOW: usize = 128;

/// How long the exchange may take to answer a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cache of connections to the exchange.
pub(crate) struct Upstreams {
    exchange: Arc<Remote>,
    cache: ContextCache<Key, Quotes>,
}

/// What a connection is found by: its symbol, and how many connections for this symbol have died before it.
///
/// So the clients of a dead connection can hear of it in peace, while a newcomer gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    symbol: Symbol,
    n_deaths: u64,
}

/// A connection in the hands of a client.
pub(crate) type OpenFeed = CacheValue<Key, Quotes>;

impl Upstreams {
    pub(crate) fn new(address: SocketAddr, counters: Arc<Counters>) -> Self {
        let deaths = Mutex::default();
        Upstreams {
            exchange: Arc::new(Remote {
                address,
                counters,
                deaths,
            }),
            cache: ContextCache::new(),
        }
    }

    /// Holds the connections, until it is cancelled and the last one is closed.
    pub(crate) async fn serve(&self) -> Result<(), Failure> {
        self.cache.serve().await
    }

    /// The quotes of a symbol, as a context: while somebody is inside, the connection stays open.
    pub(crate) fn open(
        &self,
        symbol: Symbol,
    ) -> impl AsyncContext<Value = OpenFeed, Error = AnyError, Run: Send> + use<> {
        let exchange = self.exchange.clone();
        let key = Key {
            symbol,
            n_deaths: exchange.n_deaths(symbol),
        };
        self.cache.context(key, move || {
            acm(move |slot| connection(symbol, exchange, slot))
        })
    }
}

/// A connection to the exchange, from `SUBSCRIBE` to `BYE`.
async fn connection(
    symbol: Symbol,
    exchange: Arc<Remote>,
    slot: Slot<Quotes>,
) -> Result<(), Failure> {
    let _counted = exchange.counters.upstreams.hold();
    // Shielded, because whoever drops it half-way leaves the exchange with a subscriber that never says UNSUBSCRIBE.
    let (quotes, mut requests) = shield(subscribe(symbol, exchange.clone())).await?;

    slot.provide(quotes.clone()).await;

    // The last client has left, or everything is being cancelled. This is the exit: it may take its time in both cases.
    quotes.unsubscribe(&mut requests).await;
    Ok(())
}

/// The quotes of one symbol, from one connection.
#[derive(Clone)]
pub(crate) struct Quotes {
    source: Arc<Source>,
    ticks: Arc<Ticks>,
}

/// A subscription to the ticks of a connection.
pub(crate) type Ticks = BroadcastReceiver<BoxStream<'static, Tick>>;

/// A tick, and its number at the exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub(crate) number: u64,
    pub(crate) price: f64,
}

impl Quotes {
    pub(crate) fn symbol(&self) -> Symbol {
        self.source.symbol
    }

    /// The number of the last tick that has come in.
    pub(crate) fn last(&self) -> u64 {
        self.source.last.load(Ordering::Relaxed)
    }

    /// A subscription to the ticks that come in from now on.
    pub(crate) fn subscribe(&self) -> Ticks {
        self.ticks.subscribe()
    }

    async fn unsubscribe(&self, requests: &mut Outgoing<OwnedWriteHalf>) {
        let goodbye = async {
            requests.push(Request::Unsubscribe(vec![self.symbol()]));
            requests.flush().await?;
            // The BYE comes after the ticks that are still on their way, and ends the stream.
            let mut remaining = self.subscribe();
            while remaining.recv().await.is_some() {}
            Ok::<(), Failure>(())
        };
        if self.source.has_died.load(Ordering::Relaxed) {
            return;
        }
        match timeout(PATIENCE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => self.source.die(failure),
            Err(_) => self.source.die("it does not answer UNSUBSCRIBE"),
        }
    }
}

async fn subscribe(
    symbol: Symbol,
    exchange: Arc<Remote>,
) -> Result<(Quotes, Outgoing<OwnedWriteHalf>), NoQuotes> {
    let no_quotes = |reason: &dyn Display| NoQuotes {
        symbol,
        reason: reason.to_string(),
    };
    let dialog = async {
        let (reader, writer) = TcpStream::connect(exchange.address).await?.into_split();
        let (mut incoming, mut outgoing) = (Incoming::new(reader), Outgoing::new(writer));
        outgoing.push(Request::Subscribe(vec![symbol]));
        outgoing.flush().await?;
        Ok((incoming.next().await?, incoming, outgoing))
    };
    let (answer, incoming, outgoing) = timeout(PATIENCE, dialog)
        .await
        .map_err(|_| no_quotes(&"the exchange does not answer"))?
        .map_err(|error: io::Error| no_quotes(&error))?;
    let first = match answer {
        Some(Ok(Message::From { first, .. })) => first,
        Some(Ok(Message::Error(refusal))) => return Err(no_quotes(&refusal)),
        Some(Ok(other)) => return Err(no_quotes(&format_args!("the exchange says {other}"))),
        Some(Err(malformed)) => return Err(no_quotes(&malformed)),
        None => return Err(no_quotes(&"the exchange hangs up")),
    };
    let (last, has_died) = (AtomicU64::new(first - 1), AtomicBool::new(false));
    let source = Arc::new(Source {
        exchange,
        symbol,
        last,
        has_died,
    });
    let ticks = broadcast_receiver(ticks(incoming, source.clone()), WINDOW).expect("a window");
    Ok((
        Quotes {
            source,
            ticks: Arc::new(ticks),
        },
        outgoing,
    ))
}

/// The ticks that come in, up to the end of the connection.
fn ticks(incoming: Incoming<OwnedReadHalf>, source: Arc<Source>) -> BoxStream<'static, Tick> {
    stream::unfold((incoming, source), async |(mut incoming, source)| {
        let tick = source.next_tick(&mut incoming).await?;
        Some((tick, (incoming, source)))
    })
    .boxed()
}

/// What is known about a connection by reading from it.
#[derive(Debug)]
struct Source {
    exchange: Arc<Remote>,
    symbol: Symbol,
    last: AtomicU64,
    /// Whether the connection has ended in any other way than by our `UNSUBSCRIBE`.
    has_died: AtomicBool,
}

impl Source {
    async fn next_tick(&self, incoming: &mut Incoming<OwnedReadHalf>) -> Option<Tick> {
        let known = self.last.load(Ordering::Relaxed);
        match incoming.next().await {
            Ok(Some(Ok(Message::Tick {
                symbol,
                number,
                price,
            }))) if symbol == self.symbol && number == known + 1 => {
                self.last.store(number, Ordering::Relaxed);
                self.exchange.counters.ticks_in.add(1);
                return Some(Tick { number, price });
            }
            Ok(Some(Ok(Message::Bye { symbol, last })))
                if symbol == self.symbol && last == known => {}
            Ok(Some(Ok(message))) => self.die(format_args!("after tick {known} it says {message}")),
            Ok(Some(Err(malformed))) => self.die(malformed),
            Ok(None) => self.die("it hung up without a BYE"),
            Err(error) => self.die(error),
        }
        None
    }

    fn die(&self, reason: impl Display) {
        say(format_args!(
            "the upstream of {} has died: {reason}",
            self.symbol
        ));
        if !self.has_died.swap(true, Ordering::Relaxed) {
            *self
                .exchange
                .deaths
                .lock()
                .unwrap()
                .entry(self.symbol)
                .or_default() += 1;
        }
    }
}

/// The exchange, as it is seen from here.
#[derive(Debug)]
struct Remote {
    address: SocketAddr,
    counters: Arc<Counters>,
    /// How many connections of each symbol have died.
    deaths: Mutex<HashMap<Symbol, u64>>,
}

impl Remote {
    fn n_deaths(&self, symbol: Symbol) -> u64 {
        self.deaths
            .lock()
            .unwrap()
            .get(&symbol)
            .copied()
            .unwrap_or(0)
    }
}

/// The exchange does not give what was asked for.
#[derive(Debug)]
struct NoQuotes {
    symbol: Symbol,
    reason: String,
}

impl Display for NoQuotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no quotes of {}: {}", self.symbol, self.reason)
    }
}

impl std::error::Error for NoQuotes {}
