//! Commands that run at their dates, as people see them: real processes, a real clock, and several hosts.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use qfleet_testkit::{RedisServer, eventually};

use crate::support::{Fleet, SOON, is_alive, lines, text};

/// Notes the date it runs for.
const NOTE: &str = "echo $QFLEET_SCHEDULE_DATE $$$$ >> {dir}/dates";

fn schedules(list: &str) -> String {
    format!("schedules:\n{}", list.replace("NOTE", NOTE))
}

/// The dates of the runs, as they began.
fn dates(fleet: &Fleet) -> Vec<String> {
    let first = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    lines(fleet, "dates").iter().map(first).collect()
}

fn wait_dates(fleet: &Fleet, count: usize) -> Vec<String> {
    eventually(SOON, &format!("{count} runs\n{}", fleet.log()), || {
        let dates = dates(fleet);
        (dates.len() >= count).then_some(dates)
    })
}

fn each_once(dates: &[String]) {
    let different: BTreeSet<&String> = dates.iter().collect();
    assert_eq!(different.len(), dates.len(), "a date ran twice: {dates:?}");
}

fn of_schedule(fleet: &Fleet, name: &str) -> serde_json::Value {
    fleet.process(name)["schedule"].clone()
}

#[test]
fn a_schedule_runs_each_second_and_rests_in_between() {
    let mut fleet = Fleet::start(&schedules(
        "  tick: {cron: \"* * * * * *\", command: [sh, -c, \"NOTE; echo said\"]}\n  yearly: {cron: \"@yearly\", command: \"true\"}\n",
    ));
    let waits = fleet.ok(&["status", "yearly"]);
    assert!(waits.contains("STOPPED") && waits.contains("Not started, next Jan 01 12:00 AM"), "{waits}");
    let dates = wait_dates(&fleet, 4);
    each_once(&dates);
    assert!(dates.is_sorted(), "{dates:?}");
    let tick = of_schedule(&fleet, "tick");
    assert_eq!((&tick["last"]["failed"], &tick["held"]), (&false.into(), &false.into()), "{tick}");
    assert!(tick["next"].is_string() && tick["last"]["began"].is_string(), "{tick}");
    eventually(SOON, "its output", || fleet.ok(&["tail", "tick"]).contains("said").then_some(()));

    // Held by a stop, run by a start, and neither is a matter of all the others.
    fleet.ok(&["stop", "tick"]);
    let before = lines(&fleet, "dates").len();
    assert_eq!(fleet.qfleet(&["status", "tick"]).status.code(), Some(3));
    assert_eq!(fleet.qfleet(&["status", "yearly"]).status.code(), Some(0));
    fleet.rewrite(&schedules("  tick: {cron: \"@yearly\", command: [sh, -c, \"NOTE; echo said\"]}\n"));
    let plan = fleet.ok(&["reload", "--dry-run"]);
    assert!(plan.contains("cron `* * * * * *` -> `@yearly`") && plan.contains("yearly"), "{plan}");
    fleet.ok(&["reload"]);
    fleet.rewrite(&schedules("  tick: {cron: \"61 * * * *\", command: \"true\"}\n"));
    let refused = fleet.qfleet(&["reload"]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(text(&refused.stderr).contains("`61` is no minute"), "{}", text(&refused.stderr));
    assert!(of_schedule(&fleet, "tick")["held"].as_bool().unwrap(), "held over a reload");
    fleet.ok(&["start", "all"]);
    assert_eq!(lines(&fleet, "dates").len(), before, "nothing ran while it was held, or because of all");
    fleet.ok(&["start", "tick"]);
    eventually(SOON, "the run somebody wants", || (lines(&fleet, "dates").len() > before).then_some(()));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn runs_that_overlap_are_left_out_wait_or_replace_the_one_before() {
    let run = |rule: &str, what: &str| {
        schedules(&format!(
            "  tick: {{cron: \"* * * * * *\", overlap: {rule}, stop-wait: 1s, command: [sh, -c, \"NOTE; {what}\"]}}\n"
        ))
    };
    let mut skip = Fleet::start(&run("skip", "exec sleep 1000"));
    // Who has said its date does not listen any more.
    let mut kill = Fleet::start(
        &run("kill", "while :; do sleep 0.1; done").replace("sh, -c, \"", "sh, -c, \"trap '' TERM; "),
    );
    let mut queue = Fleet::start(&run("queue", "sleep 1.6"));
    let mut allow = Fleet::start(&run("allow", "exec sleep 1000"));
    eventually(SOON, "two dates to be left out", || {
        (of_schedule(&skip, "tick")["left_out"].as_u64() >= Some(2)).then_some(())
    });
    assert_eq!(dates(&skip).len(), 1);
    wait_dates(&kill, 3);
    let replaced = of_schedule(&kill, "tick");
    assert_eq!(replaced["last"]["text"], "stopped for the next run", "{replaced}");
    let pids: Vec<i32> =
        lines(&kill, "dates").iter().filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
    assert!(!is_alive(pids[0]) && !is_alive(pids[1]), "one at a time, though they do not listen");
    let queued = wait_dates(&queue, 3);
    each_once(&queued);
    eventually(SOON, "eight runs at once", || (allow.status().len() == 8).then_some(()));
    eventually(SOON, "a ninth to be left out", || {
        (of_schedule(&allow, "tick:tick_00")["left_out"].as_u64() >= Some(1)).then_some(())
    });
    assert_eq!(wait_dates(&allow, 8).len(), 8);
    for fleet in [&mut skip, &mut queue, &mut allow] {
        assert_eq!(fleet.stop(), 0);
    }
    // One that has just begun, and has a second at least.
    wait_dates(&kill, dates(&kill).len() + 1);
    assert_eq!(kill.stop(), 75, "it had to be killed");
}

#[test]
fn a_run_that_takes_too_long_ends_with_all_that_descends_from_it() {
    let mut fleet = Fleet::start(&schedules(
        "  long:\n    cron: \"@yearly\"\n    timeout: 1s\n    stop-wait: 1s\n    command: [sh, -c, \"trap '' TERM; sleep 1000 & echo $! > {dir}/child; setsid sleep 1000 & echo $! > {dir}/left; wait; wait\"]\n",
    ));
    fleet.ok(&["start", "long"]);
    let pid = |name: &str| {
        eventually(SOON, "its children", || {
            lines(&fleet, name).first().and_then(|pid| pid.parse::<i32>().ok())
        })
    };
    let (child, left) = (pid("child"), pid("left"));
    eventually(SOON, "the end of the run", || {
        (of_schedule(&fleet, "long")["last"]["text"] == "timed out").then_some(())
    });
    eventually(SOON, "the end of its children", || (!is_alive(child) && !is_alive(left)).then_some(()));
    let status = fleet.qfleet(&["status"]);
    assert_eq!(status.status.code(), Some(3), "somebody should look at it");
    assert!(text(&status.stdout).contains("timed out after"), "{}", text(&status.stdout));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn what_a_run_leaves_in_the_background_goes_on_and_ends_with_the_daemon() {
    let mut fleet = Fleet::start(&schedules(
        "  short: {cron: \"@yearly\", command: [sh, -c, \"sleep 1000 & echo $! > {dir}/background\"]}\n",
    ));
    fleet.ok(&["start", "short"]);
    eventually(SOON, "the end of the run", || {
        (of_schedule(&fleet, "short")["last"]["text"] == "ended with exit code 0").then_some(())
    });
    let background: i32 = lines(&fleet, "background")[0].parse().unwrap();
    // Another run, so that the daemon has looked at what the first one left.
    fleet.ok(&["start", "short"]);
    eventually(SOON, "the second run", || {
        lines(&fleet, "background").first().filter(|pid| **pid != background.to_string()).map(drop)
    });
    assert!(is_alive(background), "it was put there on purpose");
    assert_eq!(fleet.stop(), 0);
    assert!(!is_alive(background), "nobody outlives the daemon\n{}", fleet.log());
}

#[test]
fn what_was_missed_runs_once_after_the_daemon_was_away() {
    let mut fleet = Fleet::start(&schedules(
        "  nightly: {cron: \"0 0 * * *\", missed: run-once, command: [sh, -c, \"NOTE\"]}\n  other: {cron: \"0 0 * * *\", command: [sh, -c, \"NOTE\"]}\n",
    ));
    let file = fleet.dir.join("q.sock.slots/schedules.json");
    let known = eventually(SOON, "the beginning to be remembered", || std::fs::read_to_string(&file).ok());
    assert!(known.contains("nightly") && !known.contains("other"), "{known}");
    fleet.kill9();
    // As if it had been away for some days.
    let begun: i64 = known.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let days = 86_400_000 * 3;
    std::fs::write(&file, format!("{{\"nightly\":{}}}", begun - days)).unwrap();
    fleet.start_another();
    assert_eq!(wait_dates(&fleet, 1).len(), 1);
    assert!(dates(&fleet)[0].ends_with("T00:00:00Z"), "{:?}", dates(&fleet));
    eventually(SOON, "the end of the run", || {
        (of_schedule(&fleet, "nightly")["last"]["failed"] == false).then_some(())
    });
    assert!(of_schedule(&fleet, "nightly")["missed"].as_u64() >= Some(3));
    eventually(SOON, "the date to be remembered", || {
        (!std::fs::read_to_string(&file).ok()?.contains(&(begun - days).to_string())).then_some(())
    });
    fleet.kill9();
    fleet.start_another();
    assert_eq!(fleet.stop(), 0);
    assert_eq!(dates(&fleet).len(), 1, "and not once more");
}

#[test]
fn a_daemon_that_stood_still_goes_on_with_the_newest_date() {
    let mut fleet =
        Fleet::start(&schedules("  tick: {cron: \"* * * * * *\", command: [sh, -c, \"NOTE\"]}\n"));
    wait_dates(&fleet, 2);
    fleet.signal(Signal::SIGSTOP);
    std::thread::sleep(std::time::Duration::from_secs(4));
    fleet.signal(Signal::SIGCONT);
    let before = dates(&fleet).len();
    let dates = wait_dates(&fleet, before + 2);
    each_once(&dates);
    assert!(of_schedule(&fleet, "tick")["missed"].as_u64() >= Some(2), "{dates:?}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn of_two_hosts_one_runs_each_date() {
    // It remembers what it was told, also while nobody reaches it.
    let redis = RedisServer::builder().append_only().start();
    let shared = qfleet_testkit::Scratch::new();
    let place = shared.join("dates");
    let manifest = format!(
        "redis: {{url: '{}'}}\nschedules:\n  tick:\n    cron: \"* * * * * *\"\n    once: redis\n    command: [sh, -c, \"echo $QFLEET_SCHEDULE_DATE >> {}\"]\n",
        redis.url(),
        place.display()
    );
    let (mut one, mut other) = (Fleet::start(&manifest), Fleet::start(&manifest));
    let ran = || -> Vec<String> {
        std::fs::read_to_string(&place).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    let both = eventually(SOON, "eight dates, and some on each host", || {
        let said = |fleet: &Fleet| fleet.log().matches("another host has this date").count();
        (ran().len() >= 8 && said(&one) + said(&other) >= 4).then(ran)
    });
    each_once(&both);
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("qfleet:schedule:tick:*").query(&mut redis.connection()).unwrap();
    assert!(keys.len() >= both.len(), "{keys:?}");
    let left: i64 = redis::cmd("TTL").arg(&keys[0]).query(&mut redis.connection()).unwrap();
    assert!((1..=600).contains(&left), "{left}");
    for fleet in [&one, &other] {
        assert_eq!(fleet.qfleet(&["status"]).status.code(), Some(0), "{}", fleet.ok(&["status"]));
    }

    // With the Redis away nobody knows, so nobody runs.
    redis.stop();
    eventually(SOON, "the outage to show", || {
        let last = of_schedule(&one, "tick")["last"]["text"].as_str().unwrap_or_default().to_owned();
        last.contains("not started: cannot find out whether another host has this date").then_some(())
    });
    assert_eq!(one.qfleet(&["status"]).status.code(), Some(3));
    let during = ran().len();
    redis.restart();
    eventually(SOON, "dates to run again", || (ran().len() > during + 2).then_some(()));
    each_once(&ran());
    assert_eq!((one.stop(), other.stop()), (0, 0));
}
