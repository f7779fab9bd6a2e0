//! The settings of every process of the manifest as read last, under supervisord's names.

use qfleet_manifest::settings::{Autorestart, Group, Logging, ScheduleSettings, Work};

use super::Caller;
use super::value::Value;

/// Stands for what is not set.
const NONE: &str = "none";

/// One entry for each process, sorted by its own name. A group that is scaled to nothing has one under its name.
pub(super) fn all(caller: &Caller<'_>) -> Value {
    let (active, read) = (caller.dispatch.manifest(), caller.dispatch.last_read());
    let mut entries = Vec::new();
    for group in &read.groups {
        let in_use = active.group(&group.name).is_some();
        let mut names: Vec<String> =
            group.names(group.process.numprocs).into_iter().map(|name| name.process).collect();
        if names.is_empty() {
            names.push(group.name.clone());
        }
        entries.extend(names.into_iter().map(|name| (described(group, &name, in_use, &read.logging), name)));
    }
    entries.sort_by(|(_, one), (_, other)| one.cmp(other));
    Value::List(entries.into_iter().map(|(entry, _)| entry).collect())
}

fn described(group: &Group, name: &str, in_use: bool, logging: &Logging) -> Value {
    let process = &group.process;
    let (command, is_program) = match &group.work {
        Work::Program { argv } | Work::Schedule(ScheduleSettings { argv, .. }) => (argv.join(" "), true),
        Work::Queue(_) | Work::Pool(_) => (format!("qfleet worker of {}", group.name), false),
    };
    let autorestart = match process.autorestart {
        _ if !is_program => true.into(),
        Autorestart::Always => true.into(),
        Autorestart::Never => false.into(),
        Autorestart::Unexpected => "unexpected".into(),
    };
    let dir = logging.dir.as_ref().map(|dir| dir.display().to_string());
    let logs = &process.logs;
    let stdout = logs.file.clone().or(dir).filter(|_| !logs.discard_stdout);
    let stderr = logs.stderr_file.clone().filter(|_| !logs.discard_stderr && logs.parts_streams());
    let text = |text: Option<String>| Value::from(text.unwrap_or_else(|| NONE.to_owned()));
    let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    let (max_size, keep) =
        (number(logs.max_size.unwrap_or(logging.max_size)), number(logs.keep.unwrap_or(logging.keep).into()));
    let unlogged = || Value::from(0);
    Value::members([
        ("autostart", process.autostart.into()),
        ("autorestart", autorestart),
        ("directory", text(process.cwd.as_ref().map(|cwd| cwd.display().to_string()))),
        ("uid", text(process.user.clone())),
        ("command", command.into()),
        ("exitcodes", Value::List(process.exitcodes.iter().map(|code| (*code).into()).collect())),
        ("group", group.name.as_str().into()),
        ("group_prio", process.priority.into()),
        ("inuse", in_use.into()),
        ("killasgroup", true.into()),
        ("name", name.into()),
        ("process_prio", process.priority.into()),
        ("redirect_stderr", process.redirect_stderr.into()),
        ("startretries", number(process.startretries.into())),
        ("startsecs", number(process.startsecs.as_secs())),
        ("stdout_capture_maxbytes", unlogged()),
        ("stdout_events_enabled", false.into()),
        ("stdout_logfile", text(stdout)),
        ("stdout_logfile_backups", keep.clone()),
        ("stdout_logfile_maxbytes", max_size.clone()),
        ("stdout_syslog", false.into()),
        ("stopsignal", process.stop_signal.into()),
        ("stopwaitsecs", number(process.stop_wait.as_secs())),
        ("stderr_capture_maxbytes", unlogged()),
        ("stderr_events_enabled", false.into()),
        ("stderr_logfile_backups", if stderr.is_some() { keep } else { unlogged() }),
        ("stderr_logfile_maxbytes", if stderr.is_some() { max_size } else { unlogged() }),
        ("stderr_logfile", text(stderr)),
        ("stderr_syslog", false.into()),
        ("serverurl", NONE.into()),
    ])
}
