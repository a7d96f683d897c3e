//! What the command line asks for.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How to call the program.
pub(crate) const USAGE: &str = "\
A market-data server that fans a few exchange connections out to many clients.

usage: feed [--clients N] [--seconds N] [--rate N]
           starts an exchange, the server and N clients (50) on free ports of 127.0.0.1,
           cancels the server in mid-traffic after N seconds (5) at the earliest,
           and checks that nobody was cheated and nothing was left behind
       feed --serve ADDR [--upstream ADDR] [--rate N]
           serves real clients until ctrl-c; takes the ticks from the exchange at ADDR
           instead of one that it starts itself
       feed --replay ADDR [--rate N]
           runs only an exchange

The rate is the number of ticks per second for each symbol (500).
Try: feed --serve 127.0.0.1:7000, and in another terminal
     nc 127.0.0.1 7000     and there type: SUBSCRIBE AAPL MSFT";

/// The command line, understood.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    /// Ticks per second for each symbol.
    pub(crate) rate: u32,
}

/// What the program is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Mode {
    Rehearse {
        n_clients: usize,
        at_least: Duration,
    },
    Serve {
        address: SocketAddr,
        upstream: Option<SocketAddr>,
    },
    Replay {
        address: SocketAddr,
    },
    Help,
}

/// A command line that cannot be followed.
#[derive(Debug, PartialEq)]
pub(crate) enum Mistake {
    Unknown(String),
    NoValue(&'static str),
    Twice(&'static str),
    BadValue {
        option: &'static str,
        wanted: String,
        value: String,
    },
    OutOfPlace {
        option: &'static str,
        mode: &'static str,
    },
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Mistake> {
        let mut given = Given::read(arguments)?;
        if given.take("--help").is_some() {
            return Ok(Options {
                mode: Mode::Help,
                rate: 0,
            });
        }
        let rate = given.number("--rate", 1..=20_000)?.unwrap_or(500);
        let (name, mode) = if let Some(address) = given.address("--serve")? {
            (
                "--serve",
                Mode::Serve {
                    address,
                    upstream: given.address("--upstream")?,
                },
            )
        } else if let Some(address) = given.address("--replay")? {
            ("--replay", Mode::Replay { address })
        } else {
            let n_clients = given.number("--clients", 10..=1000)?.unwrap_or(50) as usize;
            let seconds = given.number("--seconds", 0..=3600)?.unwrap_or(5);
            let at_least = Duration::from_secs(seconds.into());
            (
                "the self-test",
                Mode::Rehearse {
                    n_clients,
                    at_least,
                },
            )
        };
        match given.0.pop() {
            Some((option, _)) => Err(Mistake::OutOfPlace { option, mode: name }),
            None => Ok(Options { mode, rate }),
        }
    }
}

/// The options on the command line that nobody has asked for yet.
struct Given(Vec<(&'static str, String)>);

impl Given {
    const WITH_A_VALUE: [&str; 6] = [
        "--clients",
        "--seconds",
        "--rate",
        "--serve",
        "--upstream",
        "--replay",
    ];

    fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, Mistake> {
        let mut given = Given(Vec::new());
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(Given(vec![("--help", String::new())]));
            }
            let Some(option) = Self::WITH_A_VALUE
                .into_iter()
                .find(|option| argument == *option)
            else {
                return Err(Mistake::Unknown(argument));
            };
            let value = arguments.next().ok_or(Mistake::NoValue(option))?;
            if given.take(option).is_some() {
                return Err(Mistake::Twice(option));
            }
            given.0.push((option, value));
        }
        Ok(given)
    }

    fn take(&mut self, option: &str) -> Option<String> {
        let index = self.0.iter().position(|(name, _)| *name == option)?;
        Some(self.0.remove(index).1)
    }

    fn address(&mut self, option: &'static str) -> Result<Option<SocketAddr>, Mistake> {
        self.parsed(
            option,
            |_| true,
            || "an address such as 127.0.0.1:7000".to_owned(),
        )
    }

    fn number(
        &mut self,
        option: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Mistake> {
        let wanted = || format!("a number from {} to {}", range.start(), range.end());
        self.parsed(option, |number| range.contains(number), wanted)
    }

    fn parsed<T: FromStr>(
        &mut self,
        option: &'static str,
        fits: impl FnOnce(&T) -> bool,
        wanted: impl FnOnce() -> String,
    ) -> Result<Option<T>, Mistake> {
        let Some(value) = self.take(option) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(parsed) if fits(&parsed) => Ok(Some(parsed)),
            _ => Err(Mistake::BadValue {
                option,
                wanted: wanted(),
                value,
            }),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Unknown(argument) => write!(f, "there is no option {argument:?}"),
            Mistake::NoValue(option) => write!(f, "{option} needs a value"),
            Mistake::Twice(option) => write!(f, "{option} is given twice"),
            Mistake::BadValue {
                option,
                wanted,
                value,
            } => {
                write!(f, "{option} needs {wanted}, not {value:?}")
            }
            Mistake::OutOfPlace { option, mode } => {
                write!(f, "{option} does not go together with {mode}")
            }
        }
    }
}

impl std::error::Error for Mistake {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Mistake> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    fn complaint(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn without_arguments_it_tests_itself() {
        let mode = Mode::Rehearse {
            n_clients: 50,
            at_least: Duration::from_secs(5),
        };
        assert_eq!(parse(""), Ok(Options { mode, rate: 500 }));
    }

    #[test]
    fn every_option_is_understood() {
        let address = "127.0.0.1:7000".parse().unwrap();
        let mode = Mode::Rehearse {
            n_clients: 10,
            at_least: Duration::from_secs(60),
        };
        assert_eq!(
            parse("--rate 9 --seconds 60 --clients 10"),
            Ok(Options { mode, rate: 9 })
        );
        let mode = Mode::Serve {
            address,
            upstream: "[::1]:8000".parse().ok(),
        };
        assert_eq!(
            parse("--upstream [::1]:8000 --serve 127.0.0.1:7000"),
            Ok(Options { mode, rate: 500 })
        );
        let mode = Mode::Replay { address };
        assert_eq!(
            parse("--replay 127.0.0.1:7000"),
            Ok(Options { mode, rate: 500 })
        );
        assert_eq!(
            parse("--serve 127.0.0.1:7000 --help").unwrap().mode,
            Mode::Help
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(complaint("--sevre 1"), r#"there is no option "--sevre""#);
        assert_eq!(complaint("--serve"), "--serve needs a value");
        assert_eq!(complaint("--rate 1 --rate 2"), "--rate is given twice");
        assert_eq!(
            complaint("--serve 7000"),
            r#"--serve needs an address such as 127.0.0.1:7000, not "7000""#
        );
        assert_eq!(
            complaint("--clients 9"),
            r#"--clients needs a number from 10 to 1000, not "9""#
        );
        assert_eq!(
            complaint("--rate fast"),
            r#"--rate needs a number from 1 to 20000, not "fast""#
        );
        assert_eq!(
            complaint("--serve 127.0.0.1:1 --replay 127.0.0.1:2"),
            "--replay does not go together with --serve"
        );
        assert_eq!(
            complaint("--upstream 127.0.0.1:1"),
            "--upstream does not go together with the self-test"
        );
        assert_eq!(
            complaint("--replay 127.0.0.1:1 --seconds 1"),
            "--seconds does not go together with --replay"
        );
    }
}
