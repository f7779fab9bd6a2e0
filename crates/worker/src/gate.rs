//! Whether an endpoint gets jobs: open, held or tripped, one gate for each endpoint of this process.
//!
//! Pure: the run loop brings the time, asks [`Gates::room`] before it takes or starts jobs, and tells of every start and
//! every end. A shut gate lets one probe through when its pause is over. Two good probes begin a slow start: one job at a
//! time, doubled after each five successes until the process's own limit, then the gate is open again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use qfleet_manifest::handler::Handler;
use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::time::Moment;

use crate::handler::Health;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const GOOD_PROBES: u32 = 2;
const SUCCESSES_TO_DOUBLE: u32 = 5;
const FAILURES_TO_TRIP: u32 = 10;
const WINDOW_SECONDS: u64 = 30;
/// Share of a pause that jitter may add, or take away where nobody asked for the pause.
const SPREAD: f64 = 0.1;

/// What a gate must know of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateSettings {
    /// Longest time the endpoint can ask to be left alone.
    pub max_hold: Duration,
    /// Slow start is over when so many jobs may run at once.
    pub concurrency: u32,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { max_hold: Duration::from_secs(15 * 60), concurrency: 1 }
    }
}

/// How many jobs an endpoint may get now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Jobs that may be started now beside the running ones; `None` is without limit.
    pub at_most: Option<u32>,
    /// When to ask again if nothing may start; `None` with `at_most` 0: when a running delivery has ended.
    pub reopens_at: Option<Moment>,
    /// The job that starts now is a probe: its snooze is not charged to it.
    pub probe: bool,
}

/// Given by [`Gates::started`], handed back to [`Gates::ended`]: tells answers to a question asked before the gate shut
/// from later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    epoch: u64,
    probe: bool,
}

impl Ticket {
    /// Whether the delivery is a probe: its snooze is not charged to the job.
    #[must_use]
    pub fn is_probe(self) -> bool {
        self.probe
    }
}

/// A gate that shut or opened, for one line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose gate.
    pub endpoint: String,
    /// Whether it is open now.
    pub open: bool,
    /// `held: 429`, `tripped: tls`, `open again after 62 s`.
    pub text: String,
}

/// The gates of one worker process, by endpoint name.
#[derive(Debug, Default)]
pub struct Gates {
    gates: BTreeMap<String, Gate>,
    changes: Vec<Change>,
}

impl Gates {
    /// Gates for these endpoints. An endpoint that is named twice takes the longest hold and the highest concurrency;
    /// one that is not named gets the defaults at its first start.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = (String, GateSettings)>) -> Self {
        let mut gates = BTreeMap::<String, Gate>::new();
        for (endpoint, settings) in endpoints {
            let known = &mut gates.entry(endpoint).or_insert_with(|| Gate::new(settings)).settings;
            known.max_hold = known.max_hold.max(settings.max_hold);
            known.concurrency = known.concurrency.max(settings.concurrency);
        }
        Self { gates, changes: Vec::new() }
    }

    /// Gates for every handler of a worker process.
    #[must_use]
    pub fn for_worker(settings: &WorkerSettings) -> Self {
        let concurrency = settings.concurrency;
        let handlers = settings
            .lanes
            .iter()
            .flat_map(|lane| lane.routes.iter().map(|route| &route.handler).chain(lane.handler.as_ref()));
        Self::new(handlers.map(|handler| {
            let max_hold = match handler {
                Handler::Http(http) => http.max_hold,
                Handler::Shell(shell) => shell.max_hold,
            };
            (handler.endpoint().to_owned(), GateSettings { max_hold, concurrency })
        }))
    }

    /// How many jobs `endpoint` may get now, with `running` of this process in its hands.
    #[must_use]
    pub fn room(&self, endpoint: &str, running: u32, now: Moment) -> Room {
        let free = Room { at_most: None, reopens_at: None, probe: false };
        match self.gates.get(endpoint).map(|gate| &gate.state) {
            None | Some(State::Open) => free,
            Some(State::Slow { limit, .. }) => Room { at_most: Some(limit.saturating_sub(running)), ..free },
            Some(State::Shut(shut)) if shut.probing => Room { at_most: Some(0), ..free },
            Some(State::Shut(shut)) if shut.until > now => {
                Room { at_most: Some(0), reopens_at: Some(shut.until), probe: false }
            }
            Some(State::Shut(_)) => Room { at_most: Some(1), reopens_at: None, probe: true },
        }
    }

    /// A job is handed to `endpoint`. Every ticket must come back through [`Gates::ended`], whatever becomes of the
    /// delivery; a probe that never ends keeps the gate shut.
    pub fn started(&mut self, endpoint: &str, now: Moment) -> Ticket {
        let gate = self.gate(endpoint);
        match &mut gate.state {
            State::Shut(shut) if !shut.probing && shut.until <= now => {
                shut.probing = true;
                Ticket { epoch: gate.epoch, probe: true }
            }
            // Taken before the gate shut and started after: says nothing about a probe.
            State::Shut(_) => Ticket { epoch: gate.epoch.wrapping_sub(1), probe: false },
            State::Open | State::Slow { .. } => Ticket { epoch: gate.epoch, probe: false },
        }
    }

    /// A delivery has ended and told `health`; `why` is its status for people (`429`, `unreachable`), `jitter` a random
    /// number from -1 to 1. A delivery that was never made or was cut off by us tells [`Health::Neutral`].
    pub fn ended(
        &mut self,
        endpoint: &str,
        ticket: Ticket,
        health: &Health,
        why: Option<&str>,
        now: Moment,
        jitter: f64,
    ) {
        let gate = self.gate(endpoint);
        let before = gate.shown_state();
        gate.ended(ticket, health, why, now, jitter);
        let after = gate.shown_state();
        if before != after {
            let open = matches!(gate.state, State::Open | State::Slow { .. });
            let text = match after {
                Some(text) => text,
                None => format!("open again after {} s", now.since(gate.shut_since).as_secs()),
            };
            self.changes.push(Change { endpoint: endpoint.to_owned(), open, text });
        }
    }

    /// What changed since the last call: once for a gate that shuts, is shut for another reason, or opens; never for a
    /// single job or probe.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// One line for each gate that is not open: `http://app:8080 held for 12 s: 429`.
    #[must_use]
    pub fn describe(&self, now: Moment) -> Vec<String> {
        self.gates.iter().filter_map(|(endpoint, gate)| gate.describe(endpoint, now)).collect()
    }

    fn gate(&mut self, endpoint: &str) -> &mut Gate {
        // Not `entry`: it would make a string for every start.
        if !self.gates.contains_key(endpoint) {
            self.gates.insert(endpoint.to_owned(), Gate::new(GateSettings::default()));
        }
        self.gates.get_mut(endpoint).unwrap_or_else(|| unreachable!("a gate that was just put in"))
    }
}

#[derive(Debug)]
struct Gate {
    settings: GateSettings,
    state: State,
    /// Grows each time the gate shuts.
    epoch: u64,
    shut_since: Moment,
    /// The next pause nobody asked for.
    pause: Duration,
    window: Window,
    row: Option<(&'static str, u32)>,
}

#[derive(Debug)]
enum State {
    Open,
    Shut(Shut),
    Slow { limit: u32, successes: u32 },
}

#[derive(Debug)]
struct Shut {
    until: Moment,
    probing: bool,
    good: u32,
    tripped: bool,
    why: String,
}

/// Why a gate shuts, and how long its endpoint asked for.
struct Shutting {
    asked: Option<Duration>,
    alert: Option<&'static str>,
}

impl Gate {
    fn new(settings: GateSettings) -> Self {
        Self {
            settings,
            state: State::Open,
            epoch: 0,
            shut_since: Moment::from_nanos(0),
            pause: FIRST_PAUSE,
            window: Window::default(),
            row: None,
        }
    }

    fn ended(&mut self, ticket: Ticket, health: &Health, why: Option<&str>, now: Moment, jitter: f64) {
        let current = ticket.epoch == self.epoch;
        let max_hold = self.settings.max_hold;
        match &mut self.state {
            State::Shut(shut) if ticket.probe && current => {
                shut.probing = false;
                match as_probe(health) {
                    None => self.good_probe(now),
                    Some(shutting) => self.shut(&shutting, why, now, jitter),
                }
            }
            // The question was asked before the gate shut; only a longer wish is news.
            State::Shut(shut) => {
                if let Health::Hold(Some(asked)) = health {
                    shut.until = shut.until.max(now + stretched(*asked.min(&max_hold), jitter));
                }
            }
            State::Slow { .. } if !current && !matches!(health, Health::Hold(Some(_))) => {}
            State::Open | State::Slow { .. } => match self.weigh(health, now) {
                Some(shutting) => self.shut(&shutting, why, now, jitter),
                None => self.count_towards_open(health),
            },
        }
    }

    fn weigh(&mut self, health: &Health, now: Moment) -> Option<Shutting> {
        self.window.add(now, *health == Health::Failure);
        let row = match (health, self.row) {
            (Health::TripAfter { alert, .. }, Some((last, count))) if last == *alert => {
                Some((*alert, count + 1))
            }
            (Health::TripAfter { alert, .. }, _) => Some((*alert, 1)),
            _ => None,
        };
        self.row = row;
        match health {
            Health::Good | Health::Neutral => None,
            Health::Failure if self.window.trips() => Some(Shutting { asked: None, alert: Some("failures") }),
            Health::Failure => None,
            Health::Hold(asked) => Some(Shutting { asked: *asked, alert: None }),
            Health::Trip { alert } => Some(Shutting { asked: None, alert: Some(alert) }),
            Health::TripAfter { after, alert } => row
                .is_some_and(|(_, count)| count >= *after)
                .then_some(Shutting { asked: None, alert: Some(alert) }),
        }
    }

    fn shut(&mut self, shutting: &Shutting, why: Option<&str>, now: Moment, jitter: f64) {
        let pause = match shutting.asked {
            Some(asked) => stretched(asked.min(self.settings.max_hold), jitter),
            None => {
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                pause.mul_f64(1.0 + SPREAD * jitter.clamp(-1.0, 1.0))
            }
        };
        if !matches!(self.state, State::Shut(_)) {
            self.epoch += 1;
            self.shut_since = now;
        }
        self.window = Window::default();
        self.row = None;
        self.state = State::Shut(Shut {
            until: now + pause,
            probing: false,
            good: 0,
            tripped: shutting.alert.is_some(),
            why: shutting.alert.or(why).unwrap_or("asked to wait").to_owned(),
        });
    }

    fn good_probe(&mut self, now: Moment) {
        if let State::Shut(shut) = &mut self.state {
            shut.good += 1;
            shut.until = now;
            if shut.good >= GOOD_PROBES {
                self.pause = FIRST_PAUSE;
                self.state = State::Slow { limit: 1, successes: 0 };
                self.open_when_full();
            }
        }
    }

    fn count_towards_open(&mut self, health: &Health) {
        let State::Slow { limit, successes } = &mut self.state else { return };
        if !matches!(health, Health::Good | Health::Neutral) {
            *successes = 0;
            return;
        }
        *successes += 1;
        if *successes == SUCCESSES_TO_DOUBLE {
            *successes = 0;
            *limit = limit.saturating_mul(2);
        }
        self.open_when_full();
    }

    fn open_when_full(&mut self) {
        if matches!(self.state, State::Slow { limit, .. } if limit >= self.settings.concurrency) {
            self.state = State::Open;
        }
    }

    /// What the log tells of: nothing while jobs flow.
    fn shown_state(&self) -> Option<String> {
        match &self.state {
            State::Open | State::Slow { .. } => None,
            State::Shut(shut) => Some(format!("{}: {}", shut.word(), shut.why)),
        }
    }

    fn describe(&self, endpoint: &str, now: Moment) -> Option<String> {
        match &self.state {
            State::Open => None,
            State::Slow { limit, .. } => {
                Some(format!("{endpoint} starts slowly: {limit} of {} at once", self.settings.concurrency))
            }
            State::Shut(shut) => {
                let (word, why) = (shut.word(), &shut.why);
                let left = shut.until.since(now).as_secs_f64().ceil();
                Some(match (shut.probing, left > 0.0) {
                    (true, _) => format!("{endpoint} {word}, being tried with one job: {why}"),
                    (false, true) => format!("{endpoint} {word} for {left} s: {why}"),
                    (false, false) => format!("{endpoint} {word}, the next job tries it: {why}"),
                })
            }
        }
    }
}

impl Shut {
    fn word(&self) -> &'static str {
        if self.tripped { "tripped" } else { "held" }
    }
}

/// Why a probe was bad, if it was. Any answer that says nothing against the endpoint is good: somebody answered.
fn as_probe(health: &Health) -> Option<Shutting> {
    match health {
        Health::Good | Health::Neutral => None,
        Health::Failure => Some(Shutting { asked: None, alert: Some("failures") }),
        Health::Hold(asked) => Some(Shutting { asked: *asked, alert: None }),
        Health::Trip { alert } | Health::TripAfter { alert, .. } => {
            Some(Shutting { asked: None, alert: Some(alert) })
        }
    }
}

/// A pause somebody asked for gets longer by the jitter, never shorter.
fn stretched(asked: Duration, jitter: f64) -> Duration {
    asked.mul_f64(1.0 + SPREAD * jitter.abs().min(1.0))
}

/// Deliveries of the last 30 seconds, counted by the second.
#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<(u64, u32, u32)>,
}

impl Window {
    fn add(&mut self, now: Moment, failed: bool) {
        let second = now.as_nanos() / 1_000_000_000;
        while self.seconds.front().is_some_and(|(old, ..)| old + WINDOW_SECONDS <= second) {
            self.seconds.pop_front();
        }
        if self.seconds.back().is_none_or(|(newest, ..)| *newest < second) {
            self.seconds.push_back((second, 0, 0));
        }
        if let Some((_, all, failures)) = self.seconds.back_mut() {
            *all = all.saturating_add(1);
            *failures = failures.saturating_add(u32::from(failed));
        }
    }

    fn trips(&self) -> bool {
        let all: u64 = self.seconds.iter().map(|(_, all, _)| u64::from(*all)).sum();
        let failures: u64 = self.seconds.iter().map(|(.., failures)| u64::from(*failures)).sum();
        failures >= u64::from(FAILURES_TO_TRIP) && failures * 2 >= all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "http://app:8080";
    const BUSY: Health = Health::Hold(None);

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn gates(concurrency: u32) -> Gates {
        let settings = GateSettings { max_hold: Duration::from_secs(900), concurrency };
        Gates::new([(APP.to_owned(), settings)])
    }

    /// One delivery that starts and ends at once.
    fn deliver(gates: &mut Gates, health: &Health, now: Moment) -> bool {
        let ticket = gates.started(APP, now);
        gates.ended(APP, ticket, health, Some("503"), now, 0.0);
        ticket.is_probe()
    }

    fn may_start(gates: &Gates, now: Moment) -> Option<u32> {
        gates.room(APP, 0, now).at_most
    }

    #[test]
    fn an_open_gate_has_no_limit() {
        let mut gates = gates(4);
        assert_eq!(gates.room(APP, 3, at(0)), Room { at_most: None, reopens_at: None, probe: false });
        assert!(!deliver(&mut gates, &Health::Good, at(0)));
        assert_eq!(gates.describe(at(0)), Vec::<String>::new());
        assert_eq!(gates.room("never heard of", 0, at(0)).at_most, None);
    }

    #[test]
    fn a_busy_endpoint_is_probed_after_one_second_then_after_twice_as_long() {
        let mut gates = gates(4);
        deliver(&mut gates, &BUSY, at(0));
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            let reopens = at(now + pause * 1000);
            assert_eq!(
                gates.room(APP, 0, at(now)),
                Room { at_most: Some(0), reopens_at: Some(reopens), probe: false }
            );
            assert_eq!(gates.room(APP, 0, reopens), Room { at_most: Some(1), reopens_at: None, probe: true });
            now += pause * 1000;
            assert!(deliver(&mut gates, &BUSY, at(now)));
        }
    }

    #[test]
    fn only_one_probe_runs_at_a_time() {
        let mut gates = gates(4);
        deliver(&mut gates, &BUSY, at(0));
        let probe = gates.started(APP, at(1000));
        assert_eq!(gates.room(APP, 1, at(5000)), Room { at_most: Some(0), reopens_at: None, probe: false });
        assert!(!gates.started(APP, at(5000)).is_probe());
        gates.ended(APP, probe, &Health::Good, None, at(5000), 0.0);
        assert!(gates.room(APP, 0, at(5000)).probe);
    }

    #[test]
    fn two_good_probes_begin_a_slow_start_that_doubles_after_five_successes() {
        let mut gates = gates(6);
        deliver(&mut gates, &BUSY, at(0));
        assert!(deliver(&mut gates, &Health::Good, at(1000)));
        assert!(deliver(&mut gates, &Health::Neutral, at(1000)));
        for limit in [1, 2, 4] {
            for _ in 0..5 {
                assert_eq!(may_start(&gates, at(1000)), Some(limit));
                assert!(!deliver(&mut gates, &Health::Good, at(1000)));
            }
        }
        assert_eq!(may_start(&gates, at(1000)), None);
    }

    #[test]
    fn slow_start_counts_what_runs_already_and_starts_over_after_a_failure() {
        let mut gates = gates(8);
        deliver(&mut gates, &BUSY, at(0));
        deliver(&mut gates, &Health::Good, at(1000));
        deliver(&mut gates, &Health::Good, at(1000));
        for health in [Health::Good, Health::Good, Health::Good, Health::Good, Health::Failure, Health::Good]
        {
            deliver(&mut gates, &health, at(1000));
        }
        assert_eq!(may_start(&gates, at(1000)), Some(1));
        assert_eq!(gates.room(APP, 1, at(1000)).at_most, Some(0));
    }

    #[test]
    fn a_hold_lasts_as_long_as_asked_but_not_beyond_the_longest() {
        let mut gates = gates(1);
        deliver(&mut gates, &Health::Hold(Some(Duration::from_secs(90))), at(0));
        assert_eq!(gates.room(APP, 0, at(0)).reopens_at, Some(at(90_000)));
        assert!(deliver(&mut gates, &Health::Hold(Some(Duration::from_secs(86_400))), at(90_000)));
        assert_eq!(gates.room(APP, 0, at(90_000)).reopens_at, Some(at(990_000)));
    }

    #[test]
    fn jitter_never_makes_an_asked_pause_shorter() {
        for jitter in [-1.0, 1.0] {
            let mut gates = gates(1);
            let ticket = gates.started(APP, at(0));
            gates.ended(APP, ticket, &Health::Hold(Some(Duration::from_secs(10))), None, at(0), jitter);
            assert_eq!(gates.room(APP, 0, at(0)).reopens_at, Some(at(11_000)));
        }
        let mut gates = gates(1);
        let ticket = gates.started(APP, at(0));
        gates.ended(APP, ticket, &BUSY, None, at(0), -1.0);
        assert_eq!(gates.room(APP, 0, at(0)).reopens_at, Some(at(900)));
    }

    #[test]
    fn answers_to_earlier_questions_count_once() {
        let mut gates = gates(10);
        let tickets: Vec<Ticket> = (0..10).map(|_| gates.started(APP, at(0))).collect();
        for ticket in tickets {
            gates.ended(APP, ticket, &BUSY, Some("429"), at(5), 0.0);
        }
        assert_eq!(gates.room(APP, 0, at(5)).reopens_at, Some(at(1005)));
        assert_eq!(gates.changes().len(), 1);
    }

    #[test]
    fn an_earlier_question_can_still_ask_for_more_time() {
        let mut gates = gates(10);
        let (first, second) = (gates.started(APP, at(0)), gates.started(APP, at(0)));
        gates.ended(APP, first, &Health::Hold(Some(Duration::from_secs(5))), None, at(0), 0.0);
        gates.ended(APP, second, &Health::Hold(Some(Duration::from_secs(30))), None, at(0), 0.0);
        assert_eq!(gates.room(APP, 0, at(0)).reopens_at, Some(at(30_000)));
    }

    #[test]
    fn ten_failures_that_are_half_of_all_trip_it() {
        let mut gates = gates(4);
        for second in 0..9 {
            deliver(&mut gates, &Health::Good, at(second * 1000));
            deliver(&mut gates, &Health::Failure, at(second * 1000));
        }
        assert_eq!(may_start(&gates, at(9000)), None);
        deliver(&mut gates, &Health::Failure, at(9000));
        assert_eq!(may_start(&gates, at(9000)), Some(0));
        assert_eq!(gates.describe(at(9000)), ["http://app:8080 tripped for 1 s: failures"]);
    }

    #[test]
    fn failures_that_are_few_or_old_do_not_trip_it() {
        let mut few = gates(4);
        for _ in 0..20 {
            deliver(&mut few, &Health::Good, at(0));
            deliver(&mut few, &Health::Good, at(0));
            deliver(&mut few, &Health::Failure, at(0));
        }
        assert_eq!(may_start(&few, at(0)), None);
        let mut old = gates(4);
        for second in 0..20 {
            deliver(&mut old, &Health::Failure, at(second * 4000));
        }
        assert_eq!(may_start(&old, at(80_000)), None);
    }

    #[test]
    fn the_same_alert_in_a_row_trips_it_and_another_answer_breaks_the_row() {
        let auth = Health::TripAfter { after: 3, alert: "auth" };
        let mut gates = gates(4);
        for health in [&auth, &auth, &Health::Neutral, &auth, &auth] {
            deliver(&mut gates, health, at(0));
        }
        assert_eq!(may_start(&gates, at(0)), None);
        deliver(&mut gates, &auth, at(0));
        assert_eq!(gates.describe(at(0)), ["http://app:8080 tripped for 1 s: auth"]);
        assert!(deliver(&mut gates, &auth, at(1000)), "a probe");
        assert_eq!(
            gates.room(APP, 0, at(1000)).reopens_at,
            Some(at(3000)),
            "one refusal is enough for a probe"
        );
    }

    #[test]
    fn a_trip_is_at_once() {
        let mut gates = gates(4);
        deliver(&mut gates, &Health::Trip { alert: "tls" }, at(0));
        assert_eq!(gates.describe(at(0)), ["http://app:8080 tripped for 1 s: tls"]);
    }

    #[test]
    fn the_log_hears_of_shutting_and_opening_not_of_jobs() {
        let mut gates = gates(1);
        deliver(&mut gates, &BUSY, at(0));
        deliver(&mut gates, &BUSY, at(1000));
        deliver(&mut gates, &Health::Trip { alert: "tls" }, at(3000));
        deliver(&mut gates, &Health::Good, at(7000));
        deliver(&mut gates, &Health::Good, at(7000));
        let changes = gates.changes();
        let told: Vec<(bool, &str)> =
            changes.iter().map(|change| (change.open, change.text.as_str())).collect();
        assert_eq!(told, [(false, "held: 503"), (false, "tripped: tls"), (true, "open again after 7 s")]);
        assert_eq!(gates.changes(), []);
    }

    #[test]
    fn a_job_taken_before_the_gate_shut_is_no_probe() {
        let mut gates = gates(4);
        deliver(&mut gates, &BUSY, at(0));
        let late = gates.started(APP, at(10));
        assert!(!late.is_probe());
        gates.ended(APP, late, &Health::Good, None, at(20), 0.0);
        assert_eq!(gates.room(APP, 0, at(20)).reopens_at, Some(at(1000)));
    }
}
