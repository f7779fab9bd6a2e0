//! How processes are run: the keys that queues, pools and programs share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::keys;
use crate::logs::Logs;
use crate::per_process;
use crate::section::Section;
use crate::settings::EnvFile;
use crate::value::Value;
use crate::written::logs;
use crate::written::scale::{self, Numprocs};

/// No group has more processes than this.
pub(crate) const MOST_PROCESSES: i64 = 1_000;

/// A day is the longest that ending may take.
pub(crate) const LONGEST_STOP: Duration = Duration::from_secs(86_400);

/// How long ending may take, unless the file says so.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(30);

/// What is said of processes; the rest comes from the layer below.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessWritten {
    pub(crate) numprocs: Option<Numprocs>,
    pub(crate) priority: Option<i32>,
    pub(crate) depends_on: Option<Vec<String>>,
    pub(crate) autostart: Option<bool>,
    pub(crate) startretries: Option<u32>,
    pub(crate) retry_fatal: Option<Option<Duration>>,
    pub(crate) essential: Option<bool>,
    pub(crate) stop_wait: Option<Duration>,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) limits: BTreeMap<String, (u64, u64)>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) env_files: Option<Vec<EnvFile>>,
    pub(crate) inherit_environment: Option<bool>,
    pub(crate) logs: Option<Logs>,
}

impl ProcessWritten {
    /// This layer over another.
    #[must_use]
    pub(crate) fn over(self, below: &Self) -> Self {
        let mut limits = below.limits.clone();
        limits.extend(self.limits);
        let mut environment = below.environment.clone();
        environment.extend(self.environment);
        // A group belongs to the user it is written beside.
        let group = if self.user.is_some() { self.group } else { self.group.or_else(|| below.group.clone()) };
        Self {
            numprocs: self.numprocs.or(below.numprocs),
            priority: self.priority.or(below.priority),
            depends_on: self.depends_on.or_else(|| below.depends_on.clone()),
            autostart: self.autostart.or(below.autostart),
            startretries: self.startretries.or(below.startretries),
            retry_fatal: self.retry_fatal.or(below.retry_fatal),
            essential: self.essential.or(below.essential),
            stop_wait: self.stop_wait.or(below.stop_wait),
            user: self.user.or_else(|| below.user.clone()),
            group,
            cwd: self.cwd.or_else(|| below.cwd.clone()),
            umask: self.umask.or(below.umask),
            nice: self.nice.or(below.nice),
            no_new_privileges: self.no_new_privileges.or(below.no_new_privileges),
            limits,
            environment,
            env_files: self.env_files.or_else(|| below.env_files.clone()),
            inherit_environment: self.inherit_environment.or(below.inherit_environment),
            logs: self.logs.or_else(|| below.logs.clone()),
        }
    }
}

pub(crate) fn read(section: &Section<'_>) -> ProcessWritten {
    ProcessWritten {
        numprocs: section.read("numprocs", |value| scale::read_numprocs(value, section.knows("scale"))),
        autostart: section.read("autostart", Value::flag),
        essential: section.read("essential", Value::flag),
        startretries: section.read("startretries", |value| value.number(0..=1_000_000)),
        retry_fatal: section.read("retry-fatal", |value| switchable(value, read_pause)),
        ..read_run(section)
    }
}

/// What one run has, too: neither how many there are nor when they are started.
pub(crate) fn read_run(section: &Section<'_>) -> ProcessWritten {
    let (user, group) = read_user(section);
    ProcessWritten {
        priority: section.read("priority", |value| value.number(-1_000_000..=1_000_000)),
        depends_on: section.read("depends-on", read_depends_on),
        stop_wait: section.read("stop-wait", |value| value.duration(Duration::ZERO..=LONGEST_STOP)),
        user,
        group,
        cwd: section.read("cwd", read_cwd),
        umask: section.read("umask", read_umask),
        nice: section.read("nice", |value| value.number(-20..=19)),
        no_new_privileges: section.read("no-new-privileges", Value::flag),
        limits: section.read("limits", read_limits).unwrap_or_default(),
        environment: section.read("environment", read_environment).unwrap_or_default(),
        env_files: section.read("env-file", read_env_files),
        inherit_environment: section.read("env", read_inherit),
        logs: section.read("logs", logs::read),
        ..ProcessWritten::default()
    }
}

/// `0` and `off` switch a setting off.
pub(crate) fn switchable<T>(
    value: &Value<'_>,
    read: impl FnOnce(&Value<'_>) -> Option<T>,
) -> Option<Option<T>> {
    if ["0", "off"].contains(&value.written()) { Some(None) } else { read(value).map(Some) }
}

fn read_pause(value: &Value<'_>) -> Option<Duration> {
    value.duration(Duration::from_secs(1)..=LONGEST_STOP)
}

fn read_cwd(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.absolute_path()?;
    check_form(value, &path.to_string_lossy());
    Some(path)
}

fn read_environment(value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    let variables = value.variables()?;
    let entries = if value.is_map() { value.entries().unwrap_or_default() } else { Vec::new() };
    entries.iter().for_each(|(_, value)| check_form(value, value.written()));
    Some(variables)
}

/// Notes a `{process_num:…}` that says nothing.
pub(crate) fn check_form(value: &Value<'_>, text: &str) {
    if let Some(bad) = per_process::bad_form(text) {
        value.problem_with_hint(
            format!("`{{{bad}}}` says nothing about the number of digits"),
            "write `{process_num:02}` for two digits with zeros in front, or `{process_num}`",
        );
    }
}

/// One path or a list; a `?` in front of one that need not be there.
fn read_env_files(value: &Value<'_>) -> Option<Vec<EnvFile>> {
    let file = |item: &Value<'_>| {
        let text = item.line()?;
        check_form(item, &text);
        let path = text.strip_prefix('?');
        Some(EnvFile { optional: path.is_some(), path: PathBuf::from(path.unwrap_or(&text)) })
    };
    Some(value.list_or_one()?.iter().filter_map(file).collect())
}

/// Names of groups, each once.
fn read_depends_on(value: &Value<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for item in value.list_or_one()? {
        let Some(name) = item.line() else { continue };
        if names.contains(&name) {
            item.problem(format!("`{name}` is here twice"));
        } else {
            names.push(name);
        }
    }
    Some(names)
}

fn read_user(section: &Section<'_>) -> (Option<String>, Option<String>) {
    let user = section.read("user", Value::line);
    let group = section.read("group", Value::line);
    match (&user, section.get("user"), section.get("group")) {
        (Some(user), Some(value), _) => {
            let world = value.context.world;
            if let Err(why) = world.user_exists(user, group.as_deref()) {
                value.problem(why);
            } else if !world.is_root() && (group.is_some() || !world.is_current_user(user)) {
                value.problem_with_hint(
                    "only root can run processes as another user or group",
                    "run the daemon as root, or remove it",
                );
            }
        }
        (None, None, Some(value)) => value.problem_at_key("`group` needs `user` beside it", None),
        _ => {}
    }
    (user, group)
}

pub(crate) fn read_umask(value: &Value<'_>) -> Option<u32> {
    let mode = value.mode()?;
    if mode > 0o777 {
        value.problem("a umask has three octal digits, like \"022\"");
        return None;
    }
    Some(mode)
}

/// `env: clean` or `env: inherit`.
pub(crate) fn read_inherit(value: &Value<'_>) -> Option<bool> {
    if value.is_map() {
        value.problem_with_hint(
            "must be `clean` or `inherit`",
            "variables are set with `environment: {NAME: value}`",
        );
        return None;
    }
    value.word(&[("clean", false), ("inherit", true)], &[])
}

/// Soft and hard limits by the system's names; `memory` is the address space.
pub(crate) fn read_limits(value: &Value<'_>) -> Option<BTreeMap<String, (u64, u64)>> {
    let section = value.section(&keys::LIMITS)?;
    let mut out = BTreeMap::new();
    for name in keys::LIMITS.names() {
        let Some(value) = section.get(name) else { continue };
        let Some(pair) = read_limit(name, value) else { continue };
        let name = if name == "memory" { "as" } else { name };
        if out.insert(name.to_owned(), pair).is_some() {
            value.problem_at_key("`memory` and `as` are the same limit; give one", None);
        }
    }
    Some(out)
}

fn read_limit(name: &str, value: &Value<'_>) -> Option<(u64, u64)> {
    let one = |value: &Value<'_>| -> Option<u64> {
        if ["unlimited", "infinity"].contains(&value.written()) {
            return Some(u64::MAX);
        }
        match name {
            "nofile" | "nproc" => value.number::<u64>(0..=i64::MAX),
            "cpu" => value
                .duration(Duration::from_secs(1)..=Duration::from_secs(366 * 86_400))
                .map(|d| d.as_secs()),
            _ => value.size(0..=i64::MAX.unsigned_abs()),
        }
    };
    if !value.is_list() {
        return one(value).map(|limit| (limit, limit));
    }
    let items = value.list()?;
    let [soft, hard] = items.as_slice() else {
        value.problem("must be one limit, or `[soft, hard]`");
        return None;
    };
    let (soft, hard) = (one(soft)?, one(hard)?);
    if soft > hard {
        value.problem("the soft limit is above the hard one");
        return None;
    }
    Some((soft, hard))
}
