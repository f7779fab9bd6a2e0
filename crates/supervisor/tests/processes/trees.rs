//! Nobody who descends from a process outlives its end, whatever he does to get away. Every case runs twice: as the machine
//! allows it, with control groups where there are some, and without them.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use qfleet_model::command::Command;
use qfleet_model::snapshot::{Keeping, StateWord};
use qfleet_os::signal;

use crate::daemon::{Tester, WITHOUT_CGROUPS, daemon_with, names};
use crate::harness::{Case, until};
use crate::programs::alive;

pub const CASES: &[Case] = &[
    ("those_who_left_end_with_their_program", those_who_left_end_with_their_program),
    ("those_who_left_end_with_their_program_by_walk", || without(those_who_left_end_with_their_program_)),
    ("a_stubborn_tree_is_killed_whole", a_stubborn_tree_is_killed_whole),
    ("a_stubborn_tree_is_killed_whole_by_walk", || without(a_stubborn_tree_is_killed_whole_)),
    ("a_crash_leaves_nobody_behind", a_crash_leaves_nobody_behind),
    ("a_crash_leaves_nobody_behind_by_walk", || without(a_crash_leaves_nobody_behind_)),
    ("those_who_left_a_living_program_end_with_the_daemon", || with(end_with_the_daemon)),
    ("those_who_left_a_living_program_end_with_the_daemon_by_walk", || without(end_with_the_daemon)),
    ("those_who_left_end_within_the_time_for_the_whole_end", || with(end_in_time)),
    ("those_who_left_end_within_the_time_for_the_whole_end_by_walk", || without(end_in_time)),
    ("those_who_left_hear_one_signal_when_the_daemon_ends", || with(hear_one_signal)),
    ("those_who_left_hear_one_signal_when_the_daemon_ends_by_walk", || without(hear_one_signal)),
    ("a_tree_that_grows_all_the_time_ends", || with(a_growing_tree_ends)),
    ("a_tree_that_grows_all_the_time_ends_by_walk", || without(a_growing_tree_ends)),
    ("nothing_is_left_of_control_groups", || with(nothing_is_left_of_control_groups)),
];

type Variables = &'static [(&'static str, &'static str)];

fn with(case: fn(Variables)) {
    case(&[]);
}

fn without(case: fn(Variables)) {
    case(&[WITHOUT_CGROUPS]);
}

fn those_who_left_end_with_their_program() {
    with(those_who_left_end_with_their_program_);
}

fn a_stubborn_tree_is_killed_whole() {
    with(a_stubborn_tree_is_killed_whole_);
}

fn a_crash_leaves_nobody_behind() {
    with(a_crash_leaves_nobody_behind_);
}

/// Says which way it is, so that a log of tests shows what was tested.
fn way(tester: &Tester, variables: Variables) {
    let kept = tester.processes()[0].tree;
    println!("kept together by {kept:?}");
    assert!(variables.is_empty() || kept == Keeping::Walk);
}

/// A script that leaves twice: forks, makes a session of its own, does so again, writes down its number, and closes
/// everything. One that is `deaf` ignores SIGTERM.
fn leaver(dir: &Path) {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("leave", "setsid sh \"${0%leave}away\" \"$@\" & wait\n");
    write("away", "setsid sh \"${0%away}stay\" \"$@\" & exit\n");
    write(
        "stay",
        "[ \"$2\" = deaf ] && trap '' TERM\necho $$ >>\"$1\"\nexec >/dev/null 2>&1 </dev/null\nwhile :; do sleep 0.05; done\n",
    );
}

fn pids(dir: &Path, count: usize) -> Vec<i32> {
    until("those who left to say who they are", || {
        let list = fs::read_to_string(dir.join("pids")).unwrap_or_default();
        let pids: Vec<i32> = list.lines().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() >= count).then_some(pids)
    })
}

fn all_gone(pids: &[i32]) {
    until("their end", || pids.iter().all(|pid| !alive(*pid)).then_some(()));
}

fn those_who_left_end_with_their_program_(variables: Variables) {
    let manifest = "
programs:
  leaver: {command: \"sh -c 'sh DIR/leave DIR/pids meek; exec sleep 1000'\", startsecs: 0, stop-wait: 100s}
";
    daemon_with(variables, manifest, leaver, move |tester| {
        way(tester, variables);
        let left = pids(&tester.dir, 1);
        tester.until_state("leaver", StateWord::Running);
        let begun = Instant::now();
        tester.told(Command::Stop { names: names("leaver") });
        all_gone(&left);
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "they end when they are asked, not when they are killed"
        );
        tester.shutdown();
    });
}

fn a_stubborn_tree_is_killed_whole_(variables: Variables) {
    let manifest = "
programs:
  stubborn: {command: \"sh -c 'trap : TERM; sh DIR/leave DIR/pids deaf; while :; do sleep 0.1; done'\", startsecs: 0, stop-wait: 300ms}
";
    daemon_with(variables, manifest, leaver, move |tester| {
        way(tester, variables);
        let left = pids(&tester.dir, 1);
        tester.until_state("stubborn", StateWord::Running);
        tester.told(Command::Stop { names: names("stubborn") });
        all_gone(&left);
        tester.shutdown();
    });
}

fn a_crash_leaves_nobody_behind_(variables: Variables) {
    let manifest = "
programs:
  crasher: {command: \"sh -c 'sh DIR/leave DIR/pids meek; exec sleep 1000'\", startsecs: 0}
";
    daemon_with(variables, manifest, leaver, move |tester| {
        way(tester, variables);
        let left = pids(&tester.dir, 1);
        let pid = tester.until_state("crasher", StateWord::Running).pid.unwrap();
        signal::send(pid, 9).unwrap();
        all_gone(&left);
        let next = pids(&tester.dir, 2);
        assert!(alive(next[1]), "those of the next one are not taken for those of the last one");
        tester.shutdown();
    });
}

fn end_with_the_daemon(variables: Variables) {
    let manifest = "
programs:
  leaver: {command: \"sh -c 'sh DIR/leave DIR/pids deaf; exec sleep 1000'\", numprocs: 3, startsecs: 0, stop-wait: 500ms}
";
    let left = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let found = left.clone();
    let code = daemon_with(variables, manifest, leaver, move |tester| {
        *found.lock().unwrap() = pids(&tester.dir, 3);
        tester.shutdown();
    });
    assert_eq!(code, 0);
    let left = left.lock().unwrap().clone();
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|pid| !alive(*pid)), "the daemon ends after them");
}

fn end_in_time(variables: Variables) {
    let manifest = "
shutdown-timeout: 2s
programs:
  leaver: {command: \"sh -c 'sh DIR/leave DIR/pids deaf; exec sleep 1000'\", startsecs: 0, stop-wait: 60s}
";
    let asked = std::sync::Arc::new(std::sync::Mutex::new(None));
    let at = asked.clone();
    let code = daemon_with(variables, manifest, leaver, move |tester| {
        way(tester, variables);
        pids(&tester.dir, 1);
        *at.lock().unwrap() = Some(Instant::now());
        tester.shutdown();
    });
    assert_eq!(code, 0);
    let took = asked.lock().unwrap().unwrap().elapsed();
    assert!(took < Duration::from_secs(8), "two seconds were granted, it took {took:?}");
}

fn hear_one_signal(variables: Variables) {
    let manifest = "
programs:
  leaver: {command: \"sh -c 'setsid sh DIR/listen DIR/pids DIR/heard & exec sleep 1000'\", startsecs: 0, stop-signal: USR1}
";
    // Goes half a second after it was asked.
    let listen = |dir: &Path| {
        fs::write(
            dir.join("listen"),
            "trap 'left=10; echo USR1 >>\"$2\"' USR1; trap 'echo TERM >>\"$2\"' TERM\necho $$ >>\"$1\"\nleft=-1\n\
             while [ $left -ne 0 ]; do sleep 0.05; [ $left -gt 0 ] && left=$((left - 1)); done\ncp \"$2\" \"$2.all\"\n",
        )
        .unwrap();
    };
    let heard = tempfile::tempdir().unwrap();
    let manifest = manifest.replace("DIR/heard", &heard.path().join("heard").display().to_string());
    daemon_with(variables, &manifest, listen, move |tester| {
        way(tester, variables);
        pids(&tester.dir, 1);
        tester.until_state("leaver", StateWord::Running);
        tester.shutdown();
    });
    assert_eq!(fs::read_to_string(heard.path().join("heard.all")).unwrap(), "USR1\n");
}

fn a_growing_tree_ends(variables: Variables) {
    let manifest = "
programs:
  grower: {command: \"sh -c 'setsid sh DIR/grow DIR/grow DIR/pids & exec sleep 1000'\", startsecs: 0, stop-wait: 100ms}
";
    // Each lives for a moment, and starts its successor in a session of its own before.
    let grow = |dir: &Path| {
        fs::write(
            dir.join("grow"),
            "trap '' TERM; echo $$ >>\"$2\"; sleep 0.02; setsid sh \"$1\" \"$@\" & exit\n",
        )
        .unwrap();
    };
    daemon_with(variables, manifest, grow, move |tester| {
        way(tester, variables);
        pids(&tester.dir, 5);
        tester.told(Command::Stop { names: names("grower") });
        let count = || fs::read_to_string(tester.dir.join("pids")).unwrap().lines().count();
        until("the tree to grow no more", || {
            let before = count();
            std::thread::sleep(Duration::from_millis(500));
            (count() == before).then_some(())
        });
        tester.shutdown();
    });
}

fn nothing_is_left_of_control_groups(_: Variables) {
    let groups = || {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        own.lines().find(|line| line.starts_with("0::")).map(str::to_owned)
    };
    let before = groups();
    let manifest = "programs: {sleeper: {command: sleep 1000, numprocs: 5, startsecs: 0}}";
    daemon_with(
        &[],
        manifest,
        |_| (),
        |tester| {
            tester.until_up();
            tester.shutdown();
        },
    );
    assert_eq!(groups(), before, "the daemon goes back to where it came from");
}
