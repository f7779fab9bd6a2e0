#![allow(clippy::unwrap_used)]

use qfleet_model::job::{Format, History, JobLimits};
use qfleet_queue::driver::LaneId;

use super::*;

fn job() -> Box<Job> {
    Box::new(Job {
        format: Format::Laravel,
        prefix: String::new(),
        queue: String::new(),
        id: String::new(),
        identity_of: String::new(),
        created: String::new(),
        created_at: None,
        name: String::new(),
        attempt: 1,
        payload: Vec::new(),
        limits: JobLimits::default(),
        history: History::default(),
        traceparent: None,
        tracestate: None,
        tags: Vec::new(),
    })
}

fn receipt() -> Receipt {
    Receipt::new(LaneId(0), 0, [0; 16], Arc::new(()))
}

const NOW: Moment = Moment::from_nanos(5);

fn fetch(slots: &mut Slots, lane: usize) -> Option<HoldId> {
    slots.fetched(0, lane, receipt(), job(), NOW).ok()
}

#[test]
fn places_are_used_again_and_old_names_mean_nothing() {
    let mut slots = Slots::new(2, 1, 1);
    let first = fetch(&mut slots, 0).unwrap();
    let second = fetch(&mut slots, 0).unwrap();
    assert!(fetch(&mut slots, 0).is_none(), "full");
    assert_eq!((slots.held(), slots.places_left()), (2, 0));
    assert!(slots.remove(first).is_some());
    let third = fetch(&mut slots, 0).unwrap();
    assert_eq!(third.record(), first.record());
    assert!(slots.get(first).is_none() && slots.remove(first).is_none());
    assert!(slots.change(first, Phase::Settling(Counted::Completed)).is_none());
    assert_eq!(slots.first_in_stock(0), Some(second));
    assert_eq!(slots.newest_in_stock(9, None), [second, third]);
}

#[test]
fn the_stock_keeps_the_order_of_arrival() {
    let mut slots = Slots::new(9, 2, 1);
    let ids: Vec<HoldId> = [0, 1, 0, 1].iter().map(|lane| fetch(&mut slots, *lane).unwrap()).collect();
    assert_eq!((slots.first_in_stock(0), slots.first_in_stock(1)), (Some(ids[0]), Some(ids[1])));
    assert_eq!(slots.newest_in_stock(3, None), ids[1..]);
    assert_eq!(slots.newest_in_stock(3, Some(ids[2])), [ids[0], ids[1], ids[3]]);
    assert_eq!(slots.newest_in_stock(0, None), []);
    for id in &ids {
        slots.change(*id, Phase::Settling(Counted::GivenBack));
    }
    assert_eq!((slots.newest_in_stock(9, None), slots.in_stock()), (Vec::new(), 0));
    let only = fetch(&mut slots, 0).unwrap();
    assert!(slots.is_in_stock(only) && !slots.is_in_stock(ids[0]));
}

#[test]
fn counts_never_drift_from_what_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = runtime.spawn(std::future::pending::<()>());
    let mut dice = fastrand::Rng::with_seed(5);
    let mut slots = Slots::new(20, 3, 2);
    let mut gates = crate::gate::Gates::default();
    let policy = Arc::new(crate::lanes::tests::policy());
    for _ in 0..5000 {
        let known: Vec<HoldId> = slots.all().map(|(id, _)| id).collect();
        let chosen = dice.choice(&known).copied();
        match (dice.u8(0..5), chosen) {
            (0 | 1, _) => drop(fetch(&mut slots, dice.usize(0..3))),
            (2, Some(id)) => drop(slots.remove(id)),
            (3, Some(id)) => {
                let running = Running {
                    job: job(),
                    policy: Arc::clone(&policy),
                    endpoint: dice.usize(0..2),
                    ticket: gates.started("e", NOW),
                    cancel: watch::channel(None).0,
                    task: task.abort_handle(),
                    deadline: None,
                    local: true,
                    lost: false,
                };
                drop(slots.change(id, Phase::Running(Box::new(running))));
            }
            (_, Some(id)) if dice.bool() => drop(slots.change(id, Phase::Settling(Counted::Failed))),
            (_, Some(id)) => {
                let burying = Phase::Burying { reason: Reason::default(), task: task.abort_handle() };
                drop(slots.change(id, burying));
            }
            _ => {}
        }
        check(&slots);
    }
}

fn check(slots: &Slots) {
    let number = |count: usize| u32::try_from(count).unwrap();
    let running = |hold: &Hold| matches!(hold.phase, Phase::Running(_));
    let burying = |hold: &Hold| matches!(hold.phase, Phase::Burying { .. });
    let fetched = |hold: &Hold| matches!(hold.phase, Phase::Fetched { .. });
    let count = |test: &dyn Fn(&Hold) -> bool| number(slots.all().filter(|(_, hold)| test(hold)).count());
    assert_eq!(slots.held(), count(&|_| true));
    assert_eq!(slots.running(), count(&running));
    assert_eq!(slots.busy(), count(&running) + count(&burying));
    assert_eq!(slots.in_stock(), count(&fetched));
    for lane in 0..3 {
        assert_eq!(slots.busy_in(lane), count(&|hold| hold.lane == lane && (running(hold) || burying(hold))));
        assert_eq!(slots.in_stock_of(lane), count(&|hold| hold.lane == lane && fetched(hold)));
    }
    for endpoint in 0..2 {
        let at = |hold: &Hold| matches!(&hold.phase, Phase::Running(running) if running.endpoint == endpoint);
        assert_eq!(slots.running_at(endpoint), count(&at));
    }
}
