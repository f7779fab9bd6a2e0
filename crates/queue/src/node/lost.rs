//! Finding what calls took whose reply never came: active jobs locked with exactly the token of such a call.
//!
//! What was noted of jobs in hand tells those from the ones nobody knows of.

use std::collections::BTreeSet;

use super::held::digest_of;
use super::queues::Queues;
use super::row::Row;
use super::turn::Taken;
use crate::clock;
use crate::driver::{LaneId, Receipt};
use crate::error::QueueError;
use crate::lost::Regained;
use crate::redis::{Call, Reply};

/// An active job locked by one worker, or whose lock ran out: then the token is empty.
pub(super) struct Locked {
    pub(super) id: String,
    pub(super) token: String,
    pub(super) row: Row,
    pub(super) notes: Reply,
}

impl Queues {
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
        let now = clock::now();
        let tokens: BTreeSet<String> = marks.into_iter().map(|mark| self.token(mark)).collect();
        let mut taken = Vec::new();
        for (queue, found) in self.locked_by(self.tag, &queues).await? {
            if !tokens.contains(&found.token) || self.in_hand.has(queue, digest_of(&found.id), &found.token) {
                continue;
            }
            let room =
                rooms.iter_mut().find(|(lane, room)| *room > 0 && self.lanes.of(*lane).contains(&queue));
            let Some((lane, room)) = room else { continue };
            *room -= 1;
            let Locked { id, token, row, notes } = found;
            taken.push(Taken { lane: *lane, queue, id, token, row, notes });
        }
        let next = taken.iter().filter_map(|one| self.following(one, now)).collect();
        self.go_on_with_schedules(next, now).await?;
        self.lost.looked();
        for one in taken {
            regained.push(self.reserved(one, now));
        }
        Ok(regained)
    }

    /// Every active job of these queues that is locked by the worker with this tag, or by nobody any more.
    pub(super) async fn locked_by(
        &self,
        tag: u32,
        queues: &[usize],
    ) -> Result<Vec<(usize, Locked)>, QueueError> {
        let mut call = Call::default();
        call.own(clock::now().as_millis()).own(Self::tokens_of(tag));
        self.add_queues(&mut call, queues, &[]);
        let mut all = Vec::new();
        for found in self.link.run(&self.scripts.find, &call).await?.list() {
            let [place, id, token, row, notes] = found.fields();
            let queue = place.number::<usize>().and_then(|place| queues.get(place.wrapping_sub(1)));
            let Some(queue) = queue else { continue };
            all.push((
                *queue,
                Locked { id: id.text(), token: token.text(), row: (self.library.row)(row), notes },
            ));
        }
        Ok(all)
    }
}
