//! Questions about jobs that failed for good, over the stores of all connections at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use qfleet_manifest::queue::Connection;
use qfleet_manifest::settings::Manifest;
use qfleet_model::job::Format;
use qfleet_model::time::WallTime;
use qfleet_queue::error::QueueError;
use qfleet_queue::failed::{FailedJob, FailedJobs};

use crate::desk::names;
use crate::desk::{Desk, DeskError, in_time};
use crate::protocol::{Done, FailedDetail, FailedList, FailedRow, Flush, Flushed, Results, Which};

/// Records read at once: they come with their payloads, which may be large.
const PAGE: u64 = 20;

/// What is done to one record.
#[derive(Debug, Clone, Copy)]
enum Act {
    Retry,
    Forget,
}

impl Act {
    async fn on(self, jobs: &dyn FailedJobs, id: &str) -> Result<bool, QueueError> {
        match self {
            Self::Retry => jobs.retry(id).await,
            Self::Forget => jobs.forget(id).await,
        }
    }

    /// What has been done, in a result.
    const fn word(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Forget => "forgotten",
        }
    }
}

/// One store, as far as a question concerns it.
struct Store {
    connection: Connection,
    /// Only these queues; all when empty.
    queues: Vec<String>,
    jobs: Arc<dyn FailedJobs>,
}

impl Store {
    /// One pass for each queue, or one over all.
    fn passes(&self) -> Vec<Option<&str>> {
        if self.queues.is_empty() {
            return vec![None];
        }
        self.queues.iter().map(|queue| Some(queue.as_str())).collect()
    }

    /// The newest records, without their payloads.
    async fn list(&self, from: u64, count: u64) -> Result<Vec<FailedRow>, DeskError> {
        let end = from.saturating_add(count);
        let mut rows = Vec::new();
        for queue in self.passes() {
            let mut at = from;
            while at < end {
                let page = in_time(&self.connection, self.jobs.list(queue, at, PAGE.min(end - at))).await?;
                if page.is_empty() {
                    break;
                }
                at += PAGE;
                rows.extend(page.iter().map(|job| summary(&self.connection, job)));
            }
        }
        Ok(rows)
    }

    /// Ids of everything that failed before `until`.
    async fn ids(&self, until: WallTime) -> Result<Vec<String>, DeskError> {
        let mut found = Vec::new();
        let mut known = HashSet::new();
        for queue in self.passes() {
            let mut from = 0;
            loop {
                let page = in_time(&self.connection, self.jobs.list(queue, from, PAGE)).await?;
                if page.is_empty() {
                    break;
                }
                from += PAGE;
                let fresh = page.into_iter().filter(|job| job.failed_at <= until).map(|job| job.id);
                found.extend(fresh.filter(|id| known.insert(id.clone())));
            }
        }
        Ok(found)
    }
}

impl Desk {
    /// Failed jobs, newest first. Stores that do not answer are told beside the others' jobs.
    ///
    /// # Errors
    /// The queue is not known.
    pub async fn failed_list(
        &self,
        queue: Option<&str>,
        from: u64,
        limit: u64,
    ) -> Result<FailedList, DeskError> {
        let (stores, mut problems) = self.stores(queue).await?;
        // One list is paged by its store; several have to be merged first.
        let single = stores.len() == 1 && stores.iter().all(|store| store.passes().len() == 1);
        let (first, skip) = if single { (from, 0) } else { (0, from) };
        let count = limit.saturating_add(skip);
        let answers = join_all(stores.iter().map(|store| store.list(first, count)));
        let mut rows = Vec::new();
        for answer in answers.await {
            match answer {
                Ok(some) => rows.extend(some),
                Err(error) => problems.push(error.to_string()),
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.failed_at));
        Ok(FailedList { failed: rows.into_iter().skip(index(skip)).take(index(limit)).collect(), problems })
    }

    /// One failed job with everything.
    ///
    /// # Errors
    /// There is none of this id, or a store does not answer.
    pub async fn failed_show(&self, id: &str) -> Result<FailedDetail, DeskError> {
        let (stores, problems) = self.stores(None).await?;
        for store in &stores {
            if let Some(job) = in_time(&store.connection, store.jobs.show(id)).await? {
                let utf8 = std::str::from_utf8(&job.payload).is_ok();
                return Ok(FailedDetail {
                    summary: summary(&store.connection, &job),
                    laravel_name: job.connection,
                    reason: job.reason,
                    payload: String::from_utf8_lossy(&job.payload).into_owned(),
                    payload_base64: (!utf8).then(|| BASE64_STANDARD.encode(&job.payload)),
                });
            }
        }
        Err(unknown(id, &problems))
    }

    /// Puts failed jobs back into their queues, attempts at zero; one result a job.
    ///
    /// # Errors
    /// Nothing is chosen, the queue is not known, or no store answers.
    pub async fn failed_retry(&self, which: &Which) -> Result<Results, DeskError> {
        if !which.ids.is_empty() {
            return self.each(&which.ids, Act::Retry).await;
        }
        if !which.all && which.queue.is_none() {
            return Err(DeskError::BadRequest("name the ids to retry, a queue, or all".to_owned()));
        }
        let (stores, problems) = self.stores(which.queue.as_deref()).await?;
        // What fails while we work was retried just now: it is left alone, or this would never end.
        let until = now();
        let mut results = problems_as_results(problems);
        for store in &stores {
            match store.ids(until).await {
                Ok(ids) => {
                    for id in ids {
                        let retried = in_time(&store.connection, store.jobs.retry(&id)).await;
                        results.extend(outcome(id, retried, Act::Retry));
                    }
                }
                Err(error) => results.extend(problems_as_results(vec![error.to_string()])),
            }
        }
        Ok(Results { results })
    }

    /// Removes records by id; one result each.
    ///
    /// # Errors
    /// No store answers.
    pub async fn failed_forget(&self, ids: &[String]) -> Result<Results, DeskError> {
        self.each(ids, Act::Forget).await
    }

    /// Removes all records, or all old ones.
    ///
    /// # Errors
    /// The queue is not known.
    pub async fn failed_flush(&self, flush: &Flush) -> Result<Flushed, DeskError> {
        let (stores, mut problems) = self.stores(flush.queue.as_deref()).await?;
        let before = flush.older_than_hours.map(|hours| {
            WallTime::from_millis(
                now().as_millis().saturating_sub(i64::from(hours).saturating_mul(3_600_000)),
            )
        });
        let mut removed = 0;
        for store in &stores {
            for queue in store.passes() {
                match in_time(&store.connection, store.jobs.flush(queue, before)).await {
                    Ok(count) => removed += count,
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        Ok(Flushed { removed, problems })
    }

    /// Does one thing to the record of each id, in whichever store has it.
    async fn each(&self, ids: &[String], act: Act) -> Result<Results, DeskError> {
        let (stores, problems) = self.stores(None).await?;
        let mut results = Vec::new();
        for id in ids {
            let mut result = None;
            for store in &stores {
                let answer = in_time(&store.connection, act.on(store.jobs.as_ref(), id)).await;
                result = outcome(id.clone(), answer, act).or(result);
                if result.as_ref().is_some_and(|result| result.ok) {
                    break;
                }
            }
            let missing =
                || Done { name: id.clone(), ok: false, text: unknown(id, &problems).to_string(), note: None };
            results.push(result.unwrap_or_else(missing));
        }
        Ok(Results { results })
    }

    /// The stores that hold failed jobs of the queue (of all queues), each once, and why others could not be opened.
    async fn stores(&self, queue: Option<&str>) -> Result<(Vec<Store>, Vec<String>), DeskError> {
        let manifest = self.handle.manifest();
        let chosen = match queue {
            Some(name) => {
                let place = names::find(&manifest, name)?;
                vec![(place.connection, place.lane.queues)]
            }
            None => every_store(&manifest),
        };
        let opened = join_all(chosen.into_iter().map(|(connection, queues)| async move {
            let jobs = self.cabinet.failed(&connection).await?;
            Ok::<_, DeskError>(Store { connection, queues, jobs })
        }));
        let (mut stores, mut problems) = (Vec::new(), Vec::new());
        for store in opened.await {
            match store {
                Ok(store) => stores.push(store),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Ok((stores, problems))
    }
}

/// One connection for each store: connections to the same Redis with the same prefix share theirs. Queues of Bull and
/// BullMQ have a failed set each, and those of queues that are not ours are left alone.
fn every_store(manifest: &Manifest) -> Vec<(Connection, Vec<String>)> {
    let mut stores: Vec<(Connection, Vec<String>)> = Vec::new();
    for connection in manifest.connections.values() {
        let queues = match connection.driver {
            Format::Laravel => Vec::new(),
            Format::Bull | Format::Bullmq => queues_of(manifest, connection),
        };
        if connection.driver != Format::Laravel && queues.is_empty() {
            continue;
        }
        let same = |store: &Connection| {
            store.redis == connection.redis
                && store.prefix == connection.prefix
                && store.driver == connection.driver
        };
        match stores.iter_mut().find(|(store, _)| same(store)) {
            Some((_, known)) => known.extend(queues),
            None => stores.push((connection.clone(), queues)),
        }
    }
    for (_, queues) in &mut stores {
        queues.sort_unstable();
        queues.dedup();
    }
    stores
}

/// Every queue in Redis that the manifest takes from on this connection.
fn queues_of(manifest: &Manifest, connection: &Connection) -> Vec<String> {
    let lanes = manifest.lanes.iter().filter(|lane| lane.connection == connection.name);
    lanes.flat_map(|lane| lane.queues.iter().cloned()).collect()
}

fn summary(connection: &Connection, job: &FailedJob) -> FailedRow {
    FailedRow {
        id: job.id.clone(),
        connection: connection.name.clone(),
        queue: job.queue.clone(),
        name: job.name.clone(),
        class: job.class.clone(),
        reason: job.reason.lines().next().unwrap_or_default().to_owned(),
        failed_at: job.failed_at,
        unreadable: job.unreadable,
    }
}

/// The result for one id; `None` when the store has no such record.
fn outcome(id: String, answer: Result<bool, DeskError>, act: Act) -> Option<Done> {
    let (ok, text) = match answer {
        Ok(false) => return None,
        Ok(true) => (true, act.word().to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Some(Done { name: id, ok, text, note: None })
}

/// Stores that cannot be read, as results of their own.
fn problems_as_results(problems: Vec<String>) -> Vec<Done> {
    let result = |text| Done { name: "failed jobs".to_owned(), ok: false, text, note: None };
    problems.into_iter().map(result).collect()
}

fn unknown(id: &str, problems: &[String]) -> DeskError {
    DeskError::Unknown {
        what: format!("failed job `{id}`"),
        hint: Some(match problems {
            [] => "`qfleet failed list` lists them".to_owned(),
            some => format!("not all stores could be read: {}", some.join("; ")),
        }),
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
