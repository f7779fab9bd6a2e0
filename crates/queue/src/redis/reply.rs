//! Reading what a script answered.

use redis::Value;

/// An answer, read piece by piece; a piece that is not what was expected reads as empty or zero.
#[derive(Debug)]
pub(crate) struct Reply(pub(crate) Value);

impl Reply {
    /// Its elements; none when it is no list.
    pub(crate) fn list(self) -> Vec<Self> {
        match self.0 {
            Value::Array(items) => items.into_iter().map(Self).collect(),
            _ => Vec::new(),
        }
    }

    /// Its first `N` elements, missing ones as nil.
    pub(crate) fn fields<const N: usize>(self) -> [Self; N] {
        let mut items = self.list().into_iter();
        std::array::from_fn(|_| items.next().unwrap_or(Self(Value::Nil)))
    }

    /// Its bytes, if it is a text.
    pub(crate) fn bytes(self) -> Option<Vec<u8>> {
        match self.0 {
            Value::BulkString(bytes) => Some(bytes),
            Value::SimpleString(text) => Some(text.into_bytes()),
            _ => None,
        }
    }

    /// Its text, bytes that are not UTF-8 replaced; empty when it is none.
    pub(crate) fn text(self) -> String {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its number, if it is or reads as one.
    pub(crate) fn number<T: std::str::FromStr + TryFrom<i64>>(&self) -> Option<T> {
        match &self.0 {
            Value::Int(number) => T::try_from(*number).ok(),
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// Its number as a score of a sorted set.
    pub(crate) fn score(&self) -> Option<f64> {
        match &self.0 {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Value::Double(number) => Some(*number),
            _ => None,
        }
    }
}
