//! What a reload would do: only what changed is touched, and every setting takes the way it should.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;

use qfleet_manifest::diff::{Change, IN_PLACE, describe, diff, needs_daemon_restart};
use qfleet_manifest::settings::Manifest;
use qfleet_manifest::{keys, load};
use world::Table;

fn read(text: &str) -> Manifest {
    load("config.yaml", text, &Table::new()).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// One word a change, as the reload would carry it out.
fn steps(from: &str, to: &str) -> Vec<String> {
    let (from, to) = (read(from), read(to));
    let step = |change: Change| match change {
        Change::Added(group) => format!("+{}", group.name),
        Change::Removed(name) => format!("-{name}"),
        Change::Restart { from, to } => {
            assert_eq!(from.name, to.name);
            format!("restart {}", to.name)
        }
        Change::InPlace { to } => format!("tell {}", to.name),
    };
    diff(&from.groups, &to.groups).into_iter().map(step).collect()
}

fn queue(more: &str) -> String {
    format!("queues: {{a: {{{more}, handler: {{http: \"http://127.0.0.1/\"}}}}}}")
}

#[test]
fn groups_come_and_go_without_touching_others() {
    let from = "programs: {a: {command: x}, b: {command: x}, c: {command: x}}";
    let to = "programs: {d: {command: x}, c: {command: x}, a: {command: x}}";
    assert_eq!(steps(from, to), ["-b", "+d"]);
    assert_eq!(steps(from, from), [""; 0]);
    let (from, to) = (read(from), read(to));
    assert_eq!(describe(&from.groups, &to.groups), ["b: removed", "d: added, 1 process"]);
}

#[test]
fn whatever_changes_in_a_schedule_waits_for_its_next_run() {
    let schedule = |more: &str| format!("schedules: {{a: {{cron: '* * * * *', command: x{more}}}}}");
    let from = schedule("");
    for more in [", overlap: kill", ", timeout: 5", ", cwd: /", ", environment: {A: b}", ", user: www-data"] {
        assert_eq!(steps(&from, &schedule(more)), ["tell a"], "{more}");
    }
    let to =
        "schedules: {a: {cron: '@daily', timezone: Europe/Paris, command: x, missed: run-once, jitter: 5}}";
    let (from, to) = (read(&from), read(to));
    let words = "a: cron `* * * * *` -> `@daily`, timezone UTC -> Europe/Paris, jitter 0s -> 5s, missed skip -> run-once";
    assert_eq!(describe(&from.groups, &to.groups), [words]);
    assert_eq!(steps("programs: {a: {command: x}}", &schedule("")), ["restart a"]);
    assert_eq!(describe(&[], &to.groups), ["a: added, `@daily`"]);
}

#[test]
fn numbers_are_told_to_running_workers() {
    for more in [
        "numprocs: 3",
        "numprocs: {min: 1, max: 3}",
        "numprocs: {min: 1, max: 3}, scale: {size: 5}",
        "concurrency: 4",
        "rate-limit: {max: 20, per: 60s}",
        "tries: 5",
        "timeout: 5m",
        "backoff: [1, 2]",
        "override: {tries: 9}",
        "sleep: 1s",
        "max-time: 2h",
        "max-jobs: 5",
        "memory: 64MiB",
        "stop-wait: 5m",
        "kill-after: 3s",
        "startretries: 9",
        "start-wait: 9s",
        "essential: true",
        "priority: 5",
        "autostart: false",
        "snooze-max: 3",
        "snooze-age: 1h",
        "max-delay: 1h",
        "delay-as-backoff: false",
        "redeliver: after-deadline",
    ] {
        assert_eq!(steps(&queue("tries: 1"), &queue(&format!("{more}, queue: a"))), ["tell a"], "{more}");
    }
}

#[test]
fn what_a_process_is_made_of_needs_a_new_one() {
    let other = "handler: {http: \"http://127.0.0.1/other\"}";
    for more in [
        "user: app",
        "cwd: /srv",
        "umask: \"077\"",
        "nice: 5",
        "no-new-privileges: true",
        "limits: {nofile: 5}",
        "environment: {A: b}",
        "env: clean",
        "queue: b",
        "routes: [{name: A, handler: {shell: \"true\"}}]",
    ] {
        assert_eq!(steps(&queue("tries: 1"), &queue(more)), ["restart a"], "{more}");
    }
    assert_eq!(steps(&queue("tries: 1"), &format!("queues: {{a: {{{other}}}}}")), ["restart a"]);
    let redis = format!("redis: redis://other\n{}", queue("tries: 1"));
    assert_eq!(steps(&queue("tries: 1"), &redis), ["restart a"]);
    let secret = "connections: {c: {driver: laravel, redis: {url: redis://h, password: one}}}\n";
    let (one, two) =
        (format!("{secret}{}", queue("tries: 1")), secret.replace("one", "two") + &queue("tries: 1"));
    assert_eq!(steps(&one, &two), ["restart a"], "a new password");
    let shown = describe(&read(&one).groups, &read(&two).groups);
    assert_eq!(shown, ["a: connection `c` changed (rolling restart)"], "and it is not shown");
}

#[test]
fn programs_follow_the_same_table() {
    let program = |more: &str| format!("programs: {{a: {{command: x, {more}}}}}");
    let base = program("numprocs: 2");
    for (more, step) in [
        ("numprocs: 3", "tell a"),
        ("numprocs: 1", "restart a"),
        ("numprocs: 2, numprocs-start: 1", "restart a"),
        ("numprocs: 2, startsecs: 9", "tell a"),
        ("numprocs: 2, autorestart: never", "tell a"),
        ("numprocs: 2, exitcodes: [0, 2]", "tell a"),
        ("numprocs: 2, stop-signal: INT", "tell a"),
        ("numprocs: 2, redirect-stderr: true", "restart a"),
        ("numprocs: 2, environment: {A: b}", "restart a"),
    ] {
        assert_eq!(steps(&base, &program(more)), [step], "{more}");
    }
    assert_eq!(steps(&base, "programs: {a: {command: y, numprocs: 2}}"), ["restart a"]);
    assert_eq!(steps("programs: {a: {command: x}}", &queue("tries: 1")), ["restart a"], "another kind");
}

#[test]
fn pools_name_the_queue_that_changed() {
    let pool = |a: &str, members: &str| {
        let b = "b: {handler: {http: \"http://127.0.0.1/\"}}";
        format!(
            "queues: {{a: {{{a}handler: {{http: \"http://127.0.0.1/\"}}}}, {b}}}\npools: {{p: {{queues: [{members}]}}}}"
        )
    };
    let (from, to) = (read(&pool("", "a, b")), read(&pool("tries: 3, concurrency: 2, ", "a, b")));
    assert_eq!(describe(&from.groups, &to.groups), ["p: a concurrency 1 -> 2, a tries 1 -> 3"]);
    assert_eq!(steps(&pool("", "a, b"), &pool("tries: 3, ", "a, b")), ["tell p"]);
    assert_eq!(steps(&pool("", "a, b"), &pool("", "b, a")), ["restart p"], "their order counts");
    assert_eq!(steps(&pool("", "a, b"), &pool("", "a")), ["+b", "restart p"], "out of the pool");
}

#[test]
fn descriptions_read_as_the_file_is_written() {
    let to = "numprocs: 3, timeout: 0, backoff: {type: exponential, delay: 5s}, memory: 64MiB, max-time: 90m, \
              override: {tries: 5, timeout: 2m}, stop-wait: 65s, cwd: /srv, environment: {TOKEN: pa55}";
    let shown = describe(&read(&queue("tries: 1")).groups, &read(&queue(to)).groups);
    insta::assert_snapshot!(shown.join("\n").replace(", ", "\n  "), @r"
    a: numprocs 1 -> 3
      stop-wait 30s -> 1m5s
      cwd none -> /srv
      environment changed
      max-time none -> 1h30m
      memory none -> 64MiB
      timeout 1m -> none
      backoff none -> exponential 5s
      override {} -> {tries 5
      timeout 2m} (rolling restart)
    ");
}

#[test]
fn what_the_number_of_processes_follows_changes_in_place() {
    let file = |scale: &str, budget: u32| {
        let more = format!("numprocs: {{min: 1, max: 9}}, scale: {{{scale}}}");
        format!("{}\nbudgets: {{crm: {{max: {budget}, queues: [a]}}}}", queue(&more))
    };
    let (from, to) =
        (file("time: 30s, every: 5s", 10), file("size: 100, cooldown: 2m, step: 1, every: 10s", 20));
    assert_eq!(steps(&from, &to), ["tell a"]);
    assert_eq!(
        describe(&read(&from).groups, &read(&to).groups),
        [
            "a: scale time 30s -> size 100, scale.cooldown 1m -> 2m, scale.step 5 -> 1, scale.every 5s -> 10s, \
             budget `crm` of 10 -> `crm` of 20"
        ]
    );
    let shown = describe(&read(&queue("tries: 1")).groups, &read(&from).groups);
    assert_eq!(shown, ["a: numprocs 1 -> 1..9"]);
    assert_eq!(describe(&[], &read(&from).groups), ["a: added, 1..9 processes"]);
}

#[test]
fn the_daemons_own_settings_wait_for_its_next_start() {
    let from = read("control: {mode: \"0700\"}\nlogging: {level: info}");
    let to = read("control: {mode: \"0660\", group: qfleet}\nlogging: {level: debug, keep: 3}");
    assert_eq!(
        needs_daemon_restart(&from, &to),
        [
            "control.mode 0700 -> 0660: needs a restart of the daemon",
            "control.group changed: needs a restart of the daemon",
            "logging.level changed: needs a restart of the daemon",
            "logging.keep 10 -> 3: needs a restart of the daemon",
        ]
    );
    assert!(needs_daemon_restart(&from, &from).is_empty());
}

#[test]
fn the_table_has_only_settings_that_exist() {
    for key in IN_PLACE {
        assert!(keys::QUEUE.knows(key) || keys::PROGRAM.knows(key), "{key}");
    }
}

#[test]
fn what_holds_for_all_groups_is_told_apart_from_them() {
    let (from, to) = (read("{}"), read("shutdown-timeout: 25s\nreplace-at-once: 3"));
    let lines = qfleet_manifest::diff::overall(&from.overall, &to.overall);
    assert_eq!(lines, ["shutdown-timeout none -> 25s", "replace-at-once a tenth -> 3"]);
    assert_eq!(diff(&from.groups, &to.groups), []);
}

#[test]
fn the_longest_stop_is_the_sum_of_the_waves_or_the_one_budget() {
    use qfleet_manifest::stopping::longest_stop;
    let two_waves = "programs:\n  a: {command: x, stop-wait: 20s}\n  b: {command: x, stop-wait: 8s}\n  \
                     db: {command: x, priority: 1, stop-wait: 9s}\n";
    assert_eq!(longest_stop(&read(two_waves)).as_secs(), 29);
    assert_eq!(longest_stop(&read(&format!("{two_waves}shutdown-timeout: 10s"))).as_secs(), 10);
    // What others depend on ends after them.
    let depends =
        two_waves.replace("{command: x, stop-wait: 20s}", "{command: x, stop-wait: 20s, depends-on: [b]}");
    assert_eq!(longest_stop(&read(&depends)).as_secs(), 37);
    // A worker gives its jobs `kill-after`, and what it leaves is given back.
    assert_eq!(longest_stop(&read(&queue("stop-wait: 30s, kill-after: 3s"))).as_secs(), 43);
}
