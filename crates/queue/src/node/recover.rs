//! What a dead worker held goes back.
//!
//! Its locks carry its tag; its ledger says which of its jobs were what. Each job is moved by one verb of the turn script,
//! which first looks whether it is still the dead worker's: so another recovery, or this one after its own death, finds
//! only what is left to do.

use std::collections::HashMap;

use qfleet_model::outcome::Verdict;

use super::held::{Held, digest_of};
use super::lost::Locked;
use super::queues::Queues;
use super::settle;
use crate::clock;
use crate::driver::{DeadWorker, Recovered};
use crate::error::QueueError;
use crate::fate::{Fate, carried_out};
use crate::places::Places;
use crate::redis::Call;

/// A job of the dead worker, and what is to become of it.
struct Left {
    held: Held,
    fate: Fate,
}

impl Queues {
    pub(super) async fn return_jobs(&self, dead: &DeadWorker) -> Result<Recovered, QueueError> {
        let queues: Vec<usize> = (0..self.lanes.queues().len()).collect();
        let found = self.locked_by(dead.tag, &queues).await?;
        let (left, gone) = self.fates(dead, found);
        let mut recovered = Recovered { gone, ..Recovered::default() };
        for answer in self.carry_out(&left).await? {
            match answer {
                1 => recovered.returned += 1,
                2 => recovered.buried += 1,
                _ => recovered.gone += 1,
            }
        }
        Ok(recovered)
    }

    /// What the ledger says of each; and how many jobs of the ledger are not there any more.
    fn fates(&self, dead: &DeadWorker, found: Vec<(usize, Locked)>) -> (Vec<Left>, u32) {
        let mut by_name: HashMap<(usize, [u8; 16]), Locked> =
            found.into_iter().map(|(queue, job)| ((queue, digest_of(&job.id)), job)).collect();
        let mut left = Vec::new();
        let mut gone = 0;
        // In the ledger's order, which is the order they were taken in.
        for hold in &dead.held {
            let queue = self.lanes.of(hold.lane).get(usize::from(hold.queue)).copied();
            match queue.and_then(|queue| Some((queue, by_name.remove(&(queue, hold.digest))?))) {
                Some((queue, job)) => left.push(Left { held: held(queue, job), fate: Fate::of(hold) }),
                None => gone += 1,
            }
        }
        let marks = dead.marks.iter().map(|mark| format!("{}{:x}", Self::tokens_of(dead.tag), mark.0));
        let marks: Vec<String> = marks.collect();
        let lost = by_name.into_iter().filter(|(_, job)| marks.contains(&job.token));
        left.extend(lost.map(|((queue, _), job)| Left {
            held: held(queue, job),
            fate: Fate::Settled(Verdict::GiveBack),
        }));
        (left, gone)
    }

    /// One call for all; an answer each.
    async fn carry_out(&self, left: &[Left]) -> Result<Vec<u8>, QueueError> {
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
                Fate::Crashed { not_before, .. } => {
                    settle::add_crash(&mut args, place, held, *not_before, now);
                }
                Fate::Settled(verdict) => {
                    settle::add(&mut args, place, held, verdict, now);
                }
            }
        }
        args.own(0);
        let call = self.turn_call(&mut places, args, "", &[], now);
        carried_out(self.link.run(&self.scripts.turn, &call).await?)
    }
}

fn held(queue: usize, job: Locked) -> Held {
    let now = clock::now();
    let noted = job.notes.0 != redis::Value::Nil;
    Held::new(queue, job.id, job.token, job.row.proof, noted, now, now)
}
