//! What the worker tells the daemon, and how: single messages at once, figures at changes and at most once a second.
//!
//! Nothing here waits for the daemon: a task writes, and figures that find its queue full are replaced by newer ones.

use std::time::Duration;

use qfleet_model::frame;
use qfleet_model::link::{FromChild, Recycle, Report};
use qfleet_model::time::Moment;
use qfleet_os::clock;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::run::Worker;
use crate::slots::Counted;

/// Figures are not sent more often.
const EVERY: Duration = Duration::from_secs(1);
/// Messages that wait for a slow daemon.
const QUEUED: usize = 64;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Speaks to the daemon, where there is one.
#[derive(Debug)]
pub(crate) struct Speaker {
    out: Option<(Sender<Vec<u8>>, JoinHandle<()>)>,
    figures: Report,
    changed: bool,
    sent: Option<Moment>,
}

impl Speaker {
    /// Speaks through this end of the link. Needs a runtime.
    pub(crate) fn new(link: Option<OwnedWriteHalf>) -> Self {
        let out = link.map(|mut link| {
            let (sender, mut lines) = channel::<Vec<u8>>(QUEUED);
            let writer = tokio::spawn(async move {
                while let Some(line) = lines.recv().await {
                    if link.write_all(&line).await.is_err() {
                        // The reading side notices too, and the worker drains.
                        return;
                    }
                }
            });
            (sender, writer)
        });
        Self { out, figures: Report::default(), changed: false, sent: None }
    }

    /// Says one thing. True when it is on its way.
    pub(crate) fn say(&self, message: &FromChild) -> bool {
        let Some((out, _)) = &self.out else { return false };
        match frame::line(message) {
            Ok(line) => out.try_send(line).is_ok(),
            Err(error) => {
                debug!("a message to the daemon cannot be written: {error}");
                false
            }
        }
    }

    /// Asks to be replaced. True when the wish is on its way.
    pub(crate) fn wants_replacement(&self, because: Recycle) -> bool {
        self.say(&FromChild::WantsReplacement { because })
    }

    /// Something that is reported has changed.
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }

    /// A verdict took effect.
    pub(crate) fn count(&mut self, counted: Counted) {
        let figure = match counted {
            Counted::Completed => &mut self.figures.completed,
            Counted::Retried => &mut self.figures.retried,
            Counted::Snoozed => &mut self.figures.snoozed,
            Counted::Failed => &mut self.figures.failed,
            Counted::Discarded => &mut self.figures.discarded,
            Counted::GivenBack => &mut self.figures.given_back,
        };
        *figure += 1;
        self.changed = true;
    }

    /// An outcome came after the job was lost.
    pub(crate) fn count_late(&mut self) {
        self.figures.late += 1;
        self.changed = true;
    }

    /// Waits until everything said is written, but not for long.
    pub(crate) async fn finish(&mut self) {
        if let Some((out, writer)) = self.out.take() {
            drop(out);
            let _ended = tokio::time::timeout(LAST_WORDS, writer).await;
        }
    }
}

impl Worker {
    /// Sends figures when they have changed and the last ones are old enough.
    pub(crate) fn report(&mut self, now: Moment) {
        if !self.speaker.changed || self.speaker.out.is_none() {
            return;
        }
        match self.speaker.sent {
            Some(sent) if now.since(sent) < EVERY => self.wake_at(sent + EVERY),
            _ => self.send_report(now),
        }
    }

    /// The last figures.
    pub(crate) fn report_at_once(&mut self) {
        self.send_report(clock::now());
    }

    fn send_report(&mut self, now: Moment) {
        let outage = self.sources.iter().find_map(|source| source.reach.outage()).map(str::to_owned);
        let paused = self.lane_states.iter().zip(&self.lanes.all).filter(|(state, _)| state.paused);
        let report = Report {
            running: self.slots.running(),
            outage,
            gates: self.gates.describe(now),
            paused: paused.map(|(_, lane)| lane.name.clone()).collect(),
            ..self.speaker.figures.clone()
        };
        if self.speaker.say(&FromChild::Report(report)) {
            self.speaker.changed = false;
        }
        self.speaker.sent = Some(now);
    }
}
