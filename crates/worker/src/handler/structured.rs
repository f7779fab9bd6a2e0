//! Structured field items as RFC 9651 writes them: a value with parameters, as in `snooze;delay=120;reason="full"`.
//!
//! Strict, as the standard asks: a text with one fault is no item at all.

use std::time::Duration;

/// A value without parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bare {
    Integer(i64),
    Decimal(f64),
    Text(String),
    Token(String),
    Bytes,
    Boolean(bool),
    /// Seconds since 1970.
    Date(i64),
}

/// A value with its parameters, the last of a name winning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) value: Bare,
    pub(crate) parameters: Vec<(String, Bare)>,
}

impl Item {
    /// Reads a whole field value.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text.trim_matches(' ').as_bytes());
        let value = rest.bare()?;
        let mut parameters: Vec<(String, Bare)> = Vec::new();
        while rest.take(b';') {
            rest.skip_spaces();
            let name = rest.key()?;
            let value = if rest.take(b'=') { rest.bare()? } else { Bare::Boolean(true) };
            parameters.retain(|(known, _)| *known != name);
            parameters.push((name, value));
        }
        rest.0.is_empty().then_some(Self { value, parameters })
    }

    /// A parameter's value.
    pub(crate) fn parameter(&self, name: &str) -> Option<&Bare> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl Bare {
    /// The number as seconds, if it is one and not negative.
    pub(crate) fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok().map(Duration::from_secs),
            Self::Decimal(number) => Duration::try_from_secs_f64(*number).ok(),
            _ => None,
        }
    }

    /// The text of a string or a token.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Token(text) => Some(text),
            _ => None,
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_spaces(&mut self) {
        while self.take(b' ') {}
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let end = self.0.iter().position(|byte| !belongs(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        std::str::from_utf8(taken).unwrap_or_default()
    }

    fn bare(&mut self) -> Option<Bare> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(Bare::Text),
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => Some(Bare::Token(self.take_while(is_token).to_owned())),
            b':' => self.bytes(),
            b'?' => self.boolean(),
            b'@' => {
                self.next()?;
                match self.number()? {
                    Bare::Integer(seconds) => Some(Bare::Date(seconds)),
                    _ => None,
                }
            }
            b'%' => self.display_string().map(Bare::Text),
            _ => None,
        }
    }

    fn key(&mut self) -> Option<String> {
        if !self.0.first().is_some_and(|first| first.is_ascii_lowercase() || *first == b'*') {
            return None;
        }
        let belongs =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
        Some(self.take_while(belongs).to_owned())
    }

    fn number(&mut self) -> Option<Bare> {
        let sign = if self.take(b'-') { "-" } else { "" };
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if whole.is_empty() {
            return None;
        }
        if !self.take(b'.') {
            return (whole.len() <= 15).then(|| format!("{sign}{whole}").parse().ok().map(Bare::Integer))?;
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit());
        let fits = whole.len() <= 12 && (1..=3).contains(&fraction.len());
        fits.then(|| format!("{sign}{whole}.{fraction}").parse().ok().map(Bare::Decimal))?
    }

    fn string(&mut self) -> Option<String> {
        self.next()?;
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return None,
                },
                byte @ b' '..=b'~' => text.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    /// A string with percent-encoded UTF-8, which plain strings cannot hold.
    fn display_string(&mut self) -> Option<String> {
        self.next()?;
        if !self.take(b'"') {
            return None;
        }
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return String::from_utf8(bytes).ok(),
                b'%' => {
                    let (high, low) = (hex(self.next()?)?, hex(self.next()?)?);
                    bytes.push(high << 4 | low);
                }
                byte @ b' '..=b'~' => bytes.push(byte),
                _ => return None,
            }
        }
    }

    fn bytes(&mut self) -> Option<Bare> {
        self.next()?;
        self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        self.take(b':').then_some(Bare::Bytes)
    }

    fn boolean(&mut self) -> Option<Bare> {
        self.next()?;
        match self.next()? {
            b'0' => Some(Bare::Boolean(false)),
            b'1' => Some(Bare::Boolean(true)),
            _ => None,
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

/// Lower case only, as the standard writes it.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_item_has_a_value_and_parameters() {
        let item =
            Item::parse(r#" snooze;delay=120; reason="quota \"A\" \\ B";scope=endpoint;half=1.5;yes;no=?0 "#)
                .unwrap();
        assert_eq!(item.value, Bare::Token("snooze".to_owned()));
        assert_eq!(item.parameter("delay"), Some(&Bare::Integer(120)));
        assert_eq!(item.parameter("reason"), Some(&Bare::Text(r#"quota "A" \ B"#.to_owned())));
        assert_eq!(item.parameter("scope"), Some(&Bare::Token("endpoint".to_owned())));
        assert_eq!(item.parameter("half").unwrap().seconds(), Some(Duration::from_millis(1500)));
        assert_eq!(item.parameter("yes"), Some(&Bare::Boolean(true)));
        assert_eq!(item.parameter("no"), Some(&Bare::Boolean(false)));
        assert_eq!(item.parameter("other"), None);
    }

    #[test]
    fn the_last_of_a_name_wins() {
        assert_eq!(Item::parse("a;x=1;x=2").unwrap().parameter("x"), Some(&Bare::Integer(2)));
    }

    #[test]
    fn every_kind_of_value_is_read() {
        for (text, value) in [
            ("-42", Bare::Integer(-42)),
            ("0.125", Bare::Decimal(0.125)),
            ("999999999999999", Bare::Integer(999_999_999_999_999)),
            (":aGk=:", Bare::Bytes),
            ("@1767225605", Bare::Date(1_767_225_605)),
            (r#"%"f%c3%bcr""#, Bare::Text("für".to_owned())),
            ("*t/x:y", Bare::Token("*t/x:y".to_owned())),
        ] {
            assert_eq!(Item::parse(text).map(|item| item.value), Some(value), "{text}");
        }
    }

    #[test]
    fn a_text_with_one_fault_is_no_item() {
        for text in [
            "",
            ";a",
            "a;",
            "a; ;b",
            "a;B=1",
            "a;b=",
            "a b",
            "a,b",
            "\"open",
            "\"bad \\x\"",
            "\"t\u{e9}\"",
            "1.",
            "1.2345",
            "1234567890123456",
            "1234567890123.1",
            "-",
            "--1",
            "@1.5",
            "?2",
            ":open",
            "%\"%C3%BC\"",
            "%\"%ff\"",
            "é",
            "a;b=1x",
        ] {
            assert_eq!(Item::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_numbers_that_are_not_negative_are_seconds() {
        assert_eq!(Bare::Integer(-1).seconds(), None);
        assert_eq!(Bare::Decimal(-0.5).seconds(), None);
        assert_eq!(Bare::Text("5".to_owned()).seconds(), None);
    }
}
