#![allow(clippy::unwrap_used)]

use std::time::Duration;

use async_trait::async_trait;
use qfleet_manifest::handler::ShellHandler;
use qfleet_manifest::queue::{FailedJobs, Override};
use qfleet_model::outcome::Outcome;

use super::*;
use crate::handler::{Delivery, Ended, Health};

pub(crate) fn tuning() -> Tuning {
    Tuning {
        tries: 3,
        timeout: Some(Duration::from_secs(60)),
        backoff: None,
        over: Override::default(),
        snooze_max: 100,
        snooze_age: Duration::from_secs(86_400),
        max_delay: Duration::from_secs(86_400),
        delay_as_backoff: true,
        redeliver: Redeliver::AtOnce,
    }
}

pub(crate) fn policy() -> RetryPolicy {
    super::policy(&tuning(), &HandlerSettings::shell_line("true"))
}

fn lane(name: &str, connection: &str, handler: Option<HandlerSettings>, routes: Vec<Route>) -> LaneSettings {
    LaneSettings {
        name: name.to_owned(),
        connection: connection.to_owned(),
        queues: vec![name.to_owned()],
        concurrency: 2,
        tuning: tuning(),
        routes,
        handler,
        rate_limit: None,
        node: None,
    }
}

fn settings(lanes: Vec<LaneSettings>) -> WorkerSettings {
    WorkerSettings {
        group: String::from("g"),
        lanes,
        concurrency: 4,
        max_time: None,
        max_jobs: None,
        memory: None,
        sleep: Duration::from_secs(3),
        stop_wait: Duration::from_secs(30),
        kill_after: Duration::from_secs(10),
        connections: BTreeMap::new(),
        failed_jobs: FailedJobs::Redis,
        secret_variables: Vec::new(),
    }
}

fn shell(endpoint: &str, timeout: Option<u64>) -> HandlerSettings {
    HandlerSettings::Shell(Box::new(ShellHandler {
        endpoint: endpoint.to_owned(),
        timeout: timeout.map(Duration::from_secs),
        ..ShellHandler::default()
    }))
}

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Handler for Nobody {
    async fn handle(&self, _delivery: Delivery) -> Ended {
        let outcome = Outcome::Complete { result: None };
        Ended { outcome, health: Health::Good, status: None, notes: Vec::new() }
    }
}

fn build(settings: &WorkerSettings) -> (Lanes, usize) {
    let mut opened = 0;
    let lanes = Lanes::new(settings, |_, _| {
        opened += 1;
        Ok(Arc::new(Nobody))
    });
    (lanes.unwrap(), opened)
}

#[test]
fn lanes_are_numbered_within_their_connection_and_handlers_are_shared() {
    let routes = vec![Route { name: String::from("Thumb*"), handler: shell("t", None) }];
    let wanted = settings(vec![
        lane("a", "one", Some(shell("x", None)), routes),
        lane("b", "two", Some(shell("x", None)), vec![]),
        lane("c", "one", Some(shell("t", None)), vec![]),
    ]);
    let (lanes, opened) = build(&wanted);
    assert_eq!(opened, 2);
    assert_eq!(lanes.sources, [(String::from("one"), vec![0, 2]), (String::from("two"), vec![1])]);
    assert_eq!(lanes.all.iter().map(|lane| lane.id.0).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(lanes.endpoints, ["t", "x"]);
    let a = &lanes.all[0];
    assert_eq!(a.server("Thumbnail").map(|server| server.endpoint), Some(0));
    assert_eq!(a.server("Other").map(|server| server.endpoint), Some(1));
    assert_eq!(a.endpoints, [0, 1]);
}

#[test]
fn a_lane_of_routes_alone_may_have_nobody_for_a_job() {
    let routes = vec![Route { name: String::from("Thumb*"), handler: shell("t", None) }];
    let (lanes, _) = build(&settings(vec![lane("a", "one", None, routes)]));
    assert!(lanes.all[0].server("Other").is_none());
}

#[test]
fn figures_change_and_the_handlers_own_timeout_wins_over_the_queues() {
    let mut wanted = settings(vec![lane("a", "one", Some(shell("x", Some(7))), vec![])]);
    let (mut lanes, _) = build(&wanted);
    let timeout = |lanes: &Lanes| lanes.all[0].server("").unwrap().policy.timeout;
    assert_eq!(timeout(&lanes), Some(Duration::from_secs(7)));
    wanted.lanes[0].handler = Some(shell("x", None));
    wanted.lanes[0].tuning.tries = 9;
    wanted.lanes[0].concurrency = 8;
    lanes.tune(&wanted);
    assert_eq!(timeout(&lanes), Some(Duration::from_secs(60)));
    assert_eq!((lanes.all[0].server("").unwrap().policy.tries, lanes.all[0].concurrency), (9, 8));
}
