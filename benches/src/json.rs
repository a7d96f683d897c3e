//! As much JSON as the reports need: written by hand, read back to compare runs.

use std::{iter::Peekable, str::Chars};

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Anything that JSON can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// All numbers are floating ones.
    Number(f64),
    /// A text without its escapes.
    Text(String),
    /// Values in their order.
    List(Vec<Value>),
    /// Names and values in their order.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads a text that holds one value.
    ///
    /// # Errors
    ///
    /// If it does not, or is nested more than 100 deep; says at which character.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader {
            chars: text.chars().peekable(),
            position: 0,
        };
        let value = reader.value(100)?;
        reader.skip_space();
        match reader.chars.peek() {
            None => Ok(value),
            Some(_) => Err(reader.trouble("the end")),
        }
    }

    /// What an object holds under a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

struct Reader<'text> {
    chars: Peekable<Chars<'text>>,
    position: usize,
}

impl Reader<'_> {
    fn trouble(&self, wanted: &str) -> String {
        format!("character {} is not {wanted}", self.position + 1)
    }

    fn next(&mut self) -> Option<char> {
        self.position += 1;
        self.chars.next()
    }

    fn skip_space(&mut self) {
        while self
            .chars
            .next_if(|char| " \n\r\t".contains(*char))
            .is_some()
        {
            self.position += 1;
        }
    }

    /// Whether this character comes next; it is taken.
    fn takes(&mut self, char: char) -> bool {
        self.skip_space();
        let is_next = self.chars.next_if_eq(&char).is_some();
        self.position += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, char: char) -> Result<(), String> {
        if self.takes(char) {
            Ok(())
        } else {
            Err(self.trouble(&format!("`{char}`")))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth == 0 {
            return Err(format!(
                "character {} is nested too deep",
                self.position + 1
            ));
        }
        self.skip_space();
        match self.chars.peek() {
            Some('"') => Ok(Value::Text(self.string()?)),
            Some('[') => {
                self.expect('[')?;
                let mut items = Vec::new();
                if !self.takes(']') {
                    loop {
                        items.push(self.value(depth - 1)?);
                        if self.takes(']') {
                            break;
                        }
                        self.expect(',')?;
                    }
                }
                Ok(Value::List(items))
            }
            Some('{') => {
                self.expect('{')?;
                let mut fields = Vec::new();
                if !self.takes('}') {
                    loop {
                        self.skip_space();
                        let name = self.string()?;
                        self.expect(':')?;
                        fields.push((name, self.value(depth - 1)?));
                        if self.takes('}') {
                            break;
                        }
                        self.expect(',')?;
                    }
                }
                Ok(Value::Object(fields))
            }
            _ => self.word(),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        if self.chars.peek() != Some(&'"') {
            return Err(self.trouble("a text"));
        }
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or("the text ends within a text")? {
                '"' => return Ok(text),
                '\\' => text.push(match self.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('u') => self.escaped()?,
                    Some(other @ ('"' | '\\' | '/')) => other,
                    _ => return Err(format!("character {} is no escape", self.position)),
                }),
                other => text.push(other),
            }
        }
    }

    /// The four digits of an escape. Halves of pairs, which the reports never write, become the replacement character.
    fn escaped(&mut self) -> Result<char, String> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|char| char.to_digit(16));
            code = code * 16 + digit.ok_or(format!("character {} is no digit", self.position))?;
        }
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// A number, or one of the three names.
    fn word(&mut self) -> Result<Value, String> {
        let started = self.position;
        let mut word = String::new();
        while let Some(char) = self
            .chars
            .next_if(|char| char.is_ascii_alphanumeric() || "+-.".contains(*char))
        {
            self.position += 1;
            word.push(char);
        }
        match word.as_str() {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            // What Rust reads beyond JSON's numbers are words: infinities and the like.
            number if number.starts_with(|char: char| char == '-' || char.is_ascii_digit()) => {
                number
                    .parse()
                    .map(Value::Number)
                    .map_err(|_| format!("character {} begins no number", started + 1))
            }
            _ => Err(format!("character {} begins no value", started + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quoted("a\n\\\u{1}"), r#""a\u000a\\\u0001""#);
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for text in [
            "",
            "a \"case\"",
            "back\\slash",
            "line\nbreak\ttab\u{1}",
            "µs, ≤ 1",
        ] {
            assert_eq!(
                Value::parse(&quoted(text)),
                Ok(Value::Text(text.to_owned()))
            );
        }
    }

    #[test]
    fn everything_is_read() {
        let text = r#" [ {"a": -1.5e3, "b": [ ], "c": {}}, null, true, false, "A\u00b5\/" ] "#;
        let expected = Value::List(vec![
            Value::Object(vec![
                ("a".to_owned(), Value::Number(-1500.0)),
                ("b".to_owned(), Value::List(Vec::new())),
                ("c".to_owned(), Value::Object(Vec::new())),
            ]),
            Value::Null,
            Value::Bool(true),
            Value::Bool(false),
            Value::Text("Aµ/".to_owned()),
        ]);
        assert_eq!(Value::parse(text), Ok(expected));
    }

    #[test]
    fn what_is_broken_is_refused() {
        for broken in [
            "",
            "[",
            "[1",
            "[1,]",
            "[1 2]",
            "{\"a\" 1}",
            "{a: 1}",
            "\"open",
            "\"\\x\"",
            "\"\\u00g0\"",
            "nul",
            "1 2",
            "-",
            "inf",
            "NaN",
        ] {
            assert!(Value::parse(broken).is_err(), "{broken}");
        }
        assert_eq!(Value::parse("[1;").unwrap_err(), "character 3 is not `,`");
        assert!(Value::parse(&"[".repeat(100_000)).is_err());
    }
}
