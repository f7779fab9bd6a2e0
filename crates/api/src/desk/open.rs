//! Drivers and failed stores that are open because somebody asked lately.
//!
//! One driver a connection, with all queues of the manifest on it, so that a listing costs one connection and one call.
//! Names like `connection/queue` that no driver knows yet are added by opening a new driver in its place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::Connection;
use qfleet_manifest::settings::Manifest;
use qfleet_queue::driver::{LaneId, QueueDriver};
use qfleet_queue::failed::FailedJobs;
use qfleet_queue::{LaneQueues, OpenSettings};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::desk::DeskError;
use crate::desk::names::Place;

/// Unused for this long, a driver is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Queues beyond those of the manifest that one driver is opened for, before it forgets the older ones.
const MOST_ADDED: usize = 100;

/// Name of a connection, and where on a cluster its queues lie.
type Label = (String, String);

/// The open drivers and failed stores, by connection, and on a cluster by where queues lie.
#[derive(Debug, Default)]
pub(crate) struct Cabinet {
    drawers: std::sync::Mutex<HashMap<Label, Arc<Mutex<Drawer>>>>,
    used: Notify,
}

/// What is open of one connection.
#[derive(Debug, Default)]
struct Drawer {
    queues: Option<Queues>,
    failed: Option<(Connection, Arc<dyn FailedJobs>)>,
    last_used: Option<Instant>,
}

/// An open driver and the queues it was opened for.
#[derive(Debug)]
struct Queues {
    connection: Connection,
    lanes: Vec<LaneQueues>,
    driver: Arc<dyn QueueDriver>,
}

impl Queues {
    /// Which of its lanes serve the place.
    fn lane(&self, place: &Place) -> Option<LaneId> {
        let at = self
            .lanes
            .iter()
            .position(|lane| lane.name == place.lane.name && lane.queues == place.lane.queues)?;
        u16::try_from(at).ok().map(LaneId)
    }

    fn lanes(&self, places: &[&Place]) -> Option<Vec<LaneId>> {
        places.iter().map(|place| self.lane(place)).collect()
    }
}

impl Cabinet {
    /// A driver of the connection and its lane for each of `places`, which are all on that connection, and lie together
    /// where that is a cluster.
    pub(crate) async fn driver(
        &self,
        manifest: &Manifest,
        connection: &Connection,
        places: &[&Place],
    ) -> Result<(Arc<dyn QueueDriver>, Vec<LaneId>), DeskError> {
        let home = connection.home(places.iter().flat_map(|place| &place.lane.queues));
        let home = home.map_err(|scattered| DeskError::BadRequest(scattered.to_string()))?;
        let drawer = self.drawer(&connection.name, &home);
        let mut drawer = drawer.lock().await;
        self.touch(&mut drawer);
        if let Some(open) = drawer.queues.as_ref().filter(|open| open.connection == *connection)
            && let Some(lanes) = open.lanes(places)
        {
            return Ok((Arc::clone(&open.driver), lanes));
        }
        let mut lanes = wanted(manifest, connection, places, drawer.queues.take());
        lanes.retain(|lane| connection.home(&lane.queues).as_ref() == Ok(&home));
        // Without a tag: the desk reserves nothing.
        let settings = OpenSettings { connection: connection.clone(), lanes: lanes.clone(), tag: 0 };
        let driver = qfleet_queue::open(&settings).map_err(|error| DeskError::of(connection, error))?;
        let open = Queues { connection: connection.clone(), lanes, driver: Arc::clone(&driver) };
        let ids = open.lanes(places);
        drawer.queues = Some(open);
        ids.map(|ids| (driver, ids))
            .ok_or_else(|| DeskError::BadRequest("too many queues at once".to_owned()))
    }

    /// The failed store of the connection.
    pub(crate) async fn failed(&self, connection: &Connection) -> Result<Arc<dyn FailedJobs>, DeskError> {
        let drawer = self.drawer(&connection.name, "");
        let mut drawer = drawer.lock().await;
        self.touch(&mut drawer);
        if let Some((opened_for, store)) = &drawer.failed
            && opened_for == connection
        {
            return Ok(Arc::clone(store));
        }
        let store =
            qfleet_queue::open_failed(connection).map_err(|error| DeskError::of(connection, error))?;
        drawer.failed = Some((connection.clone(), Arc::clone(&store)));
        Ok(store)
    }

    fn drawer(&self, connection: &str, home: &str) -> Arc<Mutex<Drawer>> {
        let mut drawers = self.drawers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(drawers.entry((connection.to_owned(), home.to_owned())).or_default())
    }

    fn touch(&self, drawer: &mut Drawer) {
        drawer.last_used = Some(Instant::now());
        self.used.notify_one();
    }

    /// Closes what nobody used lately; says when to look again, `None` when nothing is open.
    fn tidy(&self) -> Option<Instant> {
        let mut drawers = self.drawers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        drawers.retain(|_, drawer| {
            // Locked or shared: somebody is asking right now.
            let due = match drawer.try_lock() {
                Ok(drawer) => drawer.last_used.map(|used| used + IDLE),
                Err(_) => Some(now + IDLE),
            };
            let due = if Arc::strong_count(drawer) > 1 { Some(now + IDLE) } else { due };
            match due {
                Some(due) if due > now => {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    true
                }
                _ => false,
            }
        });
        next
    }
}

/// The queues a new driver is opened for: the manifest's, those added before, those asked for now.
fn wanted(
    manifest: &Manifest,
    connection: &Connection,
    places: &[&Place],
    before: Option<Queues>,
) -> Vec<LaneQueues> {
    let mut lanes: Vec<LaneQueues> = manifest
        .lanes
        .iter()
        .filter(|lane| lane.connection == connection.name)
        .map(LaneQueues::from)
        .collect();
    let known = lanes.len();
    let mut add = |lane: LaneQueues| {
        if !lanes.iter().any(|other| other.name == lane.name && other.queues == lane.queues) {
            lanes.push(lane);
        }
    };
    places.iter().for_each(|place| add(place.lane.clone()));
    // Only names like `connection/queue` are carried over: a manifest name may have got another meaning since.
    let before = before.map(|queues| queues.lanes).unwrap_or_default();
    before.into_iter().filter(|lane| lane.name.contains('/')).for_each(add);
    lanes.truncate(known + MOST_ADDED.max(places.len()));
    lanes
}

/// Closes idle drivers for as long as the runtime lives; sleeps while nothing is open.
pub(crate) async fn close_idle(cabinet: Arc<Cabinet>) {
    loop {
        cabinet.used.notified().await;
        while let Some(next) = cabinet.tidy() {
            tokio::time::sleep_until(next).await;
        }
    }
}
