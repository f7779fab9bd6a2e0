//! From the name of a queue as people write it to the queues in Redis it means.

use qfleet_manifest::queue::{Connection, Lane, NodeRules};
use qfleet_manifest::settings::Manifest;
use qfleet_queue::LaneQueues;

use crate::desk::DeskError;

/// What one name means.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As it was asked for.
    pub(crate) name: String,
    /// Where its queues are.
    pub(crate) connection: Connection,
    /// The queues, as a driver wants them.
    pub(crate) lane: LaneQueues,
    /// Whether any queue of the manifest takes jobs from there.
    pub(crate) served: bool,
}

impl Place {
    /// The queue in Redis a pushed job goes to: the one of the same name, else the first.
    pub(crate) fn for_push(&self) -> &str {
        let queues = &self.lane.queues;
        let same = queues.iter().find(|queue| **queue == self.lane.name);
        same.or_else(|| queues.first()).map_or("", String::as_str)
    }
}

/// Every queue of the manifest, in its order.
pub(crate) fn all(manifest: &Manifest) -> Vec<Place> {
    manifest.lanes.iter().filter_map(|lane| of_lane(manifest, lane, &lane.name)).collect()
}

/// What `name` means: a queue of the manifest, or `connection/queue`.
pub(crate) fn find(manifest: &Manifest, name: &str) -> Result<Place, DeskError> {
    if let Some(place) = manifest.lane(name).and_then(|lane| of_lane(manifest, lane, name)) {
        return Ok(place);
    }
    match name.split_once('/') {
        Some((connection, queue)) if !queue.is_empty() => in_redis(manifest, name, connection, queue),
        _ => Err(DeskError::Unknown {
            what: format!("queue `{name}` in the manifest"),
            hint: Some(match similar(name, manifest.lanes.iter().map(|lane| lane.name.as_str())) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => "`qfleet queues` lists them; `connection/queue` names any queue in Redis".to_owned(),
            }),
        }),
    }
}

fn of_lane(manifest: &Manifest, lane: &Lane, name: &str) -> Option<Place> {
    let connection = manifest.connections.get(&lane.connection)?.clone();
    Some(Place { name: name.to_owned(), connection, lane: lane.into(), served: true })
}

fn in_redis(manifest: &Manifest, name: &str, connection: &str, queue: &str) -> Result<Place, DeskError> {
    let Some(found) = manifest.connections.get(connection) else {
        return Err(DeskError::Unknown {
            what: format!("connection `{connection}` in the manifest"),
            hint: similar(connection, manifest.connections.keys().map(String::as_str))
                .map(|similar| format!("did you mean `{similar}/{queue}`?")),
        });
    };
    let served = manifest
        .lanes
        .iter()
        .any(|lane| lane.connection == connection && lane.queues.iter().any(|q| q == queue));
    let lane = LaneQueues {
        name: name.to_owned(),
        queues: vec![queue.to_owned()],
        delay_as_backoff: false,
        rate_limit: None,
        node: NodeRules::default(),
    };
    Ok(Place { name: name.to_owned(), connection: found.clone(), lane, served })
}

/// The name that looks most like what was asked for.
fn similar<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(asked, name), name))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
