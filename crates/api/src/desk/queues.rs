//! Questions about queues: listing, looking at jobs, pause and resume, push.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use qfleet_manifest::settings::Manifest;
use qfleet_queue::driver::{Depth, JobState, LaneId, QueueDriver};
use serde::Deserialize;

use crate::desk::names::{self, Place};
use crate::desk::open::Cabinet;
use crate::desk::{Desk, DeskError, in_time};
use crate::protocol::{Done, JobList, Push, Pushed, QueueList, QueueRow, Results};

/// Jobs looked at in one call.
const PAGE: u64 = 20;
/// A listing ends when its payloads are this large together: the daemon must not grow by what lies in a queue.
const MOST_BYTES: usize = 16 * 1024 * 1024;

impl Desk {
    /// How the named queues are doing, all of the manifest when `names` is empty. A store that does not answer is told in
    /// the rows of its queues.
    ///
    /// # Errors
    /// A name is not known.
    pub async fn queues(&self, names: &[String]) -> Result<QueueList, DeskError> {
        let manifest = self.handle.manifest();
        let places = places(&manifest, names)?;
        let answers = join_all(by_connection(&places).into_iter().map(|some| async {
            let depths = depths(&self.cabinet, &manifest, &some).await;
            (some, depths)
        }));
        let mut rows: Vec<QueueRow> = places.iter().map(row).collect();
        for (some, depths) in answers.await {
            for (at, (index, _)) in some.iter().enumerate() {
                match &depths {
                    Ok(depths) => fill(&mut rows[*index], depths.get(at)),
                    Err(error) => rows[*index].error = Some(error.to_string()),
                }
            }
        }
        let groups: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
        for (row, rate) in rows.iter_mut().zip(self.rates.of(&self.handle.snapshot(), &groups)) {
            row.rate = rate;
            row.drain_seconds = drain_seconds(row);
        }
        Ok(QueueList { queues: rows })
    }

    /// Jobs of one queue, of one state or of all three.
    ///
    /// # Errors
    /// Any.
    pub async fn jobs(
        &self,
        queue: &str,
        state: Option<JobState>,
        from: u64,
        limit: u64,
    ) -> Result<JobList, DeskError> {
        let (place, driver, lane) = self.open(queue).await?;
        let states = match state {
            Some(state) => vec![state],
            None => vec![JobState::Waiting, JobState::Delayed, JobState::Reserved],
        };
        let mut list = JobList::default();
        let mut bytes = 0;
        for state in states {
            let (mut at, end) = (from, from.saturating_add(limit));
            while at < end && !list.cut {
                let page = driver.look(lane, state, at, PAGE.min(end - at));
                let page = in_time(&place.connection, page).await?;
                if page.is_empty() {
                    break;
                }
                at += PAGE;
                bytes += page.iter().map(|job| job.payload.len()).sum::<usize>();
                list.cut = bytes >= MOST_BYTES;
                list.jobs.extend(page);
            }
        }
        Ok(list)
    }

    /// Stops (or allows again) all taking from the queues, on every host.
    ///
    /// # Errors
    /// A name is not known; nothing was done then. What goes wrong later is told in the results.
    pub async fn set_paused(&self, names: &[String], paused: bool) -> Result<Results, DeskError> {
        let manifest = self.handle.manifest();
        if names.is_empty() {
            return Err(DeskError::BadRequest("no queue is named".to_owned()));
        }
        let places = places(&manifest, names)?;
        let mut results = Vec::new();
        for place in &places {
            let done = self.set_one_paused(&manifest, place, paused).await;
            results.push(Done {
                name: place.name.clone(),
                ok: done.is_ok(),
                note: done.as_ref().ok().filter(|notes| !notes.is_empty()).map(|notes| notes.join("; ")),
                text: match done {
                    Ok(_) if paused => "paused".to_owned(),
                    Ok(_) => "resumed".to_owned(),
                    Err(error) => error.to_string(),
                },
            });
        }
        Ok(Results { results })
    }

    /// Puts in a job that the connection's family composes.
    ///
    /// # Errors
    /// Any.
    pub async fn push(&self, push: &Push) -> Result<Pushed, DeskError> {
        let (place, driver, lane) = self.open(&push.queue).await?;
        let payload = driver.compose(&push.name, &push.data).map_err(DeskError::BadRequest)?;
        put_in(&place, driver, lane, &payload, push.delay_ms).await
    }

    /// Puts in a payload as it is.
    ///
    /// # Errors
    /// Any.
    pub async fn push_raw(&self, queue: &str, payload: &[u8], delay_ms: u64) -> Result<Pushed, DeskError> {
        if payload.is_empty() {
            return Err(DeskError::BadRequest("the payload is empty".to_owned()));
        }
        let (place, driver, lane) = self.open(queue).await?;
        put_in(&place, driver, lane, payload, delay_ms).await
    }

    /// One queue by name, with an open driver.
    async fn open(&self, name: &str) -> Result<(Place, Arc<dyn QueueDriver>, LaneId), DeskError> {
        let manifest = self.handle.manifest();
        let place = names::find(&manifest, name)?;
        let (driver, lanes) = self.cabinet.driver(&manifest, &place.connection, &[&place]).await?;
        let lane = lanes.first().copied().unwrap_or(LaneId(0));
        Ok((place, driver, lane))
    }

    async fn set_one_paused(
        &self,
        manifest: &Manifest,
        place: &Place,
        paused: bool,
    ) -> Result<Vec<String>, DeskError> {
        let (driver, lanes) = self.cabinet.driver(manifest, &place.connection, &[place]).await?;
        let mut notes = Vec::new();
        for lane in lanes {
            notes.extend(in_time(&place.connection, driver.set_paused(lane, paused)).await?);
        }
        Ok(notes)
    }
}

/// How much is in these places, which are all on one connection: one call.
pub(super) async fn depths(
    cabinet: &Cabinet,
    manifest: &Manifest,
    some: &[(usize, &Place)],
) -> Result<Vec<Depth>, DeskError> {
    let places: Vec<&Place> = some.iter().map(|(_, place)| *place).collect();
    let Some(connection) = places.first().map(|place| &place.connection) else { return Ok(Vec::new()) };
    let (driver, lanes) = cabinet.driver(manifest, connection, &places).await?;
    in_time(connection, driver.depth(&lanes)).await
}

/// All named queues, or all of the manifest.
fn places(manifest: &Manifest, names: &[String]) -> Result<Vec<Place>, DeskError> {
    if names.is_empty() {
        return Ok(names::all(manifest));
    }
    names.iter().map(|name| names::find(manifest, name)).collect()
}

/// The places of each connection together (on a cluster: those that lie together), each with its index.
pub(super) fn by_connection(places: &[Place]) -> Vec<Vec<(usize, &Place)>> {
    let mut groups: Vec<(String, Vec<(usize, &Place)>)> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        // What does not lie together with itself is refused when it is opened.
        let home = place.connection.home(&place.lane.queues).unwrap_or_default();
        let same = |(other, group): &&mut (String, Vec<(usize, &Place)>)| {
            *other == home && group[0].1.connection.name == place.connection.name
        };
        match groups.iter_mut().find(same) {
            Some((_, group)) => group.push((index, place)),
            None => groups.push((home, vec![(index, place)])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn row(place: &Place) -> QueueRow {
    QueueRow {
        name: place.name.clone(),
        connection: place.connection.name.clone(),
        queues: place.lane.queues.clone(),
        ..QueueRow::default()
    }
}

fn fill(row: &mut QueueRow, depth: Option<&Depth>) {
    let Some(depth) = depth else {
        row.error = Some("the store gave no figures".to_owned());
        return;
    };
    row.waiting = depth.waiting;
    row.delayed = depth.delayed;
    row.reserved = depth.reserved;
    row.failed = depth.failed;
    row.oldest = depth.oldest;
    row.paused = depth.paused;
}

/// How long the waiting jobs will take at the present rate.
fn drain_seconds(row: &QueueRow) -> Option<f64> {
    if row.error.is_some() || row.paused {
        return None;
    }
    if row.waiting == 0 {
        return Some(0.0);
    }
    // Lengths of queues stay far below where a float would lose whole numbers.
    #[allow(clippy::cast_precision_loss)]
    row.rate.filter(|rate| *rate > 0.0).map(|rate| row.waiting as f64 / rate)
}

async fn put_in(
    place: &Place,
    driver: Arc<dyn QueueDriver>,
    lane: LaneId,
    payload: &[u8],
    delay_ms: u64,
) -> Result<Pushed, DeskError> {
    let queue = place.for_push();
    let delay = (delay_ms > 0).then(|| Duration::from_millis(delay_ms));
    let given = in_time(&place.connection, driver.push(lane, queue, payload, delay)).await?;
    Ok(Pushed {
        connection: place.connection.name.clone(),
        queue: queue.to_owned(),
        id: given.or_else(|| id_of(payload)),
        note: (!place.served)
            .then(|| format!("no queue of the manifest takes jobs from `{}/{queue}`", place.connection.name)),
    })
}

/// The id a person would look for: Laravel's `uuid`, else `id`.
fn id_of(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Ids {
        #[serde(default)]
        uuid: Option<String>,
        #[serde(default)]
        id: Option<String>,
    }
    let ids: Ids = serde_json::from_slice(payload).ok()?;
    ids.uuid.or(ids.id)
}
