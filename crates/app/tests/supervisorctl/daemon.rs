//! Starting and stopping as seen by those who wait, and a daemon that begins anew.

use qfleet_testkit::{Answer, Receiver, RedisServer, eventually, free_port};

use crate::client::{Ctl, PASSWORD, wait_said};
use crate::support::{Fleet, SOON, payload, push};

#[test]
fn whoever_waits_holds_up_nobody_else() {
    let mut fleet = Fleet::start_and_wait(
        "programs:
  slow: {command: \"sh -c 'trap : TERM; echo deaf; while :; do sleep 0.1; done'\", stop-wait: 600s, startsecs: 0}
  quick: {command: sleep 1000, startsecs: 0}
",
    );
    let ctl = Ctl::unix(&fleet);
    wait_said(&fleet, "slow", "deaf");
    let (mut waiting, _) = ctl.start("stop", &["stop", "slow"]);
    fleet.wait_state("slow", "STOPPING");
    ctl.says(&["restart", "quick"], &["quick: stopped", "quick: started"], 0);
    let line = ctl.mentions(&["status", "slow"], "slow                             STOPPING", 0);
    assert_eq!(line.trim_end(), "slow                             STOPPING");
    assert_eq!(waiting.ended(), None);
    // Whoever goes away does not take the command along.
    waiting.signal(nix::sys::signal::Signal::SIGTERM);
    waiting.wait(SOON);
    assert_eq!(fleet.state("slow"), "STOPPING");
    fleet.ok(&["signal", "KILL", "slow"]);
    fleet.wait_state("slow", "STOPPED");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_stop_also_ends_the_pause_before_what_was_given_up_is_tried_again() {
    let mut fleet = Fleet::start(
        "programs:
  one: {command: 'false', startretries: 0}
  pair: {command: 'false', startretries: 0, numprocs: 2}
  other: {command: 'false', startretries: 0}
",
    );
    let ctl = Ctl::unix(&fleet);
    let tried = |name: &str| ctl.mentions(&["status", name], "FATAL", 3).contains("tried once more in");
    for name in ["one", "pair:pair_00", "pair:pair_01", "other"] {
        fleet.wait_state(name, "FATAL");
        assert!(tried(name));
    }
    ctl.says(&["stop", "one"], &["one: ERROR (not running)"], 0);
    assert!(!tried("one"));
    ctl.says(&["stop", "pair:*"], &[], 0);
    assert!(!tried("pair:pair_00") && !tried("pair:pair_01") && tried("other"));
    ctl.says(&["stop", "all"], &[], 0);
    assert!(!tried("other"));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_daemon_begins_anew_under_the_same_number() {
    let (one, two) = (free_port(), free_port());
    let manifest = |port, name: &str| {
        format!(
            "programs:\n  {name}: {{command: sleep 1000, startsecs: 0}}\n  stays: {{command: \"sh -c 'ulimit -Sn; exec sleep 1000'\", startsecs: 0}}\n\
            \ncontrol:\n  socket: '{{dir}}/q.sock'\n  listen: 127.0.0.1:{port}\n  auth: {{username: admin, password: '{PASSWORD}'}}\n"
        )
    };
    let mut fleet = Fleet::start_and_wait(&manifest(one, "old"));
    let files = |fleet: &Fleet| {
        eventually(SOON, "the limit of open files", || {
            fleet.ok(&["tail", "stays"]).lines().next().map(str::to_owned)
        })
    };
    let (pid, stays, limit) = (fleet.pid(), fleet.pid_of("stays"), files(&fleet));
    fleet.rewrite(&manifest(two, "new"));
    Ctl::tcp(one).says(&["reload"], &["Restarted supervisord"], 0);
    let ctl = Ctl::tcp(two);
    eventually(SOON, "the new fleet", || (ctl.run(&["status", "new", "stays"]).1 == 0).then_some(()));
    ctl.says(&["pid"], &[&pid.to_string()], 0);
    assert_ne!(fleet.pid_of("stays"), stays);
    assert_eq!(files(&fleet), limit, "children get what they got before");
    ctl.says(&["status", "old"], &["old: ERROR (no such process)"], 4);
    Ctl::tcp(one).mentions(&["status"], "refused connection", 4);
    ctl.says(&["shutdown"], &["Shut down"], 0);
    assert_eq!(fleet.wait().code(), Some(0), "{}", fleet.log());
}

#[test]
fn what_cannot_be_begun_with_any_more_does_not_end_the_fleet() {
    let slow = "programs:\n  slow: {command: \"sh -c 'trap : TERM; echo deaf; while :; do sleep 0.1; done'\", stop-wait: 600s, startsecs: 0}\n";
    let mut fleet = Fleet::start_and_wait(slow);
    let ctl = Ctl::unix(&fleet);
    let pid = fleet.pid_of("slow");
    wait_said(&fleet, "slow", "deaf");
    ctl.says(&["reload"], &["Restarted supervisord"], 0);
    fleet.wait_state("slow", "STOPPING");
    fleet.rewrite("programs: {slow: {comand: x}}\n");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(-pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(SOON, "the fleet as it was", || {
        (ctl.run(&["status", "slow"]).1 == 0 && fleet.pid_of("slow") != pid).then_some(())
    });
    wait_said(&fleet, "slow", "deaf");
    assert!(fleet.log().contains("going on with it as it was"), "{}", fleet.log());
    // A second one, now with something to be begun with, and the end asked for in the middle of it.
    fleet.rewrite(slow);
    ctl.says(&["reload"], &["Restarted supervisord"], 0);
    fleet.signal(nix::sys::signal::Signal::SIGQUIT);
    assert_eq!(fleet.wait().code(), Some(75), "{}", fleet.log());
}

#[test]
fn queues_are_groups_of_workers_that_drain() {
    let redis = RedisServer::start();
    let (sender, jobs) = std::sync::mpsc::channel::<()>();
    let jobs = std::sync::Mutex::new(jobs);
    let receiver = Receiver::start(move |_| {
        let _ = jobs.lock().unwrap().recv();
        Answer::ok()
    });
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    sleep: 0.2\n    stop-wait: 60s\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    let ctl = Ctl::unix(&fleet);
    ctl.mentions(&["status"], "mail:mail_00                     RUNNING   pid ", 0);
    fleet.ok(&["pause", "mail"]);
    eventually(SOON, "the pause to be seen", || {
        ctl.run(&["status", "mail:*"]).0.trim_end().ends_with(" (paused)").then_some(())
    });
    fleet.ok(&["resume", "mail"]);
    push(&redis, "mail", [payload(1, "")]);
    receiver.wait_for(1, SOON);
    let (mut stopping, _) = ctl.start("stop", &["stop", "mail:*"]);
    fleet.wait_state("mail:mail_00", "STOPPING");
    assert_eq!(stopping.ended(), None, "it waits for the job");
    sender.send(()).unwrap();
    assert!(stopping.wait(SOON).success());
    assert_eq!(fleet.state("mail:mail_00"), "STOPPED");
    let jobs: serde_json::Value = serde_json::from_str(&fleet.ok(&["queues", "--json"])).unwrap();
    assert_eq!(jobs[0]["waiting"], 0, "the job was done, not given back");
    ctl.says(&["start", "mail:mail_00"], &["mail:mail_00: started"], 0);
    ctl.mentions(&["fg", "nope"], "bad process name", 1);
    assert_eq!(fleet.stop(), 0);
}
