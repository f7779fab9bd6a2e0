//! What is only seen in the whole file: names used twice, and settings that are allowed and probably not meant.

use std::collections::HashMap;
use std::time::Duration;

use crate::queue::Lane;
use crate::settings::{Group, Work};
use crate::units::shown;
use crate::value::Value;
use crate::written::document::Document;

/// Queues, pools and programs share one name space.
pub(crate) fn one_name_space(document: &Document<'_>) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    let mut note = |name, kind, value: &Value<'_>| {
        // Two of a kind are the same key twice, which was told already.
        if let Some(other) = seen.insert(name, kind).filter(|other| *other != kind) {
            value.problem_at_key(
                format!("a {other} has this name already"),
                Some("queues, pools and programs share one name space"),
            );
        }
    };
    document.queues.iter().for_each(|queue| note(queue.name.as_str(), "queue", &queue.value));
    document.pools.iter().for_each(|pool| note(pool.name.as_str(), "pool", &pool.value));
    document.programs.iter().for_each(|program| note(program.name.as_str(), "program", &program.value));
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

/// Things that are allowed and probably not meant.
pub(crate) fn warnings(document: &Document<'_>, groups: &[Group], lanes: &[(Value<'_>, Lane)]) {
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
                        worker.lanes.iter().max_by_key(|lane| lane.tuning.timeout.unwrap_or(Duration::MAX));
                    longest
                        .into_iter()
                        .for_each(|lane| stop_wait_covers(&pool.value, lane, worker.stop_wait));
                }
            }
            Work::Program { .. } => {}
        }
    }
    same_queue_twice(lanes);
    if groups.is_empty() {
        document.root.warn("there is no queue and no program", "name some under `queues` or `programs`");
    }
}

/// `stop` cuts off what runs longer than `stop-wait`.
fn stop_wait_covers(value: &Value<'_>, lane: &Lane, stop_wait: Duration) {
    let Some(timeout) = lane.tuning.timeout else { return };
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
