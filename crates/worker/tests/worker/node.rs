//! What workers do with jobs of Node's own libraries, with the library itself as producer, listener and judge.

use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::link::FromChild;
use qfleet_testkit::{Answer, Node, Receiver, eventually};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

const LIBRARIES: [&str; 2] = ["bullmq", "bullmq6"];

/// A worker's settings for the queue `mail` with these further lines.
fn mail(stage: &Stage, more: &str) -> WorkerSettings {
    stage.settings_of(&format!(
        "connections:\n  app: {{driver: bullmq, redis: {{url: 'redis+unix://{}'}}}}\nqueues:\n  mail:\n    sleep: 0.2\n{more}",
        stage.redis.socket().display()
    ))
}

/// The same, with a line for `/bin/sh` that runs in the stage's directory.
fn shell(stage: &Stage, line: &str, more: &str) -> WorkerSettings {
    let text = serde_json::to_string(&line.replace('$', "$$")).unwrap();
    let cwd = stage.scratch.path().display().to_string();
    mail(stage, &format!("    handler: {{shell: {{shell: {text}, cwd: '{cwd}'}}}}\n{more}"))
}

#[track_caller]
fn soon(node: &Node, what: &str, code: &str) -> Value {
    eventually(SOON, what, || {
        let value = node.run(code);
        (!value.is_null() && value != json!(false)).then_some(value)
    })
}

#[test]
fn progress_and_log_lines_reach_whoever_watches_the_job() {
    for library in LIBRARIES {
        let stage = Stage::new();
        let node = Node::start(library, &stage.redis);
        node.run("await kit.listen('mail')");
        let line = r#"say() { echo "$1" >&3; }
            say '{"progress":{"done":1,"of":12345678901234567890}}'; say '{"log":"one"}'; say '{"log":{"level":"warn","text":"two"}}'
            while [ ! -e go ]; do sleep 0.01; done
            say '{"log":"three"}'; say '{"progress":50}'; say '{"progress":100}'"#;
        let worker = stage.worker(&shell(&stage, line, ""));
        node.run("await kit.queue('mail').add('a', {}, {jobId: 'A', keepLogs: 2})");
        let half = soon(
            &node,
            "progress of a job that runs",
            "const {logs} = await kit.queue('mail').getJobLogs('A')
             const job = await kit.queue('mail').getJob('A')
             return logs.length === 2 && {progress: job.progress, state: await job.getState(), logs}",
        );
        assert_eq!(half["state"], "active", "{library}");
        assert_eq!(half["progress"]["done"], 1, "{library}");
        assert_eq!(half["logs"], json!(["one", "warn: two"]), "{library}");
        let text: String = redis::cmd("HGET")
            .arg("bull:mail:A")
            .arg("progress")
            .query(&mut stage.redis.connection())
            .unwrap();
        assert_eq!(text, r#"{"done":1,"of":12345678901234567890}"#, "byte for byte");

        stage.scratch.write("go", "");
        let heard = soon(
            &node,
            "the listener to hear of the end",
            "const names = kit.seen('mail').filter(([name]) => ['progress', 'completed'].includes(name))
             return names.some(([name]) => name === 'completed') && names.map(([name, {data}]) => [name, data ?? null])",
        );
        let heard = heard.as_array().unwrap();
        assert_eq!(heard.last().unwrap()[0], "completed", "{library}: {heard:?}");
        assert_eq!(heard[heard.len() - 2], json!(["progress", 100]), "{library}: {heard:?}");
        let job = node.run(
            "const job = await kit.queue('mail').getJob('A')
             return [job.progress, (await kit.queue('mail').getJobLogs('A')).logs]",
        );
        assert_eq!(job, json!([100, ["warn: two", "three"]]), "{library}: `keepLogs` is honoured");
        assert_eq!(worker.finish().completed, 1);
    }
}

#[test]
fn what_is_said_is_written_before_the_job_is_settled_however_it_ends() {
    let stage = Stage::new();
    let node = Node::start("bullmq", &stage.redis);
    let line = r#"echo '{"log":"'$JOB_ATTEMPT'"}' >&3; echo '{"progress":'$JOB_ATTEMPT'0}' >&3
        case $JOB_NAME in retry) [ $JOB_ATTEMPT = 3 ];; fail) exit 65;; gone) exit 99;; esac"#;
    let worker = stage.worker(&shell(&stage, line, "    concurrency: 10\n"));
    let numbers = "Array.from({length: 30}, (_, n) => n)";
    node.run(&format!(
        "await kit.queue('mail').addBulk({numbers}.map((n) => (
           {{name: ['retry', 'fail', 'gone'][n % 3], data: {{}}, opts: {{jobId: `j${{n}}`, attempts: 3}}}})))"
    ));
    soon(
        &node,
        "all jobs to have ended",
        "const counts = await kit.queue('mail').getJobCounts('completed', 'failed')
         return counts.completed === 20 && counts.failed === 10",
    );
    let said = node.run(&format!(
        "return Promise.all({numbers}.map(async (n) => [(await kit.queue('mail').getJob(`j${{n}}`)).progress,
           (await kit.queue('mail').getJobLogs(`j${{n}}`)).logs]))"
    ));
    for job in said.as_array().unwrap().chunks(3) {
        assert_eq!(job[0], json!([30, ["1", "2", "3"]]));
        assert_eq!(job[1], json!([10, ["1"]]));
        let discarded = job[2][1].as_array().unwrap();
        assert_eq!((&job[2][0], &discarded[0]), (&json!(10), &json!("1")));
        assert!(discarded[1].as_str().unwrap().starts_with("discarded"), "{discarded:?}");
    }
    let report = worker.finish();
    assert_eq!((report.completed, report.retried, report.failed, report.discarded), (10, 20, 10, 10));
}

#[test]
fn a_flood_of_lines_stays_in_bounds_and_delays_nobody() {
    let stage = Stage::new();
    let node = Node::start("bullmq", &stage.redis);
    let line = r#"seq 1 100000 | sed 's/.*/{"log":"&"}/' >&3"#;
    let worker = stage.worker(&shell(&stage, line, ""));
    node.run("await kit.queue('mail').add('a', {}, {jobId: 'A'})");
    let rows = soon(
        &node,
        "the job to be completed",
        "if (!(await kit.queue('mail').getCompletedCount())) return false
         const {logs, count} = await kit.queue('mail').getJobLogs('A', -1, -1)
         return {count, last: logs[0]}",
    );
    assert_eq!(rows["last"], "100000", "the newest lines win");
    let count = rows["count"].as_u64().unwrap();
    assert!((500..=100_000).contains(&count), "{count} rows");
    if count < 100_000 {
        assert_eq!(worker.logged("log lines of jobs are left out"), 1, "{}", worker.log());
    }
    assert_eq!(worker.finish().completed, 1);
}

#[test]
fn a_result_that_is_too_long_is_null_and_the_job_says_why() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| {
        Answer::ok().header("Content-Type", "application/json").body(format!("\"{}\"", "x".repeat(2000)))
    });
    let node = Node::start("bullmq", &stage.redis);
    let handler = format!("    handler: {{http: {{url: '{}/', max-result: 1KiB}}}}\n", receiver.url());
    let worker = stage.worker(&mail(&stage, &handler));
    node.run("await kit.queue('mail').add('a', {}, {jobId: 'A'})");
    let value = soon(
        &node,
        "the job to be completed",
        "const [job] = await kit.queue('mail').getCompleted()
         return job && [job.returnvalue, (await kit.queue('mail').getJobLogs('A')).logs]",
    );
    assert_eq!(value[0], Value::Null);
    let row = value[1][0].as_str().unwrap();
    assert!(row.starts_with("result_truncated") && row.contains("2002 bytes"), "{row}");
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("result_truncated")).unwrap();
    assert!(line.contains("WARN"), "{line}");
    worker.finish();
}

#[test]
fn the_producers_trace_goes_on_in_the_handler() {
    for library in LIBRARIES {
        let stage = Stage::new();
        let receiver = Receiver::start(|_| Answer::ok());
        let node = Node::start(library, &stage.redis);
        let routes =
            "    routes:\n      - {name: 'shell*', handler: {shell: 'env > trace.$$JOB_NAME'}}\n    cwd: ";
        let settings = mail(
            &stage,
            &format!(
                "    handler: {{http: '{}/'}}\n{}",
                receiver.url(),
                routes.replace("trace.", &format!("{}/trace.", stage.scratch.path().display())) + "/"
            ),
        );
        let worker = stage.worker(&settings);
        let add = |name: &str, telemetry: Value| {
            node.run(&format!("await kit.queue('mail').add('{name}', {{}}, {{telemetry: {telemetry}}})"));
        };
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let carrier = json!({"traceparent": parent, "tracestate": "vendor=1"}).to_string();
        add("http", json!({"metadata": carrier}));
        add("shell", json!({"metadata": carrier}));
        add("omitted", json!({"metadata": carrier, "omitContext": true}));
        let requests = receiver.wait_for(2, SOON);
        let of = |name: &str, header: &str| {
            let request = requests.iter().find(|request| request.header("Job-Name") == Some(name)).unwrap();
            request.header(header).map(str::to_owned)
        };
        let span = of("http", "traceparent").unwrap();
        assert!(
            span.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && span.ends_with("-01"),
            "{library}: {span}"
        );
        assert!(!span.contains("b7ad6b7169203331"), "a span of its own: {span}");
        assert_eq!(of("http", "tracestate").as_deref(), Some("vendor=1"));
        let apart = of("omitted", "traceparent").unwrap();
        assert!(!apart.contains("0af7651916cd43dd8448eb211c80319c"), "{library}: {apart}");
        assert_eq!(of("omitted", "tracestate"), None);
        soon(&node, "the shell's end", "return await kit.queue('mail').getCompletedCount() === 3");
        let variables = stage.lines("trace.shell");
        let value = |name: &str| {
            variables.iter().find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned)
        };
        assert!(value("TRACEPARENT").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert_eq!(value("TRACESTATE").as_deref(), Some("vendor=1"));
        worker.finish();
    }
}

#[test]
fn what_will_never_succeed_is_not_tried_again() {
    for library in LIBRARIES {
        let stage = Stage::new();
        let node = Node::start(library, &stage.redis);
        node.run("await kit.listen('mail')");
        let line = r#"echo tried >> runs; echo "no such customer" >&2; exit 65"#;
        let worker = stage.worker(&shell(&stage, line, ""));
        node.run("await kit.queue('mail').add('a', {}, {jobId: 'A', attempts: 5, backoff: 10})");
        let ended = soon(
            &node,
            "the job to be failed",
            "if (!(await kit.queue('mail').getFailedCount())) return false
             const job = await kit.queue('mail').getJob('A')
             return {made: job.attemptsMade, reason: job.failedReason, traces: job.stacktrace.length}",
        );
        assert_eq!(ended, json!({"made": 1, "reason": "no such customer", "traces": 1}), "{library}");
        worker.wait_report("the failure to be counted", |report| report.failed == 1);
        assert_eq!(stage.lines("runs").len(), 1, "{library}");
        let names = node.run("return kit.seen('mail').map(([name]) => name)");
        assert!(
            !names.as_array().unwrap().contains(&json!("retries-exhausted")),
            "{library}: attempts were left: {names}"
        );
        worker.finish();
    }
}

#[test]
fn a_backoff_that_only_the_application_knows_is_the_manifests_or_ends_the_job() {
    for (backoff, runs) in [("    backoff: 0.1\n", 3), ("", 1)] {
        let stage = Stage::new();
        let node = Node::start("bullmq", &stage.redis);
        let worker = stage.worker(&shell(&stage, "echo tried >> runs; echo no >&2; exit 1", backoff));
        node.run("await kit.queue('mail').add('a', {}, {jobId: 'A', attempts: 3, backoff: {type: 'ours', delay: 7}})");
        let reason = soon(
            &node,
            "the job to be failed",
            "const [job] = await kit.queue('mail').getFailed(); return job && job.failedReason",
        );
        let unknown = reason.as_str().unwrap().starts_with("Unknown backoff strategy ours");
        assert_eq!((stage.lines("runs").len(), unknown), (runs, runs == 1), "{reason}");
        worker.finish();
    }
}

#[test]
fn a_parent_whose_children_still_run_is_tried_again_as_with_the_library() {
    let mut ends = Vec::new();
    for ours in [false, true] {
        let stage = Stage::new();
        let node = Node::start("bullmq", &stage.redis);
        let line = "touch begun; while [ ! -e go ]; do sleep 0.01; done; echo 1";
        let worker = ours.then(|| stage.worker(&shell(&stage, line, "")));
        if !ours {
            node.run("kit.worker('mail', async () => { kit.memory.begun = 1; await kit.until(() => kit.memory.go); return 1 })");
        }
        node.run("await kit.queue('mail').add('p', {}, {jobId: 'P', attempts: 3, backoff: 1000})");
        eventually(SOON, "the parent to run", || {
            let begun =
                stage.scratch.join("begun").exists() || node.run("return kit.memory.begun") == json!(1);
            begun.then_some(())
        });
        // A child that its parent's handler adds while it runs.
        node.run("await kit.queue('kids').add('c', {}, {jobId: 'C', parent: {id: 'P', queue: 'bull:mail'}}); kit.memory.go = 1");
        stage.scratch.write("go", "");
        let first = soon(
            &node,
            "the parent to be put off",
            "const [job] = await kit.queue('mail').getDelayed()
             return job && {made: job.attemptsMade, reason: job.failedReason, traces: job.stacktrace.length}",
        );
        node.run(
            "const w = await kit.worker('kids', async () => 'c'); await kit.until(() => kit.queue('kids').getCompletedCount()); await w.close()",
        );
        let last = soon(
            &node,
            "the parent to be completed",
            "const [job] = await kit.queue('mail').getCompleted()
             return job && {made: job.attemptsMade, value: job.returnvalue, children: await job.getChildrenValues()}",
        );
        ends.push([first, last]);
        if let Some(worker) = worker {
            worker.finish();
        }
    }
    assert_eq!(ends[0], ends[1], "theirs (left), ours (right)");
}

#[test]
fn a_queue_that_limits_itself_is_not_fetched_ahead_of() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let node = Node::start("bullmq", &stage.redis);
    node.run(
        "await kit.queue('mail').setGlobalConcurrency(3)
         await kit.queue('mail').addBulk(Array.from({length: 300}, (_, n) => ({name: 'a', data: {n}})))",
    );
    let handler = format!("    concurrency: 3\n    handler: {{http: '{}/'}}\n", receiver.url());
    let worker = stage.worker(&mail(&stage, &handler));
    soon(&node, "all to be completed", "return await kit.queue('mail').getCompletedCount() === 300");
    let report = worker.finish();
    assert_eq!((report.completed, report.given_back), (300, 0));
    assert!(receiver.most_in_hand() <= 3);
}

#[test]
fn metrics_are_kept_as_long_as_the_manifest_says() {
    let stage = Stage::new();
    let node = Node::start("bullmq", &stage.redis);
    let worker = stage.worker(&shell(&stage, "[ $JOB_NAME = good ]", "    metrics: 1h\n"));
    assert!(worker.said().contains(&FromChild::Ready));
    node.run("for (const name of ['good', 'bad', 'good']) await kit.queue('mail').add(name, {})");
    let metrics = soon(
        &node,
        "the metrics",
        "const [done, bad] = await Promise.all(['completed', 'failed'].map((type) => kit.queue('mail').getMetrics(type)))
         return done.meta.count === 2 && bad.meta.count === 1 && done.meta.prevTS > 0",
    );
    assert_eq!(metrics, json!(true));
    worker.finish();
}
