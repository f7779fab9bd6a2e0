//! From the file as written to the file as meant: layers merged, defaults filled in, references resolved.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::tz::TimeZone;
use qfleet_model::backoff::Backoff;
use qfleet_model::job::Format;

use crate::budgets;
use crate::check;
use crate::dependencies;
use crate::queue::{Connection, FailedJobs, Lane, Override, Redeliver, RedisSettings, Tuning};
use crate::settings::{
    Autorestart, Group, Manifest, ProcessSettings, ScheduleSettings, Work, WorkerSettings,
};
use crate::suggest::nearest;
use crate::value::Value;
use crate::written::connection;
use crate::written::document::{Document, Named};
use crate::written::node;
use crate::written::pool::PoolWritten;
use crate::written::process::{ProcessWritten, STOP_WAIT};
use crate::written::program::ProgramWritten;
use crate::written::queue::{QueueWritten, WorkerWritten, process_keys};
use crate::written::scale::Numprocs;
use crate::written::schedule::{self, OnceWritten, ScheduleWritten};

const TIMEOUT: Duration = Duration::from_secs(60);
const SLEEP: Duration = Duration::from_secs(3);
const START_WAIT: Duration = Duration::from_secs(30);
const KILL_AFTER: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
const SNOOZE_MAX: u32 = 100;
const STARTRETRIES: u32 = 3;
const RETRY_FATAL: Duration = Duration::from_secs(600);
const PRIORITY: i32 = 999;

/// A queue with everything said about it, in any layer.
struct Merged<'c> {
    value: Value<'c>,
    written: QueueWritten<'c>,
    lane: Lane,
}

/// Fills in and resolves; what is wrong is noted at its place.
pub(crate) fn resolve(document: &Document<'_>) -> Manifest {
    let connections = connections(document);
    check::one_name_space(document);
    let mut queues = lanes(document, &connections);
    document.pools.iter().for_each(|pool| show_queues(&pool.written, &mut queues));
    let pooled = pool_members(document, &queues);
    let shared = Shared { connections: &connections, failed_jobs: &document.failed_jobs };

    let mut groups = Vec::new();
    for queue in &queues {
        match pooled.get(queue.lane.name.as_str()) {
            Some(pool) => check::no_process_keys(&process_keys(&queue.value), pool),
            None => groups.push((queue.value.key_place(), shared.queue_group(queue))),
        }
    }
    for pool in &document.pools {
        groups.push((pool.value.key_place(), shared.pool_group(pool, document, &queues)));
    }
    for program in &document.programs {
        groups.push((program.value.key_place(), program_group(program)));
    }
    for schedule in &document.schedules {
        groups.push((schedule.value.key_place(), schedule_group(schedule, document, &connections)));
    }
    groups.sort_by_key(|(place, _)| *place);
    let mut groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
    budgets::resolve(document, &pooled, &mut groups);

    let lanes: Vec<(Value<'_>, Lane)> = queues.into_iter().map(|queue| (queue.value, queue.lane)).collect();
    check::one_family_a_queue(&connections, &lanes);
    check::together_on_a_cluster(&connections, &lanes);
    dependencies::check(document, &groups, &lanes);
    check::env_files_have_a_place(document, &groups);
    check::warnings(document, &connections, &groups, &lanes);
    Manifest {
        groups,
        connections,
        redis: document.redis.clone(),
        lanes: lanes.into_iter().map(|(_, lane)| lane).collect(),
        failed_jobs: document.failed_jobs.clone(),
        control: document.control.clone(),
        logging: document.logging.clone(),
        overall: document.overall,
        secret_variables: Vec::new(),
        warnings: Vec::new(),
    }
}

fn connections(document: &Document<'_>) -> BTreeMap<String, Connection> {
    let mut all: BTreeMap<_, _> =
        document.connections.iter().map(|connection| (connection.name.clone(), connection.clone())).collect();
    if all.is_empty() && document.broken_connections.is_empty() {
        let connection = connection::default(document.redis.clone());
        all.insert(connection.name.clone(), connection);
    }
    all
}

fn lanes<'c>(document: &Document<'c>, connections: &BTreeMap<String, Connection>) -> Vec<Merged<'c>> {
    let merge = |queue: &Named<'c, QueueWritten<'c>>| {
        let written = queue.written.clone().over(&document.defaults);
        if !written.has_handler {
            let hint = "write `handler: {http: http://127.0.0.1:8080/jobs}` or `handler: {shell: \"…\"}`";
            queue.value.problem_at_key("`handler` is missing: who gets the jobs?", Some(hint));
        }
        let catches_all = written.routes.iter().flatten().any(|route| route.name == "*");
        if written.handler.is_none()
            && written.routes.is_some()
            && queue.written.handler.is_none()
            && !catches_all
            && !has_key(&queue.value, "handler")
        {
            let hint = "give `handler` beside `routes`, or a last route with the name `*`";
            queue.value.problem_at_key("jobs that match none of the `routes` have no handler", Some(hint));
        }
        let connection = connection_of(queue, &written, document, connections);
        let mut lane = lane(&queue.name, connection, &written);
        if let Some(connection) = connections.get(&lane.connection) {
            node::check(&queue.value, connection);
            lane.node = (connection.driver != Format::Laravel).then(|| written.node.rules());
        }
        Merged { value: queue.value.clone(), written, lane }
    };
    document.queues.iter().map(merge).collect()
}

fn has_key(value: &Value<'_>, key: &str) -> bool {
    value.is_map() && value.entries().unwrap_or_default().iter().any(|(name, _)| name == key)
}

fn connection_of(
    queue: &Named<'_, QueueWritten<'_>>,
    written: &QueueWritten<'_>,
    document: &Document<'_>,
    connections: &BTreeMap<String, Connection>,
) -> String {
    let Some((name, value)) = &written.connection else {
        let mut names = connections.keys();
        return match (names.next(), names.next()) {
            (Some(only), None) => only.clone(),
            (None, _) => String::new(),
            (Some(_), Some(_)) => {
                let list: Vec<String> = connections.keys().map(|name| format!("`{name}`")).collect();
                let hint =
                    format!("there are several: {}; name one, or put it under `defaults`", list.join(", "));
                queue.value.problem_at_key("`connection` is missing", Some(&hint));
                String::new()
            }
        };
    };
    must_be_named(name, value, document, connections);
    name.clone()
}

/// Notes a problem when there is no connection of this name.
fn must_be_named(
    name: &String,
    value: &Value<'_>,
    document: &Document<'_>,
    connections: &BTreeMap<String, Connection>,
) {
    if connections.contains_key(name) || document.broken_connections.contains(name) {
        return;
    }
    let hint = match nearest(name, connections.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => String::from("connections are named under `connections`"),
    };
    value.problem_with_hint("there is no such connection", hint);
}

fn lane(name: &str, connection: String, written: &QueueWritten<'_>) -> Lane {
    Lane {
        name: name.to_owned(),
        connection,
        queues: written.queues.clone().unwrap_or_else(|| vec![name.to_owned()]),
        concurrency: written.concurrency.unwrap_or(1),
        tuning: Tuning {
            tries: written.tries.unwrap_or(1),
            timeout: written.timeout.unwrap_or(Some(TIMEOUT)),
            backoff: written.backoff.clone().filter(|backoff| *backoff != Backoff::Fixed(Duration::ZERO)),
            over: Override { ..written.over.clone() },
            snooze_max: written.snooze_max.unwrap_or(SNOOZE_MAX),
            snooze_age: written.snooze_age.unwrap_or(DAY),
            max_delay: written.max_delay.unwrap_or(DAY),
            delay_as_backoff: written.delay_as_backoff.unwrap_or(true),
            redeliver: written.redeliver.unwrap_or(Redeliver::AtOnce),
        },
        routes: written.routes.clone().unwrap_or_default(),
        handler: written.handler.clone(),
        rate_limit: written.rate_limit,
        node: None,
    }
}

/// The pool of every queue that is in one.
fn pool_members<'d>(document: &'d Document<'_>, queues: &[Merged<'_>]) -> HashMap<&'d str, &'d str> {
    let mut pooled: HashMap<&str, &str> = HashMap::new();
    for pool in &document.pools {
        for (name, value) in &pool.written.queues {
            let names = || queues.iter().map(|queue| queue.lane.name.as_str());
            if !names().any(|known| known == name) {
                if !document.queue_is_named(name) {
                    match nearest(name, names()) {
                        Some(near) => value
                            .problem_with_hint("there is no such queue", format!("did you mean `{near}`?")),
                        None => value
                            .problem_with_hint("there is no such queue", "queues are named under `queues`"),
                    }
                }
            } else if let Some(other) = pooled.insert(name, &pool.name) {
                if other == pool.name {
                    value.problem("this queue is in the pool twice");
                } else {
                    value.problem(format!("this queue is in the pool `{other}` already"));
                }
            }
        }
    }
    pooled
}

/// Queues of a pool that is to be seen.
fn show_queues(pool: &PoolWritten<'_>, queues: &mut [Merged<'_>]) {
    let Some(all) = &pool.presence else { return };
    let members =
        queues.iter_mut().filter(|queue| pool.queues.iter().any(|(name, _)| *name == queue.lane.name));
    let seen = members.filter_map(|queue| queue.lane.node.as_mut()).map(|rules| rules.presence = true);
    if seen.count() == 0 {
        all.problem_with_hint("is for pools with queues of Bull or BullMQ", "remove it");
    }
}

/// What the processes of all groups share.
struct Shared<'m> {
    connections: &'m BTreeMap<String, Connection>,
    failed_jobs: &'m FailedJobs,
}

impl Shared<'_> {
    fn queue_group(&self, queue: &Merged<'_>) -> Group {
        let written = &queue.written;
        let process = worker_process(&queue.value, &written.process, &written.worker);
        let lanes = vec![queue.lane.clone()];
        let sleep = written.sleep.unwrap_or(SLEEP);
        let worker =
            self.worker(&queue.lane.name, lanes, queue.lane.concurrency, sleep, &process, &written.worker);
        Group { name: queue.lane.name.clone(), process, work: Work::Queue(worker) }
    }

    fn pool_group(
        &self,
        pool: &Named<'_, PoolWritten<'_>>,
        document: &Document<'_>,
        queues: &[Merged<'_>],
    ) -> Group {
        let (written, defaults) = (&pool.written, &document.defaults);
        let worker = written.worker.clone().over(&defaults.worker);
        let process = worker_process(&pool.value, &written.process.clone().over(&defaults.process), &worker);
        let members: Vec<&Merged<'_>> = written
            .queues
            .iter()
            .filter_map(|(name, _)| queues.iter().find(|queue| queue.lane.name == *name))
            .collect();
        let concurrency = written.concurrency.or(defaults.concurrency).unwrap_or(1);
        let own = written.sleep.or(defaults.sleep).unwrap_or(SLEEP);
        // The most impatient queue decides for all.
        let sleep = members.iter().filter_map(|queue| queue.written.sleep).fold(own, Duration::min);
        let lanes = members.iter().map(|queue| queue.lane.clone()).collect();
        let worker = self.worker(&pool.name, lanes, concurrency, sleep, &process, &worker);
        Group { name: pool.name.clone(), process, work: Work::Pool(worker) }
    }

    fn worker(
        &self,
        group: &str,
        lanes: Vec<Lane>,
        concurrency: u32,
        sleep: Duration,
        process: &ProcessSettings,
        worker: &WorkerWritten,
    ) -> WorkerSettings {
        let used =
            self.connections.iter().filter(|(name, _)| lanes.iter().any(|lane| lane.connection == **name));
        WorkerSettings {
            group: group.to_owned(),
            connections: used.map(|(name, connection)| (name.clone(), connection.clone())).collect(),
            lanes,
            concurrency,
            max_time: worker.max_time.flatten(),
            max_jobs: worker.max_jobs.flatten(),
            memory: worker.memory.flatten(),
            sleep,
            stop_wait: process.stop_wait,
            kill_after: process.kill_after,
            failed_jobs: self.failed_jobs.clone(),
            secret_variables: Vec::new(),
        }
    }
}

fn program_group(program: &Named<'_, ProgramWritten>) -> Group {
    let written = &program.written;
    let stop_wait = written.stop.whole_wait.or(written.process.stop_wait);
    let process = ProcessSettings {
        numprocs_start: written.numprocs_start,
        startsecs: written.startsecs,
        autorestart: written.autorestart,
        exitcodes: written.exitcodes.clone(),
        stop_signal: written.stop.signal,
        stop_again: written.stop.again.clone(),
        stop_as_group: written.stop_as_group,
        kill_as_group: written.kill_as_group,
        redirect_stderr: written.redirect_stderr,
        ready: written.ready.clone(),
        health: written.health.clone(),
        memory: written.memory,
        ..process_settings(
            &ProcessWritten { stop_wait, ..written.process.clone() },
            &WorkerWritten::default(),
        )
    };
    Group { name: program.name.clone(), process, work: Work::Program { argv: written.argv.clone() } }
}

fn schedule_group(
    schedule: &Named<'_, ScheduleWritten<'_>>,
    document: &Document<'_>,
    connections: &BTreeMap<String, Connection>,
) -> Group {
    let written = &schedule.written;
    let zone = written.zone.clone().or_else(|| document.zone.clone()).unwrap_or(TimeZone::UTC);
    // What is wrong with the pattern is noted, and nothing of the manifest is used then.
    schedule::timetable(written, zone.clone());
    let process = ProcessSettings {
        // It runs at its dates, and a run that ends is over.
        autostart: false,
        startretries: 0,
        retry_fatal: None,
        autorestart: Autorestart::Never,
        exitcodes: written.exitcodes.clone(),
        stop_signal: written.stop_signal,
        redirect_stderr: written.redirect_stderr,
        ..process_settings(&written.process, &WorkerWritten::default())
    };
    let settings = ScheduleSettings {
        argv: written.argv.clone(),
        cron: written.cron.as_ref().map(|(cron, _)| cron.clone()).unwrap_or_default(),
        zone,
        overlap: written.overlap,
        timeout: written.timeout,
        jitter: written.jitter.as_ref().map_or(Duration::ZERO, |(jitter, _)| *jitter),
        missed: written.missed,
        once: written.once.as_ref().and_then(|(once, value)| once_redis(once, value, document, connections)),
    };
    Group { name: schedule.name.clone(), process, work: Work::Schedule(settings) }
}

/// The Redis over which hosts agree. It has to be said which one that is: each host has a nearest one of its own.
fn once_redis(
    once: &OnceWritten,
    value: &Value<'_>,
    document: &Document<'_>,
    connections: &BTreeMap<String, Connection>,
) -> Option<RedisSettings> {
    let redis = match once {
        OnceWritten::Redis => {
            if document.root.child_at(&["redis"]).is_none() {
                value.problem_with_hint(
                    "needs the section `redis`, which all hosts have in common",
                    "write `redis: {url: …}`, or `once: {connection: NAME}`",
                );
            }
            document.redis.clone()
        }
        OnceWritten::Connection(name) => {
            must_be_named(name, value, document, connections);
            connections.get(name)?.redis.clone()
        }
    };
    if redis.is_on_this_host() {
        value.warn(
            "this Redis is on this host: others that have one of their own run every date, too",
            "name a Redis that all hosts reach, or remove `once`",
        );
    }
    Some(redis)
}

/// Processes of workers, whose number can follow their backlog. `value` is the queue or pool.
fn worker_process(value: &Value<'_>, written: &ProcessWritten, worker: &WorkerWritten) -> ProcessSettings {
    let rule = written.numprocs.and_then(|numprocs| numprocs.rule(&worker.scale));
    let is_range = value.child_at(&["numprocs"]).is_some_and(|numprocs| numprocs.is_map());
    if !is_range
        && !matches!(written.numprocs, Some(Numprocs::Between { .. }))
        && let Some(scale) = value.child_at(&["scale"])
    {
        let hint = "write `numprocs: {min: 1, max: 10}` beside it, or remove it";
        scale.problem_at_key("has no effect: the number of processes is fixed", Some(hint));
    }
    ProcessSettings { scale: rule, ..process_settings(written, worker) }
}

fn process_settings(written: &ProcessWritten, worker: &WorkerWritten) -> ProcessSettings {
    ProcessSettings {
        numprocs: written.numprocs.map_or(1, Numprocs::first),
        scale: None,
        numprocs_start: 0,
        priority: written.priority.unwrap_or(PRIORITY),
        depends_on: written.depends_on.clone().unwrap_or_default(),
        autostart: written.autostart.unwrap_or(true),
        startsecs: Duration::ZERO,
        startretries: written.startretries.unwrap_or(STARTRETRIES),
        start_wait: worker.start_wait.unwrap_or(START_WAIT),
        autorestart: Autorestart::Always,
        exitcodes: vec![0],
        essential: written.essential.unwrap_or(false),
        overlap: worker.overlap.unwrap_or(false),
        retry_fatal: written.retry_fatal.unwrap_or(Some(RETRY_FATAL)),
        stop_signal: 15,
        stop_again: Vec::new(),
        stop_as_group: true,
        kill_as_group: true,
        stop_wait: written.stop_wait.unwrap_or(STOP_WAIT),
        kill_after: worker.kill_after.unwrap_or(KILL_AFTER),
        user: written.user.clone(),
        group: written.group.clone(),
        cwd: written.cwd.clone(),
        umask: written.umask,
        nice: written.nice,
        no_new_privileges: written.no_new_privileges,
        limits: written.limits.clone(),
        environment: written.environment.clone(),
        env_files: written.env_files.clone().unwrap_or_default(),
        inherit_environment: written.inherit_environment.unwrap_or(true),
        redirect_stderr: false,
        logs: written.logs.clone().unwrap_or_default(),
        ready: None,
        health: None,
        memory: None,
    }
}
