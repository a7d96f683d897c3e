//! The upstream: a TCP server that replays the tape to its subscribers, and keeps a journal of what it sent to whom.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::{MissedTickBehavior, interval};
use trionics::{CancelScope, Failure, Nursery, open_nursery};

use crate::net::{accept, listen};
use crate::protocol::{Incoming, Message, Outgoing, Request, Symbol};
use crate::tape::Tape;

/// An exchange, on which every symbol is traded at the same steady rate from the start on, whether or not anybody listens.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    tape: &'a Tape,
    /// Ticks per second for each symbol.
    rate: u32,
    opened: Instant,
    listener: TcpListener,
    journal: Mutex<Vec<Arc<Entry>>>,
}

/// A subscriber's connection, as the exchange saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) symbol: Symbol,
    pub(crate) first: u64,
    /// The last number that was sent, so far.
    pub(crate) last: u64,
    pub(crate) ending: Option<Ending>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The subscriber said `UNSUBSCRIBE` and was answered `BYE`.
    Unsubscribed,
    /// The subscriber went away without a word.
    HungUp,
    /// The exchange itself hung up, without a word.
    Crashed,
}

/// What the journal holds of a connection.
#[derive(Debug)]
struct Entry {
    line: Mutex<Line>,
    /// What serves the subscriber runs in here.
    scope: CancelScope,
}

impl<'a> Exchange<'a> {
    pub(crate) fn open(address: SocketAddr, tape: &'a Tape, rate: u32) -> io::Result<Self> {
        let listener = listen(address, None)?;
        let (opened, journal) = (Instant::now(), Mutex::default());
        Ok(Exchange {
            tape,
            rate,
            opened,
            listener,
            journal,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves subscribers until it is cancelled.
    pub(crate) async fn serve(&self) -> Result<(), Failure> {
        open_nursery(async |subscribers: Nursery<'_>| {
            loop {
                let (socket, _) = accept(&self.listener).await;
                subscribers.start_soon(async {
                    // An error means that the subscriber is gone, which the journal shows.
                    let _ = self.attend(socket).await;
                    Ok(())
                });
            }
        })
        .await
    }

    /// Hangs up on all subscribers of this symbol without a word, as a machine does whose power is cut.
    pub(crate) fn crash(&self, symbol: Symbol) {
        for entry in self.journal.lock().unwrap().iter() {
            let Line {
                symbol: served,
                ending,
                ..
            } = *entry.line.lock().unwrap();
            if served == symbol && ending.is_none() {
                entry.scope.cancel("the exchange has crashed");
            }
        }
    }

    /// Whether somebody is subscribed to this symbol.
    pub(crate) fn has_subscribers(&self, symbol: Symbol) -> bool {
        self.journal()
            .iter()
            .any(|line| line.symbol == symbol && line.ending.is_none())
    }

    /// All connections there were, with what was sent on each.
    pub(crate) fn journal(&self) -> Vec<Line> {
        self.journal
            .lock()
            .unwrap()
            .iter()
            .map(|entry| *entry.line.lock().unwrap())
            .collect()
    }

    /// The number of the newest tick of every symbol.
    fn newest(&self) -> u64 {
        (self.opened.elapsed().as_secs_f64() * f64::from(self.rate)) as u64
    }

    /// Serves one subscriber, who can have one symbol.
    async fn attend(&self, socket: TcpStream) -> io::Result<()> {
        let (reader, writer) = socket.into_split();
        let (mut incoming, mut outgoing) = (Incoming::new(reader), Outgoing::new(writer));
        while let Some(request) = incoming.next().await? {
            let refusal = match request {
                Ok(Request::Subscribe(symbols)) => match symbols[..] {
                    [symbol] if self.tape.has(symbol) => {
                        let entry = self.enter(symbol);
                        let replay = self.replay(&entry.line, &mut incoming, &mut outgoing);
                        let ending = match entry.scope.run(replay).await {
                            Ok(Ok(ending)) => ending,
                            Ok(Err(_)) => Ending::HungUp,
                            Err(_cancelled) => Ending::Crashed,
                        };
                        entry.line.lock().unwrap().ending = Some(ending);
                        return Ok(());
                    }
                    [symbol] => format!("{symbol} is not traded here"),
                    _ => "one symbol a connection, please".to_owned(),
                },
                Ok(Request::Unsubscribe(_)) => "there is no subscription".to_owned(),
                Err(malformed) => malformed.to_string(),
            };
            outgoing.push(Message::Error(refusal));
            outgoing.flush().await?;
        }
        Ok(())
    }

    fn enter(&self, symbol: Symbol) -> Arc<Entry> {
        let last = self.newest();
        let line = Mutex::new(Line {
            symbol,
            first: last + 1,
            last,
            ending: None,
        });
        let entry = Arc::new(Entry {
            line,
            scope: CancelScope::new(),
        });
        self.journal.lock().unwrap().push(entry.clone());
        entry
    }

    async fn replay(
        &self,
        line: &Mutex<Line>,
        incoming: &mut Incoming<impl AsyncRead + Unpin>,
        outgoing: &mut Outgoing<impl AsyncWrite + Unpin>,
    ) -> io::Result<Ending> {
        /// Ticks are sent a few at a time, at this interval …
        const PULSE: Duration = Duration::from_millis(5);
        /// … and not more than this at once, when the subscriber has kept us waiting.
        const BURST: u64 = 256;

        let Line {
            symbol,
            first,
            mut last,
            ..
        } = *line.lock().unwrap();
        outgoing.push(Message::From { symbol, first });
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            outgoing.flush().await?;
            select! {
                biased;
                request = incoming.next() => match request? {
                    None => return Ok(Ending::HungUp),
                    Some(Ok(Request::Unsubscribe(symbols))) if symbols == [symbol] => {
                        outgoing.push(Message::Bye { symbol, last });
                        outgoing.finish().await?;
                        return Ok(Ending::Unsubscribed);
                    }
                    Some(_) => {
                        let refusal = format!("only UNSUBSCRIBE {symbol} is possible now");
                        outgoing.push(Message::Error(refusal));
                    }
                },
                _ = pulse.tick() => {
                    let until = self.newest().min(last + BURST);
                    for number in last + 1..=until {
                        let price = self.tape.price(symbol, number).expect("the symbol is traded");
                        outgoing.push(Message::Tick { symbol, number, price });
                    }
                    last = until;
                    line.lock().unwrap().last = last;
                }
            }
        }
    }
}
