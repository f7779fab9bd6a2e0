//! What people ask of queues: sizes, listings, pause, and putting a job in.

use std::time::Duration;

use qfleet_model::time::WallTime;
use serde_json::Value;

use super::held::Held;
use super::options::Options;
use super::queues::Queues;
use super::{compose, settle};
use crate::clock;
use crate::driver::{Depth, JobState, LaneId, ListedJob, Receipt, Remark};
use crate::error::QueueError;
use crate::per_lane::depths;
use crate::redis::{Call, Reply};

impl Queues {
    pub(super) async fn add(
        &self,
        queue: &str,
        payload: &[u8],
        delay: Option<Duration>,
    ) -> Result<Option<String>, QueueError> {
        let mut new = compose::read(payload).map_err(QueueError::Refused)?;
        if let Some(delay) = delay {
            new.opts
                .insert("delay".into(), Value::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)));
        }
        let now = clock::now().as_millis();
        let data = new.data.get();
        let opts = Options::read(self.library, new.opts, data, now).map_err(QueueError::Refused)?;
        let mut call = Call::default();
        call.key(self.keys.meta(queue)).own(now).own(self.keys.base(queue));
        call.arg(&new.name).arg(data).arg(&opts.stored).own(opts.delay).own(opts.priority);
        call.own(u8::from(opts.first)).arg(&opts.id);
        match self.link.run(&self.scripts.push, &call).await?.bytes() {
            Some(id) => Ok(Some(String::from_utf8_lossy(&id).into_owned())),
            None => Err(QueueError::Refused(format!(
                "`{queue}` has a job with the id `{}` already; give it another `jobId`",
                opts.id
            ))),
        }
    }

    pub(super) async fn write_down(&self, remarks: &[(Receipt, Remark)]) -> Result<(), QueueError> {
        let mut call = Call::default();
        call.own(clock::now().as_millis());
        let mut some = false;
        for (receipt, remark) in remarks {
            let Some(held) = receipt.inner::<Held>() else { continue };
            some = true;
            let name = self.lanes.name(held.queue);
            call.key(self.keys.meta(name)).own(self.keys.base(name)).arg(&held.id);
            match remark {
                Remark::Progress(value) => call.arg("progress").own(settle::json(Some(value))),
                Remark::Log(line) => call.arg("log").arg(line),
            };
        }
        if some {
            self.link.run(&self.scripts.remark, &call).await?;
        }
        Ok(())
    }

    pub(super) async fn measure(&self, lanes: &[LaneId]) -> Result<Vec<Depth>, QueueError> {
        let mut call = Call::default();
        call.own(clock::now().as_millis());
        for queue in lanes.iter().flat_map(|lane| self.lanes.of(*lane)) {
            let name = self.lanes.name(*queue);
            call.key(self.keys.meta(name)).own(self.keys.base(name));
        }
        let sizes = self.link.run(&self.scripts.depth, &call).await?;
        let queues = lanes.iter().map(|lane| self.lanes.of(*lane).len());
        Ok(depths(queues, sizes, |date| date.number::<i64>().map(WallTime::from_millis)))
    }

    /// One page over all queues of the lane, one after the other.
    pub(super) async fn list(
        &self,
        lane: LaneId,
        state: JobState,
        from: u64,
        count: u64,
    ) -> Result<Vec<ListedJob>, QueueError> {
        let word = match state {
            JobState::Waiting => "waiting",
            JobState::Delayed => "delayed",
            JobState::Reserved => "reserved",
        };
        let mut listed: Vec<ListedJob> = Vec::new();
        let (mut skip, mut wanted) = (from, count);
        for queue in self.lanes.of(lane) {
            let name = self.lanes.name(*queue);
            let mut call = Call::default();
            call.key(self.keys.meta(name)).own(clock::now().as_millis()).own(self.keys.base(name));
            call.arg(word).own(skip).own(wanted);
            let mut rows = self.link.run(&self.scripts.look, &call).await?.list().into_iter();
            let total = rows.next().and_then(|total| total.number::<u64>()).unwrap_or_default();
            let before = listed.len();
            listed.extend(rows.map(|row| listed_job(name, state, row)));
            wanted -= (listed.len() - before) as u64;
            skip = skip.saturating_sub(total);
        }
        Ok(listed)
    }

    pub(super) async fn pause(&self, lane: LaneId, paused: bool) -> Result<Vec<String>, QueueError> {
        let mut notes = Vec::new();
        for queue in self.lanes.of(lane) {
            let name = self.lanes.name(*queue);
            let mut call = Call::default();
            call.key(self.keys.meta(name)).own(clock::now().as_millis()).own(self.keys.base(name));
            call.own(u8::from(paused));
            let waiting = self.link.run(&self.scripts.pause, &call).await?.number::<u64>();
            if waiting.is_some_and(|waiting| waiting > 0) {
                notes.push(format!(
                    "jobs wait in `{}wait` while the queue is paused, and a resume by BullMQ 5 would destroy them: \
                     resume with `qfleet resume`",
                    self.keys.base(name)
                ));
            }
        }
        Ok(notes)
    }
}

fn listed_job(queue: &str, state: JobState, row: Reply) -> ListedJob {
    let [id, date, name, data, ended] = row.fields();
    let ended = ended.number::<u32>().unwrap_or_default();
    ListedJob {
        queue: queue.to_owned(),
        state,
        id: id.text(),
        name: name.text(),
        // The attempt that runs counts, as it does where attempts are counted by the take.
        attempts: if state == JobState::Reserved { ended + 1 } else { ended },
        at: date.number::<i64>().map(WallTime::from_millis),
        payload: data.text(),
    }
}
