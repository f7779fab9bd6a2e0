//! How a worker ends: take nothing more, wait for what runs, cut it off at the limit, settle, leave. Pure.
//!
//! A limit once set is only ever made shorter. The run loop asks [`Drain::step`] with what is left, and does what it says.

use std::time::Duration;

use qfleet_model::start::DrainLimit;
use qfleet_model::time::Moment;

/// Everything was given back or finished.
pub(crate) const DRAINED: i32 = 0;
/// `stop-wait` passed and work was cut off, or what is left has to be recovered from the ledger.
pub(crate) const CUT_OFF: i32 = 75;

/// From the cut until a handler that does not end is let go, beyond `kill-after`.
const CUT_MARGIN: Duration = Duration::from_secs(2);
/// How long verdicts, and the last call for jobs, may wait for a store that is away, when nothing runs any more.
const FLUSH: Duration = Duration::from_secs(5);

/// What is left of a draining worker's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Deliveries under way.
    pub(crate) running: u32,
    /// Jobs whose verdict has not been carried out, and fetched jobs.
    pub(crate) unsettled: u32,
    /// A call that asked for jobs has no answer yet.
    pub(crate) asking: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing; look again at this moment at the latest.
    Wait(Option<Moment>),
    /// Tell every running delivery to stop.
    Cut,
    /// Let go of deliveries that did not stop when told.
    Abandon,
    /// End with this code.
    End(i32),
}

/// A drain under way.
#[derive(Debug)]
pub(crate) struct Drain {
    deadline: Option<Moment>,
    cut_at: Option<Moment>,
    abandoned: bool,
    idle_since: Option<Moment>,
}

impl Drain {
    /// Begins.
    pub(crate) fn begin(limit: DrainLimit, now: Moment) -> Self {
        let mut drain = Self { deadline: None, cut_at: None, abandoned: false, idle_since: None };
        drain.shorten(limit, now);
        drain
    }

    /// Another wish to stop: a later limit changes nothing. True when the limit was made shorter.
    pub(crate) fn shorten(&mut self, limit: DrainLimit, now: Moment) -> bool {
        let DrainLimit::AtMost(limit) = limit else { return false };
        let wanted = now + limit;
        let shorter = self.deadline.is_none_or(|deadline| wanted < deadline);
        if shorter {
            self.deadline = Some(wanted);
        }
        shorter
    }

    /// What to do now. `kill_after` is how long a handler that is told to stop may take.
    pub(crate) fn step(&mut self, left: Left, kill_after: Duration, now: Moment) -> Step {
        if left.running > 0 {
            self.idle_since = None;
            return self.step_running(kill_after, now);
        }
        let code = if self.cut_at.is_some() { CUT_OFF } else { DRAINED };
        if left.unsettled == 0 && !left.asking {
            return Step::End(code);
        }
        let give_up = *self.idle_since.get_or_insert(now) + FLUSH;
        if now < give_up {
            return Step::Wait(Some(give_up));
        }
        // What a call without an answer may have taken is found by its mark: no work was cut off.
        Step::End(if left.unsettled == 0 { code } else { CUT_OFF })
    }

    fn step_running(&mut self, kill_after: Duration, now: Moment) -> Step {
        match (self.cut_at, self.deadline) {
            (None, Some(deadline)) if now >= deadline => {
                self.cut_at = Some(now);
                Step::Cut
            }
            (None, deadline) => Step::Wait(deadline),
            (Some(cut_at), _) => {
                let limit = cut_at + kill_after + CUT_MARGIN;
                if now < limit {
                    return Step::Wait(Some(limit));
                }
                if self.abandoned {
                    return Step::Wait(None);
                }
                self.abandoned = true;
                Step::Abandon
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL_AFTER: Duration = Duration::from_secs(10);
    const NOTHING: Left = Left { running: 0, unsettled: 0, asking: false };
    const ASKING: Left = Left { asking: true, ..NOTHING };
    const RUNNING: Left = Left { running: 2, unsettled: 1, asking: true };
    const UNSETTLED: Left = Left { running: 0, unsettled: 1, asking: true };

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn at_most(seconds: u64) -> DrainLimit {
        DrainLimit::AtMost(Duration::from_secs(seconds))
    }

    #[test]
    fn with_nothing_in_hand_it_ends_at_once() {
        for limit in [DrainLimit::JobsOwn, at_most(0), at_most(30)] {
            assert_eq!(Drain::begin(limit, at(0)).step(NOTHING, KILL_AFTER, at(0)), Step::End(DRAINED));
        }
    }

    #[test]
    fn jobs_that_end_in_time_make_a_clean_end() {
        let mut drain = Drain::begin(at_most(30), at(0));
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(0)), Step::Wait(Some(at(30))));
        assert_eq!(drain.step(UNSETTLED, KILL_AFTER, at(29)), Step::Wait(Some(at(34))));
        assert_eq!(drain.step(NOTHING, KILL_AFTER, at(30)), Step::End(DRAINED));
    }

    #[test]
    fn a_replaced_worker_waits_for_its_jobs_as_long_as_they_take() {
        let mut drain = Drain::begin(DrainLimit::JobsOwn, at(0));
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(100_000)), Step::Wait(None));
        assert_eq!(drain.step(NOTHING, KILL_AFTER, at(100_001)), Step::End(DRAINED));
    }

    #[test]
    fn at_the_limit_work_is_cut_off_once_and_the_code_says_so() {
        let mut drain = Drain::begin(at_most(5), at(0));
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(5)), Step::Cut);
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(6)), Step::Wait(Some(at(17))));
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(17)), Step::Abandon);
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(18)), Step::Wait(None));
        assert_eq!(drain.step(NOTHING, KILL_AFTER, at(19)), Step::End(CUT_OFF));
    }

    #[test]
    fn limits_only_shrink() {
        let mut drain = Drain::begin(DrainLimit::JobsOwn, at(0));
        assert!(drain.shorten(at_most(30), at(0)));
        assert!(!drain.shorten(at_most(30), at(10)), "a second TERM");
        assert!(!drain.shorten(DrainLimit::JobsOwn, at(10)));
        assert!(drain.shorten(at_most(5), at(10)));
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(10)), Step::Wait(Some(at(15))));
        assert!(drain.shorten(at_most(0), at(11)), "QUIT");
        assert_eq!(drain.step(RUNNING, KILL_AFTER, at(11)), Step::Cut);
    }

    #[test]
    fn a_call_for_jobs_without_an_answer_cuts_nothing_off() {
        let mut drain = Drain::begin(at_most(30), at(0));
        assert_eq!(drain.step(ASKING, KILL_AFTER, at(0)), Step::Wait(Some(at(5))));
        assert_eq!(drain.step(ASKING, KILL_AFTER, at(5)), Step::End(DRAINED));
    }

    #[test]
    fn a_store_that_stays_away_cannot_hold_the_end_for_ever() {
        let mut drain = Drain::begin(at_most(30), at(0));
        assert_eq!(drain.step(UNSETTLED, KILL_AFTER, at(1)), Step::Wait(Some(at(6))));
        assert_eq!(drain.step(UNSETTLED, KILL_AFTER, at(6)), Step::End(CUT_OFF));
    }
}
