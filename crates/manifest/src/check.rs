//! What is only seen in the whole file: names used twice, and settings that are allowed and probably not meant.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use qfleet_model::job::Format;

use crate::handler::{Handler, HttpTarget};
use crate::queue::{Connection, Lane};
use crate::settings::{Group, Work};
use crate::units::shown;
use crate::value::Value;
use crate::written::address::{self, Address, Distance};
use crate::written::connection::library;
use crate::written::document::Document;

/// Queues, pools, programs and schedules share one name space.
pub(crate) fn one_name_space(document: &Document<'_>) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    let mut note = |name, kind, value: &Value<'_>| {
        // Two of a kind are the same key twice, which was told already.
        if let Some(other) = seen.insert(name, kind).filter(|other| *other != kind) {
            value.problem_at_key(
                format!("a {other} has this name already"),
                Some("queues, pools, programs and schedules share one name space"),
            );
        }
    };
    document.queues.iter().for_each(|queue| note(queue.name.as_str(), "queue", &queue.value));
    document.pools.iter().for_each(|pool| note(pool.name.as_str(), "pool", &pool.value));
    document.programs.iter().for_each(|program| note(program.name.as_str(), "program", &program.value));
    document.schedules.iter().for_each(|schedule| note(schedule.name.as_str(), "schedule", &schedule.value));
}

/// A queue in a pool has no processes of its own.
pub(crate) fn no_process_keys(keys: &[(String, Value<'_>)], pool: &str) {
    for (name, value) in keys {
        value.problem_at_key(
            format!("the queue is in the pool `{pool}` and has no processes of its own"),
            Some(&format!("write `{name}` on the pool")),
        );
    }
}

/// Bull and BullMQ give other meanings to the same keys: a queue that is worked as both loses jobs.
pub(crate) fn one_family_a_queue(connections: &BTreeMap<String, Connection>, lanes: &[(Value<'_>, Lane)]) {
    let mut seen: HashMap<(String, &str, &str), (Format, &Lane)> = HashMap::new();
    for (value, lane) in lanes {
        let Some(connection) = connections.get(&lane.connection) else { continue };
        if connection.driver == Format::Laravel {
            continue;
        }
        for queue in &lane.queues {
            let place = (connection.redis.shown(), connection.prefix.as_str(), queue.as_str());
            let (family, other) = *seen.entry(place).or_insert((connection.driver, lane));
            if family != connection.driver {
                value.problem_at_key(
                    format!(
                        "the queue `{}:{queue}` in Redis is worked as {} here and as {} by `{}`",
                        connection.prefix,
                        library(connection.driver),
                        library(family),
                        other.name
                    ),
                    Some("it belongs to one of the two: name its connection in both, or give each family a `prefix`"),
                );
            }
        }
    }
}

/// On a cluster one call reaches the keys of one place only.
pub(crate) fn together_on_a_cluster(connections: &BTreeMap<String, Connection>, lanes: &[(Value<'_>, Lane)]) {
    for (value, lane) in lanes {
        let Some(connection) = connections.get(&lane.connection) else { continue };
        if let Err(scattered) = connection.home(&lane.queues) {
            value.problem_at_key(scattered.what, Some(&scattered.hint));
        }
    }
}

/// A path from nowhere would be one from where somebody started the daemon.
pub(crate) fn env_files_have_a_place(document: &Document<'_>, groups: &[Group]) {
    for group in groups.iter().filter(|group| group.process.cwd.is_none()) {
        if let Some(file) = group.process.env_files.iter().find(|file| !file.path.is_absolute())
            && let Some(value) = document.written_at(&group.name, "env-file")
        {
            value.problem_with_hint(
                format!("`{}` has no place", file.path.display()),
                "begin it with `/`, or give `cwd`, from which it then goes on",
            );
        }
    }
}

/// Things that are allowed and probably not meant.
pub(crate) fn warnings(
    document: &Document<'_>,
    connections: &BTreeMap<String, Connection>,
    groups: &[Group],
    lanes: &[(Value<'_>, Lane)],
) {
    for group in groups {
        match &group.work {
            Work::Queue(worker) => {
                if let Some((value, lane)) = lanes.iter().find(|(_, lane)| lane.name == group.name) {
                    stop_wait_covers(value, lane, worker.stop_wait);
                }
            }
            Work::Pool(worker) => {
                if let Some(pool) = document.pools.iter().find(|pool| pool.name == group.name) {
                    pool_room(&pool.value, &worker.lanes, worker.concurrency);
                    let longest =
                        worker.lanes.iter().max_by_key(|lane| longest_run(lane).unwrap_or(Duration::MAX));
                    longest
                        .into_iter()
                        .for_each(|lane| stop_wait_covers(&pool.value, lane, worker.stop_wait));
                }
            }
            Work::Program { .. } | Work::Schedule(_) => {}
        }
    }
    same_queue_twice(lanes);
    same_key_twice(lanes);
    tries_without_effect(document, connections, lanes);
    passwords_kept_from_programs(document, groups);
    if groups.is_empty() {
        let hint = "name some under `queues`, `programs` or `schedules`";
        document.root.warn("there is no queue, no program and no schedule", hint);
    }
}

/// `stop` cuts off what runs longer than `stop-wait`.
fn stop_wait_covers(value: &Value<'_>, lane: &Lane, stop_wait: Duration) {
    let Some(timeout) = longest_run(lane) else { return };
    if stop_wait < timeout && timeout > Duration::from_secs(60) {
        value.context.warn(
            value.key_place(),
            &value.at,
            &format!(
                "a job of `{}` may run {}, but `stop` and `shutdown` cut it off after {}",
                lane.name,
                shown(timeout),
                shown(stop_wait)
            ),
            Some("it is given back and runs again; raise `stop-wait` if that is not wanted"),
        );
    }
}

/// The longest that a job may run that says nothing itself; `None` is unlimited.
fn longest_run(lane: &Lane) -> Option<Duration> {
    if let Some(timeout) = lane.tuning.over.timeout {
        return timeout;
    }
    let handlers = lane.handler.iter().chain(lane.routes.iter().map(|route| &route.handler));
    let runs = handlers.map(|handler| handler.timeout().or(lane.tuning.timeout));
    runs.reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other))).flatten()
}

fn pool_room(pool: &Value<'_>, lanes: &[Lane], concurrency: u32) {
    let place = pool.key_place();
    let all: u64 = lanes.iter().map(|lane| u64::from(lane.concurrency)).sum();
    if !lanes.is_empty() && all < u64::from(concurrency) {
        pool.context.warn(
            place,
            &pool.at,
            &format!("only {all} of {concurrency} jobs at once are possible: the queues' own `concurrency` adds up to {all}"),
            Some("raise `concurrency` of the queues, or lower the pool's"),
        );
    }
    for lane in lanes.iter().filter(|lane| lane.concurrency > concurrency) {
        pool.context.warn(
            place,
            &pool.at,
            &format!(
                "`{}` may have {} jobs at once, but the pool's processes only {concurrency}",
                lane.name, lane.concurrency
            ),
            Some("raise `concurrency` of the pool"),
        );
    }
}

/// Two queues of the manifest over the same queue in Redis take each other's jobs.
fn same_queue_twice(lanes: &[(Value<'_>, Lane)]) {
    let mut seen: HashMap<(&str, &str), &str> = HashMap::new();
    for (value, lane) in lanes {
        for queue in &lane.queues {
            if let Some(other) = seen.insert((&lane.connection, queue), &lane.name) {
                value.context.warn(
                    value.key_place(),
                    &value.at,
                    &format!("takes from the same queue `{queue}` in Redis as `{other}`: each job goes to one of the two"),
                    Some("if that is meant, more `numprocs` on one of them do the same"),
                );
            }
        }
    }
}

/// Every job of Bull says how often it is tried, and what a job says wins.
fn tries_without_effect(
    document: &Document<'_>,
    connections: &BTreeMap<String, Connection>,
    lanes: &[(Value<'_>, Lane)],
) {
    let of_bull = |lane: &Lane| {
        connections.get(&lane.connection).is_some_and(|connection| connection.driver == Format::Bull)
    };
    for (value, lane) in lanes.iter().filter(|(_, lane)| of_bull(lane) && lane.tuning.over.tries.is_none()) {
        let below = || document.root.child_at(&["defaults", "tries"]);
        let Some(tries) = value.child_at(&["tries"]).or_else(below) else { continue };
        tries.context.warn(
            tries.key_place(),
            &tries.at,
            "has no effect on Bull's queues: Bull writes `attempts` into every job, 1 when its producer says nothing",
            Some(&format!("`override: {{tries: {}}}` wins over the job", lane.tuning.tries)),
        );
    }
}

/// Whoever has the key of another owner's endpoint can sign in our name.
fn same_key_twice(lanes: &[(Value<'_>, Lane)]) {
    let mut seen: HashMap<&str, String> = HashMap::new();
    for (value, lane) in lanes {
        for handler in lane.handler.iter().chain(lane.routes.iter().map(|route| &route.handler)) {
            let Handler::Http(http) = handler else { continue };
            let HttpTarget::Url(url) = &http.target else { continue };
            let Ok(Address::Web(url)) = address::parse(url) else { continue };
            if url.distance() != Distance::Public {
                continue;
            }
            for key in &http.signing_keys {
                let origin = url.origin();
                if seen.get(key.secret.reveal()).is_some_and(|other| *other != origin) {
                    value.context.warn(
                        value.key_place(),
                        &value.at,
                        &format!("`{origin}` has the same signing key as another endpoint"),
                        Some("endpoints of different owners need keys of their own"),
                    );
                }
                seen.entry(key.secret.reveal()).or_insert(origin);
            }
        }
    }
}

/// A program that speaks to the same Redis misses the variable that a secret took.
fn passwords_kept_from_programs(document: &Document<'_>, groups: &[Group]) {
    // Other connections are often other applications'.
    let passwords =
        document.root.context.passwords().into_iter().filter(|one| one.at.split('.').next() == Some("redis"));
    for password in passwords {
        let misses = |group: &&Group| {
            matches!(group.work, Work::Program { .. } | Work::Schedule(_))
                && group.process.inherit_environment
                && !group.process.environment.contains_key(&password.name)
        };
        if let Some(program) = groups.iter().find(misses) {
            let name = &password.name;
            document.root.context.warn(
                password.place,
                &password.at,
                &format!(
                    "`{name}` is used in a secret, so programs such as `{}` do not inherit it",
                    program.name
                ),
                Some(&format!("one that needs it gets it with `environment: {{{name}: \"${{{name}}}\"}}`")),
            );
        }
    }
}
