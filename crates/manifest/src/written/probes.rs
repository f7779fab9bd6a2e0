//! `ready` and `health` of a program.

use std::time::Duration;

use crate::keys;
use crate::probes::{Health, Probe, Ready, Sign, Target};
use crate::section::Section;
use crate::value::Value;
use crate::written::process::{LONGEST_STOP, check_form};
use crate::written::program::read_command;

/// The program says itself that it is ready.
const NOTIFY: &str = "notify";

/// What can be tried.
const TARGETS: [&str; 3] = ["tcp", "http", "command"];

const READY_INTERVAL: Duration = Duration::from_millis(250);
const READY_TIMEOUT: Duration = Duration::from_secs(2);
const READY_WITHIN: Duration = Duration::from_secs(60);
const HEALTH_INTERVAL: Duration = Duration::from_secs(10);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
const FAILURES: u32 = 3;
const SHORTEST: Duration = Duration::from_millis(50);

pub(crate) fn read_ready(value: &Value<'_>) -> Option<Ready> {
    if value.written() == NOTIFY {
        return Some(Ready { sign: Sign::Notify, within: READY_WITHIN });
    }
    let section = value.section(&keys::READY)?;
    let within = section.read("within", |value| value.duration(SHORTEST..=LONGEST_STOP));
    let sign = match section.read(NOTIFY, Value::flag) {
        Some(true) => {
            nothing_is_tried(&section);
            Sign::Notify
        }
        Some(false) | None => Sign::Probe(read_probe(&section, READY_INTERVAL, READY_TIMEOUT)?),
    };
    Some(Ready { sign, within: within.unwrap_or(READY_WITHIN) })
}

/// What belongs to a probe has no meaning where the program speaks itself.
fn nothing_is_tried(section: &Section<'_>) {
    for key in TARGETS.into_iter().chain(["interval", "timeout"]) {
        if let Some(value) = section.get(key) {
            let hint = "leave one of them out; how long it may take is `within`";
            value.problem_at_key(format!("`{NOTIFY}` and `{key}` exclude each other"), Some(hint));
        }
    }
}

pub(crate) fn read_health(value: &Value<'_>) -> Option<Health> {
    let section = value.section(&keys::HEALTH)?;
    let start_period = section.read("start-period", |value| value.duration(Duration::ZERO..=LONGEST_STOP));
    let failures = section.read("failures", |value| value.number(1..=1_000));
    Some(Health {
        probe: read_probe(&section, HEALTH_INTERVAL, HEALTH_TIMEOUT)?,
        failures: failures.unwrap_or(FAILURES),
        start_period: start_period.unwrap_or_default(),
    })
}

fn read_probe(section: &Section<'_>, interval: Duration, timeout: Duration) -> Option<Probe> {
    let pause = |value: &Value<'_>| value.duration(SHORTEST..=LONGEST_STOP);
    if TARGETS.iter().all(|key| section.get(key).is_none()) {
        section.missing(
            "tcp",
            "what is tried: `tcp: \"127.0.0.1:6379\"`, `http: \"http://127.0.0.1:8080/up\"` or `command: [redis-cli, ping]`",
        );
    }
    let target = section.one_of(TARGETS).and_then(|(key, value)| match key {
        "tcp" => read_address(value).map(Target::Tcp),
        "http" => read_url(value).map(Target::Http),
        _ => read_command(value).map(Target::Command),
    });
    Some(Probe {
        interval: section.read("interval", pause).unwrap_or(interval),
        timeout: section.read("timeout", pause).unwrap_or(timeout),
        target: target?,
    })
}

fn read_address(value: &Value<'_>) -> Option<String> {
    let text = value.line()?;
    check_form(value, &text);
    if !is_address(&text) {
        value.problem_with_hint("must be a host and a port", "like `127.0.0.1:6379`, or `[::1]:6379`");
        return None;
    }
    Some(text)
}

/// The port may be one of each process, which is filled in later.
fn is_address(text: &str) -> bool {
    let split = text.rsplit_once("]:").or_else(|| text.split_once(':'));
    split.is_some_and(|(host, port)| {
        !host.is_empty()
            && !port.is_empty()
            && (port.contains('{') || port.parse::<u16>().is_ok_and(|port| port > 0))
    })
}

fn read_url(value: &Value<'_>) -> Option<String> {
    let text = value.line()?;
    check_form(value, &text);
    let plain = text.strip_prefix("http://");
    let authority = plain.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let fits = authority.is_some_and(|authority| {
        !authority.is_empty()
            && !authority.contains('@')
            && (is_address(authority) || !authority.contains(':'))
    });
    if !fits || text.contains([' ', '#']) {
        value.problem_with_hint(
            "must be a URL that begins with `http://`, without a user",
            "like `http://127.0.0.1:8080/up`; ask the process itself, not what stands before it",
        );
        return None;
    }
    Some(text)
}
