//! A reader of the little XML that calls are written in: elements and text, piece by piece.
//!
//! Attributes, comments and instructions are passed over. There are no document types and so no entities but the five
//! everybody has: what a call means cannot grow beyond its bytes.

use std::borrow::Cow;

/// Why a text is no call; for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub(super) String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

pub(super) fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

/// A piece of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Open(&'t str),
    Close(&'t str),
    Text(Cow<'t, str>),
    End,
}

/// Reads a document from its beginning.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    rest: &'t str,
    /// The element that was opened and closed at once.
    closes: Option<&'t str>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), closes: None }
    }

    pub(super) fn next(&mut self) -> Result<Piece<'t>, Malformed> {
        if let Some(name) = self.closes.take() {
            return Ok(Piece::Close(name));
        }
        loop {
            if self.rest.is_empty() {
                return Ok(Piece::End);
            }
            let Some(markup) = self.rest.strip_prefix('<') else {
                let end = self.rest.find('<').unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Ok(Piece::Text(unescaped(text)?));
            };
            if let Some(comment) = markup.strip_prefix("!--") {
                self.skip(comment, "-->")?;
            } else if let Some(instruction) = markup.strip_prefix('?') {
                self.skip(instruction, "?>")?;
            } else if let Some(data) = markup.strip_prefix("![CDATA[") {
                return Ok(Piece::Text(Cow::Borrowed(self.skip(data, "]]>")?)));
            } else if markup.starts_with('!') {
                return malformed("a document type is not accepted");
            } else {
                return self.tag(markup);
            }
        }
    }

    /// Goes on behind `end`; gives what is before it.
    fn skip(&mut self, from: &'t str, end: &str) -> Result<&'t str, Malformed> {
        let Some((before, rest)) = from.split_once(end) else {
            return malformed(format!("`{end}` is missing"));
        };
        self.rest = rest;
        Ok(before)
    }

    fn tag(&mut self, markup: &'t str) -> Result<Piece<'t>, Malformed> {
        let Some(end) = end_of_tag(markup) else { return malformed("a tag has no end") };
        let tag = &markup[..end];
        self.rest = &markup[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            return Ok(Piece::Close(name.trim_end()));
        }
        let (tag, is_empty) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let name = tag.split(char::is_whitespace).next().unwrap_or_default();
        if name.is_empty() {
            return malformed("a tag has no name");
        }
        self.closes = is_empty.then_some(name);
        Ok(Piece::Open(name))
    }
}

/// Where a tag's `>` is; one in quotes does not count.
fn end_of_tag(markup: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in markup.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'<') => return None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> Result<Cow<'_, str>, Malformed> {
    let Some(first) = text.find('&') else { return Ok(Cow::Borrowed(text)) };
    let (mut out, mut rest) = (text[..first].to_owned(), &text[first..]);
    while let Some((before, entity)) = rest.split_once('&') {
        out.push_str(before);
        let Some((name, after)) = entity.split_once(';') else { return malformed("`&` without `;`") };
        out.push(character(name)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn character(name: &str) -> Result<char, Malformed> {
    let number = match name.strip_prefix('#') {
        None => {
            let known = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\'')];
            let found = known.iter().find(|(known, _)| *known == name);
            return found.map_or_else(|| malformed("an entity that nobody knows"), |(_, found)| Ok(*found));
        }
        Some(number) => match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        },
    };
    match number.ok().and_then(char::from_u32) {
        Some(character) => Ok(character),
        None => malformed("a number that is no character"),
    }
}

/// Adds text as it is written in a document. Characters that XML does not allow become U+FFFD; a carriage return would be
/// read as a line end, if it were not written as a number.
pub(super) fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Malformed> {
        let mut reader = Reader::new(text);
        let mut all = Vec::new();
        loop {
            match reader.next()? {
                Piece::End => return Ok(all),
                piece => all.push(piece),
            }
        }
    }

    #[test]
    fn elements_and_text_come_one_by_one() {
        let text = "\u{feff}<?xml version='1.0'?><!-- > --><a b='>' c=\"/\">x &lt;&#65;&#x42;&amp;<![CDATA[<&]]></a ><d/>";
        let text_piece = |text: &'static str| Piece::Text(Cow::Borrowed(text));
        assert_eq!(
            pieces(text).unwrap(),
            [
                Piece::Open("a"),
                text_piece("x <AB&"),
                text_piece("<&"),
                Piece::Close("a"),
                Piece::Open("d"),
                Piece::Close("d")
            ]
        );
    }

    #[test]
    fn what_is_no_xml_or_could_grow_is_refused() {
        for text in [
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<a>&b;</a>",
            "<a>&b</a>",
            "<a>&#xd800;</a>",
            "<a>&#99999999999;</a>",
            "<!-- no end",
            "<?no end",
            "<![CDATA[no end",
            "<no end",
            "<>",
            "<a b='>",
            "<a <b>",
        ] {
            assert!(pieces(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whatever_is_escaped_is_read_as_it_was() {
        let text = "a<b>&amp;\r\n\t\"'\u{20ac}";
        let mut escaped = String::new();
        escape_into(&mut escaped, text);
        assert_eq!(pieces(&escaped).unwrap(), [Piece::Text(Cow::Borrowed(text))]);
        let mut escaped = String::new();
        escape_into(&mut escaped, "\x1b[0m\0\u{ffff}");
        assert_eq!(escaped, "\u{fffd}[0m\u{fffd}\u{fffd}");
    }
}
