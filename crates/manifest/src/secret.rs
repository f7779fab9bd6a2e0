//! A value that never prints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A password or key. `Debug` shows `•••`; only [`Secret::reveal`] gives the text.
///
/// It is serialized in clear, because settings travel to workers over a private socket: never serialize it anywhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("•••")
    }
}
