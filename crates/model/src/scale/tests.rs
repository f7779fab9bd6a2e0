//! The rule against tables, and against a simulated queue over hours.

use std::time::Duration;

use super::budget::{Member, Room, room, shares};
use super::*;
use crate::time::Moment;

fn rule(min: u32, max: u32) -> Rule {
    Rule {
        min,
        max,
        target: Target::Time(Duration::from_secs(30)),
        cooldown: Duration::from_secs(60),
        step: 5,
        every: Duration::from_secs(5),
        budget: None,
    }
}

fn at(seconds: f64) -> Moment {
    Moment::from_nanos(1_000_000_000) + Duration::from_secs_f64(seconds)
}

/// Workers, the queue they take from, and time.
struct Simulation {
    random: fastrand::Rng,
    rule: Rule,
    scaler: Scaler,
    concurrency: u32,
    /// Seconds that a job takes, give or take half.
    duration: f64,
    /// Jobs that come in a second.
    arrivals: f64,
    /// They come as they like, and not one after the other.
    at_random: bool,
    coming: f64,
    now: f64,
    waiting: u64,
    finished: u64,
    /// Ends of the jobs in each worker, and when it is up.
    workers: Vec<(f64, Vec<f64>)>,
    leaving: Vec<Vec<f64>>,
    changes: Vec<(f64, u32)>,
    due: f64,
}

const TICK: f64 = 0.1;

impl Simulation {
    fn new(seed: u64, rule: Rule, concurrency: u32, duration: f64, arrivals: f64) -> Self {
        let mut scaler = Scaler::default();
        scaler.begin_at(rule.min, &rule);
        let workers = vec![(0.0, vec![]); rule.min as usize];
        Self {
            random: fastrand::Rng::with_seed(seed),
            rule,
            scaler,
            concurrency,
            duration,
            arrivals,
            at_random: false,
            coming: 0.0,
            now: 0.0,
            waiting: 0,
            finished: 0,
            workers,
            leaving: vec![],
            changes: vec![],
            due: 0.0,
        }
    }

    fn run(&mut self, seconds: f64) {
        let until = self.now + seconds;
        while self.now < until {
            self.now += TICK;
            self.tick();
            if self.now >= self.due {
                self.due = self.now + self.rule.every.as_secs_f64();
                self.look();
            }
        }
    }

    fn tick(&mut self) {
        let expected = self.arrivals * TICK;
        self.coming += if self.at_random {
            expected.floor() + f64::from(u8::from(self.random.f64() < expected.fract()))
        } else {
            expected
        };
        self.waiting += self.coming as u64;
        self.coming = self.coming.fract();
        let now = self.now;
        let mut ended = 0;
        for jobs in self.workers.iter_mut().map(|(_, jobs)| jobs).chain(&mut self.leaving) {
            let before = jobs.len();
            jobs.retain(|end| *end > now);
            ended += before - jobs.len();
        }
        self.leaving.retain(|jobs| !jobs.is_empty());
        self.finished += ended as u64;
        for (up, jobs) in &mut self.workers {
            while now >= *up && jobs.len() < self.concurrency as usize && self.waiting > 0 {
                self.waiting -= 1;
                jobs.push(now + self.duration * (0.5 + self.random.f64()));
            }
        }
    }

    fn facts(&self) -> Facts {
        let ready = self.workers.iter().filter(|(up, _)| *up <= self.now).count() as u32;
        Facts {
            ready,
            concurrency: self.concurrency,
            running: self.workers.iter().map(|(_, jobs)| jobs.len() as u32).sum(),
            finished: self.finished,
            hindrance: (ready < self.workers.len() as u32).then(|| "not all are up".to_owned()),
            ..Facts::default()
        }
    }

    fn look(&mut self) {
        let found = Ok(Backlog { waiting: self.waiting, paused: false });
        let facts = self.facts();
        let now = at(self.now);
        self.scaler.note(&self.rule, &found, &facts, now);
        let before = self.scaler.wanted();
        let Some(to) = self.scaler.step(&self.rule, Room::FREE, now) else { return };
        assert!(to.abs_diff(before) <= self.rule.step, "a step of {before} to {to}");
        assert!((self.rule.min..=self.rule.max).contains(&to));
        self.changes.push((self.now, to));
        while self.workers.len() > to as usize {
            self.leaving.extend(self.workers.pop().map(|(_, jobs)| jobs));
        }
        while self.workers.len() < to as usize {
            self.workers.push((self.now + 0.5, vec![]));
        }
    }

    fn changes_since(&self, then: f64) -> usize {
        self.changes.iter().filter(|(at, _)| *at > then).count()
    }
}

#[test]
fn a_burst_is_worked_off_in_about_the_time_asked_for_and_the_workers_go_again() {
    for seed in 0..20 {
        let mut queue = Simulation::new(seed, rule(1, 20), 1, 1.0, 0.0);
        queue.waiting = 300;
        queue.run(20.0);
        assert!(queue.workers.len() >= 8, "{} after 20 s: {:?}", queue.workers.len(), queue.changes);
        queue.run(40.0);
        assert_eq!(queue.waiting, 0, "within a minute: {:?}", queue.changes);
        queue.run(600.0);
        assert_eq!(queue.workers.len(), 1);
        assert_eq!(queue.finished, 300);
        let ups = queue.changes.windows(2).filter(|pair| pair[1].1 > pair[0].1);
        assert!(ups.count() <= 3, "{:?}", queue.changes);
    }
}

#[test]
fn a_steady_load_leads_to_a_number_that_stays() {
    for (concurrency, duration, arrivals) in [
        (1, 1.0, 0.5),
        (1, 1.0, 4.0),
        (1, 1.0, 4.5),
        (1, 1.0, 8.1),
        (10, 0.5, 90.0),
        (1, 20.0, 0.3),
        (2, 0.2, 30.0),
        (5, 60.0, 0.4),
    ] {
        for seed in 0..10 {
            let mut queue = Simulation::new(seed, rule(1, 20), concurrency, duration, arrivals);
            queue.at_random = seed % 2 == 1;
            queue.run(1_800.0);
            let settled = queue.now;
            queue.run(4.0 * 3_600.0);
            let load = arrivals * duration / f64::from(concurrency);
            let changes = queue.changes_since(settled);
            let shown = format!("load {load}, seed {seed}: {:?}", queue.changes);
            // Long jobs that come as they like are a load that is not steady; it is followed, but not in a circle.
            let (most, spread) = if queue.at_random && duration > 10.0 { (120, 8.0) } else { (2, 2.0) };
            assert!(changes <= most, "{changes} changes in four hours of {shown}");
            assert!((queue.workers.len() as f64) >= load, "too few for {shown}");
            assert!((queue.workers.len() as f64) <= load / 0.7 + spread, "too many for {shown}");
            assert!((queue.waiting as f64) <= 40.0 * arrivals + 20.0, "{} wait with {shown}", queue.waiting);
        }
    }
}

#[test]
fn a_load_beyond_the_maximum_stays_there_and_a_small_one_at_the_minimum() {
    let mut queue = Simulation::new(1, rule(2, 4), 1, 1.0, 10.0);
    queue.run(600.0);
    assert_eq!(queue.workers.len(), 4);
    let mut queue = Simulation::new(1, rule(2, 4), 1, 0.1, 1.0);
    queue.run(3_600.0);
    assert_eq!(queue.changes, []);
}

#[test]
fn jobs_longer_than_anybody_has_looked_get_a_worker_each_and_no_more() {
    let mut queue = Simulation::new(1, rule(1, 50), 1, 900.0, 0.0);
    queue.waiting = 12;
    queue.run(200.0);
    assert_eq!(queue.workers.len(), 12, "{:?}", queue.changes);
    assert_eq!(queue.waiting, 0);
    queue.run(3_600.0);
    assert_eq!((queue.workers.len(), queue.finished), (1, 12));
}

#[test]
fn by_size_each_worker_has_so_many_jobs() {
    let rule = Rule { target: Target::Size(100), step: 100, ..rule(1, 10) };
    for (waiting, running, expected) in
        [(0, 0, 1), (99, 1, 1), (100, 1, 2), (450, 0, 5), (5_000, 1, 10), (u64::MAX / 4, 9, 10)]
    {
        let mut scaler = Scaler::default();
        scaler.begin_at(1, &rule);
        let facts = Facts { ready: 1, concurrency: 1, running, ..Facts::default() };
        scaler.note(&rule, &Ok(Backlog { waiting, paused: false }), &facts, at(0.0));
        scaler.step(&rule, Room::FREE, at(0.0));
        assert_eq!(scaler.wanted(), expected, "{waiting} wait");
    }
}

/// A scaler at `workers` that has seen all of them busy with `waiting` behind them, one job a second each.
fn busy(rule: &Rule, workers: u32, waiting: u64) -> (Scaler, Facts) {
    let mut scaler = Scaler::default();
    scaler.begin_at(workers, rule);
    let mut facts = Facts { ready: workers, concurrency: 1, running: workers, ..Facts::default() };
    scaler.note(rule, &Ok(Backlog { waiting, paused: false }), &facts, at(0.0));
    facts.finished = u64::from(workers) * 5;
    (scaler, facts)
}

#[test]
fn where_more_workers_would_not_help_there_are_no_more_of_them() {
    let rule = rule(1, 10);
    type Spoil = fn(&mut Facts);
    let cases: [(&str, Spoil); 5] = [
        ("", |_| {}),
        ("a worker is not up", |facts| facts.hindrance = Some("a worker is not up".to_owned())),
        ("workers crash", |facts| facts.crashes += 1),
        ("the rate limit decides", |facts| facts.rate_limit = Some(2.0)),
        ("the rate limit decides", |facts| {
            (facts.rate_limit, facts.running) = (Some(200.0), 0);
        }),
    ];
    for (text, spoil) in cases {
        let (mut scaler, mut facts) = busy(&rule, 2, 200);
        spoil(&mut facts);
        scaler.note(&rule, &Ok(Backlog { waiting: 200, paused: false }), &facts, at(5.0));
        let to = scaler.step(&rule, Room::FREE, at(5.0));
        if text.is_empty() {
            assert_eq!((to, scaler.why()), (Some(7), "backlog 200 jobs, about 100s at 2.0/s"));
        } else {
            assert_eq!(to, None, "{text}");
            let expected = format!("more workers would not help: {text}");
            assert!(scaler.why().ends_with(&expected), "{} instead of {text}", scaler.why());
        }
    }
    let (mut scaler, mut facts) = busy(&rule, 2, 200);
    (facts.running, facts.finished) = (0, 0);
    for second in [5.0, 10.0] {
        scaler.note(&rule, &Ok(Backlog { waiting: 200_000, paused: false }), &facts, at(second));
        assert_eq!(scaler.step(&rule, Room::FREE, at(second)), None, "nobody takes them");
    }
}

#[test]
fn what_is_not_known_changes_nothing() {
    let rule = rule(1, 10);
    let away: Result<Backlog, String> = Err("redis does not answer".to_owned());
    let stopped = Facts { frozen: Some("stopped".to_owned()), ..Facts::default() };
    for (found, spoiled, why) in [
        (away, None, "backlog not known: redis does not answer"),
        (Ok(Backlog::default()), Some(stopped), "stopped"),
    ] {
        let (mut scaler, facts) = busy(&rule, 4, 0);
        let facts = spoiled.unwrap_or(facts);
        for minute in 0..60 {
            scaler.note(&rule, &found, &facts, at(f64::from(minute) * 60.0));
            assert_eq!(scaler.step(&rule, Room::FREE, at(f64::from(minute) * 60.0)), None);
            assert_eq!((scaler.wanted(), scaler.why()), (4, why));
        }
    }
}

#[test]
fn a_cool_down_begins_anew_when_more_are_needed_meanwhile() {
    let rule = Rule { target: Target::Size(10), ..rule(1, 10) };
    let mut scaler = Scaler::default();
    scaler.begin_at(5, &rule);
    let facts = Facts { ready: 5, concurrency: 1, ..Facts::default() };
    let mut look = |second: u32, waiting: u64| {
        let now = at(f64::from(second));
        scaler.note(&rule, &Ok(Backlog { waiting, paused: false }), &facts, now);
        scaler.step(&rule, Room::FREE, now)
    };
    assert_eq!(look(0, 10), None);
    assert_eq!(look(30, 30), None, "as many as were needed at most will stay");
    assert_eq!(look(59, 10), None);
    assert_eq!(look(60, 10), Some(3));
    assert_eq!(look(90, 30), None, "three are needed: the time begins anew");
    assert_eq!(look(121, 10), None);
    assert_eq!(look(180, 10), None);
    assert_eq!(look(181, 10), Some(1));
}

#[test]
fn a_smaller_maximum_holds_at_once() {
    let mut scaler = Scaler::default();
    scaler.begin_at(8, &rule(1, 10));
    scaler.begin_at(scaler.wanted(), &rule(1, 4));
    assert_eq!(scaler.wanted(), 4);
    scaler.begin_at(0, &rule(2, 4));
    assert_eq!(scaler.wanted(), 2);
}

#[test]
fn a_budget_is_shared_by_need_and_each_keeps_its_minimum() {
    let member = |min, need| Member { min, wanted: min, alive: min, need };
    type Case = (u32, &'static [(u32, u32)], &'static [u32]);
    let cases: [Case; 7] = [
        (20, &[(1, 3), (1, 4)], &[3, 4]),
        (10, &[(1, 10), (1, 1)], &[9, 1]),
        (10, &[(1, 100), (1, 100)], &[5, 5]),
        (10, &[(1, 91), (1, 11)], &[8, 2]),
        (4, &[(2, 9), (2, 9)], &[2, 2]),
        (7, &[(1, 9), (1, 9), (1, 9)], &[3, 2, 2]),
        (3, &[(2, 9), (2, 9)], &[2, 2]),
    ];
    for (max, members, expected) in cases {
        let members: Vec<Member> = members.iter().map(|(min, need)| member(*min, *need)).collect();
        assert_eq!(shares(max, &members), expected, "{max} over {members:?}");
    }
}

#[test]
fn who_has_more_than_its_share_gives_up_what_others_lack() {
    let member = |wanted, alive, need| Member { min: 1, wanted, alive, need };
    let cases = [
        // Room for all.
        (10, [member(4, 4, 4), member(1, 1, 2)], [(4, None), (2, None)]),
        // The first does not need what the second lacks.
        (10, [member(9, 9, 2), member(1, 1, 8)], [(9, Some(2)), (1, None)]),
        // Some go already, and they are enough.
        (10, [member(2, 9, 2), member(1, 1, 8)], [(2, None), (1, None)]),
        // Both need all of it: they meet in the middle, and stay there.
        (10, [member(9, 9, 50), member(1, 1, 50)], [(9, Some(5)), (1, None)]),
        (10, [member(5, 5, 50), member(5, 5, 50)], [(5, None), (5, None)]),
        (10, [member(6, 6, 50), member(4, 4, 50)], [(6, Some(5)), (4, None)]),
        (11, [member(6, 6, 50), member(5, 5, 50)], [(6, None), (5, None)]),
        (11, [member(6, 6, 50), member(5, 5, 52)], [(6, None), (5, None)]),
        // An operator gave the first more than there is.
        (10, [member(50, 50, 50), member(1, 1, 5)], [(50, Some(49)), (1, None)]),
    ];
    for (max, members, expected) in cases {
        for (at, (most, gives_up)) in expected.into_iter().enumerate() {
            let found = room(max, &members, at);
            assert_eq!(
                (found.most.max(members[at].wanted), found.gives_up),
                (most, gives_up),
                "{at} of {members:?}"
            );
        }
    }
}

#[test]
fn two_queues_of_a_budget_never_have_more_than_it_and_follow_the_need() {
    for seed in 0..20 {
        let budget = Some(Budget { name: "crm".to_owned(), max: 10 });
        let rule = Rule { budget, ..rule(1, 10) };
        let mut random = fastrand::Rng::with_seed(seed);
        let mut members = [Member { min: 1, wanted: 1, alive: 1, need: 1 }; 2];
        let mut scalers = [Scaler::default(), Scaler::default()];
        scalers.iter_mut().for_each(|scaler| scaler.begin_at(1, &rule));
        let sized = Rule { target: Target::Size(1), ..rule };
        let mut last = [0; 2];
        for look in 0..2_000_u32 {
            if look % 200 == 0 {
                last = [random.u64(0..30), random.u64(0..30)];
            }
            for at_member in 0..2 {
                let now = at(f64::from(look) * 5.0);
                let wanted = scalers[at_member].wanted();
                let facts = Facts { ready: wanted, concurrency: 1, ..Facts::default() };
                let found = Ok(Backlog { waiting: last[at_member], paused: false });
                scalers[at_member].note(&sized, &found, &facts, now);
                members[at_member].need = scalers[at_member].need();
                let room = room(10, &members, at_member);
                scalers[at_member].step(&sized, room, now);
                members[at_member].wanted = scalers[at_member].wanted();
                // Those that drain take their time.
                let alive = &mut members[at_member].alive;
                *alive = if random.bool() {
                    scalers[at_member].wanted()
                } else {
                    scalers[at_member].wanted().max(*alive)
                };
                let used: u32 = members.iter().map(|member| member.alive).sum();
                assert!(used <= 10, "{used} of 10: {members:?}");
            }
            if look % 200 == 199 {
                let shares = shares(10, &members);
                for (member, share) in members.iter().zip(shares) {
                    assert!(
                        member.wanted.abs_diff(share) <= 1,
                        "{member:?} should have {share}, seed {seed}"
                    );
                }
            }
        }
    }
}
