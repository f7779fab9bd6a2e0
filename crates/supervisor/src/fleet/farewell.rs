//! What is said about the end: what it waits for while it lasts, and what was cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qfleet_model::command::ProcessResult;
use qfleet_model::link::JobRef;
use qfleet_model::process::ProcessState;
use qfleet_model::time::Moment;
use qfleet_model::words::counted;
use serde::{Deserialize, Serialize};

use super::{Fleet, Now, SlotId, Timer};

/// Between two lines about what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// No more is kept of what was cut off.
const MOST_CUT_OFF: usize = 1_000;

/// No line names more jobs than this.
const JOBS_IN_A_LINE: usize = 20;

/// Something that did not come to its end by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum CutOff {
    /// A job of this queue, with its id.
    Job(JobRef),
    /// A process that had to be killed.
    Process(String),
}

impl CutOff {
    /// Its line of the answer to whoever waited for the end.
    pub(super) fn line(&self) -> ProcessResult {
        let (name, text) = match self {
            Self::Job(JobRef { queue, id }) => (queue, format!("job {id} was cut off and given back")),
            Self::Process(name) => (name, String::from("did not end in time and was killed")),
        };
        ProcessResult { name: name.clone(), ok: false, text, trouble: None }
    }
}

/// What the end waits for, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waits {
    text: String,
    /// When the last of it is killed, as far as that is known.
    until: Option<Moment>,
}

impl Waits {
    pub(super) fn said(&self, now: Moment) -> String {
        match self.until {
            Some(until) => format!("{}, {} s left", self.text, until.since(now).as_secs_f64().ceil()),
            None => self.text.clone(),
        }
    }
}

impl Fleet {
    /// The time has come to say what is waited for.
    pub(super) fn say_what_lasts(&mut self, now: Now) {
        if let Some(waits) = self.waits() {
            self.log(false, Arc::from("qfleet"), None, waits.said(now.moment));
        }
        self.say_again(now);
    }

    pub(super) fn say_again(&mut self, now: Now) {
        let at = now.moment + SAY_EVERY;
        if let Some(ending) = self.phase.ending_mut() {
            ending.say_at = Some(at);
            self.wake(at, Timer::Saying);
        }
    }

    /// What the end waits for now: `waiting for 3 jobs of 2 queues and 1 program`.
    pub(super) fn waits(&self) -> Option<Waits> {
        self.phase.ending()?;
        let mut jobs: BTreeMap<&str, u32> = BTreeMap::new();
        let (mut workers, mut programs, mut until) = (0_u32, 0_u32, None);
        for slot in self.slots.values() {
            let ProcessState::Stopping { kill_at, .. } = slot.state else { continue };
            until = until.max(kill_at);
            let running = slot.report.as_ref().map_or(0, |report| report.running);
            match (slot.is_worker(), running) {
                (false, _) => programs += 1,
                (true, 0) => workers += 1,
                (true, running) => *jobs.entry(&slot.name.group).or_default() += running,
            }
        }
        let running: u32 = jobs.values().sum();
        let of = counted(jobs.len(), "queue", "queues");
        let parts: Vec<String> = [
            (running > 0).then(|| format!("{} of {of}", counted(running, "job", "jobs"))),
            (workers > 0).then(|| counted(workers, "idle worker", "idle workers")),
            (programs > 0).then(|| counted(programs, "program", "programs")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let text = match parts.as_slice() {
            [] if self.is_recovering() => String::from("giving back the jobs of dead workers"),
            [] => return None,
            parts => format!("waiting for {}", parts.join(" and ")),
        };
        Some(Waits { text, until })
    }

    /// Jobs were cut off; it only counts while the daemon ends.
    pub(super) fn note_jobs_cut_off(&mut self, jobs: &[JobRef]) {
        for job in jobs {
            self.note_cut(CutOff::Job(job.clone()));
        }
    }

    /// A process was cut off of which nothing better is known than its name.
    pub(super) fn note_killed(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get(&id) else { return };
        let label = slot.label.to_string();
        self.note_cut(CutOff::Process(label));
    }

    fn note_cut(&mut self, cut: CutOff) {
        if let Some(ending) = self.phase.ending_mut()
            && ending.cut.len() < MOST_CUT_OFF
        {
            ending.cut.insert(cut);
        }
    }

    pub(super) fn log_cut_off(&mut self, all: &BTreeSet<CutOff>) {
        let mut of_queue: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut processes = Vec::new();
        for cut in all {
            match cut {
                CutOff::Job(JobRef { queue, id }) => of_queue.entry(queue).or_default().push(id),
                CutOff::Process(name) => processes.push(name),
            }
        }
        for (queue, ids) in of_queue {
            let named = ids.iter().take(JOBS_IN_A_LINE).copied().collect::<Vec<_>>().join(", ");
            let more = ids.len().saturating_sub(JOBS_IN_A_LINE);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let jobs = counted(ids.len(), "job", "jobs");
            let text = format!("cut off {jobs} and gave back: {named}{more}");
            self.log(true, Arc::from(queue), None, text);
        }
        for name in processes {
            self.log(true, Arc::from(name.as_str()), None, "did not end in time and was killed");
        }
    }
}
