//! What changed between two manifests, and what each change takes: nothing is touched that did not change.
//!
//! [`IN_PLACE`] is the table of settings that running processes can be told; every other difference needs new processes,
//! which come one after the other. Descriptions never have a secret in them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use qfleet_model::backoff::Backoff;
use qfleet_model::scale::{Budget, Rule, Target};

use crate::queue::{Connection, Keep, Lane, NodeRules, Override, RedisSettings, Tuning};
use crate::settings::{
    Control, Group, Logging, Manifest, Overall, ProcessSettings, ScheduleSettings, Work, WorkerSettings,
};
use crate::units::{shown, shown_size};

/// Settings that running processes can be told.
pub const IN_PLACE: &[&str] = &[
    "autorestart",
    "autostart",
    "backoff",
    "concurrency",
    "delay-as-backoff",
    "depends-on",
    "essential",
    "exitcodes",
    "health",
    "keep-completed",
    "keep-failed",
    "kill-after",
    "kill-as-group",
    "max-delay",
    "max-jobs",
    "max-stalled",
    "max-time",
    "memory",
    "metrics",
    "numprocs",
    "overlap",
    "override",
    "priority",
    "rate-limit",
    "ready",
    "redeliver",
    "scale",
    "sleep",
    "snooze-age",
    "snooze-max",
    "stalled-interval",
    "start-wait",
    "retry-fatal",
    "startretries",
    "startsecs",
    "stop-as-group",
    "stop-signal",
    "stop-wait",
    "timeout",
    "tries",
];

/// What becomes of one group.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // A handful at each reload, taken apart at once.
pub enum Change {
    /// New: start it.
    Added(Group),
    /// Gone: drain and stop it.
    Removed(String),
    /// Its processes must be replaced, one after the other.
    Restart {
        /// As it runs.
        from: Group,
        /// As it should be.
        to: Group,
    },
    /// Its processes can be told, or only their number changes.
    InPlace {
        /// As it should be.
        to: Group,
    },
}

impl Change {
    /// The group's name.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Self::Added(group) | Self::Restart { to: group, .. } | Self::InPlace { to: group } => &group.name,
            Self::Removed(name) => name,
        }
    }
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting in words, e.g. `numprocs 2 -> 3`.
    pub text: String,
    /// Running processes can be told.
    pub in_place: bool,
}

/// What to do to get from the running groups to the wanted ones: removals first, then the rest in the wanted order.
#[must_use]
pub fn diff(running: &[Group], wanted: &[Group]) -> Vec<Change> {
    let find = |groups: &'_ [Group], name: &str| groups.iter().position(|group| group.name == name);
    let removed = running.iter().filter(|group| find(wanted, &group.name).is_none());
    let mut changes: Vec<Change> = removed.map(|group| Change::Removed(group.name.clone())).collect();
    for to in wanted {
        let Some(from) = find(running, &to.name).map(|at| &running[at]) else {
            changes.push(Change::Added(to.clone()));
            continue;
        };
        let differences = differences(from, to);
        if differences.iter().any(|difference| !difference.in_place) {
            changes.push(Change::Restart { from: from.clone(), to: to.clone() });
        } else if !differences.is_empty() {
            changes.push(Change::InPlace { to: to.clone() });
        }
    }
    changes
}

/// The same for people, one line a group: `messages: numprocs 2 -> 3`.
#[must_use]
pub fn describe(running: &[Group], wanted: &[Group]) -> Vec<String> {
    let line = |change: &Change| {
        let name = change.group();
        let was = running.iter().find(|group| group.name == name);
        let list = |to: &Group| was.map(|from| differences(from, to)).unwrap_or_default();
        let texts = |to: &Group| list(to).into_iter().map(|one| one.text).collect::<Vec<_>>().join(", ");
        match change {
            Change::Added(Group { work: Work::Schedule(schedule), .. }) => {
                format!("{name}: added, `{}`", schedule.cron)
            }
            Change::Added(group) => {
                let count = shown_numprocs(&group.process);
                format!("{name}: added, {count} {}", if count == "1" { "process" } else { "processes" })
            }
            Change::Removed(_) => format!("{name}: removed"),
            Change::Restart { to, .. } => format!("{name}: {} (rolling restart)", texts(to)),
            Change::InPlace { to } => format!("{name}: {}", texts(to)),
        }
    };
    diff(running, wanted).iter().map(line).collect()
}

/// Settings of the daemon itself that differ and wait for its next start, in words.
#[must_use]
pub fn needs_daemon_restart(running: &Manifest, wanted: &Manifest) -> Vec<String> {
    let mut notes = Notes::default();
    let Control { socket, mode, group, listen, logins } = &running.control;
    notes.hidden("control.socket", socket, &wanted.control.socket);
    notes.value("control.mode", mode, &wanted.control.mode, |mode| format!("{mode:04o}"));
    notes.hidden("control.group", group, &wanted.control.group);
    notes.hidden("control.listen", listen, &wanted.control.listen);
    notes.hidden("control.auth", logins, &wanted.control.logins);
    let Logging { format, level, dir, max_size, keep } = &running.logging;
    notes.hidden("logging.format", format, &wanted.logging.format);
    notes.hidden("logging.level", level, &wanted.logging.level);
    notes.hidden("logging.dir", dir, &wanted.logging.dir);
    notes.value("logging.max-size", max_size, &wanted.logging.max_size, |size| shown_size(*size));
    notes.plain("logging.keep", keep, &wanted.logging.keep);
    notes.found.into_iter().map(|one| format!("{}: needs a restart of the daemon", one.text)).collect()
}

/// What holds for all groups together and differs, in words; a reload brings it into force.
#[must_use]
pub fn overall(running: &Overall, wanted: &Overall) -> Vec<String> {
    let mut notes = Notes::default();
    let Overall { shutdown_timeout, replace_at_once } = running;
    notes.limit("shutdown-timeout", shutdown_timeout, &wanted.shutdown_timeout);
    notes.value("replace-at-once", replace_at_once, &wanted.replace_at_once, |most| {
        most.map_or_else(|| String::from("a tenth"), |most| most.to_string())
    });
    notes.found.into_iter().map(|one| one.text).collect()
}

/// Every setting of a group that differs. A schedule's next run takes whatever has changed, and one that is under way ends
/// as it began: nothing of it needs new processes.
#[must_use]
pub fn differences(from: &Group, to: &Group) -> Vec<Difference> {
    let mut notes = Notes::default();
    let Group { name: _, process, work } = from;
    notes.process(process, &to.process);
    match (work, &to.work) {
        (Work::Queue(from), Work::Queue(to)) | (Work::Pool(from), Work::Pool(to)) => notes.worker(from, to),
        (Work::Program { argv: from }, Work::Program { argv: to_argv }) => {
            notes.hidden("command", from, to_argv);
            let named_plainly = |process: &ProcessSettings| process.numprocs == 1;
            if named_plainly(process) != named_plainly(&to.process) {
                notes.found.push(Difference { text: String::from("other process names"), in_place: false });
            }
        }
        (Work::Schedule(from), Work::Schedule(to)) => {
            notes.schedule(from, to);
            notes.found.iter_mut().for_each(|difference| difference.in_place = true);
        }
        (Work::Queue(_) | Work::Pool(_) | Work::Program { .. } | Work::Schedule(_), _) => {
            notes.found.push(Difference { text: String::from("another kind of group"), in_place: false });
        }
    }
    notes.found
}

#[derive(Default)]
struct Notes {
    found: Vec<Difference>,
    /// In front of a setting's name: the queue of a pool.
    of: String,
}

impl Notes {
    /// A setting whose values can be shown.
    fn value<T: PartialEq>(&mut self, key: &str, from: &T, to: &T, show: impl Fn(&T) -> String) {
        if from != to {
            let text = format!("{}{key} {} -> {}", self.of, show(from), show(to));
            self.found.push(Difference { text, in_place: IN_PLACE.contains(&key) });
        }
    }

    fn plain<T: PartialEq + Display>(&mut self, key: &str, from: &T, to: &T) {
        self.value(key, from, to, T::to_string);
    }

    fn duration(&mut self, key: &str, from: &Duration, to: &Duration) {
        self.value(key, from, to, |duration| shown(*duration));
    }

    fn limit(&mut self, key: &str, from: &Option<Duration>, to: &Option<Duration>) {
        self.value(key, from, to, |limit| limit.map_or_else(|| String::from("none"), shown));
    }

    fn word(&mut self, key: &str, from: &Option<String>, to: &Option<String>) {
        self.value(key, from, to, |word| word.clone().unwrap_or_else(|| String::from("none")));
    }

    /// A setting whose values are too long to show, or may have secrets in them.
    fn hidden<T: PartialEq>(&mut self, key: &str, from: &T, to: &T) {
        if from != to {
            let text = format!("{}{key} changed", self.of);
            self.found.push(Difference { text, in_place: IN_PLACE.contains(&key) });
        }
    }

    // The fields are named one by one, so that a new setting cannot be forgotten here.

    fn process(&mut self, from: &ProcessSettings, to: &ProcessSettings) {
        let ProcessSettings {
            numprocs: _,
            scale,
            numprocs_start,
            priority,
            depends_on,
            autostart,
            startsecs,
            startretries,
            start_wait,
            autorestart,
            exitcodes,
            essential,
            overlap,
            retry_fatal,
            stop_signal,
            stop_again,
            stop_as_group,
            kill_as_group,
            stop_wait,
            kill_after,
            user,
            group,
            cwd,
            umask,
            nice,
            no_new_privileges,
            limits,
            environment,
            env_files,
            inherit_environment,
            redirect_stderr,
            logs,
            ready,
            health,
            memory,
        } = from;
        self.value("numprocs", &shown_numprocs(from), &shown_numprocs(to), String::clone);
        if let (Some(rule), Some(to)) = (scale, &to.scale) {
            self.scale(rule, to);
        }
        self.plain("numprocs-start", numprocs_start, &to.numprocs_start);
        self.plain("priority", priority, &to.priority);
        self.value("depends-on", depends_on, &to.depends_on, |names| format!("[{}]", names.join(", ")));
        self.plain("autostart", autostart, &to.autostart);
        self.duration("startsecs", startsecs, &to.startsecs);
        self.plain("startretries", startretries, &to.startretries);
        self.duration("start-wait", start_wait, &to.start_wait);
        self.plain("essential", essential, &to.essential);
        self.plain("overlap", overlap, &to.overlap);
        self.value("autorestart", autorestart, &to.autorestart, |rule| format!("{rule:?}").to_lowercase());
        self.value("exitcodes", exitcodes, &to.exitcodes, |codes| format!("{codes:?}"));
        let signal = |number: &i32| {
            crate::signals::name(*number).map_or_else(|| number.to_string(), ToOwned::to_owned)
        };
        self.limit("retry-fatal", retry_fatal, &to.retry_fatal);
        self.value("stop-signal", stop_signal, &to.stop_signal, signal);
        self.hidden("stop-signal", stop_again, &to.stop_again);
        self.plain("stop-as-group", stop_as_group, &to.stop_as_group);
        self.plain("kill-as-group", kill_as_group, &to.kill_as_group);
        self.duration("stop-wait", stop_wait, &to.stop_wait);
        self.duration("kill-after", kill_after, &to.kill_after);
        self.word("user", user, &to.user);
        self.word("group", group, &to.group);
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or("none".to_owned(), |path| path.display().to_string())
        };
        self.value("cwd", cwd, &to.cwd, path);
        self.value("umask", umask, &to.umask, |mask| {
            mask.map_or("none".to_owned(), |mask| format!("{mask:03o}"))
        });
        self.value("nice", nice, &to.nice, |nice| nice.unwrap_or(0).to_string());
        self.value("no-new-privileges", no_new_privileges, &to.no_new_privileges, |wanted| {
            wanted.map_or_else(|| "as `user` says".to_owned(), |wanted| wanted.to_string())
        });
        self.hidden("limits", limits, &to.limits);
        self.hidden("environment", environment, &to.environment);
        self.hidden("env-file", env_files, &to.env_files);
        let kind = |inherit: &bool| if *inherit { "inherit" } else { "clean" }.to_owned();
        self.value("env", inherit_environment, &to.inherit_environment, kind);
        self.plain("redirect-stderr", redirect_stderr, &to.redirect_stderr);
        self.hidden("logs", logs, &to.logs);
        self.hidden("ready", ready, &to.ready);
        self.hidden("health", health, &to.health);
        self.value("memory", memory, &to.memory, |size| {
            size.map_or_else(|| String::from("none"), shown_size)
        });
    }

    fn schedule(&mut self, from: &ScheduleSettings, to: &ScheduleSettings) {
        let ScheduleSettings { argv, cron, zone, overlap, timeout, jitter, missed, once } = from;
        self.hidden("command", argv, &to.argv);
        self.value("cron", cron, &to.cron, |cron| format!("`{cron}`"));
        let name = |zone: &TimeZone| zone.iana_name().unwrap_or("another one").to_owned();
        self.value("timezone", zone, &to.zone, name);
        self.value("overlap", overlap, &to.overlap, |rule| rule.key().to_owned());
        self.limit("timeout", timeout, &to.timeout);
        self.duration("jitter", jitter, &to.jitter);
        self.value("missed", missed, &to.missed, |rule| rule.key().to_owned());
        let redis = |once: &Option<RedisSettings>| match once {
            Some(redis) => redis.shown(),
            None => String::from("none"),
        };
        match (once, &to.once) {
            // All that differs may be a password.
            (Some(from), Some(to)) if from.shown() == to.shown() => self.hidden("once", from, to),
            (from, to) => self.value("once", from, to, redis),
        }
    }

    /// What the number of processes follows. Nobody but the daemon goes by it.
    fn scale(&mut self, from: &Rule, to: &Rule) {
        let Rule { min: _, max: _, target: _, cooldown, step, every, budget: _ } = from;
        let target = |target: &Target| match target {
            Target::Time(time) => format!("time {}", shown(*time)),
            Target::Size(jobs) => format!("size {jobs}"),
        };
        let budget = |budget: &Option<Budget>| {
            budget
                .as_ref()
                .map_or_else(|| String::from("none"), |budget| format!("`{}` of {}", budget.name, budget.max))
        };
        for (name, from, to) in [
            ("scale", target(&from.target), target(&to.target)),
            ("scale.cooldown", shown(*cooldown), shown(to.cooldown)),
            ("scale.step", step.to_string(), to.step.to_string()),
            ("scale.every", shown(*every), shown(to.every)),
            ("budget", budget(&from.budget), budget(&to.budget)),
        ] {
            if from != to {
                let text = format!("{name} {from} -> {to}");
                self.found.push(Difference { text, in_place: IN_PLACE.contains(&"scale") });
            }
        }
    }

    fn worker(&mut self, from: &WorkerSettings, to: &WorkerSettings) {
        let WorkerSettings {
            group: _,
            lanes,
            concurrency,
            max_time,
            max_jobs,
            memory,
            sleep,
            // These two are the process' own.
            stop_wait: _,
            kill_after: _,
            connections,
            failed_jobs,
            secret_variables,
        } = from;
        self.plain("concurrency", concurrency, &to.concurrency);
        self.limit("max-time", max_time, &to.max_time);
        let none = || String::from("none");
        self.value("max-jobs", max_jobs, &to.max_jobs, |jobs| {
            jobs.map_or_else(none, |jobs| jobs.to_string())
        });
        self.value("memory", memory, &to.memory, |size| size.map_or_else(none, shown_size));
        self.duration("sleep", sleep, &to.sleep);
        self.lanes(lanes, &to.lanes);
        self.connections(connections, &to.connections);
        self.hidden("failed-jobs", failed_jobs, &to.failed_jobs);
        self.hidden("variables kept from jobs", secret_variables, &to.secret_variables);
    }

    fn connections(&mut self, from: &BTreeMap<String, Connection>, to: &BTreeMap<String, Connection>) {
        for (name, connection) in from {
            if let Some(wanted) = to.get(name) {
                self.hidden(&format!("connection `{name}`"), connection, wanted);
            }
        }
    }

    fn lanes(&mut self, from: &[Lane], to: &[Lane]) {
        let names = |lanes: &[Lane]| lanes.iter().map(|lane| lane.name.clone()).collect::<Vec<_>>();
        self.value("queues", &names(from), &names(to), |names| names.join("+"));
        let several = from.len() > 1 || to.len() > 1;
        for lane in from {
            let Some(wanted) = to.iter().find(|wanted| wanted.name == lane.name) else { continue };
            if several {
                self.of = format!("{} ", lane.name);
            }
            self.lane(lane, wanted, several);
            self.of.clear();
        }
    }

    fn lane(&mut self, from: &Lane, to: &Lane, pooled: bool) {
        let Lane { name: _, connection, queues, concurrency, tuning, routes, handler, rate_limit, node } =
            from;
        self.plain("connection", connection, &to.connection);
        self.value("queue", queues, &to.queues, |queues| queues.join("+"));
        // Alone in its processes, its concurrency is theirs.
        if pooled {
            self.plain("concurrency", concurrency, &to.concurrency);
        }
        self.tuning(tuning, &to.tuning);
        self.hidden("routes", routes, &to.routes);
        self.hidden("handler", handler, &to.handler);
        self.value("rate-limit", rate_limit, &to.rate_limit, |limit| {
            limit.map_or_else(
                || String::from("none"),
                |limit| format!("{} per {}", limit.max, shown(limit.per)),
            )
        });
        if let (Some(node), Some(to)) = (node, &to.node) {
            self.node(node, to);
        }
    }

    fn node(&mut self, from: &NodeRules, to: &NodeRules) {
        let NodeRules {
            lock_duration,
            stalled_interval,
            max_stalled,
            keep_completed,
            keep_failed,
            metrics,
            accept_version,
            presence,
        } = from;
        self.duration("lock-duration", lock_duration, &to.lock_duration);
        self.duration("stalled-interval", stalled_interval, &to.stalled_interval);
        self.plain("max-stalled", max_stalled, &to.max_stalled);
        self.value("keep-completed", keep_completed, &to.keep_completed, shown_keep);
        self.value("keep-failed", keep_failed, &to.keep_failed, shown_keep);
        self.value("metrics", metrics, &to.metrics, |minutes| match minutes {
            0 => String::from("off"),
            minutes => shown(Duration::from_secs(u64::from(*minutes) * 60)),
        });
        let word = |all: &bool| String::from(if *all { "all" } else { "none" });
        self.value("presence", presence, &to.presence, word);
        self.value("accept-version", accept_version, &to.accept_version, |major| {
            major.map_or_else(|| String::from("none"), |major| major.to_string())
        });
    }

    fn tuning(&mut self, from: &Tuning, to: &Tuning) {
        let Tuning {
            tries,
            timeout,
            backoff,
            over,
            snooze_max,
            snooze_age,
            max_delay,
            delay_as_backoff,
            redeliver,
        } = from;
        self.plain("tries", tries, &to.tries);
        self.limit("timeout", timeout, &to.timeout);
        self.value("backoff", backoff, &to.backoff, |backoff| shown_backoff(backoff.as_ref()));
        self.value("override", over, &to.over, shown_override);
        self.plain("snooze-max", snooze_max, &to.snooze_max);
        self.duration("snooze-age", snooze_age, &to.snooze_age);
        self.duration("max-delay", max_delay, &to.max_delay);
        self.plain("delay-as-backoff", delay_as_backoff, &to.delay_as_backoff);
        let word = |redeliver: &crate::queue::Redeliver| match redeliver {
            crate::queue::Redeliver::AtOnce => String::from("at-once"),
            crate::queue::Redeliver::AfterDeadline => String::from("after-deadline"),
        };
        self.value("redeliver", redeliver, &to.redeliver, word);
    }
}

/// `3`, or `1..10`.
fn shown_numprocs(process: &ProcessSettings) -> String {
    process.scale.as_ref().map_or_else(|| process.numprocs.to_string(), Rule::range)
}

fn shown_keep(keep: &Option<Keep>) -> String {
    let parts = keep.iter().flat_map(|keep| {
        let age = keep.age.map(|age| format!("for {}", shown(age)));
        keep.count.map(|count| count.to_string()).into_iter().chain(age)
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { String::from("all") } else { parts.join(" ") }
}

fn shown_backoff(backoff: Option<&Backoff>) -> String {
    match backoff {
        None => String::from("none"),
        Some(Backoff::Fixed(delay)) => shown(*delay),
        Some(Backoff::Exponential(delay)) => format!("exponential {}", shown(*delay)),
        Some(Backoff::Steps(steps)) => {
            format!("[{}]", steps.iter().map(|step| shown(*step)).collect::<Vec<_>>().join(", "))
        }
    }
}

fn shown_override(over: &Override) -> String {
    let Override { tries, timeout, backoff } = over;
    let parts = [
        tries.map(|tries| format!("tries {tries}")),
        timeout.map(|timeout| format!("timeout {}", timeout.map_or_else(|| String::from("none"), shown))),
        backoff.as_ref().map(|backoff| format!("backoff {}", shown_backoff(Some(backoff)))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{{{}}}", parts.join(", "))
}
