//! Bull Board shows the jobs of a queue that we work, and what it does to them takes effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qfleet_testkit::{Answer, eventually};
use serde_json::{Value, json};

use crate::stage::{Library, Stage, job};
use crate::support::SOON;

conforms!(repeating: lists_retries_promotes_and_cleans);

/// Asks the board as its page would.
fn ask(stage: &Stage, method: &str, address: &str) -> Value {
    stage.run(&format!("return await kit.board().ask('{method}', '{address}')"))
}

/// The jobs that the board lists in a state, with its counts.
fn listed(stage: &Stage, state: &str) -> (Vec<Value>, Value) {
    let all = ask(stage, "get", &format!("/api/queues?activeQueue=shop&status={state}"));
    let shop = &all["queues"][0];
    assert_eq!(shop["name"], "shop");
    (shop["jobs"].as_array().unwrap().clone(), shop["counts"].clone())
}

fn lists_retries_promotes_and_cleans(library: Library) {
    let mended = Arc::new(AtomicBool::new(false));
    let stage = Stage::new(library, {
        let mended = Arc::clone(&mended);
        move |request| match job(request) {
            name if name.starts_with("bad") && !mended.load(Ordering::SeqCst) => {
                Answer::status(422).body("no such customer")
            }
            _ => Answer::ok().header("Content-Type", "application/json").body(r#"{"sent":true}"#),
        }
    });
    let mut fleet = stage.fleet(&[("shop", "")]);
    stage.run(
        "await kit.board().open(['shop'])
         const shop = kit.queue('shop')
         for (const name of ['ok', 'bad 1', 'bad 2', 'bad 3']) await shop.add(name, {to: name}, {attempts: 2})
         for (const name of ['later 1', 'later 2']) await shop.add(name, {}, {delay: 3600000})",
    );
    stage.ended("shop", 1, 3);

    let (completed, counts) = listed(&stage, "completed");
    assert_eq!(
        (&counts["completed"], &counts["failed"], &counts["delayed"]),
        (&json!(1), &json!(3), &json!(2))
    );
    assert_eq!(completed.len(), 1);
    assert_eq!((&completed[0]["name"], &completed[0]["data"]), (&json!("ok"), &json!({"to": "ok"})));
    assert_eq!(completed[0]["returnValue"], json!({"sent": true}));
    assert_eq!(completed[0]["isFailed"], false);
    let (failed, _) = listed(&stage, "failed");
    assert_eq!(failed.len(), 3);
    for one in &failed {
        assert_eq!((&one["failedReason"], &one["isFailed"]), (&json!("no such customer"), &json!(true)));
        assert!(one["stacktrace"][0].as_str().unwrap().contains("no such customer"), "{one}");
    }

    mended.store(true, Ordering::SeqCst);
    let id = |number: usize| failed[number]["id"].as_str().unwrap().to_owned();
    ask(&stage, "put", &format!("/api/queues/shop/{}/retry", id(0)));
    stage.ended("shop", 2, 2);
    let again = ask(&stage, "get", &format!("/api/queues/shop/{}", id(0)));
    assert_eq!(again["status"], "completed", "{again}");
    ask(&stage, "put", &format!("/api/queues/shop/{}/clean", id(1)));
    stage.ended("shop", 2, 1);
    assert_eq!(stage.hash("shop", &id(1)).len(), 0, "removed");
    ask(&stage, "put", "/api/queues/shop/retry/failed");
    stage.ended("shop", 3, 0);

    let (delayed, _) = listed(&stage, "delayed");
    ask(&stage, "put", &format!("/api/queues/shop/{}/promote", delayed[0]["id"].as_str().unwrap()));
    stage.ended("shop", 4, 0);
    ask(&stage, "put", "/api/queues/shop/promote");
    stage.ended("shop", 5, 0);
    assert_eq!(stage.got("shop").len(), 8, "each ran when it was told to, and no more");

    // It spares what ended a few seconds ago.
    eventually(SOON, "the board to clean", || {
        ask(&stage, "put", "/api/queues/shop/clean/completed");
        (listed(&stage, "completed").1["completed"] == json!(0)).then_some(())
    });
    stage.run("await kit.queue('shop').add('after', {})");
    stage.ended("shop", 1, 0);
    assert_eq!(fleet.stop(), 0);
}
