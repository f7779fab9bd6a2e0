//! What whoever started the daemon grants is told apart from what the manifest wants, before it matters.

use std::process::{Command, Output};

use qfleet_testkit::{Guarded, Scratch, eventually};

use crate::support::{QFLEET, SOON, text};

const MANIFEST: &str = "programs: {slow: {command: sleep 1000, startsecs: 0, stop-wait: 40s}}\n";

fn place() -> Scratch {
    let place = Scratch::new();
    let socket = place.join("q.sock");
    place.write("fleet.yaml", format!("{MANIFEST}control: {{socket: {}}}\n", socket.display()));
    place
}

fn qfleet(place: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new(QFLEET);
    command.args(args).arg("-c").arg(place.join("fleet.yaml")).current_dir(place.path());
    for variable in ["QFLEET_SOCKET", "QFLEET_STOP_LIMIT", "NOTIFY_SOCKET", "INVOCATION_ID"] {
        command.env_remove(variable);
    }
    command
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn check_says_when_the_end_may_take_longer_than_is_granted() {
    let place = place();
    let check = |args: &[&str]| {
        let output = qfleet(&place, &[&["check"], args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    };
    assert!(!check(&[]).contains("warning"));
    assert!(!check(&["--stop-limit", "42s"]).contains("warning"));
    let told = check(&["--stop-limit", "30s"]);
    assert!(told.contains("the end may take 42s, but `--stop-limit` grants 30s"), "{told}");
    assert!(told.contains("`shutdown-timeout: 28s`"), "{told}");
    let told: serde_json::Value = serde_json::from_str(&check(&["--stop-limit", "30s", "--json"])).unwrap();
    assert_eq!(told["problems"][0]["severity"], "warning");
}

#[test]
fn check_takes_the_limit_from_the_environment_unless_it_is_told_one() {
    let place = place();
    let check = |limit: &str, args: &[&str]| {
        let mut command = qfleet(&place, &[&["check"], args].concat());
        said(&command.env("QFLEET_STOP_LIMIT", limit).output().unwrap())
    };
    assert!(check("10s", &[]).contains("`QFLEET_STOP_LIMIT` grants 10s"));
    assert!(!check("10s", &["--stop-limit", "1m"]).contains("warning"));
    assert!(!check("", &[]).contains("warning"));
    assert!(check("soon", &[]).contains("`QFLEET_STOP_LIMIT` is `soon`; it must be a duration"));
}

#[test]
fn the_daemon_says_it_when_it_begins() {
    let place = place();
    let log = std::fs::File::create(place.join("log")).unwrap();
    let mut command = qfleet(&place, &["run"]);
    // As of a service whose manager does not answer: nothing comes of it.
    command.env("QFLEET_STOP_LIMIT", "10s").env("INVOCATION_ID", "0123456789abcdef0123456789abcdef");
    command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut daemon = Guarded::spawn(&mut command);
    eventually(SOON, "the warning", || {
        place.read("log").contains("`QFLEET_STOP_LIMIT` grants 10s").then_some(())
    });
    eventually(SOON, "the control socket", || {
        qfleet(&place, &["status"]).output().unwrap().status.success().then_some(())
    });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0), "{}", place.read("log"));
}

#[test]
fn the_daemon_says_it_when_a_reload_makes_the_end_longer() {
    let place = place();
    let longer = |seconds: u32| {
        let manifest = place.read("fleet.yaml");
        let from = manifest.find("stop-wait: ").unwrap() + "stop-wait: ".len();
        let to = from + manifest[from..].find('}').unwrap();
        place.write("fleet.yaml", format!("{}{seconds}s{}", &manifest[..from], &manifest[to..]));
    };
    let log = std::fs::File::create(place.join("log")).unwrap();
    let mut command = qfleet(&place, &["run"]);
    command.env("QFLEET_STOP_LIMIT", "60s");
    command.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut daemon = Guarded::spawn(&mut command);
    eventually(SOON, "the control socket", || {
        qfleet(&place, &["status"]).output().unwrap().status.success().then_some(())
    });
    let reload = |args: &[&str]| {
        let output = qfleet(&place, &[&["reload"], args].concat()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    let warning = "the end may take 1m32s, but `QFLEET_STOP_LIMIT` grants 1m";
    longer(50);
    assert!(!reload(&[]).contains("warning"));
    longer(90);
    let told = reload(&["--dry-run"]);
    assert!(told.contains(&format!("daemon: warning: {warning}")), "{told}");
    assert!(!place.read("log").contains(warning), "nothing is in force yet");
    let told = reload(&[]);
    assert!(told.contains(&format!("daemon: warning: {warning}")), "{told}");
    assert!(told.contains("stay below it with `shutdown-timeout: 58s`"), "{told}");
    assert!(place.read("log").contains(warning), "{}", place.read("log"));
    assert!(!reload(&[]).contains("warning"), "it was said");
    longer(80);
    assert!(!reload(&[]).contains("warning"), "it has become better");
    longer(90);
    assert!(reload(&[]).contains(warning));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0), "{}", place.read("log"));
}
