//! Failed jobs on a cluster: those of a queue lie beside it, so that a record and the job put back from it are never both
//! gone; a set on its own place names the queues there may be some of.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use qfleet_manifest::queue::Connection;
use qfleet_model::time::WallTime;

use super::redis::RedisFailedJobs;
use super::{FailedJob, FailedJobs};
use crate::error::QueueError;
use crate::laravel::Keys;
use crate::located;
use crate::redis::{Link, Links, Reply};

/// The set of queues that may have failed jobs.
#[derive(Debug)]
pub(crate) struct Register {
    key: String,
    link: Link,
    known: Mutex<HashSet<String>>,
}

impl Register {
    /// The register of one connection, with a connection of its own, made when it is first needed.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when a file named by the settings cannot be read.
    pub(crate) fn open(connection: &Connection) -> Result<Self, QueueError> {
        let key = Keys::new(connection).failing_queues();
        let link = Link::for_commands(&connection.redis.at(&key))?;
        Ok(Self { key, link, known: Mutex::default() })
    }

    /// Sees to it that these queues are named, before something of theirs is written.
    pub(crate) async fn note(&self, queues: &[String]) -> Result<(), QueueError> {
        let new: Vec<&String> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            queues.iter().filter(|queue| !known.contains(*queue)).collect()
        };
        if !new.is_empty() {
            self.link.call(redis::cmd("SADD").arg(&self.key).arg(&new)).await?;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(new.into_iter().cloned());
        }
        Ok(())
    }

    async fn queues(&self) -> Result<Vec<String>, QueueError> {
        let names = self.link.call(redis::cmd("SMEMBERS").arg(&self.key)).await?;
        Ok(Reply(names).list().into_iter().map(Reply::text).collect())
    }
}

/// The stores of one connection on a cluster.
#[derive(Debug)]
pub(crate) struct SpreadFailedJobs {
    connection: Connection,
    register: Register,
    /// By the hash tag of their queues.
    stores: Mutex<BTreeMap<String, Arc<RedisFailedJobs>>>,
}

impl SpreadFailedJobs {
    /// Connections are made when they are first needed.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when a file named by the settings cannot be read.
    pub(crate) fn open(connection: &Connection) -> Result<Self, QueueError> {
        let (register, stores) = (Register::open(connection)?, Mutex::default());
        Ok(Self { connection: connection.clone(), register, stores })
    }

    fn store(&self, queue: &String) -> Result<Arc<RedisFailedJobs>, QueueError> {
        let at = located(&self.connection, [queue])?;
        let home = self.connection.home([queue]).unwrap_or_default();
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&home) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(RedisFailedJobs::open(&at, &Links::default())?);
        stores.insert(home, Arc::clone(&store));
        Ok(store)
    }

    /// Those of one queue, or of all that may have failed jobs, each once.
    async fn stores(&self, queue: Option<&str>) -> Result<Vec<Arc<RedisFailedJobs>>, QueueError> {
        if let Some(queue) = queue {
            return Ok(vec![self.store(&queue.to_owned())?]);
        }
        let mut homes = HashSet::new();
        let mut stores = Vec::new();
        for queue in self.register.queues().await? {
            // Named while the connection was another one.
            let Ok(home) = self.connection.home([&queue]) else { continue };
            if homes.insert(home) {
                stores.push(self.store(&queue)?);
            }
        }
        Ok(stores)
    }
}

#[async_trait]
impl FailedJobs for SpreadFailedJobs {
    async fn record(&self, job: &FailedJob) -> Result<(), QueueError> {
        self.register.note(std::slice::from_ref(&job.queue)).await?;
        self.store(&job.queue)?.record(job).await
    }

    async fn list(&self, queue: Option<&str>, from: u64, count: u64) -> Result<Vec<FailedJob>, QueueError> {
        if queue.is_some() {
            return self.stores(queue).await?[0].list(queue, from, count).await;
        }
        let mut all = Vec::new();
        for store in self.stores(None).await? {
            all.extend(store.list(None, 0, from.saturating_add(count)).await?);
        }
        all.sort_by_key(|job| std::cmp::Reverse(job.failed_at));
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(all.into_iter().skip(place(from)).take(place(count)).collect())
    }

    async fn show(&self, id: &str) -> Result<Option<FailedJob>, QueueError> {
        for store in self.stores(None).await? {
            if let Some(job) = store.show(id).await? {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    async fn retry(&self, id: &str) -> Result<bool, QueueError> {
        for store in self.stores(None).await? {
            if store.retry(id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn forget(&self, id: &str) -> Result<bool, QueueError> {
        for store in self.stores(None).await? {
            if store.forget(id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn flush(&self, queue: Option<&str>, before: Option<WallTime>) -> Result<u64, QueueError> {
        let mut removed = 0;
        for store in self.stores(queue).await? {
            removed += store.flush(queue, before).await?;
        }
        Ok(removed)
    }
}
