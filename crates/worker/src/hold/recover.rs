//! What is done with the ledger of a dead worker: end what its jobs left running, then put every job back.
//!
//! Safe to be killed and repeated at any point: the file goes last, and putting back what is back already changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use qfleet_manifest::queue::Connection;
use qfleet_model::link::{JobRef, MOST_JOBS};
use qfleet_os::locked_map::LockedMap;
use qfleet_queue::driver::{DeadWorker, QueueDriver, Recovered};
use qfleet_queue::error::QueueError;
use qfleet_queue::{LaneQueues, OpenSettings};
use tracing::{info, warn};

use super::groups;
use super::ledger::{self, LedgerError, Leftover, SourceEntry, Writer};
use crate::outage::pause;

/// A store that says it cannot do it is asked this often.
const REFUSALS: u32 = 3;

/// The ledger of a dead worker, locked by us.
#[derive(Debug)]
pub(crate) struct Dead {
    map: LockedMap,
    /// What the jobs of each connection were, and where they go back to.
    sources: Vec<(Arc<dyn QueueDriver>, String, DeadWorker)>,
    /// Jobs that were running.
    started: Vec<JobRef>,
    worker: Writer,
    leftovers: Vec<Leftover>,
}

impl Dead {
    /// Reads a ledger. `None` when there is nothing to do; the file is gone then.
    ///
    /// # Errors
    /// It cannot be read or opened with these settings; the file stays.
    pub(crate) fn read(
        map: LockedMap,
        connections: &BTreeMap<String, Connection>,
    ) -> Result<Option<Self>, String> {
        let bytes = map.read(0, map.size());
        let contents = match ledger::read(&bytes) {
            Ok(contents) => contents,
            Err(LedgerError::Unfinished) => return unlink(map).map(|()| None),
            Err(LedgerError::Unreadable(why)) => return Err(format!("`{}`: {why}", map.path().display())),
        };
        let mut sources = Vec::new();
        for (entry, dead) in contents.table.sources.iter().zip(contents.dead) {
            if dead.held.is_empty() && dead.marks.is_empty() {
                continue;
            }
            match open(entry, connections) {
                Ok((driver, shown)) => sources.push((driver, shown, dead)),
                Err(why) => {
                    let jobs = dead.held.len();
                    warn!(
                        jobs,
                        "cannot give back jobs of a dead worker, they return when their reservation ends: {why}"
                    );
                }
            }
        }
        let same_boot = contents.table.boot == boot();
        let leftovers = if same_boot { contents.leftovers } else { Vec::new() };
        Ok(Some(Self { map, sources, started: contents.started, worker: contents.writer, leftovers }))
    }

    /// Whether a store has to be reached.
    pub(crate) fn needs_a_store(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Names the jobs that were running, as far as a message may.
    pub(crate) fn started(&self) -> Vec<JobRef> {
        self.started.iter().take(MOST_JOBS).cloned().collect()
    }

    /// Ends leftover processes, gives back every job, and removes the file. Waits for stores that are away, which `away`
    /// is told.
    ///
    /// # Errors
    /// A store refuses, or the file cannot be removed; it stays.
    pub(crate) async fn recover(self, away: impl Fn()) -> Result<Recovered, String> {
        groups::end(self.worker, &self.leftovers).await;
        let all = self.sources.iter().map(|(driver, shown, dead)| give_back(&**driver, shown, dead, &away));
        let mut sum = Recovered::default();
        for recovered in join_all(all).await {
            let recovered = recovered?;
            sum.returned += recovered.returned;
            sum.buried += recovered.buried;
            sum.gone += recovered.gone;
        }
        unlink(self.map)?;
        Ok(sum)
    }
}

/// Names this run of the system; empty where that is not known.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

async fn give_back(
    driver: &dyn QueueDriver,
    shown: &str,
    dead: &DeadWorker,
    away: &impl Fn(),
) -> Result<Recovered, String> {
    let (mut failures, mut refusals) = (0_u32, 0);
    loop {
        let error = match driver.recover(dead).await {
            Ok(recovered) => {
                if failures > 0 {
                    info!("`{shown}` answers again");
                }
                return Ok(recovered);
            }
            Err(error) => error,
        };
        if matches!(error, QueueError::Refused(_)) {
            refusals += 1;
            if refusals >= REFUSALS {
                return Err(format!("`{shown}` refuses: {error}"));
            }
        }
        if failures == 0 {
            let jobs = dead.held.len();
            warn!(jobs, "cannot give back the jobs of a dead worker yet, trying on: {error}");
        }
        if failures == 1 {
            away();
        }
        tokio::time::sleep(pause(failures, fastrand::f64())).await;
        failures = failures.saturating_add(1);
    }
}

fn open(
    entry: &SourceEntry,
    connections: &BTreeMap<String, Connection>,
) -> Result<(Arc<dyn QueueDriver>, String), String> {
    let connection = connections
        .get(&entry.connection)
        .ok_or_else(|| format!("the manifest has no connection `{}` any more", entry.connection))?;
    // Where the jobs are, whatever the manifest says by now.
    let connection = Connection { prefix: entry.prefix.clone(), ..connection.clone() };
    let shown = connection.redis.shown();
    let lanes = entry.lanes.iter().enumerate().map(|(at, (name, queues))| LaneQueues {
        name: name.clone(),
        queues: queues.clone(),
        delay_as_backoff: false,
        rate_limit: None,
        node: entry.node.get(at).cloned().flatten().unwrap_or_default(),
    });
    // It reserves nothing.
    let settings = OpenSettings { connection, lanes: lanes.collect(), tag: 0 };
    qfleet_queue::open(&settings).map(|driver| (driver, shown)).map_err(|error| error.to_string())
}

fn unlink(map: LockedMap) -> Result<(), String> {
    let path = map.path().to_owned();
    map.unlink().map_err(|error| format!("remove `{}`: {error}", path.display()))
}

/// How long a worker that is about to start waits for its predecessors' jobs to be given back.
pub(crate) const BEFORE_READY: Duration = Duration::from_secs(2);
