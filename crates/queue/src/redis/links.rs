//! Connections for commands, shared by all that a process opens on the same Redis: many a Redis is paid by the connection.

use std::sync::{Arc, Mutex, PoisonError};

use qfleet_manifest::cluster::hash_tag;
use qfleet_manifest::queue::{RedisSettings, RedisTarget};

use super::Link;
use crate::error::QueueError;

/// One connection for each Redis, and on a cluster for each place that queues lie in. Made when first needed.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<Mutex<Vec<(RedisSettings, Link)>>>);

impl Links {
    /// The connection to this Redis.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the certificate file cannot be read.
    pub(crate) fn commands(&self, settings: &RedisSettings) -> Result<Link, QueueError> {
        let place = place(settings);
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, link)) = links.iter().find(|(known, _)| *known == place) {
            return Ok(link.clone());
        }
        let link = Link::for_commands(settings)?;
        links.push((place, link.clone()));
        Ok(link)
    }
}

/// Keys with the same hash tag are in the same place.
fn place(settings: &RedisSettings) -> RedisSettings {
    match &settings.target {
        RedisTarget::Cluster { key: Some(key), .. } => settings.at(hash_tag(key).unwrap_or(key)),
        _ => settings.clone(),
    }
}
