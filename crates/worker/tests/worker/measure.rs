//! What jobs cost: commands sent to Redis, for each job under load and when idle. The bounds are the product's; the
//! figures are printed with `--nocapture`.

use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Receiver};

use crate::jobs::Job;
use crate::stage::{SOON, Stage};

/// Commands that clients sent. Those of scripts are counted by Redis under their own names, which we never send.
fn sent(stage: &Stage) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut stage.redis.connection()).unwrap();
    let ours = ["evalsha", "eval", "blpop", "client|id", "client|unblock", "client|setname", "rpush", "type"];
    info.lines()
        .filter_map(|line| {
            let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = figures.strip_prefix("calls=")?.split(',').next()?;
            ours.contains(&name).then(|| calls.parse::<u64>().unwrap())
        })
        .sum()
}

fn load(concurrency: u32, jobs: usize) -> (f64, f64) {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    for number in 0..jobs {
        stage.push("q", &Job::new(&format!("job-{number}")).bytes());
    }
    let settings = stage.settings(&format!(
        "queues:\n  q: {{concurrency: {concurrency}, handler: {{http: \"{}\"}}}}\n",
        receiver.url()
    ));
    redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut stage.redis.connection()).unwrap();
    let begun = Instant::now();
    let worker = stage.worker(&settings);
    receiver.wait_for(jobs, Duration::from_secs(120));
    let took = begun.elapsed();
    stage.wait_depth("q", (0, 0, 0));
    #[allow(clippy::cast_precision_loss)]
    let (each, per_second) = (sent(&stage) as f64 / jobs as f64, jobs as f64 / took.as_secs_f64());
    assert_eq!(worker.finish().completed, jobs as u64);
    println!("concurrency {concurrency}: {per_second:.0} jobs a second, {each:.3} commands a job");
    (each, per_second)
}

#[test]
fn one_command_settles_and_takes_at_concurrency_one() {
    let (each, _) = load(1, 1000);
    assert!(each <= 1.1, "{each}");
}

#[test]
fn commands_are_shared_at_higher_concurrency() {
    for (concurrency, jobs) in [(10, 3000), (100, 5000)] {
        let (each, _) = load(concurrency, jobs);
        assert!(each < 1.0, "{each} at {concurrency}");
    }
}

#[test]
fn an_idle_pool_of_eleven_queues_costs_two_commands_a_sleep() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut manifest = String::from("queues:\n");
    let names: Vec<String> = (0..11).map(|number| format!("q{number}")).collect();
    for name in &names {
        manifest += &format!("  {name}: {{sleep: 1s, handler: {{http: \"{}\"}}}}\n", receiver.url());
    }
    manifest += &format!("pools:\n  p: {{queues: [{}], concurrency: 4}}\n", names.join(", "));
    let worker = stage.worker(&stage.settings(&manifest));
    stage.push("q3", &Job::new("a").bytes());
    receiver.wait_for(1, SOON);
    worker.wait_report("it to be settled", |report| report.completed == 1);
    let (begun, before) = (Instant::now(), sent(&stage));
    let pid = i32::try_from(worker.child.pid()).unwrap();
    let busy = qfleet_os::usage::of(pid).unwrap().cpu;
    std::thread::sleep(Duration::from_secs(5));
    let busy = qfleet_os::usage::of(pid).unwrap().cpu - busy;
    assert!(busy <= Duration::from_millis(100), "{busy:?} of processor time in five idle seconds");
    #[allow(clippy::cast_precision_loss)]
    let each = (sent(&stage) - before) as f64 / begun.elapsed().as_secs_f64();
    println!("idle: {each:.2} commands a second with `sleep: 1s`");
    assert!(each <= 2.5, "{each}");
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut stage.redis.connection()).unwrap();
    // One of them is ours.
    assert!(clients.lines().count() <= 3, "{clients}");
    worker.finish();
}

#[test]
fn a_job_for_an_idle_worker_arrives_soon() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let settings = stage
        .settings(&format!("queues:\n  q: {{concurrency: 10, handler: {{http: \"{}\"}}}}\n", receiver.url()));
    let worker = stage.worker(&settings);
    let mut connection = stage.redis.connection();
    let mut took = Vec::new();
    for number in 0..60_usize {
        let mut both = redis::pipe();
        both.atomic().cmd("RPUSH").arg("t_queues:q").arg(Job::new(&number.to_string()).bytes());
        both.cmd("RPUSH").arg("t_queues:q:notify").arg(1);
        let pushed = Instant::now();
        both.exec(&mut connection).unwrap();
        let requests = receiver.wait_for(number + 1, SOON);
        took.push(requests[number].at.saturating_duration_since(pushed));
        worker.wait_report("it to be settled", |report| report.running == 0);
    }
    took.sort_unstable();
    println!("median {:?}, slowest {:?}", took[30], took[59]);
    // Whoever looks now and then takes seconds; a busy machine is slow, too.
    assert!(took[30] < Duration::from_millis(500), "{took:?}");
    assert_eq!(worker.finish().completed, 60);
}
