//! The connections to the exchange: one for each symbol that somebody wants, shared by all who want it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
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
pub(crate) const WINDOW: usize = 128;

/// How long the exchange may take to answer a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cache of connections to the exchange.
pub(crate) struct Upstreams {
    exchange: SocketAddr,
    counters: Arc<Counters>,
    cache: ContextCache<Key, Quotes, AnyError>,
    deaths: Arc<Deaths>,
}

/// What a connection is found by: its symbol, and how many connections for this symbol have died before it.
///
/// So clients of a dead connection can hear of it in peace, while a newcomer gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    symbol: Symbol,
    n_deaths: u64,
}

/// How many connections of each symbol have died.
type Deaths = Mutex<HashMap<Symbol, u64>>;

impl Upstreams {
    pub(crate) fn new(exchange: SocketAddr, counters: Arc<Counters>) -> Self {
        let (cache, deaths) = (ContextCache::new(), Arc::default());
        Upstreams {
            exchange,
            counters,
            cache,
            deaths,
        }
    }

    /// Holds the connections, until it is cancelled and the last one is closed.
    pub(crate) async fn serve(&self) -> Result<(), Failure> {
        self.cache.serve().await
    }

    /// The quotes of a symbol, as a context: the connection stays open at least as long as somebody is inside.
    pub(crate) fn open(
        &self,
        symbol: Symbol,
    ) -> impl AsyncContext<Value = CacheValue<Quotes>, Error = AnyError, Run: Send> {
        let n_deaths = self
            .deaths
            .lock()
            .unwrap()
            .get(&symbol)
            .copied()
            .unwrap_or(0);
        let (exchange, counters, deaths) =
            (self.exchange, self.counters.clone(), self.deaths.clone());
        self.cache.open(Key { symbol, n_deaths }, move || {
            acm(move |slot| connection(symbol, exchange, counters, deaths, slot))
        })
    }
}

/// A connection to the exchange, from `SUBSCRIBE` to `BYE`.
async fn connection(
    symbol: Symbol,
    exchange: SocketAddr,
    counters: Arc<Counters>,
    deaths: Arc<Deaths>,
    slot: Slot<Quotes>,
) -> Result<(), Failure> {
    // Shielded, because a request that is broken off would leave the exchange with a subscriber that never says UNSUBSCRIBE.
    let subscribing = subscribe(symbol, exchange, counters.clone(), deaths);
    let (quotes, requests) = shield(timeout(PATIENCE, subscribing)).await??;
    let _open = counters.upstreams.hold();

    slot.provide(quotes.clone()).await;

    // The last client has left, or everything is being cancelled: either way we say goodbye, and wait for the answer.
    quotes.unsubscribe(requests).await
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

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The exchange said `BYE` to our `UNSUBSCRIBE`.
    Bye,
    /// The exchange hung up, or said something that makes no sense.
    Died,
}

impl Quotes {
    pub(crate) fn symbol(&self) -> Symbol {
        self.source.symbol
    }

    /// A subscription to the ticks that come in from now on.
    pub(crate) fn subscribe(&self) -> Ticks {
        self.ticks.subscribe()
    }

    /// The number of the last tick that has come in.
    pub(crate) fn last(&self) -> u64 {
        self.source.last.load(Ordering::Relaxed)
    }

    /// How the connection ended, if it has.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.source.ending.get().copied()
    }

    async fn unsubscribe(&self, mut requests: Outgoing<OwnedWriteHalf>) -> Result<(), Failure> {
        let goodbye = async {
            requests.push(Request::Unsubscribe(vec![self.symbol()]));
            requests.flush().await?;
            // The BYE comes after the ticks that are still on their way.
            let mut remaining = self.subscribe();
            while remaining.recv().await.is_some() {}
            Ok::<(), Failure>(())
        };
        match self.ending() {
            Some(Ending::Died) => Ok(()),
            _ => timeout(PATIENCE, goodbye).await?,
        }
    }
}

async fn subscribe(
    symbol: Symbol,
    exchange: SocketAddr,
    counters: Arc<Counters>,
    deaths: Arc<Deaths>,
) -> Result<(Quotes, Outgoing<OwnedWriteHalf>), Failure> {
    let (reader, writer) = TcpStream::connect(exchange).await?.into_split();
    let (mut incoming, mut outgoing) = (Incoming::new(reader), Outgoing::new(writer));
    outgoing.push(Request::Subscribe(vec![symbol]));
    outgoing.flush().await?;
    let first = match incoming.next().await?.transpose()? {
        Some(Message::From { first, .. }) => first,
        Some(Message::Error(refusal)) => return Err(NoQuotes(refusal).into()),
        Some(other) => return Err(NoQuotes(format!("the exchange answers {other}")).into()),
        None => return Err(NoQuotes("the exchange hangs up".to_owned()).into()),
    };
    let last = AtomicU64::new(first - 1);
    let source = Arc::new(Source {
        symbol,
        last,
        ending: OnceLock::new(),
        counters,
        deaths,
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

/// What is known about a connection by reading from it.
#[derive(Debug)]
struct Source {
    symbol: Symbol,
    last: AtomicU64,
    ending: OnceLock<Ending>,
    counters: Arc<Counters>,
    deaths: Arc<Deaths>,
}

/// The ticks that come in, up to the end of the connection.
fn ticks(incoming: Incoming<OwnedReadHalf>, source: Arc<Source>) -> BoxStream<'static, Tick> {
    stream::unfold((incoming, source), async |(mut incoming, source)| {
        let tick = source.read(&mut incoming).await?;
        Some((tick, (incoming, source)))
    })
    .boxed()
}

impl Source {
    async fn read(&self, incoming: &mut Incoming<OwnedReadHalf>) -> Option<Tick> {
        let last = self.last.load(Ordering::Relaxed);
        match incoming.next().await {
            Ok(Some(Ok(Message::Tick {
                symbol,
                number,
                price,
            }))) if symbol == self.symbol && number == last + 1 => {
                self.last.store(number, Ordering::Relaxed);
                self.counters.ticks_in.add(1);
                return Some(Tick { number, price });
            }
            Ok(Some(Ok(message)))
                if message
                    == (Message::Bye {
                        symbol: self.symbol,
                        last,
                    }) =>
            {
                let _ = self.ending.set(Ending::Bye);
            }
            Ok(Some(Ok(message))) => {
                self.die(format_args!("it said \"{message}\" after tick {last}"))
            }
            Ok(Some(Err(malformed))) => self.die(malformed),
            Ok(None) => self.die("it hung up without a BYE"),
            Err(error) => self.die(error),
        }
        None
    }

    fn die(&self, reason: impl fmt::Display) {
        say(format_args!(
            "the upstream of {} has died: {reason}",
            self.symbol
        ));
        let _ = self.ending.set(Ending::Died);
        *self.deaths.lock().unwrap().entry(self.symbol).or_default() += 1;
    }
}

/// The exchange does not give us what we asked for, for this reason.
#[derive(Debug)]
struct NoQuotes(String);

impl fmt::Display for NoQuotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoQuotes {}
