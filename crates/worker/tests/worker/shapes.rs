//! Five hundred jobs of every recorded shape, and of a real Laravel, through both handlers: not a byte may differ.

use std::collections::BTreeMap;

use qfleet_testkit::{Answer, JobKind, Php, Receiver, laravel_payloads};

use crate::stage::{SOON, Stage};

const JOBS: usize = 500;

/// Payloads of every shape, each time with an id of its own, all with time to run.
fn from_fixtures(count: usize) -> Vec<Vec<u8>> {
    let shapes = laravel_payloads();
    let all: Vec<&Vec<u8>> =
        shapes.iter().flat_map(|shape| shape.ready.iter().chain(&shape.delayed)).collect();
    (0..count)
        .map(|number| {
            let text = String::from_utf8(all[number % all.len()].clone()).unwrap();
            let uuid = text.split("\"uuid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            let text = text.replace(&uuid, &format!("{number:08x}{}", &uuid[8..]));
            with_time_to_run(text).into_bytes()
        })
        .collect()
}

fn with_time_to_run(text: String) -> String {
    let Some((before, after)) = text.split_once("\"retryUntil\":1") else { return text };
    let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}\"retryUntil\":4000000000{after}")
}

fn counted(payloads: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for payload in payloads {
        *counts.entry(String::from_utf8_lossy(&payload).into_owned()).or_default() += 1;
    }
    counts
}

fn queue(
    stage: &Stage,
    queue: &str,
    connection: &str,
    handler: &str,
) -> qfleet_manifest::settings::WorkerSettings {
    stage.settings_of(&format!(
        "redis: {{url: \"redis+unix://{}\"}}\nconnections:\n  crm: {{driver: laravel, prefix: {connection}}}\n\
         queues:\n  {queue}: {{concurrency: 8, tries: 1, handler: {handler}}}\n",
        stage.redis.socket().display()
    ))
}

#[test]
fn every_shape_comes_out_of_the_http_handler_byte_for_byte() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let sent = from_fixtures(JOBS);
    sent.iter().for_each(|payload| stage.push("shapes", payload));
    let settings = queue(&stage, "shapes", "t_", &format!("{{http: \"{}\"}}", receiver.url()));
    let worker = stage.worker(&settings);
    let received = receiver.wait_for(JOBS, SOON);
    assert_eq!(worker.finish().completed, JOBS as u64);
    assert_eq!(counted(received.into_iter().map(|request| request.body)), counted(sent));
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn every_shape_comes_out_of_the_shell_handler_byte_for_byte() {
    let stage = Stage::new();
    let sent = from_fixtures(JOBS);
    sent.iter().for_each(|payload| stage.push("shapes", payload));
    let got = stage.scratch.join("got");
    std::fs::create_dir(&got).unwrap();
    let handler = format!("{{shell: {{shell: 'cat > {}/$JOB_DELIVERY'}}}}", got.display());
    let worker = stage.worker(&queue(&stage, "shapes", "t_", &handler));
    worker.wait_report("all completed", |report| report.completed == JOBS as u64);
    worker.finish();
    let files = std::fs::read_dir(&got).unwrap();
    let received = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    assert_eq!(counted(received), counted(sent));
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn what_a_real_laravel_pushes_comes_out_of_both_handlers() {
    let stage = Stage::new();
    let php = Php::on(&stage.redis);
    let (mut to_http, mut to_shell) = (Vec::new(), Vec::new());
    for kind in JobKind::ALL {
        to_http.extend(php.produce("http", kind, 10).into_iter().map(|pushed| pushed.raw));
        to_shell.extend(php.produce("shell", kind, 10).into_iter().map(|pushed| pushed.raw));
    }
    let receiver = Receiver::start(|_| Answer::ok());
    let got = stage.scratch.join("got");
    std::fs::create_dir(&got).unwrap();
    let http = format!("{{http: \"{}\"}}", receiver.url());
    let shell = format!("{{shell: {{shell: 'cat > {}/$JOB_DELIVERY'}}}}", got.display());
    let by_http = stage.worker(&queue(&stage, "http", "laravel_database_", &http));
    let by_shell = stage.worker(&queue(&stage, "shell", "laravel_database_", &shell));
    let received = receiver.wait_for(to_http.len(), SOON);
    by_shell.wait_report("all completed", |report| report.completed == to_shell.len() as u64);
    assert_eq!(by_http.finish().completed, to_http.len() as u64);
    by_shell.finish();
    assert_eq!(counted(received.into_iter().map(|request| request.body)), counted(to_http));
    let files = std::fs::read_dir(&got).unwrap();
    assert_eq!(counted(files.map(|file| std::fs::read(file.unwrap().path()).unwrap())), counted(to_shell));
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}
