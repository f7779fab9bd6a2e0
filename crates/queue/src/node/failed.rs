//! Failed jobs where Node's libraries keep them: in the failed set of their own queue.
//!
//! Ids are only unique within a queue, so a record is named `queue/id`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use qfleet_manifest::queue::Connection;
use qfleet_model::time::WallTime;

use super::keys::Keys;
use super::library::{Library, Scripts};
use crate::clock;
use crate::error::QueueError;
use crate::failed::{FailedJob, FailedJobs};
use crate::located;
use crate::redis::{Call, Link, Reply, Scan, servers};

/// Jobs removed in one call.
const BATCH: u64 = 500;

/// The failed sets of one connection's queues.
#[derive(Debug)]
pub(crate) struct NodeFailedJobs {
    connection: Connection,
    keys: Keys,
    /// By the hash tag of their queues; one where there is no cluster.
    links: Mutex<HashMap<String, Link>>,
    library: &'static Library,
    scripts: Scripts,
}

impl NodeFailedJobs {
    /// A store with connections of its own, made when they are first needed.
    pub(crate) fn open(library: &'static Library, connection: &Connection) -> Self {
        Self {
            keys: Keys::new(&connection.prefix),
            connection: connection.clone(),
            links: Mutex::default(),
            library,
            scripts: (library.scripts)(),
        }
    }

    fn link(&self, queue: &str) -> Result<Link, QueueError> {
        let queue = queue.to_owned();
        let at = located(&self.connection, [&queue])?;
        let home = self.connection.home([&queue]).unwrap_or_default();
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&home) {
            return Ok(link.clone());
        }
        let link = Link::for_commands(&at.redis)?;
        links.insert(home, link.clone());
        Ok(link)
    }

    /// Every queue under the prefix.
    async fn queues(&self) -> Result<Vec<String>, QueueError> {
        let mut found = BTreeSet::new();
        for server in servers(&self.connection.redis).await? {
            let link = Link::for_commands(&server)?;
            let mut scan = Scan::new(self.keys.every(self.library.sign));
            while let Some(keys) = scan.next(&link).await? {
                found.extend(
                    keys.iter()
                        .filter_map(|key| self.keys.queue_of(key, self.library.sign))
                        .map(str::to_owned),
                );
            }
        }
        Ok(found.into_iter().collect())
    }

    async fn page(&self, queue: &str, from: u64, count: u64) -> Result<(u64, Vec<FailedJob>), QueueError> {
        let mut call = Call::default();
        call.key(self.keys.meta(queue)).own(clock::now().as_millis()).own(self.keys.base(queue));
        call.arg("failed").own(from).own(count);
        let mut rows = self.link(queue)?.run(&self.scripts.look, &call).await?.list().into_iter();
        let total = rows.next().and_then(|total| total.number::<u64>()).unwrap_or_default();
        Ok((total, rows.map(|row| self.job(queue, row)).collect()))
    }

    fn job(&self, queue: &str, row: Reply) -> FailedJob {
        let [id, date, name, data, _, reason] = row.fields();
        FailedJob {
            id: format!("{queue}/{}", id.text()),
            connection: self.connection.name.clone(),
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
        Ok(self.link(queue)?.run(&self.scripts.failed, &call).await?.number().unwrap_or_default())
    }
}

#[async_trait]
impl FailedJobs for NodeFailedJobs {
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
        let Some(date) = Reply(self.link(queue)?.call(&command).await?).score() else { return Ok(None) };
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.base(queue) + job).arg(&["name", "data", "failedReason"]);
        let [name, data, reason] = Reply(self.link(queue)?.call(&command).await?).fields();
        Ok(Some(FailedJob {
            id: id.to_owned(),
            connection: self.connection.name.clone(),
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
