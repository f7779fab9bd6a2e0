//! What a job's process leaves behind when it has ended: its group, and whoever has left that with a session of its own.
//! All of it is killed, so that a delivery is over when it is said to be.

use std::collections::BTreeSet;
use std::time::Duration;

use qfleet_os::job_child::{self, JobProcess};
use qfleet_os::tree::{self, Member};
use qfleet_os::{signal, usage};
use tokio::time::sleep;

use crate::handler::facts::DELIVERY;

/// How long to wait for those that were killed. Whoever is still there hangs in the kernel.
pub(super) const GONE: Duration = Duration::from_secs(10);

/// What is left of one delivery.
#[derive(Debug)]
pub(super) struct Rest {
    group: i32,
    delivery: String,
}

impl Rest {
    /// What is left of this process. Its group is killed when it is dropped.
    pub(super) fn of(process: &JobProcess, delivery: &str) -> Self {
        Self { group: process.pid, delivery: delivery.to_owned() }
    }

    /// Kills everybody else, and waits until nobody lives any more.
    ///
    /// # Errors
    /// Who is still there after a long while.
    pub(super) async fn end(&self) -> Result<(), String> {
        let mut pause = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            let strays = tree::kill(|| self.strays());
            if strays.is_empty() && !self.has_members() {
                return Ok(());
            }
            if waited >= GONE {
                let seconds = waited.as_secs();
                let group = self.group;
                return Err(format!(
                    "process group {group} was killed {seconds} s ago and still has members"
                ));
            }
            sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Orphans that came to us and are of this delivery, with all that descends from them.
    fn strays(&self) -> BTreeSet<Member> {
        let mut orphans = tree::orphans(DELIVERY, job_child::is_job);
        let mut roots = orphans.remove(&Some(self.delivery.clone())).unwrap_or_default();
        if job_child::orphans_are_of_ended_jobs() {
            // Also those that have replaced their environment.
            roots.extend(orphans.into_values().flatten());
        }
        tree::below(roots)
    }

    fn has_members(&self) -> bool {
        // A zombie waits for another process to reap it and does nothing any more.
        signal::group_exists(self.group)
            && !usage::group_members(self.group).is_ok_and(|members| members.is_empty())
    }
}
