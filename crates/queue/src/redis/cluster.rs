//! Clusters: who owns a key, and who else is there.
//!
//! Nobody is asked for a map. A node that is asked for a key answers, or says who would; whoever answers at last is the
//! owner, by its own word, over the very connection that is used from then on. That needs no right but to look at the key,
//! and a server that is no cluster at all simply answers.

use std::time::Duration;

use qfleet_manifest::queue::{RedisSettings, RedisTarget};
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::connect::{Address, CONNECTS_WITHIN, GUIDE_WITHIN, reach};
use super::fault;
use crate::error::QueueError;

/// Times in a row that a node names another one; more is a cluster that does not know itself just now.
const HOPS: u32 = 5;

/// A connection to the node that owns `key`, found from any of `nodes`.
pub(super) async fn owner(
    address: &Address,
    nodes: &[(String, u16)],
    tls: bool,
    key: &str,
    answers_within: Duration,
) -> RedisResult<MultiplexedConnection> {
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "no node is named"));
    for node in nodes {
        match follow(address, node.clone(), tls, key, answers_within).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn follow(
    address: &Address,
    mut at: (String, u16),
    tls: bool,
    key: &str,
    answers_within: Duration,
) -> RedisResult<MultiplexedConnection> {
    let mut within = GUIDE_WITHIN;
    let mut last = None;
    for _ in 0..HOPS {
        let mut connection = address.log_in(reach(&at.0, at.1, tls), true, within, answers_within).await?;
        let question = redis::cmd("EXISTS").arg(key).to_owned();
        let answer = tokio::time::timeout(within, question.query_async::<Value>(&mut connection)).await;
        let Ok(answer) = answer else { return Err(silent()) };
        match answer {
            Ok(_) => return Ok(connection),
            // The key may be on its way to another node, but until it is there this one has the say.
            Err(error) if matches!(error.code(), Some("ASK" | "TRYAGAIN")) => return Ok(connection),
            Err(error) => {
                at = fault::moved_to(&error, &at.0).ok_or_else(|| error.clone())?;
                last = Some(error);
            }
        }
        within = CONNECTS_WITHIN;
    }
    Err(last.unwrap_or_else(silent))
}

fn silent() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// Every server that has keys of its own: the masters of a cluster, elsewhere the one there is.
///
/// # Errors
/// [`QueueError::Unreachable`] when no node answers; [`QueueError::Refused`] when the user may not ask for the others, or
/// a file named by the settings cannot be read.
pub(crate) async fn servers(settings: &RedisSettings) -> Result<Vec<RedisSettings>, QueueError> {
    let RedisTarget::Cluster { nodes, tls, .. } = &settings.target else { return Ok(vec![settings.clone()]) };
    let address = Address::new(settings)?;
    let mut last = QueueError::Refused(String::from("no node is named"));
    for (host, port) in nodes {
        let addr = reach(host, *port, *tls);
        let slots = match address.log_in(addr, true, GUIDE_WITHIN, GUIDE_WITHIN).await {
            Ok(mut connection) => redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await,
            Err(error) => Err(error),
        };
        match slots {
            Ok(slots) => {
                let masters = masters(slots, host);
                let server = |(host, port)| RedisSettings {
                    target: RedisTarget::Tcp { host, port, tls: *tls },
                    ..settings.clone()
                };
                return Ok(masters.into_iter().map(server).collect());
            }
            Err(error) => last = fault::sort(address.shown(), &error),
        }
    }
    Err(last)
}

/// The masters in an answer to `CLUSTER SLOTS`, each once. A node that does not know its own name is at the host asked.
fn masters(slots: Value, asked: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    let Value::Array(ranges) = slots else { return found };
    for range in ranges {
        let Value::Array(range) = range else { continue };
        let Some(Value::Array(master)) = range.into_iter().nth(2) else { continue };
        let [Some(host), Some(Value::Int(port))] = [master.first(), master.get(1)] else { continue };
        let host = match host {
            Value::BulkString(name) if !name.is_empty() && name != b"?" => {
                String::from_utf8_lossy(name).into_owned()
            }
            _ => asked.to_owned(),
        };
        let Ok(port) = u16::try_from(*port) else { continue };
        if !found.contains(&(host.clone(), port)) {
            found.push((host, port));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        let host = if host.is_empty() { Value::Nil } else { Value::BulkString(host.into()) };
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    #[test]
    fn each_master_is_found_once() {
        let range = |from: i64, nodes: Vec<Value>| {
            Value::Array([vec![Value::Int(from), Value::Int(from + 9)], nodes].concat())
        };
        let slots = Value::Array(vec![
            range(0, vec![node("a", 1), node("b", 2)]),
            range(10, vec![node("", 3)]),
            range(20, vec![node("a", 1)]),
            Value::Nil,
        ]);
        assert_eq!(masters(slots, "here"), [("a".to_owned(), 1), ("here".to_owned(), 3)]);
    }
}
