//! The end of a worker: what a wish to stop changes, and what happens when nothing is left.

use std::time::Duration;

use qfleet_model::link::{FromChild, JobRef, MOST_JOBS};
use qfleet_model::start::DrainLimit;
use qfleet_model::time::Moment;
use qfleet_os::clock;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::drain::{CUT_OFF, Drain, Left, Step};
use crate::handler::Cancel;
use crate::hold::ledger;
use crate::run::Worker;
use crate::slots::{HoldId, Phase};
use crate::source::Source;

/// How long giving back what was taken by calls without an answer may take.
const STRAYS_WITHIN: Duration = Duration::from_secs(2);
/// The same of a store that is known to be away.
const STRAYS_AWAY: Duration = Duration::from_millis(200);
const STRAYS_AGAIN: Duration = Duration::from_millis(50);

impl Worker {
    /// Somebody wants the worker to end.
    pub(crate) fn drain(&mut self, limit: DrainLimit, now: Moment) {
        match &mut self.drain {
            Some(drain) => {
                drain.shorten(limit, now);
            }
            None => {
                let (running, stock) = (self.slots.running(), self.slots.in_stock());
                info!(running, stock, "draining: taking no more jobs");
                self.drain = Some(Drain::begin(limit, now));
            }
        }
    }

    /// Goes on with the drain; the exit code when it is over.
    pub(crate) fn step_drain(&mut self, now: Moment) -> Option<i32> {
        loop {
            let running = self.slots.running();
            let settling = |source: &Source| {
                let sent = source.turn.as_ref().is_some_and(|turn| !turn.settling.is_empty());
                sent || !source.pending.is_empty()
            };
            let unnoted = self.sources.iter().any(settling);
            let unsettled = (self.slots.held() - running).max(u32::from(unnoted));
            let asking = self.sources.iter().any(|source| source.turn.is_some());
            let left = Left { running, unsettled, asking };
            match self.drain.as_mut()?.step(left, self.settings.kill_after, now) {
                Step::Wait(Some(until)) => {
                    self.wake_at(until);
                    return None;
                }
                Step::Wait(None) => return None,
                Step::Cut => self.cut(),
                Step::Abandon => {
                    for id in self.running_jobs() {
                        self.abandon(id, now);
                    }
                }
                Step::End(code) => return Some(code),
            }
        }
    }

    fn cut(&self) {
        self.say_cut_off();
        warn!(running = self.slots.running(), "the limit for stopping has passed: cutting off what runs");
        for (_, hold) in self.slots.all() {
            if let Phase::Running(running) = &hold.phase
                && !running.lost
            {
                running.cancel.send_replace(Some(Cancel::Stop));
            }
        }
    }

    /// The daemon is told which jobs will not come to their end.
    fn say_cut_off(&self) {
        let running = self.slots.all().filter_map(|(_, hold)| match &hold.phase {
            Phase::Running(running) if !running.lost => Some((hold.lane, &running.job)),
            Phase::Running(_) | Phase::Fetched { .. } | Phase::Burying { .. } | Phase::Settling(_) => None,
        });
        let named = running.map(|(lane, job)| JobRef {
            queue: self.lanes.all[lane].name.clone(),
            id: ledger::shown(&job.id).into_owned(),
        });
        let jobs: Vec<JobRef> = named.take(MOST_JOBS).collect();
        if !jobs.is_empty() {
            self.speaker.say(&FromChild::CutOff { jobs });
        }
    }

    fn running_jobs(&self) -> Vec<HoldId> {
        let running = |phase: &Phase| matches!(phase, Phase::Running(_));
        self.slots.all().filter(|(_, hold)| running(&hold.phase)).map(|(id, _)| id).collect()
    }

    /// Says goodbye; the ledger goes when nothing is in it.
    pub(crate) async fn leave(mut self, code: i32) -> i32 {
        self.report_at_once();
        let strays_left = self.give_back_strays().await;
        self.speaker.finish().await;
        let held = self.slots.held();
        if held > 0 {
            error!(
                jobs = held,
                "leaving while the store is away: what is in hand is given back when it can be reached"
            );
            return CUT_OFF;
        }
        if strays_left {
            warn!(
                code,
                "ends while the store is away: what it may have handed out is looked for when it can be reached"
            );
            return code;
        }
        if let Err(cause) = self.ledger.remove() {
            warn!("cannot remove the ledger: {cause}");
        }
        info!(code, "ends");
        code
    }

    /// Gives back what calls without an answer may have taken. True when that is not sure.
    async fn give_back_strays(&mut self) -> bool {
        let now = clock::now();
        let mut left = false;
        for source in &mut self.sources {
            let Some(strays) = source.strays(now) else { continue };
            let within = if source.reach.outage().is_some() { STRAYS_AWAY } else { STRAYS_WITHIN };
            let giving_back = async {
                // A connection that was cut shows it at the next call.
                while source.driver.recover(&strays).await.is_err() {
                    sleep(STRAYS_AGAIN).await;
                }
            };
            left |= timeout(within, giving_back).await.is_err();
        }
        left
    }
}
