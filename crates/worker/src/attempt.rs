//! One job from the stock to its verdict: checks, delivery, decision, and the failed store for those that are buried.

use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::Redeliver;
use qfleet_model::job::Job;
use qfleet_model::outcome::{Outcome, Reason, Scope, Verdict};
use qfleet_model::retry::RetryPolicy;
use qfleet_model::time::Moment;
use qfleet_os::{clock, usage};
use qfleet_queue::driver::{DeadState, DeadVerdict, Remark};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::bury;
use crate::delivery::{GroupInLedger, OVERDUE, delivery, handle, receiver_is_done, without_end};
use crate::gate::Ticket;
use crate::handler::{Ended, Health};
use crate::hold::ledger::Start;
use crate::lanes::Server;
use crate::run::{Broken, Event, Worker};
use crate::slots::{Counted, HoldId, Phase, Running};

/// Begins the note of a result that was too long to be kept.
const TRUNCATED: &str = "result_truncated";
/// Jobs for a shut endpoint, in a lane that has others, are looked at again after this long at least.
const SHUT_PAUSE: Duration = Duration::from_secs(1);

impl Worker {
    /// Starts jobs from the stock, lane after lane, as long as there are slots.
    pub(crate) fn start_what_may(&mut self, now: Moment) {
        if self.drain.is_some() {
            return;
        }
        if let Some(alone) = self.alone {
            if self.slots.get(alone).is_none() {
                self.alone = None;
            } else if self.slots.busy() == 0 && self.slots.is_in_stock(alone) {
                self.start(alone, now);
            }
        }
        for _ in 0..self.slots.in_stock() {
            if self.alone.is_some() || self.slots.busy() >= self.settings.concurrency {
                break;
            }
            let Some(id) = self.next_to_start() else { break };
            self.start(id, now);
        }
    }

    /// Round robin over the lanes that have a job in stock and a slot of their own.
    fn next_to_start(&mut self) -> Option<HoldId> {
        let count = self.lanes.all.len();
        for step in 0..count {
            let lane = (self.first_lane + step) % count;
            if self.slots.busy_in(lane) >= self.lanes.all[lane].concurrency {
                continue;
            }
            if let Some(id) = self.slots.first_in_stock(lane) {
                self.first_lane = (lane + 1) % count;
                return Some(id);
            }
        }
        None
    }

    /// Starts one job, or does what has to be done instead.
    fn start(&mut self, id: HoldId, now: Moment) {
        let Some(hold) = self.slots.get(id) else { return };
        let (lane, Phase::Fetched { job, .. }) = (hold.lane, &hold.phase) else { return };
        let Some(server) = self.lanes.all[lane].server(&job.name).cloned() else {
            let text = format!(
                "no route of queue `{}` takes it, and there is no `handler`",
                self.lanes.all[lane].name
            );
            self.bury_unrun(id, Reason::classed("no_route", text));
            return;
        };
        if let Some(reason) = server.policy.before_run(job, clock::wall()) {
            self.bury_unrun(id, reason);
            return;
        }
        let endpoint = &self.lanes.endpoints[server.endpoint];
        let room = self.gates.room(endpoint, self.slots.running_at(server.endpoint), now);
        if room.at_most == Some(0) {
            self.put_off(id, lane, room.reopens_at, now);
            return;
        }
        let is_suspect = RetryPolicy::runs_alone(job);
        if is_suspect && self.alone.is_none() {
            self.alone = Some(id);
            info!(
                queue = self.lanes.all[lane].name,
                job = job.id,
                "crashed its worker before: it runs alone"
            );
        }
        if is_suspect && self.slots.busy() > 0 {
            return;
        }
        self.deliver(id, lane, &server, is_suspect, now);
    }

    /// The endpoint takes nothing now. A lane with other endpoints is not blocked by it.
    fn put_off(&mut self, id: HoldId, lane: usize, reopens: Option<Moment>, now: Moment) {
        if self.alone == Some(id) {
            self.alone = None;
        }
        let others = self.lanes.all[lane].endpoints.iter().any(|endpoint| {
            let running = self.slots.running_at(*endpoint);
            self.gates.room(&self.lanes.endpoints[*endpoint], running, now).at_most != Some(0)
        });
        if !others {
            self.settle(id, Verdict::GiveBack, Counted::GivenBack);
            return;
        }
        let pause = reopens.map_or(SHUT_PAUSE, |reopens| reopens.since(now).max(SHUT_PAUSE));
        let due = clock::wall() + pause.mul_f64(1.0 + fastrand::f64() / 10.0);
        self.settle(id, Verdict::GiveBackAt { due }, Counted::Snoozed);
        // All that came was for the shut one: go through the queue at a walk.
        let state = &mut self.lane_states[lane];
        state.stuck = state.stuck.saturating_add(1);
        state.rest = Some(now + crate::outage::pause(state.stuck, 0.0).min(SHUT_PAUSE));
    }

    /// Notes the start and hands the job over.
    fn deliver(&mut self, id: HoldId, lane: usize, server: &Server, alone: bool, now: Moment) {
        let Some(hold) = self.slots.get(id) else { return };
        let Phase::Fetched { job, .. } = &hold.phase else { return };
        let (cancel, cancelled) = watch::channel(None);
        let group = GroupInLedger { ledger: Arc::clone(&self.ledger), record: id.record() };
        let remarks = self.remarks_of(hold.source, id, &hold.receipt);
        let delivery = delivery(job, server, cancelled, Arc::new(group), remarks, now);
        let deadline = delivery.deadline_at;
        let not_before = (self.lanes.all[lane].redeliver == Redeliver::AfterDeadline && !server.local)
            .then(|| receiver_is_done(deadline, delivery.started_at));
        let start = Start { delivery: &delivery.id, job: &job.id, alone, local: server.local, not_before };
        self.ledger.started(id.record(), hold.source, &hold.receipt, &start);
        let ticket = self.gates.started(&self.lanes.endpoints[server.endpoint], now);
        self.lane_states[lane].stuck = 0;
        let queue = &self.lanes.all[lane].name;
        debug!(queue, job = job.id, delivery = delivery.id, attempt = job.attempt, "starts");

        let let_go = delivery.timeout.map(|timeout| timeout + self.settings.kill_after + OVERDUE);
        let (handler, events) = (Arc::clone(&server.handler), self.events.clone());
        let task = tokio::spawn(async move {
            let end = handle(&*handler, delivery, let_go).await;
            let _ended = events.send(Event::Ended(id, end));
        });
        let (policy, endpoint, local) = (Arc::clone(&server.policy), server.endpoint, server.local);
        let task = task.abort_handle();
        self.slots.start(id, |job| Running {
            job,
            policy,
            endpoint,
            ticket,
            cancel,
            task,
            deadline,
            local,
            lost: false,
        });
        self.speaker.changed();
    }

    /// A delivery has ended.
    pub(crate) fn delivery_ended(&mut self, id: HoldId, end: Result<Ended, Broken>, now: Moment) {
        let Some(running) = self.slots.running_mut(id) else { return };
        let (endpoint, ticket, local) = (running.endpoint, running.ticket, running.local);
        let end = end.unwrap_or_else(|broken| without_end(broken, local));
        let (queue, job) = (&running.job.queue, &running.job.id);
        for note in &end.notes {
            match is_loud(note) {
                true => warn!(queue, job, "{note}"),
                false => info!(queue, job, "{note}"),
            }
        }
        self.note_in_job(id, &end.notes);
        self.gate_hears(endpoint, ticket, &end, now);
        self.pace.ended(now);
        if self.limits.handled(now) {
            self.limits.measured(usage::own_private_memory().unwrap_or_default(), now);
        }
        self.decide(id, end, ticket);
    }

    /// A result that was left out is missed by whoever looks at the job.
    fn note_in_job(&self, id: HoldId, notes: &[String]) {
        let Some(hold) = self.slots.get(id) else { return };
        for note in notes.iter().filter(|note| note.starts_with(TRUNCATED)) {
            self.sources[hold.source].remarks.add(id, &hold.receipt, Remark::Log(note.clone()));
        }
    }

    fn gate_hears(&mut self, endpoint: usize, ticket: Ticket, end: &Ended, now: Moment) {
        let name = &self.lanes.endpoints[endpoint];
        let jitter = fastrand::f64() * 2.0 - 1.0;
        self.gates.ended(name, ticket, &end.health, end.status.as_deref(), now, jitter);
        if end.health != Health::Good {
            self.speaker.changed();
        }
    }

    /// From what was said to what becomes of the job.
    fn decide(&mut self, id: HoldId, end: Ended, ticket: Ticket) {
        let Some(hold) = self.slots.get(id) else { return };
        let (lane, Phase::Running(running)) = (hold.lane, &hold.phase) else { return };
        if self.alone == Some(id) {
            self.alone = None;
        }
        let queue = &self.lanes.all[lane].name;
        if running.lost || end.outcome == Outcome::Lost {
            info!(
                queue,
                job = running.job.id,
                late_outcome = said(&end.outcome),
                "another worker had the job by then"
            );
            self.sources[hold.source].remarks.forget(id);
            self.ledger.clear(id.record());
            self.slots.remove(id);
            self.speaker.count_late();
            return;
        }
        debug!(queue, job = running.job.id, outcome = said(&end.outcome), status = end.status, "ended");
        let outcome = match end.outcome {
            Outcome::Snooze { when, reason, .. } if ticket.is_probe() => {
                Outcome::Snooze { when, scope: Scope::Endpoint, reason }
            }
            outcome => outcome,
        };
        let verdict =
            running.policy.decide(&running.job, outcome, end.status.clone(), fastrand::f64(), clock::wall());
        match verdict {
            Verdict::Bury { reason } => self.bury(id, reason, end.status.as_deref()),
            verdict => {
                let counted = counted(&verdict);
                self.settle(id, verdict, counted);
            }
        }
    }

    fn bury_unrun(&mut self, id: HoldId, reason: Reason) {
        if self.alone == Some(id) {
            self.alone = None;
        }
        self.bury(id, reason, None);
    }

    /// Writes the job to the failed ones; when that is done it leaves its queue.
    fn bury(&mut self, id: HoldId, reason: Reason, status: Option<&str>) {
        let Some(hold) = self.slots.get(id) else { return };
        let job: &Job = match &hold.phase {
            Phase::Fetched { job, .. } => job,
            Phase::Running(running) => &running.job,
            Phase::Burying { .. } | Phase::Settling(_) => return,
        };
        let (lane, source) = (&self.lanes.all[hold.lane], &self.sources[hold.source]);
        let class = reason.class.as_deref().unwrap_or_default();
        warn!(
            queue = lane.name,
            job = job.id,
            name = job.name,
            attempt = job.attempt,
            class,
            "failed for good: {}",
            reason.text
        );
        let record = bury::record(job, &reason, status, &source.laravel_name, clock::wall());
        let task = bury::write(id, Arc::clone(&source.failed), record, self.events.clone());
        if matches!(hold.phase, Phase::Running(_)) {
            // It has had its attempt, and did not crash us.
            let again = DeadVerdict::Again { due: clock::wall(), counted: true };
            self.ledger.foretell(id.record(), hold.source, &hold.receipt, DeadState::Settling(again));
        }
        self.slots.change(id, Phase::Burying { reason, task });
    }

    /// The failed job is written: it may leave its queue.
    pub(crate) fn buried(&mut self, id: HoldId) {
        let Some(hold) = self.slots.get(id) else { return };
        let Phase::Burying { reason, .. } = &hold.phase else { return };
        let verdict = Verdict::Bury { reason: reason.clone() };
        self.settle_with_fate(id, verdict, Counted::Failed, DeadState::Settling(DeadVerdict::Complete));
    }

    /// Lets go of a delivery whose handler did not stop when it was told to.
    pub(crate) fn abandon(&mut self, id: HoldId, now: Moment) {
        let Some(running) = self.slots.running_mut(id) else { return };
        running.task.abort();
        let not_before = (!running.local).then(|| receiver_is_done(running.deadline, clock::wall()));
        let end = Ended {
            outcome: Outcome::Interrupted { not_before },
            health: Health::Neutral,
            status: None,
            notes: Vec::new(),
        };
        self.delivery_ended(id, Ok(end), now);
    }
}

/// Whether a note speaks of something that is wrong with the handler, and not of its work.
fn is_loud(note: &str) -> bool {
    ["bad_control", "redirect", "alert", TRUNCATED].iter().any(|word| note.starts_with(word))
}

fn counted(verdict: &Verdict) -> Counted {
    match verdict {
        Verdict::Complete { .. } => Counted::Completed,
        Verdict::Retry { .. } => Counted::Retried,
        Verdict::Snooze { .. } => Counted::Snoozed,
        Verdict::Bury { .. } => Counted::Failed,
        Verdict::Discard { .. } => Counted::Discarded,
        Verdict::GiveBack | Verdict::GiveBackAt { .. } | Verdict::Nothing => Counted::GivenBack,
    }
}

fn said(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Complete { .. } => "complete",
        Outcome::Retry { .. } => "retry",
        Outcome::Snooze { .. } => "snooze",
        Outcome::Fail { .. } => "fail",
        Outcome::Discard { .. } => "discard",
        Outcome::TimedOut { .. } => "timeout",
        Outcome::Crashed { .. } => "crash",
        Outcome::Interrupted { .. } => "interrupted",
        Outcome::Lost => "lost",
    }
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
