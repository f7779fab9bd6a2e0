//! What a dead worker held goes back.
//!
//! Its reservations carry its tag; its ledger says which of them were what. Each job is moved by one verb of the turn
//! script, which first looks whether the dead worker's reservation is still there: so another recovery, or this one
//! after its own death, finds only what is left to do.

use std::collections::HashMap;

use qfleet_model::outcome::Verdict;

use super::answer::history;
use super::held::{Found, Held, digest_of, lower};
use super::{Laravel, payload, settle};
use crate::clock;
use crate::driver::{DeadWorker, Recovered};
use crate::error::QueueError;
use crate::failed::{FailedJob, FailedJobs, record_id};
use crate::fate::{Fate, carried_out};
use crate::places::Places;
use crate::redis::{Call, Reply};

/// Crashes after which one more, alone, is the job's own fault.
const CRASHES: u32 = 3;

/// A reservation of the dead worker, and what is to become of it.
struct Left {
    held: Held,
    fate: Fate,
}

impl Laravel {
    pub(super) async fn return_jobs(&self, dead: &DeadWorker) -> Result<Recovered, QueueError> {
        let found = self.reservations_of(dead).await?;
        let (left, gone) = self.fates(dead, found);
        let mut recovered = Recovered { gone, ..Recovered::default() };
        let mut to_bury = Vec::new();
        let answers = self.carry_out(dead, &left).await?;
        for (left, answer) in left.into_iter().zip(answers) {
            match answer {
                1 => recovered.returned += 1,
                2 => to_bury.push(left.held),
                _ => recovered.gone += 1,
            }
        }
        if !to_bury.is_empty() {
            self.note_failing().await?;
        }
        for held in to_bury {
            // Killed between the two, the next recovery writes the same record once more.
            self.failed.record(&self.crash_record(&held)).await?;
            let done = Left { held, fate: Fate::Settled(Verdict::Complete { result: None }) };
            match self.carry_out(dead, &[done]).await?.first() {
                Some(1) => recovered.buried += 1,
                _ => recovered.gone += 1,
            }
        }
        Ok(recovered)
    }

    /// Every reservation with the dead worker's tag.
    async fn reservations_of(&self, dead: &DeadWorker) -> Result<Vec<(f64, Held)>, QueueError> {
        let mut call = Call::default();
        call.own(dead.tag);
        for name in &self.queues {
            call.key(self.keys.ready(name)).own(self.keys.counters(name));
        }
        let mut all = Vec::new();
        for found in self.link.run(&self.scripts.find, &call).await?.list() {
            let [place, bytes, score, identity, counters] = found.fields();
            let queue = place.number::<usize>().map(|place| place.wrapping_sub(1));
            let (Some(queue), Some(bytes), Some(score)) = (queue, bytes.bytes(), score.score()) else {
                continue;
            };
            all.push((score, held_by_the_dead(queue, bytes, identity.text(), counters, score)));
        }
        Ok(all)
    }

    /// What the ledger says of each; and how many jobs of the ledger are not there any more.
    fn fates(&self, dead: &DeadWorker, found: Vec<(f64, Held)>) -> (Vec<Left>, u32) {
        let mut by_name: HashMap<(usize, [u8; 16]), (f64, Held)> = found
            .into_iter()
            .map(|(score, held)| ((held.queue, digest_of(&held.reserved)), (score, held)))
            .collect();
        let mut left = Vec::new();
        let mut gone = 0;
        // In the ledger's order, which is the order they were taken in.
        for hold in &dead.held {
            let queue = self.queues_of(hold.lane).get(usize::from(hold.queue));
            match queue.and_then(|queue| by_name.remove(&(*queue, hold.digest))) {
                Some((_, held)) => left.push(Left { held, fate: Fate::of(hold) }),
                None => gone += 1,
            }
        }
        let lost = |score: f64| dead.marks.iter().any(|mark| mark.0 == score.to_bits());
        left.extend(
            by_name
                .into_values()
                .filter(|(score, _)| lost(*score))
                .map(|(_, held)| Left { held, fate: Fate::Settled(Verdict::GiveBack) }),
        );
        (left, gone)
    }

    /// One call for all; an answer each.
    async fn carry_out(&self, dead: &DeadWorker, left: &[Left]) -> Result<Vec<u8>, QueueError> {
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let now = clock::now();
        let mut places = Places::default();
        let mut args = Call::default();
        args.own(left.len());
        for Left { held, fate } in left {
            let place = places.of(held.queue);
            match fate {
                Fate::Crashed { alone, not_before } => {
                    settle::add_crash(self, &mut args, place, held, *alone, *not_before);
                }
                Fate::Settled(verdict) => {
                    settle::add(self, &mut args, place, held, verdict, now);
                }
            }
        }
        args.own(0);
        let call = self.turn_call(&places, args, dead.tag, self.reservation_end(), now);
        carried_out(self.link.run(&self.scripts.turn, &call).await?)
    }

    fn crash_record(&self, held: &Held) -> FailedJob {
        let ready = held.ready().into_owned();
        let (id, name, _) = payload::glance(&ready);
        FailedJob {
            id: if id.is_empty() { record_id(&ready) } else { id },
            connection: self.connection.laravel_name.clone(),
            queue: self.queue_name(held.queue).to_owned(),
            name,
            payload: ready,
            class: Some("crash".into()),
            reason: format!(
                "its worker process died {CRASHES} times while it ran, the last time with no other job"
            ),
            failed_at: clock::now(),
            unreadable: false,
        }
    }
}

fn held_by_the_dead(queue: usize, bytes: Vec<u8>, identity: String, counters: Reply, until: f64) -> Held {
    let remembered = counters.0 != redis::Value::Nil;
    let undo = lower(&bytes).map(|(_, undo)| undo);
    let attempts = undo.as_ref().and_then(|undo| undo.digits.parse().ok()).unwrap_or(0);
    let deliveries = history(counters).deliveries.max(attempts);
    let found = Found { queue, reserved: bytes, undo, identity, deliveries, remembered, unreadable: None };
    Held::new(found, clock::now(), until)
}
