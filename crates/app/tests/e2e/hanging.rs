//! Workers that hang before they are ready.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use qfleet_testkit::{Certificates, RedisServer, Scratch, eventually};
use serde_json::Value;

use crate::support::{Fleet, SOON, payload, push, wait_empty};

/// So many may be on their way at once.
const AT_ONCE: usize = 50;

fn of<'a>(list: &'a [Value], group: &'a str) -> impl Iterator<Item = &'a Value> {
    list.iter().filter(move |process| process["group"] == group)
}

#[test]
fn workers_that_hang_keep_the_others_out_no_longer_than_their_start_may_take_and_say_why() {
    let redis = RedisServer::start();
    let place = Scratch::new();
    // Nobody writes to this pipe, so who reads it as a certificate waits without end.
    let pipe = place.join("authorities.pem");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut fleet = Fleet::start(&format!(
        "redis: {{url: '{}'}}
queues:
  hanging:
    numprocs: 60
    start-wait: 3s
    stop-wait: 1s
    kill-after: 1s
    handler: {{http: {{url: 'https://127.0.0.1:1/', ca-file: '{}'}}}}
  good: {{numprocs: 8, handler: {{shell: \"true\"}}}}
",
        redis.url(),
        pipe.display()
    ));
    let waits = format!("waiting for its turn: {AT_ONCE} others are not up yet");
    let list = eventually(SOON, "the places to be taken", || {
        let list = fleet.status();
        let all_wait = of(&list, "good").all(|process| process["description"] == waits.as_str());
        all_wait.then_some(list)
    });
    let on_their_way = of(&list, "hanging").filter(|process| process["pid"].is_i64()).count();
    assert!(on_their_way <= AT_ONCE, "{on_their_way}");
    let begun = Instant::now();
    eventually(SOON, "the others to come up", || {
        of(&fleet.status(), "good").all(|process| process["state"] == "RUNNING").then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    push(&redis, "good", (0..20).map(|n| payload(n, "")));
    wait_empty(&redis, &fleet);
    eventually(SOON, "the reason in the status of those that hang", || {
        let list = fleet.status();
        let told = |process: &&Value| {
            let text = process["description"].as_str().unwrap();
            text.contains("not ready after 3 s (`start-wait`)")
        };
        (of(&list, "hanging").filter(told).count() > 1).then_some(())
    });
    // What they wait for is there at last.
    fs::remove_file(&pipe).unwrap();
    fs::copy(Certificates::in_dir(place.path()).ca, &pipe).unwrap();
    fleet.ok(&["restart", "--now", "hanging"]);
    fleet.wait_all_running();
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}
