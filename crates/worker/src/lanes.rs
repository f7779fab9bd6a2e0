//! The lanes of one process: where each one's jobs come from, who gets them, and how they are tried.
//!
//! Built once from the settings; figures (concurrency, tries, timeouts, backoff) can change while the process runs and hold
//! for attempts that start later. Connections, queues and handlers never change in a running process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::handler::Handler as HandlerSettings;
use qfleet_manifest::queue::{Lane as LaneSettings, Redeliver, Route, Tuning};
use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::retry::RetryPolicy;
use qfleet_queue::driver::LaneId;

use crate::handler::Handler;

/// Everything a process knows of its lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// In the order of the settings.
    pub(crate) all: Vec<Lane>,
    /// Names of endpoints; lanes refer to them by place.
    pub(crate) endpoints: Vec<String>,
    /// For each connection in use: its name, and its lanes by their [`LaneId`]. On a cluster there is one for each place
    /// that queues lie in, since they are reached, and lost, one by one.
    pub(crate) sources: Vec<(String, Vec<usize>)>,
    /// The place of each.
    homes: Vec<String>,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Its name in the manifest.
    pub(crate) name: String,
    /// Its name towards the driver.
    pub(crate) id: LaneId,
    /// Its jobs at once in this process.
    pub(crate) concurrency: u32,
    /// When a dead worker's started jobs are delivered again.
    pub(crate) redeliver: Redeliver,
    /// The manifest limits its starts.
    pub(crate) counted: bool,
    /// Every endpoint its jobs may go to, each once.
    pub(crate) endpoints: Vec<usize>,
    routes: Vec<(Route, Server)>,
    otherwise: Option<Server>,
}

/// Who gets a job, and how it is tried there.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// The handler.
    pub(crate) handler: Arc<dyn Handler>,
    /// Its endpoint, by place.
    pub(crate) endpoint: usize,
    /// Nothing works on a job any more once its delivery is gone.
    pub(crate) local: bool,
    /// How jobs are tried.
    pub(crate) policy: Arc<RetryPolicy>,
}

impl Lane {
    /// Who gets a job of this name.
    pub(crate) fn server(&self, job_name: &str) -> Option<&Server> {
        let routed = self.routes.iter().find(|(route, _)| route.matches(job_name));
        routed.map(|(_, server)| server).or(self.otherwise.as_ref())
    }
}

impl Lanes {
    /// The lanes of `settings`; each different handler is opened once by `open`.
    ///
    /// # Errors
    /// What `open` says.
    pub(crate) fn new(
        settings: &WorkerSettings,
        mut open: impl FnMut(&HandlerSettings, &Tuning) -> Result<Arc<dyn Handler>, String>,
    ) -> Result<Self, String> {
        let mut lanes =
            Self { all: Vec::new(), endpoints: Vec::new(), sources: Vec::new(), homes: Vec::new() };
        // Handlers keep the longest delay of their queue.
        let mut opened: Vec<(HandlerSettings, Duration, Arc<dyn Handler>)> = Vec::new();
        for lane in &settings.lanes {
            let mut serve = |handler: &HandlerSettings| -> Result<Server, String> {
                let longest = lane.tuning.max_delay;
                let known = opened.iter().find(|(known, delay, _)| known == handler && *delay == longest);
                let server = match known {
                    Some((.., server)) => Arc::clone(server),
                    None => {
                        let server = open(handler, &lane.tuning)?;
                        opened.push((handler.clone(), longest, Arc::clone(&server)));
                        server
                    }
                };
                Ok(Server {
                    handler: server,
                    endpoint: place_of(&mut lanes.endpoints, handler.endpoint()),
                    local: matches!(handler, HandlerSettings::Shell(_)),
                    policy: Arc::new(policy(&lane.tuning, handler)),
                })
            };
            let routes = lane.routes.iter().map(|route| Ok((route.clone(), serve(&route.handler)?)));
            let routes = routes.collect::<Result<Vec<_>, String>>()?;
            let otherwise = lane.handler.as_ref().map(&mut serve).transpose()?;
            let servers = routes.iter().map(|(_, server)| server).chain(&otherwise);
            let mut endpoints: Vec<usize> = servers.map(|server| server.endpoint).collect();
            endpoints.sort_unstable();
            endpoints.dedup();
            let connection = settings.connections.get(&lane.connection);
            let home =
                connection.map_or_else(|| Ok(String::new()), |connection| connection.home(&lane.queues));
            let home = home.map_err(|scattered| scattered.to_string())?;
            let id = lanes.place_in_source(&lane.connection, home);
            lanes.all.push(Lane {
                name: lane.name.clone(),
                id,
                concurrency: lane.concurrency,
                redeliver: lane.tuning.redeliver,
                counted: lane.rate_limit.is_some(),
                endpoints,
                routes,
                otherwise,
            });
        }
        Ok(lanes)
    }

    /// Takes over changed figures of lanes that are still there.
    pub(crate) fn tune(&mut self, settings: &WorkerSettings) {
        let wanted: BTreeMap<&str, &LaneSettings> =
            settings.lanes.iter().map(|lane| (lane.name.as_str(), lane)).collect();
        for lane in &mut self.all {
            let Some(wanted) = wanted.get(lane.name.as_str()) else { continue };
            lane.concurrency = wanted.concurrency;
            lane.redeliver = wanted.tuning.redeliver;
            lane.counted = wanted.rate_limit.is_some();
            for (route, server) in &mut lane.routes {
                let same = wanted.routes.iter().find(|other| other.name == route.name);
                let handler = same.map_or(&route.handler, |same| &same.handler);
                server.policy = Arc::new(policy(&wanted.tuning, handler));
            }
            if let (Some(server), Some(handler)) = (&mut lane.otherwise, &wanted.handler) {
                server.policy = Arc::new(policy(&wanted.tuning, handler));
            }
        }
    }

    fn place_in_source(&mut self, connection: &str, home: String) -> LaneId {
        let lane = self.all.len();
        let mut known = self.sources.iter().zip(&self.homes);
        let source = match known.position(|((name, _), known)| name == connection && *known == home) {
            Some(source) => source,
            None => {
                self.homes.push(home);
                self.sources.push((connection.to_owned(), Vec::new()));
                self.sources.len() - 1
            }
        };
        let inside = &mut self.sources[source].1;
        inside.push(lane);
        LaneId(u16::try_from(inside.len() - 1).unwrap_or(u16::MAX))
    }
}

fn place_of(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

fn policy(tuning: &Tuning, handler: &HandlerSettings) -> RetryPolicy {
    RetryPolicy {
        tries: tuning.tries,
        timeout: handler.timeout().or(tuning.timeout),
        backoff: tuning.backoff.clone(),
        over_tries: tuning.over.tries,
        over_timeout: tuning.over.timeout,
        over_backoff: tuning.over.backoff.clone(),
        snooze_max: tuning.snooze_max,
        snooze_age: tuning.snooze_age,
        max_delay: tuning.max_delay,
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
pub(crate) mod tests;
