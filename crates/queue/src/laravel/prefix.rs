//! Finding the prefix: where a queue's keys are when they are not where the manifest says.

use qfleet_manifest::queue::Connection;

use super::Keys;
use crate::error::QueueError;
use crate::redis::{Link, Reply, Scan, servers};

/// Calls of one search: a bound on what a large Redis is asked to do.
const CALLS: u32 = 200;

/// What a search for a queue's keys found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixSearch {
    /// The queue has keys under the prefix of the manifest; nothing was searched.
    AsWritten,
    /// The same queue name under other prefixes, most jobs first. Empty when there is none either.
    Elsewhere(Vec<FoundPrefix>),
}

/// A queue of the wanted name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPrefix {
    /// What to write as `prefix`.
    pub prefix: String,
    /// The ready list's key.
    pub key: String,
    /// Ready jobs in it.
    pub jobs: u64,
}

/// Looks where the keys of a Laravel queue are; one bounded scan at most.
///
/// # Errors
/// Any.
pub async fn find_prefix(connection: &Connection, queue: &str) -> Result<PrefixSearch, QueueError> {
    let ready = Keys::new(connection).ready(queue);
    let link = Link::for_commands(&connection.redis.at(&ready))?;
    let mut exists = redis::cmd("EXISTS");
    exists.arg(&ready);
    for part in PARTS {
        exists.arg(format!("{ready}{part}"));
    }
    if Reply(link.call(&exists).await?).number::<u64>().unwrap_or_default() > 0 {
        return Ok(PrefixSearch::AsWritten);
    }
    // The name as the keys have it, braces included.
    let wanted = ready[connection.prefix.len()..].to_owned();
    let mut found = Vec::new();
    for (server, key) in scan(&link, connection, &wanted).await? {
        let jobs = match server.call(redis::cmd("LLEN").arg(&key)).await {
            Ok(jobs) => Reply(jobs).number::<u64>().unwrap_or_default(),
            Err(QueueError::Refused(_)) => continue,
            Err(error) => return Err(error),
        };
        let prefix = key[..key.len() - wanted.len()].to_owned();
        found.push(FoundPrefix { prefix, key, jobs });
    }
    found.sort_by(|a, b| b.jobs.cmp(&a.jobs).then_with(|| a.key.cmp(&b.key)));
    Ok(PrefixSearch::Elsewhere(found))
}

const PARTS: [&str; 3] = [":delayed", ":reserved", ":notify"];

/// Keys of ready lists that end in `wanted`, told from any key of the queue, each with the server that has it.
async fn scan(here: &Link, connection: &Connection, wanted: &str) -> Result<Vec<(Link, String)>, QueueError> {
    let links = if connection.on_cluster() {
        let servers = servers(&connection.redis).await?;
        servers.iter().map(Link::for_commands).collect::<Result<_, _>>()?
    } else {
        vec![here.clone()]
    };
    let mut lists: Vec<(Link, String)> = Vec::new();
    for link in links {
        let mut scan = Scan::new(format!("*{}*", escaped(wanted)));
        for _ in 0..CALLS {
            let Some(keys) = scan.next(&link).await? else { break };
            for key in keys {
                let list = PARTS.iter().find_map(|part| key.strip_suffix(part)).unwrap_or(&key);
                if list.ends_with(wanted) && !lists.iter().any(|(_, known)| known == list) {
                    lists.push((link.clone(), list.to_owned()));
                }
            }
        }
    }
    Ok(lists)
}

/// The text without its meaning for a pattern.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|letter| "*?[]^\\".contains(letter).then_some('\\').into_iter().chain([letter]))
        .collect()
}
