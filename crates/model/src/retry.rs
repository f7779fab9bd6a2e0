//! From an outcome to a verdict: the only place where what was said of a delivery becomes what is done with the job.
//!
//! The order of the rules is Laravel's: first the end date, then the tries, then the exceptions, then the backoff. What a
//! job says wins over the queue's settings, and the queue's `override` wins over the job. Whoever runs jobs asks twice:
//! [`RetryPolicy::before_run`] with the job in hand, [`RetryPolicy::decide`] with its outcome.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::job::{Format, Job};
use crate::outcome::{Note, Outcome, Reason, Scope, Verdict, When};
use crate::time::WallTime;
use crate::words::counted;

/// The third crash of a job is its last, if it ran alone.
const CRASHES: u32 = 3;

/// How jobs of one queue and handler are tried when they do not say it themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Tries; 0 is unlimited.
    pub tries: u32,
    /// Longest run; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// Pause before another attempt; `None` is at once.
    pub backoff: Option<Backoff>,
    /// Tries that win over the job's; 0 is unlimited.
    pub over_tries: Option<u32>,
    /// Longest run that wins over the job's; `Some(None)` is unlimited.
    pub over_timeout: Option<Option<Duration>>,
    /// Pause that wins over the job's.
    pub over_backoff: Option<Backoff>,
    /// Charged snoozes a job may have.
    pub snooze_max: u32,
    /// A charged snooze this long after the first delivery fails the job.
    pub snooze_age: Duration,
    /// Longest delay a handler may ask for.
    pub max_delay: Duration,
}

impl RetryPolicy {
    /// Tries of this job; `None` is unlimited.
    #[must_use]
    pub fn tries(&self, job: &Job) -> Option<u32> {
        Some(self.over_tries.or(job.limits.tries).unwrap_or(self.tries)).filter(|tries| *tries > 0)
    }

    /// Longest run of this job; `None` is unlimited.
    #[must_use]
    pub fn timeout(&self, job: &Job) -> Option<Duration> {
        let limit = match self.over_timeout {
            Some(over) => over,
            None => job.limits.timeout.or(self.timeout),
        };
        limit.filter(|limit| !limit.is_zero())
    }

    /// Whether this job crashed its worker so often that it must run with nothing else in hand.
    #[must_use]
    pub fn runs_alone(job: &Job) -> bool {
        job.history.crashes >= CRASHES - 1
    }

    /// Why the job must be buried without running, if it must.
    #[must_use]
    pub fn before_run(&self, job: &Job, now: WallTime) -> Option<Reason> {
        if let Some(until) = job.limits.retry_until {
            return (now.as_seconds() > until.as_seconds()).then(|| too_late(until, "it was not run again"));
        }
        // A job of Node's libraries that had its tries waits only when somebody put it back, and runs once more.
        let counts = matches!(job.format, Format::Laravel);
        let tries = self.tries(job).filter(|tries| counts && job.attempt > *tries)?;
        let text = format!(
            "attempt {} of {tries}: it has been attempted too many times, and was not run again",
            job.attempt
        );
        Some(Reason::classed("max_attempts", text))
    }

    /// What becomes of the job. `status` is how the delivery ended, for `Job-Previous-Status`; `jitter` is drawn from 0 to
    /// 1 and lengthens delays that a handler asked for by at most a tenth.
    #[must_use]
    pub fn decide(
        &self,
        job: &Job,
        outcome: Outcome,
        status: Option<String>,
        jitter: f64,
        now: WallTime,
    ) -> Verdict {
        match outcome {
            Outcome::Complete { result } => Verdict::Complete { result },
            Outcome::Fail { reason } => Verdict::Bury { reason },
            Outcome::Discard { reason } => Verdict::Discard { reason },
            Outcome::Interrupted { not_before: None } => Verdict::GiveBack,
            Outcome::Interrupted { not_before: Some(due) } => Verdict::GiveBackAt { due },
            Outcome::Lost => Verdict::Nothing,
            Outcome::Snooze { when, scope, reason } => {
                let charged = scope == Scope::Job;
                if let Some(ended) = self.no_more_snoozes(job, charged, &reason, now) {
                    return Verdict::Bury { reason: ended };
                }
                let note = Note { snooze: charged, status, ..Note::default() };
                Verdict::Snooze { after: self.asked_for(when, jitter, now), note }
            }
            Outcome::Retry { when, at_least, reason } => {
                let note = Note { exception: true, status, ..Note::default() };
                let after = when.map(|when| self.asked_for(when, jitter, now));
                self.again(job, reason, note, after, at_least, now)
            }
            Outcome::TimedOut { at_least } => {
                let reason = Reason::classed("timeout", self.timed_out(job));
                if job.limits.fail_on_timeout {
                    return Verdict::Bury { reason };
                }
                let status = status.or_else(|| Some(String::from("timeout")));
                self.again(job, reason, Note { status, ..Note::default() }, None, at_least, now)
            }
            Outcome::Crashed { reason } => {
                if Self::runs_alone(job) {
                    return Verdict::Bury { reason: blamed(job, &reason) };
                }
                let status = status.or_else(|| Some(String::from("crash")));
                self.again(
                    job,
                    reason,
                    Note { crash: true, status, ..Note::default() },
                    None,
                    Duration::ZERO,
                    now,
                )
            }
        }
    }

    /// The attempt counts: another one, unless this was the last.
    fn again(
        &self,
        job: &Job,
        reason: Reason,
        note: Note,
        asked: Option<Duration>,
        at_least: Duration,
        now: WallTime,
    ) -> Verdict {
        let over = match job.limits.retry_until {
            Some(until) => now.as_seconds() >= until.as_seconds(),
            None => self.tries(job).is_some_and(|tries| job.attempt >= tries),
        };
        let exceptions = job.history.exceptions.saturating_add(u32::from(note.exception));
        let too_many = note.exception && job.limits.max_exceptions.is_some_and(|most| exceptions >= most);
        if over || too_many {
            return Verdict::Bury { reason };
        }
        let unknown =
            job.limits.unknown_backoff.as_ref().filter(|_| asked.is_none() && self.rule(job).is_none());
        if let Some(unknown) = unknown {
            let text =
                format!("Unknown backoff strategy {unknown}: set `backoff` for the queue; {}", reason.text);
            return Verdict::Bury { reason: Reason::classed("unknown_backoff", text) };
        }
        let after = asked.unwrap_or_else(|| self.backoff(job));
        Verdict::Retry { after: after.max(at_least), note: Note { reason: Some(reason), ..note } }
    }

    fn backoff(&self, job: &Job) -> Duration {
        self.rule(job).map_or(Duration::ZERO, |rule| rule.after(job.attempt))
    }

    fn rule<'a>(&'a self, job: &'a Job) -> Option<&'a Backoff> {
        self.over_backoff.as_ref().or(job.limits.backoff.as_ref()).or(self.backoff.as_ref())
    }

    fn asked_for(&self, when: When, jitter: f64, now: WallTime) -> Duration {
        let delay = match when {
            When::After(delay) => delay,
            When::At(date) => date.since(now),
        };
        let delay = delay.min(self.max_delay);
        delay + delay.mul_f64(jitter.clamp(0.0, 1.0) / 10.0)
    }

    fn no_more_snoozes(&self, job: &Job, charged: bool, reason: &Reason, now: WallTime) -> Option<Reason> {
        if let Some(until) = job.limits.retry_until.filter(|until| now.as_seconds() >= until.as_seconds()) {
            return Some(too_late(until, &reason.text));
        }
        if !charged {
            return None;
        }
        let used_up = job.history.snoozes >= self.snooze_max;
        let too_old = job.history.first_delivery.is_some_and(|first| now.since(first) > self.snooze_age);
        (used_up || too_old).then(|| {
            let times = counted(job.history.snoozes, "time", "times");
            let text = format!("snooze budget: put off {times}, last: {}", reason.text);
            Reason::classed("snooze_budget", text)
        })
    }

    fn timed_out(&self, job: &Job) -> String {
        match self.timeout(job) {
            Some(limit) => format!("ran longer than its limit of {} s", limit.as_secs_f64()),
            None => String::from("ran longer than its limit"),
        }
    }
}

fn too_late(until: WallTime, last: &str) -> Reason {
    Reason::classed("max_attempts", format!("its last date, {}, has passed: {last}", until.to_rfc3339()))
}

fn blamed(job: &Job, last: &Reason) -> Reason {
    let class = last.class.as_deref().unwrap_or("crash");
    let text = format!(
        "crashed {}, the last time while it ran alone: {class}: {}",
        counted(job.history.crashes + 1, "time", "times"),
        last.text
    );
    Reason::classed("crash", text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::{Format, History, JobLimits};

    const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn later(seconds: i64) -> WallTime {
        WallTime::from_seconds(NOW.as_seconds() + seconds)
    }

    fn policy() -> RetryPolicy {
        RetryPolicy {
            tries: 3,
            timeout: Some(s(60)),
            backoff: None,
            over_tries: None,
            over_timeout: None,
            over_backoff: None,
            snooze_max: 2,
            snooze_age: s(86_400),
            max_delay: s(86_400),
        }
    }

    fn job(attempt: u32) -> Job {
        Job {
            format: Format::Laravel,
            prefix: String::new(),
            queue: String::from("default"),
            id: String::from("a"),
            identity_of: String::from("a"),
            created: String::new(),
            created_at: None,
            name: String::from("Job"),
            attempt,
            payload: Vec::new(),
            limits: JobLimits::default(),
            history: History::default(),
            traceparent: None,
            tracestate: None,
            tags: Vec::new(),
        }
    }

    fn failed() -> Outcome {
        Outcome::Retry { when: None, at_least: Duration::ZERO, reason: Reason::plain("500") }
    }

    fn snoozed(seconds: u64, scope: Scope) -> Outcome {
        Outcome::Snooze { when: When::After(s(seconds)), scope, reason: Reason::plain("later") }
    }

    fn decide(policy: &RetryPolicy, job: &Job, outcome: Outcome) -> Verdict {
        policy.decide(job, outcome, None, 0.0, NOW)
    }

    fn after(verdict: &Verdict) -> Duration {
        match verdict {
            Verdict::Retry { after, .. } | Verdict::Snooze { after, .. } => *after,
            other => panic!("not again: {other:?}"),
        }
    }

    fn class(verdict: &Verdict) -> Option<&str> {
        match verdict {
            Verdict::Bury { reason } => reason.class.as_deref().or(Some("none")),
            _ => None,
        }
    }

    #[test]
    fn what_the_job_says_wins_and_override_wins_over_that() {
        for (queue, over, job_says, tries) in [
            (3, None, None, Some(3)),
            (3, None, Some(5), Some(5)),
            (3, None, Some(0), None),
            (0, None, None, None),
            (0, None, Some(1), Some(1)),
            (3, Some(7), Some(5), Some(7)),
            (3, Some(0), Some(5), None),
        ] {
            let policy = RetryPolicy { tries: queue, over_tries: over, ..policy() };
            let mut job = job(1);
            job.limits.tries = job_says;
            assert_eq!(policy.tries(&job), tries, "queue {queue}, override {over:?}, job {job_says:?}");
        }
        for (queue, over, job_says, timeout) in [
            (Some(s(60)), None, None, Some(s(60))),
            (Some(s(60)), None, Some(s(5)), Some(s(5))),
            (Some(s(60)), None, Some(s(0)), None),
            (None, None, Some(s(5)), Some(s(5))),
            (Some(s(60)), Some(Some(s(9))), Some(s(5)), Some(s(9))),
            (Some(s(60)), Some(None), Some(s(5)), None),
        ] {
            let policy = RetryPolicy { timeout: queue, over_timeout: over, ..policy() };
            let mut job = job(1);
            job.limits.timeout = job_says;
            assert_eq!(policy.timeout(&job), timeout, "queue {queue:?}, override {over:?}, job {job_says:?}");
        }
    }

    #[test]
    fn a_job_that_used_up_its_tries_is_not_run() {
        for (attempt, tries, until, buried) in [
            (3, Some(3), None, false),
            (4, Some(3), None, true),
            (400, Some(0), None, false),
            (400, Some(3), Some(later(0)), false),
            (1, None, Some(later(-1)), true),
            (400, None, Some(later(100)), false),
        ] {
            let mut job = job(attempt);
            job.limits.tries = tries;
            job.limits.retry_until = until;
            let reason = policy().before_run(&job, NOW);
            assert_eq!(reason.is_some(), buried, "attempt {attempt} of {tries:?} until {until:?}");
            assert!(reason.is_none_or(|reason| reason.class.as_deref() == Some("max_attempts")));
        }
    }

    #[test]
    fn a_job_of_node_that_somebody_put_back_runs_once_more() {
        for format in [Format::Bull, Format::Bullmq] {
            let mut job = Job { format, ..job(4) };
            job.limits.tries = Some(3);
            assert_eq!(policy().before_run(&job, NOW), None);
            assert!(matches!(decide(&policy(), &job, failed()), Verdict::Bury { .. }));
        }
    }

    #[test]
    fn failures_repeat_until_the_tries_are_used_up() {
        assert_eq!(after(&decide(&policy(), &job(1), failed())), s(0));
        assert_eq!(after(&decide(&policy(), &job(2), failed())), s(0));
        assert_eq!(class(&decide(&policy(), &job(3), failed())), Some("none"));
        let mut dated = job(50);
        dated.limits.retry_until = Some(later(1));
        assert_eq!(after(&decide(&policy(), &dated, failed())), s(0));
        dated.limits.retry_until = Some(later(0));
        assert!(class(&decide(&policy(), &dated, failed())).is_some());
    }

    #[test]
    fn backoff_is_the_overrides_then_the_jobs_then_the_queues() {
        let mut policy = RetryPolicy { backoff: Some(Backoff::Fixed(s(7))), ..policy() };
        let mut job = job(2);
        assert_eq!(after(&decide(&policy, &job, failed())), s(7));
        job.limits.backoff = Some(Backoff::Steps(vec![s(1), s(5)]));
        assert_eq!(after(&decide(&policy, &job, failed())), s(5));
        policy.over_backoff = Some(Backoff::Fixed(s(9)));
        assert_eq!(after(&decide(&policy, &job, failed())), s(9));
    }

    #[test]
    fn asked_delays_are_limited_and_only_ever_lengthened() {
        let policy = RetryPolicy { max_delay: s(100), ..policy() };
        let ask = |when, jitter| {
            let outcome = Outcome::Retry { when: Some(when), at_least: s(0), reason: Reason::default() };
            after(&policy.decide(&job(1), outcome, None, jitter, NOW))
        };
        assert_eq!(ask(When::After(s(50)), 0.0), s(50));
        assert_eq!(ask(When::After(s(50)), 1.0), s(55));
        assert_eq!(ask(When::After(s(500)), 0.0), s(100));
        assert_eq!(ask(When::At(later(20)), 0.0), s(20));
        assert_eq!(ask(When::At(later(-20)), 1.0), s(0));
    }

    #[test]
    fn a_receiver_that_may_still_work_gets_its_pause() {
        let mut policy = policy();
        let timed_out = || Outcome::TimedOut { at_least: s(5) };
        assert_eq!(after(&decide(&policy, &job(1), timed_out())), s(5));
        policy.backoff = Some(Backoff::Fixed(s(30)));
        assert_eq!(after(&decide(&policy, &job(1), timed_out())), s(30));
        assert_eq!(class(&decide(&policy, &job(3), timed_out())), Some("timeout"));
        let mut strict = job(1);
        strict.limits.fail_on_timeout = true;
        assert_eq!(class(&decide(&policy, &strict, timed_out())), Some("timeout"));
    }

    #[test]
    fn exceptions_are_counted_apart_from_tries() {
        let mut job = job(1);
        job.limits.max_exceptions = Some(2);
        let Verdict::Retry { note, .. } = decide(&policy(), &job, failed()) else { panic!() };
        assert!(note.exception && !note.crash && !note.snooze);
        job.history.exceptions = 1;
        assert!(class(&decide(&policy(), &job, failed())).is_some());
        let timeout = decide(&policy(), &job, Outcome::TimedOut { at_least: s(0) });
        assert!(matches!(timeout, Verdict::Retry { note: Note { exception: false, .. }, .. }));
    }

    #[test]
    fn only_job_snoozes_are_charged() {
        let mut job = job(3);
        let Verdict::Snooze { note, after } = decide(&policy(), &job, snoozed(10, Scope::Job)) else {
            panic!()
        };
        assert!(note.snooze && after == s(10));
        let Verdict::Snooze { note, .. } = decide(&policy(), &job, snoozed(10, Scope::Endpoint)) else {
            panic!()
        };
        assert!(!note.snooze);
        job.history.snoozes = 2;
        assert_eq!(class(&decide(&policy(), &job, snoozed(10, Scope::Job))), Some("snooze_budget"));
        assert_eq!(after_endpoint(&job), s(10));
        job.history = History { first_delivery: Some(later(-86_401)), ..History::default() };
        assert_eq!(class(&decide(&policy(), &job, snoozed(10, Scope::Job))), Some("snooze_budget"));
        assert_eq!(after_endpoint(&job), s(10));
        job.limits.retry_until = Some(later(0));
        assert_eq!(class(&decide(&policy(), &job, snoozed(10, Scope::Endpoint))), Some("max_attempts"));
    }

    fn after_endpoint(job: &Job) -> Duration {
        after(&decide(&policy(), job, snoozed(10, Scope::Endpoint)))
    }

    #[test]
    fn the_third_crash_alone_is_the_last_whatever_the_tries() {
        let crashed = || Outcome::Crashed { reason: Reason::classed("signal_SEGV", "killed by SIGSEGV") };
        let mut job = job(1);
        job.limits.tries = Some(0);
        for crashes in 0..2 {
            job.history.crashes = crashes;
            assert!(!RetryPolicy::runs_alone(&job) || crashes == 2);
            let Verdict::Retry { note, .. } = decide(&policy(), &job, crashed()) else { panic!() };
            assert!(note.crash && note.status.as_deref() == Some("crash"));
        }
        job.history.crashes = 2;
        assert!(RetryPolicy::runs_alone(&job));
        assert_eq!(class(&decide(&policy(), &job, crashed())), Some("crash"));
    }

    #[test]
    fn whatever_happens_finished_jobs_stay_finished_and_tries_are_kept() {
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let tries = dice.u32(0..5);
            let policy = RetryPolicy { tries, snooze_max: dice.u32(0..4), ..policy() };
            let mut job = job(0);
            job.limits.tries = dice.bool().then(|| dice.u32(0..5));
            job.limits.max_exceptions = dice.bool().then(|| dice.u32(1..5));
            job.limits.retry_until = dice.bool().then(|| later(dice.i64(0..40)));
            live(&policy, job, &mut dice);
        }
    }

    /// Delivers one job until it ends, a second each time, and checks the promises on the way.
    fn live(policy: &RetryPolicy, mut job: Job, dice: &mut fastrand::Rng) {
        let (mut counted, mut charged) = (0, 0);
        for second in 0..200 {
            job.attempt += 1;
            let now = later(second);
            let limit = policy.tries(&job).filter(|_| job.limits.retry_until.is_none());
            if policy.before_run(&job, now).is_some() {
                assert!(job.limits.retry_until.is_some() || limit.is_some_and(|limit| counted >= limit));
                return;
            }
            counted += 1;
            assert!(limit.is_none_or(|limit| counted <= limit), "more attempts than tries");
            assert!(job.limits.retry_until.is_none_or(|until| now <= until), "run after its last date");
            let outcome = match dice.u32(0..20) {
                0 => Outcome::Complete { result: None },
                1 => Outcome::Fail { reason: Reason::default() },
                2 => Outcome::Discard { reason: Reason::default() },
                3..8 => snoozed(dice.u64(0..100), Scope::Job),
                8..10 => snoozed(dice.u64(0..100), Scope::Endpoint),
                10..12 => Outcome::TimedOut { at_least: s(5) },
                12 => Outcome::Crashed { reason: Reason::default() },
                13 => Outcome::Interrupted { not_before: None },
                _ => failed(),
            };
            let verdict = policy.decide(&job, outcome.clone(), None, dice.f64(), now);
            let ended =
                matches!(verdict, Verdict::Complete { .. } | Verdict::Bury { .. } | Verdict::Discard { .. });
            let ends =
                matches!(outcome, Outcome::Complete { .. } | Outcome::Fail { .. } | Outcome::Discard { .. });
            assert!(ended || !ends, "{outcome:?} led to {verdict:?}");
            match verdict {
                Verdict::Retry { after, note } => {
                    assert!(after <= s(110 * 864) && !note.snooze);
                    job.history.exceptions += u32::from(note.exception);
                    job.history.crashes += u32::from(note.crash);
                    assert!(job.limits.max_exceptions.is_none_or(|most| job.history.exceptions < most));
                    assert!(job.history.crashes < CRASHES);
                }
                Verdict::Snooze { note, .. } => {
                    charged += u32::from(note.snooze);
                    job.history.snoozes = charged;
                    assert!(charged <= policy.snooze_max);
                    job.attempt -= 1;
                    counted -= 1;
                }
                Verdict::GiveBack => {
                    job.attempt -= 1;
                    counted -= 1;
                }
                _ => return,
            }
        }
    }
}
