//! Looking for keys by pattern, a bounded part of one server at a time.

use super::{Link, Reply};
use crate::error::QueueError;

/// Keys looked at in one call, about.
const KEYS_PER_CALL: u32 = 1_000;

/// A search that goes on where it was.
#[derive(Debug)]
pub(crate) struct Scan {
    pattern: String,
    /// None when all has been looked at.
    cursor: Option<String>,
}

impl Scan {
    /// At its beginning.
    pub(crate) fn new(pattern: String) -> Self {
        Self { pattern, cursor: Some(String::from("0")) }
    }

    /// Some more keys that match; `None` when there are no more. The same key may come twice.
    ///
    /// # Errors
    /// Any; [`QueueError::Refused`] where the user may not do this.
    pub(crate) async fn next(&mut self, link: &Link) -> Result<Option<Vec<String>>, QueueError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(KEYS_PER_CALL);
        let [next, keys] = Reply(link.call(&command).await?).fields();
        self.cursor = Some(next.text()).filter(|next| !next.is_empty() && next != "0");
        Ok(Some(keys.list().into_iter().map(Reply::text).collect()))
    }
}
