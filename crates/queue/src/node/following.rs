//! Schedules: whoever takes a job of one creates the job that follows.
//!
//! The script does so only while nobody has, so any number of takers create it once.

use qfleet_model::time::WallTime;

use super::queues::Queues;
use super::turn::Taken;
use crate::error::QueueError;
use crate::redis::Call;

/// What follows a taken job.
pub(super) struct Following {
    queue: usize,
    /// The job that was taken.
    id: String,
    /// What only the library's script knows to read.
    args: Vec<String>,
}

/// MD5 as hexadecimal digits: the libraries name jobs of old schedules by it. Nothing secret hangs on it.
pub(super) fn digest(text: &str) -> String {
    format!("{:x}", md5::compute(text))
}

impl Queues {
    /// None when the job is of no schedule, or its last.
    pub(super) fn following(&self, taken: &Taken, now: WallTime) -> Option<Following> {
        let args = (self.library.following)(taken, now)?;
        Some(Following { queue: taken.queue, id: taken.id.clone(), args })
    }

    /// Creates what follows, once each.
    pub(super) async fn go_on_with_schedules(
        &self,
        next: Vec<Following>,
        now: WallTime,
    ) -> Result<(), QueueError> {
        if next.is_empty() {
            return Ok(());
        }
        let mut call = Call::default();
        call.own(now.as_millis());
        for one in next {
            let name = self.lanes.name(one.queue);
            call.key(self.keys.meta(name)).own(self.keys.base(name)).own(one.id);
            for arg in one.args {
                call.own(arg);
            }
        }
        for problem in self.link.run(&self.scripts.schedule, &call).await?.list() {
            tracing::error!(problem = problem.text(), "a schedule cannot go on");
        }
        Ok(())
    }
}
