//! A fleet on a Redis Cluster: queues on several nodes, slots that move, a master that dies.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Node, Receiver, RedisCluster, eventually};
use serde_json::{Value, json};

use crate::support::{Fleet, SOON, payload};

const QUEUES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

fn fleet(cluster: &RedisCluster, receiver: &Receiver) -> Fleet {
    let mut manifest = format!(
        "redis: {{url: '{}'}}\nconnections:\n  node: {{driver: bullmq, prefix: '{{bull}}'}}\n  \
         php: {{driver: laravel, cluster-keys: true}}\ndefaults: {{handler: {{http: {{url: '{}/'}}}}}}\n\
         queues:\n  mail: {{connection: node, concurrency: 10, sleep: 0.5}}\n",
        cluster.url(),
        receiver.url()
    );
    for queue in QUEUES {
        manifest.push_str(&format!("  {queue}: {{connection: php}}\n"));
    }
    manifest.push_str(&format!("pools:\n  spread: {{queues: [{}], sleep: 0.5}}\n", QUEUES.join(", ")));
    Fleet::start_and_wait(&manifest)
}

fn rows(fleet: &Fleet, args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&fleet.ok(args)).unwrap()
}

/// As Laravel 13.5 and newer push on a cluster.
fn push(cluster: &RedisCluster, queue: &str, payload: &str) {
    let key = format!("queues:{{{queue}}}");
    let mut pipe = redis::pipe();
    pipe.rpush(&key, payload).ignore().rpush(format!("{key}:notify"), 1).ignore();
    pipe.query::<()>(&mut cluster.connection(&key)).unwrap();
}

#[test]
fn queues_on_several_nodes_are_worked_and_looked_at_as_one_fleet() {
    let cluster = RedisCluster::start(3, 0);
    let receiver = Receiver::start(|request| match request.header("Job-Name") {
        Some(name) if name.ends_with("Job9") => Answer::status(422),
        _ => Answer::ok(),
    });
    let mut fleet = fleet(&cluster, &receiver);
    for (number, queue) in QUEUES.iter().enumerate() {
        push(&cluster, queue, &payload(number, ""));
    }
    fleet.ok(&["push", "mail", "ours", "{}"]);
    receiver.wait_for(5, SOON);
    fleet.ok(&["pause", "mail", "alpha", "beta", "gamma", "delta"]);
    eventually(SOON, "every queue to be paused", || {
        rows(&fleet, &["queues", "--json"]).iter().all(|queue| queue["paused"] == true).then_some(())
    });
    std::thread::sleep(Duration::from_millis(700));
    for queue in QUEUES {
        push(&cluster, queue, &payload(9, ""));
        assert_eq!(rows(&fleet, &["jobs", queue, "--json"]).len(), 1, "{queue}");
    }
    let listed = rows(&fleet, &["queues", "--json"]);
    let waiting: Vec<&Value> = listed.iter().filter(|queue| queue["waiting"] == 1).collect();
    assert_eq!(waiting.len(), QUEUES.len(), "{listed:?}");
    assert!(listed.iter().all(|queue| queue["error"].is_null()), "{listed:?}");
    assert_eq!(receiver.count(), 5);
    fleet.ok(&["resume", "mail", "alpha", "beta", "gamma", "delta"]);
    let failed = eventually(SOON, "each queue to have a failed job", || {
        let failed = rows(&fleet, &["failed", "list", "--json"]);
        let mut queues: Vec<&str> = failed.iter().filter_map(|job| job["queue"].as_str()).collect();
        queues.sort_unstable();
        (queues == ["alpha", "beta", "delta", "gamma"]).then_some(failed)
    });
    fleet.ok(&["failed", "retry", failed[0]["id"].as_str().unwrap()]);
    receiver.wait_for(10, SOON);
    fleet.ok(&["failed", "flush"]);
    let probed = fleet.ok(&["check", "--probe"]);
    assert!(probed.contains("alpha has 0 waiting") && probed.contains("mail has 0 waiting"), "{probed}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice_while_slots_move_and_a_worker_dies() {
    let cluster = RedisCluster::start(3, 0);
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let node = Node::start_on_cluster("bullmq", &cluster);
    let mut fleet = fleet(&cluster, &receiver);
    node.run(
        "kit.memory.adding = (async () => {
           for (let n = 0; n < 400; n++) { await kit.until(() => kit.queue('mail').add(`n${n}`, {n}).catch(() => null)) }
         })()",
    );
    let key = "{bull}:mail:";
    for round in 0..3 {
        receiver.wait_for(60 * (round + 1), SOON);
        let from = cluster.owner(key).port();
        let to = cluster.nodes().iter().find(|node| node.port() != from).unwrap();
        cluster.move_slot(key, to);
    }
    kill(Pid::from_raw(fleet.pid_of("mail:mail_00")), Signal::SIGKILL).unwrap();
    node.run("await kit.memory.adding");
    eventually(SOON * 2, "every job to be completed", || {
        let counts = node.run("return await kit.queue('mail').getJobCounts()");
        assert_eq!(counts["failed"], json!(0), "{counts}");
        let open =
            ["waiting", "active", "delayed", "prioritized"].iter().all(|state| counts[state] == json!(0));
        (open && counts["completed"].as_u64() >= Some(400)).then_some(())
    });
    let mut deliveries: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for request in receiver.requests() {
        let after_crash = request.header("Job-Previous-Status") == Some("crash");
        deliveries.entry(request.header("Job-Name").unwrap().to_owned()).or_default().push(after_crash);
    }
    assert_eq!(deliveries.len(), 400);
    for (job, times) in deliveries {
        // Only what the killed worker held comes again, and says so.
        let well = times.iter().skip(1).all(|after_crash| *after_crash) && times.len() <= 2;
        assert!(well, "{job}: {times:?}\n{}", fleet.log());
    }
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn jobs_in_hand_outlive_a_master_that_dies() {
    let cluster = RedisCluster::start(3, 1);
    let receiver = Receiver::start(|request| match request.header("Job-Name") {
        Some("slow") => Answer::ok().after(Duration::from_secs(5)),
        _ => Answer::ok(),
    });
    let node = Node::start_on_cluster("bullmq", &cluster);
    let mut fleet = fleet(&cluster, &receiver);
    node.run("await kit.queue('mail').addBulk(Array.from({length: 10}, () => ({name: 'slow', data: {}})))");
    receiver.wait_for(10, SOON);
    let key = "{bull}:mail:";
    cluster.wait_for_replicas(key);
    cluster.owner(key).kill9();
    // Others' queues go on, as far as they lie elsewhere; and new jobs come as soon as there is a master again.
    node.run("await kit.until(() => kit.queue('mail').add('after', {}).catch(() => null))");
    eventually(SOON, "all to be completed", || {
        let counts = node.run("return await kit.queue('mail').getJobCounts()");
        (counts["completed"] == json!(11)).then_some(())
    });
    assert_eq!(receiver.count(), 11, "each was delivered once");
    assert_eq!(fleet.stop(), 0);
}
