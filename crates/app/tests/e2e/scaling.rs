//! Workers follow the backlog of their queues.

use std::collections::BTreeSet;
use std::time::Duration;

use qfleet_testkit::{Answer, Gate, Receiver, RedisServer, eventually};

use crate::support::{Fleet, payload, push, wait_empty};

/// The machine may be busy; nothing here is about how long exactly.
const LIMIT: Duration = Duration::from_secs(120);

fn manifest(redis: &RedisServer, receiver: &Receiver, queues: &[&str], more: &str) -> String {
    let queue = |name: &&str| format!("  {name}: {{numprocs: {{min: 1, max: 4}}}}\n");
    format!(
        "redis: {{url: '{}'}}\ndefaults:\n  sleep: 0.5\n  scale: {{size: 10, cooldown: 2, every: 1}}\n  handler: {{http: {{url: '{}/'}}}}\nqueues:\n{}{more}",
        redis.url(),
        receiver.url(),
        queues.iter().map(queue).collect::<String>()
    )
}

/// How many processes of the group run, and that there are no others.
fn running(fleet: &Fleet, group: &str) -> Option<usize> {
    let list = fleet.status();
    let own: Vec<_> = list.iter().filter(|process| process["group"] == group).collect();
    own.iter().all(|process| process["state"] == "RUNNING").then_some(own.len())
}

fn wait_running(fleet: &Fleet, group: &str, count: usize) {
    eventually(LIMIT, &format!("{count} processes of {group}"), || {
        (running(fleet, group)? == count).then_some(())
    });
}

/// Threads of the daemon that watch backlogs.
fn watchers(fleet: &Fleet) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", fleet.pid())).unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "backlogs").count()
}

#[test]
fn a_burst_brings_workers_and_an_empty_queue_sends_them_home() {
    const JOBS: usize = 150;
    let redis = RedisServer::start();
    let seen = Gate::new();
    let receiver = Receiver::start({
        let seen = seen.clone();
        move |_| Answer::ok().after(Duration::from_millis(30)).behind(&seen)
    });
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &receiver, &["mail"], ""));
    let first = fleet.pid_of("mail:mail_00");
    push(&redis, "mail", (0..JOBS).map(|n| payload(n, "")));
    wait_running(&fleet, "mail", 4);
    let description = fleet.process("mail:mail_03")["description"].as_str().unwrap().to_owned();
    assert!(description.ends_with(", 4 of 1..4"), "{description}");
    seen.open();
    receiver.wait_for(JOBS, LIMIT);
    wait_empty(&redis, &fleet);
    wait_running(&fleet, "mail", 1);
    assert_eq!(fleet.pid_of("mail:mail_00"), first, "the lowest number stays");
    let log = fleet.log();
    assert!(log.contains("scaled from 1 to 4: backlog 1"), "{log}");
    assert!(log.contains(" to 1: no backlog"), "{log}");
    let requests = receiver.requests();
    let ids: BTreeSet<_> = requests.iter().map(|request| request.header("Job-Id").unwrap()).collect();
    assert_eq!((ids.len(), requests.len()), (JOBS, JOBS), "each job ran, once");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn two_queues_share_a_budget_by_their_need() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(100)));
    let budgets = "budgets: {both: {max: 4, queues: [mail, audio]}}\n";
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &receiver, &["mail", "audio"], budgets));
    push(&redis, "mail", (0..2_000).map(|n| payload(n, "")));
    wait_running(&fleet, "mail", 3);
    assert_eq!(running(&fleet, "audio"), Some(1), "each keeps its minimum");
    push(&redis, "audio", (2_000..4_000).map(|n| payload(n, "")));
    eventually(LIMIT, "an even share", || {
        let list = fleet.status();
        assert!(list.len() <= 4, "more than the budget: {list:?}");
        let shares = (running(&fleet, "mail")?, running(&fleet, "audio")?);
        (shares == (2, 2)).then_some(())
    });
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn an_operators_number_wins_and_a_redis_that_is_away_changes_nothing() {
    let redis = RedisServer::builder().append_only().start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(100)));
    let file = manifest(&redis, &receiver, &["mail"], "");
    let mut fleet = Fleet::start_and_wait(&file);
    push(&redis, "mail", (0..5_000).map(|n| payload(n, "")));
    wait_running(&fleet, "mail", 4);
    fleet.ok(&["scale", "mail=2"]);
    wait_running(&fleet, "mail", 2);
    let seen = receiver.count();
    receiver.wait_for(seen + 50, LIMIT);
    assert_eq!(running(&fleet, "mail"), Some(2), "jobs wait, and nobody else decides");
    let description = fleet.process("mail:mail_00")["description"].as_str().unwrap().to_owned();
    assert!(description.ends_with(", scaled 2, manifest 1..4"), "{description}");
    fleet.ok(&["reload", "--reset"]);
    wait_running(&fleet, "mail", 4);
    redis.kill9();
    eventually(LIMIT, "the outage to be noticed", || {
        fleet.log().contains("trying on until it can").then_some(())
    });
    for _ in 0..8 {
        assert_eq!(running(&fleet, "mail"), Some(4));
        std::thread::sleep(Duration::from_millis(500));
    }
    redis.restart();
    fleet.rewrite(&file.replace("max: 4", "max: 3"));
    fleet.ok(&["reload"]);
    wait_running(&fleet, "mail", 3);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn nobody_watches_what_has_one_number_and_an_idle_queue_is_not_asked() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let scaled = manifest(&redis, &receiver, &["mail"], "");
    let fixed = scaled.replace("{min: 1, max: 4}", "1");
    let mut fleet = Fleet::start_and_wait(&fixed);
    let pid = fleet.pid_of("mail:mail_00");
    assert_eq!(watchers(&fleet), 0);
    let clients = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connection()).unwrap();
        list.lines().count()
    };
    // The worker has two connections, and we ask. The daemon has looked whether the prefix is right.
    let before = 3;
    eventually(LIMIT, "the worker to be idle", || (clients() == before).then_some(()));
    fleet.rewrite(&scaled);
    fleet.ok(&["reload"]);
    eventually(LIMIT, "a thread that watches", || (watchers(&fleet) == 1).then_some(()));
    assert_eq!(fleet.pid_of("mail:mail_00"), pid, "no worker is restarted for it");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(clients(), before, "an idle queue is not looked at");
    push(&redis, "mail", (0..5).map(|n| payload(n, "")));
    receiver.wait_for(5, LIMIT);
    fleet.rewrite(&fixed);
    fleet.ok(&["reload"]);
    eventually(LIMIT, "the thread to end", || (watchers(&fleet) == 0).then_some(()));
    assert_eq!(fleet.pid_of("mail:mail_00"), pid);
    assert_eq!(fleet.stop(), 0);
}
