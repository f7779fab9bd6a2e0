//! Several queues in one process: each its own concurrency, taken in turn, woken at once.

use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Receiver, eventually};

use crate::jobs::Job;
use crate::stage::{SOON, Stage};

fn pool(
    stage: &Stage,
    receiver: &Receiver,
    concurrency: u32,
    lanes: &[(&str, u32)],
) -> qfleet_manifest::settings::WorkerSettings {
    let mut text = String::from("queues:\n");
    for (name, own) in lanes {
        text += &format!(
            "  {name}: {{concurrency: {own}, sleep: 30s, handler: {{http: \"{}/{name}\"}}}}\n",
            receiver.url()
        );
    }
    let names: Vec<&str> = lanes.iter().map(|(name, _)| *name).collect();
    text += &format!("pools:\n  p: {{queues: [{}], concurrency: {concurrency}}}\n", names.join(", "));
    stage.settings(&text)
}

#[test]
fn a_full_queue_does_not_starve_its_neighbours() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(30)));
    for number in 0..40 {
        stage.push("full", &Job::new(&format!("full-{number}")).bytes());
    }
    for number in 0..5 {
        stage.push("small", &Job::new(&format!("small-{number}")).bytes());
    }
    let worker = stage.worker(&pool(&stage, &receiver, 2, &[("full", 2), ("small", 2)]));
    let requests = receiver.wait_for(45, SOON);
    let last_small = requests.iter().rposition(|request| request.path == "/small").unwrap();
    assert!(last_small < 20, "the last of five was number {last_small}");
    assert_eq!(worker.finish().completed, 45);
    assert!(receiver.most_in_hand() <= 2);
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn each_queue_keeps_its_own_concurrency() {
    let stage = Stage::new();
    let receiver = Receiver::start(|request| {
        let slow = if request.path == "/one" { 200 } else { 20 };
        Answer::ok().after(Duration::from_millis(slow))
    });
    for number in 0..5 {
        stage.push("one", &Job::new(&format!("one-{number}")).bytes());
        stage.push("many", &Job::new(&format!("many-{number}")).bytes());
    }
    let worker = stage.worker(&pool(&stage, &receiver, 4, &[("one", 1), ("many", 4)]));
    let requests = receiver.wait_for(10, SOON);
    let ones: Vec<Instant> =
        requests.iter().filter(|request| request.path == "/one").map(|request| request.at).collect();
    assert!(ones.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(190)), "one at a time");
    let many_done = requests.iter().rposition(|request| request.path == "/many").unwrap();
    assert!(many_done < 9, "the others did not wait for them");
    assert_eq!(worker.finish().completed, 10);
}

#[test]
fn a_push_to_any_queue_of_an_idle_pool_is_served_at_once() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let names: Vec<String> = (0..11).map(|number| format!("q{number}")).collect();
    let lanes: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let worker = stage.worker(&pool(&stage, &receiver, 4, &lanes));
    for round in 0..3 {
        for (number, name) in names.iter().enumerate() {
            let pushed = Instant::now();
            stage.push(name, &Job::new(&format!("{name}-{round}")).bytes());
            receiver.wait_for(round * 11 + number + 1, SOON);
            assert!(pushed.elapsed() < Duration::from_secs(25), "{:?} for `{name}`", pushed.elapsed());
        }
    }
    assert_eq!(worker.finish().completed, 33);
}

#[test]
fn a_paused_queue_is_left_alone_and_the_others_are_served() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut connection = stage.redis.connection();
    redis::cmd("SADD").arg("t_qfleet:paused").arg("held").exec(&mut connection).unwrap();
    stage.push("held", &Job::new("held").bytes());
    let mut settings = pool(&stage, &receiver, 2, &[("held", 2), ("free", 2)]);
    settings.sleep = Duration::from_millis(300);
    let worker = stage.worker(&settings);
    worker.wait_report("the pause to be told", |report| report.paused == ["held"]);
    stage.push("free", &Job::new("free").bytes());
    assert_eq!(receiver.wait_for(1, SOON)[0].path, "/free");
    assert_eq!(stage.depth("held"), (1, 0, 0));
    redis::cmd("SREM").arg("t_qfleet:paused").arg("held").exec(&mut connection).unwrap();
    receiver.wait_for(2, SOON);
    worker.wait_report("the end of the pause", |report| report.paused.is_empty() && report.completed == 2);
    worker.finish();
}

#[test]
fn a_full_queue_of_one_connection_does_not_starve_another_connection() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let url = receiver.url();
    let settings = stage.settings_of(&format!(
        "redis: {{url: \"redis+unix://{}\"}}\nconnections:\n  a: {{driver: laravel, prefix: t_}}\n  b: {{driver: laravel, prefix: t_b}}\n\
         queues:\n  full: {{connection: a, sleep: 30s, handler: {{http: \"{url}/full\"}}}}\n  rare: {{connection: b, sleep: 30s, handler: {{http: \"{url}/rare\"}}}}\n\
         pools:\n  p: {{queues: [full, rare], concurrency: 1}}\n",
        stage.redis.socket().display()
    ));
    for number in 0..500 {
        stage.push("full", &Job::new(&number.to_string()).bytes());
    }
    let worker = stage.worker(&settings);
    receiver.wait_for(20, SOON);
    for number in 0..3 {
        let job = Job::new(&format!("rare-{number}")).bytes();
        redis::cmd("RPUSH").arg("t_bqueues:rare").arg(job).exec(&mut stage.redis.connection()).unwrap();
    }
    eventually(SOON, "the rare ones", || {
        (receiver.requests().iter().filter(|request| request.path == "/rare").count() == 3).then_some(())
    });
    assert!(receiver.count() < 400, "they did not wait until the others were done: {}", receiver.count());
    worker.finish();
}
