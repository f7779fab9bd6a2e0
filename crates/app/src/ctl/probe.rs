//! `check --probe`: whether what a manifest names answers. Nothing is taken, sent or changed: a Redis is asked for the
//! lengths of its queues and what is odd about them, an HTTP endpoint is only connected to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use qfleet_manifest::handler::{Handler, HttpHandler, HttpTarget, ShellCommand};
use qfleet_manifest::queue::{Connection, Lane};
use qfleet_manifest::settings::Manifest;
use qfleet_queue::driver::LaneId;
use qfleet_queue::{LaneQueues, Oddity, OpenSettings, inspect_queue};
use serde::Serialize;

use super::print::Paint;
use crate::prefixes;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub(super) struct Probe {
    /// What it is.
    what: String,
    /// All is well, or well enough.
    pub(super) ok: bool,
    /// It works, and something is still to be known.
    warning: bool,
    /// What was found, or what is not well.
    text: String,
}

impl Probe {
    fn new(what: String, result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        Self { what, ok, warning: false, text: result.unwrap_or_else(|problem| problem) }
    }

    /// Something odd about a queue.
    fn of_queue(connection: &Connection, queue: &str, oddity: Oddity) -> Self {
        let what = format!("queue `{queue}` of connection `{}`", connection.name);
        match oddity {
            Oddity::Unfit(text) => Self::new(what, Err(text)),
            Oddity::Risk(text) => Self { warning: true, ..Self::new(what, Ok(text)) },
        }
    }

    /// As it is printed.
    pub(super) fn line(&self, paint: Paint) -> String {
        let Self { what, ok, warning, text } = self;
        match (ok, warning) {
            (true, false) => format!("{what}: {}", paint.good(text)),
            (true, true) => format!("{what}: {}", paint.moving(&format!("WARNING ({text})"))),
            (false, _) => format!("{what}: {}", paint.bad(&format!("ERROR ({text})"))),
        }
    }
}

/// Tries every connection, then every handler's endpoint, each once.
pub(super) async fn all(manifest: &Manifest) -> Vec<Probe> {
    let mut probes = Vec::new();
    for connection in manifest.connections.values() {
        let what = format!("connection `{}` at `{}`", connection.name, connection.redis.shown());
        probes.push(Probe::new(what, depths(manifest, connection).await));
        let odd = tokio::time::timeout(PATIENCE, oddities(manifest, connection)).await;
        probes.extend(odd.unwrap_or_default());
    }
    let mut seen = BTreeSet::new();
    for handler in manifest
        .lanes
        .iter()
        .flat_map(|lane| lane.routes.iter().map(|route| &route.handler).chain(&lane.handler))
    {
        let what = match handler {
            Handler::Http(http) => format!("endpoint `{}`", http.endpoint),
            Handler::Shell(shell) => match &shell.command {
                ShellCommand::Argv(argv) => format!("program `{}`", argv.first().map_or("", String::as_str)),
                ShellCommand::Line(_) => "program `/bin/sh`".to_owned(),
            },
        };
        if seen.insert(what.clone()) {
            let result = match handler {
                Handler::Http(http) => connected(http),
                // Programs were looked up when the manifest was read; nothing of them is tried beyond that.
                Handler::Shell(_) => Ok("is there".to_owned()),
            };
            probes.push(Probe::new(what, result));
        }
    }
    probes
}

/// Asks a connection how full its queues are; on a cluster, each place that queues lie in.
async fn depths(manifest: &Manifest, connection: &Connection) -> Result<String, String> {
    let mut places: BTreeMap<String, Vec<&Lane>> = BTreeMap::new();
    for lane in manifest.lanes.iter().filter(|lane| lane.connection == connection.name) {
        let home = connection.home(&lane.queues).map_err(|scattered| scattered.to_string())?;
        places.entry(home).or_default().push(lane);
    }
    if places.is_empty() {
        depths_together(connection, &[]).await?;
        return Ok("answers; no queue uses it".to_owned());
    }
    let mut found = Vec::new();
    for lanes in places.values() {
        found.extend(depths_together(connection, lanes).await?);
    }
    Ok(format!("answers; {}", found.join(", ")))
}

async fn depths_together(connection: &Connection, lanes: &[&Lane]) -> Result<Vec<String>, String> {
    let queues = lanes.iter().map(|lane| LaneQueues::from(*lane));
    let settings = OpenSettings { connection: connection.clone(), lanes: queues.collect(), tag: 0 };
    let driver = qfleet_queue::open(&settings).map_err(|error| error.to_string())?;
    let ids: Vec<LaneId> = (0u16..).map(LaneId).take(lanes.len()).collect();
    let depths = tokio::time::timeout(PATIENCE, driver.depth(&ids)).await;
    let depths = depths.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let depths = depths.map_err(|error| error.to_string())?;
    for queue in lanes.iter().flat_map(|lane| &lane.queues) {
        if let Some(hint) = prefixes::elsewhere(connection, queue).await {
            return Err(hint);
        }
    }
    let found = lanes.iter().zip(depths);
    Ok(found.map(|(lane, depth)| format!("{} has {} waiting", lane.name, depth.waiting)).collect())
}

/// What is odd about the queues of a connection, each once. One that cannot be looked at was told of already.
async fn oddities(manifest: &Manifest, connection: &Connection) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut seen = BTreeSet::new();
    for lane in manifest.lanes.iter().filter(|lane| lane.connection == connection.name) {
        let accepted = lane.node.as_ref().and_then(|rules| rules.accept_version);
        for queue in lane.queues.iter().filter(|queue| seen.insert(queue.as_str())) {
            let found = inspect_queue(connection, queue, accepted).await.unwrap_or_default();
            probes.extend(found.into_iter().map(|oddity| Probe::of_queue(connection, queue, oddity)));
        }
    }
    probes
}

/// Opens a connection to an HTTP endpoint and closes it again.
fn connected(http: &HttpHandler) -> Result<String, String> {
    if http.proxy.is_some() {
        return Ok("not tried, it is behind a proxy".to_owned());
    }
    match &http.target {
        HttpTarget::Unix { socket, .. } => {
            UnixStream::connect(socket)
                .map_err(|error| format!("cannot connect to `{}`: {error}", socket.display()))?;
        }
        HttpTarget::Url(url) => connect_to(http, url)?,
    }
    Ok("accepts connections".to_owned())
}

fn connect_to(http: &HttpHandler, url: &str) -> Result<(), String> {
    let (host, port) = authority(url).ok_or_else(|| format!("`{}` has no host", http.endpoint))?;
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("`{host}` cannot be resolved: {error}"))?;
    let mut last = format!("`{host}` has no address");
    for address in addresses {
        match std::net::TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("cannot connect to `{address}`: {error}"),
        }
    }
    Err(last)
}

/// Host and port of a URL.
fn authority(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    Some((host, port.map_or(Some(default), |port| port.parse().ok())?)).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn a_url_names_host_and_port() {
        for (url, place) in [
            ("http://127.0.0.1:8080/jobs/{name}", Some(("127.0.0.1", 8080))),
            ("https://example.test", Some(("example.test", 443))),
            ("http://user:pass@host/x?y=http://z:1/", Some(("host", 80))),
            ("http://[::1]:9000/", Some(("::1", 9000))),
            ("http://[::1]", Some(("::1", 80))),
            ("http://host:x/", None),
            ("host:80", None),
        ] {
            assert_eq!(authority(url), place, "{url}");
        }
    }
}
