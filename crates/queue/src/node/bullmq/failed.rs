//! Failed jobs where BullMQ keeps them: in the failed set of their own queue.
//!
//! Ids are only unique within a queue, so a record is named `queue/id`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use qfleet_manifest::queue::Connection;
use qfleet_model::time::WallTime;

use crate::clock;
use crate::error::QueueError;
use crate::failed::{FailedJob, FailedJobs};
use crate::node::keys::Keys;
use crate::node::library::script;
use crate::redis::{Call, Link, Reply, Script};

/// Jobs removed in one call.
const BATCH: u64 = 500;

/// The failed sets of one connection's queues.
#[derive(Debug)]
pub(crate) struct BullmqFailedJobs {
    name: String,
    keys: Keys,
    link: Link,
    look: Script,
    change: Script,
}

impl BullmqFailedJobs {
    /// A store with a connection of its own, made when it is first needed.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when a file named by the settings cannot be read.
    pub(crate) fn open(connection: &Connection) -> Result<Self, QueueError> {
        Ok(Self {
            name: connection.name.clone(),
            keys: Keys::new(&connection.prefix),
            link: Link::for_commands(&connection.redis)?,
            look: script!("lua/look.lua"),
            change: script!("lua/failed.lua"),
        })
    }

    /// Every queue under the prefix.
    async fn queues(&self) -> Result<Vec<String>, QueueError> {
        let mut found = BTreeSet::new();
        let mut cursor = String::from("0");
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(self.keys.every_meta()).arg("COUNT").arg(1000);
            let [next, page] = Reply(self.link.call(&command).await?).fields();
            found.extend(
                page.list()
                    .into_iter()
                    .filter_map(|key| self.keys.queue_of_meta(&key.text()).map(str::to_owned)),
            );
            cursor = next.text();
            if cursor == "0" || cursor.is_empty() {
                return Ok(found.into_iter().collect());
            }
        }
    }

    async fn page(&self, queue: &str, from: u64, count: u64) -> Result<(u64, Vec<FailedJob>), QueueError> {
        let mut call = Call::default();
        call.key(self.keys.meta(queue)).own(clock::now().as_millis()).own(self.keys.base(queue));
        call.arg("failed").own(from).own(count);
        let mut rows = self.link.run(&self.look, &call).await?.list().into_iter();
        let total = rows.next().and_then(|total| total.number::<u64>()).unwrap_or_default();
        Ok((total, rows.map(|row| self.job(queue, row)).collect()))
    }

    fn job(&self, queue: &str, row: Reply) -> FailedJob {
        let [id, date, name, data, _, _, reason] = row.fields();
        FailedJob {
            id: format!("{queue}/{}", id.text()),
            connection: self.name.clone(),
            queue: queue.to_owned(),
            name: name.text(),
            payload: data.bytes().unwrap_or_default(),
            class: None,
            reason: reason.text(),
            failed_at: WallTime::from_millis(date.number().unwrap_or_default()),
            unreadable: false,
        }
    }

    async fn change(&self, queue: &str, verb: &str, what: &str) -> Result<u64, QueueError> {
        let mut call = Call::default();
        call.key(self.keys.meta(queue)).own(clock::now().as_millis()).own(self.keys.base(queue));
        call.arg(verb).arg(what).own(BATCH);
        Ok(self.link.run(&self.change, &call).await?.number().unwrap_or_default())
    }
}

#[async_trait]
impl FailedJobs for BullmqFailedJobs {
    /// The verdict itself puts the job there.
    async fn record(&self, _job: &FailedJob) -> Result<(), QueueError> {
        Ok(())
    }

    async fn list(&self, queue: Option<&str>, from: u64, count: u64) -> Result<Vec<FailedJob>, QueueError> {
        if let Some(queue) = queue {
            return Ok(self.page(queue, from, count).await?.1);
        }
        let mut all = Vec::new();
        for queue in self.queues().await? {
            all.extend(self.page(&queue, 0, from.saturating_add(count)).await?.1);
        }
        all.sort_by_key(|job| std::cmp::Reverse(job.failed_at));
        let (from, count) =
            (usize::try_from(from).unwrap_or(usize::MAX), usize::try_from(count).unwrap_or(usize::MAX));
        Ok(all.into_iter().skip(from).take(count).collect())
    }

    async fn show(&self, id: &str) -> Result<Option<FailedJob>, QueueError> {
        let Some((queue, job)) = id.split_once('/') else { return Ok(None) };
        let mut command = redis::cmd("ZSCORE");
        command.arg(self.keys.base(queue) + "failed").arg(job);
        let Some(date) = Reply(self.link.call(&command).await?).score() else { return Ok(None) };
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.base(queue) + job).arg(&["name", "data", "failedReason"]);
        let [name, data, reason] = Reply(self.link.call(&command).await?).fields();
        Ok(Some(FailedJob {
            id: id.to_owned(),
            connection: self.name.clone(),
            queue: queue.to_owned(),
            name: name.text(),
            payload: data.bytes().unwrap_or_default(),
            class: None,
            reason: reason.text(),
            failed_at: WallTime::from_millis(date as i64),
            unreadable: false,
        }))
    }

    async fn retry(&self, id: &str) -> Result<bool, QueueError> {
        let Some((queue, job)) = id.split_once('/') else { return Ok(false) };
        Ok(self.change(queue, "retry", job).await? == 1)
    }

    async fn forget(&self, id: &str) -> Result<bool, QueueError> {
        let Some((queue, job)) = id.split_once('/') else { return Ok(false) };
        Ok(self.change(queue, "forget", job).await? == 1)
    }

    async fn flush(&self, queue: Option<&str>, before: Option<WallTime>) -> Result<u64, QueueError> {
        let queues = match queue {
            Some(queue) => vec![queue.to_owned()],
            None => self.queues().await?,
        };
        let latest = before.map_or_else(|| "+inf".to_owned(), |before| format!("({}", before.as_millis()));
        let mut removed = 0;
        for queue in queues {
            loop {
                let some = self.change(&queue, "flush", &latest).await?;
                removed += some;
                if some < BATCH {
                    break;
                }
            }
        }
        Ok(removed)
    }
}
