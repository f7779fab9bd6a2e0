//! Failed jobs in the Redis of their own connection: a sorted set of ids by date, one hash for each record.
//!
//! What could not be read is kept apart, by queue, and shown together with the rest. Every change is one script, so a
//! record and the job put back from it are never both there, and never both gone.

use async_trait::async_trait;
use qfleet_manifest::queue::Connection;
use qfleet_model::time::WallTime;

use super::{FailedJob, FailedJobs, record_id};
use crate::error::QueueError;
use crate::laravel::Keys;
use crate::redis::{Call, Link, Links, Reply, Script};

/// Records removed in one call.
const BATCH: u64 = 500;

/// The store of one connection.
#[derive(Debug)]
pub(crate) struct RedisFailedJobs {
    keys: Keys,
    link: Link,
    record: Script,
    list: Script,
    retry: Script,
    flush: Script,
}

/// Where a record is.
struct Whereabouts {
    key: String,
    indexes: Vec<String>,
    unreadable: bool,
}

impl RedisFailedJobs {
    /// A store on one of these connections.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when a file named by the settings cannot be read.
    pub(crate) fn open(connection: &Connection, links: &Links) -> Result<Self, QueueError> {
        Ok(Self::new(Keys::new(connection), links.commands(&connection.redis)?))
    }

    /// A store that shares a connection.
    pub(crate) fn new(keys: Keys, link: Link) -> Self {
        Self {
            keys,
            link,
            record: Script::new(concat!(
                include_str!("../laravel/lua/scan.lua"),
                include_str!("lua/record.lua")
            )),
            list: Script::new(include_str!("lua/list.lua")),
            retry: Script::new(concat!(
                include_str!("../laravel/lua/scan.lua"),
                include_str!("lua/retry.lua")
            )),
            flush: Script::new(include_str!("lua/flush.lua")),
        }
    }

    async fn unreadable_queues(&self) -> Result<Vec<String>, QueueError> {
        let names = self.link.call(redis::cmd("SMEMBERS").arg(self.keys.unreadable_queues())).await?;
        let mut names: Vec<String> = Reply(names).list().into_iter().map(Reply::text).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn find(&self, id: &str) -> Result<Option<(Whereabouts, FailedJob)>, QueueError> {
        let key = self.keys.failed_record(id);
        if let Some(job) = self.read(&key, id, false).await? {
            let indexes = vec![self.keys.failed(), self.keys.failed_in(&job.queue)];
            return Ok(Some((Whereabouts { key, indexes, unreadable: false }, job)));
        }
        for queue in self.unreadable_queues().await? {
            let key = self.keys.unreadable_record(&queue, id);
            if let Some(job) = self.read(&key, id, true).await? {
                let indexes = vec![self.keys.unreadable(&queue)];
                return Ok(Some((Whereabouts { key, indexes, unreadable: true }, job)));
            }
        }
        Ok(None)
    }

    async fn read(&self, key: &str, id: &str, unreadable: bool) -> Result<Option<FailedJob>, QueueError> {
        let mut command = redis::cmd("HMGET");
        command.arg(key).arg(&["payload", "queue", "connection", "name", "class", "reason", "failed_at"]);
        let row = Reply(self.link.call(&command).await?);
        Ok(job(id.to_owned(), unreadable, row.fields()))
    }

    async fn remove_all(&self, of: &[&str], before: Option<WallTime>) -> Result<u64, QueueError> {
        let [index, base, by_queue, all] = of else { return Ok(0) };
        let latest = before.map_or_else(|| "+inf".to_owned(), |before| format!("({}", before.as_millis()));
        let mut removed = 0;
        loop {
            let mut call = Call::default();
            call.key(*index).arg(*base).arg(&latest).own(BATCH).arg(*by_queue).arg(*all);
            let some = self.link.run(&self.flush, &call).await?.number::<u64>().unwrap_or_default();
            removed += some;
            if some < BATCH {
                return Ok(removed);
            }
        }
    }
}

#[async_trait]
impl FailedJobs for RedisFailedJobs {
    async fn record(&self, job: &FailedJob) -> Result<(), QueueError> {
        let mut call = Call::default();
        call.key(self.keys.failed()).key(self.keys.failed_in(&job.queue));
        call.own(self.keys.failed_record("")).arg(&job.id);
        call.own(format!("{}-{}", job.id, &record_id(&job.payload)[..8])).arg(&job.payload);
        call.arg(&job.queue).arg(&job.connection).arg(&job.name);
        call.arg(job.class.as_deref().unwrap_or("")).arg(&job.reason).own(job.failed_at.as_millis());
        self.link.run(&self.record, &call).await.map(|_| ())
    }

    async fn list(&self, queue: Option<&str>, from: u64, count: u64) -> Result<Vec<FailedJob>, QueueError> {
        let unreadable = match queue {
            Some(queue) => vec![queue.to_owned()],
            None => self.unreadable_queues().await?,
        };
        let mut call = Call::default();
        call.own(from)
            .own(count)
            .key(queue.map_or_else(|| self.keys.failed(), |queue| self.keys.failed_in(queue)));
        call.own(self.keys.failed_record("")).arg("0");
        for queue in &unreadable {
            call.key(self.keys.unreadable(queue)).own(self.keys.unreadable_record(queue, "")).arg("1");
        }
        let page = self.link.run(&self.list, &call).await?.list();
        Ok(page
            .into_iter()
            .filter_map(|row| {
                let [id, unreadable, payload, queue, connection, name, class, reason, date] = row.fields();
                let fields = [payload, queue, connection, name, class, reason, date];
                job(id.text(), unreadable.number::<u8>() == Some(1), fields)
            })
            .collect())
    }

    async fn show(&self, id: &str) -> Result<Option<FailedJob>, QueueError> {
        Ok(self.find(id).await?.map(|(_, job)| job))
    }

    async fn retry(&self, id: &str) -> Result<bool, QueueError> {
        let Some((at, job)) = self.find(id).await? else { return Ok(false) };
        let mut call = Call::default();
        call.key(at.key).key(self.keys.ready(&job.queue)).arg(id);
        for index in at.indexes {
            call.key(index);
        }
        Ok(self.link.run(&self.retry, &call).await?.number::<u8>() == Some(1))
    }

    async fn forget(&self, id: &str) -> Result<bool, QueueError> {
        let Some((at, _)) = self.find(id).await? else { return Ok(false) };
        for index in &at.indexes {
            self.link.call(redis::cmd("ZREM").arg(index).arg(id)).await?;
        }
        let removed = Reply(self.link.call(redis::cmd("DEL").arg(&at.key)).await?);
        tracing::debug!(id, unreadable = at.unreadable, "forgot a failed job");
        Ok(removed.number::<u64>() == Some(1))
    }

    async fn flush(&self, queue: Option<&str>, before: Option<WallTime>) -> Result<u64, QueueError> {
        let (base, all) = (self.keys.failed_record(""), self.keys.failed());
        let mut removed = match queue {
            Some(queue) => self.remove_all(&[&self.keys.failed_in(queue), &base, "", &all], before).await?,
            None => self.remove_all(&[&all, &base, &self.keys.failed_in(""), ""], before).await?,
        };
        let unreadable = match queue {
            Some(queue) => vec![queue.to_owned()],
            None => self.unreadable_queues().await?,
        };
        for queue in unreadable {
            let (index, base) = (self.keys.unreadable(&queue), self.keys.unreadable_record(&queue, ""));
            removed += self.remove_all(&[&index, &base, "", ""], before).await?;
        }
        Ok(removed)
    }
}

fn job(id: String, unreadable: bool, row: [Reply; 7]) -> Option<FailedJob> {
    let [payload, queue, connection, name, class, reason, date] = row;
    Some(FailedJob {
        id,
        payload: payload.bytes()?,
        queue: queue.text(),
        connection: connection.text(),
        name: name.text(),
        class: Some(class.text()).filter(|class| !class.is_empty()),
        reason: reason.text(),
        failed_at: WallTime::from_millis(date.number().unwrap_or_default()),
        unreadable,
    })
}
