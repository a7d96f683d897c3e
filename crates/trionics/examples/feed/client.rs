//! The clients of a rehearsal: real connections that keep books of what they are sent.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tokio::net::TcpSocket;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use trionics::Failure;

use crate::counters::Count;
use crate::ledger::{Ledger, Subscription};
use crate::protocol::{Incoming, Message, Outgoing, Request, Symbol};
use crate::rehearsal::until;
use crate::tape::Tape;

/// The share whose exchange connection dies in the middle of the rehearsal.
pub(crate) const DOOMED: &str = "IBM";

/// The share that only visitors want, so that its connection is opened and closed again and again.
pub(crate) const SELDOM: &str = "GOOG";

/// The shares that somebody wants all the time.
const ALWAYS: [&str; 3] = ["AAPL", "AMZN", "MSFT"];

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Reads as fast as it can and stays to the end.
    Steady,
    /// Has small buffers and looks away until it has missed something, again and again.
    Slow,
    /// Drops its connection in the middle of the traffic.
    HangsUp,
    /// Comes three times, and leaves properly each time.
    Visitor,
    /// Mistypes, then wants a share that does not exist, and only then gets it right.
    Clumsy,
    /// Comes when an exchange connection has died, and wants just that share, and one that nobody has at the time.
    Latecomer,
}

/// The acts of a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// Clients come and go, the slow ones are told of losses.
    Bustle = 1,
    /// An exchange connection has died: those who had it hear of it, newcomers get a new one.
    Crash,
    /// The slow ones look away, until the server is stuck in the middle of a line to each of them.
    Finale,
}

/// The roles of ten clients.
const CAST: [Role; 10] = [
    Role::Steady,
    Role::Slow,
    Role::Steady,
    Role::HangsUp,
    Role::Steady,
    Role::Visitor,
    Role::Steady,
    Role::Slow,
    Role::Clumsy,
    Role::Latecomer,
];

/// What the clients see of each other.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    /// The newest tick of each symbol that any client has received.
    newest: BTreeMap<Symbol, AtomicU64>,
    is_finale: AtomicBool,
    /// Whether the server takes leave of clients that did not ask for it.
    is_closing: AtomicBool,
    /// How many times a client was told that an exchange connection is down.
    told_down: Count,
}

/// One client of a rehearsal.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    number: usize,
    pub(crate) role: Role,
    symbols: Vec<Symbol>,
    server: SocketAddr,
    tape: &'a Tape,
    floor: &'a Floor,
    /// The last act that it has played, as a number.
    played: AtomicU8,
}

impl Floor {
    pub(crate) fn new(tape: &Tape) -> Self {
        let newest = tape
            .symbols()
            .map(|symbol| (symbol, AtomicU64::new(0)))
            .collect();
        Floor {
            newest,
            ..Floor::default()
        }
    }

    fn newest(&self, symbol: Symbol) -> u64 {
        self.newest[&symbol].load(Ordering::Relaxed)
    }

    pub(crate) fn begin_finale(&self) {
        self.is_finale.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Waits until other clients have received `n_ticks` more of this symbol, or the server is closing.
    async fn look_away(&self, symbol: Symbol, n_ticks: u64) {
        let number = self.newest(symbol) + n_ticks;
        until(|| self.newest(symbol) >= number || self.is_closing()).await;
    }
}

impl Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} ({:?})", self.number, self.role)
    }
}

/// What a client has to say at the end.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) role: Role,
    pub(crate) subscriptions: Vec<Subscription>,
    /// How many requests the server has answered with an `ERROR`.
    pub(crate) n_refusals: u64,
    /// How many ticks of other symbols came after one was told to be down.
    pub(crate) n_ticks_after_down: u64,
}

impl<'a> Client<'a> {
    /// The client with this number in a crowd in which every role is played.
    pub(crate) fn new(number: usize, server: SocketAddr, tape: &'a Tape, floor: &'a Floor) -> Self {
        let role = CAST[number % CAST.len()];
        let some = ALWAYS[number % ALWAYS.len()];
        let wanted = match role {
            Role::Steady => {
                let mut all_but_one = vec![ALWAYS[0], ALWAYS[1], ALWAYS[2], DOOMED];
                all_but_one.remove(number / 2 % 4);
                all_but_one
            }
            Role::Slow => vec![some, ALWAYS[(number + 1) % ALWAYS.len()]],
            Role::HangsUp | Role::Visitor => vec![some, SELDOM],
            Role::Clumsy => vec![SELDOM],
            Role::Latecomer => vec![DOOMED, SELDOM],
        };
        let symbols = wanted.into_iter().map(symbol).collect();
        let played = AtomicU8::new(0);
        Client {
            number,
            role,
            symbols,
            server,
            tape,
            floor,
            played,
        }
    }

    /// Whether nothing in the rehearsal has to wait for this client any more, up to the end of this act.
    pub(crate) fn has_played(&self, act: Act) -> bool {
        self.played.load(Ordering::Relaxed) >= act as u8
    }

    fn has_played_up_to(&self, act: Act) {
        self.played.fetch_max(act as u8, Ordering::Relaxed);
    }

    /// Plays the role to its end.
    pub(crate) async fn play(&self) -> Result<Books, Failure> {
        let books = match self.role {
            Role::Steady => self.play_steady().await,
            Role::Slow => self.play_slow().await,
            Role::HangsUp => self.play_hangs_up().await,
            Role::Visitor => self.play_visitor().await,
            Role::Clumsy => self.play_clumsy().await,
            Role::Latecomer => self.play_latecomer().await,
        };
        // Nobody has to wait for somebody who has left.
        self.has_played_up_to(Act::Finale);
        if self.role == Role::Steady {
            self.floor.is_closing.store(true, Ordering::Relaxed);
        }
        books
    }

    async fn play_steady(&self) -> Result<Books, Failure> {
        let mut line = self.subscribe(KERNELS_CHOICE).await?;
        let sees_the_crash = self.symbols.contains(&symbol(DOOMED));
        while let Some(message) = line.next().await? {
            match message {
                Message::Tick { .. } if line.n_ticks == 100 => {
                    self.has_played_up_to(if sees_the_crash {
                        Act::Bustle
                    } else {
                        Act::Finale
                    });
                }
                Message::Tick { .. } if line.n_ticks_after_down == 100 => {
                    self.has_played_up_to(Act::Finale);
                }
                _ => {}
            }
        }
        line.close(self.role)
    }

    async fn play_slow(&self) -> Result<Books, Failure> {
        let mut line = self.subscribe(Some(4096)).await?;
        let mut n_ticks_to_miss = 500;
        loop {
            let is_finale = self.floor.is_finale.load(Ordering::Relaxed);
            self.floor.look_away(self.symbols[0], n_ticks_to_miss).await;
            if is_finale {
                // By now the server is stuck in the middle of a line to this client, and so it is to be cancelled.
                self.has_played_up_to(Act::Finale);
                until(|| self.floor.is_closing()).await;
            }
            loop {
                match line.next().await? {
                    None => return line.close(self.role),
                    Some(Message::Lost { .. }) => {
                        self.has_played_up_to(Act::Crash);
                        break;
                    }
                    Some(Message::Tick { symbol, number, .. })
                        if number >= self.floor.newest(symbol) =>
                    {
                        // Up to date again without a loss: the buffers on the way are larger than thought.
                        n_ticks_to_miss *= 2;
                        break;
                    }
                    Some(_) => {}
                }
            }
        }
    }

    async fn play_hangs_up(&self) -> Result<Books, Failure> {
        let mut line = self.subscribe(KERNELS_CHOICE).await?;
        line.next_ticks(200).await?;
        Ok(line.break_off(self.role))
    }

    async fn play_visitor(&self) -> Result<Books, Failure> {
        let mut books = Books::empty(self.role);
        for _visit in 0..3 {
            let mut line = self.subscribe(KERNELS_CHOICE).await?;
            line.next_ticks(100).await?;
            line.ask(Request::Unsubscribe(self.symbols.clone())).await?;
            while line.next().await?.is_some() {}
            books.add(line.close(self.role)?);
        }
        Ok(books)
    }

    async fn play_clumsy(&self) -> Result<Books, Failure> {
        let mut line = self.connect(KERNELS_CHOICE).await?;
        for nonsense in ["SUBSRCIBE AAPL", "SUBSCRIBE AAPL NOSUCH"] {
            line.ask(nonsense).await?;
            line.next().await?;
        }
        line.ask(Request::Subscribe(self.symbols.clone())).await?;
        line.next_ticks(100).await?;
        line.ask("UNSUBSCRIBE ?").await?;
        line.ask(Request::Unsubscribe(self.symbols.clone())).await?;
        while line.next().await?.is_some() {}
        line.close(self.role)
    }

    async fn play_latecomer(&self) -> Result<Books, Failure> {
        self.has_played_up_to(Act::Bustle);
        until(|| self.floor.told_down.get() > 0 || self.floor.is_closing()).await;
        let mut line = self.subscribe(KERNELS_CHOICE).await?;
        line.next_ticks(100).await?;
        self.has_played_up_to(Act::Finale);
        while line.next().await?.is_some() {}
        line.close(self.role)
    }

    async fn subscribe(&self, receive_buffer: Option<u32>) -> Result<Line<'a>, Failure> {
        let mut line = self.connect(receive_buffer).await?;
        line.ask(Request::Subscribe(self.symbols.clone())).await?;
        Ok(line)
    }

    async fn connect(&self, receive_buffer: Option<u32>) -> io::Result<Line<'a>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        let (reader, writer) = socket.connect(self.server).await?.into_split();
        Ok(Line {
            floor: self.floor,
            ledger: Ledger::new(self.tape),
            incoming: Incoming::new(reader),
            outgoing: Outgoing::new(writer),
            n_ticks: 0,
            n_ticks_after_down: 0,
            n_refusals: 0,
            told_down: false,
        })
    }
}

/// The receive buffer of a client that is not slow.
const KERNELS_CHOICE: Option<u32> = None;

pub(crate) fn symbol(name: &str) -> Symbol {
    name.parse().expect("a symbol")
}

/// A client's connection, with the books.
struct Line<'a> {
    floor: &'a Floor,
    ledger: Ledger<'a>,
    incoming: Incoming<OwnedReadHalf>,
    outgoing: Outgoing<OwnedWriteHalf>,
    n_ticks: u64,
    n_ticks_after_down: u64,
    n_refusals: u64,
    told_down: bool,
}

impl Line<'_> {
    async fn ask(&mut self, request: impl Display) -> io::Result<()> {
        self.outgoing.push(request);
        self.outgoing.flush().await
    }

    /// The next message, which has been entered in the books, or `None` when the server has hung up.
    async fn next(&mut self) -> Result<Option<Message>, Failure> {
        let Some(message) = self.incoming.next::<Message>().await?.transpose()? else {
            return Ok(None);
        };
        self.ledger.enter(&message)?;
        match message {
            Message::Tick { symbol, number, .. } => {
                self.n_ticks += 1;
                self.n_ticks_after_down += u64::from(self.told_down);
                self.floor.newest[&symbol].fetch_max(number, Ordering::Relaxed);
            }
            Message::Down { .. } => {
                self.told_down = true;
                self.floor.told_down.add(1);
            }
            Message::Error(_) => self.n_refusals += 1,
            Message::From { .. } | Message::Lost { .. } | Message::Bye { .. } => {}
        }
        Ok(Some(message))
    }

    /// Reads on until this many more ticks have come.
    async fn next_ticks(&mut self, n_more: u64) -> Result<(), Failure> {
        let enough = self.n_ticks + n_more;
        while self.n_ticks < enough {
            if self.next().await?.is_none() {
                return Err(io::Error::other("the server hung up too soon").into());
            }
        }
        Ok(())
    }

    /// The books of a connection that the server has closed.
    fn close(self, role: Role) -> Result<Books, Failure> {
        let Line {
            n_refusals,
            n_ticks_after_down,
            ..
        } = self;
        let subscriptions = self.ledger.close()?;
        Ok(Books {
            role,
            subscriptions,
            n_refusals,
            n_ticks_after_down,
        })
    }

    /// The books of a connection that the client drops.
    fn break_off(self, role: Role) -> Books {
        let Line {
            n_refusals,
            n_ticks_after_down,
            ..
        } = self;
        let subscriptions = self.ledger.break_off();
        Books {
            role,
            subscriptions,
            n_refusals,
            n_ticks_after_down,
        }
    }
}

impl Books {
    fn empty(role: Role) -> Self {
        Books {
            role,
            subscriptions: Vec::new(),
            n_refusals: 0,
            n_ticks_after_down: 0,
        }
    }

    fn add(&mut self, more: Books) {
        self.subscriptions.extend(more.subscriptions);
        self.n_refusals += more.n_refusals;
        self.n_ticks_after_down += more.n_ticks_after_down;
    }
}
