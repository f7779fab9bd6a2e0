//! Whether a store answers: what to say when it stops, when to try again, what to say when it is back. Pure.

use std::time::Duration;

use qfleet_model::time::Moment;

/// The first failure is tried again this soon and in silence: a connection may have been cut and the store be well.
const AT_ONCE: Duration = Duration::from_millis(10);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// How a store is reached, as one connection sees it.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    since: Moment,
    failures: u32,
    next_try: Moment,
    /// It has answered a lesser question since.
    hope: bool,
    why: String,
}

impl Reach {
    /// When the next call may be made; `None` is at any time.
    pub(crate) fn next_try(&self) -> Option<Moment> {
        self.away.as_ref().filter(|away| !away.hope).map(|away| away.next_try)
    }

    /// Why it cannot be reached, once that is worth saying.
    pub(crate) fn outage(&self) -> Option<&str> {
        self.away.as_ref().filter(|away| away.failures > 1).map(|away| away.why.as_str())
    }

    /// A call has failed; `jitter` is drawn from 0 to 1. True when the outage has just become worth a line.
    pub(crate) fn failed(&mut self, why: String, now: Moment, jitter: f64) -> bool {
        let away = self.away.get_or_insert_with(|| Away {
            since: now,
            failures: 0,
            next_try: now,
            hope: false,
            why: String::new(),
        });
        away.hope = false;
        away.failures = away.failures.saturating_add(1);
        away.why = why;
        let pause = match away.failures {
            1 => AT_ONCE,
            failures => pause(failures - 2, jitter),
        };
        away.next_try = now + pause;
        away.failures == 2
    }

    /// A question went well that asks for less than a turn does: a turn may be tried at once. A store that is read-only or
    /// full answers questions and takes no turn, so only a turn ends the outage.
    pub(crate) fn looks_well(&mut self) {
        if let Some(away) = &mut self.away {
            away.hope = true;
        }
    }

    /// A turn went well. The length of the outage, if one was announced.
    pub(crate) fn answered(&mut self, now: Moment) -> Option<Duration> {
        let away = self.away.take()?;
        (away.failures > 1).then(|| now.since(away.since))
    }
}

/// The pause after so many failures: 0.1 s, doubled up to 5 s, shortened by up to a half so that workers spread.
pub(crate) fn pause(failures: u32, jitter: f64) -> Duration {
    let full = SHORTEST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_cut_connection_is_no_outage() {
        let mut reach = Reach::default();
        assert!(!reach.failed(String::from("cut"), at(0), 0.0));
        assert_eq!(reach.next_try(), Some(at(10)));
        assert_eq!(reach.outage(), None);
        assert_eq!(reach.answered(at(11)), None);
        assert_eq!(reach.next_try(), None);
    }

    #[test]
    fn an_outage_is_said_once_and_tried_again_with_growing_pauses() {
        let mut reach = Reach::default();
        let mut now = 0;
        let mut said = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            said += u32::from(reach.failed(String::from("refused"), at(now), 0.0));
            let next = reach.next_try().map_or(0, |next| next.as_nanos() / 1_000_000);
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses, [10, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(said, 1);
        assert_eq!(reach.outage(), Some("refused"));
        assert_eq!(reach.answered(at(60_000)), Some(Duration::from_secs(60)));
        assert_eq!(reach.answered(at(60_001)), None);
    }

    #[test]
    fn a_store_that_answers_questions_and_takes_no_turn_is_away() {
        let mut reach = Reach::default();
        let mut now = 0;
        let mut said = 0;
        for failures in 1..=9 {
            said += u32::from(reach.failed(String::from("read-only"), at(now), 0.0));
            let next = reach.next_try().map_or(0, |next| next.as_nanos() / 1_000_000);
            assert!(next > now, "no pause after {failures} failures");
            now = next;
            reach.looks_well();
            assert_eq!(reach.next_try(), None, "a turn may be tried");
        }
        assert_eq!(said, 1);
        assert!(now > 15_000, "the pauses grow: {now}");
        assert_eq!(reach.outage(), Some("read-only"));
        assert_eq!(reach.answered(at(60_000)), Some(Duration::from_secs(60)));
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        for failures in 0..100 {
            for jitter in [0.0, 0.5, 1.0] {
                let pause = pause(failures, jitter);
                assert!(pause >= SHORTEST && pause <= LONGEST, "{failures} {jitter} {pause:?}");
            }
        }
    }
}
