//! What one group needs, and how far its number goes now.
//!
//! How fast a worker is can only be seen while there is more to do than all of them can take: then it is what was
//! finished, by the time they had. How many a lighter load keeps busy is how many are busy. Up is decided by the one,
//! down by the other with a fifth to spare, so that a steady load leads to a number that stays.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Room;
use super::{Backlog, Rule, Target, words};
use crate::time::Moment;

/// Speeds and loads are those of the last so long, or of the last few looks where they are rarer.
const WINDOW: Duration = Duration::from_secs(30);
/// Looks that are kept, however often somebody looks.
const MOST_LOOKS: usize = 64;
/// Workers that are busy for more than this share of their time are not too many.
const BUSY_ENOUGH: f64 = 0.8;
/// The pace is that of the last so many jobs, or of the last look where they are more.
const MANY_JOBS: u64 = 100;
/// What comes in on top is believed after so long a time of it, and not before a job takes.
const GROWING: Duration = Duration::from_secs(10);
/// Less than this part of a worker is no reason for another one.
const SLACK: f64 = 0.15;

/// What the fleet knows of a group when somebody has looked at its backlog.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Workers that are up, without those that are about to go.
    pub ready: u32,
    /// Jobs at once in each.
    pub concurrency: u32,
    /// Jobs that run in them.
    pub running: u32,
    /// Deliveries that have ended in its workers since the daemon began.
    pub finished: u64,
    /// Workers that have crashed since the daemon began.
    pub crashes: u64,
    /// Starts a second that its queues may have over all hosts, where each of them has a limit.
    pub rate_limit: Option<f64>,
    /// Why more workers would not help now, in words.
    pub hindrance: Option<String>,
    /// Why the number stays as it is whatever waits, in words.
    pub frozen: Option<String>,
}

/// What is remembered of a group whose number of workers follows its backlog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scaler {
    /// Workers it should have; only [`Scaler::begin_at`] and [`Scaler::step`] change it.
    wanted: u32,
    /// Workers it needs, by the last look.
    need: u32,
    why: String,
    looks: VecDeque<Look>,
    pace: Option<Pace>,
    low: Option<Low>,
}

/// What was ended while there was more to do than could be taken, and the time that the workers had for it together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pace {
    jobs: u64,
    millis: u64,
    concurrency: u32,
}

/// One look at the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    at: Moment,
    waiting: u64,
    running: u32,
    ready: u32,
    finished: u64,
    crashes: u64,
    /// There was more to do than the workers could take.
    full: bool,
}

/// Fewer workers have been enough for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Low {
    since: Moment,
    /// So many were needed at most in that time.
    highest: u32,
}

impl Scaler {
    /// How many workers there should be, before anybody has looked or after somebody else has decided.
    pub fn begin_at(&mut self, workers: u32, rule: &Rule) {
        let wanted = workers.clamp(rule.min, rule.max);
        *self = Self { wanted, need: wanted, pace: self.pace, ..Self::default() };
    }

    /// How many workers there should be now.
    #[must_use]
    pub const fn wanted(&self) -> u32 {
        self.wanted
    }

    /// How many workers it needs, by the last look.
    #[must_use]
    pub const fn need(&self) -> u32 {
        self.need
    }

    /// Why there are so many, in words; empty before the first look.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Takes in a look: works out how many workers the group needs.
    pub fn note(&mut self, rule: &Rule, found: &Result<Backlog, String>, facts: &Facts, now: Moment) {
        let unknown = found.as_ref().err().map(|why| format!("backlog not known: {why}"));
        let backlog = match (found, unknown.or_else(|| facts.frozen.clone())) {
            (Ok(backlog), None) => *backlog,
            (_, stays) => {
                self.need = self.wanted;
                self.looks.clear();
                self.low = None;
                self.why = stays.unwrap_or_default();
                return;
            }
        };
        self.remember(rule, backlog, facts, now);
        self.measure(facts);
        let hindrance = if backlog.paused { None } else { self.hindrance(facts) };
        let load = self.load(facts);
        let need = self.needed(rule, backlog, facts, load);
        let guesses = matches!(rule.target, Target::Time(_)) && backlog.waiting > 0 && self.speed().is_none();
        let hindrance = hindrance.filter(|_| need > self.wanted || guesses);
        let need = if hindrance.is_some() { need.min(self.wanted) } else { need };
        self.need = need.clamp(rule.min, rule.max);
        self.why = self.explain(rule, backlog, facts, load);
        if let Some(hindrance) = hindrance {
            self.why.push_str(&format!("; more workers would not help: {hindrance}"));
        }
    }

    /// How far the number goes now; `None`: it stays.
    pub fn step(&mut self, rule: &Rule, room: Room, now: Moment) -> Option<u32> {
        let (from, need) = (self.wanted, self.need.clamp(rule.min, rule.max));
        let lowest = from.saturating_sub(rule.step).max(rule.min);
        let to = if let Some(rest) = room.gives_up.filter(|rest| *rest < from) {
            self.low = None;
            self.why.push_str("; others of its budget need workers more");
            rest.max(lowest)
        } else if need < from {
            self.down_to(need, rule, now).map_or(from, |to| to.max(lowest))
        } else {
            self.low = None;
            let to = need.min(from.saturating_add(rule.step)).min(room.most).max(from);
            if to == from && need > from {
                self.why.push_str("; its budget is used up");
            }
            to
        };
        self.wanted = to.clamp(rule.min, rule.max);
        (self.wanted != from).then_some(self.wanted)
    }

    /// The number that was enough through the whole cool-down, once it is over.
    fn down_to(&mut self, need: u32, rule: &Rule, now: Moment) -> Option<u32> {
        let low = self.low.get_or_insert(Low { since: now, highest: need });
        low.highest = low.highest.max(need);
        let highest = low.highest;
        if now.since(low.since) < rule.cooldown {
            return None;
        }
        self.low = Some(Low { since: now, highest: need });
        Some(highest)
    }

    fn remember(&mut self, rule: &Rule, backlog: Backlog, facts: &Facts, now: Moment) {
        let slots = u64::from(facts.ready) * u64::from(facts.concurrency);
        // Very short jobs are seldom seen running, but there are many of them; unless a limit lets them go in bursts.
        let ended = self.looks.back().map_or(0, |last| facts.finished.saturating_sub(last.finished));
        let many = ended >= slots && facts.rate_limit.is_none();
        let at_work = u64::from(facts.running) * 2 >= slots || many;
        let look = Look {
            at: now,
            waiting: backlog.waiting,
            running: facts.running,
            ready: facts.ready,
            finished: facts.finished,
            crashes: facts.crashes,
            full: backlog.waiting > 0 && facts.ready > 0 && at_work && facts.hindrance.is_none(),
        };
        // What lies long ago says nothing about now, and nor do figures that went backwards.
        let window = WINDOW.max(rule.every * 3);
        let stale = |last: &Look| now.since(last.at) > window * 2 || facts.finished < last.finished;
        if self.looks.back().is_some_and(stale) {
            self.looks.clear();
        }
        self.looks.push_back(look);
        while self.looks.len() > MOST_LOOKS
            || self.looks.get(1).is_some_and(|second| now.since(second.at) >= window)
        {
            self.looks.pop_front();
        }
    }

    /// The looks since which there has been more to do than could be taken, oldest first.
    fn full_looks(&self) -> impl Iterator<Item = &Look> + Clone {
        let idle = self.looks.iter().rposition(|look| !look.full);
        self.looks.iter().skip(idle.map_or(0, |at| at + 1))
    }

    /// Adds what was done between the last two looks, if there was more to do than could be taken all the time.
    fn measure(&mut self, facts: &Facts) {
        let mut newest = self.looks.iter().rev();
        let (Some(last), Some(before)) = (newest.next(), newest.next()) else { return };
        if !last.full || !before.full {
            return;
        }
        let pace = self.pace.get_or_insert_default();
        let millis = u64::try_from(last.at.since(before.at).as_millis()).unwrap_or(u64::MAX);
        let worked = u64::from(last.ready.max(before.ready)).saturating_mul(millis);
        pace.jobs = pace.jobs.saturating_add(last.finished.saturating_sub(before.finished));
        pace.millis = pace.millis.saturating_add(worked);
        pace.concurrency = facts.concurrency.max(1);
        if pace.jobs > MANY_JOBS {
            let part = u128::from(pace.millis) * u128::from(MANY_JOBS / 2) / u128::from(pace.jobs);
            (pace.jobs, pace.millis) = (MANY_JOBS / 2, u64::try_from(part).unwrap_or(u64::MAX).max(1));
        }
    }

    /// Jobs a second that one worker ends when it has enough to do. While none has ended, the most it can be.
    fn speed(&self) -> Option<f64> {
        let pace = self.pace.filter(|pace| pace.millis > 0)?;
        let jobs = if pace.jobs > 0 { pace.jobs } else { u64::from(pace.concurrency) };
        Some(float(jobs) * 1_000.0 / float(pace.millis))
    }

    /// Jobs a second that were ended, over all looks.
    fn rate(&self) -> Option<f64> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let seconds = last.at.since(first.at).as_secs_f64();
        (seconds > 0.0).then(|| float(last.finished.saturating_sub(first.finished)) / seconds)
    }

    /// How many workers it takes so that the backlog grows no more; zero when it does not.
    fn to_keep_up(&self, facts: &Facts) -> f64 {
        let full = self.full_looks();
        let (Some(first), Some(last), Some(speed)) = (full.clone().next(), full.last(), self.speed()) else {
            return 0.0;
        };
        let (time, grown) = (last.at.since(first.at), last.waiting.saturating_sub(first.waiting));
        let takes = f64::from(facts.concurrency.max(1)) / speed;
        if grown == 0 || time < GROWING || time.as_secs_f64() < takes {
            return 0.0;
        }
        let ended = last.finished.saturating_sub(first.finished);
        float(ended + grown) / time.as_secs_f64() / speed
    }

    /// How many workers what comes in keeps busy, while they can take all of it.
    fn load(&self, facts: &Facts) -> f64 {
        let busy = self.busy(facts);
        let concurrency = f64::from(facts.concurrency.max(1));
        match (self.speed(), self.rate()) {
            // Jobs too short to be counted well by who is seen running, but there are many of them.
            (Some(speed), Some(rate)) if speed > concurrency => busy.min(rate / speed),
            _ => busy,
        }
    }

    /// How many workers were busy, on average.
    fn busy(&self, facts: &Facts) -> f64 {
        let running: u64 = self.looks.iter().map(|look| u64::from(look.running)).sum();
        let count = self.looks.len().max(1);
        float(running) / float(u64::try_from(count).unwrap_or(u64::MAX)) / f64::from(facts.concurrency.max(1))
    }

    fn needed(&self, rule: &Rule, backlog: Backlog, facts: &Facts, load: f64) -> u32 {
        let (waiting, concurrency) = (float(backlog.waiting), f64::from(facts.concurrency.max(1)));
        let jobs = backlog.waiting.saturating_add(u64::from(facts.running));
        let in_time = match (rule.target, self.speed()) {
            (Target::Size(size), _) => return whole((float(jobs) / f64::from(size.max(1))).ceil()),
            (Target::Time(_), _) if backlog.waiting == 0 => 0.0,
            (Target::Time(time), Some(speed)) => {
                let (time, takes) = (time.as_secs_f64().max(0.001), concurrency / speed);
                // Who has a job that takes longer than the backlog may will not be there for another one.
                let bound = f64::from(facts.running) * (1.0 - time / takes).max(0.0);
                (waiting * (takes / time).min(1.0) + bound) / concurrency
            }
            // Nobody knows yet; who is there stays.
            (Target::Time(_), None) => return self.wanted,
        };
        // What comes in on top is no reason before the backlog takes half of its time: it comes and goes.
        let growing = if in_time * 2.0 > f64::from(self.wanted) { self.to_keep_up(facts) } else { 0.0 };
        // More workers than there are jobs for them have nothing to do.
        let useful = jobs.div_ceil(u64::from(facts.concurrency.max(1)));
        let useful = u32::try_from(useful).unwrap_or(u32::MAX);
        let up = whole((growing.max(in_time) - SLACK).ceil()).min(useful.max(self.wanted));
        let is_full = self.looks.back().is_some_and(|look| look.full);
        let enough = whole(((load / BUSY_ENOUGH).max(in_time) - SLACK).ceil());
        if up > self.wanted || is_full { up.max(self.wanted) } else { enough.min(self.wanted) }
    }

    /// Why more workers would not help.
    fn hindrance(&self, facts: &Facts) -> Option<String> {
        if let Some(hindrance) = &facts.hindrance {
            return Some(hindrance.clone());
        }
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        if last.crashes > first.crashes {
            return Some(String::from("workers crash"));
        }
        if last.waiting == 0 {
            return None;
        }
        let slots = u64::from(last.ready) * u64::from(facts.concurrency);
        if let Some(limit) = facts.rate_limit {
            let reached = self.rate().is_some_and(|rate| rate >= limit * BUSY_ENOUGH);
            let idle = u64::from(last.running) * 2 < slots;
            return (reached || idle).then(|| String::from("the rate limit decides"));
        }
        // One that is idle while jobs wait may have ended its last one just now; all of them at two looks have not.
        let nobody = |look: &Look| look.waiting > 0 && look.running == 0 && look.ready > 0;
        let before = self.looks.iter().rev().nth(1);
        let idle = nobody(last) && before.is_some_and(|one| nobody(one) && one.finished == last.finished);
        idle.then(|| String::from("those there are take no jobs"))
    }

    fn explain(&self, rule: &Rule, backlog: Backlog, facts: &Facts, load: f64) -> String {
        if backlog.paused {
            return String::from("paused");
        }
        let rate = self.speed().map(|speed| speed * f64::from(facts.ready));
        let words = words::backlog(backlog.waiting, rule.target, self.wanted, rate);
        if backlog.waiting > 0 { words } else { format!("{words}, {load:.1} workers busy") }
    }
}

/// Counts of jobs stay far below where a float would lose whole numbers.
#[allow(clippy::cast_precision_loss)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// A number of workers; what is beyond all bounds is cut there.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(workers: f64) -> u32 {
    workers.clamp(0.0, f64::from(u32::MAX)) as u32
}
