//! Which of several hosts does something: the one that was first to write so.
//!
//! Nobody is told twice that they were the first: whoever cannot find out was not. A Redis that forgets what it has
//! acknowledged, as a failover may, lets another one be the first.

use std::time::Duration;

use qfleet_manifest::queue::RedisSettings;
use tokio::time::{Instant, sleep};

use crate::error::QueueError;
use crate::redis::connect::Address;

/// A Redis that is away for longer than this is not waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// It is asked again after this.
const PAUSE: Duration = Duration::from_millis(200);

/// One answer takes no longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Whether `holder`, a name that nobody else has, was the first to write its name under `key`; it stays for `lasts`. To be
/// asked again with the same name after an answer was lost is to be answered the same.
///
/// # Errors
/// The Redis did not say within five seconds, or will not.
pub async fn is_first(
    redis: &RedisSettings,
    key: &str,
    holder: &str,
    lasts: Duration,
) -> Result<bool, QueueError> {
    let address = Address::new(&redis.at(key))?;
    let until = Instant::now() + WITHIN;
    loop {
        match ask(&address, key, holder, lasts).await {
            Err(QueueError::Unreachable(_)) if Instant::now() + PAUSE < until => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

async fn ask(address: &Address, key: &str, holder: &str, lasts: Duration) -> Result<bool, QueueError> {
    let (mut connection, _) = address.connect(ANSWERS_WITHIN).await?;
    let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX.unsigned_abs());
    let mut set = redis::cmd("SET");
    set.arg(key).arg(holder).arg("NX").arg("PX").arg(lasts);
    let written: Option<String> =
        set.query_async(&mut connection).await.map_err(|error| address.sort(&error))?;
    if written.is_some() {
        return Ok(true);
    }
    // It may be our own name, of an earlier time whose answer did not arrive.
    let there: Option<String> = redis::cmd("GET")
        .arg(key)
        .query_async(&mut connection)
        .await
        .map_err(|error| address.sort(&error))?;
    Ok(there.as_deref() == Some(holder))
}
