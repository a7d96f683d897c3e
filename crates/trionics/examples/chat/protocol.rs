//! What the two sides can say, and how it is written.

use std::{fmt, str::FromStr};

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Join { room: String, name: String },
    Say(String),
    Part,
    Quit,
}

impl Command {
    /// Reads a line; any that is no command is said.
    pub(crate) fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        match words[..] {
            ["JOIN", room, name] => Self::Join {
                room: room.to_owned(),
                name: name.to_owned(),
            },
            ["PART"] => Self::Part,
            ["QUIT"] => Self::Quit,
            _ => Self::Say(line.to_owned()),
        }
    }
}

/// What the server tells a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Joined {
        room: String,
        name: String,
    },
    Said {
        room: String,
        name: String,
        text: String,
    },
    Parted {
        room: String,
        name: String,
    },
    Lost(u64),
    Error(String),
    Bye(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined { room, name } => write!(f, "JOINED {room} {name}"),
            Self::Said { room, name, text } => write!(f, "SAID {room} {name} {text}"),
            Self::Parted { room, name } => write!(f, "PARTED {room} {name}"),
            Self::Lost(n_lines) => write!(f, "LOST {n_lines}"),
            Self::Error(text) => write!(f, "ERROR {text}"),
            Self::Bye(text) => write!(f, "BYE {text}"),
        }
    }
}

/// A line that no server sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotANotice(String);

impl fmt::Display for NotANotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a line of the server's: {:?}", self.0)
    }
}

impl std::error::Error for NotANotice {}

impl FromStr for Notice {
    type Err = NotANotice;

    fn from_str(line: &str) -> Result<Self, NotANotice> {
        let parse = || {
            let (verb, rest) = line.split_once(' ')?;
            let room_and_name = |rest: &str| {
                let (room, name) = rest.split_once(' ')?;
                Some((room.to_owned(), name.to_owned()))
            };
            Some(match verb {
                "JOINED" => room_and_name(rest).map(|(room, name)| Self::Joined { room, name })?,
                "PARTED" => room_and_name(rest).map(|(room, name)| Self::Parted { room, name })?,
                "SAID" => {
                    let (room, rest) = rest.split_once(' ')?;
                    let (name, text) = rest.split_once(' ')?;
                    Self::Said {
                        room: room.to_owned(),
                        name: name.to_owned(),
                        text: text.to_owned(),
                    }
                }
                "LOST" => Self::Lost(rest.parse().ok()?),
                "ERROR" => Self::Error(rest.to_owned()),
                "BYE" => Self::Bye(rest.to_owned()),
                _ => return None,
            })
        };
        parse().ok_or_else(|| NotANotice(line.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_what_is_said() {
        let join = Command::Join {
            room: "lobby".into(),
            name: "ann".into(),
        };
        assert_eq!(Command::parse("JOIN lobby ann"), join);
        assert_eq!(Command::parse("PART"), Command::Part);
        assert_eq!(Command::parse("QUIT"), Command::Quit);
        for said in ["hello", "", "JOIN", "JOIN us, all of you", "QUIT it"] {
            assert_eq!(Command::parse(said), Command::Say(said.to_owned()));
        }
    }

    #[test]
    fn notices_are_read_as_they_were_written() {
        let (room, name) = ("lobby".to_owned(), "ann".to_owned());
        let notices = [
            Notice::Joined {
                room: room.clone(),
                name: name.clone(),
            },
            Notice::Said {
                room: room.clone(),
                name: name.clone(),
                text: " two  words ".into(),
            },
            Notice::Said {
                room: room.clone(),
                name: name.clone(),
                text: String::new(),
            },
            Notice::Parted { room, name },
            Notice::Lost(17),
            Notice::Error("you are in no room".into()),
            Notice::Bye("see you".into()),
        ];
        for notice in notices {
            assert_eq!(notice.to_string().parse(), Ok(notice));
        }
    }

    #[test]
    fn other_lines_are_no_notices() {
        for line in ["", "LOST", "LOST many", "JOINED lobby", "HELLO ann"] {
            assert_eq!(line.parse::<Notice>(), Err(NotANotice(line.to_owned())));
        }
    }
}
