//! The example `deploy/examples/node-apps.yaml` as it stands, fed by the real libraries while workers of it are killed: 21
//! queues of both families for more than two minutes, and every job is done as often as it should be.

mod judge;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Gate, Guarded, Node, Received, Receiver, RedisServer, eventually};
use serde_json::{Value, json};

use self::judge::{LIMIT, WINDOW, of_queue, told};
use crate::support::{Fleet, Pace, SOON};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");
const FED_FOR: Duration = Duration::from_secs(130);
/// Workers that are killed, with the most jobs each can have in hand.
const VICTIMS: [(&str, usize); 3] =
    [("messages:messages_00", 10), ("notifications:notifications_00", 10), ("calendar:calendar_00", 23)];
/// Library, prefix and queues, as in the manifest.
const APPLICATIONS: [(&str, &str, &str); 3] = [
    ("bull", "crm", CRM),
    (
        "bull",
        "calendar-old",
        "webhook-health-check notification-reminder token-health-reminder adaptive-sync webhook-renewal",
    ),
    (
        "bullmq",
        "calendar",
        "suggestion-regeneration batch-notifications suggestion-generation token-refresh calendar-sync \
         google-contacts-sync",
    ),
];
const CRM: &str = "messages campaigns flows emails webhooks ai imports exports analytics notifications";

#[test]
fn two_node_applications_lose_no_job_and_have_none_done_twice() {
    let clock = (Instant::now(), SystemTime::now());
    let redis = RedisServer::builder().tcp().start();
    let (messages, killed) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let receiver = Receiver::start({
        let (messages, killed) = (Arc::clone(&messages), killed.clone());
        move |request| {
            let is_message = request.header("Job-Queue") == Some("messages");
            // The messages of the second window are in hand when their worker is killed.
            match messages.fetch_add(usize::from(is_message), Ordering::SeqCst) {
                LIMIT.. if is_message => answer(request).behind(&killed),
                _ => answer(request),
            }
        }
    });
    let pace = Pace::watch();
    let manifest = std::fs::read_to_string(Path::new(EXAMPLES).join("node-apps.yaml")).unwrap();
    let environment = [
        format!("REDIS_URL={}", redis.tcp_url()),
        format!("CRM_URL={}", receiver.url()),
        format!("CALENDAR_URL={}", receiver.url()),
        "HOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
    ];
    let starter: Vec<&str> = std::iter::once("env").chain(environment.iter().map(String::as_str)).collect();
    let mut fleet = Fleet::start_through(&starter, &manifest);
    fleet.wait_all_running();
    let victims = VICTIMS.map(|(victim, _)| Pid::from_raw(fleet.pid_of(victim)));
    let mut applications = feed(&fleet, &redis);

    eventually(WINDOW + SOON, "the second window of messages", || {
        assert_eq!(applications.ended(), None, "{}", fleet.dir.read("feed.err"));
        (messages.load(Ordering::SeqCst) > LIMIT).then_some(())
    });
    for victim in victims {
        kill(victim, Signal::SIGKILL).unwrap();
    }
    killed.open();

    assert!(applications.wait(FED_FOR + SOON).success(), "{}", fleet.dir.read("feed.err"));
    let added: BTreeMap<String, Vec<String>> = serde_json::from_str(&fleet.dir.read("feed.out")).unwrap();
    for (library, prefix, queues) in APPLICATIONS {
        let node = Node::start(library, &redis);
        for queue in queues.split_whitespace() {
            let counts = settled_counts(&node, queue, prefix);
            let requests = receiver.requests();
            let refused =
                of_queue(&requests, queue).iter().filter(|one| told(one)["refused"] == true).count();
            assert_eq!(
                counts["failed"],
                refused,
                "`{queue}`: only what is refused fails\n{counts}\n{}",
                fleet.log()
            );
            assert!(counts["completed"].as_u64().unwrap() <= 100, "`{queue}` keeps a hundred: {counts}");
        }
    }
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());

    judge::all(&receiver.requests(), &added, clock, pace.slowest());
}

/// Answers as the job's data wants it.
fn answer(request: &Received) -> Answer {
    let wants = told(request);
    let attempt: u64 = request.header("Job-Attempt").and_then(|attempt| attempt.parse().ok()).unwrap_or(1);
    let answer = match &wants {
        wants if wants["refused"] == true => Answer::status(422),
        wants if attempt <= wants["fails"].as_u64().unwrap_or(0) => Answer::status(500),
        _ => Answer::status(204),
    };
    answer.after(Duration::from_millis(wants["takes"].as_u64().unwrap_or(0)))
}

fn feed(fleet: &Fleet, redis: &RedisServer) -> Guarded {
    let mut command = Node::script(&Path::new(EXAMPLES).join("feed.js"));
    command.args(["--seconds", &FED_FOR.as_secs().to_string()]).env("REDIS_URL", redis.tcp_url());
    let file = |name: &str| File::create(fleet.dir.join(name)).unwrap();
    command.stdin(Stdio::null()).stdout(file("feed.out")).stderr(file("feed.err"));
    Guarded::spawn(&mut command)
}

/// The library's own counts, once nothing is left to do.
fn settled_counts(node: &Node, queue: &str, prefix: &str) -> Value {
    let mut counts = json!(null);
    let code = format!("return await kit.queue('{queue}', {{prefix: '{prefix}'}}).getJobCounts()");
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        counts = node.run(&code);
        let open = ["waiting", "active", "delayed", "prioritized", "paused"];
        if open.iter().all(|state| counts[state].as_u64().unwrap_or(0) == 0) {
            return counts;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("`{queue}` is not done: {counts}");
}
