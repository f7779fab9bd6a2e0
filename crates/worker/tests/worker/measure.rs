//! What jobs cost: commands sent to Redis, for each job under load and when idle. The bounds are the product's; the
//! figures are printed with `--nocapture`.

use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Receiver};

use crate::jobs::Job;
use crate::stage::Stage;

/// Commands that clients sent. Those of scripts are counted by Redis under their own names, which we never send.
fn sent(stage: &Stage) -> u64 {
    let info: String =
        redis::cmd("INFO").arg("commandstats").query(&mut stage.redis.connection()).unwrap();
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
