//! What people ask of queues: sizes, listings, pause, and putting a job in.

use std::time::Duration;

use qfleet_model::time::WallTime;
use redis::Value;

use super::{Laravel, payload, score_text};
use crate::clock;
use crate::driver::{Depth, JobState, LaneId, ListedJob};
use crate::error::QueueError;
use crate::per_lane::depths;
use crate::redis::{Call, Reply};

impl Laravel {
    pub(super) async fn add(
        &self,
        queue: &str,
        payload: &[u8],
        delay: Option<Duration>,
    ) -> Result<Option<String>, QueueError> {
        let mut call = Call::default();
        call.key(self.keys.ready(queue)).arg(payload);
        match delay {
            Some(delay) => call.own(score_text(clock::now() + delay)),
            None => call.arg(""),
        };
        match self.link.run(&self.scripts.push, &call).await?.number::<u8>() {
            Some(1) => Ok(None),
            _ => Err(QueueError::Refused(format!(
                "the very same payload is delayed in `{queue}` already; give it another `uuid`"
            ))),
        }
    }

    pub(super) async fn measure(&self, lanes: &[LaneId]) -> Result<Vec<Depth>, QueueError> {
        let mut call = Call::default();
        for name in lanes.iter().flat_map(|lane| self.queues_of(*lane)).map(|queue| self.queue_name(*queue)) {
            call.key(self.keys.ready(name)).key(self.keys.paused(name));
            call.key(self.keys.failed_in(name)).key(self.keys.unreadable(name)).arg(name);
        }
        let sizes = self.link.run(&self.scripts.depth, &call).await?;
        let queues = lanes.iter().map(|lane| self.queues_of(*lane).len());
        Ok(depths(queues, sizes, |first| payload::created_at(&first.bytes()?)))
    }

    /// One page over all queues of the lane, one after the other.
    pub(super) async fn list(
        &self,
        lane: LaneId,
        state: JobState,
        from: u64,
        count: u64,
    ) -> Result<Vec<ListedJob>, QueueError> {
        let mut listed: Vec<ListedJob> = Vec::new();
        let (mut skip, mut wanted) = (from, count);
        for queue in self.queues_of(lane) {
            let ready = self.keys.ready(self.queue_name(*queue));
            let (size, range, key) = match state {
                JobState::Waiting => ("LLEN", "LRANGE", ready),
                JobState::Delayed => ("ZCARD", "ZRANGE", ready + ":delayed"),
                JobState::Reserved => ("ZCARD", "ZRANGE", ready + ":reserved"),
            };
            let size: u64 =
                Reply(self.link.call(redis::cmd(size).arg(&key)).await?).number().unwrap_or_default();
            if skip < size && wanted > 0 {
                let mut command = redis::cmd(range);
                command.arg(&key).arg(skip).arg(skip + wanted - 1);
                if state != JobState::Waiting {
                    command.arg("WITHSCORES");
                }
                let page = Reply(self.link.call(&command).await?).list();
                let before = listed.len();
                self.list_page(*queue, state, page, &mut listed);
                wanted -= (listed.len() - before) as u64;
            }
            skip = skip.saturating_sub(size);
        }
        Ok(listed)
    }

    fn list_page(&self, queue: usize, state: JobState, page: Vec<Reply>, listed: &mut Vec<ListedJob>) {
        let mut items = page.into_iter();
        while let Some(item) = items.next() {
            let at = match state {
                JobState::Waiting => None,
                JobState::Delayed | JobState::Reserved => items.next().and_then(|score| score.score()),
            };
            let bytes = item.bytes().unwrap_or_default();
            let (id, name, attempts) = payload::glance(&bytes);
            listed.push(ListedJob {
                queue: self.queue_name(queue).to_owned(),
                state,
                id,
                name,
                attempts,
                at: at.map(|seconds| WallTime::from_millis((seconds * 1000.0) as i64)),
                payload: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
    }

    pub(super) async fn pause(&self, lane: LaneId, paused: bool) -> Result<Vec<String>, QueueError> {
        for queue in self.queues_of(lane) {
            let name = self.queue_name(*queue);
            let mut command = redis::cmd(if paused { "SADD" } else { "SREM" });
            let _: Value = self.link.call(command.arg(self.keys.paused(name)).arg(name)).await?;
        }
        Ok(paused.then(|| "PHP workers on the same queue are not affected".to_owned()).into_iter().collect())
    }
}
