//! Lines of text with faces, broken to the width of a terminal.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::mem;

/// How much room a line has for its text, however narrow the terminal and however deep the tree.
const MIN_COLUMNS: usize = 20;

/// What a piece of text is, and thereby how it looks in color.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Plain,
    Faint,
    Label,
    Message,
    Error,
    Cancelled,
}

impl Face {
    fn escape_sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "\u{1b}[2m",
            Self::Label => "\u{1b}[36m",
            Self::Message => "\u{1b}[1m",
            Self::Error => "\u{1b}[31m",
            Self::Cancelled => "\u{1b}[33m",
        }
    }
}

/// A paragraph, made of pieces with faces. Its text cannot move a terminal's cursor or change its colors.
pub(crate) struct Line {
    text: String,
    /// Where each piece ends, and its face.
    pieces: Vec<(usize, Face)>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            text: String::new(),
            pieces: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, face: Face, text: impl fmt::Display) {
        // A `Display` that fails must not keep the rest from being printed.
        let _ = write!(Harmless(&mut self.text), "{text}");
        self.pieces.push((self.text.len(), face));
    }
}

/// Writes control characters in words, but for the line feed.
struct Harmless<'a>(&'a mut String);

impl fmt::Write for Harmless<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '\n' => self.0.push('\n'),
                '\t' => self.0.push_str("    "),
                '\r' => {}
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    self.0.extend(character.escape_unicode());
                }
                _ if character.is_control() => self.0.extend(character.escape_unicode()),
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

/// What is written on, line by line, without a line feed at the end.
pub(crate) struct Page<'p, 'f> {
    out: &'p mut fmt::Formatter<'f>,
    columns: Option<usize>,
    is_colored: bool,
    is_empty: bool,
}

impl<'p, 'f> Page<'p, 'f> {
    pub(crate) fn new(
        out: &'p mut fmt::Formatter<'f>,
        columns: Option<usize>,
        is_colored: bool,
    ) -> Self {
        Self {
            out,
            columns,
            is_colored,
            is_empty: true,
        }
    }

    /// Writes a paragraph with `first` before its first line and `rest` before the others.
    pub(crate) fn write(&mut self, line: &Line, first: [&str; 2], rest: [&str; 2]) -> fmt::Result {
        let mut prefix = first;
        let mut start = 0;
        for paragraph in line.text.trim_end_matches('\n').split('\n') {
            let mut remaining = paragraph;
            loop {
                let (now, later) = self.break_line(remaining, prefix);
                let offset = start + (paragraph.len() - remaining.len());
                self.write_line(line, offset, now, prefix)?;
                prefix = rest;
                match later {
                    Some(later) => remaining = later,
                    None => break,
                }
            }
            start += paragraph.len() + 1;
        }
        Ok(())
    }

    /// Parts what fits in a line from what does not.
    fn break_line<'t>(&self, text: &'t str, prefix: [&str; 2]) -> (&'t str, Option<&'t str>) {
        let Some(columns) = self.columns else {
            return (text, None);
        };
        let taken: usize = prefix.iter().map(|part| width(part)).sum();
        let room = columns.saturating_sub(taken).max(MIN_COLUMNS);
        let mut used = 0;
        // Where the line can be broken, and where the next one begins then.
        let mut last_space = None;
        for (position, character) in text.char_indices() {
            used += char_width(character);
            if used > room && position > 0 {
                let (end, next) = last_space.unwrap_or((position, position));
                return (&text[..end], Some(&text[next..]));
            }
            if character == ' ' && position > 0 {
                last_space = Some((position, position + 1));
            }
        }
        (text, None)
    }

    fn write_line(
        &mut self,
        line: &Line,
        offset: usize,
        text: &str,
        prefix: [&str; 2],
    ) -> fmt::Result {
        if !mem::replace(&mut self.is_empty, false) {
            self.out.write_char('\n')?;
        }
        let blank = if text.is_empty() {
            prefix[1].trim_end()
        } else {
            prefix[1]
        };
        if prefix.iter().any(|part| !part.trim().is_empty()) {
            self.piece(Face::Faint, &[prefix[0], blank])?;
        } else if !text.is_empty() {
            prefix
                .iter()
                .try_for_each(|part| self.out.write_str(part))?;
        }
        let mut written = offset;
        let end = offset + text.len();
        for &(piece_end, face) in &line.pieces {
            let until = piece_end.min(end);
            if until > written {
                self.piece(face, &[&line.text[written..until]])?;
                written = until;
            }
        }
        Ok(())
    }

    fn piece(&mut self, face: Face, parts: &[&str]) -> fmt::Result {
        let sequence = if self.is_colored {
            face.escape_sequence()
        } else {
            ""
        };
        self.out.write_str(sequence)?;
        for part in parts {
            self.out.write_str(part)?;
        }
        if sequence.is_empty() {
            Ok(())
        } else {
            self.out.write_str("\u{1b}[0m")
        }
    }
}

/// How many columns a text takes.
fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// How many columns a character takes: none if it combines with the one before, two in most East Asian scripts and emoji.
fn char_width(character: char) -> usize {
    match character {
        ' '..='~' => 1,
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}
