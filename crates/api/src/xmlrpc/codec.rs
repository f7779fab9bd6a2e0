//! From the bytes of a request to a call, and from its result to the bytes of the answer.
//!
//! Answers are laid out exactly as Python's marshaller does it, one element a line, because some clients look for lines
//! instead of reading XML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::faults::Fault;
use super::value::Value;
use super::xml::{Malformed, Piece, Reader, escape_into, malformed};

/// Lists and structs inside each other.
const DEEPEST: usize = 32;

/// A method and what it is called with.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `namespace.method`.
    pub method: String,
    /// In their order.
    pub params: Vec<Value>,
}

/// Reads a request.
///
/// # Errors
/// The bytes are no call; the text says why.
pub fn read_call(bytes: &[u8]) -> Result<Call, Malformed> {
    let Ok(text) = std::str::from_utf8(bytes) else { return malformed("the body is not UTF-8 text") };
    let mut parser = Parser { reader: Reader::new(text), peeked: None };
    parser.expect("methodCall")?;
    parser.expect("methodName")?;
    let method = parser.text_until("methodName")?.trim().to_owned();
    if method.is_empty() {
        return malformed("the call names no method");
    }
    let mut params = Vec::new();
    if parser.opens("params")? {
        while parser.opens("param")? {
            parser.expect("value")?;
            params.push(parser.value(0)?);
            parser.closes("param")?;
        }
        parser.closes("params")?;
    }
    parser.closes("methodCall")?;
    match parser.next_markup()? {
        Piece::End => Ok(Call { method, params }),
        _ => malformed("something follows the call"),
    }
}

struct Parser<'t> {
    reader: Reader<'t>,
    peeked: Option<Piece<'t>>,
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Result<Piece<'t>, Malformed> {
        match self.peeked.take() {
            Some(piece) => Ok(piece),
            None => self.reader.next(),
        }
    }

    /// The next piece that is not white space.
    fn next_markup(&mut self) -> Result<Piece<'t>, Malformed> {
        loop {
            match self.next()? {
                Piece::Text(text) if text.trim().is_empty() => {}
                piece => return Ok(piece),
            }
        }
    }

    /// Whether this element comes next; takes it if so.
    fn opens(&mut self, name: &str) -> Result<bool, Malformed> {
        let piece = self.next_markup()?;
        let opens = piece == Piece::Open(name);
        if !opens {
            self.peeked = Some(piece);
        }
        Ok(opens)
    }

    fn expect(&mut self, name: &str) -> Result<(), Malformed> {
        if self.opens(name)? { Ok(()) } else { malformed(format!("`{name}` is missing")) }
    }

    fn closes(&mut self, name: &str) -> Result<(), Malformed> {
        match self.next_markup()? {
            Piece::Close(closed) if closed == name => Ok(()),
            _ => malformed(format!("`{name}` is not closed where it should be")),
        }
    }

    /// All text up to the end of this element.
    fn text_until(&mut self, name: &str) -> Result<String, Malformed> {
        let mut all = String::new();
        loop {
            match self.next()? {
                Piece::Text(text) => all.push_str(&text),
                Piece::Close(closed) if closed == name => return Ok(all),
                _ => return malformed(format!("`{name}` holds something else than text")),
            }
        }
    }

    /// What is inside `value`, and its end.
    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut bare = String::new();
        loop {
            match self.next()? {
                Piece::Text(text) => bare.push_str(&text),
                Piece::Close("value") => return Ok(Value::Text(bare)),
                Piece::Open(kind) if bare.trim().is_empty() => {
                    let value = self.typed(kind, depth)?;
                    self.closes("value")?;
                    return Ok(value);
                }
                _ => return malformed("a value that is neither text nor of one type"),
            }
        }
    }

    fn typed(&mut self, kind: &str, depth: usize) -> Result<Value, Malformed> {
        if depth >= DEEPEST {
            return malformed(format!("values inside each other, more than {DEEPEST} deep"));
        }
        match kind {
            "array" => return self.list(depth),
            "struct" => return self.members(depth),
            _ => {}
        }
        let text = self.text_until(kind)?;
        let unreadable =
            || malformed(format!("`{}` is no `{kind}`", text.chars().take(40).collect::<String>()));
        match kind {
            "string" => Ok(Value::Text(text)),
            "int" | "i4" | "i8" => {
                text.trim().parse().map_or_else(|_| unreadable(), |number| Ok(Value::Int(number)))
            }
            "boolean" => Ok(Value::Bool(text.trim() == "1")),
            "double" => text.trim().parse().map_or_else(|_| unreadable(), |number| Ok(Value::Double(number))),
            "dateTime.iso8601" => Ok(Value::Date(text.trim().to_owned())),
            "base64" => {
                let packed: String = text.split_whitespace().collect();
                let bytes = STANDARD.decode(packed);
                bytes.map_or_else(
                    |_| unreadable(),
                    |bytes| Ok(String::from_utf8_lossy(&bytes).into_owned().into()),
                )
            }
            _ => malformed(format!("`{kind}` is no type")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.expect("data")?;
        let mut values = Vec::new();
        while self.opens("value")? {
            values.push(self.value(depth + 1)?);
        }
        self.closes("data")?;
        self.closes("array")?;
        Ok(Value::List(values))
    }

    fn members(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut members = Vec::new();
        while self.opens("member")? {
            self.expect("name")?;
            let name = self.text_until("name")?;
            self.expect("value")?;
            members.push((name, self.value(depth + 1)?));
            self.closes("member")?;
        }
        self.closes("struct")?;
        Ok(Value::Struct(members))
    }
}

/// Writes an answer.
#[must_use]
pub fn write_answer(answer: &Result<Value, Fault>) -> String {
    let mut out = String::from("<?xml version='1.0'?>\n<methodResponse>\n");
    match answer {
        Ok(value) => {
            out.push_str("<params>\n<param>\n");
            write_value(&mut out, value);
            out.push_str("</param>\n</params>\n");
        }
        Err(fault) => {
            out.push_str("<fault>\n");
            write_value(&mut out, &fault.value());
            out.push_str("</fault>\n");
        }
    }
    out.push_str("</methodResponse>\n");
    out
}

fn write_value(out: &mut String, value: &Value) {
    out.push_str("<value>");
    match value {
        Value::Int(number) => {
            let number = (*number).clamp(i32::MIN.into(), i32::MAX.into());
            out.push_str(&format!("<int>{number}</int>"));
        }
        Value::Bool(flag) => {
            out.push_str(if *flag { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" });
        }
        Value::Text(text) => element(out, "string", text),
        Value::Double(number) => out.push_str(&format!("<double>{number}</double>")),
        Value::Date(date) => element(out, "dateTime.iso8601", date),
        Value::List(values) => {
            out.push_str("<array><data>\n");
            values.iter().for_each(|value| write_value(out, value));
            out.push_str("</data></array>");
        }
        Value::Struct(members) => {
            out.push_str("<struct>\n");
            for (name, value) in members {
                out.push_str("<member>\n");
                element(out, "name", name);
                out.push('\n');
                write_value(out, value);
                out.push_str("</member>\n");
            }
            out.push_str("</struct>");
        }
    }
    out.push_str("</value>\n");
}

fn element(out: &mut String, name: &str, text: &str) {
    out.push_str(&format!("<{name}>"));
    escape_into(out, text);
    out.push_str(&format!("</{name}>"));
}
