//! Logs that are followed, and programs in the foreground.

use std::io::Write;
use std::time::Duration;

use nix::sys::signal::Signal;
use qfleet_testkit::{eventually, free_port};

use crate::client::{Ctl, PASSWORD};
use crate::support::{Fleet, SOON};

const PROGRAMS: &str = "programs:\n  echo: {command: \"sh -c 'echo ready; while read line; do echo got $line; done'\", startsecs: 0}\n";

fn said(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn open_files(fleet: &Fleet) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", fleet.pid())).unwrap().count()
}

/// The fewest for a while: whoever has just been answered may still be there.
fn files_at_rest(fleet: &Fleet) -> usize {
    let looks = (0..20).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        open_files(fleet)
    });
    looks.min().unwrap()
}

#[test]
fn a_followed_log_goes_on_and_its_follower_is_let_go() {
    let fleet = Fleet::start_and_wait(PROGRAMS);
    let ctl = Ctl::unix(&fleet);
    eventually(SOON, "the first line", || ctl.run(&["tail", "echo"]).0.contains("ready").then_some(()));
    let before = files_at_rest(&fleet);
    let (mut follower, path) = ctl.start("follower", &["tail", "-f", "echo"]);
    eventually(SOON, "what there was", || said(&path).contains("ready\n").then_some(()));
    assert!(said(&path).starts_with("==> Press Ctrl-C to exit <=="), "{}", said(&path));
    assert!(open_files(&fleet) > before);

    let (mut foreground, fg) = ctl.start("fg", &["fg", "echo"]);
    let mut input = foreground.child().stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    eventually(SOON, "the answer in the foreground", || said(&fg).contains("got one").then_some(()));
    eventually(SOON, "the answer for the follower", || said(&path).contains("got one\n").then_some(()));
    foreground.signal(Signal::SIGTERM);
    foreground.wait(SOON);
    assert!(!said(&path).contains("\r"), "no framing shines through: {}", said(&path));

    follower.signal(Signal::SIGTERM);
    follower.wait(SOON);
    // The program prints nothing that could not be delivered: whoever has left is noticed all the same.
    eventually(SOON, "the connections to be closed", || (open_files(&fleet) <= before).then_some(()));
}

#[test]
fn followers_see_errors_too_and_end_with_the_daemon() {
    let port = free_port();
    let mut fleet = Fleet::start_and_wait(&format!(
        "programs:\n  grumbler: {{command: \"sh -c 'echo bad >&2; exec sleep 1000'\", startsecs: 0}}\n\
        \ncontrol:\n  socket: '{{dir}}/q.sock'\n  listen: 127.0.0.1:{port}\n  auth: {{username: admin, password: '{PASSWORD}'}}\n"
    ));
    let ctl = Ctl::tcp(port);
    let (mut errors, of_errors) = ctl.start("errors", &["tail", "-f", "grumbler", "stderr"]);
    let (mut own, of_own) = ctl.start("own", &["maintail", "-f"]);
    eventually(SOON, "the error", || said(&of_errors).contains("bad\n").then_some(()));
    eventually(SOON, "the daemon's lines", || said(&of_own).contains("running").then_some(()));
    fleet.ok(&["signal", "CONT", "grumbler"]);
    eventually(SOON, "a new line", || said(&of_own).contains("signal 18 grumbler").then_some(()));
    assert_eq!(fleet.stop(), 0);
    errors.wait(SOON);
    own.wait(SOON);
    let nobody = Ctl::at(&format!("http://127.0.0.1:{port}"), None);
    nobody.mentions(&["status"], "refused connection", 4);
}
