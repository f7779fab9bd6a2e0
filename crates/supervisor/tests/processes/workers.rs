//! Workers, played by a stand-in: ready, drain, replacement, ledgers.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qfleet_model::command::Command;
use qfleet_model::snapshot::StateWord;
use qfleet_os::locked_map::LockedMap;
use qfleet_os::signal;
use qfleet_supervisor::Stream;

use crate::daemon::{daemon, daemon_with, names};
use crate::harness::{Case, own_output, until};

pub const CASES: &[Case] = &[
    ("a_rolling_restart_replaces_one_after_the_other", a_rolling_restart_replaces_one_after_the_other),
    (
        "a_crashed_worker_is_replaced_at_once_and_its_ledger_recovered",
        a_crashed_worker_is_replaced_at_once_and_its_ledger_recovered,
    ),
    ("ledgers_of_an_earlier_daemon_are_taken_over", ledgers_of_an_earlier_daemon_are_taken_over),
    ("a_worker_that_wants_to_is_replaced", a_worker_that_wants_to_is_replaced),
    ("stop_wait_limits_a_stop_and_the_exit_code_tells", stop_wait_limits_a_stop_and_the_exit_code_tells),
    ("changed_numbers_are_told_to_running_workers", changed_numbers_are_told_to_running_workers),
];

fn queue(name: &str, more: &str) -> String {
    format!(
        "
connections: {{crm: {{driver: laravel, redis: {{url: redis://127.0.0.1:1/0}}}}}}
queues:
  {name}:
    connection: crm
    handler: {{http: {{url: \"http://127.0.0.1:1/\"}}}}
    {more}
"
    )
}

fn a_rolling_restart_replaces_one_after_the_other() {
    let code = daemon(&queue("slow", "numprocs: 3"), |tester| {
        tester.until_up();
        let before: Vec<_> = tester.processes().into_iter().map(|process| process.pid).collect();
        std::thread::scope(|scope| {
            let restart = scope
                .spawn(|| tester.told(Command::Restart { names: names("slow"), now: false, batch: None }));
            let mut lowest = 3;
            while !restart.is_finished() {
                let up = tester.processes().iter().filter(|one| one.state == StateWord::Running).count();
                lowest = lowest.min(up);
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(lowest, 2);
            let expected: Vec<String> =
                (0..3).map(|number| format!("slow:slow_0{number}: restarted")).collect();
            assert_eq!(restart.join().unwrap(), expected);
        });
        assert!(tester.processes().iter().all(|process| !before.contains(&process.pid)));
        tester.until_said("slow:2", Stream::Stdout, "slow:slow_02 works");
        tester.ask(Command::Restart { names: names("slow:0"), now: false, batch: None }).unwrap();
        signal::send(i32::try_from(std::process::id()).unwrap(), 3).unwrap();
    });
    assert_eq!(code, 75);
}

fn a_crashed_worker_is_replaced_at_once_and_its_ledger_recovered() {
    daemon(&queue("messages", "numprocs: 1"), |tester| {
        tester.until_up();
        let process = tester.process("messages:messages_00");
        let ledgers = || {
            let entries = fs::read_dir(tester.dir.join("slots")).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(ledgers(), ["messages.messages_00.1"]);
        let begun = Instant::now();
        signal::send(process.pid.unwrap(), 9).unwrap();
        until("a replacement", || {
            let now = tester.process("messages:messages_00");
            (now.state == StateWord::Running && now.pid != process.pid).then_some(())
        });
        let took = begun.elapsed();
        // The pause before a first restart is none; whoever ends again and again waits, which is tested where it is decided.
        assert!(took < Duration::from_secs(20), "the replacement took {took:?}");
        until("the dead worker's ledger to be cleared", || {
            (ledgers() == ["messages.messages_00.2"]).then_some(())
        });
        tester.shutdown();
    });
}

fn ledgers_of_an_earlier_daemon_are_taken_over() {
    let old_worker_lives = Arc::new(Mutex::new(None));
    let held = old_worker_lives.clone();
    let before = |dir: &Path| {
        let slots = dir.join("slots");
        fs::create_dir(&slots).unwrap();
        // The worker of this one died with its daemon, that of the other one is still at work.
        drop(LockedMap::create(&slots.join("gone.gone_00.41"), 64).unwrap());
        let alive = LockedMap::create(&slots.join("messages.messages_00.42"), 64).unwrap();
        *held.lock().unwrap() = Some(alive);
    };
    daemon_with(&[], &queue("messages", "numprocs: 1"), before, move |tester| {
        let slots = tester.dir.join("slots");
        until("the dead worker's ledger to be cleared", || {
            (!slots.join("gone.gone_00.41").exists()).then_some(())
        });
        assert_eq!(tester.process("messages:messages_00").state, StateWord::Starting);
        old_worker_lives.lock().unwrap().take();
        tester.until_up();
        assert!(!slots.join("messages.messages_00.42").exists());
        assert!(slots.join("messages.messages_00.43").exists(), "numbers are never used twice");
        tester.shutdown();
    });
}

fn a_worker_that_wants_to_is_replaced() {
    daemon(&queue("tired", "numprocs: 2"), |tester| {
        until("the replacement", || {
            let text = tester.until_said("tired:0", Stream::Stdout, "works");
            (text.matches("works").count() == 2).then_some(())
        });
        tester.until_up();
        assert_eq!(tester.process("tired:tired_00").crashes, 0);
        tester.shutdown();
    });
}

fn stop_wait_limits_a_stop_and_the_exit_code_tells() {
    let code = daemon(&queue("slow", "stop-wait: 400ms"), |tester| {
        tester.until_up();
        let begun = Instant::now();
        let answer = tester.told(Command::Stop { names: names("slow") });
        assert_eq!(answer, ["slow:slow_00: stopped"]);
        assert!(begun.elapsed() >= Duration::from_millis(400));
        assert_eq!(tester.told(Command::Start { names: names("slow") }), ["slow:slow_00: started"]);
        tester.shutdown();
    });
    assert_eq!(code, 75, "the stand-in says that it cut jobs off");
}

fn changed_numbers_are_told_to_running_workers() {
    daemon(&queue("messages", "concurrency: 2"), |tester| {
        tester.until_said("messages:0", Stream::Stdout, "works with concurrency 2");
        let pid = tester.process("messages:messages_00").pid;
        let answer = tester.reload(&queue("messages", "concurrency: 7"));
        assert_eq!(answer, ["messages: changed: concurrency 2 -> 7"]);
        tester.until_said("messages:0", Stream::Stdout, "goes on with concurrency 7");
        assert_eq!(tester.process("messages:messages_00").pid, pid);
        tester.shutdown();
    });
    assert!(
        own_output().contains("messages:messages_00 | messages:messages_00 goes on with concurrency 7\n")
    );
}
