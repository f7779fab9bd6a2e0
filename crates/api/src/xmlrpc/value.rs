//! The values of XML-RPC, as far as supervisord's clients use them.

/// A parameter or a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `int`, `i4`; written with 32 bits.
    Int(i64),
    /// `boolean`.
    Bool(bool),
    /// `string`, `base64` or bare text.
    Text(String),
    /// `double`.
    Double(f64),
    /// `dateTime.iso8601`, as it is written.
    Date(String),
    /// `array`.
    List(Vec<Value>),
    /// `struct`, in its order.
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A struct of fixed members.
    pub(crate) fn members<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Struct(members.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Int(_) | Self::Bool(_) | Self::Double(_) => 0,
                Self::Text(text) | Self::Date(text) => text.len(),
                Self::List(values) => values.iter().map(Self::weight).sum(),
                Self::Struct(members) => members
                    .iter()
                    .map(|(name, value)| size_of::<String>() + name.len() + value.weight())
                    .sum(),
            }
    }

    /// The member of this name of a struct.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}
