//! How long whoever started the daemon waits before it kills: as the environment says, and under systemd as the unit says.
//! The daemon looks when it begins, on a thread of its own, and when a reload makes the end longer, and says what does not
//! fit; without systemd, or when that does not answer, nothing is said and nothing is lost.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qfleet_manifest::World;
use qfleet_manifest::problem::Problem;
use qfleet_manifest::settings::Manifest;
use qfleet_manifest::stop_limit::{StopLimit, too_short};
use qfleet_manifest::stopping::longest_stop;
use qfleet_manifest::units;

use crate::world::Machine;

/// What a container or a pod grants, for those who cannot be asked.
const VARIABLE: &str = "QFLEET_STOP_LIMIT";

/// What is asked of systemd, bounded in time by `timeout`: the daemon's loop reaps every child, so nobody else can wait for
/// one, or end it by its number.
const ASK: [&str; 6] = [
    "--signal=KILL",
    "5",
    "systemctl",
    "show",
    "--no-pager",
    "--property=MainPID,NotifyAccess,TimeoutStopUSec,KillMode",
];

/// What it needs of our variables to find systemd.
const FOR_SYSTEMCTL: [&str; 3] = ["PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// Longer than any answer to that.
const LONGEST_ANSWER: u64 = 4096;

/// The limit of `check --stop-limit`.
pub(crate) fn asked(granted: Duration) -> StopLimit {
    StopLimit { granted, by: String::from("`--stop-limit`"), gives_more: false }
}

/// The limit that the environment names, if it does; or why that is none.
pub(crate) fn of_environment() -> Option<Result<StopLimit, String>> {
    let text = Machine.env(VARIABLE).filter(|text| !text.is_empty())?;
    let limit = |granted| StopLimit { granted, by: format!("`{VARIABLE}`"), gives_more: false };
    Some(
        units::duration(&text)
            .map(limit)
            .map_err(|form| format!("`{VARIABLE}` is `{text}`; it must be {form}")),
    )
}

/// Says once in the log what does not fit. `file` is the manifest's name.
pub(crate) fn warn_once(manifest: Arc<Manifest>, file: String) {
    match of_environment() {
        Some(Ok(limit)) => say(&manifest, &file, &limit),
        Some(Err(why)) => tracing::warn!("{why}"),
        None => {}
    }
    if !may_be_a_service() {
        return;
    }
    let look = move || {
        let Some(unit) = own_unit() else { return };
        if let Some(kill_mode) = unit.kill_mode_trouble() {
            tracing::warn!("{kill_mode}");
        }
        if let Some(limit) = unit.limit() {
            say(&manifest, &file, &limit);
        }
    };
    // Without a thread there is no warning, and nothing else is lost.
    let _warning = thread::Builder::new().name("stop-limit".to_owned()).spawn(look);
}

/// What to warn of when a manifest that is to come into force has made the end longer. May ask systemd, which has a few
/// seconds to answer.
pub(crate) fn outgrown(in_force: &Manifest, wanted: &Manifest, file: &str) -> Vec<Problem> {
    if longest_stop(wanted) <= longest_stop(in_force) {
        return Vec::new();
    }
    let of_unit = may_be_a_service().then(own_unit).flatten().and_then(|unit| unit.limit());
    let limits = of_environment().and_then(Result::ok).into_iter().chain(of_unit);
    // While the daemon asks for more time and is heard, nothing is lost.
    limits.filter(|limit| !limit.gives_more).filter_map(|limit| too_short(wanted, file, &limit)).collect()
}

/// The variable is set for every process of a service, also those that have only inherited it; the unit tells whether we
/// are its own.
fn may_be_a_service() -> bool {
    Machine.env("INVOCATION_ID").is_some()
}

fn say(manifest: &Manifest, file: &str, limit: &StopLimit) {
    match too_short(manifest, file, limit) {
        Some(problem) if limit.gives_more => tracing::info!("{problem}"),
        Some(problem) => tracing::warn!("{problem}"),
        None => {}
    }
}

/// The unit whose main process we are, if systemd says so.
fn own_unit() -> Option<Unit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (name, of_user) = unit_name(&groups)?;
    let variables = FOR_SYSTEMCTL.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let unit = Unit::parse(name, &ask(name, of_user, &variables.collect::<Vec<_>>())?);
    (unit.main_pid == Some(std::process::id())).then_some(unit)
}

/// The name of the unit in the text of `/proc/self/cgroup`, and whether it belongs to a user's own service manager.
fn unit_name(groups: &str) -> Option<(&str, bool)> {
    let own = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let path = groups.lines().find(own)?.rsplit(':').next()?;
    // The daemon may be in a group of its own below that of the unit.
    let name = path.split('/').rfind(|part| part.ends_with(".service"))?;
    let of_user = path.split('/').any(|part| part.starts_with("user@")) && !name.starts_with("user@");
    Some((name, of_user))
}

fn ask(name: &str, of_user: bool, variables: &[(&str, OsString)]) -> Option<String> {
    let mut command = Command::new("timeout");
    command.args(ASK).args(of_user.then_some("--user")).args(["--", name]).env_clear();
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut answer = String::new();
    child.stdout?.take(LONGEST_ANSWER).read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What systemd says about a unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    name: String,
    main_pid: Option<u32>,
    /// It hears the daemon ask for more time.
    hears: bool,
    /// `TimeoutStopSec`; `None` for one without end.
    stop: Option<Duration>,
    kill_mode: String,
}

impl Unit {
    fn parse(name: &str, answer: &str) -> Self {
        let value = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Self {
            name: name.to_owned(),
            main_pid: value("MainPID").and_then(|pid| pid.parse().ok()),
            hears: value("NotifyAccess").is_some_and(|access| access != "none"),
            stop: value("TimeoutStopUSec").and_then(timespan),
            kill_mode: value("KillMode").unwrap_or_default().to_owned(),
        }
    }

    fn limit(&self) -> Option<StopLimit> {
        let by = format!("`TimeoutStopSec` of `{}`", self.name);
        Some(StopLimit { granted: self.stop?, by, gives_more: self.hears })
    }

    /// What a mode other than `mixed` spoils.
    fn kill_mode_trouble(&self) -> Option<String> {
        let spoils = match self.kill_mode.as_str() {
            "control-group" => {
                "at a stop every process gets TERM at once, past `stop-signal`, `priority` and `depends-on`"
            }
            "process" => "what is left when the daemon has ended or is killed goes on running",
            "none" => "a stop ends nothing",
            // Right, or not known.
            _ => return None,
        };
        Some(format!("`{}` has `KillMode={}`: {spoils}; set `KillMode=mixed`", self.name, self.kill_mode))
    }
}

/// `1min 30s` as `systemctl` prints it; `None` is `infinity`, or nothing that we know.
fn timespan(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for word in text.split_whitespace() {
        let unit = word.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let micros = match &word[unit..] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "min" => 60e6,
            "h" => 3_600e6,
            "d" => 86_400e6,
            "w" => 604_800e6,
            _ => return None,
        };
        let count: f64 = word[..unit].parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(count * micros / 1e6).ok()?)?;
    }
    Some(total).filter(|total| !total.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "MainPID=812\nNotifyAccess=main\nTimeoutStopUSec=1min 30s\nKillMode=mixed\n";

    #[test]
    fn the_unit_is_the_innermost_service() {
        let cases = [
            ("0::/system.slice/qfleet.service\n", Some(("qfleet.service", false))),
            ("0::/system.slice/qfleet.service/daemon\n", Some(("qfleet.service", false))),
            ("12:cpu:/\n1:name=systemd:/system.slice/q.service\n0::/\n", Some(("q.service", false))),
            (
                "0::/user.slice/user-7.slice/user@7.service/app.slice/app-q.slice/q@1.service\n",
                Some(("q@1.service", true)),
            ),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ];
        for (groups, name) in cases {
            assert_eq!(unit_name(groups), name, "{groups}");
        }
    }

    #[test]
    fn what_systemctl_prints_is_understood() {
        let spans = [
            ("1min 30s", Some(90_000)),
            ("10s", Some(10_000)),
            ("1.500s", Some(1_500)),
            ("2h 500ms", Some(7_200_500)),
            ("infinity", None),
            ("0", None),
            ("", None),
            ("soon", None),
        ];
        for (text, millis) in spans {
            assert_eq!(timespan(text), millis.map(Duration::from_millis), "{text}");
        }
        let unit = Unit::parse("q.service", ANSWER);
        assert_eq!((unit.main_pid, unit.hears), (Some(812), true));
        let limit = unit.limit().unwrap();
        assert_eq!(
            (limit.granted, limit.by.as_str()),
            (Duration::from_secs(90), "`TimeoutStopSec` of `q.service`")
        );
        assert!(limit.gives_more);
        assert_eq!(unit.kill_mode_trouble(), None);
        // An older one that does not know the keys, or a message in their place.
        assert_eq!(Unit::parse("", "no such unit"), Unit::default());
        assert_eq!(Unit::default().limit(), None);
    }

    #[test]
    fn systemctl_is_asked_with_a_limit_and_may_be_absent() {
        let place = tempfile::tempdir().unwrap();
        let path = OsString::from(format!("{}:/usr/bin:/bin", place.path().display()));
        let program = place.path().join("systemctl");
        // In place of the real one, which has nothing to ask on a machine without systemd.
        fs::write(&program, "#!/bin/sh\necho \"$@\"\nenv\necho MainPID=812\n").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let answer = ask("q.service", true, &[("PATH", path)]).unwrap();
        assert!(answer.contains("KillMode --user -- q.service\n"), "{answer}");
        assert!(!answer.contains("CARGO"), "it gets what it needs and no more: {answer}");
        assert_eq!(Unit::parse("q.service", &answer).main_pid, Some(812));

        let nowhere = [("PATH", OsString::from(place.path().join("none")))];
        assert_eq!(ask("q.service", false, &nowhere), None, "without `timeout`");
    }

    #[test]
    fn a_kill_mode_that_spoils_the_order_is_told() {
        for mode in ["control-group", "process", "none"] {
            let unit = Unit::parse("q.service", &ANSWER.replace("mixed", mode));
            let told = unit.kill_mode_trouble().unwrap();
            assert!(told.starts_with(&format!("`q.service` has `KillMode={mode}`: ")), "{told}");
        }
    }
}
