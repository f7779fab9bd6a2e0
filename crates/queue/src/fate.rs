//! What becomes of the jobs that a dead worker held, by its ledger.

use qfleet_model::outcome::{Note, Verdict};
use qfleet_model::time::WallTime;

use crate::clock;
use crate::driver::{DeadHold, DeadState, DeadVerdict};
use crate::error::QueueError;
use crate::redis::Reply;

/// What is to become of one.
pub(crate) enum Fate {
    /// Its attempt counts, and it is one crash.
    Crashed {
        /// It was the only job in hand.
        alone: bool,
        /// Nothing is to be delivered again before.
        not_before: Option<WallTime>,
    },
    /// As the worker would have settled it.
    Settled(Verdict),
}

impl Fate {
    /// By what the worker was doing with the job.
    pub(crate) fn of(hold: &DeadHold) -> Self {
        match hold.state {
            DeadState::Fetched => Self::Settled(Verdict::GiveBack),
            DeadState::Started { alone, not_before } => Self::Crashed { alone, not_before },
            DeadState::Settling(DeadVerdict::Complete) => Self::Settled(Verdict::Complete { result: None }),
            DeadState::Settling(DeadVerdict::Again { due, counted: true }) => {
                let note = Note { exception: true, ..Note::default() };
                Self::Settled(Verdict::Retry { after: due.since(clock::now()), note })
            }
            DeadState::Settling(DeadVerdict::Again { due, counted: false }) => {
                Self::Settled(Verdict::GiveBackAt { due })
            }
            DeadState::Settling(DeadVerdict::Other) => Self::Crashed { alone: false, not_before: None },
        }
    }
}

/// What a turn did with each of them: 1 went back, 2 is to be or was buried, anything else was not there.
///
/// # Errors
/// [`QueueError::Refused`] when one cannot be moved.
pub(crate) fn carried_out(turn: Reply) -> Result<Vec<u8>, QueueError> {
    let [answers, ..] = turn.fields::<3>();
    let refused = |answer: Reply| QueueError::Refused(format!("a job cannot be moved: {}", answer.text()));
    let answers = answers.list().into_iter();
    answers.map(|answer| answer.number().ok_or_else(|| refused(answer))).collect()
}
