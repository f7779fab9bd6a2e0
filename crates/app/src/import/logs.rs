//! Where output goes: a file a program, or one directory for all.

use super::expand::{OPEN_NUMBER, is_open, number_can_stay_open};
use super::notes::Notes;
use super::section::Reading;
use super::yaml::Value;

/// Sizes and numbers of files that the manifest has when nothing is said.
const USUAL_SIZE: u64 = 50 << 20;
const USUAL_COPIES: i64 = 10;
/// Rotated this late is never.
const ENDLESS: u64 = 1 << 40;

/// Where one channel of a program goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goes {
    /// As the daemon has it for all.
    Usual,
    /// To the daemon's own output alone.
    Output,
    Nowhere,
    File(String),
}

/// `logs` of a program; `None` when it says what holds anyway.
pub(super) fn of_program(reading: &Reading<'_>, alone: bool, notes: &mut Notes) -> Option<Value> {
    let redirected = reading.section.get("redirect_stderr").is_some()
        && reading.flag("redirect_stderr", &mut Notes::default()) == Some(true);
    let stdout = goes(reading, "stdout", alone, notes);
    let stderr = if redirected { Goes::Usual } else { goes(reading, "stderr", alone, notes) };
    remark_on_the_rest(reading, notes);
    let mut inner = Vec::new();
    let text = |file: &String| Value::Text(file.clone());
    match (&stdout, &stderr) {
        (Goes::File(file), Goes::File(other)) if file != other => {
            inner.extend([("file", text(file)), ("stderr-file", text(other))]);
        }
        (Goes::File(file), _) => {
            inner.push(("file", text(file)));
            if stderr == Goes::Usual && !redirected && reading.section.get("stderr_logfile").is_some() {
                reading.remark("stderr_logfile", "standard error goes to the same file", notes);
            }
        }
        (_, Goes::File(file)) => inner.push(("stderr-file", text(file))),
        _ => {}
    }
    match (stdout == Goes::Nowhere, stderr == Goes::Nowhere) {
        (true, true) => inner.push(("discard", Value::Plain(String::from("both")))),
        (true, false) => inner.push(("discard", Value::Plain(String::from("stdout")))),
        (false, true) => inner.push(("discard", Value::Plain(String::from("stderr")))),
        (false, false) => {}
    }
    let files = [("stdout", &stdout), ("stderr", &stderr)];
    let with_file = files.into_iter().filter(|(_, goes)| matches!(goes, Goes::File(_)));
    inner.extend(rotation(reading, &with_file.map(|(channel, _)| channel).collect::<Vec<_>>(), notes));
    (!inner.is_empty()).then_some(Value::Inline(inner))
}

fn goes(reading: &Reading<'_>, channel: &str, alone: bool, notes: &mut Notes) -> Goes {
    let key = format!("{channel}_logfile");
    let Some(setting) = reading.section.get(&key) else { return Goes::Usual };
    let mut names = reading.names.clone();
    if !alone && number_can_stay_open(&setting.value) {
        names.values.insert("process_num", OPEN_NUMBER.to_owned());
    }
    let Some(file) = Reading::new(reading.section, names).expanded(setting, notes) else {
        return Goes::Usual;
    };
    match file.to_ascii_lowercase().as_str() {
        "auto" | "" => return Goes::Usual,
        "none" | "off" => return Goes::Nowhere,
        "syslog" => {
            reading.remark(&key, "output goes to the daemon's own, which the service manager can log", notes);
            return Goes::Output;
        }
        _ if file.starts_with("/dev/null") => return Goes::Nowhere,
        _ if file.starts_with("/dev/") || file.starts_with("/proc/") => return Goes::Output,
        _ => {}
    }
    if file.starts_with('/') || is_open(&file) {
        return Goes::File(file);
    }
    let absolute = format!("{}/{}", setting.here.trim_end_matches('/'), file.trim_start_matches("./"));
    reading.remark(&key, &format!("`{file}` is not absolute; `{absolute}` is written"), notes);
    Goes::File(absolute)
}

/// The most generous of both channels, where files are written.
fn rotation(reading: &Reading<'_>, channels: &[&str], notes: &mut Notes) -> Vec<(&'static str, Value)> {
    let (mut sizes, mut copies) = (Vec::new(), Vec::new());
    for channel in ["stdout", "stderr"] {
        let size = format!("{channel}_logfile_maxbytes");
        let count = format!("{channel}_logfile_backups");
        // What is wrong is said, also where it has no effect.
        let size = reading.section.get(&size).and_then(|_| reading.size(&size, notes));
        let count = reading.section.get(&count).and_then(|_| reading.number(&count, 10_000, notes));
        if channels.contains(&channel) {
            sizes.extend(size);
            copies.extend(count.and_then(|count| count.parse::<i64>().ok()));
        }
    }
    let size = if sizes.contains(&0) { Some(ENDLESS) } else { sizes.into_iter().max() };
    let size = size.map(|size| size.clamp(4096, ENDLESS)).filter(|size| *size != USUAL_SIZE);
    let copies = copies.into_iter().max().filter(|copies| *copies != USUAL_COPIES);
    let size = size.map(|size| ("max-size", Value::Plain(qfleet_manifest::units::shown_size(size))));
    size.into_iter().chain(copies.map(|copies| ("keep", Value::Plain(copies.to_string())))).collect()
}

fn remark_on_the_rest(reading: &Reading<'_>, notes: &mut Notes) {
    for channel in ["stdout", "stderr"] {
        for (end, usual) in [("capture_maxbytes", "0"), ("events_enabled", "false"), ("syslog", "false")] {
            let key = format!("{channel}_{end}");
            let said = reading.text(&key, notes);
            if said.is_some_and(|said| {
                said != usual && !["0", "off", "no", "false"].contains(&said.to_lowercase().as_str())
            }) {
                reading.remark(&key, advice(end), notes);
            }
        }
    }
}

fn advice(end: &str) -> &'static str {
    match end {
        "capture_maxbytes" => "capture mode has no counterpart; everything is a line of the log",
        "events_enabled" => "there are no events; follow the log, or `qfleet tail -f`",
        _ => "output goes to the daemon's own, which the service manager can log",
    }
}
