//! What programs can be given beyond a command: variables from files, numbers of their own, several stop signals.

use std::fs;

use qfleet_model::command::Command;
use qfleet_model::snapshot::{Exit, StateWord};
use qfleet_os::usage;
use qfleet_supervisor::Stream;

use crate::daemon::{daemon, daemon_with, names};
use crate::harness::{Case, own_output, until};

pub const CASES: &[Case] = &[
    ("variables_come_from_files_at_each_start", variables_come_from_files_at_each_start),
    ("each_process_has_its_own_number", each_process_has_its_own_number),
    ("the_second_signal_is_heard_when_the_first_is_not", the_second_signal_is_heard_when_the_first_is_not),
    (
        "without_its_group_only_the_program_hears_the_signal",
        without_its_group_only_the_program_hears_the_signal,
    ),
    ("what_is_given_up_comes_back_when_it_can", what_is_given_up_comes_back_when_it_can),
    ("dependents_wait_for_what_they_need", dependents_wait_for_what_they_need),
];

fn variables_come_from_files_at_each_start() {
    let manifest = "
programs:
  app:
    command: sh -c 'echo \"$KIND $MORE $FIXED $QFLEET_GROUP_NAME\"; exec sleep 1000'
    cwd: DIR
    env-file: [.env, ?none]
    environment: {FIXED: manifest}
    startsecs: 0
  lost: {command: sleep 1000, env-file: DIR/no.env, startretries: 0, startsecs: 0}
  broken: {command: sleep 1000, env-file: DIR/broken.env, startretries: 0, startsecs: 0}
";
    let before = |dir: &std::path::Path| {
        fs::write(
            dir.join(".env"),
            "KIND=first\nexport MORE=\"${KIND}-two\"\nFIXED=file\nQFLEET_GROUP_NAME=x\n",
        )
        .unwrap();
        fs::write(dir.join("broken.env"), "A=1\nhunter2\n").unwrap();
    };
    daemon_with(&[], manifest, before, |tester| {
        tester.until_said("app", Stream::Stdout, "first first-two manifest app\n");
        let lost = tester.until_state("lost", StateWord::Fatal);
        let reason = format!("cannot read `{}/no.env`: no such file", tester.dir.display());
        assert!(lost.description.starts_with(&reason), "{}", lost.description);
        assert!(lost.description.contains("; tried once more in "), "{}", lost.description);
        let broken = tester.until_state("broken", StateWord::Fatal);
        assert!(
            broken.description.contains("broken.env`: line 2 is not `NAME=value`"),
            "{}",
            broken.description
        );
        fs::write(tester.dir.join(".env"), "KIND=second\nMORE=\n").unwrap();
        tester.told(Command::Restart { names: names("app"), now: true, batch: None });
        tester.until_said("app", Stream::Stdout, "second  manifest app\n");
        tester.shutdown();
    });
    assert!(!own_output().contains("hunter2"), "a secret in the log");
}

fn each_process_has_its_own_number() {
    let manifest = "
programs:
  many:
    command: sh -c 'echo \"port 80{process_num:02} $NAME\"; exec sleep 1000'
    environment: {NAME: \"{group_name}/{process_name}\"}
    numprocs: 2
    numprocs-start: 7
    startsecs: 0
  single: {command: \"sh -c 'echo number {process_num}; exec sleep 1000'\", numprocs-start: 3, startsecs: 0}
";
    daemon(manifest, |tester| {
        tester.until_said("many:many_07", Stream::Stdout, "port 8007 many/many_07\n");
        tester.until_said("many:many_08", Stream::Stdout, "port 8008 many/many_08\n");
        tester.until_said("single", Stream::Stdout, "number 3\n");
        tester.shutdown();
    });
}

fn the_second_signal_is_heard_when_the_first_is_not() {
    let manifest = "
programs:
  deaf:
    command: sh -c 'trap \"\" TERM; trap \"exit 7\" QUIT; echo set; while :; do sleep 0.05; done'
    stop-signal: [{signal: TERM, wait: 300ms}, {signal: QUIT, wait: 60s}]
    startsecs: 0
";
    let code = daemon(manifest, |tester| {
        tester.until_said("deaf", Stream::Stdout, "set");
        assert_eq!(tester.told(Command::Stop { names: names("deaf") }), ["deaf: stopped"]);
        assert_eq!(tester.process("deaf").exit, Some(Exit::Code(7)));
        tester.shutdown();
    });
    assert_eq!(code, 0);
}

fn without_its_group_only_the_program_hears_the_signal() {
    // The child says who sent it away: the program, which gives it time, or the daemon, when the program has ended.
    let manifest = "
programs:
  leader:
    command: sh DIR/leader.sh
    stop-as-group: false
    stop-signal: USR1
    startsecs: 0
";
    let before = |dir: &std::path::Path| {
        let child = "trap 'echo child got it; exit' USR1; echo ready; while :; do sleep 0.05; done";
        let leader = format!(
            "trap 'echo leader got it; sleep 0.3; echo leader ends; exit 0' USR1\nsh -c \"{child}\" &\necho child $!\nwhile :; do sleep 0.05; done\n"
        );
        fs::write(dir.join("leader.sh"), leader).unwrap();
    };
    daemon_with(&[], manifest, before, |tester| {
        // Two of them write, in any order.
        tester.until_said("leader", Stream::Stdout, "ready");
        let said = until("its whole line", || {
            let said = tester.until_said("leader", Stream::Stdout, "child ");
            said.split("child ").nth(1)?.contains('\n').then_some(said)
        });
        let child = said.lines().find_map(|line| line.strip_prefix("child ")?.parse::<i32>().ok()).unwrap();
        tester.told(Command::Stop { names: names("leader") });
        let said = tester.until_said("leader", Stream::Stdout, "child got it");
        let (before, _) = said.split_once("child got it").unwrap();
        assert!(before.contains("leader ends"), "the child was told at the same time: {said}");
        until("the child to be gone", || usage::of(child).is_err().then_some(()));
        tester.shutdown();
    });
}

fn what_is_given_up_comes_back_when_it_can() {
    let manifest = "programs: {late: {command: DIR/late, startretries: 0, startsecs: 0, retry-fatal: 1s}}";
    daemon(manifest, |tester| {
        tester.until_state("late", StateWord::Fatal);
        let file = tester.dir.join("late");
        fs::write(&file, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        tester.until_state("late", StateWord::Running);
        tester.shutdown();
    });
}

fn dependents_wait_for_what_they_need() {
    let manifest = "
queues: {jobs: {handler: {http: \"http://127.0.0.1/\"}, depends-on: [server]}}
programs:
  server: {command: \"sh -c 'trap \\\"date +%s%N > DIR/ended; exit\\\" TERM; while :; do sleep 0.05; done'\", startsecs: 0.5}
  task: {command: \"true\", startsecs: 0, autostart: false}
  last: {command: sleep 1000, startsecs: 0, depends-on: [task, jobs]}
";
    let code = daemon(manifest, |tester| {
        let waiting = tester.process("jobs:jobs_00");
        assert_eq!(waiting.description, "waiting for `server`");
        tester.until_state("jobs:jobs_00", StateWord::Running);
        assert_eq!(tester.process("last").description, "waiting for `task`, which is STOPPED");
        assert_eq!(tester.told(Command::Start { names: names("task") }), ["task: started"]);
        // It is through with what it was to do, which is as good as being up.
        tester.until_state("task", StateWord::Exited);
        tester.until_state("last", StateWord::Running);
        let started = |name: &str| tester.process(name).started_at.unwrap();
        assert!(started("server") <= started("jobs:jobs_00") && started("jobs:jobs_00") <= started("last"));
        tester.told(Command::Stop { names: vec![qfleet_model::name::Selector::All] });
        let ended = |name: &str| tester.process(name).stopped_at.unwrap();
        assert!(ended("last") <= ended("jobs:jobs_00") && ended("jobs:jobs_00") <= ended("server"));
        tester.shutdown();
    });
    assert_eq!(code, 0);
}
