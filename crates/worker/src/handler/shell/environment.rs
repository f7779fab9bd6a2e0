//! The environment of a job's process: what the worker has and may pass on, what the manifest adds, and the facts of the
//! delivery.

use std::ffi::{OsStr, OsString};

use qfleet_manifest::handler::ShellHandler;
use qfleet_os::service::NOT_FOR_CHILDREN;
use qfleet_os::tree::MARK;

/// What even a clean environment keeps.
const BASIC: &[&str] = &["PATH", "HOME", "LANG", "TZ"];

/// The part of the environment that is the same for every job.
pub(super) fn base(
    settings: &ShellHandler,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    secrets: &[String],
) -> Vec<(OsString, OsString)> {
    let any = |names: &[&str], name: &OsStr| names.iter().any(|known| name == *known);
    let passed_on = |name: &OsStr| match settings.inherit_env {
        true => !any(&NOT_FOR_CHILDREN, name) && !secrets.iter().any(|secret| name == secret.as_str()),
        // The mark keeps what the job starts with the worker.
        false => {
            any(BASIC, name) || name == MARK || settings.env_pass.iter().any(|passed| name == passed.as_str())
        }
    };
    let mut base: Vec<_> = inherited.into_iter().filter(|(name, _)| passed_on(name)).collect();
    for (name, value) in &settings.env {
        set(&mut base, name, value);
    }
    base
}

/// The environment of one delivery: nothing in the manifest can replace its facts.
pub(super) fn with_facts(
    base: &[(OsString, OsString)],
    facts: Vec<(&'static str, String)>,
) -> Vec<(OsString, OsString)> {
    // The worker's own variables of this kind would be another job's.
    let another_jobs = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(b"JOB_") || name == b"TRACEPARENT" || name == b"TRACESTATE"
    };
    let mut all: Vec<_> = base.iter().filter(|(name, _)| !another_jobs(name)).cloned().collect();
    all.extend(facts.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    all
}

fn set(variables: &mut Vec<(OsString, OsString)>, name: &str, value: &str) {
    variables.retain(|(known, _)| known != name);
    variables.push((OsString::from(name), OsString::from(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Vec<(OsString, OsString)> {
        let names =
            ["PATH", "HOME", "LANG", "TZ", "APP_ENV", "DB_PASSWORD", "NOTIFY_SOCKET", "LISTEN_FDS", "JOB_ID"];
        names.map(|name| (OsString::from(name), OsString::from("worker"))).to_vec()
    }

    fn names(variables: &[(OsString, OsString)]) -> Vec<&str> {
        variables.iter().filter_map(|(name, _)| name.to_str()).collect()
    }

    #[test]
    fn secrets_and_the_services_own_are_not_passed_on() {
        let base = base(&ShellHandler::default(), worker(), &[String::from("DB_PASSWORD")]);
        assert_eq!(names(&base), ["PATH", "HOME", "LANG", "TZ", "APP_ENV", "JOB_ID"]);
    }

    #[test]
    fn a_clean_environment_has_the_basics_and_what_is_named() {
        let settings = ShellHandler {
            inherit_env: false,
            env_pass: vec![String::from("APP_ENV"), String::from("ABSENT")],
            ..ShellHandler::default()
        };
        assert_eq!(names(&base(&settings, worker(), &[])), ["PATH", "HOME", "LANG", "TZ", "APP_ENV"]);
    }

    #[test]
    fn the_manifest_adds_and_replaces_but_not_the_facts() {
        let env = [("APP_ENV", "manifest"), ("MORE", "1"), ("JOB_QUEUE", "x")];
        let settings = ShellHandler {
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..ShellHandler::default()
        };
        let all = with_facts(&base(&settings, worker(), &[]), vec![("JOB_QUEUE", String::from("high"))]);
        let value = |wanted: &str| {
            let found: Vec<_> = all.iter().filter(|(name, _)| name == wanted).collect();
            assert!(found.len() <= 1, "{wanted} twice");
            found.first().and_then(|(_, value)| value.to_str())
        };
        assert_eq!(value("APP_ENV"), Some("manifest"));
        assert_eq!(value("MORE"), Some("1"));
        assert_eq!(value("JOB_QUEUE"), Some("high"));
        assert_eq!(value("JOB_ID"), None, "another job's");
    }
}
