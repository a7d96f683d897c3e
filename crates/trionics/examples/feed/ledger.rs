//! The books that a client keeps: whether what it was sent is all that was sent.
//!
//! A client does not believe the server's counters.
//! It knows from `FROM` with which number its subscription starts, from `BYE` or `DOWN` with which it ended, and the
//! numbers of the ticks are the exchange's own, so every tick in between must have arrived once or have been named as
//! lost.

use std::fmt;

use crate::protocol::{Message, Symbol};
use crate::tape::Tape;

/// All subscriptions that a client has had on its connection.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    tape: &'a Tape,
    subscriptions: Vec<Subscription>,
}

/// One subscription, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Subscription {
    pub(crate) symbol: Symbol,
    /// The number of the first tick, which the server gave before it came.
    pub(crate) first: u64,
    /// The number that has to come next.
    pub(crate) next: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) ending: Option<Ending>,
}

/// How a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Bye,
    Down,
}

/// What is wrong with what the client was sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Discrepancy {
    Gap {
        symbol: Symbol,
        expected: u64,
        came: u64,
    },
    Repeated {
        symbol: Symbol,
        expected: u64,
        came: u64,
    },
    WrongPrice {
        symbol: Symbol,
        number: u64,
        price: f64,
    },
    WrongEnd {
        symbol: Symbol,
        known: u64,
        told: u64,
    },
    NotSubscribed(Message),
    SubscribedTwice(Symbol),
    NoEnd(Symbol),
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(tape: &'a Tape) -> Self {
        Ledger {
            tape,
            subscriptions: Vec::new(),
        }
    }

    /// Enters a message, and says if it does not fit what came before.
    pub(crate) fn enter(&mut self, message: &Message) -> Result<(), Discrepancy> {
        match *message {
            Message::From { symbol, first } => {
                if self.open(symbol).is_some() {
                    return Err(Discrepancy::SubscribedTwice(symbol));
                }
                self.subscriptions.push(Subscription::new(symbol, first));
            }
            Message::Tick {
                symbol,
                number,
                price,
            } => {
                if self.tape.price(symbol, number) != Some(price) {
                    return Err(Discrepancy::WrongPrice {
                        symbol,
                        number,
                        price,
                    });
                }
                self.subscribed(symbol, message)?.receive(number)?;
            }
            Message::Lost { symbol, count } => self.subscribed(symbol, message)?.lose(count),
            Message::Bye { symbol, last } => {
                self.subscribed(symbol, message)?.end(Ending::Bye, last)?;
            }
            Message::Down { symbol, last } => {
                self.subscribed(symbol, message)?.end(Ending::Down, last)?;
            }
            Message::Error(_) => {}
        }
        Ok(())
    }

    /// The books of a client that was served to the end.
    pub(crate) fn close(self) -> Result<Vec<Subscription>, Discrepancy> {
        match self
            .subscriptions
            .iter()
            .find(|subscription| subscription.ending.is_none())
        {
            Some(open) => Err(Discrepancy::NoEnd(open.symbol)),
            None => Ok(self.subscriptions),
        }
    }

    /// The books of a client that left in the middle.
    pub(crate) fn break_off(self) -> Vec<Subscription> {
        self.subscriptions
    }

    fn open(&mut self, symbol: Symbol) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| subscription.symbol == symbol && subscription.ending.is_none())
    }

    fn subscribed(
        &mut self,
        symbol: Symbol,
        message: &Message,
    ) -> Result<&mut Subscription, Discrepancy> {
        self.open(symbol)
            .ok_or_else(|| Discrepancy::NotSubscribed(message.clone()))
    }
}

impl Subscription {
    fn new(symbol: Symbol, first: u64) -> Self {
        Subscription {
            symbol,
            first,
            next: first,
            received: 0,
            lost: 0,
            ending: None,
        }
    }

    /// How many ticks the exchange sent from the start of the subscription to its end.
    pub(crate) fn sent(&self) -> u64 {
        self.next - self.first
    }

    fn receive(&mut self, number: u64) -> Result<(), Discrepancy> {
        let (symbol, expected) = (self.symbol, self.next);
        if number > expected {
            return Err(Discrepancy::Gap {
                symbol,
                expected,
                came: number,
            });
        }
        if number < expected {
            return Err(Discrepancy::Repeated {
                symbol,
                expected,
                came: number,
            });
        }
        self.next += 1;
        self.received += 1;
        Ok(())
    }

    fn lose(&mut self, count: u64) {
        self.next += count;
        self.lost += count;
    }

    fn end(&mut self, ending: Ending, last: u64) -> Result<(), Discrepancy> {
        if last + 1 != self.next {
            let (symbol, known) = (self.symbol, self.next - 1);
            return Err(Discrepancy::WrongEnd {
                symbol,
                known,
                told: last,
            });
        }
        self.ending = Some(ending);
        Ok(())
    }
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Discrepancy::Gap {
                symbol,
                expected,
                came,
            } => {
                write!(
                    f,
                    "{symbol}: tick {came} came where {expected} was due, and no loss was told"
                )
            }
            Discrepancy::Repeated {
                symbol,
                expected,
                came,
            } => {
                write!(f, "{symbol}: tick {came} came again, {expected} was due")
            }
            Discrepancy::WrongPrice {
                symbol,
                number,
                price,
            } => {
                write!(
                    f,
                    "{symbol}: tick {number} came with the price {price}, which is not on the tape"
                )
            }
            Discrepancy::WrongEnd {
                symbol,
                known,
                told,
            } => {
                write!(
                    f,
                    "{symbol}: told that tick {told} was the last one, but heard of {known} ticks"
                )
            }
            Discrepancy::NotSubscribed(message) => {
                write!(f, "\"{message}\" came outside of a subscription")
            }
            Discrepancy::SubscribedTwice(symbol) => write!(f, "{symbol}: subscribed twice"),
            Discrepancy::NoEnd(symbol) => write!(f, "{symbol}: the server hung up without a BYE"),
        }
    }
}

impl std::error::Error for Discrepancy {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the ledger says to these lines; `TICK` gets its price from the tape.
    fn check(lines: &[&str]) -> Result<Vec<Subscription>, String> {
        let tape = Tape::load();
        let mut ledger = Ledger::new(&tape);
        for line in lines {
            let mut line = (*line).to_owned();
            if let Some(number) = line
                .strip_prefix("TICK IBM ")
                .and_then(|word| word.parse().ok())
            {
                let price = tape.price("IBM".parse().unwrap(), number).unwrap();
                line.push_str(&format!(" {price}"));
            }
            ledger
                .enter(&line.parse().unwrap())
                .map_err(|discrepancy| discrepancy.to_string())?;
        }
        ledger
            .close()
            .map_err(|discrepancy| discrepancy.to_string())
    }

    #[test]
    fn a_complete_sequence_is_accepted() {
        let books = check(&[
            "FROM IBM 7",
            "TICK IBM 7",
            "LOST IBM 3",
            "TICK IBM 11",
            "BYE IBM 11",
        ])
        .unwrap();
        let [subscription] = books[..] else {
            panic!("one subscription")
        };
        assert_eq!(
            (
                subscription.received,
                subscription.lost,
                subscription.sent()
            ),
            (2, 3, 5)
        );
        assert_eq!(subscription.ending, Some(Ending::Bye));
    }

    #[test]
    fn a_loss_at_the_very_end_counts() {
        let books = check(&["FROM IBM 7", "LOST IBM 3", "DOWN IBM 9"]).unwrap();
        assert_eq!((books[0].lost, books[0].ending), (3, Some(Ending::Down)));
    }

    #[test]
    fn nothing_sent_is_complete_too() {
        assert_eq!(check(&["FROM IBM 7", "BYE IBM 6"]).unwrap()[0].sent(), 0);
    }

    #[test]
    fn a_symbol_can_be_subscribed_to_again() {
        let lines = [
            "FROM IBM 7",
            "DOWN IBM 6",
            "FROM IBM 20",
            "TICK IBM 20",
            "BYE IBM 20",
        ];
        assert_eq!(check(&lines).unwrap().len(), 2);
    }

    #[test]
    fn every_discrepancy_is_found() {
        let found = |lines: &[&str], needle: &str| {
            let complaint = check(lines).unwrap_err();
            assert!(complaint.contains(needle), "{lines:?} gave {complaint:?}");
        };
        found(&["FROM IBM 7", "TICK IBM 8"], "no loss was told");
        found(
            &["FROM IBM 7", "LOST IBM 1", "TICK IBM 9"],
            "no loss was told",
        );
        found(&["FROM IBM 7", "LOST IBM 2", "TICK IBM 8"], "came again");
        found(&["FROM IBM 7", "TICK IBM 7", "TICK IBM 7"], "came again");
        found(&["FROM IBM 7", "TICK IBM 7 0.5"], "not on the tape");
        found(
            &["FROM IBM 7", "TICK IBM 7", "BYE IBM 8"],
            "was the last one",
        );
        found(
            &["FROM IBM 7", "TICK IBM 7", "DOWN IBM 6"],
            "was the last one",
        );
        found(&["TICK IBM 7"], "outside of a subscription");
        found(
            &["FROM IBM 7", "BYE IBM 6", "TICK IBM 7"],
            "outside of a subscription",
        );
        found(&["FROM IBM 7", "FROM IBM 7"], "subscribed twice");
        found(&["FROM IBM 7", "TICK IBM 7"], "without a BYE");
    }
}
