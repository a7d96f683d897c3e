//! The text that goes over the wires: one line a message, the same lines on both sides of the server.
//!
//! | who says it                | line                  | meaning                                                      |
//! | -------------------------- | --------------------- | ------------------------------------------------------------ |
//! | subscriber                 | `SUBSCRIBE AAPL MSFT` | start sending the ticks of these symbols                     |
//! | subscriber                 | `UNSUBSCRIBE AAPL`    | stop                                                         |
//! | exchange, server           | `FROM AAPL 1234`      | you are subscribed, and the first tick has this number       |
//! | exchange, server           | `TICK AAPL 1234 26.1` | number and price                                             |
//! | exchange, server           | `BYE AAPL 1260`       | the subscription has ended, and this was the last number     |
//! | server                     | `LOST AAPL 17`        | you were too slow for the next 17 ticks                      |
//! | server                     | `DOWN AAPL 1260`      | the exchange hung up; nothing after this number came from it |
//! | exchange, server           | `ERROR no such line`  | what was asked cannot be done, and why                       |

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A message that flows with the ticks, from an exchange or from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    From {
        symbol: Symbol,
        first: u64,
    },
    Tick {
        symbol: Symbol,
        number: u64,
        price: f64,
    },
    Lost {
        symbol: Symbol,
        count: u64,
    },
    Down {
        symbol: Symbol,
        last: u64,
    },
    Bye {
        symbol: Symbol,
        last: u64,
    },
    Error(String),
}

/// What a subscriber may ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Subscribe(Vec<Symbol>),
    Unsubscribe(Vec<Symbol>),
}

/// The ticker symbol of a share: one to eight capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol([u8; 8]);

/// A line that is not part of the protocol.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed {
    wanted: &'static str,
    line: String,
}

impl Message {
    /// Whether no more comes for this symbol.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Message::Down { .. } | Message::Bye { .. })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::From { symbol, first } => write!(f, "FROM {symbol} {first}"),
            Message::Tick {
                symbol,
                number,
                price,
            } => write!(f, "TICK {symbol} {number} {price}"),
            Message::Lost { symbol, count } => write!(f, "LOST {symbol} {count}"),
            Message::Down { symbol, last } => write!(f, "DOWN {symbol} {last}"),
            Message::Bye { symbol, last } => write!(f, "BYE {symbol} {last}"),
            Message::Error(text) => write!(f, "ERROR {text}"),
        }
    }
}

impl FromStr for Message {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("FROM, TICK, LOST, DOWN, BYE or ERROR", line);
        if let Some(text) = line.strip_prefix("ERROR ") {
            return Ok(Message::Error(text.to_owned()));
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(verb), Some(symbol), Some(number)) = (words.next(), words.next(), words.next())
        else {
            return Err(malformed());
        };
        let symbol: Symbol = symbol.parse().map_err(|_| malformed())?;
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let message = match verb {
            "FROM" => Message::From {
                symbol,
                first: number,
            },
            "TICK" => {
                let price = words.next().and_then(|price| price.parse().ok());
                Message::Tick {
                    symbol,
                    number,
                    price: price.ok_or_else(malformed)?,
                }
            }
            "LOST" => Message::Lost {
                symbol,
                count: number,
            },
            "DOWN" => Message::Down {
                symbol,
                last: number,
            },
            "BYE" => Message::Bye {
                symbol,
                last: number,
            },
            _ => return Err(malformed()),
        };
        if words.next().is_some() {
            Err(malformed())
        } else {
            Ok(message)
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, symbols) = match self {
            Request::Subscribe(symbols) => ("SUBSCRIBE", symbols),
            Request::Unsubscribe(symbols) => ("UNSUBSCRIBE", symbols),
        };
        f.write_str(verb)?;
        symbols.iter().try_for_each(|symbol| write!(f, " {symbol}"))
    }
}

impl FromStr for Request {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let malformed = |wanted| Malformed::new(wanted, line);
        let mut words = line.split_ascii_whitespace();
        let request = match words.next() {
            Some("SUBSCRIBE") => Request::Subscribe,
            Some("UNSUBSCRIBE") => Request::Unsubscribe,
            _ => return Err(malformed("SUBSCRIBE or UNSUBSCRIBE, and symbols")),
        };
        let mut symbols = Vec::new();
        for word in words {
            let symbol = word
                .parse()
                .map_err(|_| malformed("symbols of one to eight capital letters"))?;
            if symbols.contains(&symbol) {
                return Err(malformed("each symbol once"));
            }
            symbols.push(symbol);
        }
        if symbols.is_empty() {
            Err(malformed("at least one symbol"))
        } else {
            Ok(request(symbols))
        }
    }
}

impl FromStr for Symbol {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut letters = [0; 8];
        let well_formed =
            (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase());
        if !well_formed {
            return Err(Malformed::new(
                "a symbol of one to eight capital letters",
                text,
            ));
        }
        letters[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Symbol(letters))
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.0.len());
        f.pad(std::str::from_utf8(&self.0[..length]).expect("a symbol is made of ASCII letters"))
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Malformed {
    fn new(wanted: &'static str, line: &str) -> Self {
        const SHOWN: usize = 60;
        let mut shown: String = line.escape_debug().take(SHOWN).collect();
        if line.escape_debug().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Malformed {
            wanted,
            line: shown,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, got \"{}\"", self.wanted, self.line)
    }
}

impl std::error::Error for Malformed {}

/// The lines that come in from a peer.
#[derive(Debug)]
pub(crate) struct Incoming<R> {
    reader: R,
    buffer: Vec<u8>,
    /// How much of `buffer` has been handed out.
    taken: usize,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Longer lines are refused: a peer that never ends its line must not eat the memory.
    const LONGEST_LINE: usize = 1024;

    pub(crate) fn new(reader: R) -> Self {
        Incoming {
            reader,
            buffer: Vec::with_capacity(4096),
            taken: 0,
        }
    }

    /// The next line, parsed, or `None` when the peer has hung up.
    ///
    /// The outer error is the connection's, the inner one says that this line is malformed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what has been read of a line waits for the next call.
    pub(crate) async fn next<T: FromStr>(&mut self) -> io::Result<Option<Result<T, T::Err>>> {
        loop {
            let unread = &self.buffer[self.taken..];
            if let Some(length) = unread.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..length]);
                let parsed = line.trim_end_matches('\r').parse();
                self.taken += length + 1;
                return Ok(Some(parsed));
            }
            if unread.len() > Self::LONGEST_LINE {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line without an end",
                ));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// The lines that go out to a peer.
///
/// They are collected here and leave with [`flush`](Outgoing::flush).
#[derive(Debug)]
pub(crate) struct Outgoing<W> {
    writer: W,
    waiting: VecDeque<u8>,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub(crate) fn new(writer: W) -> Self {
        Outgoing {
            writer,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, line: impl fmt::Display) {
        writeln!(self.waiting, "{line}").expect("writing to memory does not fail");
    }

    /// How many bytes wait for the next `flush`.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Hands everything to the socket, and waits as long as the peer does not take it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost or sent twice: the next `flush` goes on where this one was dropped, even in the middle of a line.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all_buf(&mut self.waiting).await
    }

    /// Sends everything and then the end of the stream.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.writer.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str) -> Symbol {
        text.parse().unwrap()
    }

    #[test]
    fn messages_survive_the_wire() {
        let symbol = symbol("GOOG");
        for message in [
            Message::From { symbol, first: 1 },
            Message::Tick {
                symbol,
                number: u64::MAX,
                price: 204.62,
            },
            Message::Lost { symbol, count: 17 },
            Message::Down { symbol, last: 0 },
            Message::Bye { symbol, last: 9 },
            Message::Error("no such symbol: TSLA".to_owned()),
        ] {
            assert_eq!(message.to_string().parse(), Ok(message));
        }
    }

    #[test]
    fn requests_survive_the_wire() {
        let symbols = vec![symbol("AAPL"), symbol("F"), symbol("ABCDEFGH")];
        for request in [
            Request::Subscribe(symbols.clone()),
            Request::Unsubscribe(symbols),
        ] {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "",
            "SUBSCRIBE",
            "subscribe AAPL",
            "SUBSCRIBE aapl",
            "SUBSCRIBE A A",
            "GET / HTTP/1.1",
            "SUBSCRIBE ABCDEFGHI",
        ] {
            assert!(line.parse::<Request>().is_err(), "{line:?}");
        }
        for line in [
            "",
            "TICK",
            "TICK AAPL 1",
            "TICK AAPL x 1.0",
            "LOST AAPL -1",
            "BYE AAPL 1 2",
            "HELLO AAPL 1",
        ] {
            assert!(line.parse::<Message>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_refusal_quotes_the_line_safely() {
        let refusal = "\u{1b}[2J".parse::<Request>().unwrap_err().to_string();
        assert!(refusal.ends_with(r#"got "\u{1b}[2J""#), "{refusal}");
        let refusal = "x".repeat(1000).parse::<Request>().unwrap_err().to_string();
        assert!(
            refusal.ends_with("x…\"") && refusal.len() < 150,
            "{refusal}"
        );
    }

    #[tokio::test]
    async fn lines_are_put_together_from_pieces() {
        let pieces = tokio_test_reader(&["SUBSCRIBE AA", "PL\r\nUNSUB", "SCRIBE AAPL\nSUBSC"]);
        let mut incoming = Incoming::new(pieces);
        let aapl = vec![symbol("AAPL")];
        assert_eq!(
            incoming.next().await.unwrap(),
            Some(Ok(Request::Subscribe(aapl.clone())))
        );
        assert_eq!(
            incoming.next().await.unwrap(),
            Some(Ok(Request::Unsubscribe(aapl)))
        );
        assert_eq!(incoming.next::<Request>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_endless_line_is_an_error() {
        let endless = "x".repeat(5000);
        let mut incoming = Incoming::new(tokio_test_reader(&[&endless]));
        let error = incoming.next::<Request>().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_dropped_flush_goes_on_where_it_was() {
        use futures::FutureExt;

        let (near, far) = tokio::io::duplex(5);
        let mut outgoing = Outgoing::new(near);
        outgoing.push("BYE AAPL 12");
        assert!(
            outgoing.flush().now_or_never().is_none(),
            "the pipe takes five bytes"
        );
        let mut incoming = Incoming::new(far);
        let (sent, received) = tokio::join!(outgoing.flush(), incoming.next());
        sent.unwrap();
        assert_eq!(
            received.unwrap(),
            Some(Ok(Message::Bye {
                symbol: symbol("AAPL"),
                last: 12
            }))
        );
    }

    /// A reader that gives the pieces one by one.
    fn tokio_test_reader(pieces: &[&str]) -> impl AsyncRead + Unpin + use<> {
        pieces.iter().rev().fold(
            Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin>,
            |rest, piece| Box::new(io::Cursor::new(piece.as_bytes().to_vec()).chain(rest)),
        )
    }
}
