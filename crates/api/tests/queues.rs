//! Questions about queues over the control socket, with a real Redis behind them.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use qfleet_api::ClientError;
use qfleet_api::protocol::{
    FailedDetail, FailedList, Flush, Flushed, JobList, Push, Pushed, QueueList, QueueNames, Results, Which,
};
use qfleet_api::socket::client::part;
use qfleet_manifest::queue::Connection;
use qfleet_model::time::WallTime;
use qfleet_queue::driver::JobState;
use qfleet_queue::failed::FailedJob;
use qfleet_testkit::{RedisServer, eventually};
use redis::Commands;
use support::{Door, SOON};

fn manifest(redis: &RedisServer) -> String {
    format!(
        "redis: {{url: '{}'}}\n\
         connections:\n\
         \x20 crm: {{driver: laravel, prefix: app_}}\n\
         \x20 same: {{driver: laravel, prefix: app_}}\n\
         \x20 other: {{driver: laravel, prefix: other_}}\n\
         defaults: {{handler: {{shell: 'true'}}}}\n\
         queues:\n\
         \x20 mail: {{connection: crm}}\n\
         \x20 default: {{connection: crm, queue: [high, default]}}\n\
         \x20 bulk: {{connection: other, queue: [slow, slower]}}\n",
        redis.url()
    )
}

fn payload(id: &str) -> String {
    format!(
        "{{\"uuid\":\"{id}\",\"displayName\":\"App\\\\Jobs\\\\Send\",\"job\":\"x@y\",\"data\":{{\"n\":9007199254740993}},\
         \"id\":\"i-{id}\",\"attempts\":0,\"createdAt\":1700000000}}"
    )
}

fn rows(door: &Door, resource: &str) -> QueueList {
    door.wait(door.client().get(resource)).unwrap()
}

#[test]
fn queues_are_listed_by_manifest_and_by_redis_name() {
    let redis = RedisServer::start();
    let mut store = redis.connection();
    let door = Door::open(&manifest(&redis));
    for n in 0..3 {
        let _: () = store.rpush("app_queues:mail", payload(&n.to_string())).unwrap();
    }
    let _: () = store.rpush("app_queues:high", payload("h")).unwrap();
    let _: () = store.rpush("app_queues:default", payload("d")).unwrap();
    let _: () = store.zadd("app_queues:default:delayed", payload("later"), 4_000_000_000_u64).unwrap();
    let _: () = store.rpush("app_queues:nobodys", payload("x")).unwrap();
    let list = rows(&door, "queues").queues;
    let waiting: Vec<_> = list.iter().map(|row| (row.name.as_str(), row.waiting, row.delayed)).collect();
    assert_eq!(waiting, [("mail", 3, 0), ("default", 2, 1), ("bulk", 0, 0)]);
    assert_eq!(list[1].queues, ["high", "default"]);
    assert_eq!(list[0].oldest, Some(WallTime::from_seconds(1_700_000_000)));
    assert_eq!(list[2].drain_seconds, Some(0.0));
    assert!(list.iter().all(|row| row.error.is_none()), "{list:?}");

    let named = format!("queues?name={}&name=mail&name={}", part("crm/high"), part("crm/nobodys"));
    let some: Vec<_> = rows(&door, &named).queues.into_iter().map(|row| (row.name, row.waiting)).collect();
    assert_eq!(some, [("crm/high".to_owned(), 1), ("mail".to_owned(), 3), ("crm/nobodys".to_owned(), 1)]);
    for (name, hint) in [("mial", "did you mean `mail`?"), ("cmr/mail", "did you mean `crm/mail`?")] {
        match door.wait(door.client().get::<QueueList>(&format!("queues?name={}", part(name)))) {
            Err(ClientError::Said(body)) => {
                assert_eq!((body.code.as_str(), body.hint.as_deref()), ("unknown", Some(hint)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_daemon_holds_no_connection_when_nobody_asks() {
    let redis = RedisServer::start();
    let door = Door::open(&manifest(&redis));
    let mut store = redis.connection();
    let mut clients = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut store).unwrap();
        list.lines().count()
    };
    assert_eq!(clients(), 1, "ours");
    for _ in 0..5 {
        rows(&door, "queues");
        let _: JobList = door.wait(door.client().get("jobs/mail")).unwrap();
    }
    assert_eq!(clients(), 3, "one for each of the two connections in use");
    let began = Instant::now();
    eventually(SOON, "idle connections to be closed", || (clients() == 1).then_some(()));
    assert!(began.elapsed().as_secs() >= 8, "not at once: the next question may follow");
    rows(&door, "queues");
}

#[test]
fn jobs_are_looked_at_where_they_are() {
    let redis = RedisServer::start();
    let mut store = redis.connection();
    let door = Door::open(&manifest(&redis));
    for n in 0..30 {
        let _: () = store.rpush("app_queues:mail", payload(&n.to_string())).unwrap();
    }
    let _: () = store.zadd("app_queues:mail:delayed", payload("later"), 4_000_000_000_u64).unwrap();
    let _: () = store.zadd("app_queues:mail:reserved", payload("now"), 4_000_000_001_u64).unwrap();
    let JobList { jobs, .. } =
        door.wait(door.client().get("jobs/mail?from=10&limit=5&state=waiting")).unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["10", "11", "12", "13", "14"]);
    assert_eq!(jobs[0].payload, payload("10"));
    let JobList { jobs, .. } = door.wait(door.client().get("jobs/crm%2Fmail?limit=1")).unwrap();
    let states: Vec<_> = jobs.iter().map(|job| (job.state, job.id.as_str())).collect();
    assert_eq!(states, [(JobState::Waiting, "0"), (JobState::Delayed, "later"), (JobState::Reserved, "now")]);
    let JobList { jobs, .. } = door.wait(door.client().get("jobs/crm/mail?limit=1&state=delayed")).unwrap();
    assert_eq!(jobs[0].at, Some(WallTime::from_seconds(4_000_000_000)), "a slash as it is");
    let list: JobList = door.wait(door.client().get("jobs/mail?state=waiting&from=5&limit=1000")).unwrap();
    assert_eq!((list.jobs.len(), list.cut), (25, false), "over several pages");
    for _ in 0..4 {
        let _: () = store.rpush("app_queues:high", vec![b'x'; 5 * 1024 * 1024]).unwrap();
    }
    for _ in 0..20 {
        let _: () = store.rpush("app_queues:high", "small").unwrap();
    }
    let list: JobList = door.wait(door.client().get("jobs/crm%2Fhigh?limit=1000")).unwrap();
    assert_eq!((list.jobs.len(), list.cut), (20, true), "twenty megabytes are enough for one answer");
}

#[test]
fn a_pause_holds_for_every_redis_queue_of_the_name() {
    let redis = RedisServer::start();
    let door = Door::open(&manifest(&redis));
    let ask = |what: &str, names: &[&str]| -> Result<Results, ClientError> {
        let queues = names.iter().map(|name| (*name).to_owned()).collect();
        door.wait(door.client().post(what, &QueueNames { queues }))
    };
    let paused = || -> BTreeMap<String, bool> {
        let list = rows(&door, "queues?name=default&name=crm/high&name=crm/default&name=mail&name=bulk");
        list.queues.into_iter().map(|row| (row.name, row.paused)).collect()
    };
    let results = ask("pause", &["default", "bulk"]).unwrap().results;
    assert!(results.iter().all(|result| result.ok && result.text == "paused"), "{results:?}");
    assert!(results[0].note.as_deref().is_some_and(|note| note.contains("PHP workers")), "{results:?}");
    let expected =
        [("bulk", true), ("crm/default", true), ("crm/high", true), ("default", true), ("mail", false)];
    assert_eq!(paused(), expected.map(|(name, paused)| (name.to_owned(), paused)).into());
    ask("resume", &["crm/high"]).unwrap();
    assert!(!paused()["crm/high"] && paused()["crm/default"]);
    ask("resume", &["default", "bulk"]).unwrap();
    assert!(paused().values().all(|paused| !paused));
    assert!(ask("pause", &["mail", "nobody"]).is_err());
    assert!(!paused()["mail"], "one unknown name and nothing is done");
}

#[test]
fn pushed_jobs_lie_where_the_producer_would_put_them() {
    let redis = RedisServer::start();
    let mut store = redis.connection();
    let door = Door::open(&manifest(&redis));
    let push = |queue: &str, name: &str, data: &str, delay_ms| -> Result<Pushed, ClientError> {
        let push = Push { queue: queue.to_owned(), name: name.to_owned(), data: data.to_owned(), delay_ms };
        door.wait(door.client().post("push", &push))
    };
    let data = "{\"big\": 9007199254740993, \"none\": [], \"ü\": 1.0}";
    let pushed = push("default", "App\\Jobs\\Send@handle", data, 0).unwrap();
    assert_eq!((pushed.connection.as_str(), pushed.queue.as_str(), pushed.note), ("crm", "default", None));
    let lying: Vec<String> = store.lrange("app_queues:default", 0, -1).unwrap();
    assert!(lying[0].contains(&format!("\"data\":{data}")), "{lying:?}");
    assert!(lying[0].contains(&pushed.id.unwrap()), "{lying:?}");
    assert_eq!(push("bulk", "A@b", "{}", 0).unwrap().queue, "slow", "none of the name: the first");
    push("mail", "A@b", "[]", 60_000).unwrap();
    let later: Vec<(String, f64)> = store.zrange_withscores("app_queues:mail:delayed", 0, -1).unwrap();
    assert_eq!(later.len(), 1);
    let unserved = push("crm/elsewhere", "A@b", "[]", 0).unwrap();
    assert!(unserved.note.is_some_and(|note| note.contains("`crm/elsewhere`")));
    for (queue, name, data) in
        [("mail", "A@b", "{"), ("mail", "no such name!", "{}"), ("nobody", "A@b", "{}")]
    {
        assert!(push(queue, name, data, 0).is_err(), "{queue} {name} {data}");
    }

    let bytes = b"\xff\x00not json\r\n".to_vec();
    let raw = door.wait(door.client().post_bytes::<Pushed>("push?queue=mail", bytes.clone().into())).unwrap();
    assert_eq!(raw.id, None);
    let lying: Vec<Vec<u8>> = store.lrange("app_queues:mail", 0, -1).unwrap();
    assert_eq!(lying, [bytes]);
    let big = vec![b'x'; 10 * 1024 * 1024];
    door.wait(door.client().post_bytes::<Pushed>("push?queue=mail", big.clone().into())).unwrap();
    let lying: Vec<u8> = store.lindex("app_queues:mail", 1).unwrap();
    assert!(lying == big, "ten megabytes");
    assert!(door.wait(door.client().post_bytes::<Pushed>("push?queue=mail", Vec::new().into())).is_err());
    assert!(door.wait(door.client().post_bytes::<Pushed>("push", b"{}".to_vec().into())).is_err());
}

fn failed_job(id: &str, queue: &str, second: i64) -> FailedJob {
    FailedJob {
        id: id.to_owned(),
        connection: "redis".to_owned(),
        queue: queue.to_owned(),
        name: "App\\Jobs\\Send".to_owned(),
        payload: payload(id).into_bytes(),
        class: Some("http-422".to_owned()),
        reason: "the endpoint answered 422\nno such customer".to_owned(),
        failed_at: WallTime::from_seconds(second),
        unreadable: false,
    }
}

#[test]
fn failed_jobs_of_all_connections_are_one_list() {
    let redis = RedisServer::start();
    let mut store = redis.connection();
    let door = Door::open(&manifest(&redis));
    let connection = |name: &str| -> Connection { door.handle.manifest().connections[name].clone() };
    let (crm, other) = (connection("crm"), connection("other"));
    door.wait(async {
        let (crm, other) =
            (qfleet_queue::open_failed(&crm).unwrap(), qfleet_queue::open_failed(&other).unwrap());
        for (n, queue) in ["mail", "default", "mail"].iter().enumerate() {
            let second = 1_700_000_000 + i64::try_from(n).unwrap() * 10;
            crm.record(&failed_job(&format!("c{n}"), queue, second)).await.unwrap();
        }
        other.record(&failed_job("o0", "slow", 1_700_000_015)).await.unwrap();
    });
    let list = |more: &str| -> Vec<String> {
        let list: FailedList = door.wait(door.client().get(&format!("failed?{more}"))).unwrap();
        assert_eq!(list.problems, Vec::<String>::new());
        list.failed.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(
        list(""),
        ["c2", "o0", "c1", "c0"],
        "newest first, each once though two connections share a store"
    );
    assert_eq!(list("from=1&limit=2"), ["o0", "c1"]);
    assert_eq!(list("queue=mail"), ["c2", "c0"]);
    assert_eq!(list("queue=mail&from=1"), ["c0"]);
    assert_eq!(list("queue=bulk"), ["o0"]);
    assert_eq!(list("queue=crm%2Fdefault"), ["c1"]);
    assert!(door.wait(door.client().get::<FailedList>("failed?queue=nobody")).is_err());

    let shown: FailedDetail = door.wait(door.client().get("failed/o0")).unwrap();
    assert_eq!((shown.payload, shown.summary.connection.as_str()), (payload("o0"), "other"));
    assert_eq!(shown.reason, "the endpoint answered 422\nno such customer");
    assert!(door.wait(door.client().get::<FailedDetail>("failed/nothing")).is_err());

    let ask = |what: &str, which: &Which| -> Vec<(String, bool)> {
        let results: Results = door.wait(door.client().post(what, which)).unwrap();
        results.results.into_iter().map(|result| (result.name, result.ok)).collect()
    };
    let ids =
        |ids: &[&str]| Which { ids: ids.iter().map(|id| (*id).to_owned()).collect(), ..Which::default() };
    assert_eq!(
        ask("failed/retry", &ids(&["o0", "nothing"])),
        [("o0".to_owned(), true), ("nothing".to_owned(), false)]
    );
    let back: Vec<String> = store.lrange("other_queues:slow", 0, -1).unwrap();
    assert_eq!(back, [payload("o0")]);
    assert_eq!(ask("failed/forget", &ids(&["c1"])), [("c1".to_owned(), true)]);
    let mail = Which { queue: Some("mail".to_owned()), ..Which::default() };
    assert_eq!(ask("failed/retry", &mail).len(), 2);
    assert_eq!(list(""), Vec::<String>::new());
    let back: Vec<String> = store.lrange("app_queues:mail", 0, -1).unwrap();
    assert_eq!(back.len(), 2);
    assert_eq!(ask("failed/retry", &Which { all: true, ..Which::default() }), []);
}

#[test]
fn old_records_are_removed_by_age() {
    let redis = RedisServer::start();
    let door = Door::open(&manifest(&redis));
    let crm = door.handle.manifest().connections["crm"].clone();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    door.wait(async {
        let crm = qfleet_queue::open_failed(&crm).unwrap();
        for (id, hours) in [("new", 1), ("old", 50), ("older", 500)] {
            crm.record(&failed_job(id, "mail", now - hours * 3600)).await.unwrap();
        }
    });
    let flush = |queue: Option<&str>, older_than_hours| -> u64 {
        let flush = Flush { queue: queue.map(str::to_owned), older_than_hours };
        let flushed: Flushed = door.wait(door.client().post("failed/flush", &flush)).unwrap();
        assert_eq!(flushed.problems, Vec::<String>::new());
        flushed.removed
    };
    assert_eq!(flush(Some("default"), None), 0);
    assert_eq!(flush(None, Some(100)), 1);
    assert_eq!(flush(Some("mail"), Some(24)), 1);
    assert_eq!(flush(None, None), 1);
}

#[test]
fn a_store_that_is_away_spoils_its_own_rows_only() {
    let (here, away) = (RedisServer::start(), RedisServer::start());
    let text = format!(
        "connections:\n\
         \x20 here: {{driver: laravel, url: '{}'}}\n\
         \x20 away: {{driver: laravel, url: '{}'}}\n\
         defaults: {{handler: {{shell: 'true'}}}}\n\
         queues:\n\
         \x20 good: {{connection: here}}\n\
         \x20 lost: {{connection: away}}\n",
        here.url(),
        away.url()
    );
    let door = Door::open(&text);
    assert!(rows(&door, "queues").queues.iter().all(|row| row.error.is_none()));
    away.kill9();
    let list = rows(&door, "queues").queues;
    assert_eq!(list[0].error, None);
    let error = list[1].error.as_deref().unwrap();
    assert!(error.starts_with("connection `away`: redis at `redis+unix://"), "{error}");
    match door.wait(door.client().get::<JobList>("jobs/lost")) {
        Err(ClientError::Said(body)) => assert_eq!(body.code, "unreachable", "{body:?}"),
        other => panic!("{other:?}"),
    }
    let failed: FailedList = door.wait(door.client().get("failed")).unwrap();
    assert_eq!(failed.problems.len(), 1, "{failed:?}");
    away.restart();
    eventually(SOON, "the store to be back", || {
        rows(&door, "queues").queues.iter().all(|row| row.error.is_none()).then_some(())
    });
}
