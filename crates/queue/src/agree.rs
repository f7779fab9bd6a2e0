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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qfleet_manifest::queue::RedisTarget;
    use qfleet_testkit::RedisServer;

    use super::*;

    fn settings(server: &RedisServer) -> RedisSettings {
        RedisSettings {
            target: RedisTarget::Unix { path: server.socket() },
            database: 0,
            username: None,
            password: None,
            ca_file: None,
        }
    }

    #[tokio::test]
    async fn one_of_many_is_the_first_and_stays_it() {
        let server = RedisServer::start();
        let redis = settings(&server);
        let lasts = Duration::from_secs(60);
        let holders: Vec<String> = (0..20).map(|number| format!("host:{number}")).collect();
        let asked = holders.iter().map(|holder| is_first(&redis, "date", holder, lasts));
        let said: Vec<bool> =
            futures_util::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(said.iter().filter(|first| **first).count(), 1);
        // An answer that was lost is asked for again, and is the same.
        for (holder, first) in holders.iter().zip(said) {
            assert_eq!(is_first(&redis, "date", holder, lasts).await.unwrap(), first, "{holder}");
        }
        assert!(is_first(&redis, "another date", "host:1", lasts).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_cannot_find_out_is_not_the_first() {
        let server = RedisServer::start();
        let redis = settings(&server);
        server.stop();
        let begun = Instant::now();
        let said = is_first(&redis, "date", "host:1", Duration::from_secs(60)).await;
        assert!(matches!(said, Err(QueueError::Unreachable(_))), "{said:?}");
        assert!(begun.elapsed() >= WITHIN - PAUSE * 2, "it may come back in a moment");
    }

    #[tokio::test]
    async fn a_key_of_another_kind_is_told() {
        let server = RedisServer::start();
        let redis = settings(&server);
        redis::cmd("RPUSH").arg("date").arg("x").exec(&mut server.connection()).unwrap();
        let said = is_first(&redis, "date", "host:1", Duration::from_secs(60)).await;
        assert!(matches!(said, Err(QueueError::Refused(_))), "{said:?}");
    }
}
