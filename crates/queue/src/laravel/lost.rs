//! Finding what calls took whose reply never came: members of a reserved set with exactly the score of such a call.
//!
//! What was noted of jobs in hand tells those from the ones nobody knows of.

use super::Laravel;
use super::answer::Taking;
use crate::driver::{LaneId, Receipt};
use crate::error::QueueError;
use crate::lost::Regained;
use crate::redis::Call;

impl Laravel {
    /// Looks for jobs of lost calls, as many as there is room for, and takes them off that room.
    pub(super) async fn regain<'a>(
        &'a self,
        rooms: &mut [(LaneId, u32)],
    ) -> Result<Regained<'a, impl Fn(&Receipt) + use<'a>>, QueueError> {
        let mut regained = Regained::new(&self.lost, |receipt| self.forget(receipt));
        let Some((queues, marks)) = self.lost.next_search() else { return Ok(regained) };
        if rooms.iter().all(|(_, room)| *room == 0) {
            return Ok(regained);
        }
        let mut call = Call::default();
        call.own(self.tag);
        for queue in &queues {
            let name = self.queue_name(*queue);
            call.key(self.keys.ready(name)).own(self.keys.counters(name));
        }
        for mark in marks {
            call.own(f64::from_bits(mark.0));
        }
        let reply = self.link.run(&self.scripts.find, &call).await?;
        self.lost.looked();
        for found in reply.list() {
            let [place, bytes, score, identity, counters] = found.fields();
            let queue = place.number::<usize>().and_then(|place| queues.get(place.wrapping_sub(1)));
            let (Some(queue), Some(bytes), Some(until)) = (queue, bytes.bytes(), score.score()) else {
                continue;
            };
            let room =
                rooms.iter_mut().find(|(lane, room)| *room > 0 && self.queues_of(*lane).contains(queue));
            let Some((lane, room)) = room else { continue };
            let taking = Taking { lane: *lane, queue: *queue, identity: identity.text(), counters };
            if let Some(job) = self.reserved_again(taking, bytes, until) {
                *room -= 1;
                regained.push(job);
            }
        }
        Ok(regained)
    }
}
